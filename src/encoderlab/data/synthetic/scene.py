"""Scenes: one to three coloured shapes and where they stand."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from encoderlab.data.synthetic.canvas import Canvas, Point
from encoderlab.data.synthetic.item import Picture
from encoderlab.data.synthetic.words import (
    COLOURS,
    PAPERS,
    RGB,
    Colour,
    article,
    listed,
    listed_ko,
    particle,
)


@dataclass(frozen=True)
class Shape:
    """A named outline, as points around the origin within radius one; None is a disc."""

    en: str
    ko: str
    outline: tuple[Point, ...] | None


def _regular(corners: int, turn: float = 0.0) -> tuple[Point, ...]:
    angles = [2 * math.pi * i / corners - math.pi / 2 + turn for i in range(corners)]
    return tuple((math.cos(a), math.sin(a)) for a in angles)


def _star(points: int, inner: float) -> tuple[Point, ...]:
    radii = [1.0, inner] * points
    angles = [math.pi * i / points - math.pi / 2 for i in range(2 * points)]
    return tuple((r * math.cos(a), r * math.sin(a)) for r, a in zip(radii, angles, strict=True))


def _heart() -> tuple[Point, ...]:
    turns = [2 * math.pi * i / 40 for i in range(40)]
    return tuple(
        (
            math.sin(t) ** 3,
            -(13 * math.cos(t) - 5 * math.cos(2 * t) - 2 * math.cos(3 * t) - math.cos(4 * t)) / 16
            - 0.1,
        )
        for t in turns
    )


_THIRD = 0.36
SHAPES = (
    Shape("circle", "원", None),
    Shape("square", "정사각형", ((-0.8, -0.8), (0.8, -0.8), (0.8, 0.8), (-0.8, 0.8))),
    Shape("triangle", "삼각형", _regular(3)),
    Shape("star", "별", _star(5, 0.42)),
    Shape("heart", "하트", _heart()),
    Shape("diamond", "마름모", ((0, -1), (0.62, 0), (0, 1), (-0.62, 0))),
    Shape("cross", "십자가", (
        (-_THIRD, -1), (_THIRD, -1), (_THIRD, -_THIRD), (1, -_THIRD), (1, _THIRD),
        (_THIRD, _THIRD), (_THIRD, 1), (-_THIRD, 1), (-_THIRD, _THIRD), (-1, _THIRD),
        (-1, -_THIRD), (-_THIRD, -_THIRD))),
    Shape("arrow", "화살표", (
        (-1, -0.3), (0.1, -0.3), (0.1, -0.8), (1, 0), (0.1, 0.8), (0.1, 0.3), (-1, 0.3))),
)  # fmt: skip
SIZES = (("small", "작은", 0.085), ("large", "큰", 0.15))
PLACES = tuple(
    (en, ko, x, y)
    for y, row, row_ko in ((0.22, "top", "위"), (0.5, "middle", "가운데"), (0.78, "bottom", "아래"))
    for x, en, ko in (
        (0.22, f"at the {row} left", f"왼쪽 {row_ko}"),
        (0.5, f"at the {row} centre", f"중앙 {row_ko}"),
        (0.78, f"at the {row} right", f"오른쪽 {row_ko}"),
    )
)
# (English, Korean postposition phrase, direction from the second to the first)
RELATIONS = (
    ("to the left of", "왼쪽에", (-1, 0)),
    ("to the right of", "오른쪽에", (1, 0)),
    ("above", "위에", (0, -1)),
    ("below", "아래에", (0, 1)),
)


@dataclass(frozen=True)
class Thing:
    """One shape of a scene."""

    shape: Shape
    colour: Colour
    size: tuple[str, str, float]

    @property
    def en(self) -> str:
        return f"{self.size[0]} {self.colour.en} {self.shape.en}"

    @property
    def ko(self) -> str:
        return f"{self.size[1]} {self.colour.ko} {self.shape.ko}"

    def draw(self, canvas: Canvas, x: float, y: float) -> None:
        draw_shape(canvas, self.shape, x, y, self.size[2], self.colour.rgb)


def draw_shape(canvas: Canvas, shape: Shape, x: float, y: float, radius: float, ink: RGB) -> None:
    """`shape` centred on (x, y)."""
    if shape.outline is None:
        canvas.disc(x, y, 0.9 * radius, ink)
    else:
        canvas.polygon([(x + radius * u, y + radius * v) for u, v in shape.outline], ink)


def draw(rng: np.random.Generator, size: int) -> Picture:
    """A scene with one, two or three things."""
    paper = PAPERS[rng.integers(len(PAPERS))]
    canvas = Canvas(size, paper.rgb)
    count = int(rng.choice([1, 2, 3], p=[0.2, 0.5, 0.3]))
    picked = rng.choice(len(COLOURS) * len(SHAPES), size=count, replace=False)
    things = [
        Thing(SHAPES[p % len(SHAPES)], COLOURS[p // len(SHAPES)], SIZES[rng.integers(2)])
        for p in picked
    ]
    describe: Callable[..., tuple[tuple[str, ...], tuple[str, ...]]]
    describe = (_alone, _pair, _row)[count - 1]
    captions, captions_ko = describe(rng, canvas, things)
    captions = (captions[0], f"a picture of {captions[0]}", *captions[1:])
    asked = things[0]
    return Picture(
        canvas.picture(), captions, captions_ko,
        f"What colour is the {asked.shape.en}?" if count == 1 or len(
            {t.shape.en for t in things}) == count else "How many shapes are in the picture?",
        asked.colour.en if count == 1 or len({t.shape.en for t in things}) == count
        else str(count),
        "그림에 도형이 몇 개 있습니까?", f"{count}개",
    )  # fmt: skip


def _jitter(rng: np.random.Generator) -> float:
    return float(rng.uniform(-0.04, 0.04))


def _alone(rng, canvas: Canvas, things: list[Thing]):
    (thing,) = things
    en, ko, x, y = PLACES[rng.integers(len(PLACES))]
    thing.draw(canvas, x + _jitter(rng), y + _jitter(rng))
    return (
        (f"{article(thing.en)} {en}", article(thing.en)),
        (f"{ko}에 있는 {thing.ko}", thing.ko),
    )


def _pair(rng, canvas: Canvas, things: list[Thing]):
    first, second = things
    en, ko, (dx, dy) = RELATIONS[rng.integers(len(RELATIONS))]
    apart = 0.23
    for thing, sign in ((first, 1), (second, -1)):
        across = 0.12 if dy else 0.04
        down = 0.12 if dx else 0.04
        thing.draw(
            canvas,
            0.5 + sign * dx * apart + float(rng.uniform(-across, across)),
            0.5 + sign * dy * apart + float(rng.uniform(-down, down)),
        )
    back_en, back_ko, _ = RELATIONS[
        {0: 1, 1: 0, 2: 3, 3: 2}[[relation[0] for relation in RELATIONS].index(en)]
    ]
    return (
        (f"{article(first.en)} {en} {article(second.en)}",
         f"{article(second.en)} {back_en} {article(first.en)}",
         f"{article(first.en)} and {article(second.en)}"),
        (f"{second.ko} {ko} 있는 {first.ko}", f"{first.ko} {back_ko} 있는 {second.ko}",
         f"{particle(first.ko, '과', '와')} {second.ko}"),
    )  # fmt: skip


def _row(rng, canvas: Canvas, things: list[Thing]):
    across = bool(rng.integers(2))
    for position, thing in zip((0.19, 0.5, 0.81), things, strict=True):
        off = float(rng.uniform(-0.15, 0.15))
        x, y = (position, 0.5 + off) if across else (0.5 + off, position)
        thing.draw(canvas, x, y)
    order, order_ko = (
        ("from left to right", "왼쪽에서 오른쪽으로")
        if across
        else ("from top to bottom", "위에서 아래로")
    )
    names = [article(thing.en) for thing in things]
    names_ko = [thing.ko for thing in things]
    return (
        (f"{listed(names)}, {order}", f"three shapes {order}: {listed(names)}"),
        (f"{order_ko} {listed_ko(names_ko)}", listed_ko(names_ko)),
    )
