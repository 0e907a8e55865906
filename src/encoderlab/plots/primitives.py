"""Parts that several figures share: panels, values with intervals and chance, heat maps.

A score is the mapping that `Score.to_json` gives.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from encoderlab.plots.style import CHANCE, HEAT, colours, figure, markers, short, text_width

Scored = Mapping[str, Any]


def panels(
    count: int, width: float, height: float, margin: float, least: float = 0.0
) -> tuple[Figure, list[Any]]:
    """A figure with `count` axes, three in a line.

    Args:
        count: number of axes.
        width: of each of them, in inches.
        height: of each of them, in inches.
        margin: added to the figure's height, for title and legend.
        least: width of the figure that its title needs.

    Returns:
        The figure and its axes; the rest of the last line is empty.
    """
    columns = min(3, count)
    lines = -(-count // columns)
    fig = figure(max(width * columns, least), height * lines + margin)
    grid = fig.subplots(lines, columns, squeeze=False).ravel()
    for axes in grid[count:]:
        axes.axis("off")
    return fig, list(grid[:count])


def intervals(
    axes: Any,
    names: Sequence[str],
    scores: Mapping[str, Sequence[Scored | None]],
    *,
    legend: bool = True,
) -> None:
    """Draws names down the side, and for each series markers with intervals and ticks at chance."""
    # `scores` is series -> one score per name; for None and undefined ones "undefined" is drawn.
    series = list(scores)
    shapes = markers(series)
    tint = colours(list(names))
    step = 0.7 / max(len(series), 1)
    for j, key in enumerate(series):
        for i, (name, score) in enumerate(zip(names, scores[key], strict=True)):
            y = i + (j - (len(series) - 1) / 2) * step
            if score is None or score.get("value") is None:
                axes.text(
                    0.02, y, "undefined", transform=axes.get_yaxis_transform(), fontsize=8,
                    color="#777777", va="center",
                )  # fmt: skip
                continue
            low, high = score.get("ci_low"), score.get("ci_high")
            if low is not None and high is not None:
                axes.plot([low, high], [y, y], color=tint[name], linewidth=2, zorder=2)
            axes.plot(
                [score["value"]], [y], shapes[key], color=tint[name], markeredgecolor="black",
                markeredgewidth=0.6, markersize=7, zorder=3,
            )  # fmt: skip
            chance = score.get("chance")
            if chance is not None:
                axes.plot([chance] * 2, [y - step / 2, y + step / 2], **CHANCE, zorder=1)
    axes.set_yticks(range(len(names)), [short(name) for name in names])
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.grid(axis="y", visible=False)
    if legend and len(series) > 1:
        handles = [
            Line2D([], [], marker=shapes[s], color="#666666", linestyle="", label=short(s))
            for s in series
        ]
        handles.append(Line2D([], [], label="chance", **CHANCE))
        legend_below(axes.figure, handles)


def legend_below(fig: Any, handles: Sequence[Any]) -> None:
    """One legend below all axes, in as many columns as fit."""
    names = [str(handle.get_label()) for handle in handles]
    columns = int(fig.get_figwidth() / (text_width(names, 8) + 0.55))
    columns = max(1, min(columns, len(names)))
    fig.legend(handles, names, loc="outside lower center", ncols=columns, fontsize=8)


def map_size(
    rows: Sequence[str], columns: Sequence[str], wide: float = 0.75, tall: float = 0.42
) -> tuple[float, float]:
    """Width and height in inches of a heat map with its names, title and colour bar."""
    width = text_width(map(short, rows)) + max(wide * len(columns), 1.2) + 1.2
    names = 0.5 * text_width(map(short, columns)) if _turned(columns) else 0
    return width, max(tall * len(rows), 1.2) + names + 0.8


def _turned(columns: Sequence[str]) -> bool:
    """Whether the names below a heat map's columns are turned, so that they do not overlap."""
    longest = max((len(short(c)) for c in columns), default=0)
    return longest > 12 or (len(columns) > 3 and longest > 6)


def heat_map(
    axes: Any,
    values: np.ndarray,
    rows: Sequence[str],
    columns: Sequence[str],
    *,
    texts: Sequence[Sequence[str]] | None = None,
    low: float | None = None,
    high: float | None = None,
    label: str = "",
    bar: bool = True,
) -> Any:
    """A heat map with a text in each cell; an undefined cell (NaN) is grey and says so."""
    values = np.asarray(values, dtype=np.float64)
    finite = values[np.isfinite(values)]
    low = float(finite.min()) if low is None and len(finite) else low
    high = float(finite.max()) if high is None and len(finite) else high
    low = 0.0 if low is None else low
    high = low + 1 if high is None or high <= low else high
    shown = axes.imshow(np.ma.masked_invalid(values), cmap=HEAT, vmin=low, vmax=high, aspect="auto")
    axes.set_facecolor("#CCCCCC")
    axes.grid(visible=False)
    turn = _turned(columns)
    axes.set_xticks(
        range(len(columns)), [short(c) for c in columns],
        rotation=30 if turn else 0, ha="right" if turn else "center",
    )  # fmt: skip
    axes.set_yticks(range(len(rows)), [short(r) for r in rows])
    for i in range(len(rows)):
        for j in range(len(columns)):
            value = values[i, j]
            text = f"{value:.2f}" if texts is None else texts[i][j]
            if not np.isfinite(value):
                text = "undefined"
            share = (value - low) / (high - low) if np.isfinite(value) else 1.0
            axes.text(
                j, i, text, ha="center", va="center", fontsize=8,
                color="white" if share < 0.6 else "black",
            )  # fmt: skip
    if bar:
        axes.figure.colorbar(shown, ax=axes, label=label, shrink=0.85)
    return shown


def score_map(
    axes: Any,
    scores: Sequence[Sequence[Scored | None]],
    rows: Sequence[str],
    columns: Sequence[str],
    **options: Any,
) -> Any:
    """A heat map of scores: the value in each cell, its interval below. `options` as `heat_map`."""
    texts = [[cell(score) for score in line] for line in scores]
    values = np.array([[value_of(score) for score in line] for line in scores])
    return heat_map(axes, values, rows, columns, texts=texts, **options)


def cell(score: Scored | None, digits: int = 2) -> str:
    """A score as a heat map's cell shows it: the value, its interval below."""
    if score is None or score.get("value") is None:
        return "undefined"
    text = f"{score['value']:.{digits}f}"
    if score.get("ci_low") is not None:
        text += f"\n[{score['ci_low']:.{digits}f}, {score['ci_high']:.{digits}f}]"
    return text


def value_of(score: Scored | None) -> float:
    """The value, NaN where it is undefined."""
    return float(ends_of([score])[0, 0])


def ends_of(scores: Sequence[Scored | None]) -> np.ndarray:
    """(n, 4): value, low, high, chance; NaN where there is none."""
    keys = ("value", "ci_low", "ci_high", "chance")
    return np.array([[(score or {}).get(key) for key in keys] for score in scores], dtype=float)
