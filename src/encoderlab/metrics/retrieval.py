"""Image-text retrieval: Recall@K, MRR and median rank, both ways, each beside chance.

Pure functions of embeddings. The protocol is that of the papers: image-to-text ranks all distinct
captions, text-to-image ranks all images, and a query is a hit if any of its right candidates is in
the top K. Ties count against the model. Loads no model, reads no file.

Letters: n queries, m candidates, d width.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from scipy import sparse
from scipy.special import gammaln

from encoderlab.core.results import Result
from encoderlab.core.score import Z95, Score, undefined, wilson
from encoderlab.errors import UsageError

CUTOFFS = (1, 5, 10)
RECALL = "share of queries; Wilson interval with the design effect of captions sharing an image"
MRR = "mean of 1/rank; cluster-robust normal interval over images"
MEDIAN = "median of the ranks; order-statistic interval with the same design effect"
BLOCK = 1 << 24  # similarities held at a time


@dataclass(frozen=True)
class Direction(Result):
    """Retrieval in one direction.

    Args:
        recall: K -> Recall@K, the share of queries with a right candidate in the top K.
        mrr: mean of 1 / rank of the best right candidate, in [0, 1].
        median_rank: median of that rank, from 1.
        candidates: the number of candidates; of several parts the smallest.
        ranks: of the best right candidate of each query, ties counted against the model.
    """

    recall: dict[int, Score]
    mrr: Score
    median_rank: Score
    candidates: int
    ranks: Int[np.ndarray, " n"] | None = field(
        default=None, repr=False, compare=False, metadata={"json": False}
    )

    def to_json(self) -> dict[str, Any]:
        """The fields as plain values, Recall@K with the key "R@K"."""
        fields = super().to_json()
        recall = fields.pop("recall")
        return {**{f"R@{k}": score for k, score in recall.items()}, **fields}


@dataclass(frozen=True)
class Retrieval(Result):
    """Retrieval in both directions, with the numbers of images, captions and distinct captions."""

    image_to_text: Direction
    text_to_image: Direction
    images: int
    captions: int
    distinct_captions: int


def retrieval(
    image: Float[np.ndarray, "images d"],
    text: Float[np.ndarray, "captions d"],
    *,
    image_of_text: Int[np.ndarray, " captions"] | None = None,
    texts: Sequence[str] | None = None,
    cutoffs: Sequence[int] = CUTOFFS,
) -> Retrieval:
    """Retrieval by the cosine of embeddings.

    Args:
        image: embeddings of images; normalised here, in fp32.
        text: embeddings of captions; likewise.
        image_of_text: the image of each caption; caption i belongs to image i if left out.
        texts: the captions; equal ones are one candidate and one query, right for all their images.
        cutoffs: the values of K.

    Returns:
        Both directions; a score is undefined, with the reason, where every order gives the same.

    Raises:
        UsageError: values that are not finite, or sizes that do not match.
    """
    image, text = _unit(image, "image"), _unit(text, "text")
    owner = np.arange(len(text)) if image_of_text is None else np.asarray(image_of_text)
    if len(owner) != len(text) or (texts is not None and len(texts) != len(text)):
        raise UsageError(
            "captions do not match their embeddings",
            got=f"{len(owner)} owners and {len(text)} embeddings",
            want="one of each per caption",
        )
    if len(owner) and not 0 <= owner.min() <= owner.max() < len(image):
        raise UsageError(
            "a caption belongs to an image that is not there",
            got=int(owner.max()),
            want=f"0 to {len(image) - 1}",
        )
    number = np.arange(len(text))
    if texts is not None:
        first: dict[str, int] = {}
        number = np.array([first.setdefault(words, len(first)) for words in texts], dtype=np.int64)
    distinct = np.unique(number, return_index=True)[1]
    right = sparse.csr_matrix(
        (np.ones(len(owner), dtype=bool), (owner, number)), shape=(len(image), len(distinct))
    )
    return Retrieval(
        image_to_text=_direction(image, text[distinct], right, np.arange(len(image)), cutoffs),
        text_to_image=_direction(text[distinct], image, right.T.tocsr(), owner[distinct], cutoffs),
        images=len(image),
        captions=len(text),
        distinct_captions=len(distinct),
    )


@dataclass(frozen=True)
class Part:
    """One held-out split: row i of `image` belongs to row i of `text`.

    Args:
        image, text: embeddings.
        group: the image of each row; rows of one image are right for each other, and an image that
            is in several splits counts once in the intervals.
        texts: captions; equal ones are right for each other's images.
    """

    image: Float[np.ndarray, "n d"]
    text: Float[np.ndarray, "n d"]
    group: Int[np.ndarray, " n"]
    texts: Sequence[str] | None = None


def retrieval_over(parts: Sequence[Part], cutoffs: Sequence[int] = CUTOFFS) -> Retrieval:
    """Retrieval within each part (folds, or splits by several seeds), pooled over all queries.

    Args:
        parts: the held-out splits.
        cutoffs: the values of K.

    Returns:
        Both directions; chance is that of each part's number of candidates.

    Raises:
        UsageError: values that are not finite.
    """
    i2t, t2i, distinct = [], [], 0
    for part in parts:
        image, text = _unit(part.image, "image"), _unit(part.text, "text")
        words = part.texts if part.texts is not None else list(map(str, range(len(text))))
        _, number = np.unique(np.asarray(words, dtype=str), return_inverse=True)
        distinct += int(number.max()) + 1 if len(number) else 0
        # Every caption is a candidate, right for all rows with the same words or the same image.
        same = number[:, None] == number[None, :]
        right = sparse.csr_matrix(same | (part.group[:, None] == part.group[None, :]))
        i2t.append(_Ranked.of(image, text, right, part.group))
        t2i.append(_Ranked.of(text, image, right, part.group))
    total = sum(len(part.image) for part in parts)
    return Retrieval(
        _summary(_Ranked.pooled(i2t), cutoffs),
        _summary(_Ranked.pooled(t2i), cutoffs),
        images=total,
        captions=total,
        distinct_captions=distinct,
    )


def ranks(
    query: Float[np.ndarray, "n d"],
    candidate: Float[np.ndarray, "m d"],
    right: sparse.csr_matrix,
) -> tuple[Int[np.ndarray, " n"], Int[np.ndarray, " n"]]:
    """Rank of the best right candidate of each query, by counting larger similarities.

    Args:
        query: unit vectors of queries.
        candidate: unit vectors of candidates.
        right: `right[i, j]` says that candidate j is right for query i.

    Returns:
        The ranks with ties counted against the model, and with ties counted for it, from 1; m + 1
        for a query without a right candidate.
    """
    against = np.empty(len(query), dtype=np.int64)
    favour = np.empty(len(query), dtype=np.int64)
    step = max(1, BLOCK // max(len(candidate), 1))
    for start in range(0, len(query), step):
        rows = slice(start, min(start + step, len(query)))
        scores = query[rows] @ candidate.T
        answers = right[rows].toarray().astype(bool)
        best = np.where(answers, scores, -np.inf).max(axis=1, initial=-np.inf)[:, None]
        scores[answers] = -np.inf
        larger = (scores > best).sum(axis=1)
        equal = (scores == best).sum(axis=1)
        none = ~np.isfinite(best[:, 0])
        favour[rows] = np.where(none, len(candidate), larger) + 1
        against[rows] = np.where(none, len(candidate), larger + equal) + 1
    return against, favour


def chance_of_recall(positives: Int[np.ndarray, " n"], candidates: int, k: int) -> float:
    """Recall@k of a random order, 1 - C(m-p, k) / C(m, k), mean over queries.

    Args:
        positives: p, the number of right candidates of each query.
        candidates: m.
        k: the cutoff.

    Returns:
        In [0, 1].
    """
    k = min(k, candidates)
    return float(np.mean(1 - _all_miss(positives, candidates, k)))


def chance_of_mrr(positives: Int[np.ndarray, " n"], candidates: int) -> float:
    """MRR of a random order; H_m / m with one right candidate each.

    Args:
        positives: the number of right candidates of each query.
        candidates: m.

    Returns:
        In [0, 1].
    """
    mrr = {}
    ranks = np.arange(1, candidates + 1)
    for p in np.unique(positives):
        later = np.concatenate([[1.0], _all_miss(np.full(candidates, p), candidates, ranks)])
        mrr[p] = float(((later[:-1] - later[1:]) / ranks).sum())
    return float(np.mean([mrr[p] for p in positives]))


def _all_miss(positives, candidates: int, k):
    """C(m-p, k) / C(m, k): the probability that none of p right ones is among the first k of m."""
    with np.errstate(invalid="ignore"):
        log = (
            gammaln(candidates - positives + 1)
            - gammaln(candidates - positives - k + 1)
            - gammaln(candidates + 1)
            + gammaln(candidates - k + 1)
        )
    return np.where(candidates - positives - k < 0, 0.0, np.exp(log))


@dataclass(frozen=True)
class _Ranked:
    """Queries: ranks with ties counted against and for the model, numbers of right candidates and
    of candidates, and the image of each query."""

    against: Int[np.ndarray, " n"]
    favour: Int[np.ndarray, " n"]
    positives: Int[np.ndarray, " n"]
    candidates: Int[np.ndarray, " n"]
    group: Int[np.ndarray, " n"]

    @classmethod
    def of(cls, query, candidate, right, group) -> _Ranked:
        against, favour = ranks(query, candidate, right)
        positives = np.asarray(right.sum(axis=1)).ravel().astype(np.int64)
        return cls(against, favour, positives, np.full(len(query), len(candidate)), group)

    @classmethod
    def pooled(cls, parts: Sequence[_Ranked]) -> _Ranked:
        return cls(*(np.concatenate([getattr(p, f) for p in parts]) for f in cls.__annotations__))

    def chance(self, of: Callable[[Int[np.ndarray, " n"], int], float]) -> float:
        """The mean over queries of `of(positives, candidates)`."""
        sizes, counts = np.unique(self.candidates, return_counts=True)
        each = [of(self.positives[self.candidates == m], int(m)) for m in sizes]
        return float(np.dot(each, counts) / counts.sum())


def _direction(query, candidate, right, group, cutoffs) -> Direction:
    if not len(query) or not len(candidate):
        none = undefined("there are no pairs", 0, RECALL)
        return Direction({k: none for k in cutoffs}, none, none, len(candidate))
    return _summary(_Ranked.of(query, candidate, right, group), cutoffs)


def _summary(ranked: _Ranked, cutoffs: Sequence[int]) -> Direction:
    against, favour, group = ranked.against, ranked.favour, ranked.group
    n, fewest = len(against), int(ranked.candidates.min())
    recall = {}
    for k in cutoffs:
        if k > fewest:
            recall[k] = undefined(f"there are only {fewest} candidates", n, RECALL)
            continue
        chance = ranked.chance(lambda positives, m, k=k: chance_of_recall(positives, m, k))  # type: ignore[misc]
        if chance >= 1:
            recall[k] = undefined(
                f"every order of {fewest} candidates has a right one among the first {k}", n, RECALL
            )
            continue
        hit = against <= k
        size = _effective_n(hit, group)
        interval = wilson(hit.mean() * size, size)
        optimistic = _where_different(hit.mean(), (favour <= k).mean())
        recall[k] = Score(float(hit.mean()), *interval, chance, n, RECALL, optimistic)
    mrr_chance = ranked.chance(chance_of_mrr)
    if mrr_chance >= 1:
        always = "every candidate is right, so every order gives rank 1"
        return Direction(
            recall, undefined(always, n, MRR), undefined(always, n, MEDIAN), fewest, against
        )
    reciprocal = 1 / against
    half = Z95 * math.sqrt(_cluster_variance(reciprocal, group))
    mean = float(reciprocal.mean())
    low, high = (None, None) if math.isnan(half) else (max(0.0, mean - half), min(1.0, mean + half))
    optimistic = _where_different(mean, (1 / favour).mean())
    mrr = Score(mean, low, high, mrr_chance, n, MRR, optimistic)
    return Direction(recall, mrr, _median(ranked), fewest, against)


def _median(ranked: _Ranked) -> Score:
    against, favour, positives = ranked.against, ranked.favour, ranked.positives
    n, ordered = len(against), np.sort(against)
    value = float(np.median(against))
    # Captions of one image have similar ranks, so the order statistics are further apart.
    half = Z95 * n / math.sqrt(_effective_n(against <= value, ranked.group)) / 2
    low = ordered[max(0, math.floor(n / 2 - half) - 1)]
    high = ordered[min(n - 1, math.ceil(n / 2 + half))]
    most = int(ranked.candidates.max())
    ranks = np.arange(1, most + 1)
    kinds, counts = np.unique(np.stack([positives, ranked.candidates]), axis=1, return_counts=True)
    cumulative = np.zeros(most)
    for (p, m), count in zip(kinds.T, counts, strict=True):
        within = np.minimum(ranks, m)
        cumulative += count / n * (1 - _all_miss(np.full(most, p), int(m), within))
    # If the distribution is exactly one half at a rank, the median is between it and the next.
    middle = np.searchsorted(cumulative, [0.5 - 1e-12, 0.5 + 1e-12])
    chance = float(ranks[np.minimum(middle, most - 1)].mean())
    optimistic = _where_different(value, float(np.median(favour)))
    return Score(value, float(low), float(high), chance, n, MEDIAN, optimistic)


def _where_different(value: float, optimistic: float) -> float | None:
    return float(optimistic) if optimistic != value else None


def _cluster_variance(values: np.ndarray, group: np.ndarray) -> float:
    """Variance of a mean of values correlated within groups (Kish 1965); NaN for a single group."""
    _, member = np.unique(group, return_inverse=True)
    groups = int(member.max()) + 1
    if groups < 2:
        return math.nan
    totals = np.bincount(member, weights=values - values.mean())
    return float(np.square(totals).sum() / len(values) ** 2 * groups / (groups - 1))


def _effective_n(hit: np.ndarray, group: np.ndarray) -> float:
    """The effective number of independent queries: n over the design effect, at most n."""
    n, p = len(hit), float(hit.mean())
    groups = len(np.unique(group))
    if p in (0.0, 1.0) or groups == 1:
        return float(groups)
    variance = _cluster_variance(hit.astype(np.float64), group)
    return min(float(n), p * (1 - p) / variance) if variance > 0 else float(n)


def _unit(vectors: np.ndarray, what: str) -> Float[np.ndarray, "n d"]:
    vectors = np.asarray(vectors, dtype=np.float32)
    bad = ~np.isfinite(vectors).all(axis=1)
    if bad.any():
        raise UsageError(
            f"{int(bad.sum())} of {len(vectors)} {what} embeddings are not finite",
            got=f"the first in row {int(bad.argmax())}",
            want="numbers",
            hint="the model has diverged or the image is broken; no recall is computed from them",
        )
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / np.maximum(length, 1e-12)
