"""Sources of training tokens: the feature store or the encoder.

n images, t tokens each, c channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from jaxtyping import Float
from torch import Tensor

from encoderlab.core.progress import progress
from encoderlab.core.skipped import Skipped
from encoderlab.data.digests import digest_of, images_digest
from encoderlab.data.sample import Sample
from encoderlab.encoders.vision import VisionEncoder, stack
from encoderlab.feature_store.extract import StoredFeatures
from encoderlab.feature_store.pipeline import Decoded, decode_for, decoding_threads

LOOKED_AT = 256


class TokenSource(Protocol):
    """Tokens of images by number."""

    def __len__(self) -> int: ...

    def batch(self, indices: Sequence[int]) -> Float[Tensor, "k t c"]:
        """The tokens of some images, in fp32 or the stored dtype."""
        ...

    def fingerprint(self) -> str:
        """A digest of the images: equal for the same images in the same order."""
        ...


class StoredTokens:
    """Tokens in the feature store, read on demand.

    Args:
        features: of all images.
        kind: the kind of feature, such as patches@11.
    """

    def __init__(self, features: StoredFeatures, kind: str) -> None:
        self.features, self.kind = features, kind

    def __len__(self) -> int:
        return len(self.features)

    def batch(self, indices: Sequence[int]) -> Float[Tensor, "k t c"]:
        """The stored tokens of some images."""
        return self.features.batch(indices, self.kind)

    def fingerprint(self) -> str:
        """A digest of the images."""
        return digest_of(self.features.digests)


class FreshTokens:
    """Tokens computed on demand: uses no disk, but runs the encoder at every step.

    Unreadable images are found once, before training.

    Args:
        encoder: the vision encoder.
        samples: images.
        layer: hidden state of the tokens.
    """

    def __init__(self, encoder: VisionEncoder, samples: Sequence[Sample], layer: int) -> None:
        self.encoder, self.layer = encoder, layer
        self.skipped: list[Skipped] = []
        self.samples: list[Sample] = []
        with progress("looking for unreadable images", total=len(samples), unit="image") as bar:
            for start in range(0, len(samples), LOOKED_AT):
                some = samples[start : start + LOOKED_AT]
                for sample, decoded in zip(some, self._decoded(some), strict=True):
                    if isinstance(decoded, str):
                        self.skipped.append(Skipped(sample.id, decoded))
                    else:
                        self.samples.append(sample)
                bar.advance(len(some))

    def __len__(self) -> int:
        return len(self.samples)

    def batch(self, indices: Sequence[int]) -> Float[Tensor, "k t c"]:
        """The tokens of some images, computed now."""
        decoded = self._decoded([self.samples[i] for i in indices])
        pixels = [image.pixels for image in decoded if not isinstance(image, str)]
        output = self.encoder.encode_pixels(stack(pixels), layers=[self.layer])
        # Cloned, because tensors of inference mode cannot be trained on.
        return output.layers[self.layer].clone()

    def fingerprint(self) -> str:
        """A digest of the images."""
        return images_digest(self.samples)

    def _decoded(self, samples: Sequence[Sample]) -> list[Decoded | str]:
        with decoding_threads() as pool:
            return list(pool.map(lambda s: decode_for(self.encoder.preprocess, s), samples))


def first_tokens(source: TokenSource, count: int, seed: int) -> Float[Tensor, "k t c"]:
    """The tokens of at most `count` images drawn at random, in fp32."""
    chosen = np.random.default_rng(seed).permutation(len(source))[:count]
    return source.batch(sorted(chosen.tolist())).float()
