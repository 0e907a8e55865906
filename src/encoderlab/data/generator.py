"""Pictures for an experiment that has no data yet: charts, tables, pages and shapes on request.

Draws with the synthetic world's own brushes; the words are the caller's.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image

from encoderlab.data.synthetic import generate
from encoderlab.data.synthetic.canvas import Canvas
from encoderlab.data.synthetic.chart import draw_axes, draw_bars
from encoderlab.data.synthetic.words import COLOURS
from encoderlab.data.synthetic.world import KINDS
from encoderlab.errors import UsageError

WHITE, INK, RULE, HEAD = (255, 255, 255), (45, 45, 55), (150, 150, 160), (215, 225, 240)


class DataGenerator:
    """Draws pictures of `size` pixels; the same `seed` gives the same pictures."""

    def __init__(self, size: int = 224, seed: int = 0) -> None:
        if size < 16:
            raise UsageError("the picture is too small to draw in", got=size, want="at least 16")
        self.size, self.seed = size, seed

    def generate_bar_chart(
        self, values: Sequence[float], labels: Sequence[str] | None = None, title: str = ""
    ) -> Image.Image:
        """A bar chart of non-negative `values`, one colour a bar, labels below.

        Raises:
            UsageError: no values, a negative one, or as many labels as there are not bars.
        """
        if not len(values) or min(values) < 0:
            raise UsageError("a bar chart needs values from 0 up", got=list(values))
        if labels is not None and len(labels) != len(values):
            raise UsageError(
                "labels and values do not match", got=f"{len(labels)} labels", want=f"{len(values)}"
            )
        canvas = Canvas(self.size, WHITE)
        draw_axes(canvas, grid=True)
        top = max(values) or 1.0
        inks = [COLOURS[i % len(COLOURS)].rgb for i in range(len(values))]
        draw_bars(canvas, [0.85 * value / top for value in values], inks)
        step = 0.8 / len(values)
        for i, label in enumerate(labels or ()):
            canvas.text(0.14 + (i + 0.5) * step, 0.95, label, 0.05, INK, widest=0.95 * step)
        if title:
            canvas.text(0.53, 0.045, title, 0.055, INK, widest=0.9)
        return canvas.picture()

    def generate_table_image(
        self, rows: Sequence[Sequence[object]], header: Sequence[str] | None = None
    ) -> Image.Image:
        """A ruled table of `rows`, under a tinted `header` if there is one.

        Raises:
            UsageError: no rows, or rows of different lengths.
        """
        lines = ([list(header)] if header else []) + [list(row) for row in rows]
        if not lines or not lines[0] or len({len(line) for line in lines}) != 1:
            raise UsageError("a table needs rows of one length", got=[len(line) for line in lines])
        canvas = Canvas(self.size, WHITE)
        left, width = 0.04, 0.92
        high, wide = width / max(len(lines), 4), width / len(lines[0])
        if header:
            canvas.box(left, left, left + width, left + high, HEAD)
        for row, line in enumerate(lines):
            for column, cell in enumerate(line):
                canvas.text(
                    left + (column + 0.5) * wide,
                    left + (row + 0.5) * high,
                    str(cell),
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
        """A page with a title and paragraphs, wrapped; what does not fit is left out."""
        canvas = Canvas(self.size, WHITE)
        canvas.text(0.07, 0.09, title, 0.075, INK, anchor="lm", widest=0.86)
        canvas.line([(0.07, 0.15), (0.93, 0.15)], RULE, 0.005)
        y = 0.2
        for paragraph in paragraphs:
            for line in textwrap.wrap(paragraph, 46):
                if y > 0.96:
                    return canvas.picture()
                canvas.text(0.07, y, line, 0.042, INK, anchor="lm", widest=0.86)
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
