"""An index of images: their embeddings in a LanceDB table, kept up to date, searched by anything.

A folder with the table and one JSON file that says which model made it. Rows are committed a chunk
at a time, so an interrupted run keeps what it has done. Knows embeddings and rows; what a model is
and how files are decoded is known elsewhere.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float
from PIL import Image

from encoderlab.data.decode import open_image
from encoderlab.data.sample import Sample
from encoderlab.errors import MissingError, UsageError
from encoderlab.features.embed import embed_batches
from encoderlab.features.pipeline import Skipped
from encoderlab.progress import note
from encoderlab.search import snapshot
from encoderlab.search.exact import top_k
from encoderlab.whole_files import write_whole

if TYPE_CHECKING:
    import pyarrow as pa

    from encoderlab.encoders.dual import DualEncoder

TABLE, ABOUT = "images", "index.json"
FORMAT = 1
COLUMNS = ("path", "caption", "label", "width", "height", "hash", "source")
# Above this many rows an exact search over all of them is no longer instant.
EXACT_LIMIT = 1_000_000
ANN_LEAST = 256  # rows that LanceDB needs to train its quantiser


@dataclass(frozen=True)
class Hit:
    """One answer: `score` is the cosine to the query."""

    score: float
    path: str
    caption: str
    label: str
    width: int
    height: int


@dataclass(frozen=True)
class Changes:
    """What bringing an index up to date did."""

    added: int = 0
    unchanged: int = 0
    removed: int = 0
    skipped: list[Skipped] = field(default_factory=list)


class Index:
    """Made by `create`, found again by `open`."""

    def __init__(
        self, folder: Path, table: Any, about: dict[str, Any], rows: pa.Table | None = None
    ) -> None:
        self.folder, self.about = folder, about
        self._opened = table
        self._encoder: DualEncoder | None = None
        self._memory: _Memory | None = None
        if rows is not None:
            self._memory = _Memory.of(rows, about["dim"])

    @property
    def _table(self) -> Any:
        """LanceDB's table, opened when a search from memory is not enough."""
        if self._opened is None:
            self._opened = _open(self.folder, self.about)
        return self._opened

    @classmethod
    def create(cls, folder: str | Path, encoder: DualEncoder) -> Index:
        """An empty index for the embeddings of `encoder`, or the one that is there already.

        Raises:
            UsageError: the index that is there was made by another model, or is damaged.
        """
        path = Path(folder)
        if (path / ABOUT).is_file():
            index = cls.open(path)
            index.use(encoder)
            return index
        path.mkdir(parents=True, exist_ok=True)
        table = _connect(path).create_table(TABLE, schema=_schema(encoder.dim), mode="overwrite")
        about = {
            "format": FORMAT,
            "model": encoder.name,
            "fingerprint": encoder.fingerprint,
            "dim": encoder.dim,
        }
        write_whole(path / ABOUT, json.dumps(about, indent=2))
        index = cls(path, table, about)
        index.use(encoder)
        return index

    @classmethod
    def open(cls, folder: str | Path) -> Index:
        """The index in `folder`.

        Raises:
            MissingError: there is none.
            UsageError: it is damaged.
        """
        path = Path(folder)
        if not (path / ABOUT).is_file():
            raise MissingError(
                "no index there",
                got=str(folder),
                want="the folder of an index",
                hint=f"make one: encoderlab index YOUR_IMAGES --db {folder}",
            )
        try:
            about = json.loads((path / ABOUT).read_text(encoding="utf-8"))
            if about["format"] != FORMAT:
                raise ValueError(f"format {about['format']}")
            rows = snapshot.read(path, path / f"{TABLE}.lance")
            if rows is not None and _width(rows.schema) == about["dim"]:
                return cls(path, None, about, rows)
        except (ValueError, KeyError, TypeError, OSError) as error:
            raise _damaged(path, error) from error
        return cls(path, _open(path, about), about)

    def __len__(self) -> int:
        if self._memory is not None:
            return len(self._memory.rows)
        return int(self._table.count_rows())

    @property
    def model(self) -> str:
        """Name of the model whose embeddings are stored."""
        return str(self.about["model"])

    def use(self, encoder: DualEncoder) -> None:
        """Embeds queries and new images with `encoder`.

        Raises:
            UsageError: it is not the model that made the index.
        """
        if encoder.fingerprint != self.about["fingerprint"]:
            raise UsageError(
                "the index was made by another model, so distances between the two mean nothing",
                got=f"model {encoder.name} ({encoder.fingerprint[:8]})",
                want=f"model {self.model} ({self.about['fingerprint'][:8]})",
                hint=f"search with --model {self.model}, or make a new index with --db NEW_FOLDER",
            )
        self._encoder = encoder

    @property
    def encoder(self) -> DualEncoder:
        """The model, loaded on first use by the name that the index remembers."""
        if self._encoder is None:
            from encoderlab.encoders.dual import load_dual

            self.use(load_dual(self.model))
        assert self._encoder is not None
        return self._encoder

    def add(self, samples: Sequence[Sample], batch_size: int = 64) -> Changes:
        """Embeds and stores what is new or has changed; nothing is removed."""
        return self._update(samples, batch_size, source="", remove=False)

    def sync(self, samples: Sequence[Sample], source: str, batch_size: int = 64) -> Changes:
        """Makes the rows that came from `source` those of `samples`: new ones are embedded, changed
        ones again, those that are gone removed. Rows from other sources stay."""
        return self._update(samples, batch_size, source, remove=True)

    def _update(
        self, samples: Sequence[Sample], batch_size: int, source: str, remove: bool
    ) -> Changes:
        there = {
            row["path"]: row for row in self._rows(["path", "hash", "caption", "label", "source"])
        }
        wanted: dict[str, Sample] = {}
        for sample in samples:
            wanted.setdefault(_path_of(sample), sample)
        with ThreadPoolExecutor() as pool:
            hashes = dict(zip(wanted, pool.map(_content_hash, wanted.values()), strict=True))
        new = [
            sample
            for path, sample in wanted.items()
            if path not in there
            or there[path]["hash"] != hashes[path]
            or there[path]["caption"] != _caption(sample)
            or there[path]["label"] != (sample.label or "")
        ]
        gone = [
            path
            for path, row in there.items()
            if remove and row["source"] == source and path not in wanted
        ]
        self._delete(gone)
        added, skipped = 0, []
        if new:
            for part in embed_batches(self.encoder, new, batch_size, "embedding images"):
                skipped += part.skipped
                paths = [_path_of(sample) for sample in part.samples]
                self._delete([path for path in paths if path in there])
                if paths:
                    self._table.add(
                        self._arrow(
                            part.samples,
                            part.sizes,
                            part.vectors,
                            [hashes[path] for path in paths],
                            source,
                        )
                    )
                added += len(paths)
        self._memory = None
        return Changes(added, len(wanted) - len(new), len(gone), skipped)

    def build_ann(self) -> None:
        """Builds LanceDB's approximate index; it pays from about a million rows.

        Raises:
            UsageError: fewer rows than its quantiser needs.
        """
        if len(self) < ANN_LEAST:
            raise UsageError(
                "too few images for an approximate index",
                got=len(self),
                want=f"at least {ANN_LEAST}",
                hint="leave out --ann: exact search is instant at this size",
            )
        from lancedb.index import IvfPq

        self._table.create_index("vector", config=IvfPq(distance_type="cosine"), replace=True)

    @property
    def has_ann(self) -> bool:
        """Whether an approximate index has been built."""
        return bool(self._table.list_indices())

    def search(
        self,
        query: str | Path | Image.Image | Float[np.ndarray, " d"],
        k: int = 5,
        where: str | None = None,
    ) -> list[Hit]:
        """The k nearest images, nearest first.

        Args:
            query: a sentence (str), an image (a Path or a PIL image), or a vector of the index's
                model.
            where: an SQL condition on path, caption, label, width, height, hash or source.

        Raises:
            UsageError: k is not from 1 to the number of images, or `where` is no condition.
            ImageError: the query image cannot be read.
        """
        self.check_k(k)
        vector = self._vector(query)
        if len(self) > EXACT_LIMIT and self.has_ann:
            return self._search_ann(vector, k, where)
        memory = self._in_memory()
        rows = np.arange(len(memory.rows))
        if where is not None:
            kept = set(self._where(where))
            paths = memory.rows.column("path").to_pylist()
            rows = np.array([i for i, path in enumerate(paths) if path in kept], int)
        if not len(rows):
            return []
        vectors = memory.vectors if where is None else memory.vectors[rows]
        scores, places = top_k(vector[None], vectors, min(k, len(rows)))
        # One by one: Arrow's `take` imports pandas.
        found = (memory.rows.slice(row, 1).to_pylist()[0] for row in rows[places[0]].tolist())
        return [_hit(row, float(score)) for score, row in zip(scores[0], found, strict=True)]

    def prepare_search(self) -> None:
        """Leaves a copy of a small table that a search in another process reads at once."""
        if len(self) <= snapshot.MOST_ROWS:
            self._memory = None
            self._in_memory()

    def check_k(self, k: int) -> None:
        """Whether k images can be asked for.

        Raises:
            UsageError: k is not from 1 to the number of images.
        """
        if k < 1:
            raise UsageError("k must be at least 1", got=k)
        if k > len(self):
            raise UsageError(
                "k is larger than the index",
                got=k,
                want=f"at most {len(self)}, the number of images in {self.folder}",
            )

    def _vector(self, query: Any) -> np.ndarray:
        if isinstance(query, str):
            if not query.strip():
                raise UsageError("the query is blank", got=query, want="a sentence")
            return self.encoder.embed_texts([query])[0]
        if isinstance(query, Path | Image.Image):
            image = open_image(query, min_side=self.encoder.image_size)
            return self.encoder.embed_images([image])[0]
        vector = np.asarray(query, dtype=np.float32)
        if vector.shape != (self.about["dim"],):
            raise UsageError(
                "the vector does not fit the index",
                got=vector.shape,
                want=f"({self.about['dim']},)",
            )
        return vector / max(float(np.linalg.norm(vector)), 1e-12)

    def _search_ann(self, vector: np.ndarray, k: int, where: str | None) -> list[Hit]:
        query = self._table.search(vector).distance_type("cosine").limit(k).refine_factor(10)
        if where is not None:
            query = query.where(where, prefilter=True)
        try:
            rows = query.to_list()
        except (ValueError, RuntimeError) as error:
            raise self._bad_where(where, error) from error
        return [_hit(row, 1 - row["_distance"]) for row in rows]

    def _where(self, where: str) -> list[str]:
        try:
            found = self._table.search().where(where).select(["path"]).to_arrow()
        except (ValueError, RuntimeError) as error:
            raise self._bad_where(where, error) from error
        return found.column("path").to_pylist()

    def _bad_where(self, where: str | None, error: Exception) -> UsageError:
        reason = str(error).splitlines()[0]
        return UsageError(
            "--where is no condition on the index's columns",
            got=where,
            want=f"SQL over {', '.join(COLUMNS)}, such as caption LIKE '%dog%'",
            hint=f"the database says: {reason}",
        )

    def _rows(self, columns: list[str]) -> list[dict[str, Any]]:
        try:
            return self._table.search().select(columns).to_arrow().to_pylist()
        except (RuntimeError, OSError) as error:
            raise _damaged(self.folder, error) from error

    def _in_memory(self) -> _Memory:
        if self._memory is None:
            if len(self) > EXACT_LIMIT:
                note(
                    f"{len(self):,} images: searching all of them exactly; "
                    "`encoderlab index --ann` makes it faster"
                )
            # Before the rows: what comes between makes the copy stale, never wrong.
            state = snapshot.state_of(self.folder / f"{TABLE}.lance")
            try:
                rows = self._table.search().select([*COLUMNS, "vector"]).to_arrow()
            except (RuntimeError, OSError) as error:
                raise _damaged(self.folder, error) from error
            snapshot.write(self.folder, rows, state)
            self._memory = _Memory.of(rows, self.about["dim"])
        return self._memory

    def _delete(self, paths: Sequence[str]) -> None:
        for start in range(0, len(paths), 500):
            quoted = ", ".join(
                "'" + path.replace("'", "''") + "'" for path in paths[start : start + 500]
            )
            self._table.delete(f"path IN ({quoted})")

    def _arrow(self, samples, sizes, vectors, hashes, source: str) -> pa.Table:
        import pyarrow as pa

        dim = self.about["dim"]
        flat = pa.array(np.ascontiguousarray(vectors, dtype=np.float32).reshape(-1))
        columns = {
            "path": [_path_of(sample) for sample in samples],
            "caption": [_caption(sample) for sample in samples],
            "label": [sample.label or "" for sample in samples],
            "width": [width for width, _ in sizes],
            "height": [height for _, height in sizes],
            "hash": list(hashes),
            "source": [source] * len(samples),
            "vector": pa.FixedSizeListArray.from_arrays(flat, dim),
        }
        return pa.table(columns, schema=_schema(dim))


@dataclass(frozen=True)
class _Memory:
    rows: pa.Table
    vectors: np.ndarray

    @classmethod
    def of(cls, table: pa.Table, dim: int) -> _Memory:
        column = table.column("vector").combine_chunks()
        # By DLPack: Arrow's own way to numpy imports pandas.
        vectors = np.from_dlpack(column.flatten()).reshape(len(table), dim)
        # Torch takes only what it may write to: better one copy here than one in every search.
        return cls(table.select(list(COLUMNS)), np.require(vectors, requirements="W"))


def _hit(row: dict[str, Any], score: float) -> Hit:
    known = {name: row[name] for name in ("path", "caption", "label", "width", "height")}
    return Hit(score=float(score), **known)


def hit_record(hit: Hit) -> dict[str, Any]:
    """Plain values of a hit."""
    return asdict(hit)


def _path_of(sample: Sample) -> str:
    return str(sample.image.absolute()) if isinstance(sample.image, Path) else sample.id


def _caption(sample: Sample) -> str:
    return " | ".join(sample.texts)


def _content_hash(sample: Sample) -> str:
    digest = hashlib.blake2b(digest_size=16)
    if isinstance(sample.image, Path):
        try:
            digest.update(sample.image.read_bytes())
        except OSError:
            return "unreadable"  # the decoder will say why
    else:
        digest.update(sample.image.tobytes())
    return digest.hexdigest()


def _connect(folder: Path) -> Any:
    # Its engine reports every table that it creates as a warning.
    os.environ.setdefault("LANCEDB_LOG", "error")
    import lancedb

    return lancedb.connect(str(folder))


def _open(path: Path, about: dict[str, Any]) -> Any:
    try:
        table = _connect(path).open_table(TABLE)
        if about["dim"] != _width(table.schema):
            raise ValueError("table and index.json do not fit together")
        table.count_rows()
    except (ValueError, KeyError, TypeError, RuntimeError, OSError) as error:
        raise _damaged(path, error) from error
    return table


def _width(schema: pa.Schema) -> int:
    return schema.field("vector").type.list_size


def _schema(dim: int) -> pa.Schema:
    import pyarrow as pa

    text = [pa.field(name, pa.string()) for name in ("path", "caption", "label")]
    size = [pa.field(name, pa.int32()) for name in ("width", "height")]
    more = [pa.field(name, pa.string()) for name in ("hash", "source")]
    return pa.schema([*text, *size, *more, pa.field("vector", pa.list_(pa.float32(), dim))])


def _damaged(folder: Path, error: Exception) -> UsageError:
    reason = str(error).splitlines()[0][:120]
    return UsageError(
        "the index is damaged",
        got=f"{folder} ({reason})",
        want="a folder that `encoderlab index` wrote",
        hint="delete the folder and run `encoderlab index` again",
    )
