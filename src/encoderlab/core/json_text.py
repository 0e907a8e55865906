"""Reads JSON of unknown origin: plain values, or a ValueError. Standard library only."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def parsed(text: str | bytes) -> Any:
    """The values of a JSON text; a ValueError where it is damaged or nested too deeply."""
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def record_in(path: Path) -> dict[str, Any]:
    """The mapping that a JSON file holds; a ValueError where it holds none."""
    try:
        record = parsed(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(error.strerror or str(error)) from error
    if not isinstance(record, dict):
        names = {list: "a list", str: "a text", bool: "true or false", type(None): "null"}
        kind = names.get(type(record), "a number")
        raise ValueError(f"it holds {kind}, not a mapping {{...}}")
    return record
