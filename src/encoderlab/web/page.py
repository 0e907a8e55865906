"""The page: its head, its tabs and those of extensions, and the clean-up when it closes."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import gradio as gr

from encoderlab.core import extensions
from encoderlab.web.i18n import LANGUAGES, add_phrases, inside, label, translate
from encoderlab.web.jobs import JobRunner
from encoderlab.web.tabs import (
    ADDED,
    alignment,
    ask,
    attention,
    compression,
    coral,
    embedding,
    search,
    speed,
    tokens,
    validation,
    zero_shot,
)

HERE = Path(__file__).parent
# A row of tabs; a name of its own marks a group, whose tabs stand in a second row.
TABS: tuple[tuple[str | None, tuple[ModuleType, ...]], ...] = (
    (None, (ask,)),
    ("align", (alignment, coral)),
    ("inside", (attention, tokens, embedding)),
    (None, (compression,)),
    ("find", (search, zero_shot)),
    (None, (validation, speed)),
)
# Fonts of the visitor's system, so that the page works without a network.
FONTS = ["system-ui", "Noto Sans KR", "NanumGothic", "Malgun Gothic", "sans-serif"]
MONOSPACE = ["ui-monospace", "SFMono-Regular", "Menlo", "monospace"]


def build(runner: JobRunner) -> gr.Blocks:
    """The page, not yet served."""
    extensions.load()
    added = [importlib.import_module(module) for module in ADDED.values()]
    for tab in added:
        add_phrases(tab.WORDS)
    with gr.Blocks(title="EncoderLab", analytics_enabled=False) as page:
        _head()
        with gr.Tabs():
            for group, tabs in (*TABS, (None, added)):
                with _group(group):
                    for tab in tabs:
                        tab.build(runner)

        def leave(request: gr.Request) -> None:
            runner.visitors.forget(str(request.session_hash))

        page.unload(leave)
    return page


@contextlib.contextmanager
def _group(name: str | None) -> Iterator[None]:
    """A tab that contains a row of tabs; nothing if there is no name."""
    if name is None:
        yield
        return
    with gr.Tab(translate(f"{name}_tab"), id=name), gr.Tabs(elem_classes=["group"]):
        yield


def theme_options() -> dict[str, Any]:
    """The arguments of `launch` that style the page."""
    theme = gr.themes.Default(primary_hue="blue", font=FONTS, font_mono=MONOSPACE)
    return {
        "theme": theme,
        "css_paths": [HERE / "style.css"],
        "js": (HERE / "page.js").read_text(encoding="utf-8"),
    }


def _head() -> None:
    buttons = "".join(
        f"<button type=button class=language lang={key} data-language={key}>{name}</button>"
        for key, name in LANGUAGES.items()
    )
    gr.HTML(
        f"<header class=head><div><h1>EncoderLab</h1><p>{inside('subtitle')}</p></div>"
        f"<div role=group {label('language')}>{buttons}</div></header>",
        js_on_load=None,
    )
