"""Reads samples from a folder of images: flat, or one sub-folder per class.

Captions come from the metadata of a Hugging Face image folder (`metadata.jsonl` or `metadata.csv`
with file_name and a caption) and from text files beside the images (`0001.txt` beside `0001.jpg`,
one caption per line). Decodes no image.
"""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from encoderlab.core.json_text import parsed
from encoderlab.core.progress import note
from encoderlab.core.skipped import Skipped
from encoderlab.data.csv_table import rows_of, tidy_name
from encoderlab.data.decode import is_image_name, unreadable_ending
from encoderlab.data.sample import (
    CAPTION_COLUMNS,
    LABEL_COLUMNS,
    Sample,
    Samples,
    captions_in,
    check_name,
    distinct,
    label_in,
    printable,
)
from encoderlab.errors import MissingError, NoImagesError, UsageError

FILE_NAME = "file_name"
METADATA = ("metadata.csv", "metadata.jsonl")
SHARDS = (".tar", ".parquet")


def read_folder(path: str | Path) -> Samples:
    """Every image under `path` except hidden files, in natural order (2 before 10).

    Links to folders are followed; each folder is read once. The label of an image is that of the
    metadata, else the name of the first folder below `path`.

    Args:
        path: the folder.

    Returns:
        The samples, with the files that were skipped.

    Raises:
        MissingError: no such folder.
        NoImagesError: no image in it.
        UsageError: the folder's own path is not UTF-8, or damaged metadata.
    """
    root = Path(path)
    if not root.is_dir():
        raise MissingError("no such folder", got=str(path), want="a folder of images")
    check_name(root)
    tree = _Tree.of(root)
    samples = Samples(skipped=tree.skipped)
    records_of, unused = _metadata(root, tree.metadata)
    for name in sorted(tree.images, key=_in_order):
        records = records_of.pop(name, [])
        if printable(name) != name:
            samples.skipped.append(Skipped(printable(name), "its name is not UTF-8: rename it"))
            continue
        captions = [caption for record in records for caption in captions_in(record)]
        beside = os.path.splitext(name)[0] + ".txt"
        try:
            if beside in tree.texts:
                captions += (root / beside).read_text("utf-8-sig").splitlines()
            texts = distinct(captions)
        except (UnicodeError, OSError) as error:
            samples.skipped.append(Skipped(name, f"its caption cannot be read: {error}"))
            continue
        label = next(filter(None, map(label_in, records)), None)
        if label is None and "/" in name:
            label = name.split("/")[0]
        samples.append(Sample(name, root / name, texts, label))
    samples.skipped += unused
    samples.skipped += (
        Skipped(name, "the metadata names it, and no such image is there") for name in records_of
    )
    if not samples:
        raise NoImagesError(
            "the folder has no images",
            got=str(root),
            want="files in a format that Pillow decodes, such as .jpg, .png, .webp",
            hint=f"left out: {samples.skipped[0].id}: {samples.skipped[0].reason}"
            if samples.skipped
            else None,
        )
    return samples


@dataclass
class _Tree:
    """Images, text files and metadata under a folder, by their relative paths with `/`."""

    images: list[str] = field(default_factory=list)
    texts: set[str] = field(default_factory=set)
    metadata: list[str] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)

    @classmethod
    def of(cls, root: Path) -> _Tree:
        """Lists every folder once: real folders before those that a link leads to."""
        tree = cls()
        listed: set[tuple[int, int]] = set()
        folders, links = [""], list[str]()
        while folders or links:
            if not folders:
                folders, links = sorted(links, key=_in_order, reverse=True), []
            below = folders.pop()
            try:
                status = os.stat(root / below)
                inode = (status.st_dev, status.st_ino)
                if inode in listed:
                    tree._leave_out(below, "it is a link to a folder that is read already")
                    continue
                listed.add(inode)
                with os.scandir(root / below) as entries:
                    for entry in entries:
                        name = f"{below}/{entry.name}" if below else entry.name
                        if entry.name.startswith("."):
                            continue
                        is_link = entry.is_symlink()
                        if is_link and os.path.isdir(entry.path):
                            links.append(name)
                        elif is_link and not os.path.exists(entry.path):
                            tree._leave_out(name, "it is a link to nothing")
                        elif entry.is_dir(follow_symlinks=False):
                            folders.append(name)
                        elif is_link or entry.is_file(follow_symlinks=False):
                            tree._add(name)
                        elif is_image_name(name):
                            tree._leave_out(name, "it is no regular file")
            except OSError as error:
                tree._leave_out(below or str(root), f"the folder cannot be read: {error.strerror}")
        return tree

    def _add(self, name: str) -> None:
        ending = os.path.splitext(name)[1].lower()
        if is_image_name(name):
            self.images.append(name)
        elif ending == ".txt":
            self.texts.add(name)
        elif os.path.basename(name) in METADATA:
            self.metadata.append(name)
        elif ending in SHARDS:
            self._leave_out(name, "it is a shard: name it itself")
        elif (reason := unreadable_ending(name)) is not None:
            self._leave_out(name, reason)

    def _leave_out(self, name: str, reason: str) -> None:
        self.skipped.append(Skipped(printable(name), reason))


def _metadata(
    root: Path, files: list[str]
) -> tuple[dict[str, list[dict[str, Any]]], list[Skipped]]:
    """Image -> its records in the metadata files, and the files without captions and labels."""
    records_of: dict[str, list[dict[str, Any]]] = {}
    unused = []
    for name in sorted(files):
        records = list(_records(root / name))
        if not any(record.get(FILE_NAME) for _, record in records):
            unused.append(Skipped(printable(name), f"it has no column {FILE_NAME}"))
            continue
        if not any(captions_in(record) or label_in(record) for _, record in records):
            columns = ", ".join((*CAPTION_COLUMNS, *LABEL_COLUMNS))
            unused.append(Skipped(printable(name), f"it has none of the columns {columns}"))
            continue
        for line, record in records:
            file = record.get(FILE_NAME)
            if not isinstance(file, str) or not file:
                raise UsageError(
                    f"line {line} of {root / name} has no {FILE_NAME}", want="one in every line"
                )
            image = tidy_name(os.path.join(os.path.dirname(name), file))
            records_of.setdefault(image, []).append(record)
    return records_of, unused


def _records(file: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    if file.suffix.lower() == ".csv":
        yield from rows_of(file, ())
        return
    for line, text in enumerate(file.read_bytes().split(b"\n"), start=1):
        if text.strip():
            try:
                record = parsed(text)
            except ValueError as error:
                raise UsageError(f"line {line} of {file} is no JSON", got=str(error)) from error
            if not isinstance(record, dict):
                raise UsageError(f"line {line} of {file} is no record", want='{"file_name": ...}')
            yield line, record


def _in_order(name: str) -> list[tuple[bool, list[tuple[bool, int | str]]]]:
    """Sort key of a path: the files of a folder before its sub-folders, numbers by their value."""
    *folders, file = name.lower().split("/")

    def natural(part: str) -> list[tuple[bool, int | str]]:
        runs = re.findall(r"\d+|\D+", part)
        return [(False, int(run)) if run.isdecimal() else (True, run) for run in runs]

    return [*((True, natural(folder)) for folder in folders), (False, natural(file))]


def image_files(path: str | None) -> tuple[list[Path], list[Skipped]]:
    """The image files that an argument of a command names.

    Args:
        path: a file, a folder or a glob; None for the built-in chart.

    Returns:
        The files, and the items of a folder that cannot be read.

    Raises:
        MissingError: nothing is there.
    """
    from encoderlab.data.vlm_dataset import SAMPLE_DATA

    if path is None:
        note("image: a built-in chart (none was named)")
        return [SAMPLE_DATA / "images/chart/chart_02.png"], []
    source = Path(path).expanduser()
    if source.is_dir():
        samples = read_folder(source)
        return [source / sample.id for sample in samples], samples.skipped
    if source.is_file():
        return [source], []
    matches = sorted(map(Path, glob.glob(str(source), recursive=True)))
    if not matches:
        raise MissingError(
            "no such image", got=path, want="an image file, a folder or a glob that exists"
        )
    return [match for match in matches if match.is_file()], []
