"""Draw pictures and pairs of the synthetic world to try the commands on. Orchestration only."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from typing import Any

from encoderlab.core.progress import counted
from encoderlab.core.spec import takes
from encoderlab.workbench.settings import Draw


@dataclass(frozen=True)
class DrawResult:
    """Where the pictures are, and how many in each part."""

    photos: str
    pairs: str
    counts: dict[str, int]

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return dict(vars(self))

    def to_text(self) -> str:
        """What was drawn, and what to do with it."""
        of = self.counts
        pairs = self.pairs
        return "\n".join(
            (
                f"{self.photos}: {counted(of['photos'], 'picture')}, a sub-folder per kind",
                f"{pairs}: train.csv ({of['train']:,}), val.csv ({of['val']:,}), "
                f"test.csv ({counted(of['test'], 'picture')})",
                "",
                "try:",
                f"  encoderlab index {quote(self.photos)} && "
                'encoderlab search "a large red circle"',
                f"  encoderlab train --train-csv {quote(f'{pairs}/train.csv')} "
                f"--val-csv {quote(f'{pairs}/val.csv')}",
            )
        )


@takes(Draw)
def run(settings: Draw, out: Path | None = None) -> DrawResult:
    """Draws into `folder`, or into `out` where it is given.

    Raises:
        UsageError: what `encoderlab.data.synthetic.example.write_example` refuses.
    """
    from encoderlab.data.synthetic.example import write_example

    made = write_example(
        out or settings.folder,
        photos=settings.photos,
        pairs=settings.pairs,
        languages=settings.languages,
        size=settings.size,
        seed=settings.seed,
    )
    return DrawResult(str(made.photos), str(made.pairs), made.counts)
