"""Training a compressor through a frozen VLM: the loss, its gradient, and what it reaches."""

from __future__ import annotations

import json

import pytest
import torch

from encoderlab.cli.main import main
from encoderlab.compression.answer_loss import AnswerLoss, AskedTokens
from encoderlab.compression.compressor import Compressor
from encoderlab.compression.trainer import CompressorTrainer, Recipe
from encoderlab.errors import UsageError
from encoderlab.models.token_compressor import AutoencoderShape
from encoderlab.training.devices import make_fabric
from encoderlab.vlm.model import VLM
from encoderlab.vlm.questions import synthetic_questions

LAYER, GRID, BUDGET = 3, (12, 12), (2, 2)
SHAPE = AutoencoderShape(192, GRID, (BUDGET,), 8)
WORDS = ["compress", "--model", "tiny-siglip", "--answers", "tiny-vlm",
         "data.n_samples=24", "--batch-size", "8",
         "--dtype", "float32", "hardware.precision=fp32", "--epochs", "1"]  # fmt: skip


@pytest.fixture(scope="module")
def answers(tmp_path_factory):
    vlm = VLM.load("tiny-vlm", "cpu", "float32")
    store = tmp_path_factory.mktemp("store")
    train = AskedTokens(vlm, synthetic_questions("train", range(24), ["en", "ko"]), store)
    held = AskedTokens(vlm, synthetic_questions("train", range(500, 510), ["en"]), store)
    return AnswerLoss(vlm, train, held)


@pytest.fixture(scope="module")
def fabric():
    return make_fabric("cpu", precision="fp32")


def trainer(answers, fabric, folder, initial=None, **recipe):
    values = {"epochs": 2, "batch_size": 16, "start": "average", "answers": "a VLM", **recipe}
    return CompressorTrainer(
        SHAPE, answers.train, answers.validation, Recipe.of(**values), fabric, folder,
        answers=answers, initial=initial,
    )  # fmt: skip


def test_the_loss_is_that_of_the_log_likelihoods(answers):
    rows = [5, 0, 17]
    tokens = answers.train.of(rows) + torch.randn(3, 144, 192)
    questions = [answers.train.questions[row] for row in rows]
    logs = answers.vlm.log_likelihood(
        tokens, [q.text for q in questions], [q.answers[0] for q in questions]
    )
    loss, count = answers(tokens, rows)
    assert float(loss) == pytest.approx(-float(logs.sum()), rel=1e-5)
    assert count == sum(len(answers.vlm.prompter.answer_ids(q.answers[0])) for q in questions)


def test_the_metrics_of_all_tokens_are_those_of_the_plain_vlm(answers):
    questions = answers.validation.questions
    tokens = answers.vlm.vision_tokens([q.image.load() for q in questions])
    texts, right = [q.text for q in questions], [q.answers[0] for q in questions]
    said = [a.text for a in answers.vlm.answers(tokens, texts)]
    logs = answers.vlm.log_likelihood(tokens, texts, right)
    count = sum(len(answers.vlm.prompter.answer_ids(text)) for text in right)
    assert answers.full["answer_nll"] == pytest.approx(-float(logs.sum()) / count, rel=1e-4)
    hits = [a.lower() == b.lower() for a, b in zip(said, right, strict=True)]
    assert answers.full["answers"] == pytest.approx(sum(hits) / 10)


def test_one_step_follows_the_gradient_of_both_losses(answers, fabric, tmp_path):
    run = trainer(answers, fabric, tmp_path, wgan_weight=0, answers_weight=3.0, grad_clip=0)
    rows, model = list(range(16)), run.model
    tokens = answers.train.batch(rows)
    ready = model.scale(tokens)
    decoded = model.decoder(model.compressor(ready, BUDGET), BUDGET)
    cosine = torch.nn.functional.cosine_similarity(decoded, ready, dim=-1).mean()
    nll, count = answers(model.scale.back(decoded), rows)
    loss = (decoded - ready).square().mean() + 1 - cosine + 3.0 * nll / count
    expected = torch.autograd.grad(loss, list(model.parameters()), allow_unused=True)
    values = run._compressor_step(rows, torch.Generator())
    assert values["loss/answers"] == pytest.approx(float(nll.detach()) / count, rel=1e-4)
    assert values["gradient/answers"] > 0
    for parameter, gradient in zip(model.parameters(), expected, strict=True):
        torch.testing.assert_close(
            parameter.grad, torch.zeros_like(parameter) if gradient is None else gradient,
            rtol=1e-3, atol=1e-5,
        )  # fmt: skip


@pytest.mark.slow
def test_training_lowers_the_loss_and_leaves_the_vlm_as_it_is(answers, fabric, tmp_path):
    before = {name: value.clone() for name, value in answers.vlm.state_dict().items()}
    run = trainer(answers, fabric, tmp_path, epochs=4, wgan_weight=0, lr=1e-3)
    done = run.run()
    assert done.history[-1]["loss/answers"] < done.history[1]["loss/answers"]
    first = [row["val/answer_nll"] for row in done.history]
    assert min(first[1:]) < first[0]
    assert done.best_epoch == first.index(min(first))
    assert all(parameter.grad is None for parameter in answers.vlm.parameters())
    for name, value in answers.vlm.state_dict().items():
        assert torch.equal(value, before[name])


def test_it_begins_where_another_one_ended_and_is_called_by_its_loss(answers, fabric, tmp_path):
    trainer(answers, fabric, tmp_path / "a", epochs=1).run()
    ended = Compressor.from_checkpoint(tmp_path / "a" / "checkpoints" / "latest.pt")
    assert (ended.label, ended.about["answers_weight"]) == ("trained_answers", 1.0)
    begun = trainer(answers, fabric, tmp_path / "b", ended, init="a")
    for name, value in begun.model.state_dict().items():
        assert torch.equal(value, ended.model.state_dict()[name])
    assert Compressor.from_pretrained("tiny-clip-12to6").label == "trained"


def test_a_run_that_is_resumed_ends_with_the_same_numbers(answers, fabric, tmp_path):
    whole = trainer(answers, fabric, tmp_path / "whole")
    done = whole.run()
    again = trainer(answers, fabric, tmp_path / "again")
    again.resume(tmp_path / "whole" / "checkpoints" / "checkpoint_epoch_1.pt")
    assert again.run().history == done.history
    for ours, theirs in zip(
        whole.model.state_dict().values(), again.model.state_dict().values(), strict=True
    ):
        assert torch.equal(ours, theirs)
    other = trainer(answers, fabric, tmp_path / "other", answers_weight=2.0)
    with pytest.raises(UsageError) as error:
        other.resume(tmp_path / "whole" / "checkpoints" / "latest.pt")
    assert error.value.got == "answers_weight=2.0"


def test_answers_alone_are_something_to_learn_from():
    assert Recipe.of(ae_weight=0.0, wgan_weight=0.0, answers="a VLM").answers_weight == 1.0
    with pytest.raises(UsageError, match="all loss weights are 0"):
        Recipe.of(ae_weight=0.0, wgan_weight=0.0)


# -- as it is typed ------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_bundled_compressor_goes_on_through_a_vlm(tmp_path):
    words = [*WORDS, "--init", "tiny-siglip-12to3", "--store", str(tmp_path / "store")]
    assert main([*words, "--output-dir", str(tmp_path / "run")]) == 0
    result = json.loads((tmp_path / "run" / "run.json").read_text())["result"]
    assert (result["train_images"], result["val_images"]) == (24, 6)
    assert result["answers"] == "tiny-vlm" and result["budgets"] == [[3, 3]]
    assert {"answer_nll", "answers", "answers_of_all_tokens"} <= set(result["validation"])
    made = Compressor.from_pretrained(tmp_path / "run")
    assert (made.label, made.about["init"]) == ("trained_answers", "tiny-siglip-12to3")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--layer", "2"], "'tiny-vlm: tiny-siglip, layer 3'"),
        (["--model", "tiny-clip"], "'tiny-vlm: tiny-siglip, layer 3'"),
        (["--images", "synthetic"], "two sources of images"),
        (["--cache", "int8"], "--cache has no effect"),
        (["--init", "tiny-siglip-12to3", "--grid", "3"], "--grid has no effect"),
        (["--init", "nowhere"], "no such compressor"),
        (["--init", "tiny-siglip-12to3", "--layer", "2"], "trained on other tokens"),
        (["--init", "tiny-siglip-12to3", "--model", "tiny-clip"], "trained on other tokens"),
    ],
)  # fmt: skip
def test_a_mistake_is_one_sentence(words, sentence, tmp_path, capsys):
    assert main([*WORDS, *words, "--output-dir", str(tmp_path / "out")]) in (2, 3)
    said = capsys.readouterr().err
    assert sentence in said and "Traceback" not in said and "training:" not in said


def test_a_vlm_that_reduces_tokens_itself_is_refused(tmp_path, capsys):
    VLM.build("tiny-siglip", reduce="average:36", device="cpu").save(tmp_path / "vlm")
    words = [*WORDS, "--answers", str(tmp_path / "vlm"), "--output-dir", str(tmp_path / "out")]
    assert main(words) == 2
    assert "--reduce average:36'" in capsys.readouterr().err


def test_a_weight_without_a_vlm_has_no_effect(capsys):
    assert main(["compress", "loss.answers_weight=2"]) == 2
    assert "loss.answers_weight has no effect" in capsys.readouterr().err
