"""Extraction: computed once, whatever a run left behind. Kills: tests/faults."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from filelock import FileLock

from encoderlab.data import Sample, read_samples
from encoderlab.encoders.text import load_text
from encoderlab.encoders.vision import VisionEncoder, load_vision
from encoderlab.errors import UsageError, WorkError
from encoderlab.feature_store.extract import extract_images, extract_texts
from encoderlab.feature_store.store import FeatureTable, TableKey, digest_of

FP32 = {"device": "cpu", "dtype": "float32"}


@pytest.fixture(scope="module")
def encoder(clip_folder: Path) -> VisionEncoder:
    return load_vision(clip_folder, **FP32)


@pytest.fixture
def samples(world: Path) -> list[Sample]:
    return read_samples(world / "images")


def test_features_are_those_of_the_encoder(encoder, samples, tmp_path):
    what = ("pooled", "cls", "patches", "patches@1", "mean@-1")
    result = extract_images(encoder, samples, tmp_path, what=what, batch_size=5, chunk_size=7)
    features = encoder.encode([sample.load() for sample in samples], layers=(1, -1))
    last = encoder.n_layers
    for name, expected in (
        ("pooled", features.pooled), ("cls", features.cls), ("patches", features.patches),
        ("patches@1", features.layers[1]), (f"mean@{last}", features.layers[last].mean(dim=1)),
    ):  # fmt: skip
        np.testing.assert_allclose(result.array(name), expected, atol=1e-4)
    np.testing.assert_array_equal(result.array("mean@-1"), result.array(f"mean@{last}"))
    assert result.samples == samples and result.computed == len(samples)
    order = [3, 0, 5]
    np.testing.assert_array_equal(result.rows(order, "patches"), result.array("patches")[order])


def test_what_is_stored_is_not_computed_again(encoder, samples, tmp_path, monkeypatch):
    first = extract_images(encoder, samples, tmp_path)
    monkeypatch.setattr(encoder, "encode_pixels", None)  # calling it would fail
    again = extract_images(encoder, samples[::-1], tmp_path)
    assert again.computed == 0
    np.testing.assert_array_equal(again.array(), first.array()[::-1])
    assert not list((tmp_path / ".locks").iterdir())


def test_only_the_new_samples_and_the_new_kinds_are_computed(encoder, samples, tmp_path):
    extract_images(encoder, samples[:4], tmp_path)
    assert extract_images(encoder, samples, tmp_path).computed == len(samples) - 4
    more = extract_images(encoder, samples, tmp_path, what=("pooled", "cls"))
    assert more.computed == len(samples)
    assert extract_images(encoder, samples, tmp_path, what=("cls",)).computed == 0


def test_twins_are_computed_once(encoder, samples, tmp_path):
    twins = [samples[0], Sample("twin", samples[0].image), samples[1]]
    result = extract_images(encoder, twins, tmp_path)
    assert result.computed == 2 and len(result) == 3
    np.testing.assert_array_equal(result.array()[0], result.array()[1])


def test_bad_images_are_listed_now_and_later(encoder, samples, tmp_path):
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "text.png").write_text("no image")
    bad = [
        Sample("gone", tmp_path / "gone.jpg"),
        Sample("empty", tmp_path / "empty.jpg"),
        Sample("text", tmp_path / "text.png"),
    ]
    mixed = [bad[0], samples[0], bad[1], samples[1], bad[2]]
    for _ in range(2):
        result = extract_images(encoder, mixed, tmp_path / "store", batch_size=2)
        assert result.samples == samples[:2]
        assert {s.id: s.reason for s in result.skipped} == {
            "gone": "no such file or directory",
            "empty": "the file is empty",
            "text": "it is no image in a format we read",
        }
    assert result.computed == 0, "what cannot be read is not tried again"


def test_nothing_but_bad_images_is_no_crash(encoder, tmp_path):
    (tmp_path / "empty.jpg").touch()
    result = extract_images(encoder, [Sample("e", tmp_path / "empty.jpg")], tmp_path / "store")
    assert len(result) == 0 and len(result.skipped) == 1 and result.array().shape[0] == 0


def test_out_of_memory_halves_the_batch(encoder, samples, tmp_path, monkeypatch, capsys):
    expected = extract_images(encoder, samples, tmp_path / "a").array()
    whole = encoder.encode_pixels

    def tight(pixels, **more):
        if len(pixels) > 3:
            raise torch.OutOfMemoryError("out of memory")
        return whole(pixels, **more)

    monkeypatch.setattr(encoder, "encode_pixels", tight)
    result = extract_images(encoder, samples, tmp_path / "b", batch_size=12)
    np.testing.assert_allclose(result.array(), expected, atol=1e-5)
    assert "going on with batches of 3" in capsys.readouterr().err


def test_what_is_not_finite_is_never_stored(encoder, samples, tmp_path, monkeypatch):
    plain = encoder.encode_pixels

    def overflowing(pixels, **more):
        features = plain(pixels, **more)
        pooled = features.pooled.clone()
        pooled[-1, 2] = torch.inf
        return dataclasses.replace(features, pooled=pooled)

    monkeypatch.setattr(encoder, "encode_pixels", overflowing)
    with pytest.raises(WorkError, match=r"vectors that are not finite.*pooled: 1 of 4"):
        extract_images(encoder, samples, tmp_path, batch_size=4)
    assert not list(tmp_path.rglob("*.npy"))


@pytest.mark.parametrize(
    "what, words",
    [
        ("poled", r"unknown kind of feature.*'poled'.*pooled, cls"),
        ("patches@99", r"no such layer.*99.*0 to "),
        ("projected", r"has no such feature.*projected"),
    ],
)
def test_a_kind_that_is_not_there_is_named(what, words, encoder, samples, tmp_path):
    with pytest.raises(UsageError, match=words):
        extract_images(encoder, samples, tmp_path, what=(what,))
    assert list(tmp_path.rglob("*.npy")) == []


def test_a_store_that_cannot_be_written_ends_in_words(encoder, samples, tmp_path):
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / ".locks").touch()
    with pytest.raises(WorkError, match="features cannot be stored"):
        extract_images(encoder, samples, tmp_path / "store")


def test_texts_are_stored_too(tmp_path, text_folder):
    encoder = load_text(text_folder("llama"), **FP32)
    texts = ["w1 w2", "w3", "w1 w2", "", "w4 w5 w6"]
    result = extract_texts(encoder, texts, tmp_path, layers=(1,), batch_size=2, chunk_size=3)
    features = encoder.encode(texts, layers=(1,))
    np.testing.assert_allclose(result.array(), features.pooled, atol=1e-5)
    np.testing.assert_allclose(result.array("mean@1"), features.layers[1], atol=1e-5)
    assert result.computed == 4, "a sentence that comes twice is computed once"
    assert extract_texts(encoder, texts, tmp_path, layers=(1,)).computed == 0


def test_the_last_layer_that_version_0_1_stored_is_not_taken_for_ours(tmp_path, text_folder):
    """It was behind the final norm."""
    encoder = load_text(text_folder("llama"), **FP32)
    described = json.dumps({"max_length": encoder.max_length})
    last = f"mean@{encoder.n_layers}"
    key = TableKey(encoder.name, encoder.fingerprint, described, last, "float32")
    old = FeatureTable(tmp_path, key)
    old.add([digest_of("w1")], np.full((1, encoder.width), 7, dtype=np.float32))
    result = extract_texts(encoder, ["w1"], tmp_path, layers=(-1,))
    expected = encoder.encode(["w1"], layers=(-1,)).layers[encoder.n_layers]
    np.testing.assert_allclose(result.array(last), expected, atol=1e-5)


def test_what_a_run_left_that_was_killed_beside_this_one_goes(encoder, samples, tmp_path):
    whole = extract_images(encoder, samples, tmp_path)
    (table,) = (path.parent for path in tmp_path.glob("*/key.json"))
    left = table / ".0123abcd-x1y2z3w4.part"
    left.mkdir()
    again = extract_images(encoder, samples, tmp_path)
    assert not left.exists()
    assert (again.array("pooled") == whole.array("pooled")).all()


def test_the_lock_of_a_run_killed_after_its_last_chunk_goes(encoder, samples, tmp_path):
    extract_images(encoder, samples, tmp_path)
    left = tmp_path / ".locks" / "00ff"
    left.touch()
    held = FileLock(tmp_path / ".locks" / "ff00")
    with held:
        extract_images(encoder, samples, tmp_path)
        assert [path.name for path in left.parent.iterdir()] == ["ff00"]
