"""Feature matrices as the metrics take them: numpy or torch, checked once, float64, centred.

Knows no metric. Features stay on their device. float64, because sums of squares of float32 features
that are not centred lose all their digits. n samples, d width, g groups.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from encoderlab.errors import UsageError

Matrix = np.ndarray | Tensor
Groups = Sequence[Any] | np.ndarray  # a label per sample


def matrix(x: Matrix, name: str = "features") -> Float[Tensor, "n d"]:
    """The features in float64.

    Args:
        x: numpy array or tensor (n, d).
        name: what an error calls it.

    Returns:
        The values (n, d), detached, on the device of `x`.

    Raises:
        UsageError: not two-dimensional, no columns, or values that are not finite.
    """
    features = torch.as_tensor(x).detach()
    if features.ndim != 2 or features.shape[1] < 1:
        raise UsageError(
            f"{name} must be a matrix with a row per sample", got=f"shape {tuple(features.shape)}"
        )
    require_finite(features, name)
    return features.to(torch.float64)


def require_finite(features: Float[Tensor, "n d"], name: str) -> None:
    """Raises if a value is not finite. Code that reads features in parts checks the whole first, so
    that the error names the row of the whole.

    Args:
        features: one row per sample.
        name: what the error calls them.

    Raises:
        UsageError: with the number of such rows, and the first.
    """
    # One pass in the usual case; the rows are searched only if the sum is not finite.
    if bool(features.sum().isfinite()):
        return
    bad = ~features.isfinite().flatten(1).all(dim=1)
    if bool(bad.any()):
        raise UsageError(
            f"{int(bad.sum())} of {len(features)} rows of {name} are not finite",
            got=f"the first is row {int(bad.nonzero()[0])}",
            want="numbers",
            hint="the model has diverged or an image is broken",
        )


def centre(x: Matrix, name: str = "features") -> tuple[Float[Tensor, "n d"], bool]:
    """Centres features.

    Args:
        x: (n, d).
        name: what an error calls it.

    Returns:
        The features in float64, each column with mean 0; and whether all samples are equal.

    Raises:
        UsageError: as `matrix`.
    """
    features = matrix(x, name)
    if not len(features):
        return features, True
    offset = features - features.mean(dim=0, keepdim=True)
    return offset, is_constant(offset, float(features.abs().max()))


def require_same_count(features: Mapping[str, Any]) -> int:
    """Checks that row i of each is of sample i, by the number of rows.

    Args:
        features: name -> rows.

    Returns:
        The number of rows that all have; 0 for no features.

    Raises:
        UsageError: the numbers differ.
    """
    counts = {name: len(value) for name, value in features.items()}
    if len(set(counts.values())) > 1:
        raise UsageError(
            "the features are not of the same samples",
            got=", ".join(f"{count} rows of {name}" for name, count in counts.items()),
            want="row i of each to be of sample i",
        )
    return next(iter(counts.values()), 0)


def group_numbers(groups: Groups | None, n: int) -> Int[np.ndarray, " n"]:
    """The group of each of n samples as a number.

    Args:
        groups: a label per sample, of any hashable type; None where each sample is its own group.
        n: number of samples.

    Returns:
        Numbers from 0, in order of first appearance.

    Raises:
        UsageError: another number of labels than samples, or a label that is not hashable.
    """
    if groups is None:
        return np.arange(n)
    # The labels of an array or a tensor as plain values: equal tensors have different hashes, and
    # one numpy array of labels of several types would turn 1 and "1" into the same label.
    labels = groups.tolist() if hasattr(groups, "tolist") else list(groups)
    if len(labels) != n:
        raise UsageError("one group per sample is needed", got=f"{len(labels)} for {n} samples")
    number: dict[Any, int] = {}
    try:
        return np.array([number.setdefault(label, len(number)) for label in labels], dtype=np.int64)
    except TypeError as error:
        raise UsageError(
            "a group must be one label per sample",
            got=repr(labels[0])[:60],
            want="a name or number",
        ) from error


def group_means(x: Matrix, groups: Groups, name: str = "features") -> Float[Tensor, "g d"]:
    """The mean features of each group, in order of first appearance.

    Samples of one group, such as several captions of one image, are not independent; a metric of
    these means counts each group once.

    Args:
        x: (n, d).
        groups: a label per sample.
        name: what an error calls `x`.

    Returns:
        One row for each group.

    Raises:
        UsageError: as `matrix` and `group_numbers`.

    Examples:
        >>> group_means(np.array([[1.0], [3.0], [5.0]]), ["a", "a", "b"]).tolist()
        [[2.0], [5.0]]
    """
    features = matrix(x, name)
    member = torch.from_numpy(group_numbers(groups, len(features))).to(features.device)
    counts = torch.bincount(member)
    sums = features.new_zeros(len(counts), features.shape[1]).index_add_(0, member, features)
    return sums / counts[:, None]


def median(values: Float[Tensor, "*b n"]) -> Float[Tensor, "*b"]:
    """The median along the last axis (`torch.median` returns the lower of two middle values).

    Args:
        values: at least one along the last axis.

    Returns:
        The middle value; of an even number of values the mean of the two middle ones.
    """
    n = values.shape[-1]
    lower, upper = (values.kthvalue(k, dim=-1).values for k in ((n + 1) // 2, n // 2 + 1))
    return (lower + upper) / 2


def require_same_ids(ids: Mapping[str, Sequence[Any]]) -> None:
    """Raises if two sets of features are of different samples, or in a different order.

    Args:
        ids: name -> the ids of its samples.

    Raises:
        UsageError: naming the first row that differs.
    """
    names = list(ids)
    for name in names[1:]:
        first, other = list(ids[names[0]]), list(ids[name])
        if first == other:
            continue
        if len(first) != len(other):
            raise UsageError(
                "the features are not of the same samples",
                got=f"{len(first)} ids of {names[0]}, {len(other)} of {name}",
                want="the same ids in the same order",
            )
        at = next(i for i, (a, b) in enumerate(zip(first, other, strict=True)) if a != b)
        same = sorted(map(str, first)) == sorted(map(str, other))
        raise UsageError(
            f"the samples of {names[0]} and {name} stand in another order"
            if same
            else f"{names[0]} and {name} are of other samples",
            got=f"{first[at]} and {other[at]} in row {at}",
            want="the same ids in the same order",
        )


def is_constant(centred_x: Float[Tensor, "n d"], scale: float = 0.0) -> bool:
    """Whether centred features are 0 up to rounding, given the largest value before centring."""
    largest = float(centred_x.abs().max()) if centred_x.numel() else 0.0
    return largest <= 1e-12 * max(scale, 1e-300)


def unit_rows(x: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
    """Rows of length one; a row of zeros stays zero."""
    length = torch.linalg.vector_norm(x, dim=1, keepdim=True)
    return torch.where(length > 0, x / length.clamp_min(1e-300), torch.zeros_like(x))


def in_sample_axes(x: Float[Tensor, "n d"]) -> Float[Tensor, "n r"]:
    """The same points in axes of which there are at most n: distances and products are kept."""
    if x.shape[1] <= len(x):
        return x
    u, s, _ = torch.linalg.svd(x, full_matrices=False)
    return u * s
