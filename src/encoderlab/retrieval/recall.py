"""Measures the recall of an approximate search against the exact one, with seeded queries.

Stored images, moved a little, stand for image queries; stored captions for sentences. Knows arrays
only; reads no table.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from encoderlab.core.score import wilson
from encoderlab.retrieval.approximate import Effort, Recall
from encoderlab.retrieval.exact import Block, nearest

# How far a query lies from the stored vector it was made of: a cosine of 0.98, near enough to have
# its neighbours, far enough not to be the row itself.
MOVED = 0.2
NO_ROW = -1  # the row of a query that is no stored row
# Two ways to compute one cosine in fp32 differ by less; a row that ties with the last of the true
# ones is as right as that one.
TIE = 1e-6


@dataclass(frozen=True)
class Probe:
    """Queries of one kind; `own[i]` is the row that query i was made of, NO_ROW for a sentence."""

    queries: Float[np.ndarray, "n d"]
    own: Int[np.ndarray, " n"]


@dataclass(frozen=True)
class Truth:
    """A probe and its true nearest rows with their cosines, nearest first."""

    probe: Probe
    rows: Int[np.ndarray, "n k"]
    scores: Float[np.ndarray, "n k"]

    def halves(self) -> tuple[Truth, Truth]:
        """The first and the second half of the queries."""
        middle = len(self.rows) // 2
        first, second = (
            Truth(Probe(self.probe.queries[h], self.probe.own[h]), self.rows[h], self.scores[h])
            for h in (slice(None, middle), slice(middle, None))
        )
        return first, second


# (rows, cosines) for each query, nearest first; an approximate search may find fewer than k.
Answers = list[tuple[Int[np.ndarray, " k"], Float[np.ndarray, " k"]]]
Search = Callable[[Float[np.ndarray, "n d"], Effort], Answers]


def moved(vectors: Float[np.ndarray, "n d"], rng: np.random.Generator) -> np.ndarray:
    """Each vector moved by MOVED in a random direction, of unit length again."""
    step = rng.standard_normal(vectors.shape, dtype=np.float32)
    step *= MOVED / np.linalg.norm(step, axis=1, keepdims=True)
    queries = vectors + step
    return queries / np.linalg.norm(queries, axis=1, keepdims=True)


def true_nearest(probes: Mapping[str, Probe], blocks: Iterable[Block], k: int) -> dict[str, Truth]:
    """The truth for each kind of query, in one pass over all (vectors, row numbers)."""
    queries = np.concatenate([probe.queries for probe in probes.values()])
    scores, rows = nearest(queries, blocks, k)
    truths, start = {}, 0
    for name, probe in probes.items():
        here = slice(start, start + len(probe.queries))
        truths[name] = Truth(probe, rows[here], scores[here])
        start = here.stop
    return truths


def recall(truth: Truth, found: Answers) -> Recall:
    """The mean share of the true nearest rows that were found, without the query's own row."""
    # The interval is Wilson's with one trial per query: a share varies at most as much as a
    # Bernoulli variable of the same mean, so it is conservative.
    shares = []
    for own, rows, scores, (found_rows, found_scores) in zip(
        truth.probe.own, truth.rows, truth.scores, found, strict=True
    ):
        others = rows[rows != own]
        if not len(others):
            continue
        as_good = np.isin(found_rows, others) | (found_scores >= scores[-1] - TIE)
        shares.append(min(1.0, int((as_good & (found_rows != own)).sum()) / len(others)))
    mean = float(np.mean(shares)) if shares else 0.0
    return Recall(mean, *wilson(mean * len(shares), len(shares)), len(shares))


def choose(
    truths: Mapping[str, Truth], search: Search, tries: Iterable[Effort], target: float
) -> Effort:
    """The first effort with which every kind of query reaches the target; the last if none does."""
    effort = None
    for effort in tries:
        reached = [
            recall(truth, search(truth.probe.queries, effort)).value >= target
            for truth in truths.values()
        ]
        if all(reached):
            break
    assert effort is not None
    return effort
