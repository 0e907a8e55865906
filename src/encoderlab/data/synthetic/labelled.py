"""Labelled pictures of the synthetic world: the largest shape of a scene, and lines of digits.

Makes pictures and labels; knows no encoder.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

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
WORD = 3  # digits of a word
WIDEST, GAP = 0.85, 0.2  # width of the widest digit, and of the gap between two, over the height


@dataclass(frozen=True)
class PrintedWords:
    """Pictures of a word each.

    Args:
        pictures: RGB.
        words: of three digits.
        boxes: (n, 4) left, top, right, bottom of the middle digit's ink, in pixels.
    """

    pictures: Sequence[Image.Image]
    words: np.ndarray
    boxes: np.ndarray

    @property
    def digits(self) -> np.ndarray:
        """The middle digit of each word."""
        return np.array([word[WORD // 2] for word in self.words.tolist()])


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


def printed_words(
    count: int, height: int, *, size: int = 96, split: str = "train", seed: int = 0
) -> PrintedWords:
    """Pictures of one word of three digits each, on a textured ground as that of `glyphs`.

    Both what is written and where it stands differ between the splits: of the thousand words a
    fifth is of the test split, and the middle digit has its centre in the upper left or lower right
    quarter of the picture for training, in the other two for testing.

    Args:
        count: how many pictures.
        height: of the digits' ink, in pixels.
        size: pixels a side.
        split: "train" or "test".
        seed: another one gives other pictures.

    Returns:
        The pictures, their words, and where the middle digits are.

    Raises:
        UsageError: an unknown split, or a height that cannot be drawn.
    """
    if split not in ("train", "test"):
        raise UsageError("unknown split", got=split, want="train or test")
    if not 3 <= height <= highest_word(size):
        raise UsageError(
            "a word of this height cannot be drawn",
            got=height,
            want=f"3 to {highest_word(size)} pixels in a picture of {size}",
        )
    test = split == "test"
    order = np.random.default_rng(0).permutation(1000)
    numbers = order[:200] if test else order[200:]
    pictures, words, boxes = [], [], []
    for number in range(count):
        rng = np.random.default_rng([seed, height, number, test])
        words.append(f"{rng.choice(numbers):03d}")
        picture, box = _word(rng, words[-1], height, size, test)
        pictures.append(picture)
        boxes.append(box)
    return PrintedWords(pictures, np.array(words), np.array(boxes).reshape(-1, 4))


def highest_word(size: int) -> int:
    """The height in pixels of the largest word that fits into a picture of `size` pixels."""
    return int(size / (WORD * (WIDEST + GAP)))


def _word(
    rng: np.random.Generator, word: str, height: int, size: int, test: bool
) -> tuple[Image.Image, tuple[int, int, int, int]]:
    picture, light = _ground(rng, size)
    inks = [_ink(digit, height) for digit in word]
    gap = max(1, round(GAP * height))
    starts = np.cumsum([0, *(ink.width + gap for ink in inks)])
    centre = int(starts[1]) + inks[1].width / 2, height / 2
    # The quarters of the training split lie on one diagonal, those of the test split on the other.
    lower = bool(rng.integers(2))
    x = _start(rng, centre[0], int(starts[-1]) - gap, size, lower != test)
    y = _start(rng, centre[1], height, size, lower)
    tone = _tone(rng, light)
    for ink, start in zip(inks, starts[:-1], strict=True):
        at = x + int(start)
        picture.paste(tone, (at, y, at + ink.width, y + height), ink)
    left = x + int(starts[1])
    return picture, (left, y, left + inks[1].width, y + height)


def _start(rng: np.random.Generator, centre: float, length: int, size: int, second: bool) -> int:
    """Where a thing of `length` pixels starts, so that its centre is in one half of `size`."""
    middle = math.ceil(size / 2 - centre)  # the first start with the centre in the second half
    low, high = (max(0, middle), size - length) if second else (0, min(middle - 1, size - length))
    return int(rng.integers(low, high + 1))


def _glyph(rng: np.random.Generator, digit: str, height: int, size: int) -> Image.Image:
    picture, light = _ground(rng, size)
    glyph_width, glyph_height = _large(height).getmask(digit, mode="L").size
    copies = max(1, int(size / height * glyph_height / max(glyph_width, 1)))
    ink = _ink(digit * copies, height, widest=size)
    width = ink.width
    x, y = int(rng.integers(size - width + 1)), int(rng.integers(size - height + 1))
    picture.paste(_tone(rng, light), (x, y, x + width, y + height), ink)
    return picture


def _ground(rng: np.random.Generator, size: int) -> tuple[Image.Image, bool]:
    """A textured ground, and whether it is light."""
    light = bool(rng.integers(2))
    ground = np.zeros((size, size, 3))
    for scale, strength in ((8, 18.0), (2, 10.0)):
        noise = rng.normal(size=(size // scale + 1, size // scale + 1, 3)) * strength + 128
        coarse = Image.fromarray(noise.clip(0, 255).astype(np.uint8))
        ground += np.asarray(coarse.resize((size, size), Image.Resampling.BICUBIC)) - 128.0
    ground += 190.0 if light else 70.0
    return Image.fromarray(ground.clip(0, 255).astype(np.uint8)), light


def _tone(rng: np.random.Generator, light: bool) -> tuple[int, int, int]:
    """Dark ink for light ground, and light ink for dark ground."""
    return (int(rng.integers(0, 60)) if light else int(rng.integers(195, 256)),) * 3


def _large(height: int) -> Any:
    return font(height * OVERSAMPLING * 2)


def _ink(text: str, height: int, widest: int | None = None) -> Image.Image:
    """The coverage of text whose ink is `height` pixels high."""
    # Drawn large, cropped to the ink and scaled: `height` is that of the ink.
    mask = _large(height).getmask(text, mode="L")
    ink = Image.frombytes("L", mask.size, bytes(mask))
    ink = ink.crop(ink.getbbox())
    width = max(1, round(ink.width * height / ink.height))
    width = width if widest is None else min(widest, width)
    return ink.resize((width, height), Image.Resampling.LANCZOS)
