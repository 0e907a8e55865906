"""Captions agree with the pixels, which are read here without the drawing code."""

import functools
import itertools
import re

import numpy as np
import pytest

from encoderlab.data.synthetic import SyntheticItem, generate
from encoderlab.data.synthetic.words import COLOURS, NUMBERS, PAPERS

SIDE, HOW_MANY = 192, 60
BY_NAME = {colour.en: colour for colour in (*COLOURS, *PAPERS)}
NAMES = "|".join(colour.en for colour in COLOURS)


def pictures(kind: str, start: str) -> list[SyntheticItem]:
    """The first pictures whose complete caption matches `start`; never few."""
    draw = functools.partial(generate, split="test", kind=kind)
    # Drawn small for the search: the captions of a picture do not depend on its size.
    numbers = (i for i in range(50 * HOW_MANY) if re.match(start, draw(i, size=8).captions[0]))
    items = [draw(i, size=SIDE) for i in itertools.islice(numbers, HOW_MANY)]
    assert len(items) > 10
    return items


def ink(item: SyntheticItem, colour: str) -> np.ndarray:
    """Where a colour is, as a boolean map (SIDE, SIDE)."""
    pixels = np.asarray(item.image).astype(int)
    return np.abs(pixels - np.array(BY_NAME[colour].rgb)).max(axis=2) < 12


def centre(where: np.ndarray) -> tuple[float, float]:
    """(x, y) of the middle of a map, as shares of the side."""
    y, x = np.nonzero(where)
    return float(x.mean() / SIDE), float(y.mean() / SIDE)


@pytest.mark.parametrize(
    ("relation", "axis", "sign"),
    [("to the left of", 0, -1), ("to the right of", 0, 1), ("above", 1, -1), ("below", 1, 1)],
)
def test_a_relation_is_where_the_shapes_are(relation, axis, sign):
    for item in pictures("scene", f".* {relation} "):
        first, second = re.findall(rf"(?:small|large) ({NAMES}) ", item.captions[0])
        if first != second:
            apart = centre(ink(item, first))[axis] - centre(ink(item, second))[axis]
            assert sign * apart > 0.2, item.captions[0]


def test_three_shapes_stand_in_the_order_of_the_caption():
    for item in pictures("scene", ".*, from "):
        colours = re.findall(rf"(?:small|large) ({NAMES}) ", item.captions[0])
        axis = 0 if "left to right" in item.captions[0] else 1
        if len(set(colours)) == 3:
            places = [centre(ink(item, colour))[axis] for colour in colours]
            assert places == sorted(places), item.captions[0]


def test_a_lonely_shape_is_as_large_and_where_its_caption_says():
    thirds = {"left": 0, "top": 0, "centre": 1, "middle": 1, "right": 2, "bottom": 2}
    for item in pictures("scene", r"an? \w+ \w+ \w+ at the "):
        size, colour, row, column = re.findall(
            rf"(small|large) ({NAMES}) \w+ at the (\w+) (\w+)", item.captions[0]
        )[0]
        where = ink(item, colour)
        x, y = centre(where)
        assert (int(3 * y), int(3 * x)) == (thirds[row], thirds[column]), item.captions[0]
        high = np.ptp(np.nonzero(where)[0]) / SIDE
        wide = np.ptp(np.nonzero(where)[1]) / SIDE
        assert (max(high, wide) > 0.215) == (size == "large"), item.captions[0]


def test_the_tallest_bar_is_the_one_that_is_named():
    for item in pictures("chart", "a (horizontal )?bar chart"):
        across = "horizontal" in item.captions[0]
        count = re.findall(r"with (\w+) bars", item.captions[0])[0]
        named = re.findall(rf"the ({NAMES}) one is the", item.captions[0])[0]
        colours = re.findall(NAMES, item.captions[0].split("bars, ")[1].split(" from ")[0])
        assert len(colours) == NUMBERS.index(count)
        maps = {colour: ink(item, colour) for colour in colours}
        reach = {colour: where.any(axis=0 if across else 1).sum() for colour, where in maps.items()}
        assert max(reach, key=reach.__getitem__) == named, item.captions[0]
        places = [centre(maps[colour])[1 if across else 0] for colour in colours]
        assert places == sorted(places), item.captions[0]


def test_the_largest_slice_is_the_one_that_is_named_and_the_order_is_clockwise():
    for item in pictures("chart", "a pie chart"):
        colours = re.findall(NAMES, item.captions[0].split("slices, ")[1].split(" clockwise")[0])
        named = re.findall(rf"({NAMES}) is the largest", item.captions[0])[0]
        areas = {colour: ink(item, colour).sum() for colour in colours}
        assert max(areas, key=areas.__getitem__) == named, item.captions[0]
        turns = []
        for colour in colours[:-1]:  # a slice's middle of area; the last may pass the top
            x, y = centre(ink(item, colour))
            turns.append(np.arctan2(x - 0.5, 0.5 - y) % (2 * np.pi))
        assert turns == sorted(turns), item.captions[0]


@pytest.mark.parametrize(
    ("trend", "to_the_start", "to_the_end"),
    [
        ("rises", -1, 1),
        ("falls", 1, -1),
        ("peaks in the middle", -1, -1),
        ("dips in the middle", 1, 1),
        ("stays flat", 0, 0),
    ],
)
def test_a_line_goes_as_its_caption_says(trend, to_the_start, to_the_end):
    # From the middle to the start, and to the end: is it lower (-1), higher (1) or level there?
    # One line only: where lines cross, the upper one hides the lower.
    for item in pictures("chart", rf"a line chart with an? \w+ line that {trend}$"):
        where = ink(item, item.captions[0].split()[5])
        start, middle, end = (
            1 - np.nonzero(where[:, int(x * SIDE)])[0].mean() / SIDE for x in (0.2, 0.55, 0.9)
        )
        trends = [0 if abs(y - middle) < 0.12 else int(np.sign(y - middle)) for y in (start, end)]
        assert trends == [to_the_start, to_the_end], item.captions[0]


def test_the_marked_cell_is_where_its_caption_says():
    pattern = (
        rf".*with (\w+) rows and (\w+) columns, an? ({NAMES}) header, and an? ({NAMES}) cell "
        r"in row (\w+), column (\w+)$"
    )
    for item in pictures("table", ".*table"):
        match = re.match(pattern, item.captions[0])
        assert match
        rows, columns, row, column = (NUMBERS.index(match[i]) for i in (1, 2, 5, 6))
        x, y = centre(ink(item, match[4]))
        assert int((x - 0.05) / 0.9 * columns) + 1 == column, item.captions[0]
        assert int((y - 0.05) / 0.9 * (rows + 1)) == row, item.captions[0]
        assert centre(ink(item, match[3]))[1] < 0.05 + 0.9 / (rows + 1), item.captions[0]


def test_the_parts_of_a_page_are_where_its_caption_says():
    pattern = (
        rf"a document page with an? (left-aligned|centred) ({NAMES}) title, (\w+) paragraphs?, "
        rf"an? ({NAMES}) picture on the (left|right) and an? ({NAMES}) stamp at the bottom "
        r"(left|right)$"
    )
    for item in pictures("document", "a document"):
        match = re.match(pattern, item.captions[0])
        assert match
        x, y = centre(ink(item, match[2]))
        assert y < 0.2 and (abs(x - 0.5) < 0.02) == (match[1] == "centred"), item.captions[0]
        assert (centre(ink(item, match[4]))[0] < 0.5) == (match[5] == "left"), item.captions[0]
        x, y = centre(ink(item, match[6]))
        assert y > 0.8 and (x < 0.5) == (match[7] == "left"), item.captions[0]


def test_a_sum_has_its_ink_its_paper_and_its_answer():
    done = {
        "plus": lambda a, b: a + b, "minus": lambda a, b: a - b, "times": lambda a, b: a * b,
        "divided by": lambda a, b: a / b,
    }  # fmt: skip
    for item in pictures("math", "a math problem"):
        match = re.match(
            r".*, (\d+) ([a-z ]+) (\d+), in (\w+) ink on ([a-z ]+) paper$", item.captions[0]
        )
        assert match
        assert float(item.answer) == done[match[2]](int(match[1]), int(match[3]))
        assert item.answer == item.answer_ko
        papers = ink(item, match[5])
        assert papers[0].all() and papers[-1].all(), item.captions[0]
        assert ink(item, match[4]).sum() > 100, item.captions[0]


def test_korean_names_the_same_colours():
    for kind in ("scene", "chart", "table", "document", "math"):
        for index in range(40):
            item = generate(index, kind=kind, size=8)
            korean = item.captions_ko[0]
            for name in re.findall(rf"(?<!pale )\b({NAMES})\b", item.captions[0]):
                colour = BY_NAME[name]
                assert colour.ko in korean or colour.noun_ko in korean, item.captions
