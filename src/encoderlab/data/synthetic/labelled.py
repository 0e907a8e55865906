"""Pictures with a class to read: the main thing of a scene, glyphs on a busy ground.

Pictures and their labels only; who reads them is elsewhere.
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

# Labelled pictures come from where no training reaches.
LABELLED_START = 60_000_000
GLYPHS = "0123456789"
SUPERSAMPLED = 4

Labelled = tuple[Sequence[Image.Image], np.ndarray]


def main_shapes(split: str, indices: Iterable[int]) -> Labelled:
    """Scenes and the shape of the largest thing in each; those where two things tie are left
    out."""
    return _scenes(split, indices, largest_shape)


def main_colours(split: str, indices: Iterable[int]) -> Labelled:
    """Scenes and the colour of the largest thing in each; those where two tie are left out."""
    return _scenes(split, indices, largest_colour)


def largest_shape(caption: str) -> str | None:
    """The main shape that a scene's complete caption names; None where two things tie.

    >>> largest_shape("a small red star above a large blue heart")
    'heart'
    """
    thing = _largest(caption)
    return thing and thing[1]


def largest_colour(caption: str) -> str | None:
    """The colour of the main thing; None where two things tie.

    >>> largest_colour("a small red star above a large blue heart")
    'blue'
    """
    thing = _largest(caption)
    return thing and thing[0]


def _largest(caption: str) -> tuple[str, str] | None:
    names = "|".join(shape.en for shape in SHAPES)
    things = re.findall(rf"(small|large) (\w+) ({names})", caption)
    large = [(colour, shape) for size, colour, shape in things if size == "large"]
    if len(things) == 1:
        return things[0][1:]
    return large[0] if len(large) == 1 else None


def _scenes(split: str, indices: Iterable[int], label: Callable[[str], str | None]) -> Labelled:
    rendered = render_arrays(indices, split=split)
    labels = [label(texts[0]) for texts in rendered.texts]
    kept = [i for i, one in enumerate(labels) if one is not None]
    return (
        [Image.fromarray(rendered.pixels[i]) for i in kept],
        np.array([labels[i] for i in kept]),
    )


def glyphs(count: int, height: int, *, size: int = 96, seed: int = 0) -> Labelled:
    """Pictures of a line of one digit, `height` pixels high, somewhere on a textured ground.

    As many of the digit as fit: what is read is the glyph, not where it lies in its patches. Ink is
    dark or light, whichever the ground is not; the texture is smoothed noise of two scales.

    Raises:
        UsageError: a glyph that does not fit the picture, or is lower than three pixels.
    """
    if not 3 <= height <= size // 2:
        raise UsageError(
            "a glyph of this height cannot be drawn", got=height, want=f"3 to {size // 2} pixels"
        )
    pictures, labels = [], []
    for number in range(count):
        rng = np.random.default_rng([seed, height, number])
        label = GLYPHS[int(rng.integers(len(GLYPHS)))]
        pictures.append(_glyph(rng, label, height, size))
        labels.append(label)
    return pictures, np.array(labels)


def _glyph(rng: np.random.Generator, label: str, height: int, size: int) -> Image.Image:
    light = bool(rng.integers(2))
    ground = np.zeros((size, size, 3))
    for scale, strength in ((8, 18.0), (2, 10.0)):
        noise = rng.normal(size=(size // scale + 1, size // scale + 1, 3)) * strength + 128
        coarse = Image.fromarray(noise.clip(0, 255).astype(np.uint8))
        ground += np.asarray(coarse.resize((size, size), Image.Resampling.BICUBIC)) - 128.0
    ground += 190.0 if light else 70.0
    picture = Image.fromarray(ground.clip(0, 255).astype(np.uint8))
    # Drawn large and brought to its height, so that the height is that of the ink.
    big = font(height * SUPERSAMPLED * 2)
    one = big.getmask(label, mode="L").size
    fitting = max(1, int(size / height * one[1] / max(one[0], 1)))
    mask = big.getmask(label * fitting, mode="L")
    ink = Image.frombytes("L", mask.size, bytes(mask))
    ink = ink.crop(ink.getbbox())
    width = min(size, max(1, round(ink.width * height / ink.height)))
    ink = ink.resize((width, height), Image.Resampling.LANCZOS)
    at = (int(rng.integers(size - width + 1)), int(rng.integers(size - height + 1)))
    tone = int(rng.integers(0, 60)) if light else int(rng.integers(195, 256))
    picture.paste((tone, tone, tone), (at[0], at[1], at[0] + width, at[1] + height), ink)
    return picture
