"""Scenes: one to three coloured shapes and where they stand."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from encoderlab.data.synthetic.canvas import Canvas, Point
from encoderlab.data.synthetic.item import Picture, Placed
from encoderlab.data.synthetic.words import (
    COLOURS,
    PAPERS,
    Colour,
    article,
    listed,
    listed_ko,
    particle,
)

# The centre of each thing; captions in English and in Korean, the complete one first.
Composed = tuple[tuple[Point, ...], tuple[str, ...], tuple[str, ...]]


@dataclass(frozen=True)
class Shape:
    """A named outline, as points around the origin within radius one; None is a disc."""

    en: str
    ko: str
    outline: tuple[Point, ...] | None


def _outline(radii: list[float]) -> tuple[Point, ...]:
    """Points at equal angles from the top on, at these distances from the centre."""
    angles = [2 * math.pi * i / len(radii) - math.pi / 2 for i in range(len(radii))]
    return tuple((r * math.cos(a), r * math.sin(a)) for r, a in zip(radii, angles, strict=True))


def _heart() -> tuple[Point, ...]:
    turns = [2 * math.pi * i / 40 for i in range(40)]
    waves = ((13, 1), (-5, 2), (-2, 3), (-1, 4))
    heights = [sum(size * math.cos(n * t) for size, n in waves) for t in turns]
    return tuple((math.sin(t) ** 3, -y / 16 - 0.1) for t, y in zip(turns, heights, strict=True))


_ARM = 0.36
SHAPES = (
    Shape("circle", "원", None),
    Shape("square", "정사각형", ((-0.8, -0.8), (0.8, -0.8), (0.8, 0.8), (-0.8, 0.8))),
    Shape("triangle", "삼각형", _outline([1.0] * 3)),
    Shape("star", "별", _outline([1.0, 0.42] * 5)),
    Shape("heart", "하트", _heart()),
    Shape("diamond", "마름모", ((0, -1), (0.62, 0), (0, 1), (-0.62, 0))),
    Shape("cross", "십자가", (
        (-_ARM, -1), (_ARM, -1), (_ARM, -_ARM), (1, -_ARM), (1, _ARM), (_ARM, _ARM),
        (_ARM, 1), (-_ARM, 1), (-_ARM, _ARM), (-1, _ARM), (-1, -_ARM), (-_ARM, -_ARM))),
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
        """English words for it, without an article."""
        return f"{self.size[0]} {self.colour.en} {self.shape.en}"

    @property
    def ko(self) -> str:
        """Korean words for it."""
        return f"{self.size[1]} {self.colour.ko} {self.shape.ko}"

    def draw(self, canvas: Canvas, x: float, y: float) -> None:
        """The shape centred on (x, y)."""
        radius, outline = self.size[2], self.shape.outline
        if outline is None:
            canvas.disc(x, y, 0.9 * radius, self.colour.rgb)
        else:
            points = [(x + radius * u, y + radius * v) for u, v in outline]
            canvas.polygon(points, self.colour.rgb)


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
    centres, captions, captions_ko = (_alone, _pair, _row)[count - 1](rng, things)
    for thing, centre in zip(things, centres, strict=True):
        thing.draw(canvas, *centre)
    captions = (captions[0], f"a picture of {captions[0]}", *captions[1:])
    if len({thing.shape.en for thing in things}) == count:
        question, answer = f"What colour is the {things[0].shape.en}?", things[0].colour.en
    else:
        question, answer = "How many shapes are in the picture?", str(count)
    return Picture(
        canvas.picture(), captions, captions_ko,
        question, answer, "그림에 도형이 몇 개 있습니까?", f"{count}개",
        objects=tuple(
            Placed(thing.shape.en, thing.colour.en, *centre, thing.size[2])
            for thing, centre in zip(things, centres, strict=True)
        ),
    )  # fmt: skip


def _alone(rng, things: list[Thing]) -> Composed:
    (thing,) = things
    en, ko, x, y = PLACES[rng.integers(len(PLACES))]
    dx, dy = rng.uniform(-0.04, 0.04, size=2).tolist()
    return (
        ((x + dx, y + dy),),
        (f"{article(thing.en)} {en}", article(thing.en)),
        (f"{ko}에 있는 {thing.ko}", thing.ko),
    )


def _pair(rng, things: list[Thing]) -> Composed:
    first, second = things
    relation = int(rng.integers(len(RELATIONS)))
    en, ko, (dx, dy) = RELATIONS[relation]
    across, down = 0.12 if dy else 0.04, 0.12 if dx else 0.04
    centres = []
    for distance in (0.23, -0.23):
        x = 0.5 + dx * distance + float(rng.uniform(-across, across))
        y = 0.5 + dy * distance + float(rng.uniform(-down, down))
        centres.append((x, y))
    back_en, back_ko, _ = RELATIONS[relation ^ 1]  # opposites stand side by side
    return (
        tuple(centres),
        (f"{article(first.en)} {en} {article(second.en)}",
         f"{article(second.en)} {back_en} {article(first.en)}",
         f"{article(first.en)} and {article(second.en)}"),
        (f"{second.ko} {ko} 있는 {first.ko}", f"{first.ko} {back_ko} 있는 {second.ko}",
         f"{particle(first.ko, '과', '와')} {second.ko}"),
    )  # fmt: skip


def _row(rng, things: list[Thing]) -> Composed:
    across = bool(rng.integers(2))
    centres = []
    for position in (0.19, 0.5, 0.81):
        off = float(rng.uniform(-0.15, 0.15))
        x, y = (position, 0.5 + off) if across else (0.5 + off, position)
        centres.append((x, y))
    order = "from left to right" if across else "from top to bottom"
    order_ko = "왼쪽에서 오른쪽으로" if across else "위에서 아래로"
    names = [article(thing.en) for thing in things]
    names_ko = [thing.ko for thing in things]
    return (
        tuple(centres),
        (f"{listed(names)}, {order}", f"three shapes {order}: {listed(names)}"),
        (f"{order_ko} {listed_ko(names_ko)}", listed_ko(names_ko)),
    )
