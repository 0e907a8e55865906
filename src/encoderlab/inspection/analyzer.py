"""Any encoder's patch tokens, compared with one another: `TokenSimilarityAnalyzer`.

b images, (h, w) grid, d width.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from PIL import Image
from torch import Tensor

from encoderlab.core.commands import load
from encoderlab.data.decode import open_images
from encoderlab.encoders.layers import layer_numbers
from encoderlab.encoders.vision import VisionEncoder, VisionFeatures, load_vision, stack
from encoderlab.errors import UsageError, unknown
from encoderlab.models.clip import Preprocess
from encoderlab.patch_tokens import statistics
from encoderlab.patch_tokens.similarity import (
    METRICS,
    Neighbours,
    against,
    comparable,
    neighbour_mean,
    neighbours,
    patch_against_all,
)

STAGES = {
    "last": "what the tower gives as its patches",
    "normed": "after the final norm",
    "projected": "in the space of the text tower, or of the language model",
}
REFERENCE_IMAGES = 16
# A path, a PIL image, an array or a tensor.
Picture = Any


@dataclass(frozen=True)
class Null:
    """What a similarity is between patches of other images, and their mean token.

    Args:
        mean, sd: of the metric as it is.
        mean_token: (d,).
    """

    mean: float
    sd: float
    mean_token: Tensor


@dataclass(frozen=True)
class SimilarityResult:
    """The maps of one image.

    Cell [i, j] of `horizontal_right` compares patch (i, j) with (i, j + 1), of `vertical_down` with
    (i + 1, j), of `cls_similarity` with CLS.

    Args:
        grid: (h, w), how many patches there are from top to bottom and from left to right.
        stage: where the tokens were taken, in words: "hidden 3 of 4", "after the final norm".
        anchor: what stands for CLS: "CLS", "pooled embedding" where the tower has no CLS, or
            "mean patch" where that has another width.
        tokens: (h, w, d) the tokens themselves.
        unnormed: (h, w, d) the last hidden state before the final norm, for norms; None where the
            family does not give it.
    """

    model: str
    metric: str
    stage: str
    anchor: str
    grid: tuple[int, int]
    tokens: Tensor
    cls_similarity: Float[np.ndarray, "h w"]
    pairs: Neighbours
    null: Null | None = None
    unnormed: Tensor | None = None
    image: Image.Image | None = None
    preprocess: Preprocess | None = None
    source: str = ""
    warnings: tuple[str, ...] = field(default=())

    @property
    def grid_size(self) -> int:
        """Patches a side, of a square grid: f"{result.grid_size}x{result.grid_size}".

        Raises:
            UsageError: a grid that is not square has two numbers: `grid`.
        """
        if self.grid[0] != self.grid[1]:
            raise UsageError(
                "the grid is not square, so it has no single size",
                got=f"{self.grid[0]} x {self.grid[1]} patches",
                want="result.grid, which has both numbers",
            )
        return self.grid[0]

    @property
    def horizontal_right(self) -> Float[np.ndarray, "h w1"]:
        """(H, W - 1): each patch with its right neighbour."""
        return self.pairs.right[0].numpy()

    @property
    def vertical_down(self) -> Float[np.ndarray, "h1 w"]:
        """(H - 1, W): each patch with the one below."""
        return self.pairs.down[0].numpy()

    @property
    def horizontal_left(self) -> Float[np.ndarray, "h w1"]:
        """The same numbers, seen from the right patch: cell [i, j] compares (i, j + 1) with its
        left neighbour."""
        return self.horizontal_right

    @property
    def vertical_up(self) -> Float[np.ndarray, "h1 w"]:
        """The same numbers, seen from the lower patch."""
        return self.vertical_down

    @functools.cached_property
    def view(self) -> Image.Image | None:
        """What of the image the encoder saw, cropped or squashed as it was: what maps lie over."""
        if self.image is None or self.preprocess is None:
            return self.image
        return self.preprocess.view(self.image)

    @functools.cached_property
    def neighbour_mean(self) -> Float[np.ndarray, "h w"]:
        """Each patch with those of its eight neighbours that it has, their mean."""
        return neighbour_mean(self.pairs)[0].numpy()

    @functools.cached_property
    def norms(self) -> Float[np.ndarray, "h w"]:
        """Length of every token before the final norm, where outliers can be seen."""
        source = self.tokens if self.unnormed is None else self.unnormed
        return statistics.norms(source).numpy()

    @functools.cached_property
    def outliers(self) -> Bool[np.ndarray, "h w"]:
        """Tokens so long that they serve as registers."""
        return statistics.outliers(torch.from_numpy(self.norms)).numpy()

    def patch_similarity(self, row: int, column: int) -> Float[np.ndarray, "h w"]:
        """Click a patch: its similarity to all others.

        Raises:
            UsageError: no patch stands there.
        """
        return patch_against_all(comparable(self.tokens, self.metric), row, column).numpy()

    def z_scores(self, values: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
        """Any of the maps between patches, in standard deviations above random pairs of patches
        from other images.

        Raises:
            UsageError: the analysis had no other images.
        """
        null = self._null()
        return (values - null.mean) / max(null.sd, 1e-12)

    @functools.cached_property
    def centred(self) -> SimilarityResult:
        """The same maps of tokens minus the mean token of other images: a cosine with a zero."""
        null = self._null()
        ready = comparable(self.tokens - null.mean_token, "cosine")
        mean = comparable(self.tokens.flatten(0, 1).mean(dim=0) - null.mean_token, "cosine")
        return SimilarityResult(
            self.model, "cosine", f"{self.stage}, mean-centred", "mean patch", self.grid,
            self.tokens - null.mean_token, against(ready[None], mean[None])[0].numpy(),
            neighbours(ready[None]), None, self.unnormed, self.image, self.preprocess, self.source,
            self.warnings,
        )  # fmt: skip

    @functools.cached_property
    def token_budget(self) -> dict[tuple[int, int], float]:
        """The token budget hint: grid -> the normalised error of average pooling to it."""
        return statistics.compressibility(self.tokens)

    def loss_map(self, budget: tuple[int, int]) -> Float[np.ndarray, "h w"]:
        """Where average pooling to `budget` would lose; its mean is the loss.

        Raises:
            UsageError: a budget larger than the grid.
        """
        return statistics.pooling_loss(self.tokens, budget)[1].numpy()

    def budget_for(self, loss: float) -> tuple[int, int]:
        """The smallest grid whose average pooling loses no more than `loss`."""
        return next((g for g, one in self.token_budget.items() if one <= loss + 1e-12), self.grid)

    def statistics(self, without_outliers: bool = False) -> dict[str, float]:
        """One number each: neighbour similarity, CLS similarity, Moran's I, effective rank, the
        loss of halving the grid, outliers.

        Args:
            without_outliers: leaves outlier tokens, and pairs with one, out.
        """
        keep = ~self.outliers if without_outliers else np.ones(self.grid, dtype=bool)
        mask = torch.from_numpy(keep)
        right, down = keep[:, :-1] & keep[:, 1:], keep[:-1] & keep[1:]
        near = np.concatenate([self.horizontal_right[right], self.vertical_down[down]])
        half = tuple(max(1, side // 2) for side in self.grid)
        return {
            "neighbour_similarity": _mean(near),
            "cls_similarity": _mean(self.cls_similarity[keep]),
            "morans_i": statistics.morans_i(self.tokens, mask),
            "effective_rank": statistics.effective_rank(self.tokens, mask),
            "loss_at_half": statistics.pooling_loss(self.tokens, (half[0], half[1]))[0],
            "outliers": float(self.outliers.sum()),
        }

    def by_distance(self) -> tuple[np.ndarray, np.ndarray]:
        """(distance in patches, mean similarity of pairs so far apart)."""
        found = statistics.by_distance(comparable(self.tokens, self.metric))
        return found[0].numpy(), found[1].numpy()

    def arrays(self) -> dict[str, np.ndarray]:
        """The maps under their names."""
        return {
            "grid_size": np.array(self.grid),
            "horizontal_right": self.horizontal_right,
            "vertical_down": self.vertical_down,
            "cls_similarity": self.cls_similarity,
            "neighbour_mean": self.neighbour_mean,
            "norms": self.norms,
            "outliers": self.outliers,
        }

    def _repr_html_(self) -> str:
        """What a notebook shows: the combined figure."""
        return load("encoderlab.inspection.plots:as_html")(self)  # plots imports this module

    def _null(self) -> Null:
        if self.null is None:
            raise UsageError(
                "there are no other images to compare with",
                got=f"one image with {self.model}",
                want="an analyzer with its reference images",
            )
        return self.null


class TokenSimilarityAnalyzer:
    """Compares the patch tokens of images with one another.

    Args:
        model_type: an embedded name, an alias such as "clip-vit-large-patch14", a folder, a hub id.
        device: auto, cpu, cuda, cuda:1, or a number.
        similarity_metric: "cosine" or "dot_product".
        layer: hidden state k instead of the last one, 0 to the number of blocks or negative.
        stage: "last", "normed" or "projected"; see STAGES.
        dtype: the encoder's number format.
        trust_remote_code: whether Python that comes with the checkpoint may run.
        encoder: one that is loaded, in place of `model_type`.

    Raises:
        MissingError: nothing has that name, or the GPU is not there.
        UsageError: an unknown metric, stage or layer, or a stage that the family does not have.
    """

    def __init__(
        self,
        model_type: str = "tiny-clip",
        device: str | int | None = None,
        similarity_metric: str = "cosine",
        *,
        layer: int | None = None,
        stage: str = "last",
        dtype: str = "float32",
        trust_remote_code: bool = False,
        encoder: VisionEncoder | None = None,
    ) -> None:
        if similarity_metric not in METRICS:
            raise unknown(
                "similarity metric", similarity_metric, METRICS, "encoderlab tokens --help"
            )
        if stage not in STAGES:
            raise unknown("stage", stage, STAGES, "encoderlab tokens --help")
        if layer is not None and stage != "last":
            raise UsageError(
                "a layer and a stage after the last layer exclude one another",
                got=f"layer={layer}, stage={stage}",
                want="one of both",
            )
        self.encoder = encoder or load_vision(
            model_type,
            "auto" if device is None else device,
            dtype,
            trust_remote_code=trust_remote_code,
        )
        self.metric, self.stage = similarity_metric, stage
        top = self.encoder.n_layers
        self.layer = None if layer is None else layer_numbers([layer], top)[0]
        self._layers = sorted({top, *(() if self.layer is None else (self.layer,))})

    def analyze(self, image: Picture) -> SimilarityResult:
        """The maps of one image, with the null from other images.

        Args:
            image: a path, a PIL image, an array or a tensor.

        Raises:
            UsageError: something that is no image, or several.
            ImageError: the image cannot be read.
        """
        return self.analyze_batch([_single(image)], [_source(image)])[0]

    def analyze_batch(
        self, images: Picture | Sequence[Picture], sources: Sequence[str] | None = None
    ) -> list[SimilarityResult]:
        """The maps of several images, one pass.

        Args:
            images: one image (path, PIL image, array or tensor) or a list of them.
            sources: what each image is called in its result; None for the paths among them.

        Returns:
            The maps of each image, in order.

        Raises:
            UsageError: no image, or something that is none.
            ImageError: a file that cannot be read.
        """
        given = images if isinstance(images, list | tuple) else [images]
        opened = [(picture, _source(one)) for one in given for picture in open_images(one)]
        if not opened:
            raise UsageError("no image to analyse", got="an empty list", want="at least one")
        pictures = [picture for picture, _ in opened]
        pixels = stack([self.encoder.preprocess.to_bytes(one) for one in pictures])
        named = [source for _, source in opened] if sources is None else sources
        return list(self.of_pixels(pixels, pictures, named, self.null))

    def of_pixels(
        self,
        pixels: UInt8[Tensor, "b 3 height width"],
        images: Sequence[Image.Image] | None = None,
        sources: Sequence[str] | None = None,
        null: Null | None = None,
    ) -> Iterator[SimilarityResult]:
        """The maps of images that `preprocess.to_bytes` has made."""
        tokens, anchor, named, unnormed = self._tokens(pixels)
        ready = comparable(tokens, self.metric)
        found = neighbours(ready)
        to_anchor = against(ready, comparable(anchor, self.metric)).cpu().numpy()
        pairs = Neighbours(*(one.cpu() for one in vars(found).values()))
        tokens = tokens.cpu()
        unnormed = None if unnormed is None else unnormed.cpu()
        warnings = self._warnings()
        for i in range(len(tokens)):
            yield SimilarityResult(
                self.encoder.name,
                self.metric,
                self.stage_in_words,
                named,
                self.encoder.grid,
                tokens[i],
                to_anchor[i],
                Neighbours(*(one[i : i + 1] for one in vars(pairs).values())),
                null,
                None if unnormed is None else unnormed[i],
                None if images is None else images[i],
                self.encoder.preprocess,
                "" if sources is None else sources[i],
                warnings,
            )

    @functools.cached_property
    def null(self) -> Null:
        """From pictures of the synthetic world: what patches of different images have in common."""
        from encoderlab.data.synthetic import generate

        pictures = [generate(i, split="test").image for i in range(REFERENCE_IMAGES)]
        return self.null_from(pictures)

    def null_from(self, images: Sequence[Image.Image]) -> Null:
        """The null from images of one's own, at least two."""
        pixels = stack([self.encoder.preprocess.to_bytes(one) for one in images])
        tokens = self._tokens(pixels)[0].flatten(1, 2)
        which = torch.arange(len(tokens)).repeat_interleave(tokens.shape[1])
        flat = tokens.flatten(0, 1)
        mean, sd = statistics.null_of_pairs(comparable(flat, self.metric), which)
        return Null(mean, sd, flat.float().mean(dim=0).cpu())

    def layer_by_layer(self, image: Picture) -> list[dict[str, float]]:
        """The statistics of every hidden state of one image, the input of the first block first."""
        rows = []
        seen = self.encoder.encode(_single(image), layers=range(self.encoder.n_layers + 1))
        for k, patches in seen.layers.items():
            tokens = self._on_grid(patches)[0].cpu()
            ready = comparable(tokens[None], self.metric)
            found = neighbours(ready)
            near = torch.cat([found.right.flatten(), found.down.flatten()])
            rows.append(
                {
                    "layer": float(k),
                    "neighbour_similarity": float(near.mean()),
                    "morans_i": statistics.morans_i(tokens),
                    "effective_rank": statistics.effective_rank(tokens),
                    "mean_norm": float(statistics.norms(tokens).mean()),
                    "outliers": float(statistics.outliers(statistics.norms(tokens)).sum()),
                }
            )
        return rows

    @property
    def stage_in_words(self) -> str:
        """Where the tokens are taken."""
        if self.layer is not None:
            return f"hidden {self.layer} of {self.encoder.n_layers}"
        return {"last": "last hidden state"}.get(self.stage, STAGES[self.stage])

    @torch.inference_mode()
    def _tokens(
        self, pixels: UInt8[Tensor, "b 3 height width"]
    ) -> tuple[Float[Tensor, "b h w d"], Float[Tensor, "b d"], str, Tensor | None]:
        """(tokens, what stands for CLS, its name, last hidden state before the norm)."""
        encoder = self.encoder
        try:
            seen = encoder.encode_pixels(pixels, layers=self._layers)
            unnormed = self._on_grid(seen.layers[encoder.n_layers])
        except UsageError:
            if self.layer is not None:
                raise
            seen, unnormed = encoder.encode_pixels(pixels), None
        patches, cls = self._at_stage(seen)
        tokens = self._on_grid(patches)
        if cls is not None and cls.shape[-1] == tokens.shape[-1]:
            return tokens, cls.float(), "CLS", unnormed
        if seen.pooled.shape[-1] == tokens.shape[-1] and self.layer is None:
            return tokens, seen.pooled.float(), "pooled embedding", unnormed
        return tokens, tokens.flatten(1, 2).mean(dim=1), "mean patch", unnormed

    def _at_stage(self, seen: VisionFeatures) -> tuple[Tensor, Tensor | None]:
        if self.layer is not None:
            return seen.layers[self.layer], seen.layers_cls.get(self.layer)
        if self.stage == "last":
            return seen.patches, seen.cls
        top = self.encoder.n_layers
        if self.stage == "normed":
            source = seen.layers.get(top)
            normed = None if source is None else self.encoder.final_norm(source)
            if normed is None:
                raise self._lacks("a final norm of its own")
            cls = seen.layers_cls.get(top)
            return normed, None if cls is None else self.encoder.final_norm(cls)
        projected = self.encoder.embed_patches(seen.patches)
        projected = seen.projected if projected is None else projected
        if projected is None:
            raise self._lacks("a projection of patches")
        # CLS, projected, is the pooled embedding.
        return projected, seen.pooled if self.encoder.has_cls else None

    def _lacks(self, what: str) -> UsageError:
        return UsageError(
            f"this family does not have {what}",
            got=f"stage={self.stage} for {self.encoder.name} ({self.encoder.family})",
            want="stage=last, or a layer",
        )

    def _on_grid(self, patches: Float[Tensor, "b n d"]) -> Float[Tensor, "b h w d"]:
        return patches.float().unflatten(1, self.encoder.grid)

    def _warnings(self) -> tuple[str, ...]:
        if self.stage == "projected" or not self.encoder.has_cls:
            return ()
        return (
            "CLS and patches are not trained to align before the projection: a CLS map can show "
            "the opposite of the object",
        )


def _single(image: Picture) -> Image.Image:
    pictures = open_images(image)
    if len(pictures) != 1:
        raise UsageError("not one image", got=f"{len(pictures)} images", want="analyze_batch")
    return pictures[0]


def _source(image: Picture) -> str:
    return str(image) if isinstance(image, Path | str) else ""


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if values.size else float("nan")
