"""How few visual tokens are enough: stored results, and one image's tokens before and after."""

from __future__ import annotations

from typing import Any

import gradio as gr

from encoderlab.compression import stored_evaluation
from encoderlab.compression.settings import (
    Compress,
    CompressEvaluation,
    CompressModel,
    CompressPicture,
    Hardware,
)
from encoderlab.core.runner import CompletedRun
from encoderlab.web import examples, render
from encoderlab.web.i18n import translate
from encoderlab.web.jobs import JobRunner, Outcome
from encoderlab.web.tabs import tab
from encoderlab.web.tabs.tab import Job, Values
from encoderlab.web.uploads import picture
from encoderlab.web.user_sessions import UserSession

NAME = "compression"
SIDES = (1, 24)


def build(runner: JobRunner) -> None:
    """Lays the tab out."""
    offer = runner.offer
    with tab.frame(NAME):
        with gr.Row():
            with tab.fields():
                inputs = {
                    "image": examples.picture_field(NAME),
                    "model": tab.model_field(offer, offer.encoders),
                    "grid": gr.Slider(
                        *SIDES,
                        value=4,
                        step=1,
                        label=translate("grid"),
                        info=translate("grid_about"),
                    ),
                }
                run_stop = tab.buttons(NAME)
            with tab.results():
                panel = tab.panel(NAME)
        for number, evaluation in enumerate(stored_evaluation.stored()):
            _stored(runner, evaluation, number)

    def settings(values: Values, visitor: UserSession) -> Compress:
        (name,) = offer.check("encoder", [values["model"]])
        return Compress(
            action="show",
            model=CompressModel(name),
            evaluation=CompressEvaluation(grids=[tab.whole(values["grid"], *SIDES)]),
            picture=CompressPicture(str(picture(values["image"]))),
            hardware=Hardware(device=offer.device),
            seed=offer.seed,
        )

    job = Job(NAME, "compress", settings, lambda result: result["rows"], names=examples.upload_name)
    tab.connect(runner, job, run_stop, panel, inputs)


def _stored(runner: JobRunner, evaluation: stored_evaluation.Stored, number: int) -> None:
    """The figures, tables and files of a stored evaluation; drawn once for all visitors."""
    folder = runner.visitors.root / f"{NAME}-{number}"
    drawn = stored_evaluation.draw(evaluation, folder)
    outcome = Outcome(CompletedRun(drawn.result, folder, 0.0), drawn.command)
    rows: list[dict[str, Any]] = list(drawn.result.rows)
    with gr.Accordion(translate("stored" if number == 0 else "stored_own"), open=number == 0):
        gr.Markdown(translate("stored_about"))
        gr.HTML(render.figures(outcome), elem_id=f"{NAME}-stored-{number}", js_on_load=None)
        gr.HTML(render.answer(outcome), elem_classes=["result"], js_on_load=None)
        gr.HTML(render.files(outcome, rows), js_on_load=None)
