"""An index of images: embeddings in a LanceDB table, and a JSON file that names their model.

Rows are committed a chunk at a time, so an interrupted run keeps them. Knows embeddings and which
search to use; LanceDB, storage, rows and the approximate index's parameters have their own files.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float
from PIL import Image

from encoderlab.core.json_text import parsed
from encoderlab.core.progress import note
from encoderlab.core.skipped import Skipped
from encoderlab.data.decode import open_image
from encoderlab.data.sample import Sample
from encoderlab.data.unrelated import SENTENCES
from encoderlab.errors import MissingError, UsageError, is_utf8
from encoderlab.feature_store.extract import embed_batches
from encoderlab.retrieval import approximate, arrow_cache, recall
from encoderlab.retrieval.approximate import Approximate, Effort
from encoderlab.retrieval.arrow_cache import ArrowCache
from encoderlab.retrieval.exact import Block, nearest
from encoderlab.retrieval.storage import Storage
from encoderlab.retrieval.sync import (
    COMPARED,
    SyncPlan,
    as_rows,
    compare,
    is_same_source,
    path_of,
    plan_sync,
    source_name,
)
from encoderlab.retrieval.table import (
    DATABASE_ERRORS,
    FILES,
    Table,
    damaged,
)
from encoderlab.retrieval.unrelated import Unrelated

if TYPE_CHECKING:
    from encoderlab.encoders.dual import DualEncoder

ABOUT = "index.json"
UNRELATED = "unrelated_sentences"  # the key of what `measure_unrelated` kept
FORMAT = 1
# An image in numbers: an array (h, w, c) or a tensor (c, h, w).
Pixels = Any
SHOWN = ("path", "caption", "label", "width", "height")
# Comparing with this many rows takes some ten milliseconds: nothing to be gained by approximating.
EXACT_LIMIT = 100_000
# Fewer different captions say little about sentences.
LEAST_SENTENCES = 30


@dataclass(frozen=True)
class Hit:
    """One image that was found; `score` is its cosine to the query."""

    score: float
    path: str
    caption: str
    label: str
    width: int
    height: int


@dataclass(frozen=True)
class SearchResults:
    """The hits of some queries, and how they were found.

    Args:
        hits: `hits[i]` are those of query i, nearest first.
        approximate: the approximate index, where it was used; None: every row was compared.
        unindexed: rows that the approximate index does not contain; each was compared.
        nearest: vectors of the first hits, (n, d), of an exact search by `find` without a
            condition; else None.
    """

    hits: list[list[Hit]]
    approximate: Approximate | None = None
    unindexed: int = 0
    nearest: Float[np.ndarray, "n d"] | None = None


@dataclass(frozen=True)
class Changes:
    """The changes to an index.

    Args:
        added: images that had no row.
        updated: images whose content, caption or label is another now.
        removed: rows of images that are gone, or cannot be read any more.
        skipped: images that could not be stored, and why.
    """

    added: int = 0
    updated: int = 0
    unchanged: int = 0
    removed: int = 0
    skipped: list[Skipped] = field(default_factory=list)


def _exists(storage: Storage) -> bool:
    try:
        return storage.read(ABOUT) is not None
    except UnicodeDecodeError:  # `open` reports what is wrong with it
        return True


class Index:
    """Images by their embeddings, kept on disk and searched by a sentence or an image.

    Made by `create`, found again by `open`; `sync` brings it up to date with a source, `search` and
    `search_many` answer. One model's embeddings only: another model's are refused.
    """

    def __init__(
        self,
        storage: Storage,
        table: Table | None,
        about: dict[str, Any],
        copy: ArrowCache | None = None,
    ) -> None:
        self.storage, self.about = storage, about
        self._opened, self._copy = table, copy
        self._encoder: DualEncoder | None = None
        self._version = -1 if table is None else table.version
        self._advised = False
        # Row numbers hold within one version: no thread moves on while another uses them.
        self._lock = threading.RLock()

    @classmethod
    def create(cls, db: str | Path, encoder: DualEncoder) -> Index:
        """An empty index for the embeddings of `encoder`, or the existing one.

        Args:
            db: a folder, or an address in object storage such as s3://bucket/index.
            encoder: embeds images and queries.

        Returns:
            The index, with `encoder` in use.

        Raises:
            UsageError: the index that is there was made by another model, or is damaged.
            MissingError: the storage cannot be reached, or its package is not installed.
        """
        storage = Storage(db)
        if not _exists(storage):
            with storage.alone():
                if not _exists(storage):  # no other process has made it meanwhile
                    about = {
                        "format": FORMAT,
                        "model": encoder.name,
                        "fingerprint": encoder.fingerprint,
                        "dim": encoder.dim,
                        "preprocess": _preprocess_of(encoder),
                    }
                    index = cls(storage, Table.create(storage, encoder.dim), about)
                    index._write_about()
                    index.use(encoder)
                    return index
        index = cls.open(db)
        index.use(encoder)
        return index

    @classmethod
    def open(cls, db: str | Path) -> Index:
        """The index at an address.

        Args:
            db: a folder, or an address in object storage.

        Returns:
            The index, without an encoder in use.

        Raises:
            MissingError: there is none, the storage cannot be reached, or its package is not there.
            UsageError: it is damaged.
        """  # noqa: DOC501
        storage = Storage(db)
        try:
            text = storage.read(ABOUT)
            if text is None:
                raise MissingError(
                    "no index there",
                    got=str(db),
                    want="the folder of an index",
                    hint=f"make one: encoderlab index YOUR_IMAGES --db {quote(str(db))}",
                )
            about = _read_about(text)
            copy = (
                None
                if storage.folder is None
                else arrow_cache.read(storage.folder, storage.folder / FILES)
            )
            if copy is not None and copy.dim == about["dim"]:
                return cls(storage, None, about, copy)
            table = _table_of(storage, about)
        except (*DATABASE_ERRORS, KeyError, TypeError) as error:
            if isinstance(error, UsageError):
                raise
            raise damaged(storage, error) from error
        return cls(storage, table, about)

    @property
    def _table(self) -> Table:
        """LanceDB's table, opened when a search of the copy is not enough."""
        with self._lock:
            if self._opened is None:
                try:
                    self._opened = _table_of(self.storage, self.about)
                except DATABASE_ERRORS as error:
                    raise damaged(self.storage, error) from error
                self._version = self._opened.version
            return self._opened

    @property
    def folder(self) -> Path | str:
        """The location of the index: a folder, or an address in object storage."""
        return self.storage.folder or self.storage.address

    def __len__(self) -> int:
        return len(self._table) if self._copy is None else len(self._copy)

    @property
    def model(self) -> str:
        """Name of the model whose embeddings are stored."""
        return str(self.about["model"])

    def use(self, encoder: DualEncoder) -> None:
        """Embeds queries and new images with `encoder`.

        Args:
            encoder: the model that made the index.

        Raises:
            UsageError: it is not the model that made the index, or it prepares images differently.
        """
        if encoder.fingerprint != self.about["fingerprint"]:
            other = f"search with --model {quote(self.model)}, or make"
            raise UsageError(
                "the index was made by another model, so distances between the two mean nothing",
                got=f"model {encoder.name} ({encoder.fingerprint[:8]})",
                want=f"model {self.model} ({self.about['fingerprint'][:8]})",
                hint="its files have changed since: make a new index with --db NEW_FOLDER"
                if encoder.name == self.model
                else f"{other} a new index with --db NEW_FOLDER",
            )
        now = _preprocess_of(encoder)
        made_with = self.about.get("preprocess", {})  # version 0.1 did not store it
        changed = [name for name, value in made_with.items() if now.get(name) != value]
        if changed:
            raise UsageError(
                "the images of the index were prepared in another way for this model",
                got=", ".join(f"{name} {now.get(name)}" for name in changed),
                want=", ".join(f"{name} {made_with[name]}" for name in changed),
                hint="make a new index with --db NEW_FOLDER",
            )
        self._encoder = encoder

    @property
    def encoder(self) -> DualEncoder:
        """The model, loaded on first use by the name that the index remembers."""
        if self._encoder is None:
            from encoderlab.encoders.dual import load_dual

            self.use(load_dual(self.model, images_alone=True))
        assert self._encoder is not None
        return self._encoder

    # --- keeping it up to date ---

    def add(self, samples: Sequence[Sample], batch_size: int = 64) -> Changes:
        """Embeds and stores new and changed images.

        Removes nothing but the row of a file that has become unreadable.

        Args:
            samples: each with an image.
            batch_size: images per forward pass.

        Returns:
            Numbers of rows added, updated and removed, and the samples that were skipped.
        """
        return self._update(samples, batch_size, source="", remove=False)

    def sync(self, samples: Sequence[Sample], source: str | Path, batch_size: int = 64) -> Changes:
        """Makes the rows that came from `source` those of `samples`.

        New and changed images are embedded; those that are gone or unreadable are removed. Rows of
        other sources stay, unless their file was under the folder `source` and is gone.

        Args:
            samples: all samples of `source`.
            source: where the samples come from; all spellings of a folder or file are one source.
            batch_size: images per forward pass.

        Returns:
            Numbers of rows added, updated and removed, and the samples that were skipped.
        """
        return self._update(samples, batch_size, source_name(source), remove=True)

    def sources(self) -> dict[str, int]:
        """Source -> how many images came from it; "" for those that `add` stored."""
        return self._table.sources()

    def remove(self, source: str | Path) -> Changes:
        """Removes the images that came from `source`, which need not be there any more."""
        with self.storage.alone():
            self._follow()
            sources = self._table.sources()
            ours = [name for name in sources if is_same_source(name, str(source))]
            if not ours:
                known = ", ".join(f"{name} ({count:,})" for name, count in sources.items())
                raise UsageError(
                    "the index has no images of this source",
                    got=str(source),
                    want=f"one of its sources: {known}" if known else None,
                )
            removed = sum(sources[name] for name in ours)
            self._drop_unrelated()
            self._table.delete_sources(ours)
            self._table.tidy(removed)
            return Changes(removed=removed)

    def _update(
        self, samples: Sequence[Sample], batch_size: int, source: str, remove: bool
    ) -> Changes:
        plan = plan_sync(samples)
        with self.storage.alone():
            self._follow()
            self._table.sweep()
            return self._apply(plan, batch_size, source, remove)

    def _apply(self, plan: SyncPlan, batch_size: int, source: str, remove: bool) -> Changes:
        todo = compare(self._table.batches(COMPARED), plan, source, remove)
        if todo.gone or todo.new:
            self._drop_unrelated()
        self._table.delete(todo.gone)
        self._table.rename_sources(todo.renamed, source)
        stored: set[str] = set()
        skipped = list(plan.skipped)
        if todo.new:
            new = [plan.samples[i] for i in todo.new]
            with self._table.writer() as writer:
                for part, sizes in embed_batches(self.encoder, new, batch_size):
                    skipped += part.skipped
                    writer.add(as_rows(part.samples, sizes, part.vectors, plan, source))
                    stored.update(map(path_of, part.samples))
        # The embedding of what was there before says nothing about a file that is damaged now.
        unreadable = todo.replaced - stored
        self._table.delete(sorted(unreadable))
        removed = len(todo.gone) + len(unreadable)
        self._table.tidy(len(stored) + removed)
        updated = len(todo.replaced & stored)
        unchanged = len(plan.samples) - len(todo.new)
        return Changes(len(stored) - updated, updated, unchanged, removed, skipped)

    # --- the approximate index ---

    def build_ann(self, target: float = 0.95, sample: int = 200, seed: int = 0) -> Approximate:
        """Builds LanceDB's approximate index, or brings the one that is there up to date, and
        measures which share of the true nearest it finds.

        New rows are folded in. The index is trained anew where the table has doubled or halved
        since, or where the target is not reached any more. A search spends what the target took.

        Args:
            target: the recall among the first ten that a search shall have.
            sample: queries of each kind to choose that with; as many others measure the recall.
            seed: which stored images these are made of.

        Returns:
            The kind of the index, the effort of a search and its recall.

        Raises:
            UsageError: too few rows, or a target that is no share.
        """
        with self.storage.alone():
            return self._build_ann(target, sample, seed)

    def _build_ann(self, target: float, sample: int, seed: int) -> Approximate:
        self._follow()
        rows = len(self)
        if rows < approximate.LEAST_ROWS:
            raise UsageError(
                "too few images for an approximate index",
                got=rows,
                want=f"at least {approximate.LEAST_ROWS}",
                hint="leave out --ann: exact search is instant at this size",
            )
        if not 0 < target <= 1:
            raise UsageError("recall is a share", got=target, want="more than 0 and at most 1")
        known = self.approximate
        anew = known is None or approximate.must_retrain(
            known, rows, self._table.dim, self._table.parts
        )
        if known is not None and not anew:
            if self._table.unindexed:
                note(f"approximate index: {self._table.unindexed:,} new images are added to it")
                self._table.optimise()
            built = self._measured(known, target, sample, seed)
            anew = not built.reached and known.trained_rows != rows
        if anew:
            built = self._measured(self._trained(rows), target, sample, seed)
        if not built.reached:
            note(f"approximate index: the recall of {target} is not reached: {built.description()}")
        self.about["ann"] = built.to_json()
        self._write_about()
        return built

    def _trained(self, rows: int) -> Approximate:
        plan = approximate.plan(rows, self._table.dim)
        note(f"approximate index: {plan.kind}, {plan.partitions:,} partitions for {rows:,} images")
        self._table.train(plan)
        return Approximate(plan.kind, plan.partitions, trained_rows=rows)

    def _measured(self, built: Approximate, target: float, sample: int, seed: int) -> Approximate:
        """`built` with the least effort that reaches the target, and the recall that it has."""
        k, count = approximate.MEASURED_K, len(self)
        probes = self._probes(min(sample, count // 2), seed)
        truths = recall.true_nearest(probes, self._table.blocks(), k)
        # One half chooses, the other measures: the half that chose would flatter its choice.
        halves = {name: truth.halves() for name, truth in truths.items()}

        def search(queries: np.ndarray, effort: Effort) -> recall.Answers:
            return [
                (rows["_rowid"].to_numpy().astype(np.int64), 1 - rows["_distance"].to_numpy())
                for rows in self._table.nearest(queries, k, effort)
            ]

        effort = recall.choose(
            {name: first for name, (first, _) in halves.items()},
            search,
            approximate.efforts(built.partitions, count),
            target,
        )
        measured = {
            name: recall.recall(second, search(second.probe.queries, effort))
            for name, (_, second) in halves.items()
        }
        return replace(built, rows=count, effort=effort, target=target, k=k, recall=measured)

    def _probes(self, sample: int, seed: int) -> dict[str, recall.Probe]:
        """Twice `sample` queries of each kind: images, and captions if a model embeds them."""
        rng = np.random.default_rng(seed)
        vectors, rows, captions = self._table.draw(2 * sample, rng)
        probes = {"images": recall.Probe(recall.moved(vectors, rng), rows)}
        texts = dict.fromkeys(caption.split(" | ")[0] for caption in captions)
        sentences = [text for text in texts if text.strip()]
        encoder = self._encoder
        if encoder is not None and encoder.has_texts and len(sentences) >= 2 * LEAST_SENTENCES:
            sentences = sentences[: len(sentences) // 2 * 2]
            probes["sentences"] = recall.Probe(
                encoder.embed_texts(sentences), np.full(len(sentences), recall.NO_ROW)
            )
        return probes

    @property
    def has_ann(self) -> bool:
        """Whether an approximate index has been built."""
        return self._table.has_ann

    @property
    def approximate(self) -> Approximate | None:
        """The state of the approximate index, None if there is none. Its recall is None if it was
        not measured."""
        if not self._table.has_ann:
            return None
        if "ann" in self.about:
            return Approximate.from_json(self.about["ann"])
        return Approximate(self._table.kind, partitions=0, trained_rows=0)

    @property
    def unindexed(self) -> int:
        """Rows that are not in the approximate index; a search compares the query with each of
        them."""
        return self._table.unindexed

    # --- what fits nothing ---

    def measure_unrelated(self) -> None:
        """Keeps how near sentences that no image shows come to their nearest image.

        A model without a text side, or an index without images, has nothing to measure. An index of
        more than `EXACT_LIMIT` images is not measured: every image is compared.
        """
        if not (self.encoder.has_texts and 0 < len(self) <= EXACT_LIMIT):
            return
        sentences = self.encoder.embed_texts(list(SENTENCES))
        found = self._find(sentences, 1, None, exact=True, vectors_too=True)
        if found.nearest is None:  # another process has removed all images meanwhile
            return
        cosines = np.array([hits[0].score for hits in found.hits])
        measured = Unrelated.measured(len(self), sentences, cosines, found.nearest)
        with self.storage.alone():
            self._follow()
            self.about[UNRELATED] = measured.to_json()
            self._write_about()

    def _drop_unrelated(self) -> None:
        # Before images change: a process that is killed then leaves no value of other images.
        if self.about.pop(UNRELATED, None) is not None:
            self._write_about()

    @property
    def unrelated(self) -> Unrelated | None:
        """What `measure_unrelated` kept; None where images have changed since."""
        record = self.about.get(UNRELATED)
        if record is None or record["images"] != len(self):
            return None
        return Unrelated.from_json(record, self.about["dim"])

    # --- searching ---

    def search(
        self,
        query: str | Path | Image.Image | Pixels | Float[np.ndarray, " d"],
        k: int = 5,
        where: str | None = None,
        exact: bool = False,
    ) -> list[Hit]:
        """The k nearest images.

        Args:
            query: a sentence (str), an image (a Path, a PIL image, an array (h, w, c) or a tensor
                (c, h, w)), or a vector of the index's model.
            k: number of images.
            where: an SQL condition on path, caption, label, width, height, hash or source.
            exact: compare with every image, even where there is an approximate index.

        Returns:
            Hits, nearest first, each with its cosine in [-1, 1]; all where there are fewer than k.

        Raises:
            UsageError: k is less than 1, the query is blank, or `where` is no condition.
            ImageError: the query image cannot be read.
        """
        return self.find(query, k, where, exact).hits[0]

    def search_many(
        self,
        vectors: Float[np.ndarray, "n d"],
        k: int = 5,
        where: str | None = None,
        exact: bool = False,
    ) -> list[list[Hit]]:
        """The k nearest images of each of many vectors, in one pass where the search is exact.

        Args:
            vectors: of the index's model, any length.
            k: number of images for each.
            where: as of `search`.
            exact: as of `search`.

        Returns:
            Hits as of `search`; entry i answers vector i.

        Raises:
            UsageError: as `search`, or the vectors do not fit the index.
        """
        return self._find(self._unit(vectors, "n"), k, where, exact).hits

    def find(
        self,
        query: str | Path | Image.Image | Pixels | Float[np.ndarray, " d"],
        k: int = 5,
        where: str | None = None,
        exact: bool = False,
    ) -> SearchResults:
        """`search`, which also returns how the search was done."""
        check_k(k)
        no_condition = where is None  # with one, nothing compares the vectors
        return self._find(self._vector(query)[None], k, where, exact, vectors_too=no_condition)

    def _find(
        self,
        vectors: np.ndarray,
        k: int,
        where: str | None,
        exact: bool,
        *,
        vectors_too: bool = False,
    ) -> SearchResults:
        check_k(k)
        with self._lock:
            copy = self._copy if where is None and (exact or len(self) <= EXACT_LIMIT) else None
            if copy is None or not copy.is_fresh():
                copy = None
                self._follow()
            count = len(self) if where is None else self._table.count(where)
            if not count:
                return SearchResults([[] for _ in vectors])
            k = min(k, count)
            if count > EXACT_LIMIT and not exact:
                known = self.approximate
                if known is not None:
                    return self._find_approximately(vectors, k, where, known, count / len(self))
                if not self._advised:
                    note(
                        f"{count:,} images are compared one by one; `encoderlab index --ann` is "
                        "faster"
                    )
                self._advised = True
            return self._find_exactly(vectors, k, where, copy, vectors_too)

    def _find_approximately(
        self, vectors: np.ndarray, k: int, where: str | None, known: Approximate, share: float
    ) -> SearchResults:
        effort = known.effort.under(share, known.partitions)
        hits = [
            [Hit(1 - row.pop("_distance"), **_shown(row)) for row in rows.to_pylist()]
            for rows in self._table.nearest(vectors, k, effort, where, SHOWN)
        ]
        return SearchResults(hits, known, self._table.unindexed)

    def _find_exactly(
        self,
        vectors: np.ndarray,
        k: int,
        where: str | None,
        copy: ArrowCache | None,
        vectors_too: bool,
    ) -> SearchResults:
        if copy is not None:
            blocks: Iterable[Block] = copy.blocks()
        elif where is None:
            blocks = self._table.held_blocks()
        else:
            blocks = self._table.blocks(where)
        scores, rows = nearest(vectors, blocks, k)
        numbers = rows.reshape(-1)
        values = self._table.take(numbers, SHOWN) if copy is None else copy.take(numbers)
        hits = [
            [
                Hit(score, **_shown(values[row]))
                for score, row in zip(of_query, its_rows, strict=True)
            ]
            for of_query, its_rows in zip(scores.tolist(), rows.tolist(), strict=True)
        ]
        if not vectors_too:
            return SearchResults(hits)
        first = rows[:, 0]
        if copy is not None:
            return SearchResults(hits, nearest=copy.vectors[first])
        found = self._table.take(first, ["vector"])
        return SearchResults(hits, nearest=np.array([found[row]["vector"] for row in first]))

    def prepare_search(self) -> None:
        """Leaves a copy of a small table that a search in another process reads at once."""
        folder = self.storage.folder
        if folder is None:
            return
        with self._lock:
            self._follow()
            # Before the rows: what comes between makes the copy stale, never wrong.
            state = arrow_cache.state_of(folder / FILES)
            if len(self) > arrow_cache.MOST_ROWS:
                arrow_cache.remove(folder)
            else:
                arrow_cache.write(folder, self._table.rows([*SHOWN, "vector"]), state)

    def _follow(self) -> None:
        """Sees what others, or this very object, have written since the last search."""
        with self._lock:
            self._copy = None
            self._table.follow()
            newest = self._table.version
            if newest != self._version:
                self._version = newest
                text = self.storage.read(ABOUT)
                self.about = self.about if text is None else _read_about(text)

    def _vector(self, query: Any) -> np.ndarray:
        if isinstance(query, str):
            check_query(query)
            return self.encoder.embed_texts([query])[0]
        if isinstance(query, Path | Image.Image):
            query = open_image(query, min_side=self.encoder.preprocess.min_side)
            return self.encoder.embed_images(query)[0]
        if getattr(query, "ndim", 0) == 3:
            return self.encoder.embed_images(query)[0]
        return self._unit(query, "")

    def _unit(self, values: Any, count: str) -> np.ndarray:
        vectors = np.asarray(values, dtype=np.float32)
        dim = self.about["dim"]
        if vectors.ndim != 1 + len(count) or vectors.shape[-1] != dim:
            raise UsageError(
                "the vectors do not fit the index"
                if count
                else "the vector does not fit the index",
                got=vectors.shape,
                want=f"({count + ', ' if count else ''}{dim}{'' if count else ','})",
            )
        if not np.isfinite(vectors).all():
            raise UsageError("a query vector is not finite", want="numbers, no NaN and no infinity")
        return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12)

    def _write_about(self) -> None:
        self.storage.write(ABOUT, json.dumps(self.about, indent=2))


def check_k(k: int) -> None:
    """Checks the number of images asked for.

    Raises:
        UsageError: it is less than 1.
    """
    if k < 1:
        raise UsageError("k must be at least 1", got=k)


def check_query(query: str) -> None:
    """Checks a sentence.

    Raises:
        UsageError: it is blank or not UTF-8.
    """
    if not is_utf8(query):
        raise UsageError("the query is not UTF-8", got=query, want="text in UTF-8")
    if not query.strip():
        raise UsageError("the query is blank", got=query, want="a sentence")


def _preprocess_of(encoder: DualEncoder) -> dict[str, Any]:
    """How images are prepared for the encoder, as JSON reads it back: lists, no tuples."""
    record: dict[str, Any] = json.loads(json.dumps(encoder.preprocess.to_dict()))
    return record


def _table_of(storage: Storage, about: dict[str, Any]) -> Table:
    table = Table.open(storage)
    if about["dim"] != table.dim:
        raise ValueError("table and index.json do not fit together")
    return table


def _read_about(text: str) -> dict[str, Any]:
    """What index.json says; ValueError, KeyError or TypeError where that makes no sense."""
    about = parsed(text)
    if about["format"] != FORMAT:
        raise ValueError(f"index.json has format {about['format']!r}")
    for name, kind in (("model", str), ("fingerprint", str), ("dim", int)):
        if not isinstance(about[name], kind):
            raise ValueError(f"its {name} is {about[name]!r}")
    if not isinstance(about.get("preprocess", {}), dict):
        raise ValueError(f"its preprocess is {about['preprocess']!r}")
    if "ann" in about:
        Approximate.from_json(about["ann"])
    if UNRELATED in about:
        Unrelated.from_json(about[UNRELATED], about["dim"])
    return about


def _shown(row: dict[str, Any]) -> dict[str, Any]:
    return {name: row[name] for name in SHOWN}
