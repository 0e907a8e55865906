"""Every method that is compared, by its name in settings/compress.py, and how one is made."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from jaxtyping import Float
from torch import Tensor

from encoderlab.compression.smaller_image import SmallerImage
from encoderlab.encoders.vision import VisionEncoder
from encoderlab.errors import unknown
from encoderlab.models.token_grid import Grid, divides
from encoderlab.patch_tokens.linear import BlockPCA, TokenPCA
from encoderlab.patch_tokens.merging import KMeans, ToMe
from encoderlab.patch_tokens.methods import METHODS
from encoderlab.patch_tokens.pooling import (
    AveragePooling,
    Bilinear,
    CLSAttention,
    Diverse,
    Random,
    RandomInWindow,
    Strided,
)
from encoderlab.patch_tokens.reducer import TokenReducer

SEEDS = 5
# Methods of tokens alone: one instance each, or one for each seed of a random one.
MAKE: dict[str, Callable[[], Sequence[TokenReducer]]] = {
    "average": lambda: [AveragePooling()],
    "bilinear": lambda: [Bilinear()],
    "strided": lambda: [Strided()],
    "random": lambda: [Random(seed) for seed in range(SEEDS)],
    "random_in_window": lambda: [RandomInWindow(seed) for seed in range(SEEDS)],
    "cls_attention": lambda: [CLSAttention()],
    "diverse": lambda: [Diverse()],
    "kmeans": lambda: [KMeans()],
    "tome": lambda: [ToMe()],
    "tome_checkerboard": lambda: [ToMe("checkerboard")],
    "token_pca": lambda: [TokenPCA()],
    "block_pca": lambda: [BlockPCA()],
}
# Bounds: fitted on tokens, so not free of training.
FITTED = ("token_pca", "block_pca")


def check(names: Sequence[str]) -> None:
    """Refuses what is no method.

    Raises:
        UsageError: an unknown name.
    """
    for name in names:
        if name not in METHODS:
            raise unknown("method", name, METHODS, "encoderlab ls methods")


def instances(
    name: str,
    encoder: VisionEncoder,
    layer: int,
    fit: Float[Tensor, "m n c"],
    grid: Grid,
    budgets: Sequence[Grid],
) -> Sequence[TokenReducer]:
    """One method ready to use, or its seeds.

    Args:
        fit: tokens of other images, for the fitted ones.

    Raises:
        UsageError: an unknown name.
    """
    check([name])
    if name not in MAKE:
        return [SmallerImage(encoder, layer)]
    made = MAKE[name]()
    for method in made:
        if isinstance(method, TokenPCA):
            method.fit(fit)
        elif isinstance(method, BlockPCA):
            for budget in budgets:
                if divides(grid, budget):
                    method.fit(fit, grid, budget)
    return made


def is_training_free(name: str) -> bool:
    """Whether nothing was fitted or trained for it."""
    return name in METHODS and name not in FITTED
