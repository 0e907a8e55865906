"""Every alignment experiment on one set of features, and one report. Orchestration only."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from encoderlab.alignment.data import AlignmentData, extract_features
from encoderlab.alignment.settings import All
from encoderlab.core.spec import takes

if TYPE_CHECKING:
    from encoderlab.core.run_folder import RunRecord


@dataclass(frozen=True)
class AllResult:
    """The result of each experiment by its command's name, and the answer in words."""

    answer: str
    sections: dict[str, Any]
    facts: dict[str, Any]
    not_done: dict[str, str]
    report: str | None = None
    warnings: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Plain values for run.json."""
        return {
            "answer": self.answer,
            "also": list(self.sections["compare"].also),
            "sections": {name: one.to_json() for name, one in self.sections.items()},
            "not_done": self.not_done,
            "report": self.report,
            **self.facts,
        }

    def to_text(self) -> str:
        """The comparison, and where the report is."""
        blocks = [self.sections["compare"].to_text()]
        blocks += [f"{name}: not done, {reason}" for name, reason in self.not_done.items()]
        if self.report:
            blocks.append(f"report: {self.report}")
        return "\n\n".join(blocks)

    def write_report(self, folder: Path, run: RunRecord) -> None:
        """Writes report.html from what the run's record holds."""
        from encoderlab.alignment import report_page

        report_page.write(folder, run)


@takes(All)
def run(settings: All, out: Path | None = None) -> AllResult:
    """Runs compare, multi-llm, coral, elas, e2e, layers, embedding, attention and speed; writes
    figures and report.html to `out` if it is given.

    Raises:
        MissingError: data or a model is not there.
        UsageError: too few samples, a model twice, or features that are not finite.
    """
    import time

    from encoderlab.alignment import (
        attention,
        compare,
        coral,
        e2e,
        elas,
        embedding,
        layers,
        multi_llm,
        speed,
    )
    from encoderlab.core import run_folder
    from encoderlab.core.progress import note

    started, clock = datetime.now(UTC), time.perf_counter()
    aligned = extract_features(settings, layers=True)
    image, said = _picture_of(aligned, settings.data_root)
    sections: dict[str, Any] = {}
    not_done: dict[str, str] = {}
    names = ("encoders", "device", "dtype", "svg", "seed", "trust_remote_code")
    shared = {name: getattr(settings, name) for name in names}
    tasks = {
        "compare": lambda: compare.analyse(aligned, out, epochs=settings.epochs, svg=settings.svg),
        "multi-llm": lambda: multi_llm.analyse(aligned, out, svg=settings.svg),
        "coral": lambda: coral.analyse(aligned, out, svg=settings.svg),
        "elas": lambda: elas.analyse(aligned, out, epochs=settings.epochs, svg=settings.svg),
        "e2e": lambda: e2e.analyse(aligned, out, epochs=settings.epochs, svg=settings.svg),
        "layers": lambda: layers.analyse(aligned, out, svg=settings.svg),
        "embedding": lambda: embedding.analyse(
            aligned, out, method=settings.method, svg=settings.svg
        ),
        "attention": lambda: attention.run(out=out, image=image, text=said, **shared),
        "speed": lambda: speed.run(out=out, batch_sizes=settings.batch_sizes, **shared),
    }
    for name, task in tasks.items():
        if name == "embedding" and aligned.n < 4:
            not_done[name] = f"a map needs at least 4 samples, and there are {aligned.n}"
            continue
        note(f"{name} …")
        sections[name] = task()
    warnings = dict.fromkeys(w for one in sections.values() for w in one.warnings)
    report = None if out is None else str(out / "report.html")
    result = AllResult(
        sections["compare"].answer, sections, aligned.facts(), not_done, report, tuple(warnings)
    )
    if out is not None:
        record = run_folder.record(
            "all", (), run_folder.to_plain(settings), result.to_json(), result.warnings,
            seconds=time.perf_counter() - clock, started=started,
        )  # fmt: skip
        result.write_report(out, record)
    return result


def _picture_of(aligned: AlignmentData, data_root: str | None) -> tuple[str | None, str]:
    """An image of the data with its text, for the attention maps; the built-in one where the images
    are no files."""
    for image, text in zip(aligned.images, aligned.texts, strict=True):
        if data_root is not None and isinstance(image, Path):
            return str(image), text
    return None, ""
