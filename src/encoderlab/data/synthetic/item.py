"""What one picture of the synthetic world comes with."""

from __future__ import annotations

from dataclasses import dataclass

from PIL import Image

from encoderlab.data.sample import Sample
from encoderlab.errors import unknown

LANGUAGES = ("en", "ko")


@dataclass(frozen=True)
class Picture:
    """An image with captions (the first one complete) and a question with its answer."""

    image: Image.Image
    captions: tuple[str, ...]
    captions_ko: tuple[str, ...]
    question: str
    answer: str
    question_ko: str
    answer_ko: str


@dataclass(frozen=True)
class SyntheticItem(Picture):
    """A picture with its identity: `label` is its data type."""

    id: str
    label: str

    def captions_in(self, language: str) -> tuple[str, ...]:
        """All captions in one language, the complete one first.

        Raises:
            UsageError: a language that the world does not speak.
        """
        check_language(language)
        return self.captions if language == "en" else self.captions_ko

    def to_sample(self, languages: tuple[str, ...] = ("en",)) -> Sample:
        """A sample with the captions of `languages`, English first.

        Raises:
            UsageError: a language that the world does not speak.
        """
        for language in languages:
            check_language(language)
        texts = [
            *(self.captions if "en" in languages else ()),
            *(self.captions_ko if "ko" in languages else ()),
        ]
        return Sample(self.id, self.image, tuple(texts), self.label)


def check_language(language: str) -> None:
    """Passes what the world speaks.

    Raises:
        UsageError: another language.
    """
    if language not in LANGUAGES:
        raise unknown("language", language, LANGUAGES, "python -m encoderlab.data.synthetic --help")
