"""Compresses the tokens of one image with several methods. Orchestration only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from encoderlab.compression import catalogue, plots
from encoderlab.compression.evaluate import prepare
from encoderlab.compression.settings import Compress
from encoderlab.compression.token_set import TokenSet
from encoderlab.core.results import Block, Result, Table
from encoderlab.data.decode import ImageError, open_image
from encoderlab.data.folder import image_files
from encoderlab.errors import UsageError
from encoderlab.models.token_grid import Grid
from encoderlab.patch_tokens.methods import is_fitted, meaning_of
from encoderlab.patch_tokens.reducer import normalised_error
from encoderlab.plots.style import save

SHOWN = ("average", "cls_attention", "kmeans", "tome")


@dataclass(frozen=True)
class CompressPictureResult(Result):
    """One image's tokens, reduced and reconstructed by each method.

    Args:
        rows: method, budget, tokens kept, normalised error and mean cosine of the rebuilt tokens.
        refused: method and budget -> why it is left out.
    """

    image: str
    model: str
    fingerprint: str
    device: str
    dtype: str
    layer: int
    grid: tuple[int, int]
    rows: tuple[dict[str, Any], ...]
    refused: dict[str, str]
    figures: tuple[dict[str, str], ...] = ()
    warnings: tuple[str, ...] = ()

    def blocks(self) -> list[Block]:
        """The result as paragraphs and tables, in reading order."""
        whole = self.grid[0] * self.grid[1]
        table = Table(
            ("method", "tokens", "error", "cosine", "what it does"),
            tuple(
                (
                    row["method"], f"{row['tokens']} of {whole}", f"{row['nmse']:.3f}",
                    f"{row['cosine']:.3f}", row["words"],
                )
                for row in self.rows
            ),
            said=("error: squared error over the variance of this image's tokens; 0 lossless, 1 "
                  "the mean token everywhere",),
        )  # fmt: skip
        grid = f"{self.grid[0]} x {self.grid[1]}"
        about = f"{self.image}: {grid} tokens of {self.model}, layer {self.layer}"
        refused = [f"left out: {name}: {why}" for name, why in self.refused.items()]
        return [about, table, *(["\n".join(refused)] if refused else [])]


def show(settings: Compress, out: Path | None) -> CompressPictureResult:
    """Compresses one image's tokens to every budget; draws in `out`, unless it is None."""
    chosen = settings.evaluation
    catalogue.check(chosen.methods)
    fitted = [name for name in chosen.methods if is_fitted(name)]
    if fitted:
        raise UsageError(
            "one image is not enough to fit this method on",
            got=fitted[0],
            want="a method without fitting, or encoderlab compress evaluate",
        )
    (file, *more), _ = image_files(settings.picture.image)
    if more:
        raise UsageError(
            "one image is shown at a time", got=settings.picture.image, want="one image file"
        )
    try:
        image = open_image(file)
    except ImageError as error:
        raise UsageError("the image cannot be read", got=f"{file}: {error.reason}") from error
    encoder, layer, budgets, trained = prepare(settings)
    # What is named is what is shown: of methods and compressors those that are not named are out.
    names = [*chosen.methods] if chosen.methods or chosen.compressors else [*SHOWN]
    if chosen.compressors or not chosen.methods:
        names = [*trained, *names]
    full = TokenSet.of(encoder, [image], layer)
    rows: list[dict[str, Any]] = []
    rebuilt: dict[tuple[str, Grid], Tensor] = {}
    refused: dict[str, str] = {}
    for budget in budgets:
        for name in names:
            able: Sequence[Any] = trained.get(name, ())
            if name in trained:
                # Without one for this budget, the last says so.
                able = [c for c in able if budget in c.budgets] or able[-1:]
            else:
                # The instances of one method differ in their seed: the first is enough.
                able = catalogue.instances(
                    name, encoder, layer, full.tokens, encoder.grid, budgets
                )[:1]
            try:
                for method in able:
                    kept = method.compress(full.tokens, encoder.grid, budget, full.side)
                    decoded = method.decode(kept, encoder.grid)
                    rebuilt[name, budget] = decoded
                    rows.append(_row(name, budget, full.tokens, decoded))
            except UsageError as error:
                refused[f"{name}, {budget[0]} x {budget[1]}"] = str(error)
    result = CompressPictureResult(
        str(file), encoder.name, encoder.fingerprint, *encoder.where, layer, encoder.grid,
        tuple(rows), refused,
    )  # fmt: skip
    if out is None or not rebuilt:
        return result
    return replace(result, figures=_draw(out, full, rebuilt, encoder.grid))


def _row(name: str, budget: Grid, tokens: Tensor, decoded: Tensor) -> dict[str, Any]:
    return {
        "method": name,
        "words": meaning_of(name),
        "budget": list(budget),
        "tokens": budget[0] * budget[1],
        "nmse": normalised_error(tokens, decoded),
        "cosine": float(F.cosine_similarity(decoded, tokens, dim=-1).double().mean()),
    }


def _draw(
    out: Path, full: TokenSet, rebuilt: dict[tuple[str, Grid], Tensor], grid: Grid
) -> tuple[dict[str, str], ...]:
    assert full.side.pixels is not None
    images = full.side.pixels.permute(0, 2, 3, 1).numpy()
    drawn = []
    for budget in dict.fromkeys(budget for _, budget in rebuilt):
        here = {name: tokens.numpy() for (name, b), tokens in rebuilt.items() if b == budget}
        figure = plots.token_pictures(images, full.tokens.numpy(), here, grid, budget)
        drawn.append(replace(figure, name=f"tokens_{budget[0]}x{budget[1]}"))
    maps = {key: (x - full.tokens).square().sum(dim=-1).numpy() for key, x in rebuilt.items()}
    methods = list(dict.fromkeys(name for name, _ in rebuilt))
    # About the mean token of the image, as `normalised_error`.
    around = full.tokens - full.mean_token
    variance = float(around.square().sum(dim=-1).mean())
    return save([*drawn, plots.loss_map(images, maps, variance, methods, grid)], out)
