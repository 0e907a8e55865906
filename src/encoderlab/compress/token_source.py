"""Where the tokens that a compressor is trained on come from: the store, the encoder, or memory.

n images, t tokens each, c channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from jaxtyping import Float, UInt8
from torch import Tensor

from encoderlab.data.sample import Sample
from encoderlab.encoders.vision import VisionEncoder, stack
from encoderlab.features.extract import StoredFeatures
from encoderlab.features.pipeline import Skipped, decode_for


class TokenSource(Protocol):
    """Tokens of images by number."""

    def __len__(self) -> int: ...

    def batch(self, indices: Sequence[int]) -> Float[Tensor, "k t c"]:
        """The tokens of some images, fp32 or the format that they are stored in."""
        ...


class TokensInMemory:
    """Tokens that are there already."""

    def __init__(self, tokens: Float[Tensor, "n t c"]) -> None:
        self.tokens = tokens

    def __len__(self) -> int:
        return len(self.tokens)

    def batch(self, indices: Sequence[int]) -> Float[Tensor, "k t c"]:
        return self.tokens[list(indices)]


class StoredTokens:
    """Tokens in the feature store, read as they are asked for.

    Args:
        kind: the kind of feature, such as patches@11.
    """

    def __init__(self, features: StoredFeatures, kind: str) -> None:
        self.features, self.kind = features, kind

    def __len__(self) -> int:
        return len(self.features)

    def batch(self, indices: Sequence[int]) -> Float[Tensor, "k t c"]:
        return self.features.batch(indices, self.kind)


class FreshTokens:
    """Tokens computed whenever they are asked for: no disk, but the encoder runs at every step.

    Images that cannot be read are found, once, before training.

    Args:
        layer: whose hidden state.
    """

    def __init__(self, encoder: VisionEncoder, samples: Sequence[Sample], layer: int) -> None:
        self.encoder, self.layer = encoder, layer
        self.skipped: list[Skipped] = []
        self.samples: list[Sample] = []
        for sample in samples:
            found = decode_for(encoder.preprocess, sample)
            if isinstance(found, str):
                self.skipped.append(Skipped(sample.id, found))
            else:
                self.samples.append(sample)

    def __len__(self) -> int:
        return len(self.samples)

    def batch(self, indices: Sequence[int]) -> Float[Tensor, "k t c"]:
        pixels = [self._pixels(self.samples[i]) for i in indices]
        seen = self.encoder.encode_pixels(stack(pixels), layers=[self.layer])
        # A plain copy: what inference mode made cannot be trained on.
        return seen.layers[self.layer].clone()

    def _pixels(self, sample: Sample) -> UInt8[np.ndarray, "h w 3"]:
        found = decode_for(self.encoder.preprocess, sample)
        assert not isinstance(found, str)
        return found.pixels


def first_tokens(source: TokenSource, count: int, seed: int = 0) -> Float[Tensor, "k t c"]:
    """The tokens of some images, any, in fp32: what statistics and closed forms are fitted on."""
    chosen = np.random.default_rng(seed).permutation(len(source))[:count]
    return source.batch(sorted(chosen.tolist())).float()
