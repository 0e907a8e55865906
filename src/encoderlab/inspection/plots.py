"""Maps of patch tokens over their image: `SimilarityVisualizer`; figures over layers and images."""

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
from encoderlab.plots.style import FigureRecord, figure, rules, warn_missing_glyphs

if TYPE_CHECKING:
    from encoderlab.inspection.analyzer import SimilarityResult

FORMATS = ("png", "pdf", "svg")
COMBINED = "similarity_analysis_combined"
INDIVIDUAL = {
    "horizontal_similarity": ("horizontal_right", "to the right neighbour"),
    "vertical_similarity": ("vertical_down", "to the neighbour below"),
    "cls_similarity": ("cls_similarity", "to CLS"),
}
PALETTE = ("#4C8BF5", "#F5A623", "#0ABAB5")


def check_colour_map(name: str) -> None:
    """Refuses a colour map that matplotlib does not know.

    Raises:
        UsageError: with the nearest known one.
    """
    known = list(matplotlib.colormaps)
    if name not in known:
        near = did_you_mean(name, known)
        raise UsageError(
            "unknown colour map",
            got=name,
            want=", ".join(("viridis", "magma", "hot", "gray", "coolwarm")) + " or any other of "
            "matplotlib",
            hint=f"did you mean {near!r}?" if near else None,
        )


class SimilarityVisualizer:
    """Draws the maps of one image.

    Args:
        figsize: width and height of the combined figure in inches.
        cmap: matplotlib's name of a colour map.

    Raises:
        UsageError: an unknown colour map, or a size that is none.
    """

    def __init__(self, figsize: Sequence[float] = (20, 16), cmap: str = "viridis") -> None:
        check_colour_map(cmap)
        if len(figsize) != 2 or min(figsize) <= 0:
            raise UsageError("figsize is no width and height", got=list(figsize), want="[20, 16]")
        self.figsize, self.cmap = (float(figsize[0]), float(figsize[1])), cmap

    def visualize_all(
        self, result: SimilarityResult, save_path: str | Path | None = None, dpi: int = 150
    ) -> Figure:
        """The combined figure: the image, three maps over it, norms, where pooling would lose, row
        and column means, the distribution, the budget curve."""
        scale = min(self.figsize) / 16
        with rules(), matplotlib.rc_context({"font.size": 12 * scale,
                                             "axes.titlesize": 13 * scale,
                                             "axes.labelsize": 12 * scale}):  # fmt: skip
            made = figure(*self.figsize)
            grid = made.subplots(3, 3)
            _show_image(grid[0, 0], result)
            for ax, (key, words) in zip(
                (grid[0, 1], grid[0, 2], grid[1, 0]), INDIVIDUAL.values(), strict=True
            ):
                self._map(ax, result, getattr(result, key), _of(result, words), result.metric)
            self._map(grid[1, 1], result, result.norms, "token norms", "length", result.outliers)
            half = tuple(max(1, side // 2) for side in result.grid)
            self._map(
                grid[1, 2], result, result.loss_map((half[0], half[1])),
                f"where pooling to {half[0]} × {half[1]} loses", "share of the mean loss",
            )  # fmt: skip
            _means(grid[2, 0], result)
            _distribution(grid[2, 1], result)
            _budget(grid[2, 2], result)
            made.suptitle(
                f"{result.model}, {result.stage}, {result.grid[0]} × {result.grid[1]} "
                f"patches, {result.metric.replace('_', ' ')}",
                fontsize=15 * scale,
            )
        if save_path is not None:
            _save(made, Path(save_path), dpi)
        return made

    def visualize_individual(
        self,
        result: SimilarityResult,
        output_dir: str | Path,
        dpi: int = 150,
        format: str = "png",
    ) -> list[Path]:
        """One file per map beside the image; returns their paths."""
        paths = []
        for name, (key, words) in INDIVIDUAL.items():
            with rules():
                made = figure(9.5, 4.6)
                left, right = made.subplots(1, 2)
                _show_image(left, result)
                self._map(right, result, getattr(result, key), _of(result, words), result.metric)
                made.suptitle(f"{result.model}, {result.stage}", fontsize=11)
            path = Path(output_dir) / f"{name}.{format}"
            _save(made, path, dpi)
            paths.append(path)
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
        """A map over the grey image, each cell where its patches meet."""
        h, w = result.grid
        rows, columns = values.shape
        # A cell between two patches lies between them: half a patch in from either side.
        top, left = (h - rows) / 2, (w - columns) / 2
        if result.view is not None:
            ax.imshow(result.view.convert("L"), cmap="gray", extent=(0, w, h, 0))
        shown = ax.imshow(
            values, cmap=self.cmap, extent=(left, left + columns, top + rows, top),
            alpha=0.75 if result.view is not None else 1.0, interpolation="nearest",
        )  # fmt: skip
        if marked is not None and marked.any():
            y, x = np.nonzero(marked)
            ax.plot(x + 0.5, y + 0.5, "x", color="red", markersize=6, label="outlier")
            ax.legend(loc="upper right", fontsize="small", frameon=True)
        ax.set_xlim(0, w)
        ax.set_ylim(h, 0)
        ax.set_xticks([])
        ax.set_yticks([])
        ax.spines[:].set_visible(False)
        ax.grid(visible=False)
        ax.set_title(title)
        ax.figure.colorbar(shown, ax=ax, label=unit.replace("_", " "), shrink=0.85)


def patch_text(
    result: SimilarityResult, text: str, maps: Mapping[str, np.ndarray], cmap: str = "magma"
) -> FigureRecord:
    """The ways to ask where a text is, side by side; bright is more, each on its own scale."""
    with rules():
        made = figure(2.9 * (len(maps) + 1), 3.6)
        axes = made.subplots(1, len(maps) + 1)
        _show_image(axes[0], result)
        h, w = result.grid
        for ax, (name, values) in zip(axes[1:], maps.items(), strict=True):
            if result.view is not None:
                ax.imshow(result.view.convert("L"), cmap="gray", extent=(0, w, h, 0))
            ax.imshow(values, cmap=cmap, extent=(0, w, h, 0), alpha=0.65)
            ax.set_title(f"{name.replace('_', '-')}\n{values.min():.2f} to {values.max():.2f}",
                         fontsize=10)  # fmt: skip
            ax.axis("off")
        made.suptitle(f"where is “{text[:70]}”?", fontsize=11)
    return FigureRecord(
        "patch_text",
        made,
        "Cosine of each patch with the text, by five ways through the last block.",
        dict(maps),
    )


def profile(layers: Sequence[Mapping[str, float]], distance: tuple[np.ndarray, np.ndarray],
            model: str) -> FigureRecord:  # fmt: skip
    """Layer by layer: neighbour similarity, Moran's I, effective rank; and similarity by
    distance."""
    with rules():
        made = figure(12, 3.4)
        axes = made.subplots(1, 4)
        x = [row["layer"] for row in layers]
        for ax, (key, title) in zip(
            axes,
            (("neighbour_similarity", "neighbour similarity"), ("morans_i", "Moran's I"),
             ("effective_rank", "effective rank")),
            strict=False,
        ):  # fmt: skip
            ax.plot(x, [row[key] for row in layers], "o-", color=PALETTE[0])
            ax.set_title(title)
            ax.set_xlabel("layer")
        axes[3].plot(*distance, "o-", color=PALETTE[2], markersize=3)
        axes[3].set_title("similarity by distance")
        axes[3].set_xlabel("patches apart")
        made.suptitle(model)
    return FigureRecord(
        "layers",
        made,
        "Layer 0 is what enters the first block. Moran's I: 1 where neighbours are the same, 0 "
        "where place does not matter.",
        {key: np.array([row[key] for row in layers]) for key in layers[0]}
        | {"distance": np.stack(distance)},
    )


def folder(statistics: Mapping[str, np.ndarray], means: Mapping[str, Any]) -> FigureRecord:
    """The distribution of every statistic over the images of a folder."""
    with rules():
        made = figure(3.4 * len(statistics), 3.4)
        axes = made.subplots(1, len(statistics), squeeze=False)[0]
        for ax, (name, values) in zip(axes, statistics.items(), strict=True):
            finite = values[np.isfinite(values)]
            ax.hist(finite, bins=min(20, max(5, len(finite) // 4)), color=PALETTE[0],
                    edgecolor="white")  # fmt: skip
            score = means[name]
            if score.get("ci_low") is not None:
                ax.axvspan(score["ci_low"], score["ci_high"], color=PALETTE[1], alpha=0.4)
            if score.get("value") is not None:
                ax.axvline(score["value"], color="black")
            ax.set_title(name.replace("_", " "))
            ax.set_ylabel("images")
        made.suptitle("Over all images: black the mean, orange its 95 % interval")
    return FigureRecord("folder_statistics", made, "One value per image.", dict(statistics))


def as_html(result: SimilarityResult) -> str:
    """The combined figure for a notebook."""
    made = SimilarityVisualizer(figsize=(12, 9.6)).visualize_all(result)
    content = io.BytesIO()
    with rules():
        made.savefig(content, format="png", dpi=80)
    data = base64.b64encode(content.getvalue()).decode()
    return f"<img alt='similarity maps of {result.model}' src='data:image/png;base64,{data}'>"


def _show_image(ax: Any, result: SimilarityResult) -> None:
    h, w = result.grid
    if result.view is not None:
        ax.imshow(result.view, extent=(0, w, h, 0))
    ax.set_xlim(0, w)
    ax.set_ylim(h, 0)
    ax.set_xticks([])
    ax.set_yticks([])
    ax.grid(visible=False)
    ax.spines[:].set_visible(False)
    ax.set_aspect("equal")
    ax.set_title("the image" if result.view is not None else "no image")


def _of(result: SimilarityResult, words: str) -> str:
    return words.replace("CLS", result.anchor)


def _means(ax: Any, result: SimilarityResult) -> None:
    values = result.neighbour_mean
    ax.plot(values.mean(axis=1), "o-", color=PALETTE[0], label="row means", markersize=4)
    ax.plot(values.mean(axis=0), "s--", color=PALETTE[1], label="column means", markersize=4)
    ax.set_xlabel("row or column")
    ax.set_ylabel(f"mean {result.metric.replace('_', ' ')}")
    ax.set_title("to the eight neighbours")
    ax.legend(fontsize="small")


def _distribution(ax: Any, result: SimilarityResult) -> None:
    for (key, words), ink, style in zip(
        INDIVIDUAL.values(), PALETTE, ("-", "--", ":"), strict=True
    ):
        values = getattr(result, key).ravel()
        if np.ptp(values) > 1e-9:
            ax.hist(values, bins=24, histtype="step", color=ink, linestyle=style, linewidth=2,
                    label=_of(result, words))  # fmt: skip
    if result.null is not None:
        ax.axvline(result.null.mean, color="#444444", linestyle="--", label="other images' patches")
        ax.axvspan(result.null.mean - result.null.sd, result.null.mean + result.null.sd,
                   color="#BBBBBB", alpha=0.4)  # fmt: skip
    ax.set_xlabel(result.metric.replace("_", " "))
    ax.set_ylabel("pairs")
    ax.set_title("distribution")
    ax.legend(fontsize="small")


def _budget(ax: Any, result: SimilarityResult) -> None:
    grids = result.token_budget
    tokens = [a * b for a, b in grids]
    ax.plot(tokens, list(grids.values()), "o-", color=PALETTE[2], markersize=4)
    ax.set_xscale("log")
    shown = [n for n in (1, 4, 16, 64, 144, 256, 576, 1024) if n <= tokens[-1]]
    ax.set_xticks(shown, [str(n) for n in shown])
    ax.minorticks_off()
    ax.set_xlabel("tokens kept by average pooling")
    ax.set_ylabel("share of the variance lost")
    ax.set_title("token budget")
    ax.set_ylim(-0.03, 1.03)


def _save(made: Figure, path: Path, dpi: int) -> None:
    ending = path.suffix.removeprefix(".") or "png"
    if ending not in FORMATS:
        raise UsageError("unknown format of figures", got=ending, want=", ".join(FORMATS))
    warn_missing_glyphs(made)
    with atomic_write(path) as unfinished, rules():
        made.savefig(unfinished, format=ending, dpi=dpi)
