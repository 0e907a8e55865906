"""Reads samples and labels from a CSV, and resolves the image paths in a label file.

Decodes no image.
"""

from __future__ import annotations

import codecs
import csv
import io
import os
import posixpath
from collections.abc import Iterator, Sequence
from pathlib import Path

from encoderlab.data.decode import is_image_name
from encoderlab.data.sample import Sample, Samples, distinct
from encoderlab.errors import MissingError, UsageError, did_you_mean

IMAGE, CAPTION, LABEL = "image_path", "caption", "label"
FIRST_IMAGES = 20  # whose files are looked for


def read_csv(path: str | Path, img_root: str | Path | None = None) -> Samples:
    """One sample per image, in order of first appearance, with the captions of all its rows.

    Args:
        path: columns image_path and caption, optionally label; others are ignored.
        img_root: the folder that the paths start from; None for the CSV's own folder, or
            `images` beside it where the first images are found there only.

    Returns:
        The samples.

    Raises:
        MissingError: no such file, or none of the first images exists.
        UsageError: no rows, a row that `rows_of` refuses, two labels for one image, or a path that
            leaves `img_root`.
    """
    table = Path(path)
    rows = []
    for line, row in rows_of(table, (IMAGE, CAPTION)):
        if not row[IMAGE]:
            raise UsageError(f"line {line} of {table} has no {IMAGE}", want="a path in every row")
        rows.append((line, tidy_name(row[IMAGE]), row[CAPTION], row.get(LABEL, "")))
    root = image_root(table, [name for _, name, *_ in rows], img_root)
    ids: dict[str, str] = {}
    texts: dict[str, list[str]] = {}
    labels: dict[str, str] = {}
    for line, name, caption, label in rows:
        where = f"line {line} of {table}"
        if name not in ids:
            ids[name] = image_path(root, name, where).relative_to(root).as_posix()
        texts.setdefault(ids[name], []).append(caption)
        _put_label(labels, ids[name], label, where)
    samples = Samples(
        Sample(name, root / name, distinct(captions), labels.get(name))
        for name, captions in texts.items()
    )
    check_some_exist(samples, root, "--img-root")
    return samples


def read_labels(path: str | Path) -> dict[str, str]:
    """The labels in a CSV with the columns image_path and label.

    Args:
        path: the CSV.

    Returns:
        image_path -> label.

    Raises:
        MissingError: no such file.
        UsageError: no labels, a row that `rows_of` refuses, or two labels for one image.
    """
    table = Path(path)
    labels: dict[str, str] = {}
    for line, row in rows_of(table, (IMAGE, LABEL)):
        if row[IMAGE]:
            _put_label(labels, tidy_name(row[IMAGE]), row[LABEL], f"line {line} of {table}")
    if not labels:
        raise UsageError("the CSV has no labels", got=str(table), want="one row per image")
    return labels


def rows_of(table: Path, needed: Sequence[str]) -> Iterator[tuple[int, dict[str, str]]]:
    """The rows of a CSV, each with the number of its first line. Blank rows are passed over.

    Args:
        table: UTF-8, or UTF-16 with a byte-order mark; separated by commas, tabs or semicolons.
        needed: columns that must be there.

    Yields:
        (line, column -> stripped text).

    Raises:
        MissingError: no such file.
        UsageError: no rows, another encoding, an unclosed quote, a column that is missing or stands
            twice, or a row that has not one field per column.
    """
    if not table.is_file():
        raise MissingError("no such CSV", got=str(table), want="a file that exists")
    content = table.read_bytes()
    is_utf_16 = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        text = content.decode("utf-16" if is_utf_16 else "utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise UsageError(
            "the CSV cannot be read",
            got=f"line {line} of {table}",
            want="text in UTF-8",
            hint="in Excel, save it as CSV UTF-8",
        ) from error
    header = next((line for line in io.StringIO(text, newline="") if line.strip()), "")
    delimiter = _delimiter(header, needed, table.suffix.lower() == ".tsv")
    reader = csv.reader(
        io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True, strict=True
    )
    columns: list[str] = []
    line = rows = 0
    try:
        for record in reader:
            first, line = line + 1, reader.line_num
            cells = [cell.strip() for cell in record]
            if not any(cells):
                continue
            if not columns:
                columns = cells
                _check_columns(table, columns, needed)
                continue
            _check_row(cells, columns, f"line {first} of {table}", delimiter)
            rows += 1
            yield first, dict(zip(columns, cells, strict=True))
    except csv.Error as error:
        raise UsageError(
            "the CSV cannot be read",
            got=f"{table}: {error} in the row that begins on line {line + 1}",
            want="a closing quote for every opening one, and quotes within a text doubled",
        ) from error
    if not rows:
        what = "the CSV has no rows" if columns else "the CSV is empty"
        raise UsageError(what, got=str(table), want="a header and rows")


def tidy_name(name: str) -> str:
    r"""The normal form of an image path: `/` between its parts, `.` and inner `..` resolved.

    Args:
        name: a path with slashes or backslashes.

    Returns:
        A path that names the same file on every system.

    >>> tidy_name(r".\chart\0.png"), tidy_name("a/../0.png")
    ('chart/0.png', '0.png')
    """
    return posixpath.normpath(name.replace("\\", "/"))


def image_root(file: Path, names: Sequence[str], img_root: str | Path | None) -> Path:
    """`img_root`, else the folder of `file`, or `images` beside it if images exist only there."""
    if img_root is not None:
        return Path(img_root)
    for folder in (file.parent, file.parent / "images"):
        if any(os.path.isfile(folder / name) for name in names[:FIRST_IMAGES]):
            return folder
    return file.parent


def image_path(root: Path, name: str, where: str) -> Path:
    """The path of the image `name` under `root`; refuses one elsewhere, naming the line `where`."""
    path = Path(name)
    # Only paths that could leave `root` are resolved: that asks the disk, once per image.
    if not path.is_absolute() and ".." not in path.parts:
        return root / path
    path = (root / path).resolve()
    if not path.is_relative_to(root.resolve()):
        raise UsageError(
            f"an image path in {where} leaves the image folder",
            got=name,
            want=f"a path under {root}",
            hint="set --img-root to a folder that holds all images",
        )
    return root / path.relative_to(root.resolve())


def check_some_exist(samples: Sequence[Sample], root: Path, flag: str) -> None:
    """Refuses a data set whose images are looked for in the wrong folder.

    Raises:
        MissingError: none of the first images is there.
    """
    images = [str(sample.image) for sample in samples[:FIRST_IMAGES]]
    if images and not any(map(os.path.isfile, images)):
        raise MissingError(
            "none of the first images is there",
            got=images[0],
            want=f"images under {root}",
            hint=f"set {flag} to the folder that the paths start from",
        )


def _put_label(labels: dict[str, str], name: str, label: str, where: str) -> None:
    if label and labels.setdefault(name, label) != label:
        raise UsageError(
            f"{where} gives an image a second label",
            got=f"{name}: {label!r} after {labels[name]!r}",
            want="one label per image",
        )


def _delimiter(header: str, needed: Sequence[str], is_tsv: bool) -> str:
    """The delimiter that gives the header the most columns of those needed, then of any."""

    def columns(delimiter: str) -> tuple[int, int]:
        names = next(csv.reader([header], delimiter=delimiter, skipinitialspace=True), [])
        return len(set(needed) & {name.strip() for name in names}), len(names)

    return max("\t,;" if is_tsv else ",\t;", key=columns)


def _check_columns(table: Path, columns: Sequence[str], needed: Sequence[str]) -> None:
    for column in columns:
        if column and columns.count(column) > 1:
            raise UsageError(
                f"{table} has two columns of one name",
                got=column,
                want="every column once",
                hint="several captions of an image stand in rows of their own",
            )
    for column in needed:
        if column not in columns:
            near = did_you_mean(column, columns)
            raise UsageError(
                f"{table} has no column {column}",
                got=", ".join(columns),
                want=",".join(needed),
                hint=f"rename {near!r} to {column!r}" if near else None,
            )


def _check_row(cells: Sequence[str], columns: Sequence[str], where: str, delimiter: str) -> None:
    if len(cells) != len(columns):
        raise UsageError(
            f"{where} has {len(cells)} fields, and the header has {len(columns)}",
            got=delimiter.join(cells)[:100],
            want="one field per column",
            hint=f"put quotes around a text that contains {delimiter!r}"
            if len(cells) > len(columns)
            else None,
        )
    inner_lines = (line for cell in cells for line in cell.split("\n")[1:])
    for line in inner_lines:
        parts = line.split(delimiter)
        if len(parts) >= len(columns) and any(is_image_name(part.strip()) for part in parts):
            raise UsageError(
                f"a quote that opens in {where} takes in a row that follows",
                got=line[:100],
                want="a closing quote for every opening one",
            )
    if any("\0" in cell for cell in cells):
        raise UsageError(
            f"{where} contains the character NUL",
            got=delimiter.join(cells)[:100],
            want="text in UTF-8, or in UTF-16 with a byte-order mark",
        )
