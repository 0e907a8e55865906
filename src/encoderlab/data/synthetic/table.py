"""Tables: rows, columns, a coloured header, a marked cell."""

from __future__ import annotations

import numpy as np

from encoderlab.data.synthetic.canvas import Canvas
from encoderlab.data.synthetic.item import Picture
from encoderlab.data.synthetic.words import COLOURS, NUMBERS, article, particle

WHITE, STRIPE, RULE, INK = (255, 255, 255), (226, 230, 238), (110, 110, 120), (120, 120, 130)
LEFT, TOP, WIDTH, HEIGHT = 0.05, 0.05, 0.9, 0.9


def draw(rng: np.random.Generator, size: int) -> Picture:
    """A table with two to six body rows under a header and two to five columns."""
    rows, columns = int(rng.integers(2, 7)), int(rng.integers(2, 6))
    header, mark = (COLOURS[i] for i in rng.choice(len(COLOURS), size=2, replace=False))
    at_row, at_column = int(rng.integers(rows)), int(rng.integers(columns))
    striped = bool(rng.integers(2))
    canvas = Canvas(size, WHITE)
    high, wide = HEIGHT / (rows + 1), WIDTH / columns
    canvas.box(LEFT, TOP, LEFT + WIDTH, TOP + high, header.rgb)
    for row in range(rows):
        y = TOP + (row + 1) * high
        if striped and row % 2:
            canvas.box(LEFT, y, LEFT + WIDTH, y + high, STRIPE)
        for column in range(columns):
            x = LEFT + column * wide
            if (row, column) == (at_row, at_column):
                canvas.box(x, y, x + wide, y + high, mark.rgb)
            else:
                number, height = str(int(rng.integers(1, 100))), min(0.5 * high, 0.09)
                canvas.text(x + wide / 2, y + high / 2, number, height, INK, widest=0.7 * wide)
    xs = [LEFT + column * wide for column in range(columns + 1)]
    ys = [TOP + row * high for row in range(rows + 2)]
    canvas.grid(xs, ys, RULE, 0.01)
    size_en = f"{NUMBERS[rows]} rows and {NUMBERS[columns]} columns"
    size_ko = f"{rows}행 {columns}열"
    where = f"in row {NUMBERS[at_row + 1]}, column {NUMBERS[at_column + 1]}"
    where_ko = f"{at_row + 1}행 {at_column + 1}열"
    kind, kind_ko = ("striped table", "줄무늬 표") if striped else ("table", "표")
    return Picture(
        canvas.picture(),
        (
            f"{article(kind)} with {size_en}, {article(header.en)} header, and "
            f"{article(mark.en)} cell {where}",
            f"a picture of {article(kind)} of {size_en} under {article(header.en)} header, the "
            f"cell {where} is {mark.en}",
            f"{article(kind)} with {article(header.en)} header and {article(mark.en)} cell",
        ),
        (
            f"{header.ko} 머리글 아래 {size_ko}이 있고 {where_ko} 칸이 {mark.ko} {kind_ko}",
            f"{header.ko} 머리글과 {mark.ko} 칸이 있는 {size_ko} {kind_ko}",
        ),
        "How many rows does the table have under its header?",
        f"{NUMBERS[rows].capitalize()}.",
        f"색칠한 칸은 어디에 있습니까? {particle('표', '을', '를')} 보고 답하세요.",
        f"{where_ko}입니다.",
    )
