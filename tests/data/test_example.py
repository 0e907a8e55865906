"""The pictures that `encoderlab draw` makes for a newcomer."""

import pytest

from encoderlab.data.read import read_samples
from encoderlab.data.synthetic import KINDS
from encoderlab.data.synthetic.example import write_example
from encoderlab.errors import UsageError


def test_photos_are_a_folder_per_class_and_pairs_three_tables(tmp_path):
    made = write_example(tmp_path, photos=10, pairs=20, languages=("en", "ko"))
    photos = read_samples(made.photos)
    assert len(photos) == 10 and {photo.label for photo in photos} == set(KINDS)
    assert len({path.name for path in made.photos.rglob("*.png")}) == 10
    assert made.counts == {"photos": 10, "train": 20, "val": 4, "test": 4}
    for part in ("train", "val", "test"):
        samples = read_samples(made.pairs / f"{part}.csv")
        assert [len(sample.texts) for sample in samples] == [2] * made.counts[part]


def test_no_picture_is_in_two_parts_or_two_seeds(tmp_path):
    for seed in (0, 1):
        write_example(tmp_path / str(seed), photos=10, pairs=10, seed=seed)
    pictures = [file.read_bytes() for file in tmp_path.rglob("*.png")]
    assert len(pictures) == len(set(pictures)) == 2 * (10 + 10 + 2 + 2)


def test_what_is_there_is_not_touched(tmp_path):
    (tmp_path / "pairs").mkdir()
    with pytest.raises(UsageError, match="the folder exists already"):
        write_example(tmp_path, photos=2, pairs=5)
    assert [path.name for path in tmp_path.rglob("*")] == ["pairs"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"photos": 0}, "no such number of pictures for photos"),
        ({"pairs": 10**6}, "no such number of pictures for train"),
        ({"languages": ()}, "no language"),
        ({"languages": ("fr",)}, "unknown language: got 'fr'"),
    ],
)
def test_what_cannot_be_drawn_is_refused(tmp_path, arguments, says):
    with pytest.raises(UsageError, match=says):
        write_example(tmp_path / "new", **arguments)
    assert not (tmp_path / "new").exists()
