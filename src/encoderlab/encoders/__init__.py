"""Encoders of all families, loaded by name: features of images and texts.

`vision` and `text` load one side, `dual` both, `manager` several encoders; `families/` holds the
adapters; `check` tests an encoder against the contract.
"""

from __future__ import annotations

from typing import Any

__all__ = ["check"]


def __getattr__(name: str) -> Any:
    if name == "check":
        from encoderlab.encoders.conformance import check

        return check
    raise AttributeError(f"module 'encoderlab.encoders' has no attribute {name!r}")
