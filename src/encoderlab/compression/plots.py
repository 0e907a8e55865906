"""Figures of token compression: training curves and comparisons of methods. Computes no score."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from encoderlab.plots.primitives import legend_below
from encoderlab.plots.style import (
    BLUE,
    CHANCE,
    GREEN,
    MARKERS,
    ORANGE,
    PALETTE,
    RED,
    FigureRecord,
    figure,
    rules,
)


def curves(history: Sequence[Mapping[str, float]], best_epoch: int) -> FigureRecord:
    """Validation error, distance from real tokens, and the gradient of each loss by epoch."""
    names = dict.fromkeys(name for row in history for name in ("epoch", *row))
    series = {name: np.array([row.get(name, np.nan) for row in history]) for name in names}
    epochs = series["epoch"]
    with rules():
        fig = figure(12, 3.6)
        error, distance, gradients = fig.subplots(1, 3)
        error.plot(epochs, series["val/nmse"], "o-", color=BLUE, markersize=4)
        error.axvline(best_epoch, **CHANCE)
        error.set(title="Error on held-out images", xlabel="epoch", yscale="log",
                  ylabel="normalised error (1: mean token)")  # fmt: skip
        distance.plot(epochs, series["val/sliced_wasserstein"], "s-", color=ORANGE, markersize=4)
        distance.plot(epochs, series["val/sliced_wasserstein_floor"], **CHANCE)
        distance.set(title="Distance to real tokens", xlabel="epoch", ylim=(0, None),
                     ylabel="sliced Wasserstein (0: alike)")  # fmt: skip
        for name, line, colour in (
            ("reconstruction", "o-", GREEN),
            ("distribution", "^-", RED),
            ("answers", "s-", BLUE),
        ):
            if f"gradient/{name}" in series:
                gradients.plot(
                    epochs, series[f"gradient/{name}"], line, color=colour, label=name, markersize=4
                )
        gradients.set(title="Pull of each loss", xlabel="epoch", yscale="log",
                      ylabel="gradient norm (no unit)")  # fmt: skip
        gradients.legend()
        for axes in (error, distance, gradients):
            axes.locator_params(axis="x", integer=True)
    return FigureRecord(
        "curves", fig,
        "What training did, by epoch. Left: squared error of the rebuilt tokens over their "
        "variance on held-out images; the dashed line is the epoch that is kept. Middle: distance "
        "of the compressed tokens from tokens as the encoder gives them; dashed: two draws of "
        "real ones. Right: how hard each loss pulls, before their weights.",
        {name.replace("/", "_"): values for name, values in series.items()},
    )  # fmt: skip


Record = Mapping[str, Any]
TRAINED, BOUND = RED, "#1B1B1B"
OTHERS = [colour for colour in PALETTE if colour != TRAINED]


def kept(
    rows: Sequence[Record], trained: Sequence[str], whole: int, titles: Mapping[str, str]
) -> list[FigureRecord]:
    """Share of the score kept against the number of tokens: one line per method, one panel per
    task.

    Args:
        rows: records of the evaluation.
        trained: names of the trained compressors.
        whole: number of all tokens.
        titles: task -> title of its panel.

    Returns:
        A figure of the tasks of the encoder, and one of the answers of a VLM, where measured.
    """
    tasks = [task for task in titles if any(_known(row, task) for row in rows)]
    answers = [task for task in tasks if task.startswith("answers")]
    encoder = [task for task in tasks if task not in answers]
    figures = []
    if encoder:
        figures.append(FigureRecord(
            "pareto",
            _kept_panels(rows, trained, whole, {task: titles[task] for task in encoder},
                         "score kept (0: floor, 1: all tokens)"),
            "What each method keeps of the score between the floor (every patch is the mean token: "
            "the lower dashed line) and all tokens (the upper one), put back into the encoder; "
            "95 % intervals over images. The embedding's scale is wider towards 1. \"No CLS\": the "
            "class token is replaced too, so that the patches alone must carry the answer.",
            _kept_arrays(rows, encoder),
        ))  # fmt: skip
    if answers:
        figures.append(FigureRecord(
            "answers_kept",
            _kept_panels(rows, trained, whole, {task: titles[task] for task in answers},
                         "right answers kept (0: other image, 1: all tokens)"),
            "Share of the VLM's right answers that is kept when each method rebuilds its tokens: 1 "
            "(the upper dashed line) is what all tokens of the image give, 0 (the lower one) all "
            "tokens of another question's image; 95 % intervals over images. VTC split: the "
            "questions that the smaller image with as many tokens gets wrong, other questions at "
            "each number of tokens, without the smaller image itself.",
            _kept_arrays(rows, answers),
        ))  # fmt: skip
    return figures


def _kept_panels(
    rows: Sequence[Record], trained: Sequence[str], whole: int, titles: Mapping[str, str], y: str
) -> Any:
    methods = list(dict.fromkeys(row["method"] for row in rows))
    with rules():
        columns = min(len(titles), 3)
        lines = -(-len(titles) // columns)
        fig = figure(4.6 * columns, 4.0 * lines + 1.4)
        panels = np.atleast_1d(fig.subplots(lines, columns, squeeze=False)).flatten()
        for axes in panels[len(titles) :]:
            axes.set_visible(False)
        for axes, task in zip(panels, titles, strict=False):
            for number, method in enumerate(methods):
                here = [row for row in rows if row["method"] == method and _known(row, task)]
                here.sort(key=lambda row: row["tokens"])
                # Shifted a little, so that intervals do not overlap.
                shift = 1 + 0.012 * (number - len(methods) / 2)
                x = np.array([row["tokens"] * shift for row in here])
                scores = [row["kept"][task] for row in here]
                value = np.array([score["value"] for score in scores])
                low = [score.get("ci_low", score["value"]) for score in scores]
                high = [score.get("ci_high", score["value"]) for score in scores]
                style = _style(method, methods, trained)
                axes.vlines(x, low, high, color=style["color"], linewidth=1, alpha=0.6)
                axes.plot(x, value, label=method, **style)
            axes.axhline(1.0, **CHANCE)
            axes.axhline(0.0, **CHANCE)
            if task.startswith("embedding"):
                _by_nines(axes)
            axes.set_xscale("log")
            counts = sorted({row["tokens"] for row in rows})
            axes.set_xticks(counts, [str(n) for n in counts])
            axes.minorticks_off()
            axes.set(title=titles[task], xlabel=f"tokens kept (of {whole})", ylabel=y)
        legend_below(fig, panels[0].get_legend_handles_labels()[0])
    return fig


def _kept_arrays(rows: Sequence[Record], tasks: Sequence[str]) -> dict[str, np.ndarray]:
    return {
        f"{task}/{method}": np.array(
            [[row["tokens"], float(row["kept"][task]["value"])] for row in rows
             if row["method"] == method and _known(row, task)]
        )
        for task in tasks for method in dict.fromkeys(row["method"] for row in rows)
    }  # fmt: skip


def two_axes(rows: Sequence[Record], trained: Sequence[str]) -> FigureRecord:
    """Reconstruction against distribution: one panel per budget, one point per method with both."""
    rows = [row for row in rows if row["nmse"] and row["distance"]]
    methods = list(dict.fromkeys(row["method"] for row in rows))
    with rules():
        fig, panels = _panels(rows, 5.0)
        for axes, here in panels:
            for row in here:
                style = _style(row["method"], methods, trained)
                style |= {"linestyle": "none", "markersize": 9}
                axes.plot(
                    [row["distance"]["value"]], [row["nmse"]["value"]], label=row["method"],
                    markeredgecolor="black", markeredgewidth=0.6, **style,
                )  # fmt: skip
            axes.axvline(here[0]["distance_floor"], **CHANCE)
            axes.axhline(1.0, **CHANCE)
            axes.set(xlabel="sliced Wasserstein distance (0: alike)", xlim=(0, None), yscale="log")
        panels[0][0].set_ylabel("normalised error (1: mean token)")
        legend_below(fig, panels[0][0].get_legend_handles_labels()[0])
    return FigureRecord(
        "two_axes", fig,
        "Two virtues that pull apart. Down: the tokens can be rebuilt. Left: the kept tokens look "
        "like tokens, so that what was trained on tokens can read them; dashed, the distance of "
        "two draws of real ones, and an error of 1, which the mean token alone has.",
        {
            f"{row['method']}/{row['tokens']}": np.array(
                [row["distance"]["value"], row["nmse"]["value"]]
            )
            for row in rows
        },
    )  # fmt: skip


def glyph_curve(
    rows: Sequence[Record], trained: Sequence[str], ends: Mapping[str, tuple[float, float]]
) -> FigureRecord:
    """Accuracy of reading a digit against its height: one panel per budget.

    Args:
        rows: records of the evaluation.
        trained: names of the trained compressors.
        ends: "digit HEIGHT px" -> accuracy with all tokens, and with one mean token.

    Returns:
        The figure.
    """
    names = [name for name in ends if name.startswith("digit")]
    heights = np.array([int(name.split()[1]) for name in names])
    rows = [row for row in rows if all(row["reading"][name] for name in names)]
    methods = list(dict.fromkeys(row["method"] for row in rows))
    curves = {
        f"{row['method']}/{row['tokens']}": np.array(
            [row["reading"][name]["value"] for name in names]
        )
        for row in rows
    }
    with rules():
        fig, panels = _panels(rows, 4.8)
        for axes, here in panels:
            for row in here:
                method = row["method"]
                style = _style(method, methods, trained)
                axes.plot(heights, curves[f"{method}/{row['tokens']}"], label=method, **style)
            full, floor = zip(*(ends[name] for name in names), strict=True)
            axes.plot(heights, full, color="black", linewidth=2, label="all tokens")
            axes.plot(heights, floor, **CHANCE, label="mean token")
            axes.set(xlabel="height of the digits (pixels)", ylim=(0, 1.02))
            axes.set_xticks(heights)
        panels[0][0].set_ylabel("accuracy (0 to 1)")
        legend_below(fig, panels[0][0].get_legend_handles_labels()[0])
    return FigureRecord(
        "glyphs", fig,
        "A line of one digit on a textured ground, read by the same small head from every method's "
        "tokens (five seeds). Small text is what compression loses first.",
        {**curves, "height": heights},
    )  # fmt: skip


def token_pictures(
    images: np.ndarray,
    full: np.ndarray,
    rebuilt: Mapping[str, np.ndarray],
    grid: tuple[int, int],
    budget: tuple[int, int],
) -> FigureRecord:
    """Original and reconstructed tokens as colours: three principal components as RGB.

    Args:
        images: (b, height, width, 3) uint8, the input of the encoder.
        full: (few, n, c) tokens.
        rebuilt: method -> (few, n, c).
        grid: (rows, columns) of the tokens.
        budget: (rows, columns) of the kept tokens.

    Returns:
        The figure.
    """
    few, names = len(full), list(rebuilt)
    arrays: dict[str, np.ndarray] = {}
    with rules():
        fig = figure(1.35 * (len(names) + 2), 1.5 * few + 0.5)
        panels = fig.subplots(few, len(names) + 2, squeeze=False)
        for i in range(few):
            mean = full[i].mean(axis=0)
            _, _, basis = np.linalg.svd(full[i] - mean, full_matrices=False)
            low, high = np.quantile((full[i] - mean) @ basis[:3].T, (0.02, 0.98), axis=0)

            def coloured(tokens: np.ndarray, m=mean, b=basis, lo=low, hi=high) -> np.ndarray:
                rgb = ((tokens - m) @ b[:3].T - lo) / np.maximum(hi - lo, 1e-9)
                return rgb.clip(0, 1).reshape(*grid, 3)

            panels[i, 0].imshow(images[i])
            panels[i, 1].imshow(coloured(full[i]), interpolation="nearest")
            for j, name in enumerate(names):
                picture = coloured(rebuilt[name][i])
                panels[i, j + 2].imshow(picture, interpolation="nearest")
                arrays[f"{i}/{name}"] = picture
        for axes in panels.flatten():
            axes.set_xticks([])
            axes.set_yticks([])
        for axes, title in zip(panels[0], ["image", "all tokens", *names], strict=True):
            axes.set_title(title.replace("_", "\n"), fontsize=8)
    return FigureRecord(
        "tokens", fig,
        f"Rebuilt from {budget[0] * budget[1]} tokens. Each image's tokens as colours: their three "
        "main components, fitted on the tokens as they are and used for every method alike.",
        arrays,
    )  # fmt: skip


def loss_map(
    images: np.ndarray,
    maps: Mapping[tuple[str, tuple[int, int]], np.ndarray],
    methods: Sequence[str],
    grid: tuple[int, int],
) -> FigureRecord:
    """Error of each token of the image with the largest error, for some methods at every budget.

    Args:
        images: (b, height, width, 3) uint8, the input of the encoder.
        maps: (method, budget) -> (b, n) squared error of every token.
        methods: that are drawn; those without a map are left out.
        grid: (rows, columns) of the tokens.

    Returns:
        The figure.
    """
    chosen = [name for name in methods if any(key[0] == name for key in maps)]
    chosen = chosen or [next(iter(maps))[0]]
    budgets = list(dict.fromkeys(key[1] for key in maps))
    first = next(maps[chosen[0], budget] for budget in budgets if (chosen[0], budget) in maps)
    worst = int(first.sum(axis=1).argmax())
    top = max(float(value[worst].max()) for key, value in maps.items() if key[0] in chosen)
    with rules():
        fig = figure(2.3 * (len(budgets) + 1) + 0.8, 2.4 * len(chosen) + 0.4)
        panels = fig.subplots(len(chosen), len(budgets) + 1, squeeze=False)
        for row, name in zip(panels, chosen, strict=True):
            row[0].imshow(images[worst])
            row[0].set_ylabel(name)
            for axes, budget in zip(row[1:], budgets, strict=True):
                if (name, budget) not in maps:
                    axes.set_visible(False)
                    continue
                axes.imshow(images[worst], extent=(0, grid[1], grid[0], 0))
                shown = axes.imshow(
                    np.sqrt(maps[name, budget][worst].reshape(grid)), alpha=0.75, vmin=0,
                    vmax=np.sqrt(top), extent=(0, grid[1], grid[0], 0), cmap="magma",
                )  # fmt: skip
                axes.set_title(f"{budget[0] * budget[1]} tokens", fontsize=9)
        for axes in panels.flatten():
            axes.set_xticks([])
            axes.set_yticks([])
            axes.grid(False)
        fig.colorbar(shown, ax=panels[:, -1], label="error of a token", shrink=0.8)
    caption = f"The image of the set that {chosen[0]} rebuilds worst, and where"
    if len(first) == 1:
        caption = "Where each method loses"
    return FigureRecord(
        "loss_map",
        fig,
        f"{caption}: the length of each token's error, on one scale.",
        {f"{name}/{b[0] * b[1]}": value[worst] for (name, b), value in maps.items()},
    )


def _panels(rows: Sequence[Record], height: float) -> tuple[Any, list[tuple[Any, list[Record]]]]:
    """A figure with one panel per budget, and each panel's rows."""
    budgets = list(dict.fromkeys(tuple(row["budget"]) for row in rows))
    fig = figure(4.6 * len(budgets), height)
    panels = fig.subplots(1, len(budgets), sharey=True, squeeze=False)[0]
    for axes, budget in zip(panels, budgets, strict=True):
        axes.set_title(f"{budget[0] * budget[1]} tokens")
    by_budget = [[row for row in rows if tuple(row["budget"]) == budget] for budget in budgets]
    return fig, list(zip(panels, by_budget, strict=True))


def _by_nines(axes: Any) -> None:
    """A scale on which 0, 0.9, 0.99 and 0.999 are equally spaced: methods differ close to 1."""
    nearest = 1e-4

    def forward(value: np.ndarray) -> np.ndarray:
        return -np.log10(np.maximum(1 - value, 0) + nearest)

    def backward(position: np.ndarray) -> np.ndarray:
        return 1 - (10.0**-position - nearest)

    axes.set_yscale("function", functions=(forward, backward))
    ticks = [0, 0.5, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.998, 0.999, 1]
    axes.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.set_ylim(-0.15, 1)


def _known(row: Record, task: str) -> bool:
    return (row["kept"].get(task) or {}).get("value") is not None


def _style(method: str, methods: Sequence[str], trained: Sequence[str]) -> dict[str, Any]:
    """Trained compressors are red and thick, fitted bounds black and dashed, the rest thin."""
    number = methods.index(method)
    style: dict[str, Any] = {"marker": MARKERS[number % len(MARKERS)], "markersize": 5}
    if method in trained:
        return style | {"color": TRAINED, "linewidth": 2.4, "markersize": 7, "zorder": 4}
    if method.endswith("_pca"):
        return style | {"color": BOUND, "linewidth": 1.4, "linestyle": "--", "zorder": 3}
    return style | {"color": OTHERS[number % len(OTHERS)], "linewidth": 1.1}
