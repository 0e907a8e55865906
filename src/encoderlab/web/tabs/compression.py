"""How few visual tokens are enough: kept results, and one image's tokens before and after."""

from __future__ import annotations

from typing import Any

import gradio as gr

from encoderlab.experiments import compress_stored
from encoderlab.experiments.running import Done
from encoderlab.settings.compress import (
    Compress,
    CompressEvaluation,
    CompressModel,
    CompressPicture,
    Hardware,
)
from encoderlab.web import examples, show
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
    whole,
)
from encoderlab.web.uploads import picture
from encoderlab.web.visitors import Visitor
from encoderlab.web.work import Outcome, Workplace

NAME = "compression"
SIDES = (1, 24)


def build(place: Workplace) -> None:
    """Lays the tab out."""
    offer = place.offer
    with frame(NAME):
        with gr.Row():
            with fields():
                given = {
                    "image": examples.picture_field(NAME),
                    "model": model_field(offer, offer.encoders),
                    "grid": gr.Slider(
                        *SIDES, value=4, step=1, label=say("grid"), info=say("grid_about")
                    ),
                }  # fmt: skip
                pressed = buttons(NAME)
            with results():
                where = panel(NAME)
        for number, one in enumerate(compress_stored.stored()):
            _stored(place, one, number)

    def settings(values: Values, visitor: Visitor) -> Compress:
        (name,) = offer.check("encoder", [values["model"]])
        return Compress(
            action="show",
            model=CompressModel(name),
            evaluation=CompressEvaluation(grids=[whole(values["grid"], *SIDES)]),
            picture=CompressPicture(str(picture(values["image"]))),
            hardware=Hardware(device=offer.device),
            seed=offer.seed,
        )

    connect(
        place,
        Job(NAME, "compress", settings, lambda result: result["rows"], names=examples.upload_name),
        pressed, where, given,
    )  # fmt: skip


def _stored(place: Workplace, one: compress_stored.Stored, number: int) -> None:
    """A kept evaluation: its chart, its tables, its files; drawn once for all visitors."""
    folder = place.visitors.root / f"{NAME}-{number}"
    drawn = compress_stored.draw(one, folder)
    outcome = Outcome(Done(drawn.result, folder, 0.0), drawn.command)
    rows: list[dict[str, Any]] = list(drawn.result.rows)
    with gr.Accordion(say("stored" if number == 0 else "stored_own"), open=number == 0):
        gr.Markdown(say("stored_about"))
        gr.HTML(show.figures(outcome), elem_id=f"{NAME}-stored-{number}", js_on_load=None)
        gr.HTML(show.answer(outcome), elem_classes=["result"], js_on_load=None)
        gr.HTML(show.files(outcome, rows), js_on_load=None)
