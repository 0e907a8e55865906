"""Labelled pictures of the synthetic world: the largest shape of a scene, and lines of digits.

Makes pictures and labels; knows no encoder.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence

import numpy as np
from PIL import Image

from encoderlab.data.synthetic.canvas import font
from encoderlab.data.synthetic.scene import SHAPES
from encoderlab.data.synthetic.world import render_arrays
from encoderlab.errors import UsageError

# Indices from here on are used by no training.
LABELLED_START = 60_000_000
GLYPHS = "0123456789"
OVERSAMPLING = 4

Labelled = tuple[Sequence[Image.Image], np.ndarray]


def main_shapes(split: str, indices: Iterable[int]) -> Labelled:
    """Scenes and the shape of the largest thing in each; scenes with a tie are left out."""
    return _scenes(split, indices, largest_shape)


def main_colours(split: str, indices: Iterable[int]) -> Labelled:
    """Scenes labelled with the colour of the largest thing in each.

    Args:
        split: "train" or "test".
        indices: numbers of scenes.

    Returns:
        Scenes and labels; scenes with a tie are left out.
    """
    return _scenes(split, indices, largest_colour)


def largest_shape(caption: str) -> str | None:
    """The shape of the largest thing in a scene's complete caption; None where two things tie.

    Args:
        caption: complete, as of the synthetic scenes.

    Returns:
        Its English name.

    >>> largest_shape("a small red star above a large blue heart")
    'heart'
    """
    return _largest(caption)[1]


def largest_colour(caption: str) -> str | None:
    """The colour of the largest thing in a scene's complete caption; None where two things tie.

    Args:
        caption: complete, as of the synthetic scenes.

    Returns:
        Its English name.

    >>> largest_colour("a small red star above a large blue heart")
    'blue'
    """
    return _largest(caption)[0]


def _largest(caption: str) -> tuple[str, str] | tuple[None, None]:
    names = "|".join(shape.en for shape in SHAPES)
    things = re.findall(rf"(small|large) (\w+) ({names})", caption)
    largest = things if len(things) == 1 else [thing for thing in things if thing[0] == "large"]
    return largest[0][1:] if len(largest) == 1 else (None, None)


def _scenes(split: str, indices: Iterable[int], label_of: Callable[[str], str | None]) -> Labelled:
    rendered = render_arrays(indices, split=split)
    labels = [label_of(texts[0]) for texts in rendered.texts]
    labelled = [i for i, label in enumerate(labels) if label is not None]
    pictures = [Image.fromarray(rendered.pixels[i]) for i in labelled]
    return pictures, np.array([labels[i] for i in labelled])


def glyphs(count: int, height: int, *, size: int = 96, seed: int = 0) -> Labelled:
    """Pictures of a line that repeats one digit, at a random place on a textured ground.

    The line has as many copies of the digit as fit, so that the position of one glyph in its
    patches does not matter. Ink is dark on light ground and light on dark ground; the texture is
    smoothed noise of two scales.

    Args:
        count: how many pictures.
        height: of the digits, in pixels.
        size: pixels a side.
        seed: another one gives other pictures.

    Returns:
        `count` RGB images of `size` x `size` pixels, and the digit of each as a string.

    Raises:
        UsageError: `height` is below three pixels or above half of `size`.
    """
    if not 3 <= height <= size // 2:
        raise UsageError(
            "a glyph of this height cannot be drawn", got=height, want=f"3 to {size // 2} pixels"
        )
    pictures, labels = [], []
    for number in range(count):
        rng = np.random.default_rng([seed, height, number])
        labels.append(GLYPHS[int(rng.integers(len(GLYPHS)))])
        pictures.append(_glyph(rng, labels[-1], height, size))
    return pictures, np.array(labels)


def _glyph(rng: np.random.Generator, digit: str, height: int, size: int) -> Image.Image:
    light = bool(rng.integers(2))
    ground = np.zeros((size, size, 3))
    for scale, strength in ((8, 18.0), (2, 10.0)):
        noise = rng.normal(size=(size // scale + 1, size // scale + 1, 3)) * strength + 128
        coarse = Image.fromarray(noise.clip(0, 255).astype(np.uint8))
        ground += np.asarray(coarse.resize((size, size), Image.Resampling.BICUBIC)) - 128.0
    ground += 190.0 if light else 70.0
    picture = Image.fromarray(ground.clip(0, 255).astype(np.uint8))
    # Drawn large, cropped to the ink and scaled: `height` is that of the ink.
    large = font(height * OVERSAMPLING * 2)
    glyph_width, glyph_height = large.getmask(digit, mode="L").size
    copies = max(1, int(size / height * glyph_height / max(glyph_width, 1)))
    mask = large.getmask(digit * copies, mode="L")
    ink = Image.frombytes("L", mask.size, bytes(mask))
    ink = ink.crop(ink.getbbox())
    width = min(size, max(1, round(ink.width * height / ink.height)))
    ink = ink.resize((width, height), Image.Resampling.LANCZOS)
    x, y = int(rng.integers(size - width + 1)), int(rng.integers(size - height + 1))
    tone = int(rng.integers(0, 60)) if light else int(rng.integers(195, 256))
    picture.paste((tone, tone, tone), (x, y, x + width, y + height), ink)
    return picture
