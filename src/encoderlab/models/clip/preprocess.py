"""From a decoded image to the pixels that a tower takes. Knows one image at a time; reads no file.

Follows Hugging Face's PIL image processor step by step (bicubic resize on bytes, crop, scale,
standardise), so that a checkpoint sees here what it saw there.
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
MOST_SIDE = 8192  # pixels: more than any encoder takes
# Where the resized image would have more pixels than this (64 MiB in PIL), only the region that the
# crop keeps is resized. At common aspect ratios it has fewer.
MOST_RESIZED = 16_777_216


@dataclass(frozen=True)
class Preprocess:
    """Resize to `size` pixels and standardise.

    Args:
        size: side of the square that comes out; its height where `width` is given.
        fit: "crop" resizes the short side and cuts the middle out (as OpenAI's CLIP does);
            "squash" resizes both sides, so that the edge of a chart or a table is not lost.
        mean, std: per channel, for values in [0, 1].
        resample: PIL's resampling filter; 3 is bicubic.
        resize_to: what the short side (or both: a side, or height and width) are resized to before
            the middle is cut out, where that is not the result's size (DINOv2: 256, then 224). What
            is smaller than the result gets a black edge.
        width: makes the result a rectangle.
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
        """Height and width of what comes out."""
        return self.size, self.size if self.width is None else self.width

    @property
    def resized(self) -> tuple[int, int]:
        """Height and width that images are resized to; of "crop" only the short side is taken."""
        if self.resize_to is None:
            return self.shape
        side = self.resize_to
        return (side, side) if isinstance(side, int) else side

    @property
    def min_side(self) -> int:
        """How long the short side of an image must stay when a JPEG is decoded at less than its
        full size, so that nothing is enlarged that was large enough."""
        return max(*self.resized, *self.shape)

    def __call__(self, image: Image.Image) -> Float[Tensor, "3 h w"]:
        return self.standardise(torch.from_numpy(self.to_bytes(image)).permute(2, 0, 1))

    def to_bytes(self, image: Image.Image) -> np.ndarray:
        """The resized and cropped image as uint8 (h, w, 3): all that depends on its shape."""
        if image.mode != "RGB":
            image = image.convert("RGB")
        height, width = self.shape
        if image.size != (width, height) or self.resize_to is not None:
            image = self._resized(image)
        return np.array(image, dtype=np.uint8)

    def view(self, image: Image.Image, least: int = 448) -> Image.Image:
        """What of the image comes out, at `least` pixels a side: what a map is laid over."""
        times = max(1, -(-least // self.size))
        larger = replace(
            self,
            size=self.size * times,
            resize_to=(self.resized[0] * times, self.resized[1] * times),
            width=self.shape[1] * times,
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
            # PIL's filter also reads the pixels around the box, so the result differs from the crop
            # of the whole resized image by rounding only.
            x, y = image.width / target[0], image.height / target[1]
            box = (left * x, top * y, (left + width) * x, (top + height) * y)
            return image.resize((width, height), Image.Resampling(self.resample), box)
        if target != image.size:
            image = image.resize(target, Image.Resampling(self.resample))
        if (left, top) == (0, 0) and target == (width, height):
            return image
        return image.crop((left, top, left + width, top + height))

    def standardise(self, pixels: Tensor) -> Float[Tensor, "*batch 3 h w"]:
        """Bytes (..., 3, h, w) to standardised float32, one image or a batch."""
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
    """The values (3, 1, 1), copied to a device once: on a GPU every such copy waits for all that it
    computes."""
    with torch.inference_mode(False):
        return torch.tensor(values, device=device).view(3, 1, 1)
