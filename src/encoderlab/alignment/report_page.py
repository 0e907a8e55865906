"""The report of `encoderlab all`: one self-contained HTML file, a template filled from run.json and
the figures beside it. Computes nothing.
"""

from __future__ import annotations

import base64
import shlex
from pathlib import Path

import jinja2

from encoderlab.core.atomic_io import write_text_atomic
from encoderlab.core.results import Json, renamed, score_text, short_names
from encoderlab.core.run_folder import RunRecord
from encoderlab.metrics.catalogue import METRICS

TEMPLATE = "report_page.html"
REPORT = "report.html"

# Command -> title of its section, in the order of the report.
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
REPEATED = ("coral_dashboard.png",)  # shows the panels of the other figures again
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
    environment.filters["score"] = lambda score: (
        "–" if score is None else score_text({"value": score.get("value")})
    )
    environment.filters["command"] = shlex.join
    environment.filters["number"] = lambda value: "" if value is None else f"{value:.6g}"
    result = renamed(run.result, short_names(run.result.get("fingerprints")))
    sections = [
        {
            "name": name,
            "title": title,
            "figures": [
                figure | {"data": _data_url(folder / figure["file"])}
                for figure in result["sections"][name]["figures"]
                if figure["file"] not in REPEATED
            ],
            "lines": _lines(name, result["sections"][name]),
        }
        for name, title in SECTIONS.items()
        if name in result["sections"]
    ]
    interactive = (result["sections"].get("embedding") or {}).get("page")
    map_page = folder / Path(interactive).name if interactive else None
    compared = result["sections"]["compare"]
    controls = {row["encoder"] for row in compared["rows"] if row["control_of"]}
    columns = [name for name in TABLE if any(name in row["scores"] for row in compared["rows"])]
    return environment.get_template(TEMPLATE).render(
        run=run,
        result=result,
        compare=compared,
        among=[verdict for verdict in compared["verdicts"] if verdict["b"] not in controls],
        against_controls=[verdict for verdict in compared["verdicts"] if verdict["b"] in controls],
        kinds=list(result["data"]["types"]),
        columns=columns,
        metrics=METRICS,
        sections=sections,
        method=[name for name in METRICS if not name.endswith(("_mse", "_cosine"))],
        map_page=map_page.read_text(encoding="utf-8") if map_page and map_page.is_file() else None,
    )


def _data_url(png: Path) -> str:
    return f"data:image/png;base64,{base64.b64encode(png.read_bytes()).decode()}"


def _lines(name: str, section: Json) -> list[str]:
    """The sentences of a section, above its figures."""
    if name == "multi-llm":
        return [f"{llm}: {answer}" for llm, answer in section["answers"].items()]
    if name == "layers":
        return [pair["text"] for pair in section["pairs"] if not pair["control_of"]]
    if name == "e2e":
        return [section["undefined"]] if section["undefined"] else _predicted(section)
    if name == "coral":
        divergences = ", ".join(
            f"{pair['encoder']} with {pair['llm']} {pair['coral']['spectral_divergence']:.3g}"
            for pair in section["cross_modal"]
            if pair["coral"]["spectral_divergence"] is not None
        )
        return [
            "CORAL, spectra and discriminability compare clouds of features, not pairs: they stay "
            "the same if every caption is given to another image.",
            f"Spectral divergence in nats, 0 for equal spectra: {divergences}.",
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
        verdicts = {METRICS[m].title: c["verdict"] for m, c in benchmark["metrics"].items()}
        if len(set(verdicts.values())) == 1:
            lines.append(f"{benchmark['name']}: {next(iter(verdicts.values()))}.")
        else:
            lines += [f"{metric}: {verdict}." for metric, verdict in verdicts.items()]
    return lines
