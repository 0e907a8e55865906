"""What the metrics say of one encoder and one LLM, of several side by side, and in a sentence.

The numbers are `encoderlab.metrics`'; here they are asked for, kept and put into words.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from encoderlab.alignment.data import UNTRAINED, AlignmentData
from encoderlab.alignment.projectors import ProjectorRecipe, TrainedProjector, train_grid
from encoderlab.core.progress import progress
from encoderlab.core.score import Score, undefined
from encoderlab.metrics import cka, strata
from encoderlab.metrics.alignment_scores import ProjectorOutcome
from encoderlab.metrics.catalogue import HEADLINE, computed_alone
from encoderlab.metrics.neighbours import NEIGHBOURS, Neighbours, mutual_knn_of
from encoderlab.metrics.ridge import RidgeProbe, r2_score, r2_without_each, ridge_probe
from encoderlab.metrics.uncertainty import (
    Comparison,
    compare_paired,
    jackknife_interval,
    max_corrected_p,
    samples_needed,
)

PERMUTATIONS = 999
SEEDS = (0, 1, 2)
FEWEST_PAIRS = 5
LAYER = "#layer"  # "tiny-clip#layer3" is what its third block gives, wherever a model is named


@dataclass(frozen=True)
class PairScores:
    """One encoder against one LLM: its scores over all samples, and by data type."""

    encoder: str
    llm: str
    scores: dict[str, Score]
    by_type: dict[str, dict[str, Score]] = field(default_factory=dict)
    control_of: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "encoder": self.encoder,
            "llm": self.llm,
            "control_of": self.control_of,
            "scores": {name: one.to_json() for name, one in self.scores.items()},
            "by_type": {
                kind: {name: one.to_json() for name, one in scores.items()}
                for kind, scores in self.by_type.items()
            },
        }


@dataclass(frozen=True)
class PairVerdict:
    """A paired verdict: which metric, with which LLM."""

    metric: str
    llm: str
    comparison: Comparison

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {"metric": self.metric, "llm": self.llm, **self.comparison.to_json()}


# -- one pair ------------------------------------------------------------------------------------


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
    found = {}
    for kernel, estimator in itertools.product(cka.KERNELS, cka.ESTIMATORS):
        name = f"cka_{kernel}" + ("_biased" if estimator == "biased" else "")
        found[name] = cka.score(
            gram(aligned, encoder, kernel, kind),
            gram(aligned, llm, kernel, kind),
            estimator,
        )
    lists = [
        aligned.cached(
            ("neighbours", name, kind),
            lambda name=name: Neighbours.of(features_of(aligned, name, kind), NEIGHBOURS, name),  # type: ignore[misc]
        )
        for name in (encoder, llm)
    ]
    if kind is None and len(aligned.types) > 1:
        blocks = strata_of(aligned, encoder), strata_of(aligned, llm)
        found["cka_within"] = strata.within_strata(*blocks)
    n = aligned.n if kind is None else len(aligned.rows(kind))
    found["mutual_knn"] = mutual_knn_of(lists[0], lists[1], NEIGHBOURS, n)
    probe = ridge(aligned, encoder, llm, kind)
    found["ridge_r2"] = probe.r2
    found["ridge_recall1"] = mean_recall_at_1(probe)
    for name, compute in computed_alone():
        found[name] = compute(features_of(aligned, encoder, kind), features_of(aligned, llm, kind))
    return found


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


def mean_recall_at_1(probe: RidgeProbe) -> Score:
    """Mean of Recall@1 image to text and text to image."""
    name = "mean of both directions of Recall@1"
    if probe.retrieval is None:
        return undefined(probe.r2.undefined or "no held-out pairs", probe.r2.n, name)
    scores = [
        probe.retrieval.image_to_text.recall[1],
        probe.retrieval.text_to_image.recall[1],
    ]
    if any(one.value is None for one in scores):
        return next(one for one in scores if one.value is None)

    def mean(part: str) -> float:
        return float(np.mean([getattr(one, part) for one in scores]))

    # The two directions look at the same pairs: their mean is no surer than either.
    return Score(mean("value"), mean("ci_low"), mean("ci_high"), mean("chance"), scores[0].n, name)


# -- projectors ----------------------------------------------------------------------------------


def projectors(
    aligned: AlignmentData,
    pairs: Iterable[tuple[str, str]],
    kinds: Sequence[str],
    epochs: int,
    seeds: Sequence[int] = SEEDS,
) -> dict[tuple[str, str, str, int], TrainedProjector]:
    """(encoder, LLM, kind, seed) -> a projector from unit vectors to unit vectors; each is trained
    once for all experiments on these features."""
    known = aligned.cached(("projectors", epochs), dict)
    wanted = list(dict.fromkeys(pairs))
    for kind in kinds:
        missing = [pair for pair in wanted if any((*pair, kind, s) not in known for s in seeds)]
        if missing:
            known.update(
                train_grid(
                    {
                        (a, b): (unit(features_of(aligned, a)), unit(features_of(aligned, b)))
                        for a, b in missing
                    },
                    kinds=(kind,),
                    seeds=seeds,
                    recipe=ProjectorRecipe(epochs=epochs),
                    groups=aligned.contents,
                )
            )
    return {
        (*pair, kind, s): known[*pair, kind, s] for pair in wanted for kind in kinds for s in seeds
    }


def not_converged(
    trained: Mapping[tuple[str, str, str, int], TrainedProjector], epochs: int
) -> tuple[str, ...]:
    """A sentence on the projectors that were still improving when they were stopped, or none."""
    still = sum(not one.converged for one in trained.values())
    if not still:
        return ()
    return (
        f"{still} of {len(trained)} projectors had not converged after {epochs} epochs (the last "
        "tenth of them raised R² by 0.01 or more): more --epochs may raise their scores",
    )


def enough_for_projectors(aligned: AlignmentData) -> str | None:
    """Why no projector can be trained on some pairs and tested on others, or None."""
    if aligned.n < FEWEST_PAIRS:
        return f"needs at least {FEWEST_PAIRS} images to hold some out, and there are {aligned.n}"
    return None


def projector_scores(
    aligned: AlignmentData,
    encoder: str,
    llm: str,
    trained: Mapping[int, TrainedProjector],
    kind: str,
) -> tuple[dict[str, Score], dict[str, dict[str, Score]]]:
    """R2, error and cosine on held-out pairs over all seeds: of all samples, and by data type."""
    x, y = (torch.from_numpy(unit(features_of(aligned, name))) for name in (encoder, llm))
    rows, residual, total, cosine, ignoring = [], [], [], [], []
    for one in trained.values():
        held_out = torch.from_numpy(one.held_out_rows)
        target = y[held_out]
        mean = y[torch.from_numpy(one.train_rows)].mean(dim=0)
        with torch.no_grad():
            guess = one.projector(x[held_out])
        rows.append(one.held_out_rows)
        residual.append((guess - target).square().mean(dim=1).numpy())
        total.append((target - mean).square().mean(dim=1).numpy())
        cosine.append(F.cosine_similarity(guess, target, dim=1).numpy())
        ignoring.append(F.cosine_similarity(mean[None], target, dim=1).numpy())
    row = np.concatenate(rows)
    parts = [np.concatenate(one).astype(np.float64) for one in (residual, total, cosine, ignoring)]
    how = f"{kind} projector, {len(trained)} splits 80/20, unit vectors; jackknife over images"

    def scores(chosen: np.ndarray) -> dict[str, Score]:
        e, t, c, ignored = (part[chosen] for part in parts)
        image = row[chosen]  # several splits hold the same image out
        return {
            f"{kind}_r2": r2_score(e, t, image, how),
            f"{kind}_mse": _mean(e, image, float(t.mean()) if len(t) else None, how),
            f"{kind}_cosine": _mean(c, image, float(ignored.mean()) if len(c) else None, how),
        }

    labels = np.array(aligned.labels)[row]
    by_type = {name: scores(np.flatnonzero(labels == name)) for name in aligned.types}
    return scores(np.arange(len(row))), by_type


def outcome_of(
    aligned: AlignmentData, encoder: str, llm: str, one: TrainedProjector
) -> ProjectorOutcome:
    """How a projector turned out, beside one that always says the training mean."""
    x, y = (torch.from_numpy(unit(features_of(aligned, name))) for name in (encoder, llm))
    train, held_out = (torch.from_numpy(rows) for rows in (one.train_rows, one.held_out_rows))
    mean = y[train].mean(dim=0)
    with torch.no_grad():
        guess = one.projector(x[held_out])
    return ProjectorOutcome(
        one.train_mse,
        one.held_out_mse,
        float((y[train] - mean).square().mean()),
        float((y[held_out] - mean).square().mean()),
        float(F.cosine_similarity(guess, y[held_out], dim=1).mean()),
        float(F.cosine_similarity(mean[None], y[held_out], dim=1).mean()),
    )


def unit(x: np.ndarray) -> np.ndarray:
    """Rows of length one, fp32."""
    return (x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)).astype(np.float32)


def _mean(values: np.ndarray, group: np.ndarray, chance: float | None, how: str) -> Score:
    if len(np.unique(group)) < 2:
        return undefined("fewer than two held-out images", len(values), how)
    member = np.unique(group, return_inverse=True)[1]
    sums, counts = np.bincount(member, values), np.bincount(member)
    left_out = (sums.sum() - sums) / (counts.sum() - counts)
    value = float(values.mean())
    low, high = jackknife_interval(value, left_out) or (None, None)
    return Score(value, low, high, chance, len(np.unique(group)), how)


# -- several side by side ------------------------------------------------------------------------


def rows_of(aligned: AlignmentData, by_type: bool = True) -> list[PairScores]:
    """The closed-form scores of every encoder, controls too, with every LLM."""
    kinds = aligned.types if by_type and len(aligned.types) > 1 else ()
    rows = []
    total = len(aligned.text) * len(aligned.vision)
    with progress("comparing spaces", total=total, unit="pair") as bar:
        for llm in aligned.text:
            for encoder, one in aligned.vision.items():
                scores = closed_form_scores(aligned, encoder, llm)
                typed = {kind: closed_form_scores(aligned, encoder, llm, kind) for kind in kinds}
                rows.append(PairScores(encoder, llm, scores, typed, one.of))
                bar.advance()
    return with_corrected_p(aligned, rows)


def with_corrected_p(aligned: AlignmentData, rows: list[PairScores]) -> list[PairScores]:
    """Puts p into the headline score: against the largest of all pairs under the same shuffles, so
    that looking at many pairs is no way to find one."""
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
    place = {name: i for i, name in enumerate(encoders)}
    names = list(aligned.text)

    def put(row: PairScores) -> PairScores:
        score = row.scores.get(HEADLINE)
        if row.encoder not in place or score is None or score.value is None:
            return row
        found = float(p[place[row.encoder], names.index(row.llm)])
        return replace(row, scores={**row.scores, HEADLINE: replace(score, p=found)})

    return [put(row) for row in rows]


def verdicts(aligned: AlignmentData) -> list[PairVerdict]:
    """Every two encoders, paired, by debiased CKA and by the ridge probe; and every encoder
    against its own controls."""
    asked = list(aligned.encoders)
    among = list(itertools.combinations(asked, 2))
    controls = [(one.of, name) for name, one in aligned.vision.items() if one.of is not None]
    found = []
    total = len(aligned.text) * (len(among) + len(controls))
    with progress("comparing encoders in pairs", total=total, unit="pair") as bar:
        for llm, pairs in itertools.product(aligned.text, (among, controls)):
            for a, b in pairs:
                found.append(
                    PairVerdict(HEADLINE, llm, by_cka(aligned, str(a), b, llm, len(pairs)))
                )
                if len(aligned.types) > 1:
                    within = by_cka_within(aligned, str(a), b, llm, len(pairs))
                    found.append(PairVerdict("cka_within", llm, within))
                found.append(
                    PairVerdict("ridge_r2", llm, by_ridge(aligned, str(a), b, llm, len(pairs)))
                )
                bar.advance()
    return found


def by_cka(aligned: AlignmentData, a: str, b: str, llm: str, comparisons: int = 1) -> Comparison:
    """Two encoders by debiased linear CKA with the same LLM."""
    target = gram(aligned, llm)
    pair = [gram(aligned, name) for name in (a, b)]
    values = (cka.value(pair[0], target), cka.value(pair[1], target))
    if any(math.isnan(value) for value in values) or aligned.n < 5:
        nothing = np.full(aligned.n, math.nan)
        return compare_paired(a, b, values, (nothing, nothing), aligned.n)
    left_out = (
        _left_out(aligned, a, llm, pair[0], target),
        _left_out(aligned, b, llm, pair[1], target),
    )
    return compare_grams((a, b), pair, target, left_out, comparisons)


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
        nothing = np.full(aligned.n, math.nan)
        return compare_paired(a, b, values, (nothing, nothing), aligned.n)
    left_out = [strata.without_each(one, target) for one in pair]
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
    found = []
    for name in (a, b):
        probe = ridge(aligned, name, llm)
        if probe.residual is None or probe.total is None:
            nothing = np.full(aligned.n, math.nan)
            return compare_paired(a, b, (math.nan, math.nan), (nothing, nothing), aligned.n)
        found.append(r2_without_each(probe.residual, probe.total))
    (first, without_first), (second, without_second) = found
    return compare_paired(
        a, b, (first, second), (without_first, without_second), aligned.n, comparisons=comparisons
    )


def _left_out(aligned, name: str, llm: str, left: cka.Gram, right: cka.Gram) -> np.ndarray:
    return aligned.cached(("left out", name, llm), lambda: cka.without_each(left, right))


# -- in words --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Answer:
    """Which encoder fits, in two sentences, and what else to know before acting on it."""

    text: str
    also: tuple[str, ...] = ()

    def __str__(self) -> str:
        return " ".join((self.text, *self.also))


def answer(rows: Sequence[PairScores], judged: Sequence[PairVerdict], n: int) -> Answer:
    """Which encoder fits: sentences that follow from intervals and paired verdicts alone."""
    asked = [row for row in rows if row.control_of is None]
    scored = [row for row in asked if row.scores[HEADLINE].value is not None]
    if not scored:
        reason = asked[0].scores[HEADLINE].undefined if asked else "nothing was compared"
        return Answer(f"The data cannot tell which encoder fits: {reason}.")
    best = max(scored, key=lambda row: float(row.scores[HEADLINE]))
    score = best.scores[HEADLINE]
    number = f"debiased CKA {score.as_number()}"
    if not _is_above_chance(score):
        p = "" if score.p is None else f", p = {score.p:.2g} over all pairs"
        return Answer(
            f"The data cannot tell which encoder fits: with {n} samples no encoder is above chance "
            f"(the highest, {best.encoder} with {best.llm}: {number}, chance 0{p}). "
            + _how_many(score, n)
        )
    names = {row.encoder for row in asked}
    among = {
        metric: [
            one.comparison
            for one in judged
            if one.metric == metric
            and one.llm == best.llm
            and {one.comparison.a, one.comparison.b} <= names
        ]
        for metric in (HEADLINE, "cka_within", "ridge_r2")
    }
    others = [
        row.encoder
        for row in sorted(scored, key=lambda row: -float(row.scores[HEADLINE]))
        if row.llm == best.llm and row.encoder != best.encoder
    ]
    first = _ranked(best, number, others, among[HEADLINE], n)
    within = _within_in_words(best, others, among["cka_within"])
    also = [_by_ridge_in_words(best, others, among["ridge_r2"]), control_problem(rows, judged)]
    return Answer(" ".join(filter(None, (first, within))), tuple(filter(None, also)))


def _ranked(
    best: PairScores, number: str, others: Sequence[str], comparisons: Sequence[Comparison], n: int
) -> str:
    """Whom the best is ahead of, and whom the data cannot separate it from."""
    if not others:
        return f"{best.encoder} aligns with {best.llm} above chance ({number}, {n} samples)."
    seen = {name: _between(comparisons, best.encoder, name) for name in others}
    ahead = {name: one for name, one in seen.items() if one is not None and one.verdict == "ahead"}
    level = [name for name in others if name not in ahead]
    told = f", ahead of {_list([_by(name, one) for name, one in ahead.items()])}" if ahead else ""
    if not level:
        return f"{best.encoder} aligns best with {best.llm} ({number}){told}."
    needed = [one.samples_needed for name in level if (one := seen[name]) is not None]
    known = [count for count in needed if count]
    would = (
        f"about {max(known):,} samples would"
        if known and len(known) == len(level)
        else "no reasonable number of samples would"
    )
    return (
        f"{best.encoder} has the highest alignment with {best.llm} ({number}){told}; the data "
        f"cannot separate {best.encoder} from {_list(level)}: {would}."
    )


def _within_in_words(
    best: PairScores, others: Sequence[str], comparisons: Sequence[Comparison]
) -> str | None:
    """What is left of it within each data type, where telling types apart does not help."""
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
        number = each or pooled.as_number()
        return (
            f"Within single data types nothing of that is left ({number}): what aligns is that "
            "both tell the types apart."
        )
    standing = _standing(best.encoder, others, comparisons)
    together = f"over all types together {pooled.as_number()}"
    if standing:
        together += f", where {standing}"
    if not values:
        return f"Within data types its CKA is, {together}."
    return f"Within data types its CKA is {each}; {together}."


def _by_ridge_in_words(
    best: PairScores, others: Sequence[str], comparisons: Sequence[Comparison]
) -> str | None:
    """What the ridge probe, which asks what a linear map could carry over, says of the same."""
    score = best.scores.get("ridge_r2")
    if score is None or score.value is None:
        return None
    said = _standing(best.encoder, others, comparisons)
    return f"A linear map carries it into {best.llm} with a held-out R² of {score.as_number()}" + (
        f", where {said}." if said else "."
    )


def _standing(encoder: str, others: Sequence[str], comparisons: Sequence[Comparison]) -> str:
    """ "it is ahead of a, b is ahead of it, and the data cannot separate it from c"."""
    verdicts: dict[str, list[str]] = {}
    for name in others:
        one = _between(comparisons, encoder, name)
        if one is not None and one.difference is not None:
            verdicts.setdefault(one.verdict, []).append(name)
    said = []
    if "ahead" in verdicts:
        said.append(f"it is ahead of {_list(verdicts['ahead'])}")
    if "behind" in verdicts:
        many = "are" if len(verdicts["behind"]) > 1 else "is"
        said.append(f"{_list(verdicts['behind'])} {many} ahead of it")
    if "cannot distinguish" in verdicts:
        said.append(f"the data cannot separate it from {_list(verdicts['cannot distinguish'])}")
    return _list(said) if said else ""


def control_problem(rows: Sequence[PairScores], judged: Sequence[PairVerdict]) -> str | None:
    """What the controls say against the answer, or None.

    A control that is ahead of the encoder it was made of (paired), one that the data cannot
    separate from it, and an untrained encoder whose CKA is above that of another, trained one.
    """
    controls = {row.encoder: row.control_of for row in rows if row.control_of is not None}
    ahead, level = [], []
    for one in judged:
        a, b = one.comparison.a, one.comparison.b
        if one.metric != HEADLINE or controls.get(b) != a:
            continue
        if one.comparison.verdict == "behind":
            ahead.append(f"{b} is ahead of {a} with {one.llm}")
        elif one.comparison.verdict != "ahead":
            level.append(f"{a} is not ahead of {b} with {one.llm}")
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


def _is_above_chance(score: Score) -> bool:
    return score.above_chance and (score.p is None or score.p < 0.05)


def _how_many(score: Score, n: int) -> str:
    """How many samples would show a value of this size."""
    if score.value is None or score.value <= 0 or score.ci_low is None or score.ci_high is None:
        return "No number of samples would change that, if the alignment is what it seems."
    needed = samples_needed(n, score.value, (score.ci_high - score.ci_low) / 3.92)
    if needed is None:
        return "No reasonable number of samples would show so little."
    return f"About {needed:,} samples would show an alignment of this size, if it is one."


def _between(comparisons: Sequence[Comparison], a: str, b: str) -> Comparison | None:
    """The comparison of two, as seen from a."""
    for one in comparisons:
        if (one.a, one.b) == (a, b):
            return one
        if (one.b, one.a) == (a, b):
            return one.turned()
    return None


def _by(name: str, one: Comparison | None) -> str:
    assert one is not None
    return f"{name} by {one.difference:.3f} [{one.ci_low:.3f}, {one.ci_high:.3f}]"


def _list(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else ", ".join(parts[:-1]) + " and " + parts[-1]


def features_of(aligned: AlignmentData, name: str, kind: str | None = None) -> np.ndarray:
    """The features of a model, or of one of its layers, of all samples or of one data type."""
    model, _, layer = name.partition(LAYER)
    one = aligned.vision.get(model) or aligned.text[model]
    found = one.layers[int(layer)] if layer else one.pooled
    return found if kind is None else found[aligned.rows(kind)]
