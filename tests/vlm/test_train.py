"""Training, evaluating and asking a VLM, as a user does; resumed as uninterrupted."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

import encoderlab
from encoderlab.data.synthetic import generate
from encoderlab.errors import MissingError, UsageError
from encoderlab.training.devices import make_fabric
from encoderlab.vlm.evaluate import other_images
from encoderlab.vlm.model import VLM
from encoderlab.vlm.questions import Question, read_questions, synthetic_questions
from encoderlab.vlm.trainer import NAMES, Recipe, VisionTokens, VLMTrainer

RECIPE = Recipe("all", 2, 8, 2e-3, 1e-3, 0.05, None, 1.0, 4, blind=False, seed=3)


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("features")


@pytest.fixture(scope="module")
def questions() -> list[Question]:
    return synthetic_questions("train", range(24), ["en"])


@pytest.fixture
def start(questions, store):
    """Makes a trainer of 6 steps in two epochs."""

    def make(folder: Path, **options) -> VLMTrainer:
        model = VLM.build(reduce="pixel_shuffle:4", dtype="float32", device="cpu")
        data = VisionTokens(model, questions, store)
        fabric = make_fabric("cpu", precision="fp32")
        recipe = options.pop("recipe", RECIPE)
        return VLMTrainer(model, data, data, recipe, fabric, folder, **options)

    return make


def _weights(trainer: VLMTrainer) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in trainer.parameters.items()}


def test_a_resumed_run_is_the_uninterrupted_one(start, tmp_path):
    whole = start(tmp_path / "whole")
    done = whole.run()
    assert done.step == 6 and len(done.history) == 2
    for stop in (1, 4):
        part = start(tmp_path / f"part{stop}")
        for batch in list(part.batches(0))[:stop]:
            part.train_step(batch)
            part.step += 1
            if part.step == 3:
                part.end_epoch(1)
        part._save(NAMES.latest)
        again = start(tmp_path / f"again{stop}")
        again.resume(tmp_path / f"part{stop}" / "checkpoints" / NAMES.latest)
        assert again.run().history == done.history
        for name, weight in _weights(whole).items():
            assert torch.equal(again.parameters[name], weight), name


def test_a_finished_run_that_is_resumed_leaves_nothing_of_a_kill(start, tmp_path):
    start(tmp_path).run()
    left = tmp_path / "checkpoints" / f".{NAMES.latest}-abcdefgh.part"
    left.mkdir()
    again = start(tmp_path)
    again.resume(tmp_path / "checkpoints" / NAMES.latest)
    assert again.finished and not left.exists()


def test_parts_of_a_batch_have_the_gradient_of_the_whole(start, tmp_path):
    gradients = []
    for together in (None, 3):
        trainer = start(tmp_path / f"{together}", together=together)
        loss = trainer._backward(list(range(8)))
        gradients.append((loss, {n: p.grad.clone() for n, p in trainer.parameters.items()}))
    assert gradients[0][0] == pytest.approx(gradients[1][0], rel=1e-5)
    for name, gradient in gradients[0][1].items():
        assert torch.allclose(gradient, gradients[1][1][name], atol=1e-5), name


def test_out_of_memory_halves_the_part_and_goes_on(start, tmp_path, monkeypatch):
    whole = start(tmp_path / "whole")
    expected = whole._backward(list(range(8)))
    trainer = start(tmp_path / "small")
    forward = trainer.vlm.forward

    def limited(tokens, rows):
        if len(rows.ids) > 2:
            raise torch.OutOfMemoryError("too many at once")
        return forward(tokens, rows)

    monkeypatch.setattr(trainer.vlm, "forward", limited)
    assert trainer._backward(list(range(8))) == pytest.approx(expected, rel=1e-5)
    assert trainer.together == 2


def test_the_projector_alone_leaves_the_language_model(start, tmp_path):
    trainer = start(tmp_path, recipe=Recipe(**{**vars(RECIPE), "train": "projector"}))
    before = {n: p.clone() for n, p in trainer.vlm.llm.named_parameters()}
    trainer.train_step(list(range(8)))
    assert all(name.startswith("projector") for name in trainer.parameters)
    assert all(torch.equal(p, before[n]) for n, p in trainer.vlm.llm.named_parameters())


def test_a_blind_run_sees_no_image(start, tmp_path, monkeypatch):
    trainer = start(tmp_path, recipe=Recipe(**{**vars(RECIPE), "blind": True}))
    monkeypatch.setattr(VisionTokens, "of", lambda *_: pytest.fail("the image was read"))
    trainer.train_step(list(range(8)))
    trainer.evaluate(1)
    assert not any(name.startswith("projector") for name in trainer.parameters)


def test_every_question_is_asked_with_another_image():
    image = np.array([0, 0, 1, 2, 2, 3])
    for seed in range(5):
        others = other_images(image, seed)
        assert all(image[other] != image[row] for row, other in enumerate(others))
        assert len({image[other] for other in others}) == 4


# -- the commands --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def run(tmp_path_factory, store):
    folder = tmp_path_factory.mktemp("run")
    result = encoderlab.vlm_train(
        n_images=32, epochs=1, batch_size=16, reduce="pixel_shuffle:4", controls=["blind"],
        features_dir=store, logger="none", device="cpu", out=folder,
    )  # fmt: skip
    return folder, result


def test_training_gives_a_model_and_its_blind_twin(run):
    folder, result = run
    record = result.to_json()
    assert (record["questions"], record["steps"], record["image_tokens"]) == (32, 2, 9)
    assert 0 <= record["accuracy"] <= 1 and set(record["twins"]) == {"blind"}
    assert (folder / "blind" / "model" / "config.json").is_file()
    assert VLM.load(folder, device="cpu").trained_llm


def test_evaluation_counts_right_answers_beside_the_controls(run, store, tmp_path):
    folder, _ = run
    result = encoderlab.vlm_evaluate(
        model=[str(folder)], n=15, save_answers=True, features_dir=store, device="cpu", out=tmp_path
    )
    (model,) = result.to_json()["models"]
    assert model["blind_twin"] is True
    lines = [json.loads(line) for line in (tmp_path / "answers.jsonl").read_text().splitlines()]
    assert len(lines) == 15
    # Counted again by hand, as plainly as can be.
    for column, scores in (("generated", "accuracy"), ("blind", "blind"), ("shuffled", "shuffled")):
        right = [line[column].strip(" .").lower() == line["answers"][0].strip(" .").lower()
                 for line in lines]  # fmt: skip
        assert model[scores]["all"]["value"] == pytest.approx(np.mean(right))
    assert set(model["accuracy"]) == {"all", "scene", "chart", "table", "document", "math"}
    assert all(0 < line["likelihood"] <= 1 for line in lines)
    assert {c["b"] for c in result.to_json()["comparisons"]} == {
        f"{folder} (shuffled)", f"{folder} (blind)"
    }  # fmt: skip


def test_a_question_is_answered_with_candidates(run, tmp_path):
    folder, _ = run
    generate(3).image.save(tmp_path / "page.png")
    result = encoderlab.vlm_answer(
        image=tmp_path / "page.png", text="What colour is the stamp?", model=str(folder),
        candidates=3, device="cpu",
    ).to_json()  # fmt: skip
    assert 0 < result["probability"] <= 1
    assert len(result["candidates"]) <= 3
    assert result["answer"] in [c["answer"] for c in result["candidates"]]


def test_low_rank_updates_are_merged_when_saved(store, tmp_path):
    pytest.importorskip("peft")
    encoderlab.vlm_train(
        n_images=16, batch_size=16, train="lora", controls=[], reduce="pixel_shuffle:4",
        features_dir=store, logger="none", device="cpu", out=tmp_path,
    )  # fmt: skip
    model = VLM.load(tmp_path, device="cpu", dtype="float32")
    plain = VLM.build(device="cpu", dtype="float32")
    assert {n for n, _ in model.llm.named_parameters()} == {
        n for n, _ in plain.llm.named_parameters()
    }


def test_captions_train_the_projector_first(store, tmp_path):
    result = encoderlab.vlm_train(
        n_images=16, captions=16, batch_size=16, train="projector",
        reduce="pixel_shuffle:4", features_dir=store, logger="none", device="cpu", out=tmp_path,
    )  # fmt: skip
    assert not result.twins  # the language model is not trained: it is its own blind twin
    assert (tmp_path / "captions" / "checkpoints" / NAMES.best).is_file()


# -- bad input -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("record", "words"),
    [
        ({"messages": [{"role": "user", "content": "What?"}]}, "no image"),
        ({"messages": [{"role": "user", "content": [
            {"type": "image", "image": "a.png"}, {"type": "image", "image": "b.png"}]}]},
         "has 2 images"),
        ({"turns": []}, "no chat record"),
    ],
)  # fmt: skip
def test_a_record_that_is_no_question_is_refused(tmp_path, record, words):
    (tmp_path / "qa.jsonl").write_text(json.dumps(record))
    with pytest.raises(UsageError, match=words):
        read_questions(tmp_path / "qa.jsonl")


def test_turns_without_question_or_answer_are_left_out_and_counted(tmp_path):
    generate(0).image.save(tmp_path / "a.png")

    def turn(text: str, answer: str) -> list[dict]:
        return [{"role": "user", "content": text}, {"role": "assistant", "content": answer}]

    image = {"role": "user", "content": [{"type": "image", "image": "a.png"},
                                         {"type": "text", "text": "One?"}]}  # fmt: skip
    record = {"messages": [image, {"role": "assistant", "content": "1"},
                           *turn("", "2"), *turn("Three?", ""), *turn("Four?", "4")]}  # fmt: skip
    (tmp_path / "qa.jsonl").write_text(json.dumps(record))
    read = read_questions(tmp_path / "qa.jsonl")
    assert [(q.text, q.answers) for q in read.rows] == [("One?", ("1",)), ("Four?", ("4",))]
    assert [item.reason for item in read.skipped] == ["it has no question", "it has no answer"]


def test_rows_of_one_question_are_several_annotators(tmp_path):
    generate(0).image.save(tmp_path / "a.png")
    (tmp_path / "qa.csv").write_text(
        "image_path,question,answer,kind,options\n"
        "a.png,Which?,red,colour,red|blue\na.png,Which?,blue,colour,\n"
    )
    (question,) = read_questions(tmp_path / "qa.csv").rows
    assert question.answers == ("red", "blue")
    assert (question.kind, question.options) == ("colour", ("red", "blue"))


def test_data_that_is_not_there_or_no_vlm_is_refused(run, tmp_path):
    with pytest.raises(MissingError, match="no such questions"):
        read_questions(tmp_path / "none.csv")
    with pytest.raises(UsageError, match="no VLM"):
        encoderlab.vlm_answer(image="x.png", text="What?", model="tiny-clip", device="cpu")
    with pytest.raises(UsageError, match="no image"):
        encoderlab.vlm_answer(text="What?")
    with pytest.raises(UsageError, match="no question"):
        encoderlab.vlm_answer(image="x.png", text=" ")
