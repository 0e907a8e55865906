"""Charts: bar, horizontal bar, line, pie and scatter, described by what a glance can tell."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from encoderlab.data.synthetic.canvas import Canvas
from encoderlab.data.synthetic.item import Picture
from encoderlab.data.synthetic.words import (
    COLOURS,
    NUMBERS,
    NUMBERS_KO,
    Colour,
    article,
    listed,
    listed_ko,
    particle,
)

AXIS, GRID, WHITE = (70, 70, 80), (222, 222, 228), (255, 255, 255)
# (name, Korean, heights at five points from left to right)
TRENDS = (
    ("rises", "올라가는", (0.1, 0.3, 0.5, 0.7, 0.9)),
    ("falls", "내려가는", (0.9, 0.7, 0.5, 0.3, 0.1)),
    ("peaks in the middle", "가운데가 높은", (0.15, 0.5, 0.9, 0.5, 0.15)),
    ("dips in the middle", "가운데가 낮은", (0.9, 0.5, 0.12, 0.5, 0.9)),
    ("stays flat", "평평한", (0.5, 0.5, 0.5, 0.5, 0.5)),
)
# Captions in English and Korean; question and answer in English, in Korean.
Description = tuple[tuple[str, ...], tuple[str, ...], str, str, str, str]


def draw(rng: np.random.Generator, size: int) -> Picture:
    """A chart of one of the five sorts."""
    canvas = Canvas(size, WHITE)
    sort = int(rng.integers(6))
    if sort < 3:
        description = _bars(rng, canvas, across=sort == 2)
    else:
        description = (_lines, _pie, _scatter)[sort - 3](rng, canvas)
    complete, *shorter = description[0]
    captions = (complete, f"a picture of {complete}", *shorter)
    return Picture(canvas.picture(), captions, *description[1:])


def _inks(rng: np.random.Generator, count: int) -> list[Colour]:
    return [COLOURS[i] for i in rng.choice(len(COLOURS), size=count, replace=False)]


def _heights(rng: np.random.Generator, count: int) -> np.ndarray:
    """Heights with a clear winner and a clear loser."""
    heights = rng.uniform(0.4, 0.66, size=count)
    order = rng.permutation(count)
    heights[order[0]], heights[order[1]] = 0.92, 0.2
    return heights


def draw_axes(canvas: Canvas, grid: bool) -> None:
    """A left and a lower axis, with grid lines on request."""
    if grid:
        for y in (0.2, 0.4, 0.6):
            canvas.line([(0.12, y), (0.95, y)], GRID, 0.008)
    canvas.line([(0.12, 0.06), (0.12, 0.9), (0.95, 0.9)], AXIS, 0.014)


def draw_bars(
    canvas: Canvas,
    heights: Sequence[float],
    inks: Sequence[tuple[int, int, int]],
    across: bool = False,
) -> None:
    """Bars of `heights` (0 to 1) between the axes."""
    step = 0.8 / len(heights)
    for i, (height, ink) in enumerate(zip(heights, inks, strict=True)):
        start, end = 0.14 + i * step + 0.12 * step, 0.14 + (i + 1) * step - 0.12 * step
        if across:
            canvas.box(0.13, start - 0.06, 0.13 + 0.82 * height, end - 0.06, ink)
        else:
            canvas.box(start, 0.89 - 0.82 * height, end, 0.89, ink)


def _bars(rng, canvas: Canvas, across: bool) -> Description:
    count = int(rng.integers(3, 6))
    inks, heights = _inks(rng, count), _heights(rng, count)
    draw_axes(canvas, not across and bool(rng.integers(2)))
    draw_bars(canvas, heights.tolist(), [ink.rgb for ink in inks], across)
    top, low = inks[int(heights.argmax())], inks[int(heights.argmin())]
    sort, long = ("horizontal bar chart", "longest") if across else ("bar chart", "tallest")
    sort_ko, long_ko = ("가로 막대그래프", "긴") if across else ("막대그래프", "높은")
    order = "from top to bottom" if across else "from left to right"
    order_ko = "위에서부터" if across else "왼쪽부터"
    names, names_ko = listed([i.en for i in inks]), listed_ko([i.noun_ko for i in inks])
    return (
        (f"{article(sort)} with {NUMBERS[count]} bars, {names} {order}, the {top.en} one is the "
         f"{long}",
         f"{article(sort)} in {names}, its {low.en} bar is the shortest",
         f"{article(sort)} with {NUMBERS[count]} bars, the {top.en} bar is the {long}"),
        (f"{order_ko} {names_ko} 막대 {count}개가 있는 {sort_ko}, {top.ko} 막대가 가장 {long_ko} "
         "그래프",
         f"{top.ko} 막대가 가장 {long_ko} {sort_ko}"),
        f"Which bar is the {long}?", f"The {top.en} one.",
        f"가장 {long_ko} 막대는 무슨 색입니까?", f"{top.ko} 막대입니다.",
    )  # fmt: skip


def _lines(rng, canvas: Canvas) -> Description:
    count = int(rng.integers(1, 4))
    inks = _inks(rng, count)
    picked = rng.choice(len(TRENDS), size=count, replace=False)
    draw_axes(canvas, bool(rng.integers(2)))
    for ink, trend in zip(inks, picked, strict=True):
        heights = np.clip(np.array(TRENDS[trend][2]) + rng.uniform(-0.04, 0.04, 5), 0.03, 0.97)
        points = [(0.17 + 0.19 * i, 0.88 - 0.8 * h) for i, h in enumerate(heights)]
        canvas.line(points, ink.rgb, 0.028)
    drawn = [(ink, *TRENDS[trend][:2]) for ink, trend in zip(inks, picked, strict=True)]
    names = listed([f"{article(ink.en)} line that {trend}" for ink, trend, _ in drawn])
    names_ko = listed_ko([f"{trend_ko} {ink.ko} 선" for ink, _, trend_ko in drawn])
    lines = "one line" if count == 1 else f"{NUMBERS[count]} lines"
    return (
        (f"a line chart with {names}", f"a line chart of {lines}: {names}",
         f"a line chart with {lines}"),
        (f"{particle(names_ko, '이', '가')} 있는 선그래프", f"선 {count}개의 선그래프"),
        f"What does the {inks[0].en} line do?", f"It {TRENDS[picked[0]][0]}.",
        f"{inks[0].ko} 선은 어떤 모양입니까?", f"{TRENDS[picked[0]][1]} 모양입니다.",
    )  # fmt: skip


def _pie(rng, canvas: Canvas) -> Description:
    count = int(rng.integers(2, 6))
    inks = _inks(rng, count)
    shares = rng.uniform(0.85, 1.15, size=count)
    largest = int(rng.integers(count))
    shares[largest] = 2.2
    edges = np.concatenate([[0], np.cumsum(shares / shares.sum())]) * 360
    for ink, start, end in zip(inks, edges[:-1], edges[1:], strict=True):
        canvas.slice(0.5, 0.5, 0.42, float(start), float(end), ink.rgb)
    names, names_ko = listed([i.en for i in inks]), listed_ko([i.noun_ko for i in inks])
    top = inks[largest]
    return (
        (f"a pie chart with {NUMBERS[count]} slices, {names} clockwise, {top.en} is the largest",
         f"a pie chart in {names}, mostly {top.en}",
         f"a pie chart with {NUMBERS[count]} slices, the largest is {top.en}"),
        (f"시계 방향으로 {names_ko} 조각 {count}개가 있는 원그래프, {top.ko} 조각이 가장 큰 그래프",
         f"{top.ko} 조각이 가장 큰 원그래프"),
        "Which slice is the largest?", f"The {top.en} one.",
        "가장 큰 조각은 무슨 색입니까?", f"{top.ko} 조각입니다.",
    )  # fmt: skip


def _scatter(rng, canvas: Canvas) -> Description:
    count = int(rng.integers(1, 4))
    inks = _inks(rng, count)
    # Flat and rising clouds overlap less when each keeps to its own trend.
    picked = rng.choice(len(TRENDS), size=count, replace=False)
    draw_axes(canvas, False)
    for ink, trend in zip(inks, picked, strict=True):
        xs = np.linspace(0.18, 0.92, 11)
        heights = np.interp(xs, np.linspace(0.18, 0.92, 5), TRENDS[trend][2])
        for x, h in zip(xs, heights + rng.normal(0, 0.03, len(xs)), strict=True):
            canvas.disc(float(x), float(0.88 - 0.8 * np.clip(h, 0.03, 0.97)), 0.024, ink.rgb)
    drawn = [(ink, *TRENDS[trend][:2]) for ink, trend in zip(inks, picked, strict=True)]
    names = listed([f"{ink.en} points whose cloud {trend}" for ink, trend, _ in drawn])
    names_ko = listed_ko([f"{trend_ko} {ink.ko} 점" for ink, _, trend_ko in drawn])
    return (
        (f"a scatter plot with {names}",
         f"a scatter plot of {listed([i.en for i in inks])} points"),
        (f"{particle(names_ko, '이', '가')} 있는 산점도",
         f"{listed_ko([i.noun_ko for i in inks])} 점의 산점도"),
        "How many colours of points are there?", f"{NUMBERS[count].capitalize()}.",
        "점의 색은 몇 가지입니까?", f"{NUMBERS_KO[count]} 가지입니다.",
    )  # fmt: skip
