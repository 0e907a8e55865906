"""Image-caption pairs as training batches: which pair comes at which step, and as what tensors.

The order is a pure function of (seed, epoch), and the position of the step number, so a run that
was cut off anywhere goes on with exactly the batch that comes next.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Int, UInt8
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from encoderlab.data.decode import ImageError
from encoderlab.data.packed import Packed
from encoderlab.data.sample import Sample
from encoderlab.errors import UsageError, WorkError
from encoderlab.models.clip import Preprocess, Tokenizer
from encoderlab.progress import note

if TYPE_CHECKING:
    from encoderlab.training.streaming import Units

# Bytes of an image file that tell it from others of its size.
HEAD = 16_384


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


class Pairs(Dataset):
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


def images_digest(samples: Sequence[Sample], pixels: np.ndarray | None = None) -> str:
    """A digest of the images of samples, in their order, wherever their files lie.

    Of a file the size and the first HEAD bytes count, of a place in a shard its name and its size:
    reading a million images whole would take as long as an epoch.

    Args:
        pixels: decoded images, which count for samples without a file.
    """

    def mark(number: int) -> bytes:
        image = samples[number].image
        if isinstance(image, Packed):
            name = getattr(image, "name", None) or getattr(image, "number", image)
            return f"{name} {getattr(image, 'size', '')}".encode()
        if isinstance(image, Path):
            try:
                with image.open("rb") as file:
                    head = file.read(HEAD)
                    return f"{os.fstat(file.fileno()).st_size} ".encode() + head
            except (OSError, ValueError):
                return str(image).encode() if pixels is None else pixels[number].tobytes()
        return samples[number].content()

    return digest_of(mark(number) for number in range(len(samples)))


def digest_of(parts: Iterable[bytes]) -> str:
    """A digest of byte strings, in their order."""
    digest = hashlib.blake2b(digest_size=8)
    for part in parts:
        digest.update(f"{len(part)} ".encode())
        digest.update(part)
    return digest.hexdigest()


def _tokenised(
    tokenizer: Tokenizer, texts: list[str]
) -> tuple[Int[Tensor, "m t"], Int[Tensor, " m"]]:
    """Token ids in few bytes, and where each text ends."""
    blocks = [tokenizer(texts[i : i + 10_000]).int() for i in range(0, len(texts), 10_000)]
    rows = torch.cat(blocks)
    return rows, (rows == tokenizer.end_id).int().argmax(dim=1)


@dataclass(frozen=True)
class Schedule:
    """Which rows make which step: epochs of shuffled full batches, shared out over the ranks."""

    rows: int
    batch_size: int
    epochs: int
    seed: int = 0
    rank: int = 0
    world_size: int = 1

    @property
    def steps_per_epoch(self) -> int:
        """Full batches in one pass; the rows left over come in another epoch's shuffle."""
        return self.rows // self.batch_size

    @property
    def total_steps(self) -> int:
        """Steps of the whole run."""
        return self.steps_per_epoch * self.epochs

    def order(self, epoch: int) -> np.ndarray:
        """The shuffled rows of one epoch."""
        return np.random.default_rng([self.seed, epoch]).permutation(self.rows)

    def batches(self, first_step: int = 0) -> Iterator[list[int]]:
        """This rank's share of every batch from `first_step` to the end of the run."""
        for epoch in range(first_step // self.steps_per_epoch, self.epochs):
            order = self.order(epoch)
            start = max(first_step - epoch * self.steps_per_epoch, 0)
            for position in range(start, self.steps_per_epoch):
                batch = order[position * self.batch_size : (position + 1) * self.batch_size]
                yield batch[self.rank :: self.world_size].tolist()


def check_batch(batch_size: int, rows: int, world_size: int, things: str, least: int = 1) -> None:
    """Refuses a batch that the data or the devices cannot give.

    Args:
        things: what a row is, for the message.
        least: the smallest batch that means something.

    Raises:
        UsageError: more than there are rows, or no multiple of the devices.
    """
    if batch_size > rows:
        raise UsageError(
            "the batch is larger than the data",
            got=f"batch_size={batch_size}",
            want=f"at most the {rows} {things} there are",
            hint=f"--batch-size {max(least, rows // 2)}",
        )
    if batch_size % world_size:
        raise UsageError(
            "the batch does not divide over the devices",
            got=f"batch_size={batch_size} over {world_size}",
            want=f"a multiple of {world_size}",
        )


class _StepSampler(Sampler[list[int]]):
    def __init__(self, schedule: Schedule, first_step: int) -> None:
        self.schedule, self.first_step = schedule, first_step

    def __iter__(self) -> Iterator[list[int]]:
        return self.schedule.batches(self.first_step)

    def __len__(self) -> int:
        return self.schedule.total_steps - self.first_step


def loader(pairs: Pairs, schedule: Schedule, first_step: int = 0, workers: int = 0) -> DataLoader:
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
