"""Shows pictures and matrices in the lessons. Computes nothing."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import Any

import marimo as mo
import numpy as np
from PIL import Image


def pictures(images: Sequence[Image.Image], titles: Sequence[str], side: int = 110) -> Any:
    """Pictures in a row, each with its title below."""
    cells = [
        f'<figure style="flex: 0 0 {side}px; margin: 0; text-align: center">'
        f"{mo.image(image, width=side, height=side, rounded=True).text}"
        f"<figcaption>{html.escape(title)}</figcaption></figure>"
        for image, title in zip(images, titles, strict=True)
    ]
    row = "display: flex; flex-wrap: wrap; gap: 1rem; line-height: 1.3; font-size: 0.9rem"
    return mo.Html(f'<div style="{row}">{"".join(cells)}</div>')


def beside(*items: Any) -> Any:
    """Pictures (at a side of 200) and figures in one row."""
    shown = [
        mo.image(one, width=200, height=200) if isinstance(one, Image.Image) else one
        for one in items
    ]
    return mo.hstack(shown, justify="start", align="center")


def panels(width: float, height: float, count: int = 1) -> tuple[Any, Any]:
    """A figure (size in inches) and its axes in a row."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height))
    return figure, figure.subplots(1, count, squeeze=False)[0]


def matrix(values: Any, rows: Sequence[str], columns: Sequence[str]) -> Any:
    """A matrix (rows, columns) as a heat map with its values: a matplotlib figure."""
    figure, (axes,) = panels(1.6 + 0.62 * len(columns), 1.6 + 0.42 * len(rows))
    values = np.asarray(values)
    axes.imshow(values, cmap="viridis", aspect="auto")
    axes.set_xticks(range(len(columns)), columns, rotation=40, ha="right")
    axes.set_yticks(range(len(rows)), rows)
    middle = (float(values.max()) + float(values.min())) / 2
    for i in range(len(rows)):
        for j in range(len(columns)):
            ink = "black" if values[i, j] > middle else "white"
            axes.text(j, i, f"{values[i, j]:.2f}", ha="center", va="center", color=ink, size=8)
    figure.tight_layout()
    return figure


def curve(values: Sequence[float], level: float, x: str, y: str, level_name: str) -> Any:
    """A curve of values and a horizontal line to compare them with: a figure."""
    figure, (axes,) = panels(6, 2.8)
    axes.plot(values)
    axes.axhline(level, color="grey", linestyle="--", linewidth=1)
    axes.text(len(values) - 1, 1.02 * level, level_name, ha="right", va="bottom", color="grey")
    axes.set(xlabel=x, ylabel=y, ylim=(0, 1.2 * max(level, *values)))
    figure.tight_layout()
    return figure


def lines(x: Sequence[float], series: Mapping[str, Sequence[float]], x_name: str, y: str) -> Any:
    """Several curves over the same x values, on a logarithmic axis: a figure."""
    figure, (axes,) = panels(6, 2.8)
    for name, values in series.items():
        axes.plot(x, values, marker="o", label=name)
    axes.axhline(0, color="grey", linestyle="--", linewidth=1)
    axes.set(xlabel=x_name, ylabel=y, xscale="log")
    axes.set_xticks(x, [f"{one:g}" for one in x])
    axes.minorticks_off()
    axes.legend(frameon=False)
    figure.tight_layout()
    return figure


def among(values: Mapping[str, Sequence[float]], marks: Mapping[str, float], x_name: str) -> Any:
    """One histogram per panel, with one value marked: a figure."""
    figure, all_axes = panels(7.5, 2.6, len(values))
    for axes, (name, found) in zip(all_axes, values.items(), strict=True):
        axes.hist(found, bins=20, color="grey", label="shuffled")
        axes.axvline(marks[name], color="tab:red", label="as it is")
        axes.set(title=name, xlabel=x_name)
        axes.locator_params(axis="x", nbins=5)
        axes.set_yticks([])
        all_axes[0].legend(frameon=False)
    figure.tight_layout()
    return figure
