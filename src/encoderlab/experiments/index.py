"""Bring an index of images up to date with a folder, CSV or JSONL. Orchestration only."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from encoderlab.data import read_samples
from encoderlab.experiments.left_out import as_records, as_warnings, left_out
from encoderlab.experiments.tables import Block, Table, as_text

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
    skipped: tuple[tuple[str, str], ...] = ()
    warnings: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Plain values for run.json."""
        record = dict(vars(self))
        record["skipped"] = as_records(self.skipped)
        record.pop("warnings")
        return record

    def blocks(self) -> list[Block]:
        """The answer as paragraphs and tables, in reading order."""
        blocks: list[Block] = [
            f"{self.db}: {self.total:,} images ({self.model})\n"
            f"{self.added:,} added, {self.unchanged:,} unchanged, {self.removed:,} removed, "
            f"{len(self.skipped):,} skipped, {self.seconds:.1f} s"
        ]
        if self.skipped:
            hidden = len(self.skipped) - SHOWN
            more = (f"… and {hidden:,} more in run.json",) if hidden > 0 else ()
            blocks.append(Table(("skipped", "reason"), self.skipped[:SHOWN], said=more))
        return blocks

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
    batch_size: int = 64,
    device: str = "auto",
    dtype: str = "auto",
    seed: int = 0,
) -> IndexResult:
    """Embeds the images of `source` into the index at `db`: only what is new or changed; rows of
    images that are gone from `source` are removed.

    Raises:
        MissingError: the source, the model or the GPU is not there.
        UsageError: the index belongs to another model or is damaged.
    """
    from encoderlab.encoders.dual import load_dual
    from encoderlab.search import Index

    started = time.perf_counter()
    samples = read_samples(source, img_root)
    encoder = load_dual(model, device, dtype)
    index = Index.create(db, encoder)
    changes = index.sync(samples, str(Path(source).absolute()), batch_size)
    if ann:
        index.build_ann()
    index.prepare_search()
    skipped = left_out(changes.skipped)
    return IndexResult(
        db, encoder.name, encoder.fingerprint,
        *encoder.where, source, changes.added, changes.unchanged,
        changes.removed, len(index), index.has_ann, time.perf_counter() - started, skipped,
        as_warnings(skipped),
    )  # fmt: skip
