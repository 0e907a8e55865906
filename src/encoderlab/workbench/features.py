"""Fills, lists, verifies and cleans the feature store. Orchestration only."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from encoderlab.core.progress import counted
from encoderlab.core.results import Block, Result
from encoderlab.core.settings import output_folder
from encoderlab.core.skipped import (
    SkippedImages,
    as_records,
    as_text_lines,
    as_warnings,
    skipped_images,
)
from encoderlab.core.spec import takes
from encoderlab.errors import UsageError, WorkError
from encoderlab.workbench.settings import Features

if TYPE_CHECKING:
    from encoderlab.feature_store.store import FeatureTable, TableState


@dataclass(frozen=True)
class FeaturesResult(Result):
    """The content of the store after the action, and a description of the action.

    Args:
        tables: all of the store; after `extract` those that it was about.
        others: how many more tables the store has.
    """

    store: str
    done: str
    tables: tuple[TableState, ...]
    left_out: SkippedImages = ()
    warnings: tuple[str, ...] = ()
    others: int = 0

    def to_json(self) -> dict[str, Any]:
        """Plain values: one entry per table."""
        tables = [
            {"table": state.key.name, **asdict(state.key)}
            | {name: getattr(state, name) for name in ("samples", "left_out", "chunks", "bytes")}
            for state in self.tables
        ]
        left_out = as_records(self.left_out)
        return {"store": self.store, "done": self.done, "tables": tables, "left_out": left_out}

    def blocks(self) -> list[Block]:
        """The tables of the store, and the action."""
        rows = [("table", "encoder", "what", "ran in", "samples", "left out", "size")]
        for state in self.tables:
            key, counts = state.key, (f"{state.samples:,}", f"{state.left_out:,}")
            rows.append((key.name, key.encoder, key.what, key.dtype, *counts, _size(state.bytes)))
        widths = [max(map(len, cells)) for cells in zip(*rows, strict=True)]
        lines = [
            "  ".join(
                cell.ljust(width) if i < 4 else cell.rjust(width)
                for i, (cell, width) in enumerate(zip(row, widths, strict=True))
            ).rstrip()
            for row in rows
        ]
        if not self.tables:
            lines = [f"the store {self.store} is empty"]
        if self.others:
            more = counted(self.others, "other table", "other tables")
            lines.append(f"{more} in the store: encoderlab features ls")
        lines += [self.done] if self.done else []
        return ["\n".join([*lines, *as_text_lines(self.left_out)])]


@takes(Features)
def run(settings: Features, out: Path | None = None) -> FeaturesResult:
    """Acts on the store in the folder `out`.

    Returns:
        The tables of the store with their sizes, and the images that were skipped.

    Raises:
        UsageError: a target that is lacking or not there, a wrong kind of feature, or a setting
            that has no effect.
        MissingError: images or a model that are not there.
        WorkError: damaged chunks were found, or features cannot be stored.
    """
    from encoderlab.core.atomic_io import check_writable
    from encoderlab.feature_store.store import FeatureStore

    store = FeatureStore(out or Path(output_folder("features")()))
    skipped: SkippedImages = ()
    done = ""
    about: set[str] | None = None  # the tables to list; None: all
    if settings.action == "extract":
        if not settings.target:
            raise UsageError(
                "extract needs images",
                got="no target",
                want="encoderlab features extract FOLDER, CSV, JSONL or SHARDS",
            )
        check_writable(store.root)
        done, skipped, about = _extract(settings, store.root)
    elif settings.action == "delete":
        done = _delete(store.tables(), settings.target)
    elif settings.action == "prune":
        damaged = sum(len(table.prune()) for table in store.tables())
        done = f"{counted(damaged, 'damaged chunk')} removed" if damaged else "nothing was damaged"
    existing = store.tables()
    chosen = [table for table in existing if about is None or table.key.name in about]
    tables = tuple(table.state(verify=settings.action == "verify") for table in chosen)
    if settings.action == "verify":
        chunks = sum(state.chunks for state in tables)
        damaged_chunks = [state.folder / name for state in tables for name in state.damaged]
        if damaged_chunks:
            several = len(damaged_chunks) > 1
            raise WorkError(
                f"{len(damaged_chunks)} of {chunks} stored chunks "
                + ("are damaged" if several else "is damaged"),
                got=f"{damaged_chunks[0]}" + (" and others" if several else ""),
                hint="remove them with encoderlab features prune; the next extraction computes "
                "their samples again",
            )
        done = f"{counted(chunks, 'chunk')} read, all as they were written"
    others = len(existing) - len(chosen)
    return FeaturesResult(str(store.root), done, tables, skipped, as_warnings(skipped), others)


def _extract(settings: Features, root: Path) -> tuple[str, SkippedImages, set[str]]:
    """A description of the action; skipped samples; the names of the requested tables."""
    from encoderlab.data.read import read_parts
    from encoderlab.encoders.vision import load_vision
    from encoderlab.feature_store import engines
    from encoderlab.feature_store.extract import extract_images

    engine = engines.engine(settings.engine, settings.workers)
    encoders = {
        name: load_vision(
            name,
            settings.device,
            settings.dtype,
            trust_remote_code=settings.trust_remote_code,
            backend=settings.backend,
            batch_size=settings.batch_size,
        )
        for name in settings.encoders
    }
    kept, computed = dict.fromkeys(encoders, 0), dict.fromkeys(encoders, 0)
    skipped: dict[tuple[str, str], None] = {}
    about: set[str] = set()
    for part in read_parts(settings.target or "", settings.img_root):
        skipped.update(dict.fromkeys(skipped_images(part.skipped)))
        for name, encoder in encoders.items():
            features = extract_images(
                encoder, part, root, what=settings.what, batch_size=settings.batch_size, by=engine
            )
            kept[name] += len(features)
            computed[name] += features.computed
            skipped.update(dict.fromkeys(skipped_images(features.skipped)))
            about.update(table.key.name for table in features.tables.values())
    lines = [f"{n}: {counted(kept[n], 'sample')}, {computed[n]:,} computed now" for n in encoders]
    return "\n".join(lines), tuple(skipped), about


def _delete(tables: list[FeatureTable], target: str | None) -> str:
    chosen = [table for table in tables if target in ("all", table.key.name, table.key.encoder)]
    if not chosen:
        known = dict.fromkeys(name for s in tables for name in (s.key.encoder, s.key.name))
        raise UsageError(
            "nothing in the store has that name" if target else "delete needs to know what",
            got=target or "no target",
            want=", ".join(["all", *known]),
            hint="see what is there: encoderlab features ls",
        )
    for table in chosen:
        table.delete()
    return f"{counted(len(chosen), 'table', 'tables')} deleted"


def _size(number: int) -> str:
    value = float(number)
    for unit in ("B", "kB", "MB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} GB"
