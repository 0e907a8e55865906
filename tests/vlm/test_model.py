"""The VLM: batched as single, padded as unpadded, cached as uncached, saved as built, exported."""

from __future__ import annotations

import pytest
import torch

from encoderlab.data.synthetic import generate
from encoderlab.errors import UsageError
from encoderlab.vlm.model import VLM
from encoderlab.vlm.prompt import IGNORED, IMAGE
from encoderlab.vlm.reduction import Reduction

QUESTIONS = [
    "What colour is the stamp?",
    "How many?",
    "색칠한 칸은 어디에 있습니까? 표를 보고 답하세요.",
]
ANSWERS = ["It is red.", "Two.", "2행 2열입니다."]


@pytest.fixture(scope="module")
def images():
    return [generate(i).image for i in range(3)]


@pytest.fixture(scope="module")
def vlm():
    return VLM.build(reduce="pixel_shuffle:2", dtype="float32", device="cpu")


@pytest.fixture(scope="module")
def tokens(vlm, images):
    return vlm.vision_tokens(images)


def test_vision_tokens_are_the_hidden_state_of_transformers(vlm, images, tokens):
    from transformers import CLIPVisionModel

    from encoderlab.zoo import ZOO

    plain = CLIPVisionModel.from_pretrained(ZOO / "tiny-clip", dtype=torch.float32).eval()
    with torch.no_grad():
        out = plain(vlm.encoders[0].pixel_values(images), output_hidden_states=True)
    assert torch.allclose(tokens, out.hidden_states[-2][:, 1:], atol=1e-5)


def test_logits_are_those_of_a_plain_call(vlm, tokens):
    """One row without padding, all logits of transformers, against ours."""
    rows = vlm.prompter.rows(QUESTIONS[:1], ANSWERS[:1], vlm.image_tokens)
    words = vlm.llm.get_input_embeddings()(rows.ids.clamp_min(0))[0]
    place = rows.ids[0] == IMAGE
    words = words.masked_scatter(place[:, None].expand_as(words), vlm.image_embeddings(tokens[:1]))
    with torch.no_grad():
        plain = vlm.llm(inputs_embeds=words[None]).logits[0]
        ours = vlm(tokens[:1], rows)[0]
    assert torch.allclose(ours, plain[-rows.labels.shape[1] - 1 : -1], atol=1e-5)


def test_the_loss_counts_the_answers_tokens_alone(vlm, tokens):
    rows = vlm.prompter.rows(QUESTIONS, ANSWERS, vlm.image_tokens)
    counts = [len(vlm.prompter.answer_ids(answer)) for answer in ANSWERS]
    assert (rows.labels != IGNORED).sum(dim=1).tolist() == counts
    assert rows.labels[:, -1].tolist() == [vlm.prompter.end] * 3
    with torch.no_grad():
        logits = vlm(tokens, rows).log_softmax(dim=-1)
    expected = -sum(
        float(logits[i, j, label])
        for i, row in enumerate(rows.labels.tolist())
        for j, label in enumerate(row)
        if label != IGNORED
    )
    assert float(vlm.loss(tokens, rows).detach()) == pytest.approx(expected, rel=1e-5)


def test_batched_and_padded_give_what_each_alone_gives(vlm, tokens):
    together = vlm.answers(tokens, QUESTIONS)
    likelihoods = vlm.log_likelihood(tokens, QUESTIONS, ANSWERS)
    for i, question in enumerate(QUESTIONS):
        (alone,) = vlm.answers(tokens[i : i + 1], [question])
        assert together[i].text == alone.text
        assert together[i].probability == pytest.approx(alone.probability, rel=1e-4)
        likelihood = vlm.log_likelihood(tokens[i : i + 1], [question], ANSWERS[i : i + 1])
        assert float(likelihoods[i]) == pytest.approx(float(likelihood[0]), rel=1e-4)


def test_cached_generation_is_the_repeated_forward(vlm, tokens):
    (answer,) = vlm.answers(tokens[:1], QUESTIONS[:1])
    rows = vlm.prompter.rows(QUESTIONS[:1], None, vlm.image_tokens)
    embeddings, ids, log = vlm._embeddings(tokens[:1], rows), [], 0.0
    with torch.no_grad():
        while not ids or (ids[-1] != vlm.prompter.end and len(ids) < 32):
            logs = vlm.llm(inputs_embeds=embeddings, use_cache=False).logits[0, -1].log_softmax(-1)
            ids.append(int(logs.argmax()))
            log += float(logs.max())
            new = vlm.llm.get_input_embeddings()(torch.tensor([[ids[-1]]]))
            embeddings = torch.cat([embeddings, new], dim=1)
    assert answer.text == vlm.prompter.decode(ids)
    assert answer.probability == pytest.approx(float(torch.tensor(log).exp()), rel=1e-4)


def test_the_answer_is_the_likelihood_of_its_own_text(vlm, images):
    answer = vlm.answer(images[0], QUESTIONS[0])
    likelihood = vlm.log_likelihood(
        vlm.vision_tokens(images[0]), QUESTIONS[:1], [answer.text]
    ).exp()
    assert answer.probability == pytest.approx(float(likelihood), rel=1e-3)
    texts, probabilities = zip(*answer.candidates, strict=True)
    assert answer.text in texts and len(set(texts)) == len(texts)
    assert list(probabilities) == sorted(probabilities, reverse=True)


def test_without_tokens_the_image_plays_no_part(vlm):
    rows = vlm.prompter.rows(QUESTIONS, None, 0)
    assert not (rows.ids == IMAGE).any()
    assert len(vlm.answers(None, QUESTIONS)) == 3


def test_a_saved_vlm_answers_alike(vlm, tokens, tmp_path):
    folder = vlm.save(tmp_path / "saved")
    again = VLM.load(folder, dtype="float32", device="cpu")
    assert again.design == vlm.design and not (folder / "llm").exists()
    # Weights are kept in fp16.
    assert [a.text for a in again.answers(tokens, QUESTIONS)] == [
        a.text for a in vlm.answers(tokens, QUESTIONS)
    ]


def test_a_saved_vlm_of_another_encoder_is_refused(vlm, tmp_path):
    folder = vlm.save(tmp_path / "saved")
    config = (folder / "config.json").read_text()
    (folder / "config.json").write_text(config.replace(vlm.encoders[0].fingerprint, "0" * 24))
    with pytest.raises(UsageError, match="encoder is not the one"):
        VLM.load(folder, device="cpu")


def test_two_encoders_stand_side_by_side_on_one_grid(images):
    model = VLM.build("tiny-clip+tiny-dinov2", dtype="float32", device="cpu", reduce="average:16")
    tokens = model.vision_tokens(images)
    widths = [encoder.width for encoder in model.encoders]
    assert tokens.shape == (3, 144, sum(widths))
    layer = model.layers()[1]
    second = model.encoders[1].encode(images, layers=[layer]).layers[layer]
    assert torch.allclose(tokens[..., widths[0] :], second)
    assert model.image_embeddings(tokens).shape == (3, 16, 192)


@pytest.mark.parametrize("projector", ["linear", "mlp", "mlp_norm", "cross_attention"])
def test_every_projector_answers(projector, images):
    model = VLM.build(
        projector=projector, queries=5, dtype="float32", device="cpu", reduce="tome:9"
    )
    assert model.image_tokens == (5 if projector == "cross_attention" else 9)
    assert model.image_embeddings(model.vision_tokens(images)).shape == (3, model.image_tokens, 192)


def test_pixel_shuffle_puts_neighbours_side_by_side():
    tokens = torch.arange(16.0).reshape(1, 16, 1)
    assert Reduction("pixel_shuffle:2", (4, 4))(tokens)[0].tolist() == [
        [0, 1, 4, 5], [2, 3, 6, 7], [8, 9, 12, 13], [10, 11, 14, 15]
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("average", "number"),
        ("pixel_shuffle:5", "divide"),
        ("cls_attention:9", "more than the tokens"),
        ("token_pca:9", "fitted"),
        ("averge:9", "unknown token reduction"),
        ("average:200", "budget"),
    ],
)
def test_a_reduction_that_cannot_be_is_refused(spec, words):
    with pytest.raises(UsageError, match=words):
        Reduction(spec, (12, 12))


def test_questions_and_answers_need_a_text_and_room(vlm, tokens):
    with pytest.raises(UsageError, match="question is empty"):
        vlm.answers(tokens[:1], [" "])
    with pytest.raises(UsageError, match="answer is empty"):
        vlm.log_likelihood(tokens[:1], ["What?"], [""])
    with pytest.raises(UsageError, match="context"):
        vlm.answers(tokens[:1], ["what " * 300])


@pytest.mark.parametrize("projector", ["mlp", "linear"])
def test_an_exported_vlm_answers_with_the_same_tokens(projector, images, tmp_path):
    from encoderlab.encoders.checkpoint import resolve
    from encoderlab.vlm.export import to_llava
    from encoderlab.vlm.llava import LlavaVLM

    model = VLM.build(projector=projector, norm=False, dtype="float32", device="cpu")
    ours = model.answers(model.vision_tokens(images), QUESTIONS)
    likelihood = model.log_likelihood(model.vision_tokens(images), QUESTIONS, ANSWERS)
    folder = to_llava(model, tmp_path / "llava")
    theirs = LlavaVLM(resolve(folder), "cpu", "float32", False)
    again = theirs.answers(images, QUESTIONS)
    assert [a.text for a in again] == [a.text for a in ours]
    assert [a.probability for a in again] == pytest.approx([a.probability for a in ours], rel=1e-3)
    same = theirs.log_likelihood(images, QUESTIONS, ANSWERS)
    assert torch.allclose(same, likelihood, atol=1e-3)


def test_a_design_that_llava_does_not_have_is_not_exported(vlm, tmp_path):
    from encoderlab.vlm.export import to_llava

    with pytest.raises(UsageError, match="no such design"):
        to_llava(vlm, tmp_path / "llava")
    assert not (tmp_path / "llava").exists()


def test_a_vlm_by_its_name_is_its_language_model(tmp_path):
    """A projector is trained with the language model of another VLM, which is not copied."""
    whole = VLM.load("tiny-vlm", "cpu", "float32")
    part = VLM.build(
        "tiny-siglip", "tiny-vlm", reduce="pixel_shuffle:4", device="cpu", dtype="float32"
    )
    for name, weight in whole.llm.state_dict().items():
        assert torch.equal(part.llm.state_dict()[name], weight)
    folder = part.save(tmp_path / "vlm")
    assert not (folder / "llm").exists()
    again = VLM.load(folder, "cpu", "float32")
    tokens, asked = torch.randn(2, 144, 192), ["Which?", "How many?"]
    expected = part.log_likelihood(tokens, asked, ["red", "2"])
    assert torch.allclose(
        again.log_likelihood(tokens, asked, ["red", "2"]), expected, atol=0.05
    )  # saved in fp16
    with pytest.raises(UsageError, match="none of its own") as error:
        VLM.build("tiny-clip", str(folder), device="cpu")
    assert "tiny-vlm" in error.value.want
