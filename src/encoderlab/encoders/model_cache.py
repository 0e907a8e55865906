"""Models that a long-running process keeps: each loaded once, the same for all who ask.

Off unless `share` is called: a command loads a model, uses it and lets it go. Kept models serve
several threads, so long as nobody changes them. They share a room of so many bytes of weights; the
least recently asked for goes first.
"""

from __future__ import annotations

import functools
import inspect
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar

from torch import nn

Loader = TypeVar("Loader", bound=Callable[..., Any])

_room = 0
_kept: OrderedDict[Any, Any] = OrderedDict()
_lock = threading.RLock()
_apart: ContextVar[bool] = ContextVar("apart", default=False)


def share(room: int) -> int:
    """From now on models of at most so many bytes together are kept between calls; 0 keeps none,
    and frees all. Gives the room there was before."""
    global _room
    with _lock:
        before, _room = _room, room
        _make_room(0)
    return before


@contextmanager
def without_cache() -> Iterator[None]:
    """Loads anew in this block, such as where loading itself is timed."""
    token = _apart.set(True)
    try:
        yield
    finally:
        _apart.reset(token)


def shareable(load: Loader) -> Loader:
    """Makes what `load` gives one that `share` keeps, by the values it is called with, those left
    at their defaults too."""
    signature = inspect.signature(load)

    @functools.wraps(load)
    def loaded(*args: Any, **options: Any) -> Any:
        if not _room or _apart.get():
            return load(*args, **options)
        asked = signature.bind(*args, **options)
        asked.apply_defaults()
        key = (load.__name__, *map(str, asked.arguments.values()))
        # One at a time: two who ask at once for the same model get the same one.
        with _lock:
            if key in _kept:
                _kept.move_to_end(key)
                return _kept[key]
            made = load(*args, **options)
            size = weight_bytes(made)
            if size <= _room:
                _make_room(size)
                _kept[key] = made
            return made

    return loaded  # type: ignore[return-value]


def weight_bytes(model: Any) -> int:
    """What the weights of an encoder take, all of its networks together."""
    parts = [part for part in vars(model).values() if isinstance(part, nn.Module)]
    tensors = {id(t): t for part in parts for t in [*part.parameters(), *part.buffers()]}
    return sum(one.numel() * one.element_size() for one in tensors.values())


def _make_room(size: int) -> None:
    while _kept and sum(map(weight_bytes, _kept.values())) + size > _room:
        _kept.popitem(last=False)
