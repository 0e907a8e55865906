"""What to know about the data before believing any number: each finding in one line.

Pure functions of features, ids and texts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from encoderlab.metrics.coral import effective_rank
from encoderlab.metrics.matrix import Matrix, is_constant, matrix, unit_rows

FEW = 100
HIGH_COSINE = 0.95
NARROW_CONE = 0.98
NEARLY = 0.9999
FEW_BITS = (torch.float16, torch.bfloat16)
FEW_BITS_NAMES = ("float16", "bfloat16")


@dataclass(frozen=True)
class Finding:
    """One line for the top of a result; `serious`: a number below may be wrong because of it."""

    what: str
    serious: bool = False

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return dict(vars(self))


def preflight(
    features: Mapping[str, Matrix],
    *,
    texts: Sequence[str] | None = None,
    groups: Sequence[Hashable] | None = None,
    computed_in: str | None = None,
) -> list[Finding]:
    """Findings about features (n, d) by model, row i of each of sample i.

    Args:
        texts: the captions.
        groups: which image each sample shows. `features` and `texts` then have one row per image.
        computed_in: the number format of the models, such as "bfloat16".

    Raises:
        UsageError: a value that is not finite, naming the model and the row.
    """
    found: list[Finding] = []
    n = len(next(iter(features.values()))) if features else 0
    if n < FEW:
        found.append(
            Finding(
                f"{n} samples: intervals are wide; a hundred or more tell encoders apart that "
                "differ by a tenth",
                serious=n < 30,
            )
        )
    if groups is not None:
        images = len(set(groups))
        if images < len(groups):
            found.append(
                Finding(
                    f"{len(groups)} samples of {images} images: the samples of one image count as "
                    "one, with all their texts"
                )
            )
    if texts is not None:
        common, times = Counter(texts).most_common(1)[0] if texts else ("", 0)
        distinct = len(set(texts))
        repeated = len(texts) - distinct
        if repeated:
            found.append(
                Finding(
                    f"{repeated} of {n} texts repeat another word for word (most often, "
                    f"{times} times: {_short(common)!r}): each is right for every image that has "
                    "it, and intervals and p take these images as independent",
                    serious=distinct < len(texts) / 2,
                )
            )
    for name, x in features.items():
        found += _of_model(name, x, computed_in)
    wide = {name: x.shape[1] for name, x in features.items() if x.shape[1] > n}
    if wide:
        names = ", ".join(f"{name} {d}" for name, d in wide.items())
        found.append(
            Finding(
                f"fewer samples ({n}) than dimensions ({names}): biased CKA is near 1 for "
                "anything; read the debiased one"
            )
        )
    return found


def _of_model(name: str, x: Matrix, computed_in: str | None) -> list[Finding]:
    checked = matrix(x, f"the features of {name}")
    if not len(checked):
        return []
    if is_constant(checked - checked.mean(dim=0), float(checked.abs().max())):
        return [
            Finding(
                f"the features of {name} are the same for every sample: no metric is defined", True
            )
        ]
    found = []
    unit = unit_rows(checked)
    n = len(unit)
    cosine = float((unit.sum(dim=0).square().sum() - n) / max(n * (n - 1), 1))
    if cosine > HIGH_COSINE:
        stored_in_16 = torch.as_tensor(x).dtype in FEW_BITS
        # Forward passes in 16 bits are averaged before they are stored: it takes more to matter.
        few_bits = stored_in_16 or (computed_in in FEW_BITS_NAMES and cosine > NARROW_CONE)
        found.append(
            Finding(
                f"the features of {name} point all one way (mean cosine {cosine:.3f})"
                + (
                    ": in 16 bits much of their difference is rounding; try --dtype float32"
                    if few_bits
                    else ""
                ),
                serious=few_bits,
            )
        )
    rank = effective_rank(checked)
    if n > 2 and rank < 3:
        found.append(
            Finding(f"the features of {name} vary in few directions (effective rank {rank:.1f})")
        )
    equal = _nearly_equal(unit)
    if equal:
        look = "sample looks" if equal == 1 else "samples look"
        found.append(
            Finding(f"{equal} {look} like another one to {name} (cosine above {NEARLY:g})")
        )
    return found


def _nearly_equal(unit: torch.Tensor) -> int:
    """How many rows have an earlier row that is nearly the same, about the common direction."""
    offset = unit_rows(unit - unit.mean(dim=0))
    count = 0
    for start in range(0, len(offset), 2048):
        rows = offset[start : start + 2048]
        cosine = rows @ offset.T
        before = (
            torch.arange(len(offset))[None, :] < torch.arange(start, start + len(rows))[:, None]
        )
        count += int(((cosine > NEARLY) & before.to(cosine.device)).any(dim=1).sum())
    return count


def _short(text: str, most: int = 40) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"
