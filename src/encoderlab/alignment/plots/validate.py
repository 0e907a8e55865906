"""The figure of `validate`: rank correlations of metrics, baselines and ceilings with targets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from encoderlab.metrics.prediction import Answer
from encoderlab.plots.primitives import heat_map, map_size
from encoderlab.plots.style import FigureRecord, figure, rules

Json = Mapping[str, Any]


def validate(result: Json) -> list[FigureRecord]:
    """Rank correlation within the class of every metric with every target, as a heat map."""
    targets = [target["name"] for target in result["targets"]]
    rows, stars = _rows(result)
    values = np.array([[np.nan if v is None else v for v in row] for row in rows.values()], float)
    texts = [
        [
            f"{v:.2f}" + "*" * ((name, target) in stars)
            for v, target in zip(row, targets, strict=True)
        ]
        for name, row in zip(rows, values, strict=True)
    ]
    with rules():
        fig = figure(*map_size(list(rows), targets, wide=0.62))
        heat_map(
            fig.subplots(), values, list(rows), targets, texts=texts, low=-1, high=1,
            label="ρ within the class",
        )  # fmt: skip
        fig.suptitle("Does a metric predict the scores?")
    record = FigureRecord(
        "validate",
        fig,
        f"Spearman's ρ within {result['class_name']} ({len(result['members'])}); * predictive: p "
        "corrected for all tests below 0.05, and ahead of the baselines. The input resolution and "
        "one bit, the same for all of the class, need no metric. A ceiling is ρ of the same "
        "encoders' scores in another setting.",
        {"rows": np.array(list(rows)), "targets": np.array(targets), "rho": values},
    )
    return [record]


def _rows(result: Json) -> tuple[dict[str, list[float | None]], set[tuple[str, str]]]:
    """Row -> rho with each target; (row, target) of what is predictive."""
    targets, titles = result["targets"], result["titles"]
    rows: dict[str, list[float | None]] = {}
    for prediction in result["predictions"]:
        rows.setdefault(titles[prediction["metric"]], []).append(prediction["within"]["rho"])
    rows["input resolution"] = [target["resolution"]["rho"] for target in targets]
    if any(target["one_bit"] is not None for target in targets):
        rows["one bit (class)"] = [0.0] * len(targets)
    for i, ceiling in enumerate(targets[0]["ceilings"]):
        own = [target["ceilings"][i]["within"]["rho"] for target in targets]
        rows[f"ceiling: {ceiling['setting']}"] = own
    stars = {
        (titles[p["metric"]], p["target"])
        for p in result["predictions"]
        if p["answer"] == Answer.PREDICTIVE
    }
    return rows, stars
