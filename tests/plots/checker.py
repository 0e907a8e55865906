"""Faults that a reader would see in a figure, found in what matplotlib draws.

Every text counts that a drawing draws, at the place where it is drawn. Knows no result.
"""

from __future__ import annotations

import itertools
import re
from typing import Any
from unittest.mock import patch

import numpy as np
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.ticker import NullFormatter

from encoderlab.plots.style import PALETTE, SHADE, rules

# A label names its unit or range in parentheses, or one of these quantities, which have none.
UNITLESS = re.compile(
    r"\(.+\)|number of|CKA|CORAL|EAS|ELAS|R²|MRR|Recall|10-NN|cosine|similarity|Moran|layer|epoch"
    r"|right answers"
)
NUMBER = re.compile(r"-?[\d.,]+(e[-+]?\d+)?%?|\$.*\$")
TOLERANCE = 1.0  # pixels: boxes that touch do not overlap
SHADES = 6
# Machado, Oliveira & Fernandes 2009, "A physiologically-based model for simulation of color vision
# deficiency", table 1: severity 1.0, on linear RGB.
SIGHT = {
    "full": np.eye(3),
    "protanopia": np.array([[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216],
                            [-0.003882, -0.048116, 1.051998]]),
    "deuteranopia": np.array([[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413],
                              [-0.011820, 0.042940, 0.968881]]),
}  # fmt: skip


def faults(fig: Figure) -> list[str]:
    """Every fault of the figure as a sentence, drawn in the project's style."""
    texts: dict[int, Text] = {}
    draw = Text.draw

    def recording(text: Text, renderer: Any, *more: Any, **options: Any) -> Any:
        if text.get_visible() and text.get_text().strip():
            texts[id(text)] = text
        return draw(text, renderer, *more, **options)

    with rules(), patch.object(Text, "draw", recording):
        fig.draw_without_rendering()
        found = [*_cut(fig, texts), *_overlapping(fig, texts)]
        for ax in filter(lambda ax: ax.get_visible(), fig.axes):
            found += [*_unlabelled(ax), *_foreign_colours(ax), *_legend(ax)]
    return found


def apart(colours: list[str], sight: str) -> float:
    """The smallest CIELAB distance (CIE 1976) between two of the colours, seen with `sight`."""
    lab = np.array([_lab(np.array(to_rgb(code)), SIGHT[sight]) for code in colours])
    return min(float(np.linalg.norm(a - b)) for a, b in itertools.combinations(lab, 2))


def _lab(rgb: np.ndarray, sight: np.ndarray) -> np.ndarray:
    """sRGB (IEC 61966-2-1, D65) as CIELAB."""
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    to_xyz = [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    xyz = np.array(to_xyz) @ (sight @ linear).clip(0, 1) / [0.9505, 1.0, 1.089]
    x, y, z = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def _cut(fig: Figure, texts: dict[int, Text]) -> list[str]:
    inside = fig.bbox.padded(TOLERANCE)
    boxes = {text: text.get_window_extent() for text in texts.values()}
    return [
        f"cut off by the edge: {text.get_text()!r}" for text, box in boxes.items()
        if box.x0 < inside.x0 or box.y0 < inside.y0 or box.x1 > inside.x1 or box.y1 > inside.y1
    ]  # fmt: skip


def _overlapping(fig: Figure, texts: dict[int, Text]) -> list[str]:
    boxes = [(text.get_text(), *_rectangle(text)) for text in texts.values()]
    centres = np.array([centre for _, centre, _ in boxes])
    radii = np.array([np.linalg.norm(half.sum(axis=0)) for *_, half in boxes])
    apart = np.linalg.norm(centres[:, None] - centres, axis=2)
    near = np.argwhere(np.triu(apart < radii[:, None] + radii, k=1))
    pairs = [(boxes[i], boxes[j]) for i, j in near]
    return [f"overlap: {a[0]!r} and {b[0]!r}" for a, b in pairs if not _separated(a[1:], b[1:])]


def _rectangle(text: Text) -> tuple[np.ndarray, np.ndarray]:
    """Centre and the two half sides of the box, which turns with the text."""
    box = text.get_window_extent()
    turn = text.get_rotation()
    text.set_rotation(0)
    level = text.get_window_extent()
    text.set_rotation(turn)
    across = np.array([np.cos(np.deg2rad(turn)), np.sin(np.deg2rad(turn))])
    half = np.array([level.width, level.height]).clip(2 * TOLERANCE) / 2 - TOLERANCE / 2
    return np.array([box.x0 + box.x1, box.y0 + box.y1]) / 2, np.stack(
        [half[0] * across, half[1] * across[::-1] * [-1, 1]]
    )


def _separated(a: tuple[np.ndarray, np.ndarray], b: tuple[np.ndarray, np.ndarray]) -> bool:
    """Whether a side of one of the two rectangles separates them."""
    sides = [side / max(np.linalg.norm(side), 1e-9) for side in (*a[1], *b[1])]
    reach = [np.abs(a[1] @ side).sum() + np.abs(b[1] @ side).sum() for side in sides]
    return any(abs((a[0] - b[0]) @ s) >= r for s, r in zip(sides, reach, strict=True))


def _unlabelled(ax: Any) -> list[str]:
    where = f"of {ax.get_title()!r}"
    if ax.get_label() == "<colorbar>":
        label = ax.get_ylabel() or ax.get_xlabel()
        return [] if label else ["a colour bar without a label"]
    if ax.images or not ax.axison:
        return []
    found = []
    for axis, shared in ((ax.xaxis, ax.get_shared_x_axes()), (ax.yaxis, ax.get_shared_y_axes())):
        ticks = [t.label1.get_text() for t in axis.get_major_ticks() if t.label1.get_visible()]
        ticks = [tick for tick in ticks if tick]
        if ticks and not all(map(NUMBER.fullmatch, ticks)):
            continue  # names along the axis say what it is
        inner = isinstance(axis.get_major_formatter(), NullFormatter) or not ticks
        labels = [axis.get_label_text()]
        if inner:  # the axes beside it has the ticks and the label
            labels += [getattr(o, f"get_{axis.axis_name}label")() for o in shared.get_siblings(ax)]
            names = [
                getattr(o, f"get_{axis.axis_name}ticklabels")() for o in shared.get_siblings(ax)
            ]
            if any(not NUMBER.fullmatch(t.get_text() or "0") for row in names for t in row):
                continue
        label = next(filter(None, labels), "")
        if not label:
            found.append(f"no {axis.axis_name} label {where}")
        elif not UNITLESS.search(label):
            found.append(f"{axis.axis_name} label {label!r} {where} names no unit or range")
    return found


def _foreign_colours(ax: Any) -> list[str]:
    """Colours of lines, bars and points that are neither grey nor in the palette nor a shade."""
    drawn = [line.get_color() for line in ax.lines if line.get_linestyle() != "None"]
    marked = [line for line in ax.lines if line.get_marker() not in ("None", "", None)]
    drawn += [c for line in marked for c in (line.get_markerfacecolor(), line.get_markeredgecolor())
              if isinstance(c, str) and c != "none"]  # fmt: skip
    drawn += [patch.get_facecolor() for patch in ax.patches if patch.get_fill()]
    drawn += [patch.get_edgecolor() for patch in ax.patches if not patch.get_fill()]
    drawn += [c for points in ax.collections if points.get_array() is None
              for c in [*points.get_facecolor(), *points.get_edgecolor()]]  # fmt: skip
    known = np.array([to_rgb(code) for code in PALETTE])
    known = np.concatenate([known * SHADE**k for k in range(SHADES)])
    found = {}
    for colour in drawn:
        rgb = np.array(to_rgb(colour))
        if np.ptp(rgb) > 0.03 and np.abs(known - rgb).max(axis=1).min() > 0.02:
            found[f"{to_hex(rgb)} of {ax.get_title()!r} is not in the palette"] = None
    return list(found)


def _legend(ax: Any) -> list[str]:
    """A legend over what it explains, or with two entries that look the same."""
    legend = ax.get_legend()
    if legend is None:
        return []
    box = legend.get_window_extent().padded(-2)
    points = [ax.transData.transform(np.column_stack([*line.get_data()]).astype(float))
              for line in ax.lines if line.get_transform() == ax.transData]  # fmt: skip
    covered = any(box.contains(*point) for line in points for point in line)
    covered |= any(
        bar.get_transform().transform_path(bar.get_path()).intersects_bbox(box, bar.get_fill())
        for bar in ax.patches
        if ax.transData in bar.get_transform()._iter_break_from_left_to_right()
    )
    return [f"the legend of {ax.get_title()!r} covers data"] if covered else []
