"""What a caption says is seen in the pixels: read back here without the code that drew them."""

from __future__ import annotations

import itertools
import re

import numpy as np
import pytest

from encoderlab.data.synthetic import SyntheticItem, generate
from encoderlab.data.synthetic.words import COLOURS, NUMBERS, PAPERS, Colour

SIDE, HOW_MANY = 192, 60
BY_NAME = {colour.en: colour for colour in (*COLOURS, *PAPERS)}
NAMES = "|".join(colour.en for colour in COLOURS)


def pictures(kind: str, start: str) -> list[SyntheticItem]:
    """The first pictures whose complete caption matches `start`; never few."""
    # Drawn small while looking: the words of a picture do not hang on its size.
    found = (
        i
        for i in range(50 * HOW_MANY)
        if re.match(start, generate(i, split="test", kind=kind, size=8).captions[0])
    )
    items = [
        generate(i, split="test", kind=kind, size=SIDE) for i in itertools.islice(found, HOW_MANY)
    ]
    assert len(items) > 10
    return items


def ink(item: SyntheticItem, colour: str | Colour) -> np.ndarray:
    """Where a colour is, as a boolean map (SIDE, SIDE)."""
    wanted = BY_NAME[colour] if isinstance(colour, str) else colour
    pixels = np.asarray(item.image).astype(int)
    return np.abs(pixels - np.array(wanted.rgb)).max(axis=2) < 12


def centre(where: np.ndarray) -> tuple[float, float]:
    """(x, y) of the middle of a map, as shares of the side."""
    y, x = np.nonzero(where)
    return float(x.mean() / SIDE), float(y.mean() / SIDE)


@pytest.mark.parametrize(
    ("relation", "axis", "sign"),
    [("to the left of", 0, -1), ("to the right of", 0, 1), ("above", 1, -1), ("below", 1, 1)],
)
def test_a_relation_is_where_the_shapes_are(relation: str, axis: int, sign: int) -> None:
    for item in pictures("scene", f".* {relation} "):
        first, second = re.findall(rf"(?:small|large) ({NAMES}) ", item.captions[0])
        if first != second:
            apart = centre(ink(item, first))[axis] - centre(ink(item, second))[axis]
            assert sign * apart > 0.2, item.captions[0]


def test_three_shapes_stand_in_the_order_that_is_told() -> None:
    for item in pictures("scene", ".*, from "):
        colours = re.findall(rf"(?:small|large) ({NAMES}) ", item.captions[0])
        axis = 0 if "left to right" in item.captions[0] else 1
        if len(set(colours)) == 3:
            places = [centre(ink(item, colour))[axis] for colour in colours]
            assert places == sorted(places), item.captions[0]


def test_a_lonely_shape_is_as_large_and_where_its_caption_says() -> None:
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


def test_the_tallest_bar_is_the_one_that_is_named() -> None:
    for item in pictures("chart", "a (horizontal )?bar chart"):
        across = "horizontal" in item.captions[0]
        count = re.findall(r"with (\w+) bars", item.captions[0])[0]
        told = re.findall(rf"the ({NAMES}) one is the", item.captions[0])[0]
        colours = re.findall(NAMES, item.captions[0].split("bars, ")[1].split(" from ")[0])
        assert len(colours) == NUMBERS.index(count)
        maps = {colour: ink(item, colour) for colour in colours}
        reach = {colour: where.any(axis=0 if across else 1).sum() for colour, where in maps.items()}
        assert max(reach, key=reach.__getitem__) == told, item.captions[0]
        places = [centre(maps[colour])[1 if across else 0] for colour in colours]
        assert places == sorted(places), item.captions[0]


def test_the_largest_slice_is_the_one_that_is_named_and_the_order_is_clockwise() -> None:
    for item in pictures("chart", "a pie chart"):
        colours = re.findall(NAMES, item.captions[0].split("slices, ")[1].split(" clockwise")[0])
        told = re.findall(rf"({NAMES}) is the largest", item.captions[0])[0]
        areas = {colour: ink(item, colour).sum() for colour in colours}
        assert max(areas, key=areas.__getitem__) == told, item.captions[0]
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
def test_a_line_goes_as_its_caption_says(trend: str, to_the_start: int, to_the_end: int) -> None:
    # From the middle to the start, and to the end: is it lower (-1), higher (1) or level there?
    # One line only: where lines cross, the upper one hides the lower.
    for item in pictures("chart", rf"a line chart with an? \w+ line that {trend}$"):
        where = ink(item, item.captions[0].split()[5])
        start, middle, end = (
            1 - np.nonzero(where[:, int(x * SIDE)])[0].mean() / SIDE for x in (0.2, 0.55, 0.9)
        )
        went = [0 if abs(y - middle) < 0.12 else int(np.sign(y - middle)) for y in (start, end)]
        assert went == [to_the_start, to_the_end], item.captions[0]


def test_the_marked_cell_is_where_its_caption_says() -> None:
    pattern = (
        rf".*with (\w+) rows and (\w+) columns, an? ({NAMES}) header, and an? ({NAMES}) cell "
        r"in row (\w+), column (\w+)$"
    )
    for item in pictures("table", ".*table"):
        found = re.match(pattern, item.captions[0])
        assert found
        rows, columns, row, column = (NUMBERS.index(found[i]) for i in (1, 2, 5, 6))
        x, y = centre(ink(item, found[4]))
        assert int((x - 0.05) / 0.9 * columns) + 1 == column, item.captions[0]
        assert int((y - 0.05) / 0.9 * (rows + 1)) == row, item.captions[0]
        assert centre(ink(item, found[3]))[1] < 0.05 + 0.9 / (rows + 1), item.captions[0]


def test_the_parts_of_a_page_are_where_its_caption_says() -> None:
    pattern = (
        rf"a document page with an? (left-aligned|centred) ({NAMES}) title, (\w+) paragraphs?, "
        rf"an? ({NAMES}) picture on the (left|right) and an? ({NAMES}) stamp at the bottom "
        r"(left|right)$"
    )
    for item in pictures("document", "a document"):
        found = re.match(pattern, item.captions[0])
        assert found
        x, y = centre(ink(item, found[2]))
        assert y < 0.2 and (abs(x - 0.5) < 0.02) == (found[1] == "centred"), item.captions[0]
        assert (centre(ink(item, found[4]))[0] < 0.5) == (found[5] == "left"), item.captions[0]
        x, y = centre(ink(item, found[6]))
        assert y > 0.8 and (x < 0.5) == (found[7] == "left"), item.captions[0]


def test_a_sum_has_its_ink_its_paper_and_its_answer() -> None:
    done = {
        "plus": lambda a, b: a + b, "minus": lambda a, b: a - b, "times": lambda a, b: a * b,
        "divided by": lambda a, b: a / b,
    }  # fmt: skip
    for item in pictures("math", "a math problem"):
        found = re.match(
            r".*, (\d+) ([a-z ]+) (\d+), in (\w+) ink on ([a-z ]+) paper$", item.captions[0]
        )
        assert found
        assert float(item.answer) == done[found[2]](int(found[1]), int(found[3]))
        assert item.answer == item.answer_ko
        papers = ink(item, found[5])
        assert papers[0].all() and papers[-1].all(), item.captions[0]
        assert ink(item, found[4]).sum() > 100, item.captions[0]


def test_korean_names_the_same_colours() -> None:
    for kind in ("scene", "chart", "table", "document", "math"):
        for index in range(40):
            item = generate(index, kind=kind, size=8)
            said = re.findall(rf"(?<!pale )\b({NAMES})\b", item.captions[0])
            for name in said:
                colour = BY_NAME[name]
                korean = item.captions_ko[0]
                assert colour.ko in korean or colour.noun_ko in korean, item.captions
