"""Short captions of the synthetic world, and which of them fit a picture."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping

from encoderlab.data.synthetic.scene import SHAPES, SIZES
from encoderlab.data.synthetic.words import COLOURS, KIND_NAMES

# Twice the bare words, which people type most.
ENGLISH = ("{}", "{}", "a {}", "the {}", "{}s", "a photo of a {}", "a picture of a {}")
KOREAN = ("{}", "{}", "{} 사진", "{} 그림")
CHARTS = {
    "horizontal bar chart": "가로 막대그래프",
    "bar chart": "막대그래프",
    "line chart": "선그래프",
    "pie chart": "원그래프",
    "scatter plot": "산점도",
}


def _objects() -> dict[str, str]:
    """Every name of an object that says its shape, English -> Korean."""
    sizes = [("", ""), *((f"{en} ", f"{ko} ") for en, ko, _ in SIZES)]
    colours = [("", ""), *((f"{colour.en} ", f"{colour.ko} ") for colour in COLOURS)]
    return {
        f"{size}{colour}{shape.en}": f"{size_ko}{colour_ko}{shape.ko}"
        for (size, size_ko), (colour, colour_ko), shape in itertools.product(sizes, colours, SHAPES)
    }


OBJECTS = _objects()
# What a short caption can say: English -> Korean.
TAGS: Mapping[str, str] = (
    OBJECTS | CHARTS | {english[0]: korean[0] for english, korean in KIND_NAMES.values()}
)
NUMBER = {tag: number for number, tag in enumerate(TAGS)}
_THING = re.compile(rf"({'|'.join(s[0] for s in SIZES)}) (\w+) ({'|'.join(s.en for s in SHAPES)})")


def tags_of(kind: str, complete: str) -> list[str]:
    """What short captions are right for a synthetic picture.

    Args:
        kind: of the picture.
        complete: its complete English caption.

    Returns:
        Names of `TAGS`.

    >>> tags_of("chart", "a bar chart with three bars, red, ...")
    ['chart', 'bar chart']
    >>> tags_of("scene", "a large red star at the top left")[1:4]
    ['star', 'red star', 'large star']
    """
    tags = [KIND_NAMES[kind][0][0]]
    if kind == "chart":
        tags += [name for name in CHARTS if re.match(rf"an? {name}\b", complete)]
    if kind == "scene":
        for size, colour, shape in _THING.findall(complete):
            tags += [shape, f"{colour} {shape}", f"{size} {shape}", f"{size} {colour} {shape}"]
    return list(dict.fromkeys(tags))
