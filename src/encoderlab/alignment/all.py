"""Every alignment experiment on one set of features, and one report. Orchestration only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from encoderlab.alignment.data import AlignmentData, extract_features
from encoderlab.encoders.load_spec import LoadOptions

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


def run(
    *,
    out: Path | None = None,
    encoders: Sequence[str] = ("tiny-clip", "tiny-siglip", "tiny-dinov2"),
    llms: Sequence[str] = ("tiny-llama", "tiny-qwen"),
    controls: bool = True,
    n_samples: int = 30,
    data_types: Sequence[str] = (),
    data_root: str | None = None,
    features_dir: str | None = None,
    batch_size: int = 16,
    device: str = "auto",
    dtype: str = "auto",
    trust_remote_code: bool = False,
    quantize: str | None = None,
    device_map: str | None = None,
    svg: bool = False,
    epochs: int = 300,
    method: str = "tsne",
    batch_sizes: Sequence[int] = (1, 8, 32),
    seed: int = 0,
) -> AllResult:
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

    settings = {name: value for name, value in locals().items() if name in run.__annotations__}
    started, clock = datetime.now(UTC), time.perf_counter()
    load = LoadOptions(trust_remote_code, quantize, device_map)
    aligned = extract_features(
        encoders, llms, n_samples=n_samples, data_types=data_types, data_root=data_root,
        batch_size=batch_size, device=device, dtype=dtype, seed=seed, controls=controls,
        layers=True, store=features_dir, load=load,
    )  # fmt: skip
    image, said = _picture_of(aligned, data_root)
    sections: dict[str, Any] = {}
    not_done: dict[str, str] = {}
    tasks = {
        "compare": lambda: compare.analyse(aligned, out, epochs=epochs, svg=svg),
        "multi-llm": lambda: multi_llm.analyse(aligned, out, svg=svg),
        "coral": lambda: coral.analyse(aligned, out, svg=svg),
        "elas": lambda: elas.analyse(aligned, out, epochs=epochs, svg=svg),
        "e2e": lambda: e2e.analyse(aligned, out, epochs=epochs, svg=svg),
        "layers": lambda: layers.analyse(aligned, out, svg=svg),
        "embedding": lambda: embedding.analyse(aligned, out, method=method, svg=svg),
        "attention": lambda: attention.run(
            out=out, encoders=encoders, image=image, text=said, device=device, dtype=dtype, svg=svg,
            trust_remote_code=trust_remote_code,
        ),
        "speed": lambda: speed.run(
            out=out, encoders=encoders, batch_sizes=batch_sizes, device=device, dtype=dtype,
            svg=svg, seed=seed, trust_remote_code=trust_remote_code,
        ),
    }  # fmt: skip
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
