"""Where encoders look in an image, and which patches agree with a text."""

from __future__ import annotations

import html
from typing import Any

import gradio as gr

from encoderlab.alignment.settings import Attention
from encoderlab.plots.overlay import heat
from encoderlab.web import examples
from encoderlab.web.i18n import inside, translate
from encoderlab.web.jobs import JobRunner, Outcome
from encoderlab.web.render import data_address
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
)
from encoderlab.web.uploads import picture
from encoderlab.web.user_sessions import UserSession

NAME = "attention"
MOST_TEXT = 500
# The slider moves a property of the page's style: no request, and every overlay follows.
MOVE = "(share) => document.documentElement.style.setProperty('--overlay', share)"


def build(place: JobRunner) -> None:
    """Lays the tab out."""
    with frame(NAME), gr.Row():
        with fields():
            given = examples.picture_and_text(NAME)
            given["encoders"] = encoders_field(place.offer)
            pressed = buttons(NAME)
        with results():
            opacity = gr.Slider(0, 1, value=0.6, step=0.05, label=translate("opacity"))
            maps = gr.HTML(elem_id=f"{NAME}-maps", js_on_load=None)
            where = panel(NAME)
    opacity.input(None, inputs=opacity, js=MOVE, api_visibility="private")

    def settings(values: Values, visitor: UserSession) -> Attention:
        return Attention(
            encoders=place.offer.check("encoder", values["encoders"] or []),
            image=str(picture(values["image"])),
            text=(values["text"] or "")[:MOST_TEXT],
            seed=place.offer.seed,
        )

    def records(result: dict[str, Any]) -> list[dict[str, Any]]:
        return result["encoders"]

    connect(place, Job(NAME, "attention", settings, records, names=examples.upload_name), pressed,
            where, given, more=[maps], show_more=_overlays)  # fmt: skip


def _overlays(outcome: Outcome, visitor: UserSession) -> list[Any]:
    """Each encoder's maps side by side, laid over what it saw."""
    if outcome.done is None:
        return [""]
    rows = []
    for one in outcome.done.result.encoders:
        if one.view is None:
            continue
        below = data_address(one.view, "JPEG")
        shown = ""
        for kind, values in (("rollout", one.rollout), ("similarity", one.similarity)):
            why = one.no_attention if kind == "rollout" else one.no_similarity
            name = html.escape(one.encoder)
            said = f"{name}: {inside(f'attention_{kind}')}"
            if values is None:
                shown += f"<figure class=map><p>{html.escape(why or '-')}</p>"
            else:
                above = data_address(heat(values, one.view.size))
                shown += (
                    f"<figure class=map><div class=layers><img src='{below}' alt=''>"
                    f"<img class=above src='{above}' alt='{name}, {kind}'></div>"
                )
            shown += f"<figcaption>{said}</figcaption></figure>"
        rows.append(f"<div class=pair>{shown}</div>")
    return [f"<div class=maps>{''.join(rows)}</div>"]
