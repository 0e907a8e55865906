"""Every alignment experiment on one set of features, and one report."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from encoderlab.alignment.data import extract_features
from encoderlab.alignment.settings import All
from encoderlab.core.results import Block, Result, to_plain
from encoderlab.core.spec import takes

if TYPE_CHECKING:
    from encoderlab.core.run_folder import RunRecord


@dataclass(frozen=True)
class AllResult(Result):
    """The result of each experiment by its command's name, and the answer in words."""

    answer: str
    sections: dict[str, Any]
    facts: dict[str, Any] = field(metadata={"json": False})
    not_done: dict[str, str]
    report: str | None = None
    warnings: tuple[str, ...] = field(default=(), metadata={"json": False})

    def to_json(self) -> dict[str, Any]:
        """The fields, with the facts that all parts share at the top level."""
        also = list(self.sections["compare"].also)
        return {**super().to_json(), "also": also, **self.facts}

    def blocks(self) -> Sequence[Block]:
        """The comparison, and where the report is."""
        not_done = [f"{name}: not done, {reason}" for name, reason in self.not_done.items()]
        report = [f"report: {self.report}"] if self.report else []
        return [*self.sections["compare"].blocks(), *not_done, *report]

    def write_report(self, folder: Path, run: RunRecord) -> None:
        """Writes report.html from what the run's record holds."""
        from encoderlab.alignment import report_page

        report_page.write(folder, run)


@takes(All)
def run(settings: All, out: Path | None = None) -> AllResult:
    """Runs compare, multi-llm, coral, elas, e2e, layers, embedding, attention and speed.

    Writes figures and report.html to `out` if it is given.

    Returns:
        The result of each.

    Raises:
        MissingError: data or a model is not there.
        UsageError: too few samples, a model twice, or features that are not finite.
    """
    from encoderlab.alignment import attention, compare, coral, e2e, elas, embedding, layers
    from encoderlab.alignment import multi_llm, speed  # isort: skip
    from encoderlab.core import run_folder
    from encoderlab.core.progress import note

    started, clock = datetime.now(UTC), time.perf_counter()
    aligned = extract_features(settings, layers=True)
    # The built-in chart where the images of the data are no files.
    image, text = next(
        (
            (str(image), text)
            for image, text in zip(aligned.images, aligned.texts, strict=True)
            if settings.data_root is not None and isinstance(image, Path)
        ),
        (None, ""),
    )
    names = ("encoders", "device", "dtype", "svg", "seed", "trust_remote_code")
    shared = {name: getattr(settings, name) for name in names}
    epochs, svg = settings.epochs, settings.svg
    tasks = {
        "compare": lambda: compare.analyse(
            aligned, out, epochs=epochs if settings.projectors else None, svg=svg
        ),
        "multi-llm": lambda: multi_llm.analyse(aligned, out, svg=svg),
        # The report is the page that holds all panels together.
        "coral": lambda: coral.analyse(aligned, out, svg=svg, with_dashboard=False),
        "elas": lambda: elas.analyse(aligned, out, epochs=epochs, svg=svg),
        "e2e": lambda: e2e.analyse(
            aligned, out, epochs=epochs, layers=settings.projectors, svg=svg
        ),
        "layers": lambda: layers.analyse(aligned, out, svg=svg),
        "embedding": lambda: embedding.analyse(aligned, out, method=settings.method, svg=svg),
        "attention": lambda: attention.run(out=out, image=image, text=text, **shared),
        "speed": lambda: speed.run(out=out, batch_sizes=settings.batch_sizes, **shared),
    }
    not_done = {}
    if aligned.n < 4:
        not_done["embedding"] = f"a map needs at least 4 samples, and there are {aligned.n}"
        del tasks["embedding"]
    if not any(features.layers for features in aligned.vision.values()):
        not_done["layers"] = "no encoder gives its layers"
        del tasks["layers"]
    sections: dict[str, Any] = {}
    for name, task in tasks.items():
        note(f"{name} …")
        sections[name] = task()
    warnings = dict.fromkeys(w for section in sections.values() for w in section.warnings)
    report = None if out is None else str(out / "report.html")
    result = AllResult(
        sections["compare"].answer, sections, aligned.facts(), not_done, report, tuple(warnings)
    )
    if out is not None:
        record = run_folder.record(
            "all", (), to_plain(settings), result.to_json(), result.warnings,
            seconds=time.perf_counter() - clock, started=started,
        )  # fmt: skip
        result.write_report(out, record)
    return result
