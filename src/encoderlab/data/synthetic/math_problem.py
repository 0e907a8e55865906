"""Maths problems: one calculation in large digits on coloured paper."""

from __future__ import annotations

import numpy as np

from encoderlab.data.synthetic.canvas import Canvas
from encoderlab.data.synthetic.item import Picture
from encoderlab.data.synthetic.words import COLOURS, PAPERS, RGB

# Pale inks cannot be read on coloured paper.
INKS = tuple(colour for colour in COLOURS if colour.en not in ("yellow", "turquoise", "pink"))
OPERATORS = (("+", "plus", "더하기"), ("-", "minus", "빼기"), ("×", "times", "곱하기"),
             ("÷", "divided by", "나누기"))  # fmt: skip


def draw(rng: np.random.Generator, size: int) -> Picture:
    """A calculation with two numbers, in one line or in a column."""
    sign, name, name_ko = OPERATORS[rng.integers(len(OPERATORS))]
    first, second, result = _numbers(rng, sign)
    ink, paper = INKS[rng.integers(len(INKS))], PAPERS[rng.integers(len(PAPERS))]
    stacked = bool(rng.integers(2))
    canvas = Canvas(size, paper.rgb)
    dy = float(rng.uniform(-0.08, 0.08))
    if stacked:
        form, form_ko = "written in a column", "세로셈"
        _in_a_column(canvas, first, sign, second, ink.rgb, dy / 2)
    else:
        form, form_ko = "in one line", "가로셈"
        _in_one_line(canvas, first, sign, second, ink.rgb, dy)
    return Picture(
        canvas.picture(),
        (
            f"a math problem {form}, {first} {name} {second}, in {ink.en} ink on {paper.en} paper",
            f"a picture of a math problem: {first} {sign} {second}, {ink.en} on {paper.en}, {form}",
            f"a math problem, {first} {name} {second}",
        ),
        (
            f"{paper.ko} 종이에 {ink.ko} 글씨로 쓴 수학 문제, "
            f"{first} {name_ko} {second}, {form_ko}",
            f"수학 문제 {first} {sign} {second}",
        ),
        f"What is {first} {name} {second}?", str(result),
        f"{first} {name_ko} {second}의 답은 얼마입니까?", str(result),
    )  # fmt: skip


def _numbers(rng: np.random.Generator, sign: str) -> tuple[int, int, int]:
    first, second = (int(n) for n in rng.integers(1, 100, size=2))
    if sign == "+":
        return first, second, first + second
    if sign == "-":
        first, second = max(first, second), min(first, second)
        return first, second, first - second
    second = int(rng.integers(2, 10))
    if sign == "×":
        return first, second, first * second
    result = int(rng.integers(1, 12))
    return result * second, second, result


def _in_one_line(canvas: Canvas, first: int, sign: str, second: int, ink: RGB, dy: float) -> None:
    y = 0.5 + dy
    canvas.text(0.36, y, str(first), 0.27, ink, anchor="rm")
    canvas.sign(0.455, y, sign, 0.06, ink)
    canvas.text(0.54, y, str(second), 0.27, ink, anchor="lm")
    for bar in (-0.03, 0.03):
        canvas.line([(0.87, y + bar), (0.96, y + bar)], ink, 0.018)


def _in_a_column(canvas: Canvas, first: int, sign: str, second: int, ink: RGB, dy: float) -> None:
    canvas.text(0.82, 0.27 + dy, str(first), 0.36, ink, anchor="rm")
    canvas.sign(0.23, 0.61 + dy, sign, 0.09, ink)
    canvas.text(0.82, 0.61 + dy, str(second), 0.36, ink, anchor="rm")
    canvas.line([(0.14, 0.83 + dy), (0.86, 0.83 + dy)], ink, 0.022)
