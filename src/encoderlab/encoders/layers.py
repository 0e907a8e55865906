"""Which layer is meant: 0 is what enters the first block, k what leaves block k, -1 the last."""

from __future__ import annotations

from collections.abc import Iterable

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
