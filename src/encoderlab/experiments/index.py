"""Bring an index of images up to date with a folder, CSV or JSONL. Orchestration only."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from encoderlab.data import read_samples
from encoderlab.errors import UsageError
from encoderlab.experiments.left_out import as_records, as_warnings, left_out
from encoderlab.experiments.tables import Block, Table, as_text
from encoderlab.settings import search as settings
from encoderlab.settings.setting import check_effect

if TYPE_CHECKING:
    from encoderlab.search.approximate import Approximate

SHOWN = 10


@dataclass(frozen=True)
class IndexResult:
    """What changed, and how many images the index has now."""

    db: str
    model: str
    fingerprint: str
    device: str
    dtype: str
    source: str
    added: int
    unchanged: int
    removed: int
    total: int
    ann: bool
    seconds: float
    approximate: Approximate | None = None
    unindexed: int = 0
    exact_up_to: int = 0
    skipped: tuple[tuple[str, str], ...] = ()
    warnings: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Plain values for run.json."""
        record = dict(vars(self))
        record["skipped"] = as_records(self.skipped)
        record["approximate"] = self.approximate.to_json() if self.approximate else None
        record.pop("warnings")
        return record

    def blocks(self) -> list[Block]:
        """The answer as paragraphs and tables, in reading order."""
        blocks: list[Block] = [
            f"{self.db}: {self.total:,} images ({self.model})\n"
            f"{self.added:,} added, {self.unchanged:,} unchanged, {self.removed:,} removed, "
            f"{len(self.skipped):,} skipped, {self.seconds:.1f} s"
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
            f"approximate index ({built.kind}): {built.said()}",
            f"a search reads {effort.nprobes:,} of {built.partitions:,} partitions and compares "
            f"{effort.candidates:,} candidates exactly",
        ]
        if self.unindexed:
            lines.append(
                f"{self.unindexed:,} images are new to it: a search compares with each of them too"
            )
        if self.total <= self.exact_up_to:
            lines.append(
                f"not used yet: up to {self.exact_up_to:,} images every search is exact anyway"
            )
        return "\n".join(lines)

    def to_text(self) -> str:
        """What the terminal shows: what changed, and what to do next."""
        following = f'next: encoderlab search "what you look for" --db {self.db}'
        return as_text([*self.blocks(), following])


def run(
    *,
    out: Path | None = None,
    source: str = "data/images",
    db: str = "outputs/index",
    model: str = "tiny-clip",
    img_root: str | None = None,
    ann: bool = False,
    recall: float = 0.95,
    batch_size: int = 64,
    device: str = "auto",
    dtype: str = "auto",
    backend: str = "torch",
    seed: int = 0,
) -> IndexResult:
    """Embeds the images of `source` into the index at `db`: only what is new or changed; rows of
    images that are gone from `source` are removed.

    Raises:
        MissingError: the source, the model or the GPU is not there.
        UsageError: the index belongs to another model or is damaged, has too few images for an
            approximate one, or a setting has no effect.
    """
    from encoderlab.encoders.dual import load_dual
    from encoderlab.search import Index
    from encoderlab.search.index import EXACT_LIMIT
    from encoderlab.search.place import Place
    from encoderlab.whole_files import require_place

    check_effect(settings.Index(ann=ann, recall=recall))
    if ann and not 0 < recall <= 1:  # before anything is embedded for nothing
        raise UsageError("recall is a share", got=recall, want="more than 0 and at most 1")
    place = Place(db)  # a wrong address is refused before a model is loaded
    if place.folder is not None:
        require_place(place.folder)
    started = time.perf_counter()
    samples = read_samples(source, img_root)
    encoder = load_dual(model, device, dtype, backend=backend, batch_size=batch_size)
    index = Index.create(db, encoder)
    changes = index.sync(samples, str(Path(source).absolute()), batch_size)
    if ann:
        index.build_ann(recall, seed=seed)
    index.prepare_search()
    skipped = left_out([*samples.skipped, *changes.skipped])
    warnings = list(as_warnings(skipped))
    known = index.approximate
    if ann and known is not None and not known.reached:
        warnings.append(
            f"the approximate index does not reach a recall of {recall}: {known.said()}"
        )
    return IndexResult(
        db, encoder.name, encoder.fingerprint,
        str(encoder.device), encoder.ran_in, source, changes.added, changes.unchanged,
        changes.removed, len(index), index.has_ann, time.perf_counter() - started,
        known, index.unindexed, EXACT_LIMIT, skipped, tuple(warnings),
    )  # fmt: skip
