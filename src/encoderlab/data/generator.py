"""Pictures for an experiment that has no data yet: charts, tables, pages and shapes on request.

Draws with the synthetic world's own brushes; the words are the caller's.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from encoderlab.data.synthetic import generate
from encoderlab.data.synthetic.canvas import Canvas, font, has_glyph
from encoderlab.data.synthetic.chart import draw_axes, draw_bars
from encoderlab.data.synthetic.words import COLOURS
from encoderlab.data.synthetic.world import KINDS
from encoderlab.errors import UsageError

WHITE, INK, RULE, HEAD = (255, 255, 255), (45, 45, 55), (150, 150, 160), (215, 225, 240)
TEXT_HEIGHT, TEXT_WIDTH = 0.042, 0.86


class DataGenerator:
    """Draws pictures of `size` pixels; the same `seed` gives the same pictures.

    Args:
        size: pixels a side.
        seed: where in the synthetic world its pictures are taken from.
        typeface: a TrueType or OpenType file for the words. The built-in font has English
            letters, digits and common signs; Korean, for one, needs a font of its own.

    Raises:
        UsageError: fewer than 16 pixels.
        MissingError: the font file cannot be read.

    Examples:
        >>> DataGenerator(size=64).generate_bar_chart([3, 1, 2], ["a", "b", "c"]).size
        (64, 64)
    """

    def __init__(self, size: int = 224, seed: int = 0, typeface: str | Path | None = None) -> None:
        if size < 16:
            raise UsageError("the picture is too small to draw in", got=size, want="at least 16")
        self.size, self.seed = size, seed
        self.typeface = None if typeface is None else Path(typeface)
        font(size, self.typeface)  # a font that cannot be read is refused here, once

    def generate_bar_chart(
        self, values: Sequence[float], labels: Sequence[str] | None = None, title: str = ""
    ) -> Image.Image:
        """A bar chart of non-negative `values`, one colour a bar, labels below.

        Raises:
            UsageError: no values, one that is no finite number from 0 up, not one label a bar, or
                letters that the font lacks.
        """
        try:
            heights = [float(value) for value in values]
        except (TypeError, ValueError):
            heights = []
        if not heights or not all(0 <= height < float("inf") for height in heights):
            raise UsageError(
                "a bar chart needs values from 0 up", got=list(values), want="finite numbers"
            )
        if labels is not None and len(labels) != len(values):
            raise UsageError(
                "labels and values do not match", got=f"{len(labels)} labels", want=f"{len(values)}"
            )
        self._check_letters(title, *(labels or ()))
        canvas = Canvas(self.size, WHITE, self.typeface)
        draw_axes(canvas, grid=True)
        top = max(heights) or 1.0
        inks = [COLOURS[i % len(COLOURS)].rgb for i in range(len(heights))]
        draw_bars(canvas, [0.85 * height / top for height in heights], inks)
        step = 0.8 / len(heights)
        for i, label in enumerate(labels or ()):
            name = " ".join(str(label).split())
            canvas.text(0.14 + (i + 0.5) * step, 0.95, name, 0.05, INK, widest=0.95 * step)
        if title:
            canvas.text(0.53, 0.045, " ".join(title.split()), 0.055, INK, widest=0.9)
        return canvas.picture()

    def generate_table_image(
        self, rows: Sequence[Sequence[object]], header: Sequence[str] | None = None
    ) -> Image.Image:
        """A ruled table of `rows`, under a tinted `header` if there is one.

        Raises:
            UsageError: no rows, rows of different lengths, or letters that the font lacks.
        """
        # A cell is one line, whatever white space its text has.
        lines = [
            [" ".join(str(cell).split()) for cell in line]
            for line in ([header] if header else []) + list(rows)
        ]
        if not lines or not lines[0] or len({len(line) for line in lines}) != 1:
            raise UsageError("a table needs rows of one length", got=[len(line) for line in lines])
        self._check_letters(*(cell for line in lines for cell in line))
        canvas = Canvas(self.size, WHITE, self.typeface)
        left, width = 0.04, 0.92
        high, wide = width / max(len(lines), 4), width / len(lines[0])
        if header:
            canvas.box(left, left, left + width, left + high, HEAD)
        for row, line in enumerate(lines):
            for column, cell in enumerate(line):
                canvas.text(
                    left + (column + 0.5) * wide,
                    left + (row + 0.5) * high,
                    cell,
                    min(0.5 * high, 0.07),
                    INK,
                    widest=0.9 * wide,
                )
        bottom, right = left + len(lines) * high, left + width
        for row in range(len(lines) + 1):
            canvas.line([(left, left + row * high), (right, left + row * high)], RULE, 0.005)
        for column in range(len(lines[0]) + 1):
            x = left + column * wide
            canvas.line([(x, left), (x, bottom)], RULE, 0.005)
        return canvas.picture()

    def generate_document_image(self, title: str, paragraphs: Sequence[str]) -> Image.Image:
        """A page with a title and paragraphs, wrapped; what does not fit is left out.

        Raises:
            UsageError: letters that the font lacks.
        """
        self._check_letters(title, *paragraphs)
        canvas = Canvas(self.size, WHITE, self.typeface)
        canvas.text(0.07, 0.09, " ".join(title.split()), 0.075, INK, anchor="lm", widest=0.86)
        canvas.line([(0.07, 0.15), (0.93, 0.15)], RULE, 0.005)
        y = 0.2
        for paragraph in paragraphs:
            for line in _wrapped(canvas, paragraph):
                if y > 0.96:
                    return canvas.picture()
                canvas.text(0.07, y, line, TEXT_HEIGHT, INK, anchor="lm", widest=TEXT_WIDTH)
                y += 0.055
            y += 0.03
        return canvas.picture()

    def generate_simple_images(self, n: int = 9) -> list[tuple[Image.Image, str]]:
        """`n` scenes of coloured shapes, each with its caption."""
        items = (generate(self.seed + i, kind="scene", size=self.size) for i in range(n))
        return [(item.image, item.captions[0]) for item in items]

    def generate_categorized_images(
        self, n_per_category: int = 3, categories: Sequence[str] = KINDS
    ) -> Mapping[str, list[tuple[Image.Image, str]]]:
        """Pictures with captions of each category (scene, chart, table, document, math)."""
        rng = np.random.default_rng(self.seed)
        first = int(rng.integers(2**30))
        return {
            category: [
                (item.image, item.captions[0])
                for item in (
                    generate(first + i, kind=category, size=self.size)
                    for i in range(n_per_category)
                )
            ]
            for category in categories
        }

    def _check_letters(self, *texts: object) -> None:
        # A box in the place of each letter would look like a picture with words in it.
        lacking = sorted(
            {c for text in texts for c in str(text) if not has_glyph(c, self.typeface)}
        )
        if lacking:
            raise UsageError(
                "the font has no glyph for some letters",
                got="".join(lacking[:12]),
                want="letters that the font has",
                hint="name a font file that has them: DataGenerator(typeface=PATH)",
            )


def _wrapped(canvas: Canvas, paragraph: str) -> Iterator[str]:
    """Lines that fit the page as they are, broken between words."""
    line = ""
    for word in paragraph.split():
        longer = f"{line} {word}" if line else word
        if line and not canvas.fits(longer, TEXT_HEIGHT, TEXT_WIDTH):
            yield line
            longer = word
        line = longer
    if line:
        yield line
