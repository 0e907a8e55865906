"""What a check says: right, or wrong and why, in both languages. Knows no notebook."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Right:
    """A right answer. `value`, where given, is what the lesson goes on with."""

    en: str
    ko: str
    value: Any = None


class Wrong(Exception):
    """What is wrong with an answer, in both languages; `state` is wrong or open."""

    def __init__(self, en: str, ko: str, state: str = "wrong") -> None:
        super().__init__(en)
        self.en, self.ko, self.state = en, ko, state


def not_answered(names: Sequence[str] = ()) -> Wrong:
    """The placeholder is still there: in all of the answers, or in those of `names`."""
    which = ", ".join(f"`{name}`" for name in names)
    return Wrong(
        f"{which} is not yet answered" if which else "not yet answered",
        f"{which}에 아직 답하지 않았습니다" if which else "아직 답하지 않았습니다",
        "open",
    )
