"""CSV, folder and JSONL to samples: grouping, order, labels, and refused input."""

import csv
import json
import os
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from encoderlab.data import Sample, read_samples, split_by_image
from encoderlab.data.csv_table import read_csv, read_labels, rows_of
from encoderlab.data.decode import NEEDS_HEIC, ImageError
from encoderlab.data.folder import read_folder
from encoderlab.data.read import read_parts
from encoderlab.data.sample import Samples, content_digests, first_of_each, merge_duplicates
from encoderlab.data.vlm_dataset import TYPED_SETS, VLMDataset
from encoderlab.errors import MissingError, NoImagesError, UsageError


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for name in ("img2.png", "img10.png", "img1.png"):
        Image.new("RGB", (8, 8), "red").save(tmp_path / name)
    return tmp_path


def _write(path: Path, rows: list[list[str]]) -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(rows)
    return path


def _csv(folder: Path, text: str | bytes, name: str = "t.csv") -> Path:
    (folder / name).write_bytes(text.encode() if isinstance(text, str) else text)
    return folder / name


def _chat(image: str, *answers: object) -> str:
    """A chat record with one image and these answers."""
    asked = {"role": "user", "content": [{"type": "image", "image": image}]}
    parts = [{"type": "text", "text": answer} for answer in answers]
    return json.dumps({"messages": [asked, {"role": "assistant", "content": parts}]})


def _skipped(samples: Samples) -> list[str]:
    return sorted(item.id for item in samples.skipped)


def test_rows_of_one_image_are_one_sample_in_order_of_first_appearance(photos):
    rows = "img2.png,b,x\nimg1.png,a,\nimg2.png,c,x\nimg2.png,b,x\n"
    first, second = read_samples(_csv(photos, f"image_path,caption,label\n{rows}"))
    assert (first.id, first.texts, first.label) == ("img2.png", ("b", "c"), "x")
    assert (second.id, second.texts, second.label) == ("img1.png", ("a",), None)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
@given(caption=st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1))
def test_captions_in_any_script_survive(photos, caption):
    table = _write(photos / "t.csv", [["image_path", "caption"], ["img1.png", caption]])
    expected = (caption.strip(),) if caption.strip() else ()
    assert read_samples(table)[0].texts == expected


HEADER = "image_path,caption\n"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "the CSV is empty"),
        (HEADER, "the CSV has no rows"),
        (f"{HEADER}\n,\n", "no rows"),
        ("image_pth,caption\na,b\n", "no column image_path.*Rename 'image_pth'"),
        ("image_path,text\na,b\n", "no column caption"),
        (f"{HEADER},b\n", "line 2 .* has no image_path"),
        (f"{HEADER}../up.png,b\n", "leaves the image folder"),
        (f"{HEADER}/etc/passwd,b\n", "leaves the image folder"),
        (f"{HEADER}img1.png,on white, thing\n", r"line 2 .* 3 fields.*2.*quotes"),
        (f"{HEADER}img1.png\n", r"line 2 .* 1 fields.*2"),
        (f"{HEADER}\nimg1.png,a,\n", r"line 3 .* 3 fields"),
        ("image_path,caption,caption\nimg1.png,a,b\n", r"two columns of one name: got 'caption'"),
        ("image_path,caption,label\nimg1.png,a,x\n./img1.png,b,y\n", r"line 3 .*'y' after 'x'"),
        (f'{HEADER}img1.png,a\nimg2.png,"open\nimg1.png,b\n', r"begins on line 3"),
        (f'{HEADER}img1.png,"a" b\n', r"begins on line 2"),
        (f'{HEADER}img1.png,"a 5\nimg2.png,at 6"\n', r"opens in line 2 .*img2.png"),
        (f"{HEADER}img1.png,a\0b\n", r"line 2 .* character NUL"),
        ((HEADER * 2 + "a,고양이\n").encode("cp949"), "line 3 .*UTF-8"),
    ],
)
def test_a_bad_csv_is_refused_with_the_line(photos, text, says):
    with pytest.raises(UsageError, match=f"(?s){says}"):
        read_samples(_csv(photos, text))


def test_missing_and_unknown_data_is_refused(photos):
    for source in (photos / "nowhere.csv", _csv(photos, f"{HEADER}none.png,b\n")):
        with pytest.raises(MissingError):
            read_samples(source)
    with pytest.raises(MissingError):
        read_labels(photos / "labels.csv")
    with pytest.raises(UsageError, match="unknown kind of data"):
        read_samples(photos / "img1.png")


def test_a_hundred_thousand_rows_are_read_in_seconds(photos):
    rows = "".join(f"{i // 5}.png,caption {i}\n" for i in range(100_000))
    table = _csv(photos, f"{HEADER}img1.png,here\n{rows}")
    started = time.process_time()
    assert len(read_csv(table)) == 20_001
    assert time.process_time() - started < 5


def test_a_flat_folder_is_in_natural_order_without_labels(photos):
    (photos / ".hidden.png").write_bytes(b"x")
    (photos / "notes.txt").write_text("x")
    samples = read_samples(photos)
    assert [sample.id for sample in samples] == ["img1.png", "img2.png", "img10.png"]
    assert {sample.label for sample in samples} == {None}


def test_sub_folders_are_classes(world):
    samples = read_samples(world / "images")
    assert {sample.label for sample in samples} == {"scene", "chart", "table", "document", "math"}
    assert len(samples) == 20


def test_an_empty_folder_is_refused(tmp_path):
    with pytest.raises(NoImagesError):
        read_samples(tmp_path)


def test_chat_records_give_the_assistants_turns(world):
    samples = read_samples(world / "qa.jsonl")
    assert len(samples) == 20
    assert all(len(sample.texts) == 2 for sample in samples)
    assert samples[0].load().size == (96, 96)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("{broken", "line 2 of .* is no chat record"),
        ('{"messages":' * 50_000, "line 2 of .* is no chat record"),
        ('{"messages": "x"}', "line 2 of .* is no chat record"),
        ('{"messages": [{"role": "user", "content": "no picture"}]}', "line 2 of .* has no image"),
        (_chat("../../x.png"), "line 2 of .* leaves the image folder"),
    ],
)
def test_a_bad_record_is_named_by_its_line(photos, line, says):
    with pytest.raises(UsageError, match=says):
        read_samples(_csv(photos, f"{_chat('img1.png')}\n{line}\n", "x.jsonl"))


def test_splitting_keeps_an_image_on_its_side_when_others_come():
    samples = [Sample(str(i), Path(str(i))) for i in range(1000)]
    _, few = split_by_image(samples[:500], 0.1)
    stay, many = split_by_image(samples, 0.1)
    assert {s.id for s in few} == {s.id for s in many if int(s.id) < 500}
    assert len(stay) + len(many) == 1000
    assert 60 < len(many) < 140
    with pytest.raises(UsageError, match="at least 2"):
        split_by_image(samples[:1], 0.1)


def test_splitting_keeps_copies_of_an_image_on_one_side(tmp_path):
    samples = []
    for number in range(40):
        for copy in range(3):
            path = tmp_path / f"{number}-{copy}.png"
            path.write_bytes(f"picture {number:02}".encode())
            samples.append(Sample(path.name, path))
    stay, out = split_by_image(samples, 0.3)
    sides = [{sample.id.split("-")[0] for sample in side} for side in (stay, out)]
    assert not sides[0] & sides[1] and len(stay) + len(out) == 120
    once = [sample for sample in samples if sample.id.endswith("-0.png")]
    assert split_by_image(once, 0.3)[1] == [sample for sample in out if sample in once]
    with pytest.raises(UsageError, match="got 1"):
        split_by_image(samples[:3], 0.3)


def test_copies_are_one_sample_with_all_texts(tmp_path):
    for name, content in (("a", "x"), ("b", "yy"), ("c", "x"), ("d", "z"), ("e", "long")):
        (tmp_path / name).write_text(content)
    grey = Image.new("L", (4, 2))
    samples = [
        Sample("a", tmp_path / "a", ("one", "two")),
        Sample("b", tmp_path / "b", ("three",)),
        Sample("c", tmp_path / "c", ("two", "four"), "chart"),
        Sample("d", tmp_path / "d"),  # as long as a and c, and another picture
        Sample("none", tmp_path / "none"),
        Sample("nothing", tmp_path / "none"),
        Sample("p", grey),
        Sample("q", grey.copy()),
        Sample("r", Image.new("L", (2, 4))),
        Sample("b", tmp_path / "e"),  # the name of another sample, out of another folder
    ]
    merged = merge_duplicates(samples, content_digests(samples))
    assert [sample.id for sample in merged] == ["a", "b", "d", "none", "nothing", "p", "r", "b"]
    assert merged[0].texts == ("one", "two", "four") and merged[0].label == "chart"
    assert first_of_each([3, 1, 3, 2, 1]) == [0, 1, 3]


def test_the_built_in_samples_stand_in_where_no_root_is_named(monkeypatch, capsys):
    monkeypatch.delenv("VLM_DATA_ROOT", raising=False)
    data = VLMDataset()
    assert "built-in samples (VLM_DATA_ROOT is not set)" in capsys.readouterr().err
    assert data.data_types == ("chart", "table", "document")
    mixed = data.load_mixed(n_per_type=2)
    images, texts = data.get_images_and_texts(mixed)
    assert len(images) == len(texts) == 6
    with pytest.raises(UsageError, match="'chart'"):
        data.load_samples("chrt")


def test_typed_sets_are_read_under_their_root(tmp_path, monkeypatch):
    where = TYPED_SETS["math"]
    image = tmp_path / where.images / "a.png"
    image.parent.mkdir(parents=True)
    Image.new("RGB", (8, 8)).save(image)
    (tmp_path / where.labels).parent.mkdir(parents=True)
    (tmp_path / where.labels).write_text(_chat("a.png", "답은 4입니다"))
    monkeypatch.setenv("VLM_DATA_ROOT", str(tmp_path))
    data = VLMDataset()
    assert data.data_types == ("math",)
    (sample,) = data.load_samples("math")
    assert (sample.texts, sample.label) == (("답은 4입니다",), "math")
    with pytest.raises(MissingError, match="no such label file"):
        data.load_samples("chart")
    with pytest.raises(MissingError, match="the data root is not there"):
        VLMDataset(tmp_path / "none")


def test_an_assistant_text_that_is_no_text_is_left_out(photos):
    file = _csv(photos, _chat("img1.png", None, 7, ["a"], "  ", "fine"), "l.jsonl")
    assert read_samples(file)[0].texts == ("fine",)


def test_a_label_file_that_is_not_utf_8_is_refused(tmp_path):
    with pytest.raises(UsageError, match=r"label file cannot be read.*UTF-8"):
        read_samples(_csv(tmp_path, "차트".encode("cp949"), "l.jsonl"))


def test_blanks_around_a_label_are_no_part_of_it(photos):
    table = _csv(photos, "image_path,caption,label\nimg1.png,x, red \nimg2.png,y,  \n")
    assert [sample.label for sample in read_samples(table)] == ["red", None]
    assert read_labels(table) == {"img1.png": "red"}


def test_a_path_that_no_file_can_have_is_a_file_that_cannot_be_read():
    sample = Sample("a", Path("a\0b.png"))
    with pytest.raises(OSError, match="null byte"):
        sample.content()
    with pytest.raises(ImageError):
        sample.load()


def test_a_root_of_paths_is_said_to_do_nothing_where_no_paths_are_listed(world, capsys):
    read_samples(world / "captions.csv", world)
    assert "no effect" not in capsys.readouterr().err
    for read in (read_samples, lambda *args: list(read_parts(*args))):
        read(world / "images", "elsewhere")
        assert capsys.readouterr().err.count("img_root=elsewhere has no effect") == 1


# -- CSV as people have them ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("image_path;caption\nimg1.png;a, b\n", "t.csv"),
        ("image_path;caption;notes, more\nimg1.png;a, b;\n", "t.csv"),
        ("image_path\tcaption\nimg1.png\ta, b\n", "t.csv"),
        ("image_path\tcaption\nimg1.png\ta, b\n", "t.tsv"),
        ('image_path,caption\nimg1.png,"a, b"\n', "t.tsv"),
        ('image_path, caption\nimg1.png, "a, b"\n', "t.csv"),
        ('caption,image_path\n"a, b",.\\img1.png\n\n,\n', "t.csv"),
        ('image_path,caption\r\nimg1.png,"a,\r\nb"\r\n', "t.csv"),
        ('image_path,caption\rimg1.png,"a, b"\r', "t.csv"),
    ],
)
def test_the_header_says_what_parts_the_fields(photos, text, name):
    (sample,) = read_samples(_csv(photos, text, name))
    assert (sample.id, [" ".join(t.split()) for t in sample.texts]) == ("img1.png", ["a, b"])


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_the_encodings_of_excel_are_read(photos, encoding):
    text = 'image_path\tcaption\nimg1.png\t"빨간 ""사각형"",\nhi"\n'
    (sample,) = read_samples(_csv(photos, text.encode(encoding)))
    assert sample.texts == ('빨간 "사각형",\nhi',)


def test_every_spelling_of_a_path_is_one_image(photos):
    spellings = ["img1.png", "./img1.png", ".\\img1.png", "x/../img1.png", str(photos / "img1.png")]
    rows = "".join(f'"{name}",caption {i},l\n' for i, name in enumerate(spellings))
    table = _csv(photos, "image_path,caption,label\n" + rows)
    (sample,) = read_samples(table)
    assert sample.texts == tuple(f"caption {i}" for i in range(5))
    assert (sample.id, sample.image) == ("img1.png", photos / "img1.png")
    relative = _csv(photos, "image_path,label\n./img1.png,l\n.\\img1.png,l\n", "labels.csv")
    assert read_labels(relative) == {"img1.png": "l"}


def test_captions_that_differ_in_blanks_only_count_once(photos):
    text = 'image_path,caption\nimg1.png,a red\nimg1.png,"a\nred"\nimg1.png,A red\n'
    assert read_samples(_csv(photos, text))[0].texts == ("a red", "A red")


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_images_are_found_in_images_beside_the_table(photos, kind):
    (photos / "images").mkdir()
    Image.new("RGB", (4, 4)).save(photos / "images/in.png")
    text = _chat(".\\in.png") if kind == "jsonl" else f"{HEADER}.\\in.png,a\n"
    (sample,) = read_samples(_csv(photos, text, f"t.{kind}"))
    assert sample.image == photos / "images/in.png"
    assert sample.load().size == (4, 4)


def test_rows_are_numbered_by_their_first_line(tmp_path):
    table = _csv(tmp_path, '\na,b\n1,"x\ny"\n\n2,z\n')
    rows = [(3, {"a": "1", "b": "x\ny"}), (6, {"a": "2", "b": "z"})]
    assert list(rows_of(table, ("a",))) == rows


# -- folders as people have them -----------------------------------------------------------------


def test_every_ending_that_pillow_writes_and_reads_is_read(tmp_path):
    Image.init()
    picture = Image.new("RGB", (16, 16), "red")
    written = set()
    for ending, kind in Image.registered_extensions().items():
        if kind in Image.SAVE and kind not in ("EPS", "PDF", "PALM"):
            try:
                picture.save(tmp_path / f"a{ending}")
            except (OSError, ValueError):  # a kind that has no RGB
                (tmp_path / f"a{ending}").unlink(missing_ok=True)
            else:
                written.add(f"a{ending}")
    assert {"a.jfif", "a.jp2", "a.webp", "a.tga", "a.mpo"} <= written
    samples = read_samples(tmp_path)
    assert {sample.id for sample in samples} == written
    assert all(sample.load().getpixel((8, 8))[0] > 200 for sample in samples)


def test_what_cannot_be_read_is_listed_and_no_other_file(photos, capsys):
    for name in ("a.heic", "b.SVG", "c.cr2", "d.eps", "e.md", "f.json", "g.tar", ".h.svg"):
        (photos / name).write_bytes(b"x")
    (photos / "__MACOSX").mkdir()
    samples = read_samples(photos)
    assert [sample.id for sample in samples] == ["img1.png", "img2.png", "img10.png"]
    assert _skipped(samples) == ["a.heic", "b.SVG", "c.cr2", "d.eps", "g.tar"]
    assert NEEDS_HEIC in [item.reason for item in samples.skipped]
    assert "5 items" in capsys.readouterr().err


def test_links_to_folders_are_followed_once_and_cycles_end(tmp_path):
    root, other = tmp_path / "root", tmp_path / "other"
    for folder in (root / "a", root / "b", other):
        folder.mkdir(parents=True)
        Image.new("RGB", (4, 4)).save(folder / "x.png")
    (root / "0_linked").symlink_to(other)
    (root / "0_again").symlink_to(root / "b")
    (root / "a/up").symlink_to(root)
    (other / "back").symlink_to(root / "a")
    samples = read_samples(root)
    assert [(s.id, s.label) for s in samples] == [(f"{f}/x.png", f) for f in ("0_linked", "a", "b")]
    assert _skipped(samples) == ["0_again", "0_linked/back", "a/up"]


def test_links_to_nothing_and_pipes_are_listed(photos):
    (photos / "gone").symlink_to(photos / "nowhere")
    (photos / "loop.png").symlink_to(photos / "loop.png")
    os.mkfifo(photos / "pipe.png")
    (photos / "linked.png").symlink_to(photos / "img1.png")
    samples = read_samples(photos)
    assert [s.id for s in samples] == ["img1.png", "img2.png", "img10.png", "linked.png"]
    assert _skipped(samples) == ["gone", "loop.png", "pipe.png"]


def test_a_name_that_is_not_utf_8_is_listed_and_the_rest_read(photos):
    bad = os.fsdecode(b"caf\xe9")
    (photos / bad).mkdir()
    for name in (f"{bad}.png", f"{bad}/x.png"):
        Image.new("RGB", (4, 4)).save(photos / name)
    samples = read_samples(photos)
    assert len(samples) == 3
    assert _skipped(samples) == [r"caf\xe9.png", r"caf\xe9/x.png"]
    table, tar = _csv(photos / bad, f"{HEADER}x.png,a\n"), _csv(photos / bad, b"", "x.tar")
    outside = _csv(photos, f"{HEADER}x.png,a\n")
    for arguments in ((photos / bad,), (table,), (tar,), (outside, photos / bad)):
        with pytest.raises(UsageError, match="the path is not UTF-8"):
            read_samples(*arguments)


def test_text_files_beside_images_are_captions(photos):
    (photos / "img1.txt").write_text("a red square\n빨간 사각형\n\n")
    (photos / "img2.txt").write_bytes(b"caf\xe9")
    (photos / "notes.txt").write_text("nothing of an image")
    samples = read_samples(photos)
    assert [(s.id, s.texts) for s in samples] == [
        ("img1.png", ("a red square", "빨간 사각형")), ("img10.png", ()),
    ]  # fmt: skip
    assert _skipped(samples) == ["img2.png"]
    with_texts = samples.with_texts()
    assert [s.id for s in with_texts] == ["img1.png"]
    assert _skipped(with_texts) == ["img10.png", "img2.png"]


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
@pytest.mark.parametrize("column", ["text", "caption"])
def test_the_metadata_of_an_image_folder_is_read(photos, kind, column):
    (photos / "cat").mkdir()
    Image.new("RGB", (4, 4)).save(photos / "cat/x.png")
    rows = [["file_name", column], ["img1.png", "a, b"], ["./cat/x.png", "c"], ["gone.png", "d"]]
    if kind == "csv":
        _write(photos / "metadata.csv", rows)
    else:
        lines = (json.dumps(dict(zip(rows[0], row, strict=True))) for row in rows[1:])
        (photos / "metadata.jsonl").write_text("\n".join(lines))
    (photos / "cat/x.txt").write_text("c\nalso")
    samples = {sample.id: sample for sample in read_samples(photos)}
    assert samples["img1.png"].texts == ("a, b",)
    assert (samples["cat/x.png"].texts, samples["cat/x.png"].label) == (("c", "also"), "cat")
    assert samples["img2.png"].texts == ()
    assert _skipped(read_folder(photos)) == ["gone.png"]


def test_metadata_in_sub_folders_and_of_no_use(photos):
    for split in ("train", "test"):
        (photos / split).mkdir()
        Image.new("RGB", (4, 4)).save(photos / split / "0.png")
    (photos / "train/metadata.jsonl").write_text(
        '{"file_name": "0.png", "text": "one", "label": 3}\n{"file_name": "0.png", "text": "two"}'
    )
    (photos / "metadata.csv").write_text("title,artist\nx,y\n")
    (photos / "test/metadata.jsonl").write_text('{"file_name": "0.png", "objects": []}')
    read = read_folder(photos)
    samples = {sample.id: sample for sample in read}
    assert (samples["train/0.png"].texts, samples["train/0.png"].label) == (("one", "two"), "3")
    assert samples["test/0.png"].label == "test"
    assert _skipped(read) == ["metadata.csv", "test/metadata.jsonl"]
    (photos / "metadata.csv").unlink()
    (photos / "train/metadata.jsonl").write_text('{"file_name": "0.png", "text": "a"}\n{broken')
    with pytest.raises(UsageError, match=r"line 2 of .*metadata.jsonl is no JSON"):
        read_folder(photos)


def test_a_folder_of_many_files_is_listed_in_seconds(tmp_path):
    for i in range(20_000):
        (tmp_path / f"{i}.jpg").touch()
    started = time.process_time()
    assert [sample.id for sample in read_samples(tmp_path)[:3]] == ["0.jpg", "1.jpg", "2.jpg"]
    assert time.process_time() - started < 3


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is forbidden to root")
def test_a_folder_that_may_not_be_read_is_listed(photos):
    (photos / "closed").mkdir(mode=0)
    assert _skipped(read_samples(photos)) == ["closed"]


def test_half_of_a_surrogate_pair_in_json_is_listed(photos):
    lines = [_chat("img1.png", "cut \ud83d"), _chat("img1.png")]
    samples = read_samples(_csv(photos, "\n".join(lines), "t.jsonl"))
    assert [s.id for s in samples] == ["t/2"]
    assert _skipped(samples) == ["t/1"]
    (photos / "t.jsonl").unlink()
    (photos / "metadata.jsonl").write_text('{"file_name": "img1.png", "text": "cut \\ud83d"}')
    assert _skipped(read_samples(photos)) == ["img1.png"]
