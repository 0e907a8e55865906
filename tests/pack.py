"""Samples into shards, for tests that read them."""

import io
import tarfile
from collections.abc import Sequence
from pathlib import Path

from encoderlab.data import Sample


def tar_of(samples: Sequence[Sample], path: Path) -> Path:
    """A WebDataset shard of samples whose images are files."""
    with tarfile.open(path, "w") as tar:
        for number, sample in enumerate(samples):
            assert isinstance(sample.image, Path)
            add(tar, f"{number:06d}{sample.image.suffix}", sample.image.read_bytes())
            add(tar, f"{number:06d}.txt", "\n".join(sample.texts).encode())
    return path


def shards_of(samples: Sequence[Sample], folder: Path, count: int) -> str:
    """The samples dealt over `count` shards, as one word with braces."""
    size = -(-len(samples) // count)
    for number in range(count):
        tar_of(samples[number * size : (number + 1) * size], folder / f"s-{number:03d}.tar")
    return f"{folder}/s-{{000..{count - 1:03d}}}.tar"


def add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    """One more member."""
    about = tarfile.TarInfo(name)
    about.size = len(content)
    tar.addfile(about, io.BytesIO(content))
