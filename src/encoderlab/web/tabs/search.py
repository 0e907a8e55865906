"""Images for a sentence or an image, from an index; and an index of the visitor's own images."""

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
from encoderlab.web.tabs import tab
from encoderlab.web.tabs.tab import Job, Values
from encoderlab.web.uploads import gather, picture, upload_field
from encoderlab.web.user_sessions import UserSession

NAME, MAKE = "search", "make-index"
BUILT_IN, CONFIGURED, OWN = "built-in", "configured", "own"
MOST_HITS, MOST_TEXT = 50, 500
QUERY = "a large red star"


def build(runner: JobRunner) -> None:
    """Builds the components of the tab."""
    offer = runner.offer
    indexes = [(translate("index_built_in"), BUILT_IN), (translate("index_own"), OWN)]
    if offer.db:
        indexes.insert(1, (offer.db, CONFIGURED))
    with tab.frame(NAME), gr.Row():
        with tab.fields():
            inputs = {
                "query": gr.Textbox(
                    QUERY, label=translate("query"), info=translate("query_about"),
                    lines=1, max_length=MOST_TEXT, elem_id=f"{NAME}-query",
                ),
                "image": upload_field(
                    label=translate("query_image"), height=180, elem_id=f"{NAME}-image"
                ),
                "index": gr.Radio(indexes, value=BUILT_IN, label=translate("index")),
                "k": gr.Slider(1, MOST_HITS, value=6, step=1, label=translate("k")),
            }  # fmt: skip
            run_stop = tab.buttons(NAME, "find")
            with gr.Accordion(translate("make_index"), open=False):
                uploads = {
                    "images": gr.File(
                        file_count="multiple", file_types=["image"], label=translate("images"),
                        elem_id=f"{MAKE}-images",
                    ),
                    "model": tab.model_field(offer, offer.duals),
                }  # fmt: skip
                make_stop = tab.buttons(MAKE, "make")
                report = tab.panel(MAKE)
        with tab.results():
            progress = tab.progress_field(NAME)
            gallery = gr.HTML(elem_id=f"{NAME}-gallery", js_on_load=None)
            panel = tab.Panel(progress, tab.answer_field(NAME), *tab.details(NAME))

    def settings(values: Values, visitor: UserSession) -> Search:
        query, image = (values["query"] or "").strip(), values["image"]
        return Search(
            query=None if image else query[:MOST_TEXT] or None,
            image=str(picture(image)) if image else None,
            db=str(_index(runner, visitor, values["index"])),
            k=tab.whole(values["k"], 1, MOST_HITS),
        )

    def index_settings(values: Values, visitor: UserSession) -> Index:
        folder = visitor.fresh("photos")
        gather(values["images"], folder, offer.max_images)
        (model,) = offer.check("dual encoder", [values["model"]])
        return Index(source=str(folder), db=str(visitor.fresh("index")), model=model)

    job = Job(
        NAME, "search", settings, lambda result: result["hits"], SHORT, names=examples.upload_name
    )
    tab.connect(runner, job, run_stop, panel, inputs, more=[gallery], show_more=_gallery)

    def choose_own(outcome: Outcome, visitor: UserSession) -> list[Any]:
        return [OWN if outcome.done else gr.skip()]

    job = Job(MAKE, "index", index_settings, lambda result: [result], SHORT)
    tab.connect(
        runner,
        job,
        make_stop,
        report,
        uploads,
        more=[inputs["index"]],
        show_more=choose_own,
        example=False,
    )


def _index(runner: JobRunner, visitor: UserSession, which: str) -> Path | str:
    if which == CONFIGURED and runner.offer.db:
        return runner.offer.db
    if which == OWN:
        own = sorted(visitor.folder.glob("index-*"))
        if not own:
            raise MissingError(
                "there is no index of your images yet", want="one, made below from an upload"
            )
        return own[-1]
    return examples.index(runner.home)


def _gallery(outcome: Outcome, visitor: UserSession) -> list[Any]:
    return ["" if outcome.done is None else pictures(outcome.done.result.hits)]
