"""The page: its head, its tabs and those of extensions, and the clean-up when it closes."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import gradio as gr

from encoderlab.core import extensions
from encoderlab.web.i18n import LANGUAGES, add_phrases, inside, label
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
TABS = (
    ask, speed, attention, alignment, embedding, coral, validation, search, zero_shot, tokens,
    compression,
)  # fmt: skip
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
            for tab in (*TABS, *added):
                tab.build(runner)

        def leave(request: gr.Request) -> None:
            runner.visitors.forget(str(request.session_hash))

        page.unload(leave)
    return page


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
