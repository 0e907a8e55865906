"""Attention maps of encoders over an image, and which patches match a text."""

from __future__ import annotations

import html
from typing import Any

import gradio as gr

from encoderlab.alignment.settings import Attention
from encoderlab.plots.overlay import heat
from encoderlab.web import examples
from encoderlab.web.i18n import inside, translate
from encoderlab.web.jobs import JobRunner, Outcome
from encoderlab.web.render import data_address, said
from encoderlab.web.tabs import tab
from encoderlab.web.tabs.tab import Job, Values
from encoderlab.web.uploads import picture
from encoderlab.web.user_sessions import UserSession

NAME = "attention"
# The slider moves a property of the page's style: no request, and every overlay follows.
MOVE = "(share) => document.documentElement.style.setProperty('--overlay', share)"


def build(runner: JobRunner) -> None:
    """Builds the components of the tab."""
    with tab.frame(NAME), gr.Row():
        with tab.fields():
            inputs = examples.picture_and_text(NAME)
            inputs["encoders"] = tab.encoders_field(runner.offer)
            run_stop = tab.buttons(NAME)
        with tab.results():
            progress = tab.progress_field(NAME)
            opacity = gr.Slider(0, 1, value=0.6, step=0.05, label=translate("opacity"))
            maps = gr.HTML(elem_id=f"{NAME}-maps", js_on_load=None)
            panel = tab.Panel(progress, tab.answer_field(NAME), *tab.details(NAME))
    opacity.input(None, inputs=opacity, js=MOVE, api_visibility="private")

    def settings(values: Values, visitor: UserSession) -> Attention:
        return Attention(
            encoders=runner.offer.check("encoder", values["encoders"] or []),
            image=str(picture(values["image"])),
            text=(values["text"] or "")[: examples.MOST_TEXT],
            seed=runner.offer.seed,
        )

    job = Job(
        NAME,
        "attention",
        settings,
        lambda result: result["encoders"],
        front=("text",),
        names=examples.upload_name,
    )
    tab.connect(runner, job, run_stop, panel, inputs, more=[maps], show_more=_overlays)


def _overlays(outcome: Outcome, visitor: UserSession) -> list[Any]:
    """Each encoder's maps side by side, over the image as it was preprocessed."""
    if outcome.done is None:
        return [""]
    rows = []
    for encoder in outcome.done.result.encoders:
        if encoder.view is None:
            continue
        name = html.escape(encoder.encoder)
        view = data_address(encoder.view, "JPEG")
        row = ""
        for kind, values, reason in (
            ("rollout", encoder.rollout, encoder.no_attention),
            ("similarity", encoder.similarity, encoder.no_similarity),
        ):
            if values is None:
                content = f"<p>{said(reason or '-')}</p>"
            else:
                overlay = data_address(heat(values, encoder.view.size))
                content = (
                    f"<div class=layers><img src='{view}' alt=''>"
                    f"<img class=above src='{overlay}' alt='{name}, {kind}'></div>"
                )
            caption = f"<figcaption>{name}: {inside(f'attention_{kind}')}</figcaption>"
            row += f"<figure class=map>{content}{caption}</figure>"
        rows.append(f"<div class=pair>{row}</div>")
    return [f"<div class=maps>{''.join(rows)}</div>"]
