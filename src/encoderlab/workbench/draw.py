"""Draw pictures and pairs of the synthetic world to try the commands on. Orchestration only."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from shlex import quote

from encoderlab.core.progress import counted
from encoderlab.core.results import Block, Result
from encoderlab.core.spec import takes
from encoderlab.workbench.settings import Draw


@dataclass(frozen=True)
class DrawResult(Result):
    """Where the pictures are, and how many in each part."""

    photos: str
    pairs: str
    counts: dict[str, int]

    def blocks(self) -> list[Block]:
        """The folders drawn, and commands to try on them."""
        counts, pairs = self.counts, self.pairs
        return [
            f"{self.photos}: {counted(counts['photos'], 'picture')}, a sub-folder per kind\n"
            f"{pairs}: train.csv ({counts['train']:,}), val.csv ({counts['val']:,}), "
            f"test.csv ({counted(counts['test'], 'picture')})",
            f"try:\n  encoderlab index {quote(self.photos)} && "
            'encoderlab search "a large red star"\n'
            f"  encoderlab train --train-csv {quote(f'{pairs}/train.csv')} "
            f"--val-csv {quote(f'{pairs}/val.csv')}",
        ]


@takes(Draw)
def run(settings: Draw, out: Path | None = None) -> DrawResult:
    """Draws into `folder`, or into `out` where it is given.

    Returns:
        The two folders, and the number of pictures in each part.

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
