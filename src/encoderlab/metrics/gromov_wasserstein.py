"""Gromov-Wasserstein: how far the distances among samples differ between two spaces.

Needs POT (extra `gw`). Knows feature matrices only. n samples, d width.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from importlib.util import find_spec

import numpy as np
from jaxtyping import Float

from encoderlab.core.results import Result
from encoderlab.core.score import Score, undefined
from encoderlab.errors import MissingError
from encoderlab.metrics.matrix import Matrix, centre, require_same_count
from encoderlab.metrics.uncertainty import permutation_p

LEAST = 4
MOST = 500  # an iteration of the solver is O(n^3)
PERMUTATIONS = 999


@dataclass(frozen=True)
class GromovWasserstein(Result):
    """The distance at the optimal coupling, and how much nearer the pairing is than chance.

    Args:
        distance: Gromov-Wasserstein distance, at least 0; it does not use the pairing, and is small
            for wide features whatever they are of.
        pairing: z of the same objective at the pairing of the samples; about 0 for unrelated
            features of any widths, positive where the pairing keeps distances.
    """

    distance: Score
    pairing: Score


def require_pot() -> None:
    """Refuses to go on without POT.

    Raises:
        MissingError: with the line that installs it.
    """
    if find_spec("ot") is None:
        raise MissingError(
            "the Gromov-Wasserstein distance needs POT, which is not installed",
            hint='install it: pip install "encoderlab[gw]"',
        )


def gromov_wasserstein(
    x: Matrix,
    y: Matrix,
    *,
    permutations: int = PERMUTATIONS,
    most: int = MOST,
    seed: int = 0,
) -> GromovWasserstein:
    """Gromov-Wasserstein distance (Mémoli 2011; solver of Peyré et al. 2016), and its null.

    A and B are the Euclidean distances among the rows of x and of y, each divided by its mean off
    the diagonal. A coupling T with uniform marginals costs sum_ijkl (A_ik - B_jl)^2 T_ij T_kl; the
    distance is the root of the least cost that POT's solver reaches from the product coupling.

    The optimum is over all couplings, so permuting the rows of y changes nothing: it has no
    permutation null. Shuffling the values within columns is no null either, for it changes the
    spectrum of y, on which the optimum depends. The null here is of the same cost at one coupling,
    the pairing T = I / n, where it is mean_ij (A_ij - B_ij)^2, against T = P / n with random
    permutations P. If x and y are unrelated, the pairing is one permutation as good as any other,
    so z has mean 0 and spread 1 in every dimension. The squares of A and B do not depend on P:
    z is that of the correlation of both distance matrices (Mantel 1967).

    Args:
        x: features (n, d_x).
        y: features (n, d_y), row i of the same sample.
        permutations: random pairings, at least 2.
        most: of more samples, as many drawn at random are used.
        seed: of the pairings and the samples drawn.

    Returns:
        Both scores; `n` counts the samples used. The distance has no interval: it is a local
        optimum of a problem that is not convex, and one over n samples is not an average over
        samples, as jackknife and half-sampling assume. z has none: its unit is the spread of the
        null.

    Raises:
        MissingError: POT is not installed.
        UsageError: values that are not finite, or numbers of rows that differ.
    """
    require_pot()
    (left, left_constant), (right, right_constant) = centre(x, "X"), centre(y, "Y")
    total = require_same_count({"X": left, "Y": right})
    n = min(total, most)
    of = "" if n == total else f" of {n:,} of {total:,} samples drawn at random"
    names = (
        f"Gromov-Wasserstein distance{of}: POT, square loss; no interval: a local optimum",
        f"z of the cost at the pairing{of}, against {permutations:,} random pairings; no interval: "
        "its unit is the null's spread",
    )
    reason = None
    if n < LEAST:
        reason = f"needs at least {LEAST} samples, and there are {n}"
    elif left_constant or right_constant:
        reason = "the features are the same for every sample"
    if reason is not None:
        return GromovWasserstein(*(undefined(reason, n, name) for name in names))
    rng = np.random.default_rng(seed)
    rows = np.sort(rng.permutation(total)[:n])
    a, b = (mean_scaled_distances(side.cpu().numpy()[rows]) for side in (left, right))
    observed = pairing_cost(a, b, np.arange(n))
    null = np.array([pairing_cost(a, b, rng.permutation(n)) for _ in range(permutations)])
    spread = float(null.std(ddof=1))
    distance = Score(optimal_distance(a, b), None, None, None, n, names[0])
    if spread <= 1e-12 * float(null.mean()):
        return GromovWasserstein(distance, undefined("all pairings cost the same", n, names[1]))
    z = (float(null.mean()) - observed) / spread
    p = permutation_p(-observed, -null)
    return GromovWasserstein(distance, Score(z, None, None, 0.0, n, names[1], z=z, p=p))


def optimal_distance(a: Float[np.ndarray, "n n"], b: Float[np.ndarray, "m m"]) -> float:
    """The root of POT's least cost of a coupling of two distance matrices, at least 0."""
    from ot.gromov import gromov_wasserstein2

    # Rounding may leave a cost of equal matrices just below 0.
    return math.sqrt(max(0.0, float(gromov_wasserstein2(a, b, symmetric=True))))


def mean_scaled_distances(x: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n n"]:
    """Euclidean distances among rows, divided by their mean off the diagonal."""
    from scipy.spatial.distance import pdist, squareform

    distances = pdist(x)
    return squareform(distances / distances.mean())


def pairing_cost(
    a: Float[np.ndarray, "n n"], b: Float[np.ndarray, "n n"], order: np.ndarray
) -> float:
    """The cost of the coupling of row i of `a` with row order[i] of `b`."""
    return float(np.square(a - b[np.ix_(order, order)]).mean())
