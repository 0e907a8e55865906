"""Tar shards and Parquet tables to samples, here and behind a URL; each mistake by its message."""

from __future__ import annotations

import io
import json
import pickle
import tarfile
from pathlib import Path

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from encoderlab.data import ImageError, read_samples
from encoderlab.data.places import spelled_out
from encoderlab.data.read import read_parts
from encoderlab.data.shards import in_shard
from encoderlab.errors import MissingError, UsageError, WorkError


def _png(colour: str, size: int = 8) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (size, size), colour).save(file, "PNG")
    return file.getvalue()


def _tar(path: Path, members: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w") as tar:
        for name, content in members.items():
            about = tarfile.TarInfo(name)
            about.size = len(content)
            tar.addfile(about, io.BytesIO(content))
    return path


def _colours(samples) -> list[tuple[int, int, int]]:
    return [tuple(np.asarray(one.load())[0, 0].tolist()) for one in samples]


RED, BLUE, LIME = (255, 0, 0), (0, 0, 255), (0, 255, 0)


@pytest.fixture
def shard(tmp_path: Path) -> Path:
    return _tar(
        tmp_path / "train-000.tar",
        {
            "000.png": _png("red"),
            "000.txt": "a red square\n빨간 사각형\na red square".encode(),
            "sub/001.json": json.dumps({"caption": "blue", "label": 7}).encode(),
            "sub/001.seg.png": _png("lime"),
            "sub/001.png": _png("blue"),
            "002.txt": b"no picture here",
            "003.jpg": b"no image at all",
            "003.cls": b"broken\n",
        },
    )


def test_members_of_one_name_are_one_sample(shard: Path) -> None:
    red, blue, broken = read_samples(shard)
    assert (red.id, red.texts) == ("train-000/000", ("a red square", "빨간 사각형"))
    assert (blue.id, blue.texts, blue.label) == ("train-000/sub/001", ("blue",), "7")
    assert (broken.texts, broken.label) == ((), "broken")
    # The first picture of a name is the sample's.
    assert _colours([red, blue]) == [RED, LIME]
    with pytest.raises(ImageError, match=r"train-000.tar/003.jpg: it is no image"):
        broken.load()


def test_an_image_in_a_shard_is_what_the_file_would_be(shard: Path, tmp_path: Path) -> None:
    (tmp_path / "x.png").write_bytes(_png("red"))
    from encoderlab.data.sample import Sample
    from encoderlab.features.store import digest_of

    assert digest_of(read_samples(shard)[0]) == digest_of(Sample("x", tmp_path / "x.png"))
    assert _colours([pickle.loads(pickle.dumps(read_samples(shard)[0]))]) == [RED]


def test_a_shard_that_is_cut_short_leaves_out_what_is_lost(shard: Path) -> None:
    listed = read_samples(shard)
    with shard.open("r+b") as file:
        file.truncate(listed[1].image.start + 10)
    assert _colours(listed[:1]) == [RED]
    with pytest.raises(ImageError, match="the shard is cut short before it"):
        listed[1].load()


def _table(path: Path, rows: list[dict], **more) -> Path:
    pq.write_table(pa.Table.from_pylist(rows, **more), path, row_group_size=2)
    return path


def test_a_table_as_hugging_face_keeps_images(tmp_path: Path) -> None:
    about = {"info": {"features": {"label": {"names": ["warm", "cold"], "_type": "ClassLabel"}}}}
    schema = pa.schema(
        [
            ("image", pa.struct([("bytes", pa.binary()), ("path", pa.string())])),
            ("text", pa.string()),
            ("label", pa.int64()),
        ],
        metadata={"huggingface": json.dumps(about)},
    )
    rows = [
        {"image": {"bytes": _png("red"), "path": "0.png"}, "text": "red", "label": 0},
        {"image": {"bytes": _png("blue"), "path": "1.png"}, "text": "blue", "label": 1},
        {"image": {"bytes": _png("lime"), "path": "2.png"}, "text": None, "label": None},
        {"image": None, "text": "nothing", "label": 1},
    ]
    samples = read_samples(_table(tmp_path / "t.parquet", rows, schema=schema))
    assert _colours(samples[:3]) == [RED, BLUE, LIME]
    assert [one.label for one in samples] == ["warm", "cold", None, "cold"]
    assert [one.texts for one in samples] == [("red",), ("blue",), (), ("nothing",)]
    with pytest.raises(ImageError, match=r"t.parquet/3: the row has no image"):
        samples[3].load()


def test_a_table_with_plain_bytes_and_several_captions(tmp_path: Path) -> None:
    rows = [{"key": "a7", "jpg": _png("blue"), "captions": ["one", "two"]}]
    (sample,) = read_samples(_table(tmp_path / "t.parquet", rows))
    assert (sample.id, sample.texts) == ("t/a7", ("one", "two"))
    assert _colours([sample]) == [BLUE]


def test_the_text_of_an_image_in_a_shard_finds_it_again(shard: Path, tmp_path: Path) -> None:
    rows = [{"jpg": _png(colour), "text": colour} for colour in ("red", "blue", "lime")]
    table = _table(tmp_path / "t.parquet", rows)
    for sample in (*read_samples(shard), *read_samples(table)):
        assert in_shard(str(sample.image)) == sample.image
    for nothing in (f"{shard}/none.png", f"{table}/9", f"{table}/x", "gone.tar/a.png", "a/b.png"):
        assert in_shard(nothing) is None


def test_braces_wildcards_and_folders_name_several(tmp_path: Path) -> None:
    for number in range(8, 12):
        _tar(tmp_path / f"t-{number:03d}.tar", {f"{number}.png": _png("red")})
    wanted = [f"t-{number:03d}/{number}" for number in range(8, 12)]
    for word in (f"{tmp_path}/t-{{008..011}}.tar", f"{tmp_path}/t-*.tar", str(tmp_path)):
        assert [one.id for one in read_samples(word)] == wanted
    assert spelled_out("{a,b}{1..2}.tar") == ["a1.tar", "a2.tar", "b1.tar", "b2.tar"]
    parts = list(read_parts(tmp_path, size=2))
    assert [[one.id for one in part] for part in parts] == [wanted[:2], wanted[2:]]


@pytest.fixture
def bucket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A place behind a URL, and an empty folder for copies."""
    monkeypatch.setenv("ENCODERLAB_SHARD_CACHE", str(tmp_path / "copies"))
    files = fsspec.filesystem("memory")
    yield files
    files.store.clear()


def test_a_shard_behind_a_url_is_fetched_once(shard: Path, bucket, monkeypatch) -> None:
    bucket.pipe("/b/t-0.tar", shard.read_bytes())
    bucket.pipe("/b/t-1.tar", _tar(shard.parent / "y", {"9.png": _png("blue")}).read_bytes())
    fetched = []
    original = type(bucket).get_file
    monkeypatch.setattr(
        type(bucket), "get_file", lambda self, *a, **k: fetched.append(a[0]) or original(self, *a)
    )
    samples = read_samples("memory://b/t-{0..1}.tar")
    assert [one.id for one in read_samples("memory://b/t-*.tar")] == [one.id for one in samples]
    assert _colours([samples[0], samples[-1]]) == [RED, BLUE]
    assert fetched == ["/b/t-0.tar", "/b/t-1.tar"]


def test_copies_stay_below_the_limit_and_come_back_when_needed(
    shard: Path, bucket, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.setenv("ENCODERLAB_SHARD_CACHE_GB", str(1.5 * shard.stat().st_size / 1e9))
    for number in range(3):
        bucket.pipe(f"/limit/{number}.tar", shard.read_bytes())
    samples = read_samples("memory://limit/{0..2}.tar")
    assert len(list((tmp_path / "copies").glob("*.tar"))) == 1
    assert _colours([samples[0], samples[3], samples[6]]) == [RED] * 3
    monkeypatch.setenv("ENCODERLAB_SHARD_CACHE_GB", "0.000001")
    bucket.pipe("/limit/9.tar", shard.read_bytes())
    with pytest.raises(WorkError, match="larger than all copies may be together"):
        read_samples("memory://limit/9.tar")


@pytest.mark.parametrize(
    ("word", "kind", "says"),
    [
        ("nowhere.tar", MissingError, "no such shard"),
        ("nowhere-*.tar", MissingError, "nothing matches"),
        ("t-{9..1}.tar", UsageError, "the range runs backwards"),
        ("x.tar.gz", UsageError, "a compressed tar cannot be read"),
        ("s3://bucket/pairs.csv", UsageError, "only shards are read from a URL"),
        ("memory://b/none.tar", MissingError, "no such shard"),
        ("nonsense://b/none.tar", UsageError, "unknown protocol"),
    ],
)
def test_a_wrong_name_is_said(word, kind, says, tmp_path, monkeypatch, bucket) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(kind, match=says):
        read_samples(word)


def test_a_filesystem_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def lacking(place: str):
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr(fsspec.core, "url_to_fs", lacking)
    with pytest.raises(MissingError, match="pip install s3fs"):
        read_samples("s3://bucket/a.tar")


def test_a_place_with_a_nul_is_no_path() -> None:
    with pytest.raises(UsageError, match="character NUL"):
        read_samples("\x00/*.tar")
    with pytest.raises(UsageError, match="no path has these characters"):
        read_samples("\ud800/*.tar")


def test_damaged_and_empty_shards_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(b"hello" * 500)
    with pytest.raises(UsageError, match=r"the shard cannot be read.*a.tar"):
        read_samples(tmp_path / "a.tar")
    (tmp_path / "b.parquet").write_bytes(b"hello" * 500)
    with pytest.raises(UsageError, match=r"the table cannot be read.*b.parquet"):
        read_samples(tmp_path / "b.parquet")
    with pytest.raises(UsageError, match="the shard has no images"):
        read_samples(_tar(tmp_path / "c.tar", {"1.txt": b"hello"}))
    with pytest.raises(UsageError, match=r"no column of images.*url, caption"):
        read_samples(_table(tmp_path / "d.parquet", [{"url": "http://x", "caption": "y"}]))
    with pytest.raises(UsageError, match=r"a member of the shard cannot be read.*1.json"):
        read_samples(_tar(tmp_path / "e.tar", {"1.png": _png("red"), "1.json": b"{"}))
