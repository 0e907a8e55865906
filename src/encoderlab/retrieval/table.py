"""The LanceDB table of an index: writes rows, reads blocks of vectors, finds nearest rows.

Whatever can be as long as the table is read a block at a time. Knows LanceDB and its errors; no
models and no images.
"""

from __future__ import annotations

import errno
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float, Int

from encoderlab.core.atomic_io import explain_full_disk
from encoderlab.core.progress import note
from encoderlab.errors import UsageError, WorkError
from encoderlab.retrieval.approximate import FOLD_IN, Effort, Plan
from encoderlab.retrieval.exact import Block
from encoderlab.retrieval.storage import Storage
from encoderlab.retrieval.sync import COLUMNS, schema

if TYPE_CHECKING:
    import pyarrow as pa

NAME = "images"
FILES = f"{NAME}.lance"  # the folder that LanceDB keeps it in
BLOCK_BYTES = 32 << 20
# Vectors up to this size stay in memory from one exact search to the next; more are read through
# a block at a time at each.
HELD_BYTES = 2 << 30
QUERIES_AT_ONCE = 64  # approximate searches that LanceDB gets together: more are no faster
PATHS_AT_ONCE = 2000  # in one condition

# A commit makes a file, and a version that lists all files: one per batch of a million rows would
# write more of these lists than vectors. After a loss of power, what is not committed is lost.
COMMIT_ROWS, COMMIT_SECONDS = 4096, 30.0
# Every search opens every file: from here on LanceDB advises to put the small ones together.
SMALL_FILES, MANY_ROWS = 20, 100_000
# A reader moves to the newest version at each search: an old one is needed for one search at most.
KEEP_VERSIONS = timedelta(hours=1)

# LanceDB's own errors come as these.
DATABASE_ERRORS = (RuntimeError, ValueError, OSError)


class Table:
    """The rows of an index, in the columns of `sync.schema`."""

    def __init__(self, inner: Any, storage: Storage) -> None:
        self.inner, self.storage = inner, storage
        self.dim: int = inner.schema.field("vector").type.list_size
        self._held: list[Block] | None = None  # of the version that is read
        self._held_version = -1

    @classmethod
    def create(cls, storage: Storage, dim: int) -> Table:
        """An empty table that replaces any existing one."""
        try:
            with _writing(storage):
                made = storage.connect().create_table(NAME, schema=schema(dim), mode="overwrite")
        except DATABASE_ERRORS as error:
            if storage.folder is not None:
                raise
            raise storage.unreachable(error) from error
        return cls(made, storage)

    @classmethod
    def open(cls, storage: Storage) -> Table:
        """The existing table; raises LanceDB's errors if it is missing or cannot be read."""
        table = cls(storage.connect().open_table(NAME), storage)
        table.inner.count_rows()
        return table

    def __len__(self) -> int:
        return int(self.inner.count_rows())

    @property
    def version(self) -> int:
        """The version of the table that is read; each commit makes the next."""
        return int(self.inner.version)

    def follow(self) -> None:
        """Moves on to the newest version."""
        with self._readable():
            self.inner.checkout_latest()

    # --- reading ---

    def batches(self, names: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """Some columns of all rows, a batch at a time."""
        with self._readable():
            yield from self.inner.search().select(list(names)).to_batches()

    def rows(self, names: Sequence[str]) -> pa.Table:
        """Some columns of all rows."""
        with self._readable():
            return self.inner.search().select(list(names)).to_arrow()

    def sources(self) -> dict[str, int]:
        """Source -> how many rows came from it."""
        counts: Counter[str] = Counter()
        for batch in self.batches(["source"]):
            counts.update(batch.column("source").to_pylist())
        return dict(counts)

    def count(self, where: str) -> int:
        """How many rows a condition keeps."""
        try:
            return int(self.inner.count_rows(where))
        except DATABASE_ERRORS as error:
            raise _bad_where(where, error) from error

    @property
    def fits(self) -> bool:
        """Whether the vectors are few enough to stay in memory."""
        return 4 * self.dim * len(self) <= HELD_BYTES

    def held_blocks(self) -> Iterable[Block]:
        """`blocks` of all rows, from memory where they fit: they are read once for each version."""
        if not self.fits:
            return self.blocks()
        if self._held is None or self._held_version != self.version:
            self._held = None  # first, so that the old and the new are not there together
            self._held_version, self._held = self.version, list(self.blocks())
        return self._held

    def blocks(self, where: str | None = None) -> Iterator[Block]:
        """Vectors and row numbers of the rows that `where` keeps, about BLOCK_BYTES at a time."""
        # Row numbers hold until the table moves on.
        query = self.inner.search().select(["vector"]).with_row_id(True)
        if where is not None:
            query = query.where(where)
        least = max(1, BLOCK_BYTES // (4 * self.dim))
        vectors: list[np.ndarray] = []
        numbers: list[np.ndarray] = []
        with self._readable():
            for batch in query.to_batches():
                vectors.append(_matrix(batch.column("vector"), self.dim))
                numbers.append(batch.column("_rowid").to_numpy().astype(np.int64))
                if sum(map(len, numbers)) >= least:
                    yield np.concatenate(vectors), np.concatenate(numbers)
                    vectors.clear()
                    numbers.clear()
        if numbers:
            yield np.concatenate(vectors), np.concatenate(numbers)

    def take(self, numbers: Int[np.ndarray, " n"], names: Sequence[str]) -> dict[int, dict]:
        """Row number -> its values in some columns."""
        ids = np.unique(numbers)
        if not len(ids):
            return {}
        with self._readable():
            rows = self.inner.take_row_ids(ids.tolist()).select(list(names)).with_row_id()
            return {row.pop("_rowid"): row for row in rows.to_arrow().to_pylist()}

    def draw(
        self, count: int, rng: np.random.Generator
    ) -> tuple[Float[np.ndarray, "n d"], Int[np.ndarray, " n"], list[str]]:
        """Vectors, row numbers and captions of rows drawn without replacement, in random order."""
        offsets = np.sort(rng.choice(len(self), count, replace=False))
        with self._readable():
            query = self.inner.take_offsets(offsets.tolist()).select(["vector", "caption"])
            rows = query.with_row_id().to_arrow()
        order = rng.permutation(count)
        vectors = _matrix(rows.column("vector").combine_chunks(), self.dim)
        captions = rows.column("caption").to_pylist()
        numbers = rows.column("_rowid").to_numpy().astype(np.int64)
        return vectors[order], numbers[order], [captions[i] for i in order]

    def nearest(
        self,
        queries: Float[np.ndarray, "n d"],
        k: int,
        effort: Effort,
        where: str | None = None,
        names: Sequence[str] = (),
    ) -> list[pa.Table]:
        """The nearest rows of each query: `_distance` (1 - cosine), `_rowid` and `names`."""
        # Rows that the approximate index does not know are compared too.
        nearest: list[pa.Table] = []
        for start in range(0, len(queries), QUERIES_AT_ONCE):
            part = queries[start : start + QUERIES_AT_ONCE]
            search = self.inner.search(part[0] if len(part) == 1 else list(part))
            search = search.distance_type("cosine").limit(k).nprobes(effort.nprobes)
            search = search.refine_factor(effort.refine_factor(k)).with_row_id(True)
            search = search.select([*names, "_distance"])
            if where is not None:
                # The partitions of a usual search may hold fewer than k rows that are kept: 0 lets
                # it go on through the others until there are k.
                search = search.where(where, prefilter=True).maximum_nprobes(0)
            with self._readable(where):
                rows = search.to_arrow().sort_by("_distance")
            if len(part) == 1:
                nearest.append(rows)
                continue
            asker = rows.column("query_index").to_numpy()
            nearest += [rows.take(np.flatnonzero(asker == i)) for i in range(len(part))]
        return nearest

    # --- writing ---

    @contextmanager
    def writer(self) -> Iterator[Writer]:
        """Commits rows in chunks, and the rest at the end, also after an error."""
        writer = Writer(self.inner, self.storage)
        try:
            yield writer
        finally:
            writer.commit()

    def delete(self, paths: Sequence[str]) -> None:
        """Removes the rows of some paths."""
        for start in range(0, len(paths), PATHS_AT_ONCE):
            with _writing(self.storage):
                self.inner.delete(_is_in("path", paths[start : start + PATHS_AT_ONCE]))

    def rename_sources(self, names: Sequence[str], name: str) -> None:
        """Gives the rows of some sources to the source `name`."""
        if names:
            with _writing(self.storage):
                self.inner.update(where=_is_in("source", names), values={"source": name})

    def delete_sources(self, names: Sequence[str]) -> None:
        """Removes the rows of some sources."""
        with _writing(self.storage):
            self.inner.delete(_is_in("source", names))

    def sweep(self) -> None:
        """Deletes the unfinished files of a killed writer; the caller holds the lock."""
        if self.storage.folder is not None:
            for left in (self.storage.folder / FILES).glob("**/.tmp*"):
                left.unlink(missing_ok=True)

    def tidy(self, changed: int) -> None:
        """Optimises the table where that pays.

        Args:
            changed: rows that were written or removed since the last time.
        """
        small = self.inner.stats()["fragment_stats"]["num_small_fragments"]
        if (
            small > SMALL_FILES
            or changed >= MANY_ROWS
            or self.unindexed > FOLD_IN
            or self._has_old_versions
        ):
            self.optimise()

    @property
    def _has_old_versions(self) -> bool:
        """Whether there are many versions and the oldest are unused: compacted data is then stored
        twice."""
        with self._readable():
            versions = self.inner.list_versions()
        age = datetime.now() - versions[0]["timestamp"]  # LanceDB gives local times
        return len(versions) > SMALL_FILES and age > KEEP_VERSIONS

    def optimise(self) -> None:
        """Compacts files, adds new rows to the approximate index and drops old versions."""
        try:
            # Of a local table this is the only writer: what is in no version is a killed one's.
            self.inner.optimize(
                cleanup_older_than=KEEP_VERSIONS,
                delete_unverified=self.storage.folder is not None,
            )
        except RuntimeError as error:  # somebody else has written meanwhile: nothing is lost
            note(f"{self.storage}: clean-up postponed ({_reason(error)})")

    # --- the approximate index ---

    def train(self, plan: Plan) -> None:
        """Builds the approximate index and replaces any existing one."""
        with _writing(self.storage):
            self.inner.create_index("vector", config=plan.as_config(), replace=True)

    @property
    def has_ann(self) -> bool:
        """Whether there is an approximate index."""
        return self._ann_name is not None

    @property
    def unindexed(self) -> int:
        """Rows that are not in the approximate index yet; 0 if there is none."""
        name = self._ann_name
        return 0 if name is None else int(self.inner.index_stats(name).num_unindexed_rows)

    @property
    def parts(self) -> int:
        """How many parts the approximate index has: one, and one for each time it was added to."""
        name = self._ann_name
        return 0 if name is None else int(self.inner.index_stats(name).num_indices or 1)

    @property
    def kind(self) -> str:
        """LanceDB's name for the kind of the approximate index."""
        return str(self.inner.index_stats(self._ann_name).index_type)

    @property
    def _ann_name(self) -> str | None:
        names = [i.name for i in self.inner.list_indices() if list(i.columns) == ["vector"]]
        return names[0] if names else None

    @contextmanager
    def _readable(self, where: str | None = None) -> Iterator[None]:
        try:
            yield
        except DATABASE_ERRORS as error:
            if isinstance(error, UsageError):
                raise
            raise (_bad_where(where, error) if where else damaged(self.storage, error)) from error


class Writer:
    """Gathers rows and commits them in chunks. A row replaces that of its path in the same commit:
    a reader sees the old one or the new one. On object storage, where no lock keeps others away,
    two commits at the same moment can still both add one image."""

    def __init__(self, inner: Any, storage: Storage) -> None:
        self._inner, self._storage = inner, storage
        self._waiting: list[pa.Table] = []
        self._since = time.monotonic()

    def add(self, rows: pa.Table) -> None:
        """Takes some rows, and commits if enough have come or enough time has passed."""
        self._waiting.append(_in_one_piece(rows))
        full = sum(len(part) for part in self._waiting) >= COMMIT_ROWS
        if full or time.monotonic() - self._since >= COMMIT_SECONDS:
            self.commit()

    def commit(self) -> None:
        """Writes the pending rows."""
        import pyarrow as pa

        waiting, self._waiting = self._waiting, []
        self._since = time.monotonic()
        rows = pa.concat_tables(waiting) if waiting else None
        if rows is None or not len(rows):
            return
        with _writing(self._storage):
            # 0.2 s at a million rows; a ViT-B/32 takes a minute for as many images on two cores.
            self._inner.checkout_latest()  # what another writer has committed is replaced
            merge = self._inner.merge_insert("path")
            merge.when_matched_update_all().when_not_matched_insert_all().execute(rows)


@contextmanager
def _writing(storage: Storage) -> Iterator[None]:
    """Raises a full disk as a WorkError; committed rows are kept."""
    if storage.folder is None:
        yield
        return
    try:
        with explain_full_disk(storage.folder):
            yield
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        raise WorkError(
            "the disk is full",
            got=str(storage),
            hint="free some space and run the command again; the index is intact",
        ) from error


def _is_in(column: str, values: Sequence[str]) -> str:
    quoted = ", ".join("'" + value.replace("'", "''") + "'" for value in values)
    return f"{column} IN ({quoted})"


def _in_one_piece(rows: pa.Table) -> pa.Table:
    """A copy in Arrow's own memory."""
    # Rows wait for many batches: as the small arrays of numpy that they come in they would lie
    # between the large ones that each batch frees, and no batch could use the room of the one
    # before; a gigabyte at 4,096 rows.
    import pyarrow as pa

    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, rows.schema) as stream:
        stream.write_table(rows)
    return pa.ipc.open_stream(sink.getvalue()).read_all()


def _matrix(column: Any, dim: int) -> Float[np.ndarray, "m d"]:
    return np.asarray(column.flatten(), dtype=np.float32).reshape(len(column), dim)


def _reason(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:120]


def _bad_where(where: str, error: Exception) -> UsageError:
    return UsageError(
        "--where is no condition on the index's columns",
        got=where,
        want=f"SQL over {', '.join(COLUMNS)}, such as caption LIKE '%dog%'",
        hint=f"the database says: {(str(error).splitlines() or [''])[0]}",
    )


def damaged(storage: Storage, error: Exception) -> UsageError:
    """The error for a table or an index.json that cannot be read."""
    return UsageError(
        "the index is damaged",
        got=f"{storage} ({_reason(error)})",
        want="a folder that `encoderlab index` wrote",
        hint="delete the folder and run `encoderlab index` again",
    )
