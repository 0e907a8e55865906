"""One line of the table that `make bench` prints: a task, ours, theirs, the ratio and its spread.

Every script reports through here. Alone it prints its lines; under `run_all.py` they are gathered
too. A ratio is always of rates, ours to theirs: above 1 we are faster.
"""

from __future__ import annotations

import json
import os
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

ROWS_VARIABLE = "ENCODERLAB_BENCH_ROWS"


@dataclass(frozen=True)
class Row:
    """One comparison.

    Args:
        task: what is done, with its size.
        ours, theirs: what was measured, in words with a unit.
        against: what "theirs" is.
        ratios: ours to theirs, one per paired turn; empty where there is nothing to compare with.
        target: in words, as DESIGN and the docs state it; may be empty.
        met: whether it is reached; None where there is no target.
        note: what else to know, such as the smallest cosine.
    """

    task: str
    ours: str
    theirs: str = ""
    against: str = ""
    ratios: tuple[float, ...] = ()
    target: str = ""
    met: bool | None = None
    note: str = ""

    @property
    def ratio(self) -> float | None:
        """The median of the turns."""
        return statistics.median(self.ratios) if self.ratios else None

    def cells(self) -> tuple[str, ...]:
        """As the table shows it."""
        ratio = "" if self.ratio is None else f"{self.ratio:.2f}"
        if len(self.ratios) > 1:
            ratio += f" ({min(self.ratios):.2f} to {max(self.ratios):.2f})"
        target = self.target + ("" if self.met is None else f": {'met' if self.met else 'missed'}")
        theirs = f"{self.theirs} ({self.against})" if self.theirs else self.against
        return (self.task, self.ours, theirs, ratio, target, self.note)


HEADS = ("task", "ours", "theirs", "ratio of rates (spread)", "target", "note")


def report(row: Row) -> None:
    """Prints a row, and hands it to whoever gathers them."""
    cells = zip(HEADS[1:], row.cells()[1:], strict=True)
    told = [f"{head}: {cell}" for head, cell in cells if cell]
    print(f"{row.task}\n  " + "\n  ".join(told), flush=True)
    place = os.environ.get(ROWS_VARIABLE)
    if place:
        with Path(place).open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(row)) + "\n")


def gathered(place: Path) -> list[Row]:
    """What scripts have handed over."""
    if not place.is_file():
        return []
    lines = place.read_text(encoding="utf-8").splitlines()
    return [as_row(json.loads(one)) for one in lines]


def as_row(record: dict) -> Row:
    """A row from its plain values."""
    return Row(**{**record, "ratios": tuple(record["ratios"])})


def as_markdown(rows: Sequence[Row]) -> str:
    """The table for RESULTS.md."""
    lines = ["| " + " | ".join(HEADS) + " |", "|" + "---|" * len(HEADS)]
    lines += ["| " + " | ".join(c.replace("|", "/") for c in row.cells()) + " |" for row in rows]
    return "\n".join(lines)


def per_second(seconds: Sequence[float], count: int, unit: str) -> str:
    """The median rate in words.

    >>> per_second([2.0, 4.0, 8.0], 100, "images")
    '25 images/s'
    """
    rate = count / statistics.median(seconds)
    return f"{rate:,.0f} {unit}/s" if rate >= 10 else f"{rate:.2g} {unit}/s"
