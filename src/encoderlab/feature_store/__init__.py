"""Features of many images and texts: computed in batches, stored and read.

`extract` runs the loop of `pipeline` and fills the `store`.
"""

from __future__ import annotations

from typing import Any

__all__ = ["FeatureStore", "extract_images", "extract_texts"]


def __getattr__(name: str) -> Any:
    if name == "FeatureStore":
        from encoderlab.feature_store.store import FeatureStore

        return FeatureStore
    if name in ("extract_images", "extract_texts"):
        from encoderlab.feature_store import extract

        return getattr(extract, name)
    raise AttributeError(f"module 'encoderlab.feature_store' has no attribute {name!r}")
