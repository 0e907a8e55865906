"""Neighbours, Procrustes, ridge, discriminability against other libraries and the long way."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial import procrustes as scipy_procrustes
from sklearn.linear_model import Ridge, RidgeCV
from sklearn.neighbors import NearestNeighbors

from encoderlab.errors import UsageError
from encoderlab.metrics import ridge
from encoderlab.metrics.discriminability import above_chance, discriminability
from encoderlab.metrics.neighbours import Neighbours, mutual_knn, overlap
from encoderlab.metrics.procrustes import procrustes_similarity, rotate_onto
from encoderlab.metrics.ridge import ridge_probe


def related(n, seed=0, d=(6, 4), noise=1.0):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, d[0]))
    return x, x[:, : d[1]] + noise * rng.standard_normal((n, d[1]))


def weights(x, k):
    """The chance of each sample to be among the k nearest, ties at random; the long way."""
    unit = x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-300)
    cosine = np.round(unit @ unit.T, 9)
    found = np.zeros_like(cosine)
    for i, row in enumerate(cosine):
        others = np.delete(np.arange(len(x)), i)
        edge = np.sort(row[others])[-k]
        near, tied = others[row[others] > edge], others[row[others] == edge]
        found[i, near], found[i, tied] = 1, (k - len(near)) / len(tied)
    return found


def tied(n, values, seed):
    """Few distinct points: nearly every neighbour is one of many that are equally near."""
    x = np.random.default_rng(seed).integers(-values, values + 1, (n, 3)).astype(np.float64)
    x[0], x[1] = (1, 0, 0), (0, 1, 0)
    return x


@settings(deadline=None, max_examples=60)
@given(st.integers(8, 60), st.integers(1, 3), st.integers(1, 3), st.integers(0, 10**6))
def test_tied_neighbours_share_the_places_that_are_left(n, values, k, seed):
    x, y = tied(n, values, seed), related(n, seed)[0] if seed % 2 else tied(n, 1, seed + 1)
    shared, without = overlap(Neighbours.of(x, k), Neighbours.of(y, k))
    np.testing.assert_allclose(shared, (weights(x, k) * weights(y, k)).sum(axis=1), atol=1e-12)
    for i in (0, n // 2, n - 1):
        rest = weights(np.delete(x, i, 0), k) * weights(np.delete(y, i, 0), k)
        assert without[i] == pytest.approx(rest.sum() / (n - 1))


def test_the_weights_are_the_mean_over_ties_broken_at_random():
    x, y = tied(24, 1, 0), tied(24, 1, 1)
    rng = np.random.default_rng(0)

    def nearest(one):
        unit = one / np.maximum(np.linalg.norm(one, axis=1, keepdims=True), 1e-300)
        cosine = np.round(unit @ unit.T, 9) + 1e-6 * rng.random((24, 24))
        np.fill_diagonal(cosine, -9)
        return np.argsort(-cosine, axis=1)[:, :4]

    drawn = [
        np.mean([len(set(a) & set(b)) / 4 for a, b in zip(nearest(x), nearest(y), strict=True)])
        for _ in range(400)
    ]
    assert float(mutual_knn(x, y, 4)) == pytest.approx(np.mean(drawn), abs=0.005)


def test_chance_is_the_mean_over_all_pairings_of_tied_features():
    x, y = np.eye(2)[[0, 0, 0, 1, 1, 1]], np.eye(3)[[0, 1, 2, 0, 1, 2]]
    lists = [Neighbours.of(one, 2) for one in (x, y)]
    orders = itertools.permutations(range(6))
    values = [overlap(lists[0], Neighbours.of(y[list(o)], 2))[0].mean() / 2 for o in orders]
    assert np.mean(values) == pytest.approx(mutual_knn(x, y, 2).chance) == pytest.approx(2 / 5)


def test_unrelated_classes_are_at_chance_whatever_the_order_of_the_rows():
    rng = np.random.default_rng(1)
    a, b = np.eye(3)[rng.integers(0, 3, (2, 90))]
    # Rows in the order of their classes: ties by row order would give the same rows everywhere.
    order = np.lexsort((b.argmax(1), a.argmax(1)))
    found, sorted_ = mutual_knn(a, b), mutual_knn(a[order], b[order])
    assert found.ci_low <= found.chance <= found.ci_high
    for part in ("value", "ci_low", "ci_high"):
        assert getattr(found, part) == pytest.approx(getattr(sorted_, part), abs=1e-12)
    # 29 others of a class of 30 share ten places: equal classes have 10 / 29 in common.
    same = np.eye(3)[np.arange(90) % 3]
    assert float(mutual_knn(same, same)) == pytest.approx(10 / 29)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_features_that_are_all_equally_near_have_no_neighbours(dtype):
    rng = np.random.default_rng(0)
    line = np.outer(rng.uniform(1, 2, 90), [1, 2, 0.3]).astype(dtype)
    other = rng.standard_normal((90, 5)).astype(dtype)
    for flat in (line, np.eye(90), np.zeros((90, 2)), np.full((90, 4), 7.3)):
        for pair in ((flat, other), (other, flat), (flat, flat)):
            found = mutual_knn(*pair)
            assert found.value is None and "equally near" in found.undefined


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
    found = overlap(Neighbours.of(x, 3), Neighbours.of(y, 3))[1] / 3
    anew = [float(mutual_knn(np.delete(x, i, 0), np.delete(y, i, 0), 3)) for i in range(n)]
    assert np.allclose(found, anew)


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


@pytest.mark.parametrize("d", [(12, 30), (76, 130)])  # of which 90 samples have fewer, and more
def test_ridge_chooses_penalties_as_scikit_learn_does(d):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((90, d[0]))
    y = x[:, :10] @ rng.standard_normal((10, d[1])) + 3 * rng.standard_normal((90, d[1]))
    x -= x.mean(axis=0)
    unit, fold = x / np.sqrt(np.square(x).mean()), ridge.folds(90, None, 0)
    residual = np.empty(90)
    for number in range(ridge.FOLDS):
        train, test = fold != number, fold == number
        model = RidgeCV(alphas=ridge.PENALTIES * train.sum() * 1e-2).fit(unit[train], y[train])
        residual[test] = np.square(model.predict(unit[test]) - y[test]).sum(axis=1)
    np.testing.assert_allclose(ridge_probe(x, y).residual, residual)


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
    assert "at least 10 independent" in ridge_probe(*related(9)).r2.undefined
    copies = np.repeat(np.arange(9), 3)
    few = ridge_probe(*(one[copies] for one in related(9)), groups=copies)
    assert few.r2.n == 9 and "there are 9" in few.r2.undefined


def test_copies_of_a_sample_are_one_to_the_ridge_probe_and_right_for_each_other():
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((2, 40, 8))
    copies = np.repeat(np.arange(40), 3)
    found = ridge_probe(x[copies], y[copies], groups=copies.tolist())
    assert found.r2.n == 40 and "40 groups of 120 samples" in found.r2.estimator
    recall = found.retrieval.image_to_text.recall[1]
    # Of 24 candidates in a fold three are the image's own.
    assert recall.chance == pytest.approx(3 / 24)
    assert recall.ci_low <= recall.chance <= recall.ci_high


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
