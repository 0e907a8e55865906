"""The six figures of `coral`, and the dashboard that holds them together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from encoderlab.plots.pieces import heat_map, value_of
from encoderlab.plots.style import CHANCE, Drawn, colours, figure, markers, rules, short

Json = Mapping[str, Any]
Arrays = Mapping[str, np.ndarray]
LARGEST_COVARIANCE = 48


def coral(result: Json, arrays: Arrays) -> list[Drawn]:
    """All figures.

    Args:
        arrays: "spectrum|NAME" (k,) and "covariance|NAME" (d, d) of every model.
    """
    return [
        comparison(result),
        against_cka(result),
        covariances(result, arrays),
        spectra(result, arrays),
        intra_modal(result),
        eas(result),
        dashboard(result, arrays),
    ]


def comparison(result: Json) -> Drawn:
    """Distance, published and calibrated similarity of every pair."""
    with rules():
        fig = figure(12, 1.6 + 0.34 * len(result["cross_modal"]))
        _comparison(fig.subplots(1, 3, sharey=True), result)
        fig.suptitle("CORAL: are the clouds of image and text features alike?")
    pairs = result["cross_modal"]
    return Drawn(
        "coral_comparison",
        fig,
        "Left: the distance, on a logarithmic axis. Middle: the similarity as published, which is "
        "1 for any features of length one. Right: calibrated, of spectra with the same total. None "
        "of them uses the pairing.",
        {
            name: np.array([_number(p["coral"][name]) for p in pairs])
            for name in ("distance", "similarity", "spectral_similarity")
        },
    )


def against_cka(result: Json) -> Drawn:
    """CKA, which uses the pairing, against CORAL, which does not."""
    with rules():
        fig = figure(13, 4.8)
        axes = fig.subplots(1, 2, sharey=True)
        _against_cka(axes, result)
        fig.suptitle("CKA against CORAL")
    pairs = result["cross_modal"]
    return Drawn(
        "cka_vs_coral",
        fig,
        "Height: debiased CKA with its 95 % interval. Across: CORAL similarity as published (left) "
        "and calibrated (right).",
        {
            "cka": np.array([_number(p["cka"].get("value")) for p in pairs]),
            "coral": np.array([_number(p["coral"]["similarity"]) for p in pairs]),
            "spectral": np.array([_number(p["coral"]["spectral_similarity"]) for p in pairs]),
        },
    )


def covariances(result: Json, arrays: Arrays) -> Drawn:
    """The correlation between the strongest feature dimensions of each model."""
    names = _clouds(result)
    columns = min(4, len(names))
    lines = -(-len(names) // columns)
    shown = {}
    with rules():
        fig = figure(2.9 * columns + 0.6, 2.9 * lines + 0.7)
        grid = fig.subplots(lines, columns, squeeze=False).ravel()
        image = None
        for ax, name in zip(grid, names, strict=False):
            shown[name] = _correlation(arrays[f"covariance|{name}"])
            image = ax.imshow(shown[name], cmap="RdBu_r", vmin=-1, vmax=1)
            ax.set_title(short(name), fontsize=9)
            ax.set_xticks([])
            ax.set_yticks([])
            ax.grid(visible=False)
        for ax in grid[len(names) :]:
            ax.axis("off")
        if image is not None:
            fig.colorbar(image, ax=list(grid), label="correlation", shrink=0.7)
        fig.suptitle("How feature dimensions go together")
    return Drawn(
        "covariance_heatmaps",
        fig,
        f"Correlation of the {LARGEST_COVARIANCE} dimensions with the most variance, by falling "
        "variance.",
        shown,
    )


def spectra(result: Json, arrays: Arrays) -> Drawn:
    """Eigenvalues of every model as shares of their sum."""
    with rules():
        fig = figure(8.5, 4.8)
        _spectra(fig.subplots(), result, arrays)
        fig.suptitle("Eigenvalue spectra")
    return Drawn(
        "eigenvalue_spectrum",
        fig,
        "Share of the variance in each direction, largest first. A steep line: few directions hold "
        "it all. r is the effective rank, the exponential of the spectrum's entropy.",
        {name: arrays[f"spectrum|{name}"] for name in _clouds(result)},
    )


def intra_modal(result: Json) -> Drawn:
    """Encoders among themselves, LLMs among themselves."""
    with rules():
        sides = [s for s in ("vision", "text") if len(result[s]["names"]) > 1]
        if not sides:
            sides = ["vision"]
        most = max(len(result[s]["names"]) for s in sides)
        fig = figure(2 + 4.6 * len(sides) + 0.4 * most, 2.4 + 0.9 * most)
        grid = fig.subplots(2, len(sides), squeeze=False)
        arrays = {}
        for j, side in enumerate(sides):
            one = result[side]
            for i, (key, title) in enumerate(
                (("cka_debiased", "debiased CKA"), ("spectral_similarity", "spectral similarity"))
            ):
                table = np.array(one[key], dtype=np.float64)
                heat_map(grid[i, j], table, one["names"], one["names"], low=0.0, high=1.0)
                grid[i, j].set_title(f"{'encoders' if side == 'vision' else 'LLMs'}: {title}")
                arrays[f"{side}|{key}"] = table
        fig.suptitle("Among themselves")
    return Drawn(
        "intra_modal_similarity",
        fig,
        "CKA compares the same samples; spectral similarity only the shape of the clouds.",
        arrays,
    )


def eas(result: Json) -> Drawn:
    """EAS as published and calibrated, and its parts."""
    with rules():
        fig = figure(12, 2.0 + 0.42 * len(result["eas"]))
        axes = fig.subplots(1, 2, sharey=True, width_ratios=[1, 1.25])
        _eas(axes, result)
        fig.suptitle("EAS: encoder alignment score")
    return Drawn(
        "eas_dashboard",
        fig,
        "0.3 CKA + 0.3 CORAL similarity + 0.4 discriminability. Left: hollow as published, filled "
        "calibrated (debiased CKA, spectral similarity, discriminability above chance); rank by "
        "the filled. Right: the calibrated parts.",
        {
            side: np.array([_number(one[side]) for one in result["eas"]])
            for side in ("published", "calibrated")
        },
    )


def dashboard(result: Json, arrays: Arrays) -> Drawn:
    """The whole on one page."""
    with rules():
        pairs = len(result["cross_modal"])
        fig = figure(18, 10 + 0.6 * pairs)
        top, middle, bottom = list(
            fig.subfigures(  # type: ignore[arg-type]
                3, 1, height_ratios=[1 + 0.055 * pairs, 1.1, 0.8 + 0.055 * pairs]
            )
        )
        _comparison(top.subplots(1, 3, sharey=True), result)
        left, right = list(middle.subfigures(1, 2))
        _against_cka(left.subplots(1, 2, sharey=True), result)
        _spectra(right.subplots(), result, arrays)
        _eas(bottom.subplots(1, 2, sharey=True, width_ratios=[1, 1.25]), result)
        top.suptitle("CORAL", x=0.01, ha="left")
        left.suptitle("CKA against CORAL", x=0.01, ha="left")
        right.suptitle("Spectra", x=0.01, ha="left")
        bottom.suptitle("EAS", x=0.01, ha="left")
    return Drawn("coral_dashboard", fig, "The figures above on one page.")


def _comparison(axes: Any, result: Json) -> None:
    pairs = result["cross_modal"]
    tint = colours(list(dict.fromkeys(p["encoder"] for p in pairs)))
    names = [f"{short(p['encoder'])} · {short(p['llm'])}" for p in pairs]
    for ax, (key, title) in zip(
        axes,
        (
            ("distance", "distance"),
            ("similarity", "similarity, as published"),
            ("spectral_similarity", "spectral similarity, calibrated"),
        ),
        strict=True,
    ):
        values = np.array([_number(p["coral"][key]) for p in pairs])
        ax.barh(
            range(len(pairs)), values, color=[tint[p["encoder"]] for p in pairs],
            edgecolor="#333333", linewidth=0.6,
        )  # fmt: skip
        ax.set_title(title)
        ax.grid(axis="y", visible=False)
        finite = values[np.isfinite(values)]
        if key == "distance" and len(finite) and finite.min() > 0:
            ax.set_xscale("log")
            ax.set_xlim(finite.min() / 8, finite.max() * 60)
        else:
            ax.set_xlim(0, 1.28)
            ax.set_xticks([0, 0.25, 0.5, 0.75, 1.0])
        for i, value in enumerate(values):
            known = np.isfinite(value)
            text = (
                "undefined"
                if not known
                else f"{value:.2g}"
                if key == "distance"
                else f"{value:.4f}"
            )
            at = value if known else ax.get_xlim()[0]
            ax.text(at, i, f" {text}", va="center", fontsize=8)
    axes[0].set_yticks(range(len(pairs)), names)
    axes[0].set_ylim(len(pairs) - 0.4, -0.6)


def _against_cka(axes: Any, result: Json) -> None:
    pairs = result["cross_modal"]
    encoders = list(dict.fromkeys(p["encoder"] for p in pairs))
    llms = list(dict.fromkeys(p["llm"] for p in pairs))
    tint, shape = colours(encoders), markers(llms)
    for ax, (key, title) in zip(
        axes,
        (("similarity", "CORAL, as published"), ("spectral_similarity", "CORAL, calibrated")),
        strict=True,
    ):
        for one in pairs:
            x, y = _number(one["coral"][key]), value_of(one["cka"])
            if not (np.isfinite(x) and np.isfinite(y)):
                continue
            low, high = one["cka"].get("ci_low"), one["cka"].get("ci_high")
            if low is not None:
                ax.plot([x, x], [low, high], color=tint[one["encoder"]], linewidth=1.5)
            label = f"{short(one['encoder'])} · {short(one['llm'])}"
            ax.plot(
                [x], [y], shape[one["llm"]], color=tint[one["encoder"]], markersize=8,
                markeredgecolor="black", markeredgewidth=0.6, label=label,
            )  # fmt: skip
        ax.axhline(0, **CHANCE)
        ax.set_xlim(-0.03, 1.03)
        ax.set_xlabel(title)
    axes[0].set_ylabel("debiased CKA")
    axes[1].legend(fontsize=7, loc="center left", bbox_to_anchor=(1.02, 0.5))


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
    ax.set_xlabel("direction")
    ax.set_ylabel("share of the variance")
    ax.legend(fontsize=8, loc="lower left")


def _eas(axes: Any, result: Json) -> None:
    found = result["eas"]
    encoders = list(dict.fromkeys(one["encoder"] for one in found))
    tint = colours(encoders)
    names = [f"{short(one['encoder'])} · {short(one['llm'])}" for one in found]
    for i, one in enumerate(found):
        ink = tint[one["encoder"]]
        published, calibrated = _number(one["published"]), _number(one["calibrated"])
        axes[0].plot([published, calibrated], [i, i], color="#CCCCCC", zorder=1)
        axes[0].plot(
            [published], [i], "o", markerfacecolor="white", markeredgecolor=ink, markersize=8
        )
        axes[0].plot([calibrated], [i], "o", color=ink, markeredgecolor="black", markersize=8,
                     markeredgewidth=0.6)  # fmt: skip
    axes[0].set_xlim(-0.1, 1.05)
    axes[0].axvline(0, **CHANCE)
    axes[0].set_yticks(range(len(found)), names)
    axes[0].set_ylim(len(found) - 0.4, -0.6)
    axes[0].grid(axis="y", visible=False)
    axes[0].set_title("hollow: published, filled: calibrated")
    parts = ("cka", "coral", "discriminability")
    table = np.array([[_number(one["parts"][p]["calibrated"]) for p in parts] for one in found])
    heat_map(axes[1], table, names, ["debiased CKA", "spectral similarity", "discriminability"],
             low=0.0, high=1.0)  # fmt: skip
    axes[1].set_title("calibrated parts")


def _clouds(result: Json) -> list[str]:
    """Every model once: shuffling the pairs leaves an encoder's cloud as it is."""
    return [
        name for name in [*result["vision"]["names"], *result["text"]["names"]]
        if not name.startswith("shuffled:")
    ]  # fmt: skip


def _correlation(covariance: np.ndarray) -> np.ndarray:
    """Correlation of the dimensions with the most variance."""
    variance = np.diag(covariance)
    strongest = np.argsort(-variance)[:LARGEST_COVARIANCE]
    scale = np.sqrt(np.maximum(variance[strongest], 1e-300))
    return covariance[np.ix_(strongest, strongest)] / np.outer(scale, scale)


def _number(value: Any) -> float:
    return float("nan") if value is None else float(value)
