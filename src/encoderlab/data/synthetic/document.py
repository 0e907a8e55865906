"""Documents: a page with a title, paragraphs, a picture and a stamp."""

from __future__ import annotations

import numpy as np

from encoderlab.data.synthetic.canvas import Canvas
from encoderlab.data.synthetic.item import Picture
from encoderlab.data.synthetic.words import COLOURS, NUMBERS, Colour, article, particle

WHITE, INK = (255, 255, 255), (150, 150, 158)
SIDES = (("left", "왼쪽"), ("right", "오른쪽"))


def draw(rng: np.random.Generator, size: int) -> Picture:
    """A page whose title, picture and stamp have their own colours and places."""
    paragraphs = int(rng.integers(1, 5))
    title, image, stamp = (COLOURS[i] for i in rng.choice(len(COLOURS), 3, replace=False))
    centred = bool(rng.integers(2))
    image_side, stamp_side = int(rng.integers(2)), int(rng.integers(2))
    canvas = Canvas(size, WHITE)
    _draw_page(canvas, rng, title, centred, paragraphs, (image, image_side), (stamp, stamp_side))
    aligned, aligned_ko = ("centred", "가운데") if centred else ("left-aligned", "왼쪽")
    stamp_ko = particle(f"{stamp.ko} 도장", "이", "가")
    place = "in the middle" if centred else "on the left"
    side, side_ko = SIDES[image_side]
    corner, corner_ko = SIDES[stamp_side]
    count = f"{NUMBERS[paragraphs]} paragraph{'s' if paragraphs > 1 else ''}"
    return Picture(
        canvas.picture(),
        (
            f"a document page with {article(aligned)} {title.en} title, {count}, "
            f"{article(image.en)} picture on the {side} and {article(stamp.en)} stamp at the "
            f"bottom {corner}",
            f"a picture of a document: {title.en} title {place}, "
            f"{image.en} picture on the {side}, {stamp.en} stamp at the bottom {corner}, {count}",
            f"a document page with {article(title.en)} title and {article(stamp.en)} stamp",
        ),
        (
            f"{title.ko} 제목이 {aligned_ko}에 있고 문단 {paragraphs}개, "
            f"{side_ko}에 {image.ko} 그림, {corner_ko} 아래에 {stamp_ko} 있는 문서",
            f"{title.ko} 제목과 {stamp_ko} 있는 문서",
        ),
        "What colour is the stamp?", f"It is {stamp.en}.",
        "문단은 몇 개입니까?", f"{paragraphs}개입니다.",
    )  # fmt: skip


def _draw_page(
    canvas: Canvas,
    rng: np.random.Generator,
    title: Colour,
    centred: bool,
    paragraphs: int,
    image: tuple[Colour, int],
    stamp: tuple[Colour, int],
) -> None:
    """The page itself; `image` and `stamp` come with their side, 0 left and 1 right."""
    length = float(rng.uniform(0.42, 0.52))
    start = 0.5 - length / 2 if centred else 0.07
    canvas.box(start, 0.06, start + length, 0.14, title.rgb)
    # The picture takes a third of the width; text runs beside it, full width below it.
    colour, side = image
    left = 0.66 if side else 0.07
    canvas.box(left, 0.21, left + 0.27, 0.43, colour.rgb)
    y, gap = 0.215, 0.055
    room = (0.80 - 0.215 - (paragraphs - 1) * gap) / paragraphs
    lines = max(1, int(room / 0.045))
    for _ in range(paragraphs):
        for line in range(lines):
            beside = y < 0.45
            x0 = 0.07 if not beside or side else 0.40
            x1 = 0.93 if not beside or not side else 0.60
            end = x1 - (0.3 * (x1 - x0) if line == lines - 1 and lines > 1 else 0)
            canvas.line([(x0, y), (end, y)], INK, 0.018)
            y += 0.045
        y += gap
    ink, corner = stamp
    canvas.disc(0.86 if corner else 0.14, 0.895, 0.075, ink.rgb)
