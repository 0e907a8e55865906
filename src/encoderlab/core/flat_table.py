"""Nested records as a table for spreadsheets: one line per record, one column per value."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any


def csv_text(records: Sequence[Mapping[str, Any]]) -> str:
    """Records as CSV with a header.

    Args:
        records: nested mappings. Nested names are joined by dots, items of a list are numbered
            from 1, lists of lists are left out.

    Returns:
        CSV with a header, its columns in order of first appearance.

    >>> print(csv_text([{"a": 1, "b": {"c": [2, 3]}}]), end="")
    a,b.c.1,b.c.2
    1,2,3
    """
    rows = [{name: _inert(value) for name, value in flat(record).items()} for record in records]
    columns = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def flat(value: Any, name: str = "") -> dict[str, Any]:
    """One nested record as one row.

    Args:
        value: nested mappings and lists.
        name: of the value within a larger record.

    Returns:
        Dotted name -> plain value; lists of lists are left out.

    >>> flat({"a": 1, "b": {"c": [2, 3]}})
    {'a': 1, 'b.c.1': 2, 'b.c.2': 3}
    """
    entries: dict[Any, Any]
    if isinstance(value, Mapping):
        entries = dict(value)
    elif isinstance(value, list | tuple):
        nested = any(isinstance(item, list | tuple) for item in value)
        entries = {} if nested else dict(enumerate(value, start=1))
    else:
        return {name: value}
    row: dict[str, Any] = {}
    for key, inner in entries.items():
        row |= flat(inner, f"{name}.{key}" if name else str(key))
    return row


def _inert(value: Any) -> Any:
    """The value, as a text that a spreadsheet does not run as a formula."""
    formula = isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r"))
    return "'" + value if formula else value
