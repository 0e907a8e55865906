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

from encoderlab.plots.primitives import heat_map, legend_below, map_size, panels
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
    kinds = list(dict.fromkeys(labels))
    kind_of = np.array(labels)
    tint = colours(kinds, get_data_type_color)
    with rules():
        fig, grid = panels(len(names), 3.9, 3.6, 0.9, least=4.6)
        for ax, name in zip(grid, names, strict=True):
            for k, kind in enumerate(kinds):
                rows = kind_of == kind
                ax.scatter(
                    *places[name][rows].T, s=26, c=tint[kind],
                    marker=MARKERS[k % len(MARKERS)], edgecolors="black", linewidths=0.3,
                    label=short(kind), alpha=0.85,
                )  # fmt: skip
            ax.set_title(short(name))
            ax.set(xticks=[], yticks=[], xlabel=f"{METHODS[method]} 1 (no unit)",
                   ylabel=f"{METHODS[method]} 2 (no unit)")  # fmt: skip
        legend_below(fig, grid[0].get_legend_handles_labels()[0])
        fig.suptitle(f"The embedding spaces ({METHODS[method]})")
    return FigureRecord("embedding_maps", fig, about, dict(places))


def procrustes(
    pairs: Mapping[tuple[str, str], tuple[np.ndarray, np.ndarray]],
    labels: Sequence[str],
    scores: Mapping[tuple[str, str], Mapping[str, Any]],
) -> FigureRecord:
    """Each encoder's space rotated onto an LLM's, in the LLM's first two principal axes."""
    # A line joins an image to its text.
    names = list(pairs)
    kinds = list(dict.fromkeys(labels))
    kind_of = np.array(labels)
    tint = colours(kinds, get_data_type_color)
    arrays = {}
    with rules():
        fig, grid = panels(len(names), 3.9, 3.8, 0.9, least=5.6)
        for ax, key in zip(grid, names, strict=True):
            image, text = pairs[key]
            arrays["|".join(key)] = np.stack([image, text])
            for pair in zip(image, text, strict=True):
                ax.plot(*np.transpose(pair), color="#BBBBBB", linewidth=0.5, zorder=1)
            for kind in kinds:
                rows = kind_of == kind
                look = {"s": 22, "c": tint[kind], "zorder": 2}
                ax.scatter(*image[rows].T, marker="o", label=f"{short(kind)}, image",
                           edgecolors="black", linewidths=0.3, **look)  # fmt: skip
                ax.scatter(*text[rows].T, marker="x", label=f"{short(kind)}, text",
                           linewidths=1.2, **look)  # fmt: skip
            score = scores[key]
            subtitle = "undefined"
            if score.get("value") is not None:
                subtitle = f"similarity {score['value']:.2f} (shuffled {score['chance']:.2f})"
            title = f"{short(key[0])}\nonto {short(key[1])}\n{subtitle}"
            ax.set_title(title, fontsize=9)
            ax.set(xticks=[], yticks=[], xlabel="principal axis 1 (no unit)",
                   ylabel="principal axis 2 (no unit)")  # fmt: skip
        legend_below(fig, grid[0].get_legend_handles_labels()[0])
        fig.suptitle("Image space rotated onto text space (Procrustes)")
    return FigureRecord(
        "procrustes",
        fig,
        "Circles are images, crosses their texts, in the first two principal axes of the texts; "
        "short lines mean that one rotation aligns all samples. With few samples any two spaces "
        "can be rotated close to each other; the shuffled pairs show how close.",
        arrays,
    )


def cosines(tables: Mapping[str, np.ndarray], labels: Sequence[str]) -> FigureRecord:
    """Cosine between every two samples, samples ordered by type; cell [i, j] compares i with j."""
    names = list(tables)
    kinds = list(dict.fromkeys(labels))
    edges = np.cumsum([0] + [sum(label == kind for label in labels) for kind in kinds])
    with rules():
        fig, grid = panels(len(names), 4.1, 3.6, 0.6)
        for ax, name in zip(grid, names, strict=True):
            shown = ax.imshow(tables[name], cmap="viridis")
            ax.set_title(short(name), fontsize=8)
            ax.grid(visible=False)
            middles, heads = (edges[1:] + edges[:-1]) / 2 - 0.5, [short(k, 10) for k in kinds]
            ax.set_xticks(middles, heads, fontsize=8, rotation=90 if len(kinds) > 4 else 0)
            ax.set_yticks(middles, heads, fontsize=8)
            for edge in edges[1:-1]:
                ax.axhline(edge - 0.5, color="white", linewidth=1)
                ax.axvline(edge - 0.5, color="white", linewidth=1)
            fig.colorbar(shown, ax=ax, label="cosine", shrink=0.8)
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
        width, height = map_size(names, names)
        fig = figure(max(width, 4.8), height + 0.4)
        heat_map(fig.subplots(), values, names, names, low=0.0, high=1.0, label="similarity")
        fig.suptitle("Procrustes similarity between spaces")
    return FigureRecord(
        "procrustes_similarity",
        fig,
        "1: the spaces are equal up to rotation and scale. With few samples it is high for any "
        "spaces; the run's record has the value of shuffled pairs.",
        {"similarity": values},
    )


def page(
    places: Mapping[str, np.ndarray],
    labels: Sequence[str],
    texts: Sequence[str],
    thumbnails: Sequence[bytes],
    method: str,
) -> str:
    """An HTML page without external files; a point shows its image and text under the pointer."""
    kinds = list(dict.fromkeys(labels))
    data = {
        "spaces": {name: np.round(_scaled(xy), 4).tolist() for name, xy in places.items()},
        "kind": [kinds.index(label) for label in labels],
        "kinds": kinds,
        "colours": list(colours(kinds, get_data_type_color).values()),
        "model_colours": list(colours(list(places)).values()),
        "texts": [text[:300] for text in texts],
        "images": [base64.b64encode(jpeg).decode() for jpeg in thumbnails],
    }
    # "</" would end the script wherever a caption has it.
    content = json.dumps(data, ensure_ascii=False).replace("</", "<\\/")
    empty = PAGE.read_text(encoding="utf-8")
    return empty.replace("@METHOD@", html.escape(METHODS[method])).replace("@DATA@", content)


def _scaled(xy: np.ndarray) -> np.ndarray:
    low, high = xy.min(axis=0), xy.max(axis=0)
    return (xy - low) / np.maximum(high - low, 1e-12)


def thumbnail(image: Image.Image) -> bytes:
    """A small copy of an image as a JPEG file."""
    small = image.convert("RGB")
    small.thumbnail((THUMBNAIL, THUMBNAIL))
    content = io.BytesIO()
    small.save(content, "JPEG", quality=80)
    return content.getvalue()
