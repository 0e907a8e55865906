"""Nested records as a table for spreadsheets: one line per record, one column per value."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any


def csv_text(records: Sequence[Mapping[str, Any]]) -> str:
    """CSV with a header: nested names are joined by dots, items of a list are numbered from 1;
    lists of lists, such as maps, are left out.

    >>> print(csv_text([{"a": 1, "b": {"c": [2, 3]}}]), end="")
    a,b.c.1,b.c.2
    1,2,3
    """
    rows = [_flat(one) for one in records]
    columns = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _flat(value: Any, name: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    if isinstance(value, Mapping):
        for key, inner in value.items():
            found |= _flat(inner, f"{name}.{key}" if name else str(key))
    elif isinstance(value, list | tuple):
        if not any(isinstance(one, list | tuple) for one in value):
            for number, inner in enumerate(value, start=1):
                found |= _flat(inner, f"{name}.{number}")
    else:
        found[name] = _safe(value)
    return found


def _safe(value: Any) -> Any:
    """A text that a spreadsheet would run as a formula gets an apostrophe in front."""
    if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r")):
        return "'" + value
    return value
