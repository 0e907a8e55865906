"""What one picture of the synthetic world comes with."""

from __future__ import annotations

from dataclasses import dataclass

from PIL import Image

from encoderlab.data.sample import Sample


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

    def to_sample(self, languages: tuple[str, ...] = ("en",)) -> Sample:
        """A sample with the captions of `languages`."""
        texts = [
            *(self.captions if "en" in languages else ()),
            *(self.captions_ko if "ko" in languages else ()),
        ]
        return Sample(self.id, self.image, tuple(texts), self.label)
