"""A copy of an index's table as one Arrow file, for a search that starts from nothing.

LanceDB takes longer to import than a small index takes to search. The copy is good for as long as
the table's files are those it was made of; whoever finds it stale reads the table. Knows files and
Arrow; knows no LanceDB and no model.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

from encoderlab.whole_files import replacing

if TYPE_CHECKING:
    import pyarrow as pa

FILE = "search.arrow"
MOST_ROWS = 50_000  # above this, reading the rows takes longer than importing a database
STATE = b"encoderlab-table"


def state_of(table: Path) -> str:
    """A digest of which files a table consists of: every change adds some, and none is rewritten.

    Sizes too, so that a file cut short is noticed.
    """
    digest = hashlib.blake2b(digest_size=16)
    for path in sorted(table.rglob("*")):
        if path.is_file():
            digest.update(f"{path.relative_to(table)} {path.stat().st_size}\n".encode())
    return digest.hexdigest()


def write(folder: Path, rows: pa.Table, state: str) -> None:
    """Keeps `rows` in the index's folder; without a word where that folder cannot be written."""
    import pyarrow as pa

    if len(rows) > MOST_ROWS:
        (folder / FILE).unlink(missing_ok=True)
        return
    marked = rows.replace_schema_metadata({STATE: state.encode()})
    try:
        with (
            replacing(folder / FILE) as unfinished,
            pa.ipc.new_file(unfinished, marked.schema) as to,
        ):
            to.write_table(marked)
    except OSError:  # a folder to read from is enough to search
        return


def read(folder: Path, table: Path) -> pa.Table | None:
    """The rows that `write` kept, or None where there are none of the table as it is now."""
    path = folder / FILE
    if not path.is_file():
        return None
    import pyarrow as pa

    try:
        with pa.memory_map(str(path)) as content:
            rows = pa.ipc.open_file(content).read_all()
    except (pa.ArrowInvalid, OSError):
        return None
    kept = (rows.schema.metadata or {}).get(STATE, b"").decode()
    return rows if kept == state_of(table) else None
