"""Samples from a CSV with the columns image_path and caption. Decodes no image."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from encoderlab.data.sample import Sample
from encoderlab.errors import MissingError, UsageError, did_you_mean

IMAGE, CAPTION, LABEL = "image_path", "caption", "label"
FIRST_LOOKED_AT = 20


def read_csv(path: str | Path, img_root: str | Path | None = None) -> list[Sample]:
    """One sample per image, in order of first appearance, with the captions of all its rows.

    Args:
        path: UTF-8, with or without a byte-order mark; columns image_path and caption, optionally
            label; others are ignored.
        img_root: the folder that the paths start from; the CSV's own folder if left out.

    Raises:
        MissingError: no such file, or none of the first images exists.
        UsageError: no rows, not text, a column is missing, or a path leaves `img_root`.
    """
    table = _existing(path)
    root = Path(img_root) if img_root is not None else table.parent
    texts: dict[str, list[str]] = {}
    labels: dict[str, str] = {}
    with _text_of(table) as rows:
        _check_columns(table, rows.fieldnames, (IMAGE, CAPTION))
        for row in rows:
            name = (row[IMAGE] or "").strip()
            if not name:
                raise UsageError(
                    f"line {rows.line_num} of {table} has no {IMAGE}", want="a path in every row"
                )
            captions = texts.setdefault(name, [])
            caption = (row.get(CAPTION) or "").strip()
            if caption and caption not in captions:
                captions.append(caption)
            label = (row.get(LABEL) or "").strip()
            if label:
                labels[name] = label
    if not texts:
        raise UsageError(
            "the CSV has no rows", got=str(table), want="one row per image and caption"
        )
    samples = [
        Sample(name, image_path(root, name, str(table)), tuple(captions), labels.get(name))
        for name, captions in texts.items()
    ]
    check_some_exist(samples, root, "--img-root")
    return samples


def image_path(root: Path, name: str, where: str) -> Path:
    """`name` under `root`.

    Raises:
        UsageError: the path is absolute and elsewhere, or climbs out of `root`.
    """
    given = Path(name)
    path = given if given.is_absolute() else root / given
    # Only paths that could climb are resolved: that asks the disk, once per image.
    if (given.is_absolute() or ".." in given.parts) and not path.resolve().is_relative_to(
        root.resolve()
    ):
        raise UsageError(
            f"an image path in {where} leaves the image folder",
            got=name,
            want=f"a path under {root}",
            hint="set --img-root to a folder that holds all images",
        )
    return path


def check_some_exist(samples: list[Sample], root: Path, flag: str) -> None:
    """Says early that a whole data set looks in the wrong place.

    Raises:
        MissingError: none of the first images is there.
    """
    looked_at = [sample.image for sample in samples[:FIRST_LOOKED_AT]]
    if looked_at and not any(isinstance(i, Path) and i.is_file() for i in looked_at):
        raise MissingError(
            "none of the first images is there",
            got=str(looked_at[0]),
            want=f"images under {root}",
            hint=f"set {flag} to the folder that the paths start from",
        )


def _check_columns(table: Path, columns: Sequence[str] | None, needed: Sequence[str]) -> None:
    want = ",".join(needed)
    if not columns:
        raise UsageError("the CSV is empty", got=str(table), want=f"a header {want}")
    for column in needed:
        if column not in columns:
            near = did_you_mean(column, columns)
            raise UsageError(
                f"{table} has no column {column}",
                got=", ".join(columns),
                want=want,
                hint=f"rename {near!r} to {column!r}" if near else None,
            )


def read_labels(path: str | Path) -> dict[str, str]:
    """image_path -> label of a CSV with those two columns.

    Raises:
        MissingError: no such file.
        UsageError: no rows, not text, or a column is missing.
    """
    table = _existing(path)
    with _text_of(table) as rows:
        _check_columns(table, rows.fieldnames, (IMAGE, LABEL))
        pairs = (((row[IMAGE] or "").strip(), (row[LABEL] or "").strip()) for row in rows)
        found = {name: label for name, label in pairs if name and label}
    if not found:
        raise UsageError("the CSV has no rows", got=str(table), want="one row per image")
    return found


def _existing(path: str | Path) -> Path:
    table = Path(path)
    if not table.is_file():
        raise MissingError("no such CSV", got=str(path), want="a file that exists")
    return table


@contextmanager
def _text_of(table: Path) -> Iterator[csv.DictReader[str]]:
    try:
        with table.open(encoding="utf-8-sig", newline="") as file:
            yield csv.DictReader(file, strict=True)
    except (UnicodeDecodeError, csv.Error) as error:
        raise UsageError(
            "the CSV cannot be read",
            got=f"{table}: {error}",
            want="UTF-8 text with commas and quoted fields",
        ) from error
