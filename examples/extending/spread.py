"""`encoderlab spread`: over how many directions does an encoder spread the samples?"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from encoderlab.alignment.settings import OnSamples
from encoderlab.alignment.tables import notes
from encoderlab.core.common_settings import COMMON
from encoderlab.core.results import Block, Table, as_text
from encoderlab.core.settings import output_folder, setting
from encoderlab.core.spec import takes


@dataclass
class Spread(OnSamples):
    """Say over how many directions each encoder spreads the samples."""

    output_dir: str = setting(output_folder("spread"), "folder for results", group=COMMON)


@dataclass(frozen=True)
class SpreadResult:
    """The effective rank of each encoder's pooled vectors."""

    ranks: dict[str, float]
    widths: dict[str, int]
    facts: dict[str, Any]
    warnings: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        rows = [
            {"encoder": name, "effective_rank": rank, "width": self.widths[name]}
            for name, rank in self.ranks.items()
        ]
        return {"rows": rows, **self.facts}

    def blocks(self) -> list[Block]:
        rows = [(name, f"{rank:.1f}", str(self.widths[name])) for name, rank in self.ranks.items()]
        return [notes(self.facts), Table(("encoder", "effective rank", "width"), tuple(rows))]

    def to_text(self) -> str:
        return as_text(self.blocks())


@takes(Spread)
def run(settings: Spread, out: Path | None = None) -> SpreadResult:
    """Extracts the features and computes the effective rank of each encoder."""
    from encoderlab.alignment.data import extract_features
    from encoderlab.metrics.coral import effective_rank

    found = extract_features(settings)
    vectors = {name: one.pooled for name, one in found.vision.items()}
    return SpreadResult(
        ranks={name: effective_rank(x) for name, x in vectors.items()},
        widths={name: x.shape[1] for name, x in vectors.items()},
        facts=found.facts(),
        warnings=found.warnings(),
    )
