"""Samples of an alignment experiment: which, how many, from where."""

import pytest
from PIL import Image

from encoderlab.data.typed_samples import typed_samples
from encoderlab.errors import MissingError, UsageError


def test_built_in_samples_are_continued_by_pictures_of_their_types():
    chosen = typed_samples(n_per_type=5)
    assert chosen.types == ["chart", "table", "document"]
    assert len(chosen.samples) == 15
    assert chosen.source == "9 built-in samples and 6 pictures of the synthetic world"
    assert len({sample.id for sample in chosen.samples}) == 15
    assert typed_samples(n_per_type=2).source == "6 built-in samples"


def test_pictures_are_of_the_split_that_no_bundled_model_was_trained_on():
    chosen = typed_samples("synthetic", n_per_type=3)
    assert chosen.types == ["scene", "chart", "table", "document", "math"]
    assert all(sample.id.startswith("synthetic/test/") for sample in chosen.samples)
    assert len({sample.texts for sample in chosen.samples}) == 15


def test_data_types_are_chosen_and_unknown_ones_refused():
    assert typed_samples("synthetic", ["math"], 2).types == ["math"]
    assert typed_samples(None, ["scene", "chart"], 2).types == ["scene", "chart"]
    with pytest.raises(UsageError, match=r"unknown data type: got 'chrt'.*Did you mean 'chart'"):
        typed_samples(None, ["chrt"])


def test_records_about_one_image_are_one_sample(tmp_path):
    for name in "abc":
        Image.new("RGB", (8, 8)).save(tmp_path / f"{name}.png")
    (tmp_path / "pairs.csv").write_text("image_path,caption\na.png,one\nb.png,two\na.png,three\n")
    chosen = typed_samples(tmp_path / "pairs.csv", n_per_type=9)
    assert [sample.texts for sample in chosen.samples] == [("one", "three"), ("two",)]


def test_a_larger_set_is_drawn_from_by_the_seed_and_kept_in_order(tmp_path):
    lines = ["image_path,caption"]
    for i in range(20):
        Image.new("RGB", (8, 8)).save(tmp_path / f"{i:02}.png")
        lines.append(f"{i:02}.png,caption {i:02}")
    (tmp_path / "pairs.csv").write_text("\n".join(lines))
    first, again, other = (
        [s.texts[0] for s in typed_samples(tmp_path / "pairs.csv", n_per_type=5, seed=s).samples]
        for s in (0, 0, 1)
    )
    assert first == again != other
    assert first == sorted(first) and first != [f"caption {i:02}" for i in range(5)]


def test_data_that_is_not_there_or_says_nothing_is_refused(tmp_path):
    with pytest.raises(MissingError, match="data root is not there"):
        typed_samples(tmp_path / "none")
    with pytest.raises(MissingError, match="no such data"):
        typed_samples(tmp_path / "none.csv")
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    with pytest.raises(UsageError, match="no image has a text"):
        typed_samples(tmp_path)
