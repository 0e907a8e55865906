"""Parts that several figures share: panels, values with intervals and chance, heat maps.

A score is the mapping that `Score.to_json` gives.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.patheffects import withStroke
from matplotlib.transforms import Bbox
from scipy.optimize import isotonic_regression

from encoderlab.plots.style import (
    CHANCE,
    CONTROL_COLOURS,
    CONTROL_HATCHES,
    CONTROL_NAMES,
    HEAT,
    SHADE,
    colours,
    figure,
    markers,
    short,
    text_width,
)

Scored = Mapping[str, Any]
NEAR_AND_FAR = (8, 20, 34, 48)  # distances of a name from its point, in printer's points


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
    tint: Mapping[str, str] | None = None,
    controls: Mapping[str, Sequence[Scored | None]] | None = None,
) -> None:
    """Draws names down the side, and for each series markers with intervals and ticks at chance."""
    # `scores` is series -> one score per name; for None and undefined ones "undefined" is drawn.
    # `tint` is name -> colour, where names are not those of models. `controls` as `control_bands`.
    series = list(scores)
    bands = control_bands(axes, controls or {})
    shapes = markers(series)
    tint = colours(list(names)) if tint is None else tint
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
    if legend and (len(series) > 1 or bands):
        handles = [
            Line2D([], [], marker=shapes[s], color="#666666", linestyle="", label=short(s))
            for s in series
        ]
        handles.append(Line2D([], [], label="chance", **CHANCE))
        legend_below(axes.figure, [*handles, *bands])


def control_bands(axes: Any, controls: Mapping[str, Sequence[Scored | None]]) -> list[Patch]:
    """Shades the range of values that controls reach.

    Args:
        axes: with values along x.
        controls: prefix of the controls' names, such as "untrained:" -> their scores.

    Returns:
        A legend handle for each kind of control.
    """
    handles = []
    for prefix, scores in controls.items():
        values = ends_of(scores)[:, 0]
        values = values[np.isfinite(values)]
        # The edge keeps the band of a single control visible.
        look: Any = {
            "facecolor": CONTROL_COLOURS[prefix], "edgecolor": CONTROL_COLOURS[prefix],
            "alpha": 0.45, "hatch": CONTROL_HATCHES[prefix], "linewidth": 1.2,
        }  # fmt: skip
        if len(values):
            axes.axvspan(values.min(), values.max(), zorder=0, gid=prefix, **look)
        handles.append(Patch(label=CONTROL_NAMES[prefix], **look))
    return handles


def legend_below(fig: Any, handles: Sequence[Any]) -> None:
    """One legend below all axes, in as many columns as fit."""
    names = [str(handle.get_label()) for handle in handles]
    columns = int(fig.get_figwidth() / (text_width(names, 8) + 0.55))
    columns = max(1, min(columns, len(names)))
    fig.legend(handles, names, loc="outside lower center", ncols=columns, fontsize=8)


def label_ends(
    axes: Any, ends: Mapping[str, tuple[float, float, str]], height: float, size: float = 8.5
) -> None:
    """Names lines at the right of their axes, whose limits are fixed by this.

    Args:
        axes: of the lines.
        ends: name -> x and y of the line's last point, and its colour.
        height: of the axes in inches, about.
        size: of the font.
    """
    if not ends:
        return
    axes.set(xlim=axes.get_xlim(), ylim=axes.get_ylim())
    to_share = axes.transScale + axes.transLimits
    places = np.array([to_share.transform((x, y))[1] for x, y, _ in ends.values()])
    spread = apart(places.clip(0, 1), 1.35 * size / 72 / height)
    for (name, (x, y, colour)), place in zip(ends.items(), spread, strict=True):
        style = {"fontsize": size, "color": _readable(colour), "va": "center"}
        axes.text(1.07, place, short(name), transform=axes.transAxes, **style)
        _leader(axes, (x, y), (1.06, place), "axes fraction", colour)


def apart(places: np.ndarray, gap: float) -> np.ndarray:
    """Moves places apart, by the least sum of squares that keeps their order.

    Args:
        places: from 0 to 1.
        gap: least distance of two places.

    Returns:
        The new places, from 0 to 1 where so many have room.

    Examples:
        >>> apart(np.array([0.5, 0.5, 0.9]), 0.2).round(3).tolist()
        [0.4, 0.6, 0.9]
    """
    order = np.argsort(places, kind="stable")
    steps = gap * np.arange(len(places))
    room = max(1 - steps[-1], 0)
    moved = np.empty(len(places))
    moved[order] = isotonic_regression(places[order] - steps).x.clip(0, room) + steps
    return moved


def label_points(
    axes: Any, points: Mapping[str, tuple[float, float, str]], size: float = 8.5
) -> None:
    """Names points beside them, where a name lies over no other point and no other name.

    Args:
        axes: of the points, with everything drawn.
        points: name -> x, y and colour.
        size: of the font.
    """
    figure = axes.figure
    figure.draw_without_rendering()  # places all axes
    pixels = figure.dpi / 72
    taken = [
        Bbox.from_bounds(x - 5 * pixels, y - 5 * pixels, 10 * pixels, 10 * pixels)
        for line in axes.lines if len(line.get_xdata()) == 1
        for x, y in axes.transData.transform(np.column_stack(line.get_data()))
    ]  # fmt: skip
    for name, (x, y, colour) in points.items():
        width, height = text_width([short(name)], size) * figure.dpi, 1.3 * size * pixels
        here = axes.transData.transform((x, y))
        boxes = []
        for far in NEAR_AND_FAR:
            for across, up in ((1, 0), (-1, 0), (0.7, 1), (0.7, -1), (-0.7, 1), (-0.7, -1)):
                middle = here + np.array([across, up]) * far * pixels
                left = middle[0] - (width if across < 0 else 0)
                boxes.append(Bbox.from_bounds(left, middle[1] - height / 2, width, height))
        inside = [box for box in boxes if _contains(axes.bbox, box)] or boxes
        box = min(inside, key=lambda box: sum(map(box.overlaps, taken)))
        taken.append(box)
        to = (np.array([box.x0, box.y0 + height / 2]) - here) / pixels
        axes.annotate(
            short(name), (x, y), to, textcoords="offset points", fontsize=size, va="center",
            color=_readable(colour), path_effects=[withStroke(linewidth=2.5, foreground="white")],
        )  # fmt: skip
        if boxes.index(box) >= len(boxes) / len(NEAR_AND_FAR):
            end = (np.array([here[0].clip(box.x0, box.x1), box.y0 + height / 2]) - here) / pixels
            _leader(axes, (x, y), end, "offset points", colour)


def _leader(axes: Any, point: Any, to: Any, coordinates: str, colour: str) -> None:
    """A thin line from a point of the data to a place, which may lie outside of the axes."""
    line = {"arrowstyle": "-", "color": colour, "linewidth": 0.7, "shrinkA": 0, "shrinkB": 4}
    axes.annotate("", point, to, textcoords=coordinates, annotation_clip=False, arrowprops=line)


def _contains(outer: Bbox, inner: Bbox) -> bool:
    return bool(outer.contains(*inner.min) and outer.contains(*inner.max))


def _readable(colour: str) -> Any:
    """A colour dark enough for text on white: its next shade, black and greys as they are."""
    rgb = np.array(to_rgb(colour))
    return tuple(rgb * (SHADE if np.ptp(rgb) else 1))


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
