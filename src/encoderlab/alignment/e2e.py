"""Which metric predicts retrieval through a trained projector, right answers of small VLMs, or a
benchmark of the user's own? Computes no metric itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from encoderlab.alignment.data import AlignmentData, extract_features
from encoderlab.alignment.settings import E2e
from encoderlab.alignment.tables import AlignmentResult, notes
from encoderlab.core.aliases import SHUFFLED, UNTRAINED
from encoderlab.core.results import Block, Table, score_text
from encoderlab.core.spec import takes
from encoderlab.data.reference_scores import put_score, score_rows
from encoderlab.errors import UsageError, did_you_mean

if TYPE_CHECKING:
    from encoderlab.alignment.answers import Answers
    from encoderlab.alignment.projectors import TrainedProjector
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
        """Whether the encoder is trained: controls count for no correlation."""
        return self.control_of is None and not self.encoder.startswith((UNTRAINED, SHUFFLED))


@dataclass(frozen=True)
class E2eResult(AlignmentResult):
    """All points, and for each outcome the correlation of every metric with it.

    Args:
        undefined: why there is no retrieval.
        remarks: what to know of the projectors.
        answers: of the VLMs, with `--answers`.
    """

    draw: ClassVar = "encoderlab.alignment.plots.compare:e2e"
    records: ClassVar = "points"

    points: tuple[Point, ...]
    benchmarks: dict[str, dict[str, Correlation]]
    undefined: str | None = None
    remarks: tuple[str, ...] = ()
    answers: Answers | None = None

    def to_json(self) -> dict[str, Any]:
        """The fields, with benchmarks as a list."""
        values = super().to_json()
        benchmarks = [
            {"name": n, "metrics": metrics} for n, metrics in values["benchmarks"].items()
        ]
        return values | {"benchmarks": benchmarks}

    def blocks(self) -> list[Block]:
        """The correlation of each metric with retrieval or benchmarks."""
        from encoderlab.metrics.catalogue import METRICS

        blocks: list[Block] = [notes(self.facts)]
        if self.undefined:
            blocks.append(f"undefined: {self.undefined}")
        if self.remarks:
            blocks.append("\n".join(self.remarks))
        pooled = [(p, p.retrieval) for p in self.points if p.layer == "pooled" and p.retrieval]
        if pooled:
            rows = []
            for point, retrieval in sorted(pooled, key=lambda pair: -(pair[0].outcome or 0)):
                way = retrieval.image_to_text
                scores = (score_text(score.to_json()) for score in (way.recall[1], way.mrr))
                rows.append((point.encoder, point.llm, *scores, f"{way.mrr.chance or 0:.3f}"))
            columns = ("encoder", "LLM", "Recall@1, image to text", "MRR", "chance MRR")
            note = "on held-out images; 95 % intervals"
            blocks.append(Table(columns, tuple(rows), said=(note,)))
        if self.answers:
            blocks += self.answers.blocks({(p.encoder, p.llm): p.outcome for p, _ in pooled})
        for name, correlations in self.benchmarks.items():
            first = next(iter(correlations.values()))
            title = (
                f"does a metric predict {name}? {first.families} trained encoders, means over "
                f"{first.n} points"
            )
            reasons = {correlation.undefined for correlation in correlations.values()}
            if len(reasons) == 1 and None not in reasons:
                blocks.append(f"{title}\n{first.undefined}")
                continue
            heads = ("metric", "r", "p", f"p, {first.tests} tests", "rho", "r within encoders",
                     "leave-one-out error", "verdict")  # fmt: skip
            lines = tuple(
                (METRICS[m].title, *_cells(c), c.verdict) for m, c in correlations.items()
            )
            note = "r and p are over encoders; p is corrected for all tests (Holm)"
            critical = next((c.critical_r for c in correlations.values() if c.critical_r), None)
            if critical is not None:
                note += f"; one test alone needs |r| > {critical:.2f}"
            blocks.append(Table(heads, lines, title, said=(note,)))
        return blocks


@takes(E2e)
def run(settings: E2e, out: Path | None = None) -> E2eResult:
    """Metrics against held-out retrieval and, with `answers`, against the right answers of VLMs, or
    against the benchmark results in `scores`.

    Returns:
        The correlations of each metric with the outcome, in [-1, 1], with p, and their points.

    Raises:
        MissingError: data, a model or the file of scores is not there.
        UsageError: too few samples, a model twice, features that are not finite, or scores that
            cannot be read or name none of the encoders and LLMs, or a setting that has no effect.
    """
    path = settings.scores
    scores = None if path is None else read_scores(path, settings.encoders, settings.llms)
    aligned = extract_features(settings, layers=scores is None)
    answers = None
    if settings.answers:
        from encoderlab.alignment.answers import answers_of

        answers = answers_of(settings, aligned)
    return analyse(
        aligned, out, epochs=settings.epochs, scores=scores, answers=answers, svg=settings.svg
    )


Scores = Mapping[str, Mapping[tuple[str, str], float]]


def analyse(
    aligned: AlignmentData,
    out: Path | None = None,
    *,
    epochs: int,
    scores: Scores | None = None,
    answers: Answers | None = None,
    layers: bool = True,
    svg: bool = False,
) -> E2eResult:
    """The correlation over features that are extracted already; `layers`: of inner layers too."""
    from encoderlab.alignment.pair_scores import enough_for_projectors
    from encoderlab.metrics.correlation import correlate, holm

    problem = enough_for_projectors(aligned) if scores is None else None
    points: list[Point] = []
    remarks: tuple[str, ...] = ()
    if scores is None and problem is None:
        points, remarks = _retrieved(aligned, epochs, layers)
    metrics: dict[tuple[str, str], dict[str, float | None]] = {}
    outcomes = scores or (answers.outcomes() if answers else {})
    for name, of_pairs in outcomes.items():
        for pair, score in of_pairs.items():
            if pair not in metrics:
                metrics[pair] = metrics_on(aligned, *pair, np.arange(aligned.n))
            control_of = aligned.vision[pair[0]].of
            points.append(
                Point(*pair, "pooled", metrics[pair], score, benchmark=name, control_of=control_of)
            )
    tried = {}
    for name in dict.fromkeys(p.benchmark or RETRIEVAL for p in points):
        trained = [p for p in points if (p.benchmark or RETRIEVAL) == name and p.is_trained]
        for metric in points[0].metrics:
            tried[name, metric] = correlate(
                [p.metrics[metric] for p in trained],
                [p.outcome for p in trained],
                [p.encoder for p in trained],
                aligned.seed,
                conditions=[(p.llm, p.depth) for p in trained],
            )
    benchmarks: dict[str, dict[str, Correlation]] = {}
    for (name, metric), correlation in zip(tried, holm(list(tried.values())), strict=True):
        benchmarks.setdefault(name, {})[metric] = correlation
    return E2eResult(
        tuple(points),
        benchmarks,
        problem,
        remarks,
        answers,
        facts=aligned.facts(),
        warnings=(*aligned.warnings(), *remarks),
    ).with_figures(out if points else None, svg)


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
    linear = cka.Gram.of(x), cka.Gram.of(y)
    rbf = cka.Gram.of(x, "rbf"), cka.Gram.of(y, "rbf")
    biased, debiased = (cka.score(*linear, estimator) for estimator in ("biased", "debiased"))
    clouds = coral(unit(x), unit(y))
    eas = AlignmentMetrics.eas(
        encoder,
        llm,
        biased,
        debiased,
        clouds.similarity,
        clouds.spectral_similarity,
        unit(x),
        labels if len(set(labels)) > 1 else None,
    )
    probe = ridge_probe(unit(x), unit(y), seed=aligned.seed)
    return {
        "cka_linear": debiased.value,
        "cka_linear_biased": biased.value,
        "cka_rbf": cka.score(*rbf, "debiased").value,
        "mutual_knn": mutual_knn(x, y).value,
        "ridge_r2": probe.r2.value,
        "spectral_similarity": clouds.spectral_similarity,
        "coral_similarity": clouds.similarity,
        "eas": eas.calibrated,
        "eas_published": eas.published,
    }


def read_scores(path: str, encoders: Sequence[str], llms: Sequence[str]) -> Scores:
    """benchmark -> (encoder, LLM) -> score, of the requested encoders and LLMs."""
    scores: dict[str, dict[tuple[str, str], float]] = {}
    names: set[str] = set()
    for line, row, score in score_rows(Path(path), COLUMNS):
        encoder, llm = row["encoder"], row["llm"]
        names.update((encoder, llm))
        if encoder in encoders and llm in llms:
            of_benchmark = scores.setdefault(row["benchmark"], {})
            what = "encoder, LLM and benchmark"
            put_score(of_benchmark, (encoder, llm), score, f"line {line} of {path}", what)
    if not scores:
        near = did_you_mean(next(iter(names), ""), [*encoders, *llms])
        raise UsageError(
            "the file of scores has no row for the encoders and LLMs of this run",
            got=", ".join(sorted(names)),
            want=f"encoders among {', '.join(encoders)} and LLMs among {', '.join(llms)}",
            hint=f"did you mean {near!r}? " if near else "name them with --encoders and --llms",
        )
    return scores


def _retrieved(
    aligned: AlignmentData, epochs: int, layers: bool
) -> tuple[list[Point], tuple[str, ...]]:
    """Points of every encoder, LLM and layer, and warnings on projectors that did not converge."""
    # Metrics are of the training pairs, retrieval of the rest.
    from encoderlab.alignment.pair_scores import LAYER, SEEDS, not_converged, projectors
    from encoderlab.core.progress import progress

    cells: list[tuple[str, str, str, str, int | None]] = []
    for encoder, features in aligned.vision.items():
        for llm in aligned.text if not encoder.startswith(SHUFFLED) else ():
            cells.append((encoder, llm, "pooled", encoder, None))
            top = max(features.layers, default=0) if layers else 0
            # A third, two thirds and the whole of the way up.
            depths = sorted({round(top / 3), round(2 * top / 3), top} - {0})
            cells += [
                (encoder, llm, f"layer {k}", f"{encoder}{LAYER}{k}", depth)
                for depth, k in enumerate(depths)
            ]
    trained = projectors(aligned, [(key, llm) for _, llm, _, key, _ in cells], (KIND,), epochs)
    points = []
    with progress("metrics on training pairs", total=len(cells), unit="point") as bar:
        for encoder, llm, layer, key, depth in cells:
            of_cell = [trained[key, llm, KIND, seed] for seed in SEEDS]
            each = [metrics_on(aligned, key, llm, projector.train_rows) for projector in of_cell]
            metrics = {name: _mean([values[name] for values in each]) for name in each[0]}
            retrieval = _retrieval(aligned, key, llm, of_cell)
            outcome = _mean([retrieval.image_to_text.mrr.value, retrieval.text_to_image.mrr.value])
            points.append(
                Point(encoder, llm, layer, metrics, outcome, retrieval=retrieval,
                      control_of=aligned.vision[encoder].of, depth=depth)
            )  # fmt: skip
            bar.advance()
    return points, not_converged(trained, epochs)


def _retrieval(
    aligned: AlignmentData, key: str, llm: str, trained: Sequence[TrainedProjector]
) -> Retrieval:
    from encoderlab.alignment.pair_scores import held_out_predictions
    from encoderlab.metrics.retrieval import Part, retrieval_over

    parts = []
    for projector in trained:
        prediction, target, mean = held_out_predictions(aligned, key, llm, projector)
        rows = projector.held_out_rows
        texts = [aligned.texts[i] for i in rows]
        # The mean training target carries no information about a pair.
        parts.append(
            Part((prediction - mean).numpy(), (target - mean).numpy(), group=rows, texts=texts)
        )
    return retrieval_over(parts)


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if len(known) == len(values) else None


def _cells(correlation: Correlation) -> tuple[str, ...]:
    """The table's cells of a correlation: r, p, p corrected, rho, r within, the error."""
    c = correlation
    values = (c.pearson, c.pearson_p, c.p_corrected, c.spearman, c.within_family, c.loo_error)
    forms = ("+.2f", ".2g", ".2g", "+.2f", "+.2f", ".3f")
    cells = ["-" if v is None else format(v, form) for v, form in zip(values, forms, strict=True)]
    if c.loo_error is not None:
        cells[-1] += f" (mean: {c.loo_baseline:.3f})"
    return tuple(cells)
