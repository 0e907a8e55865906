"""FastV against a forward pass, written out here, in which image tokens are really dropped."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    MambaConfig,
    MambaForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from encoderlab.data.synthetic import generate
from encoderlab.errors import UsageError
from encoderlab.vlm.fastv import fastv
from encoderlab.vlm.model import VLM
from encoderlab.vlm.prompt import IMAGE

QUESTIONS = ["How many?", "What colour is the large stamp on the left?", "어디에 있습니까?"]
ANSWERS = ["Two of them.", "Red.", "2행 2열입니다."]
LLMS = {
    "llama": lambda common: LlamaForCausalLM(LlamaConfig(**common)),
    "qwen2": lambda common: Qwen2ForCausalLM(Qwen2Config(**common)),  # with biases
}


@pytest.fixture(scope="module", params=LLMS)
def vlm(request):
    """A random LLM of four layers, whose queries share keys."""
    made = VLM.build(reduce="average:16", dtype="float32", device="cpu")
    torch.manual_seed(0)
    common = {
        "vocab_size": 4000, "hidden_size": 192, "intermediate_size": 64, "num_hidden_layers": 4,
        "num_attention_heads": 6, "num_key_value_heads": 2, "max_position_embeddings": 256,
        "eos_token_id": 1, "pad_token_id": None, "initializer_range": 0.15,
    }  # fmt: skip
    made.llm = LLMS[request.param](common).eval()
    return made


@pytest.fixture(scope="module")
def tokens(vlm):
    return vlm.vision_tokens([generate(i).image for i in range(3)])


# -- the reference: one row, no cache, no mask ---------------------------------------------------


def rotated(x: torch.Tensor, positions: torch.Tensor, base: float = 10000.0) -> torch.Tensor:
    half = x.shape[-1] // 2
    angle = positions[:, None] * base ** (-torch.arange(half) / half)
    a, b = x[..., :half], x[..., half:]
    cos, sin = angle.cos(), angle.sin()
    return torch.cat([a * cos - b * sin, b * cos + a * sin], dim=-1)


def logits_of(llm, x, image, last, budget, layer):
    """Logits of the tokens that are left, and their positions.

    x: (t, d) embeddings; image: (t,) which are the image's; last: position of the prompt's end.
    """
    config, positions = llm.config, torch.arange(len(x))
    heads, groups = config.num_attention_heads, config.num_key_value_heads

    def norm(x, weight):
        return weight * x / (x.square().mean(dim=-1, keepdim=True) + config.rms_norm_eps).sqrt()

    for number, block in enumerate(llm.model.layers, start=1):
        a, own = block.self_attn, norm(x, block.input_layernorm.weight)
        q = a.q_proj(own).reshape(len(x), heads, -1).transpose(0, 1)
        k, v = (
            p(own).reshape(len(x), groups, -1).transpose(0, 1).repeat_interleave(heads // groups, 0)
            for p in (a.k_proj, a.v_proj)
        )
        q, k = rotated(q, positions), rotated(k, positions)
        scores = (q @ k.mT) / q.shape[-1] ** 0.5
        weights = scores.masked_fill(positions > positions[:, None], -torch.inf).softmax(dim=-1)
        x = x + a.o_proj((weights @ v).transpose(0, 1).flatten(1))
        inner, mlp = norm(x, block.post_attention_layernorm.weight), block.mlp
        x = x + mlp.down_proj(F.silu(mlp.gate_proj(inner)) * mlp.up_proj(inner))
        if number == layer:
            paid = weights.mean(dim=0)[last].tolist()
            ranked = sorted(image.nonzero()[:, 0].tolist(), key=lambda i: -paid[i])
            left = sorted({*range(len(x))} - {*ranked[budget:]})
            x, positions = x[left], positions[left]
    return llm.lm_head(norm(x, llm.model.norm.weight)), positions


def row_of(vlm, tokens, i, answer=None):
    rows = vlm.prompter.rows([QUESTIONS[i]], answer and [answer], vlm.image_tokens)
    return vlm._embeddings(tokens[i : i + 1], rows)[0], rows.ids[0] == IMAGE, rows


@torch.no_grad()
def generated(vlm, tokens, i, budget, layer, most, rank=0):
    """Greedy ids after the first token of that rank, and the log-probability."""
    x, image, _ = row_of(vlm, tokens, i)
    last, ids, total = len(x) - 1, [], 0.0
    while len(ids) < most and (not ids or ids[-1] not in vlm._ends()):
        logits, _ = logits_of(vlm.llm, x, image, last, budget, layer)
        logs = logits[-1].log_softmax(dim=-1)
        ids.append(int(logs.argsort(descending=True)[0 if ids else rank]))
        total += float(logs[ids[-1]])
        x = torch.cat([x, vlm.llm.get_input_embeddings()(torch.tensor(ids[-1:]))])
        image = F.pad(image, (0, 1))
    return ids, total


# -- the tests -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("budget", "layer"), [(4, 2), (1, 1), (15, 3)])
def test_likelihoods_are_those_of_a_pass_that_drops_tokens(vlm, tokens, budget, layer):
    """A padded batch, whose rows the reference takes one by one."""
    with fastv(vlm, budget, layer):
        found = vlm.log_likelihood(tokens, QUESTIONS, ANSWERS)
    expected = []
    for i, answer in enumerate(ANSWERS):
        with torch.no_grad():
            x, image, rows = row_of(vlm, tokens, i, answer)
            count = rows.labels.shape[1]
            logits, left = logits_of(vlm.llm, x, image, len(x) - count - 1, budget, layer)
        assert len(left) == len(x) - 16 + budget
        logs = logits[-count - 1 : -1].log_softmax(dim=-1)
        expected.append(float(logs.gather(1, rows.labels[0][:, None]).sum()))
    torch.testing.assert_close(found.tolist(), expected, atol=1e-3, rtol=0)
    whole = vlm.log_likelihood(tokens, QUESTIONS, ANSWERS)
    assert (whole - found).abs().max() > 5e-3  # the tokens matter, and the hooks are gone


@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
@pytest.mark.parametrize("rows", [[1], [0, 1, 2]], ids=["single", "padded"])
def test_generation_is_that_of_a_pass_that_drops_tokens(vlm, tokens, rows, implementation):
    vlm.llm.set_attn_implementation(implementation)
    with fastv(vlm, 3):
        answers = vlm.answers(tokens[rows], [QUESTIONS[i] for i in rows], max_new_tokens=8)
    for answer, i in zip(answers, rows, strict=True):
        ids, log = generated(vlm, tokens, i, 3, 2, 8)
        assert answer.text == vlm.prompter.decode(ids)
        assert float(torch.tensor(answer.probability).log()) == pytest.approx(log, abs=5e-3)
    vlm.llm.set_attn_implementation("sdpa")


def test_candidates_are_those_of_a_pass_that_drops_tokens(vlm, tokens):
    with fastv(vlm, 3):
        answer = vlm.answer(generate(1).image, QUESTIONS[1], candidates=2, max_new_tokens=4)
    expected = {}
    for rank in range(2):
        ids, log = generated(vlm, tokens, 1, 3, 2, 4, rank)
        expected[vlm.prompter.decode(ids)] = float(torch.tensor(log).exp())
    assert dict(answer.candidates) == pytest.approx(expected, rel=5e-3)


def test_all_is_as_before_after_the_block_even_if_it_fails(vlm, tokens):
    attention, config = vlm.llm.model.layers[1].self_attn, vlm.llm.config
    before = vlm.log_likelihood(tokens, QUESTIONS, ANSWERS)
    with pytest.raises(RuntimeError), fastv(vlm, 4):
        assert attention.config is not config
        raise RuntimeError
    assert attention.config is config and config._attn_implementation == "sdpa"
    assert vlm.on_prompt is None
    assert torch.equal(vlm.log_likelihood(tokens, QUESTIONS, ANSWERS), before)


def test_rows_without_an_image_are_as_they_were(vlm):
    before = vlm.log_likelihood(None, QUESTIONS, ANSWERS)
    with fastv(vlm, 4):
        inside = vlm.log_likelihood(None, QUESTIONS, ANSWERS)
    torch.testing.assert_close(inside, before, atol=2e-3, rtol=1e-5)


@pytest.mark.parametrize("depth", [2, 3])
def test_a_shallow_llm_ranks_in_its_last_layer_but_one_at_most(vlm, tokens, depth):
    whole = vlm.llm.model.layers
    vlm.llm.model.layers, vlm.llm.config.num_hidden_layers = whole[:depth], depth
    try:
        with fastv(vlm, 4):
            found = vlm.log_likelihood(tokens, QUESTIONS, ANSWERS)
        with fastv(vlm, 4, min(2, depth - 1)):
            named = vlm.log_likelihood(tokens, QUESTIONS, ANSWERS)
        assert torch.equal(found, named)
    finally:
        vlm.llm.model.layers, vlm.llm.config.num_hidden_layers = whole, 4


@pytest.mark.parametrize(("budget", "layer"), [(17, 2), (16, 2), (0, 2), (4, 0), (4, 4), (4, 9)])
def test_a_budget_or_a_layer_that_cannot_be_is_refused(vlm, budget, layer):
    with pytest.raises(UsageError), fastv(vlm, budget, layer):
        pass
    assert vlm.on_prompt is None


def test_an_llm_without_attention_layers_is_refused():
    mamba = MambaForCausalLM(
        MambaConfig(vocab_size=20, hidden_size=8, num_hidden_layers=3, state_size=4)
    )
    with (
        pytest.raises(UsageError, match="attention layers"),
        fastv(SimpleNamespace(llm=mamba, image_tokens=16, on_prompt=None), 4),
    ):
        pass
