"""The synthetic world: pure, disjoint, truthful, and written whole or not at all."""

import csv
import json
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import encoderlab.data
from encoderlab.data import read_samples
from encoderlab.data.synthetic import KINDS, generate, render_arrays, write_dataset
from encoderlab.data.synthetic.__main__ import main
from encoderlab.data.synthetic.words import COLOURS, listed_ko, particle
from encoderlab.data.synthetic.world import SPLIT_SIZE, seed_of
from encoderlab.data.synthetic.write import write_sample_data
from encoderlab.errors import UsageError


@settings(max_examples=30, deadline=None)
@given(index=st.integers(0, 2**31 - 1), kind=st.sampled_from(KINDS))
def test_a_picture_is_a_pure_function_of_its_number(index, kind):
    first, second = (generate(index, kind=kind) for _ in range(2))
    assert np.array_equal(np.asarray(first.image), np.asarray(second.image))
    assert first.captions == second.captions
    assert first.label == kind


@given(train=st.integers(0, SPLIT_SIZE - 1), test=st.integers(0, SPLIT_SIZE - 1))
def test_train_and_test_share_no_seed(train, test):
    assert seed_of("train", train) < SPLIT_SIZE <= seed_of("test", test) < 2 * SPLIT_SIZE


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_number_is_another_picture_in_the_other_split(kind):
    for index in range(40):
        train, test = (generate(index, split=split, kind=kind) for split in ("train", "test"))
        assert not np.array_equal(np.asarray(train.image), np.asarray(test.image))
        assert train.id != test.id


@pytest.mark.parametrize("kind", KINDS)
def test_the_size_changes_no_word(kind):
    for size in (8, 96, 384):
        item = generate(5, kind=kind, size=size)
        assert item.image.size == (size, size)
        assert item.captions == generate(5, kind=kind).captions


@pytest.mark.parametrize("kind", KINDS)
def test_no_picture_is_slow(kind):
    start = time.process_time()
    for index in range(100):
        generate(index, kind=kind)
    assert time.process_time() - start < 1.0  # loose: it takes 0.01 to 0.06 s


def test_the_sample_data_that_ships_is_what_its_command_makes(tmp_path):
    # The bundled checkpoints were trained and measured on these pictures and captions.
    write_sample_data(tmp_path)
    shipped = Path(encoderlab.data.__file__).parent / "sample_data"
    assert (tmp_path / "labels.jsonl").read_bytes() == (shipped / "labels.jsonl").read_bytes()
    made = sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*.png"))
    assert len(made) == 9
    for name in made:
        now, then = (
            np.asarray(Image.open(root / name).convert("RGB")).astype(int)
            for root in (tmp_path, shipped)
        )
        assert np.abs(now - then).mean() < 1  # another Pillow may smooth an edge in another way


@pytest.mark.parametrize("kind", KINDS)
def test_captions_tell_pictures_apart(kind):
    assert len({generate(i, kind=kind).captions[0] for i in range(300)}) > 280


@pytest.mark.parametrize("kind", ["scene", "chart", "table", "document"])
def test_every_colour_that_is_named_is_in_the_picture(kind):
    for index in range(40):
        item = generate(index, kind=kind, size=192)
        pixels = np.asarray(item.image).reshape(-1, 3).astype(int)
        for colour in COLOURS:
            if f" {colour.en} " in f" {item.captions[0].replace(',', ' ')} ":
                near = np.abs(pixels - np.array(colour.rgb)).max(axis=1) < 12
                assert near.sum() > 30, (index, colour.en, item.captions[0])


def test_korean_particles_follow_the_last_syllable():
    subjects = [particle(word, "이", "가") for word in ("원", "막대", "별", "하트")]
    assert subjects == ["원이", "막대가", "별이", "하트가"]
    assert listed_ko(["빨강", "파랑", "초록"]) == "빨강, 파랑과 초록"


@pytest.mark.parametrize("processes", [1, 2])
def test_many_at_once_are_the_same_pictures(processes):
    rendered = render_arrays(range(7), size=48, processes=processes)
    assert rendered.pixels.shape == (7, 48, 48, 3)
    assert np.array_equal(rendered.pixels[3], np.asarray(generate(3, size=48).image))
    assert rendered.texts[3][0] == generate(3).captions[0]
    assert render_arrays([], size=48, processes=processes).pixels.shape == (0, 48, 48, 3)


def test_a_written_set_is_balanced_distinct_and_readable(tmp_path):
    folder = write_dataset(tmp_path / "new", 25, languages=("en", "ko"))
    english, korean = (read_samples(folder / f"captions.{code}.csv") for code in ("en", "ko"))
    assert [s.id for s in english] == [s.id for s in korean]
    assert len({s.texts for s in english}) == 25
    labels = [s.label for s in read_samples(folder / "images")]
    assert {labels.count(kind) for kind in KINDS} == {5}


def test_nothing_is_overwritten_and_nothing_half_written(tmp_path, monkeypatch):
    (tmp_path / "mine").write_text("x")
    with pytest.raises(UsageError, match="the folder is not empty"):
        write_dataset(tmp_path, 5)
    monkeypatch.setattr("encoderlab.data.synthetic.write.write_table", lambda *a: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write_dataset(tmp_path / "new", 5)
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_the_tables_name_every_picture_with_its_words(tmp_path):
    folder = write_dataset(tmp_path / "new", 10, languages=("en", "ko"), first_index=30)
    tables = {
        path.name: list(csv.reader(path.open(encoding="utf-8", newline="")))
        for path in folder.glob("*.csv")
    }
    assert set(tables) == {"captions.csv", "captions.en.csv", "captions.ko.csv", "labels.csv"}
    assert tables["captions.csv"] == tables["captions.en.csv"]
    assert tables["captions.csv"][0] == ["image_path", "caption"]
    assert tables["labels.csv"][0] == ["image_path", "label"]
    questions = (folder / "qa.jsonl").read_text(encoding="utf-8").splitlines()
    for number, kind in enumerate(KINDS * 2):
        item = generate(30 + number, split="test", kind=kind)
        name = f"images/{kind}/{number:05d}.png"
        assert tables["captions.en.csv"][number + 1] == [name, item.captions[0]]
        assert tables["captions.ko.csv"][number + 1] == [name, item.captions_ko[0]]
        assert tables["labels.csv"][number + 1] == [name, kind]
        assert np.array_equal(np.asarray(Image.open(folder / name)), np.asarray(item.image))
        asked, *_, answered = json.loads(questions[number])["messages"]
        assert asked["content"][1] == {"type": "image", "image": name}
        assert answered["content"] == [{"type": "text", "text": item.answer}]


def test_running_out_of_new_captions_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(
        "encoderlab.data.synthetic.write.generate", lambda *a, **k: generate(0, kind="scene")
    )
    with pytest.raises(UsageError, match="no more new captions can be generated of kind 'scene'"):
        write_dataset(tmp_path / "new", 2, kinds=("scene",))
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["-n", "0"], "nothing to write"),
        (["--kinds", "chrt"], "Did you mean 'chart'"),
        (["--first-index", "-4"], "no picture has this number: got -4"),
        (["--size", "0"], "too small to draw in: got 0"),
    ],
)
def test_the_command_refuses_in_one_sentence(tmp_path, capsys, options, says):
    assert main(["--out", str(tmp_path / "new"), *options]) == 2
    output = capsys.readouterr()
    assert says in output.err and not output.out
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("inside", ["", "new"])
def test_a_file_in_the_way_is_named(tmp_path, inside):
    (tmp_path / "taken").write_text("x")
    with pytest.raises(UsageError, match="a file is in the way"):
        write_dataset(tmp_path / "taken" / inside, 5)


def test_a_language_it_does_not_speak_is_refused(tmp_path):
    for call in (
        lambda: write_dataset(tmp_path / "new", 5, languages=("en", "fr")),
        lambda: render_arrays([0], languages=("fr",)),
        lambda: generate(0).captions_in("fr"),
    ):
        with pytest.raises(UsageError, match="unknown language: got 'fr'"):
            call()
