"""Zero-shot classification by class names."""

from __future__ import annotations

from typing import Any

import gradio as gr

from encoderlab.contrastive.classify_settings import Classify
from encoderlab.web import examples
from encoderlab.web.i18n import translate
from encoderlab.web.jobs import SHORT, JobRunner, Outcome
from encoderlab.web.tabs import tab
from encoderlab.web.tabs.tab import Job, Values
from encoderlab.web.uploads import gather, picture
from encoderlab.web.user_sessions import UserSession

NAME = "zero-shot"
CLASSES = "chart, table, document, mathematics problem, scene with shapes"
MOST_TEXT = 2000


def build(runner: JobRunner) -> None:
    """Builds the components of the tab."""
    offer = runner.offer
    with tab.frame("zero_shot"), gr.Row():
        with tab.fields():
            inputs = {
                "image": examples.picture_field(NAME, 120),
                "classes": gr.Textbox(
                    CLASSES, label=translate("classes"), info=translate("classes_about"), lines=2,
                    max_length=MOST_TEXT,
                ),
                "templates": gr.Textbox(
                    "", label=translate("templates"), info=translate("templates_about"), lines=1,
                    placeholder="a photo of {}", max_length=MOST_TEXT,
                ),
                "model": tab.model_field(offer, offer.duals),
            }  # fmt: skip
            run_stop = tab.buttons(NAME)
        with tab.results():
            progress = tab.progress_field(NAME)
            chances = gr.Label(label=translate("probabilities"), elem_id=f"{NAME}-chances")
            panel = tab.Panel(progress, tab.answer_field(NAME), *tab.details(NAME))

    def settings(values: Values, visitor: UserSession) -> Classify:
        file = picture(values["image"])
        (model,) = offer.check("dual encoder", [values["model"]])
        lines = (values["templates"] or "")[:MOST_TEXT].splitlines()
        return Classify(
            image_dir=str(gather([str(file)], visitor.fresh("asked"), 1)),
            classes=(values["classes"] or "")[:MOST_TEXT],
            templates=[line.strip() for line in lines if line.strip()],
            model=model,
        )

    def shown(outcome: Outcome, visitor: UserSession) -> list[Any]:
        if outcome.done is None:
            return [None]
        return [dict(outcome.done.result.predictions[0].top)]

    job = Job(
        NAME, "classify", settings, lambda result: result["predictions"], SHORT,
        front=(), names=examples.upload_name,
    )  # fmt: skip
    tab.connect(runner, job, run_stop, panel, inputs, more=[chances], show_more=shown)
