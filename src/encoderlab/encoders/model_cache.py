"""A cache of loaded models for a long-running process, by least recent use. Off unless `share` is
called. Cached models serve several threads, so nothing may change them.
"""

from __future__ import annotations

import functools
import gc
import inspect
import sys
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar

from torch import nn

Loader = TypeVar("Loader", bound=Callable[..., Any])

_room = 0
_frames_freed = False
_cache: OrderedDict[Any, Any] = OrderedDict()
_lock = threading.RLock()
_bypassed: ContextVar[bool] = ContextVar("bypassed", default=False)


def share(room: int) -> int:
    """Sets the size of the cache.

    Args:
        room: bytes of weights of all cached models together; 0 turns the cache off and frees it.

    Returns:
        The size before.
    """
    global _room
    with _lock:
        before, _room = _room, room
        _make_room(0)
    return before


@contextmanager
def without_cache() -> Iterator[None]:
    """Loads without the cache in this block, such as to time loading."""
    token = _bypassed.set(True)
    try:
        yield
    finally:
        _bypassed.reset(token)


def shareable(load: Loader) -> Loader:
    """Puts the models that `load` gives into the cache, by all of its arguments."""
    signature = inspect.signature(load)

    def fresh(*args: Any, **options: Any) -> Any:
        model = load(*args, **options)
        _free_frames_of_imports()
        return model

    @functools.wraps(load)
    def loaded(*args: Any, **options: Any) -> Any:
        if not _room or _bypassed.get():
            return fresh(*args, **options)
        bound = signature.bind(*args, **options)
        bound.apply_defaults()
        key = (load.__name__, *map(str, bound.arguments.values()))
        # One at a time: two threads that load the same model get the same one.
        with _lock:
            if key in _cache:
                _cache.move_to_end(key)
                return _cache[key]
            model = fresh(*args, **options)
            size = weight_bytes(model)
            if size <= _room:
                _make_room(size)
                _cache[key] = model
            return model

    return loaded  # type: ignore[return-value]


def weight_bytes(model: Any) -> int:
    """Bytes of the weights of an encoder, all of its networks together."""
    parts = [part for part in vars(model).values() if isinstance(part, nn.Module)]
    tensors = {id(t): t for part in parts for t in [*part.parameters(), *part.buffers()]}
    return sum(t.numel() * t.element_size() for t in tensors.values())


def _free_frames_of_imports() -> None:
    """Once: the import of torch's compiler, which most loaders begin with, leaves the frames of its
    callers in a reference cycle, and with them the model. Later models are in none, so that `del`
    frees them."""
    global _frames_freed
    if not _frames_freed and "torch._dynamo" in sys.modules:
        gc.collect()
        _frames_freed = True


def _make_room(size: int) -> None:
    while _cache and sum(map(weight_bytes, _cache.values())) + size > _room:
        _cache.popitem(last=False)
