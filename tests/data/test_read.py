"""CSV, folder and JSONL to samples: grouping, order, labels, and each mistake by its message."""

from __future__ import annotations

import csv
import io
import json
import os
import tarfile
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from encoderlab.data import Sample, read_samples, split_by_image
from encoderlab.data.csv_table import read_csv, read_labels
from encoderlab.data.decode import ImageError
from encoderlab.data.read import read_parts
from encoderlab.data.vlm_dataset import TYPED_SETS, VLMDataset
from encoderlab.errors import MissingError, UsageError


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for name in ("img2.png", "img10.png", "img1.png"):
        Image.new("RGB", (8, 8), "red").save(tmp_path / name)
    return tmp_path


def _write(path: Path, rows: list[list[str]], encoding: str = "utf-8") -> Path:
    with path.open("w", encoding=encoding, newline="") as file:
        csv.writer(file).writerows(rows)
    return path


def test_rows_of_one_image_are_one_sample_in_order_of_first_appearance(photos: Path) -> None:
    table = _write(
        photos / "t.csv",
        [
            ["image_path", "caption", "label"],
            ["img2.png", "b", "x"],
            ["img1.png", "a", ""],
            ["img2.png", "c", "x"],
            ["img2.png", "b", "x"],
        ],
    )
    first, second = read_samples(table)
    assert (first.id, first.texts, first.label) == ("img2.png", ("b", "c"), "x")
    assert (second.id, second.texts, second.label) == ("img1.png", ("a",), None)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
@given(caption=st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1))
def test_captions_in_any_script_survive(photos: Path, caption: str) -> None:
    table = _write(photos / "t.csv", [["image_path", "caption"], ["img1.png", caption]])
    expected = (caption.strip(),) if caption.strip() else ()
    assert read_samples(table)[0].texts == expected


def test_byte_order_mark_quotes_and_line_breaks_are_normal(photos: Path) -> None:
    table = _write(
        photos / "t.csv",
        [["image_path", "caption"], ["img1.png", 'say "hi",\nthen go']],
        "utf-8-sig",
    )
    assert read_samples(table)[0].texts == ('say "hi",\nthen go',)


@pytest.mark.parametrize(
    ("content", "error", "says"),
    [
        (b"", UsageError, "the CSV is empty"),
        (b"image_path,caption\n", UsageError, "the CSV has no rows"),
        (b"image_pth,caption\na,b\n", UsageError, "no column image_path.*Rename 'image_pth'"),
        (b"image_path,text\na,b\n", UsageError, "no column caption"),
        (b"image_path,caption\n,b\n", UsageError, "line 2 .* has no image_path"),
        (b"image_path,caption\nimg1.png,\xff\xfe\n", UsageError, "cannot be read"),
        (b"image_path,caption\nnone.png,b\n", MissingError, "none of the first images is there"),
        (b"image_path,caption\n../up.png,b\n", UsageError, "leaves the image folder"),
        (b"image_path,caption\n/etc/passwd,b\n", UsageError, "leaves the image folder"),
    ],
)
def test_a_bad_csv_is_refused_in_words(photos: Path, content: bytes, error, says: str) -> None:
    (photos / "t.csv").write_bytes(content)
    with pytest.raises(error, match=f"(?s){says}"):
        read_samples(photos / "t.csv")


def test_nothing_there_and_a_kind_we_do_not_know(photos: Path) -> None:
    with pytest.raises(MissingError, match=r"no such data.*nowhere"):
        read_samples(photos / "nowhere.csv")
    with pytest.raises(UsageError, match="unknown kind of data"):
        read_samples(photos / "img1.png")


def test_a_hundred_thousand_rows_are_read_in_seconds(photos: Path) -> None:
    rows = [["image_path", "caption"], ["img1.png", "here"]]
    rows += [[f"{i // 5}.png", f"caption {i}"] for i in range(100_000)]
    table = _write(photos / "t.csv", rows)
    started = time.perf_counter()
    assert len(read_csv(table)) == 20_001
    assert time.perf_counter() - started < 5


def test_a_flat_folder_is_in_natural_order_without_labels(photos: Path) -> None:
    (photos / ".hidden.png").write_bytes(b"x")
    (photos / "notes.txt").write_text("x")
    samples = read_samples(photos)
    assert [sample.id for sample in samples] == ["img1.png", "img2.png", "img10.png"]
    assert {sample.label for sample in samples} == {None}


def test_sub_folders_are_classes(world: Path) -> None:
    samples = read_samples(world / "images")
    assert {sample.label for sample in samples} == {"scene", "chart", "table", "document", "math"}
    assert len(samples) == 20


def test_an_empty_folder_and_labels_that_are_missing(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="the folder has no images"):
        read_samples(tmp_path)
    with pytest.raises(MissingError, match="no such CSV"):
        read_labels(tmp_path / "labels.csv")


def test_chat_records_give_the_assistants_turns(world: Path) -> None:
    samples = read_samples(world / "qa.jsonl")
    assert len(samples) == 20
    assert all(len(sample.texts) == 2 for sample in samples)
    assert samples[0].load().size == (96, 96)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("{broken", "line 2 of .* is no chat record"),
        ('{"messages": "x"}', "line 2 of .* is no chat record"),
        ('{"messages": [{"role": "user", "content": "no picture"}]}', "line 2 of .* has no image"),
        (
            '{"messages": [{"role": "user", "content": '
            '[{"type": "image", "image": "../../x.png"}]}]}',
            "leaves the image folder",
        ),
    ],
)
def test_a_bad_record_is_named_by_its_line(photos: Path, line: str, says: str) -> None:
    good = {"messages": [{"role": "user", "content": [{"type": "image", "image": "img1.png"}]}]}
    (photos / "x.jsonl").write_text(json.dumps(good) + "\n" + line + "\n")
    with pytest.raises(UsageError, match=says):
        read_samples(photos / "x.jsonl")


def test_splitting_keeps_an_image_on_its_side_when_others_come() -> None:
    samples = [Sample(str(i), Path(str(i))) for i in range(1000)]
    _, few = split_by_image(samples[:500], 0.1)
    kept, many = split_by_image(samples, 0.1)
    assert {s.id for s in few} == {s.id for s in many if int(s.id) < 500}
    assert len(kept) + len(many) == 1000
    assert 60 < len(many) < 140
    with pytest.raises(UsageError, match="at least 2"):
        split_by_image(samples[:1], 0.1)


def test_the_built_in_samples_stand_in_where_no_root_is_named(monkeypatch, capsys) -> None:
    monkeypatch.delenv("VLM_DATA_ROOT", raising=False)
    data = VLMDataset()
    assert "built-in samples (VLM_DATA_ROOT is not set)" in capsys.readouterr().err
    assert data.data_types == ("chart", "table", "document")
    mixed = data.load_mixed(n_per_type=2)
    images, texts = data.get_images_and_texts(mixed)
    assert len(images) == len(texts) == 6
    with pytest.raises(UsageError, match="'chart'"):
        data.load_samples("chrt")


def test_typed_sets_are_read_under_their_root(tmp_path: Path, monkeypatch) -> None:
    where = TYPED_SETS["math"]
    image = tmp_path / where.images / "a.png"
    image.parent.mkdir(parents=True)
    Image.new("RGB", (8, 8)).save(image)
    record = {
        "messages": [
            {
                "role": "user",
                "content": [{"type": "text", "text": "?"}, {"type": "image", "image": "a.png"}],
            },
            {"role": "assistant", "content": [{"type": "text", "text": "답은 4입니다"}]},
        ]
    }
    (tmp_path / where.labels).parent.mkdir(parents=True)
    (tmp_path / where.labels).write_text(json.dumps(record) + "\n")
    monkeypatch.setenv("VLM_DATA_ROOT", str(tmp_path))
    data = VLMDataset(configured_root="ignored")
    assert data.data_types == ("math",)
    (sample,) = data.load_samples("math")
    assert (sample.texts, sample.label) == (("답은 4입니다",), "math")
    with pytest.raises(MissingError, match="no such label file"):
        data.load_samples("chart")
    with pytest.raises(MissingError, match="the data root is not there"):
        VLMDataset(tmp_path / "none")


@pytest.mark.parametrize("text", [None, 7, ["a"], "  "])
def test_an_assistant_text_that_is_no_text_is_left_out(tmp_path: Path, text) -> None:
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    parts = [{"type": "text", "text": text}, {"type": "text", "text": "fine"}]
    asked = [{"type": "image", "image": "a.png"}]
    turns = [{"role": "user", "content": asked}, {"role": "assistant", "content": parts}]
    (tmp_path / "l.jsonl").write_text(json.dumps({"messages": turns}))
    assert read_samples(tmp_path / "l.jsonl")[0].texts == ("fine",)


def test_a_label_file_that_is_no_utf_8_ends_in_words(tmp_path: Path) -> None:
    (tmp_path / "l.jsonl").write_bytes("차트".encode("cp949"))
    with pytest.raises(UsageError, match=r"label file cannot be read.*UTF-8"):
        read_samples(tmp_path / "l.jsonl")


def test_blanks_around_a_label_are_no_part_of_it(tmp_path: Path) -> None:
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    Image.new("RGB", (4, 4)).save(tmp_path / "b.png")
    (tmp_path / "t.csv").write_text("image_path,caption,label\na.png,x, red \nb.png,y,  \n")
    assert [sample.label for sample in read_samples(tmp_path / "t.csv")] == ["red", None]
    assert read_labels(tmp_path / "t.csv") == {"a.png": "red"}


def test_a_name_that_is_no_text_is_refused_in_words(tmp_path: Path) -> None:
    (tmp_path / os.fsdecode(b"\xff.png")).write_bytes(b"")
    with pytest.raises(UsageError, match="name of an image is no UTF-8"):
        read_samples(tmp_path)


def test_a_record_in_a_shard_nested_without_end_is_named(tmp_path: Path) -> None:
    shard = tmp_path / "x.tar"
    content = b'{"a":' * 50_000
    with tarfile.open(shard, "w") as members:
        member = tarfile.TarInfo("0.json")
        member.size = len(content)
        members.addfile(member, io.BytesIO(content))
    with pytest.raises(UsageError, match=r"x\.tar/0\.json: it is nested too deeply"):
        read_samples(shard)


def test_a_record_nested_without_end_is_no_record(tmp_path: Path) -> None:
    file = tmp_path / "x.jsonl"
    file.write_text('{"messages":' * 50_000)
    with pytest.raises(UsageError, match=r"line 1 of .* is no chat record"):
        read_samples(file)


def test_a_path_that_no_file_can_have_is_a_file_that_cannot_be_read() -> None:
    sample = Sample("a", Path("a\0b.png"))
    with pytest.raises(OSError, match="null byte"):
        sample.content()
    with pytest.raises(ImageError):
        sample.load()


def test_a_root_of_paths_is_said_to_do_nothing_where_no_paths_are_listed(
    world: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    read_samples(world / "captions.csv", world)
    assert "no effect" not in capsys.readouterr().err
    for read in (read_samples, lambda *given: list(read_parts(*given))):
        read(world / "images", "elsewhere")
        assert capsys.readouterr().err.count("img_root=elsewhere has no effect") == 1
