"""The pairs of lesson 2: pictures of one coloured shape each, with two captions and what is in it.

Drawn by the synthetic world. No two pictures have the same complete caption, so that each caption
has one right picture.
"""

from __future__ import annotations

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
    """A picture, what is said about it (all of it; all but the place), and what is in it."""

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
    alone = {
        article(f"{size} {colour} {shape}"): (colour, shape)
        for size in SIZE_NAMES
        for colour in COLOUR_NAMES
        for shape in SHAPE_NAMES
    }
    found: dict[str, Shape] = {}
    number = FIRST
    while len(found) < count:
        item = generate(number, kind="scene", size=side)
        complete, short = item.captions[0], item.captions[-1]
        if short in alone and complete not in found:
            found[complete] = Shape(item.image, (complete, short), *alone[short])
        number += 1
    return list(found.values())


def all_pairs(shapes: list[Shape]) -> list[Pair]:
    """Every picture with each of its captions."""
    return [Pair(i, caption) for i, shape in enumerate(shapes) for caption in shape.captions]
