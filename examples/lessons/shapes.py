"""The pairs of lesson 2: pictures of one coloured shape each, with two captions and their labels.

They are generated. No two pictures have the same complete caption, so each caption has
one right picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from PIL import Image

from encoderlab.data.synthetic import generate
from encoderlab.data.synthetic.scene import SHAPES, SIZES
from encoderlab.data.synthetic.words import COLOURS, article

FIRST = 50_000
SHAPE_NAMES = tuple(shape.en for shape in SHAPES)
COLOUR_NAMES = tuple(colour.en for colour in COLOURS)
SIZE_NAMES = tuple(size for size, _, _ in SIZES)


class Shape(NamedTuple):
    """A picture, its two captions (complete; without the place), its colour and its shape."""

    image: Image.Image
    captions: tuple[str, str]
    colour: str
    shape: str


class Pair(NamedTuple):
    """One pair to train on: the number of a picture, and one of its captions."""

    picture: int
    caption: str


def coloured_shapes(count: int, side: int = 48) -> list[Shape]:
    """`count` scenes of a single shape; the same ones at every call."""
    alone = {article(text[2:]): tuple(text.split()[-2:]) for text in sentences()}
    found: dict[str, Shape] = {}
    number = FIRST
    while len(found) < count:
        item = generate(number, kind="scene", size=side)
        complete, short = item.captions[0], item.captions[-1]
        if short in alone and complete not in found:
            found[complete] = Shape(item.image, (complete, short), *alone[short])
        number += 1
    return list(found.values())


def sentences(
    colours: Sequence[str] = COLOUR_NAMES, shapes: Sequence[str] = SHAPE_NAMES
) -> list[str]:
    """Every size with each of the colours and shapes."""
    return [f"a {size} {c} {shape}" for size in SIZE_NAMES for c in colours for shape in shapes]


def all_pairs(shapes: list[Shape]) -> list[Pair]:
    """Every picture with each of its captions."""
    return [Pair(i, caption) for i, shape in enumerate(shapes) for caption in shape.captions]
