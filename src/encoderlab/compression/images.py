"""Finds the images of the settings, in two parts. Loads no model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from encoderlab.compression.settings import CompressData
from encoderlab.core.skipped import Skipped
from encoderlab.data.read import read_samples, split_by_image
from encoderlab.data.sample import Sample
from encoderlab.errors import UsageError

SYNTHETIC = "synthetic"
Parts = tuple[list[Sample], list[Sample]]


def images_of(
    data: CompressData, fit_images: Sequence[str], held_out: float, synthetic: Callable[[], Parts]
) -> tuple[Parts, list[Skipped], str]:
    """The images to learn from and the held-out ones.

    Args:
        data: settings of the images. ImageNet's folders train and val are the two parts.
        fit_images: sources to learn from; empty: all but the share `held_out` of the images.
        held_out: from 0 to 1.
        synthetic: makes both parts of the synthetic world.

    Returns:
        The two parts, the items that cannot be used, and the names of the held-out sources.

    Raises:
        MissingError: there is nothing at a source.
        UsageError: a source cannot be read, or there are two kinds of them.
    """
    if data.images and data.imagenet_root:
        raise UsageError(
            "two sources of images",
            got=f"data.images={data.images} and data.imagenet_root={data.imagenet_root}",
            want="one of them",
        )
    first, second = list(fit_images), list(data.images or [SYNTHETIC])
    if data.imagenet_root:
        root = Path(data.imagenet_root).expanduser()
        second = [str(root)]
        if (root / "train").is_dir() and (root / "val").is_dir():
            first.append(str(root / "train"))
            second = [str(root / "val")]
    drawn = synthetic() if SYNTHETIC in (*first, *second) else ([], [])
    skipped: list[Skipped] = []

    def read(sources: Sequence[str], part: int) -> list[Sample]:
        samples: list[Sample] = []
        for source in sources:
            if source == SYNTHETIC:
                samples += drawn[part]
                continue
            images = read_samples(source, data.img_root)
            skipped.extend(images.skipped)
            samples += images
        return samples

    names = ", ".join(Path(source).name for source in second)
    if first or second == [SYNTHETIC]:
        return (read(first or second, 0), read(second, 1)), skipped, names
    files = read([source for source in second if source != SYNTHETIC], 1)
    parts = split_by_image(files, held_out)
    both: Parts = ([*drawn[0], *parts[0]], [*drawn[1], *parts[1]])
    return both, skipped, f"{names}, {held_out:.0%} of it; the rest fits"
