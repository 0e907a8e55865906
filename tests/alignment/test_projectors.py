"""Fitting projectors: one by one, and a grid at once with the same numbers."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from encoderlab.alignment import projectors
from encoderlab.alignment.projectors import ProjectorRecipe, split_rows, train_grid, train_projector
from encoderlab.errors import UsageError, WorkError
from encoderlab.models.projectors import KINDS

SHORT = ProjectorRecipe(epochs=30)


def related(n: int, d_v: int, d_t: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Vectors of which the second are a linear map of the first."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, d_v)).astype(np.float32)
    return x, x @ rng.standard_normal((d_v, d_t)).astype(np.float32) / d_v**0.5


def test_a_linear_map_is_found_and_held_out_pairs_are_predicted():
    x, y = related(200, 4, 3)
    found = train_projector("linear", x, y, ProjectorRecipe(epochs=3000, lr=5e-3))
    assert found.held_out_r2 > 0.999 and found.held_out_cosine > 0.999
    assert len(found.train_rows) == 160 and len(found.held_out_rows) == 40
    assert found.losses[-1] < found.losses[0] / 1000


def test_the_numbers_are_those_of_the_plain_loop():
    x, y = related(50, 5, 4)
    found = train_projector("mlp_norm", x, y, SHORT, seed=3)
    torch.manual_seed(3)
    plain = torch.nn.Sequential(
        torch.nn.Linear(5, 4), torch.nn.GELU(), torch.nn.LayerNorm(4), torch.nn.Linear(4, 4)
    )
    adam = torch.optim.Adam(plain.parameters(), lr=1e-3)
    train_x, train_y = (torch.from_numpy(v[found.train_rows]) for v in (x, y))
    for _ in range(30):
        adam.zero_grad()
        torch.nn.functional.mse_loss(plain(train_x), train_y).backward()
        adam.step()
    held_x, held_y = (torch.from_numpy(v[found.held_out_rows]) for v in (x, y))
    with torch.no_grad():
        guess = plain(held_x)
        assert torch.allclose(found.projector(held_x), guess, atol=1e-5)
    assert found.held_out_mse == pytest.approx(float(((guess - held_y) ** 2).mean()), rel=1e-4)
    variance = float(((held_y - train_y.mean(dim=0)) ** 2).mean())
    assert found.target_variance == pytest.approx(variance, rel=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_a_grid_is_one_after_another_to_1e_4(kind):
    pairs = {
        ("narrow", "a"): related(40, 3, 8),
        ("wide", "a"): related(40, 9, 8, seed=1),
        ("wide", "b"): related(40, 9, 5, seed=2),
    }
    found = train_grid(pairs, (kind,), (0, 1), SHORT)
    assert list(found) == [(*names, kind, seed) for names in pairs for seed in (0, 1)]
    for (encoder, llm, _, seed), cell in found.items():
        x, y = pairs[encoder, llm]
        alone = train_projector(kind, x, y, SHORT, seed)
        with torch.no_grad():
            ours, theirs = (one.projector(torch.from_numpy(x)) for one in (cell, alone))
        assert torch.allclose(ours, theirs, atol=1e-4)
        np.testing.assert_allclose(cell.losses, alone.losses, atol=1e-4)
        assert cell.held_out_mse == pytest.approx(alone.held_out_mse, abs=1e-4)
        np.testing.assert_array_equal(cell.train_rows, alone.train_rows)


def test_cells_too_large_for_a_stack_are_trained_alone(monkeypatch):
    pairs = {("a", "x"): related(20, 3, 4), ("b", "x"): related(20, 3, 4, seed=1)}
    together = train_grid(pairs, ("mlp",), recipe=SHORT)
    monkeypatch.setattr(projectors, "STACKED_WEIGHTS", 1)
    monkeypatch.setattr(projectors, "_train_stack", None)  # calling it would fail
    alone = train_grid(pairs, ("mlp",), recipe=SHORT)
    for cell, one in alone.items():
        assert one.held_out_mse == pytest.approx(together[cell].held_out_mse, abs=1e-5)


def test_what_was_drawn_before_does_not_matter():
    x, y = related(20, 3, 4)
    first = train_projector("mlp", x, y, SHORT)
    torch.rand(7)
    assert np.array_equal(first.losses, train_projector("mlp", x, y, SHORT).losses)
    assert not np.array_equal(first.losses, train_projector("mlp", x, y, SHORT, seed=1).losses)


@given(
    st.lists(st.integers(0, 9), min_size=2, max_size=40).filter(lambda g: len(set(g)) > 1),
    st.floats(0.05, 0.95),
    st.integers(0, 5),
)
def test_a_group_never_stands_on_both_sides(groups, share, seed):
    train, held_out = split_rows(len(groups), share, seed, groups)
    names = np.array(groups)
    assert not set(names[train]) & set(names[held_out])
    assert len(train) and len(held_out)
    np.testing.assert_array_equal(np.sort([*train, *held_out]), np.arange(len(groups)))


@pytest.mark.parametrize(
    "change, words",
    [
        ({"x": np.zeros((3, 2))}, r"vectors of the same pairs.*\(3, 2\) and \(20, 4\)"),
        ({"x": np.full((20, 3), np.nan)}, "not finite.*row 0 of x"),
        ({"kind": "cubic"}, "unknown projector.*cubic"),
        ({"groups": ["one"] * 20}, "too few pairs.*20 pairs in 1 groups"),
        ({"groups": [1, 2]}, "one group per row.*2 for 20 rows"),
    ],
)
def test_what_cannot_be_fitted_is_refused_in_words(change, words):
    x, y = related(20, 3, 4)
    asked = {"kind": "linear", "x": x, "y": y, "recipe": SHORT, **change}
    with pytest.raises(UsageError, match=words):
        train_projector(**asked)


def test_a_loss_that_runs_away_is_said():
    x, y = related(20, 3, 4)
    with pytest.raises(WorkError, match=r"no longer finite.*linear, seed 0, epoch"):
        train_projector("linear", x * 1e25, y, SHORT)


@pytest.mark.parametrize("wrong", [{"epochs": 0}, {"lr": 0.0}, {"train_share": 1.0}])
def test_a_recipe_out_of_range_is_refused(wrong):
    with pytest.raises(UsageError, match=next(iter(wrong))):
        ProjectorRecipe(**wrong)
