"""Maps of the embedding spaces; a point shows its image and caption."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr

from encoderlab.alignment.settings import Embedding
from encoderlab.web.i18n import translate
from encoderlab.web.jobs import JobRunner, Outcome
from encoderlab.web.render import embedded_page
from encoderlab.web.tabs import tab
from encoderlab.web.tabs.tab import Job, Values
from encoderlab.web.user_sessions import UserSession

NAME = "embedding"
METHODS = [("t-SNE", "tsne"), ("UMAP", "umap"), ("PCA", "pca")]


def build(runner: JobRunner) -> None:
    """Builds the components of the tab."""
    with tab.frame(NAME), gr.Row():
        with tab.fields():
            method = gr.Radio(METHODS, value="tsne", label=translate("method"))
            inputs = {"method": method, **tab.alignment_fields(runner.offer)}
            run_stop = tab.buttons(NAME)
        with tab.results():
            progress = tab.progress_field(NAME)
            scatter = gr.HTML(elem_id=f"{NAME}-scatter", js_on_load=None)
            panel = tab.Panel(progress, tab.answer_field(NAME), *tab.details(NAME))

    def settings(values: Values, visitor: UserSession) -> Embedding:
        return Embedding(method=values["method"], **tab.alignment_settings(runner.offer, values))

    job = Job(NAME, "embedding", settings, _points, front=())
    tab.connect(runner, job, run_stop, panel, inputs, more=[scatter], show_more=_scatter)


def _points(result: dict[str, Any]) -> list[dict[str, Any]]:
    """One row per sample and space."""
    return [
        {"space": space, "sample": number, "type": label, "x": x, "y": y}
        for space, places in result["places"].items()
        for number, ((x, y), label) in enumerate(
            zip(places, result["labels"], strict=True), start=1
        )
    ]


def _scatter(outcome: Outcome, visitor: UserSession) -> list[Any]:
    if outcome.done is None or outcome.done.result.page is None:
        return [""]
    page = Path(outcome.done.result.page).read_text(encoding="utf-8")
    return [embedded_page(page, "embedding_tab")]
