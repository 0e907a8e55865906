"""`e2e --answers`: what is counted, what a run leaves for the next one, and what is said of it."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from PIL import Image

import encoderlab
from encoderlab.alignment import answers
from encoderlab.errors import UsageError
from encoderlab.training import loop
from encoderlab.vlm.trainer import VLMTrainer

ENCODERS = ["tiny-clip", "tiny-dinov2"]
CPU = {"device": "cpu", "dtype": "float32"}


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return tmp_path_factory.mktemp("features")


@pytest.fixture(scope="module")
def few(store) -> dict[str, Any]:
    """Three steps of two encoders with one LLM and two seeds."""
    return {
        **CPU, "encoders": ENCODERS, "llms": ["tiny-llama"], "answers": True, "n_images": 96,
        "n_test": 15, "seeds": 2, "n_samples": 3, "epochs": 1, "features_dir": store,
    }  # fmt: skip


@pytest.fixture(scope="module")
def whole(few, tmp_path_factory):
    cells = tmp_path_factory.mktemp("cells")
    return cells, encoderlab.e2e(cells_dir=cells, **few)


def test_right_answers_are_those_that_vlm_evaluate_counts(whole, store):
    _, result = whole
    pairs = result.answers.pairs
    assert [(p.encoder, p.llm) for p in pairs] == [(name, "tiny-llama") for name in ENCODERS]
    for pair in (*pairs, *result.answers.blind):
        assert pair.accuracy["all"].value == pytest.approx(np.mean(pair.by_seed))
        assert pair.spread == pytest.approx(abs(np.diff(pair.by_seed)[0]) / 2**0.5)
    for folder, share in zip(pairs[1].folders, pairs[1].by_seed, strict=True):
        evaluated = encoderlab.vlm_evaluate(
            model=[folder], n=15, controls=False, features_dir=store, **CPU
        ).models[0]
        assert evaluated.accuracy["all"].value == pytest.approx(share)
    kinds = {kind: score.n for kind, score in pairs[0].accuracy.items()}
    assert kinds == {"all": 15, "scene": 3, "chart": 3, "table": 3, "document": 3, "math": 3}
    floor = result.answers.blind[0].accuracy
    assert all(p.accuracy[kind].chance == floor[kind].value for p in pairs for kind in floor)


def test_the_answers_are_an_outcome_beside_retrieval(whole):
    _, result = whole
    assert list(result.benchmarks)[:2] == ["held-out MRR", "right answers"]
    shares = {p.encoder: p.outcome for p in result.points if p.benchmark == "right answers"}
    assert shares == {p.encoder: float(p.accuracy["all"]) for p in result.answers.pairs}
    correlation = result.benchmarks["right answers"]["cka_linear"]
    assert correlation.undefined == "too few encoders to say: 2, and 6 are needed"
    assert result.answers.no_ceiling == correlation.undefined
    text = result.to_text()
    assert "95 % intervals over images and seeds" in text and "right answers by kind" in text


def test_cells_that_are_there_are_read_back(whole, few, monkeypatch):
    cells, result = whole
    monkeypatch.setattr(VLMTrainer, "run", lambda *_: pytest.fail("a VLM was trained again"))
    again = encoderlab.e2e(cells_dir=cells, **few)
    assert again.answers.to_json() == result.answers.to_json()
    # As a job of a sweep over seeds and encoders, whose LLM without the image is the same.
    one = encoderlab.e2e(
        cells_dir=cells, **few | {"encoders": ENCODERS[1:], "seeds": 1, "seed": 1}
    ).answers
    assert one.pairs[0].by_seed == result.answers.pairs[1].by_seed[1:]
    assert one.pairs[0].spread is None and one.no_ceiling == "there is one seed"


def test_other_test_questions_are_asked_without_training(whole, few, monkeypatch):
    cells, _ = whole
    monkeypatch.setattr(VLMTrainer, "run", lambda *_: pytest.fail("a VLM was trained again"))
    assert encoderlab.e2e(cells_dir=cells, **few | {"n_test": 10}).answers.test_questions == 10


def test_a_killed_run_goes_on_to_the_same_numbers(whole, few, tmp_path, monkeypatch):
    _, result = whole
    steps = itertools.count(1)
    train_step = VLMTrainer.train_step

    def counted(trainer, batch):
        if next(steps) == 12:  # the last step of the fourth of six VLMs
            raise KeyboardInterrupt
        return train_step(trainer, batch)

    monkeypatch.setattr(loop, "SECONDS_BETWEEN_SAVES", 0)
    monkeypatch.setattr(VLMTrainer, "train_step", counted)
    with pytest.raises(KeyboardInterrupt):
        encoderlab.e2e(cells_dir=tmp_path, **few)
    again = encoderlab.e2e(cells_dir=tmp_path, **few)
    # 11 steps before, and the 7 that were missing: none was done twice.
    assert next(steps) == 12 + 7 + 1
    for mine, other in zip(again.answers.pairs, result.answers.pairs, strict=True):
        assert (mine.by_seed, mine.accuracy) == (other.by_seed, other.accuracy)
    assert not list(tmp_path.glob("*/checkpoints"))


def test_an_image_in_both_splits_is_refused(few, tmp_path):
    lines = ["image_path,question,answer"]
    for i in range(40):
        Image.new("RGB", (8, 8), (6 * i, 0, 0)).save(tmp_path / f"{i}.png")
        lines.append(f"{i}.png,Which?,{i}")
    (tmp_path / "qa.csv").write_text("\n".join(lines))
    own = {k: v for k, v in few.items() if k not in ("n_images", "n_test")}
    with pytest.raises(UsageError, match="images of the test questions are in the training"):
        encoderlab.e2e(data=str(tmp_path / "qa.csv"), cells_dir=tmp_path, **own)


def test_settings_of_answers_need_answers():
    with pytest.raises(UsageError, match="--seeds has no effect"):
        encoderlab.e2e(seeds=2)


def _pair(encoder: str, by_seed: list[float], size: int) -> answers.PairAnswers:
    score = answers.accuracy_over_seeds(
        np.array([np.arange(100) < 100 * share for share in by_seed]), np.arange(100), 0.1
    )
    return answers.PairAnswers(
        encoder, "a", {"all": score}, tuple(by_seed), 0.0, size, 49, None, ()
    )


def test_the_ceiling_is_the_agreement_of_seeds_over_trained_encoders():
    shares = [0.2, 0.3, 0.4, 0.5, 0.6, 0.7]
    pairs = [_pair(f"e{i}", [x, x, x + 0.05], 32 * i + 32) for i, x in enumerate(shares)]
    controls = [_pair(f"untrained:e{i}", [0.9 - x, x, 0.1], 64) for i, x in enumerate(shares)]
    assert answers._ceiling([*pairs, *controls], 3) == (pytest.approx(1.0), None)
    turned = [_pair(p.encoder, [p.by_seed[0], 1 - p.by_seed[0]], 1) for p in pairs]
    assert answers._ceiling(turned, 2)[0] == pytest.approx(-1.0)
    baselines = answers._baselines([*pairs, *controls], 0)
    assert baselines["image size"].spearman == pytest.approx(1.0)
    assert baselines["patch tokens"].undefined == "all encoders have the same value"
    assert baselines["trained or not (all encoders)"].families == 12


@pytest.mark.slow
def test_a_trained_encoder_answers_more_than_the_language_model_alone(store, tmp_path):
    result = encoderlab.e2e(
        **CPU, encoders=["tiny-clip"], llms=["tiny-llama"], answers=True, controls=True, seeds=2,
        n_samples=3, epochs=1, features_dir=store, cells_dir=tmp_path,
    ).answers  # fmt: skip
    trained, untrained = (pair.accuracy["all"] for pair in result.pairs)
    assert float(trained) > trained.chance + 0.1
    assert float(trained) > float(untrained)
