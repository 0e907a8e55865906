"""Every method that is compared, by name: what it is in words, and how one is made."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from encoderlab.compress.contract import Method
from encoderlab.compress.linear import BlockPCA, TokenPCA
from encoderlab.compress.merging import KMeans, ToMe
from encoderlab.compress.pooling import (
    AveragePooling,
    Bilinear,
    CLSAttention,
    Diverse,
    Random,
    RandomInWindow,
    Strided,
)
from encoderlab.compress.smaller_image import SmallerImage
from encoderlab.encoders.vision import VisionEncoder
from encoderlab.errors import unknown
from encoderlab.models.token_grid import Grid, divides

SEEDS = 5


@dataclass(frozen=True)
class Baseline:
    """A method that is there without training a network.

    Args:
        words: what it does.
        make: one instance, or one for each seed of a random method.
        fitted: whether it is fitted on tokens first: a bound, not a method without training.
    """

    name: str
    words: str
    make: Callable[[], Sequence[Method]]
    fitted: bool = False


def _one(method: Callable[[], Method]) -> Callable[[], Sequence[Method]]:
    return lambda: [method()]


BASELINES = {
    one.name: one
    for one in (
        Baseline("average", "the mean of each window", _one(AveragePooling)),
        Baseline("bilinear", "bilinear interpolation down and up", _one(Bilinear)),
        Baseline("strided", "the middle token of each window", _one(Strided)),
        Baseline("random", "any tokens, five draws", lambda: [Random(s) for s in range(SEEDS)]),
        Baseline(
            "random_in_window", "any token of each window, five draws",
            lambda: [RandomInWindow(s) for s in range(SEEDS)],
        ),
        Baseline("cls_attention", "what CLS looks at most", _one(CLSAttention)),
        Baseline("diverse", "tokens far from one another", _one(Diverse)),
        Baseline("kmeans", "the means of clusters of like tokens", _one(KMeans)),
        Baseline("tome", "like tokens merged, split by parity", _one(ToMe)),
        Baseline(
            "tome_checkerboard", "like tokens merged, checkerboard split",
            _one(lambda: ToMe("checkerboard")),
        ),
        Baseline("token_pca", "the best mixing of places", _one(TokenPCA), fitted=True),
        Baseline("block_pca", "the best linear map of windows", _one(BlockPCA), fitted=True),
    )
}  # fmt: skip
SMALLER_IMAGE = "smaller_image"
NAMES = (*BASELINES, SMALLER_IMAGE)


def check(names: Sequence[str]) -> None:
    """Refuses what is no method.

    Raises:
        UsageError: an unknown name.
    """
    for name in names:
        if name not in NAMES:
            raise unknown("method", name, NAMES, "encoderlab ls methods")


def instances(
    name: str,
    encoder: VisionEncoder,
    layer: int,
    fit: Float[Tensor, "m n c"],
    grid: Grid,
    budgets: Sequence[Grid],
) -> Sequence[Method]:
    """One method ready to use, or its seeds.

    Args:
        fit: tokens of other images, for the fitted ones.

    Raises:
        UsageError: an unknown name.
    """
    if name == SMALLER_IMAGE:
        return [SmallerImage(encoder, layer)]
    check([name])
    made = BASELINES[name].make()
    for method in made:
        if isinstance(method, TokenPCA):
            method.fit(fit)
        elif isinstance(method, BlockPCA):
            for budget in budgets:
                if divides(grid, budget):
                    method.fit(fit, grid, budget)
    return made


def words_of(name: str) -> str:
    """What a method does."""
    if name == SMALLER_IMAGE:
        return "the encoder on a smaller image"
    return BASELINES[name].words if name in BASELINES else "a trained compressor"


def is_training_free(name: str) -> bool:
    """Whether nothing was fitted or trained for it."""
    return name == SMALLER_IMAGE or (name in BASELINES and not BASELINES[name].fitted)
