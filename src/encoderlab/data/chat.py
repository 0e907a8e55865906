"""Reads samples from chat-format JSONL: one record of user and assistant turns per line.

Knows the form of a record; `vlm_dataset` knows which files make up a data set.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from encoderlab.core.json_text import parsed
from encoderlab.core.skipped import Skipped
from encoderlab.data.csv_table import check_some_exist, image_path, image_root, tidy_name
from encoderlab.data.sample import Sample, Samples, distinct
from encoderlab.errors import MissingError, UsageError


def read_chat(
    path: str | Path, img_root: str | Path | None = None, label: str | None = None
) -> Samples:
    """One sample per record, with the assistant's turns as its texts.

    Args:
        path: the JSONL file.
        img_root: the folder that image paths start from; None for the file's own folder, or
            `images` beside it where the first images are found there only.
        label: of every sample; None for the first folder in its image path.

    Returns:
        The samples, with the records that were skipped.

    Raises:
        MissingError: no such file, or none of the first images exists.
        UsageError: a line that is no record (named by number), or a path that leaves `img_root`.
    """
    file = Path(path)
    if not file.is_file():
        raise MissingError("no such label file", got=str(path), want="a JSONL file that exists")
    records: list[tuple[int, str, list[str]]] = []
    try:
        with file.open(encoding="utf-8-sig") as lines:
            for number, line in enumerate(lines, start=1):
                if line.strip():
                    records.append((number, *_record(line, f"line {number} of {file}")))
    except UnicodeDecodeError as error:
        raise UsageError(
            "the label file cannot be read", got=f"{file}: {error}", want="JSON lines in UTF-8"
        ) from error
    if not records:
        raise UsageError("the label file is empty", got=str(file), want="one record per line")
    root = image_root(file, [name for _, name, _ in records], img_root)
    samples = Samples()
    for number, name, texts in records:
        id_ = f"{file.stem}/{number}"
        image = image_path(root, name, f"line {number} of {file}")
        folder = name.split("/")[0] if "/" in name else None
        try:
            samples.append(Sample(id_, image, distinct(texts), label or folder or None))
        except UnicodeEncodeError as error:
            samples.skipped.append(Skipped(id_, f"half of a character in its text: {error}"))
    check_some_exist(samples, root, "the image folder")
    return samples


def _record(line: str, where: str) -> tuple[str, list[str]]:
    """The image's path and the assistant's texts."""
    try:
        messages = parsed(line)["messages"]
        parts = [
            (message["role"], part) for message in messages for part in parts_of(message["content"])
        ]
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(
            f"{where} is no chat record",
            got=line.strip()[:60],
            want='{"messages": [{"role": "user", "content": [...]}, ...]}',
        ) from error

    def values(kind: str, *roles: str) -> list[str]:
        return [
            part[kind]
            for role, part in parts
            if (not roles or role in roles)
            and part.get("type") == kind
            and isinstance(part.get(kind), str)
        ]

    images = values("image")
    if not images:
        raise UsageError(
            f"{where} has no image", want='a part {"type": "image", "image": "chart/example.png"}'
        )
    return tidy_name(images[0]), values("text", "assistant")


def parts_of(content: Any) -> list[dict[str, Any]]:
    """The parts of a message's content; a plain text is one part.

    Args:
        content: a text, or a list of parts.

    Returns:
        The parts, each with its `type`.

    Raises:
        TypeError: a part that is no mapping.
    """
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    if not all(isinstance(part, dict) for part in content):
        raise TypeError("a part is no mapping")
    return content
