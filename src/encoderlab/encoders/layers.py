"""Hidden states of any network: 0 enters the first block, k leaves block k, -1 leaves the last one,
always before the final norm. The normed state is in the features (`patches`, `pooled`).
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from encoderlab.errors import UsageError


def layer_numbers(asked: Iterable[int], last: int, first: int = 0) -> list[int]:
    """Layers in order, each once, counted from the front.

    Args:
        asked: numbers; negative ones count from the end.
        last: the largest number.
        first: the smallest number.

    Returns:
        Numbers from `first` to `last`, sorted.

    Raises:
        UsageError: a number out of bounds.

    >>> layer_numbers([-1, 0, 4], last=4)
    [0, 4]
    """
    layers = set()
    for layer in asked:
        number = layer + last + 1 if layer < 0 else layer
        if not first <= number <= last:
            raise UsageError(
                "the model has no such layer",
                got=layer,
                want=f"{first} to {last}, or -1 for the last",
            )
        layers.add(number)
    return sorted(layers)


class FinalNorms:
    """Records input and output of the norms of a network that are outside of its blocks."""

    def __init__(self) -> None:
        self._runs: list[tuple[Tensor, Tensor]] = []

    def __call__(self, module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        """The forward hook."""
        if inputs and isinstance(output, Tensor):
            self._runs.append((inputs[0], output))

    def undone(self, hidden_states: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """The same hidden states, but the last one before the final norm."""
        # transformers gives the normed state for language models, and the state before it for most
        # vision transformers.
        if not hidden_states:
            return ()
        *others, last = hidden_states
        for before, after in reversed(self._runs):
            if after.shape == last.shape and torch.equal(after, last):
                last = before
                break
        return (*others, last)


@contextmanager
def block_states(blocks: Sequence[nn.Module]) -> Iterator[list[Tensor]]:
    """Records what enters the first of `blocks`, if any, and what leaves each, in this thread."""
    states: list[Tensor] = []
    # A shared network serves several threads.
    thread = threading.get_ident()

    def enters(module: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]) -> None:
        if threading.get_ident() == thread:
            states.append(inputs[0] if inputs else named["hidden_states"])

    def leaves(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        if threading.get_ident() == thread:
            states.append(output[0] if isinstance(output, tuple) else output)

    handles = [block.register_forward_hook(leaves) for block in blocks]
    handles += [block.register_forward_pre_hook(enters, with_kwargs=True) for block in blocks[:1]]
    try:
        yield states
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def eager_attention(network: Any, config: Any) -> Iterator[None]:
    """Plain attention of `network`, whose configuration is `config`, in this block: fused kernels
    keep no maps."""
    before = config._attn_implementation
    network.set_attn_implementation("eager")
    try:
        yield
    finally:
        network.set_attn_implementation(before)


@contextmanager
def final_norms(network: nn.Module, wanted: bool = True) -> Iterator[FinalNorms]:
    """Records the norms of `network` outside of its lists of blocks, if `wanted`."""
    norms = FinalNorms()
    handles = [module.register_forward_hook(norms) for module in _norms(network) if wanted]
    try:
        yield norms
    finally:
        for handle in handles:
            handle.remove()


def last_norm(network: nn.Module) -> nn.Module | None:
    """The last norm of `network` outside of its lists of blocks; None where it has none."""
    return next(reversed(list(_norms(network))), None)


def _norms(network: nn.Module) -> Iterator[nn.Module]:
    for child in network.children():
        if isinstance(child, nn.ModuleList | nn.Sequential):
            continue  # a norm at a block's own end belongs to the block
        if "norm" in type(child).__name__.lower():
            yield child
        else:
            yield from _norms(child)
