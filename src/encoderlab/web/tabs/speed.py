"""How fast each encoder is."""

from __future__ import annotations

from typing import Any

import gradio as gr

from encoderlab.settings.align import Speed
from encoderlab.web.say import inside, say
from encoderlab.web.show import notice
from encoderlab.web.tabs.tab import (
    Job,
    Values,
    buttons,
    connect,
    encoders_field,
    fields,
    frame,
    panel,
    results,
    whole,
)
from encoderlab.web.visitors import Visitor
from encoderlab.web.work import Outcome, Workplace

NAME = "speed"
SIZES = (1, 2, 4, 8, 16, 32, 64)


def build(place: Workplace) -> None:
    """Lays the tab out."""
    with frame(NAME), gr.Row():
        with fields():
            given = {
                "encoders": encoders_field(place.offer),
                "batch_sizes": gr.CheckboxGroup(
                    [(str(size), size) for size in SIZES], value=[1, 8], label=say("batch_sizes")
                ),
            }
            pressed = buttons(NAME)
        with results():
            where = panel(NAME)
            company = gr.HTML(js_on_load=None)

    def settings(values: Values, visitor: Visitor) -> Speed:
        return Speed(
            encoders=place.offer.check("encoder", values["encoders"] or []),
            batch_sizes=[whole(size, 1, SIZES[-1]) for size in values["batch_sizes"] or []],
            seed=place.offer.seed,
        )

    def in_company(outcome: Outcome, visitor: Visitor) -> list[Any]:
        beside = outcome.done is not None and outcome.beside > 0
        return [notice(inside("speed_beside"), "alert") if beside else ""]

    connect(place, Job(NAME, "speed", settings, lambda result: result["rows"]), pressed, where,
            given, more=[company], show_more=in_company)  # fmt: skip
