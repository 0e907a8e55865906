"""Checks of the data before any metric is computed: each finding is one line.

Pure functions of features, groups and texts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

import torch

from encoderlab.core.results import Result
from encoderlab.metrics.coral import effective_rank
from encoderlab.metrics.matrix import Matrix, centre, matrix, unit_rows

FEW_SAMPLES = 100
HIGH_COSINE = 0.95
HIGH_COSINE_COMPUTED = 0.98  # of features that were only computed in 16 bits
DUPLICATE_COSINE = 0.9999
BITS_16 = {"float16": torch.float16, "bfloat16": torch.bfloat16}


@dataclass(frozen=True)
class Finding(Result):
    """One line for the top of a result.

    Args:
        what: the finding.
        serious: whether a number may be wrong because of it.
    """

    what: str
    serious: bool = False


def preflight(
    features: Mapping[str, Matrix],
    *,
    texts: Sequence[str] | None = None,
    groups: Sequence[Hashable] | None = None,
    computed_in: str | None = None,
) -> list[Finding]:
    """Checks features, groups and texts.

    Args:
        features: model -> (n, d), row i of each of sample i.
        texts: the captions.
        groups: the image of each sample. `features` and `texts` then have one row per image.
        computed_in: the number format of the models, such as "bfloat16".

    Returns:
        The findings; empty if there are none.

    Raises:
        UsageError: a value that is not finite, naming the model and the row.
    """
    findings: list[Finding] = []

    def add(what: str, serious: bool = False) -> None:
        findings.append(Finding(what, serious))

    n = len(next(iter(features.values()))) if features else 0
    if n < FEW_SAMPLES:
        add(
            f"{n} samples: intervals are wide; a hundred or more tell encoders apart that "
            "differ by a tenth",
            n < 30,
        )
    if groups is not None and (images := len(set(groups))) < len(groups):
        add(
            f"{len(groups)} samples of {images} images: the samples of one image count as one, "
            "with all their texts"
        )
    if texts is not None and (distinct := len(set(texts))) < len(texts):
        text, times = Counter(texts).most_common(1)[0]
        text = text if len(text) <= 40 else text[:39] + "…"
        add(
            f"{len(texts) - distinct} of {n} texts repeat another word for word (most often, "
            f"{times} times: {text!r}): each is right for every image that has it, and intervals "
            "and p take these images as independent",
            distinct < len(texts) / 2,
        )
    for name, x in features.items():
        findings += _of_model(name, x, computed_in)
    wide = [f"{name} {x.shape[1]}" for name, x in features.items() if x.shape[1] > n]
    if wide:
        add(
            f"fewer samples ({n}) than dimensions ({', '.join(wide)}): biased CKA is near 1 for "
            "anything; read the debiased one"
        )
    return findings


def _of_model(name: str, x: Matrix, computed_in: str | None) -> list[Finding]:
    owner = f"the features of {name}"
    offset, constant = centre(x, owner)
    if not len(offset):
        return []
    if constant:
        return [Finding(f"{owner} are the same for every sample: no metric is defined", True)]
    findings = []
    unit = unit_rows(matrix(x, owner))
    n = len(unit)
    cosine = float((unit.sum(dim=0).square().sum() - n) / max(n * (n - 1), 1))
    if cosine > HIGH_COSINE:
        # Features computed in 16 bits are averaged before they are stored, which reduces rounding.
        rounded = torch.as_tensor(x).dtype in BITS_16.values() or (
            computed_in in BITS_16 and cosine > HIGH_COSINE_COMPUTED
        )
        advice = ": in 16 bits much of their difference is rounding; try --dtype float32"
        findings.append(
            Finding(
                f"{owner} are anisotropic (mean cosine {cosine:.3f}){advice if rounded else ''}",
                rounded,
            )
        )
    rank = effective_rank(x)
    if n > 2 and rank < 3:
        findings.append(Finding(f"{owner} vary in few directions (effective rank {rank:.1f})"))
    duplicates = _duplicates(unit)
    if duplicates:
        look = "sample looks" if duplicates == 1 else "samples look"
        findings.append(
            Finding(
                f"{duplicates} {look} like another one to {name} "
                f"(cosine above {DUPLICATE_COSINE:g})"
            )
        )
    return findings


def _duplicates(unit: torch.Tensor) -> int:
    """The number of rows that nearly equal an earlier row, after subtracting the mean row."""
    offset = unit_rows(unit - unit.mean(dim=0))
    count = 0
    for start in range(0, len(offset), 2048):
        cosine = offset[start : start + 2048] @ offset.T
        count += int((cosine > DUPLICATE_COSINE).tril(start - 1).any(dim=1).sum())
    return count
