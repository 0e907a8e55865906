"""How much room features will take on the disk, said before any is written."""

from __future__ import annotations

import shutil
from pathlib import Path

from encoderlab.core.progress import note
from encoderlab.encoders.vision import VisionEncoder
from encoderlab.errors import WorkError
from encoderlab.feature_store.quantise import FACTOR_BYTES

WORTH_SAYING = 1e9


def bytes_of_tokens(encoder: VisionEncoder, images: int, kind: str) -> int:
    """The bytes that the patches of so many images take.

    Args:
        kind: patches@LAYER, or patches@LAYER:int8.
    """
    places = encoder.grid[0] * encoder.grid[1]
    if kind.endswith(":int8"):
        return images * places * (encoder.width + FACTOR_BYTES)
    return images * places * encoder.width * encoder.dtype.itemsize


def check_room(encoder: VisionEncoder, images: int, store: str | Path, kind: str) -> int:
    """The forecast in bytes, said aloud where it is large.

    Raises:
        WorkError: the disk has less free than that.
    """
    needed = bytes_of_tokens(encoder, images, kind)
    folder = Path(store).expanduser().absolute()
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise WorkError(
            "the tokens would not fit on the disk",
            got=f"{needed / 1e9:,.1f} GB, with {free / 1e9:,.1f} GB free at {store}",
            hint="--cache int8 takes about half, --cache off none; or name fewer images",
        )
    if needed > WORTH_SAYING:
        note(f"tokens of {images:,} images: up to {needed / 1e9:,.1f} GB in {store}")
    return needed
