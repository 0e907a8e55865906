"""Draw the figures of a run again from its record, such as at the size of a printed page."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from encoderlab.alignment.settings import Figures
from encoderlab.core import run_folder
from encoderlab.core.results import Result
from encoderlab.core.spec import takes
from encoderlab.errors import UsageError

if TYPE_CHECKING:
    from encoderlab.plots.style import FigureRecord

Draw = Callable[[Mapping[str, Any], Path], list["FigureRecord"]]


@dataclass(frozen=True)
class FiguresResult(Result):
    """Where the figures are, each with its caption."""

    folder: str
    figures: tuple[dict[str, str], ...]
    warnings: tuple[str, ...] = field(default=(), metadata={"json": False})

    def blocks(self) -> list[str]:
        """The files, each with its caption."""
        lines = [f"{figure['file']}: {figure['caption']}" for figure in self.figures]
        return ["\n".join([f"{len(self.figures)} figures in {self.folder}", *lines])]


@takes(Figures)
def run(settings: Figures, out: Path | None = None) -> FiguresResult:
    """Draws the figures of a run again.

    Returns:
        The folder, and file and caption of each figure.

    Raises:
        MissingError: there is no run in the folder.
        UsageError: an unknown style, or a run whose figures need more than its record.
    """
    from encoderlab.plots.style import save

    if settings.style not in ("paper", "screen"):
        raise UsageError("unknown style", got=settings.style, want="paper or screen")
    folder = Path(settings.run)
    record = run_folder.read(folder)
    sections = record.result.get("sections", {}) if record.command == "all" else {}
    parts = sections or {record.command: record.result}
    known = _known(with_dashboard=not sections)
    drawn = [
        figure
        for name, result in parts.items()
        if name in known
        for figure in known[name](result, folder)
    ]
    if not drawn:
        raise UsageError(
            "the figures of this command cannot be drawn from its record",
            got=record.command,
            want="a run of " + ", ".join([*known, "all"]),
        )
    out = out or folder / "figures"
    return FiguresResult(str(out), save(drawn, out, paper=settings.style == "paper"))


def _known(with_dashboard: bool) -> dict[str, Draw]:
    from encoderlab.alignment.plots import compare, complement, coral, speed, validate

    def alone(draw: Callable[[Mapping[str, Any]], list[FigureRecord]]) -> Draw:
        return lambda result, folder: draw(result)

    names = ("compare", "multi-llm", "elas", "e2e", "layers")
    return {
        **{name: alone(getattr(compare, name.replace("-", "_"))) for name in names},
        "speed": alone(speed.speed),
        "complement": alone(complement.complement),
        "validate": alone(validate.validate),
        "coral": lambda result, folder: coral.coral(
            result, _arrays_of_coral(folder), with_dashboard
        ),
    }


def _arrays_of_coral(folder: Path) -> dict[str, Any]:
    """Spectra and covariances, which are stored in the files next to the figures."""
    import numpy as np

    arrays: dict[str, Any] = {}
    with np.load(folder / "eigenvalue_spectrum.npz", allow_pickle=False) as spectra:
        arrays |= {f"spectrum|{name}": spectra[name] for name in spectra.files}
    with np.load(folder / "covariance_heatmaps.npz", allow_pickle=False) as shown:
        pairs = {name.rpartition("|")[0] for name in shown.files}
        for pair in pairs:
            sides = [shown[f"{pair}|{side}"] for side in ("vision", "text")]
            arrays[f"covariance|{pair}"] = np.stack(sides)
    return arrays
