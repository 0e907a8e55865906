"""Which metric predicts retrieval through a trained projector, or a benchmark of the user's own?
Orchestration only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from encoderlab.alignment.data import (
    SHUFFLED,
    UNTRAINED,
    AlignmentData,
    extract_features,
)
from encoderlab.alignment.settings import E2e
from encoderlab.alignment.tables import notes
from encoderlab.core.results import (
    Block,
    Table,
    as_text,
    score_text,
)
from encoderlab.core.spec import takes
from encoderlab.errors import MissingError, UsageError, did_you_mean

if TYPE_CHECKING:
    import numpy as np

    from encoderlab.metrics.correlation import Correlation
    from encoderlab.metrics.retrieval import Retrieval

RETRIEVAL = "held-out MRR"
COLUMNS = ("encoder", "llm", "benchmark", "score")
KIND = "mlp"


@dataclass(frozen=True)
class Point:
    """An encoder with an LLM at a layer: its metrics, and the outcome they might predict.

    Args:
        depth: where the layer stands among those that were taken of its encoder (0: the lowest);
            None for the pooled embedding. Encoders of different depths share it.
        control_of: the encoder behind a control.
    """

    encoder: str
    llm: str
    layer: str
    metrics: dict[str, float | None]
    outcome: float | None
    benchmark: str | None = None
    retrieval: Retrieval | None = None
    control_of: str | None = None
    depth: int | None = None

    @property
    def is_trained(self) -> bool:
        """Whether the encoder has learned something: no claim rests on those that have not."""
        return self.control_of is None and not self.encoder.startswith((UNTRAINED, SHUFFLED))

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        found = None if self.retrieval is None else self.retrieval.to_json()
        return {**vars(self), "retrieval": found}


@dataclass(frozen=True)
class E2eResult:
    """All points, and for each outcome the correlation of every metric with it.

    Args:
        undefined: why there is no point.
        remarks: what to know of the projectors.
    """

    points: tuple[Point, ...]
    benchmarks: dict[str, dict[str, Correlation]]
    facts: dict[str, Any]
    undefined: str | None = None
    remarks: tuple[str, ...] = ()
    figures: tuple[dict[str, str], ...] = ()
    warnings: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Plain values for run.json."""
        return {
            "points": [one.to_json() for one in self.points],
            "benchmarks": [
                {"name": name, "metrics": {m: c.to_json() for m, c in found.items()}}
                for name, found in self.benchmarks.items()
            ],
            "undefined": self.undefined,
            "remarks": list(self.remarks),
            "figures": list(self.figures),
            **self.facts,
        }

    def blocks(self) -> list[Block]:
        """The answer as paragraphs and tables, in reading order."""
        from encoderlab.metrics.catalogue import METRICS

        blocks: list[Block] = [notes(self.facts)]
        if self.undefined:
            blocks.append(f"undefined: {self.undefined}")
        if self.remarks:
            blocks.append("\n".join(self.remarks))
        pooled = [p for p in self.points if p.layer == "pooled" and p.retrieval is not None]
        if pooled:
            rows = []
            for p in sorted(pooled, key=lambda p: -(p.outcome or 0)):
                assert p.retrieval is not None
                way = p.retrieval.image_to_text
                rows.append(
                    (p.encoder, p.llm, score_text(way.recall[1].to_json()),
                     score_text(way.mrr.to_json()), f"{way.mrr.chance or 0:.3f}")
                )  # fmt: skip
            blocks.append(
                Table(
                    ("encoder", "LLM", "Recall@1, image to text", "MRR", "chance MRR"),
                    tuple(rows),
                    said=("on held-out images; 95 % intervals",),
                )
            )
        for name, found in self.benchmarks.items():
            first = next(iter(found.values()))
            title = (
                f"does a metric predict {name}? {first.families} trained encoders, means over "
                f"{first.n} points"
            )
            reasons = {one.undefined for one in found.values()}
            if len(reasons) == 1 and None not in reasons:
                blocks.append(f"{title}\n{first.undefined}")
                continue
            verdicts = tuple(
                (METRICS[m].title, *_cells(one), one.verdict) for m, one in found.items()
            )
            columns = ("metric", "r", "p", f"p, {first.tests} tests", "rho", "r within encoders",
                       "leave-one-out error", "verdict")  # fmt: skip
            critical = next((c.critical_r for c in found.values() if c.critical_r), None)
            said = "r and p are over encoders; p is corrected for all tests (Holm)"
            if critical is not None:
                said += f"; one test alone needs |r| > {critical:.2f}"
            blocks.append(Table(columns, verdicts, title, said=(said,)))
        return blocks

    def to_text(self) -> str:
        """What the terminal shows."""
        return as_text(self.blocks())


@takes(E2e)
def run(settings: E2e, out: Path | None = None) -> E2eResult:
    """Metrics against held-out retrieval, or against the benchmark results in `scores`.

    Raises:
        MissingError: data, a model or the file of scores is not there.
        UsageError: too few samples, a model twice, features that are not finite, or scores that
            cannot be read or name none of the encoders and LLMs, or a setting that has no effect.
    """
    brought = (
        None
        if settings.scores is None
        else read_scores(settings.scores, settings.encoders, settings.llms)
    )
    aligned = extract_features(settings, layers=brought is None)
    return analyse(aligned, out, epochs=settings.epochs, scores=brought, svg=settings.svg)


Scores = Mapping[str, Mapping[tuple[str, str], float]]


def analyse(
    aligned: AlignmentData,
    out: Path | None = None,
    *,
    epochs: int = 300,
    scores: Scores | None = None,
    svg: bool = False,
) -> E2eResult:
    """The correlation over features that are at hand."""
    import numpy as np

    from encoderlab.alignment.pair_scores import enough_for_projectors
    from encoderlab.alignment.plots import compare as plots
    from encoderlab.metrics.correlation import correlate, holm
    from encoderlab.plots.style import save

    problem = enough_for_projectors(aligned) if scores is None else None
    points: list[Point] = []
    remarks: tuple[str, ...] = ()
    if scores is not None:
        everything = np.arange(aligned.n)
        for name, found in scores.items():
            for (encoder, llm), score in found.items():
                key = ("metrics", encoder, llm)
                metrics = aligned.cached(
                    key,
                    lambda e=encoder, t=llm: metrics_on(aligned, e, t, everything),  # type: ignore[misc]
                )
                points.append(Point(encoder, llm, "pooled", metrics, score, benchmark=name))
    elif problem is None:
        points, remarks = _retrieved(aligned, epochs)
    names = list(scores) if scores is not None else [RETRIEVAL]
    tried = {}
    for name in names:
        of = [p for p in points if p.benchmark in (None, name) and p.is_trained]
        for metric in points[0].metrics if points else ():
            tried[name, metric] = correlate(
                [p.metrics[metric] for p in of],
                [p.outcome for p in of],
                [p.encoder for p in of],
                aligned.seed,
                conditions=[(p.llm, p.depth) for p in of],
            )
    benchmarks: dict[str, dict[str, Correlation]] = {}
    for (name, metric), one in zip(tried, holm(list(tried.values())), strict=True):
        benchmarks.setdefault(name, {})[metric] = one
    result = E2eResult(
        tuple(points),
        benchmarks,
        aligned.facts(),
        problem,
        remarks,
        warnings=(*aligned.warnings(), *remarks),
    )
    if out is not None and points:
        result = replace(result, figures=save(plots.e2e(result.to_json()), out, svg=svg))
    return result


def metrics_on(
    aligned: AlignmentData, encoder: str, llm: str, rows: np.ndarray
) -> dict[str, float | None]:
    """Every metric of a pair on some of the samples, as plain values."""
    from encoderlab.alignment.pair_scores import features_of, unit
    from encoderlab.metrics import cka
    from encoderlab.metrics.alignment_scores import AlignmentMetrics
    from encoderlab.metrics.coral import coral
    from encoderlab.metrics.neighbours import mutual_knn
    from encoderlab.metrics.ridge import ridge_probe

    x, y = (features_of(aligned, name)[rows] for name in (encoder, llm))
    labels = [aligned.labels[i] for i in rows]
    grams = {k: (cka.Gram.of(x, k), cka.Gram.of(y, k)) for k in cka.KERNELS}
    scored = {
        (kernel, estimator): cka.score(*grams[kernel], estimator)
        for kernel in cka.KERNELS
        for estimator in cka.ESTIMATORS
    }
    clouds = coral(unit(x), unit(y))
    eas = AlignmentMetrics.eas(
        encoder,
        llm,
        scored["linear", "biased"],
        scored["linear", "debiased"],
        clouds.similarity,
        clouds.spectral_similarity,
        unit(x),
        labels if len(set(labels)) > 1 else None,
    )
    probe = ridge_probe(unit(x), unit(y), seed=aligned.seed)
    return {
        "cka_linear": scored["linear", "debiased"].value,
        "cka_linear_biased": scored["linear", "biased"].value,
        "cka_rbf": scored["rbf", "debiased"].value,
        "mutual_knn": mutual_knn(x, y).value,
        "ridge_r2": probe.r2.value,
        "spectral_similarity": clouds.spectral_similarity,
        "coral_similarity": clouds.similarity,
        "eas": eas.calibrated,
        "eas_published": eas.published,
    }


def read_scores(path: str, encoders: Sequence[str], llms: Sequence[str]) -> Scores:
    """benchmark -> (encoder, LLM) -> score, of the encoders and LLMs that are asked for.

    Raises:
        MissingError: no such file.
        UsageError: other columns, a score that is no number, or no line about these models.
    """
    import csv

    file = Path(path)
    if not file.is_file():
        raise MissingError("no such file of scores", got=path, want="a CSV that exists")
    found: dict[str, dict[tuple[str, str], float]] = {}
    seen: set[str] = set()
    try:
        with file.open(encoding="utf-8-sig", newline="") as lines:
            table = csv.DictReader(lines)
            missing = [name for name in COLUMNS if name not in (table.fieldnames or ())]
            if missing:
                raise UsageError(
                    "the file of scores lacks columns",
                    got=f"{path}: {', '.join(table.fieldnames or ())}",
                    want=", ".join(COLUMNS),
                )
            for number, line in enumerate(table, start=2):
                encoder, llm, benchmark = (
                    str(line[k] or "").strip() for k in ("encoder", "llm", "benchmark")
                )
                seen.update((encoder, llm))
                score = _finite(line["score"])
                if score is None:
                    raise UsageError(
                        f"line {number} of {path} has a score that is no number", got=line["score"]
                    )
                if encoder not in encoders or llm not in llms:
                    continue
                if found.setdefault(benchmark, {}).setdefault((encoder, llm), score) != score:
                    raise UsageError(
                        f"line {number} of {path} gives a second score of the same encoder, LLM "
                        "and benchmark",
                        got=f"{score:g} after {found[benchmark][encoder, llm]:g}",
                        want="one score of each: average repeated runs first",
                    )
    except (UnicodeDecodeError, csv.Error) as error:
        raise UsageError("the file of scores cannot be read", got=f"{path}: {error}",
                         want="CSV in UTF-8") from error  # fmt: skip
    if not found:
        near = did_you_mean(next(iter(seen), ""), [*encoders, *llms])
        raise UsageError(
            "no line of the file of scores is about the encoders and LLMs of this run",
            got=", ".join(sorted(seen)) or "an empty file",
            want=f"encoders among {', '.join(encoders)} and LLMs among {', '.join(llms)}",
            hint=f"did you mean {near!r}? " if near else "name them with --encoders and --llms",
        )
    return found


def _retrieved(aligned: AlignmentData, epochs: int) -> tuple[list[Point], tuple[str, ...]]:
    """Points of every encoder, LLM and layer (metrics on training pairs, retrieval on the rest),
    and what to say of projectors that had not converged."""
    import numpy as np

    from encoderlab.alignment.pair_scores import (
        LAYER,
        SEEDS,
        not_converged,
        projectors,
    )
    from encoderlab.core.progress import progress

    places: list[tuple[str, str, str, str, int | None]] = []
    for encoder, one in aligned.vision.items():
        if encoder.startswith(SHUFFLED):
            continue
        for llm in aligned.text:
            places.append((encoder, llm, "pooled", encoder, None))
            places += [
                (encoder, llm, f"layer {k}", f"{encoder}{LAYER}{k}", depth)
                for depth, k in enumerate(_some(sorted(one.layers)))
            ]
    trained = projectors(aligned, [(key, llm) for _, llm, _, key, _ in places], (KIND,), epochs)
    points = []
    with progress("metrics on training pairs", total=len(places), unit="point") as bar:
        for encoder, llm, layer, key, depth in places:
            of = [trained[key, llm, KIND, seed] for seed in SEEDS]
            each = [metrics_on(aligned, key, llm, one.train_rows) for one in of]
            metrics = {name: _mean([found[name] for found in each]) for name in each[0]}
            found = _retrieval(aligned, key, llm, of)
            directions = (found.image_to_text.mrr.value, found.text_to_image.mrr.value)
            outcome = None if None in directions else float(np.mean(directions))  # type: ignore[arg-type]
            points.append(
                Point(encoder, llm, layer, metrics, outcome, retrieval=found,
                      control_of=aligned.vision[encoder].of, depth=depth)
            )  # fmt: skip
            bar.advance()
    return points, not_converged(trained, epochs)


def _retrieval(aligned: AlignmentData, key: str, llm: str, trained: Sequence[Any]) -> Retrieval:
    import torch

    from encoderlab.alignment.pair_scores import features_of, unit
    from encoderlab.metrics.retrieval import Part, retrieval_over

    x, y = (torch.from_numpy(unit(features_of(aligned, name))) for name in (key, llm))
    parts = []
    for one in trained:
        rows = one.held_out_rows
        mean = y[torch.from_numpy(one.train_rows)].mean(dim=0)
        with torch.no_grad():
            guess = one.projector(x[torch.from_numpy(rows)])
        # What all texts share is no information: the training mean goes before the cosine.
        parts.append(
            Part(
                (guess - mean).numpy(),
                (y[torch.from_numpy(rows)] - mean).numpy(),
                group=rows,
                texts=[aligned.texts[i] for i in rows],
            )
        )
    return retrieval_over(parts)


def _some(layers: Sequence[int]) -> list[int]:
    """A third, two thirds and the whole of the way up."""
    top = layers[-1] if layers else 0
    return sorted({round(top / 3), round(2 * top / 3), top} - {0}) if layers else []


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if len(known) == len(values) else None


def _finite(text: str | None) -> float | None:
    import math

    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _cells(one: Correlation) -> tuple[str, ...]:
    """What the table shows of a correlation: r, p, p corrected, rho, r within, the error."""

    def number(value: float | None, form: str) -> str:
        return "-" if value is None else format(value, form)

    error = number(one.loo_error, ".3f")
    if one.loo_error is not None:
        error += f" (mean: {one.loo_baseline:.3f})"
    return (
        number(one.pearson, "+.2f"), number(one.pearson_p, ".2g"), number(one.p_corrected, ".2g"),
        number(one.spearman, "+.2f"), number(one.within_family, "+.2f"), error,
    )  # fmt: skip
