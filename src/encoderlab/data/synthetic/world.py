"""Pictures of the synthetic world: each is a pure function of its kind, split and index.

Train and test never share a seed (`seed_of`). Different seeds can give the same caption, and
sometimes the same picture at 96 pixels: of the first 1,000 test pictures with distinct captions,
9 (8 documents, 1 sum) equal one of the first 60,000 training pictures, and 227 have a complete
caption that is among theirs.

The bundled checkpoints were trained and measured on these pictures and captions: whoever changes
either has to train and measure them again.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass

import numpy as np

from encoderlab.data.synthetic import chart, document, math_problem, scene, table
from encoderlab.data.synthetic.item import SyntheticItem, check_languages
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
BLOCK = 1000  # pictures that one process draws at a time
LIST_WITH = "python -m encoderlab.data.synthetic --help"


def seed_of(split: str, index: int) -> int:
    """The seed of a picture: those of the training split come before those of the test split.

    Args:
        split: "train" or "test".
        index: 0 to 2^31 - 1.

    Returns:
        0 to 2^31 - 1 in the training split, the next 2^31 in the test split.

    Raises:
        UsageError: an unknown split, or an index outside 0 ... 2^31 - 1.

    >>> seed_of("train", 7), seed_of("test", 7) - 2**31
    (7, 7)
    """  # noqa: DOC501
    if split not in SPLITS:
        raise unknown("split", split, SPLITS, LIST_WITH)
    if not 0 <= index < SPLIT_SIZE:
        raise UsageError(
            "no picture has this number", got=index, want=f"an index from 0 to {SPLIT_SIZE - 1}"
        )
    return SPLITS.index(split) * SPLIT_SIZE + index


def generate(
    index: int, *, split: str = "train", kind: str | None = None, size: int = 96
) -> SyntheticItem:
    """Picture number `index` of a split.

    Args:
        index: 0 to 2^31 - 1.
        split: "train" or "test".
        kind: one of `KINDS`; None for the kinds in turn.
        size: pixels a side.

    Returns:
        The picture with its captions, question and answer.

    Raises:
        UsageError: an unknown split or kind, an index outside 0 ... 2^31 - 1, or fewer than 8
            pixels a side.
    """  # noqa: DOC501
    seed = seed_of(split, index)
    if size < SMALLEST:
        raise UsageError(
            "the picture is too small to draw in", got=size, want=f"at least {SMALLEST} pixels"
        )
    chosen = KINDS[index % len(KINDS)] if kind is None else kind
    if chosen not in DRAW:
        raise unknown("kind of picture", chosen, KINDS, LIST_WITH)
    rng = np.random.default_rng([seed, KINDS.index(chosen)])
    picture = DRAW[chosen](rng, size)
    return SyntheticItem(**vars(picture), id=f"synthetic/{split}/{chosen}/{index}", label=chosen)


@dataclass(frozen=True)
class Rendered:
    """Many pictures: `pixels` (n, size, size, 3) in uint8, and for each picture its label and all
    its captions, English before Korean, the complete one first."""

    pixels: np.ndarray
    texts: list[tuple[str, ...]]
    labels: list[str]


def render_arrays(
    indices: Iterable[int],
    *,
    split: str = "train",
    size: int = 96,
    languages: tuple[str, ...] = ("en", "ko"),
    kind: str | None = None,
    processes: int = 1,
) -> Rendered:
    """The pictures of `indices` as one array.

    Args:
        indices: numbers of pictures.
        split: "train" or "test".
        size: pixels a side.
        languages: captions in these, of "en" and "ko".
        kind: of all pictures; None for the kinds in turn.
        processes: how many processes draw.

    Returns:
        The pixels (n, size, size, 3), with captions and kinds.

    Raises:
        UsageError: what `generate` refuses, or a language without captions.
    """
    check_languages(languages)
    indices = list(indices)
    blocks = [indices[i : i + BLOCK] for i in range(0, max(len(indices), 1), BLOCK)]
    render = functools.partial(
        _render_block, split=split, size=size, languages=languages, kind=kind
    )
    if processes > 1:
        with ProcessPoolExecutor(processes) as pool:
            parts = list(pool.map(render, blocks))
    else:
        parts = [render(block) for block in blocks]
    return Rendered(
        np.concatenate([part.pixels for part in parts]),
        [texts for part in parts for texts in part.texts],
        [label for part in parts for label in part.labels],
    )


def _render_block(
    indices: list[int], split: str, size: int, languages: tuple[str, ...], kind: str | None
) -> Rendered:
    pixels = np.empty((len(indices), size, size, 3), dtype=np.uint8)
    texts, labels = [], []
    for row, index in enumerate(indices):
        item = generate(index, split=split, kind=kind, size=size)
        pixels[row] = np.asarray(item.image)
        texts.append(item.to_sample(languages).texts)
        labels.append(item.label)
    return Rendered(pixels, texts, labels)
