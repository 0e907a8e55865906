"""One item of a data set: an image, what is said about it, and what kind it is.

The image is a path, or a place in a shard, until somebody looks at it: a list of a million samples
costs no decoding.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from encoderlab.data.decode import ImageError, open_image
from encoderlab.data.packed import Packed


@dataclass(frozen=True)
class Sample:
    """An image with its texts.

    Args:
        id: stable name within its data set.
        image: a path or a place in a shard, decoded on demand, or a PIL image.
        texts: captions, or the assistant turns of a chat record.
        label: data type or class, if known.

    Examples:
        >>> Sample("grey", Image.new("L", (4, 2)), texts=("a grey field",)).load().size
        (4, 2)
    """

    id: str
    image: Path | Packed | Image.Image
    texts: tuple[str, ...] = ()
    label: str | None = None

    def load(self, min_side: int | None = None) -> Image.Image:
        """The image as RGB, upright. `min_side` allows a JPEG to be decoded at a smaller scale, its
        short side never under that many pixels.

        Raises:
            ImageError: missing, truncated, no image, or over the pixel limit.
        """
        if isinstance(self.image, Packed):
            return open_image(self.image.read(), min_side=min_side, name=str(self.image))
        return open_image(self.image, min_side=min_side)

    def content(self) -> bytes:
        """What makes two samples the same picture: the bytes of the file, or of the pixels.

        Raises:
            OSError: the file cannot be read.
        """
        if isinstance(self.image, Path):
            try:
                return self.image.read_bytes()
            except ValueError as error:  # no system has a file of such a name
                raise OSError(errno.EINVAL, str(error)) from error
        if isinstance(self.image, Packed):
            try:
                return self.image.read()
            except ImageError as error:
                raise OSError(errno.EIO, error.reason) from error
        return f"{self.image.mode} {self.image.size}".encode() + self.image.tobytes()
