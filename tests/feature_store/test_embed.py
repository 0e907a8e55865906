"""Many images at once: order kept, bad ones listed, memory run out survived."""

from pathlib import Path

import numpy as np
import pytest
import torch

from encoderlab.data import Sample, read_samples
from encoderlab.encoders.dual import DualEncoder, load_dual
from encoderlab.errors import WorkError
from encoderlab.feature_store.extract import embed_batches, embed_samples


@pytest.fixture(scope="module")
def encoder(clip_folder: Path) -> DualEncoder:
    return load_dual(str(clip_folder), "cpu", "float32")


@pytest.mark.parametrize("batch_size", [1, 3, 20, 64])
def test_the_batch_size_changes_nothing(encoder, world, batch_size):
    samples = read_samples(world / "images")
    one_by_one = np.concatenate([encoder.embed_images([sample.load()]) for sample in samples])
    result = embed_samples(encoder, samples, batch_size)
    np.testing.assert_allclose(result.vectors, one_by_one, atol=1e-5)
    assert result.samples == samples
    sizes = [size for _, part in embed_batches(encoder, samples, batch_size) for size in part]
    assert sizes == [(96, 96)] * len(samples)


def test_embeddings_are_computed_once_where_a_store_is_given(encoder, world, tmp_path, monkeypatch):
    samples = [*read_samples(world / "images"), Sample("gone", tmp_path / "gone.jpg")]
    plain = embed_samples(encoder, samples, 3)
    first = embed_samples(encoder, samples, 3, tmp_path / "store")
    monkeypatch.setattr(encoder, "encode_pixels", None)  # nothing is left to compute
    again = embed_samples(encoder, samples, 3, tmp_path / "store")
    for result in (first, again):
        np.testing.assert_array_equal(result.vectors, plain.vectors)
        assert result.samples == plain.samples
        assert [skipped.id for skipped in result.skipped] == ["gone"]


def test_vectors_that_are_not_finite_are_refused(encoder, world, monkeypatch):
    samples = read_samples(world / "images")[:4]
    for side, embed in (
        ("encode_image", lambda: embed_samples(encoder, samples, 2)),
        ("encode_image", lambda: encoder.embed_images([samples[0].load()])),
        ("encode_text", lambda: encoder.embed_texts(["a", "b"])),
    ):
        plain = getattr(encoder.model, side)
        with monkeypatch.context() as overflow:
            overflow.setattr(encoder.model, side, lambda x, plain=plain: plain(x) * torch.inf)
            with pytest.raises(WorkError, match="vectors that are not finite"):
                embed()


def test_bad_images_are_listed_and_the_others_keep_their_order(encoder, world, tmp_path):
    good = read_samples(world / "images")[:4]
    (tmp_path / "empty.jpg").touch()
    bad = [Sample("gone", tmp_path / "gone.jpg"), Sample("empty", tmp_path / "empty.jpg")]
    result = embed_samples(encoder, [good[0], bad[0], good[1], bad[1], *good[2:]], 2)
    assert result.samples == good
    assert [(s.id, s.reason) for s in result.skipped] == [
        ("gone", "there is no such file"),
        ("empty", "the file is empty"),
    ]


def test_the_batch_is_halved_when_memory_runs_out(encoder, world, monkeypatch, capsys):
    samples = read_samples(world / "images")
    expected = embed_samples(encoder, samples).vectors
    embed = encoder.encode_pixels
    tried = []

    def tight(pixels: torch.Tensor) -> torch.Tensor:
        tried.append(len(pixels))
        if len(pixels) > 3:
            raise torch.OutOfMemoryError("out of memory")
        return embed(pixels)

    monkeypatch.setattr(encoder, "encode_pixels", tight)
    result = embed_samples(encoder, samples, 12)
    np.testing.assert_allclose(result.vectors, expected, atol=1e-5)
    assert tried[:3] == [12, 6, 3]
    assert "going on with batches of 3" in capsys.readouterr().err


def test_one_image_too_many_ends_the_work_in_words(encoder, world, monkeypatch):
    def never(pixels: torch.Tensor) -> torch.Tensor:
        raise torch.OutOfMemoryError("out of memory")

    monkeypatch.setattr(encoder, "encode_pixels", never)
    with pytest.raises(WorkError, match="one image at a time"):
        embed_samples(encoder, read_samples(world / "images"), 4)


def test_a_bug_is_not_taken_for_lack_of_memory(encoder, world, monkeypatch):
    def broken(pixels: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("shapes do not match")

    monkeypatch.setattr(encoder, "encode_pixels", broken)
    with pytest.raises(RuntimeError, match="shapes do not match"):
        embed_samples(encoder, read_samples(world / "images"), 4)
