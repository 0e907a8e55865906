"""Maps of embedding spaces: pictures, and one page on which a point shows its image and text."""

from __future__ import annotations

import base64
import html
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from encoderlab.plots.primitives import heat_map
from encoderlab.plots.style import (
    MARKERS,
    FigureRecord,
    colours,
    figure,
    get_data_type_color,
    rules,
    short,
)

PAGE = Path(__file__).with_suffix(".html")
THUMBNAIL = 112
METHODS = {"tsne": "t-SNE", "umap": "UMAP", "pca": "PCA"}


def maps(
    places: Mapping[str, np.ndarray], labels: Sequence[str], method: str, about: str
) -> FigureRecord:
    """One scatter per model; `places` are (n, 2)."""
    names = list(places)
    columns = min(3, len(names))
    lines = -(-len(names) // columns)
    kinds = list(dict.fromkeys(labels))
    number = np.array([kinds.index(label) for label in labels])
    tint = colours(kinds, get_data_type_color)
    with rules():
        fig = figure(3.9 * columns, 3.6 * lines + 0.9)
        grid = fig.subplots(lines, columns, squeeze=False).ravel()
        for ax, name in zip(grid, names, strict=False):
            for k, kind in enumerate(kinds):
                rows = number == k
                ax.scatter(
                    *places[name][rows].T, s=26, c=tint[kind],
                    marker=MARKERS[k % len(MARKERS)], edgecolors="black", linewidths=0.3,
                    label=short(kind), alpha=0.85,
                )  # fmt: skip
            ax.set_title(short(name))
            ax.set_xticks([])
            ax.set_yticks([])
        for ax in grid[len(names) :]:
            ax.axis("off")
        fig.legend(*grid[0].get_legend_handles_labels(), loc="outside lower center",
                   ncols=min(6, len(kinds)))  # fmt: skip
        fig.suptitle(f"The embedding spaces ({METHODS[method]})")
    return FigureRecord("embedding_maps", fig, about, dict(places))


def procrustes(
    pairs: Mapping[tuple[str, str], tuple[np.ndarray, np.ndarray]],
    labels: Sequence[str],
    scores: Mapping[tuple[str, str], Mapping[str, Any]],
) -> FigureRecord:
    """Each encoder's space rotated onto an LLM's, in the LLM's first two principal axes; a line
    joins an image to its text."""
    names = list(pairs)
    columns = min(3, len(names))
    lines = -(-len(names) // columns)
    kinds = list(dict.fromkeys(labels))
    number = np.array([kinds.index(label) for label in labels])
    tint = colours(kinds, get_data_type_color)
    arrays = {}
    with rules():
        fig = figure(3.9 * columns, 3.8 * lines + 0.9)
        grid = fig.subplots(lines, columns, squeeze=False).ravel()
        for ax, key in zip(grid, names, strict=False):
            image, text = pairs[key]
            arrays["|".join(key)] = np.stack([image, text])
            for i in range(len(image)):
                ax.plot(
                    [image[i, 0], text[i, 0]], [image[i, 1], text[i, 1]], color="#BBBBBB",
                    linewidth=0.5, zorder=1,
                )  # fmt: skip
            for k, kind in enumerate(kinds):
                rows, ink = number == k, tint[kind]
                ax.scatter(*image[rows].T, s=22, c=ink, marker="o", label=f"{short(kind)}, image",
                           edgecolors="black", linewidths=0.3, zorder=2)  # fmt: skip
                ax.scatter(*text[rows].T, s=22, c=ink, marker="x", label=f"{short(kind)}, text",
                           linewidths=1.2, zorder=2)  # fmt: skip
            one = scores[key]
            said = (
                "undefined"
                if one.get("value") is None
                else f"similarity {one['value']:.2f} (shuffled {one['chance']:.2f})"
            )
            ax.set_title(f"{short(key[0])} onto {short(key[1])}\n{said}", fontsize=9)
            ax.set_xticks([])
            ax.set_yticks([])
        for ax in grid[len(names) :]:
            ax.axis("off")
        fig.legend(*grid[0].get_legend_handles_labels(), loc="outside lower center",
                   ncols=min(6, 2 * len(kinds)), fontsize=8)  # fmt: skip
        fig.suptitle("Image space rotated onto text space (Procrustes)")
    return FigureRecord(
        "procrustes",
        fig,
        "Circles are images, crosses their texts, in the first two principal axes of the texts; "
        "short lines mean that one rotation serves all. With few samples any two spaces can be "
        "rotated close: the shuffled pairing says how close.",
        arrays,
    )


def cosines(tables: Mapping[str, np.ndarray], labels: Sequence[str]) -> FigureRecord:
    """Cosine between every two samples, samples ordered by type; cell [i, j] compares i with j."""
    names = list(tables)
    columns = min(3, len(names))
    lines = -(-len(names) // columns)
    kinds = list(dict.fromkeys(labels))
    edges = np.cumsum([0] + [sum(label == kind for label in labels) for kind in kinds])
    with rules():
        fig = figure(4.1 * columns, 3.6 * lines + 0.6)
        grid = fig.subplots(lines, columns, squeeze=False).ravel()
        for ax, name in zip(grid, names, strict=False):
            shown = ax.imshow(tables[name], cmap="viridis")
            ax.set_title(short(name))
            ax.grid(visible=False)
            middles = (edges[1:] + edges[:-1]) / 2 - 0.5
            ax.set_xticks(middles, [short(k, 10) for k in kinds], fontsize=8)
            ax.set_yticks(
                middles, [short(k, 10) for k in kinds], fontsize=8, rotation=90, va="center"
            )
            for edge in edges[1:-1]:
                ax.axhline(edge - 0.5, color="white", linewidth=1)
                ax.axvline(edge - 0.5, color="white", linewidth=1)
            fig.colorbar(shown, ax=ax, shrink=0.8)
        for ax in grid[len(names) :]:
            ax.axis("off")
        fig.suptitle("Cosine between samples")
    return FigureRecord(
        "cosine_matrices",
        fig,
        "Samples in the order of their data type. Bright blocks on the diagonal: samples of one "
        "type are alike. Each colour scale is the model's own.",
        dict(tables),
    )


def spaces(values: np.ndarray, names: Sequence[str]) -> FigureRecord:
    """Procrustes similarity between every two spaces."""
    with rules():
        fig = figure(2.4 + 0.95 * len(names), 2.0 + 0.75 * len(names))
        heat_map(fig.subplots(), values, names, names, low=0.0, high=1.0, label="similarity")
        fig.suptitle("Procrustes similarity between spaces")
    return FigureRecord(
        "procrustes_similarity",
        fig,
        "1: one space is the other but for a rotation and a scale. High for anything where samples "
        "are few; the run's record has what shuffled pairs give.",
        {"similarity": values},
    )


def page(
    places: Mapping[str, np.ndarray],
    labels: Sequence[str],
    texts: Sequence[str],
    images: Sequence[Image.Image],
    method: str,
) -> str:
    """An HTML page with everything in it: choose a space or all, colour by type or model; hover or
    touch a point for its image and text."""
    kinds = list(dict.fromkeys(labels))
    data = {
        "spaces": {name: np.round(_scaled(xy), 4).tolist() for name, xy in places.items()},
        "kind": [kinds.index(label) for label in labels],
        "kinds": kinds,
        "colours": list(colours(kinds, get_data_type_color).values()),
        "model_colours": list(colours(list(places)).values()),
        "texts": [text[:300] for text in texts],
        "images": [_thumbnail(image) for image in images],
    }
    # "</" would end the script wherever a caption has it.
    content = json.dumps(data, ensure_ascii=False).replace("</", "<\\/")
    empty = PAGE.read_text(encoding="utf-8")
    return empty.replace("@METHOD@", html.escape(METHODS[method])).replace("@DATA@", content)


def _scaled(xy: np.ndarray) -> np.ndarray:
    low, high = xy.min(axis=0), xy.max(axis=0)
    return (xy - low) / np.maximum(high - low, 1e-12)


def _thumbnail(image: Image.Image) -> str:
    small = image.convert("RGB")
    small.thumbnail((THUMBNAIL, THUMBNAIL))
    content = io.BytesIO()
    small.save(content, "JPEG", quality=80)
    return base64.b64encode(content.getvalue()).decode()
