"""How fast each encoder is."""

from __future__ import annotations

from typing import Any

import gradio as gr

from encoderlab.alignment.settings import Speed
from encoderlab.web.i18n import inside, translate
from encoderlab.web.jobs import JobRunner, Outcome
from encoderlab.web.render import notice
from encoderlab.web.tabs import tab
from encoderlab.web.tabs.tab import Job, Values
from encoderlab.web.user_sessions import UserSession

NAME = "speed"
SIZES = (1, 2, 4, 8, 16, 32, 64)


def build(runner: JobRunner) -> None:
    """Builds the components of the tab."""
    with tab.frame(NAME), gr.Row():
        with tab.fields():
            inputs = {
                "encoders": tab.encoders_field(runner.offer),
                "batch_sizes": gr.CheckboxGroup(
                    [(str(size), size) for size in SIZES],
                    value=[1, 8],
                    label=translate("batch_sizes"),
                ),
            }
            run_stop = tab.buttons(NAME)
        with tab.results():
            panel = tab.panel(NAME)
            warning = gr.HTML(js_on_load=None)

    def settings(values: Values, visitor: UserSession) -> Speed:
        return Speed(
            encoders=runner.offer.check("encoder", values["encoders"] or []),
            batch_sizes=[tab.whole(size, 1, SIZES[-1]) for size in values["batch_sizes"] or []],
            seed=runner.offer.seed,
        )

    def concurrency_warning(outcome: Outcome, visitor: UserSession) -> list[Any]:
        beside = outcome.done is not None and outcome.beside > 0
        return [notice(inside("speed_beside"), "alert") if beside else ""]

    job = Job(NAME, "speed", settings, lambda result: result["rows"], front=("table", "text"))
    tab.connect(runner, job, run_stop, panel, inputs, more=[warning], show_more=concurrency_warning)
