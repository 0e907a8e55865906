"""Words near image tokens: plain calls of transformers, planted states, and brute force."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from transformers import AutoModelForCausalLM, LlavaForConditionalGeneration

import encoderlab
from encoderlab.core.score import Score
from encoderlab.data.synthetic import generate
from encoderlab.data.synthetic.words import COLOURS
from encoderlab.encoders.checkpoint import resolve
from encoderlab.errors import EncoderLabError, MissingError, UsageError
from encoderlab.inspection.lens import (
    ImageStates,
    covering,
    first_tokens,
    logit_lens,
    reader_of,
    word_bank,
)
from encoderlab.inspection.words import (
    ATTRIBUTES,
    CONTEXTUAL,
    LENSES,
    LOGIT,
    Hits,
    LayerScore,
    _best,
)
from encoderlab.metrics.uncertainty import Comparison
from encoderlab.vlm.export import to_llava
from encoderlab.vlm.llava import LlavaVLM
from encoderlab.vlm.model import VLM
from encoderlab.zoo import ZOO

QUESTION = "What does the picture show?"
CAPTIONS = ["a small red circle", "two large blue stars, above a purple cross", "a red star"]


@pytest.fixture(scope="module")
def vlm():
    return VLM.build(norm=False, dtype="float32", device="cpu")


@pytest.fixture(scope="module")
def reader(vlm):
    return reader_of(vlm)


@pytest.fixture(scope="module")
def plain():
    return AutoModelForCausalLM.from_pretrained(ZOO / "tiny-llama", dtype=torch.float32).eval()


@pytest.fixture(scope="module")
def scenes():
    return [generate(i, split="test", kind="scene") for i in range(6)]


def test_states_and_logits_are_those_of_a_plain_call_of_transformers(vlm, reader, plain, scenes):
    images = [scene.image for scene in scenes[:2]]
    states = reader.states(images, QUESTION)
    before, after = vlm.prompter.question_ids(QUESTION)
    embed = plain.get_input_embeddings()
    assert states.grid == (12, 12)
    for row, image in enumerate(images):
        with torch.no_grad():
            shown = vlm.image_embeddings(vlm.vision_tokens(image))[0]
            words = [embed(torch.tensor(ids, dtype=torch.long)) for ids in (before, after)]
            inputs = torch.cat([words[0], shown, words[1]])[None]
            output = plain(inputs_embeds=inputs, output_hidden_states=True)
        place = slice(len(before), len(before) + 144)
        *expected, normed = (state[0, place] for state in output.hidden_states)
        assert len(states.hidden) == len(expected) + 1
        for layer, state in enumerate(expected):
            torch.testing.assert_close(states.hidden[layer, row], state, atol=1e-4, rtol=1e-4)
        last = states.hidden[-1, row]
        assert not torch.allclose(last, normed, atol=1e-3)  # before the final norm
        # At the last hidden state the lens is the model itself.
        torch.testing.assert_close(
            logit_lens(vlm.llm, last), output.logits[0, place], atol=1e-3, rtol=1e-3
        )


def test_a_llava_gives_the_states_of_the_vlm_that_it_was_exported_from(
    vlm, reader, scenes, tmp_path
):
    folder = to_llava(vlm, tmp_path / "llava")
    theirs = LlavaVLM(resolve(folder), "cpu", "float32", False)
    images = [scene.image for scene in scenes[:2]]
    states = reader_of(theirs).states(images, QUESTION)
    expected = reader.states(images, QUESTION)
    assert states.grid == expected.grid
    torch.testing.assert_close(states.hidden, expected.hidden, atol=2e-2, rtol=2e-2)
    plain = LlavaForConditionalGeneration.from_pretrained(folder, dtype=torch.float32).eval()
    inputs = theirs.inputs(images, [theirs.prompt(QUESTION)] * 2)
    with torch.no_grad():
        output = plain(**inputs, output_hidden_states=True)
    place = inputs["input_ids"] == plain.config.image_token_id
    for layer in range(len(states.hidden) - 1):
        own = output.hidden_states[layer][place].view(2, 144, -1)
        torch.testing.assert_close(states.hidden[layer], own, atol=1e-4, rtol=1e-4)
    logits = logit_lens(theirs.model, states.hidden[-1])
    torch.testing.assert_close(logits, output.logits[place].view(2, 144, -1), atol=1e-3, rtol=1e-3)
    result = encoderlab.words(
        model=str(folder), n=3, captions=5, device="cpu", dtype="float32", out=tmp_path / "out"
    )
    assert result.near[LOGIT].grid == (12, 12) and result.scenes == 3 and len(result.figures) == 2
    bank, same = word_bank(reader_of(theirs), CAPTIONS), word_bank(reader, CAPTIONS)
    assert bank.words == same.words
    assert F.cosine_similarity(bank.vectors.float(), same.vectors.float(), dim=-1).min() > 0.99


def test_the_bank_has_the_state_of_the_last_token_of_every_word(reader, plain):
    bank = word_bank(reader, CAPTIONS)
    occurrences = [word for text in CAPTIONS for word in text.replace(",", "").split()]
    assert [bank.words[i] for i in bank.which] == occurrences
    assert len(set(bank.words)) == len(bank.words)
    tokenizer, row = reader.tokenizer, 0
    for text in CAPTIONS:
        with torch.no_grad():
            ids = tokenizer(text, return_tensors="pt").input_ids
            hidden = plain(ids, output_hidden_states=True).hidden_states
        words = text.split()
        for count in range(1, len(words) + 1):
            begun = " ".join(words[:count]).removesuffix(",")
            last = len(tokenizer(begun).input_ids) - 1
            for layer in range(len(hidden) - 1):
                expected = F.normalize(hidden[layer][0, last], dim=-1)
                assert torch.allclose(bank.vectors[layer, row].float(), expected, atol=2e-3)
            row += 1


def test_cosines_are_the_largest_over_the_occurrences_of_a_word(reader):
    bank = word_bank(reader, CAPTIONS)
    hidden = torch.randn(2, 3, bank.vectors.shape[-1], generator=torch.Generator().manual_seed(0))
    found = bank.cosines(hidden, 2)
    for number in range(len(bank.words)):
        own = bank.vectors[2][bank.which == number].float()
        expected = F.cosine_similarity(hidden[:, :, None], own, dim=-1).amax(dim=-1)
        torch.testing.assert_close(found[..., number], expected, atol=1e-3, rtol=1e-3)


def test_only_tokens_that_say_a_word_begin_it(reader):
    tokenizer = reader.tokenizer
    (purple,) = first_tokens(tokenizer, "purple")  # without a space it begins with "p"
    assert tokenizer.decode([purple]).strip() == "purple"
    assert {tokenizer.decode([i]).strip() for i in first_tokens(tokenizer, "green")} == {
        "green", "gre",
    }  # fmt: skip
    assert first_tokens(tokenizer, "xylophone") == []


def test_tokens_cover_a_place_by_their_centre():
    for x, y, radius in ((0.5, 0.5, 0.2), (0.3, 0.71, 0.15), (0.99, 0.01, 0.01), (1.0, 1.0, 0.0)):
        found = covering(x, y, radius, (4, 6)).view(4, 6)
        for i in range(4):
            for j in range(6):
                near = math.hypot((j + 0.5) / 6 - x, (i + 0.5) / 4 - y) <= radius
                around = (min(int(y * 4), 3), min(int(x * 6), 5)) == (i, j)
                assert bool(found[i, j]) == (near or around)


def test_scenes_say_where_their_objects_are(scenes):
    rgb = {colour.en: colour.rgb for colour in COLOURS}
    for scene in scenes:
        pixels = np.asarray(generate(int(scene.id.split("/")[-1]), split="test", kind="scene",
                                     size=192).image).astype(int)  # fmt: skip
        for thing in scene.objects:
            assert f"{thing.colour} {thing.shape}" in scene.captions[0]
            at = pixels[int(thing.y * 192), int(thing.x * 192)]
            assert np.abs(at - rgb[thing.colour]).max() < 12
        assert len(scene.objects) == sum(
            scene.captions[0].count(size) for size in ("small", "large")
        )
    assert generate(1, kind="chart").objects == ()


class Planted:
    """A reader at whose image tokens over an object stands the state of its shape in a caption,
    and elsewhere that of "nothing"."""

    def __init__(self, reader, items):
        self.llm, self.tokenizer = reader.llm, reader.tokenizer
        names = sorted({one.shape for item in items for one in item.objects})
        self.bank = word_bank(reader, [*names, "nothing"])
        self.at = {name: int(np.flatnonzero(self.bank.which == i)[0])
                   for i, name in enumerate(self.bank.words)}  # fmt: skip

    def states(self, items):
        hidden = self.bank.vectors[:, [self.at["nothing"]] * 144 * len(items)].float()
        hidden = hidden.unflatten(1, (len(items), 144)).clone()
        for row, item in enumerate(items):
            for one in item.objects:
                cover = covering(one.x, one.y, one.radius, (12, 12))
                hidden[:, row, cover] = self.bank.vectors[:, [self.at[one.shape]]].float()
        return ImageStates(hidden, (12, 12))


def test_planted_words_are_found_and_chance_is_that_of_every_other_image(reader, scenes):
    planted = Planted(reader, scenes)
    layers = len(planted.bank.vectors)
    hits = Hits.of(planted, planted.bank, 1, layers)
    hits.add(scenes[:4], planted.states(scenes[:4]))
    hits.add(scenes[4:], planted.states(scenes[4:]))
    own, other = hits.rates("shape")
    contextual = LENSES.index(CONTEXTUAL)
    assert (own[contextual] == 1).all() and own.shape == (2, layers, 6)
    for row, scene in enumerate(scenes):
        # One word is near each token, so a pair of objects agrees or does not.
        expected = np.mean([
            np.mean([one.shape == foreign.shape for one in scene.objects
                     for foreign in scenes[j].objects])
            for j in range(6) if j != row
        ])  # fmt: skip
        assert np.allclose(other[contextual, :, row], expected)
    assert not hits.rates("colour")[0].any()
    scores = {(s.lens, s.attribute, s.layer): s for s in hits.scores()}
    assert len(scores) == 2 * 2 * layers
    best = scores[CONTEXTUAL, "shape", 1]
    assert float(best.score) == 1 and best.score.chance == pytest.approx(
        other[contextual, 1].mean()
    )
    assert best.comparison.difference == pytest.approx(1 - best.score.chance)
    # No caption of the bank has a colour, so that there is nothing to score.
    assert set(hits.unscored[CONTEXTUAL]) >= {colour.en for colour in COLOURS}
    assert not set(hits.unscored[CONTEXTUAL]) & set(planted.bank.words)
    for layer in range(layers):
        row = scores[CONTEXTUAL, "colour", layer]
        assert row.score.value is None and row.score.undefined and row.comparison is None
    compared = [row.comparison for row in scores.values() if row.comparison is not None]
    assert len(compared) == 3 * layers
    assert {comparison.level for comparison in compared} == {1 - 0.05 / (3 * layers)}


def test_hits_of_the_logit_lens_are_those_of_sorted_logits(reader, scenes):
    hits = Hits.of(reader, word_bank(reader, CAPTIONS), 7, 4)
    states = reader.states([scenes[0].image], QUESTION)
    for layer in (0, 3):
        near = hits.near(LOGIT, states.hidden[layer], layer)
        order = logit_lens(reader.llm, states.hidden[layer]).argsort(dim=-1, descending=True)
        for token in range(0, 144, 11):
            top = set(order[0, token, :7].tolist())
            expected = [bool(top & set(hits.tokens[name])) for name in hits.names]
            assert near[0, token].tolist() == expected


def test_the_command_reads_an_image_and_checks_scenes(tmp_path):
    generate(1, kind="chart").image.save(tmp_path / "chart.png")
    (tmp_path / "captions.txt").write_text("a red star\n\na bar chart with two bars\n")
    result = encoderlab.words(
        image=str(tmp_path / "chart.png"), n=3, k=2, layer=-2, device="cpu", dtype="float32",
        corpus=str(tmp_path / "captions.txt"), out=tmp_path / "out",
    )  # fmt: skip
    assert {near.layer for near in result.near.values()} == {result.layers - 2}
    assert all(len(words) == 2 for near in result.near.values() for words in near.words)
    known = {"a", "red", "star", "bar", "chart", "with", "two", "bars"}
    assert {word for words in result.near[CONTEXTUAL].words for word in words} <= known
    assert len(result.scores) == 2 * len(ATTRIBUTES) * result.layers
    assert {row["file"] for row in result.figures} == {"words.png", "words_by_layer.png"}
    assert result.to_json()["near"][LOGIT]["grid"] == [6, 6]
    assert "red" not in result.unscored[CONTEXTUAL] and "blue" in result.unscored[CONTEXTUAL]
    frame = result.to_pandas()
    assert frame["layer"].tolist() == [row.layer for row in result.scores]
    values = np.array([row.score.value for row in result.scores], float)
    np.testing.assert_array_equal(frame["score.value"].to_numpy(float), values)


def test_a_corpus_without_the_words_gives_no_score_and_the_last_layer(tmp_path):
    (tmp_path / "captions.txt").write_text("a dog asleep")
    result = encoderlab.words(n=4, corpus=str(tmp_path / "captions.txt"), device="cpu",
                              dtype="float32", out=tmp_path / "out")  # fmt: skip
    for row in result.scores:
        assert (row.score.value is None) == (row.lens == CONTEXTUAL)
    assert result.near[CONTEXTUAL].layer == result.layers - 1
    text = result.to_text()
    assert "the captions have no shape of the scenes" in text
    assert f"{LOGIT}: no hidden state is ahead of chance" in text
    assert f"{CONTEXTUAL}: no hidden state" not in text


def test_the_layer_that_is_shown_is_the_one_most_ahead_of_chance():
    def row(layer, value, low):
        compared = Comparison("a", "b", value - 0.2, low, 1.0, 0.01, 9, 0.95)
        return LayerScore(LOGIT, "shape", layer, Score(value, None, None, 0.2, 9, "-"), compared)

    # The first layer has the largest gain, but is not ahead.
    rows = [row(0, 0.9, -0.1), row(1, 0.5, 0.1), row(2, 0.6, 0.1), row(3, 0.4, 0.1)]
    assert _best(rows, LOGIT, 4) == 2
    assert _best(rows[:1], LOGIT, 4) == 4 and _best(rows, CONTEXTUAL, 4) == 4


@pytest.mark.parametrize("setting", ["image", "corpus"])
def test_files_are_looked_for_before_the_vlm_is_loaded(setting, tmp_path, monkeypatch):
    monkeypatch.setattr("encoderlab.inspection.words._loaded", None)
    with pytest.raises(EncoderLabError):
        encoderlab.words(n=0, device="cpu", **{setting: str(tmp_path / "nope")})


def test_bad_input_is_refused(tmp_path):
    with pytest.raises(UsageError):
        encoderlab.words(n=0, layer=9, device="cpu")
    with pytest.raises(MissingError):
        encoderlab.words(n=0, corpus=str(tmp_path / "none.txt"), device="cpu")
    (tmp_path / "empty.txt").write_text("...\n")
    with pytest.raises(UsageError):
        encoderlab.words(n=0, corpus=str(tmp_path / "empty.txt"), device="cpu")
    with pytest.raises(UsageError):
        reader_of(VLM.build(projector="cross_attention", device="cpu"))
