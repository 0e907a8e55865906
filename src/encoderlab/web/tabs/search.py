"""The images for a sentence or for an image, over an index; and an index of one's own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr

from encoderlab.errors import MissingError
from encoderlab.retrieval.gallery import pictures
from encoderlab.retrieval.settings import Index, Search
from encoderlab.web import examples
from encoderlab.web.i18n import translate
from encoderlab.web.jobs import SHORT, JobRunner, Outcome
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
from encoderlab.web.uploads import gather, picture, upload_field
from encoderlab.web.user_sessions import UserSession

NAME, MAKE = "search", "make-index"
BUILT_IN, CONFIGURED, OWN = "built-in", "configured", "own"
MOST_HITS, MOST_TEXT = 50, 500


def build(place: JobRunner) -> None:
    """Lays the tab out."""
    offer = place.offer
    indexes = [(translate("index_built_in"), BUILT_IN), (translate("index_own"), OWN)]
    if offer.db:
        indexes.insert(1, (offer.db, CONFIGURED))
    with frame(NAME), gr.Row():
        with fields():
            query = gr.Textbox(
                "a large red star",
                label=translate("query"),
                info=translate("query_about"),
                lines=1,
                max_length=MOST_TEXT,
                elem_id=f"{NAME}-query",
            )
            image = upload_field(
                label=translate("query_image"), height=180,
                elem_id=f"{NAME}-image",
            )  # fmt: skip
            given = {
                "query": query,
                "image": image,
                "index": gr.Radio(indexes, value=BUILT_IN, label=translate("index")),
                "k": gr.Slider(1, MOST_HITS, value=6, step=1, label=translate("k")),
            }
            pressed = buttons(NAME, "find")
            with gr.Accordion(translate("make_index"), open=False):
                uploads = {
                    "images": gr.File(
                        file_count="multiple", file_types=["image"], label=translate("images"),
                        elem_id=f"{MAKE}-images",
                    ),
                    "model": model_field(offer, offer.duals),
                }  # fmt: skip
                made = buttons(MAKE, "make")
                report = panel(MAKE)
        with results():
            gallery = gr.HTML(elem_id=f"{NAME}-gallery", js_on_load=None)
            where = panel(NAME)

    def settings(values: Values, visitor: UserSession) -> Search:
        asked = (values["query"] or "").strip()
        shown = values["image"]
        db = str(_index(place, visitor, values["index"]))
        return Search(
            query=None if shown else asked[:MOST_TEXT] or None,
            image=str(picture(shown)) if shown else None,
            db=db,
            k=whole(values["k"], 1, MOST_HITS),
        )

    def index_settings(values: Values, visitor: UserSession) -> Index:
        folder = visitor.fresh("photos")
        gather(values["images"], folder, offer.max_images)
        (model,) = offer.check("dual encoder", [values["model"]])
        return Index(source=str(folder), db=str(visitor.fresh("index")), model=model)

    connect(place, Job(NAME, "search", settings, lambda result: result["hits"], SHORT,
                       examples.upload_name),
            pressed, where, given, more=[gallery], show_more=_gallery)  # fmt: skip
    connect(place, Job(MAKE, "index", index_settings, lambda result: [result], SHORT),
            made, report, uploads, more=[given["index"]],
            show_more=lambda outcome, visitor: [OWN if outcome.done else gr.skip()])  # fmt: skip


def _index(place: JobRunner, visitor: UserSession, which: str) -> Path | str:
    if which == CONFIGURED and place.offer.db:
        return place.offer.db
    if which == OWN:
        own = sorted(visitor.folder.glob("index-*"))
        if not own:
            raise MissingError(
                "there is no index of your images yet", want="one, made below from an upload"
            )
        return own[-1]
    return examples.index(place.home)


def _gallery(outcome: Outcome, visitor: UserSession) -> list[Any]:
    return ["" if outcome.done is None else pictures(outcome.done.result.hits)]
