"""Representational similarity (Kriegeskorte et al. 2008): do two spaces order distances alike?"""

import numpy as np
from scipy.spatial.distance import pdist, squareform
from scipy.stats import rankdata

from encoderlab.core.score import Score, undefined
from encoderlab.metrics.uncertainty import jackknife_interval

NAME = "Spearman of correlation distances, jackknife over up to 20 parts; chance: 0, by symmetry"


def rsa(x: np.ndarray, y: np.ndarray) -> Score:
    """How alike x (n, d_x) and y (n, d_y) order the distances between the same n samples."""
    n = len(x)
    if n < 6:
        return undefined(f"needs at least 6 samples, and there are {n}", n, NAME)
    far = [squareform(pdist(np.asarray(one, dtype=np.float64), "correlation")) for one in (x, y)]
    if not all(np.isfinite(one).all() and one.std() > 0 for one in far):
        return undefined("the features are the same for every sample", n, NAME)
    parts = np.array_split(np.random.default_rng(0).permutation(n), min(n, 20))
    left_out = np.array([_spearman(far, np.setdiff1d(np.arange(n), part)) for part in parts])
    value = _spearman(far, np.arange(n))
    low, high = jackknife_interval(value, left_out, correlation=True) or (None, None)
    return Score(value, low, high, chance=0.0, n=n, estimator=NAME)


def _spearman(far: list[np.ndarray], rows: np.ndarray) -> float:
    above = np.triu_indices(len(rows), 1)
    ranks = [rankdata(one[np.ix_(rows, rows)][above]) for one in far]
    return float(np.corrcoef(*ranks)[0, 1])
