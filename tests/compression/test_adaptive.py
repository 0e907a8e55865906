"""Adaptive budgets: sums, order, the fixed budget as a special case, a case that must be won."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from encoderlab.cli.main import main
from encoderlab.compression import adaptive
from encoderlab.compression.adaptive import allocate, compare_budgets, predicted_budgets, rebuilt
from encoderlab.compression.bench import Bench
from encoderlab.compression.token_set import TokenSet
from encoderlab.errors import UsageError
from encoderlab.inspection.analyzer import SimilarityResult
from encoderlab.metrics.uncertainty import jackknife_interval
from encoderlab.patch_tokens.merging import KMeans, ToMe
from encoderlab.patch_tokens.methods import METHODS
from encoderlab.patch_tokens.pooling import Diverse, Random
from encoderlab.patch_tokens.reducer import SideInputs

GRID, ALL = (6, 6), 36


def token_set(tokens):
    return TokenSet(tokens, tokens[:, :0], SideInputs())


@pytest.fixture(scope="module")
def tokens():
    """Fields of 1 x 1 to 6 x 6 equal windows, and a little noise."""
    torch.manual_seed(0)
    sides = [i % 6 + 1 for i in range(24)]
    fields = [F.interpolate(torch.randn(1, 8, n, n), GRID).flatten(2).mT for n in sides]
    return torch.cat(fields) + 0.05 * torch.randn(24, ALL, 8)


@pytest.fixture(scope="module")
def bench(tokens):
    return Bench(token_set(tokens), token_set(tokens.flip(0)), GRID, loyalty=False)


# -- allocation ----------------------------------------------------------------------------------


@pytest.mark.parametrize("budget", [1, 4, 9, 35, 36])
@pytest.mark.parametrize("seed", range(5))
def test_counts_have_the_mean_and_the_range_and_the_order_of_what_is_needed(budget, seed):
    needs = np.random.default_rng(seed).lognormal(0, 1.5, 31)
    counts = allocate(needs, budget, ALL)
    assert counts.sum() == budget * 31 and counts.min() >= 1 and counts.max() <= ALL
    assert (np.diff(counts[needs.argsort()]) >= 0).all()


def test_shares_are_proportional_where_nothing_is_cut_and_the_largest_remainders_round_up():
    # Shares of 40 tokens: 3.636, 7.273, 10.909, 18.182.
    assert allocate(np.array([1, 2, 3, 5]), 10, ALL).tolist() == [4, 7, 11, 18]
    assert allocate(np.array([1, 1, 1, 97]), 10, 20).tolist() == [7, 7, 6, 20]
    assert allocate(np.array([1e-9, 1, 1]), 10, ALL).tolist() == [1, 15, 14]


def test_equal_needs_get_the_fixed_budget():
    assert set(allocate(np.full(13, 0.3), 7, ALL).tolist()) == {7}


def test_the_prediction_is_that_of_the_token_analysis(tokens):
    for image, found in zip(tokens[:6], predicted_budgets(tokens[:6], GRID), strict=True):
        grid = image.unflatten(0, GRID)
        analysis = SimilarityResult("m", "cosine", "s", "CLS", GRID, grid, None, None)
        rows, columns = analysis.budget_for(0.25)
        assert found == rows * columns


# -- measuring -----------------------------------------------------------------------------------


@pytest.mark.parametrize("method", [KMeans(), ToMe(), Diverse()], ids=lambda m: m.name)
def test_groups_give_what_a_loop_over_images_gives(tokens, method):
    counts = allocate(predicted_budgets(tokens, GRID), 5, ALL)
    assert len(set(counts.tolist())) > 3
    found = rebuilt(token_set(tokens), method, GRID, counts)
    for image, count, whole in zip(tokens, counts.tolist(), found, strict=True):
        alone = method.decode(method.compress(image[None], GRID, count), GRID)[0]
        torch.testing.assert_close(whole, alone)


def test_the_scores_are_those_of_a_loop_over_images(tokens, bench):
    row = bench.measure("kmeans", [KMeans()], (2, 2))
    result = compare_budgets(bench, {"kmeans": [KMeans()]}, [row])
    (record,) = result["rows"]
    counts = allocate(predicted_budgets(tokens, GRID), 4, ALL)
    errors = {"adaptive": [], "fixed": []}
    for image, count in zip(tokens, counts.tolist(), strict=True):
        for kind, number in (("adaptive", count), ("fixed", 4)):
            kept = KMeans().compress(image[None], GRID, number)
            decoded = KMeans().decode(kept, GRID)[0]
            errors[kind].append(float((decoded - image).double().square().sum()))
    variance = (tokens - tokens.mean(dim=(0, 1))).double().square().sum(dim=(1, 2)).numpy()
    values = {kind: sum(e) / variance.sum() for kind, e in errors.items()}
    for kind, value in values.items():
        assert record["error"][kind]["value"] == pytest.approx(value, rel=1e-6)
    difference = np.array(errors["fixed"]) - np.array(errors["adaptive"])
    without = (difference.sum() - difference) / (variance.sum() - variance)
    compared = record["error"]["comparison"]
    expected = values["fixed"] - values["adaptive"]
    assert compared["difference"] == pytest.approx(expected)
    assert (compared["ci_low"], compared["ci_high"]) == pytest.approx(
        jackknife_interval(expected, without)
    )
    assert result["budgets"] == [{
        "budget": [2, 2], "tokens": 4, "least": counts.min(), "most": counts.max(), "mean": 4.0,
        "images": 24,
    }]  # fmt: skip
    assert record["embedding"] is None and record["answers"] is None


def test_equal_needs_give_the_numbers_of_the_fixed_budget(monkeypatch, bench):
    monkeypatch.setattr(adaptive, "predicted_budgets", lambda t, grid: np.full(len(t), 9))
    methods = {"kmeans": [KMeans()], "random": [Random(seed) for seed in range(3)]}
    rows = [bench.measure(name, made, (2, 3)) for name, made in methods.items()]
    for record in compare_budgets(bench, methods, rows)["rows"]:
        error = record["error"]
        assert error["adaptive"] == error["fixed"]
        assert error["comparison"]["difference"] == 0
        assert error["comparison"]["verdict"] == "cannot distinguish"


def test_constant_images_give_their_tokens_to_the_others():
    torch.manual_seed(1)
    noise = torch.randn(40, ALL, 8)
    noise[::2] = noise[::2, :1]
    planted = Bench(token_set(noise), token_set(torch.randn(40, ALL, 8)), GRID, loyalty=False)
    methods = {"kmeans": [KMeans()], "diverse": [Diverse()]}
    rows = [planted.measure(name, made, (3, 3)) for name, made in methods.items()]
    result = compare_budgets(planted, methods, rows)
    assert (result["budgets"][0]["least"], result["budgets"][0]["most"]) == (1, 17)
    for record in result["rows"]:
        assert record["error"]["comparison"]["verdict"] == "ahead"
    table, sentence = adaptive.blocks(result)
    assert [row[0] for row in table.rows] == [*methods]
    assert sentence == (
        "9 tokens, adaptive against fixed: error better for kmeans, diverse"
    )  # fmt: skip


def test_answers_are_asked_from_the_tokens_of_their_own_allocation(tokens):
    """A VLM that says whether the rebuilt tokens are the true ones."""
    asked = []

    def ask(decoded):
        asked.append(decoded)
        return ["yes" if torch.allclose(a, b) else "no" for a, b in zip(decoded, few, strict=True)]

    few = torch.randn(12, ALL, 8, generator=torch.Generator().manual_seed(2))
    few[::2] = few[::2, :1]
    task = SimpleNamespace(
        pictures=token_set(few), ask=ask, ask_method=lambda name, decoded, budget: ask(decoded),
        image=np.arange(12),
        right=lambda draws: np.array([[t == "yes" for t in d] for d in draws], float).mean(axis=0),
    )  # fmt: skip
    bench = Bench(token_set(tokens), token_set(tokens), GRID, loyalty=False, answers=task)
    row = bench.measure("kmeans", [KMeans()], (3, 6))
    (record,) = compare_budgets(bench, {"kmeans": [KMeans()]}, [row])["rows"]
    counts = allocate(predicted_budgets(few, GRID), 18, ALL)
    torch.testing.assert_close(asked[-1], rebuilt(token_set(few), KMeans(), GRID, counts))
    assert counts.tolist() == [1, 35] * 6
    assert record["answers"]["fixed"]["value"] == 0.5
    assert record["answers"]["comparison"]["n"] == 12


# -- the command ---------------------------------------------------------------------------------


def test_methods_that_give_any_number_are_found():
    assert {"random", "kmeans", "tome", "diverse", "token_pca"} <= {*adaptive.able(METHODS)}
    assert not {"average", "block_pca", "smaller_image"} & {*adaptive.able(METHODS)}
    with pytest.raises(UsageError, match="--adaptive"):
        adaptive.able(["average", "smaller_image"])


def test_the_command_reports_it_beside_the_fixed_budget(capsys, tmp_path):
    words = (
        "compress evaluate --adaptive --methods average kmeans diverse --grids 4 --n-samples 20 "
        "evaluation.parts=[reinjection] evaluation.n_fit=20 --device cpu --json --output-dir"
    )
    assert main([*words.split(), str(tmp_path)]) == 0
    result = json.loads(capsys.readouterr().out)
    rows = result["adaptive"]["rows"]
    assert [row["method"] for row in rows] == ["kmeans", "diverse"]
    measured = {row["method"]: row for row in result["rows"]}
    for row in rows:
        assert row["error"]["fixed"] == measured[row["method"]]["nmse"]
        assert row["embedding"]["fixed"] == measured[row["method"]]["kept"]["embedding"]
        assert row["error"]["comparison"]["level"] == pytest.approx(0.975)
