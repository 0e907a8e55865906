"""Hidden states of any network by one rule: 0 is what enters the first block, k what leaves block
k, -1 the same as the last block's number; never behind a norm that stands after the last block.

What stands behind that norm is `last_hidden_state` to transformers; here it is in the features
themselves (`patches`, `pooled`), not among the layers.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from encoderlab.errors import UsageError


def layer_numbers(asked: Iterable[int], last: int, first: int = 0) -> list[int]:
    """Layers in order, each once, counted from the front.

    Raises:
        UsageError: one that is not there.

    >>> layer_numbers([-1, 0, 4], last=4)
    [0, 4]
    """
    found = set()
    for layer in asked:
        number = layer + last + 1 if layer < 0 else layer
        if not first <= number <= last:
            raise UsageError(
                "the model has no such layer",
                got=layer,
                want=f"{first} to {last}, or -1 for the last",
            )
        found.add(number)
    return sorted(found)


class FinalNorms:
    """What enters and leaves the norms of a network that stand outside of its blocks."""

    def __init__(self) -> None:
        self._runs: list[tuple[Tensor, Tensor]] = []

    def __call__(self, module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        """The forward hook."""
        if inputs and isinstance(output, Tensor):
            self._runs.append((inputs[0], output))

    def undone(self, hidden_states: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """The same hidden states, the last one as the last block left it.

        transformers puts the normed state of a language model there, and of most vision
        transformers the one before.
        """
        if not hidden_states:
            return ()
        *others, last = hidden_states
        for before, after in reversed(self._runs):
            if after.shape == last.shape and torch.equal(after, last):
                last = before
                break
        return (*others, last)


@contextmanager
def final_norms(network: nn.Module, wanted: bool = True) -> Iterator[FinalNorms]:
    """Watches the norms of `network` outside of its lists of blocks for the time of the block, if
    hidden states are `wanted`."""
    seen = FinalNorms()
    handles = [module.register_forward_hook(seen) for module in _norms(network) if wanted]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def _norms(network: nn.Module) -> Iterator[nn.Module]:
    for child in network.children():
        if isinstance(child, nn.ModuleList | nn.Sequential):
            continue  # a norm at a block's own end belongs to the block
        if "norm" in type(child).__name__.lower():
            yield child
        else:
            yield from _norms(child)
