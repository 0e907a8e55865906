"""The store of features: fill it, list it, verify it, tidy it. Orchestration only."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from encoderlab.core.progress import counted
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
class FeaturesResult:
    """What is in the store after the action, and what the action did, in words.

    Args:
        shelves: all of the store; after `extract` those that it was about.
        others: how many more shelves the store has.
    """

    store: str
    done: str
    shelves: tuple[TableState, ...]
    left_out: SkippedImages = ()
    warnings: tuple[str, ...] = ()
    others: int = 0

    def to_json(self) -> dict[str, Any]:
        """Plain values: one entry per shelf."""
        shelves = [
            {
                "shelf": one.key.name,
                **asdict(one.key),
                "samples": one.samples,
                "left_out": one.left_out,
                "chunks": one.chunks,
                "bytes": one.bytes,
            }
            for one in self.shelves
        ]
        return {
            "store": self.store,
            "done": self.done,
            "shelves": shelves,
            "left_out": as_records(self.left_out),
        }

    def to_text(self) -> str:
        """A table of the shelves."""
        rows = [("shelf", "encoder", "what", "ran in", "samples", "left out", "size")]
        for one in self.shelves:
            rows.append(
                (
                    one.key.name, one.key.encoder, one.key.what, one.key.dtype,
                    f"{one.samples:,}", f"{one.left_out:,}", _size(one.bytes),
                )
            )  # fmt: skip
        widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
        lines = []
        for row in rows:
            cells = [
                cell.ljust(width) if i < 4 else cell.rjust(width)
                for i, (cell, width) in enumerate(zip(row, widths, strict=True))
            ]
            lines.append("  ".join(cells).rstrip())
        if not self.shelves:
            lines = [f"the store {self.store} is empty"]
        if self.others:
            more = counted(self.others, "other shelf", "other shelves")
            lines.append(f"{more} in the store: encoderlab features ls")
        return "\n".join(
            [*lines, *([self.done] if self.done else []), *as_text_lines(self.left_out)]
        )


@takes(Features)
def run(settings: Features, out: Path | None = None) -> FeaturesResult:
    """Acts on the store in the folder `out`.

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
    about: set[str] | None = None  # the shelves to speak of; all where None
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
        done = _delete(store.shelves(), settings.target)
    elif settings.action == "prune":
        damaged = sum(len(shelf.prune()) for shelf in store.shelves())
        done = f"{counted(damaged, 'damaged chunk')} removed" if damaged else "nothing was damaged"
    there = store.shelves()
    chosen = [shelf for shelf in there if about is None or shelf.key.name in about]
    shelves = tuple(shelf.state(verify=settings.action == "verify") for shelf in chosen)
    if settings.action == "verify":
        damaged = sum(len(one.damaged) for one in shelves)
        if damaged:
            worst = next(one for one in shelves if one.damaged)
            raise WorkError(
                f"{damaged} of {sum(one.chunks for one in shelves)} stored chunks "
                + ("is damaged" if damaged == 1 else "are damaged"),
                got=f"{worst.folder / worst.damaged[0]}" + (" and others" if damaged > 1 else ""),
                hint="remove them with encoderlab features prune; the next extraction computes "
                "their samples again",
            )
        chunks = counted(sum(one.chunks for one in shelves), "chunk")
        done = f"{chunks} read, all as they were written"
    others = len(there) - len(chosen)
    return FeaturesResult(str(store.root), done, shelves, skipped, as_warnings(skipped), others)


def _extract(settings: Features, root: Path) -> tuple[str, SkippedImages, set[str]]:
    """What was done, in words; what was left out; the names of the shelves that were asked for."""
    from encoderlab.data.read import read_parts
    from encoderlab.encoders.vision import load_vision
    from encoderlab.feature_store import engines
    from encoderlab.feature_store.extract import extract_images

    encoders = settings.encoders
    by = engines.engine(settings.engine, settings.workers)
    kept, computed = dict.fromkeys(encoders, 0), dict.fromkeys(encoders, 0)
    skipped: dict[tuple[str, str], None] = {}
    about: set[str] = set()
    loaded = {
        name: load_vision(
            name,
            settings.device,
            settings.dtype,
            trust_remote_code=settings.trust_remote_code,
            backend=settings.backend,
            batch_size=settings.batch_size,
        )
        for name in encoders
    }
    for part in read_parts(settings.target or "", settings.img_root):
        skipped.update(dict.fromkeys(skipped_images(part.skipped)))
        for name, encoder in loaded.items():
            found = extract_images(
                encoder, part, root, what=settings.what, batch_size=settings.batch_size, by=by
            )
            kept[name] += len(found)
            computed[name] += found.computed
            skipped.update(dict.fromkeys(skipped_images(found.skipped)))
            about.update(shelf.key.name for shelf in found.shelves.values())
    said = [
        f"{name}: {counted(kept[name], 'sample')}, {computed[name]:,} computed now"
        for name in loaded
    ]
    return "\n".join(said), tuple(skipped), about


def _delete(shelves: list[FeatureTable], target: str | None) -> str:
    chosen = [shelf for shelf in shelves if target in ("all", shelf.key.name, shelf.key.encoder)]
    if not chosen:
        known = dict.fromkeys(name for s in shelves for name in (s.key.encoder, s.key.name))
        raise UsageError(
            "nothing in the store has that name" if target else "delete needs to know what",
            got=target or "no target",
            want=", ".join(["all", *known]),
            hint="see what is there: encoderlab features ls",
        )
    for shelf in chosen:
        shelf.delete()
    return f"{counted(len(chosen), 'shelf', 'shelves')} deleted"


def _size(number: int) -> str:
    value = float(number)
    for unit in ("B", "kB", "MB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} GB"
