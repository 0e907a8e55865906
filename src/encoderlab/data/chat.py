"""Samples from chat-format JSONL: one record of user and assistant turns per line.

Knows the record's form; which files make up a data set is `vlm_dataset`'s business.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from encoderlab.data.csv_table import check_some_exist, image_path
from encoderlab.data.sample import Sample
from encoderlab.errors import MissingError, UsageError
from encoderlab.json_text import parsed


def read_chat(
    path: str | Path, img_root: str | Path | None = None, label: str | None = None
) -> list[Sample]:
    """One sample per record, with the assistant's turns as its texts.

    Args:
        img_root: the folder that image paths start from; if left out, the file's own folder, or
            `images` beside it where the first image is found there only.

    Raises:
        MissingError: no such file, or none of the first images exists.
        UsageError: a line that is no record (named by number), or a path that leaves `img_root`.
    """
    file = Path(path)
    if not file.is_file():
        raise MissingError("no such label file", got=str(path), want="a JSONL file that exists")
    root = None if img_root is None else Path(img_root)
    samples: list[Sample] = []
    try:
        with file.open(encoding="utf-8-sig") as lines:
            for number, line in enumerate(lines, start=1):
                if line.strip():
                    where = f"line {number} of {file}"
                    root = root or _beside(file, line)
                    samples.append(_sample(line, where, root, f"{file.stem}/{number}", label))
    except UnicodeDecodeError as error:
        raise UsageError(
            "the label file cannot be read", got=f"{file}: {error}", want="JSON lines in UTF-8"
        ) from error
    if not samples:
        raise UsageError("the label file is empty", got=str(file), want="one record per line")
    check_some_exist(samples, root or file.parent, "the image folder")
    return samples


def _beside(file: Path, first_line: str) -> Path:
    images = file.parent / "images"
    first = next(iter(_images(_turns(first_line, f"line 1 of {file}"))), "")
    inside_only = (images / first).is_file() and not (file.parent / first).is_file()
    return images if inside_only else file.parent


def _sample(line: str, where: str, root: Path, name: str, label: str | None) -> Sample:
    turns = _turns(line, where)
    images = _images(turns)
    if not images:
        raise UsageError(
            f"{where} has no image", want='a part {"type": "image", "image": "chart/example.png"}'
        )
    said = [
        part["text"].strip()
        for role, parts in turns
        if role == "assistant"
        for part in parts
        if part.get("type") == "text" and isinstance(part.get("text"), str) and part["text"].strip()
    ]
    if label is None and "/" in images[0]:
        label = images[0].split("/")[0]
    return Sample(name, image_path(root, images[0], where), tuple(dict.fromkeys(said)), label)


def _turns(line: str, where: str) -> list[tuple[str, list[dict[str, Any]]]]:
    try:
        messages = parsed(line)["messages"]
        return [(message["role"], _parts(message["content"])) for message in messages]
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(
            f"{where} is no chat record",
            got=line.strip()[:60],
            want='{"messages": [{"role": "user", "content": [...]}, ...]}',
        ) from error


def _images(turns: list[tuple[str, list[dict[str, Any]]]]) -> list[str]:
    return [
        part["image"]
        for _, parts in turns
        for part in parts
        if part.get("type") == "image" and isinstance(part.get("image"), str)
    ]


def _parts(content: Any) -> list[dict[str, Any]]:
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    if not all(isinstance(part, dict) for part in content):
        raise TypeError("a part is no mapping")
    return content
