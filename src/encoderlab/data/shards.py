"""Samples from shards: WebDataset tars and Parquet tables, here or behind a URL. Decodes no image.

A tar holds files that share a name up to their first dot: `000012.jpg`, `000012.txt` (captions, one
a line) or `000012.json` (caption or captions, label), `000012.cls` (label). A table holds a column
of images (bytes, or a struct with bytes), captions, labels; the names that data sets use for them
are known. What is listed is where each image lies; it is read when it is looked at.
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from encoderlab.data.folder import ENDINGS
from encoderlab.data.packed import Packed, ParquetCell, TarMember
from encoderlab.data.places import is_url, on_disk, spelled_out
from encoderlab.data.sample import Sample
from encoderlab.errors import MissingError, UsageError, WorkError
from encoderlab.json_text import parsed

TAR, PARQUET = ".tar", ".parquet"
IMAGE_COLUMNS = ("image", "jpg", "jpeg", "png", "webp", "img", "image_bytes", "bytes")
CAPTION_COLUMNS = ("caption", "captions", "text", "texts", "txt", "TEXT", "alt_text", "sentences")
LABEL_COLUMNS = ("label", "labels", "class", "cls", "category")
NAME_COLUMNS = ("__key__", "key", "id", "image_id", "uid", "file_name")


def shards_of(source: str | Path) -> list[str]:
    """The shards that `source` names, in order: one shard, `{000..123}` and wildcards, a URL, or a
    folder that holds shards and no image. Empty where it names something else.

    Raises:
        MissingError: a wildcard that nothing matches.
    """
    word = str(source)
    if Path(word).is_dir():
        inside = sorted(Path(word).iterdir())
        if any(one.suffix.lower() in ENDINGS for one in inside):
            return []
        return [str(one.absolute()) for one in inside if one.suffix in (TAR, PARQUET)]
    if word.endswith((".tar.gz", ".tgz", ".tar.zst", ".tar.bz2", ".tar.xz")):
        raise UsageError(
            "a compressed tar cannot be read image by image",
            got=word,
            want="a plain .tar: images are compressed already",
        )
    if not word.endswith((TAR, PARQUET)):
        if is_url(word):
            raise UsageError(
                "only shards are read from a URL", got=word, want="a name that ends in .tar or "
                ".parquet, such as s3://bucket/train-{000..123}.tar",
            )  # fmt: skip
        return []
    return [one if is_url(one) else str(Path(one).absolute()) for one in spelled_out(word)]


def read_shards(shards: Sequence[str]) -> list[Sample]:
    """The samples of all shards, in order; each id says its shard.

    Raises:
        MissingError: a shard is not there.
        UsageError: a shard is damaged or holds no image.
    """
    return [sample for shard in shards for sample in read_shard(shard)]


def read_shard(shard: str) -> list[Sample]:
    """The samples of one shard.

    Raises:
        MissingError: it is not there.
        UsageError: it is damaged or holds no image.
    """
    found = list(_table(shard) if shard.endswith(PARQUET) else _tar(shard))
    if not found:
        raise UsageError(
            "the shard has no images",
            got=shard,
            want=f"members ending in {', '.join(sorted(ENDINGS))}",
        )
    return found


def in_shard(place: str) -> Packed | None:
    """The image that `place`, a shard and a name in it, stands for; None where it is no such place
    or nothing is there. The text of every image in a shard is one."""
    for ending, find in ((TAR, _member), (PARQUET, _cell)):
        shard, found, name = place.partition(f"{ending}/")
        if found:
            try:
                return find(shard + ending, name)
            except (MissingError, UsageError, WorkError):
                return None
    return None


# -- WebDataset ----------------------------------------------------------------------------------


def _tar(shard: str) -> Iterator[Sample]:
    name, image, about = "", None, dict[str, Any]()
    try:
        with tarfile.open(on_disk(shard), "r:") as members:
            for member in members:
                file = PurePosixPath(member.name)
                if not member.isfile() or file.name.startswith("."):
                    continue
                key, _, ending = file.name.partition(".")
                key = str(file.parent / key)
                if key != name:
                    if image is not None:
                        yield _sample(shard, name, image, about)
                    name, image, about = key, None, {}
                ending = ending.lower()
                if f".{ending.rpartition('.')[2]}" in ENDINGS:
                    # Of several pictures under one name the first is the sample's.
                    image = image or TarMember(shard, member.name, member.offset_data, member.size)
                elif ending in ("txt", "json", "cls"):
                    content = members.extractfile(member)
                    assert content is not None
                    about[ending] = _said(shard, member.name, content.read(), ending)
    except tarfile.TarError as error:
        raise UsageError(
            "the shard cannot be read", got=f"{shard}: {error}", want="an uncompressed tar"
        ) from error
    if image is not None:
        yield _sample(shard, name, image, about)


def _member(shard: str, name: str) -> TarMember | None:
    try:
        with tarfile.open(on_disk(shard), "r:") as members:
            for member in members:
                if member.name == name:
                    return TarMember(shard, name, member.offset_data, member.size)
    except tarfile.TarError:
        return None
    return None


def _said(shard: str, name: str, content: bytes, ending: str) -> Any:
    try:
        text = content.decode("utf-8-sig")
        return parsed(text) if ending == "json" else text
    except ValueError as error:
        kind = "JSON in UTF-8" if ending == "json" else "text in UTF-8"
        raise UsageError(
            "a member of the shard cannot be read", got=f"{shard}/{name}: {error}", want=kind
        ) from error


def _sample(shard: str, name: str, image: TarMember, about: dict[str, Any]) -> Sample:
    record = about.get("json")
    record = record if isinstance(record, dict) else {}
    texts = about.get("txt", "").splitlines()
    texts += _texts(_first(record, CAPTION_COLUMNS))
    label = about.get("cls")
    label = _first(record, LABEL_COLUMNS) if label is None else label
    return Sample(_id(shard, name), image, _distinct(texts), _label(label))


# -- Parquet -------------------------------------------------------------------------------------


def _table(shard: str) -> Iterator[Sample]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(on_disk(shard)) as table:
            schema = table.schema_arrow
            columns = {
                part: _column_of(schema.names, known)
                for part, known in (
                    ("caption", CAPTION_COLUMNS), ("label", LABEL_COLUMNS), ("name", NAME_COLUMNS),
                )
            }  # fmt: skip
            column = _image_column(shard, schema)
            classes = _class_names(schema, columns["label"])
            wanted = [one for one in columns.values() if one is not None]
            number = 0
            for group in range(table.num_row_groups):
                # Without the images: a listing reads no pixels.
                part = table.read_row_group(group, columns=wanted).to_pydict()
                rows = table.metadata.row_group(group).num_rows
                for row in range(rows):
                    said = {
                        what: part[name][row] for what, name in columns.items() if name is not None
                    }
                    label, name = said.get("label"), said.get("name")
                    if classes and isinstance(label, int) and 0 <= label < len(classes):
                        label = classes[label]
                    yield Sample(
                        _id(shard, str(number if name is None else name)),
                        ParquetCell(shard, column, group, row, number),
                        _distinct(_texts(said.get("caption"))),
                        _label(label),
                    )
                    number += 1
    except (pa.ArrowInvalid, pa.ArrowIOError, pa.ArrowNotImplementedError) as error:
        raise UsageError(
            "the table cannot be read",
            got=f"{shard}: {str(error).splitlines()[0][:200]}",
            want="a Parquet file",
        ) from error


def _cell(shard: str, name: str) -> ParquetCell | None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    if not name.isdecimal():
        return None
    try:
        with pq.ParquetFile(on_disk(shard)) as table:
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


def _first(record: dict[str, Any], known: Sequence[str]) -> Any:
    return next((record[name] for name in known if record.get(name) is not None), None)


def _texts(value: Any) -> list[str]:
    if isinstance(value, dict):  # COCO's way: {"raw": [...]}
        value = value.get("raw")
    if value is None:
        return []
    return [str(one) for one in value] if isinstance(value, list | tuple) else [str(value)]


def _distinct(texts: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(text.strip() for text in texts if text and text.strip()))


def _label(value: Any) -> str | None:
    text = "" if value is None else str(value).strip()
    return text or None


def _id(shard: str, name: str) -> str:
    return f"{PurePosixPath(shard).stem}/{name}"


def existing(shards: Sequence[str]) -> None:
    """Says early that a local shard is not there, before hours of work on the ones before it.

    Raises:
        MissingError: naming the first.
    """
    for shard in shards:
        if not is_url(shard) and not Path(shard).is_file():
            raise MissingError("no such shard", got=shard, want="a file that exists")
