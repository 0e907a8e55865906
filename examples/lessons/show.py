"""How the lessons put pictures and matrices on the page. Computes nothing."""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import Any

import marimo as mo
import numpy as np
from PIL import Image


def pictures(images: Sequence[Image.Image], titles: Sequence[str], side: int = 110) -> Any:
    """Pictures beside one another, each with its title below."""
    cells = [
        f'<figure style="flex: 0 0 {side}px; margin: 0; text-align: center">'
        f"{mo.image(image, width=side, height=side, rounded=True).text}"
        f"<figcaption>{html.escape(title)}</figcaption></figure>"
        for image, title in zip(images, titles, strict=True)
    ]
    row = "display: flex; flex-wrap: wrap; gap: 1rem; line-height: 1.3; font-size: 0.9rem"
    return mo.Html(f'<div style="{row}">{"".join(cells)}</div>')


def matrix(values: Any, rows: Sequence[str], columns: Sequence[str]) -> Any:
    """A matrix (rows, columns) as colours with the numbers written in: a matplotlib figure."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(1.6 + 0.62 * len(columns), 1.6 + 0.42 * len(rows)))
    axes = figure.subplots()
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
    """Values in their order, with a level that they are to be compared with: a figure."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 2.8))
    axes = figure.subplots()
    axes.plot(values)
    axes.axhline(level, color="grey", linestyle="--", linewidth=1)
    axes.text(len(values) - 1, 1.02 * level, level_name, ha="right", va="bottom", color="grey")
    axes.set(xlabel=x, ylabel=y, ylim=(0, 1.2 * max(level, *values)))
    figure.tight_layout()
    return figure
