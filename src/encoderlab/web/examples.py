"""Examples for visitors: images, sentences, and an index of generated images."""

from __future__ import annotations

import functools
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.components import Component

from encoderlab.data.chat import read_chat
from encoderlab.data.vlm_dataset import SAMPLE_DATA
from encoderlab.vlm.questions import read_questions
from encoderlab.web.i18n import translate
from encoderlab.web.uploads import upload_field

INDEXED, KINDS = 120, ("scene", "chart", "table")
MOST_TEXT = 500
FIELD_HEIGHT = 160  # pixels of an image: a tab is seen without scrolling
FIRST = 1  # index of the sample that the fields hold at the start


@functools.cache
def questions() -> list[str]:
    """A question about each of the samples."""
    read = read_questions(SAMPLE_DATA / "labels.jsonl", SAMPLE_DATA / "images")
    # The last turn of a record: the first asks for the caption.
    last = {str(question.image.image): question.text for question in read.rows}
    return [last[path] for path, _ in samples()]


@functools.cache
def samples() -> list[tuple[str, str]]:
    """(path, caption) of some of the built-in samples."""
    chat = read_chat(SAMPLE_DATA / "labels.jsonl", SAMPLE_DATA / "images")
    return [(str(sample.image), sample.texts[0]) for sample in chat[FIRST::3]]


def picture_field(name: str, height: int = FIELD_HEIGHT) -> gr.Image:
    """An upload field that holds an example, with more examples to choose from."""
    field, _ = _field(name, height)
    return field


def picture_and_text(
    name: str, key: str = "text", texts: Sequence[str] | None = None, lines: int = 2
) -> dict[str, Component]:
    """The same with a text field that gets the text of the chosen example."""
    # Its caption, unless `texts` are given; `key` is that of the field's label.
    field, examples = _field(name)
    shown = texts or [caption for _, caption in samples()]
    text = gr.Textbox(
        shown[0], label=translate(key), info=translate(f"{key}_about"), lines=lines,
        max_lines=lines, max_length=MOST_TEXT, elem_id=f"{name}-text",
    )  # fmt: skip

    def chosen(event: gr.SelectData) -> str:
        return shown[event.index]

    examples.dataset.select(chosen, outputs=text, show_progress="hidden", api_visibility="private")
    return {"image": field, "text": text}


def _field(name: str, height: int = FIELD_HEIGHT) -> tuple[gr.Image, Any]:
    field = upload_field(
        value=samples()[0][0], label=translate("image"), height=height, elem_id=f"{name}-image"
    )
    paths = [[path] for path, _ in samples()]
    return field, gr.Examples(paths, field, label=translate("examples"))


def upload_name(values: dict[str, Any]) -> dict[str, str]:
    """Server path of the visitor's image -> its file name."""
    path = values.get("image")
    return {str(path): Path(path).name} if path else {}


def index(home: Path) -> Path:
    """The index of generated images in the folder `home`; made when it is first needed."""
    from encoderlab.data.synthetic import write_dataset
    from encoderlab.retrieval.index import run

    folder, images = home / "example-index", home / "example-images"
    if not folder.exists():
        if not images.exists():
            write_dataset(images, INDEXED, kinds=KINDS)
        # Renamed when complete, so that an interrupted run leaves no partial index.
        unfinished = home / f"example-index-{secrets.token_hex(4)}"
        run(source=str(images / "captions.csv"), db=str(unfinished))
        unfinished.rename(folder)
    return folder
