"""The cost of visual tokens to a language model: prefill operations, KV cache and token memory.

Computed from the shape of the model; runs nothing. A multiply-add counts as two operations,
attention as causal.
"""

from __future__ import annotations

from dataclasses import dataclass

from encoderlab.core.aliases import llm_aliases
from encoderlab.encoders.checkpoint import resolve
from encoderlab.encoders.loading import read_config
from encoderlab.errors import MissingError, UsageError

CACHE_BYTES = 2  # fp16 or bf16


@dataclass(frozen=True)
class LLMShape:
    """The dimensions of a decoder that determine its cost."""

    name: str
    layers: int
    width: int
    heads: int
    kv_heads: int
    head_dim: int
    mlp_width: int

    @property
    def parameters(self) -> int:
        """Weights applied to every token: attention and gated MLP of all layers."""
        attention = self.width * self.head_dim * (2 * self.heads + 2 * self.kv_heads)
        return self.layers * (attention + 3 * self.width * self.mlp_width)

    @property
    def cache_per_token(self) -> int:
        """Bytes of keys and values for one token."""
        return 2 * self.layers * self.kv_heads * self.head_dim * CACHE_BYTES

    def prefill(self, tokens: int) -> float:
        """Operations until the first answer token."""
        attention = 2 * self.layers * tokens**2 * self.heads * self.head_dim
        return 2.0 * self.parameters * tokens + attention


# Shapes of the aliases, for machines without access to the hub.
KNOWN = {
    "llama": LLMShape("llama", 32, 4096, 32, 32, 128, 11008),
    "llama3": LLMShape("llama3", 32, 4096, 32, 8, 128, 14336),
    "qwen": LLMShape("qwen", 28, 3584, 28, 4, 128, 18944),
    "gemma3": LLMShape("gemma3", 34, 2560, 8, 4, 256, 10240),
    "internlm": LLMShape("internlm", 32, 4096, 32, 8, 128, 14336),
}


@dataclass(frozen=True)
class Cost:
    """The cost of one image at one budget.

    Args:
        prefill: operations, including those of the text tokens.
        cache: bytes of keys and values of the visual tokens.
        tokens: bytes of the visual tokens in 16 bits, at the encoder's width.
    """

    visual_tokens: int
    text_tokens: int
    prefill: float
    cache: int
    tokens: int


def cost(llm: LLMShape, visual_tokens: int, text_tokens: int, channels: int) -> Cost:
    """The cost of `visual_tokens` tokens of `channels` channels beside `text_tokens`."""
    return Cost(
        visual_tokens, text_tokens, llm.prefill(visual_tokens + text_tokens),
        visual_tokens * llm.cache_per_token, visual_tokens * channels * CACHE_BYTES,
    )  # fmt: skip


def shape_of(name: str, trust_remote_code: bool) -> LLMShape:
    """The shape of an LLM, from a known alias or the checkpoint's configuration.

    Args:
        name: of the LLM.
        trust_remote_code: whether Python code of the checkpoint may run.

    Returns:
        The shape.

    Raises:
        MissingError: nothing has that name.
        UsageError: its configuration is not that of a decoder.
    """
    if name in KNOWN and name in llm_aliases():
        return KNOWN[name]
    try:
        config = read_config(
            resolve(name, language=True, code=trust_remote_code), trust_remote_code
        )
    except MissingError as error:
        raise MissingError(
            "no such LLM to reckon the cost of",
            got=name,
            want="a checkpoint, or one of " + ", ".join(KNOWN),
        ) from error
    config = getattr(config, "text_config", config)
    try:
        heads, width = int(config.num_attention_heads), int(config.hidden_size)
        return LLMShape(
            name, int(config.num_hidden_layers), width, heads,
            int(getattr(config, "num_key_value_heads", None) or heads),
            int(getattr(config, "head_dim", None) or width // heads),
            int(config.intermediate_size),
        )  # fmt: skip
    except AttributeError as error:
        raise UsageError(
            "the checkpoint's configuration is no decoder's", got=name, want="a causal LM"
        ) from error
