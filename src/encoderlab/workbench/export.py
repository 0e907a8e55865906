"""Write an encoder as ONNX files and check them. Orchestration only."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from encoderlab.core.results import Block, Table, as_text
from encoderlab.core.settings import output_folder
from encoderlab.core.spec import takes
from encoderlab.workbench.export_settings import Export

if TYPE_CHECKING:
    from encoderlab.encoders.export import Checked


@dataclass(frozen=True)
class ExportResult:
    """What was written, and how near it is to torch."""

    model: str
    fingerprint: str
    folder: str
    files: dict[str, int]
    checks: tuple[Checked, ...]
    opset: int
    seconds: float
    warnings: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Plain values for run.json."""
        record = {name: value for name, value in vars(self).items() if name != "warnings"}
        record["checks"] = [asdict(one) for one in self.checks]
        return record

    def blocks(self) -> list[Block]:
        """The answer as paragraphs and tables, in reading order."""
        rows = tuple((name, _size(size)) for name, size in self.files.items())
        checks = tuple(
            (one.file, one.output, f"{one.cosine:.7f}", f"{one.difference:.1e}")
            for one in self.checks
        )
        sizes = ", ".join(map(str, self.checks[0].batches))
        said = (f"ONNX Runtime against torch in float32, batches of {sizes}",)
        return [
            f"{self.folder}: {self.model}, opset {self.opset}, {self.seconds:.1f} s",
            Table(("file", "size"), rows),
            Table(("file", "output", "smallest cosine", "largest difference"), checks, said=said),
        ]

    def to_text(self) -> str:
        """What the terminal shows."""
        return as_text(self.blocks())


def _size(number: int) -> str:
    return f"{number / 1e6:,.1f} MB" if number >= 1e5 else f"{number / 1e3:,.1f} kB"


@takes(Export)
def run(settings: Export, out: Path | None = None) -> ExportResult:
    """Writes `model` into the folder of its name below `out`.

    `seed` is taken for the sake of the common face: nothing is random here.

    Raises:
        MissingError: the model, or a package of the extra `onnx`, is not there.
        UsageError: a family that cannot be exported, or something else in the folder's place.
        WorkError: a file does not give what torch gives; nothing is kept of it.
    """
    from encoderlab.encoders.export import export

    started = time.perf_counter()
    found = export(
        settings.model,
        out or Path(output_folder("export")()),
        text=settings.text,
        opset=settings.opset,
        batch_sizes=settings.batch_sizes,
        trust_remote_code=settings.trust_remote_code,
    )
    seconds = time.perf_counter() - started
    return ExportResult(
        settings.model,
        found.fingerprint,
        str(found.folder),
        found.files,
        found.checks,
        settings.opset,
        seconds,
    )
