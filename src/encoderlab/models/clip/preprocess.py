"""From a decoded image to the pixels that a tower takes. Knows one image at a time; reads no file.

Follows Hugging Face's PIL image processor step by step (bicubic resize on bytes, crop, scale,
standardise), so that a checkpoint sees here what it saw there.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

OPENAI_MEAN = (0.48145466, 0.4578275, 0.40821073)
OPENAI_STD = (0.26862954, 0.26130258, 0.27577711)


@dataclass(frozen=True)
class Preprocess:
    """Resize to `size` pixels and standardise.

    Args:
        size: side of the square that comes out.
        fit: "crop" resizes the short side and cuts the middle out (as OpenAI's CLIP does);
            "squash" resizes both sides, so that the edge of a chart or a table is not lost.
        mean, std: per channel, for values in [0, 1].
        resample: PIL's resampling filter; 3 is bicubic.
    """

    size: int
    fit: Literal["crop", "squash"] = "crop"
    mean: tuple[float, float, float] = OPENAI_MEAN
    std: tuple[float, float, float] = OPENAI_STD
    resample: int = int(Image.Resampling.BICUBIC)

    def __call__(self, image: Image.Image) -> Float[Tensor, "3 size size"]:
        return self.standardise(torch.from_numpy(self.to_bytes(image)).permute(2, 0, 1))

    def to_bytes(self, image: Image.Image) -> np.ndarray:
        """The resized and cropped image as uint8 (size, size, 3): all that depends on its shape."""
        if image.mode != "RGB":
            image = image.convert("RGB")
        if image.size != (self.size, self.size):
            image = self._resized(image)
        return np.array(image, dtype=np.uint8)

    def _resized(self, image: Image.Image) -> Image.Image:
        width, height = image.size
        resample = Image.Resampling(self.resample)
        if self.fit == "squash":
            return image.resize((self.size, self.size), resample)
        if width <= height:
            target = (self.size, int(self.size * height / width))
        else:
            target = (int(self.size * width / height), self.size)
        if target != image.size:
            image = image.resize(target, resample)
        left, top = (target[0] - self.size) // 2, (target[1] - self.size) // 2
        return image.crop((left, top, left + self.size, top + self.size))

    def standardise(self, pixels: Tensor) -> Float[Tensor, "*batch 3 size size"]:
        """Bytes (..., 3, h, w) to standardised float32, one image or a batch."""
        mean = torch.tensor(self.mean, device=pixels.device).view(3, 1, 1)
        std = torch.tensor(self.std, device=pixels.device).view(3, 1, 1)
        return (pixels.float() / 255 - mean) / std

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready mapping that `from_dict` reads back."""
        return asdict(self)

    @classmethod
    def from_dict(cls, record: dict[str, Any]) -> Preprocess:
        """The preprocessing that `to_dict` wrote."""
        return cls(**{**record, "mean": tuple(record["mean"]), "std": tuple(record["std"])})
