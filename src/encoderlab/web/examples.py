"""What a visitor can try without bringing anything: pictures, sentences, and an index of them."""

from __future__ import annotations

import functools
import secrets
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.components import Component

from encoderlab.data.chat import read_chat
from encoderlab.data.vlm_dataset import SAMPLE_DATA
from encoderlab.web.i18n import translate
from encoderlab.web.uploads import upload_field

INDEXED, KINDS = 120, ("scene", "chart", "table")
FIRST = 1  # the sample that stands in the fields at the start


@functools.cache
def samples() -> list[tuple[str, str]]:
    """(path, caption) of some of the package's pictures."""
    read = read_chat(SAMPLE_DATA / "labels.jsonl", SAMPLE_DATA / "images")
    return [(str(one.image), one.texts[0]) for one in read[FIRST::3]]


def picture_field(name: str) -> gr.Image:
    """An upload field with a picture in it, and others to choose from."""
    field, _ = _field(name)
    return field


def picture_and_text(name: str) -> dict[str, Component]:
    """The same with a sentence about it, which follows the choice."""
    field, examples = _field(name)
    text = gr.Textbox(
        samples()[0][1],
        label=translate("text"),
        info=translate("text_about"),
        lines=2,
        max_length=500,
    )

    def caption(event: gr.SelectData) -> str:
        return samples()[event.index][1]

    examples.dataset.select(caption, outputs=text, show_progress="hidden", api_visibility="private")
    return {"image": field, "text": text}


def _field(name: str) -> tuple[gr.Image, Any]:
    field = upload_field(
        value=samples()[0][0], label=translate("image"), height=240, elem_id=f"{name}-image"
    )
    paths = [[path] for path, _ in samples()]
    return field, gr.Examples(paths, field, label=translate("examples"))


def upload_name(values: dict[str, Any]) -> dict[str, str]:
    """The visitor's name for the image they gave."""
    path = values.get("image")
    return {str(path): Path(path).name} if path else {}


def index(home: Path) -> Path:
    """The index of generated pictures, in the page's folder; made when it is first needed."""
    from encoderlab.data.synthetic import write_dataset
    from encoderlab.retrieval.index import run

    place = home / "example-index"
    pictures = home / "example-images"
    if not place.exists():
        if not pictures.exists():
            write_dataset(pictures, INDEXED, kinds=KINDS)
        # Under another name until it is whole: who is interrupted here makes it again.
        unfinished = home / f"example-index-{secrets.token_hex(4)}"
        run(source=str(pictures / "captions.csv"), db=str(unfinished))
        unfinished.rename(place)
    return place
