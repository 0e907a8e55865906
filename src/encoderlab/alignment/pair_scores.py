"""The scores of each encoder with each LLM, paired verdicts between encoders, and the answer in
words. The metrics themselves are in `encoderlab.metrics`.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float

from encoderlab.alignment.data import AlignmentData
from encoderlab.alignment.projectors import ProjectorRecipe, TrainedProjector, train_grid
from encoderlab.core.aliases import UNTRAINED
from encoderlab.core.progress import progress
from encoderlab.core.results import Result
from encoderlab.core.score import Score, undefined
from encoderlab.metrics import cka, strata
from encoderlab.metrics.alignment_scores import ProjectorOutcome
from encoderlab.metrics.catalogue import HEADLINE, computed_alone
from encoderlab.metrics.gromov_wasserstein import GromovWasserstein, gromov_wasserstein
from encoderlab.metrics.neighbours import NEIGHBOURS, Neighbours, mutual_knn_of
from encoderlab.metrics.ridge import RidgeProbe, r2_score, r2_without_each, ridge_probe
from encoderlab.metrics.uncertainty import (
    Comparison,
    Verdict,
    compare_paired,
    jackknife_interval,
    max_corrected_p,
    samples_needed,
)

PERMUTATIONS = 999
SEEDS = (0, 1, 2)
FEWEST_PAIRS = 5
LAYER = "#layer"  # "tiny-clip#layer3" names the output of its third block


@dataclass(frozen=True)
class PairScores(Result):
    """One encoder against one LLM: its scores over all samples, and by data type."""

    encoder: str
    llm: str
    scores: dict[str, Score]
    by_type: dict[str, dict[str, Score]] = field(default_factory=dict)
    control_of: str | None = None


@dataclass(frozen=True)
class PairVerdict(Result):
    """A paired verdict: which metric, with which LLM."""

    metric: str
    llm: str
    comparison: Comparison

    def to_json(self) -> dict[str, Any]:
        """Metric, LLM and the fields of the comparison."""
        return {"metric": self.metric, "llm": self.llm, **self.comparison.to_json()}


def gram(
    aligned: AlignmentData, name: str, kernel: str = "linear", kind: str | None = None
) -> cka.Gram:
    """The Gram matrix of one model, of one data type or all; made once."""
    return aligned.cached(
        ("gram", name, kernel, kind),
        lambda: cka.Gram.of(features_of(aligned, name, kind), kernel, name=name),
    )


def strata_of(aligned: AlignmentData, name: str) -> strata.Strata:
    """The Gram matrices of one model by data type; made once."""
    return aligned.cached(
        ("strata", name), lambda: strata.Strata.of(gram(aligned, name), aligned.labels)
    )


def closed_form_scores(
    aligned: AlignmentData, encoder: str, llm: str, kind: str | None = None
) -> dict[str, Score]:
    """Everything in closed form: CKA four ways, neighbours, the ridge probe."""
    x, y = (features_of(aligned, name, kind) for name in (encoder, llm))
    scores = {}
    for kernel, estimator in itertools.product(cka.KERNELS, cka.ESTIMATORS):
        name = f"cka_{kernel}" + ("_biased" if estimator == "biased" else "")
        grams = [gram(aligned, model, kernel, kind) for model in (encoder, llm)]
        scores[name] = cka.score(grams[0], grams[1], estimator)
    if kind is None and len(aligned.types) > 1:
        blocks = strata_of(aligned, encoder), strata_of(aligned, llm)
        scores["cka_within"] = strata.within_strata(*blocks)
    neighbours = [
        aligned.cached(
            ("neighbours", name, kind),
            functools.partial(Neighbours.of, features, NEIGHBOURS, name),
        )
        for name, features in ((encoder, x), (llm, y))
    ]
    scores["mutual_knn"] = mutual_knn_of(neighbours[0], neighbours[1], NEIGHBOURS, len(x))
    probe = ridge(aligned, encoder, llm, kind)
    scores["ridge_r2"] = probe.r2
    scores["ridge_recall1"] = mean_recall_at_1(probe)
    for name, compute in computed_alone():
        scores[name] = compute(x, y)
    return scores


def ridge(aligned: AlignmentData, encoder: str, llm: str, kind: str | None = None) -> RidgeProbe:
    """The ridge probe of a pair; made once."""
    rows = np.arange(aligned.n) if kind is None else aligned.rows(kind)
    return aligned.cached(
        ("ridge", encoder, llm, kind),
        lambda: ridge_probe(
            unit(features_of(aligned, encoder, kind)),
            unit(features_of(aligned, llm, kind)),
            texts=[aligned.texts[i] for i in rows],
            seed=aligned.seed,
        ),
    )


def gromov_wasserstein_scores(aligned: AlignmentData, encoder: str, llm: str) -> dict[str, Score]:
    """The Gromov-Wasserstein distance of a pair, and z of its pairing; made once."""
    measured: GromovWasserstein = aligned.cached(
        ("gw", encoder, llm),
        lambda: gromov_wasserstein(
            features_of(aligned, encoder), features_of(aligned, llm), seed=aligned.seed
        ),
    )
    return {"gw_pairing": measured.pairing, "gw_distance": measured.distance}


def mean_recall_at_1(probe: RidgeProbe) -> Score:
    """Mean of Recall@1 image to text and text to image."""
    name = "mean of both directions of Recall@1"
    if probe.retrieval is None:
        return undefined(probe.r2.undefined or "no held-out pairs", probe.r2.n, name)
    directions = (probe.retrieval.image_to_text, probe.retrieval.text_to_image)
    scores = [direction.recall[1] for direction in directions]
    for score in scores:
        if score.value is None:
            return score
    # Both directions rest on the same pairs: the interval of their mean is no narrower.
    value, low, high, chance = (
        float(np.mean([getattr(score, part) for score in scores]))
        for part in ("value", "ci_low", "ci_high", "chance")
    )
    return Score(value, low, high, chance, scores[0].n, name)


def projectors(
    aligned: AlignmentData,
    pairs: Iterable[tuple[str, str]],
    kinds: Sequence[str],
    epochs: int,
    seeds: Sequence[int] = SEEDS,
) -> dict[tuple[str, str, str, int], TrainedProjector]:
    """(encoder, LLM, kind, seed) -> a projector between unit vectors, trained once per data set."""
    known = aligned.cached(("projectors", epochs), dict)
    pairs = list(dict.fromkeys(pairs))
    recipe = ProjectorRecipe(epochs=epochs)
    for kind in kinds:
        missing = {
            (a, b): (unit(features_of(aligned, a)), unit(features_of(aligned, b)))
            for a, b in pairs
            if any((a, b, kind, seed) not in known for seed in seeds)
        }
        if missing:
            known |= train_grid(missing, (kind,), seeds, recipe, aligned.contents)
    cells = itertools.product(pairs, kinds, seeds)
    return {(*pair, kind, seed): known[*pair, kind, seed] for pair, kind, seed in cells}


def not_converged(
    trained: Mapping[tuple[str, str, str, int], TrainedProjector], epochs: int
) -> tuple[str, ...]:
    """A sentence on the projectors that were still improving when they were stopped, or none."""
    count = sum(not projector.converged for projector in trained.values())
    if not count:
        return ()
    return (
        f"{count} of {len(trained)} projectors had not converged after {epochs} epochs (the last "
        "tenth of them raised R² by 0.01 or more): more --epochs may raise their scores",
    )


def enough_for_projectors(aligned: AlignmentData) -> str | None:
    """Why no projector can be trained on some pairs and tested on others, or None."""
    if aligned.n < FEWEST_PAIRS:
        return f"needs at least {FEWEST_PAIRS} images to hold some out, and there are {aligned.n}"
    return None


def held_out_predictions(
    aligned: AlignmentData, encoder: str, llm: str, trained: TrainedProjector
) -> tuple[Float[torch.Tensor, "k d_t"], Float[torch.Tensor, "k d_t"], Float[torch.Tensor, " d_t"]]:
    """(prediction, target, mean training target) of a projector on its held-out pairs."""
    x, y = (torch.from_numpy(unit(features_of(aligned, name))) for name in (encoder, llm))
    with torch.no_grad():
        prediction = trained.projector(x[trained.held_out_rows])
    return prediction, y[trained.held_out_rows], y[trained.train_rows].mean(dim=0)


def projector_scores(
    aligned: AlignmentData,
    encoder: str,
    llm: str,
    trained: Sequence[TrainedProjector],
    kind: str,
) -> tuple[dict[str, Score], dict[str, dict[str, Score]]]:
    """R2, error and cosine on held-out pairs over all seeds: of all samples, and by data type."""
    parts = []
    for projector in trained:
        prediction, target, mean = held_out_predictions(aligned, encoder, llm, projector)
        parts.append(
            [
                (prediction - target).square().mean(dim=1).numpy(),
                (target - mean).square().mean(dim=1).numpy(),
                F.cosine_similarity(prediction, target, dim=1).numpy(),
                F.cosine_similarity(mean[None], target, dim=1).numpy(),
            ]
        )
    image = np.concatenate([projector.held_out_rows for projector in trained])
    values = np.concatenate(parts, axis=1).astype(np.float64)
    how = f"{kind} projector, {len(trained)} splits 80/20, unit vectors; jackknife over images"

    def scores(rows: np.ndarray) -> dict[str, Score]:
        group = image[rows]  # several splits hold the same image out
        residual, total, cosine, chance_cosine = values[:, rows]
        return {
            f"{kind}_r2": r2_score(residual, total, group, how),
            f"{kind}_mse": _mean(residual, group, total, how),
            f"{kind}_cosine": _mean(cosine, group, chance_cosine, how),
        }

    labels = np.array(aligned.labels)[image]
    by_type = {name: scores(np.flatnonzero(labels == name)) for name in aligned.types}
    return scores(np.arange(len(image))), by_type


def outcome_of(
    aligned: AlignmentData, encoder: str, llm: str, trained: TrainedProjector
) -> ProjectorOutcome:
    """Errors and cosine of a projector, beside those of the mean training target."""
    prediction, target, mean = held_out_predictions(aligned, encoder, llm, trained)
    train_target = torch.from_numpy(unit(features_of(aligned, llm))[trained.train_rows])
    return ProjectorOutcome(
        trained.train_mse,
        trained.held_out_mse,
        float((train_target - mean).square().mean()),
        float((target - mean).square().mean()),
        float(F.cosine_similarity(prediction, target, dim=1).mean()),
        float(F.cosine_similarity(mean[None], target, dim=1).mean()),
    )


def unit(x: np.ndarray) -> np.ndarray:
    """Rows of length one, fp32."""
    return (x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)).astype(np.float32)


def _mean(values: np.ndarray, group: np.ndarray, chance: np.ndarray, how: str) -> Score:
    if len(np.unique(group)) < 2:
        return undefined("fewer than two held-out images", len(values), how)
    member = np.unique(group, return_inverse=True)[1]
    sums, counts = np.bincount(member, values), np.bincount(member)
    left_out = (sums.sum() - sums) / (counts.sum() - counts)
    value = float(values.mean())
    low, high = jackknife_interval(value, left_out) or (None, None)
    return Score(value, low, high, float(chance.mean()), len(counts), how)


def rows_of(aligned: AlignmentData, by_type: bool = True) -> list[PairScores]:
    """The closed-form scores of every encoder, controls too, with every LLM."""
    kinds = aligned.types if by_type and len(aligned.types) > 1 else ()
    rows = []
    total = len(aligned.text) * len(aligned.vision)
    with progress("comparing spaces", total=total, unit="pair") as bar:
        for llm in aligned.text:
            for encoder, features in aligned.vision.items():
                scores = closed_form_scores(aligned, encoder, llm)
                typed = {kind: closed_form_scores(aligned, encoder, llm, kind) for kind in kinds}
                rows.append(PairScores(encoder, llm, scores, typed, features.of))
                bar.advance()
    return with_corrected_p(aligned, rows)


def with_corrected_p(aligned: AlignmentData, rows: list[PairScores]) -> list[PairScores]:
    """The rows with p in the headline score, corrected for the number of pairs."""
    # Against the largest score of all pairs under the same shuffles.
    encoders = list(aligned.encoders)
    if aligned.n < 4:
        return rows
    lefts = [gram(aligned, name) for name in encoders]
    rights = [gram(aligned, name) for name in aligned.text]
    null = aligned.cached(
        "null", lambda: cka.cka_permutation_null(lefts, rights, PERMUTATIONS, aligned.seed)
    )
    observed = cka.grid(lefts, rights)
    if np.isnan(observed).all():
        return rows
    p = max_corrected_p(np.nan_to_num(observed, nan=-2), np.nan_to_num(null, nan=-2))
    cells = dict(zip(itertools.product(encoders, aligned.text), p.ravel().tolist(), strict=True))

    def with_p(row: PairScores) -> PairScores:
        score = row.scores.get(HEADLINE)
        if row.encoder not in encoders or score is None or score.value is None:
            return row
        corrected = replace(score, p=cells[row.encoder, row.llm])
        return replace(row, scores={**row.scores, HEADLINE: corrected})

    return [with_p(row) for row in rows]


def verdicts(aligned: AlignmentData) -> list[PairVerdict]:
    """Paired verdicts on every two encoders, and on every encoder and its controls."""
    among = list(itertools.combinations(aligned.encoders, 2))
    controls = [(row.of, name) for name, row in aligned.vision.items() if row.of is not None]
    metrics = {HEADLINE: by_cka, "cka_within": by_cka_within, "ridge_r2": by_ridge}
    if len(aligned.types) < 2:
        del metrics["cka_within"]
    result = []
    total = len(aligned.text) * (len(among) + len(controls))
    with progress("comparing encoders in pairs", total=total, unit="pair") as bar:
        for llm, pairs in itertools.product(aligned.text, (among, controls)):
            comparisons = len(pairs) * len(aligned.text)
            for a, b in pairs:
                for metric, compare in metrics.items():
                    comparison = compare(aligned, a, b, llm, comparisons)
                    result.append(PairVerdict(metric, llm, comparison))
                bar.advance()
    return result


def by_cka(aligned: AlignmentData, a: str, b: str, llm: str, comparisons: int = 1) -> Comparison:
    """Two encoders by debiased linear CKA with the same LLM."""
    target = gram(aligned, llm)
    pair = [gram(aligned, name) for name in (a, b)]
    values = (cka.value(pair[0], target), cka.value(pair[1], target))
    if any(math.isnan(value) for value in values) or aligned.n < 5:
        return _undefined(aligned, a, b, values)
    left_out = [
        aligned.cached(("left out", name, llm), functools.partial(cka.without_each, left, target))
        for name, left in zip((a, b), pair, strict=True)
    ]
    return compare_grams((a, b), pair, target, (left_out[0], left_out[1]), comparisons)


def compare_grams(
    names: tuple[str, str],
    pair: Sequence[cka.Gram],
    target: cka.Gram,
    left_out: tuple[np.ndarray, np.ndarray],
    comparisons: int = 1,
) -> Comparison:
    """Two Gram matrices by debiased CKA with the same target; `left_out` is `cka.without_each`."""
    terms = cka.pair_terms(pair[0], target) - cka.pair_terms(pair[1], target)
    return compare_paired(
        *names,
        (cka.value(pair[0], target), cka.value(pair[1], target)),
        left_out,
        target.n,
        comparisons=comparisons,
        interaction=cka.interaction(terms),
    )


def by_cka_within(
    aligned: AlignmentData, a: str, b: str, llm: str, comparisons: int = 1
) -> Comparison:
    """Two encoders by debiased linear CKA within data types."""
    target = strata_of(aligned, llm)
    pair = [strata_of(aligned, name) for name in (a, b)]
    values = (strata.value(pair[0], target), strata.value(pair[1], target))
    if any(math.isnan(value) for value in values):
        return _undefined(aligned, a, b, values)
    left_out = [strata.without_each(left, target) for left in pair]
    return compare_paired(
        a,
        b,
        values,
        (left_out[0], left_out[1]),
        aligned.n,
        comparisons=comparisons,
        interaction=strata.interaction([(pair[0], target, 1.0), (pair[1], target, -1.0)]),
    )


def by_ridge(aligned: AlignmentData, a: str, b: str, llm: str, comparisons: int = 1) -> Comparison:
    """Two encoders by how well a linear map predicts the same LLM's held-out vectors."""
    scores = []
    for name in (a, b):
        probe = ridge(aligned, name, llm)
        if probe.residual is None or probe.total is None:
            return _undefined(aligned, a, b, (math.nan, math.nan))
        scores.append(r2_without_each(probe.residual, probe.total))
    values, left_out = zip(*scores, strict=True)
    return compare_paired(a, b, values, left_out, aligned.n, comparisons=comparisons)


def _undefined(aligned: AlignmentData, a: str, b: str, values: tuple[float, float]) -> Comparison:
    unknown = np.full(aligned.n, math.nan)
    return compare_paired(a, b, values, (unknown, unknown), aligned.n)


# -- in words ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Answer:
    """Which encoder fits, in two sentences, and what else to know before acting on it."""

    text: str
    also: tuple[str, ...] = ()

    def __str__(self) -> str:
        return " ".join((self.text, *self.also))


def answer(rows: Sequence[PairScores], verdicts: Sequence[PairVerdict], n: int) -> Answer:
    """Which encoder fits: sentences that follow from intervals and paired verdicts alone."""
    asked = [row for row in rows if row.control_of is None]
    scored = [row for row in asked if row.scores[HEADLINE].value is not None]
    if not scored:
        reason = asked[0].scores[HEADLINE].undefined if asked else "nothing was compared"
        return Answer(f"The data cannot tell which encoder fits: {reason}.")
    best = max(scored, key=lambda row: float(row.scores[HEADLINE]))
    score = best.scores[HEADLINE]
    number = f"debiased CKA {score.as_number()}"
    detected = [row for row in scored if row.scores[HEADLINE].detected]
    p = "" if score.p is None else f", p = {score.p:.2g} over all pairs"
    if detected and not score.detected:
        above = _list([f"{row.encoder} with {row.llm}" for row in detected])
        return Answer(
            f"The data cannot tell which encoder fits: with {n} samples the highest, "
            f"{best.encoder} with {best.llm} ({number}, chance 0{p}), is not above chance; "
            f"above chance: {above}. " + _how_many(score, n)
        )
    if not detected:
        return Answer(
            f"The data cannot tell which encoder fits: with {n} samples no encoder is above chance "
            f"(the highest, {best.encoder} with {best.llm}: {number}, chance 0{p}). "
            + _how_many(score, n)
        )
    names = {row.encoder for row in asked}
    among: dict[str, list[Comparison]] = {HEADLINE: [], "cka_within": [], "ridge_r2": []}
    for verdict in verdicts:
        comparison = verdict.comparison
        if verdict.llm == best.llm and {comparison.a, comparison.b} <= names:
            among[verdict.metric].append(comparison)
    others = [
        row.encoder
        for row in sorted(scored, key=lambda row: -float(row.scores[HEADLINE]))
        if row.llm == best.llm and row.encoder != best.encoder
    ]
    first = _ranked(best, number, others, among[HEADLINE], n)
    within = _within_in_words(best, others, among["cka_within"])
    also = [_by_ridge_in_words(best, others, among["ridge_r2"]), control_problem(rows, verdicts)]
    return Answer(" ".join(filter(None, (first, within))), tuple(filter(None, also)))


def _ranked(
    best: PairScores, number: str, others: Sequence[str], comparisons: Sequence[Comparison], n: int
) -> str:
    """Which encoders the best is ahead of, and which the data cannot separate from it."""
    if not others:
        return f"{best.encoder} aligns with {best.llm} above chance ({number}, {n} samples)."
    against = _against(comparisons, best.encoder, others)
    ahead = [
        f"{name} by {c.difference:.3f} [{c.ci_low:.3f}, {c.ci_high:.3f}]"
        for name, c in against.items()
        if c.verdict is Verdict.AHEAD
    ]
    level = [n for n in others if n not in against or against[n].verdict is not Verdict.AHEAD]
    ahead_of = f", ahead of {_list(ahead)}" if ahead else ""
    if not level:
        return f"{best.encoder} aligns best with {best.llm} ({number}){ahead_of}."
    needed = [against[name].samples_needed or 0 for name in level if name in against]
    would = (
        f"about {max(needed):,} samples would"
        if len(needed) == len(level) and min(needed) > 0
        else "no reasonable number of samples would"
    )
    return (
        f"{best.encoder} has the highest alignment with {best.llm} ({number}){ahead_of}; the data "
        f"cannot separate {best.encoder} from {_list(level)}: {would}."
    )


def _within_in_words(
    best: PairScores, others: Sequence[str], comparisons: Sequence[Comparison]
) -> str | None:
    """The alignment within each data type, where telling types apart does not help."""
    pooled = best.scores.get("cka_within")
    if pooled is None or pooled.value is None:
        return None
    by_type = {kind: scores[HEADLINE] for kind, scores in best.by_type.items()}
    values = {kind: score for kind, score in by_type.items() if score.value is not None}
    each = _list([f"{score.as_number()} for {kind}" for kind, score in values.items()])
    missing = [kind for kind, score in by_type.items() if score.value is None]
    if missing:
        each += f" (undefined for {_list(missing)}: too few samples)"
    if not pooled.above_chance and not any(score.above_chance for score in values.values()):
        found = each or pooled.as_number()
        if is_mostly_types(best.scores[HEADLINE], pooled):
            return (
                f"Within single data types nothing of that is left ({found}): what aligns is that "
                "both tell the types apart."
            )
        return (
            f"Within single data types it cannot be told from chance ({found}): there are too few "
            "samples to say how much of it is telling the types apart."
        )
    standing = _standing(best.encoder, others, comparisons)
    where = f", where {standing}" if standing else ""
    together = f"over all types together {pooled.as_number()}{where}"
    if not values:
        return f"Within data types its CKA is, {together}."
    return f"Within data types its CKA is {each}; {together}."


def is_mostly_types(whole: Score, within: Score) -> bool:
    """Whether the interval within data types ends below half of the score over all samples."""
    return within.ci_high is not None and within.ci_high < float(whole) / 2


def _by_ridge_in_words(
    best: PairScores, others: Sequence[str], comparisons: Sequence[Comparison]
) -> str | None:
    """The held-out R2 of the ridge probe, and the verdicts by it."""
    score = best.scores.get("ridge_r2")
    if score is None or score.value is None:
        return None
    standing = _standing(best.encoder, others, comparisons)
    where = f", where {standing}" if standing else ""
    number = score.as_number()
    return f"A linear map carries it into {best.llm} with a held-out R² of {number}{where}."


def _standing(encoder: str, others: Sequence[str], comparisons: Sequence[Comparison]) -> str:
    """ "it is ahead of a, b is ahead of it, and the data cannot separate it from c"."""
    by_verdict: dict[Verdict, list[str]] = {}
    for name, comparison in _against(comparisons, encoder, others).items():
        if comparison.difference is not None:
            by_verdict.setdefault(comparison.verdict, []).append(name)
    clauses = []
    if Verdict.AHEAD in by_verdict:
        clauses.append(f"it is ahead of {_list(by_verdict[Verdict.AHEAD])}")
    if Verdict.BEHIND in by_verdict:
        verb = "are" if len(by_verdict[Verdict.BEHIND]) > 1 else "is"
        clauses.append(f"{_list(by_verdict[Verdict.BEHIND])} {verb} ahead of it")
    if Verdict.CANNOT_DISTINGUISH in by_verdict:
        clauses.append(
            f"the data cannot separate it from {_list(by_verdict[Verdict.CANNOT_DISTINGUISH])}"
        )
    return _list(clauses) if clauses else ""


def control_problem(rows: Sequence[PairScores], verdicts: Sequence[PairVerdict]) -> str | None:
    """A sentence on controls that contradict the answer, or None."""
    # They are: a control that is ahead of its encoder (paired), one that the data cannot separate
    # from it, and an untrained encoder whose CKA is above that of another, trained one.
    controls = {row.encoder: row.control_of for row in rows if row.control_of is not None}
    ahead, level = [], []
    for verdict in verdicts:
        a, b, outcome = verdict.comparison.a, verdict.comparison.b, verdict.comparison.verdict
        if verdict.metric != HEADLINE or controls.get(b) != a:
            continue
        if outcome is Verdict.BEHIND:
            ahead.append(f"{b} is ahead of {a} with {verdict.llm}")
        elif outcome is not Verdict.AHEAD:
            level.append(f"{a} is not ahead of {b} with {verdict.llm}")
    higher = [
        f"{control.encoder} has a higher CKA with {row.llm} ({control.scores[HEADLINE].value:.3f}) "
        f"than {row.encoder} ({row.scores[HEADLINE].value:.3f})"
        for row in rows
        for control in rows
        if row.control_of is None
        and not row.encoder.startswith(UNTRAINED)
        and control.encoder.startswith(UNTRAINED)
        and control.control_of != row.encoder
        and control.llm == row.llm
        and float(control.scores[HEADLINE]) > float(row.scores[HEADLINE])
    ]
    problems = [*ahead, *higher, *level]
    if not problems:
        return None
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    return f"Read the controls first: {problems[0]}{more}."


def _how_many(score: Score, n: int) -> str:
    """How many samples would show a value of this size."""
    if score.value is None or score.value <= 0 or score.ci_low is None or score.ci_high is None:
        return "No number of samples would change that, if the alignment is what it seems."
    needed = samples_needed(n, score.value, (score.ci_high - score.ci_low) / 3.92)
    if needed is None:
        return "No reasonable number of samples would show so little."
    return f"About {needed:,} samples would show an alignment of this size, if it is one."


def _against(
    comparisons: Sequence[Comparison], encoder: str, others: Sequence[str]
) -> dict[str, Comparison]:
    """The comparison of an encoder with each of the others, as seen from it."""
    known = {(c.a, c.b): c for c in comparisons} | {(c.b, c.a): c.turned() for c in comparisons}
    return {name: known[encoder, name] for name in others if (encoder, name) in known}


def _list(parts: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(parts[:-1]), *parts[-1:]]))


def features_of(aligned: AlignmentData, name: str, kind: str | None = None) -> np.ndarray:
    """The features of a model, or of one of its layers, of all samples or of one data type."""
    model, _, layer = name.partition(LAYER)
    features = aligned.vision.get(model) or aligned.text[model]
    x = features.layers[int(layer)] if layer else features.pooled
    return x if kind is None else x[aligned.rows(kind)]
