"""The six figures of `coral`, and the dashboard that holds them together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.lines import Line2D

from encoderlab.core.aliases import SHUFFLED
from encoderlab.metrics.alignment_scores import EAS_NAME, EAS_WEIGHTS
from encoderlab.plots.primitives import heat_map, map_size, value_of
from encoderlab.plots.style import (
    CHANCE,
    CONTROL_COLOURS,
    CONTROL_NAMES,
    FigureRecord,
    colours,
    control_prefix,
    figure,
    markers,
    rules,
    short,
    text_width,
)

Json = Mapping[str, Any]
Arrays = Mapping[str, np.ndarray]
COMPARISONS = {
    "distance": "CORAL distance",
    "similarity": "CORAL similarity as published",
    "spectral_divergence": "spectral divergence (nats)",
    "spectral_similarity": "spectral similarity, calibrated",
}
LOGARITHMIC = ("distance", "spectral_divergence")
PARTS = {
    "cka": ("CKA", "debiased CKA"),
    "coral": ("CORAL similarity", "spectral similarity"),
    "discriminability": ("discriminability", "discriminability above chance"),
}
SIDES = ("vision", "text", "difference")


def coral(result: Json, arrays: Arrays, with_dashboard: bool = True) -> list[FigureRecord]:
    """The figures of a result, and the dashboard that repeats their panels on one page."""
    # `arrays` are "spectrum|NAME" (k,) of every model, and "covariance|ENCODER|LLM" (2, k, k): the
    # two matrices that CORAL compares, in the directions with the most variance.
    return [
        comparison(result),
        against_cka(result),
        covariances(result, arrays),
        spectra(result, arrays),
        intra_modal(result),
        eas(result),
        *([dashboard(result, arrays)] if with_dashboard else []),
    ]


def comparison(result: Json) -> FigureRecord:
    """Distance, spectral divergence, published and calibrated similarity of every pair."""
    with rules():
        names = text_width(map(_pair, result["cross_modal"]))
        fig = figure(11 + names, 1.6 + 0.34 * len(result["cross_modal"]))
        _comparison(fig.subplots(1, len(COMPARISONS), sharey=True), result)
        fig.suptitle("CORAL: are the clouds of image and text features alike?")
    pairs = result["cross_modal"]
    return FigureRecord(
        "coral_comparison",
        fig,
        "Distance and spectral divergence on logarithmic axes: 0 for equal clouds. The similarity "
        "as published is 1 for any features of length one; the calibrated one compares spectra of "
        "equal total. None of them uses the pairing.",
        {name: np.array([p["coral"][name] for p in pairs], float) for name in COMPARISONS},
    )


def against_cka(result: Json) -> FigureRecord:
    """CORAL, which does not use the pairing, against CKA, which does."""
    with rules():
        fig = figure(12, 5.2)
        _against_cka(fig.subplots(1, 2), result)
        fig.suptitle("CKA against CORAL")
    pairs = result["cross_modal"]
    return FigureRecord(
        "cka_vs_coral",
        fig,
        "Across: debiased CKA with its 95 % interval. Height: CORAL similarity as published (left) "
        "and calibrated (right). On the diagonal the two agree.",
        {
            "cka": np.array([p["cka"].get("value") for p in pairs], float),
            "coral": np.array([p["coral"]["similarity"] for p in pairs], float),
            "spectral": np.array([p["coral"]["spectral_similarity"] for p in pairs], float),
        },
    )


def covariances(result: Json, arrays: Arrays) -> FigureRecord:
    """The two covariances that CORAL compares and their difference, a row per encoder."""
    best: dict[str, str] = {}
    for pair in result["cross_modal"]:
        if f"covariance|{pair['encoder']}|{pair['llm']}" in arrays:
            best.setdefault(pair["encoder"], pair["llm"])
    shown = {}
    with rules():
        fig = figure(9.5, 0.8 + 2.7 * max(1, len(best)))
        grid = fig.subplots(max(1, len(best)), len(SIDES), squeeze=False)
        for line, (encoder, llm) in zip(grid, best.items(), strict=False):
            vision, text = arrays[f"covariance|{encoder}|{llm}"]
            images = (vision, text, vision - text)
            limit = max(float(np.abs(image).max()) for image in images) or 1.0
            names = (short(encoder), short(llm), "difference")
            for ax, side, name, image in zip(line, SIDES, names, images, strict=True):
                drawn = ax.imshow(image, cmap="RdBu_r", vmin=-limit, vmax=limit)
                ax.set_title(name, fontsize=9)
                ax.set_xticks([])
                ax.set_yticks([])
                ax.grid(visible=False)
                shown[f"{encoder}|{llm}|{side}"] = image
            fig.colorbar(drawn, ax=list(line), label="covariance", shrink=0.85)
        if not best:
            for ax in grid[0]:
                ax.axis("off")
        fig.suptitle("Covariances of vision and text features, and their difference")
    return FigureRecord(
        "covariance_heatmaps",
        fig,
        "Each encoder with the LLM of its highest EAS: covariance between the feature dimensions "
        "with the most variance, one colour scale per row. Where the two sides have different "
        "widths, each is in its own principal axes, as CORAL compares them (both are diagonal).",
        shown,
    )


def spectra(result: Json, arrays: Arrays) -> FigureRecord:
    """Eigenvalues of every model as shares of their sum."""
    with rules():
        fig = figure(8.5, 4.8)
        _spectra(fig.subplots(), result, arrays)
        fig.suptitle("Eigenvalue spectra")
    return FigureRecord(
        "eigenvalue_spectrum",
        fig,
        "Share of the variance in each direction, largest first. A steep line: few directions "
        "contain most of it. r is the effective rank, the exponential of the spectrum's entropy.",
        {name: arrays[f"spectrum|{name}"] for name in _clouds(result)},
    )


def intra_modal(result: Json) -> FigureRecord:
    """Encoders among themselves, LLMs among themselves."""
    with rules():
        sides = [s for s in ("vision", "text") if len(result[s]["names"]) > 1] or ["vision"]
        widths, heights = zip(*(map_size(*[result[s]["names"]] * 2) for s in sides), strict=True)
        fig = figure(sum(widths) + 0.4, 2 * max(heights) + 0.5)
        grid = fig.subplots(2, len(sides), squeeze=False, width_ratios=widths)
        arrays = {}
        metrics = {"cka_debiased": "debiased CKA", "spectral_similarity": "spectral similarity"}
        for column, side in zip(grid.T, sides, strict=True):
            names = result[side]["names"]
            for ax, (key, title) in zip(column, metrics.items(), strict=True):
                table = np.array(result[side][key], dtype=np.float64)
                heat_map(ax, table, names, names, low=0.0, high=1.0, label=title)
                ax.set_title(f"{'encoders' if side == 'vision' else 'LLMs'}: {title}")
                arrays[f"{side}|{key}"] = table
        fig.suptitle("Among themselves")
    return FigureRecord(
        "intra_modal_similarity",
        fig,
        "CKA compares the same samples; spectral similarity only the shape of the clouds.",
        arrays,
    )


def eas(result: Json) -> FigureRecord:
    """EAS: ranking, parts, the scatter against CKA, and the formula."""
    with rules():
        rows = len(result["eas"])
        fig = figure(13, 6 + 0.42 * rows)
        top, bottom = list(fig.subfigures(2, 1, height_ratios=[2 + 0.42 * rows, 4]))  # type: ignore[arg-type]
        _eas(top.subplots(1, 2, sharey=True, width_ratios=[1, 1.25]), result)
        left, right = list(bottom.subfigures(1, 2))
        scores = result["eas"]
        cka = {(pair["encoder"], pair["llm"]): pair["cka"] for pair in result["cross_modal"]}
        points = [(score, cka[score["encoder"], score["llm"]]) for score in scores]
        ax = left.subplots()
        drawn = _scatter(ax, points, np.array([score["calibrated"] for score in scores], float))
        ax.set_ylabel("EAS, calibrated")
        if drawn:
            _legend(ax, scores)
        right.text(0.08, 0.7, _formula(), va="top", fontsize=10, linespacing=1.7)
        fig.suptitle(EAS_NAME)
    return FigureRecord(
        "eas_dashboard",
        fig,
        f"{' '.join(_formula().split())} Top left: the ranking, best first (hollow: as published, "
        "filled: calibrated). Top right: the calibrated parts. Bottom left: calibrated EAS against "
        "debiased CKA, one of its parts.",
        {
            "published": np.array([score["published"] for score in scores], float),
            "calibrated": np.array([score["calibrated"] for score in scores], float),
            "parts": _parts(scores),
            "cka": _parts(scores)[:, 0],
        },
    )


def dashboard(result: Json, arrays: Arrays) -> FigureRecord:
    """The whole on one page."""
    with rules():
        pairs = len(result["cross_modal"])
        fig = figure(18, 10 + 0.6 * pairs)
        heights = [1 + 0.055 * pairs, 1.1, 0.8 + 0.055 * pairs]
        top, middle, bottom = list(fig.subfigures(3, 1, height_ratios=heights))  # type: ignore[arg-type]
        _comparison(top.subplots(1, len(COMPARISONS), sharey=True), result)
        left, right = list(middle.subfigures(1, 2))
        _against_cka(left.subplots(1, 2), result)
        _spectra(right.subplots(), result, arrays)
        _eas(bottom.subplots(1, 2, sharey=True, width_ratios=[1, 1.25]), result)
        titles = {"CORAL": top, "CKA against CORAL": left, "Spectra": right, EAS_NAME: bottom}
        for title, part in titles.items():
            part.suptitle(title, x=0.01, ha="left")
    return FigureRecord("coral_dashboard", fig, "The figures above on one page.")


def _comparison(axes: Any, result: Json) -> None:
    pairs = result["cross_modal"]
    tint = _tints(pairs)
    for ax, (key, title) in zip(axes, COMPARISONS.items(), strict=True):
        values = np.array([p["coral"][key] for p in pairs], float)
        ax.barh(
            range(len(pairs)), values, color=[tint[p["encoder"]] for p in pairs],
            edgecolor="#333333", linewidth=0.6,
        )  # fmt: skip
        ax.set_xlabel(title)
        ax.grid(axis="y", visible=False)
        finite = values[np.isfinite(values)]
        logarithmic = key in LOGARITHMIC
        if logarithmic and len(finite) and finite.min() > 0:
            ax.set_xscale("log")
            ax.set_xlim(finite.min() / 8, finite.max() * 60)
        elif logarithmic:
            ax.set_xlim(0, 1.4 * max(finite.max(), 1e-12) if len(finite) else 1)
        else:
            ax.set_xlim(0, 1.28)
            ax.set_xticks([0, 0.25, 0.5, 0.75, 1.0])
        for i, value in enumerate(values):
            x, text = ax.get_xlim()[0], " undefined"
            if np.isfinite(value):
                x, text = value, f" {value:.2g}" if logarithmic else f" {value:.4f}"
            ax.text(x, i, text, va="center", fontsize=8)
    axes[0].set_yticks(range(len(pairs)), [_pair(p) for p in pairs])
    axes[0].set_ylim(len(pairs) - 0.4, -0.6)


def _against_cka(axes: Any, result: Json) -> None:
    pairs = result["cross_modal"]
    sides = {"similarity": "as published", "spectral_similarity": "calibrated"}
    for ax, (key, side) in zip(axes, sides.items(), strict=True):
        heights = np.array([pair["coral"][key] for pair in pairs], float)
        drawn = _scatter(ax, [(pair, pair["cka"]) for pair in pairs], heights)
        ax.set_ylabel(f"CORAL similarity, {side}")
    if drawn:
        _legend(axes[1], pairs)


def _scatter(ax: Any, points: Sequence[tuple[Json, Json]], heights: np.ndarray) -> int:
    """Heights against CKA with its interval, a marker per pair, and the diagonal.

    Returns:
        How many points are drawn: those with both values.
    """
    pairs = [pair for pair, _ in points]
    tint, shape = _tints(pairs), _markers(pairs)
    drawn = 0
    for (pair, cka), y in zip(points, heights, strict=True):
        x = value_of(cka)
        if not (np.isfinite(x) and np.isfinite(y)):
            continue
        drawn += 1
        if cka.get("ci_low") is not None:
            ends = [cka["ci_low"], cka["ci_high"]]
            ax.plot(ends, [y, y], color=tint[pair["encoder"]], linewidth=1.5)
        ax.plot(
            [x], [y], shape[pair["llm"]], color=tint[pair["encoder"]], markersize=8,
            markeredgecolor="black", markeredgewidth=0.6,
        )  # fmt: skip
    ax.set_xlabel("debiased CKA")
    ax.plot([0, 1], [0, 1], **CHANCE)
    ax.axvline(0, color="#CCCCCC", linewidth=0.8, zorder=0)
    low = min([-0.05, *(cka["ci_low"] for _, cka in points if cka.get("ci_low") is not None)])
    ax.set_xlim(max(-1.0, low) - 0.02, 1.03)
    ax.set_ylim(min([-0.03, *(y - 0.03 for y in heights if np.isfinite(y))]), 1.03)
    if not drawn:
        ax.text(0.5, 0.5, "undefined", transform=ax.transAxes, ha="center")
    return drawn


def _legend(ax: Any, pairs: Sequence[Json]) -> None:
    """A colour per encoder and per kind of control, a marker per LLM."""
    tint, shape = _tints(pairs), _markers(pairs)
    names = {CONTROL_NAMES.get(control_prefix(name), short(name)): tint[name] for name in tint}
    looks = [(name, "o", colour) for name, colour in names.items()]
    looks += [(short(llm), marker, "white") for llm, marker in shape.items()]
    handles = [
        Line2D([], [], marker=marker, color=colour, linestyle="", markeredgecolor="black",
               markeredgewidth=0.6, label=name)
        for name, marker, colour in looks
    ]  # fmt: skip
    ax.legend(handles=handles, fontsize=8, loc="center left", bbox_to_anchor=(1.02, 0.5))


def _tints(pairs: Sequence[Json]) -> dict[str, str]:
    """Encoder -> colour, one for all controls of a kind."""
    kinds = {pair["encoder"]: control_prefix(pair["encoder"]) for pair in pairs}
    tint = colours([name for name, kind in kinds.items() if not kind]) | CONTROL_COLOURS
    return {name: tint[kind or name] for name, kind in kinds.items()}


def _markers(pairs: Sequence[Json]) -> dict[str, str]:
    """LLM -> marker."""
    return markers(list(dict.fromkeys(pair["llm"] for pair in pairs)))


def _spectra(ax: Any, result: Json, arrays: Arrays) -> None:
    names = _clouds(result)
    tint = colours(names)
    lines = ("-", "--", "-.", ":")
    for i, name in enumerate(names):
        shares = arrays[f"spectrum|{name}"]
        shares = shares / max(shares.sum(), 1e-300)
        positive = shares[shares > 1e-12]
        entropy = -(positive * np.log(positive)).sum()
        ax.plot(
            np.arange(1, len(shares) + 1), np.maximum(shares, 1e-8), color=tint[name],
            linestyle=lines[i % len(lines)], linewidth=1.8,
            label=f"{short(name)} (r = {np.exp(entropy):.0f})",
        )  # fmt: skip
    ax.set_yscale("log")
    ax.set_xscale("log")
    ax.set_ylim(bottom=1e-6)
    ax.set_xlabel("direction (rank)")
    ax.set_ylabel("share of the variance (0 to 1)")
    ax.legend(fontsize=8, loc="lower left")


def _eas(axes: Any, result: Json) -> None:
    scores = result["eas"]
    tint = _tints(scores)
    names = [f"{i}. {_pair(score)}" for i, score in enumerate(scores, 1)]
    for i, score in enumerate(scores):
        ink = tint[score["encoder"]]
        published, calibrated = np.array([score["published"], score["calibrated"]], float)
        axes[0].plot([published, calibrated], [i, i], color="#CCCCCC", zorder=1)
        axes[0].plot(
            [published], [i], "o", markerfacecolor="white", markeredgecolor=ink, markersize=8
        )
        axes[0].plot([calibrated], [i], "o", color=ink, markeredgecolor="black", markersize=8,
                     markeredgewidth=0.6)  # fmt: skip
    axes[0].set_xlim(-0.1, 1.05)
    axes[0].axvline(0, **CHANCE)
    axes[0].set_ylim(len(scores) - 0.4, -0.6)
    axes[0].grid(axis="y", visible=False)
    axes[0].set_xlabel("EAS")
    axes[0].set_title("ranking (hollow: published, filled: calibrated)")
    heat_map(axes[1], _parts(scores), names, [part for _, part in PARTS.values()],
             low=0.0, high=1.0, label="score")  # fmt: skip
    axes[1].set_title("calibrated parts")
    axes[0].set_yticks(range(len(scores)), names)


def _parts(scores: Sequence[Json]) -> np.ndarray:
    return np.array([[s["parts"][part]["calibrated"] for part in PARTS] for s in scores], float)


def _formula() -> str:
    """EAS in words, from its weights."""

    def total(side: int) -> str:
        return "\n    + ".join(
            f"{EAS_WEIGHTS[key]:g} {names[side]}" for key, names in PARTS.items()
        )

    return f"EAS as published = {total(0)}.\nCalibrated = {total(1)}."


def _pair(row: Json) -> str:
    return f"{short(row['encoder'])} · {short(row['llm'])}"


def _clouds(result: Json) -> list[str]:
    """Every model once: shuffling the pairs leaves an encoder's cloud as it is."""
    return [
        name for name in [*result["vision"]["names"], *result["text"]["names"]]
        if not name.startswith(SHUFFLED)
    ]  # fmt: skip
