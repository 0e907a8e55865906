"""JSON as others' files bring it: plain values, or a ValueError whatever is wrong with it.

Standard library only; knows nothing of what the values mean.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def parsed(text: str | bytes) -> Any:
    """The values of a JSON text.

    Raises:
        ValueError: it is no JSON, no UTF-8, or nested more deeply than anything sensible.
    """
    try:
        return json.loads(text)
    except RecursionError as error:
        # Some thousand brackets are a text of a few kilobytes: no reason to lose one's stack.
        raise ValueError("it is nested too deeply") from error


def record_in(path: Path) -> dict[str, Any]:
    """The mapping that a JSON file holds.

    Raises:
        ValueError: it cannot be read (a folder, a broken link, no right to), is no JSON, or holds
            something else than a mapping.
    """
    try:
        found = parsed(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(error.strerror or str(error)) from error
    if not isinstance(found, dict):
        raise ValueError(f"it holds {_kind(found)}, not a mapping {{...}}")
    return found


def _kind(value: Any) -> str:
    names = {list: "a list", str: "a text", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")
