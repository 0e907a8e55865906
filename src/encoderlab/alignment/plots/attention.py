"""The figure of `attention`: roll-out and patch-text cosine over the image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from textwrap import shorten
from typing import Any

import numpy as np
from PIL import Image

from encoderlab.plots.style import FigureRecord, figure, rules, short

Json = Mapping[str, Any]


def overlays(
    views: Mapping[str, Image.Image],
    text: str,
    encoders: Sequence[Json],
    similarity: Mapping[str, np.ndarray],
    rollout: Mapping[str, np.ndarray],
) -> FigureRecord:
    """A row per encoder: attention roll-out, and patch-text similarity if it has a text tower."""
    # `views` are the images as preprocessed; the maps are (h, w) by encoder.
    width, height = next(iter(views.values())).size
    tall = 2.6 * min(max(height / width, 0.5), 1.6)
    with rules():
        fig = figure(9.4, 0.9 + (tall + 0.45) * len(encoders))
        grid = fig.subplots(len(encoders), 3, squeeze=False)
        for line, row in zip(grid, encoders, strict=True):
            name = row["encoder"]
            image = views[name]
            _show(line[0], image, None, short(name))
            if name in rollout:
                title = f"attention roll-out\nentropy {row['rollout_entropy']:.2f} of 1"
                _show(line[1], image, rollout[name], title)
            else:
                _text(line[1], row.get("no_attention") or "no attention maps")
            if name in similarity:
                map_ = similarity[name]
                title = f"patch–text cosine\n{map_.min():.2f} to {map_.max():.2f}"
                _show(line[2], image, map_, title)
            else:
                _text(line[2], row.get("no_similarity") or "no text tower:\nattention only")
        fig.suptitle(f"“{shorten(text, 90)}”", fontsize=11)
    arrays = {f"similarity|{k}": v for k, v in similarity.items()}
    arrays |= {f"rollout|{k}": v for k, v in rollout.items()}
    return FigureRecord(
        "attention",
        fig,
        "Bright is more, each map on its own scale. Roll-out: how much of each patch reaches the "
        "pooled vector through all blocks (Abnar & Zuidema 2020). Entropy 1 is even attention, 0 a "
        "single patch.",
        arrays,
    )


def _show(ax: Any, image: Image.Image, map_: np.ndarray | None, title: str) -> None:
    extent = (0, image.width, image.height, 0)
    grey = map_ is not None
    ax.imshow(image.convert("L") if grey else image, extent=extent, cmap="gray" if grey else None)
    if map_ is not None:
        low, high = float(map_.min()), float(map_.max())
        scaled = (map_ - low) / max(high - low, 1e-12)
        ax.imshow(scaled, extent=extent, cmap="magma", alpha=0.6, interpolation="nearest")
    ax.set_title(title, fontsize=9)
    ax.axis("off")


def _text(ax: Any, text: str) -> None:
    ax.axis("off")
    ax.text(0.5, 0.5, text, ha="center", va="center", fontsize=9, wrap=True, color="#555555",
            transform=ax.transAxes)  # fmt: skip
