"""Samples from shards: WebDataset tars and Parquet tables, here or behind a URL. Decodes no image.

The members of a tar with one key, the path up to the first dot of its last part, are one sample,
wherever they stand: `000012.jpg`, `000012.txt` (captions, one a line) or `000012.json` (caption or
captions, label), `000012.cls` (label). A table holds a column of images (bytes, or a struct with
bytes), captions, labels; the names that data sets use for them are known. What is listed is where
each image lies; it is read when it is looked at.
"""

from __future__ import annotations

import itertools
import os
import posixpath
import tarfile
from collections.abc import Iterable, Iterator, Sequence
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
    captions_of,
    check_name,
    distinct,
    label_in,
    printable,
)
from encoderlab.data.shard_image import ParquetCell, ShardImage, TarMember
from encoderlab.errors import MissingError, UsageError, WorkError

TAR, PARQUET = ".tar", ".parquet"
COMPRESSED = (".tar.gz", ".tgz", ".tar.zst", ".tar.bz2", ".tar.xz")
IMAGE_COLUMNS = ("image", "jpg", "jpeg", "png", "webp", "img", "image_bytes", "bytes")
NAME_COLUMNS = ("__key__", "key", "id", "image_id", "uid", "file_name")


def shards_of(source: str | Path) -> list[str]:
    """The shards that `source` names, in order: one shard, `{000..123}` and wildcards, a URL, or a
    folder that holds shards and no image. Empty where it names something else.

    Raises:
        MissingError: a wildcard that nothing matches.
        UsageError: a compressed tar.
    """
    word = str(source)
    if os.path.isdir(word):
        inside = sorted(os.listdir(word))
        if any(map(is_image_name, inside)):
            return []
        shards = [name for name in inside if name.lower().endswith((TAR, PARQUET, *COMPRESSED))]
        shards = [name for name in shards if not name.startswith(".")]
        return [_uncompressed(str((Path(word) / name).absolute())) for name in shards]
    if not _uncompressed(word).lower().endswith((TAR, PARQUET)):
        if is_url(word):
            raise UsageError(
                "only shards are read from a URL", got=word, want="a name that ends in .tar or "
                ".parquet, such as s3://bucket/train-{000..123}.tar",
            )  # fmt: skip
        return []
    return [one if is_url(one) else str(Path(one).absolute()) for one in expand_braces(word)]


def _uncompressed(shard: str) -> str:
    if shard.lower().endswith(COMPRESSED):
        raise UsageError(
            "a compressed tar cannot be read image by image",
            got=shard,
            want="a plain .tar: images are compressed already",
        )
    return shard


def read_shards(shards: Sequence[str]) -> Samples:
    """The samples of all shards, in order; each id says its shard.

    Raises:
        MissingError: a shard is not there.
        UsageError: a shard is damaged or holds no image.
    """
    read = [read_shard(shard) for shard in shards]
    return Samples(
        itertools.chain.from_iterable(read),
        itertools.chain.from_iterable(one.skipped for one in read),
    )


def read_shard(shard: str) -> Samples:
    """The samples of one shard.

    Raises:
        MissingError: it is not there.
        UsageError: it is damaged or holds no image, or a key has several images of which none is
            `KEY.ext`.
    """
    rows = _table(shard) if shard.lower().endswith(PARQUET) else _tar(shard)
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


def in_shard(place: str) -> ShardImage | None:
    """The image that `place`, a shard and a name in it, stands for; None where it is no such place
    or nothing is there. The text of every image in a shard is one."""
    for ending, find in ((TAR, _member), (PARQUET, _cell)):
        end = place.lower().find(f"{ending}/") + len(ending)
        if end >= len(ending):
            try:
                return find(place[:end], place[end + 1 :])
            except (MissingError, UsageError, WorkError):
                return None
    return None


# -- WebDataset ----------------------------------------------------------------------------------


@dataclass
class _Key:
    """The members of a tar that share a key.

    Args:
        skipped: images among them that cannot be read.
        faults: why the sample cannot be used: a caption or label that cannot be read.
    """

    images: list[TarMember] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    records: list[dict[str, Any]] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)


def _tar(shard: str) -> Iterator[Sample | Skipped]:
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
    for key, found in keys.items():
        yield from _samples_of(shard, key, found)


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
    found = keys.setdefault(posixpath.join(folder, stem), _Key())
    if not member.isreg() or member.issparse():
        unreadable = "it is a link, or a file with holes, which a shard cannot hold"
    if is_image and unreadable is not None:
        found.skipped.append(Skipped(printable(f"{shard}/{member.name}"), unreadable))
    elif is_image:
        found.images.append(TarMember(shard, member.name, member.offset_data, member.size))
    elif unreadable is not None:
        found.faults.append(f"{printable(name)}: {unreadable}")
    else:
        content = members.extractfile(member)
        assert content is not None
        try:
            text = content.read().decode("utf-8-sig")
            if part == "json":
                record = parsed(text)
                found.records.append(record if isinstance(record, dict) else {})
            else:
                (found.texts if part == "txt" else found.labels).append(text)
        except ValueError as error:
            found.faults.append(f"{printable(name)} cannot be read: {error}")


def _check_end(file: IO[bytes], end: int, shard: str) -> None:
    """Refuses a tar that does not end with two blocks of zeros after its last member: Python's
    reader takes a cut or damaged header for the end."""
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


def _samples_of(shard: str, key: str, found: _Key) -> Iterator[Sample | Skipped]:
    """The sample of a key, and what is left out of it."""
    stem = posixpath.basename(key)
    # A key's own image is KEY.ext; KEY.depth.png and the like are more about it.
    plain = [one for one in found.images if posixpath.basename(one.name).count(".") == 1]
    if len(found.images) > 1 and not plain:
        names = ", ".join(posixpath.basename(one.name) for one in found.images)
        raise UsageError(
            "several images of the shard have one key, and none of them is KEY.ext",
            got=printable(f"{shard}, key {key}: {names}"),
            want="one image per key; a key is the name up to its first dot",
        )
    image = next(iter(plain or found.images), None)
    yield from found.skipped
    yield from (
        Skipped(printable(str(one)), f"the image of {printable(stem)} is {printable(image.name)}")
        for one in found.images
        if image is not None and one is not image
    )
    id_ = printable(_id(shard, key))
    faults = found.faults if printable(key) == key else ["its name is not UTF-8"]
    if image is None and not faults and not found.skipped:
        faults = ["there is no image of this name"]
    yield from (Skipped(id_, fault) for fault in faults)
    if image is not None and not faults:
        captions = [caption for record in found.records for caption in captions_in(record)]
        told = {captions_of(caption) for caption in captions}
        texts = (text for text in found.texts if captions_of(text) not in told)
        lines = [line for text in texts for line in text.splitlines()]
        labels = (*found.labels, *map(label_in, found.records))
        label = next((label.strip() for label in labels if label and label.strip()), None)
        try:
            yield Sample(id_, image, distinct([*lines, *captions]), label)
        except UnicodeEncodeError as error:
            yield Skipped(id_, f"half of a character in its caption: {error}")


def _member(shard: str, name: str) -> TarMember | None:
    try:
        with tarfile.open(local_copy(shard), "r:") as members:
            for member in members:
                if member.name == name:
                    return TarMember(shard, name, member.offset_data, member.size)
    except tarfile.TarError:
        return None
    return None


# -- Parquet -------------------------------------------------------------------------------------


def _table(shard: str) -> Iterator[Sample | Skipped]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(local_copy(shard)) as table:
            schema = table.schema_arrow
            column = _image_column(shard, schema)
            columns = {
                part: name
                for part, known in (
                    ("caption", CAPTION_COLUMNS), ("label", LABEL_COLUMNS), ("name", NAME_COLUMNS),
                )
                if (name := _column_of(schema.names, known)) is not None
            }  # fmt: skip
            classes = _class_names(schema, columns.get("label"))
            number = 0
            for group in range(table.num_row_groups):
                # Without the images: a listing reads no pixels.
                part = table.read_row_group(group, columns=list(columns.values()))
                rows = table.metadata.row_group(group).num_rows
                for row in range(rows):
                    cell = ParquetCell(shard, column, group, row, number)
                    try:
                        record = {what: part[n][row].as_py() for what, n in columns.items()}
                        yield _row(shard, cell, record, classes)
                    except UnicodeDecodeError as error:
                        yield Skipped(_id(shard, str(number)), f"its text is not UTF-8: {error}")
                    number += 1
    except (pa.ArrowException, OSError) as error:
        raise UsageError(
            "the table cannot be read",
            got=f"{shard}: {str(error).splitlines()[0][:200]}",
            want="a Parquet file",
        ) from error


def _row(shard: str, cell: ParquetCell, record: dict[str, Any], classes: Sequence[str]) -> Sample:
    label = label_in(record)
    if classes and label is not None and label.isdecimal() and int(label) < len(classes):
        label = classes[int(label)]
    name = record.get("name")
    id_ = _id(shard, str(cell.number if name is None else name))
    return Sample(id_, cell, distinct(captions_in(record)), label)


def _cell(shard: str, name: str) -> ParquetCell | None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    if not name.isdecimal():
        return None
    try:
        with pq.ParquetFile(local_copy(shard)) as table:
            column, row = _image_column(shard, table.schema_arrow), int(name)
            for group in range(table.num_row_groups):
                rows = table.metadata.row_group(group).num_rows
                if row < rows:
                    return ParquetCell(shard, column, group, row, int(name))
                row -= rows
    except (pa.ArrowInvalid, OSError):
        return None
    return None


def _image_column(shard: str, schema: Any) -> str:
    import pyarrow as pa

    def holds_bytes(kind: pa.DataType) -> bool:
        if pa.types.is_struct(kind):
            return any(f.name == "bytes" and holds_bytes(f.type) for f in kind)
        return pa.types.is_binary(kind) or pa.types.is_large_binary(kind)

    fit = [field.name for field in schema if holds_bytes(field.type)]
    found = _column_of(fit, IMAGE_COLUMNS) or (fit[0] if len(fit) == 1 else None)
    if found is None:
        raise UsageError(
            "the table has no column of images",
            got=f"{shard}: {', '.join(schema.names)}",
            want="a column `image` that holds the bytes of image files",
            hint="a table of links or paths is read after its images are fetched",
        )
    return found


def _class_names(schema: Any, column: str | None) -> list[str]:
    """The names behind numbered labels, which Hugging Face data sets keep beside the schema."""
    kept = (schema.metadata or {}).get(b"huggingface")
    if column is None or kept is None:
        return []
    try:
        return list(parsed(kept)["info"]["features"][column]["names"])
    except (ValueError, KeyError, TypeError):
        return []


# -- both ----------------------------------------------------------------------------------------


def _column_of(there: Iterable[str], known: Sequence[str]) -> str | None:
    there = list(there)
    return next((name for name in known if name in there), None)


def _id(shard: str, name: str) -> str:
    return f"{PurePosixPath(shard).stem}/{name}"


def existing(shards: Sequence[str]) -> None:
    """Says early that a local shard is not there, before hours of work on the ones before it.

    Raises:
        MissingError: naming the first.
        UsageError: a path that is not UTF-8.
    """
    for shard in shards:
        check_name(shard)
        if not is_url(shard) and not Path(shard).is_file():
            raise MissingError("no such shard", got=shard, want="a file that exists")
