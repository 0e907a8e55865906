"""Data that a user brings: images, tables, chat records, shards."""

from __future__ import annotations

import io
import json
import os
import shutil
import tarfile
from pathlib import Path
from typing import Any

from tests.fuzz.cases import Case, Trial, kind
from tests.fuzz.mutate import (
    INTERESTING_TEXTS,
    spoil_bytes,
    spoil_json,
    spoil_table,
    spoil_text,
    spoil_value,
)
from tests.fuzz.seeds import chat_record

from encoderlab.data import read_samples
from encoderlab.data.csv_table import read_labels
from encoderlab.data.decode import ImageError, open_image
from encoderlab.data.folder import read_folder
from encoderlab.data.sample import Sample


@kind("image", 4)
def image(case: Case) -> Trial:
    """Bytes that claim to be a picture."""
    rng, formats = case.rng, case.seeds.pictures
    name = rng.choice(sorted(formats))
    spoiled = spoil_bytes(rng, formats[name], list(formats.values()))
    path = case.put(rng.choice((name, name, "x.jpg")), spoiled)
    if case.every(25):
        lines = (
            ["search", "--image", path, "--db", case.seeds.index, "-k", 1],
            ["classify", "--image-dir", case.given, "--classes", "a,b"],
            ["index", case.given, "--db", case.out / "db"],
            ["tokens", f"image.path={path}", "model=tiny_clip", "output.save_visualizations=false"],
            ["attention", "--image", path, "--encoders", "tiny-clip", "--text", "a"],
            ["compress", "show", "--image", path],
        )
        # The figures of the last two take a second each.
        return line(case, rng.choice(lines[:4] if rng.random() < 0.85 else lines))
    source = rng.choice((path, spoiled[0]))
    return Trial(act=lambda: open_image(source, min_side=rng.choice((None, 8))))


@kind("folder", 1)
def folder(case: Case) -> Trial:
    """A folder of images with odd names, links, folders where files should be."""
    rng, pictures = case.rng, case.seeds.pictures
    for i in range(rng.choice((1, 2, 4))):
        ending = rng.choice((".png", ".PNG", ".jpg", ".tiff", "", ".txt", ".png.png"))
        stem = rng.choice(
            ("그림", "a b", "a'b", 'a"b', "a,b", "%s", "-x", "²³", "x" * 200, "a\nb", "é",
             "١٢", ".hidden", os.fsdecode(b"\xff\xfe"))
        )  # fmt: skip
        path = case.given / (rng.choice(("", "c/", "한글/", "c/d/e/")) + f"{stem}{i}{ending}")
        path.parent.mkdir(parents=True, exist_ok=True)
        how = rng.choice(("picture", "picture", "picture", "folder", "loop", "broken", "elsewhere"))
        case.said.append(f"{str(path.relative_to(case.given))!r}: {how}")
        if how == "picture":
            path.write_bytes(rng.choice(sorted(pictures.values())))
        elif how == "folder":
            path.mkdir()
        elif how == "loop":
            path.symlink_to(path.parent)
        elif how == "broken":
            path.symlink_to("nowhere")
        else:
            path.symlink_to("/etc/passwd")
    if case.every(4):
        return line(
            case,
            rng.choice(
                (
                    ["index", case.given, "--db", case.out / "db"],
                    ["classify", "--image-dir", case.given, "--save-csv", case.out / "x.csv"],
                    ["classify", "--image-dir", case.given, "--classes", "a,b"],
                    ["features", "extract", case.given],
                )
            ),
        )
    return Trial(act=lambda: load_all(read_folder(case.given)))


@kind("csv", 4)
def csv(case: Case) -> Trial:
    """A table of captions."""
    table = case.put("pairs.csv", spoil_table(case.rng, case.seeds.table))
    images = case.seeds.images
    if case.every(8):
        lines = (
            ["evaluate", "--csv", table, "--img-root", images],
            ["index", table, "--img-root", images, "--db", case.out / "db"],
            ["stream", table, "--img-root", images, "--encoders", "tiny-clip", "--llms",
             "tiny-llama", "--features-dir", case.out / "f"],
            ["features", "extract", table, "--img-root", images],
            ["coral", "--data-root", table, "--encoders", "tiny-clip", "--llms", "tiny-llama",
             "--features-dir", case.out / "f"],
            [*case.seeds.training_words, "--train-csv", table],
        )  # fmt: skip
        return line(case, case.rng.choice(lines))
    return Trial(act=lambda: load_all(read_samples(table, images)))


@kind("labels", 1)
def labels(case: Case) -> Trial:
    """The right answers of a classification."""
    table = case.put("labels.csv", spoil_table(case.rng, case.seeds.labels))
    if case.every(8):
        images = case.seeds.images
        return line(case, ["classify", "--image-dir", images, "--labels-csv", table, "--classes",
                           "a,b"])  # fmt: skip
    return Trial(act=lambda: read_labels(table))


@kind("scores", 1)
def scores(case: Case) -> Trial:
    """Benchmark results of one's own."""
    from encoderlab.alignment.e2e import read_scores

    table = case.put("scores.csv", spoil_table(case.rng, case.seeds.scores))
    names = ["tiny-clip"], ["tiny-llama", "tiny-qwen"]
    return Trial(act=lambda: read_scores(str(table), *names))


@kind("chat", 3)
def chat(case: Case) -> Trial:
    """Chat records."""
    rng, lines = case.rng, case.seeds.chat.splitlines()
    if rng.random() < 0.4:
        spoiled = spoil_text(rng, case.seeds.chat)
    else:
        at = rng.randrange(len(lines))
        data, said = spoil_json(rng, lines[at])
        whole = [one.encode() for one in lines]
        whole[at] = data
        spoiled = b"\n".join(whole), f"line {at + 1}: {said}"
    table = case.put("chat.jsonl", spoiled)
    images = case.seeds.images
    if case.every(10):
        words = (
            ["index", table, "--img-root", images, "--db", case.out / "db"],
            ["evaluate", "--csv", table, "--img-root", images],
            ["coral", "--data-root", table, "--encoders", "tiny-clip", "--llms", "tiny-llama",
             "--features-dir", case.out / "f"],
        )  # fmt: skip
        return line(case, rng.choice(words))
    root = rng.choice((images, None))
    return Trial(act=lambda: load_all(read_samples(table, root)))


@kind("typed root", 0.5)
def typed_root(case: Case) -> Trial:
    """A data root in the layout of the five typed sets, with links and odd paths."""
    from encoderlab.data.typed_samples import typed_samples
    from encoderlab.data.vlm_dataset import TYPED_SETS

    rng = case.rng
    for name, where in rng.sample(sorted(TYPED_SETS.items()), rng.choice((1, 2))):
        records = [spoil_value(rng, chat_record(f"{i}.png", name))[0] for i in range(2)]
        text = "\n".join(json.dumps(one) for one in records)
        case.put(where.labels, (text.encode(errors="replace"), "records"))
        images = case.given / where.images
        images.parent.mkdir(parents=True, exist_ok=True)
        how = rng.choice(("folder", "file", "link", "missing"))
        case.said.append(f"{where.images}: {how}")
        if how == "folder":
            images.mkdir()
            for i in range(2):
                (images / f"{i}.png").write_bytes(case.seeds.pictures["rgb.png"])
        elif how == "file":
            images.write_bytes(b"")
        elif how == "link":
            images.symlink_to("/etc")
    return Trial(act=lambda: load_all(typed_samples(case.given, n_per_type=2).samples))


@kind("tar", 2)
def tar(case: Case) -> Trial:
    """A WebDataset shard."""
    rng = case.rng
    if rng.random() < 0.5:
        spoiled = spoil_bytes(rng, case.seeds.tar, [case.seeds.parquet])
    else:
        spoiled = _odd_tar(case)
    return _shard(case, case.put("x.tar", spoiled))


@kind("parquet", 2)
def parquet(case: Case) -> Trial:
    """A table of images."""
    rng = case.rng
    if rng.random() < 0.6:
        spoiled = spoil_bytes(rng, case.seeds.parquet, [case.seeds.tar])
    else:
        spoiled = _odd_parquet(case)
    return _shard(case, case.put("x.parquet", spoiled))


def _shard(case: Case, path: Path) -> Trial:
    if case.every(10):
        return line(case, case.rng.choice((
            ["index", path, "--db", case.out / "db"],
            ["stream", path, "--encoders", "tiny-clip", "--llms", "tiny-llama", "--features-dir",
             case.out / "f"],
            ["features", "extract", path],
        )))  # fmt: skip
    return Trial(act=lambda: load_all(read_samples(path)))


def _odd_tar(case: Case) -> tuple[bytes, str]:
    rng, out, said = case.rng, io.BytesIO(), []
    with tarfile.open(fileobj=out, mode="w", format=rng.choice((0, 1, 2))) as shard:
        for i in range(rng.choice((1, 2, 3))):
            ending = rng.choice(("png", "png", "png", "json", "txt", "cls", "exe"))
            name = rng.choice(
                (f"{i}", f"{i}", f"../../{i}", f"/etc/{i}", f"한글{i}", "", ".", "a/../b")
            )
            content = {
                "png": rng.choice((case.seeds.pictures["rgb.png"], b"", b"no picture")),
                "json": spoil_json(rng, '{"caption": "a", "label": 3, "captions": ["b", "c"]}')[0],
            }.get(ending, spoil_text(rng, "words\nmore")[0])
            member = tarfile.TarInfo(f"{name}.{ending}")
            member.type = rng.choice((tarfile.REGTYPE,) * 5 + (
                tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE,
                tarfile.CHRTYPE))  # fmt: skip
            member.linkname = rng.choice(("/etc/passwd", "../x", "0.png"))
            member.size = len(content) if member.type == tarfile.REGTYPE else 0
            shard.addfile(member, io.BytesIO(content))
            said.append(f"{member.name} of type {member.type!r}, {content[:30]!r}")
    return out.getvalue(), "; ".join(said)


def _odd_parquet(case: Case) -> tuple[bytes, str]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    rng, rows = case.rng, case.rng.choice((0, 1, 3))
    picture = case.seeds.pictures["rgb.png"]
    columns: dict[str, Any] = {
        "image": rng.choice(
            (
                [picture] * rows, [None] * rows, [b""] * rows, ["a.png"] * rows,
                [{"bytes": picture}] * rows, [{"bytes": None, "path": "/etc/passwd"}] * rows,
                [{"path": "x"}] * rows, [[picture]] * rows, list(range(rows)),
            )
        ),
        "caption": rng.choice(
            (["a"] * rows, [None] * rows, [["a", None]] * rows, [1.5] * rows,
             [{"raw": ["a"]}] * rows,
             [{"raw": None}] * rows, [b"\xff"] * rows, [[[1]]] * rows)
        ),
        "label": rng.choice(([0] * rows, [-1] * rows, [10**18] * rows, [True] * rows,
            ["x"] * rows)),
        "id": rng.choice((["x"] * rows, [None] * rows, [1.5] * rows, ["../../x"] * rows)),
    }  # fmt: skip
    if rng.random() < 0.4:
        columns.pop(rng.choice(sorted(columns)))
    kept = spoil_json(rng, '{"info": {"features": {"label": {"names": ["cat", "dog"]}}}}')[0]
    out = io.BytesIO()
    pq.write_table(pa.table(columns).replace_schema_metadata({b"huggingface": kept}), out)
    return out.getvalue(), str({name: str(column)[:60] for name, column in columns.items()})


@kind("place", 1)
def place(case: Case) -> Trial:
    """Where data is said to be: odd paths, wildcards, addresses."""
    rng = case.rng
    word = str(rng.choice(INTERESTING_TEXTS))
    ending = rng.choice(("", "", ".csv", ".jsonl", ".tar", ".parquet", ".tar.gz", "/*.tar"))
    source = word + ending
    case.said.append(repr(source[:80]))
    if "\x00" in source or source.startswith(("http", "s3", "/dev", "/proc", "-", "file")):
        source = source.replace("http", "ftpx").replace("s3", "nosuch")
    if source in ("/", "/etc/passwd/..", "~", "..", "."):
        source += "x"
    root = rng.choice((None, case.seeds.images, case.given / "nowhere"))
    return Trial(act=lambda: read_samples(source, root))


def load_all(samples: list[Sample]) -> None:
    """Looks at every picture as a command does: one that cannot be read is left out."""
    for sample in samples:
        assert sample.id and all(isinstance(text, str) for text in sample.texts)
        assert sample.label is None or isinstance(sample.label, str)
        try:
            sample.load()
            sample.content()
        except (ImageError, OSError):
            continue


def line(case: Case, words: list[Any], **more: Any) -> Trial:
    """A command line that keeps its results in the case's folder."""
    flag = "output.dir=" if words[0] in ("tokens", "compress") else "--output-dir="
    return Trial(words=[*map(str, words), f"{flag}{case.out / 'run'}"], **more)


def copied(folder: Path, to: Path) -> Path:
    """A copy that may be spoiled."""
    shutil.copytree(folder, to)
    return to
