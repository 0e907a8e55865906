"""Neighbours, Procrustes, ridge, discriminability against other libraries and the long way."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial import procrustes as scipy_procrustes
from sklearn.linear_model import Ridge
from sklearn.neighbors import NearestNeighbors

from encoderlab.errors import UsageError
from encoderlab.metrics import ridge
from encoderlab.metrics.discriminability import above_chance, discriminability
from encoderlab.metrics.neighbours import Neighbours, mutual_knn, without_each
from encoderlab.metrics.procrustes import procrustes_similarity, rotate_onto
from encoderlab.metrics.ridge import ridge_probe


def related(n, seed=0, d=(6, 4), noise=1.0):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, d[0]))
    return x, x[:, : d[1]] + noise * rng.standard_normal((n, d[1]))


@settings(deadline=None, max_examples=40)
@given(st.integers(8, 90), st.integers(1, 3), st.integers(0, 10**6))
def test_of_equally_near_samples_the_lower_row_is_the_nearer(n, values, seed):
    # Few distinct points: nearly every neighbour is one of many that are equally near.
    x = np.random.default_rng(seed).integers(-values, values + 1, (n, 3)).astype(np.float64)
    x[(x == 0).all(axis=1)] = 1
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    cosine = np.round(unit @ unit.T, 9)
    np.fill_diagonal(cosine, -np.inf)
    expected = np.argsort(-cosine, axis=1, kind="stable")[:, :3]
    found = Neighbours.of(x, 2).nearest
    if found is not None:
        np.testing.assert_array_equal(found, expected)


def test_mutual_neighbours_are_those_of_scikit_learn():
    x, y = related(40)
    lists = [
        NearestNeighbors(n_neighbors=6, metric="cosine").fit(one).kneighbors(return_distance=False)
        for one in (x, y)
    ]
    expected = np.mean([len(set(a[:5]) & set(b[:5])) / 5 for a, b in zip(*lists, strict=True)])
    found = mutual_knn(x, y, k=5)
    assert found.value == pytest.approx(expected)
    assert found.chance == pytest.approx(5 / 39)
    assert found.ci_low < found.value < found.ci_high


@given(st.integers(9, 20), st.integers(0, 10**6))
def test_neighbours_without_each_are_those_found_anew(n, seed):
    x, y = related(n, seed)
    found = without_each(Neighbours.of(x, 3).nearest, Neighbours.of(y, 3).nearest, 3)
    anew = [float(mutual_knn(np.delete(x, i, 0), np.delete(y, i, 0), 3)) for i in range(n)]
    assert np.allclose(found, anew)


def test_of_equally_near_samples_the_lower_row_is_nearer():
    x = np.array([[1.0, 0], [1, 0], [1, 0], [0, 1], [0, 1], [-1, 0]])
    assert Neighbours.of(x, 2).nearest.tolist()[0] == [1, 2, 3]
    assert Neighbours.of(x, 2).nearest.tolist()[3] == [4, 0, 1]


def test_too_few_samples_for_k_are_undefined():
    assert "at least 22 samples, and there are 9" in mutual_knn(*related(9)).undefined
    with pytest.raises(UsageError, match="k must be positive"):
        mutual_knn(*related(9), k=0)


def test_one_wild_sample_leaves_neighbours_alone():
    x, _ = related(300)
    moved = x.copy()
    moved[0] += 100
    assert float(mutual_knn(x, moved)) > 0.95


def test_procrustes_is_scipys():
    x, y = related(30, d=(4, 4))
    disparity = scipy_procrustes(x, y)[2]  # 1 - similarity squared
    assert float(procrustes_similarity(x, y)) == pytest.approx(np.sqrt(1 - disparity))
    rotated, target = rotate_onto(x, y)
    assert np.square(rotated - target).sum() == pytest.approx(disparity)


def test_procrustes_of_a_rotation_is_one_and_of_few_samples_has_a_high_chance():
    x, _ = related(30, d=(4, 4))
    turn = np.linalg.qr(np.random.default_rng(1).standard_normal((4, 4)))[0]
    assert float(procrustes_similarity(x, 3 * x @ turn)) == pytest.approx(1)
    few = procrustes_similarity(
        *(np.random.default_rng(i).standard_normal((9, 500)) for i in (0, 1))
    )
    assert few.chance > 0.9 and few.value == pytest.approx(few.chance, abs=0.05)


def test_ridge_predictions_are_scikit_learns_on_the_other_folds(monkeypatch):
    monkeypatch.setattr(ridge, "PENALTIES", np.array([1.0]))
    x, y = related(50)
    found = ridge_probe(x, y, seed=3)
    fold = ridge.folds(50, None, 3)
    cx, cy = x - x.mean(axis=0), y - y.mean(axis=0)
    cx = cx / np.sqrt(np.square(cx).mean())
    predicted, scores = np.empty_like(cy), []
    for number in range(5):
        test = fold == number
        model = Ridge(alpha=1e-2 * (~test).sum()).fit(cx[~test], cy[~test])
        predicted[test] = model.predict(cx[test])
        scores.append(np.square(cy[test] - cy[~test].mean(axis=0)).sum())
    expected = 1 - np.square(cy - predicted).sum() / sum(scores)
    assert found.r2.value == pytest.approx(expected)


def test_ridge_finds_what_is_there_and_nothing_where_there_is_nothing():
    x, y = related(120, noise=0.1)
    strong = ridge_probe(x, y)
    assert strong.r2.ci_low > 0.95
    assert strong.retrieval.image_to_text.recall[1].value > 0.9
    assert strong.retrieval.image_to_text.recall[1].chance == pytest.approx(1 / 24)
    nothing = ridge_probe(x, np.random.default_rng(5).permutation(y))
    assert nothing.r2.value < 0.02
    recall = nothing.retrieval.image_to_text.recall[5]
    assert recall.ci_low < recall.chance < recall.ci_high


def test_samples_of_a_group_share_a_fold():
    groups = [i // 3 for i in range(30)]
    fold = ridge.folds(30, groups, seed=0)
    assert all(len(set(fold[3 * g : 3 * g + 3])) == 1 for g in range(10))
    assert sorted(np.bincount(fold)) == [6] * 5


def test_ridge_of_few_samples_is_undefined():
    assert "at least 10 samples" in ridge_probe(*related(9)).r2.undefined


def test_fisher_share_by_hand():
    # Class means 0 and 2 about the grand mean 1, each class spread by 1: between 4, within 4.
    x = np.array([[-1.0], [1], [1], [3]])
    found = discriminability(x, ["a", "a", "b", "b"])
    assert found.value == pytest.approx(4 / 8)
    assert found.chance == pytest.approx(1 / 3)
    assert above_chance(found) == pytest.approx((0.5 - 1 / 3) / (2 / 3))


def test_fisher_share_of_labels_that_mean_nothing_is_its_chance_on_average():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((30, 5))
    found = [discriminability(x, rng.permutation(["a", "b", "c"] * 10)) for _ in range(300)]
    assert np.mean([one.value for one in found]) == pytest.approx(2 / 29, abs=0.005)


@given(st.integers(0, 10**6))
def test_fisher_interval_is_the_jackknife_of_computing_it_anew(seed):
    rng = np.random.default_rng(seed)
    x, labels = rng.standard_normal((12, 3)), np.array(list("aaabbbcccabc"))
    found = discriminability(x, labels)
    anew = np.array(
        [float(discriminability(np.delete(x, i, 0), np.delete(labels, i))) for i in range(12)]
    )
    error = np.sqrt(11 / 12 * np.square(anew - anew.mean()).sum())
    from scipy import stats

    half = stats.t.ppf(0.975, 11) * error
    assert found.ci_high == pytest.approx(min(1, found.value + half))


def test_fisher_share_says_what_it_lacks():
    x = np.random.default_rng(0).standard_normal((8, 3))
    assert "one class" in discriminability(x, ["a"] * 8).undefined
    assert "estimate without labels" in discriminability(x, None).estimator
    assert "same for every sample" in discriminability(np.ones((8, 3)), list("abababab")).undefined
    with pytest.raises(UsageError, match="one label per sample"):
        discriminability(x, ["a"])
