"""The report of `encoderlab all`: one self-contained HTML file, a thin template over run.json.

Reads the record and the figures beside it; computes nothing.
"""

from __future__ import annotations

import base64
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2

from encoderlab.core.atomic_io import write_text_atomic
from encoderlab.core.run_folder import RunRecord
from encoderlab.metrics.catalogue import METRICS

TEMPLATE = "report_page.html"
REPORT = "report.html"
Json = Mapping[str, Any]

# Which question each section answers, in the order of the report.
SECTIONS = {
    "compare": "Which encoder fits",
    "multi-llm": "Encoders × LLMs",
    "layers": "Which layers",
    "e2e": "Does a metric predict retrieval",
    "elas": "ELAS",
    "coral": "CORAL and EAS",
    "embedding": "The spaces",
    "attention": "Where they look",
    "speed": "How fast",
}
REPEATED = ("coral_dashboard.png",)  # holds what the others hold
TABLE = (
    "cka_linear", "cka_linear_biased", "cka_within", "cka_rbf", "mutual_knn", "ridge_r2",
    "ridge_recall1", "mlp_r2",
)  # fmt: skip


def write(folder: Path, run: RunRecord) -> Path:
    """Writes report.html into the run's folder, where its figures are; returns its path."""
    path = folder / REPORT
    write_text_atomic(path, page(folder, run))
    return path


def page(folder: Path, run: RunRecord) -> str:
    """The report as one HTML text."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters["score"] = _score
    environment.filters["command"] = shlex.join
    environment.filters["number"] = lambda value: "" if value is None else f"{value:.6g}"
    result = run.result
    sections = [
        {
            "name": name,
            "title": title,
            "figures": [
                _figure(folder, one)
                for one in result["sections"][name]["figures"]
                if one["file"] not in REPEATED
            ],
            "lines": _lines(name, result["sections"][name]),
        }
        for name, title in SECTIONS.items()
        if name in result["sections"]
    ]
    interactive = (result["sections"].get("embedding") or {}).get("page")
    map_page = Path(interactive) if interactive else None
    compared = result["sections"]["compare"]
    controls = {row["encoder"] for row in compared["rows"] if row["control_of"]}
    columns = [
        name for name in TABLE
        if any(name in row["scores"] for row in result["sections"]["compare"]["rows"])
    ]  # fmt: skip
    return environment.get_template(TEMPLATE).render(
        run=run,
        result=result,
        compare=compared,
        among=[one for one in compared["verdicts"] if one["b"] not in controls],
        against_controls=[one for one in compared["verdicts"] if one["b"] in controls],
        kinds=list(result["data"]["types"]),
        columns=columns,
        metrics=METRICS,
        sections=sections,
        method=[name for name in METRICS if not name.endswith(("_mse", "_cosine"))],
        map_page=(folder / map_page.name).read_text(encoding="utf-8")
        if map_page and (folder / map_page.name).is_file()
        else None,
    )


def _figure(folder: Path, one: Json) -> dict[str, str]:
    content = base64.b64encode((folder / one["file"]).read_bytes()).decode()
    return {**one, "data": f"data:image/png;base64,{content}"}


def _lines(name: str, section: Json) -> list[str]:
    """What a section says in words above its figures."""
    if name == "multi-llm":
        return [f"{llm}: {said}" for llm, said in section["answers"].items()]
    if name == "layers":
        return [one["text"] for one in section["pairs"] if not one["control_of"]]
    if name == "e2e":
        return [section["undefined"]] if section["undefined"] else _predicted(section)
    if name == "embedding":
        return []
    if name == "coral":
        return [
            "CORAL, spectra and discriminability compare clouds of features, not pairs: they stay "
            "the same if every caption is given to another image.",
            "Spectral divergence in nats, 0 for equal spectra: "
            + ", ".join(
                f"{one['encoder']} with {one['llm']} {one['coral']['spectral_divergence']:.3g}"
                for one in section["cross_modal"]
                if one["coral"]["spectral_divergence"] is not None
            )
            + ".",
        ]
    if name == "speed":
        return [f"Matrix peak of this device: {section['peak_tflops']:.2f} TFLOP/s, measured now."]
    if name == "attention":
        return [f"“{section['text']}”"]
    return []


def _predicted(section: Json) -> list[str]:
    """A line per metric; one line where no metric has an answer for the same reason."""
    lines = []
    for benchmark in section["benchmarks"]:
        verdicts = {METRICS[m].title: one["verdict"] for m, one in benchmark["metrics"].items()}
        if len(set(verdicts.values())) == 1:
            lines.append(f"{benchmark['name']}: {next(iter(verdicts.values()))}.")
        else:
            lines += [f"{metric}: {verdict}." for metric, verdict in verdicts.items()]
    return lines


def _score(score: Json | None, digits: int = 3) -> str:
    if score is None:
        return "–"
    if score.get("value") is None:
        return "undefined"
    return f"{score['value']:.{digits}f}"
