"""Patch maps over images as PIL images: one square per patch, without smoothing."""

from __future__ import annotations

import matplotlib
import numpy as np
from jaxtyping import Float
from PIL import Image, ImageDraw

from encoderlab.plots.style import HEAT

LAID_OVER = 0.6


def heat(
    values: Float[np.ndarray, "h w"],
    size: tuple[int, int],
    low: float | None = None,
    high: float | None = None,
) -> Image.Image:
    """The map in colours, (width, height) pixels; `low` and `high` are the ends of its scale."""
    low = float(values.min()) if low is None else low
    high = float(values.max()) if high is None else high
    scaled = (values - low) / max(high - low, 1e-12)
    colours = matplotlib.colormaps[HEAT](np.clip(scaled, 0, 1), bytes=True)[..., :3]
    return Image.fromarray(np.ascontiguousarray(colours)).resize(size, Image.Resampling.NEAREST)


def overlaid(
    view: Image.Image,
    values: Float[np.ndarray, "h w"],
    mark: tuple[int, int] | None = None,
    opacity: float = LAID_OVER,
) -> Image.Image:
    """The map over a grey copy of the image; `mark` (row, column) frames one patch."""
    below = view.convert("L").convert("RGB")
    laid = Image.blend(below, heat(values, view.size), opacity)
    if mark is not None:
        (i, j), (h, w) = mark, values.shape
        box = (j * view.width / w, i * view.height / h,
               (j + 1) * view.width / w, (i + 1) * view.height / h)  # fmt: skip
        pen = ImageDraw.Draw(laid)
        # Black under white, visible on any background.
        pen.rectangle(box, outline="black", width=4)
        pen.rectangle(box, outline="white", width=2)
    return laid
