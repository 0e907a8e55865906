"""The cost of visual tokens to a language model: prefill, decoding, KV cache and token memory.

Computed from the shape of any model (a multiply-add counts as two operations, attention as causal),
and measured on one that is on this machine.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from encoderlab.core.aliases import llm_aliases
from encoderlab.core.progress import note, progress
from encoderlab.encoders.checkpoint import bundled_models, resolve
from encoderlab.encoders.hardware import choose_device, choose_dtype
from encoderlab.encoders.loading import causal_lm, quiet_loading, read_config
from encoderlab.encoders.text import positions_of
from encoderlab.errors import EncoderLabError, MissingError, UsageError

CACHE_BYTES = 2  # fp16 or bf16
REPETITIONS, NEW_TOKENS = 9, 8


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

    @classmethod
    def of(cls, name: str, config: Any) -> LLMShape:
        """The shape in a configuration of transformers.

        Args:
            name: of the LLM.
            config: that of a decoder, or of a model with one.

        Returns:
            The shape.

        Raises:
            UsageError: it is not that of a decoder.
        """
        config = getattr(config, "text_config", config)
        try:
            heads, width = int(config.num_attention_heads), int(config.hidden_size)
            return cls(
                name, int(config.num_hidden_layers), width, heads,
                int(getattr(config, "num_key_value_heads", None) or heads),
                int(getattr(config, "head_dim", None) or width // heads),
                int(config.intermediate_size),
            )  # fmt: skip
        except AttributeError as error:
            raise UsageError(
                "the checkpoint's configuration is no decoder's", got=name, want="a causal LM"
            ) from error

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
            "no such LLM for the computation of cost",
            got=name,
            want="a checkpoint, or one of " + ", ".join(KNOWN),
        ) from error
    return LLMShape.of(name, config)


# -- measured ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Times:
    """Median and quartiles of repetitions, in milliseconds."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, seconds: Sequence[float]) -> Times:
        """Of repetitions in seconds."""
        low, median, high = np.quantile(seconds, (0.25, 0.5, 0.75))
        return cls(1000 * float(median), 1000 * float(low), 1000 * float(high))


@dataclass(frozen=True)
class MeasuredCost:
    """The cost of one image at one budget, run in batches of one.

    Args:
        prefill: until the first answer token, text included.
        per_token: of every further token.
        cache: bytes allocated for keys and values of the visual tokens.
    """

    visual_tokens: int
    text_tokens: int
    prefill: Times
    per_token: Times
    cache: int


def local_llm(name: str, device: str, dtype: str, trust_remote_code: bool) -> Any | None:
    """A language model that is on this machine.

    Args:
        name: of a bundled model, a folder, or an alias of a folder.
        device: auto, cpu, cuda or cuda:N.
        dtype: auto, float32, bfloat16 or float16.
        trust_remote_code: whether Python code of the checkpoint may run.

    Returns:
        The causal LM; None for a name of the hub, and with a note where it cannot be loaded.
    """
    if name not in bundled_models() and not _folder_of(name).exists():
        return None
    where = choose_device(device)
    options = {"dtype": choose_dtype(dtype, where), "trust_remote_code": trust_remote_code}
    try:
        path = resolve(name, language=True, code=trust_remote_code).path
        with quiet_loading(name):
            return causal_lm(path, where, **options)
    except (EncoderLabError, OSError, ValueError) as error:
        note(f"the cost of {name} is computed alone, since it cannot be loaded: {error}")
        return None


def _folder_of(name: str) -> Path:
    return Path(llm_aliases().get(name, name)).expanduser()


@torch.inference_mode()
def measure(
    network: Any, visual_tokens: Sequence[int], text_tokens: int, repetitions: int = REPETITIONS
) -> list[MeasuredCost]:
    """Runs a language model on random embeddings: prefill, then `NEW_TOKENS` greedy tokens.

    Args:
        network: a causal LM of transformers.
        visual_tokens: numbers of tokens of the image.
        text_tokens: beside them.
        repetitions: of every number, in turn, so that what else the machine does hits all alike.

    Returns:
        One per number; those that do not fit the context are left out.
    """
    weight = network.get_input_embeddings().weight
    generator = torch.Generator().manual_seed(0)
    most = positions_of(network.base_model) or float("inf")
    # The cache of the text alone is subtracted.
    counts = [n for n in dict.fromkeys([0, *visual_tokens]) if n + text_tokens > 0]
    counts = [n for n in counts if n + text_tokens + NEW_TOKENS <= most]
    runs: dict[int, list[tuple[float, float, int]]] = {n: [] for n in counts}
    with progress("measuring the LLM", (repetitions + 1) * len(counts), "run") as bar:
        for _ in range(repetitions + 1):
            for n in counts:
                drawn = torch.randn(1, n + text_tokens, weight.shape[1], generator=generator)
                runs[n].append(_timed(network, (drawn * float(weight.std())).to(weight)))
                bar.advance()
    costs = []
    for n in dict.fromkeys(visual_tokens):
        if n in runs:
            prefill, per_token, cache = zip(*runs[n][1:], strict=True)  # the first warms up
            text = runs[0][-1][2] if 0 in runs else 0
            costs.append(
                MeasuredCost(
                    n, text_tokens, Times.of(prefill), Times.of(per_token), cache[-1] - text
                )
            )
    return costs


def _timed(network: Any, embeddings: torch.Tensor) -> tuple[float, float, int]:
    """Seconds of the prefill, seconds of a new token, and bytes of the cache after the prefill."""
    start = _now(embeddings)
    out = network(inputs_embeds=embeddings, use_cache=True, logits_to_keep=1)
    first = _now(embeddings)
    cache = cache_bytes(out.past_key_values)
    begin = _now(embeddings)
    for _ in range(NEW_TOKENS):
        token = out.logits[:, -1:].argmax(dim=-1)
        out = network(input_ids=token, past_key_values=out.past_key_values, use_cache=True)
    return first - start, (_now(embeddings) - begin) / NEW_TOKENS, cache


def _now(tensor: torch.Tensor) -> float:
    """The time after all work on the tensor's device is done."""
    if tensor.is_cuda:
        torch.cuda.synchronize(tensor.device)
    return time.perf_counter()


def cache_bytes(cache: Any) -> int:
    """Bytes of memory that a key-value cache of transformers holds."""
    tensors = [
        value
        for layer in cache.layers
        for value in vars(layer).values()
        if isinstance(value, torch.Tensor)
    ]
    storages = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors}
    return sum(storages.values())


def measured_record(
    name: str, network: Any, visual_tokens: Sequence[int], text_tokens: int, channels: int
) -> dict[str, Any]:
    """Computed and measured costs of an LLM, for run.json.

    Args:
        name: of the LLM.
        network: the causal LM.
        visual_tokens: numbers of tokens of the image.
        text_tokens: beside them.
        channels: of the encoder's tokens.

    Returns:
        "budgets": for each number `Cost` and, where it fits the context, `MeasuredCost`.
    """
    shape = LLMShape.of(name, network.config)
    measured = {c.visual_tokens: c for c in measure(network, visual_tokens, text_tokens)}
    budgets = []
    for n in visual_tokens:
        record = asdict(cost(shape, n, text_tokens, channels))
        found = measured.get(n)
        record["prefill_ms"] = None if found is None else asdict(found.prefill)
        record["ms_per_token"] = None if found is None else asdict(found.per_token)
        record["cache_measured"] = None if found is None else found.cache
        budgets.append(record)
    return {
        "llm": name, "device": str(network.device), "dtype": str(network.dtype).split(".")[-1],
        "repetitions": REPETITIONS, "new_tokens": NEW_TOKENS, "budgets": budgets,
    }  # fmt: skip
