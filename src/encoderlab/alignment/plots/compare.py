"""Figures of encoders against LLMs: `compare`, `multi-llm`, `elas`, `layers`, `e2e`.

Each takes the result's `to_json()`, so that the figures of a recorded run can be drawn again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from operator import itemgetter
from textwrap import fill
from typing import Any

import numpy as np
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle

from encoderlab.metrics.alignment_scores import ELAS_NAME, ELAS_WEIGHTS
from encoderlab.metrics.catalogue import HEADLINE, METRICS, PROJECTORS
from encoderlab.metrics.uncertainty import Verdict
from encoderlab.plots.primitives import (
    control_bands,
    ends_of,
    heat_map,
    intervals,
    legend_below,
    map_size,
    panels,
    score_map,
    value_of,
)
from encoderlab.plots.style import (
    CHANCE,
    CONTROL_COLOURS,
    CONTROL_NAMES,
    GREEN,
    PALETTE,
    RED,
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
ScoreOf = Callable[[Json], Json | None]
FLOOR = PALETTE[-1]


def compare(result: Json) -> list[FigureRecord]:
    """The figures of `compare`."""
    drawn = [cka_both_ways(result), side_by_side(result)]
    if any(f"{kind}_r2" in row["scores"] for row in result["rows"] for kind in PROJECTORS):
        drawn.append(projectors(result))
    if len(result["data"]["types"]) > 1:
        drawn.append(by_type(result))
    if result["verdicts"]:
        drawn.append(verdicts(result))
    return drawn


def stream(result: Json) -> list[FigureRecord]:
    """The figure of `encoderlab stream`: CKA debiased and as published."""
    return [cka_both_ways(result)]


def cka_both_ways(result: Json) -> FigureRecord:
    """CKA debiased with its interval, and as published with its floor."""
    encoders, llms = _names(result)
    with rules():
        fig = figure(_row_width(encoders, llms), 1.8 + 0.42 * len(encoders))
        axes = fig.subplots(1, len(llms), sharey=True, squeeze=False)[0]
        tint = colours(encoders)
        for ax, llm in zip(axes, llms, strict=True):
            intervals(ax, encoders, {llm: _scores(result, llm, HEADLINE)}, legend=False)
            bands = control_bands(ax, _controls(result, [llm], _score(HEADLINE)))
            all_biased = _scores(result, llm, f"{HEADLINE}_biased")
            for i, (encoder, biased) in enumerate(zip(encoders, all_biased, strict=True)):
                if biased is None or biased.get("value") is None:
                    continue
                ax.plot(
                    [biased["value"]], [i], "o", markerfacecolor="none",
                    markeredgecolor=tint[encoder], markersize=9, zorder=2,
                )  # fmt: skip
                ax.plot([biased["chance"]] * 2, [i - 0.2, i + 0.2], color=FLOOR, linewidth=1.6)
            ax.set_title(f"with {short(llm)}")
            ax.set_xlim(min(-0.05, ax.get_xlim()[0]), 1.02)
            ax.set_xlabel("linear CKA")
        handles = [
            Line2D([], [], marker="o", color="#666666", label="debiased, 95 % interval"),
            Line2D([], [], label="chance of the debiased", **CHANCE),
            Line2D([], [], marker="o", markerfacecolor="none", color="#666666", linestyle="",
                   markersize=9, label="as published (biased)"),
            Line2D([], [], marker="|", color=FLOOR, linestyle="", markersize=10,
                   markeredgewidth=1.6, label="its floor for unrelated features"),
        ]  # fmt: skip
        legend_below(fig, [*handles, *bands])
        fig.suptitle("Which encoder fits: CKA, debiased and as published")
    return FigureRecord(
        "compare_cka",
        fig,
        "Filled: debiased CKA with its 95 % interval; chance is 0 (dashed). Hollow: biased CKA, as "
        "papers publish it; the dark red tick is its value for unrelated features with the same "
        "spectra. A hollow circle near its tick is no evidence of alignment."
        + _about_bands(result),
        _arrays(result, (HEADLINE, f"{HEADLINE}_biased")),
    )


def side_by_side(result: Json) -> FigureRecord:
    """The other closed-form metrics, one panel each."""
    encoders, llms = _names(result)
    names = ("cka_within", "mutual_knn", "ridge_r2", "ridge_recall1")
    with rules():
        fig = figure(12, 2.8 + 0.45 * len(encoders) * 2)
        grid = fig.subplots(2, 2, sharey=True).ravel()
        for ax, name in zip(grid, names, strict=True):
            scores = {llm: _scores(result, llm, name) for llm in llms}
            controls = _controls(result, llms, _score(name))
            intervals(ax, encoders, scores, legend=name == names[0], controls=controls)
            ax.set_xlabel(METRICS[name].title)
        fig.suptitle("The same question asked in other ways")
    return FigureRecord(
        "compare_metrics",
        fig,
        "; ".join(f"{METRICS[n].title}: {METRICS[n].meaning}" for n in names)
        + ". Lines are 95 % intervals, dashed ticks are chance."
        + _about_bands(result),
        _arrays(result, names),
    )


def projectors(result: Json) -> FigureRecord:
    """R2 of each kind of projector on held-out pairs."""
    trained = [row for row in result["rows"] if "linear_r2" in row["scores"]]
    encoders, llms = _names({"rows": trained})
    with rules():
        fig = figure(12, 2.8 + 0.45 * len(encoders) * 2)
        grid = fig.subplots(2, 2, sharey=True, sharex=True).ravel()
        for ax, (kind, title) in zip(grid, PROJECTORS.items(), strict=True):
            scores = {llm: _scores({"rows": trained}, llm, f"{kind}_r2") for llm in llms}
            controls = _controls({"rows": trained}, llms, _score(f"{kind}_r2"))
            intervals(ax, encoders, scores, legend=kind == "linear", controls=controls)
            ax.set_xlabel(f"R² on held-out pairs, {title}")
        fig.suptitle("Projectors trained on some pairs, judged on others")
    return FigureRecord(
        "compare_projectors",
        fig,
        "Share of the LLM features' variance that a trained projector predicts on pairs it has not "
        "seen; 0 is a projector that ignores the image." + _about_bands({"rows": trained}),
        _arrays(result, [f"{kind}_r2" for kind in PROJECTORS]),
    )


def by_type(result: Json) -> FigureRecord:
    """The headline metric and the ridge probe within each data type."""
    encoders, llms = _names(result)
    kinds = list(result["data"]["types"])
    shown = (HEADLINE, "ridge_r2")
    lines = [*encoders, *_highest_names(result)]
    with rules():
        width, height = map_size(lines, kinds, 1.0)
        fig = figure(width * len(llms) + 0.3, 2 * height + 0.5)
        grid = fig.subplots(2, len(llms), squeeze=False)
        arrays = {}
        for line, name in zip(grid, shown, strict=True):
            tables = {
                llm: _transposed(_column(result, llm, _score(name, kind)) for kind in kinds)
                for llm in llms
            }
            for llm, table in tables.items():
                arrays[f"{name}|{llm}"] = np.array([ends_of(scores) for scores in table])
            values = np.array([arrays[f"{name}|{llm}"][..., 0] for llm in llms])
            finite = values[np.isfinite(values)]
            high = float(finite.max()) if len(finite) else 1.0
            for ax, (llm, table) in zip(line, tables.items(), strict=True):
                score_map(ax, table, lines, kinds, low=0.0, high=high,
                          label=METRICS[name].title, bar=llm == llms[-1])  # fmt: skip
                ax.set_title(f"{METRICS[name].title}, {short(llm)}")
        fig.suptitle("Within each data type")
    return FigureRecord(
        "compare_by_type",
        fig,
        "The same scores among samples of one data type: telling a chart from a table no longer "
        "helps. In brackets the 95 % interval." + _about_highest(result),
        arrays,
    )


def verdicts(result: Json) -> FigureRecord:
    """Paired differences with their intervals."""
    shown = [
        verdict
        for verdict in result["verdicts"]
        if verdict["metric"] == HEADLINE and verdict["difference"] is not None
    ]
    with rules():
        labels = [f"{short(v['a'])} − {short(v['b'])}\nwith {short(v['llm'])}" for v in shown]
        fig = figure(6 + text_width(labels), 1.4 + 0.42 * max(len(shown), 2))
        ax = fig.subplots()
        for i, verdict in enumerate(shown):
            low, high = verdict["ci_low"], verdict["ci_high"]
            separated = verdict["verdict"] != Verdict.CANNOT_DISTINGUISH
            ink = GREEN if separated else "#777777"
            if low is not None:
                ax.plot([low, high], [i, i], color=ink, linewidth=2)
            ax.plot(verdict["difference"], i, "o" if separated else "s", color=ink,
                    markerfacecolor=ink if separated else "white", markersize=7)  # fmt: skip
        ax.axvline(0, **CHANCE)
        ax.set_yticks(range(len(shown)), labels)
        ax.set_ylim(len(shown) - 0.4, -0.6)
        ax.set_xlabel("difference of debiased CKA")
        ax.set_title("Encoder against encoder, on the same samples")
    return FigureRecord(
        "compare_verdicts",
        fig,
        "Filled: one encoder is ahead. Hollow: undecided, the interval contains 0. The intervals "
        "are simultaneous for all comparisons of a family.",
        {
            "difference": np.array(
                [[v["difference"], v["ci_low"], v["ci_high"]] for v in shown], float
            )
        },
    )


def multi_llm(result: Json) -> list[FigureRecord]:
    """Encoder x LLM heat maps."""
    encoders, llms = _names(result)
    shown = [HEADLINE, "mutual_knn", "ridge_r2", "ridge_recall1"]
    lines = [*encoders, *_highest_names(result)]
    with rules():
        width, height = map_size(lines, llms, 1.0)
        fig = figure(2 * width, 2 * height + 0.5)
        grid = fig.subplots(2, 2).ravel()
        for ax, name in zip(grid, shown, strict=True):
            table = _transposed(_column(result, llm, _score(name)) for llm in llms)
            score_map(ax, table, lines, llms, low=0.0, label=METRICS[name].title)
            ax.set_title(METRICS[name].title)
        fig.suptitle("Encoders × LLMs")
    return [
        FigureRecord(
            "multi_llm",
            fig,
            "Each cell: one encoder with one LLM, the value and its 95 % interval. Chance is 0 for "
            "CKA and R², k/(n−1) for neighbours, one in the fold for Recall@1."
            + _about_highest(result),
            _arrays(result, shown),
        )
    ]


def elas(result: Json) -> list[FigureRecord]:
    """The ELAS matrix, calibrated and as published, and its parts."""
    encoders, llms = _names(result)
    rows = {(row["encoder"], row["llm"]): row for row in result["rows"]}
    with rules():
        lines = [*encoders, *_highest_names(result)]
        width, height = map_size(lines, llms, 1.0, 0.6)
        fig = figure(2 * max(width, 3.2), height + 0.5)
        arrays = {}
        sides = {
            "calibrated": ("calibrated (rank by this)", {"low": 0.0, "high": 1.0}),
            "published": ("as published", {}),
        }
        for ax, (side, (title, scale)) in zip(fig.subplots(1, 2), sides.items(), strict=True):
            table = _transposed(_column(result, llm, itemgetter(side)) for llm in llms)
            arrays[side] = np.array([ends_of(scores) for scores in table])
            score_map(ax, table, lines, llms, label="ELAS", **scale)
            ax.set_title(title)
        fig.suptitle(ELAS_NAME)
        parts = figure(_row_width(encoders, llms), 1.8 + 0.5 * len(encoders))
        bars = {
            "cka": ("CKA", PALETTE[0], ""),
            "mse": ("held-out R²", PALETTE[1], "//"),
            "gap": ("generalisation", PALETTE[2], ".."),
            "cosine": ("cosine", PALETTE[3], "xx"),
        }
        axes = parts.subplots(1, len(llms), sharey=True, squeeze=False)[0]
        for ax, llm in zip(axes, llms, strict=True):
            bands = control_bands(ax, _controls(result, [llm], itemgetter("calibrated")))
            for i, encoder in enumerate(encoders):
                up, down = 0.0, 0.0
                for name, (label, ink, hatch) in bars.items():
                    part = rows[encoder, llm]["parts"][name]["calibrated"] or 0.0
                    value = part * ELAS_WEIGHTS[name]
                    ax.barh(
                        i, value, left=up if value >= 0 else down, color=ink, hatch=hatch,
                        edgecolor="#333333", linewidth=0.6, label=label if i == 0 else None,
                    )  # fmt: skip
                    up, down = up + max(value, 0), down + min(value, 0)
            ax.set_yticks(range(len(encoders)), [short(e) for e in encoders])
            ax.set_ylim(len(encoders) - 0.4, -0.6)
            ax.set_title(f"with {short(llm)}")
            ax.set_xlabel("weighted parts of calibrated ELAS")
            ax.grid(axis="y", visible=False)
        legend_below(parts, [*axes[0].get_legend_handles_labels()[0], *bands])
    return [
        FigureRecord(
            "elas",
            fig,
            "Mean over splits; in brackets the 95 % interval over splits (Nadeau & Bengio 2003) "
            "and of CKA over samples. A projector that ignores the image scores 0 in every "
            "calibrated part, and up to 0.70 as published." + _about_highest(result),
            arrays,
        ),
        FigureRecord(
            "elas_parts",
            parts,
            "The parts of the calibrated score, each times its weight; the whole bar is the score."
            + _about_bands(result),
        ),
    ]


def layers(result: Json) -> list[FigureRecord]:
    """Every vision layer with every LLM layer, a heat map per pair."""
    pairs = {(pair["encoder"], pair["llm"]): pair for pair in result["pairs"]}
    encoders, llms = _names({"rows": result["pairs"]})
    tables = {key: np.array(pair["cka"], dtype=np.float64) for key, pair in pairs.items()}
    shown = [tables[encoder, llm] for encoder in encoders for llm in llms]
    finite = np.concatenate([t[np.isfinite(t)] for t in shown] or [np.zeros(1)])
    high = float(finite.max()) if len(finite) else 1.0
    wide = sum(max(1.6, 0.62 * tables[encoders[0], llm].shape[1]) for llm in llms)
    tall = [max(1.2, 0.42 * tables[e, llms[0]].shape[0]) for e in encoders]
    with rules():
        fig = figure(2.4 + 1.0 * len(llms) + wide, 1.6 + sum(tall) + 0.75 * len(encoders))
        grid = fig.subplots(len(encoders), len(llms), squeeze=False, height_ratios=tall)
        drawn = None
        for line, encoder in zip(grid, encoders, strict=True):
            for ax, llm in zip(line, llms, strict=True):
                table, pair = tables[encoder, llm], pairs[encoder, llm]
                numbers = ([str(i) for i in range(size)] for size in table.shape)
                drawn = heat_map(ax, table, *numbers, low=0.0, high=high, bar=False)
                if pair["best"] is not None:
                    for at, ink in ((pair["penultimate"], "white"), (pair["best"], RED)):
                        corner = (at["text"] - 0.5, at["vision"] - 0.5)
                        ax.add_patch(
                            Rectangle(corner, 1, 1, fill=False, edgecolor=ink, linewidth=2.5)
                        )
                ax.set_title(f"{short(encoder)}\n× {short(llm)}", fontsize=9)
                ax.set_ylabel("vision layer", fontsize=8)
                ax.set_xlabel("LLM layer", fontsize=8)
        if drawn is not None:
            fig.colorbar(drawn, ax=grid, label="debiased CKA", shrink=0.6)
        fig.suptitle("Layer by layer")
    controls = [tables[key] for key, pair in pairs.items() if pair.get("control_of")]
    reached = [float(np.nanmax(table)) for table in controls if np.isfinite(table).any()]
    about = f" No layer of an untrained encoder exceeds {max(reached):.2f}." if reached else ""
    arrays = {f"cka|{e}|{t}": table for (e, t), table in tables.items()}
    arrays |= {f"p|{e}|{t}": np.array(pair["p"], float) for (e, t), pair in pairs.items()}
    return [
        FigureRecord(
            "layers",
            fig,
            "Debiased CKA of the mean patch of each vision layer with each LLM layer; layer 0 is "
            "what enters the first block. Red: the best pair. White: the penultimate vision layer, "
            "which most VLMs use." + about,
            arrays,
        )
    ]


def e2e(result: Json) -> list[FigureRecord]:
    """Retrieval of each encoder, and which metric predicts it."""
    drawn = []
    points = result["points"]
    pooled = [p for p in points if p["layer"] == "pooled" and p["benchmark"] is None]
    if any(p["outcome"] is not None and p.get("retrieval") for p in pooled):
        encoders, llms = _names({"rows": pooled})
        with rules():
            fig = figure(8 + text_width(map(short, encoders)), 1.8 + 0.5 * len(encoders))
            axes = fig.subplots(1, 2, sharey=True)
            arrays = {}
            for ax, (name, title) in zip(axes, (("mrr", "MRR"), ("R@1", "Recall@1")), strict=True):
                scores = {}
                retrieved = _retrieval(name)
                for llm in llms:
                    scores[llm] = _asked({"rows": pooled}, llm, retrieved)
                    arrays[f"{name}|{llm}"] = ends_of(scores[llm])
                controls = _controls({"rows": pooled}, llms, retrieved)
                arrays |= _arrays_of(controls, name)
                intervals(ax, encoders, scores, legend=name == "mrr", controls=controls)
                ax.set_xlabel(f"{title}, image to text")
            fig.suptitle("Retrieval on held-out pairs, through a trained projector")
        drawn.append(
            FigureRecord(
                "e2e_retrieval",
                fig,
                "Projectors were trained on other pairs. Lines are 95 % intervals over images, "
                "dashed ticks chance." + _about_bands({"rows": pooled}),
                arrays,
            )
        )
    if result.get("answers"):
        drawn.append(_answers(result["answers"]))
    looks = _point_looks(points)
    for benchmark in result["benchmarks"]:
        # Points of retrieval name no benchmark.
        known = {p["benchmark"] for p in points}
        name_in_points = benchmark["name"] if benchmark["name"] in known else None
        results = [_correlation_text(c) for c in benchmark["metrics"].values()]
        common = results[0] if len(set(results)) == 1 else ""
        with rules():
            fig, grid = panels(len(benchmark["metrics"]), 4, 2.9, 0.9)
            arrays = {}
            for ax, name, text in zip(grid, benchmark["metrics"], results, strict=True):
                for encoder, look in looks.items():
                    own = [
                        (p["metrics"][name], p["outcome"])
                        for p in points
                        if p["encoder"] == encoder
                        and p["benchmark"] == name_in_points
                        and None not in (p["metrics"].get(name), p["outcome"])
                    ]
                    xy = arrays[f"{name}|{encoder}"] = np.array(own, dtype=float).reshape(-1, 2)
                    ax.plot(*xy.T, markersize=4, alpha=0.4, markeredgewidth=0, **look)
                    if own:
                        ax.plot(*xy.mean(axis=0)[:, None], markeredgecolor="black", markersize=8,
                                markeredgewidth=0.6, **look)  # fmt: skip
                title = METRICS[name].title if name in METRICS else name
                ax.set_title("" if common else fill(text, 36), fontsize=9)
                ax.set_xlabel(title)
                ax.set_ylabel(benchmark["name"])
                ax.ticklabel_format(axis="x", useOffset=False)
                ax.locator_params(axis="x", nbins=4)
            handles = [
                Line2D([], [], markeredgecolor="black", markersize=8, markeredgewidth=0.6, **look)
                for look in {look["label"]: look for look in looks.values()}.values()
            ]
            legend_below(fig, handles)
            title = f"Does a metric predict {benchmark['name']}?"
            fig.suptitle("\n".join(filter(None, (title, common))))
        drawn.append(
            FigureRecord(
                _file_name(f"e2e_{benchmark['name']}"),
                fig,
                "Small: an encoder with an LLM at a layer. Large: the encoder's mean. r and p are "
                "over the means of trained encoders, since layers of one encoder rise and fall "
                "together; p is corrected for all metrics that were tried (Holm). Grey: controls, "
                "which count for neither.",
                arrays,
            )
        )
    return drawn


def _point_looks(points: Sequence[Json]) -> dict[str, dict[str, Any]]:
    """Encoder -> how its points look; all controls of a kind look the same."""
    kinds = {point["encoder"]: _kind_of_control(point) for point in points}
    labels = {name: CONTROL_NAMES[kind] if kind else name for name, kind in kinds.items()}
    shape = markers(list(dict.fromkeys(labels.values())))
    tint = colours([name for name, kind in kinds.items() if not kind]) | CONTROL_COLOURS
    return {
        name: {"marker": shape[labels[name]], "color": tint[kind or name], "linestyle": "",
               "label": short(labels[name])}
        for name, kind in kinds.items()
    }  # fmt: skip


def _correlation_text(correlation: Json) -> str:
    if correlation["undefined"]:
        return str(correlation["undefined"])
    p = correlation.get("p_corrected")
    p = correlation["pearson_p"] if p is None else p
    count = correlation["families"]
    return f"r = {correlation['pearson']:.2f}, p = {p:.2g}, {count} encoders"


def _answers(answers: Json) -> FigureRecord:
    """Right answers of each encoder with each LLM, beside those without the image."""
    pairs = answers["pairs"]
    encoders, llms = _names({"rows": pairs})
    with rules():
        fig = figure(_row_width(encoders, llms), 1.9 + 0.42 * len(encoders))
        axes = fig.subplots(1, len(llms), sharey=True, squeeze=False)[0]
        arrays = {}
        for ax, llm in zip(axes, llms, strict=True):
            of_encoder = {p["encoder"]: p for p in pairs if p["llm"] == llm}
            scores = _asked({"rows": pairs}, llm, _accuracy)
            arrays[llm] = ends_of(scores)
            intervals(ax, encoders, {llm: scores}, legend=False)
            controls = _controls({"rows": pairs}, [llm], _accuracy)
            arrays |= _arrays_of(controls, llm)
            bands = control_bands(ax, controls)
            for i, name in enumerate(encoders):
                by_seed = of_encoder[name]["by_seed"]
                ax.plot(by_seed, [i + 0.25] * len(by_seed), "|", color="#666666", markersize=6)
            ax.set_title(f"with {short(llm)}")
            ax.set_xlabel("share of right answers (0 to 1)")
        handles = [
            Line2D([], [], marker="o", color="#666666", label="mean of seeds, 95 % interval"),
            Line2D([], [], marker="|", color="#666666", linestyle="", label="one seed"),
            Line2D([], [], label="trained without the image", **CHANCE),
        ]
        legend_below(fig, [*handles, *bands])
        fig.suptitle("Right answers of VLMs to held-out questions")
    return FigureRecord(
        "e2e_answers",
        fig,
        "One VLM is trained per encoder, LLM and seed. Lines are 95 % intervals over images and "
        "seeds. Dashed: the LLM trained without the image; only what is above it comes from the "
        "encoder." + _about_bands({"rows": pairs}),
        arrays,
    )


def _row_width(encoders: Sequence[str], llms: Sequence[str]) -> float:
    """Inches of a figure with the encoders' names on the left and one axes per LLM beside them."""
    panel = max(3.6, 1.2 * text_width([f"with {short(llm)}" for llm in llms], 11))  # bold
    return max(6.4, text_width(map(short, encoders)) + panel * len(llms))


def _names(result: Json) -> tuple[list[str], list[str]]:
    """The encoders of the rows that are no controls, and the LLMs, each once."""
    rows = result["rows"]
    return (
        list(dict.fromkeys(r["encoder"] for r in rows if not r.get("control_of"))),
        list(dict.fromkeys(r["llm"] for r in rows)),
    )


def _score(name: str, kind: str | None = None) -> ScoreOf:
    """The score `name` of a row, of all samples or of one data type."""
    return lambda row: (row["scores"] if kind is None else row["by_type"].get(kind, {})).get(name)


def _retrieval(name: str) -> ScoreOf:
    """A score of retrieval, image to text, of a point."""
    return lambda point: (point.get("retrieval") or {}).get("image_to_text", {}).get(name)


def _accuracy(pair: Json) -> Json:
    score: Json = pair["accuracy"]["all"]
    return score


def _asked(result: Json, llm: str, score_of: ScoreOf) -> list[Json | None]:
    """The score of every encoder that is no control with an LLM."""
    rows = {row["encoder"]: row for row in result["rows"] if row["llm"] == llm}
    return [score_of(rows[name]) if name in rows else None for name in _names(result)[0]]


def _scores(result: Json, llm: str, name: str, kind: str | None = None) -> list[Json | None]:
    return _asked(result, llm, _score(name, kind))


def _kind_of_control(row: Json) -> str:
    """The prefix of a control's name; empty for a requested encoder."""
    return control_prefix(row["encoder"]) if row.get("control_of") else ""


def _controls(result: Json, llms: Sequence[str], score_of: ScoreOf) -> dict[str, list[Json | None]]:
    """Prefix of the controls' names -> their scores with some LLMs."""
    scores: dict[str, list[Json | None]] = {}
    for row in result["rows"]:
        prefix = _kind_of_control(row)
        if prefix and row["llm"] in llms:
            scores.setdefault(prefix, []).append(score_of(row))
    return scores


def _highest_names(result: Json) -> list[str]:
    """The names of the last rows of `_column`."""
    kinds = dict.fromkeys(filter(None, map(_kind_of_control, result["rows"])))
    return [f"{prefix.rstrip(':')}, highest" for prefix in kinds]


def _column(result: Json, llm: str, score_of: ScoreOf) -> list[Json | None]:
    """The scores of the encoders with an LLM, and of each kind of control the highest one."""
    controls = _controls(result, [llm], score_of).values()
    return [
        *_asked(result, llm, score_of),
        *(max(scores, key=lambda score: np.nan_to_num(value_of(score), nan=-np.inf))
          for scores in controls),
    ]  # fmt: skip


def _transposed(columns: Iterable[Sequence[Json | None]]) -> list[tuple[Json | None, ...]]:
    return list(zip(*columns, strict=True))


def _about_bands(result: Json) -> str:
    """What the bands are, for a caption; empty where there are none."""
    if not _highest_names(result):
        return ""
    return " Grey bands: from the lowest to the highest value of the controls."


def _about_highest(result: Json) -> str:
    if not _highest_names(result):
        return ""
    return " The last rows: in each cell the control with the highest value."


def _arrays(result: Json, names: Sequence[str]) -> dict[str, np.ndarray]:
    encoders, llms = _names(result)
    arrays = {
        f"{name}|{llm}": ends_of(_scores(result, llm, name)) for name in names for llm in llms
    }
    for name in names:
        for llm in llms:
            arrays |= _arrays_of(_controls(result, [llm], _score(name)), f"{name}|{llm}")
    return {"encoders": np.array(encoders), **arrays}


def _arrays_of(controls: Mapping[str, Sequence[Json | None]], name: str) -> dict[str, np.ndarray]:
    """The numbers behind bands."""
    return {f"{name}|{prefix.rstrip(':')}": ends_of(scores) for prefix, scores in controls.items()}


def _file_name(text: str) -> str:
    return "".join(c if c.isalnum() or c in "-_." else "-" for c in text)
