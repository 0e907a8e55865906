"""A drawing surface in unit coordinates: it is drawn at twice its size and reduced once, so that
edges are smooth and the picture looks alike at any size. Knows Pillow; not what is drawn."""

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
    """Pillow's own scalable font, which is the same on every machine, or a TrueType file."""
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
        """The picture at its final size."""
        return self._image.reduce(OVERSAMPLING)

    def box(self, x0: float, y0: float, x1: float, y1: float, fill: RGB) -> None:
        """A filled rectangle."""
        self._draw.rectangle(self._scaled([(x0, y0), (x1, y1)]), fill=fill)

    def line(self, points: Sequence[Point], fill: RGB, width: float) -> None:
        """A polyline with round joints."""
        self._draw.line(self._scaled(points), fill=fill, width=self._width(width), joint="curve")

    def grid(self, xs: Sequence[float], ys: Sequence[float], fill: RGB, width: float) -> None:
        """Horizontal lines at `ys` and vertical lines at `xs`, both ascending."""
        for y in ys:
            self.line([(xs[0], y), (xs[-1], y)], fill, width)
        for x in xs:
            self.line([(x, ys[0]), (x, ys[-1])], fill, width)

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
        edge, width = (255, 255, 255), self._width(0.008)
        self._draw.pieslice(corners, start - 90, end - 90, fill=fill, outline=edge, width=width)

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
        at, drawn = (x * self.side, y * self.side), font(pixels, self._typeface)
        self._draw.text(at, words, fill=fill, font=drawn, anchor=anchor)

    def fits(self, words: str, height: float, widest: float) -> bool:
        """Whether words at `height` of the side are no wider than `widest` of it."""
        drawn = font(max(6, round(height * self.side)), self._typeface)
        return self._draw.textlength(words, font=drawn) <= widest * self.side

    def sign(self, x: float, y: float, sign: str, radius: float, fill: RGB) -> None:
        """One of + - × ÷, drawn: the font has no × and no ÷."""
        arm = 0.75 if sign == "×" else 1
        strokes = {"+": [(1, 0), (0, 1)], "×": [(1, 1), (1, -1)]}.get(sign, [(1, 0)])
        for u, v in strokes:
            dx, dy = arm * radius * u, arm * radius * v
            self.line([(x - dx, y - dy), (x + dx, y + dy)], fill, 0.3 * radius)
        if sign == "÷":
            self.disc(x, y - 0.62 * radius, 0.2 * radius, fill)
            self.disc(x, y + 0.62 * radius, 0.2 * radius, fill)

    def _scaled(self, points: Sequence[Point]) -> list[Point]:
        return [(x * (self.side - 1), y * (self.side - 1)) for x, y in points]

    def _width(self, share: float) -> int:
        return max(1, round(share * self.side))
