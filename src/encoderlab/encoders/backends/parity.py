"""How far one run of an image tower is from another, and the report over all backends.

Numbers and words; runs nothing.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch.nn.functional as F
from torch import Tensor

# Vectors of images that are less alike than this are not the same encoder's.
LEAST_COSINE = 0.999
COLUMNS = (
    "backend", "dtype", "images/s", "against torch", "smallest cosine", "largest difference",
    "built in s", "left out",
)  # fmt: skip


@dataclass(frozen=True)
class Parity:
    """Two runs on the same images.

    Args:
        cosine: the smallest between the two vectors of an image; NaN where one is not finite.
        difference: the largest between two numbers of their tokens (of the vectors, where an
            encoder gives those alone).
    """

    cosine: float
    difference: float

    @classmethod
    def between(cls, first: Sequence[Tensor], second: Sequence[Tensor]) -> Parity:
        """Of the outputs of an `ImageSide`, both runs'."""
        a, b = ([one.float().cpu() for one in outputs] for outputs in (first, second))
        cosine = F.cosine_similarity(a[-1], b[-1], dim=-1).min()
        return cls(float(cosine), float((a[0] - b[0]).abs().max()))

    @property
    def kept(self) -> bool:
        """Whether the two are the same encoder; NaN is not."""
        return self.cosine >= LEAST_COSINE


@dataclass(frozen=True)
class Tried:
    """One backend in the probe.

    Args:
        dtype: the number format it ran in, or would have.
        images_per_s: at the median of the turns; None where it was left out.
        ratio: the median, over the turns, of its speed against torch's in the same turn.
        build_seconds: from the loaded weights to the first answer.
        left_out: why it cannot be chosen; None where it can.
    """

    backend: str
    dtype: str
    images_per_s: float | None = None
    ratio: float | None = None
    cosine: float | None = None
    difference: float | None = None
    build_seconds: float | None = None
    left_out: str | None = None

    def cells(self) -> tuple[str, ...]:
        """A row under `COLUMNS`."""

        def said(value: float | None, form: str) -> str:
            return "-" if value is None else format(value, form)

        return (
            self.backend, self.dtype, said(self.images_per_s, ",.1f"), said(self.ratio, ".2f"),
            said(self.cosine, ".6f"), said(self.difference, ".2g"),
            said(self.build_seconds, ".1f"), self.left_out or "",
        )  # fmt: skip


@dataclass(frozen=True)
class ParityReport:
    """All backends on the same images of one encoder, timed in turns.

    Args:
        encoder: its name.
        device: where it ran, and the processor's name.
        batch: images at once.
        rows: one per backend; cosine and difference are to torch in fp32.
        chosen: the fastest that can be chosen; torch, where that is hardly faster.
        made: when, ISO 8601.
    """

    encoder: str
    device: str
    batch: int
    rows: tuple[Tried, ...]
    chosen: str
    made: str

    def to_json(self) -> dict[str, Any]:
        """Plain values, which `from_json` reads back."""
        return {**vars(self), "rows": [dataclasses.asdict(row) for row in self.rows]}

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> ParityReport:
        """The report that `to_json` wrote."""
        return cls(**{**record, "rows": tuple(Tried(**row) for row in record["rows"])})

    def to_text(self) -> str:
        """The table, the heads underlined."""
        rows = [COLUMNS, *(row.cells() for row in self.rows)]
        widths = [max(map(len, cells)) for cells in zip(*rows, strict=True)]
        rows.insert(1, tuple("-" * width for width in widths))
        lines = [
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
            for row in rows
        ]
        return "\n".join([f"{self.encoder} on {self.device}, batches of {self.batch}", *lines])

    def sentence(self) -> str:
        """Which was chosen and why, in one line."""
        found = next(row for row in self.rows if row.backend == self.chosen)
        others = [row for row in self.rows if row.left_out is None and row is not found]
        why = "nothing else can run here"
        if found.backend != "torch":
            why = f"{found.ratio:.2f} x torch, smallest cosine {found.cosine:.5f}"
        elif others:
            said = [f"{row.backend} {row.ratio:.2f} x" for row in others if row.ratio is not None]
            why = "nothing else is faster enough: " + ", ".join(said)
        return f"backend: {self.chosen} for {self.encoder} ({why})"
