"""Images inside a larger file: a member of a tar shard, a cell of a Parquet table.

Each holds its place in the file and is read on demand. Knows bytes; decodes nothing. `shards` lists
them.
"""

from __future__ import annotations

import functools
import threading
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from encoderlab.data.decode import ImageError
from encoderlab.data.remote_files import local_copy

# Row groups held in memory for reading row after row; a group is some tens of megabytes.
GROUPS_KEPT = 4


@runtime_checkable
class ShardImage(Protocol):
    """An image inside a shard; its `str` is the shard, a slash and the name in it."""

    def read(self) -> bytes:
        """The bytes of its file.

        Raises:
            ImageError: the shard ends before it, or has changed.
            MissingError: the shard is no longer there.
        """
        ...


@dataclass(frozen=True)
class TarMember:
    """The bytes `start` to `start + size` of an uncompressed tar."""

    shard: str
    name: str
    start: int
    size: int

    def read(self) -> bytes:
        """The bytes of the member."""
        with local_copy(self.shard).open("rb") as file:
            file.seek(self.start)
            content = file.read(self.size)
        if len(content) < self.size:
            raise ImageError(str(self), "the shard is cut short before it")
        return content

    def __str__(self) -> str:
        return f"{self.shard}/{self.name}"


@dataclass(frozen=True)
class ParquetCell:
    """One cell of a Parquet table: bytes, or the struct with bytes of Hugging Face data sets.

    Args:
        shard: path or URL of the table.
        column: of the images.
        group: row group.
        row: in its row group.
        number: of the row in the table.
    """

    shard: str
    column: str
    group: int
    row: int
    number: int

    def read(self) -> bytes:
        """The bytes in the cell."""
        try:
            cell = _column(self.shard, self.column, self.group)[self.row].as_py()
        except (OSError, IndexError, ValueError) as error:
            raise ImageError(str(self), f"the table cannot be read ({error})") from error
        content = cell.get("bytes") if isinstance(cell, dict) else cell
        if not content:
            raise ImageError(str(self), "the row has no image")
        return bytes(content)

    def __str__(self) -> str:
        return f"{self.shard}/{self.number}"


_reading = threading.Lock()


def _column(shard: str, column: str, group: int) -> Any:
    # Several threads decode rows of one group: the first one reads it for all.
    with _reading:
        return _read_column(shard, column, group)


@functools.lru_cache(maxsize=GROUPS_KEPT)
def _read_column(shard: str, column: str, group: int) -> Any:
    import pyarrow.parquet as pq

    with pq.ParquetFile(local_copy(shard)) as table:
        return table.read_row_group(group, columns=[column]).column(0)
