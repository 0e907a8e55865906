"""The tokens of one image before and after compression, method by method. Orchestration only."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from encoderlab.compression.settings import Compress
from encoderlab.core.results import Block, Table, as_text
from encoderlab.errors import UsageError
from encoderlab.patch_tokens.methods import METHODS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

SHOWN = ("average", "cls_attention", "kmeans", "tome")


@dataclass(frozen=True)
class CompressPictureResult:
    """What each method makes of one image's tokens.

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

    def to_json(self) -> dict[str, Any]:
        """Plain values for run.json."""
        return dict(vars(self))

    def blocks(self) -> list[Block]:
        """The answer as paragraphs and tables, in reading order."""
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
        said = f"{self.image}: {self.grid[0]} x {self.grid[1]} tokens of {self.model}, layer " \
               f"{self.layer}"  # fmt: skip
        left = [f"left out: {name}: {why}" for name, why in self.refused.items()]
        return [said, table, *(["\n".join(left)] if left else [])]

    def to_text(self) -> str:
        """The table that the terminal shows."""
        return as_text(self.blocks())


def show(settings: Compress, out: Path | None) -> CompressPictureResult:
    """Compresses one image's tokens to every budget; writes figures to `out` if given.

    Raises:
        MissingError: the image, a model, a compressor or a GPU are not there.
        UsageError: a file that is no image, a method that needs other images, or a wrong grid.
    """
    from encoderlab.compression import catalogue
    from encoderlab.compression.evaluate import compressors_for
    from encoderlab.compression.token_set import TokenSet
    from encoderlab.data.folder import image_files
    from encoderlab.encoders.layers import layer_numbers
    from encoderlab.encoders.vision import load_vision
    from encoderlab.models.token_grid import check_grids

    model, hardware, chosen = settings.model, settings.hardware, settings.evaluation
    catalogue.check(chosen.methods)
    fitted = [name for name in chosen.methods if name in catalogue.FITTED]
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
    image = _opened(file)
    encoder = load_vision(
        model.name,
        hardware.device_name,
        hardware.dtype,
        trust_remote_code=settings.trust_remote_code,
    )
    (layer,) = layer_numbers([model.layer], encoder.n_layers)
    budgets = [(side, side) for side in dict.fromkeys(chosen.grids)]
    for budget in budgets:
        check_grids(encoder.grid, budget)
    seen = TokenSet.of(encoder, [image], layer)
    trained = compressors_for(chosen.compressors, encoder, layer, budgets)
    rows: list[dict[str, Any]] = []
    rebuilt: dict[tuple[str, tuple[int, int]], Tensor] = {}
    refused: dict[str, str] = {}
    for budget in budgets:
        for name in [*trained, *(chosen.methods or SHOWN)]:
            able: Sequence[Any] = [one for one in trained.get(name, ()) if budget in one.budgets]
            if name not in trained:
                # Several of one method differ in their seed: the first stands for all.
                able = catalogue.instances(
                    name, encoder, layer, seen.tokens, encoder.grid, budgets
                )[:1]
            try:
                for method in able:
                    kept = method.compress(seen.tokens, encoder.grid, budget, seen.side)
                    decoded = method.decode(kept, encoder.grid)
                    rebuilt[name, budget] = decoded
                    rows.append(_row(name, budget, seen.tokens, decoded))
            except UsageError as error:
                refused[f"{name}, {budget[0]} x {budget[1]}"] = str(error)
    result = CompressPictureResult(
        str(file), encoder.name, encoder.fingerprint, *encoder.where, layer, encoder.grid,
        tuple(rows), refused,
    )  # fmt: skip
    if out is None or not rebuilt:
        return result
    return replace(result, figures=_draw(out, seen, rebuilt, encoder.grid))


def _opened(file: Path) -> Any:
    from encoderlab.data.decode import ImageError, open_image

    try:
        return open_image(file)
    except ImageError as error:
        raise UsageError("the image cannot be read", got=f"{file}: {error.reason}") from error


def _row(name: str, budget: tuple[int, int], tokens: Tensor, decoded: Tensor) -> dict[str, Any]:
    import torch.nn.functional as F

    from encoderlab.patch_tokens.reducer import normalised_error

    return {
        "method": name,
        "words": METHODS.get(name, "a trained compressor"),
        "budget": list(budget),
        "tokens": budget[0] * budget[1],
        "nmse": normalised_error(tokens, decoded),
        "cosine": float(F.cosine_similarity(decoded, tokens, dim=-1).double().mean()),
    }


def _draw(
    out: Path,
    seen: Any,
    rebuilt: dict[tuple[str, tuple[int, int]], Tensor],
    grid: tuple[int, int],
) -> tuple[dict[str, str], ...]:
    from encoderlab.compression import plots as plots
    from encoderlab.plots.style import save

    images = seen.side.pixels.permute(0, 2, 3, 1).numpy()
    full = seen.tokens.numpy()
    drawn = []
    for budget in dict.fromkeys(budget for _, budget in rebuilt):
        here = {name: one.numpy() for (name, b), one in rebuilt.items() if b == budget}
        figure = plots.token_pictures(images, full, here, grid, budget)
        drawn.append(replace(figure, name=f"tokens_{budget[0]}x{budget[1]}"))
    maps = {key: (one - seen.tokens).square().sum(dim=-1).numpy() for key, one in rebuilt.items()}
    methods = list(dict.fromkeys(name for name, _ in rebuilt))
    return save([*drawn, plots.loss_map(images, maps, methods, grid)], out)
