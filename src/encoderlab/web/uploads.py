"""Images that visitors upload. Only the project's own decoder opens them."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gradio as gr

from encoderlab.data.decode import ImageError, open_image
from encoderlab.errors import UsageError

MAX_PIXELS = 40_000_000


def upload_field(**options: Any) -> gr.Image:
    """An upload field for one image that gives the file's path without opening it."""
    field = gr.Image(type="filepath", sources=["upload", "clipboard"], **options)
    # Gradio's own method decodes the file. It is not overridden in a subclass because Gradio writes
    # a stub file beside every module that has one.
    field.preprocess = _path_of  # type: ignore[method-assign]
    return field


def _path_of(payload: Any) -> str | None:
    return None if payload is None else payload.path


def picture(path: str | None) -> Path:
    """The uploaded image, after a check that it can be decoded."""
    if not path:
        raise UsageError("there is no image yet", want="an upload, or one of the examples")
    file = Path(path)
    try:
        open_image(file, max_pixels=MAX_PIXELS)
    except ImageError as error:
        raise UsageError("the image cannot be used", got=file.name, hint=error.reason) from error
    return file


def gather(paths: Sequence[str] | None, folder: Path, most: int) -> Path:
    """`folder`, with the uploaded files copied into it under their own names, unopened."""
    if not paths:
        raise UsageError("there are no images yet", want="an upload of one or more")
    if len(paths) > most:
        raise UsageError("too many images at once", got=len(paths), want=f"at most {most}")
    folder.mkdir(parents=True, exist_ok=True)
    for path in map(Path, paths):
        target, number = folder / path.name, 2
        while target.exists():
            target = folder / f"{path.stem}-{number}{path.suffix}"
            number += 1
        shutil.copyfile(path, target)
    return folder
