"""Does a second encoder add to a first one? Ridge maps of A, B, A with B, and A with copies of A.

Knows feature matrices only. n samples, widths d_a, d_b and d_y.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from encoderlab.core.results import Result
from encoderlab.core.score import Score, undefined
from encoderlab.metrics.answers import least_half_width
from encoderlab.metrics.matrix import Groups, Matrix, centre, group_numbers, require_same_count
from encoderlab.metrics.ridge import RidgeProbe, r2_without_each, ridge_probe
from encoderlab.metrics.uncertainty import (
    Comparison,
    Verdict,
    compare_paired,
    jackknife_interval,
    samples_needed,
)

COPIES = 5
EXPONENTS = (1.0, 0.0, 0.5, 1.5, 2.0)  # of A's singular values; 0 whitens, 1 leaves them


@dataclass(frozen=True)
class Control:
    """What A gains from copies of itself.

    Args:
        exponent: of A's singular values in the copies; of `EXPONENTS` that with the best R2.
        probes: of A beside each of its rotated copies, at least 2.
    """

    exponent: float
    probes: tuple[RidgeProbe, ...]


@dataclass(frozen=True)
class Complement(Result):
    """What B adds to A for a target.

    Args:
        base, added, both: the ridge probes of A, of B, and of both side by side.
        control: mean R2 of A beside a rescaled and rotated copy of itself, over the rotations.
        gain: R2 of both against that of A.
        over_control: R2 of both against `control`.
        recall_gain: Recall@1, mean of both directions, of both against A.
        hidden_by_copies: whether the spread between the copies is too large for any number of
            samples to show a gain over them as measured.
    """

    base: RidgeProbe
    added: RidgeProbe
    both: RidgeProbe
    control: Score
    gain: Comparison
    over_control: Comparison
    recall_gain: Comparison
    hidden_by_copies: bool = False

    @property
    def adds(self) -> bool:
        """Whether both are ahead of A alone, and of A with a copy of itself."""
        return {self.gain.verdict, self.over_control.verdict} == {Verdict.AHEAD}

    @property
    def samples_needed(self) -> int | None:
        """About how many samples would show both gains, if they are as measured; None where B adds,
        where a gain is not positive, where the spread between the copies hides it, or where more
        than a million are needed."""
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

    Doubling the channels can help without any new information: a copy of A that is scaled and
    rotated weights the directions of A anew, which is another prior of the ridge map. Hence the
    control, A beside such copies of itself (`control_of`): as much as that gains is not due to B.

    Args:
        a: features (n, d_a).
        b: features (n, d_b), row i of the same sample.
        y: the target (n, d_y).
        groups: a label per sample; see `ridge_probe`.
        texts: the captions; equal ones are right for each other's images.
        comparisons: number of claims that are made together (Bonferroni).
        copies: number of rotations of A, at least 2.
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
    control = control_of(a, right.shape[1], lambda copy: probe(left, copy), copies, seed)
    return judge(probe(left), probe(right), probe(left, right), control, groups, comparisons)


def judge(
    base: RidgeProbe,
    added: RidgeProbe,
    both: RidgeProbe,
    control: Control,
    groups: Groups | None = None,
    comparisons: int = 1,
) -> Complement:
    """The comparison of probes that are computed already, on the same folds.

    Args:
        base: of A.
        added: of B.
        both: of both side by side.
        control: of A beside copies of itself.
        groups: a label per sample, left out together.
        comparisons: number of claims that are made together (Bonferroni).

    Returns:
        Probes and comparisons.
    """
    name = (
        f"mean over {len(control.probes)} rotated copies, singular values to the power "
        f"{control.exponent:g}; jackknife over samples"
    )
    probes = (base, both, *control.probes)
    n = base.r2.n
    level = 1 - 0.05 / max(1, comparisons)
    if any(probe.r2.value is None for probe in probes):
        reason = next(p.r2.undefined for p in probes if p.r2.undefined is not None)
        nothing = Comparison("A with B", "A", None, None, None, None, n, level)
        return Complement(base, added, both, undefined(reason, n, name), *3 * (nothing,))
    of_base, of_both, *of_copies = (_r2(probe, groups) for probe in probes)
    values = [value for value, _ in of_copies]
    of_control = float(np.mean(values)), np.mean([left_out for _, left_out in of_copies], axis=0)
    # The mean of the copies misses that of all rotations, and B differs from it as one copy does.
    spread = float(np.var(values, ddof=1)) * (1 + 1 / len(values))
    gain = _compared("A", of_both, of_base, n, comparisons)
    over = _compared(
        "A with a copy of A", of_both, of_control, n, comparisons, other=(spread, len(values) - 1)
    )
    assert both.hits is not None
    sample = group_numbers(groups, len(both.hits))
    recall = _compared(
        "A", _recall(both, groups), _recall(base, groups), n, comparisons,
        least=least_half_width(sample, level),
    )  # fmt: skip
    score = Score(of_control[0], *jackknife_interval(*of_control), 0.0, n, name)
    hidden = (
        over.verdict is Verdict.CANNOT_DISTINGUISH
        and (over.difference or 0) > 0
        # Without any variance over the samples: what is left is the spread.
        and samples_needed(n, over.difference or 0, 0.0, level, spread) is None
    )
    return Complement(base, added, both, score, gain, over, recall, hidden)


def standardised(x: Matrix, name: str = "features") -> Float[np.ndarray, "n d"]:
    """Each channel with mean 0 and variance 1; a constant channel is 0."""
    centred = centre(x, name)[0].cpu().numpy()
    spread = centred.std(axis=0)
    floor = 1e-12 * max(float(spread.max(initial=0.0)), 1e-300)
    return np.where(spread > floor, centred / np.maximum(spread, floor), 0.0)


def control_of(
    x: Matrix,
    width: int,
    probe: Callable[[Float[np.ndarray, "n width"]], RidgeProbe],
    copies: int = COPIES,
    seed: int = 0,
) -> Control:
    """The probes of A beside rescaled and rotated copies of itself, by the best exponent.

    B may hold A's information with another spectrum, which another exponent of A's singular values
    imitates. The exponent is the one whose copy by the first rotation has the best R2. To choose it
    on the same samples favours the control, so claims can only get fewer.

    Args:
        x: features of A (n, d).
        width: channels of a copy.
        probe: of A beside a copy (n, width).
        copies: number of rotations, at least 2.
        seed: of the rotations.

    Returns:
        The probes of the copies with the best exponent, one for each rotation.
    """
    axes = principal_axes(x)
    rng = np.random.default_rng([seed, COPIES])
    # Rotations in the coordinates of the axes: few rows, as there are at most n axes.
    rotations = [axes[2] @ random_rotation(x.shape[1], width, rng) for _ in range(copies)]
    first = {power: probe(rescaled_copy(axes, power, rotations[0])) for power in EXPONENTS}
    values = {power: one.r2.value for power, one in first.items()}
    best = max(EXPONENTS, key=lambda power: -np.inf if (v := values[power]) is None else v)
    others = (probe(rescaled_copy(axes, best, rotation)) for rotation in rotations[1:])
    return Control(best, (first[best], *others))


def principal_axes(x: Matrix) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The singular value decomposition of centred features, without axes that do not vary.

    Args:
        x: features (n, d).

    Returns:
        (u (n, k), s (k,), v (k, d)): u @ diag(s) @ v are the centred features.
    """
    u, s, v = np.linalg.svd(centre(x)[0].cpu().numpy(), full_matrices=False)
    varies = s > 1e-8 * s.max(initial=0.0)
    return u[:, varies], s[varies], v[varies]


def rescaled_copy(
    axes: tuple[np.ndarray, np.ndarray, np.ndarray],
    exponent: float,
    rotation: Float[np.ndarray, "k width"],
) -> Float[np.ndarray, "n width"]:
    """A copy of features by an invertible linear map, each channel scaled as by `standardised`.

    Args:
        axes: of the features; see `principal_axes`.
        exponent: of the singular values; 0 whitens, 1 leaves them.
        rotation: of the k axes to the channels of the copy: a part of a rotation of the features,
            or for fewer channels than features a random projection.

    Returns:
        The copy.
    """
    u, s, _ = axes
    return standardised((u * s**exponent) @ rotation)


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
    other_side: tuple[float, np.ndarray],
    n: int,
    comparisons: int,
    **variance: Any,
) -> Comparison:
    return compare_paired(
        "A with B", against, (both[0], other_side[0]), (both[1], other_side[1]), n,
        comparisons=comparisons, **variance,
    )  # fmt: skip
