"""A picture in unit coordinates: everything is drawn in shares of the side, at twice the size, and
reduced once, so that edges are smooth and any size looks alike."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from encoderlab.data.synthetic.words import RGB
from encoderlab.errors import MissingError

OVERSAMPLING = 2
Point = tuple[float, float]


@functools.lru_cache(maxsize=64)
def font(pixels: int, typeface: Path | None = None) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Pillow's own scalable font, so that no picture depends on what a machine has installed; or
    the font file that is given.

    Raises:
        MissingError: the font file cannot be read.
    """
    if typeface is None:
        return ImageFont.load_default(pixels)
    try:
        return ImageFont.truetype(str(typeface), pixels)
    except OSError as error:
        raise MissingError(
            "the font cannot be read", got=str(typeface), want="a TrueType or OpenType file"
        ) from error


@functools.lru_cache(maxsize=4096)
def has_glyph(letter: str, typeface: Path | None = None) -> bool:
    """Whether the font draws `letter` rather than the box that stands for what it lacks."""
    drawn = font(32, typeface)
    # U+FFFF is no character: every font draws its box for it.
    return letter.isspace() or bytes(drawn.getmask(letter)) != bytes(drawn.getmask("\uffff"))


class Canvas:
    """A square of `size` pixels whose coordinates run from 0 to 1, right and down."""

    def __init__(self, size: int, paper: RGB, typeface: Path | None = None) -> None:
        self.size = size
        self.side = size * OVERSAMPLING
        self._image = Image.new("RGB", (self.side, self.side), paper)
        self._draw = ImageDraw.Draw(self._image)
        self._typeface = typeface

    def picture(self) -> Image.Image:
        """What has been drawn, at its final size."""
        return self._image.reduce(OVERSAMPLING)

    def box(
        self,
        x0: float,
        y0: float,
        x1: float,
        y1: float,
        fill: RGB | None = None,
        outline: RGB | None = None,
        width: float = 0.01,
    ) -> None:
        """A filled or outlined rectangle."""
        self._draw.rectangle(
            self._scaled([(x0, y0), (x1, y1)]), fill=fill, outline=outline, width=self._width(width)
        )

    def line(self, points: Sequence[Point], fill: RGB, width: float) -> None:
        """A polyline with round joints."""
        self._draw.line(self._scaled(points), fill=fill, width=self._width(width), joint="curve")

    def polygon(self, points: Sequence[Point], fill: RGB) -> None:
        """A filled polygon."""
        self._draw.polygon(self._scaled(points), fill=fill)

    def disc(self, x: float, y: float, radius: float, fill: RGB) -> None:
        """A filled circle."""
        corners = [(x - radius, y - radius), (x + radius, y + radius)]
        self._draw.ellipse(self._scaled(corners), fill=fill)

    def slice(self, x: float, y: float, radius: float, start: float, end: float, fill: RGB) -> None:
        """A pie slice between two angles in degrees, clockwise from the top."""
        corners = self._scaled([(x - radius, y - radius), (x + radius, y + radius)])
        self._draw.pieslice(
            corners,
            start - 90,
            end - 90,
            fill=fill,
            outline=(255, 255, 255),
            width=self._width(0.008),
        )

    def text(
        self,
        x: float,
        y: float,
        words: str,
        height: float,
        fill: RGB,
        anchor: str = "mm",
        widest: float | None = None,
    ) -> None:
        """Words at `height` of the side, made smaller where they would be wider than `widest`."""
        pixels = max(6, round(height * self.side))
        if widest is not None:
            across = self._draw.textlength(words, font=font(pixels, self._typeface))
            if across > widest * self.side:
                pixels = max(6, math.floor(pixels * widest * self.side / across))
        self._draw.text(
            (x * self.side, y * self.side),
            words,
            fill=fill,
            font=font(pixels, self._typeface),
            anchor=anchor,
        )

    def fits(self, words: str, height: float, widest: float) -> bool:
        """Whether words at `height` of the side are no wider than `widest` of it."""
        drawn = font(max(6, round(height * self.side)), self._typeface)
        return self._draw.textlength(words, font=drawn) <= widest * self.side

    def sign(self, x: float, y: float, sign: str, radius: float, fill: RGB) -> None:
        """One of + - × ÷, drawn: the font has no × and no ÷."""
        width = 0.3 * radius
        reach = 0.75 * radius if sign == "×" else radius
        if sign == "×":
            self.line([(x - reach, y - reach), (x + reach, y + reach)], fill, width)
            self.line([(x - reach, y + reach), (x + reach, y - reach)], fill, width)
            return
        self.line([(x - reach, y), (x + reach, y)], fill, width)
        if sign == "+":
            self.line([(x, y - reach), (x, y + reach)], fill, width)
        if sign == "÷":
            self.disc(x, y - 0.62 * radius, 0.2 * radius, fill)
            self.disc(x, y + 0.62 * radius, 0.2 * radius, fill)

    def _scaled(self, points: Sequence[Point]) -> list[Point]:
        return [(x * (self.side - 1), y * (self.side - 1)) for x, y in points]

    def _width(self, share: float) -> int:
        return max(1, round(share * self.side))
