"""CKA and CORAL of any number of pairs: the numbers of the plain metrics, a part at a time."""

from pathlib import Path

import numpy as np
import pytest
from tests.pack import shards_of

from encoderlab import cka, load_text, load_vision
from encoderlab.alignment.stream import StreamResult, run
from encoderlab.data import read as reading
from encoderlab.data import read_samples
from encoderlab.encoders import text as encoders_text
from encoderlab.feature_store.extract import extract_images, extract_texts
from encoderlab.metrics.coral import coral
from encoderlab.metrics.moments import Moments

MODELS = {"encoders": ("tiny-clip", "tiny-dinov2"), "llms": ("tiny-llama",)}
WHERE = {"device": "cpu", "dtype": "float32"}


@pytest.fixture(scope="module")
def shards(world: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    samples = read_samples(world / "captions.csv")
    return shards_of(samples, tmp_path_factory.mktemp("shards"), 3)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("store")


@pytest.fixture(scope="module")
def found(shards: str, store: Path) -> StreamResult:
    return run(data=shards, features_dir=str(store), **MODELS, **WHERE)


def test_the_numbers_are_those_of_all_features_at_once(found, shards, store):
    samples = read_samples(shards)
    texts = extract_texts(
        load_text("tiny-llama", **WHERE), [" ".join(s.texts) for s in samples], store
    ).array()
    for encoder in MODELS["encoders"]:
        images = extract_images(load_vision(encoder, **WHERE), samples, store).array()
        (row,) = (one for one in found.rows if one.encoder == encoder)
        for name, estimator in (("cka_linear", "debiased"), ("cka_linear_biased", "biased")):
            expected = cka(images, texts, estimator=estimator).value
            assert row.scores[name].value == pytest.approx(expected, abs=1e-10)
        (cloud,) = (one.coral for one in found.clouds if one.encoder == encoder)
        plain = coral(*(x / np.linalg.norm(x, axis=1, keepdims=True) for x in (images, texts)))
        assert cloud.spectral_similarity == pytest.approx(plain.spectral_similarity, abs=1e-6)
        assert cloud.distance == pytest.approx(plain.distance, rel=1e-4)
    assert found.facts["data"]["samples"] == len(samples) == 20


def test_captions_beyond_the_context_are_warned_of_once(shards, store, monkeypatch, capsys):
    plain, whole = encoders_text.load_text, reading.read_parts
    monkeypatch.setattr(encoders_text, "load_text", lambda *a, **o: plain(*a, **o, max_length=4))
    monkeypatch.setattr(reading, "read_parts", lambda *a: whole(*a, size=1))
    for _ in range(2):  # the second time they are stored
        result = run(data=shards, features_dir=str(store), **MODELS, **WHERE)
        (warning,) = result.warnings
        assert "tiny-llama: 20 of 20 texts are longer than the context of 4 tokens" in warning
        assert capsys.readouterr().err.count("longer than the context") == 1


def test_any_number_of_parts_gives_the_same(found, shards, store, monkeypatch, capsys):
    whole = reading.read_parts

    def in_parts(source, img_root=None):
        return whole(source, img_root, size=1)

    monkeypatch.setattr(reading, "read_parts", in_parts)
    again = run(data=shards, features_dir=str(store), **MODELS, **WHERE)
    assert "part 3: 20 pairs so far" in capsys.readouterr().err
    for one, other in zip(found.rows, again.rows, strict=True):
        for name in one.scores:
            assert one.scores[name].value == pytest.approx(other.scores[name].value, abs=1e-10)
            if one.scores[name].ci_low is not None:
                assert one.scores[name].ci_low == pytest.approx(other.scores[name].ci_low)
    assert again.answer == found.answer


def test_the_run_keeps_its_state_and_figure(shards, store, tmp_path):
    result = run(data=shards, features_dir=str(store), out=tmp_path, **MODELS, **WHERE)
    state = Moments.load(tmp_path / "moments.npz")
    assert state.n == 20
    assert state.cka("tiny-clip", "tiny-llama") == result.rows[0].scores["cka_linear"].value
    assert (tmp_path / "compare_cka.png").is_file()


def test_what_cannot_be_used_is_counted(world, store, tmp_path):
    samples = read_samples(world / "captions.csv")
    word = shards_of(samples, tmp_path, 1).replace("{000..000}", "000")
    content = Path(word).read_bytes()
    broken = read_samples(word)[3].image
    damaged = content[: broken.start] + b"\0" * broken.size + content[broken.start + broken.size :]
    Path(word).write_bytes(damaged)
    result = run(data=word, features_dir=str(store), **MODELS, **WHERE)
    assert result.facts["data"]["samples"] == 19
    assert result.warnings == ("left out, image or caption unusable: 1 of the pairs",)
    assert result.facts["skipped"][0]["id"] == "s-000/000003"


def test_an_image_counts_once_whatever_names_and_parts_it_comes_in(
    found, world, store, tmp_path, monkeypatch
):
    samples = read_samples(world / "captions.csv")
    # Each image a second time in another shard, eight of them twice in one.
    many = [*samples[:8], *samples, *samples]
    data = shards_of(many, tmp_path, 3)
    whole = reading.read_parts
    monkeypatch.setattr(reading, "read_parts", lambda source, root=None: whole(source, root, 1))
    again = run(data=data, features_dir=str(store), **MODELS, **WHERE)
    assert again.facts["data"] | {"source": ""} == {
        "source": "", "samples": 48, "images": 20, "types": {"all": 20},
    }  # fmt: skip
    assert again.warnings == (
        "28 of the pairs show an image that another pair shows: each image counts once",
    )
    assert "48 samples of 20 images" in again.to_text()
    for one, other in zip(found.rows, again.rows, strict=True):
        for name, score in one.scores.items():
            for part in ("value", "ci_low", "z", "n"):
                expected = getattr(score, part)
                got = getattr(other.scores[name], part)
                assert got == expected or got == pytest.approx(expected, abs=1e-9)
