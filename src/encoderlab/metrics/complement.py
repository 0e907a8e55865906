"""Does a second encoder add to a first one? Ridge maps of A, B, A with B, and A with copies of A.

Knows feature matrices only. n samples, widths d_a, d_b and d_y.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from encoderlab.core.results import Result
from encoderlab.core.score import Score, undefined
from encoderlab.metrics.matrix import Groups, Matrix, centre, require_same_count
from encoderlab.metrics.ridge import RidgeProbe, r2_without_each, ridge_probe
from encoderlab.metrics.uncertainty import Comparison, Verdict, compare_paired, jackknife_interval

COPIES = 5


@dataclass(frozen=True)
class Complement(Result):
    """What B adds to A for a target.

    Args:
        base, added, both: the ridge probes of A, of B, and of both side by side.
        control: mean R2 of A beside a randomly rotated copy of itself, over the copies.
        gain: R2 of both against that of A.
        over_control: R2 of both against `control`.
        recall_gain: Recall@1, mean of both directions, of both against A.
    """

    base: RidgeProbe
    added: RidgeProbe
    both: RidgeProbe
    control: Score
    gain: Comparison
    over_control: Comparison
    recall_gain: Comparison

    @property
    def adds(self) -> bool:
        """Whether both are ahead of A alone, and of A with a copy of itself."""
        return {self.gain.verdict, self.over_control.verdict} == {Verdict.AHEAD}

    @property
    def samples_needed(self) -> int | None:
        """About how many samples would show both gains, if they are as measured; None where B adds,
        where a gain is not positive, or where more than ten million are needed."""
        lacking = [c for c in (self.gain, self.over_control) if c.verdict is not Verdict.AHEAD]
        numbers = [c.samples_needed if (c.difference or 0) > 0 else None for c in lacking]
        known = [number for number in numbers if number is not None]
        return max(known) if known and len(known) == len(numbers) else None


def complement(
    a: Matrix,
    b: Matrix,
    y: Matrix,
    *,
    groups: Groups | None = None,
    texts: Sequence[str] | None = None,
    comparisons: int = 1,
    copies: int = COPIES,
    seed: int = 0,
) -> Complement:
    """Whether B adds to A for predicting y, on held-out samples.

    Every channel has mean 0 and variance 1, and the channels of both stand side by side. Each
    model's penalty is chosen by itself inside the training folds (`ridge_probe`).

    Doubling the channels can help without any new information: the scaled channels of a rotated
    copy of A weight the directions of A anew, which is another prior of the ridge map. Hence the
    control, A beside a random rotation of itself of the width of B, each channel scaled in the same
    way: as much as that gains is not due to B. A rotated copy of A given as B is one more draw of
    the control. The spread between the copies is part of the interval.

    Args:
        a: features (n, d_a).
        b: features (n, d_b), row i of the same sample.
        y: the target (n, d_y).
        groups: a label per sample; see `ridge_probe`.
        texts: the captions; equal ones are right for each other's images.
        comparisons: number of claims that are made together (Bonferroni).
        copies: number of rotated copies of A, at least 2.
        seed: of folds and rotations.

    Returns:
        Probes and comparisons; undefined where `ridge_probe` is.

    Raises:
        UsageError: values that are not finite, or numbers of rows that differ.
    """
    require_same_count({"A": a, "B": b, "Y": y})

    def probe(*sides: np.ndarray) -> RidgeProbe:
        return ridge_probe(np.hstack(sides), y, groups=groups, texts=texts, seed=seed)

    left, right = standardised(a, "A"), standardised(b, "B")
    rotated = [probe(left, copy) for copy in rotated_copies(a, right.shape[1], copies, seed)]
    return judge(probe(left), probe(right), probe(left, right), rotated, groups, comparisons)


def judge(
    base: RidgeProbe,
    added: RidgeProbe,
    both: RidgeProbe,
    rotated: Sequence[RidgeProbe],
    groups: Groups | None = None,
    comparisons: int = 1,
) -> Complement:
    """The comparison of probes that are computed already, on the same folds.

    Args:
        base: of A.
        added: of B.
        both: of both side by side.
        rotated: of A beside each of its rotated copies, at least 2.
        groups: a label per sample, left out together.
        comparisons: number of claims that are made together (Bonferroni).

    Returns:
        Probes and comparisons.
    """
    name = f"mean over {len(rotated)} rotated copies; jackknife over samples"
    probes = (base, both, *rotated)
    n = base.r2.n
    if any(probe.r2.value is None for probe in probes):
        reason = next(p.r2.undefined for p in probes if p.r2.undefined is not None)
        nothing = Comparison("A with B", "A", None, None, None, None, n, 0.95)
        return Complement(base, added, both, undefined(reason, n, name), *3 * (nothing,))
    of_base, of_both, *of_copies = (_r2(probe, groups) for probe in probes)
    values = [value for value, _ in of_copies]
    control = float(np.mean(values)), np.mean([left_out for _, left_out in of_copies], axis=0)
    # The mean of the copies misses that of all rotations, and B differs from it as one copy does.
    spread = float(np.var(values, ddof=1)) * (1 + 1 / len(values))
    gain = _compared("A", of_both, of_base, n, comparisons)
    over = _compared(
        "A with a copy of A", of_both, control, n, comparisons, (spread, len(values) - 1)
    )
    recall = _compared("A", _recall(both, groups), _recall(base, groups), n, comparisons)
    score = Score(control[0], *jackknife_interval(*control), 0.0, n, name)
    return Complement(base, added, both, score, gain, over, recall)


def standardised(x: Matrix, name: str = "features") -> Float[np.ndarray, "n d"]:
    """Each channel with mean 0 and variance 1; a constant channel is 0."""
    centred = centre(x, name)[0].cpu().numpy()
    spread = centred.std(axis=0)
    floor = 1e-12 * max(float(spread.max(initial=0.0)), 1e-300)
    return np.where(spread > floor, centred / np.maximum(spread, floor), 0.0)


def rotated_copies(x: Matrix, width: int, count: int, seed: int) -> list[np.ndarray]:
    """Random rotations of features, each channel scaled as by `standardised`.

    Args:
        x: features (n, d).
        width: channels of a copy: d of them have the information of x and no other; of fewer, a
            random projection of it.
        count: number of copies.
        seed: of the rotations.

    Returns:
        `count` arrays (n, width).
    """
    centred = centre(x)[0].cpu().numpy()
    rng = np.random.default_rng([seed, COPIES])
    return [
        standardised(centred @ random_rotation(centred.shape[1], width, rng)) for _ in range(count)
    ]


def random_rotation(d: int, width: int, rng: np.random.Generator) -> Float[np.ndarray, "d width"]:
    """A part of a random orthogonal matrix.

    Args:
        d: rows.
        width: columns.
        rng: draws the matrix.

    Returns:
        Orthonormal rows for width >= d, so that x @ it has the inner products of x; else
        orthonormal columns.
    """
    size = max(width, d)
    return np.linalg.qr(rng.standard_normal((size, size)))[0][:d, :width]


def _r2(probe: RidgeProbe, groups: Groups | None) -> tuple[float, np.ndarray]:
    assert probe.residual is not None and probe.total is not None
    return r2_without_each(probe.residual, probe.total, groups)


def _recall(probe: RidgeProbe, groups: Groups | None) -> tuple[float, np.ndarray]:
    assert probe.hits is not None
    # One minus the share of misses is R2 with a total of 1 per sample.
    return r2_without_each(1 - probe.hits, np.ones(len(probe.hits)), groups)


def _compared(
    against: str,
    both: tuple[float, np.ndarray],
    other: tuple[float, np.ndarray],
    n: int,
    comparisons: int,
    spread: tuple[float, float] = (0.0, 1.0),
) -> Comparison:
    return compare_paired(
        "A with B", against, (both[0], other[0]), (both[1], other[1]), n,
        comparisons=comparisons, other=spread,
    )  # fmt: skip
