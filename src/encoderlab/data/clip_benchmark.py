"""Result files of CLIP_benchmark: a JSON per model and data set, or the CSV that its `build` makes.

The format is that of https://github.com/LAION-AI/CLIP_benchmark (clip_benchmark/cli.py).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from encoderlab.core.aliases import get_model_id
from encoderlab.core.json_text import record_in
from encoderlab.data.csv_table import rows_of
from encoderlab.errors import UsageError

FIELDS = ("dataset", "model", "pretrained", "task")
WANT = f"a result file of CLIP_benchmark: {', '.join(FIELDS)} and metrics"
PROBE, ZERO_SHOT = "linear_probe", "zeroshot"
# What its own reports compare models by: top-1 accuracy, mAP of several labels per image, recall.
MAIN_METRICS = (
    "acc1", "lp_acc1", "mean_average_precision", "lp_mean_average_precision",
    "image_retrieval_recall@5", "image_retrieval_recall@1", "image_retrieval_recall@10", "acc",
    "CIDEr",
)  # fmt: skip
# "ARCHITECTURE PRETRAINED" of open_clip -> the same weights on the hub.
HUB_IDS = {
    "ViT-B-32 openai": "openai/clip-vit-base-patch32",
    "ViT-B-16 openai": "openai/clip-vit-base-patch16",
    "ViT-L-14 openai": "openai/clip-vit-large-patch14",
    "ViT-L-14-336 openai": "openai/clip-vit-large-patch14-336",
    "ViT-B-32 laion2b_s34b_b79k": "laion/CLIP-ViT-B-32-laion2B-s34B-b79K",
    "ViT-B-16 laion2b_s34b_b88k": "laion/CLIP-ViT-B-16-laion2B-s34B-b88K",
    "ViT-L-14 laion2b_s32b_b82k": "laion/CLIP-ViT-L-14-laion2B-s32B-b82K",
    "ViT-H-14 laion2b_s32b_b79k": "laion/CLIP-ViT-H-14-laion2B-s32B-b79K",
    "ViT-bigG-14 laion2b_s39b_b160k": "laion/CLIP-ViT-bigG-14-laion2B-39B-b160k",
}


@dataclass(frozen=True)
class ModelResult:
    """The metrics of one model on one data set.

    Args:
        encoder: "MODEL PRETRAINED", as CLIP_benchmark's `model_fullname`.
        model: hub id of the same weights; None if not known.
        benchmark: the data set.
        group: the kind of its task: classification (a linear probe too), retrieval, ...
        setting: "linear_probe", or "zeroshot" for every other task; with the language of the texts
            if it is not English.
        metrics: name -> value, finite ones only.
        where: file and line.
    """

    encoder: str
    model: str | None
    benchmark: str
    group: str
    setting: str
    metrics: Mapping[str, float]
    where: str


def is_clip_benchmark(path: Path) -> bool:
    """Whether a file or folder is meant as results of CLIP_benchmark.

    Args:
        path: a .json file, a folder with such files and without the record of a run, or a CSV.

    Returns:
        True for JSON files, and for a CSV with CLIP_benchmark's columns.
    """
    if path.is_dir():
        return not (path / "run.json").is_file() and any(path.glob("*.json"))
    if path.suffix == ".json":
        return True
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        header = {name.strip().strip('"') for name in file.readline().split(",")}
    return {"dataset", "model", "pretrained"} <= header


def read_results(path: Path) -> Iterator[ModelResult]:
    """The results in a file or folder.

    Args:
        path: for which `is_clip_benchmark` is true.

    Yields:
        One result per file, or per row of the CSV.

    Raises:
        UsageError: a file that is no result of CLIP_benchmark.
    """
    if path.is_file() and path.suffix != ".json":
        for line, row in rows_of(path, FIELDS):
            cells = {name: cell for name, cell in row.items() if name not in FIELDS}
            yield _result(row, cells, f"line {line} of {path}")
        return
    for file in sorted(path.glob("*.json")) if path.is_dir() else [path]:
        try:
            record = record_in(file)
        except ValueError as broken:
            raise UsageError(f"{file} is broken", got=str(broken), want=WANT) from broken
        metrics = record.get("metrics")
        if not isinstance(metrics, dict):
            raise UsageError(f"{file} has no metrics", got=", ".join(record), want=WANT)
        yield _result(record, metrics, str(file))


def main_metric(results: list[ModelResult]) -> str:
    """The metric to compare models by on one data set.

    Args:
        results: of all models on it.

    Returns:
        The first of MAIN_METRICS that all of them have.

    Raises:
        UsageError: they share none.
    """
    for metric in MAIN_METRICS:
        if all(metric in result.metrics for result in results):
            return metric
    shared = set.intersection(*(set(result.metrics) for result in results))
    raise UsageError(
        f"the results of {results[0].benchmark} share no metric by which models are compared",
        got=", ".join(sorted(shared)) or "none that all have",
        want=f"one of {', '.join(MAIN_METRICS)}",
        hint=f"one of them is {results[0].where}",
    )


def _result(row: Mapping[str, Any], metrics: Mapping[str, Any], where: str) -> ModelResult:
    values = {name: row.get(name) for name in FIELDS}
    for name, value in values.items():
        if not isinstance(value, str) or not (value or name == "pretrained"):
            raise UsageError(f"{where} has no {name}", got=value, want=WANT)
    dataset, model, pretrained, task = (str(value) for value in values.values())
    setting = PROBE if task == PROBE else ZERO_SHOT
    group = "classification" if task == PROBE else task.removeprefix(f"{ZERO_SHOT}_")
    language = str(row.get("language") or "en")
    if language != "en":
        setting = f"{setting} {language}"
    return ModelResult(
        f"{model} {pretrained}".strip(), _hub_id(model, pretrained), dataset.removeprefix("wds/"),
        group, setting, dict(_finite(metrics)), where,
    )  # fmt: skip


def _finite(metrics: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    for name, value in metrics.items():
        try:
            number = float(value)
        except (TypeError, ValueError, OverflowError):  # an empty cell, or what is no metric
            continue
        if math.isfinite(number):
            yield name, number


def _hub_id(model: str, pretrained: str) -> str | None:
    """The hub id of the weights, by the user's aliases, open_clip's names or transformers'."""
    name = f"{model} {pretrained}".strip()
    for known in (name, model, pretrained):
        if (alias := get_model_id(known, "vision")) != known:
            return alias
    plain = name.replace("-quickgelu", "")
    if plain in HUB_IDS:
        return HUB_IDS[plain]
    hub = model.removeprefix("hf-hub:")
    if hub.count("/") == 1:
        return hub
    # A checkpoint of transformers is given as organisation and name. Names of open_clip's weights
    # have no dash, its architectures have one.
    if "-" in pretrained and "/" not in pretrained and "-" not in model:
        return f"{model}/{pretrained}"
    return None
