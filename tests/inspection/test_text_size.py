"""`text-size`: what is drawn, which tokens are read, and the size that is said."""

from statistics import NormalDist
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from tests.small_checkpoints import save_vision

import encoderlab
from encoderlab.core.score import Score, wilson
from encoderlab.data.synthetic import labelled
from encoderlab.data.synthetic.labelled import PrintedWords, highest_word, printed_words
from encoderlab.errors import UsageError
from encoderlab.inspection.text_size import patch_weights, readable


@pytest.mark.parametrize("height", [4, 12, highest_word(96)])
def test_words_are_as_high_as_they_say_where_they_say(height):
    drawn = printed_words(40, height, seed=1)
    again = printed_words(40, height, seed=1)
    for picture, same, (left, top, right, bottom) in zip(
        drawn.pictures, again.pictures, drawn.boxes.tolist(), strict=True
    ):
        assert picture.tobytes() == same.tobytes()
        assert bottom - top == height
        assert 0 <= left < right <= 96 and 0 <= top < bottom <= 96
        # The ground has colours of its own; the ink is grey and far from the ground's tone.
        pixels = np.asarray(picture, dtype=float)
        box = pixels[top:bottom, left:right]
        ground = np.median(pixels)
        ink = (np.abs(box.mean(axis=2) - ground) > 60) & (np.ptp(box, axis=2) < 40)
        if height > 4:
            assert ink[0].any() and ink[-1].any() and ink[:, 0].any() and ink[:, -1].any()


def test_words_and_places_of_the_splits_are_disjoint():
    sides = {split: printed_words(600, 12, split=split) for split in ("train", "test")}
    words = {split: set(drawn.words) for split, drawn in sides.items()}
    assert not words["train"] & words["test"]
    assert {len(word) for word in words["train"]} == {3}
    for split, drawn in sides.items():
        assert set(drawn.digits) == set("0123456789")
        assert drawn.digits.tolist() == [word[1] for word in drawn.words]
        x, y = (drawn.boxes[:, :2] + drawn.boxes[:, 2:]).T / 2 >= 48
        assert ((x == y) == (split == "train")).all()
        assert 0.4 < y.mean() < 0.6


@pytest.mark.parametrize("given", [{"height": 2}, {"height": 31}, {"height": 9, "split": "val"}])
def test_words_that_cannot_be_drawn_are_refused(given):
    with pytest.raises(UsageError):
        printed_words(1, **given)


def test_a_box_is_shared_out_by_area():
    rng = np.random.default_rng(0)
    corner = rng.integers(0, 20, (30, 2))
    boxes = np.concatenate([corner, corner + rng.integers(1, 12, (30, 2))], axis=1)
    weights = patch_weights(boxes, (4, 4), 8)
    for (left, top, right, bottom), row in zip(boxes.tolist(), weights, strict=True):
        counts = np.zeros((4, 4))
        for y in range(top, bottom):
            for x in range(left, right):
                counts[y // 8, x // 8] += 1
        np.testing.assert_allclose(row, counts.ravel() / counts.sum())


def _score(value, n=300):
    return Score(value, *wilson(value * n, n), 0.1, n, "a test")


def test_the_threshold_is_half_way_from_chance_to_always():
    threshold, read = readable([_score(value) for value in (0.2, 0.58, 0.7, 0.9)])
    assert threshold == pytest.approx(0.55) and read == [False, False, True, True]


def test_intervals_hold_for_all_heights_together():
    score = _score(184 / 300)
    assert score.ci_low > 0.55
    for count in (1, 7):
        # The Wilson interval contains p where (share - p)^2 <= z^2 p (1 - p) / n.
        z = NormalDist().inv_cdf(1 - 0.025 / count)
        above = z**2 * 0.55 * 0.45 / 300 < (184 / 300 - 0.55) ** 2
        assert readable([score] * count)[1] == [above] * count
    assert above is False


class Reader:
    """An encoder of 96 x 96 pixels in patches of 8 whose tokens say the level of each patch."""

    name, fingerprint, image_size, patch_size = "reader", "none", 96, 8

    def encode_pixels(self, pixels, layers):
        patches = pixels[:, 0].float().unfold(1, 8, 8).unfold(2, 8, 8).mean(dim=(3, 4))
        level = (patches / 25).round().long().clamp(0, 10).flatten(1)
        tokens = torch.nn.functional.one_hot(level, 11)
        return SimpleNamespace(layers={layers[0]: tokens}, grid=(12, 12))


def test_the_smallest_height_that_is_planted_is_found(monkeypatch):
    """The level of the digit's patch says the digit, from 8 pixels on; those around are random."""

    def drawn(count, height, *, size, split, seed):
        rng = np.random.default_rng([height, split == "test"])
        digits = rng.integers(0, 10, count)
        levels = rng.integers(0, 10, (count, 12, 12))
        places = rng.integers(0, 12, (count, 2))
        if height >= 8:
            levels[np.arange(count), places[:, 1], places[:, 0]] = digits
        pictures = [Image.fromarray((25 * level).astype(np.uint8)).resize((96, 96), 0)
                    .convert("RGB") for level in levels]  # fmt: skip
        boxes = np.concatenate([8 * places, 8 * places + 8], axis=1)
        return PrintedWords(pictures, np.array([f"1{digit}1" for digit in digits]), boxes)

    monkeypatch.setattr(labelled, "printed_words", drawn)
    monkeypatch.setattr("encoderlab.encoders.vision.load_vision", lambda *_, **__: Reader())
    result = encoderlab.text_size(encoders=["reader"], heights=[12, 4, 8], n_train=120, n_test=60)
    (found,) = result.encoders
    assert [row.height for row in found.heights] == [4, 8, 12]
    assert [row.patches for row in found.heights] == [0.5, 1, 1.5]
    accuracies = [row.accuracy.value for row in found.heights]
    assert accuracies[0] < 0.3 and accuracies[1:] == [1, 1]
    assert [row.read for row in found.heights] == [False, True, True]
    assert found.smallest == 8 and "8 pixels" in result.to_text()
    frame = result.to_pandas()
    assert frame["encoder"].tolist() == ["reader"] * 3 and frame["height"].tolist() == [4, 8, 12]
    assert frame["accuracy.value"].tolist() == accuracies
    values = [line.get_ydata() for line in result.plot().axes[0].lines]
    assert any(np.array_equal(drawn, accuracies) for drawn in values)


@pytest.mark.parametrize(
    ("shares", "smallest", "said"),
    [
        ((0.2, 0.8, 0.4, 0.3), None, "16 pixels, but not of 32 and 64 pixels"),
        ((0.2, 0.8, 0.4, 0.8), 64, "from 64 pixels on"),
        ((0.2, 0.3, 0.8, 0.8), 32, "from 32 pixels on"),
        ((0.2, 0.3, 0.4, 0.3), None, "no height"),
    ],
)
def test_a_height_from_which_on_all_are_read(shares, smallest, said, monkeypatch):
    scores = iter([_score(share) for share in shares])
    monkeypatch.setattr("encoderlab.metrics.linear_probe.linear_probe", lambda *_: next(scores))
    monkeypatch.setattr("encoderlab.encoders.vision.load_vision", lambda *_, **__: Wide())
    result = encoderlab.text_size(encoders=["wide"], heights=[8, 16, 32, 64], n_train=20, n_test=20)
    (found,) = result.encoders
    assert found.smallest == smallest and said in found.to_text()
    (label,) = (text.get_text() for text in result.plot().axes[0].get_legend().get_texts())
    if smallest is not None:
        assert f"from {smallest} pixels" in label
    else:
        assert "on" not in label.split() and ("not 64 pixels, but 16" in label) == ("16" in said)


@pytest.mark.parametrize("heights", [[1], [9, 2]])
def test_heights_are_refused_before_an_encoder_is_loaded(heights, monkeypatch):
    monkeypatch.delattr("encoderlab.encoders.vision.load_vision")
    with pytest.raises(UsageError):
        encoderlab.text_size(heights=heights)


def test_a_height_above_the_picture_is_refused_before_a_probe_is_fitted(monkeypatch):
    monkeypatch.setattr("encoderlab.encoders.vision.load_vision", lambda *_, **__: Reader())
    monkeypatch.setattr(Reader, "encode_pixels", None)
    with pytest.raises(UsageError):
        encoderlab.text_size(encoders=["reader"], heights=[9, 31])


@pytest.mark.parametrize("command", ["text_size", "registers"])
def test_a_cnn_is_answered_with_what_would_do(command, tmp_path):
    folder = str(save_vision("convnext", tmp_path))
    asked = {"encoders": [folder]} if command == "text_size" else {"model": folder}
    with pytest.raises(UsageError) as raised:
        getattr(encoderlab, command)(device="cpu", **asked)
    assert "ViT" in raised.value.want


class Wide(Reader):
    """One of 224 x 224 pixels."""

    image_size = 224

    def encode_pixels(self, pixels, layers):
        tokens = torch.zeros(len(pixels), 28 * 28, 1)
        return SimpleNamespace(layers={layers[0]: tokens}, grid=(28, 28))


@pytest.mark.parametrize("encoders", [[], ["tiny-clip", "tiny-clip"]])
def test_encoders_are_named_once(encoders):
    with pytest.raises(UsageError):
        encoderlab.text_size(encoders=encoders)


def test_a_real_encoder_is_read_and_drawn(tmp_path):
    result = encoderlab.text_size(
        heights=[24], n_train=40, n_test=20, device="cpu", dtype="float32", out=tmp_path
    )
    (found,) = result.encoders
    assert (found.encoder, found.image_size, found.patch_size) == ("tiny-clip", 96, 8)
    assert found.heights[0].accuracy.n == 20
    assert (tmp_path / "text_size.png").is_file() and (tmp_path / "text_size.npz").is_file()
