"""How fast each encoder is."""

from __future__ import annotations

from typing import Any

import gradio as gr

from encoderlab.alignment.settings import Speed
from encoderlab.web.i18n import inside, translate
from encoderlab.web.jobs import JobRunner, Outcome
from encoderlab.web.render import notice
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
from encoderlab.web.user_sessions import UserSession

NAME = "speed"
SIZES = (1, 2, 4, 8, 16, 32, 64)


def build(place: JobRunner) -> None:
    """Lays the tab out."""
    with frame(NAME), gr.Row():
        with fields():
            given = {
                "encoders": encoders_field(place.offer),
                "batch_sizes": gr.CheckboxGroup(
                    [(str(size), size) for size in SIZES],
                    value=[1, 8],
                    label=translate("batch_sizes"),
                ),
            }
            pressed = buttons(NAME)
        with results():
            where = panel(NAME)
            company = gr.HTML(js_on_load=None)

    def settings(values: Values, visitor: UserSession) -> Speed:
        return Speed(
            encoders=place.offer.check("encoder", values["encoders"] or []),
            batch_sizes=[whole(size, 1, SIZES[-1]) for size in values["batch_sizes"] or []],
            seed=place.offer.seed,
        )

    def in_company(outcome: Outcome, visitor: UserSession) -> list[Any]:
        beside = outcome.done is not None and outcome.beside > 0
        return [notice(inside("speed_beside"), "alert") if beside else ""]

    connect(place, Job(NAME, "speed", settings, lambda result: result["rows"]), pressed, where,
            given, more=[company], show_more=in_company)  # fmt: skip
