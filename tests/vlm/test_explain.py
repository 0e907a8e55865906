"""Attention as plain transformers gives it, and an ablation that an independent sum confirms."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from tests.plots.checker import faults
from transformers import AutoModelForCausalLM

import encoderlab
from encoderlab.data.synthetic import generate
from encoderlab.errors import UsageError
from encoderlab.vlm import explain as module
from encoderlab.vlm.explain import explain
from encoderlab.vlm.model import VLM, Answer
from encoderlab.vlm.plots import explained
from encoderlab.zoo import ZOO

QUESTION, ANSWER = "What colour is the stamp?", "It is red."
TOLERANCE = 1e-3  # torch's cross-entropy in fp32 differs from its log-softmax by 2e-4 nats
DOCUMENTS = range(1_000_003, 1_000_063, 5)  # every fifth image is one


@pytest.fixture(scope="module")
def vlm():
    return VLM.build(reduce="pixel_shuffle:2", dtype="float32", device="cpu")


@pytest.fixture(scope="module")
def image():
    return generate(3).image


@pytest.fixture(scope="module")
def explanation(vlm, image):
    return explain(vlm, image, QUESTION, ANSWER)


def test_attention_is_that_of_a_plain_call_of_transformers(vlm, image, explanation):
    plain = AutoModelForCausalLM.from_pretrained(
        ZOO / "tiny-llama", dtype=torch.float32, attn_implementation="eager"
    ).eval()
    before, after = vlm.prompter.question_ids(QUESTION)
    answer = vlm.prompter.answer_ids(ANSWER)
    embed = plain.get_input_embeddings()
    with torch.no_grad():
        shown = vlm.image_embeddings(vlm.vision_tokens(image))[0]
        words = [embed(torch.tensor(ids, dtype=torch.long)) for ids in (before, after + answer)]
        inputs = torch.cat([words[0], shown, words[1]])[None]
        layers = plain(inputs_embeds=inputs, output_attentions=True).attentions
    last = inputs.shape[1] - 1
    asking = range(last - len(answer), last)  # the logits there predict the answer's tokens
    expected = sum(
        layer[0, head, i, len(before) : len(before) + len(shown)]
        for layer in layers for head in range(layer.shape[1]) for i in asking
    ) / (len(layers) * layers[0].shape[1] * len(answer))  # fmt: skip
    assert explanation.attention.shape == (6, 6)
    assert np.allclose(explanation.attention.ravel(), expected.numpy(), atol=1e-6)
    assert explanation.attention_to_image == pytest.approx(float(expected.sum()), abs=1e-5)
    assert explanation.layers == len(layers)
    assert vlm.llm.config._attn_implementation != "eager"


def fall_without(vlm, image, replaced, monkeypatch) -> float:
    """By `VLM.log_likelihood`, with image tokens replaced where the projector gives them."""
    tokens = vlm.vision_tokens(image)
    whole = float(vlm.log_likelihood(tokens, [QUESTION], [ANSWER]))
    with torch.no_grad():
        shown = vlm.image_embeddings(tokens)
    mean = shown[0].mean(dim=0)
    shown[0, replaced] = mean
    with monkeypatch.context() as patch:
        patch.setattr(vlm, "image_embeddings", lambda *_: shown)
        return whole - float(vlm.log_likelihood(tokens, [QUESTION], [ANSWER]))


def test_fall_is_the_difference_of_two_log_likelihoods(vlm, image, explanation, monkeypatch):
    most = np.argsort(-explanation.attention.ravel())[: explanation.ablated].copy()
    assert explanation.ablated == 9  # a quarter of 36
    expected = fall_without(vlm, image, torch.from_numpy(most), monkeypatch)
    assert explanation.attended_fall == pytest.approx(expected, abs=TOLERANCE)
    whole = vlm.log_likelihood(vlm.vision_tokens(image), [QUESTION], [ANSWER])
    assert explanation.log_likelihood == pytest.approx(float(whole), abs=TOLERANCE)


def test_random_draws_replace_as_many_tokens(vlm, image, monkeypatch):
    everything = fall_without(vlm, image, torch.arange(36), monkeypatch)
    monkeypatch.setattr(module, "ABLATED_SHARE", 1.0)
    both = explain(vlm, image, QUESTION, ANSWER)
    falls = [both.attended_fall, *both.random_falls]
    assert falls == pytest.approx([everything] * (1 + module.DRAWS), abs=TOLERANCE)
    assert not both.supported


def test_one_seed_gives_one_set_of_draws(vlm, image, explanation):
    same, other = (explain(vlm, image, QUESTION, ANSWER, seed) for seed in (0, 1))
    assert same.random_falls == explanation.random_falls != other.random_falls
    assert len(set(other.random_falls)) == len(other.random_falls) == module.DRAWS


@pytest.mark.parametrize("reduce", ["tome:30", "kmeans:30", "average:36"])
def test_map_keeps_the_attention_of_tokens_with_and_without_a_grid(reduce, image):
    reduced = VLM.build(reduce=reduce, dtype="float32", device="cpu")
    found = explain(reduced, image, QUESTION, ANSWER)
    assert found.attention.shape == ((6, 6) if reduce.startswith("average") else (12, 12))
    assert found.attention.sum() == pytest.approx(found.attention_to_image, abs=1e-5)
    assert found.image_tokens == int(reduce.split(":")[1])


def test_tokens_without_a_place_and_empty_answers_are_refused(vlm, image):
    crossed = VLM.build(projector="cross_attention", reduce="average:36", device="cpu")
    with pytest.raises(UsageError, match="no place in the image"):
        explain(crossed, image, QUESTION, ANSWER)
    with pytest.raises(UsageError, match="nothing to explain"):
        explain(vlm, image, QUESTION, "")


# -- the bundled VLM -----------------------------------------------------------------------------


def test_map_points_at_the_stamp_that_the_question_is_about():
    bundled = VLM.load("tiny-vlm", dtype="float32", device="cpu")
    ratios, supported = [], []
    for i in DOCUMENTS:
        page = generate(i)
        found = explain(bundled, page.image, QUESTION, bundled.answer(page.image, QUESTION).text)
        rows, columns = found.attention.shape
        right = "right" in page.captions[0].split("stamp")[-1]
        y, x = (np.arange(rows) + 0.5) / rows, (np.arange(columns) + 0.5) / columns
        # The stamp is a disc of radius 0.075 in a lower corner; half a token is added on each side.
        near = np.outer(
            abs(y - 0.895) < 0.075 + 0.5 / rows,
            abs(x - (0.86 if right else 0.14)) < 0.075 + 0.5 / columns,
        )
        ratios.append(found.attention[near].sum() / found.attention.sum() / near.mean())
        supported.append(found.supported)
    assert np.median(ratios) > 2
    assert np.mean(supported) > 0.5


def test_command_writes_map_and_ablation_together(tmp_path):
    generate(3).image.save(tmp_path / "page.png")
    result = encoderlab.vlm_answer(
        image=tmp_path / "page.png", text=QUESTION, explain=True, device="cpu", out=tmp_path
    )
    found = json.loads(json.dumps(result.to_json()))["explanation"]
    with np.load(tmp_path / "explanation.npz") as arrays:
        assert np.allclose(arrays["attention"], found["attention"])
        assert np.allclose(arrays["random_falls"], found["random_falls"])
        assert float(arrays["attended_fall"]) == pytest.approx(found["attended_fall"])
    assert found["random_fall_mean"] == pytest.approx(np.mean(found["random_falls"]))
    assert found["random_fall_sd"] == pytest.approx(np.std(found["random_falls"], ddof=1))
    assert [figure["file"] for figure in result.figures] == ["explanation.png"]
    assert (tmp_path / "explanation.png").is_file()


def test_an_answer_that_cannot_be_explained_stands(tmp_path, monkeypatch, capsys):
    generate(3).image.save(tmp_path / "page.png")
    monkeypatch.setattr(VLM, "answer", lambda *args, **options: Answer("", 0.5))
    result = encoderlab.vlm_answer(
        image=tmp_path / "page.png", text=QUESTION, explain=True, device="cpu", out=tmp_path
    )
    assert result.explanation is None and not result.figures
    assert "nothing to explain" in capsys.readouterr().err


@pytest.mark.parametrize("attended", [2.0, 0.1])
def test_figure_shows_the_numbers_and_the_text_their_verdict(attended, explanation):
    falls = tuple(np.linspace(0, 1, 20))
    shown = replace(explanation, attended_fall=attended, random_falls=falls)
    record = explained(shown, generate(3).image, "색은 무엇입니까? " * 20, ANSWER)
    *_, ablation = record.figure.axes
    drawn = [line.get_ydata() for line in ablation.lines]
    assert np.array_equal(drawn[0], falls) and list(drawn[1]) == [attended]
    assert not faults(record.figure)
    verdict = "the map does not point at what the answer depends on"
    assert (verdict in shown.to_text()) == (verdict in record.caption.lower()) == (attended < 1)
