"""Test-time registers on a vision transformer in which a register neuron is planted."""

from __future__ import annotations

import copy
import math
import shutil

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from scipy import stats
from tests.small_checkpoints import save_vision

import encoderlab
from encoderlab.data.synthetic import generate
from encoderlab.encoders.dual import load_dual
from encoderlab.encoders.vision import load_vision
from encoderlab.errors import MissingError, UsageError
from encoderlab.inspection import registers
from encoderlab.inspection.register_tokens import (
    Neuron,
    added_register,
    norms_of,
    outlier_tokens,
    peak,
    pixels_of,
    random_neurons,
    register_neurons,
)
from encoderlab.metrics.answers import compare_answers
from encoderlab.metrics.retrieval import retrieval
from encoderlab.metrics.uncertainty import Verdict
from encoderlab.patch_tokens import statistics
from encoderlab.vlm.model import VLM
from encoderlab.zoo import ZOO

PATCH, BLOCK, UNIT = 5, 2, 17  # the neuron makes an outlier of this patch of a 4 x 4 grid


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_vision("dinov2", tmp_path_factory.mktemp("dinov2"))


@pytest.fixture(scope="module")
def pixels():
    """Nearly grey images, each patch of which is a little brighter or darker."""
    bright = torch.from_numpy(np.random.default_rng(0).choice([-3, 3], (8, 4, 4)))
    squares = bright.repeat_interleave(8, dim=1).repeat_interleave(8, dim=2)
    return (127 + squares)[:, None].expand(-1, 3, -1, -1).to(torch.uint8).contiguous()


@pytest.fixture
def clean(folder, pixels):
    """A random ViT of three blocks with a neuron that fires at one patch alone, by its position,
    and gives nothing."""
    encoder = load_vision(folder, "cpu", "float32")
    block = encoder.tower.encoder.layer[BLOCK - 1]
    key = torch.randn(32, generator=torch.Generator().manual_seed(0))
    key = key / key.norm()
    with torch.no_grad():
        tokens = encoder.tower.embeddings(encoder.preprocess.standardise(pixels))
        encoder.tower.embeddings.position_embeddings[0, 1 + PATCH] += (
            key * tokens.norm(dim=-1).mean()
        )
    entered = []
    handle = block.norm2.register_forward_hook(lambda _, inputs, output: entered.append(output))
    encoder.encode_pixels(pixels)
    handle.remove()
    along = entered[0][:, 1:] @ key
    least, most = along[:, PATCH].min(), np.delete(along.numpy(), PATCH, axis=1).max()
    assert least > most
    with torch.no_grad():
        block.mlp.fc1.weight[UNIT] = 20 * key
        block.mlp.fc1.bias[UNIT] = -10 * (least + float(most))
        block.mlp.fc2.weight[:, UNIT] = 0
    return encoder


@pytest.fixture
def planted(clean):
    """The same ViT, whose neuron makes the norm of that patch huge."""
    encoder = copy.deepcopy(clean)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        fc2 = encoder.tower.encoder.layer[BLOCK - 1].mlp.fc2
        fc2.weight[:, UNIT] = 5 * torch.randn(32, generator=generator)
    return encoder


def test_the_planted_neuron_is_found(planted, pixels):
    outliers = outlier_tokens(planted, pixels)
    assert [np.flatnonzero(mask).tolist() for mask in outliers.mask] == [[PATCH]] * 8
    assert outliers.made_in == BLOCK and outliers.count == 8 and outliers.layer in (2, 3)
    lengths = norms_of(planted, pixels, [outliers.layer])[outliers.layer].flatten(1).numpy()
    peaks = lengths.max(axis=1) / np.median(lengths, axis=1)
    assert outliers.times == pytest.approx(math.sqrt(peaks.mean()), rel=1e-5)
    (neuron,) = register_neurons(planted, pixels, outliers, 1)
    assert (neuron.block, neuron.unit) == (BLOCK, UNIT)
    first, second = register_neurons(planted, pixels, outliers, 2)
    assert first == neuron and first.effect > 20 * second.effect


def test_the_effect_is_what_the_neuron_adds_to_the_norm(planted, pixels):
    outliers = outlier_tokens(planted, pixels)
    (neuron,) = register_neurons(planted, pixels, outliers, 1)
    fc2 = planted.tower.encoder.layer[BLOCK - 1].mlp.fc2
    seen = []
    handle = fc2.register_forward_hook(lambda _, inputs, output: seen.append(inputs[0][..., UNIT]))
    planted.encode_pixels(pixels)
    handle.remove()
    values = seen[0][:, 1:].numpy()
    others = np.delete(values, PATCH, axis=1).mean()
    expected = (values[:, PATCH].mean() - others) * np.linalg.norm(fc2.weight[:, UNIT].detach())
    assert neuron.effect == pytest.approx(expected, rel=1e-5)


def test_without_it_norms_are_ordinary_and_the_other_patches_keep_their_signal(
    planted, clean, pixels
):
    top, neurons = planted.n_layers, [Neuron(BLOCK, UNIT)]
    before = norms_of(planted, pixels, [top])[top]
    assert statistics.outliers(before).sum() == 8 and peak(before) > 5
    with added_register(planted, neurons):
        after = norms_of(planted, pixels, [top])[top]
        moved = planted.encode_pixels(pixels, layers=[top]).layers[top]
    assert statistics.outliers(after).sum() == 0 and peak(after) < 1.5
    with added_register(planted, random_neurons(planted, neurons)):
        assert statistics.outliers(norms_of(planted, pixels, [top])[top]).sum() == 8
    # What tells bright patches from dark ones in the clean model is in the other patches as before.
    tokens = clean.encode_pixels(pixels, layers=[top]).layers[top]
    others = np.delete(np.arange(16), PATCH)
    bright = (pixels[:, 0, ::8, ::8].flatten(1)[:, others] > 127).numpy()
    tokens, moved = (each[:, others] - each[:, others].mean(dim=0) for each in (tokens, moved))
    direction = tokens[bright].mean(dim=0) - tokens[~bright].mean(dim=0)
    read, kept = ((each @ direction).numpy() for each in (tokens, moved))
    assert ((read > 0) == bright).mean() > 0.9
    assert np.corrcoef(read.ravel(), kept.ravel())[0, 1] > 0.95
    assert ((kept > 0) == bright).mean() > 0.9


def test_the_forward_pass_is_that_of_plain_modules_with_one_token_more(planted, pixels):
    neurons = [Neuron(1, 3), Neuron(1, 40), Neuron(BLOCK, UNIT)]
    with added_register(planted, neurons):
        features = planted.encode_pixels(pixels, layers=[1, 3], attention=[2])
    tower = planted.tower
    with torch.no_grad():
        x = tower.embeddings(planted.preprocess.standardise(pixels))
        x = torch.cat([x, torch.zeros(8, 1, 32)], dim=1)
        states = []
        for number, block in enumerate(tower.encoder.layer, start=1):
            attended = block.attention(block.norm1(x))
            attended = attended[0] if isinstance(attended, tuple) else attended
            x = x + block.layer_scale1(attended)
            hidden = block.mlp.activation_fn(block.mlp.fc1(block.norm2(x)))
            for neuron in neurons:
                if neuron.block == number:
                    for row in hidden:
                        largest = max(row[:, neuron.unit].tolist(), key=abs)
                        row[:, neuron.unit] = 0
                        row[-1, neuron.unit] = largest
            x = x + block.layer_scale2(block.mlp.fc2(hidden))
            states.append(x)
        normed = tower.layernorm(x[:, :-1])
    for layer in (1, 3):
        torch.testing.assert_close(features.layers[layer], states[layer - 1][:, 1:-1])
    torch.testing.assert_close(features.patches, normed[:, 1:])
    torch.testing.assert_close(features.pooled, normed[:, 0])
    assert features.attention[2].shape == (8, 2, 17, 17)
    assert (features.attention[2].sum(dim=-1) < 1).all()


def test_the_encoder_is_as_it_was_afterwards(planted, pixels):
    before = planted.encode_pixels(pixels).patches
    with pytest.raises(ZeroDivisionError), added_register(planted, [Neuron(BLOCK, UNIT)]):
        assert not torch.equal(planted.encode_pixels(pixels).patches, before)
        raise ZeroDivisionError
    assert torch.equal(planted.encode_pixels(pixels).patches, before)


def test_random_neurons_are_others_of_the_same_blocks(planted):
    neurons = [Neuron(1, unit) for unit in range(20)] + [Neuron(3, 5)]
    drawn = random_neurons(planted, neurons, seed=3)
    assert {(n.block, n.unit) for n in drawn}.isdisjoint((n.block, n.unit) for n in neurons)
    assert [n.block for n in drawn] == [1] * 20 + [3]
    with pytest.raises(UsageError):
        random_neurons(planted, [Neuron(1, unit) for unit in range(40)])  # of 64
    assert drawn == random_neurons(planted, neurons, seed=3) != random_neurons(planted, neurons, 4)


@pytest.mark.parametrize("family", ["clip", "siglip", "dinov2-registers"])
def test_other_families_take_a_register(family, tmp_path):
    encoder = load_vision(save_vision(family, tmp_path), "cpu", "float32")
    pixels = pixels_of(encoder, [generate(i).image for i in range(2)])
    before = encoder.encode_pixels(pixels, layers=range(encoder.n_layers + 1))
    with added_register(encoder, [Neuron(1, 0)]):
        after = encoder.encode_pixels(pixels, layers=range(encoder.n_layers + 1))
    assert after.patches.shape == before.patches.shape
    assert torch.equal(after.layers[0], before.layers[0])
    assert not torch.equal(after.pooled, before.pooled)


def test_a_family_without_blocks_is_refused(tmp_path):
    encoder = load_vision(save_vision("dinov3", tmp_path), "cpu", "float32")
    with pytest.raises(UsageError), added_register(encoder, [Neuron(1, 0)]):
        pass


def test_the_command_says_where_there_is_nothing_to_remove(folder, tmp_path):
    result = encoderlab.registers(model=str(folder), n=0, device="cpu", out=tmp_path)
    assert result.outliers == 0 and not result.neurons and not result.figures
    assert "nothing to remove" in result.to_text()


def test_a_neuron_planted_in_a_trained_clip_is_found_among_patches_with_content(tmp_path):
    """Of the bundled CLIP patches with content are outliers too, but far shorter ones."""
    folder = tmp_path / "clip"
    shutil.copytree(ZOO / "tiny-clip", folder)
    weights = {k: w.float() for k, w in load_file(folder / "model.safetensors").items()}
    block, positions = (
        "vision_model.encoder.layers.1.",
        "vision_model.embeddings.position_embedding",
    )
    width = weights[f"{positions}.weight"].shape[1]
    generator = torch.Generator().manual_seed(0)
    key = F.normalize(torch.randn(width, generator=generator), dim=0)
    weights[f"{positions}.weight"][1 + 20] += 8 * key  # CLS stands before the patches
    weights[f"{block}mlp.fc1.weight"][7] = 20 * key / weights[f"{block}layer_norm2.weight"]
    weights[f"{block}mlp.fc1.bias"][7] = -60
    weights[f"{block}mlp.fc2.weight"][:, 7] = torch.randn(width, generator=generator)
    (folder / "model.safetensors").unlink()
    save_file({k: w.half() for k, w in weights.items()}, folder / "model.safetensors")
    options = {"n": 0, "n_images": 8, "neurons": 1, "device": "cpu"}
    result = encoderlab.registers(model=str(folder), **options)
    (neuron,) = result.neurons
    assert (neuron.block, neuron.unit, result.made_in) == (2, 7, 2)
    before, after, control = (
        result.norms[name] for name in (registers.PLAIN, registers.REGISTER, registers.RANDOM)
    )
    assert before["outliers"] > 0 and before["peak"] > 5
    assert after["outliers"] == 0 and after["peak"] < 3
    assert control["outliers"] == before["outliers"]
    assert control["peak"] == pytest.approx(before["peak"], rel=0.02)


@pytest.mark.parametrize("csv", [False, True])
def test_the_scores_of_the_command_are_those_of_the_plain_models(csv, tmp_path):
    n = 12
    items = [generate(i, split="test") for i in range(n)]
    options = {}
    if csv:
        n = 5
        rows = ["image_path,caption"]
        for i, item in enumerate(items[:n]):
            item.image.save(tmp_path / f"{i}.png")
            rows.append(f'{i}.png,"{item.captions[0]}"')
        (tmp_path / "pairs.csv").write_text("\n".join(rows))
        options = {"csv": str(tmp_path / "pairs.csv"), "vlm": ""}
    result = encoderlab.registers(
        model="tiny-siglip", n=n, n_images=4, neurons=3, device="cpu", **options
    )
    assert len(result.neurons) == 3
    dual = load_dual("tiny-siglip", "cpu", "float32")
    scores = retrieval(
        dual.embed_images([item.image for item in items[:n]]),
        dual.embed_texts([item.captions[0] for item in items[:n]]), cutoffs=(1,),
    )  # fmt: skip
    expected = [float(d.recall[1]) for d in (scores.image_to_text, scores.text_to_image)]
    recall = result.scores[registers.RECALL]
    assert float(recall[registers.PLAIN]) == pytest.approx(np.mean(expected))
    assert recall[registers.PLAIN].chance == pytest.approx(1 / n)
    assert len(result.comparisons) == 3 * len(result.scores)
    difference = float(recall[registers.REGISTER]) - float(recall[registers.PLAIN])
    assert result.comparisons[0].difference == pytest.approx(difference)
    assert list(recall) == list(result.norms) and len(recall) == 4
    frame = result.to_pandas()
    assert frame["changed"].tolist() == list(recall)
    assert frame["scores.Recall@1.value"].tolist() == [score.value for score in recall.values()]
    assert frame["peak"].tolist() == [norms["peak"] for norms in result.norms.values()]
    if csv:
        assert list(result.scores) == [registers.RECALL]
        return
    vlm = VLM.load("tiny-vlm", "cpu", "float32")
    answers = [vlm.answer(item.image, item.question, candidates=0).text for item in items]
    right = np.mean([a == item.answer for a, item in zip(answers, items, strict=True)])
    assert float(result.scores[registers.ANSWERS][registers.PLAIN]) == pytest.approx(right)


def _hits(*shares, n=200):
    images = np.random.default_rng(0).random(n)
    return np.array([images < share for share in shares], dtype=float)


@pytest.mark.parametrize(
    ("draws", "verdict"),
    [((0.8, 0.8, 0.5), Verdict.CANNOT_DISTINGUISH), ((0.71, 0.7, 0.705), Verdict.AHEAD)],
)
def test_the_spread_between_random_draws_counts(draws, verdict):
    register, random = _hits(0.8), _hits(*draws)
    values = {registers.PLAIN: register, registers.TOKEN: register,
              registers.REGISTER: register, registers.RANDOM: random}  # fmt: skip
    (*_, compared) = registers._comparisons({registers.RECALL: values, registers.ANSWERS: values})
    difference = register[0] - random.mean(axis=0)
    assert compared.difference == pytest.approx(difference.mean())
    images, between = difference.var(ddof=1) / 200, random.mean(axis=1).var(ddof=1) * 4 / 3
    freedom = (images + between) ** 2 / (images**2 / 199 + between**2 / 2)
    half = stats.t.ppf(1 - 0.025 / 6, freedom) * math.sqrt(images + between)
    assert compared.ci_high - compared.difference == pytest.approx(half)
    assert compared.verdict is verdict and compared.samples_needed is None


def test_without_draws_the_comparison_is_that_of_the_images():
    shares = {registers.PLAIN: 0.7, registers.TOKEN: 0.72, registers.REGISTER: 0.8}
    values = {name: _hits(share) for name, share in shares.items()}
    values[registers.RANDOM] = _hits(0.7, 0.7, 0.7)
    for (a, b), compared in zip(
        registers.PAIRS, registers._comparisons({registers.RECALL: values}), strict=True
    ):
        expected = compare_answers(
            "a", "b", (values[a][0], values[b][0]), np.arange(200), comparisons=3
        )
        assert (compared.ci_low, compared.ci_high) == pytest.approx(
            (expected.ci_low, expected.ci_high)
        )


def test_images_are_looked_for_before_the_encoder_is_loaded(tmp_path, monkeypatch):
    monkeypatch.setattr("encoderlab.encoders.vision.load_vision", None)
    with pytest.raises(MissingError):
        encoderlab.registers(images=str(tmp_path / "none"), device="cpu")


def test_what_is_not_measured_is_said():
    result = encoderlab.registers(model="tiny-dinov2", n=4, n_images=4, device="cpu")
    assert not result.scores and len(result.notes) == 2
