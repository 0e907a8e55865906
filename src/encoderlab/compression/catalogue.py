"""Builds the methods of `patch_tokens/methods.py` by name."""

from __future__ import annotations

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor

from encoderlab.compression.smaller_image import SmallerImage
from encoderlab.core.commands import load
from encoderlab.encoders.vision import VisionEncoder
from encoderlab.errors import UsageError, unknown
from encoderlab.models.token_grid import Grid, divides
from encoderlab.patch_tokens.linear import BlockPCA, TokenPCA
from encoderlab.patch_tokens.methods import METHODS, is_fitted, reducers
from encoderlab.patch_tokens.reducer import TokenReducer

# What every method is compared with: they stand in every table.
REFERENCES = ("random", "average", "smaller_image", "pixel_shuffle")


def with_references(names: Sequence[str], grid: Grid, budgets: Sequence[Grid]) -> list[str]:
    """The methods to measure: those named, all if none is, and the references that exist.

    Args:
        names: of methods.
        grid: (rows, columns) of the tokens.
        budgets: (rows, columns) to measure at; pixel_shuffle needs one that divides the grid.

    Returns:
        Names without repetition, the named ones first.
    """
    references = [name for name in REFERENCES if name in METHODS]
    if not any(divides(grid, budget) for budget in budgets):
        references = [name for name in references if name != "pixel_shuffle"]
    return list(dict.fromkeys([*(names or METHODS), *references]))


def check(names: Sequence[str], answered: bool = False) -> None:
    """Raises for an unknown method, and for one that needs a VLM if there is none."""
    for name in names:
        if name not in METHODS:
            raise unknown("method", name, METHODS, "encoderlab ls methods")
        if not answered and needs_answers(name):
            raise UsageError(
                f"{name} needs questions to a VLM",
                got="none",
                want="compress evaluate --answers tiny-vlm, or another method",
            )


def needs_answers(name: str) -> bool:
    """Whether a method reads the question or acts inside the LLM, so that it has answers alone."""
    made_by = METHODS[name].made_by
    if not made_by:
        return name != SmallerImage.name
    return "text" in load(made_by).needs


def instances(
    name: str,
    encoder: VisionEncoder,
    layer: int,
    fit: Float[Tensor, "m n c"],
    grid: Grid,
    budgets: Sequence[Grid],
) -> Sequence[TokenReducer]:
    """Builds and fits one method.

    Args:
        name: of the method.
        encoder: for the method that runs the encoder again.
        layer: hidden state of the tokens.
        fit: tokens of other images, for fitted methods.
        grid: (rows, columns) of the tokens.
        budgets: all grids that it has to give.

    Returns:
        One method, or one for each seed of a random method.

    Raises:
        UsageError: an unknown name.
    """
    check([name], answered=True)
    if name == SmallerImage.name:
        return [SmallerImage(encoder, layer)]
    methods = reducers(name)
    for method in methods:
        if isinstance(method, TokenPCA):
            method.fit(fit)
        elif isinstance(method, BlockPCA):
            for budget in budgets:
                if divides(grid, budget):
                    method.fit(fit, grid, budget)
    return methods


def is_training_free(name: str) -> bool:
    """Whether a method is neither fitted nor trained."""
    return name in METHODS and not is_fitted(name)
