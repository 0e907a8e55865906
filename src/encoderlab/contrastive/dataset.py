"""Image-caption pairs as training batches: which pair comes at which step, and as what tensors.

The order is a pure function of (seed, epoch), and the position of the step number, so a run that
was cut off anywhere goes on with exactly the batch that comes next.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Int, UInt8
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from encoderlab.core.progress import note
from encoderlab.data.decode import ImageError
from encoderlab.data.digests import digest_of, images_digest
from encoderlab.data.sample import Sample
from encoderlab.errors import WorkError
from encoderlab.models.clip import Preprocess, Tokenizer
from encoderlab.training.schedule import Schedule

if TYPE_CHECKING:
    from encoderlab.contrastive.streaming import Units

# Bytes of an image file that tell it from others of its size.


class Batch(NamedTuple):
    """One step's pairs: bytes (b, 3, s, s), token ids (b, t), and who shares an image or a text."""

    pixels: Tensor
    tokens: Tensor
    image_ids: Tensor
    text_ids: Tensor


def positives_of(image_ids: Int[Tensor, " n"], text_ids: Int[Tensor, " n"]) -> Bool[Tensor, "n n"]:
    """`[i, j]`: text j is right for image i, by sharing its image or its words."""
    same_image = image_ids[:, None] == image_ids[None, :]
    return same_image | (text_ids[:, None] == text_ids[None, :])


class ImageTextDataset(Dataset):
    """Every (image, caption) row of `samples`, fetched a batch at a time.

    Args:
        samples: each with at least one text.
        images: their bytes (m, 3, s, s) where they are at hand already; decoded on demand if None.
        units: what is read together, for samples that are read from shards in that order.
        keep_padding: give every text at full length, for a model that reads the padding too.
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
        number = {text: i for i, text in enumerate(dict.fromkeys(texts))}
        self.image_of = np.repeat(np.arange(len(samples)), [len(s.texts) for s in samples])
        self.text_of = np.array([number[text] for text in texts], dtype=np.int64)
        self.tokens, self._ends = _tokenised(tokenizer, list(number))
        self._given = images
        self._said: set[str] = set()

    @property
    def in_memory(self) -> bool:
        """Whether the images are at hand; else each is decoded when its turn comes."""
        return self._given is not None

    def __len__(self) -> int:
        return len(self.image_of)

    def fingerprint(self) -> dict[str, str]:
        """Digests of all that the pairs of a step depend on: equal ones give equal batches."""
        units = None if self.units is None else self.units.of.tobytes()
        return {
            "images": images_digest(self.samples, self._given),
            "captions": digest_of(repr(sample.texts).encode() for sample in self.samples),
            "reading order": "by row" if units is None else f"by shard ({digest_of([units])})",
        }

    def __getitem__(self, index: int) -> Batch:
        return self.__getitems__([index])

    def __getitems__(self, indices: Sequence[int]) -> Batch:
        rows = np.asarray(indices)
        images, texts = self.image_of[rows], self.text_of[rows]
        if self._given is not None:
            pixels = self._given[images]
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
        """Token ids of texts by number, as long as the longest of them: where no token sees the
        padding behind it, the columns that hold nothing else can go."""
        if self.keep_padding:
            return self.tokens[texts].long()
        return self.tokens[texts, : int(self._ends[texts].max()) + 1].long()

    def _decoded(
        self, images: np.ndarray
    ) -> tuple[UInt8[np.ndarray, "b 3 s s"], Int[np.ndarray, " b"]]:
        """Pixels, and which of the images stands at each place: an unreadable one gives its place
        to the readable one before it, so that batches keep their size and the run goes on."""
        side = self.preprocess.size
        pixels = np.empty((len(images), 3, side, side), dtype=np.uint8)
        stands = np.arange(len(images))
        bad: list[int] = []
        for row, image in enumerate(images):
            try:
                picture = self.samples[image].load(min_side=self.preprocess.min_side)
            except ImageError as error:
                bad.append(row)
                self._leave_out(str(error))
            else:
                pixels[row] = self.preprocess.to_bytes(picture).transpose(2, 0, 1)
        if len(bad) == len(images):
            raise WorkError(
                "not one image of a batch can be read",
                got=str(self.samples[images[0]].image),
                want="readable images",
            )
        good = np.setdiff1d(stands, bad)
        before = np.searchsorted(good, bad) - 1
        stands[bad] = good[np.maximum(before, 0)]
        pixels[bad] = pixels[stands[bad]]
        return pixels, stands

    def _leave_out(self, why: str) -> None:
        if why not in self._said:
            self._said.add(why)
            note(f"left out: {why}")


def _tokenised(
    tokenizer: Tokenizer, texts: list[str]
) -> tuple[Int[Tensor, "m t"], Int[Tensor, " m"]]:
    """Token ids in few bytes, and where each text ends."""
    blocks = [tokenizer(texts[i : i + 10_000]).int() for i in range(0, len(texts), 10_000)]
    rows = torch.cat(blocks)
    return rows, (rows == tokenizer.end_id).int().argmax(dim=1)


class _StepSampler(Sampler[list[int]]):
    def __init__(self, schedule: Schedule, first_step: int) -> None:
        self.schedule, self.first_step = schedule, first_step

    def __iter__(self) -> Iterator[list[int]]:
        return self.schedule.batches(self.first_step)

    def __len__(self) -> int:
        return self.schedule.total_steps - self.first_step


def loader(
    pairs: ImageTextDataset, schedule: Schedule, first_step: int = 0, workers: int = 0
) -> DataLoader:
    """Batches from `first_step` on; `workers` processes decode ahead of the model."""
    return DataLoader(
        pairs,
        batch_sampler=_StepSampler(schedule, first_step),
        collate_fn=_as_fetched,
        num_workers=workers,
        persistent_workers=False,
        pin_memory=torch.cuda.is_available(),
    )


def _as_fetched(batch: Any) -> Any:
    return batch
