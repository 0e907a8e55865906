"""`encoderlab index`: brings an index up to date with a folder, CSV or JSONL of images.

Reads the source and reports; `image_index` embeds and stores.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Any

from encoderlab.core.progress import counted, note
from encoderlab.core.results import Block, Result, Table, as_text, shown
from encoderlab.core.skipped import as_records, as_warnings, skipped_images
from encoderlab.core.spec import takes
from encoderlab.data import read_samples
from encoderlab.data.remote_files import is_url
from encoderlab.data.sample import Samples
from encoderlab.errors import EncoderLabError, MissingError, NoImagesError, UsageError
from encoderlab.retrieval.settings import Index as IndexSettings

if TYPE_CHECKING:
    from encoderlab.retrieval.approximate import Approximate

SHOWN = 10


@dataclass(frozen=True)
class IndexResult(Result):
    """The changes to the index, and its state after them.

    Args:
        total: images in the index.
        ann: whether there is an approximate index.
        unindexed: images that the approximate index does not contain yet.
        exact_up_to: number of images up to which every search is exact.
        missing_sources: source -> number of images, of the sources that no longer exist.
        skipped: (id, reason) of the images that could not be stored.
        has_texts: whether the model embeds sentences too.
    """

    db: str
    model: str
    fingerprint: str
    device: str
    dtype: str
    source: str
    added: int
    updated: int
    unchanged: int
    removed: int
    total: int
    ann: bool
    seconds: float
    approximate: Approximate | None = None
    unindexed: int = 0
    exact_up_to: int = 0
    missing_sources: dict[str, int] = field(default_factory=dict)
    skipped: tuple[tuple[str, str], ...] = ()
    warnings: tuple[str, ...] = field(default=(), metadata={"json": False})
    has_texts: bool = field(default=True, metadata={"json": False})

    def to_json(self) -> dict[str, Any]:
        """The result for run.json; `skipped` is a list of ids and reasons."""
        return {**super().to_json(), "skipped": as_records(self.skipped)}

    def blocks(self) -> list[Block]:
        """The changes, the approximate index, and the first images that were skipped."""
        blocks: list[Block] = [
            f"{self.db}: {counted(self.total, 'image')} ({self.model})\n"
            f"{self.added:,} added, {self.updated:,} updated, {self.unchanged:,} unchanged, "
            f"{self.removed:,} removed, {len(self.skipped):,} skipped, {self.seconds:.1f} s"
        ]
        blocks += [
            f"{counted(count, 'image')} came from {source}, which is not there any more; to remove "
            f"them: {_removal(source, self.db)}"
            for source, count in self.missing_sources.items()
        ]
        if self.approximate is not None:
            blocks.append(self._about_ann(self.approximate))
        if self.skipped:
            hidden = len(self.skipped) - SHOWN
            more = (f"… and {hidden:,} more in run.json",) if hidden > 0 else ()
            blocks.append(Table(("skipped", "reason"), self.skipped[:SHOWN], said=more))
        return blocks

    def _about_ann(self, built: Approximate) -> str:
        effort = built.effort
        lines = [
            f"approximate index ({built.kind}): {built.description()}",
            f"a search reads {effort.nprobes:,} of {built.partitions:,} partitions and compares "
            f"{effort.candidates:,} candidates exactly",
        ]
        if self.unindexed:
            lines.append(
                f"not in it yet: {counted(self.unindexed, 'image')}; a search compares all of them"
            )
        if self.total <= self.exact_up_to:
            lines.append(
                f"not used yet: up to {self.exact_up_to:,} images every search is exact anyway"
            )
        return "\n".join(lines)

    def to_text(self) -> str:
        """The blocks, and the next command."""
        query = '"what you look for"' if self.has_texts else "--image FILE"
        next_command = f"next: encoderlab search {query} --db {quote(self.db)}"
        return as_text([*shown(self), *([next_command] if self.total else [])])


@takes(IndexSettings)
def run(settings: IndexSettings, out: Path | None = None) -> IndexResult:
    """Embeds the images of `source` into the index at `db`: only what is new or changed; rows of
    images that are gone from `source` are removed.

    Returns:
        Numbers of images added, updated, removed and skipped, and the recall of an approximate
        index.

    Raises:
        MissingError: the source, the model or the GPU is not there.
        UsageError: the index belongs to another model or is damaged, has too few images for an
            approximate one, has no images of a source to remove, or a setting has no effect.
    """
    from encoderlab.core.atomic_io import check_writable
    from encoderlab.encoders.dual import load_dual
    from encoderlab.retrieval.image_index import EXACT_LIMIT, Index
    from encoderlab.retrieval.storage import Storage

    source, db, recall = settings.source, settings.db, settings.recall
    if settings.ann and not 0 < recall <= 1:  # before anything is embedded for nothing
        raise UsageError("recall is a share", got=recall, want="more than 0 and at most 1")
    storage = Storage(db)  # a wrong address is refused before a model is loaded
    if storage.folder is not None:
        check_writable(storage.folder)
    started = time.perf_counter()
    name = source if is_url(source) else os.path.abspath(source)
    samples = Samples() if settings.remove else _samples(source, settings.img_root, name, db)
    where, has_texts = ("", ""), True
    if samples:
        encoder = load_dual(
            settings.model,
            settings.device,
            settings.dtype,
            images_alone=True,
            trust_remote_code=settings.trust_remote_code,
            backend=settings.backend,
            batch_size=settings.batch_size,
        )
        index = Index.create(db, encoder)
        where, has_texts = (str(encoder.device), encoder.ran_in), encoder.has_texts
    else:
        index = Index.open(db)
    changes = (
        index.remove(name) if settings.remove else index.sync(samples, name, settings.batch_size)
    )
    if settings.ann:
        index.build_ann(recall, seed=settings.seed)
    if samples and (changes.added or changes.updated or changes.removed or not index.unrelated):
        index.measure_unrelated()
    index.prepare_search()
    skipped = skipped_images([*samples.skipped, *changes.skipped])
    warnings = list(as_warnings(skipped))
    if not (samples or settings.remove):
        warnings.append(f"{source} has no images now: the {changes.removed:,} of it are removed")
        note(f"warning: {warnings[-1]}")
    known = index.approximate
    if settings.ann and known is not None and not known.reached:
        warnings.append(
            f"the approximate index does not reach a recall of {recall}: {known.description()}"
        )
    return IndexResult(
        db,
        index.model,
        str(index.about["fingerprint"]),
        *where,
        source,
        changes.added,
        changes.updated,
        changes.unchanged,
        changes.removed,
        len(index),
        index.has_ann,
        time.perf_counter() - started,
        known,
        index.unindexed,
        EXACT_LIMIT,
        _missing(index.sources()),
        skipped,
        tuple(warnings),
        has_texts,
    )


def _samples(source: str, img_root: str | None, name: str, db: str) -> Samples:
    """The samples of the source; none where it is empty now and the index has images of it."""
    # The error for a source that cannot be read says how to remove its images.
    from encoderlab.retrieval.image_index import Index
    from encoderlab.retrieval.sync import is_same_source

    try:
        return read_samples(source, img_root)
    except (MissingError, UsageError) as error:
        try:
            sources = Index.open(db).sources()
        except EncoderLabError:  # no index yet, or none that can be read
            raise error from None
        stored = sum(count for key, count in sources.items() if is_same_source(key, name))
        if not stored:
            raise
        if isinstance(error, NoImagesError):
            return Samples()
        raise type(error)(
            error.what,
            got=error.got,
            want=error.want,
            hint=f"{error.hint + '. ' if error.hint else ''}{counted(stored, 'image')} that came "
            f"from it stay in the index; to remove them: {_removal(source, db)}",
        ) from error


def _missing(sources: Mapping[str, int]) -> dict[str, int]:
    """The sources that are local paths and no longer exist."""
    return {
        name: count
        for name, count in sources.items()
        if os.path.isabs(name) and not set(name) & set("*?[{") and not os.path.exists(name)
    }


def _removal(source: str, db: str) -> str:
    return f"encoderlab index --remove {quote(source)} --db {quote(db)}"
