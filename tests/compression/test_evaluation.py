"""What is kept, measured: closed forms of every part, and small runs against the plain encoder."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from encoderlab.compression import evaluate, readout
from encoderlab.compression.bench import Bench, ReadingTask
from encoderlab.compression.catalogue import instances, with_references
from encoderlab.compression.cost import (
    KNOWN,
    LLMShape,
    cost,
    local_llm,
    measure,
    measured_record,
    shape_of,
)
from encoderlab.compression.evaluate import _record, _verdicts
from encoderlab.compression.neighbour_agreement import max_sim, neighbour_agreement
from encoderlab.compression.reinjection import Question, Reinjection
from encoderlab.compression.retention import RetentionScale, mcnemar, share
from encoderlab.compression.settings import CompressData, CompressEvaluation
from encoderlab.compression.smaller_image import SmallerImage
from encoderlab.compression.token_set import TokenSet
from encoderlab.data.synthetic import generate
from encoderlab.data.synthetic.labelled import GLYPHS, glyphs, largest_colour, main_colours
from encoderlab.encoders.vision import load_vision
from encoderlab.errors import MissingError, UsageError
from encoderlab.losses.distribution import sliced_wasserstein
from encoderlab.patch_tokens.methods import METHODS, reducers
from encoderlab.patch_tokens.pooling import AveragePooling, PixelShuffle, RandomInWindow, Strided
from encoderlab.patch_tokens.pruning import CDPruner

LAYER, GRID = 3, (12, 12)


@pytest.fixture(scope="module")
def encoder():
    return load_vision("tiny-clip", "cpu", "float32")


@pytest.fixture(scope="module")
def pictures():
    return [generate(i, split="test").image for i in range(24)]


@pytest.fixture(scope="module")
def seen(encoder, pictures):
    return TokenSet.of(encoder, pictures, LAYER)


# -- shares of what there is to keep --------------------------------------------------------------


def test_kept_is_the_share_between_floor_and_full():
    rng = np.random.default_rng(0)
    floor, full = rng.uniform(0, 0.2, 50), rng.uniform(0.8, 1.0, 50)
    scale = RetentionScale(full, floor)
    assert float(scale.kept(full)) == 1.0
    assert float(scale.kept(floor)) == 0.0
    half = scale.kept((full + floor) / 2)
    assert float(half) == pytest.approx(0.5)
    # Halves of every image's own span: nothing varies.
    assert half.ci_high - half.ci_low == pytest.approx(0, abs=1e-9)


def test_its_interval_is_the_plain_jackknife():
    rng = np.random.default_rng(1)
    floor, full, score = rng.random(30), rng.random(30) + 1, rng.random(30) + 0.5
    scale = RetentionScale(full, floor)
    deleted = []
    for i in range(30):
        rest = np.delete(np.arange(30), i)
        deleted.append(RetentionScale(full[rest], floor[rest]).value(score[rest]))
    assert np.allclose(scale.without_each(score), deleted)
    spread = np.sqrt(29 / 30 * np.sum((np.array(deleted) - np.mean(deleted)) ** 2))
    found = scale.kept(score)
    assert (found.ci_high - found.ci_low) / 2 == pytest.approx(2.045 * spread, rel=1e-3)


def test_where_cls_has_the_answer_nothing_is_said_to_be_kept():
    same = np.ones(30)
    assert (
        RetentionScale(same, same - 0.01)
        .kept(same)
        .undefined.startswith("the score barely depends")
    )
    assert RetentionScale(same, same).compare("a", "b", (same, same)) is None


def test_a_paired_comparison_sees_what_unpaired_intervals_hide():
    rng = np.random.default_rng(2)
    hard = rng.normal(0.5, 0.3, 60)  # images differ far more than methods
    scale = RetentionScale(np.ones(60), np.zeros(60))
    better, worse = scale.kept(hard + 0.02), scale.kept(hard)
    assert better.ci_low < worse.ci_high
    assert scale.compare("a", "b", (hard + 0.02, hard + rng.normal(0, 1e-3, 60))).verdict == "ahead"


def test_mcnemar_is_the_sign_test_of_the_images_that_differ():
    a, b = np.array([1, 1, 1, 0, 1, 1, 1, 1.0]), np.array([0, 0, 0, 1, 1, 1, 0, 0.0])
    assert mcnemar(a, b) == pytest.approx(2 * (1 + 6) / 2**6)
    assert mcnemar(a, a) == 1.0


def test_a_share_is_of_sums_not_a_mean_of_shares():
    found = share(np.array([1.0, 1, 1]), np.array([1.0, 10, 4]), "x")
    assert float(found) == pytest.approx(3 / 15)
    assert share(np.zeros(3), np.zeros(3), "x").value is None


# -- re-injection ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["tiny-clip", "tiny-siglip", "tiny-dinov2"])
@pytest.mark.parametrize("layer", [0, 2])
def test_tokens_put_back_give_what_the_encoder_gives(name, layer, pictures):
    encoder = load_vision(name, "cpu", "float32")
    plain = encoder.encode(pictures[:3], layers=[layer])
    tokens = torch.cat([plain.layers_special[layer], plain.layers[layer]], dim=1)
    assert torch.allclose(encoder.finish(tokens, layer), plain.pooled, atol=1e-4)


def test_all_tokens_keep_everything_and_the_mean_token_nothing(encoder, seen):
    question = Question(torch.eye(128)[:5], np.arange(24) % 5)
    measure = Reinjection(
        encoder, LAYER, seen.special, seen.special.mean(dim=0), seen.tokens, {"q": question}
    )
    bench = Bench(seen, seen, GRID, measure, loyalty=False)
    row = bench.measure("strided", [Strided()], GRID)
    assert float(row.nmse) == 0
    for task in ("embedding", "embedding_hard"):
        assert float(row.kept[task]) == pytest.approx(1, abs=1e-5)
    floor = measure.scores(seen.mean_token.expand_as(seen.tokens))
    assert np.allclose(floor["embedding"], bench.scales["embedding"].floor)
    assert set(floor) == {"q", "q_hard", "embedding", "embedding_hard"}
    # Without the true CLS less is known.
    assert bench.scales["embedding_hard"].span > bench.scales["embedding"].span


def test_a_tie_is_no_hit():
    question = Question(torch.tensor([[1.0, 0], [1.0, 0], [0, 1.0]]), np.array([0, 2]))
    assert question.hits(torch.tensor([[1.0, 0.1], [0.1, 1.0]])).tolist() == [0, 1]


# -- the bench ------------------------------------------------------------------------------------


def test_a_random_method_is_the_mean_of_its_seeds(encoder, seen):
    bench = Bench(seen, seen, GRID, loyalty=False)
    seeds = instances("random", encoder, LAYER, seen.tokens, GRID, [(3, 3)])
    assert len(seeds) == 5
    together = bench.measure("random", seeds, (3, 3))
    alone = [bench.measure("random", [one], (3, 3)) for one in seeds]
    assert float(together.nmse) == pytest.approx(np.mean([float(one.nmse) for one in alone]))


@pytest.mark.parametrize("name", sorted(METHODS.keys() - {"cdpruner", "fastv", "pixel_shuffle"}))
def test_every_method_is_measured_at_its_exact_budget(encoder, seen, name):
    methods = instances(name, encoder, LAYER, seen.tokens, GRID, [(4, 4)])
    bench = Bench(seen, seen, GRID)
    row = bench.measure(name, methods[:1], (4, 4))
    assert row.tokens == 16
    assert float(row.nmse) >= 0
    assert 0 <= float(row.neighbours) <= 1
    assert -1 <= float(row.cka) <= 1
    assert row.error_map.shape == (24, 144)


def test_side_by_side_tokens_lose_nothing_and_are_compared_with_no_token(seen, monkeypatch):
    monkeypatch.setattr(readout, "STEPS", 2)
    halves = torch.arange(24) % 2
    task = ReadingTask("half", seen, halves, seen, halves, 2, {"half": slice(None)})
    bench = Bench(seen, seen, GRID, reading=[task])
    row = bench.measure("pixel_shuffle", [PixelShuffle()], (4, 4))
    assert float(row.nmse) == 0 and float(row.cosine) == pytest.approx(1)
    assert float(row.cka) == pytest.approx(1)
    assert row.distance is None and row.norm_ratio is None and row.neighbours is None
    assert row.reading == {}
    record = _record(row, bench)
    assert record["distance"] is None and record["reading"] == {}
    average = bench.measure("average", [AveragePooling()], (4, 4))
    assert {v["task"] for v in _verdicts([average, row], bench, ["average"])} == {"error"}
    assert average.reading["half"].value is not None


def test_a_method_of_the_question_is_refused_where_none_is_asked(seen):
    with pytest.raises(UsageError, match="cdpruner needs a question"):
        Bench(seen, seen, GRID, loyalty=False).measure("cdpruner", [CDPruner()], (4, 4))


def test_every_name_has_a_method():
    made = {name: reducers(name)[0].name for name, method in METHODS.items() if method.made_by}
    assert made == {name: name.removesuffix("_checkerboard") for name in made}
    assert set(METHODS) - set(made) == {"smaller_image", "fastv"}


def test_an_unknown_method_is_refused(encoder, seen):
    with pytest.raises(UsageError, match=r"unknown method: got 'averge'.*average"):
        instances("averge", encoder, LAYER, seen.tokens, GRID, [(4, 4)])


def test_a_smaller_image_is_the_encoder_at_that_resolution(encoder, pictures, seen):
    method = SmallerImage(encoder, LAYER)
    kept = method.compress(seen.tokens, GRID, (6, 6), seen.side)
    small = load_vision("tiny-clip", "cpu", "float32", resolution=48)
    resized = [encoder.preprocess.to_bytes(one) for one in pictures[:2]]
    from PIL import Image

    again = [Image.fromarray(one).resize((48, 48), Image.Resampling.LANCZOS) for one in resized]
    plain = small.encode(again, layers=[LAYER]).layers[LAYER]
    assert torch.allclose(kept.tokens[:2], plain, atol=1e-4)
    assert method.decode(kept, GRID).shape == seen.tokens.shape
    with pytest.raises(UsageError, match="needs the pixels"):
        method.compress(seen.tokens, GRID, (6, 6))


def test_attention_of_cls_comes_with_the_tokens(encoder, pictures, seen):
    maps = encoder.encode(pictures[:2], attention=[LAYER]).attention[LAYER]
    assert torch.allclose(seen.side.attention[:2], maps.mean(dim=1)[:, 0, 1:], atol=1e-5)


# -- neighbours, heads, pictures, cost ------------------------------------------------------------


def test_neighbours_of_the_same_tokens_agree_and_of_noise_do_not():
    torch.manual_seed(0)
    tokens, centre = torch.randn(40, 6, 16), torch.zeros(16)
    full = max_sim(tokens, centre)
    assert torch.allclose(full.diagonal(), torch.ones(40), atol=1e-5)
    by_hand = (
        torch.nn.functional.cosine_similarity(tokens[3][:, None], tokens[7][None], dim=-1)
        .amax(dim=1)
        .mean()
    )
    assert float(full[3, 7]) == pytest.approx(float(by_hand), abs=1e-5)
    assert neighbour_agreement(full, full).mean() == 1
    noise = torch.randn(40, 6, 16)
    assert neighbour_agreement(full, max_sim(noise, centre)).mean() < 0.5


def test_images_that_are_equally_near_agree_as_often_as_chance():
    # Tokens that are all the same say of no image who is near.
    full, flat = torch.rand(40, 40), torch.ones(40, 40)
    np.testing.assert_allclose(neighbour_agreement(full, flat), 10 / 39)
    order, rough = torch.randperm(40), full.round(decimals=1)
    shuffled = neighbour_agreement(*(one[order][:, order] for one in (full, rough)))
    np.testing.assert_allclose(shuffled, neighbour_agreement(full, rough)[order])


def test_copies_are_measured_once_and_never_fitted_on(tmp_path):
    for number in range(44):
        picture = generate(number, split="test").to_sample().load()
        for copy in "abc":
            picture.save(tmp_path / f"{number:02}{copy}.png")
    samples, pictures, fit_pictures, _, said = evaluate._pictures(
        CompressData(images=[str(tmp_path)]), CompressEvaluation(n_samples=200, n_fit=200)
    )
    measured, fitted = ({one.tobytes() for one in side} for side in (pictures, fit_pictures))
    assert len(measured) == len(samples) and len(measured | fitted) == 44
    assert not measured & fitted
    assert f"{3 * len(samples)} samples of {len(samples)} images" in said


def test_heads_read_what_is_there_and_nothing_where_nothing_is():
    torch.manual_seed(0)
    labels = torch.randint(0, 4, (300,))
    tokens = torch.randn(300, 9, 8)
    tokens[torch.arange(300), torch.randint(0, 9, (300,)), labels] += 6
    found = readout.read_out(tokens[:200], labels[:200], tokens[200:], labels[200:], 4)
    assert found.mean() > 0.9
    assert found.shape == (5, 100)
    noise = torch.randn(300, 9, 8)
    blind = readout.read_out(noise[:200], labels[:200], noise[200:], labels[200:], 4)
    assert blind.mean() < 0.45


def test_a_seed_learns_alone_what_it_learns_beside_others(monkeypatch):
    torch.manual_seed(0)
    tokens, labels = torch.randn(60, 4, 8), torch.randint(0, 3, (60,))
    monkeypatch.setattr(readout, "STEPS", 10)
    five = readout.read_out(tokens, labels, tokens, labels, 3)
    monkeypatch.setattr(readout, "SEEDS", 1)
    np.testing.assert_array_equal(readout.read_out(tokens, labels, tokens, labels, 3)[0], five[0])


def test_the_gradient_of_the_heads_is_that_of_their_loss():
    torch.manual_seed(0)
    tokens, labels = torch.randn(12, 5, 8), torch.randint(0, 3, (12,))
    heads = readout._initial(8, 3)
    logits = readout._forward(heads, tokens)[-1]
    # A sum over seeds: each has the gradient of a network of its own.
    loss = sum(torch.nn.functional.cross_entropy(seed, labels) for seed in logits)
    expected = torch.autograd.grad(loss, heads)
    with torch.no_grad():
        readout._backward(heads, tokens, torch.nn.functional.one_hot(labels, 3).float())
    for head, gradient in zip(heads, expected, strict=True):
        torch.testing.assert_close(head.grad, gradient, rtol=1e-4, atol=1e-6)


def test_the_references_are_measured_whatever_is_named():
    names = with_references(["kmeans"], GRID, [(5, 5)])
    assert names[0] == "kmeans" and {"random", "average", "smaller_image"} <= {*names}
    assert "pixel_shuffle" not in names  # 5 x 5 does not divide the grid
    assert with_references([], GRID, [(6, 6)]) == list(METHODS)


def test_glyphs_are_as_high_as_they_say_and_the_same_each_time():
    pictures, labels = glyphs(12, 24, seed=3)
    again, _ = glyphs(12, 24, seed=3)
    assert all(a.tobytes() == b.tobytes() for a, b in zip(pictures, again, strict=True))
    assert set(labels) <= set(GLYPHS)
    for picture in pictures:
        grey = np.asarray(picture.convert("L")).astype(float)
        ground = np.median(grey)
        rows = np.abs(grey - ground).max(axis=1) > 85
        assert rows.sum() == pytest.approx(24, abs=2)
    with pytest.raises(UsageError, match="cannot be drawn: got 90; expected 3 to 48 pixels"):
        glyphs(1, 90)


def test_the_main_colour_is_the_caption_s():
    assert largest_colour("a small red star above a large blue heart") == "blue"
    assert largest_colour("a large red star above a large blue heart") is None
    pictures, labels = main_colours("test", range(0, 50, 5))
    assert len(pictures) == len(labels) > 3


@pytest.mark.parametrize(
    ("visual", "tera", "mebi"),
    [(576, 8.40, 288), (144, 2.71, 72), (64, 1.66, 32), (36, 1.30, 18), (16, 1.04, 8)],
)
def test_the_cost_of_llama(visual, tera, mebi):
    found = cost(KNOWN["llama"], visual, 64, 1024)
    assert found.prefill / 1e12 == pytest.approx(tera, abs=0.005)
    assert found.cache / 2**20 == mebi
    assert found.tokens == visual * 2048


def test_the_cache_of_grouped_heads_and_a_checkpoint_s_own_shape():
    assert KNOWN["llama3"].cache_per_token == 128 * 1024
    assert KNOWN["qwen"].cache_per_token == 56 * 1024
    tiny = shape_of("tiny-qwen", trust_remote_code=False)
    from encoderlab.encoders.text import load_text

    blocks = load_text("tiny-qwen", "cpu", "float32").model.layers
    weights = sum(p.numel() for n, p in blocks.named_parameters() if p.ndim == 2)
    assert tiny.parameters == weights
    with pytest.raises(MissingError, match="no such LLM for the computation of cost: got 'nobody'"):
        shape_of("nobody", trust_remote_code=False)


@pytest.mark.parametrize(("name", "text"), [("tiny-llama", 16), ("tiny-qwen", 0)])
def test_the_measured_cache_is_the_computed_one(name, text):
    network = local_llm(name, "cpu", "float32", trust_remote_code=False)
    costs = measure(network, [30, 7], text, repetitions=1)
    shape = LLMShape.of(name, network.config)
    # `cache_per_token` counts two bytes a number; fp32 has four.
    assert [c.cache for c in costs] == [2 * n * shape.cache_per_token for n in (30, 7)]
    for found in costs:
        assert 0 < found.prefill.low <= found.prefill.median <= found.prefill.high
        assert found.per_token.median > 0


def test_what_does_not_fit_the_context_is_computed_alone():
    network = local_llm("tiny-llama", "cpu", "float32", trust_remote_code=False)
    longest = network.config.max_position_embeddings
    record = measured_record("tiny-llama", network, [4, longest], 4, 192)
    short, long = record["budgets"]
    assert short["cache_measured"] == 2 * short["cache"] and short["prefill_ms"]["median"] > 0
    assert long["prefill"] > short["prefill"] and long["cache_measured"] is None


def test_an_llm_that_is_not_here_is_not_loaded(tmp_path, capsys):
    assert local_llm("llama", "cpu", "auto", trust_remote_code=False) is None
    assert local_llm("owner/name", "cpu", "auto", trust_remote_code=False) is None
    assert capsys.readouterr().err == ""
    (tmp_path / "config.json").write_text('{"model_type": "llama", "architectures": []}')
    assert local_llm(str(tmp_path), "cpu", "auto", trust_remote_code=False) is None
    assert "computed alone" in capsys.readouterr().err


def test_the_jackknife_leaves_out_tenths_of_the_images(encoder, seen):
    bench = Bench(seen, seen, GRID, loyalty=False)
    kept = AveragePooling().compress(seen.tokens, GRID, (3, 3)).tokens
    real = RandomInWindow(101).compress(seen.tokens, GRID, (3, 3)).tokens
    a, b = (((x - bench.mean) / bench.spread) for x in (kept, real))

    def distance(rows: torch.Tensor, projections: int) -> float:
        generator = torch.Generator().manual_seed(0)
        left, right = (x[rows].flatten(0, 1) for x in (a, b))
        return float(sliced_wasserstein(left, right, projections, generator))

    every, tenth = torch.ones(24, dtype=torch.bool), torch.arange(24) * 10 // 24
    value, rough = distance(every, 128), distance(every, 16)
    expected = [value, *(value + distance(tenth != part, 16) - rough for part in range(10))]
    found = bench._projected(kept).distances(bench._real_tokens((3, 3)))
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_error_and_distance_have_intervals_from_what_is_left_out(encoder, seen):
    bench = Bench(seen, seen, GRID, loyalty=False)
    row = bench.measure("average", [AveragePooling()], (3, 3))
    floor = bench.floor_of_distribution((3, 3))
    assert float(row.distance) > 2 * floor
    assert row.distance.ci_low < float(row.distance) < row.distance.ci_high
    assert len(row.without_parts["distance"]) == 10
    rest = np.delete(np.arange(24), 3)
    error, variance = row.per_image["error"], bench.variances.sum(dim=1).numpy()
    assert row.without_parts["error"][3] == pytest.approx(error[rest].sum() / variance[rest].sum())
