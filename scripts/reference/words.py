"""The settings' words in other languages: English text -> text, from a YAML per language.

Keyed by the English words themselves, so that a help text that changes is missed at once.
"""

from __future__ import annotations

import functools
from pathlib import Path

import yaml

from encoderlab.core.commands import COMMANDS, JOBS
from encoderlab.core.settings import iter_settings


@functools.cache
def table(language: str) -> dict[str, str]:
    """English text -> text; empty for English."""
    if language == "en":
        return {}
    return yaml.safe_load((Path(__file__).parent / f"{language}.yaml").read_text(encoding="utf-8"))


def say(text: str, language: str) -> str:
    """A text of the settings in a language.

    Raises:
        KeyError: it has not been translated.
    """
    return text if language == "en" or not text else table(language)[text]


def problems(language: str) -> list[str]:
    """What the table of a language lacks, and what it says although nothing asks for it."""
    known, wanted = set(table(language)), _wanted()
    name = f"scripts/reference/{language}.yaml"
    return [
        *(f"{name} lacks: {text!r}" for text in sorted(wanted - known)),
        *(f"{name} translates what is gone: {text!r}" for text in sorted(known - wanted)),
    ]


def _wanted() -> set[str]:
    """Every text that a table needs: help, headings, summaries, and the words of the tables."""
    from settings_tables import HEADS, WORDS

    texts = set(JOBS.values()) | set(HEADS) | set(WORDS)
    for command in COMMANDS.values():
        texts.add(command.summary)
        texts |= {one.help for one in iter_settings(command.settings) if one.help}
        texts |= {one.group for one in iter_settings(command.settings) if one.group}
    return texts
