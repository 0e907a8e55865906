"""How much memory a command takes at most, above what it held when its work began. A process of its
own: `python -m tests.faults.measure_memory WORDS...` prints one number, in megabytes.

Everything but the model is the real thing. The model's tower is replaced by a cheap one: of a
hundred thousand embeddings only their number matters here.
"""

from __future__ import annotations

import resource
import sys

import torch

from encoderlab.cli.main import main
from encoderlab.encoders.dual import DualEncoder
from encoderlab.encoders.vision import VisionEncoder, VisionFeatures
from encoderlab.experiments import features, index


def peak() -> float:
    """Megabytes that this process has held at most so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def cheap(pixels: torch.Tensor, width: int) -> torch.Tensor:
    """A vector of each image that differs where the images do."""
    flat = pixels.flatten(1).float()
    return torch.nn.functional.normalize(flat[:, :width] + 1e-3, dim=-1)


def measure(words: list[str], warm: list[str]) -> float:
    """What the command `words` adds to what `warm`, the same with few images, has left."""
    DualEncoder.encode_pixels = lambda self, pixels: cheap(pixels, self.dim)  # type: ignore
    whole = VisionEncoder.encode_pixels

    def encode(self: VisionEncoder, pixels: torch.Tensor, **asked) -> VisionFeatures:
        few = whole(self, pixels[:1], **asked)
        vectors = cheap(pixels, few.pooled.shape[1])
        return type(few)(**{**vars(few), "pooled": vectors})

    VisionEncoder.encode_pixels = encode  # type: ignore[method-assign]
    assert main(warm) == 0
    before = peak()
    assert main(words) == 0
    return peak() - before
