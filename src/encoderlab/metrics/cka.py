"""Centred kernel alignment of two sets of features, as published and debiased, with its chance.

CKA compares the similarities of samples in two spaces: 1 where the same samples are near one
another in both. The biased estimator (Kornblith et al. 2019) is near 1 for any features of few
samples; the debiased one (Song et al. 2012, eq. 5) is 0 on average for unrelated features of any
number. Loads no model, reads no file. n samples, d width; K~ is a Gram matrix without its diagonal.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from encoderlab.core.score import Score, undefined
from encoderlab.errors import unknown
from encoderlab.metrics import moments
from encoderlab.metrics.matrix import (
    Groups,
    Matrix,
    centre,
    group_means,
    group_numbers,
    is_constant,
    matrix,
    median,
    require_finite,
    require_same_count,
)
from encoderlab.metrics.uncertainty import jackknife_interval, permutation_p

KERNELS = ("linear", "rbf")
ESTIMATORS = ("debiased", "biased")
LEAST = {"debiased": 4, "biased": 2}
# Above this many samples a Gram matrix is large, and linear CKA is computed from moments.
LARGEST_GRAM = 4000
SHARDS = 64


def cka(
    x: Matrix,
    y: Matrix,
    kernel: str = "linear",
    estimator: str = "debiased",
    *,
    bandwidth: float = 1.0,
    groups: Groups | None = None,
    permutations: int = 0,
    seed: int = 0,
) -> Score:
    """CKA of x (n, d_x) and y (n, d_y), whose rows i are of the same sample.

    Args:
        x: features (n, d_x), numpy array or tensor.
        y: features (n, d_y).
        kernel: "linear", or "rbf" with a width of `bandwidth` times the median of the positive
            distances between samples (of an even number of distances the mean of the two in the
            middle).
        estimator: "debiased", in [-1, 1], chance 0, never clamped; or "biased", in [0, 1], as
            published, with the mean value of unrelated features as its chance.
        bandwidth: see `kernel`.
        groups: a label per sample, such as the image that a caption belongs to. The group is then
            the unit of every part of the score: cell [a, b] of the Gram matrix is the mean kernel
            of the samples of a with those of b (the inner product of the groups' kernel mean
            embeddings), whole groups are permuted and left out, and `n` counts groups. Pairs
            within a group lie on the diagonal, which the debiased estimator leaves out.
        permutations: number of random pairings for p; z of the debiased value needs none.
        seed: of the pairings.

    Returns:
        The score; undefined, with the reason, for too few samples (or groups) and for constant
        features.

    Raises:
        UsageError: an unknown kernel or estimator, values that are not finite, numbers of rows that
            differ, or not one group label per sample.

    Examples:
        >>> x = np.arange(10.0).reshape(5, 2) ** 2
        >>> round(float(cka(x, 3 * x + 1)), 6)
        1.0
    """
    _known(kernel, estimator)
    count = require_same_count({"X": x, "Y": y})
    if groups is not None:
        member = group_numbers(groups, count)
        number = int(member.max(initial=-1)) + 1
        if number < count:
            if kernel == "linear":
                # The inner product of two means is the mean of the inner products.
                means = group_means(x, member, "X"), group_means(y, member, "Y")
                by_group = cka(*means, estimator=estimator, permutations=permutations, seed=seed)
            else:
                left, right = (
                    Gram.of(side, kernel, bandwidth, name).by_group(member)
                    for side, name in ((x, "X"), (y, "Y"))
                )
                by_group = score(left, right, estimator, permutations=permutations, seed=seed)
            how = f"{by_group.estimator}; {number} groups of {count} samples"
            return replace(by_group, estimator=how)
    if kernel == "linear" and count > LARGEST_GRAM and not permutations:
        return _by_moments(x, y, estimator)
    left, right = Gram.of(x, kernel, bandwidth, "X"), Gram.of(y, kernel, bandwidth, "Y")
    return score(left, right, estimator, permutations=permutations, seed=seed)


class Gram:
    """A Gram matrix and what CKA needs of it, computed once.

    Args:
        k: the Gram matrix (n, n) of centred features.
        kernel: its name in a result.
        constant: whether all samples are the same point.
    """

    def __init__(self, k: Float[Tensor, "n n"], kernel: str, constant: bool = False) -> None:
        self.k, self.kernel, self.constant = k, kernel, constant
        self.n = len(k)

    @classmethod
    def of(
        cls, x: Matrix, kernel: str = "linear", bandwidth: float = 1.0, name: str = "features"
    ) -> Gram:
        """The Gram matrix of features.

        Args:
            x: features (n, d).
            kernel: as in `cka`.
            bandwidth: as in `cka`.
            name: what an error calls the features.

        Returns:
            The matrix (n, n).
        """
        offset, constant = centre(x, name)
        k = offset @ offset.T
        if kernel == "linear":
            return cls(k, "linear", constant)
        return cls(_rbf(k, bandwidth), f"RBF (width {bandwidth:g} x median distance)", constant)

    @functools.cached_property
    def tilde(self) -> Float[Tensor, "n n"]:
        """K~: the diagonal would count each sample as its own neighbour."""
        return self.k - torch.diag(self.k.diagonal())

    @functools.cached_property
    def u_centred(self) -> Float[Tensor, "n n"]:
        """K~ with rows and columns that sum to zero, diagonal zero (Szekely & Rizzo 2014)."""
        return _u_centred(self.tilde)

    @functools.cached_property
    def centred(self) -> Float[Tensor, "n n"]:
        """HKH."""
        rows = self.k.mean(dim=1)
        return self.k - rows[:, None] - rows[None, :] + rows.mean()

    @functools.cached_property
    def deleted(self) -> Float[Tensor, " n"]:
        """HSIC of the matrix with itself without sample i, for each i."""
        return hsic_without(self, self)

    def take(self, rows: Tensor) -> Gram:
        """The Gram matrix of some of the samples."""
        return Gram(self.k[rows][:, rows], self.kernel, self.constant)

    def by_group(self, groups: Groups) -> Gram:
        """The Gram matrix (g, g) of groups: the mean over all pairs of samples of two groups."""
        member = torch.from_numpy(group_numbers(groups, self.n)).to(self.k.device)
        share = torch.nn.functional.one_hot(member).to(self.k)
        share = share / share.sum(dim=0)
        k = share.T @ self.k @ share
        constant = self.constant or is_constant(k - k.mean(), float(k.abs().max()))
        return Gram(k, self.kernel, constant)


def value(left: Gram, right: Gram, estimator: str = "debiased") -> float:
    """CKA of two Gram matrices.

    Args:
        left: of one model.
        right: of the other model.
        estimator: as in `cka`.

    Returns:
        A number in the range of the estimator; NaN where it is undefined.
    """
    if reason_undefined(left, right, estimator):
        return math.nan
    # HSIC is the inner product of these forms.
    a, b = (g.u_centred if estimator == "debiased" else g.centred for g in (left, right))
    scale = float((a * a).sum()) * float((b * b).sum())
    return float((a * b).sum()) / math.sqrt(scale) if scale > 0 else math.nan


def score(
    left: Gram,
    right: Gram,
    estimator: str = "debiased",
    *,
    permutations: int = 0,
    seed: int = 0,
) -> Score:
    """CKA of two Gram matrices with interval, chance, z and p.

    Args:
        left: of one model.
        right: of the other model.
        estimator: as in `cka`.
        permutations: as in `cka`.
        seed: as in `cka`.

    Returns:
        The score, as `cka`.
    """
    n = left.n
    name = f"{estimator} CKA, {left.kernel}"
    reason = reason_undefined(left, right, estimator)
    if reason:
        return undefined(reason, n, name)
    cka_value = value(left, right, estimator)
    if math.isnan(cka_value):
        return undefined("no two samples differ in the kernel", n, name)
    if estimator == "biased":
        return Score(cka_value, None, None, floor(left, right), n, name)
    interval = jackknife_interval(
        cka_value,
        without_each(left, right),
        correlation=True,
        interaction=interaction(pair_terms(left, right)),
    )
    p = None
    if permutations:
        p = permutation_p(cka_value, permuted(left, right, permutations, seed))
    # Under a permutation of the pairs the debiased CKA has mean 0 and variance 2 / (n (n - 3)), for
    # any kernel and any data.
    z = cka_value * math.sqrt(n * (n - 3) / 2)
    how = f"{name}; delete-one jackknife on Fisher's z"
    return Score(cka_value, *interval, 0.0, n, how, z=z, p=p)


def floor(left: Gram, right: Gram) -> float:
    """Mean of the biased CKA over all pairings, the value of unrelated features of these spectra.

    Returns:
        sqrt(b_x b_y) / (n - 1) with b = (tr K)^2 / |K|^2 of the centred Gram matrix, in [0, 1].
    """

    def spread(gram: Gram) -> float:
        return float(gram.centred.trace()) ** 2 / float(gram.centred.square().sum())

    return math.sqrt(spread(left) * spread(right)) / (left.n - 1)


def reason_undefined(left: Gram, right: Gram, estimator: str) -> str | None:
    """The reason why CKA of two Gram matrices is undefined, or None."""
    if left.n < LEAST[estimator]:
        return (
            f"{estimator} CKA needs at least {LEAST[estimator]} independent samples, "
            f"and there are {left.n}"
        )
    if left.constant or right.constant:
        return "the features are the same for every sample"
    return None


def without_each(left: Gram, right: Gram) -> Float[np.ndarray, " n"]:
    """Debiased CKA without each sample, in O(n^2).

    Args:
        left: of one model.
        right: of the other model.

    Returns:
        Value i is without sample i; NaN where too few samples are left.
    """
    if left.n < LEAST["debiased"] + 1:
        return np.full(left.n, math.nan)
    hsic = hsic_without(left, right)
    scale = left.deleted * right.deleted
    return torch.where(scale > 0, hsic / scale.clamp_min(0).sqrt(), math.nan).cpu().numpy()


def pair_terms(left: Gram, right: Gram) -> Float[Tensor, "n n"]:
    """First-order contribution of each pair of samples to debiased CKA.

    The terms of a difference of two encoders are the difference of their terms.

    Args:
        left: of one model.
        right: of the other model.

    Returns:
        Cell [i, j] is the contribution of samples i and j; the sum is zero.
    """
    k, m = left.u_centred, right.u_centred
    k, m = k / torch.linalg.norm(k), m / torch.linalg.norm(m)
    product = k * m
    return product - product.sum() / 2 * (k.square() + m.square())


def interaction(terms: Float[Tensor, "n n"]) -> float:
    """The variance of debiased CKA that comes from pairs of samples, not from single samples.

    Args:
        terms: of `pair_terms`.

    Returns:
        A variance, at least 0; 0 for fewer than four samples.
    """
    if len(terms) < 4:
        return 0.0
    return 2 * float(_u_centred(terms - torch.diag(terms.diagonal())).square().sum())


def hsic_without(left: Gram, right: Gram) -> Float[Tensor, " n"]:
    """The debiased HSIC without sample i, for each i, times (n - 1)(n - 4)."""
    # Row i is subtracted from sums over all samples.
    k, m = left.tilde, right.tilde
    product = k * m
    a, b = k.sum(dim=1), m.sum(dim=1)
    per_row = product.sum(dim=1)
    trace = product.sum() - 2 * per_row
    total = (a.sum() - 2 * a) * (b.sum() - 2 * b)
    rows = (a @ b) - a * b - m @ a - k @ b + per_row
    n = left.n - 1
    return trace + total / ((n - 1) * (n - 2)) - 2 * rows / (n - 2)


def permuted(left: Gram, right: Gram, count: int, seed: int = 0) -> Float[np.ndarray, " count"]:
    """Debiased CKA under `count` random pairings."""
    return cka_permutation_null([left], [right], count, seed)[:, 0, 0]


def cka_permutation_null(
    left: Sequence[Gram], right: Sequence[Gram], count: int, seed: int = 0
) -> Float[np.ndarray, "count l r"]:
    """Debiased CKA of every left with every right, under the same random pairings.

    Args:
        left: Gram matrices of the same samples.
        right: Gram matrices of the same samples.
        count: number of pairings.
        seed: of the pairings.

    Returns:
        Cell [c, i, j] is of left i and right j under pairing c.
    """
    lefts, rights = _unit_forms(left), _unit_forms(right)
    n = left[0].n
    rng = np.random.default_rng(seed)
    null = np.empty((count, len(left), len(right)))
    shaped = rights.view(len(right), n, n)
    for i in range(count):
        order = torch.from_numpy(rng.permutation(n)).to(lefts.device)
        shuffled = shaped[:, order][:, :, order].reshape(len(right), n * n)
        null[i] = (lefts @ shuffled.T).cpu().numpy()
    return null


def grid(left: Sequence[Gram], right: Sequence[Gram]) -> Float[np.ndarray, "l r"]:
    """Debiased CKA of every left with every right.

    Args:
        left: Gram matrices of the same samples.
        right: Gram matrices of the same samples.

    Returns:
        Cell [i, j] is of left i and right j; NaN for constant features.
    """
    return (_unit_forms(left) @ _unit_forms(right).T).cpu().numpy()


def pairwise(
    embeddings: Mapping[str, Matrix], kernel: str = "linear", estimator: str = "debiased"
) -> dict[tuple[str, str], Score]:
    """CKA of every two of `embeddings`.

    Args:
        embeddings: name -> (n, d), row i of each of sample i.
        kernel: as in `cka`.
        estimator: as in `cka`.

    Returns:
        (name, later name) -> the score of the pair.

    Raises:
        UsageError: as `cka`.
    """
    _known(kernel, estimator)
    require_same_count(embeddings)
    grams = {name: Gram.of(x, kernel, name=name) for name, x in embeddings.items()}
    names = list(grams)
    return {
        (a, b): score(grams[a], grams[b], estimator)
        for i, a in enumerate(names)
        for b in names[i + 1 :]
    }


class CKA:
    """CKA as published: biased, a plain number. `encoderlab.cka` adds interval and chance.

    Examples:
        >>> x = np.arange(10.0).reshape(5, 2) ** 2
        >>> round(CKA.compute_cka(x, 3 * x + 1), 6)
        1.0
    """

    @staticmethod
    def compute_cka(x: Matrix, y: Matrix, kernel: str = "linear") -> float:
        """Biased CKA of x (n, d_x) and y (n, d_y), as published (Kornblith et al. 2019).

        Args:
            x: features (n, d_x).
            y: features (n, d_y), row i of the same sample.
            kernel: as in `cka`.

        Returns:
            A number in [0, 1]; NaN for constant features.

        Raises:
            UsageError: an unknown kernel, values that are not finite, or numbers of rows that
                differ.
        """
        return float(cka(x, y, kernel, "biased"))

    @staticmethod
    def compute_pairwise(
        embeddings: Mapping[str, Matrix], kernel: str = "linear"
    ) -> Float[np.ndarray, "m m"]:
        """Biased CKA of every two of `embeddings`.

        Args:
            embeddings: name -> (n, d), row i of each of sample i.
            kernel: as in `cka`.

        Returns:
            A symmetric table; cell [i, j] compares the i-th with the j-th of `embeddings`.

        Raises:
            UsageError: as `compute_cka`.
        """
        names = list(embeddings)
        table = np.eye(len(names))
        for (a, b), pair in pairwise(embeddings, kernel, "biased").items():
            i, j = names.index(a), names.index(b)
            table[i, j] = table[j, i] = float(pair)
        return table


def _rbf(k: Float[Tensor, "n n"], bandwidth: float) -> Float[Tensor, "n n"]:
    squared = k.diagonal()
    distances = (squared[:, None] + squared[None, :] - 2 * k).clamp_min(0)
    distances.fill_diagonal_(0)
    # The distance of nearly equal samples is rounding, so the median leaves it out.
    rounding = 1e-14 * float(squared.max()) if len(k) else 0.0
    positive = distances[distances > rounding]
    if not len(positive):
        return torch.ones_like(k)
    return torch.exp(-distances / (2 * (bandwidth * median(positive.sqrt())) ** 2))


def _u_centred(tilde: Float[Tensor, "n n"]) -> Float[Tensor, "n n"]:
    """A symmetric matrix with zero diagonal, centred so that every row sums to zero."""
    n, rows = len(tilde), tilde.sum(dim=1)
    u = tilde - (rows[:, None] + rows[None, :]) / (n - 2) + rows.sum() / ((n - 1) * (n - 2))
    return u - torch.diag(u.diagonal())


def _unit_forms(grams: Sequence[Gram]) -> Float[Tensor, "m n2"]:
    flat = torch.stack([gram.u_centred.flatten() for gram in grams])
    length = torch.linalg.vector_norm(flat, dim=1, keepdim=True)
    constant = torch.tensor([gram.constant for gram in grams], device=flat.device)[:, None]
    return torch.where(constant | (length == 0), math.nan, flat / length.clamp_min(1e-300))


def _by_moments(x: Matrix, y: Matrix, estimator: str) -> Score:
    for name, features in (("X", x), ("Y", y)):
        require_finite(torch.as_tensor(features), name)
    part = np.arange(len(x)) * SHARDS // len(x)
    shards = []
    for number in range(SHARDS):
        rows = np.flatnonzero(part == number)
        shards.append(moments.Moments.of({"x": matrix(x[rows], "X"), "y": matrix(y[rows], "Y")}))
    return moments.cka_of_shards(shards, "x", "y", estimator)


def _known(kernel: str, estimator: str) -> None:
    if kernel not in KERNELS:
        raise unknown("kernel", kernel, KERNELS, "encoderlab ls metrics")
    if estimator not in ESTIMATORS:
        raise unknown("estimator", estimator, ESTIMATORS, "encoderlab ls metrics")
