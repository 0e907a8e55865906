"""Bring an index of images up to date with a folder, CSV or JSONL. Orchestration only."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from encoderlab.data import read_samples
from encoderlab.experiments.left_out import as_records, as_warnings, left_out


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

    def to_text(self) -> str:
        """The few lines that the terminal shows."""
        lines = [
            f"{self.db}: {self.total:,} images ({self.model})",
            f"{self.added:,} added, {self.unchanged:,} unchanged, {self.removed:,} removed, "
            f"{len(self.skipped):,} skipped, {self.seconds:.1f} s",
        ]
        lines += [f"  skipped {name}: {reason}" for name, reason in self.skipped[:10]]
        if len(self.skipped) > 10:
            lines.append(f"  … and {len(self.skipped) - 10:,} more in run.json")
        lines.append(f'next: encoderlab search "what you look for" --db {self.db}')
        return "\n".join(lines)


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
    skipped = left_out(changes.skipped)
    return IndexResult(
        db, encoder.name, encoder.fingerprint,
        *encoder.where, source, changes.added, changes.unchanged,
        changes.removed, len(index), index.has_ann, time.perf_counter() - started, skipped,
        as_warnings(skipped),
    )  # fmt: skip
