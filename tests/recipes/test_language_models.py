"""The bundled language models: far better than a unigram model, in both languages."""

import dataclasses
import math

import numpy as np
import pytest
import torch
import transformers as hf

from encoderlab.encoders.checkpoint import ZOO, bundled_models
from encoderlab.encoders.text import load_text
from recipes.cards.language import held_out_captions
from recipes.language import perplexity, train_language_model
from recipes.settings import LANGUAGE_MODELS

NAMES = tuple(LANGUAGE_MODELS)


@pytest.mark.parametrize("name", NAMES)
def test_it_ships_small_and_with_a_card(name):
    assert name in bundled_models()
    assert sum(file.stat().st_size for file in (ZOO / name).iterdir()) <= 6_000_000
    assert "unigram" in (ZOO / name / "README.md").read_text(encoding="utf-8")


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("language", ["en", "ko"])
def test_perplexity_is_a_third_of_a_unigram_models_at_most(name, language):
    captions = held_out_captions(language, trained_on=5_000, pictures=60)
    found = perplexity(ZOO / name, captions)
    assert 3 * found.model < found.unigram


def test_perplexity_is_that_of_the_plain_call():
    folder = ZOO / "tiny-llama"
    texts = ["a large red circle", "파란 별"]
    tokenizer = hf.AutoTokenizer.from_pretrained(folder)
    model = hf.LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32)
    losses = []
    for text in texts:
        ids = torch.tensor([[*tokenizer(text).input_ids, tokenizer.eos_token_id]])
        with torch.no_grad():
            scores = model(ids).logits[0, :-1].log_softmax(dim=-1)
        losses += [-scores[i, token].item() for i, token in enumerate(ids[0, 1:])]
    found = perplexity(folder, texts)
    assert found.model == pytest.approx(math.exp(np.mean(losses)), rel=1e-4)
    assert found.tokens == len(losses)


@pytest.mark.parametrize("name", NAMES)
def test_our_tokenizer_is_the_one_that_transformers_makes(name):
    texts = ["A large red circle, 3 of them!", "커다란 빨간 원 12개", "x  y\nz", ""]
    ours = load_text(name, "cpu", "float32").tokenizer
    theirs = hf.AutoTokenizer.from_pretrained(ZOO / name)
    assert [ours(t).input_ids for t in texts] == [theirs(t).input_ids for t in texts]


@pytest.mark.parametrize("name", NAMES)
def test_it_loads_as_any_language_model_does(name):
    encoder = load_text(name, "cpu", "float32")
    seen = encoder.encode(["a large red circle", "커다란 빨간 원", "a small blue star"])
    assert seen.pooled.shape == (3, encoder.pooled_width)
    near = torch.nn.functional.cosine_similarity(seen.pooled[0], seen.pooled[2], dim=0)
    far = torch.nn.functional.cosine_similarity(seen.pooled[0], seen.pooled[1], dim=0)
    assert near > far, "two captions of one language are nearer than two languages"


@pytest.mark.slow
def test_a_small_run_trains_and_exports(tmp_path):
    recipe = dataclasses.replace(
        LANGUAGE_MODELS["tiny-qwen"], synthetic_images=60, vocab_size=400, context=32, batch_size=8
    )
    folder = train_language_model("tiny-qwen", recipe, None, tmp_path)
    found = perplexity(folder, ["a small red circle"])
    assert found.model < found.unigram
    assert load_text(folder, "cpu", "float32").tokenizer.pad_token == "<|endoftext|>"
