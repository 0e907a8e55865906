"""Words of captions in English and Korean: colours, kinds, numbers, lists, particles."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

RGB = tuple[int, int, int]


@dataclass(frozen=True)
class Colour:
    """A named colour. `ko` is its Korean form before a noun, `noun_ko` the noun itself."""

    en: str
    ko: str
    noun_ko: str
    rgb: RGB


# Far apart from one another, so that each name fits one colour only.
COLOURS = (
    Colour("red", "빨간", "빨강", (220, 30, 40)),
    Colour("orange", "주황색", "주황", (255, 140, 0)),
    Colour("yellow", "노란", "노랑", (245, 215, 20)),
    Colour("green", "초록색", "초록", (20, 150, 60)),
    Colour("turquoise", "청록색", "청록", (20, 200, 200)),
    Colour("blue", "파란", "파랑", (30, 80, 230)),
    Colour("purple", "보라색", "보라", (130, 40, 190)),
    Colour("pink", "분홍색", "분홍", (255, 130, 190)),
    Colour("brown", "갈색", "갈색", (125, 75, 30)),
    Colour("black", "검은", "검정", (20, 20, 20)),
)
PAPERS = (
    Colour("white", "흰", "흰색", (255, 255, 255)),
    Colour("cream", "크림색", "크림색", (255, 240, 200)),
    Colour("pale blue", "연한 파란", "연파랑", (205, 225, 255)),
    Colour("pale green", "연한 초록색", "연초록", (210, 245, 210)),
    Colour("pale pink", "연한 분홍색", "연분홍", (255, 215, 230)),
    Colour("grey", "회색", "회색", (200, 200, 205)),
)
# Names for a picture of each kind, in English and Korean.
KIND_NAMES = {
    "scene": (("scene", "scene of shapes", "shapes"), ("도형", "도형 그림")),
    "chart": (("chart", "graph", "diagram"), ("차트", "그래프")),
    "table": (("table", "table of numbers"), ("표",)),
    "document": (("document", "document page", "page of text"), ("문서",)),
    "math": (("math", "math problem", "mathematics"), ("수학", "수학 문제")),
}
NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
NUMBERS_KO = ("영", "한", "두", "세", "네", "다섯", "여섯", "일곱", "여덟", "아홉")


def article(noun: str) -> str:
    """`noun` with "a" or "an" before it."""
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def listed(items: Sequence[str], last: str = "and") -> str:
    """ "a, b and c"."""
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} {last} {items[-1]}"


def particle(word: str, after_consonant: str, after_vowel: str) -> str:
    """`word` with the Korean particle that its last syllable requires.

    Args:
        word: its last character is a Hangul syllable.
        after_consonant: the particle after a final consonant.
        after_vowel: the particle after a vowel.

    Returns:
        Both together.

    >>> particle("원", "이", "가"), particle("막대", "이", "가")
    ('원이', '막대가')
    """
    code = ord(word[-1]) - 0xAC00
    has_final = 0 <= code < 11172 and code % 28 != 0
    return word + (after_consonant if has_final else after_vowel)


def listed_ko(items: Sequence[str]) -> str:
    """Korean "a, b, c", the last joined with 과 or 와 to the one before."""
    if len(items) == 1:
        return items[0]
    return f"{', '.join([*items[:-2], particle(items[-2], '과', '와')])} {items[-1]}"
