"""The synthetic world: endless, seeded, described. One picture is a pure function of its number.

Train and test never share a seed: each split has its own range of `SPLIT_SIZE` numbers (`seed_of`).
Two seeds can still meet in the same words, and at 96 pixels now and then in the same picture, for
what can be told apart at that size is finite: of the first 1,000 test pictures with distinct
captions, 9 (8 documents, 1 sum) equal one of the first 60,000 training pictures, and 227 have a
complete caption that is among theirs.

The pictures and captions are what the embedded checkpoints were trained and measured on: a change
to either calls for training and measuring them again.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass

import numpy as np

from encoderlab.data.synthetic import chart, document, math_problem, scene, table
from encoderlab.data.synthetic.item import SyntheticItem, check_language
from encoderlab.errors import UsageError, unknown

DRAW = {
    "scene": scene.draw,
    "chart": chart.draw,
    "table": table.draw,
    "document": document.draw,
    "math": math_problem.draw,
}
KINDS = tuple(DRAW)
SPLITS = ("train", "test")
SPLIT_SIZE = 2**31
SMALLEST = 8


def seed_of(split: str, index: int) -> int:
    """The seed of a picture: the training split has 0 ... 2^31 - 1, the test split the next 2^31.

    Raises:
        UsageError: an unknown split, or an index outside 0 ... 2^31 - 1.

    >>> seed_of("train", 7), seed_of("test", 7) - 2**31
    (7, 7)
    """
    if split not in SPLITS:
        raise unknown("split", split, SPLITS, "python -m encoderlab.data.synthetic --help")
    if not 0 <= index < SPLIT_SIZE:
        raise UsageError(
            "no picture has this number", got=index, want=f"an index from 0 to {SPLIT_SIZE - 1}"
        )
    return SPLITS.index(split) * SPLIT_SIZE + index


def generate(
    index: int, *, split: str = "train", kind: str | None = None, size: int = 96
) -> SyntheticItem:
    """Picture number `index` of a split; the kinds take turns unless `kind` is given.

    Raises:
        UsageError: an unknown split or kind, an index outside 0 ... 2^31 - 1, or fewer than 8
            pixels a side.
    """
    seed = seed_of(split, index)
    if size < SMALLEST:
        raise UsageError(
            "the picture is too small to draw in", got=size, want=f"at least {SMALLEST} pixels"
        )
    chosen = KINDS[index % len(KINDS)] if kind is None else kind
    if chosen not in DRAW:
        raise unknown(
            "kind of picture", chosen, KINDS, "python -m encoderlab.data.synthetic --help"
        )
    rng = np.random.default_rng([seed, KINDS.index(chosen)])
    picture = DRAW[chosen](rng, size)
    return SyntheticItem(**vars(picture), id=f"synthetic/{split}/{chosen}/{index}", label=chosen)


@dataclass(frozen=True)
class Rendered:
    """Many pictures at once: `pixels` (n, size, size, 3) uint8, `texts` and `labels` per picture.

    `texts` are all captions, English first; the first is complete and in English.
    """

    pixels: np.ndarray
    texts: list[tuple[str, ...]]
    labels: list[str]


def render_arrays(
    indices: Iterable[int],
    *,
    split: str = "train",
    size: int = 96,
    languages: tuple[str, ...] = ("en", "ko"),
    processes: int = 1,
) -> Rendered:
    """The pictures of `indices` as one array, drawn in `processes` processes.

    Raises:
        UsageError: what `generate` refuses, or a language that the world does not speak.
    """
    for language in languages:
        check_language(language)
    wanted = list(indices)
    if not wanted:
        return Rendered(np.empty((0, size, size, 3), dtype=np.uint8), [], [])
    blocks = [wanted[i : i + 1000] for i in range(0, len(wanted), 1000)]
    arguments = (blocks, *map(itertools.repeat, (split, size, languages)))
    if processes > 1:
        with ProcessPoolExecutor(processes) as pool:
            parts = list(pool.map(_render_block, *arguments))
    else:
        parts = list(map(_render_block, *arguments))
    pixels = np.concatenate([part.pixels for part in parts])
    texts = [texts for part in parts for texts in part.texts]
    return Rendered(pixels, texts, [label for part in parts for label in part.labels])


def _render_block(
    indices: list[int], split: str, size: int, languages: tuple[str, ...]
) -> Rendered:
    pixels = np.empty((len(indices), size, size, 3), dtype=np.uint8)
    texts, labels = [], []
    for row, index in enumerate(indices):
        item = generate(index, split=split, size=size)
        pixels[row] = np.asarray(item.image)
        texts.append(item.to_sample(languages).texts)
        labels.append(item.label)
    return Rendered(pixels, texts, labels)
