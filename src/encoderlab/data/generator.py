"""Draws charts, tables, pages and shapes with the caller's own content.

Uses the canvas and the pictures of the synthetic world; writes no file.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from encoderlab.data.sample import collapse_spaces
from encoderlab.data.synthetic import generate
from encoderlab.data.synthetic.canvas import Canvas, font, has_glyph
from encoderlab.data.synthetic.chart import draw_axes, draw_bars
from encoderlab.data.synthetic.words import COLOURS
from encoderlab.data.synthetic.world import KINDS
from encoderlab.errors import UsageError

WHITE, INK, RULE, HEAD = (255, 255, 255), (45, 45, 55), (150, 150, 160), (215, 225, 240)
TEXT_HEIGHT, TEXT_WIDTH = 0.042, 0.86
PARAGRAPHS = 4  # of a page whose text is not given


class DataGenerator:
    """Draws pictures of `size` pixels; the same `seed` gives the same pictures.

    Args:
        size: pixels a side.
        seed: which pictures of the synthetic world are used.
        typeface: a TrueType or OpenType file for the text. The built-in font has English
            letters, digits and common signs; other scripts, such as Korean, need another font.

    Raises:
        UsageError: fewer than 16 pixels.
        MissingError: the font file cannot be read.

    Examples:
        >>> DataGenerator(size=64).generate_bar_chart(["a", "b", "c"], [3, 1, 2]).size
        (64, 64)
    """

    def __init__(self, size: int = 224, seed: int = 0, typeface: str | Path | None = None) -> None:
        if size < 16:
            raise UsageError("the picture is too small to draw in", got=size, want="at least 16")
        self.size, self.seed = size, seed
        self.typeface = None if typeface is None else Path(typeface)
        font(size, self.typeface)  # raises for a font that cannot be read

    def generate_bar_chart(
        self, categories: Sequence[str], values: Sequence[float], title: str = ""
    ) -> Image.Image:
        """A bar chart with one bar and one colour per category.

        Args:
            categories: the label below each bar.
            values: the height of each bar: finite numbers from 0 up, in any unit.
            title: the text above the bars.

        Returns:
            An RGB image of `size` x `size` pixels; the highest bar takes 85 % of the axis.

        Raises:
            UsageError: no values, a value that is not a finite number from 0 up, another number of
                categories than of values, or letters that the font lacks.
        """
        try:
            heights = [float(value) for value in values]
        except (TypeError, ValueError):
            heights = []
        if not heights or not all(0 <= height < float("inf") for height in heights):
            raise UsageError(
                "a bar chart needs values from 0 up",
                got=values if isinstance(values, str) else list(values),
                want="finite numbers",
            )
        if isinstance(categories, str) or len(categories) != len(heights):
            count = 1 if isinstance(categories, str) else len(categories)
            raise UsageError(
                "categories and values do not match",
                got=f"{count} categories",
                want=f"{len(heights)}",
            )
        self._check_letters(title, *categories)
        canvas = Canvas(self.size, WHITE, self.typeface)
        draw_axes(canvas, grid=True)
        top = max(heights) or 1.0
        inks = [COLOURS[i % len(COLOURS)].rgb for i in range(len(heights))]
        draw_bars(canvas, [0.85 * height / top for height in heights], inks)
        step = 0.8 / len(heights)
        for i, label in enumerate(categories):
            x, name = 0.14 + (i + 0.5) * step, collapse_spaces(str(label))
            canvas.text(x, 0.95, name, 0.05, INK, widest=0.95 * step)
        if title:
            canvas.text(0.53, 0.045, collapse_spaces(title), 0.055, INK, widest=0.9)
        return canvas.picture()

    def generate_table_image(
        self, data: Mapping[str, Sequence[object]] | Any, title: str = ""
    ) -> Image.Image:
        """A ruled table with a tinted row of column names.

        Args:
            data: column name -> cells from top to bottom, or a pandas DataFrame (its index is not
                drawn).
            title: the text above the table.

        Returns:
            An RGB image of `size` x `size` pixels.

        Raises:
            UsageError: neither a dictionary nor a DataFrame, no column, columns of different
                lengths, or letters that the font lacks.
        """
        header, rows = _columns_and_rows(data)
        # A cell is one line of text, without line breaks.
        lines = [[collapse_spaces(str(cell)) for cell in line] for line in (header, *rows)]
        self._check_letters(title, *(cell for line in lines for cell in line))
        canvas = Canvas(self.size, WHITE, self.typeface)
        left, width = 0.04, 0.92
        top = left
        if title:
            canvas.text(0.5, 0.06, collapse_spaces(title), 0.055, INK, widest=0.9)
            top = 0.12
        high, wide = (left + width - top) / max(len(lines), 4), width / len(header)
        canvas.box(left, top, left + width, top + high, HEAD)
        for row, line in enumerate(lines):
            for column, cell in enumerate(line):
                x, y = left + (column + 0.5) * wide, top + (row + 0.5) * high
                canvas.text(x, y, cell, min(0.5 * high, 0.07), INK, widest=0.9 * wide)
        xs = [left + column * wide for column in range(len(header) + 1)]
        ys = [top + row * high for row in range(len(lines) + 1)]
        canvas.grid(xs, ys, RULE, 0.005)
        return canvas.picture()

    def generate_document_image(
        self, title: str, paragraphs: Sequence[str] | None = None
    ) -> Image.Image:
        """A page of text under a title, wrapped between words.

        Args:
            title: the first line.
            paragraphs: the text below it; None for sentences of the synthetic world.

        Returns:
            An RGB image of `size` x `size` pixels; lines below the lower margin are not drawn.

        Raises:
            UsageError: letters that the font lacks.
        """
        if paragraphs is None:
            pages = self._drawn("document", self.seed, PARAGRAPHS, self.size)
            paragraphs = [text for _, text in pages]
        self._check_letters(title, *paragraphs)
        canvas = Canvas(self.size, WHITE, self.typeface)
        canvas.text(0.07, 0.09, collapse_spaces(title), 0.075, INK, anchor="lm", widest=0.86)
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

    def generate_simple_images(
        self, n: int = 9, size: int | None = None
    ) -> list[tuple[Image.Image, str]]:
        """Scenes of coloured shapes, each with its caption.

        Args:
            n: how many.
            size: pixels a side, instead of the generator's own.

        Returns:
            `n` pairs of an RGB image and an English sentence.
        """
        return self._drawn("scene", self.seed, n, self.size if size is None else size)

    def generate_categorized_images(
        self, n_per_category: int = 3, categories: Sequence[str] = KINDS
    ) -> Mapping[str, list[tuple[Image.Image, str]]]:
        """Pictures of several kinds, each with its caption.

        Args:
            n_per_category: how many of each kind.
            categories: which of scene, chart, table, document and math.

        Returns:
            Kind -> `n_per_category` pairs of an RGB image and an English sentence.

        Raises:
            UsageError: an unknown kind.
        """
        first = int(np.random.default_rng(self.seed).integers(2**30))
        return {kind: self._drawn(kind, first, n_per_category, self.size) for kind in categories}

    def _drawn(self, kind: str, first: int, n: int, size: int) -> list[tuple[Image.Image, str]]:
        items = (generate(first + i, kind=kind, size=size) for i in range(n))
        return [(item.image, item.captions[0]) for item in items]

    def _check_letters(self, *texts: object) -> None:
        # A letter without a glyph would be drawn as a box.
        letters = sorted({letter for text in texts for letter in str(text)})
        missing = [letter for letter in letters if not has_glyph(letter, self.typeface)]
        if missing:
            raise UsageError(
                "the font has no glyph for some letters",
                got="".join(missing[:12]),
                want="letters that the font has",
                hint="name a font file that has them: DataGenerator(typeface=PATH)",
            )


def _columns_and_rows(data: Any) -> tuple[list[object], list[list[object]]]:
    """Column names and rows of a dictionary of columns or of a DataFrame."""
    if hasattr(data, "columns") and hasattr(data, "itertuples"):
        header, rows = list(data.columns), [list(row) for row in data.itertuples(index=False)]
    elif isinstance(data, Mapping) and not any(isinstance(v, str) for v in data.values()):
        header, columns = list(data), [list(cells) for cells in data.values()]
        lengths = [len(cells) for cells in columns]
        if len(set(lengths)) > 1:
            raise UsageError("a table needs columns of one length", got=lengths)
        rows = [list(row) for row in zip(*columns, strict=True)]
    else:
        raise UsageError(
            "a table is drawn from columns",
            got=type(data).__name__,
            want="a dictionary of lists by column name, or a DataFrame",
        )
    if not header:
        raise UsageError("a table needs a column", got="none")
    return header, rows


def _wrapped(canvas: Canvas, paragraph: str) -> Iterator[str]:
    """Lines that fit the width of the page, broken between words."""
    line = ""
    for word in paragraph.split():
        longer = f"{line} {word}" if line else word
        if line and not canvas.fits(longer, TEXT_HEIGHT, TEXT_WIDTH):
            yield line
            longer = word
        line = longer
    if line:
        yield line
