"""Modules of the user's own that add encoders, metrics, commands and tabs to ours.

`ENCODERLAB_EXTENSIONS` names them, separated by commas; each is imported before the first table is
read, and adds its rows by the `register` of that table. CONTRIBUTING.md shows one of each kind.
Knows no table. Standard library only.
"""

from __future__ import annotations

import importlib
import os
from typing import TypeVar

from encoderlab.errors import MissingError, UsageError

VARIABLE = "ENCODERLAB_EXTENSIONS"
Row = TypeVar("Row")
_loaded: set[str] = set()


def load() -> None:
    """Imports the modules that `ENCODERLAB_EXTENSIONS` names; each once, however often called.

    Raises:
        MissingError: one that cannot be found.
        EncoderLabError: whatever its `register` raises.
    """
    for name in os.environ.get(VARIABLE, "").split(","):
        name = name.strip()
        if not name or name in _loaded:
            continue
        _loaded.add(name)  # before the import: what it imports of ours may call this again
        try:
            importlib.import_module(name)
        except ModuleNotFoundError as error:
            _loaded.discard(name)
            raise MissingError(
                f"a module of {VARIABLE} cannot be imported",
                got=f"{name}: {error}",
                want="modules that Python finds, separated by commas",
                hint="put its folder into PYTHONPATH, or unset the variable",
            ) from error


def add(table: dict[str, Row], kind: str, name: str, row: Row) -> None:
    """Adds a row to one of our tables.

    Raises:
        UsageError: the name is taken.
    """
    if table.get(name, row) != row:
        raise UsageError(
            f"there is already {kind} of this name", got=name, want="a name of its own"
        )
    table[name] = row
