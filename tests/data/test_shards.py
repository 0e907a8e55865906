"""Tar shards and Parquet tables to samples, on disk and behind a URL, and refused input."""

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
from encoderlab.data.read import read_parts
from encoderlab.data.remote_files import expand_braces
from encoderlab.data.sample import Sample
from encoderlab.data.shards import in_shard
from encoderlab.errors import MissingError, UsageError, WorkError
from encoderlab.feature_store.store import digest_of


def _png(colour: str, size: int = 8) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (size, size), colour).save(file, "PNG")
    return file.getvalue()


def _tar(path: Path, members: dict[str, bytes], format: int = tarfile.PAX_FORMAT) -> Path:
    with tarfile.open(path, "w", format=format) as tar:
        for name, content in members.items():
            about = tarfile.TarInfo(name)
            about.size = len(content)
            tar.addfile(about, io.BytesIO(content))
    return path


def _table(path: Path, rows: list[dict], **more) -> Path:
    pq.write_table(pa.Table.from_pylist(rows, **more), path, row_group_size=2)
    return path


def _colours(samples) -> list[tuple[int, int, int]]:
    return [tuple(np.asarray(sample.load())[0, 0].tolist()) for sample in samples]


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


def test_members_of_one_name_are_one_sample(shard):
    red, blue, broken = read_samples(shard)
    assert (red.id, red.texts) == ("train-000/000", ("a red square", "빨간 사각형"))
    assert (blue.id, blue.texts, blue.label) == ("train-000/sub/001", ("blue",), "7")
    assert (broken.texts, broken.label) == ((), "broken")
    # Of several images with one key, KEY.ext is the sample's.
    assert _colours([red, blue]) == [RED, BLUE]
    assert [(Path(item.id).name, item.reason) for item in read_samples(shard).skipped] == [
        ("001.seg.png", "the image of 001 is sub/001.png"),
        ("002", "there is no image of this name"),
    ]
    with pytest.raises(ImageError, match=r"train-000.tar/003.jpg: it is no image"):
        broken.load()


def test_an_image_in_a_shard_is_what_the_file_would_be(shard, tmp_path):
    (tmp_path / "x.png").write_bytes(_png("red"))
    assert digest_of(read_samples(shard)[0]) == digest_of(Sample("x", tmp_path / "x.png"))
    assert _colours([pickle.loads(pickle.dumps(read_samples(shard)[0]))]) == [RED]


def test_a_shard_that_is_cut_short_leaves_out_what_is_lost(shard):
    listed = read_samples(shard)
    with shard.open("r+b") as file:
        file.truncate(listed[1].image.start + 10)
    assert _colours(listed[:1]) == [RED]
    with pytest.raises(ImageError, match="the shard is cut short before it"):
        listed[1].load()


def test_a_table_as_hugging_face_keeps_images(tmp_path):
    about = {"info": {"features": {"label": {"names": ["warm", "cold"], "_type": "ClassLabel"}}}}
    image = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    schema = pa.schema([("image", image), ("text", pa.string()), ("label", pa.int64())],
                       metadata={"huggingface": json.dumps(about)})  # fmt: skip
    cells = (("red", "red", 0), ("blue", "blue", 1), ("lime", None, None))
    rows = [
        {"image": {"bytes": _png(colour), "path": "x.png"}, "text": text, "label": label}
        for colour, text, label in cells
    ]
    rows.append({"image": None, "text": "nothing", "label": 1})
    samples = read_samples(_table(tmp_path / "t.parquet", rows, schema=schema))
    assert _colours(samples[:3]) == [RED, BLUE, LIME]
    assert [sample.label for sample in samples] == ["warm", "cold", None, "cold"]
    assert [sample.texts for sample in samples] == [("red",), ("blue",), (), ("nothing",)]
    with pytest.raises(ImageError, match=r"t.parquet/3: the row has no image"):
        samples[3].load()


def test_a_table_with_plain_bytes_and_several_captions(tmp_path):
    rows = [{"key": "a7", "jpg": _png("blue"), "captions": [b"one", "빨강".encode()]}]
    (sample,) = read_samples(_table(tmp_path / "t.parquet", rows))
    assert (sample.id, sample.texts) == ("t/a7", ("one", "빨강"))
    assert _colours([sample]) == [BLUE]


def test_the_text_of_an_image_in_a_shard_finds_it_again(shard, tmp_path):
    rows = [{"jpg": _png(colour), "text": colour} for colour in ("red", "blue", "lime")]
    table = _table(tmp_path / "t.parquet", rows)
    for sample in (*read_samples(shard), *read_samples(table)):
        assert in_shard(str(sample.image)) == sample.image
    for nothing in (f"{shard}/none.png", f"{table}/9", f"{table}/x", "gone.tar/a.png", "a/b.png"):
        assert in_shard(nothing) is None


def test_braces_wildcards_and_folders_name_several(tmp_path):
    for number in range(8, 12):
        _tar(tmp_path / f"t-{number:03d}.tar", {f"{number}.png": _png("red")})
    wanted = [f"t-{number:03d}/{number}" for number in range(8, 12)]
    for word in (f"{tmp_path}/t-{{008..011}}.tar", f"{tmp_path}/t-*.tar", str(tmp_path)):
        assert [item.id for item in read_samples(word)] == wanted
    assert expand_braces("{a,b}{1..2}.tar") == ["a1.tar", "a2.tar", "b1.tar", "b2.tar"]
    parts = list(read_parts(tmp_path, size=2))
    assert [[item.id for item in part] for part in parts] == [wanted[:2], wanted[2:]]


@pytest.fixture
def bucket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A place behind a URL, and an empty folder for copies."""
    monkeypatch.setenv("ENCODERLAB_SHARD_CACHE", str(tmp_path / "copies"))
    files = fsspec.filesystem("memory")
    yield files
    files.store.clear()


def test_a_shard_behind_a_url_is_fetched_once(shard, bucket, monkeypatch):
    bucket.pipe("/b/t-0.tar", shard.read_bytes())
    bucket.pipe("/b/t-1.tar", _tar(shard.parent / "y", {"9.png": _png("blue")}).read_bytes())
    fetched = []
    original = type(bucket).get_file
    monkeypatch.setattr(
        type(bucket), "get_file", lambda self, *a, **k: fetched.append(a[0]) or original(self, *a)
    )
    samples = read_samples("memory://b/t-{0..1}.tar")
    assert [item.id for item in read_samples("memory://b/t-*.tar")] == [item.id for item in samples]
    assert _colours([samples[0], samples[-1]]) == [RED, BLUE]
    assert fetched == ["/b/t-0.tar", "/b/t-1.tar"]


def test_copies_stay_below_the_limit_and_come_back_when_needed(
    shard, bucket, tmp_path, monkeypatch
):
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
    ("source", "kind", "says"),
    [
        ("nowhere.tar", MissingError, "no such shard"),
        ("nowhere-*.tar", MissingError, "nothing matches"),
        ("t-{9..1}.tar", UsageError, "the range runs backwards"),
        ("x.tar.gz", UsageError, "a compressed tar cannot be read"),
        (".", UsageError, "a compressed tar cannot be read"),
        ("s3://bucket/pairs.csv", UsageError, "only shards are read from a URL"),
        ("memory://b/none.tar", MissingError, "no such shard"),
        ("nonsense://b/none.tar", UsageError, "unknown protocol"),
        ("\x00/*.tar", UsageError, "character NUL"),
        ("\ud800/*.tar", UsageError, "no path has these characters"),
    ],
)
def test_a_wrong_name_is_refused(source, kind, says, tmp_path, monkeypatch, bucket):
    monkeypatch.chdir(tmp_path)
    Path("1.tar.gz").touch()
    with pytest.raises(kind, match=says):
        read_samples(source)


def test_a_filesystem_that_is_not_installed_is_named(monkeypatch):
    def lacking(place: str):
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr(fsspec.core, "url_to_fs", lacking)
    with pytest.raises(MissingError, match="pip install s3fs"):
        read_samples("s3://bucket/a.tar")


def test_damaged_and_empty_shards_are_refused(tmp_path):
    for name in ("a.tar", "b.parquet"):
        (tmp_path / name).write_bytes(b"hello" * 500)
        with pytest.raises(UsageError, match=rf"the (shard|table) cannot be read.*{name}"):
            read_samples(tmp_path / name)
    with pytest.raises(UsageError, match=r"no column of images.*url, caption"):
        read_samples(_table(tmp_path / "d.parquet", [{"url": "http://x", "caption": "y"}]))
    for record in (b"{", b'{"a":' * 50_000):
        with pytest.raises(UsageError, match=r"no images.*1.json cannot be read"):
            read_samples(_tar(tmp_path / "e.tar", {"1.png": _png("red"), "1.json": record}))


def test_members_of_one_key_are_joined_wherever_they_stand(tmp_path):
    keys = [f"{i:03d}" for i in range(8)]
    images = {f"./{key}.png": _png("red") for key in keys}
    texts = {f"{key}.txt": f"caption {key}".encode() for key in keys}
    for members in ({**images, **texts}, {**texts, **images}):
        samples = read_samples(_tar(tmp_path / "t.tar", members))
        texts_of = {sample.id: sample.texts for sample in samples}
        assert texts_of == {f"t/{key}": (f"caption {key}",) for key in keys}
        assert samples.skipped == []


def test_several_images_of_which_none_is_the_keys_own_are_named(tmp_path):
    shard = _tar(tmp_path / "t.tar", {"a/0.rgb.png": _png("red"), "a/0.depth.png": _png("blue")})
    with pytest.raises(UsageError, match=r"key a/0: 0.rgb.png, 0.depth.png"):
        read_samples(shard)
    (sample,) = read_samples(_tar(tmp_path / "u.tar", {"0.rgb.png": _png("red")}))
    assert _colours([sample]) == [RED]


@pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_a_tar_that_is_cut_anywhere_is_an_error(tmp_path, format):
    long = "d" * (40 if format == tarfile.USTAR_FORMAT else 160)
    members = {f"{long}/{i}.txt": b"x" * 700 for i in range(2)}
    members |= {f"{long}/{i}.png": _png("red") for i in range(2)}
    whole = _tar(tmp_path / "whole.tar", members, format).read_bytes()
    end = len(whole.rstrip(b"\0"))
    end = -(-end // 512) * 512 + 1024  # the last member and the two blocks of zeros
    cut = tmp_path / "cut.tar"
    for size in (*range(0, end, 13), *range(0, end, 512), end - 1, end - 512):
        cut.write_bytes(whole[:size])
        with pytest.raises(UsageError, match=r"cut\.tar") as error:
            read_samples(cut)
        assert f" of {size:,}" in str(error.value) or size < 512
    for size in (end, end + 512, len(whole)):
        cut.write_bytes(whole[:size])
        assert [sample.texts for sample in read_samples(cut)] == [("x" * 700,)] * 2


def test_a_damaged_header_and_two_tars_in_one_file_are_errors(tmp_path, shard):
    whole = shard.read_bytes()
    second = whole.index(b"000.txt")
    (tmp_path / "a.tar").write_bytes(whole[:second] + b"\xff" * 8 + whole[second + 8 :])
    with pytest.raises(UsageError, match=rf"byte {second:,} of {len(whole):,}"):
        read_samples(tmp_path / "a.tar")
    (tmp_path / "b.tar").write_bytes(whole + whole)
    with pytest.raises(UsageError, match="goes on after its end mark"):
        read_samples(tmp_path / "b.tar")
    (tmp_path / "c.tar").write_bytes(bytes(10240))
    with pytest.raises(UsageError, match="no images"):
        read_samples(tmp_path / "c.tar")


def test_a_repeated_caption_counts_once(tmp_path):
    caption = "a red square\non white"
    members = {"0.png": _png("red"), "0.txt": caption.encode()}
    members |= {"0.json": json.dumps({"caption": caption.replace("\n", "  ")}).encode()}
    assert len(read_samples(_tar(tmp_path / "t.tar", members))[0].texts) == 1
    members["0.json"] = json.dumps({"captions": caption.splitlines()}).encode()
    assert read_samples(_tar(tmp_path / "u.tar", members))[0].texts == tuple(caption.splitlines())


def test_what_cannot_be_used_is_listed_and_the_rest_read(tmp_path):
    members = {f"{i}.png": _png("red") for i in range(5)}
    members |= {"0.txt": b"fine", "1.txt": b"caf\xe9", "2.json": b"{", "3.cls": b"\xff"}
    members |= {"4.svg": b"<svg/>", "5.heic": b"x", "6.txt": b"no image"}
    path = tmp_path / "t.tar"
    with tarfile.open(_tar(path, members), "a") as tar:
        link = tarfile.TarInfo("7.png")
        link.type, link.linkname = tarfile.LNKTYPE, "0.png"
        tar.addfile(link)
        bad = tarfile.TarInfo("caf\udce9.png")
        bad.size = len(_png("red"))
        tar.addfile(bad, io.BytesIO(_png("red")))
    samples = read_samples(path)
    assert [sample.id for sample in samples] == ["t/0", "t/4"]
    assert [item.id.removeprefix(f"{path}/") for item in samples.skipped] == [
        "t/1", "t/2", "t/3", "4.svg", "5.heic", "t/6", "7.png", r"t/caf\xe9",
    ]  # fmt: skip


def test_a_row_of_a_table_that_is_not_utf_8_is_listed(tmp_path):
    texts = pa.StringArray.from_buffers(
        3, pa.py_buffer(np.array([0, 1, 5, 6], np.int32)), pa.py_buffer(b"acaf\xe9b")
    )
    table = pa.table({"image": [_png("red")] * 3, "text": texts, "label": [1.0, 2.0, np.nan]})
    pq.write_table(table, tmp_path / "t.parquet")
    samples = read_samples(tmp_path / "t.parquet")
    rows = [(sample.id, sample.texts, sample.label) for sample in samples]
    assert rows == [("t/0", ("a",), "1.0"), ("t/2", ("b",), None)]
    assert [item.id for item in samples.skipped] == ["t/1"]


def test_a_table_that_is_cut_anywhere_is_an_error(tmp_path):
    rows = [{"image": _png("red"), "text": "a"}] * 3
    whole = _table(tmp_path / "t.parquet", rows).read_bytes()
    for size in range(0, len(whole), 41):
        (tmp_path / "cut.parquet").write_bytes(whole[:size])
        with pytest.raises(UsageError, match=r"cut\.parquet"):
            read_samples(tmp_path / "cut.parquet")
