"""Our own VLM with fewer image tokens, against the LLM's plain call on the tokens that are left."""

from __future__ import annotations

import pytest
import torch

from encoderlab.compression.hooks import compressed_vision
from encoderlab.compression.hooks.own import OwnVision
from encoderlab.data.synthetic import generate
from encoderlab.errors import UsageError
from encoderlab.patch_tokens.pooling import AveragePooling, CLSAttention, Diverse, Random, Strided
from encoderlab.patch_tokens.reducer import selected
from encoderlab.vlm.model import VLM
from encoderlab.vlm.prompt import IMAGE

QUESTIONS, ANSWERS = ["What colour is the stamp?", "How many?"], ["It is red.", "Two."]


class Asked(Random):
    """Keeps the tokens that match the question best."""

    needs = ("text",)

    def _compress(self, tokens, grid, budget, side):
        self.text = side.text
        return selected(tokens, side.text.topk(budget[1]).indices.sort().values, grid)


class Keyed(Random):
    needs = ("keys",)


@pytest.fixture(scope="module")
def vlm():
    return VLM.build(dtype="float32", device="cpu")


@pytest.fixture(scope="module")
def tokens(vlm):
    return vlm.vision_tokens([generate(i).image for i in range(2)])


@pytest.fixture(autouse=True)
def _no_gradients():
    with torch.no_grad():
        yield


def test_all_tokens_in_order_leave_the_logits_unchanged(vlm, tokens):
    rows = vlm.prompter.rows(QUESTIONS, ANSWERS, vlm.image_tokens)
    plain, before = vlm(tokens, rows), vlm.reduction
    with compressed_vision(vlm, Strided(), vlm.image_tokens) as vision:
        assert torch.equal(vlm(tokens, vision.fit(rows)), plain)
        assert vlm.reduction is not before
    assert vlm.reduction is before


@pytest.mark.parametrize("method", [Diverse(), AveragePooling(), Asked()])
def test_logits_are_those_of_a_plain_call_with_the_kept_tokens(vlm, tokens, method):
    whole = vlm.prompter.rows(QUESTIONS, ANSWERS, vlm.image_tokens)
    with compressed_vision(vlm, method, 9) as vision:
        rows = vlm.prompter.rows(QUESTIONS, ANSWERS, vlm.image_tokens)
        fitted = vision.fit(whole)
        logits = vlm(tokens, rows)
        kept = torch.cat([one.tokens for one in vision.last])
    assert all(torch.equal(*pair) for pair in zip(rows, fitted, strict=True))
    assert (rows.ids == IMAGE).sum(dim=1).tolist() == [9, 9]
    assert kept.shape == (2, 9, tokens.shape[2])
    for row in range(2):
        own = rows.ids[row][rows.mask[row] == 1]
        words = vlm.llm.get_input_embeddings()(own.clamp_min(0))
        words[own == IMAGE] = vlm.projector(kept[row])
        labels = rows.labels[row][rows.labels[row] >= 0]
        plain = vlm.llm(inputs_embeds=words[None]).logits[0, -len(labels) - 1 : -1]
        assert torch.allclose(logits[row, -len(labels) :], plain, atol=1e-4)


def test_answers_with_a_cache_are_those_without(vlm, tokens):
    with compressed_vision(vlm, Diverse(), 9):
        answers = vlm.answers(tokens, QUESTIONS, max_new_tokens=4)
        rows = vlm.prompter.rows(QUESTIONS, None, vlm.image_tokens)
        words = vlm._embeddings(tokens, rows)
    for row, answer in enumerate(answers):
        sequence, ids = words[row][rows.mask[row] == 1], []
        while len(ids) < 4 and (not ids or ids[-1] not in vlm._ends()):
            ids.append(int(vlm.llm(inputs_embeds=sequence[None]).logits[0, -1].argmax()))
            embedded = vlm.llm.get_input_embeddings()(torch.tensor(ids[-1:]))
            sequence = torch.cat([sequence, embedded])
        assert answer.text == vlm.prompter.decode(ids)


def test_the_question_is_that_of_the_row(vlm, tokens):
    method = Asked()
    with compressed_vision(vlm, method, 9):
        rows = vlm.prompter.rows(QUESTIONS, None, vlm.image_tokens)
        vlm.answers(tokens, QUESTIONS, max_new_tokens=1)
        with pytest.raises(UsageError, match="without rows of text"):
            vlm.image_embeddings(tokens)
    special = vlm.prompter.tokenizer.all_special_ids
    for row in range(2):
        ids = [i for i in rows.ids[row].tolist() if i >= 0 and i not in special]
        words = vlm.llm.get_input_embeddings()(torch.tensor(ids))
        image = vlm.projector(tokens[row])
        cosines = torch.nn.functional.cosine_similarity(image[:, None], words, dim=-1)
        assert torch.allclose(method.text[row], cosines.mean(dim=1), atol=1e-5)


@pytest.mark.parametrize("encoder", ["tiny-clip", "tiny-siglip", "tiny-clip+tiny-dinov2"])
def test_attention_is_that_of_the_first_encoder(encoder):
    vlm = VLM.build(encoder, dtype="float32", device="cpu")
    images = [generate(i).image for i in range(3)]
    plain, layer = vlm.vision_tokens(images), vlm.layers()[0]
    maps = vlm.encoders[0].encode(images, attention=[layer]).attention[layer].mean(dim=1)
    weights = maps.mean(dim=1) if encoder == "tiny-siglip" else maps[:, 0, 1:]
    with compressed_vision(vlm, CLSAttention(), 9) as vision:
        tokens = vlm.vision_tokens(images)
        assert torch.equal(tokens, plain)
        vlm.image_embeddings(tokens[[2, 0]])
        with pytest.raises(UsageError, match="needs the attention of the encoder"):
            vlm.image_embeddings(tokens + 1)
    for kept, image in zip(vision.last, (2, 0), strict=True):
        chosen = (kept.positions[0] @ torch.tensor([vlm.grid[1], 1.0])).long()
        assert torch.equal(chosen, weights[image].topk(9).indices.sort().values)
    assert "vision_tokens" not in vars(vlm)


def test_what_cannot_be_is_refused(vlm):
    reducing = VLM.build(reduce="average:36", dtype="float32", device="cpu")
    asking = VLM.build(projector="cross_attention", dtype="float32", device="cpu")
    for model, method, said in (
        (reducing, Diverse(), "reduces the image tokens itself: got 'reduce=average:36"),
        (asking, Diverse(), "projector=cross_attention"),
        (vlm, Keyed(), "got 'keys of a VLM'"),
        (vlm, AveragePooling(), "9973"),
    ):
        with pytest.raises(UsageError, match=said):
            OwnVision(model, method, 9973 if "9973" in said else 9)
    rows = vlm.prompter.rows(QUESTIONS, None, 5)
    with pytest.raises(UsageError, match=r"not those of whole images: got '\[5, 5\]'"):
        OwnVision(vlm, Diverse(), 9).fit(rows)


def test_the_answer_of_a_row_does_not_choose_its_tokens(vlm, tokens):
    method = Asked()
    with compressed_vision(vlm, method, 16):
        vlm.answers(tokens, QUESTIONS, 1)
        asked = method.text
        for answers in (ANSWERS, ["A long blue answer.", "No."]):
            vlm.log_likelihood(tokens, QUESTIONS, answers)
            assert torch.equal(method.text, asked)
