"""Data that a user brings: images, tables, chat records, shards."""

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
    source = rng.choice((path, spoiled))
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
        target = rng.choice((None, None, None, "folder", path.parent, "nowhere", "/etc/passwd"))
        if target is None:
            path.write_bytes(rng.choice(sorted(pictures.values())))
        elif target == "folder":
            path.mkdir()
        else:
            path.symlink_to(target)
    if case.every(4):
        lines = (
            ["index", case.given, "--db", case.out / "db"],
            ["classify", "--image-dir", case.given, "--save-csv", case.out / "x.csv"],
            ["classify", "--image-dir", case.given, "--classes", "a,b"],
            ["features", "extract", case.given],
        )
        return line(case, rng.choice(lines))
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
    from encoderlab.data.reference_scores import read_table

    table = case.put("scores.csv", spoil_table(case.rng, case.seeds.scores))
    if case.every(2):
        return Trial(act=lambda: read_table(str(table)))
    names = ["tiny-clip"], ["tiny-llama", "tiny-qwen"]
    return Trial(act=lambda: read_scores(str(table), *names))


@kind("chat", 3)
def chat(case: Case) -> Trial:
    """Chat records."""
    rng, lines = case.rng, case.seeds.chat.splitlines()
    if rng.random() < 0.4:
        spoiled = spoil_text(rng, case.seeds.chat)
    else:
        whole = [record.encode() for record in lines]
        at = rng.randrange(len(lines))
        whole[at] = spoil_json(rng, lines[at])
        spoiled = b"\n".join(whole)
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
        records = [spoil_value(rng, chat_record(f"{i}.png", name)) for i in range(2)]
        case.put(where.labels, "\n".join(map(json.dumps, records)).encode(errors="replace"))
        images = case.given / where.images
        images.parent.mkdir(parents=True, exist_ok=True)
        how = rng.choice(("folder", "file", "link", "missing"))
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
    whole = rng.random() < 0.5
    spoiled = spoil_bytes(rng, case.seeds.tar, [case.seeds.parquet]) if whole else _odd_tar(case)
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


def _odd_tar(case: Case) -> bytes:
    rng, out = case.rng, io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=rng.choice((0, 1, 2))) as shard:
        for i in range(rng.choice((1, 2, 3))):
            ending = rng.choice(("png", "png", "png", "json", "txt", "cls", "exe"))
            names = (f"{i}", f"{i}", f"../../{i}", f"/etc/{i}", f"한글{i}", "", ".", "a/../b")
            name = rng.choice(names)
            content = {
                "png": rng.choice((case.seeds.pictures["rgb.png"], b"", b"no picture")),
                "json": spoil_json(rng, '{"caption": "a", "label": 3, "captions": ["b", "c"]}'),
            }.get(ending, spoil_text(rng, "words\nmore"))
            member = tarfile.TarInfo(f"{name}.{ending}")
            member.type = rng.choice((tarfile.REGTYPE,) * 5 + (
                tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE,
                tarfile.CHRTYPE))  # fmt: skip
            member.linkname = rng.choice(("/etc/passwd", "../x", "0.png"))
            member.size = len(content) if member.type == tarfile.REGTYPE else 0
            shard.addfile(member, io.BytesIO(content))
    return out.getvalue()


def _odd_parquet(case: Case) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    rng, rows = case.rng, case.rng.choice((0, 1, 3))
    picture = case.seeds.pictures["rgb.png"]
    cells: dict[str, Any] = {
        "image": rng.choice((picture, None, b"", "a.png", {"bytes": picture}, {"path": "x"},
                             {"bytes": None, "path": "/etc/passwd"}, [picture], 3)),
        "caption": rng.choice(("a", None, ["a", None], 1.5, {"raw": ["a"]}, {"raw": None}, b"\xff",
                               [[1]])),
        "label": rng.choice((0, -1, 10**18, True, "x")),
        "id": rng.choice(("x", None, 1.5, "../../x")),
    }  # fmt: skip
    if rng.random() < 0.4:
        cells.pop(rng.choice(sorted(cells)))
    kept = spoil_json(rng, '{"info": {"features": {"label": {"names": ["cat", "dog"]}}}}')
    out = io.BytesIO()
    pq.write_table(
        pa.table({name: [cell] * rows for name, cell in cells.items()}).replace_schema_metadata(
            {b"huggingface": kept}
        ),
        out,
    )
    return out.getvalue()


@kind("place", 1)
def place(case: Case) -> Trial:
    """Where data is said to be: odd paths, wildcards, addresses."""
    rng = case.rng
    word = str(rng.choice(INTERESTING_TEXTS))
    ending = rng.choice(("", "", ".csv", ".jsonl", ".tar", ".parquet", ".tar.gz", "/*.tar"))
    source = word + ending
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
