"""One picture of the synthetic world with its captions, its question and its identity."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from PIL import Image

from encoderlab.data.sample import Sample
from encoderlab.errors import unknown

LANGUAGES = ("en", "ko")


@dataclass(frozen=True)
class Placed:
    """A shape of a scene, and where it is.

    Args:
        shape: its English name.
        colour: its English name.
        x, y: its centre, as shares of the side, from the top left.
        radius: as a share of the side.
    """

    shape: str
    colour: str
    x: float
    y: float
    radius: float


@dataclass(frozen=True)
class Picture:
    """An image with captions (the first one complete) and a question with its answer.

    Args:
        objects: the shapes of a scene; other kinds have none.
    """

    image: Image.Image
    captions: tuple[str, ...]
    captions_ko: tuple[str, ...]
    question: str
    answer: str
    question_ko: str
    answer_ko: str
    objects: tuple[Placed, ...] = field(default=(), kw_only=True)


@dataclass(frozen=True)
class SyntheticItem(Picture):
    """A picture with its identity: `label` is its data type."""

    id: str
    label: str

    def captions_in(self, language: str) -> tuple[str, ...]:
        """All captions in one language, the complete one first."""
        check_languages([language])
        return self.captions if language == "en" else self.captions_ko

    def to_sample(self, languages: tuple[str, ...] = ("en",)) -> Sample:
        """A sample with the captions of `languages`, English first."""
        check_languages(languages)
        spoken = (language for language in LANGUAGES if language in languages)
        texts = tuple(text for language in spoken for text in self.captions_in(language))
        return Sample(self.id, self.image, texts, self.label)


def check_languages(languages: Iterable[str]) -> None:
    """Refuses a language that has no captions."""
    for language in languages:
        if language not in LANGUAGES:
            raise unknown(
                "language", language, LANGUAGES, "python -m encoderlab.data.synthetic --help"
            )
