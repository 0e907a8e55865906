"""Checkpoints of all families behind one door: a name in, features out.

`vision` and `text` are the doors, `families/` the adapters, `dual` a model with both sides,
`manager` several at once; `check` says whether an encoder keeps the contract.
"""

from __future__ import annotations

from typing import Any

__all__ = ["check"]


def __getattr__(name: str) -> Any:
    if name == "check":
        from encoderlab.encoders.conformance import check

        return check
    raise AttributeError(f"module 'encoderlab.encoders' has no attribute {name!r}")
