"""Maps of tokens for lesson 4, and the patches that a shape covers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from show import panels

FAR = 60  # of 765: minimum distance of a shape pixel's colour from the background colour


def maps(values: Sequence[Any], titles: Sequence[str]) -> Any:
    """Maps (rows, columns) in a row, each with its own colour scale: a figure."""
    figure, all_axes = panels(2.7 * len(titles), 2.7, len(titles))
    for axes, one, title in zip(all_axes, values, titles, strict=True):
        shown = axes.imshow(np.asarray(one, dtype=float), cmap="viridis")
        axes.set_title(title, size=9)
        axes.set_xticks([])
        axes.set_yticks([])
        figure.colorbar(shown, ax=axes, fraction=0.046)
    figure.tight_layout()
    return figure


def covered(view: Image.Image, grid: tuple[int, int]) -> np.ndarray:
    """The patches (rows, columns) that a shape covers by more than half, on a plain background.

    Args:
        view: what the encoder sees of the picture.
    """
    rows, columns = grid
    pixels = np.asarray(view.convert("RGB").resize((columns * 8, rows * 8)), dtype=int)
    ground = np.median(pixels.reshape(-1, 3), axis=0)
    is_shape = np.abs(pixels - ground).sum(axis=-1) > FAR
    return is_shape.reshape(rows, 8, columns, 8).mean(axis=(1, 3)) > 0.5


def higher_inside(values: Any, inside: np.ndarray) -> float:
    """How often a patch inside has a higher value than one outside: from 0 (the opposite of the
    shape) over 0.5 (no relation) to 1 (perfect)."""
    found = np.asarray(values, dtype=float)
    a, b = found[inside][:, None], found[~inside][None]
    return float((a > b).mean() + (a == b).mean() / 2)
