"""FastV (Chen et al. 2024, arXiv:2403.06764): image tokens are dropped inside the LLM.

The image tokens are ranked by the attention that the last token of the prompt pays them in one
layer, mean over heads. Later layers see the best ones alone, in the prompt and in every generated
token. The others are masked there, which gives exactly what dropping them gives: positions stay,
and no token that stays attends to one that goes. It shows what is lost, and saves no time.

b rows, t tokens of the prompt, k image tokens, h heads.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from encoderlab.errors import UsageError
from encoderlab.vlm.model import VLM
from encoderlab.vlm.prompt import IGNORED, IMAGE, Rows

LAYER = 2  # of the paper


@contextmanager
def fastv(vlm: VLM, budget: int, layer: int | None = None) -> Iterator[None]:
    """Drops image tokens inside the LLM of `vlm`, for all that it computes in this block.

    Args:
        vlm: answers, or gives likelihoods, in this block.
        budget: how many image tokens the later layers see.
        layer: the one whose attention ranks the image tokens, counted from 1; None for 2 as in the
            paper, or the last but one of an LLM with fewer than 3 layers, so that one layer at
            least sees the best tokens alone.

    Yields:
        Nothing; the LLM is as before after the block.

    Raises:
        UsageError: not fewer tokens than the image has, a layer that the LLM does not have or that
            is its last, or an LLM without attention layers that can be found.
    """
    if not 1 <= budget < vlm.image_tokens:
        raise UsageError(
            "FastV keeps fewer than the image tokens of the VLM",
            got=budget,
            want=f"1 to {vlm.image_tokens - 1} of {vlm.image_tokens}",
        )
    layers = _layers(vlm.llm)
    number = min(LAYER, len(layers) - 1) if layer is None else layer
    if not 1 <= number < len(layers):
        raise UsageError(
            "FastV needs a layer of the LLM with another one after it",
            got=f"layer {number} of {len(layers)}",
            want="an LLM of at least 2 layers" if len(layers) < 2 else f"1 to {len(layers) - 1}",
        )
    ranking, *later = (_Layer(layers, i) for i in range(number - 1, len(layers)))
    dropping = _Dropping(budget)
    before = vlm.on_prompt
    with ExitStack() as stack:
        stack.callback(setattr, vlm, "on_prompt", before)
        vlm.on_prompt = dropping.start
        # Fused attention returns no weights, so the ranking layer computes plain attention.
        config = copy.copy(ranking.attention.config)
        stack.callback(setattr, ranking.attention, "config", ranking.attention.config)
        config._attn_implementation = "eager"
        ranking.attention.config = config
        stack.callback(ranking.attention.register_forward_hook(dropping.rank).remove)
        stack.callback(ranking.with_mask(lambda mask: mask))
        for one in later:
            stack.callback(one.with_mask(dropping.restrict))
        yield


class _Dropping:
    """Which tokens of the current prompt later layers see."""

    def __init__(self, budget: int) -> None:
        self.budget = budget
        self.image: Bool[Tensor, "b t"] | None = None
        self.last: Tensor | None = None  # (b,) position of the last token of the prompt
        self.seen: Bool[Tensor, "b t"] | None = None

    def start(self, rows: Rows) -> None:
        """Another prompt."""
        self.image, self.seen = rows.ids == IMAGE, None
        # An answer that is scored stands behind the prompt.
        self.last = rows.ids.shape[1] - 1 - (rows.labels != IGNORED).sum(dim=1)

    def rank(self, module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        """The hook of the ranking layer's attention."""
        weights = output[1] if isinstance(output, tuple) else None
        if weights is None:
            raise UsageError("FastV needs the attention of the LLM, which returns none")
        if self.image is None or self.last is None or weights.shape[2] < weights.shape[3]:
            return  # a generated token, which sees what its prompt sees
        # One prompt may be continued in several ways, with the first tokens of the answer behind.
        rows, length = len(weights), weights.shape[3]
        image = _longer(self.image, length, False).expand(rows, -1)
        attention = weights.float().mean(dim=1)
        paid = attention[torch.arange(rows, device=attention.device), self.last.expand(rows)]
        best = paid.masked_fill(~image, -1.0).topk(self.budget, dim=1).indices
        self.seen = (~image).scatter(1, best, True)

    def restrict(self, mask: Float[Tensor, "b 1 q k"]) -> Float[Tensor, "b 1 q k"]:
        """The mask of a later layer."""
        if self.image is None or not self.image.any():
            return mask
        if self.seen is None:
            raise UsageError("FastV needs the attention of a whole prompt at once")
        seen = _longer(self.seen, mask.shape[3], True)
        return mask.masked_fill(~seen[:, None, None], _hidden(mask.dtype))


class _Layer:
    """A decoder layer and its attention.

    Args:
        layers: all of the LLM.
        index: of this one, from 0.
    """

    def __init__(self, layers: nn.ModuleList, index: int) -> None:
        self.layer, self.index = layers[index], index
        self.signature = inspect.signature(self.layer.forward)
        attention: list[Any] = [
            module for module in self.layer.children()
            if hasattr(module, "config") and "attention" in type(module).__name__.lower()
        ]  # fmt: skip
        if len(attention) != 1 or "attention_mask" not in self.signature.parameters:
            raise _not_found()
        self.attention = attention[0]

    def with_mask(self, change: Any) -> Any:
        """Changes the layer's mask until the returned function is called."""

        def enters(module: nn.Module, args: tuple[Any, ...], named: dict[str, Any]) -> Any:
            call = self.signature.bind(*args, **named)
            states = call.arguments["hidden_states"]
            past = call.arguments.get("past_key_values")
            before = 0 if past is None else past.get_seq_length(self.index)
            given = call.arguments.get("attention_mask")
            call.arguments["attention_mask"] = change(_additive(given, states, before))
            return call.args, call.kwargs

        return self.layer.register_forward_pre_hook(enters, with_kwargs=True).remove


def _layers(llm: Any) -> nn.ModuleList:
    """The decoder layers of a causal language model of transformers."""
    count = getattr(llm.config.get_text_config(), "num_hidden_layers", None)
    for module in llm.modules():
        if isinstance(module, nn.ModuleList) and len(module) == count:
            return module
    raise _not_found()


def _not_found() -> UsageError:
    return UsageError(
        "FastV finds no attention layers in the LLM",
        want="a decoder of transformers with softmax attention in every layer",
    )


def _additive(mask: Any, states: Float[Tensor, "b q d"], past: int) -> Float[Tensor, "b 1 q k"]:
    # transformers gives such numbers, True where a token is seen, or None for a causal mask.
    queries, keys = states.shape[1], past + states.shape[1]
    if mask is None:
        mask = torch.ones(queries, keys, dtype=torch.bool, device=states.device).tril(past)
        mask = mask[None, None]
    if mask.ndim != 4 or mask.shape[-1] != keys:
        raise UsageError(
            "FastV needs a mask of every token with every other one",
            got=tuple(mask.shape),
            want="an LLM with sdpa or eager attention, without a sliding window or static cache",
        )
    if mask.dtype != torch.bool:
        return mask
    return torch.zeros_like(mask, dtype=states.dtype).masked_fill(~mask, _hidden(states.dtype))


def _hidden(dtype: torch.dtype) -> float:
    # Half of the least number: with the score added it is still finite, so that the rows of
    # padding and of dropped tokens, which nothing sees, are too.
    return torch.finfo(dtype).min / 2


def _longer(mask: Bool[Tensor, "b t"], length: int, fill: bool) -> Bool[Tensor, "b l"]:
    return F.pad(mask, (0, length - mask.shape[1]), value=fill)
