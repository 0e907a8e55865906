"""One item of a data set: an image, what is said about it, and what kind it is.

The image is a path until somebody looks at it: a list of a million samples costs no decoding.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from encoderlab.data.decode import open_image


@dataclass(frozen=True)
class Sample:
    """An image with its texts.

    Args:
        id: stable name within its data set.
        image: a path, decoded on demand, or a PIL image.
        texts: captions, or the assistant turns of a chat record.
        label: data type or class, if known.
    """

    id: str
    image: Path | Image.Image
    texts: tuple[str, ...] = ()
    label: str | None = None

    def load(self, min_side: int | None = None) -> Image.Image:
        """The image as RGB, upright. `min_side` allows a JPEG to be decoded at a smaller scale, its
        short side never under that many pixels.

        Raises:
            ImageError: missing, truncated, no image, or over the pixel limit.
        """
        return open_image(self.image, min_side=min_side)
