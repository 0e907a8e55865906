"""Figures of patch tokens: maps over their image, curves over layers, histograms over images."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from encoderlab.core.atomic_io import atomic_write
from encoderlab.errors import UsageError, did_you_mean
from encoderlab.plots.primitives import ends_of, legend_below
from encoderlab.plots.style import (
    CHANCE,
    MARKERS,
    PALETTE,
    RED,
    FigureRecord,
    colours,
    figure,
    markers,
    rules,
    short,
    warn_missing_glyphs,
)

if TYPE_CHECKING:
    from PIL import Image

    from encoderlab.inspection.analyzer import SimilarityResult
    from encoderlab.inspection.lens import NearWords

FORMATS = ("png", "pdf", "svg")
MOST_WORDS, LONGEST_WORD = 12, 10  # in a line of a figure; letters of one
COMBINED = "similarity_analysis_combined"
INDIVIDUAL = {
    "horizontal_similarity": ("horizontal_right", "to the right neighbour"),
    "vertical_similarity": ("vertical_down", "to the neighbour below"),
    "cls_similarity": ("cls_similarity", "to CLS"),
}
LABELS = {"outliers": "outliers (tokens)", "loss_at_half": "loss at half the grid (0 to 1)",
          "effective_rank": "effective rank (directions)", "morans_i": "Moran's I"}  # fmt: skip


class SimilarityVisualizer:
    """Draws the maps of one image.

    Args:
        figsize: width and height of the combined figure in inches.
        cmap: matplotlib's name of a colour map.

    Raises:
        UsageError: an unknown colour map, or a size that is none.
    """

    def __init__(self, figsize: Sequence[float] = (20, 16), cmap: str = "viridis") -> None:
        if cmap not in matplotlib.colormaps:
            near = did_you_mean(cmap, list(matplotlib.colormaps))
            raise UsageError(
                "unknown colour map",
                got=cmap,
                want="viridis, magma, hot, gray, coolwarm or any other of matplotlib",
                hint=f"did you mean {near!r}?" if near else None,
            )
        if len(figsize) != 2 or min(figsize) <= 0:
            raise UsageError("figsize is no width and height", got=list(figsize), want="[20, 16]")
        self.figsize, self.cmap = (float(figsize[0]), float(figsize[1])), cmap

    def visualize_all(
        self, result: SimilarityResult, save_path: str | Path | None = None, dpi: int = 150
    ) -> Figure:
        """Draws all maps and curves of one image.

        Args:
            result: the maps.
            save_path: a .png, .pdf or .svg to write; None for none.
            dpi: dots per inch of the file.

        Returns:
            The figure: the image, three similarity maps, norms, loss of pooling, row and column
            means, the distribution, the budget curve.
        """
        scale = min(self.figsize) / 16
        sizes: dict[Any, int] = {"font.size": 12, "axes.titlesize": 13, "axes.labelsize": 12}
        with rules(), matplotlib.rc_context({key: size * scale for key, size in sizes.items()}):
            drawn = figure(*self.figsize)
            image, *maps, norms, losses, means, distribution, budget = drawn.subplots(3, 3).flat
            _show_image(image, result)
            for ax, (key, title) in zip(maps, INDIVIDUAL.values(), strict=True):
                self._map(ax, result, getattr(result, key), _title(result, title), result.metric)
            self._map(norms, result, result.norms, "token norms", "length", result.outliers)
            h, w = (max(1, side // 2) for side in result.grid)
            title = f"where pooling to {h} × {w} loses"
            self._map(losses, result, result.loss_map((h, w)), title, "share of the mean loss")
            _means(means, result)
            _distribution(distribution, result)
            _budget(budget, result)
            drawn.suptitle(
                f"{result.model}, {result.stage}, {result.grid[0]} × {result.grid[1]} "
                f"patches, {result.metric.replace('_', ' ')}",
                fontsize=15 * scale,
            )
        if save_path is not None:
            _save(drawn, Path(save_path), dpi)
        return drawn

    def visualize_individual(
        self,
        result: SimilarityResult,
        output_dir: str | Path,
        dpi: int = 150,
        format: str = "png",
    ) -> list[Path]:
        """Writes one figure per similarity map, beside the image.

        Args:
            result: the maps.
            output_dir: folder of the files.
            dpi: dots per inch.
            format: png, pdf or svg.

        Returns:
            The paths of the files.
        """
        paths = []
        for name, (key, title) in INDIVIDUAL.items():
            with rules():
                drawn = figure(9.5, 4.6)
                left, right = drawn.subplots(1, 2)
                _show_image(left, result)
                self._map(right, result, getattr(result, key), _title(result, title), result.metric)
                drawn.suptitle(f"{result.model}, {result.stage}", fontsize=11)
            paths.append(Path(output_dir) / f"{name}.{format}")
            _save(drawn, paths[-1], dpi)
        return paths

    def _map(
        self,
        ax: Any,
        result: SimilarityResult,
        values: np.ndarray,
        title: str,
        unit: str,
        marked: np.ndarray | None = None,
    ) -> None:
        """A map over the grey image. A cell for two patches lies between them."""
        h, w = result.grid
        rows, columns = values.shape
        top, left = (h - rows) / 2, (w - columns) / 2
        if result.view is not None:
            ax.imshow(result.view.convert("L"), cmap="gray", extent=(0, w, h, 0))
        image = ax.imshow(
            values, cmap=self.cmap, extent=(left, left + columns, top + rows, top),
            alpha=0.75 if result.view is not None else 1.0, interpolation="nearest",
        )  # fmt: skip
        if marked is not None and marked.any():
            y, x = np.nonzero(marked)
            ax.plot(x + 0.5, y + 0.5, "x", color=RED, markersize=6, label="outlier")
            ax.legend(loc="upper right", fontsize="small", frameon=True)
        _frame(ax, h, w, title)
        ax.figure.colorbar(image, ax=ax, label=unit.replace("_", " "), shrink=0.85)


def patch_text(
    result: SimilarityResult, text: str, maps: Mapping[str, np.ndarray], cmap: str = "magma"
) -> FigureRecord:
    """The (h, w) cosines of the patches to a text, one map per method on its own colour scale."""
    with rules():
        drawn = figure(2.9 * (len(maps) + 1), 3.6)
        axes = drawn.subplots(1, len(maps) + 1)
        _show_image(axes[0], result)
        h, w = result.grid
        for ax, (name, values) in zip(axes[1:], maps.items(), strict=True):
            if result.view is not None:
                ax.imshow(result.view.convert("L"), cmap="gray", extent=(0, w, h, 0))
            ax.imshow(values, cmap=cmap, extent=(0, w, h, 0), alpha=0.65)
            scale = f"{values.min():.2f} to {values.max():.2f}"
            ax.set_title(f"{name.replace('_', '-')}\n{scale}", fontsize=10)
            ax.axis("off")
        drawn.suptitle(f"where is “{text[:70]}”?", fontsize=11)
    return FigureRecord(
        "patch_text",
        drawn,
        "Cosine of each patch with the text, by five ways through the last block.",
        dict(maps),
    )


def profile(
    layers: Sequence[Mapping[str, float]], distance: tuple[np.ndarray, np.ndarray], model: str
) -> FigureRecord:
    """Neighbour similarity, Moran's I and effective rank by layer; similarity by distance."""
    columns = {key: np.array([row[key] for row in layers]) for key in layers[0]}
    with rules():
        drawn = figure(12, 3.4)
        *by_layer, by_distance = drawn.subplots(1, 4)
        shown = ("neighbour_similarity", "morans_i", "effective_rank")
        for ax, key in zip(by_layer, shown, strict=True):
            ax.plot(columns["layer"], columns[key], "o-", color=PALETTE[0])
            ax.set_ylabel(_label(key))
            ax.set_xlabel("layer")
        by_distance.plot(*distance, "o-", color=PALETTE[2], markersize=3)
        by_distance.set_ylabel("mean similarity")
        by_distance.set_xlabel("distance (patches)")
        drawn.suptitle(model)
    return FigureRecord(
        "layers",
        drawn,
        "Layer 0 is what enters the first block. Moran's I: 1 where neighbours are the same, 0 "
        "where place does not matter.",
        columns | {"distance": np.stack(distance)},
    )


def folder(statistics: Mapping[str, np.ndarray], means: Mapping[str, Any]) -> FigureRecord:
    """The distribution of every statistic over the images of a folder, with its mean."""
    with rules():
        drawn = figure(3.4 * len(statistics), 3.4)
        axes = drawn.subplots(1, len(statistics), squeeze=False)[0]
        for ax, (name, values) in zip(axes, statistics.items(), strict=True):
            finite = values[np.isfinite(values)]
            bins = min(20, max(5, len(finite) // 4))
            ax.hist(finite, bins=bins, color=PALETTE[0], edgecolor="white")
            score = means[name]
            if score.get("ci_low") is not None:
                ax.axvspan(score["ci_low"], score["ci_high"], color=PALETTE[1], alpha=0.4)
            if score.get("value") is not None:
                ax.axvline(score["value"], color="black")
            ax.set_xlabel(_label(name))
            ax.set_ylabel("number of images")
        drawn.suptitle("Over all images: black the mean, orange its 95 % interval")
    return FigureRecord("folder_statistics", drawn, "One value per image.", dict(statistics))


def registers(
    views: Sequence[Image.Image], maps: Mapping[str, np.ndarray], model: str, layer: int
) -> FigureRecord:
    """The norms of the patches before and after activations were moved into an added token.

    Args:
        views: images as the encoder sees them.
        maps: what was changed -> norms (images, h, w).
        model: its name.
        layer: the hidden state.

    Returns:
        The figure "registers": one line per image, one column per change.
    """
    with rules():
        drawn = figure(3.0 * (len(maps) + 1) + 0.8, 2.9 * len(views) + 0.7)
        grid = drawn.subplots(len(views), len(maps) + 1, squeeze=False)
        for i, (view, axes) in enumerate(zip(views, grid, strict=True)):
            h, w = next(iter(maps.values()))[i].shape
            axes[0].imshow(view, extent=(0, w, h, 0))
            _frame(axes[0], h, w, "the image")
            low = min(float(values[i].min()) for values in maps.values())
            high = max(float(values[i].max()) for values in maps.values())
            for ax, (name, values) in zip(axes[1:], maps.items(), strict=True):
                image = ax.imshow(values[i], vmin=low, vmax=high, extent=(0, w, h, 0))
                _frame(ax, h, w, name)
            drawn.colorbar(image, ax=list(axes), label="norm (no unit)", shrink=0.8)
        drawn.suptitle(f"{short(model)}: norms of the patches, hidden state {layer}")
    return FigureRecord(
        "registers",
        drawn,
        "Bright cells are outlier tokens. With a register the activation of the neurons behind "
        "them is in an added token, which is not shown; with random neurons, that of as many "
        "others of the same blocks. Each line has one colour scale.",
        dict(maps),
    )


def words(view: Image.Image, near: Mapping[str, NearWords], model: str) -> FigureRecord:
    """The word nearest to each image token, over the image.

    Args:
        view: the image as the VLM sees it.
        near: lens -> the words of its tokens.
        model: its name.

    Returns:
        The figure "words": the image, and one panel per lens.
    """
    size = 7.0
    rows, columns = next(iter(near.values())).grid
    # Of a fine grid every other token, or fewer, so that words do not touch.
    step = max(1, -(-columns // MOST_WORDS))
    side = max(3.2, (0.6 * size * LONGEST_WORD / 72 + 0.08) * -(-columns // step))
    with rules():
        drawn = figure(side * (len(near) + 1), side + 0.9)
        seen, *axes = drawn.subplots(1, len(near) + 1)
        seen.imshow(view, extent=(0, columns, rows, 0))
        _frame(seen, rows, columns, "the image")
        for ax, (lens, found) in zip(axes, near.items(), strict=True):
            ax.imshow(view.convert("L"), cmap="gray", extent=(0, columns, rows, 0), alpha=0.35)
            for number, nearest in enumerate(found.words):
                i, j = divmod(number, columns)
                if nearest and i % step == 0 and j % step == 0:
                    # Two dollars would be a formula.
                    shown = short(nearest[0], LONGEST_WORD).replace("$", r"\$")
                    ax.text(j + 0.5, i + 0.5, shown, ha="center", va="center", fontsize=size)
            _frame(ax, rows, columns, f"{lens}, hidden state {found.layer}")
        drawn.suptitle(f"{short(model)}: the word nearest to each image token")
    return FigureRecord(
        "words",
        drawn,
        "Logit lens: the token that the language model would give if the hidden state were its "
        "last one. Contextual: the word of a caption whose state at the same layer has the "
        "largest cosine." + (f" One token in {step} in each direction." if step > 1 else ""),
    )


def words_by_layer(scores: Sequence[Mapping[str, Any]], model: str, k: int) -> FigureRecord:
    """How often the word of an object is near the tokens that cover it, by layer.

    Args:
        scores: of every lens, attribute and layer, as the JSON of the result has them.
        model: its name.
        k: how many words are near.

    Returns:
        The figure "words_by_layer": one panel per attribute, one line per lens, chance dashed.
    """
    attributes = list(dict.fromkeys(row["attribute"] for row in scores))
    lenses = list(dict.fromkeys(row["lens"] for row in scores))
    arrays = {}
    with rules():
        drawn = figure(4.3 * len(attributes) + 0.6, 3.9)
        axes = drawn.subplots(1, len(attributes), squeeze=False)[0]
        for ax, attribute in zip(axes, attributes, strict=True):
            for lens, colour, marker in zip(lenses, PALETTE, MARKERS, strict=False):
                own = [r for r in scores if (r["lens"], r["attribute"]) == (lens, attribute)]
                ends = ends_of([row["score"] for row in own])
                layer = [row["layer"] for row in own]
                arrays[f"{attribute}/{lens}"] = ends
                ax.fill_between(layer, ends[:, 1], ends[:, 2], color=colour, alpha=0.2, linewidth=0)
                ax.plot(layer, ends[:, 0], color=colour, marker=marker, label=lens)
                ax.plot(layer, ends[:, 3], **(CHANCE | {"color": colour}),
                        label=f"{lens}, objects of other images")  # fmt: skip
            ax.set(xlabel="layer (hidden state)", ylabel="share of covering tokens (0 to 1)",
                   title=f"the {attribute}", ylim=(-0.03, 1.03))  # fmt: skip
            ax.set_xticks(layer if len(layer) <= 12 else layer[:: -(-len(layer) // 12)])
        legend_below(drawn, axes[0].get_legend_handles_labels()[0])
        drawn.suptitle(f"{short(model)}: is the object's word among the {k} nearest?")
    return FigureRecord(
        "words_by_layer",
        drawn,
        "Share of the tokens that cover an object of a synthetic scene whose nearest words have "
        "the object's; bands are 95 % intervals over images. Dashed: the same tokens with the "
        "objects of all other images.",
        arrays,
    )


def as_html(result: SimilarityResult) -> str:
    """The combined figure as an HTML image, for a notebook."""
    drawn = SimilarityVisualizer(figsize=(12, 9.6)).visualize_all(result)
    content = io.BytesIO()
    with rules():
        drawn.savefig(content, format="png", dpi=80)
    data = base64.b64encode(content.getvalue()).decode()
    return f"<img alt='similarity maps of {result.model}' src='data:image/png;base64,{data}'>"


def _show_image(ax: Any, result: SimilarityResult) -> None:
    h, w = result.grid
    if result.view is not None:
        ax.imshow(result.view, extent=(0, w, h, 0))
    ax.set_aspect("equal")
    _frame(ax, h, w, "the image" if result.view is not None else "no image")


def _frame(ax: Any, h: int, w: int, title: str) -> None:
    ax.set(xlim=(0, w), ylim=(h, 0), xticks=[], yticks=[], title=title)
    ax.spines[:].set_visible(False)
    ax.grid(visible=False)


def _label(statistic: str) -> str:
    return LABELS.get(statistic, statistic.replace("_", " "))


def _title(result: SimilarityResult, title: str) -> str:
    return title.replace("CLS", result.anchor)


def _means(ax: Any, result: SimilarityResult) -> None:
    values = result.neighbour_mean
    ax.plot(values.mean(axis=1), "o-", color=PALETTE[0], label="row means", markersize=4)
    ax.plot(values.mean(axis=0), "s--", color=PALETTE[1], label="column means", markersize=4)
    ax.set_xlabel("row or column (patches)")
    ax.set_ylabel(f"mean {result.metric.replace('_', ' ')}")
    ax.set_title("to the eight neighbours")
    ax.legend(fontsize="small")


def _distribution(ax: Any, result: SimilarityResult) -> None:
    styles = ("-", "--", ":")
    for (key, title), colour, style in zip(INDIVIDUAL.values(), PALETTE, styles, strict=False):
        values = getattr(result, key).ravel()
        if np.ptp(values) > 1e-9:
            look = {"color": colour, "linestyle": style, "linewidth": 2}
            ax.hist(values, bins=24, histtype="step", label=_title(result, title), **look)
    if result.null is not None:
        mean, sd = result.null.mean, result.null.sd
        ax.axvline(mean, color="#444444", linestyle="--", label="other images' patches")
        ax.axvspan(mean - sd, mean + sd, color="#BBBBBB", alpha=0.4)
    ax.set_xlabel(result.metric.replace("_", " "))
    ax.set_ylabel("number of pairs")
    ax.set_title("distribution")
    ax.set_ylim(top=1.5 * ax.get_ylim()[1])  # room for the legend
    ax.legend(fontsize="small", loc="upper left")


def _budget(ax: Any, result: SimilarityResult) -> None:
    grids = result.token_budget
    tokens = [a * b for a, b in grids]
    ax.plot(tokens, list(grids.values()), "o-", color=PALETTE[2], markersize=4)
    ax.set_xscale("log")
    ticks = [n for n in (1, 4, 16, 64, 144, 256, 576, 1024) if n <= tokens[-1]]
    ax.set_xticks(ticks, [str(n) for n in ticks])
    ax.minorticks_off()
    ax.set_xlabel(f"tokens kept by average pooling (of {tokens[-1]})")
    ax.set_ylabel("share of the variance lost (0 to 1)")
    ax.set_title("token budget")
    ax.set_ylim(-0.03, 1.03)


def _save(drawn: Figure, path: Path, dpi: int) -> None:
    ending = path.suffix.removeprefix(".") or "png"
    if ending not in FORMATS:
        raise UsageError("unknown format of figures", got=ending, want=", ".join(FORMATS))
    warn_missing_glyphs(drawn)
    with atomic_write(path) as unfinished, rules():
        drawn.savefig(unfinished, format=ending, dpi=dpi)


def text_size(result: Mapping[str, Any]) -> list[FigureRecord]:
    """Accuracy against the height of the digits, one line per encoder, with intervals."""
    names = [of["encoder"] for of in result["encoders"]]
    tint, shape = colours(names), markers(names)
    arrays: dict[str, np.ndarray] = {}
    with rules():
        fig = figure(7.5, 4.8)
        ax = fig.subplots()
        ticks: set[int] = set()
        for of in result["encoders"]:
            name, scores = of["encoder"], [row["accuracy"] for row in of["heights"]]
            read = [row["height"] for row in of["heights"] if row["read"]]
            heights = [row["height"] for row in of["heights"]]
            keys = ("value", "ci_low", "ci_high", "chance")
            value, low, high, chance = (np.array([s[key] for s in scores], float) for key in keys)
            label = short(name)
            if of["smallest"] is not None:
                label += f": from {of['smallest']} pixels on (patch of {of['patch_size']})"
                at = heights.index(of["smallest"])
                ax.plot(heights[at], value[at], "o", markersize=15, markerfacecolor="none",
                        markeredgecolor=tint[name])  # fmt: skip
            elif read:
                label += f": not {heights[-1]} pixels, but {' and '.join(map(str, read))}"
            ax.plot(heights, value, shape[name] + "-", color=tint[name], label=label,
                    markeredgecolor="black", markeredgewidth=0.5)  # fmt: skip
            ax.fill_between(heights, low, high, color=tint[name], alpha=0.2, linewidth=0)
            ax.plot(heights, chance, **CHANCE)
            arrays[name] = np.array([heights, value, low, high, chance], float)
            ticks.update(heights)
        ax.set_xscale("log", base=2)
        ax.set_xticks(sorted(ticks), [str(height) for height in sorted(ticks)])
        ax.minorticks_off()
        ax.set_ylim(0, 1.02)
        ax.set_xlabel("height of the digits (pixels of the input)")
        ax.set_ylabel("right digits (0 to 1)")
        ax.legend(loc="upper left", fontsize=8)
        fig.suptitle("How small may text be?")
    record = FigureRecord(
        "text_size", fig,
        "Share of digits that a linear probe reads from the tokens of the patches they touch, in "
        "words and places it was not fitted on. Bands are 95 % intervals, dashed is chance. A ring "
        "marks the smallest height from which on all are read: their intervals, corrected for the "
        "number of heights, lie above half-way between chance and 1.",
        arrays,
    )  # fmt: skip
    return [record]
