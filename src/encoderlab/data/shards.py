"""Reads samples from shards: WebDataset tars and Parquet tables, on disk or behind a URL.

Members of a tar with the same key, the path up to the first dot of the file name, are one sample:
`000012.jpg`, `000012.txt` (one caption per line), `000012.json` (caption or captions, label),
`000012.cls` (label), in any order. A table has a column of images (bytes, or a struct with bytes)
and may have captions, labels and names. Decodes no image: samples hold its place in the shard.
"""

from __future__ import annotations

import os
import posixpath
import tarfile
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import IO, Any

from encoderlab.core.json_text import parsed
from encoderlab.core.skipped import Skipped
from encoderlab.data.decode import is_image_name, unreadable_ending
from encoderlab.data.remote_files import expand_braces, is_url, local_copy
from encoderlab.data.sample import (
    CAPTION_COLUMNS,
    LABEL_COLUMNS,
    Sample,
    Samples,
    captions_in,
    check_name,
    collapse_spaces,
    distinct,
    label_in,
    printable,
)
from encoderlab.data.shard_image import ParquetCell, ShardImage, TarMember
from encoderlab.errors import MissingError, UsageError, WorkError

TAR, PARQUET = ".tar", ".parquet"
COMPRESSED = (".tar.gz", ".tgz", ".tar.zst", ".tar.bz2", ".tar.xz")
ENDINGS = (TAR, PARQUET, *COMPRESSED)
IMAGE_COLUMNS = ("image", "jpg", "jpeg", "png", "webp", "img", "image_bytes", "bytes")
NAME_COLUMNS = ("__key__", "key", "id", "image_id", "uid", "file_name")


def shards_of(source: str | Path) -> list[str]:
    """The shards that `source` names.

    Args:
        source: a shard, several with `{000..123}` and wildcards, a URL, or a folder that holds
            shards and no image.

    Returns:
        Absolute paths and URLs, in order; empty if `source` names something else.

    Raises:
        MissingError: a wildcard that nothing matches.
        UsageError: a compressed tar.
    """
    pattern = str(source)
    if os.path.isdir(pattern):
        names = [name for name in sorted(os.listdir(pattern)) if not name.startswith(".")]
        if any(map(is_image_name, names)):
            return []
        paths = [str(Path(pattern, name)) for name in names if name.lower().endswith(ENDINGS)]
    elif pattern.lower().endswith(ENDINGS):
        paths = [pattern]
    elif is_url(pattern):
        raise UsageError(
            "only shards are read from a URL",
            got=pattern,
            want="a name that ends in .tar or .parquet, such as s3://bucket/train-{000..123}.tar",
        )
    else:
        return []
    for path in paths:
        if path.lower().endswith(COMPRESSED):
            raise UsageError(
                "a compressed tar cannot be read image by image",
                got=path,
                want="a plain .tar: images are compressed already",
            )
    if not os.path.isdir(pattern):
        paths = expand_braces(pattern)
    return [path if is_url(path) else str(Path(path).absolute()) for path in paths]


def read_shard(shard: str, fields: Sequence[str] = ()) -> Samples:
    """The samples of one shard.

    Args:
        shard: its path or URL.
        fields: names in a tar's JSON or a table's columns that the samples keep in `fields`.

    Returns:
        The samples, with the images that were skipped.

    Raises:
        MissingError: it is not there.
        UsageError: it is damaged or holds no image, or a key has several images of which none is
            `KEY.ext`.
    """
    rows = (_table if shard.lower().endswith(PARQUET) else _tar)(shard, fields)
    samples = Samples()
    for row in rows:
        (samples if isinstance(row, Sample) else samples.skipped).append(row)  # type: ignore[arg-type]
    if not samples:
        raise UsageError(
            "the shard has no images",
            got=shard,
            want="images, as members of a tar or in a column of a table",
            hint=samples.skipped[0].reason if samples.skipped else None,
        )
    return samples


def in_shard(path: str) -> ShardImage | None:
    """The image in a shard whose `str` is `path`.

    Args:
        path: the shard, a slash and the name in it.

    Returns:
        The image; None if there is no such shard or no such image.
    """
    for ending, find in ((TAR, _member), (PARQUET, _cell)):
        shard, slash, _ = path.lower().partition(f"{ending}/")
        if slash:
            end = len(shard) + len(ending)
            try:
                return find(path[:end], path[end + 1 :])
            except (MissingError, UsageError, WorkError, OSError, tarfile.TarError):
                return None
    return None


# -- WebDataset ----------------------------------------------------------------------------------


@dataclass
class _Key:
    """The members of a tar that share a key.

    Args:
        skipped: images that cannot be read.
        faults: why the sample cannot be used: captions or labels that cannot be read.
    """

    images: list[TarMember] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    records: list[dict[str, Any]] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)


def _tar(shard: str, fields: Sequence[str]) -> Iterator[Sample | Skipped]:
    keys: dict[str, _Key] = {}
    with local_copy(shard).open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        try:
            with tarfile.open(fileobj=file, mode="r:") as members:
                for member in members:
                    _take(keys, shard, members, member)
                end = members.offset
        except (tarfile.TarError, ValueError, OverflowError) as error:
            raise UsageError(
                "the shard cannot be read",
                got=f"{shard}: {error}, at byte {min(file.tell(), size):,} of {size:,}",
                want="an uncompressed tar",
                hint="copy or write it again",
            ) from error
        _check_end(file, end, shard)
    for key, entry in keys.items():
        yield from _samples_of(shard, key, entry, fields)


def _take(
    keys: dict[str, _Key], shard: str, members: tarfile.TarFile, member: tarfile.TarInfo
) -> None:
    """Adds a member to those of its key."""
    folder, name = posixpath.split(posixpath.normpath(member.name))
    stem, _, part = name.partition(".")
    if not stem or member.isdir():
        return
    unreadable = unreadable_ending(name)
    is_image = unreadable is not None or is_image_name(name)
    part = part.lower()
    if not is_image and part not in ("txt", "json", "cls"):
        return
    entry = keys.setdefault(posixpath.join(folder, stem), _Key())
    if not member.isreg() or member.issparse():
        unreadable = "it is a link, or a file with holes, which a shard cannot hold"
    if is_image and unreadable is not None:
        entry.skipped.append(Skipped(printable(f"{shard}/{member.name}"), unreadable))
    elif is_image:
        entry.images.append(TarMember(shard, member.name, member.offset_data, member.size))
    elif unreadable is not None:
        entry.faults.append(f"{printable(name)}: {unreadable}")
    else:
        content = members.extractfile(member)
        assert content is not None
        try:
            text = content.read().decode("utf-8-sig")
            if part == "json":
                record = parsed(text)
                entry.records.append(record if isinstance(record, dict) else {})
            else:
                (entry.texts if part == "txt" else entry.labels).append(text)
        except ValueError as error:
            entry.faults.append(f"{printable(name)} cannot be read: {error}")


def _check_end(file: IO[bytes], end: int, shard: str) -> None:
    """Refuses a tar that does not end with two blocks of zeros after its last member."""
    # Python's reader takes a cut or damaged header for the end.
    file.seek(end)
    mark = file.read(2 * tarfile.BLOCKSIZE)
    if len(mark) == 2 * tarfile.BLOCKSIZE and not mark.strip(b"\0"):
        while rest := file.read(1 << 20):
            if rest.strip(b"\0"):
                raise UsageError(
                    "the shard goes on after its end mark, so that members would be lost",
                    got=f"{shard}, end mark at byte {end:,}",
                    want="one tar per file",
                    hint="two tars are joined by tar --concatenate, not by cat",
                )
        return
    raise UsageError(
        "the shard is damaged or cut short: where its members end, the end mark is not there",
        got=f"{shard}, byte {end:,} of {os.fstat(file.fileno()).st_size:,}",
        want="two blocks of 512 zero bytes",
        hint="copy or write it again; if nothing else is missing, truncate -s +1024 adds the mark",
    )


def _samples_of(
    shard: str, key: str, entry: _Key, fields: Sequence[str]
) -> Iterator[Sample | Skipped]:
    """The sample of a key, and the items of the key that are left out."""
    # The image of a key is KEY.ext; KEY.depth.png and the like are additional.
    names = [posixpath.basename(image.name) for image in entry.images]
    plain = [i for i, name in zip(entry.images, names, strict=True) if name.count(".") == 1]
    if len(names) > 1 and not plain:
        raise UsageError(
            "several images of the shard have one key, and none of them is KEY.ext",
            got=printable(f"{shard}, key {key}: {', '.join(names)}"),
            want="one image per key; a key is the name up to its first dot",
        )
    image = next(iter(plain or entry.images), None)
    yield from entry.skipped
    for other in entry.images:
        if image is not None and other is not image:
            reason = f"the image of {posixpath.basename(key)} is {image.name}"
            yield Skipped(printable(str(other)), printable(reason))
    id_ = printable(_id(shard, key))
    faults = entry.faults if printable(key) == key else ["its name is not UTF-8"]
    if image is None and not faults and not entry.skipped:
        faults = ["there is no image of this name"]
    yield from (Skipped(id_, fault) for fault in faults)
    if image is not None and not faults:
        captions = [caption for record in entry.records for caption in captions_in(record)]
        known = set(map(collapse_spaces, captions))
        texts = (text for text in entry.texts if collapse_spaces(text) not in known)
        lines = [line for text in texts for line in text.splitlines()]
        labels = (*entry.labels, *map(label_in, entry.records))
        label = next((label.strip() for label in labels if label and label.strip()), None)
        kept = {name: r[name] for name in fields for r in entry.records if name in r}
        try:
            yield Sample(id_, image, distinct([*lines, *captions]), label, kept)
        except UnicodeEncodeError as error:
            yield Skipped(id_, f"half of a character in its caption: {error}")


def _member(shard: str, name: str) -> TarMember | None:
    with tarfile.open(local_copy(shard), "r:") as members:
        for member in members:
            if member.name == name:
                return TarMember(shard, name, member.offset_data, member.size)
    return None


# -- Parquet -------------------------------------------------------------------------------------


def _table(shard: str, fields: Sequence[str]) -> Iterator[Sample | Skipped]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(local_copy(shard)) as table:
            schema = table.schema_arrow
            column = _image_column(shard, schema)
            known = {"caption": CAPTION_COLUMNS, "label": LABEL_COLUMNS, "name": NAME_COLUMNS}
            columns = {
                key: name
                for key, names in known.items()
                if (name := _column_of(schema.names, names)) is not None
            }
            classes = _class_names(schema, columns.get("label"))
            kept = [name for name in fields if name in schema.names]
            number = 0
            for group in range(table.num_row_groups):
                # Every column but the images.
                part = table.read_row_group(group, columns=[*columns.values(), *kept])
                for row in range(table.metadata.row_group(group).num_rows):
                    cell = ParquetCell(shard, column, group, row, number)
                    try:
                        record = {key: part[name][row].as_py() for key, name in columns.items()}
                        more = {name: part[name][row].as_py() for name in kept}
                        yield _row(shard, cell, record, classes, more)
                    except UnicodeDecodeError as error:
                        yield Skipped(_id(shard, str(number)), f"its text is not UTF-8: {error}")
                    number += 1
    except (pa.ArrowException, OSError) as error:
        raise UsageError(
            "the table cannot be read",
            got=f"{shard}: {str(error).splitlines()[0][:200]}",
            want="a Parquet file",
        ) from error


def _row(
    shard: str,
    cell: ParquetCell,
    record: dict[str, Any],
    classes: Sequence[str],
    fields: dict[str, Any],
) -> Sample:
    label = label_in(record)
    if classes and label is not None and label.isdecimal() and int(label) < len(classes):
        label = classes[int(label)]
    name = record.get("name")
    id_ = _id(shard, str(cell.number if name is None else name))
    return Sample(id_, cell, distinct(captions_in(record)), label, fields)


def _cell(shard: str, name: str) -> ParquetCell | None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    if not name.isdecimal():
        return None
    with suppress(pa.ArrowInvalid), pq.ParquetFile(local_copy(shard)) as table:
        column, row = _image_column(shard, table.schema_arrow), int(name)
        for group in range(table.num_row_groups):
            rows = table.metadata.row_group(group).num_rows
            if row < rows:
                return ParquetCell(shard, column, group, row, int(name))
            row -= rows
    return None


def _image_column(shard: str, schema: Any) -> str:
    import pyarrow as pa

    def holds_bytes(kind: pa.DataType) -> bool:
        if pa.types.is_struct(kind):
            return any(f.name == "bytes" and holds_bytes(f.type) for f in kind)
        return pa.types.is_binary(kind) or pa.types.is_large_binary(kind)

    candidates = [field.name for field in schema if holds_bytes(field.type)]
    column = _column_of(candidates, IMAGE_COLUMNS)
    if column is None and len(candidates) != 1:
        raise UsageError(
            "the table has no column of images",
            got=f"{shard}: {', '.join(schema.names)}",
            want="a column `image` that holds the bytes of image files",
            hint="a table of links or paths is read after its images are fetched",
        )
    return column or candidates[0]


def _class_names(schema: Any, column: str | None) -> list[str]:
    """The names of numbered labels, which Hugging Face data sets keep in the schema's metadata."""
    with suppress(ValueError, KeyError, TypeError):
        return list(parsed(schema.metadata[b"huggingface"])["info"]["features"][column]["names"])
    return []


def _column_of(columns: Sequence[str], known: Sequence[str]) -> str | None:
    return next((name for name in known if name in columns), None)


def _id(shard: str, name: str) -> str:
    return f"{PurePosixPath(shard).stem}/{name}"


def check_exist(shards: Sequence[str]) -> None:
    """Refuses a local shard that is not there, before hours of work on the ones before it.

    Raises:
        MissingError: naming the first.
        UsageError: a path that is not UTF-8.
    """
    for shard in shards:
        check_name(shard)
        if not is_url(shard) and not Path(shard).is_file():
            raise MissingError("no such shard", got=shard, want="a file that exists")
