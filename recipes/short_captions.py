"""Short captions of synthetic pictures, and which pictures each of them fits.

A long caption belongs to one picture; "red star" to every picture with one. Trained as if it
belonged to the picture it came from, the other right pictures of the batch would be negatives.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor

from encoderlab.data.synthetic.scene import SHAPES, SIZES
from encoderlab.data.synthetic.words import COLOURS, KIND_NAMES

# Twice the bare words, which people type most.
ENGLISH = ("{}", "{}", "a {}", "the {}", "{}s", "a photo of a {}", "a picture of a {}")
KOREAN = ("{}", "{}", "{} 사진", "{} 그림")
KOREAN_SHARE = 0.3
CHARTS = {
    "horizontal bar chart": "가로 막대그래프",
    "bar chart": "막대그래프",
    "line chart": "선그래프",
    "pie chart": "원그래프",
    "scatter plot": "산점도",
}


def _objects() -> dict[str, str]:
    """Every name of an object that says its shape, English -> Korean."""
    sizes = [("", ""), *((f"{en} ", f"{ko} ") for en, ko, _ in SIZES)]
    colours = [("", ""), *((f"{colour.en} ", f"{colour.ko} ") for colour in COLOURS)]
    return {
        f"{size}{colour}{shape.en}": f"{size_ko}{colour_ko}{shape.ko}"
        for (size, size_ko), (colour, colour_ko), shape in itertools.product(sizes, colours, SHAPES)
    }


OBJECTS = _objects()
# What a short caption can say: English -> Korean.
TAGS: Mapping[str, str] = (
    OBJECTS | CHARTS | {english[0]: korean[0] for english, korean in KIND_NAMES.values()}
)
NUMBER = {tag: number for number, tag in enumerate(TAGS)}
_THING = re.compile(rf"({'|'.join(s[0] for s in SIZES)}) (\w+) ({'|'.join(s.en for s in SHAPES)})")


def tags_of(kind: str, complete: str) -> list[str]:
    """What short captions are right for a synthetic picture.

    Args:
        kind: of the picture.
        complete: its complete English caption.

    Returns:
        Names of `TAGS`.

    >>> tags_of("chart", "a bar chart with three bars, red, ...")
    ['chart', 'bar chart']
    >>> tags_of("scene", "a large red star at the top left")[1:4]
    ['star', 'red star', 'large star']
    """
    tags = [KIND_NAMES[kind][0][0]]
    if kind == "chart":
        tags += [name for name in CHARTS if re.match(rf"an? {name}\b", complete)]
    if kind == "scene":
        for size, colour, shape in _THING.findall(complete):
            tags += [shape, f"{colour} {shape}", f"{size} {shape}", f"{size} {colour} {shape}"]
    return list(dict.fromkeys(tags))


def short_caption(tags: Sequence[str], rng: np.random.Generator) -> tuple[str, str]:
    """A short caption that says one of `tags`, and which."""
    tag = tags[int(rng.integers(len(tags)))]
    if rng.random() < KOREAN_SHARE:
        return KOREAN[rng.integers(len(KOREAN))].format(TAGS[tag]), tag
    return ENGLISH[rng.integers(len(ENGLISH))].format(tag), tag


class FittingPairs:
    """Says which short captions of a batch are right for which of its pictures.

    Args:
        tags: of each picture; pictures that are not listed have none.
        said: short caption -> its tag.
        texts: the distinct texts of the data set, in the order of their numbers.
    """

    def __init__(
        self, tags: Sequence[Sequence[str]], said: Mapping[str, str], texts: Sequence[str]
    ) -> None:
        # The last column is that of a text without a tag, which fits none by it.
        self._fits = np.zeros((len(tags), len(TAGS) + 1), dtype=bool)
        for number, own in enumerate(tags):
            self._fits[number, [NUMBER[tag] for tag in own]] = True
        self._tag = np.array([NUMBER[said[text]] if text in said else len(TAGS) for text in texts])

    def __call__(
        self, image_ids: Int[Tensor, " n"], text_ids: Int[Tensor, " m"]
    ) -> Bool[Tensor, "n m"]:
        """`[i, j]`: whether the tag of text j is one of picture i."""
        rows = image_ids.cpu().numpy()
        listed = rows < len(self._fits)
        fits = np.zeros((len(rows), len(text_ids)), dtype=bool)
        fits[listed] = self._fits[rows[listed]][:, self._tag[text_ids.cpu().numpy()]]
        return torch.from_numpy(fits).to(image_ids.device)
