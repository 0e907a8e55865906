"""The page's own words in English and Korean, through Gradio's I18n, by their keys in words/."""

from __future__ import annotations

import functools
import html
from pathlib import Path

import gradio as gr
import yaml

LANGUAGES = {"en": "English", "ko": "한국어"}
# Gradio has words of its own, "image" among them: ours stand apart.
OURS = "encoderlab_"


@functools.cache
def words(language: str) -> dict[str, str]:
    """key -> text in one language."""
    file = Path(__file__).parent / "words" / f"{language}.yaml"
    return yaml.safe_load(file.read_text(encoding="utf-8"))


@functools.cache
def translations() -> gr.I18n:
    """All languages, as `launch` takes them."""
    return gr.I18n(
        **{
            language: {OURS + key: text for key, text in words(language).items()}
            for language in LANGUAGES
        }
    )


def say(key: str) -> str:
    """The text behind `key`, in whatever language the visitor's browser shows: a label, or a whole
    value."""
    assert key in words("en"), f"no words for {key!r}"
    return str(translations()(OURS + key))


def inside(key: str) -> str:
    """The same inside HTML, where Gradio translates no more than one: page.js does."""
    return f"<span data-say={OURS}{key}>{html.escape(words('en')[key])}</span>"


def label(key: str) -> str:
    """The attributes that name an element for a screen reader."""
    text = html.escape(words("en")[key])
    return f"aria-label='{text}' data-say-label={OURS}{key}"
