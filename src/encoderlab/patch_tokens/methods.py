"""The token reduction methods: what each does, and the class that does it. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from encoderlab.core import extensions
from encoderlab.core.commands import load

if TYPE_CHECKING:
    from encoderlab.patch_tokens.reducer import TokenReducer


@dataclass(frozen=True)
class Method:
    """A row of `METHODS`.

    Args:
        meaning: what it does, in a few words.
        made_by: "module:class" of a `TokenReducer`; empty where the encoder runs again, or the
            method acts inside the LLM.
        options: arguments of the class.
        draws: how many seeds are compared together, for a random method; 0 for any other.
    """

    meaning: str
    made_by: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    draws: int = 0


_POOLING = "encoderlab.patch_tokens.pooling:"
_MERGING = "encoderlab.patch_tokens.merging:"
_PRUNING = "encoderlab.patch_tokens.pruning:"
_LINEAR = "encoderlab.patch_tokens.linear:"

# Every method that `compress evaluate` compares, beside trained compressors.
METHODS = {
    "average": Method("the mean of each window", _POOLING + "AveragePooling"),
    "bilinear": Method("bilinear interpolation down and up", _POOLING + "Bilinear"),
    "dct": Method("the lowest frequencies (DCT)", _POOLING + "DCT"),
    "pixel_shuffle": Method(
        "the tokens of a window side by side: as many times the channels, nothing lost",
        _POOLING + "PixelShuffle",
    ),
    "strided": Method("the middle token of each window", _POOLING + "Strided"),
    "random": Method("any tokens, five draws", _POOLING + "Random", draws=5),
    "random_in_window": Method(
        "any token of each window, five draws", _POOLING + "RandomInWindow", draws=5
    ),
    "cls_attention": Method(
        "what CLS looks at most, or without CLS all patches", _POOLING + "CLSAttention"
    ),
    "diverse": Method("tokens far from one another (farthest points)", _POOLING + "Diverse"),
    "dpp": Method("tokens that span the largest volume (DPP)", _PRUNING + "DPP"),
    "cdpruner": Method("a DPP weighted by the question (CDPruner)", _PRUNING + "CDPruner"),
    "vispruner": Method(
        "half by attention, half without duplicates (VisPruner)", _PRUNING + "VisPruner"
    ),
    "visionzip": Method(
        "most by attention, the others merged by their keys (VisionZip)", _MERGING + "VisionZip"
    ),
    "apet": Method(
        "what few other tokens can express, the others merged (ApET)", _MERGING + "ApET"
    ),
    "kmeans": Method("the means of clusters of like tokens", _MERGING + "KMeans"),
    "tome": Method("like tokens merged, split by parity (ToMe)", _MERGING + "ToMe"),
    "tome_checkerboard": Method(
        "like tokens merged, checkerboard split", _MERGING + "ToMe", {"split": "checkerboard"}
    ),
    "token_pca": Method("the best mixing of places, fitted", _LINEAR + "TokenPCA"),
    "block_pca": Method("the best linear map of windows, fitted", _LINEAR + "BlockPCA"),
    "smaller_image": Method("the encoder on a smaller image"),
    "fastv": Method("drops image tokens inside the LLM (FastV); answers only"),
}


def register(name: str, method: Method) -> None:
    """Adds a method, for `compress evaluate`, `compress show` and `encoderlab ls methods`.

    Args:
        name: its key in `METHODS` and in run.json.
        method: its description, with `made_by`.

    Raises:
        UsageError: the name is taken.
    """
    extensions.add(METHODS, "a token reduction method", name, method)


def meaning_of(name: str) -> str:
    """What a method does, in a few words; names that are no row are trained compressors."""
    return METHODS[name].meaning if name in METHODS else "a trained compressor"


def reducers(name: str) -> list[TokenReducer]:
    """One instance of a method that needs no encoder, not fitted; of a random one, one per seed."""
    method = METHODS[name]
    make = load(method.made_by)
    seeds: list[dict[str, Any]] = [{"seed": seed} for seed in range(method.draws)]
    return [make(**method.options, **seed) for seed in seeds or [{}]]


def is_fitted(name: str) -> bool:
    """Whether a method is fitted on tokens before it is used."""
    return bool(METHODS[name].made_by and load(METHODS[name].made_by).trained)
