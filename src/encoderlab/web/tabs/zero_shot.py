"""What is in an image, by class names alone."""

from __future__ import annotations

from typing import Any

import gradio as gr

from encoderlab.settings.classify import Classify
from encoderlab.web import examples
from encoderlab.web.say import say
from encoderlab.web.tabs.tab import (
    Job,
    Values,
    buttons,
    connect,
    fields,
    frame,
    model_field,
    panel,
    results,
)
from encoderlab.web.uploads import gather, picture
from encoderlab.web.visitors import Visitor
from encoderlab.web.work import SHORT, Outcome, Workplace

NAME = "zero-shot"
CLASSES = "chart, table, document, mathematics problem, scene with shapes"
MOST_TEXT = 2000


def build(place: Workplace) -> None:
    """Lays the tab out."""
    offer = place.offer
    with frame("zero_shot"), gr.Row():
        with fields():
            given = {
                "image": examples.picture_field(NAME),
                "classes": gr.Textbox(
                    CLASSES, label=say("classes"), info=say("classes_about"), lines=2,
                    max_length=MOST_TEXT,
                ),
                "templates": gr.Textbox(
                    "", label=say("templates"), info=say("templates_about"), lines=3,
                    placeholder="a photo of {}", max_length=MOST_TEXT,
                ),
                "model": model_field(offer, offer.duals),
            }  # fmt: skip
            pressed = buttons(NAME)
        with results():
            chances = gr.Label(label=say("probabilities"), elem_id=f"{NAME}-chances")
            where = panel(NAME)

    def settings(values: Values, visitor: Visitor) -> Classify:
        file = picture(values["image"])
        (model,) = offer.check("dual encoder", [values["model"]])
        lines = (values["templates"] or "")[:MOST_TEXT].splitlines()
        return Classify(
            image_dir=str(gather([str(file)], visitor.fresh("asked"), 1)),
            classes=(values["classes"] or "")[:MOST_TEXT],
            templates=[line.strip() for line in lines if line.strip()],
            model=model,
        )

    def shown(outcome: Outcome, visitor: Visitor) -> list[Any]:
        if outcome.done is None:
            return [None]
        return [dict(outcome.done.result.predictions[0].top)]

    connect(
        place,
        Job(NAME, "classify", settings, lambda result: result["predictions"], SHORT,
            examples.upload_name),
        pressed, where, given, more=[chances], show_more=shown,
    )  # fmt: skip
