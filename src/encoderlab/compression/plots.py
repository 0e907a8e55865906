"""Figures of token compression: training curves and comparisons of methods. Computes no score."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import zip_longest
from typing import Any

import numpy as np
from matplotlib.colors import PowerNorm

from encoderlab.plots.primitives import label_ends, label_points
from encoderlab.plots.style import (
    BLUE,
    CHANCE,
    GREEN,
    ORANGE,
    PALETTE,
    PURPLE,
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
Style = Mapping[str, Any]
ScoreOf = Callable[[Record], Mapping[str, Any] | None]

# A figure names few methods, so that they can be told apart: the trained compressors, those that
# are best at some budget, and the references. All others are thin and grey.
STRONG = ((RED, "o"), (PALETTE[-1], "D"), (ORANGE, "*"))  # trained compressors
DISTINCT = ((BLUE, "<"), (GREEN, "X"), (PURPLE, ">"), (PALETTE[-3], "d"))  # the best others
REFERENCES: Mapping[str, Style] = {
    "random": {"color": "#1B1B1B", "linestyle": (0, (1, 1.5)), "marker": "v"},
    "average": {"color": "#555555", "linestyle": (0, (5, 2)), "marker": "s"},
    "smaller_image": {"color": "#777777", "linestyle": (0, (6, 2, 1, 2)), "marker": "^"},
    "pixel_shuffle": {"color": "#333333", "linestyle": (0, (10, 3)), "marker": "P"},
}
REST: Style = {
    "color": "#CCCCCC", "linewidth": 0.9, "marker": ".", "markersize": 4, "zorder": 1.5
}  # fmt: skip
ANSWERS, EMBEDDING = "answers", "embedding"
SHARE = "share kept\n(0: floor, 1: all tokens)"
NINES_TICKS = (0, 0.5, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.998, 0.999, 1)
NINES = SHARE + "\nscale: -log10(1 - share)"
MOST_PICTURES, MOST_IN_A_LINE = 6, 7


def styles(rows: Sequence[Record], trained: Sequence[str]) -> dict[str, Style]:
    """The line styles of the methods that figures name; all others are drawn as `REST`.

    Args:
        rows: records of the evaluation.
        trained: names of the trained compressors.

    Returns:
        Method -> style: the trained compressors, the best others, the references.
    """
    best = _best(rows, {*trained, *REFERENCES})
    chosen: dict[str, Style] = {}
    for i, name in enumerate(trained):
        colour, marker = STRONG[i % len(STRONG)]
        chosen[name] = {
            "color": colour, "marker": marker, "linewidth": 2.6, "markersize": 7, "zorder": 4
        }  # fmt: skip
    for name, (colour, marker) in zip(best, DISTINCT, strict=False):
        chosen[name] = {
            "color": colour, "marker": marker, "linewidth": 1.8, "markersize": 6, "zorder": 3
        }  # fmt: skip
    for name, style in REFERENCES.items():
        chosen[name] = {**style, "linewidth": 1.4, "markersize": 5, "zorder": 2.5}
    present = {row["method"] for row in rows}
    return {name: style for name, style in chosen.items() if name in present}


def _best(rows: Sequence[Record], without: set[str]) -> list[str]:
    """The best method of every budget, then the second best of every budget, and so on."""
    ranked = []
    for budget in dict.fromkeys(tuple(row["budget"]) for row in rows):
        here = [(_merit(row), row["method"]) for row in rows if tuple(row["budget"]) == budget]
        ranked.append([name for _, name in sorted(here, reverse=True) if name not in without])
    places = zip_longest(*ranked)
    return list(dict.fromkeys(name for place in places for name in place if name is not None))


def _merit(row: Record) -> tuple[int, float]:
    """What methods are ranked by: the answers kept, else the embedding kept, else the error."""
    for level, task in ((3, ANSWERS), (2, EMBEDDING)):
        score = row["kept"].get(task)
        if _is_known(score):
            return level, score["value"]
    return (1, -row["nmse"]["value"]) if _is_known(row["nmse"]) else (0, 0.0)


def _is_known(score: Mapping[str, Any] | None) -> bool:
    return score is not None and score.get("value") is not None


def _unnamed(rows: Sequence[Record], named: Mapping[str, Style]) -> str:
    """The sentence of a caption that lists the grey methods."""
    rest = [name for name in dict.fromkeys(row["method"] for row in rows) if name not in named]
    return f" Grey: {', '.join(rest)}." if rest else ""


# -- scores against the number of tokens -----------------------------------------------------------


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
    tasks = [task for task in titles if any(_is_known(row["kept"].get(task)) for row in rows)]
    answers = [task for task in tasks if task.startswith(ANSWERS)]
    encoder = [task for task in tasks if task not in answers]
    grey = _unnamed(rows, styles(rows, trained))
    figures = []
    if encoder:
        figures.append(FigureRecord(
            "pareto",
            _kept_panels(rows, trained, whole, {task: titles[task] for task in encoder}),
            "What each method keeps of the score between the floor (every patch is the mean token: "
            "the lower dashed line) and all tokens (the upper one), put back into the encoder; "
            "95 % intervals over images. The embedding is on a scale of nines, on which 0.9, 0.99 "
            "and 0.999 are equally far apart. \"No CLS\": the class token is replaced too, so that "
            f"the patches alone must carry the answer.{grey}",
            _kept_arrays(rows, encoder),
        ))  # fmt: skip
    if answers:
        figures.append(FigureRecord(
            "answers_kept",
            _kept_panels(rows, trained, whole, {task: titles[task] for task in answers}),
            "Share of the VLM's right answers that is kept when each method rebuilds its tokens: 1 "
            "(the upper dashed line) is what all tokens of the image give, 0 (the lower one) all "
            "tokens of another question's image; 95 % intervals over images. VTC split: the "
            "questions that the smaller image with as many tokens gets wrong, other questions at "
            f"each number of tokens, without the smaller image itself.{grey}",
            _kept_arrays(rows, answers),
        ))  # fmt: skip
    return figures


def _kept_panels(
    rows: Sequence[Record], trained: Sequence[str], whole: int, titles: Mapping[str, str]
) -> Any:
    named = styles(rows, trained)
    with rules():
        columns = min(len(titles), 2)  # a task, and the same without CLS
        lines = -(-len(titles) // columns)
        fig = figure(5.4 * columns, 3.4 * lines)
        panels = fig.subplots(lines, columns, squeeze=False).flatten()
        for axes in panels[len(titles) :]:
            axes.set_visible(False)
        for axes, task in zip(panels, titles, strict=False):
            nines = task.startswith(EMBEDDING)
            axes.set(title=titles[task], ylabel=NINES if nines else SHARE)
            _by_tokens(axes, rows, named, _share_of(task), whole,
                       ends=(0.0, 1.0), nines=nines, height=2.5)  # fmt: skip
    return fig


def _share_of(task: str) -> ScoreOf:
    return lambda row: row["kept"].get(task)


def _kept_arrays(rows: Sequence[Record], tasks: Sequence[str]) -> dict[str, np.ndarray]:
    return {
        f"{task}/{method}": _points(rows, method, _share_of(task))
        for task in tasks for method in dict.fromkeys(row["method"] for row in rows)
    }  # fmt: skip


def by_tokens(
    rows: Sequence[Record],
    trained: Sequence[str],
    whole: int,
    answers: tuple[float, float] | None = None,
    chosen: str | None = None,
) -> FigureRecord | None:
    """One score of every method against the number of tokens.

    Args:
        rows: records of the evaluation.
        trained: names of the trained compressors.
        whole: number of all tokens.
        answers: share of right answers with all tokens and at the floor; None where no VLM was
            asked, then the embedding kept is drawn.
        chosen: a method that is named in any case.

    Returns:
        The figure; None where the evaluation has no such score.
    """

    def score_of(row: Record) -> Mapping[str, Any] | None:
        scores = row["kept"] if answers is None else row.get("answers", {})
        return scores.get(EMBEDDING if answers is None else ANSWERS)

    named = styles(rows, trained)
    rows = [row for row in rows if _is_known(score_of(row))]
    if not rows:
        return None
    if any(row["method"] == chosen for row in rows) and chosen not in named:
        named[str(chosen)] = {**REST, "color": "black", "markersize": 6, "zorder": 5}
    if answers is None:
        title = "embedding kept, by the number of tokens"
        caption = "Between the floor (every patch is the mean token: 0) and all tokens (1)"
    else:
        title = "right answers, by the number of tokens"
        caption = "Dashed: with all tokens, and with the tokens of another image"
    with rules():
        fig = figure(8.4, 2.45)
        axes = fig.subplots()
        axes.set_ylabel(NINES if answers is None else "right answers\n(share of questions, 0 to 1)")
        axes.set_title(title)
        ends = (0.0, 1.0) if answers is None else (answers[1], answers[0])
        _by_tokens(axes, rows, named, score_of, whole, ends=ends, nines=answers is None, height=1.6)
    return FigureRecord(
        "by_tokens", fig, f"{caption}; 95 % intervals over images.{_unnamed(rows, named)}",
        {method: _points(rows, method, score_of)
         for method in dict.fromkeys(row["method"] for row in rows)},
    )  # fmt: skip


def _by_tokens(
    axes: Any,
    rows: Sequence[Record],
    named: Mapping[str, Style],
    score_of: ScoreOf,
    whole: int,
    *,
    ends: tuple[float, float],
    nines: bool,
    height: float,
) -> None:
    """One line per method; `ends` are the scores of the floor and of all tokens, `height` is about
    that of the axes in inches."""
    last: dict[str, tuple[float, float, str]] = {}
    for method in dict.fromkeys(row["method"] for row in rows):
        here = [row for row in rows if row["method"] == method and _is_known(score_of(row))]
        if not here:
            continue
        here.sort(key=lambda row: row["tokens"])
        scores = [score_of(row) or {} for row in here]
        value = [score["value"] for score in scores]
        # Shifted a little, so that intervals do not overlap.
        shift = 1.0
        if method in named:
            shift += 0.012 * (list(named).index(method) - len(named) / 2)
            last[method] = (here[-1]["tokens"] * shift, value[-1], named[method]["color"])
        x = [row["tokens"] * shift for row in here]
        if method in named:
            low, high = (
                [value if (end := score.get(key)) is None else end
                 for score, value in zip(scores, value, strict=True)]
                for key in ("ci_low", "ci_high")
            )  # fmt: skip
            axes.vlines(x, low, high, color=named[method]["color"], linewidth=1, alpha=0.6)
        axes.plot(x, value, label=method, **named.get(method, REST))
    for end in ends:
        axes.axhline(end, **CHANCE)
    if nines:
        _by_nines(axes, NINES_TICKS if height > 2 else [0, *NINES_TICKS[3::3], 1])
    axes.set_xscale("log")
    counts = sorted({row["tokens"] for row in rows})
    axes.set_xticks(counts, [str(n) for n in counts])
    axes.minorticks_off()
    axes.set_xlabel(f"tokens kept (of {whole}, log scale)")
    label_ends(axes, last, height)


def _points(rows: Sequence[Record], method: str, score_of: ScoreOf) -> np.ndarray:
    """(n, 2): number of tokens and score of a method, where it is known."""
    here = [row for row in rows if row["method"] == method and _is_known(score_of(row))]
    pairs = [(row["tokens"], (score_of(row) or {})["value"]) for row in here]
    return np.array(pairs, dtype=float).reshape(-1, 2)


def _by_nines(axes: Any, ticks: Sequence[float]) -> None:
    """A scale on which 0, 0.9, 0.99 and 0.999 are equally spaced: methods differ close to 1."""
    nearest = 1e-4

    def forward(value: np.ndarray) -> np.ndarray:
        return -np.log10(np.maximum(1 - value, 0) + nearest)

    def backward(position: np.ndarray) -> np.ndarray:
        return 1 - (10.0**-position - nearest)

    axes.set_yscale("function", functions=(forward, backward))
    axes.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.set_ylim(-0.15, 1)


# -- one panel per budget --------------------------------------------------------------------------


def two_axes(rows: Sequence[Record], trained: Sequence[str]) -> list[FigureRecord]:
    """Reconstruction against distribution: one panel per budget, one point per method.

    Args:
        rows: records of the evaluation.
        trained: names of the trained compressors.

    Returns:
        The figure; none where no method has both numbers.
    """
    named = styles(rows, trained)
    # A log scale has no place for a method that loses nothing.
    rows = [
        row for row in rows
        if all(_is_known(row[name]) and row[name]["value"] > 0 for name in ("distance", "nmse"))
    ]  # fmt: skip
    if not rows:
        return []
    points = {
        f"{row['method']}/{row['tokens']}": np.array(
            [row["distance"]["value"], row["nmse"]["value"]]
        )
        for row in rows
    }
    with rules():
        fig, panels = _panels(rows, 4.2)
        for axes, here in panels:
            for row in here:
                style = {"markersize": 5, **named.get(row["method"], REST), "linestyle": "none"}
                style |= {"markersize": 9} if row["method"] in named else {"marker": "o"}
                x, y = points[f"{row['method']}/{row['tokens']}"]
                axes.plot(
                    [x], [y], markeredgecolor="white", markeredgewidth=0.6, label=row["method"],
                    **style,
                )  # fmt: skip
            axes.axvline(here[0]["distance_floor"], **CHANCE)
            axes.axhline(1.0, **CHANCE)
            axes.set(xlabel="distance of the kept tokens\n(sliced Wasserstein, 0: alike)",
                     xscale="log", yscale="log")  # fmt: skip
            axes.margins(0.12)
        panels[0][0].set_ylabel("error of the rebuilt tokens\n(share of the variance)")
        for axes, here in panels:
            label_points(axes, {
                row["method"]: (*points[f"{row['method']}/{row['tokens']}"],
                                named[row["method"]]["color"])
                for row in here if row["method"] in named
            })  # fmt: skip
    return [FigureRecord(
        "two_axes", fig,
        "Two virtues that pull apart. Down: the tokens can be rebuilt. Left: the kept tokens look "
        "like tokens, so that what was trained on tokens can read them; dashed, the distance of "
        "two draws of real ones, and an error of 1, which the mean token alone has."
        + _unnamed(rows, named),
        points,
    )]  # fmt: skip


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
    named = styles(rows, trained)
    rows = [row for row in rows if all(_is_known(row["reading"].get(name)) for name in names)]
    curves = {
        f"{row['method']}/{row['tokens']}": np.array(
            [row["reading"][name]["value"] for name in names]
        )
        for row in rows
    }
    full, floor = (np.array(end) for end in zip(*(ends[name] for name in names), strict=True))
    top = min(1.02, 0.1 + max(map(np.max, [full, floor, *curves.values()])))
    with rules():
        fig, panels = _panels(rows, 4.4)
        for axes, here in panels:
            last = {
                "all tokens": (heights[-1], full[-1], "black"),
                "mean token": (heights[-1], floor[-1], CHANCE["color"]),
            }
            for row in here:
                method = row["method"]
                curve = curves[f"{method}/{row['tokens']}"]
                axes.plot(heights, curve, label=method, **named.get(method, REST))
                if method in named:
                    last[method] = (heights[-1], curve[-1], named[method]["color"])
            axes.plot(heights, full, color="black", linewidth=2, label="all tokens")
            axes.plot(heights, floor, **CHANCE, label="mean token")
            axes.set(xlabel="height of the digits (pixels)", ylim=(0, top))
            axes.set_xticks(heights)
            label_ends(axes, last, height=3.4)
        panels[0][0].set_ylabel("accuracy (0 to 1)")
    return FigureRecord(
        "glyphs", fig,
        "A line of one digit on a textured ground, read by the same small head from every method's "
        "tokens (five seeds). Small text is what compression loses first."
        + _unnamed(rows, named),
        {**curves, "height": heights},
    )  # fmt: skip


def _panels(rows: Sequence[Record], height: float) -> tuple[Any, list[tuple[Any, list[Record]]]]:
    """A figure with one panel per budget, and each panel's rows."""
    budgets = list(dict.fromkeys(tuple(row["budget"]) for row in rows))
    fig = figure(4.6 * len(budgets), height)
    panels = fig.subplots(1, len(budgets), sharey=True, squeeze=False)[0]
    for axes, budget in zip(panels, budgets, strict=True):
        axes.set_title(f"{budget[0] * budget[1]} tokens")
    by_budget = [[row for row in rows if tuple(row["budget"]) == budget] for budget in budgets]
    return fig, list(zip(panels, by_budget, strict=True))


# -- images ----------------------------------------------------------------------------------------


def few(rows: Sequence[Record], trained: Sequence[str], names: Sequence[str]) -> list[str]:
    """At most `MOST_PICTURES` of the methods `names`, in the order of `styles`, then the rest."""
    named = [name for name in styles(rows, trained) if name in names]
    return list(dict.fromkeys([*named, *names]))[:MOST_PICTURES]


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
        The figure: one line per image, and several lines for many methods on one image.
    """
    count, names = len(full), list(rebuilt)
    titles = ["image", f"all {grid[0] * grid[1]} tokens", *names]
    columns = min(len(titles), MOST_IN_A_LINE) if count == 1 else len(titles)
    lines = count if count > 1 else -(-len(titles) // columns)
    side = 1.8
    arrays: dict[str, np.ndarray] = {}
    with rules():
        fig = figure(side * columns, side * lines + 0.3 * (lines if count == 1 else 1))
        panels = fig.subplots(lines, columns, squeeze=False)
        for axes in panels.flatten():
            axes.axis("off")
        for i in range(count):
            mean = full[i].mean(axis=0)
            _, _, basis = np.linalg.svd(full[i] - mean, full_matrices=False)
            low, high = np.quantile((full[i] - mean) @ basis[:3].T, (0.02, 0.98), axis=0)

            def coloured(tokens: np.ndarray, m=mean, b=basis, lo=low, hi=high) -> np.ndarray:
                rgb = ((tokens - m) @ b[:3].T - lo) / np.maximum(hi - lo, 1e-9)
                return rgb.clip(0, 1).reshape(*grid, 3)

            line = panels.flatten() if count == 1 else panels[i]
            line[0].imshow(images[i])
            line[1].imshow(coloured(full[i]), interpolation="nearest")
            for axes, name in zip(line[2:], names, strict=False):
                picture = coloured(rebuilt[name][i])
                axes.imshow(picture, interpolation="nearest")
                arrays[f"{i}/{name}"] = picture
        for axes, title in zip(panels.flatten(), titles, strict=False):
            axes.set_title(title, fontsize=9)
    return FigureRecord(
        "tokens", fig,
        f"Rebuilt from {budget[0] * budget[1]} tokens. Each image's tokens as colours: their three "
        "main components, fitted on the tokens as they are and used for every method alike.",
        arrays,
    )  # fmt: skip


def loss_map(
    images: np.ndarray,
    maps: Mapping[tuple[str, tuple[int, int]], np.ndarray],
    variance: float,
    methods: Sequence[str],
    grid: tuple[int, int],
) -> FigureRecord:
    """Error of each token of the image with the largest error, for some methods at every budget.

    Args:
        images: (b, height, width, 3) uint8, the input of the encoder.
        maps: (method, budget) -> (b, n) squared error of every token.
        variance: mean squared distance of the tokens from the mean token.
        methods: that are drawn; those without a map are left out.
        grid: (rows, columns) of the tokens.

    Returns:
        The figure; its arrays are errors over the variance.
    """
    chosen = [name for name in methods if any(key[0] == name for key in maps)]
    chosen = chosen or [next(iter(maps))[0]]
    budgets = list(dict.fromkeys(key[1] for key in maps))
    first = next(maps[chosen[0], budget] for budget in budgets if (chosen[0], budget) in maps)
    worst = int(first.sum(axis=1).argmax())
    errors = {key: value[worst] / variance for key, value in maps.items() if key[0] in chosen}
    top = max(float(error.max()) for error in errors.values())
    scale = PowerNorm(0.5, vmin=0, vmax=top)
    columns = min(len(chosen), MOST_IN_A_LINE - 1)
    lines = len(budgets) * -(-len(chosen) // columns)
    with rules():
        fig = figure(max(1.9 * (columns + 1), 6.5), 2.1 * lines + 0.8)
        panels = fig.subplots(lines, columns + 1, squeeze=False)
        for axes in panels.flatten():
            axes.axis("off")
        panels[0, 0].imshow(images[worst])
        panels[0, 0].set_title("image", fontsize=9)
        for places, budget in zip(panels[:, 1:].reshape(len(budgets), -1), budgets, strict=True):
            for axes, name in zip(places, chosen, strict=False):
                if (name, budget) in errors:
                    error = errors[name, budget]
                    shown = axes.imshow(error.reshape(grid), norm=scale, cmap="magma")
                    axes.set_title(f"{name}: {error.mean():.2g}", fontsize=9)
            places[0].text(
                -0.04, 0.5, f"{budget[0] * budget[1]} tokens", transform=places[0].transAxes,
                rotation=90, ha="right", va="center", fontsize=9,
            )  # fmt: skip
        fig.colorbar(
            shown, ax=panels, location="bottom", shrink=0.7, aspect=40,
            label="squared error of a token (share of the variance; 1: as bad as the mean token)",
        )  # fmt: skip
    caption = f"The image of the set that {chosen[0]} rebuilds worst, and where"
    if len(first) == 1:
        caption = "Where each method loses"
    return FigureRecord(
        "loss_map",
        fig,
        f"{caption}: the squared error of each token over the mean squared distance of tokens from "
        "the mean token, and in the titles its mean over the image. 0: nothing is lost, 1: as bad "
        "as the mean token. One scale, that of the square root.",
        {f"{name}/{b[0] * b[1]}": value for (name, b), value in errors.items()},
    )
