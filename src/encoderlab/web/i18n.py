"""The page's own words in English and Korean, through Gradio's I18n, by their keys in words/."""

from __future__ import annotations

import functools
import html
from collections.abc import Mapping
from pathlib import Path

import gradio as gr
import yaml

from encoderlab.errors import UsageError

LANGUAGES = {"en": "English", "ko": "한국어"}
# Gradio has words of its own, "image" among them: ours stand apart.
OURS = "encoderlab_"
_added: dict[str, dict[str, str]] = {}


@functools.cache
def phrases(language: str) -> dict[str, str]:
    """key -> text in one language."""
    file = Path(__file__).parent / "words" / f"{language}.yaml"
    return yaml.safe_load(file.read_text(encoding="utf-8")) | _added.get(language, {})


def add_phrases(more: Mapping[str, Mapping[str, str]]) -> None:
    """Adds the words of a tab that is not ours: language -> key -> text.

    Raises:
        UsageError: a language or a key is lacking in one of them.
    """
    keys = [set(more.get(language, {})) for language in LANGUAGES]
    lacking = {key for there in keys for key in there if not all(key in one for one in keys)}
    if lacking:
        raise UsageError(
            "a tab's words are not there in every language",
            got=sorted(lacking)[0],
            want="the same keys in " + " and ".join(LANGUAGES),
        )
    for language in LANGUAGES:
        _added.setdefault(language, {}).update(more[language])
    phrases.cache_clear()
    translations.cache_clear()


@functools.cache
def translations() -> gr.I18n:
    """All languages, as `launch` takes them."""
    return gr.I18n(
        **{
            language: {OURS + key: text for key, text in phrases(language).items()}
            for language in LANGUAGES
        }
    )


def translate(key: str) -> str:
    """The text behind `key`, in whatever language the visitor's browser shows: a label, or a whole
    value."""
    assert key in phrases("en"), f"no words for {key!r}"
    return str(translations()(OURS + key))


def inside(key: str) -> str:
    """The same inside HTML, where Gradio translates no more than one: page.js does."""
    return f"<span data-say={OURS}{key}>{html.escape(phrases('en')[key])}</span>"


def label(key: str) -> str:
    """The attributes that name an element for a screen reader."""
    text = html.escape(phrases("en")[key])
    return f"aria-label='{text}' data-say-label={OURS}{key}"
