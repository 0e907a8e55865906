"""Figures of encoders against LLMs: `compare`, `multi-llm`, `elas`, `layers`, `e2e`.

Each takes what the result's `to_json` gives, so that a run's record can be drawn again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from encoderlab.metrics.alignment_scores import ELAS_NAME
from encoderlab.metrics.catalogue import HEADLINE, METRICS, PROJECTORS
from encoderlab.plots.primitives import (
    cell,
    ends_of,
    heat_map,
    intervals,
    value_of,
)
from encoderlab.plots.style import CHANCE, FigureRecord, colours, figure, markers, rules, short

Json = Mapping[str, Any]


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


def cka_both_ways(result: Json) -> FigureRecord:
    """CKA debiased with its interval, and as published with its floor."""
    encoders, llms = _names(result)
    with rules():
        fig = figure(1.5 + 3.6 * len(llms), 1.6 + 0.42 * len(encoders))
        axes = fig.subplots(1, len(llms), sharey=True, squeeze=False)[0]
        tint = colours(encoders)
        for ax, llm in zip(axes, llms, strict=True):
            scores = [_score(result, e, llm, HEADLINE) for e in encoders]
            intervals(ax, encoders, {llm: scores}, legend=False)
            for i, encoder in enumerate(encoders):
                biased = _score(result, encoder, llm, f"{HEADLINE}_biased")
                if biased is None or biased.get("value") is None:
                    continue
                ax.plot(
                    [biased["value"]], [i], "o", markerfacecolor="none",
                    markeredgecolor=tint[encoder], markersize=9, zorder=2,
                )  # fmt: skip
                ax.plot([biased["chance"]] * 2, [i - 0.2, i + 0.2], color="#AA3333", linewidth=1.6)
            ax.set_title(f"with {short(llm)}")
            ax.set_xlim(min(-0.05, ax.get_xlim()[0]), 1.02)
            ax.set_xlabel("linear CKA")
        _legend_below(fig)
        fig.suptitle("Which encoder fits: CKA, debiased and as published")
    return FigureRecord(
        "compare_cka",
        fig,
        "Filled: debiased CKA with its 95 % interval; its chance is 0 (dashed). Hollow: the biased "
        "CKA that papers publish; the red tick beside it is what unrelated features of the same "
        "spectra reach. A hollow circle near its red tick says nothing.",
        _arrays(result, (HEADLINE, f"{HEADLINE}_biased")),
    )


def side_by_side(result: Json) -> FigureRecord:
    """The other closed-form metrics, one panel each."""
    encoders, llms = _names(result)
    names = [n for n in ("cka_within", "mutual_knn", "ridge_r2", "ridge_recall1")]
    with rules():
        fig = figure(12, 1.8 + 0.45 * len(encoders) * 2)
        grid = fig.subplots(2, 2, sharey=True).ravel()
        for ax, name in zip(grid, names, strict=True):
            scores = {llm: [_score(result, e, llm, name) for e in encoders] for llm in llms}
            intervals(ax, encoders, scores, legend=name == names[0])
            ax.set_title(METRICS[name].title)
        fig.suptitle("The same question asked in other ways")
    return FigureRecord(
        "compare_metrics",
        fig,
        "; ".join(f"{METRICS[n].title}: {METRICS[n].meaning}" for n in names)
        + ". Lines are 95 % intervals, dashed ticks are chance.",
        _arrays(result, names),
    )


def projectors(result: Json) -> FigureRecord:
    """R2 of each kind of projector on held-out pairs."""
    encoders = [
        e for e in _names(result)[0]
        if any("linear_r2" in r["scores"] for r in result["rows"] if r["encoder"] == e)
    ]  # fmt: skip
    llms = _names(result)[1]
    with rules():
        fig = figure(12, 1.8 + 0.45 * len(encoders) * 2)
        grid = fig.subplots(2, 2, sharey=True, sharex=True).ravel()
        for ax, (kind, title) in zip(grid, PROJECTORS.items(), strict=True):
            scores = {llm: [_score(result, e, llm, f"{kind}_r2") for e in encoders] for llm in llms}
            intervals(ax, encoders, scores, legend=kind == "linear")
            ax.set_title(title)
            ax.set_xlabel("R² on held-out pairs")
        fig.suptitle("Projectors trained on some pairs, judged on others")
    return FigureRecord(
        "compare_projectors",
        fig,
        "Share of the LLM features' variance that a trained projector predicts on pairs it has not "
        "seen; 0 is a projector that ignores the image.",
        _arrays(result, [f"{kind}_r2" for kind in PROJECTORS]),
    )


def by_type(result: Json) -> FigureRecord:
    """The headline metric and the ridge probe within each data type."""
    encoders, llms = _names(result)
    kinds = list(result["data"]["types"])
    shown = (HEADLINE, "ridge_r2")
    with rules():
        fig = figure(2 + 1.25 * len(kinds) * len(llms), 2.4 + 0.62 * len(encoders) * 2)
        grid = fig.subplots(2, len(llms), squeeze=False)
        for line, name in zip(grid, shown, strict=True):
            values = [
                np.array(
                    [[value_of(_typed(result, e, llm, k, name)) for k in kinds] for e in encoders]
                )
                for llm in llms
            ]
            finite = np.concatenate([v[np.isfinite(v)] for v in values]) if values else np.zeros(1)
            high = float(finite.max()) if len(finite) else 1.0
            for ax, llm, value in zip(line, llms, values, strict=True):
                texts = [[cell(_typed(result, e, llm, k, name)) for k in kinds] for e in encoders]
                heat_map(ax, value, encoders, kinds, texts=texts, low=0.0, high=high,
                         label=METRICS[name].title, bar=llm == llms[-1])  # fmt: skip
                ax.set_title(f"{METRICS[name].title}, {short(llm)}")
        fig.suptitle("Within each data type")
    arrays = {
        f"{name}|{llm}": np.array(
            [ends_of([_typed(result, e, llm, k, name) for k in kinds]) for e in encoders]
        )
        for name in shown
        for llm in llms
    }
    return FigureRecord(
        "compare_by_type",
        fig,
        "The same scores among samples of one data type: telling a chart from a table no longer "
        "helps. In brackets the 95 % interval.",
        arrays,
    )


def verdicts(result: Json) -> FigureRecord:
    """Paired differences with their intervals."""
    shown = [
        v for v in result["verdicts"]
        if v["metric"] == HEADLINE and v["difference"] is not None
    ]  # fmt: skip
    with rules():
        fig = figure(9, 1.4 + 0.34 * max(len(shown), 2))
        ax = fig.subplots()
        for i, one in enumerate(shown):
            low, high = one["ci_low"], one["ci_high"]
            told = one["verdict"] != "cannot distinguish"
            ink = "#1B5E20" if told else "#777777"
            if low is not None:
                ax.plot([low, high], [i, i], color=ink, linewidth=2)
            ax.plot(one["difference"], i, "o" if told else "s", color=ink,
                    markerfacecolor=ink if told else "white", markersize=7)  # fmt: skip
        ax.axvline(0, **CHANCE)
        ax.set_yticks(
            range(len(shown)),
            [f"{short(v['a'])} − {short(v['b'])}, {short(v['llm'])}" for v in shown],
        )
        ax.set_ylim(len(shown) - 0.4, -0.6)
        ax.set_xlabel("difference of debiased CKA")
        ax.set_title("Encoder against encoder, on the same samples")
    return FigureRecord(
        "compare_verdicts",
        fig,
        "Filled: one encoder is ahead. Hollow: the data cannot tell, the interval holds 0. The "
        "intervals hold for all comparisons of a family together.",
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
    with rules():
        fig = figure(3 + 2.6 * len(llms), 2 + 1.15 * len(encoders))
        grid = fig.subplots(2, 2).ravel()
        for ax, name in zip(grid, shown, strict=True):
            table = [[_score(result, e, llm, name) for llm in llms] for e in encoders]
            heat_map(
                ax, np.array([[value_of(s) for s in line] for line in table]), encoders, llms,
                texts=[[cell(s) for s in line] for line in table], low=0.0,
                label=METRICS[name].title,
            )  # fmt: skip
            ax.set_title(METRICS[name].title)
        fig.suptitle("Encoders × LLMs")
    return [
        FigureRecord(
            "multi_llm",
            fig,
            "Each cell: one encoder with one LLM, the value and its 95 % interval. Chance is 0 for "
            "CKA and R², k/(n−1) for neighbours, one in the fold for Recall@1.",
            _arrays(result, shown),
        )
    ]


def elas(result: Json) -> list[FigureRecord]:
    """The ELAS matrix, calibrated and as published, and its parts."""
    rows = result["rows"]
    encoders = list(dict.fromkeys(r["encoder"] for r in rows))
    llms = list(dict.fromkeys(r["llm"] for r in rows))
    found = {(r["encoder"], r["llm"]): r for r in rows}
    with rules():
        fig = figure(4 + 3.2 * len(llms), 1.8 + 0.62 * len(encoders))
        arrays = {}
        for ax, side in zip(fig.subplots(1, 2), ("calibrated", "published"), strict=True):
            table = [[found[e, llm][side] for llm in llms] for e in encoders]
            arrays[side] = np.array([ends_of(line) for line in table])
            heat_map(
                ax, np.array([[value_of(s) for s in line] for line in table]), encoders, llms,
                texts=[[cell(s) for s in line] for line in table],
                low=0.0 if side == "calibrated" else None,
                high=1.0 if side == "calibrated" else None, label="ELAS",
            )  # fmt: skip
            ax.set_title("calibrated (rank by this)" if side == "calibrated" else "as published")
        fig.suptitle(ELAS_NAME)
        parts = figure(1.5 + 3.6 * len(llms), 2 + 0.5 * len(encoders))
        names = ("cka", "mse", "gap", "cosine")
        weights = {"cka": 0.3, "mse": 0.3, "gap": 0.2, "cosine": 0.2}
        hatch = {"cka": "", "mse": "//", "gap": "..", "cosine": "xx"}
        words = {"cka": "CKA", "mse": "held-out R²", "gap": "generalisation", "cosine": "cosine"}
        tone = ("#30507A", "#6F94C4", "#A9C3E4", "#D9E5F4")
        for ax, llm in zip(
            parts.subplots(1, len(llms), sharey=True, squeeze=False)[0], llms, strict=True
        ):
            for i, encoder in enumerate(encoders):
                up, down = 0.0, 0.0
                for name, ink in zip(names, tone, strict=True):
                    value = (found[encoder, llm]["parts"][name]["calibrated"] or 0.0) * weights[
                        name
                    ]
                    ax.barh(
                        i, value, left=up if value >= 0 else down, color=ink, hatch=hatch[name],
                        edgecolor="#333333", linewidth=0.6, label=words[name] if i == 0 else None,
                    )  # fmt: skip
                    up, down = up + max(value, 0), down + min(value, 0)
            ax.set_yticks(range(len(encoders)), [short(e) for e in encoders])
            ax.set_ylim(len(encoders) - 0.4, -0.6)
            ax.set_title(f"with {short(llm)}")
            ax.set_xlabel("weighted parts of the calibrated ELAS")
            ax.grid(axis="y", visible=False)
        parts.axes[0].legend(fontsize=8, loc="lower right")
    return [
        FigureRecord(
            "elas",
            fig,
            "Mean over splits; in brackets the 95 % interval over splits (Nadeau & Bengio 2003). A "
            "projector that ignores the image scores 0 in every calibrated part, and up to 0.70 as "
            "published.",
            arrays,
        ),
        FigureRecord(
            "elas_parts", parts, "What the calibrated score is made of, each part times its weight."
        ),
    ]


def layers(result: Json) -> list[FigureRecord]:
    """Every vision layer with every LLM layer, a heat map per pair."""
    found = {(one["encoder"], one["llm"]): one for one in result["pairs"]}
    encoders = list(dict.fromkeys(e for e, _ in found))
    llms = list(dict.fromkeys(t for _, t in found))
    tables = {key: np.array(one["cka"], dtype=np.float64) for key, one in found.items()}
    finite = np.concatenate([t[np.isfinite(t)] for t in tables.values()] or [np.zeros(1)])
    high = float(finite.max()) if len(finite) else 1.0
    wide = sum(max(1.6, 0.62 * tables[encoders[0], llm].shape[1]) for llm in llms)
    tall = [max(1.2, 0.42 * tables[e, llms[0]].shape[0]) for e in encoders]
    with rules():
        fig = figure(2.4 + 1.0 * len(llms) + wide, 1.6 + sum(tall) + 0.75 * len(encoders))
        grid = fig.subplots(len(encoders), len(llms), squeeze=False, height_ratios=tall)
        shown = None
        for line, encoder in zip(grid, encoders, strict=True):
            for ax, llm in zip(line, llms, strict=True):
                table, one = tables[encoder, llm], found[encoder, llm]
                shown = heat_map(
                    ax, table, [str(i) for i in range(table.shape[0])],
                    [str(i) for i in range(table.shape[1])], low=0.0, high=high, bar=False,
                )  # fmt: skip
                if one["best"] is not None:
                    best, habit = one["best"], one["penultimate"]
                    ax.add_patch(_box(habit["text"], habit["vision"], "white"))
                    ax.add_patch(_box(best["text"], best["vision"], "#FF2D55"))
                ax.set_title(f"{short(encoder)} × {short(llm)}", fontsize=9)
                ax.set_ylabel("vision layer", fontsize=8)
                ax.set_xlabel("LLM layer", fontsize=8)
        if shown is not None:
            fig.colorbar(shown, ax=grid, label="debiased CKA", shrink=0.6)
        fig.suptitle("Layer by layer")
    arrays = {f"cka|{e}|{t}": table for (e, t), table in tables.items()}
    arrays |= {f"p|{e}|{t}": np.array(one["p"], float) for (e, t), one in found.items()}
    return [
        FigureRecord(
            "layers",
            fig,
            "Debiased CKA of the mean patch of each vision layer with each LLM layer; layer 0 is "
            "what enters the first block. Red: the best pair. White: the penultimate vision layer, "
            "which is fed by habit.",
            arrays,
        )
    ]


def e2e(result: Json) -> list[FigureRecord]:
    """Retrieval of each encoder, and which metric predicts it."""
    drawn = []
    points = result["points"]
    encoders = list(dict.fromkeys(p["encoder"] for p in points))
    tint, shape = colours(encoders), markers(encoders)
    llms = list(dict.fromkeys(p["llm"] for p in points))
    pooled = [p for p in points if p["layer"] == "pooled"]
    if any(p["outcome"] is not None and p.get("retrieval") for p in pooled):
        with rules():
            fig = figure(11, 1.8 + 0.5 * len(encoders))
            axes = fig.subplots(1, 2, sharey=True)
            arrays = {}
            for ax, (name, title) in zip(axes, (("mrr", "MRR"), ("R@1", "Recall@1")), strict=True):
                scores = {}
                for llm in llms:
                    of = {p["encoder"]: p for p in pooled if p["llm"] == llm}
                    scores[llm] = [
                        (of[e].get("retrieval") or {}).get("image_to_text", {}).get(name)
                        if e in of else None
                        for e in encoders
                    ]  # fmt: skip
                    arrays[f"{name}|{llm}"] = ends_of(scores[llm])
                intervals(ax, encoders, scores, legend=name == "mrr")
                ax.set_title(f"image to text, {title}")
            fig.suptitle("Retrieval on held-out pairs, through a trained projector")
        drawn.append(
            FigureRecord(
                "e2e_retrieval",
                fig,
                "Projectors were trained on other pairs. Lines are 95 % intervals over images, "
                "dashed ticks chance.",
                arrays,
            )
        )
    for benchmark in result["benchmarks"]:
        found = benchmark["metrics"]
        names = list(found)
        with rules():
            fig = figure(12, 2.9 * -(-len(names) // 3) + 0.9)
            grid = fig.subplots(-(-len(names) // 3), 3, squeeze=False).ravel()
            arrays = {}
            for ax, name in zip(grid, names, strict=False):
                for encoder in encoders:
                    own = [
                        p for p in points
                        if p["encoder"] == encoder and p["benchmark"] in (None, benchmark["name"])
                        and p["metrics"].get(name) is not None and p["outcome"] is not None
                    ]  # fmt: skip
                    ax.plot(
                        [p["metrics"][name] for p in own], [p["outcome"] for p in own],
                        shape[encoder], color=tint[encoder], markersize=4, alpha=0.4, linestyle="",
                        markeredgewidth=0,
                    )  # fmt: skip
                    arrays[f"{name}|{encoder}"] = np.array(
                        [[p["metrics"][name], p["outcome"]] for p in own], dtype=float
                    ).reshape(-1, 2)
                    if own:
                        ax.plot(
                            *arrays[f"{name}|{encoder}"].mean(axis=0)[:, None], shape[encoder],
                            color=tint[encoder], markeredgecolor="black", markeredgewidth=0.6,
                            markersize=8, label=short(encoder), linestyle="",
                        )  # fmt: skip
                one = found[name]
                head = METRICS[name].title if name in METRICS else name
                said = (
                    one["undefined"]
                    if one["undefined"]
                    else f"r = {one['pearson']:.2f}, p = {_corrected(one):.2g}, "
                    f"{one['families']} encoders"
                )
                ax.set_title(f"{head}\n{said}", fontsize=9)
                ax.set_ylabel(benchmark["name"])
                ax.ticklabel_format(axis="x", useOffset=False)
                ax.locator_params(axis="x", nbins=4)
            for ax in grid[len(names) :]:
                ax.axis("off")
            fig.legend(*grid[0].get_legend_handles_labels(), loc="outside lower center",
                       ncols=min(6, len(encoders)), fontsize=8)  # fmt: skip
            fig.suptitle(f"Does a metric predict {benchmark['name']}?")
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


def _corrected(one: Json) -> float:
    return one["pearson_p"] if one.get("p_corrected") is None else one["p_corrected"]


def _names(result: Json) -> tuple[list[str], list[str]]:
    rows = result["rows"]
    return (
        list(dict.fromkeys(r["encoder"] for r in rows)),
        list(dict.fromkeys(r["llm"] for r in rows)),
    )


def _row(result: Json, encoder: str, llm: str) -> Json | None:
    for row in result["rows"]:
        if row["encoder"] == encoder and row["llm"] == llm:
            return row
    return None


def _score(result: Json, encoder: str, llm: str, name: str) -> Json | None:
    row = _row(result, encoder, llm)
    return None if row is None else row["scores"].get(name)


def _typed(result: Json, encoder: str, llm: str, kind: str, name: str) -> Json | None:
    row = _row(result, encoder, llm)
    return None if row is None else row["by_type"].get(kind, {}).get(name)


def _arrays(result: Json, names: Sequence[str]) -> dict[str, np.ndarray]:
    encoders, llms = _names(result)
    found = {
        f"{name}|{llm}": ends_of([_score(result, e, llm, name) for e in encoders])
        for name in names
        for llm in llms
    }
    return {"encoders": np.array(encoders), **found}


def _legend_below(fig: Any) -> None:
    from matplotlib.lines import Line2D

    fig.legend(
        handles=[
            Line2D([], [], marker="o", color="#666666", label="debiased, 95 % interval"),
            Line2D([], [], label="chance of the debiased", **CHANCE),
            Line2D([], [], marker="o", markerfacecolor="none", color="#666666", linestyle="",
                   markersize=9, label="as published (biased)"),
            Line2D([], [], marker="|", color="#AA3333", linestyle="", markersize=10,
                   markeredgewidth=1.6, label="its floor for unrelated features"),
        ],
        loc="outside lower center", ncols=2, fontsize=8,
    )  # fmt: skip


def _box(x: float, y: float, ink: str) -> Any:
    from matplotlib.patches import Rectangle

    return Rectangle((x - 0.5, y - 0.5), 1, 1, fill=False, edgecolor=ink, linewidth=2.5)


def _file_name(text: str) -> str:
    return "".join(c if c.isalnum() or c in "-_." else "-" for c in text)
