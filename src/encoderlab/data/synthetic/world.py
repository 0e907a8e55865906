"""The synthetic world: endless, seeded, described. One picture is a pure function of its number.

Train and test never share a picture: the split is part of the seed, and every index stays under
`SPLIT_SIZE`.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass

import numpy as np

from encoderlab.data.synthetic import chart, document, math_problem, scene, table
from encoderlab.data.synthetic.item import SyntheticItem
from encoderlab.errors import unknown

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


def generate(
    index: int, *, split: str = "train", kind: str | None = None, size: int = 96
) -> SyntheticItem:
    """Picture number `index` of a split; the kinds take turns unless `kind` is given.

    Raises:
        UsageError: an unknown split or kind.
        ValueError: an index outside 0 ... 2^31 - 1.
    """
    if split not in SPLITS:
        raise unknown("split", split, SPLITS, "python -m encoderlab.data.synthetic --help")
    if not 0 <= index < SPLIT_SIZE:
        raise ValueError(f"index must be from 0 to {SPLIT_SIZE - 1}, got {index}")
    chosen = KINDS[index % len(KINDS)] if kind is None else kind
    if chosen not in DRAW:
        raise unknown(
            "kind of picture", chosen, KINDS, "python -m encoderlab.data.synthetic --help"
        )
    seed = SPLITS.index(split) * SPLIT_SIZE + index
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
    """The pictures of `indices` as one array, drawn in `processes` processes."""
    wanted = list(indices)
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
