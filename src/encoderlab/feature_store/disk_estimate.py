"""Estimates the disk space of patch tokens before they are extracted."""

from __future__ import annotations

import shutil
from pathlib import Path

from encoderlab.core.progress import note
from encoderlab.encoders.vision import VisionEncoder
from encoderlab.errors import WorkError
from encoderlab.feature_store.quantise import FACTOR_BYTES

NOTED_BYTES = 1e9


def bytes_of_tokens(encoder: VisionEncoder, images: int, kind: str) -> int:
    """The bytes that the patch tokens of `images` images take, in a kind such as patches@3:int8."""
    tokens = images * encoder.grid[0] * encoder.grid[1]
    if kind.endswith(":int8"):
        return tokens * (encoder.width + FACTOR_BYTES)
    return tokens * encoder.width * encoder.dtype.itemsize


def check_room(encoder: VisionEncoder, images: int, store: str | Path, kind: str) -> int:
    """Estimates the disk space, with a note where it is more than 1 GB.

    Args:
        encoder: whose patch tokens are stored.
        images: number of images.
        store: folder of the store, which need not exist.
        kind: patches@LAYER, or patches@LAYER:int8.

    Returns:
        Bytes.

    Raises:
        WorkError: the disk has less space.
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
    if needed > NOTED_BYTES:
        note(f"tokens of {images:,} images: up to {needed / 1e9:,.1f} GB in {store}")
    return needed
