"""The tab of `encoderlab spread`: its fields become settings, its answer is the command's."""

import gradio as gr

from encoderlab.web.i18n import translate
from encoderlab.web.jobs import JobRunner
from encoderlab.web.tabs import tab
from extending.spread import Spread

WORDS = {
    "en": {
        "spread_tab": "Spread",
        "spread_about": "Over how many directions does each encoder spread the samples?",
    },
    "ko": {
        "spread_tab": "퍼짐",
        "spread_about": "각 인코더는 샘플을 몇 개의 방향으로 퍼뜨리나요?",
    },
}


def build(place: JobRunner) -> None:
    """Lays the tab out."""
    with tab.frame("spread"), gr.Row():
        with tab.fields():
            given = {
                "encoders": tab.encoders_field(place.offer),
                "n_samples": gr.Slider(
                    *tab.SAMPLES, value=30, step=1, label=translate("n_samples")
                ),
            }
            pressed = tab.buttons("spread")
        with tab.results():
            where = tab.panel("spread")

    def settings(values, visitor):
        return Spread(
            encoders=place.offer.check("encoder", values["encoders"] or []),
            n_samples=tab.whole(values["n_samples"], *tab.SAMPLES),
            seed=place.offer.seed,
        )

    job = tab.Job("spread", "spread", settings, records=lambda result: result["rows"])
    tab.connect(place, job, pressed, where, given)
