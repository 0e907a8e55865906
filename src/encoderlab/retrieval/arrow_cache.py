"""A copy of an index's table as one Arrow file: searching it needs no LanceDB, whose import takes
longer than the search of a small index.

The copy is valid while the table's files are those it was made of. Knows files and Arrow; no
LanceDB and no model.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Int

from encoderlab.core.atomic_io import atomic_write
from encoderlab.retrieval.exact import Block
from encoderlab.retrieval.sync import schema

if TYPE_CHECKING:
    import pyarrow as pa

FILE = "search.arrow"
MOST_ROWS = 50_000  # above this, reading the rows takes longer than importing a database
STATE = b"encoderlab-table"


def state_of(table: Path) -> str:
    """A digest of the names and sizes of a table's files: every change adds files."""
    # Sizes too, so that a file cut short is noticed.
    digest = hashlib.blake2b(digest_size=16)
    for path in sorted(table.rglob("*")):
        if path.is_file():
            digest.update(f"{path.relative_to(table)} {path.stat().st_size}\n".encode())
    return digest.hexdigest()


def write(folder: Path, rows: pa.Table, state: str) -> None:
    """Writes the copy into the index's folder, unless that folder is read-only."""
    import pyarrow as pa

    marked = rows.replace_schema_metadata({STATE: state.encode()})
    try:
        with (
            atomic_write(folder / FILE) as unfinished,
            pa.ipc.new_file(unfinished, marked.schema) as to,
        ):
            to.write_table(marked)
    except OSError:  # a folder to read from is enough to search
        return


def remove(folder: Path) -> None:
    """Deletes the copy."""
    (folder / FILE).unlink(missing_ok=True)


class ArrowCache:
    """The rows of a table as they were when the copy was made, searched in memory.

    Args:
        table: the folder of the table.
    """

    def __init__(self, rows: pa.Table, table: Path, state: str) -> None:
        self._table, self._state = table, state
        column = rows.column("vector").combine_chunks()
        self.rows = rows.drop_columns("vector")
        self.dim: int = column.type.list_size
        # By DLPack: Arrow's own way to numpy imports pandas. Torch takes only what it may write
        # to: better one copy here than one in every search.
        vectors = np.from_dlpack(column.flatten()).reshape(len(rows), self.dim)
        self.vectors = np.require(vectors, requirements="W")

    def __len__(self) -> int:
        return len(self.rows)

    def is_fresh(self) -> bool:
        """Whether the table is still as it was."""
        return state_of(self._table) == self._state

    def blocks(self) -> list[Block]:
        """All vectors with the numbers of their rows."""
        return [(self.vectors, np.arange(len(self)))]

    def take(self, numbers: Int[np.ndarray, " n"]) -> dict[int, dict[str, Any]]:
        """Row number -> its values."""
        # One by one: Arrow's `take` imports pandas.
        return {n: self.rows.slice(n, 1).to_pylist()[0] for n in set(numbers.tolist())}


def read(folder: Path, table: Path) -> ArrowCache | None:
    """The copy that `write` made; None where there is none or it is stale or damaged."""
    path = folder / FILE
    if not path.is_file():
        return None
    import pyarrow as pa

    try:
        with pa.memory_map(str(path)) as content:
            rows = pa.ipc.open_file(content).read_all()
        # Arrow believes what a file says: a length that is wrong would be read beyond its memory.
        rows.validate(full=True)
        state = (rows.schema.metadata or {}).get(STATE, b"").decode()
        copy = ArrowCache(rows, table, state)
        expected = schema(copy.dim)
        if any(expected.field(field.name).type != field.type for field in rows.schema):
            return None
    except (ValueError, TypeError, KeyError, AttributeError, RuntimeError, OSError):
        return None
    return copy if copy.is_fresh() else None
