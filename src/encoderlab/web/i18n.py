"""The page's texts in English and Korean, by their keys in words/, through Gradio's I18n."""

from __future__ import annotations

import functools
import html
import json
from collections.abc import Mapping
from pathlib import Path

import gradio as gr
import yaml

from encoderlab.errors import UsageError

LANGUAGES = {"en": "English", "ko": "한국어"}
# A prefix: Gradio has keys of its own, "image" among them.
OURS = "encoderlab_"
_added: dict[str, dict[str, str]] = {}


@functools.cache
def phrases(language: str) -> dict[str, str]:
    """key -> text in one language."""
    file = Path(__file__).parent / "words" / f"{language}.yaml"
    return yaml.safe_load(file.read_text(encoding="utf-8")) | _added.get(language, {})


def add_phrases(more: Mapping[str, Mapping[str, str]]) -> None:
    """Adds the phrases of an extension's tab.

    Args:
        more: language -> key -> text.

    Raises:
        UsageError: a key is missing in one of the languages.
    """
    first, *others = (set(more.get(language, {})) for language in LANGUAGES)
    missing = first.union(*others) - first.intersection(*others)
    if missing:
        raise UsageError(
            "a tab's words are not there in every language",
            got=min(missing),
            want="the same keys in " + " and ".join(LANGUAGES),
        )
    for language in LANGUAGES:
        _added.setdefault(language, {}).update(more[language])
    phrases.cache_clear()
    translations.cache_clear()


@functools.cache
def translations() -> gr.I18n:
    """All languages, as Gradio's `launch` takes them."""
    return gr.I18n(
        **{
            language: {OURS + key: text for key, text in phrases(language).items()}
            for language in LANGUAGES
        }
    )


def translate(key: str) -> str:
    """The text of `key` in the visitor's language, for a label or a whole value of a component."""
    assert key in phrases("en"), f"no words for {key!r}"
    return str(translations()(OURS + key))


def inside(key: str, **values: str) -> str:
    """The same inside HTML, where page.js translates: Gradio translates one text per value.

    Args:
        key: of the text.
        **values: what stands in place of each name in braces.

    Returns:
        The HTML, in English until page.js has seen it.
    """
    text = html.escape(phrases("en")[key].format(**values) if values else phrases("en")[key])
    given = f" data-values='{html.escape(json.dumps(values))}'" if values else ""
    return f"<span data-say={OURS}{key}{given}>{text}</span>"


def label(key: str) -> str:
    """The attributes that name an element for a screen reader."""
    text = html.escape(phrases("en")[key])
    return f"aria-label='{text}' data-say-label={OURS}{key}"
