"""CKA against published values, closed forms and computations done the long way."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics.pairwise import rbf_kernel

import encoderlab
from encoderlab.errors import UsageError
from encoderlab.metrics import cka as grams
from encoderlab.metrics.cka import CKA, Gram, cka, pairwise
from encoderlab.metrics.moments import Moments
from encoderlab.metrics.uncertainty import permutation_p


@pytest.fixture(scope="module")
def published():
    """The features of Kornblith et al.'s reference notebook (2019)."""
    rng = np.random.RandomState(1337)
    x = rng.randn(100, 10)
    return x, rng.randn(100, 10) + x


def gaussians(n, seed, d=768, shared=0.0):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, d))
    return x, shared * x + rng.standard_normal((n, d))


def song_2012(k, m):
    """Debiased HSIC by the formula of the paper (eq. 5), on plain Gram matrices."""
    n = len(k)
    k, m = k - np.diag(np.diag(k)), m - np.diag(np.diag(m))
    one = np.ones(n)
    return (
        np.trace(k @ m)
        + (one @ k @ one) * (one @ m @ one) / ((n - 1) * (n - 2))
        - 2 / (n - 2) * (one @ k @ m @ one)
    ) / (n * (n - 3))


def cka_song(k, m):
    return song_2012(k, m) / math.sqrt(song_2012(k, k) * song_2012(m, m))


def test_published_linear_values(published):
    assert float(cka(*published, estimator="biased")) == pytest.approx(0.55761, abs=5e-6)
    assert float(cka(*published)) == pytest.approx(0.51346, abs=5e-6)
    assert CKA.compute_cka(*published) == pytest.approx(0.55761, abs=5e-6)
    assert encoderlab.cka(*published).value == cka(*published).value


def test_published_rbf_value_of_the_reference_kernel(published):
    def reference_gram(x):
        products = x @ x.T
        squared = np.diag(products)[:, None] + np.diag(products)[None, :] - 2 * products
        return Gram(torch.from_numpy(np.exp(-squared / (2 * 0.25 * np.median(squared)))), "RBF")

    found = grams.value(*map(reference_gram, published), "biased")
    assert found == pytest.approx(0.65483, abs=5e-6)


def test_rbf_kernel_is_scikit_learns_at_the_median_distance(published):
    x = published[0]
    distances = np.sqrt(((x[:, None] - x[None]) ** 2).sum(-1))
    width = 0.7 * np.median(distances[distances > 0])
    expected = rbf_kernel(x, gamma=1 / (2 * width**2))
    assert np.allclose(Gram.of(x, "rbf", 0.7).k, expected, atol=1e-12)


@pytest.mark.parametrize("kernel", ["linear", "rbf"])
def test_debiased_is_the_formula_of_the_paper(published, kernel):
    k, m = (Gram.of(x, kernel).k.numpy() for x in published)
    assert float(cka(*published, kernel)) == pytest.approx(cka_song(k, m), abs=1e-12)


@given(st.integers(4, 12), st.integers(1, 5), st.integers(0, 10**6))
def test_debiased_on_any_data_is_the_formula_on_uncentred_features(n, d, seed):
    x, y = gaussians(n, seed, d, shared=0.5)
    expected = cka_song(x @ x.T, y @ y.T)
    assert float(cka(x, y)) == pytest.approx(expected, abs=1e-9)


def test_biased_is_the_formula_over_features(published):
    x, y = (one - one.mean(axis=0) for one in published)
    expected = np.square(x.T @ y).sum() / (np.linalg.norm(x.T @ x) * np.linalg.norm(y.T @ y))
    assert float(cka(*published, estimator="biased")) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("kernel", ["linear", "rbf"])
def test_over_all_permutations_the_debiased_has_mean_0_and_variance_one_ninth(kernel):
    x, y = gaussians(6, 3, d=4, shared=1.0)
    left, right = Gram.of(x, kernel), Gram.of(y, kernel)
    values = [
        grams.value(left, right.take(torch.tensor(order)))
        for order in itertools.permutations(range(6))
    ]
    assert np.mean(values) == pytest.approx(0, abs=1e-12)
    assert np.var(values) == pytest.approx(2 / (6 * 3), abs=1e-12)


def test_floor_of_the_biased_is_its_mean_over_all_permutations():
    x, y = gaussians(6, 4, d=3)
    left, right = Gram.of(x), Gram.of(y)
    values = [
        grams.value(left, right.take(torch.tensor(order)), "biased")
        for order in itertools.permutations(range(6))
    ]
    assert grams.floor(left, right) == pytest.approx(np.mean(values), abs=1e-12)


@given(st.integers(5, 14), st.integers(0, 10**6), st.sampled_from(["linear", "rbf"]))
def test_leaving_each_out_is_computing_it_anew(n, seed, kernel):
    x, y = gaussians(n, seed, 3, shared=1.0)
    left, right = Gram.of(x, kernel), Gram.of(y, kernel)
    anew = [
        cka_song(*(np.delete(np.delete(g.k.numpy(), i, 0), i, 1) for g in (left, right)))
        for i in range(n)
    ]
    assert np.allclose(grams.without_each(left, right), anew, atol=1e-8)


def test_the_rbf_width_of_four_points_is_the_mean_of_the_two_middle_distances():
    # Distances 1, 1, 2, 98, 99, 100: the median is (2 + 98) / 2.
    k = Gram.of(np.array([[0.0], [1], [2], [100]]), "rbf").k
    assert float(k[0, 1]) == pytest.approx(math.exp(-1 / (2 * 50**2)), abs=1e-12)


# Five copies of each of 20 images with unrelated texts, that differ little between the copies.
COPIES = np.repeat(np.arange(20), 5)


def copied(seed, noise=0.3):
    rng = np.random.default_rng(seed)
    x, y = rng.standard_normal((2, 20, 64))
    return x[COPIES], y[COPIES] + noise * rng.standard_normal((100, 64))


@pytest.mark.parametrize("kernel", ["linear", "rbf"])
def test_groups_are_the_unit_of_every_part_of_the_score(kernel):
    x, y = copied(0)
    found = cka(x, y, kernel, groups=COPIES, permutations=99)
    # The long way: the mean of the kernel over the pairs of two groups, then Song et al.
    blocks = [Gram.of(one, kernel).k.numpy().reshape(20, 5, 20, 5).mean((1, 3)) for one in (x, y)]
    value = cka_song(*blocks)
    assert found.value == pytest.approx(value, abs=1e-12)
    assert (found.n, found.chance) == (20, 0.0)
    assert found.z == pytest.approx(value * math.sqrt(20 * 17 / 2))
    assert "20 groups of 100 samples" in found.estimator
    assert float(cka(x, y, kernel)) > 0.5  # what the same features give as 100 samples
    by_group = [Gram(torch.from_numpy(one), kernel) for one in blocks]
    assert found.p == permutation_p(value, grams.permuted(*by_group, 99))
    anew = [cka_song(*(np.delete(np.delete(k, i, 0), i, 1) for k in blocks)) for i in range(20)]
    assert np.allclose(grams.without_each(*by_group), anew)


def test_unrelated_groups_of_copies_are_found_significant_in_one_case_of_twenty():
    found = [cka(*copied(seed), groups=COPIES, permutations=99) for seed in range(200)]
    assert np.mean([one.value for one in found]) == pytest.approx(0, abs=0.01)
    # Binomial, 200 draws at 5 %: 3 to 18 in 99.9 % of cases.
    assert 3 <= sum(one.p <= 0.05 for one in found) <= 18
    assert 180 <= sum(one.ci_low <= 0 <= one.ci_high for one in found) <= 199


@pytest.mark.parametrize("kernel", ["linear", "rbf"])
@pytest.mark.parametrize("estimator", ["debiased", "biased"])
def test_equal_copies_change_nothing_and_groups_of_one_are_no_groups(kernel, estimator):
    x, y = gaussians(15, 2, 6, shared=1.0)
    alone = cka(x, y, kernel, estimator, permutations=9)
    assert cka(x, y, kernel, estimator, groups=list("abcdefghijklmno"), permutations=9) == alone
    three = np.repeat(np.arange(15), 3)
    grouped = cka(x[three], y[three], kernel, estimator, groups=three, permutations=9)
    for part in ("value", "ci_low", "ci_high", "chance", "z", "p", "n"):
        one, other = getattr(grouped, part), getattr(alone, part)
        assert one == other or one == pytest.approx(other, abs=1e-9), part


def test_groups_may_have_any_size_order_and_labels():
    x, y = gaussians(12, 3, 4, shared=1.0)
    labels = [None, "a", 1, "1", 2.5, None, "a", (0, 1), "b", None, "c", 1]
    names = list(dict.fromkeys(labels))  # 1 and "1" are two labels
    assert len(names) == 8
    rows = [[i for i, label in enumerate(labels) if label == name] for name in names]
    for kernel in grams.KERNELS:
        blocks = [
            np.array([[k[np.ix_(a, b)].mean() for b in rows] for a in rows])
            for k in (Gram.of(one, kernel).k.numpy() for one in (x, y))
        ]
        found = cka(x, y, kernel, groups=labels)
        assert found.value == pytest.approx(cka_song(*blocks), abs=1e-9)
        assert "8 groups of 12 samples" in found.estimator
    found = cka(x, y, groups=labels)
    number = [names.index(label) for label in labels]
    for groups in (number, np.array(number), torch.tensor(number), tuple(map(str, number))):
        assert cka(x, y, groups=groups) == found


def test_many_samples_in_groups_go_through_moments_to_the_same_number(monkeypatch):
    x, y = copied(4)
    by_gram = cka(x, y, groups=COPIES)
    monkeypatch.setattr(grams, "LARGEST_GRAM", 19)
    by_moments = cka(x, y, groups=COPIES)
    assert by_moments.value == pytest.approx(by_gram.value, abs=1e-12)
    assert (by_moments.n, by_moments.z) == (20, pytest.approx(by_gram.z))
    assert "moments" in by_moments.estimator and "20 groups of 100" in by_moments.estimator


def test_too_few_groups_and_groups_that_are_all_alike_are_undefined():
    x, y = copied(0)
    found = cka(x[:15], y[:15], groups=COPIES[:15])
    assert (found.n, found.value) == (3, None) and "there are 3" in found.undefined
    alike = np.tile([[0.0], [1.0]], (10, 3))
    for kernel in grams.KERNELS:
        found = cka(alike, y[:20], kernel, groups=np.arange(20) // 2)
        assert found.value is None and "same for every sample" in found.undefined


@pytest.mark.parametrize("groups", [[1, 2], [[1]] * 5, np.ones((5, 1)), []])
def test_groups_that_are_not_one_label_per_sample_are_refused(groups):
    with pytest.raises(UsageError, match=r"group"):
        cka(np.eye(5), np.eye(5), groups=groups)


def test_invariant_to_offset_scale_and_rotation(published):
    x, y = published
    rotation = np.linalg.qr(np.random.default_rng(0).standard_normal((10, 10)))[0]
    for kernel, estimator in itertools.product(grams.KERNELS, grams.ESTIMATORS):
        before = float(cka(x, y, kernel, estimator))
        after = float(cka(1e-4 * x @ rotation + 7, y, kernel, estimator))
        assert after == pytest.approx(before, abs=1e-9)


def test_equal_features_score_one_and_torch_agrees_with_numpy(published):
    x, y = published
    assert float(cka(x, 2 * x)) == pytest.approx(1)
    assert float(cka(torch.from_numpy(x), torch.from_numpy(y))) == float(cka(x, y))


@pytest.mark.parametrize("n", [30, 90])
def test_interval_of_unrelated_features_covers_zero(n):
    covered = [(s := cka(*gaussians(n, seed))).ci_low <= 0 <= s.ci_high for seed in range(100)]
    assert 90 <= sum(covered) <= 98


def test_interval_covers_the_population_value_of_related_gaussians():
    d, n = 8, 60
    mixing = np.random.default_rng(5).standard_normal((d, d)) / math.sqrt(d)
    within = mixing.T @ mixing + np.eye(d)
    population = np.square(mixing).sum() / (math.sqrt(d) * np.linalg.norm(within))
    covered = 0
    for seed in range(100):
        rng = np.random.default_rng(seed)
        x = rng.standard_normal((n, d))
        found = cka(x, x @ mixing + rng.standard_normal((n, d)))
        covered += found.ci_low <= population <= found.ci_high
    assert 90 <= covered <= 98


@pytest.mark.parametrize(("n", "floor"), [(9, 0.989), (30, 0.963), (90, 0.895)])
def test_biased_of_unrelated_features_is_high_and_its_floor_says_so(n, floor):
    found = cka(*gaussians(n, 0), estimator="biased")
    assert found.value == pytest.approx(floor, abs=0.02)
    assert found.chance == pytest.approx(floor, abs=0.02)
    assert found.ci_low is None


def test_z_is_large_for_related_and_small_for_unrelated_features():
    assert cka(*gaussians(50, 0, 20, shared=1.0)).z > 10
    assert abs(cka(*gaussians(50, 0, 20)).z) < 3


def test_permutations_give_p():
    assert permutation_p(1.0, np.zeros(99)) == 0.01  # the pairing itself is one of them
    related, unrelated = gaussians(40, 0, 5, shared=2.0), gaussians(40, 1, 5)
    assert cka(*related, permutations=199).p == pytest.approx(1 / 200)
    assert cka(*unrelated, permutations=199).p > 0.05


def test_permuted_values_are_those_of_permuted_features():
    x, y = gaussians(15, 2, 4, shared=1.0)
    found = grams.permuted(Gram.of(x), Gram.of(y), 3, seed=7)
    rng = np.random.default_rng(7)
    expected = [float(cka(x, y[rng.permutation(15)])) for _ in range(3)]
    assert np.allclose(found, expected)


def test_pair_terms_are_the_change_with_each_pair():
    x, y = gaussians(20, 3, 4, shared=1.0)
    terms = grams.pair_terms(Gram.of(x), Gram.of(y))
    assert float(terms.sum()) == pytest.approx(0, abs=1e-12)
    # Unrelated features: the variance from pairs is the variance under permutation.
    spread = np.mean(
        [
            grams.interaction(grams.pair_terms(*map(Gram.of, gaussians(40, s, 300))))
            for s in range(20)
        ]
    )
    assert spread == pytest.approx(2 / (40 * 37), rel=0.1)


def test_pairwise_is_every_pair_and_the_matrix_is_symmetric(published):
    x, y = published
    found = pairwise({"a": x, "b": y, "c": x + y})
    assert set(found) == {("a", "b"), ("a", "c"), ("b", "c")}
    assert found["a", "b"].value == cka(x, y).value
    table = CKA.compute_pairwise({"a": x, "b": y})
    assert table[0, 1] == table[1, 0] == pytest.approx(0.55761, abs=5e-6)
    assert table[0, 0] == 1


def test_many_samples_go_through_moments_to_the_same_number(published, monkeypatch):
    by_gram = cka(*published)
    monkeypatch.setattr(grams, "LARGEST_GRAM", 50)
    by_moments = cka(*published)
    assert by_moments.value == pytest.approx(by_gram.value, abs=1e-12)
    assert by_moments.ci_low == pytest.approx(by_gram.ci_low, abs=0.03)
    assert "moments" in by_moments.estimator


def test_too_few_and_constant_features_are_undefined_with_the_reason():
    assert "at least 4 independent samples, and there are 3" in cka(np.eye(3), np.eye(3)).undefined
    flat = np.full((6, 2), 7.3)
    for kernel in grams.KERNELS:
        assert "same for every sample" in cka(flat, np.eye(6), kernel).undefined
    assert math.isnan(CKA.compute_cka(flat, np.eye(6)))


def test_the_row_that_is_not_finite_is_the_callers_above_the_largest_gram():
    x = np.random.default_rng(0).standard_normal((grams.LARGEST_GRAM + 300, 3))
    broken = x.copy()
    broken[4200, 1] = np.inf
    groups = np.arange(len(x)) % 50
    words = "1 of 4300 rows of (X|Y|y) are not finite: got 'the first is row 4200'"
    for arguments, more in (
        ((broken, x), {}), ((x, broken), {}), ((broken, x), {"groups": groups}),
    ):  # fmt: skip
        with pytest.raises(UsageError, match=words):
            cka(*arguments, **more)
    with pytest.raises(UsageError, match=words):
        Moments.of({"x": x, "y": broken})


def test_wrong_input_is_answered_in_one_sentence():
    x = np.eye(5)
    broken = x.copy()
    broken[3, 1] = np.nan
    for arguments, words in (
        ((x, np.eye(6)), "not of the same samples: got '5 rows of X, 6 rows of Y'"),
        ((broken, x), "1 of 5 rows of X are not finite: got 'the first is row 3'"),
        ((x, x, "polynomial"), "unknown kernel: got 'polynomial'"),
        ((x, x, "linear", "unbiased"), "Did you mean 'debiased'|unknown estimator"),
        ((x[0], x), "must be a matrix"),
    ):
        with pytest.raises(UsageError, match=words):
            cka(*arguments)
