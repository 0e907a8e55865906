"""The synthetic world: pure, disjoint, truthful, and written whole or not at all."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from encoderlab.data import read_samples
from encoderlab.data.generator import DataGenerator
from encoderlab.data.synthetic import KINDS, generate, render_arrays, write_dataset
from encoderlab.data.synthetic.words import COLOURS, listed_ko, particle
from encoderlab.errors import UsageError


@settings(max_examples=30, deadline=None)
@given(index=st.integers(0, 2**31 - 1), kind=st.sampled_from(KINDS))
def test_a_picture_is_a_pure_function_of_its_number(index: int, kind: str) -> None:
    first, second = (generate(index, kind=kind) for _ in range(2))
    assert np.array_equal(np.asarray(first.image), np.asarray(second.image))
    assert first.captions == second.captions
    assert first.label == kind


def test_train_and_test_share_no_picture() -> None:
    for kind in KINDS:
        train, test = (
            {np.asarray(generate(i, split=split, kind=kind).image).tobytes() for i in range(40)}
            for split in ("train", "test")
        )
        assert not train & test


@pytest.mark.parametrize("kind", KINDS)
def test_captions_tell_pictures_apart(kind: str) -> None:
    said = {generate(i, kind=kind).captions[0] for i in range(300)}
    assert len(said) > 280


@pytest.mark.parametrize("kind", ["scene", "chart", "table", "document"])
def test_every_colour_that_is_named_is_in_the_picture(kind: str) -> None:
    for index in range(40):
        item = generate(index, kind=kind, size=192)
        pixels = np.asarray(item.image).reshape(-1, 3).astype(int)
        for colour in COLOURS:
            if f" {colour.en} " in f" {item.captions[0].replace(',', ' ')} ":
                near = np.abs(pixels - np.array(colour.rgb)).max(axis=1) < 12
                assert near.sum() > 30, (index, colour.en, item.captions[0])


def test_the_number_of_table_lines_is_the_number_of_rows() -> None:
    words = ("zero", "one", "two", "three", "four", "five", "six")
    for index in range(20):
        item = generate(index, kind="table", size=240)
        edge = np.asarray(item.image)[:, 24].astype(int)  # a column of pixels inside column one
        rule = (np.abs(edge - 115).max(axis=1) < 40).astype(int)
        lines = int((np.diff(np.concatenate([[0], rule])) == 1).sum())
        rows = next(n for n, word in enumerate(words) if f"with {word} rows" in item.captions[0])
        assert lines >= rows  # cell text may add to it, never take away


@pytest.mark.parametrize(
    ("word", "expected"), [("원", "원이"), ("막대", "막대가"), ("별", "별이"), ("하트", "하트가")]
)
def test_korean_particles_follow_the_last_syllable(word: str, expected: str) -> None:
    assert particle(word, "이", "가") == expected


def test_a_korean_list_joins_its_last_two() -> None:
    assert listed_ko(["빨강", "파랑", "초록"]) == "빨강, 파랑과 초록"


@pytest.mark.parametrize("processes", [1, 2])
def test_many_at_once_are_the_same_pictures(processes: int) -> None:
    found = render_arrays(range(7), size=48, processes=processes)
    assert found.pixels.shape == (7, 48, 48, 3)
    assert np.array_equal(found.pixels[3], np.asarray(generate(3, size=48).image))
    assert found.texts[3][0] == generate(3).captions[0]


def test_a_written_set_is_balanced_distinct_and_readable(tmp_path: Path) -> None:
    folder = write_dataset(tmp_path / "new", 25, languages=("en", "ko"))
    english, korean = (read_samples(folder / f"captions.{code}.csv") for code in ("en", "ko"))
    assert [s.id for s in english] == [s.id for s in korean]
    assert len({s.texts for s in english}) == 25
    labels = [s.label for s in read_samples(folder / "images")]
    assert {labels.count(kind) for kind in KINDS} == {5}


def test_nothing_is_overwritten_and_nothing_half_written(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "mine").write_text("x")
    with pytest.raises(UsageError, match="the folder is not empty"):
        write_dataset(tmp_path, 5)
    monkeypatch.setattr("encoderlab.data.synthetic.write._write_table", lambda *a: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write_dataset(tmp_path / "new", 5)
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_an_unknown_kind_is_met_with_a_suggestion() -> None:
    with pytest.raises(UsageError, match="'chart'"):
        generate(0, kind="chrt")


def test_the_generator_draws_what_it_is_given() -> None:
    draw = DataGenerator(size=128, seed=3)
    chart = draw.generate_bar_chart([3, 1, 2], ["a", "b", "c"], "Sales")
    table = draw.generate_table_image([[1, 2], [3, 4]], ["x", "y"])
    page = draw.generate_document_image("Title", ["A paragraph of words. " * 9] * 9)
    assert chart.size == table.size == page.size == (128, 128)
    scenes = draw.generate_simple_images(4)
    assert len({caption for _, caption in scenes}) == 4
    kinds = draw.generate_categorized_images(2)
    assert set(kinds) == set(KINDS)
    assert all(len(pictures) == 2 for pictures in kinds.values())


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda d: d.generate_bar_chart([]), "needs values from 0 up"),
        (lambda d: d.generate_bar_chart([1, -1]), "needs values from 0 up"),
        (lambda d: d.generate_bar_chart([1, 2], ["a"]), "labels and values do not match"),
        (lambda d: d.generate_table_image([[1], [1, 2]]), "rows of one length"),
    ],
)
def test_the_generator_says_what_it_cannot_draw(make, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        make(DataGenerator())
