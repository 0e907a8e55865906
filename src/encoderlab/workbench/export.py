"""Write an encoder as ONNX files or for open_clip, and check them. Orchestration only."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from encoderlab.core.results import Block, Result, Table
from encoderlab.core.settings import output_folder
from encoderlab.core.spec import takes
from encoderlab.workbench.export_settings import Export

if TYPE_CHECKING:
    from encoderlab.encoders.export import Checked


@dataclass(frozen=True)
class ExportResult(Result):
    """The files written, and how close they are to torch."""

    model: str
    fingerprint: str
    folder: str
    files: dict[str, int]
    checks: tuple[Checked, ...]
    form: str
    opset: int | None
    seconds: float

    def blocks(self) -> list[Block]:
        """The answer as paragraphs and tables, in reading order."""
        rows = tuple((name, _size(size)) for name, size in self.files.items())
        checks = tuple(
            (check.file, check.output, f"{check.cosine:.7f}", f"{check.difference:.1e}")
            for check in self.checks
        )
        sizes = ", ".join(map(str, self.checks[0].batches))
        reader = "the folder read back" if self.opset is None else "ONNX Runtime"
        remark = f"{reader} against torch in float32, batches of {sizes}"
        form = self.form if self.opset is None else f"opset {self.opset}"
        return [
            f"{self.folder}: {self.model}, {form}, {self.seconds:.1f} s",
            Table(("file", "size"), rows),
            Table(
                ("file", "output", "smallest cosine", "largest difference"), checks, said=(remark,)
            ),
        ]


def _size(number: int) -> str:
    return f"{number / 1e6:,.1f} MB" if number >= 1e5 else f"{number / 1e3:,.1f} kB"


@takes(Export)
def run(settings: Export, out: Path | None = None) -> ExportResult:
    """Writes `model` into the folder of its name below `out`, as ONNX files or, for a CLIP, as the
    folder that open_clip loads.

    `seed` has no effect: nothing is random here.

    Returns:
        The files, their sizes, and the difference of their outputs from torch's.

    Raises:
        MissingError: the model, or a package of the extra `onnx`, is not there.
        UsageError: a family that cannot be exported, or something else in the folder's place.
        WorkError: an exported file differs from torch; it is not kept.
    """
    from encoderlab.encoders.export import export, export_open_clip

    started = time.perf_counter()
    place, trusted = out or Path(output_folder("export")()), settings.trust_remote_code
    is_onnx = settings.form == "onnx"
    if is_onnx:
        exported = export(
            settings.model,
            place,
            text=settings.text,
            opset=settings.opset,
            batch_sizes=settings.batch_sizes,
            trust_remote_code=trusted,
        )
    else:
        exported = export_open_clip(settings.model, place, trust_remote_code=trusted)
    return ExportResult(
        settings.model,
        exported.fingerprint,
        str(exported.folder),
        exported.files,
        exported.checks,
        settings.form,
        settings.opset if is_onnx else None,
        time.perf_counter() - started,
    )
