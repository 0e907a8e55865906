"""The figure of `complement`: what each encoder adds to each other one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from encoderlab.plots.primitives import ends_of, intervals
from encoderlab.plots.style import FigureRecord, colours, figure, rules, short, text_width

Json = Mapping[str, Any]
GAINS = {"gain": "over A alone", "over_copy": "over A with a copy of A"}


def complement(result: Json) -> list[FigureRecord]:
    """Gain in held-out R2 of every ordered pair, one panel per LLM, with intervals."""
    llms = list(dict.fromkeys(row["llm"] for row in result["rows"]))
    added = {_name(row): row["added"] for row in result["rows"]}
    names = list(added)
    of_encoder = colours(list(dict.fromkeys(added.values())))
    tint = {name: of_encoder[encoder] for name, encoder in added.items()}
    arrays: dict[str, np.ndarray] = {"pairs": np.array(names)}
    width = 2 + text_width(names) + 3.6 * len(llms)
    with rules():
        fig = figure(max(7.0, width), 2.4 + 0.55 * len(names))
        axes = fig.subplots(1, len(llms), sharey=True, squeeze=False)[0]
        for ax, llm in zip(axes, llms, strict=True):
            rows = [row for row in result["rows"] if row["llm"] == llm]
            series = {title: [_gain(row[key]) for row in rows] for key, title in GAINS.items()}
            intervals(ax, names, series, legend=ax is axes[0], tint=tint)
            ax.set_title(f"for {short(llm)}")
            ax.set_xlabel("gain in held-out R²")
            for key, title in GAINS.items():
                arrays[f"{key}|{llm}"] = ends_of(series[title])
        fig.suptitle("Does B add to A?")
    record = FigureRecord(
        "complement",
        fig,
        "R² of a ridge map from A and B side by side, less that from A alone and less that from A "
        "beside rescaled and rotated copies of itself: the same width and no new information. "
        "Lines are intervals that hold for all pairs together; a colour is an encoder B. B adds to "
        "A where both lie above 0 (dashed).",
        arrays,
    )
    return [record]


def _name(row: Json) -> str:
    return f"{short(row['added'], 22)} to {short(row['base'], 22)}"


def _gain(comparison: Json) -> Json:
    return {
        "value": comparison["difference"], "ci_low": comparison["ci_low"],
        "ci_high": comparison["ci_high"], "chance": 0.0,
    }  # fmt: skip
