"""Every figure of the project: what it draws equals the result, and a reader can read it."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image
from tests.plots.checker import SIGHT, apart, faults

import encoderlab
from encoderlab.alignment import (
    answers,
    compare,
    complement,
    coral,
    e2e,
    elas,
    embedding,
    layers,
    multi_llm,
    speed,
    validate,
)
from encoderlab.alignment.attention import AttentionResult, AttentionScores
from encoderlab.alignment.data import AlignmentData, Features
from encoderlab.alignment.metric_values import MetricValues
from encoderlab.alignment.plots.attention import overlays
from encoderlab.alignment.plots.coral import COMPARISONS
from encoderlab.alignment.plots.coral import PARTS as EAS_PARTS
from encoderlab.alignment.plots.speed import speed as plot_speed
from encoderlab.cli.main import main
from encoderlab.compression.evaluate import TITLES
from encoderlab.compression.plots import styles
from encoderlab.compression.stored_evaluation import draw, stored
from encoderlab.core import run_folder
from encoderlab.core.score import Score
from encoderlab.data.reference_scores import read_table
from encoderlab.data.synthetic import generate
from encoderlab.encoders import hardware
from encoderlab.inspection import text_size
from encoderlab.inspection.plots import text_size as draw_sizes
from encoderlab.metrics.alignment_scores import ELAS_WEIGHTS
from encoderlab.metrics.catalogue import PROJECTORS
from encoderlab.plots.primitives import apart as moved_apart
from encoderlab.plots.style import PALETTE, figure, rules, save

Json = Any


class Drawn(NamedTuple):
    """A figure as it was saved, the result it belongs to, and the .npz beside it."""

    figure: Figure
    result: Json
    arrays: dict[str, np.ndarray]


# -- what is run ---------------------------------------------------------------------------------


def features(
    n: int, encoders: list[str], llms: list[str], kinds: list[str], controls: bool = False
) -> AlignmentData:
    """Features of which the encoders' share more and more with the first LLM's; of several
    encoders the last is constant, so that its scores are undefined. Controls of the first two."""
    rng = np.random.default_rng(0)
    base = rng.standard_normal((n, 16))
    clouds = {name: base * (0.2 + i / 4) + rng.standard_normal((n, 16))
              for i, name in enumerate(encoders)}  # fmt: skip
    clouds |= {name: base if name == llms[0] else rng.standard_normal((n, 16)) for name in llms}
    if len(encoders) > 1:
        clouds[encoders[-1]] = np.ones((n, 16))
    made = {
        name: Features(name, "none", name, x.astype(np.float32), {
            i: (x * i + rng.standard_normal(x.shape)).astype(np.float32) for i in range(3)
        }) for name, x in clouds.items()
    }  # fmt: skip
    ids = tuple(map(str, range(n)))
    encoder = {name: made[name] for name in encoders}
    for prefix in ("untrained:", "shuffled:") if controls else ():
        for name in encoders[:2]:
            x = rng.standard_normal((n, 16)).astype(np.float32)
            encoder[prefix + name] = replace(made[name], name=prefix + name, pooled=x, of=name)
    return AlignmentData(
        ids, tuple(kinds[i % len(kinds)] for i in range(n)), ids, ids,
        tuple(Image.new("RGB", (32, 32)) for _ in ids), encoder,
        {name: made[name] for name in llms}, "a test", "cpu", "float32", 0,
    )  # fmt: skip


def answered(data: AlignmentData) -> answers.Answers:
    """Answers of three seeds."""
    rng = np.random.default_rng(0)
    pairs = []
    for encoder in data.vision:
        for llm in data.text if not encoder.startswith("shuffled:") else ():
            by_seed = tuple(rng.uniform(0.1, 0.9, 3).tolist())
            mean = float(np.mean(by_seed))
            low, high = max(0.0, mean - 0.3), min(1.0, mean + 0.3)
            score = Score(mean, low, high, 0.15, 100, "a test")
            pairs.append(answers.PairAnswers(
                encoder, llm, {"all": score}, by_seed, 0.1, 224, 49, data.vision[encoder].of, ()
            ))  # fmt: skip
    return answers.Answers("a test", 9, 9, 9, (0, 1, 2), tuple(pairs), (), None, "a test", {})


def analyse(data: AlignmentData, out: Path) -> Iterator[Json]:
    few: dict[Any, dict[str, Any]] = {
        compare: {"epochs": 1}, multi_llm: {}, coral: {}, elas: {"epochs": 1}, 
        e2e: {"epochs": 1, "answers": answered(data)}, layers: {}, embedding: {"method": "pca"},
    }  # fmt: skip
    for command, options in few.items():
        yield command.analyse(data, out, **options).to_json()


def run(out: Path, *words: str) -> Iterator[Json]:
    """The results of a command as its record has them; of `all`, each of its commands'."""
    assert main([*words, "--output-dir", str(out)]) == 0
    result = run_folder.read(out).result
    yield from result.get("sections", {"": result}).values()


def one(out: Path) -> Iterator[Json]:
    yield from analyse(features(12, ["clip"], ["llama"], ["all"]), out)


def controlled(out: Path) -> Iterator[Json]:
    data = features(12, ["clip", "siglip", "dinov2"], ["llama", "qwen"], ["chart", "table"], True)
    yield from analyse(data, out)


def awkward(out: Path) -> Iterator[Json]:
    families = ("clip", "clip-l", "siglip", "dinov2", "internvit", "my-own")
    encoders = [f"an-organisation/{name}-with-a-very-long-name-patch14" for name in families]
    llms = [
        "meta/a-very-long-language-model-name-8b-instruct",
        "손으로 쓴 아주 긴 이름의 언어 모델 ",
    ]
    kinds = ["chart", "table", "document", "math", "visualization", "scene", "손으로 쓴 문서"]
    data = features(28, encoders, llms, kinds)
    yield from analyse(data, out)
    yield complement.analyse(data, out).to_json()
    rng = np.random.default_rng(0)
    timed = [
        speed.Timed(name, size, {"p50": 10.0 * size, "p95": 12.0 * size}, 100.0 / size,
                    None if i == 5 else 9.0, 1.5 + i, 0.3, 0.1 * i, 1)
        for i, name in enumerate(encoders) for size in (1, 8, 32)
    ]  # fmt: skip
    result: Json = speed.SpeedResult(tuple(timed), "cpu", "float32", 1.0, {}).to_json()
    yield result | {"figures": save(plot_speed(result), out)}
    looked = [
        AttentionScores(name, "clip", "", (4, 4), *(None if i == k else rng.random((4, 4))
                                                    for k in (1, 2)),
                        0.5, 0.1, "this attention has no maps: it is fused", "no text tower")
        for i, name in enumerate(encoders)
    ]  # fmt: skip
    result = AttentionResult("a.png", "긴 글 " * 50, tuple(looked), "cpu", "float32").to_json()
    views = {name: Image.new("RGB", (60, 40 if "siglip" in name else 60)) for name in encoders}
    shown = ({row.encoder: getattr(row, key) for row in looked if getattr(row, key) is not None}
             for key in ("similarity", "rollout"))  # fmt: skip
    drawn = overlays(views, result["text"], result["encoders"], *shown)
    yield result | {"figures": save([drawn], out)}


def validated(out: Path) -> Iterator[Json]:
    """A metric that is the resolution's inverse on a published table, one that is the average with
    noise, and one that is undefined."""
    table = read_table("cambrian1")
    rng = np.random.default_rng(0)
    average = table.averages["1.2M-frozen"]
    values = {
        "ridge_r2": {name: -float(row.resolution or 0) for name, row in table.encoders.items()},
        "cka_linear": {name: x + rng.normal(0, 0.1) for name, x in average.items()},
        "a_metric_of_ones_own_with_a_long_name": dict.fromkeys(table.encoders, 1.0),
    }
    named = {name: name for name in table.encoders}
    measured = MetricValues(values, named)
    yield validate.analyse(table, measured, out, setting="1.2M-frozen").to_json()


def photos(out: Path, count: int) -> str:
    folder = out / "photos"
    folder.mkdir(exist_ok=True, parents=True)
    for i in range(count):
        generate(5 * i).image.save(folder / f"{i}.png")
    return str(folder)


def compressed(out: Path) -> Iterator[Json]:
    shipped = stored()[0]
    # Without the VLM the chart is of the embedding, whose scale is not linear.
    yield draw(replace(shipped, result=replace(shipped.result, vlm=None)), out).result.to_json()
    yield from run(out, "compress", "show", "--image", photos(out, 1), "--grids", "4", "3",
                   "--dtype", "float32")  # fmt: skip


def tokens(out: Path) -> Iterator[Json]:
    yield from run(out, "tokens", f"image.path={photos(out, 1)}", "--text", "개 한 마리")


def registered(out: Path) -> Iterator[Json]:
    yield from run(out, "registers", "--n-images", "4", "--n", "0", "--device", "cpu")


def worded(out: Path) -> Iterator[Json]:
    yield from run(out, "words", "--n", "8", "--captions", "20", "--device", "cpu")


def asked_vlm(out: Path) -> Iterator[Json]:
    yield from run(out, "vlm", "answer", f"{photos(out, 1)}/0.png", "--text",
                   "How many shapes are in the picture? " * 4, "--explain")  # fmt: skip


def token_folder(out: Path) -> Iterator[Json]:
    yield from run(out, "tokens", f"image.path={photos(out, 5)}", "visualization.images=ends")


def bundled(out: Path) -> Iterator[Json]:
    yield from run(out, "all", "--encoders", "tiny-clip", "tiny-dinov2", "--llms", "tiny-llama",
                   "--n-samples", "6", "--epochs", "2", "--method", "pca", "--dtype", "float32",
                   "--batch-sizes", "1", "2", "--features-dir", str(out))  # fmt: skip


def trained(out: Path) -> Iterator[Json]:
    yield from run(out, "compress", "training.epochs=2", "model.compressor.width=16",
                   "training.batch_size=8", "--grid", "4",
                   "--images", photos(out, 48), "--store", str(out))  # fmt: skip


def evaluated(out: Path) -> Iterator[Json]:
    yield from run(out, "compress", "evaluate", "--images", photos(out, 48), "--grids", "4",
                   "--methods", "average", "block_pca", "--dtype", "float32")  # fmt: skip


def _stored(out: Path, name: str) -> dict[str, np.ndarray]:
    files = [*out.rglob(f"{name}.npz"), *out.rglob("similarities.npz")]
    return dict(np.load(files[0])) if files else {}


def sized(out: Path) -> Iterator[Json]:
    """Accuracies of encoders at several heights: read from one on, at some alone, and at none."""

    def accuracy(value: float) -> Score:
        return Score(value, max(0.0, value - 0.06), min(1.0, value + 0.06), 0.1, 200, "a test")

    measured = []
    for name, values, smallest in (
        ("tiny-clip", (0.1, 0.3, 0.7, 0.9), 16),
        ("an-organisation/an-encoder-with-a-very-long-name-patch14-336", (0.1, 0.1, 0.1), None),
        (
            "an-organisation/another-encoder-with-a-long-name-patch14-336",
            (0.2, 0.8, 0.8, 0.3),
            None,
        ),
    ):
        rows = (text_size.ReadHeight(4 * 2**i, 2**i / 2, accuracy(v), v > 0.6)
                for i, v in enumerate(values))  # fmt: skip
        measured.append(text_size.EncoderTextSize(
            name, "f00", -2, 96, 8, tuple(rows), 0.55, smallest
        ))  # fmt: skip
    result = text_size.TextSizeResult(tuple(measured))
    yield replace(result, figures=save(draw_sizes(result.to_json()), out)).to_json()


SLOW = [
    pytest.param(case, marks=pytest.mark.slow)
    for case in (awkward, token_folder, bundled, trained, evaluated)
]


@pytest.fixture(
    scope="module",
    params=[one, controlled, validated, compressed, tokens, registered, worded, asked_vlm, sized,
            *SLOW],
    ids=lambda case: case.__name__,
)  # fmt: skip
def drawn(request: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Drawn]:
    """Every figure that the commands of a case save; what they write is no picture."""
    saved: dict[str, Figure] = {}
    out = tmp_path_factory.mktemp("out")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Figure, "savefig", lambda fig, path, **_: saved.update({path.stem: fig}))
        patch.setattr(hardware, "matrix_peak", lambda *where: 1e11)
        patch.setattr(speed, "TIMED", 2)
        results = list(request.param(out))
    of = {Path(row["file"]).stem: result for result in results for row in result["figures"]}
    # A result does not list the maps of single directions.
    return {n: Drawn(fig, of.get(n, results[-1]), _stored(out, n)) for n, fig in saved.items()}


# -- what is drawn -------------------------------------------------------------------------------


def points(fig: Figure) -> list[np.ndarray]:
    """Of each axes (n, 2): single markers in the order in which they are drawn."""
    lines = [[np.ravel(line.get_data()) for line in ax.lines if np.size(line.get_xdata()) == 1]
             for ax in fig.axes]  # fmt: skip
    return [np.array(own, dtype=float).reshape(-1, 2) for own in lines]


def across(fig: Figure) -> list[np.ndarray]:
    return [xy[:, 0] for xy in points(fig)]


def heights(fig: Figure) -> list[np.ndarray]:
    """Of each axes the values of its lines of data, one after the other."""
    lines = [[line.get_ydata() for line in ax.lines if line.get_marker() != "None"]
             for ax in fig.axes]  # fmt: skip
    return [np.concatenate([*own, []]) for own in lines]


def bars(fig: Figure) -> list[list[float]]:
    return [[bar.get_width() for bar in ax.patches if not bar.get_gid()]
            for ax in fig.axes if ax.patches]  # fmt: skip


def bands(fig: Figure) -> list[dict[str, tuple[float, float]]]:
    """Of each axes the bands of controls: kind -> lowest and highest value."""
    return [{band.get_gid(): (band.get_x(), band.get_x() + band.get_width())
             for band in ax.patches if band.get_gid()} for ax in fig.axes]  # fmt: skip


def maps(fig: Figure) -> list[np.ndarray]:
    """The image on top in each axes that has one; NaN where it is masked."""
    return [np.ma.filled(ax.images[-1].get_array(), np.nan) for ax in fig.axes if ax.images]


def overlays_only(fig: Figure) -> list[np.ndarray]:
    """Maps that lie over an image."""
    return [ax.images[1].get_array() for ax in fig.axes if len(ax.images) > 1]


def dots(fig: Figure) -> list[np.ndarray]:
    offsets = [[cloud.get_offsets() for cloud in ax.collections] for ax in fig.axes]
    return [np.sort(np.concatenate(own), axis=0) for own in offsets if own]


# -- what the result says --------------------------------------------------------------------------


def value(score: Json) -> float:
    return np.nan if score is None or score["value"] is None else score["value"]


def defined(values: Any) -> np.ndarray:
    values = np.ravel(values).astype(float)
    return values[np.isfinite(values)]


def each(rows: Json, key: str) -> list[str]:
    return list(dict.fromkeys(row[key] for row in rows))


def asked(rows: Json) -> Json:
    """The rows of encoders that are no controls."""
    return [row for row in rows if row["control_of"] is None]


def by_kind(rows: Json) -> dict[str, Json]:
    """Prefix -> the rows of these controls."""
    controls = [row for row in rows if row["control_of"]]
    found = {prefix: [row for row in controls if row["encoder"].startswith(prefix)]
             for prefix in ("untrained:", "shuffled:")}  # fmt: skip
    return {prefix: own for prefix, own in found.items() if own}


def highest_of(values: list[float]) -> float:
    return max(values, key=lambda x: np.nan_to_num(x, nan=-9))


def table(rows: Json, of: Callable[[Json], Json], highest: bool = False) -> np.ndarray:
    """(encoders, LLMs); with `highest` a last line for each kind of control."""
    llms = each(rows, "llm")
    cells = {(row["encoder"], row["llm"]): value(of(row)) for row in rows}
    lines = [[cells[e, t] for t in llms] for e in each(asked(rows), "encoder")]
    if highest:
        lines += [[highest_of([value(of(row)) for row in own if row["llm"] == t]) for t in llms]
                  for own in by_kind(rows).values()]  # fmt: skip
    return np.array(lines)


def scores(result: Json, *keys: str, highest: bool = False) -> list[np.ndarray]:
    rows = [row for row in result["rows"] if keys[-1] in row["scores"]]
    return [table(rows, lambda row, key=key: row["scores"].get(key), highest) for key in keys]


def by_type(r: Json) -> list[Any]:
    def line(own: Json, key: str, llm: str) -> list[float]:
        own = [row["by_type"] for row in own if row["llm"] == llm]
        return [highest_of([value(types.get(kind, {}).get(key)) for types in own])
                for kind in r["data"]["types"]]  # fmt: skip

    return [[*(line([row], key, llm) for row in asked(r["rows"]) if row["llm"] == llm),
             *(line(own, key, llm) for own in by_kind(r["rows"]).values())]
            for key in ("cka_linear", "ridge_r2") for llm in each(r["rows"], "llm")]  # fmt: skip


def predicts(r: Json, benchmark: str | None = None) -> list[Any]:
    """Of each metric the outcomes of every encoder, and their mean."""
    shown = [p for p in r["points"] if p["benchmark"] == benchmark]

    def outcomes(metric: str) -> Iterator[list[float]]:
        for encoder in each(shown, "encoder"):
            own = [p["outcome"] for p in shown if p["encoder"] == encoder
                   and None not in (p["metrics"].get(metric), p["outcome"])]  # fmt: skip
            yield [*own, np.mean(own)] if own else []

    return [np.concatenate([*outcomes(metric)]) for metric in r["benchmarks"][0]["metrics"]]


def kept(r: Json, answers: bool = False) -> list[Any]:
    tasks = [task for task in TITLES if any(row["kept"].get(task) for row in r["rows"])
             and task.startswith("answers") == answers]  # fmt: skip
    ordered = sorted(r["rows"], key=lambda row: row["tokens"])
    return [defined([value(row["kept"].get(task)) for method in each(r["rows"], "method")
                     for row in ordered if row["method"] == method]) for task in tasks]  # fmt: skip


def by_budget(r: Json, of: Callable[[Json], Json]) -> list[Any]:
    return [[of(row) for row in r["rows"] if row["tokens"] == n] for n in each(r["rows"], "tokens")]


def timings(r: Json) -> list[Any]:
    ordered = [row for e in each(r["rows"], "encoder") for row in r["rows"] if row["encoder"] == e]
    latency = [row["latency_ms"].get("p50") for row in ordered]
    keys = ("images_per_s", "peak_share", "peak_memory_mb")
    return [latency, *([row[key] for row in ordered] for key in keys)]


def ranks(r: Json) -> np.ndarray:
    """Of each metric, baseline and other setting its correlation with every target."""
    of = {(p["metric"], p["target"]): p["within"]["rho"] for p in r["predictions"]}
    columns = [
        [*(of[metric, t["name"]] for metric in r["titles"]), t["resolution"]["rho"], 0.0,
         *(c["within"]["rho"] for c in t["ceilings"])]
        for t in r["targets"]
    ]  # fmt: skip
    return np.array(columns, dtype=float).T


def scaled(values: Json) -> np.ndarray:
    return (np.array(values) - np.min(values)) / np.ptp(values)


def last(maps: np.ndarray) -> np.ndarray:
    """Of several images' maps those of the last, which are drawn last."""
    return maps.reshape(-1, *maps.shape[-2:])[-1]


def spectrum(shares: np.ndarray) -> np.ndarray:
    return np.maximum(shares / max(shares.sum(), 1e-300), 1e-8)


METRICS = ("cka_within", "mutual_knn", "ridge_r2", "ridge_recall1")
PARTS = ("cka", "mse", "gap", "cosine")
SIMILARITIES = ("horizontal_right", "vertical_down", "cls_similarity")
# Figure -> how its numbers are read, and what they are by the result r and the stored arrays a.
# fmt: off
SHOWN: dict[str, tuple[Callable[[Figure], list[Any]], Callable[[Json, Any], Any]]] = {
    "compare_cka": (across, lambda r, a: [
        defined(both) for both in np.concatenate(scores(r, "cka_linear", "cka_linear_biased")).T]),
    "compare_metrics": (across, lambda r, a: [defined(x.T) for x in scores(r, *METRICS)]),
    "compare_projectors": (across, lambda r, a: [
        defined(x.T) for x in scores(r, *(f"{kind}_r2" for kind in PROJECTORS))]),
    "compare_by_type": (maps, lambda r, a: by_type(r)),
    "compare_verdicts": (across, lambda r, a: [[
        v["difference"] for v in r["verdicts"]
        if v["metric"] == "cka_linear" and v["difference"] is not None]]),
    "multi_llm": (maps, lambda r, a: scores(r, "cka_linear", *METRICS[1:], highest=True)),
    "complement": (across, lambda r, a: [
        defined([[row[key]["difference"] for row in r["rows"] if row["llm"] == llm]
                 for key in ("gain", "over_copy")]) for llm in each(r["rows"], "llm")]),
    "text_size": (
        lambda fig: [line.get_ydata() for line in fig.axes[0].lines
                     if not line.get_label().startswith("_")],
        lambda r, a: [[row["accuracy"]["value"] for row in of["heights"]] for of in r["encoders"]]),
    "validate": (maps, lambda r, a: [ranks(r)]),
    "elas": (maps, lambda r, a: [
        table(r["rows"], operator.itemgetter(side), highest=True)
        for side in ("calibrated", "published")]),
    "elas_parts": (bars, lambda r, a: [[
        (row["parts"][part]["calibrated"] or 0) * ELAS_WEIGHTS[part]
        for row in asked(r["rows"]) if row["llm"] == llm for part in PARTS]
        for llm in each(r["rows"], "llm")]),
    "layers": (maps, lambda r, a: [
        p["cka"] for e in each(asked(r["pairs"]), "encoder")
        for p in r["pairs"] if p["encoder"] == e]),
    "e2e_retrieval": (across, lambda r, a: [
        defined(table([p for p in r["points"] if p["layer"] == "pooled" and p["retrieval"]],
                      lambda p, key=key: p["retrieval"]["image_to_text"][key]).T)
        for key in ("mrr", "R@1")]),
    "e2e_held-out-MRR": (heights, lambda r, a: predicts(r)),
    "e2e_right-answers": (heights, lambda r, a: predicts(r, "right answers")),
    "e2e_answers": (across, lambda r, a: [
        [p["accuracy"]["all"]["value"] for p in asked(r["answers"]["pairs"]) if p["llm"] == llm]
        for llm in each(r["answers"]["pairs"], "llm")]),
    "coral_comparison": (bars, lambda r, a: [
        [p["coral"][key] for p in r["cross_modal"]] for key in COMPARISONS]),
    "coral_dashboard": (bars, lambda r, a: SHOWN["coral_comparison"][1](r, a)),
    "cka_vs_coral": (points, lambda r, a: [
        [(p["cka"]["value"], p["coral"][key]) for p in r["cross_modal"]
         if None not in (p["cka"]["value"], p["coral"][key])]
        for key in ("similarity", "spectral_similarity")]),
    "covariance_heatmaps": (maps, lambda r, a: [*a.values()]),
    "eigenvalue_spectrum": (
        lambda fig: [line.get_ydata() for line in fig.axes[0].lines],
        lambda r, a: [*map(spectrum, a.values())]),
    "intra_modal_similarity": (maps, lambda r, a: [
        r[side][key] for key in ("cka_debiased", "spectral_similarity")
        for side in (("vision", "text") if len(r["text"]["names"]) > 1 else ("vision",))]),
    "eas_dashboard": (maps, lambda r, a: [
        [[s["parts"][part]["calibrated"] for part in EAS_PARTS] for s in r["eas"]]]),
    "embedding_maps": (dots, lambda r, a: [np.sort(xy, axis=0) for xy in r["places"].values()]),
    "procrustes": (dots, lambda r, a: [np.sort(np.concatenate(p), axis=0) for p in a.values()]),
    "procrustes_similarity": (
        lambda fig: [table[np.triu_indices(len(table), 1)] for table in maps(fig)],
        lambda r, a: [[value(row) for row in r["procrustes"]]]),
    "cosine_matrices": (maps, lambda r, a: [*a.values()]),
    "attention": (overlays_only, lambda r, a: [
        scaled(a[f"{key}|{row['encoder']}"]) for row in r["encoders"]
        for key in ("rollout", "similarity") if row[key] is not None]),
    "speed": (heights, lambda r, a: timings(r)),
    "curves": (heights, lambda r, a: [
        [row[f"val/{key}"] for row in r["history"]] for key in ("nmse", "sliced_wasserstein")]),
    "pareto": (heights, lambda r, a: kept(r)),
    "answers_kept": (heights, lambda r, a: kept(r, answers=True)),
    "by_tokens": (heights, lambda r, a: kept(r)[:1]),
    "two_axes": (points, lambda r, a: by_budget(
        {"rows": [row for row in r["rows"] if row["nmse"] and row["distance"]]},
        lambda row: (row["distance"]["value"], row["nmse"]["value"]))),
    "glyphs": (heights, lambda r, a: [np.ravel(rows) for rows in by_budget(r, lambda row: [
        value(score) for name, score in row["reading"].items() if name.startswith("digit")])]),
    "tokens": (  # beside the image and all its tokens
        lambda fig: [ax.images[0].get_array() for ax in fig.axes
                     if ax.get_subplotspec().colspan.start > 1],
        lambda r, a: [*a.values()]),
    "loss_map": (lambda fig: maps(fig)[1:], lambda r, a: [
        a[name].reshape(r["grid"]) for row in r["rows"]
        if (name := f"{row['method']}/{row['tokens']}") in a]),
    "similarity_analysis_combined": (
        overlays_only, lambda r, a: [last(a[key]) for key in SIMILARITIES]),
    **{f"{name}_similarity": (overlays_only, lambda r, a, key=key: [last(a[key])]) for name, key in
       zip(("horizontal", "vertical", "cls"), SIMILARITIES, strict=True)},
    "patch_text": (overlays_only, lambda r, a: [*a.values()]),
    "profile": (heights, lambda r, a: [
        [row[key] for row in r["layers"]]
        for key in ("neighbour_similarity", "morans_i", "effective_rank")]),
    "words_by_layer": (heights, lambda r, a: [
        [value(row["score"]) for lens in each(r["scores"], "lens") for row in r["scores"]
         if (row["lens"], row["attribute"]) == (lens, attribute)]
        for attribute in each(r["scores"], "attribute")]),
    "words": (  # the words are texts: where they stand
        lambda fig: [[text.get_position() for text in ax.texts] for ax in fig.axes[1:]],
        lambda r, a: [[(j + 0.5, i + 0.5) for i in range(6) for j in range(6)]] * 2),
    "registers": (  # beside the image
        lambda fig: [ax.images[0].get_array() for ax in fig.axes
                     if ax.images and ax.get_subplotspec().colspan.start > 0],
        lambda r, a: [maps[i] for i in range(3) for maps in a.values()]),
    "explanation": (
        lambda fig: heights(fig)[2:],
        lambda r, a: [[*a["random_falls"], float(a["attended_fall"])]]),
    "folder_statistics": (
        lambda fig: [line.get_xdata()[0] for ax in fig.axes for line in ax.lines],
        lambda r, a: [value(score) for score in r["statistics"].values()]),
}
# fmt: on


def test_what_is_drawn_is_what_the_result_says(drawn):
    for name, it in drawn.items():
        if "layers" in it.result and name == "layers":
            name = "profile"
        read, expect = SHOWN[re.sub(r"_\dx\d", "", name)]
        shown, expected = read(it.figure), expect(it.result, it.arrays)
        assert 0 < len(expected) <= len(shown), name
        for is_shown, is_true in zip(shown, expected, strict=False):
            is_shown, is_true = np.asarray(is_shown, float), np.asarray(is_true, float)
            np.testing.assert_allclose(is_shown, is_true, rtol=1e-4, atol=2e-5, err_msg=name)


BANDS: dict[str, Callable[[Json], list[tuple[Json, Callable[[Json], Json]]]]] = {
    "compare_cka": lambda r: [
        ([row for row in r["rows"] if row["llm"] == llm], lambda row: row["scores"]["cka_linear"])
        for llm in each(r["rows"], "llm")],
    "compare_metrics": lambda r: [
        (r["rows"], lambda row, key=key: row["scores"][key]) for key in METRICS],
    "compare_projectors": lambda r: [
        (r["rows"], lambda row, key=f"{kind}_r2": row["scores"].get(key)) for kind in PROJECTORS],
    "elas_parts": lambda r: [
        ([row for row in r["rows"] if row["llm"] == llm], operator.itemgetter("calibrated"))
        for llm in each(r["rows"], "llm")],
    "e2e_retrieval": lambda r: [
        ([p for p in r["points"] if p["layer"] == "pooled" and p["retrieval"]],
         lambda p, key=key: p["retrieval"]["image_to_text"][key]) for key in ("mrr", "R@1")],
    "e2e_answers": lambda r: [
        ([p for p in r["answers"]["pairs"] if p["llm"] == llm],
         lambda pair: pair["accuracy"]["all"]) for llm in each(r["answers"]["pairs"], "llm")],
}  # fmt: skip


def test_bands_reach_from_the_lowest_to_the_highest_value_of_the_controls(drawn):
    for name in BANDS.keys() & drawn.keys():
        shown = bands(drawn[name].figure)
        for of_axes, (rows, of) in zip(shown, BANDS[name](drawn[name].result), strict=True):
            expected = {}
            for prefix, own in by_kind(rows).items():
                values = defined([value(of(row)) for row in own])
                if len(values):
                    expected[prefix] = (values.min(), values.max())
            assert of_axes == {key: pytest.approx(ends) for key, ends in expected.items()}, name


def test_no_legend_and_no_axis_names_a_single_control(drawn):
    for name in {
        "compare_cka",
        "compare_metrics",
        "compare_by_type",
        "multi_llm",
        "elas",
        "layers",
        "elas_parts",
        "e2e_retrieval",
        "e2e_held-out-MRR",
        "e2e_answers",
    } & set(drawn):
        texts = [text.get_text() for text in drawn[name].figure.findobj(Text)]
        assert not [text for text in texts if "untrained:" in text or "shuffled:" in text], name


def test_nothing_overlaps_and_every_axis_has_its_label(drawn):
    assert {name: found for name, it in drawn.items() if (found := faults(it.figure))} == {}


def test_few_methods_are_named_and_the_others_are_grey(drawn):
    named = {"trained", "kmeans", "block_pca", "random", "average", "smaller_image"}
    for name in {"pareto", "answers_kept", "by_tokens", "two_axes"} & set(drawn):
        for ax in drawn[name].figure.axes:
            lines = {line.get_label(): line for line in ax.lines if line.get_marker() != "None"}
            texts = {text.get_text() for text in ax.texts} - {""}
            assert texts <= set(lines) and len(texts) <= 10
            assert texts >= named & set(lines) if name != "answers_kept" else texts
            for label in set(lines) - texts:
                assert lines[label].get_color() == "#CCCCCC", label
            looks = [(lines[t].get_color(), lines[t].get_marker()) for t in texts]
            assert len(set(looks)) == len(looks)


def test_a_scale_that_is_not_linear_is_named_on_its_axis(drawn):
    for name in {"pareto", "by_tokens"} & set(drawn):
        for ax in filter(lambda ax: ax.get_visible(), drawn[name].figure.axes):
            assert ("log10" in ax.get_ylabel()) == (ax.get_yscale() == "function")
            assert ax.get_xscale() == "log" and "log scale" in ax.get_xlabel()


def test_loss_map_is_in_units_of_the_error_of_the_table(drawn):
    """Of one image the mean over its tokens is the normalised error."""
    if "loss_map" in drawn and "image" in drawn["loss_map"].result:
        it = drawn["loss_map"]
        for row in it.result["rows"]:
            mean = it.arrays[f"{row['method']}/{row['tokens']}"].mean()
            assert mean == pytest.approx(row["nmse"], rel=1e-4)


@pytest.mark.parametrize("sight", SIGHT)
def test_named_methods_differ_for_the_colour_blind(sight):
    rows = [
        {"method": name, "budget": (4, 4), "nmse": {"value": i}, "kept": {}}
        for i, name in enumerate(["a", "b", "c", "d", "e", "trained", "trained_answers"])
    ]
    found = styles(rows, ["trained", "trained_answers"])
    assert list(found) == ["trained", "trained_answers", "a", "b", "c", "d"]
    assert apart([style["color"] for style in found.values()], sight) > 10


def test_places_are_moved_apart_in_their_order_and_stay_inside():
    places = np.random.default_rng(0).uniform(0.8, 1, 12)
    moved = moved_apart(places, 0.08)
    assert (np.argsort(moved) == np.argsort(places)).all()
    assert np.diff(np.sort(moved)).min() > 0.0799 and moved.min() >= 0 and moved.max() <= 1
    np.testing.assert_allclose(moved_apart(places, 0.0), places)


def test_every_figure_of_the_source_is_checked():
    source = "".join(path.read_text() for path in Path(encoderlab.__path__[0]).rglob("plots*/*.py"))
    source += "".join(p.read_text() for p in Path(encoderlab.__path__[0]).rglob("plots.py"))
    assert set(re.findall(r'FigureRecord\(\s*"(\w+)"', source)) <= set(SHOWN)


@pytest.mark.parametrize("sight", SIGHT)
def test_any_two_colours_of_the_palette_differ_for_the_colour_blind(sight):
    # Below 10, a CIELAB distance is seen only side by side.
    assert apart(list(PALETTE), sight) > 10


def test_the_distance_of_colours_sees_what_the_colour_blind_do_not():
    red_and_green = ["#C05A3C", "#7A7A2C"]
    assert apart(red_and_green, "full") > 3 * apart(red_and_green, "deuteranopia")


def test_the_checker_finds_each_fault():
    with rules():
        fig = figure(3, 2)
        fig.set_layout_engine("none")
        ax = fig.subplots()
        ax.plot([0, 1], [0, 1], color="#FF00FF", label="a line")
        ax.set_ylabel("height")
        ax.legend(loc="upper left")
        ax.plot([0.1], [0.9], "o", color="black")
        ax.text(0.5, 0.1, "one text"), ax.text(0.5, 0.1, "over another")
        ax.text(0.9, 0.9, "beyond the edge of the figure")
    found = "\n".join(faults(fig))
    for part in (
        "cut off by the edge: 'beyond",
        "overlap: 'one text' and 'over another'",
        "no x label",
        "y label 'height' of '' names no unit",
        "#ff00ff",
        "covers data",
    ):
        assert part in found
