"""From a decoded image to the input of a tower. Handles one image at a time; reads no file.

The steps are those of Hugging Face's PIL image processor (bicubic resize on bytes, crop, scale,
standardise), so that a checkpoint gets the same pixels.
"""

from __future__ import annotations

import functools
import math
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from encoderlab.errors import UsageError

OPENAI_MEAN = (0.48145466, 0.4578275, 0.40821073)
OPENAI_STD = (0.26862954, 0.26130258, 0.27577711)
MOST_SIDE = 8192  # pixels: more than the input of any encoder
# If the resized image has more pixels than this (64 MiB in PIL), only the region inside the crop is
# resized. At common aspect ratios it has fewer.
MOST_RESIZED = 16_777_216


@dataclass(frozen=True)
class Preprocess:
    """Resize to `size` pixels and standardise.

    Args:
        size: side of the resulting square; its height if `width` is given.
        fit: "crop" resizes the short side and cuts the middle out (as OpenAI's CLIP does);
            "squash" resizes both sides, so that no edge of a chart or a table is cut off.
        mean, std: per channel, for values in [0, 1].
        resample: PIL's resampling filter; 3 is bicubic.
        resize_to: size of the short side (or of both: one number, or height and width) before the
            centre crop, if it is not that of the result (DINOv2: 256, then 224). An image smaller
            than the result is padded with black.
        width: of a result that is not square.
    """

    size: int
    fit: Literal["crop", "squash"] = "crop"
    mean: tuple[float, float, float] = OPENAI_MEAN
    std: tuple[float, float, float] = OPENAI_STD
    resample: int = int(Image.Resampling.BICUBIC)
    resize_to: int | tuple[int, int] | None = None
    width: int | None = None

    def __post_init__(self) -> None:
        for side in (*self.shape, *self.resized):
            if not (type(side) is int and 0 < side <= MOST_SIDE):
                raise UsageError(
                    "images cannot be resized to this", got=side, want=f"1 to {MOST_SIDE} pixels"
                )
        for values in (self.mean, self.std):
            if len(values) != 3 or not all(math.isfinite(value) for value in values):
                raise UsageError(
                    "pixels are standardised by three numbers", got=values, want="one per channel"
                )
        if 0 in self.std:
            raise UsageError("a standard deviation of pixels is 0", got=self.std, want="above 0")
        if self.fit not in ("crop", "squash"):
            raise UsageError("unknown way to fit images", got=self.fit, want="crop or squash")
        if self.resample not in list(Image.Resampling):
            raise UsageError(
                "unknown resampling filter", got=self.resample, want="0 to 5, as PIL counts them"
            )

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of the result."""
        return self.size, self.size if self.width is None else self.width

    @property
    def resized(self) -> tuple[int, int]:
        """Height and width that images are resized to; "crop" uses the short side only."""
        if self.resize_to is None:
            return self.shape
        side = self.resize_to
        return (side, side) if isinstance(side, int) else side

    @property
    def min_side(self) -> int:
        """The least short side for decoding a JPEG at a reduced size, so that no image is enlarged
        that was large enough."""
        return max(*self.resized, *self.shape)

    def __call__(self, image: Image.Image) -> Float[Tensor, "3 h w"]:
        """The standardised pixels of an image, as `to_bytes` prepares it."""
        return self.standardise(torch.from_numpy(self.to_bytes(image)).permute(2, 0, 1))

    def to_bytes(self, image: Image.Image) -> np.ndarray:
        """The resized and cropped image as uint8 (h, w, 3)."""
        if image.mode != "RGB":
            image = image.convert("RGB")
        height, width = self.shape
        if image.size != (width, height) or self.resize_to is not None:
            image = self._resized(image)
        return np.array(image, dtype=np.uint8)

    def view(self, image: Image.Image, least: int = 448) -> Image.Image:
        """The part of the image that the result shows, with at least `least` pixels a side."""
        times = max(1, -(-least // self.size))
        resized = self.resized[0] * times, self.resized[1] * times
        larger = replace(
            self, size=self.size * times, resize_to=resized, width=self.shape[1] * times
        )
        return Image.fromarray(larger.to_bytes(image))

    def _resized(self, image: Image.Image) -> Image.Image:
        height, width = self.shape
        side, other = self.resized
        target = (other, side)
        if self.fit == "crop":
            across, down = image.size
            if across <= down:
                target = (side, int(side * down / across))
            else:
                target = (int(side * across / down), side)
        left, top = (target[0] - width) // 2, (target[1] - height) // 2
        if target[0] * target[1] > max(MOST_RESIZED, image.width * image.height):
            # PIL's filter also reads pixels outside the box, so the result differs from a crop of
            # the whole resized image by rounding only.
            x, y = image.width / target[0], image.height / target[1]
            box = (left * x, top * y, (left + width) * x, (top + height) * y)
            return image.resize((width, height), Image.Resampling(self.resample), box)
        if target != image.size:
            image = image.resize(target, Image.Resampling(self.resample))
        if (left, top) == (0, 0) and target == (width, height):
            return image
        return image.crop((left, top, left + width, top + height))

    def standardise(self, pixels: Tensor) -> Float[Tensor, "*batch 3 h w"]:
        """From bytes (..., 3, h, w) to standardised float32."""
        mean, std = _per_channel(self.mean, pixels.device), _per_channel(self.std, pixels.device)
        return (pixels.float() / 255 - mean) / std

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready mapping that `from_dict` reads back."""
        return asdict(self)

    @classmethod
    def from_dict(cls, record: dict[str, Any]) -> Preprocess:
        """The preprocessing that `to_dict` wrote."""
        pair = record.get("resize_to")
        return cls(
            **{
                **record,
                "mean": tuple(record["mean"]),
                "std": tuple(record["std"]),
                "resize_to": tuple(pair) if isinstance(pair, list) else pair,
            }
        )


@functools.cache
def _per_channel(values: tuple[float, float, float], device: torch.device) -> Tensor:
    """The values as (3, 1, 1), copied to a device once, since a copy to a GPU synchronises."""
    with torch.inference_mode(False):
        return torch.tensor(values, device=device).view(3, 1, 1)
