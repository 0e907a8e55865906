"""Search images by a sentence or an image: a LanceDB table of embeddings, exact and approximate."""

from __future__ import annotations

from typing import Any

__all__ = ["Changes", "Hit", "Index"]


def __getattr__(name: str) -> Any:  # the settings of the commands are read without torch
    if name in __all__:
        from encoderlab.retrieval import image_index

        return getattr(image_index, name)
    raise AttributeError(f"module 'encoderlab.retrieval' has no attribute {name!r}")
