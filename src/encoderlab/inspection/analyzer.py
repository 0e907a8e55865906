"""`TokenSimilarityAnalyzer`: similarity of the patch tokens of any encoder. Draws nothing.

Shapes: b images, (h, w) grid, d width.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
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
    "last": "last hidden state",
    "normed": "after the final norm",
    "projected": "in the space of the text tower, or of the language model",
}
REFERENCE_IMAGES = 16
Picture = Any  # a path, a PIL image, an array or a tensor


@dataclass(frozen=True)
class Null:
    """Similarity between patches of different images.

    Args:
        mean, sd: mean and standard deviation of the metric over random pairs.
        mean_token: (d,) mean of their tokens.
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
        stage: where the tokens were taken: "hidden 3 of 4", "after the final norm".
        anchor: what stands for CLS: "CLS", "pooled embedding" where the tower has no CLS, or
            "mean patch" where that has another width.
        grid: (h, w) patches from top to bottom and from left to right.
        tokens: (h, w, d) the tokens.
        pairs: similarity of each patch to its right and lower neighbours.
        null: similarity between patches of other images; None where there are none.
        unnormed: (h, w, d) last hidden state before the final norm; None where the family does not
            give it.
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
    warnings: tuple[str, ...] = ()

    @property
    def grid_size(self) -> int:
        """Patches per side of a square grid.

        Raises:
            UsageError: the grid is not square; `grid` has both numbers.
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
        """(h, w - 1): each patch with its right neighbour."""
        return self.pairs.right[0].numpy()

    @property
    def vertical_down(self) -> Float[np.ndarray, "h1 w"]:
        """(h - 1, w): each patch with the one below."""
        return self.pairs.down[0].numpy()

    @property
    def horizontal_left(self) -> Float[np.ndarray, "h w1"]:
        """The same values: cell [i, j] compares patch (i, j + 1) with its left neighbour."""
        return self.horizontal_right

    @property
    def vertical_up(self) -> Float[np.ndarray, "h1 w"]:
        """The same values: cell [i, j] compares patch (i + 1, j) with the one above."""
        return self.vertical_down

    @functools.cached_property
    def view(self) -> Image.Image | None:
        """The image as preprocessed (cropped or squashed), which the maps lie over."""
        if self.image is None or self.preprocess is None:
            return self.image
        return self.preprocess.view(self.image)

    @functools.cached_property
    def neighbour_mean(self) -> Float[np.ndarray, "h w"]:
        """Mean similarity of each patch to its neighbours, up to eight."""
        return neighbour_mean(self.pairs)[0].numpy()

    @functools.cached_property
    def norms(self) -> Float[np.ndarray, "h w"]:
        """Norm of every token, before the final norm where that is known."""
        source = self.tokens if self.unnormed is None else self.unnormed
        return statistics.norms(source).numpy()

    @functools.cached_property
    def outliers(self) -> Bool[np.ndarray, "h w"]:
        """Tokens with an outlying norm, which serve as registers."""
        return statistics.outliers(torch.from_numpy(self.norms)).numpy()

    def patch_similarity(self, row: int, column: int) -> Float[np.ndarray, "h w"]:
        """Similarity of one patch to all patches.

        Args:
            row: of the patch, from 0.
            column: of the patch, from 0.

        Returns:
            Similarities in the metric of the analysis; cosines are in [-1, 1].

        Raises:
            UsageError: the grid has no such patch.
        """
        return patch_against_all(comparable(self.tokens, self.metric), row, column).numpy()

    def z_scores(self, values: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
        """A map relative to random pairs of patches from other images.

        Args:
            values: a map of similarities between patches.

        Returns:
            Standard deviations, of the shape of `values`.

        Raises:
            UsageError: the analysis had no other images.
        """
        null = self._require_null()
        return (values - null.mean) / max(null.sd, 1e-12)

    @functools.cached_property
    def centred(self) -> SimilarityResult:
        """The maps of the cosine between tokens minus the mean token of other images.

        Raises:
            UsageError: the analysis had no other images.
        """
        tokens = self.tokens - self._require_null().mean_token
        unit = comparable(tokens, "cosine")
        mean = comparable(tokens.flatten(0, 1).mean(dim=0), "cosine")
        return replace(
            self,
            metric="cosine",
            stage=f"{self.stage}, mean-centred",
            anchor="mean patch",
            tokens=tokens,
            cls_similarity=against(unit[None], mean[None])[0].numpy(),
            pairs=neighbours(unit[None]),
            null=None,
        )

    @functools.cached_property
    def token_budget(self) -> dict[tuple[int, int], float]:
        """Grid -> normalised error of average pooling to it, smallest grid first."""
        return statistics.compressibility(self.tokens)

    def loss_map(self, budget: tuple[int, int]) -> Float[np.ndarray, "h w"]:
        """Error of average pooling at each patch.

        Args:
            budget: (rows, columns) of the pooled grid.

        Returns:
            At least 0; the mean is the loss, variance within windows over all variance.

        Raises:
            UsageError: `budget` is larger than the grid.
        """
        return statistics.pooling_loss(self.tokens, budget)[1].numpy()

    def budget_for(self, loss: float) -> tuple[int, int]:
        """The smallest grid that keeps the loss of average pooling small.

        Args:
            loss: the largest loss that is allowed, from 0 to 1.

        Returns:
            (rows, columns).
        """
        return statistics.smallest_grid(self.token_budget, loss)

    def statistics(self, without_outliers: bool = False) -> dict[str, float]:
        """Summary statistics of the maps.

        Args:
            without_outliers: whether outlier tokens, and pairs with one, are left out.

        Returns:
            Name -> value: neighbour similarity, CLS similarity, Moran's I, effective rank, loss of
            pooling to half the grid, number of outliers.
        """
        keep = ~self.outliers if without_outliers else np.ones(self.grid, dtype=bool)
        mask = torch.from_numpy(keep)
        right, down = keep[:, :-1] & keep[:, 1:], keep[:-1] & keep[1:]
        near = np.concatenate([self.horizontal_right[right], self.vertical_down[down]])
        half = max(1, self.grid[0] // 2), max(1, self.grid[1] // 2)
        return {
            "neighbour_similarity": _mean(near),
            "cls_similarity": _mean(self.cls_similarity[keep]),
            "morans_i": statistics.morans_i(self.tokens, mask),
            "effective_rank": statistics.effective_rank(self.tokens, mask),
            "loss_at_half": statistics.pooling_loss(self.tokens, half)[0],
            "outliers": float(self.outliers.sum()),
        }

    def by_distance(self) -> tuple[np.ndarray, np.ndarray]:
        """Similarity as a function of distance.

        Returns:
            (distances in patches, mean similarity of the pairs at each distance).
        """
        distance, similarity = statistics.by_distance(comparable(self.tokens, self.metric))
        return distance.numpy(), similarity.numpy()

    def arrays(self) -> dict[str, np.ndarray]:
        """All maps.

        Returns:
            Name -> map, as similarities.npz holds them.
        """
        names = ("horizontal_right", "vertical_down", "cls_similarity", "neighbour_mean", "norms",
                 "outliers")  # fmt: skip
        return {"grid_size": np.array(self.grid)} | {name: getattr(self, name) for name in names}

    def _repr_html_(self) -> str:
        """The combined figure, for notebooks."""
        return load("encoderlab.inspection.plots:as_html")(self)  # plots imports this module

    def _require_null(self) -> Null:
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
        model_type: a bundled name, an alias such as "clip-vit-large-patch14", a folder, a hub id.
        device: auto, cpu, cuda, cuda:1, or a number.
        similarity_metric: "cosine" or "dot_product".
        layer: hidden state k instead of the last one, 0 to the number of blocks or negative.
        stage: "last", "normed" or "projected"; see STAGES.
        dtype: the encoder's number format.
        trust_remote_code: whether Python that comes with the checkpoint may run.
        encoder: a loaded encoder, in place of `model_type`.

    Raises:
        MissingError: no model has that name, or the GPU is not there.
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
        """The maps of one image, with the null of other images.

        Args:
            image: a path, a PIL image, an array or a tensor.

        Returns:
            The maps and numbers of the image.

        Raises:
            UsageError: `image` is no image, or several.
            ImageError: the image cannot be read.
        """
        return self.analyze_batch([_single(image)], [_source(image)])[0]

    def analyze_batch(
        self, images: Picture | Sequence[Picture], sources: Sequence[str] | None = None
    ) -> list[SimilarityResult]:
        """The maps of several images, in one forward pass.

        Args:
            images: one image (path, PIL image, array or tensor) or a list of them.
            sources: the name of each image in its result; None for its path, where it has one.

        Returns:
            The maps of each image, in order.

        Raises:
            UsageError: the list is empty, or holds something that is no image.
            ImageError: a file that cannot be read.
        """
        listed = images if isinstance(images, list | tuple) else [images]
        opened = [(image, _source(entry)) for entry in listed for image in open_images(entry)]
        if not opened:
            raise UsageError("no image to analyse", got="an empty list", want="at least one")
        decoded, paths = zip(*opened, strict=True)
        pixels = stack([self.encoder.preprocess.to_bytes(image) for image in decoded])
        return list(self.of_pixels(pixels, decoded, sources or paths, self.null))

    def of_pixels(
        self,
        pixels: UInt8[Tensor, "b 3 height width"],
        images: Sequence[Image.Image] | None = None,
        sources: Sequence[str] | None = None,
        null: Null | None = None,
    ) -> Iterator[SimilarityResult]:
        """The maps of preprocessed images.

        Args:
            pixels: from `encoder.preprocess.to_bytes`.
            images: the decoded images, which the maps are drawn over.
            sources: the name of each image in its result.
            null: from `null` or `null_from`.

        Yields:
            One result per image, in order.
        """
        encoder = self.encoder
        tokens, anchor, anchor_name, unnormed = self._tokens(pixels)
        ready = comparable(tokens, self.metric)
        to_anchor = against(ready, comparable(anchor, self.metric)).cpu().numpy()
        pairs = [directions.cpu() for directions in vars(neighbours(ready)).values()]
        tokens = tokens.cpu()
        unnormed = None if unnormed is None else unnormed.cpu()
        for i in range(len(tokens)):
            yield SimilarityResult(
                encoder.name,
                self.metric,
                self.stage_in_words,
                anchor_name,
                (tokens.shape[1], tokens.shape[2]),
                tokens[i],
                to_anchor[i],
                Neighbours(*(directions[i : i + 1] for directions in pairs)),
                null,
                None if unnormed is None else unnormed[i],
                None if images is None else images[i],
                encoder.preprocess,
                "" if sources is None else sources[i],
                self._warnings(),
            )

    @functools.cached_property
    def null(self) -> Null:
        """The null from images of the synthetic world."""
        from encoderlab.data.synthetic import generate

        return self.null_from([generate(i, split="test").image for i in range(REFERENCE_IMAGES)])

    def null_from(self, images: Sequence[Image.Image]) -> Null:
        """The null of `z_scores`, from other images.

        Args:
            images: at least two, decoded.

        Returns:
            Mean and standard deviation of random pairs of patches from different images.
        """
        pixels = stack([self.encoder.preprocess.to_bytes(image) for image in images])
        tokens = self._tokens(pixels)[0].flatten(1, 2)
        which = torch.arange(len(tokens)).repeat_interleave(tokens.shape[1])
        flat = tokens.flatten(0, 1)
        mean, sd = statistics.null_of_pairs(comparable(flat, self.metric), which)
        return Null(mean, sd, flat.float().mean(dim=0).cpu())

    def layer_by_layer(self, image: Picture) -> list[dict[str, float]]:
        """The statistics of every hidden state of one image.

        Args:
            image: in any form that `analyze` takes.

        Returns:
            Name -> value for each hidden state, the input of the first block first.
        """
        rows = []
        features = self.encoder.encode(_single(image), layers=range(self.encoder.n_layers + 1))
        for k, patches in features.layers.items():
            tokens = self._on_grid(patches)[0].cpu()
            pairs = neighbours(comparable(tokens[None], self.metric))
            near = torch.cat([pairs.right.flatten(), pairs.down.flatten()])
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
        """Where the tokens are taken: "hidden 3 of 4", or the text in STAGES."""
        if self.layer is not None:
            return f"hidden {self.layer} of {self.encoder.n_layers}"
        return STAGES[self.stage]

    @torch.inference_mode()
    def _tokens(
        self, pixels: UInt8[Tensor, "b 3 height width"]
    ) -> tuple[Float[Tensor, "b h w d"], Float[Tensor, "b d"], str, Tensor | None]:
        """(tokens, anchor, its name, last hidden state before the final norm)."""
        encoder = self.encoder
        try:
            features = encoder.encode_pixels(pixels, layers=self._layers)
            unnormed = self._on_grid(features.layers[encoder.n_layers])
        except UsageError:
            if self.layer is not None:
                raise
            features, unnormed = encoder.encode_pixels(pixels), None
        patches, cls = self._at_stage(features)
        grid = features.grid
        if patches is features.projected and features.merge > 1:
            # The projector's tokens have a grid of their own, and no norm goes with them.
            grid, unnormed = features.projected_grids[0], None
        tokens = patches.float().unflatten(1, grid)
        if cls is not None and cls.shape[-1] == tokens.shape[-1]:
            return tokens, cls.float(), "CLS", unnormed
        if features.pooled.shape[-1] == tokens.shape[-1] and self.layer is None:
            return tokens, features.pooled.float(), "pooled embedding", unnormed
        return tokens, tokens.flatten(1, 2).mean(dim=1), "mean patch", unnormed

    def _at_stage(self, features: VisionFeatures) -> tuple[Tensor, Tensor | None]:
        if self.layer is not None:
            return features.layers[self.layer], features.layers_cls.get(self.layer)
        if self.stage == "last":
            return features.patches, features.cls
        top = self.encoder.n_layers
        if self.stage == "normed":
            source = features.layers.get(top)
            normed = None if source is None else self.encoder.final_norm(source)
            if normed is None:
                raise self._lacks("a final norm of its own")
            cls = features.layers_cls.get(top)
            return normed, None if cls is None else self.encoder.final_norm(cls)
        projected = self.encoder.embed_patches(features.patches)
        projected = features.projected if projected is None else projected
        if projected is None:
            raise self._lacks("a projection of patches")
        # CLS, projected, is the pooled embedding.
        return projected, features.pooled if self.encoder.has_cls else None

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
    images = open_images(image)
    if len(images) != 1:
        raise UsageError("not one image", got=f"{len(images)} images", want="analyze_batch")
    return images[0]


def _source(image: Picture) -> str:
    return str(image) if isinstance(image, Path | str) else ""


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if values.size else float("nan")
