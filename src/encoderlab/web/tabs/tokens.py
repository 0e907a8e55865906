"""Patch tokens of an image: maps, and one patch against all others."""

from __future__ import annotations

from typing import Any

import gradio as gr
import numpy as np

from encoderlab.inspection.settings import (
    Image,
    Model,
    Output,
    Similarity,
    Tokens,
    Visualization,
)
from encoderlab.plots.overlay import overlaid
from encoderlab.web import examples
from encoderlab.web.i18n import inside, translate
from encoderlab.web.jobs import JobRunner, Outcome
from encoderlab.web.tabs import tab
from encoderlab.web.tabs.tab import Job, Values
from encoderlab.web.uploads import picture
from encoderlab.web.user_sessions import UserSession

NAME = "tokens"
SHOWN_SIDE = 352
KEPT_SECONDS = 1800


def build(runner: JobRunner) -> None:
    """Builds the components of the tab."""
    offer = runner.offer
    with tab.frame(NAME), gr.Row():
        with tab.fields():
            inputs = {
                "image": examples.picture_field(NAME),
                "model": tab.model_field(offer, offer.encoders),
                "metric": gr.Radio(
                    [(translate("cosine"), "cosine"), (translate("dot_product"), "dot_product")],
                    value="cosine", label=translate("metric"),
                ),
            }  # fmt: skip
            run_stop = tab.buttons(NAME)
        with tab.results():
            progress = tab.progress_field(NAME)
            analysed = gr.State(None, time_to_live=KEPT_SECONDS)
            with gr.Group(visible=False) as inspector:
                clicked = gr.Image(
                    label=translate("patch"),
                    interactive=False,
                    type="pil",
                    format="png",
                    buttons=[],
                    elem_id=f"{NAME}-patch",
                    height=SHOWN_SIDE,
                )
                with gr.Row():
                    row = gr.Slider(1, 2, value=1, step=1, label=translate("row"))
                    column = gr.Slider(1, 2, value=1, step=1, label=translate("column"))
                summary = gr.HTML(elem_id=f"{NAME}-said", js_on_load=None)
            panel = tab.Panel(progress, tab.answer_field(NAME), *tab.details(NAME))

    def settings(values: Values, visitor: UserSession) -> Tokens:
        (name,) = offer.check("encoder", [values["model"]])
        return Tokens(
            model=Model(name),
            image=Image(str(picture(values["image"]))),
            similarity=Similarity(metric=values["metric"]),
            # One figure with all maps is what the page shows.
            visualization=Visualization(save_individual=False),
            output=Output(save_similarities=False),
            seed=offer.seed,
        )

    def shown(outcome: Outcome, visitor: UserSession) -> list[Any]:
        if outcome.done is None:
            return [None, gr.update(visible=False), None, gr.skip(), gr.skip(), ""]
        first = outcome.done.result.first
        h, w = first.grid
        i, j = h // 2, w // 2
        overlay, text = _against_all(first, i, j)
        return [
            first, gr.update(visible=True), overlay,
            gr.update(maximum=h, value=i + 1), gr.update(maximum=w, value=j + 1), text,
        ]  # fmt: skip

    job = Job(NAME, "tokens", settings, _records, front=(), names=examples.upload_name)
    outputs = [analysed, inspector, clicked, row, column, summary]
    tab.connect(runner, job, run_stop, panel, inputs, more=outputs, show_more=shown)

    def at_click(first: Any, event: gr.SelectData) -> list[Any]:
        if first is None:
            return [gr.skip()] * 4
        h, w = first.grid
        width, height = _size(first)
        x, y = event.index
        i, j = min(int(y * h / height), h - 1), min(int(x * w / width), w - 1)
        return [*_against_all(first, i, j), i + 1, j + 1]

    def at_sliders(first: Any, i: int, j: int) -> list[Any]:
        if first is None:
            return [gr.skip()] * 2
        h, w = first.grid
        return _against_all(first, min(max(int(i), 1), h) - 1, min(max(int(j), 1), w) - 1)

    silent: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
    clicked.select(at_click, inputs=analysed, outputs=[clicked, summary, row, column], **silent)
    for slider in (row, column):
        slider.input(
            at_sliders, inputs=[analysed, row, column], outputs=[clicked, summary], **silent
        )


def _size(first: Any) -> tuple[int, int]:
    """Width and height of the clickable image."""
    longest = max(first.view.size)
    return tuple(round(side * SHOWN_SIDE / longest) for side in first.view.size)


def _against_all(first: Any, i: int, j: int) -> list[Any]:
    """The picture with the similarity of patch (i, j) to all others, and a line about it."""
    values = first.patch_similarity(i, j)
    view = first.view.resize(_size(first))
    others = values.copy()
    others[i, j] = np.nan
    text = (
        f"<p class=line><b>{inside('patch_of')} {i + 1}, {j + 1}</b>: "
        f"{inside('mean')} <span class=mean>{np.nanmean(others):.3f}</span>; "
        f"{inside('dark')} {values.min():.2f}, {inside('bright')} {values.max():.2f}</p>"
    )
    return [overlaid(view, values, mark=(i, j)), text]


def _records(result: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"image": name, **values} for name, values in result["per_image"].items()]
