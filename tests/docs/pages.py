"""Reads the pages: fenced blocks, headings, pictures. Tests compare the two languages with it."""

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
ENGLISH = ROOT / "docs" / "en"
KOREAN = ROOT / "docs" / "ko"
_FENCE = re.compile(
    r"^(?P<mark>`{3,})(?P<language>[\w-]*)[^\n]*\n(?P<body>.*?)^(?P=mark)[ ]*$", re.M | re.S
)
_HEADING = re.compile(r"^(#+) (.*?)(?:\s*\{#([\w.-]+)\})?\s*$", re.M)
_PICTURE = re.compile(r"!\[([^\]]*)\]\(([^)\s]+)\)")
# A comment: a `#` at the beginning of a line or behind a space, to the end of the line.
_COMMENT = re.compile(r"(?:(?<=\s)|^)#(?!!).*$", re.M)


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, its text, and the line of the page on which it begins."""

    language: str
    body: str
    line: int

    @property
    def code(self) -> str:
        """The text without what may be translated: the comments behind `#`."""
        return re.sub(r"[ ]+$", "", _COMMENT.sub("", self.body), flags=re.M)


def blocks(text: str) -> list[Block]:
    """The fenced blocks of a page, in order."""
    return [
        Block(found["language"], found["body"], text.count("\n", 0, found.start()) + 1)
        for found in _FENCE.finditer(text)
    ]


def prose(text: str) -> str:
    """The page without its fenced blocks."""
    return _FENCE.sub("", text)


def headings(text: str) -> list[tuple[int, str]]:
    """(level, id) of each heading below the title, in order; an id that is missing is ""."""
    return [(len(marks), id or "") for marks, _, id in _HEADING.findall(prose(text))][1:]


def pictures(text: str) -> list[str]:
    """The addresses of the pictures, in order."""
    return [address for _, address in _PICTURE.findall(prose(text))]


def words_of_pictures(text: str) -> list[str]:
    """The alternative texts, in order."""
    return [words for words, _ in _PICTURE.findall(prose(text))]


def targets(text: str) -> list[str]:
    """Where the links lead, sorted: a translation may change the order of a sentence."""
    return sorted(re.findall(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)", prose(text)))


def objects(text: str) -> list[str]:
    """What of the package is documented here: the names behind `:::`, in order."""
    return re.findall(r"^::: (\S+)$", text, re.M)
