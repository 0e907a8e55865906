"""A question about an image, answered by a VLM; an example is answered when the page starts."""

from __future__ import annotations

import gradio as gr

from encoderlab.vlm.settings import VlmAnswer
from encoderlab.web import examples
from encoderlab.web.i18n import translate
from encoderlab.web.jobs import SHORT, JobRunner
from encoderlab.web.tabs import tab
from encoderlab.web.tabs.tab import Job, Values
from encoderlab.web.uploads import picture
from encoderlab.web.user_sessions import UserSession

NAME = "ask"


def build(runner: JobRunner) -> None:
    """Builds the components of the tab."""
    with tab.frame(NAME), gr.Row():
        with tab.fields():
            inputs = examples.picture_and_text(NAME, "question", examples.questions(), lines=1)
            inputs["model"] = tab.model_field(runner.offer, runner.offer.vlms)
            inputs["explain"] = gr.Checkbox(
                False, label=translate("explain"), info=translate("explain_about")
            )
            run_stop = tab.buttons(NAME, "ask")
        with tab.results():
            panel = tab.panel(NAME)

    def settings(values: Values, visitor: UserSession) -> VlmAnswer:
        (model,) = runner.offer.check("VLM", [values["model"]])
        return VlmAnswer(
            image=str(picture(values["image"])),
            text=(values["text"] or "")[: examples.MOST_TEXT],
            model=model,
            explain=bool(values["explain"]),
            seed=runner.offer.seed,
        )

    job = Job(
        NAME, "vlm answer", settings, lambda result: result["candidates"], SHORT,
        ("text", "table", "figure"), examples.upload_name,
    )  # fmt: skip
    text = inputs["text"]
    assert isinstance(text, gr.Textbox)
    tab.connect(runner, job, run_stop, panel, inputs, also=[text.submit])
