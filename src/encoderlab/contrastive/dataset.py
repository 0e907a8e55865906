"""Image-caption pairs as tensors, a batch at a time, in the order of a schedule.

Knows samples, a tokenizer and preprocessing; no model.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Int, UInt8
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from encoderlab.core.progress import note
from encoderlab.data.decode import ImageError
from encoderlab.data.digests import digest_of, images_digest
from encoderlab.data.sample import Sample
from encoderlab.errors import WorkError
from encoderlab.models.clip import Preprocess, Tokenizer
from encoderlab.training.schedule import Schedule

if TYPE_CHECKING:
    from encoderlab.contrastive.streaming import Units


class Batch(NamedTuple):
    """The pairs of one step.

    Args:
        pixels: bytes (b, 3, s, s).
        tokens: token ids (b, t).
        image_ids: (b,), equal for pairs of one image.
        text_ids: (b,), equal for pairs of one text.
    """

    pixels: Tensor
    tokens: Tensor
    image_ids: Tensor
    text_ids: Tensor


def positives_of(image_ids: Int[Tensor, " n"], text_ids: Int[Tensor, " n"]) -> Bool[Tensor, "n n"]:
    """`[i, j]`: whether text j is right for image i: they share the image or the words."""
    same_image = image_ids[:, None] == image_ids[None, :]
    return same_image | (text_ids[:, None] == text_ids[None, :])


class ImageTextDataset(Dataset):
    """Every (image, caption) row of `samples`, fetched a batch at a time.

    Args:
        samples: each with at least one text.
        images: decoded bytes (m, 3, s, s) of all samples; None decodes at each access.
        keep_padding: pad every text to full length, for a model that reads the padding too.
        units: the shards of samples that are read shard by shard.
    """

    def __init__(
        self,
        samples: Sequence[Sample],
        tokenizer: Tokenizer,
        preprocess: Preprocess,
        images: np.ndarray | None = None,
        keep_padding: bool = False,
        units: Units | None = None,
    ) -> None:
        self.samples, self.units = samples, units
        self.keep_padding = keep_padding
        self.tokenizer, self.preprocess = tokenizer, preprocess
        texts = [text for sample in samples for text in sample.texts]
        self.distinct_texts = list(dict.fromkeys(texts))
        number = {text: i for i, text in enumerate(self.distinct_texts)}
        self.image_of = np.repeat(np.arange(len(samples)), [len(s.texts) for s in samples])
        self.text_of = np.array([number[text] for text in texts], dtype=np.int64)
        self.tokens, self._ends = _tokenised(tokenizer, self.distinct_texts)
        self._images = images
        self._reported: set[str] = set()

    @property
    def in_memory(self) -> bool:
        """Whether all images are decoded; otherwise each is decoded at access."""
        return self._images is not None

    def __len__(self) -> int:
        return len(self.image_of)

    def fingerprint(self) -> dict[str, str]:
        """Digests of images, captions and reading order: equal ones give equal batches."""
        units = None if self.units is None else self.units.of.tobytes()
        return {
            "images": images_digest(self.samples, self._images),
            "captions": digest_of(repr(sample.texts).encode() for sample in self.samples),
            "reading order": "by row" if units is None else f"by shard ({digest_of([units])})",
        }

    def __getitem__(self, index: int) -> Batch:
        return self.__getitems__([index])

    def __getitems__(self, indices: Sequence[int]) -> Batch:
        rows = np.asarray(indices)
        images, texts = self.image_of[rows], self.text_of[rows]
        if self._images is not None:
            pixels = self._images[images]
        else:
            pixels, readable = self._decoded(images)
            images, texts = images[readable], texts[readable]
        return Batch(
            torch.from_numpy(pixels),
            self.tokens_of(texts),
            torch.from_numpy(images),
            torch.from_numpy(texts),
        )

    def tokens_of(self, texts: np.ndarray) -> Int[Tensor, "b t"]:
        """Token ids of texts by number, cut to the longest of them unless `keep_padding`."""
        if self.keep_padding:
            return self.tokens[texts].long()
        return self.tokens[texts, : int(self._ends[texts].max()) + 1].long()

    def _decoded(
        self, images: np.ndarray
    ) -> tuple[UInt8[np.ndarray, "b 3 s s"], Int[np.ndarray, " b"]]:
        """The pixels, and the position in `images` that each row shows."""
        # An unreadable image is replaced by the readable one before it, so that batches keep their
        # size.
        side = self.preprocess.size
        pixels = np.empty((len(images), 3, side, side), dtype=np.uint8)
        positions = np.arange(len(images))
        bad: list[int] = []
        for row, image in enumerate(images):
            try:
                picture = self.samples[image].load(min_side=self.preprocess.min_side)
            except ImageError as error:
                bad.append(row)
                if (why := str(error)) not in self._reported:
                    self._reported.add(why)
                    note(f"left out: {why}")
            else:
                pixels[row] = self.preprocess.to_bytes(picture).transpose(2, 0, 1)
        if len(bad) == len(images):
            raise WorkError(
                "no image of a batch can be read",
                got=str(self.samples[images[0]].image),
                want="readable images",
            )
        good = np.setdiff1d(positions, bad)
        positions[bad] = good[np.maximum(np.searchsorted(good, bad) - 1, 0)]
        pixels[bad] = pixels[positions[bad]]
        return pixels, positions


def _tokenised(
    tokenizer: Tokenizer, texts: list[str]
) -> tuple[Int[Tensor, "m t"], Int[Tensor, " m"]]:
    """Token ids as int32, and the position of each text's end token."""
    blocks = [tokenizer(texts[i : i + 10_000]).int() for i in range(0, len(texts), 10_000)]
    rows = torch.cat(blocks)
    return rows, (rows == tokenizer.end_id).int().argmax(dim=1)


def loader(
    pairs: ImageTextDataset, schedule: Schedule, first_step: int, workers: int
) -> DataLoader:
    """Batches from `first_step` on, to be read once; `workers` processes decode ahead."""
    return DataLoader(
        pairs,
        batch_sampler=schedule.batches(first_step),
        collate_fn=_as_fetched,
        num_workers=workers,
        pin_memory=torch.cuda.is_available(),
    )


def _as_fetched(batch: Any) -> Any:
    return batch
