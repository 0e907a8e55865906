"""Answer metrics against the published rules on cases worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from encoderlab.metrics import answers


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("The red circle.", "red circle"),
        ("two", "2"),
        ("둘", "2"),
        ("Two  apples", "2 apples"),
        ("1,200", "1200"),
        ("ＡＢＣ", "abc"),
        ("it's", "it s"),
        ("top-left", "top left"),
    ],
)
def test_normalised_texts_are_equal(a, b):
    assert answers.normalised(a) == answers.normalised(b)
    assert answers.exact_match(a, ["something else", b])


@pytest.mark.parametrize(
    ("a", "b"), [("0.5", "5"), ("-3", "3"), ("1/2", "12"), ("12 %", "12"), ("red", "blue")]
)
def test_different_answers_stay_different(a, b):
    assert not answers.exact_match(a, [b])


def test_an_empty_answer_is_never_right():
    assert not answers.exact_match("", [""])
    assert not answers.exact_match("the", ["an"])


@pytest.mark.parametrize(
    ("answer", "right", "expected"),
    [
        ("105", "100", True),
        ("94.9", "100", False),
        ("5%", "0.05", True),
        ("Red", "red", True),
        ("reds", "red", False),
        ("0.001", "0", False),
        ("0", "0", True),
        ("-95", "-100", True),
        ("", "", False),
    ],
)
def test_relaxed_accuracy_of_chartqa(answer, right, expected):
    assert answers.relaxed_match(answer, [right]) is expected


@pytest.mark.parametrize(
    ("answer", "right", "expected"),
    [
        ("hello", ["hello"], 1.0),
        ("Hallo", ["hello"], 1 - 1 / 5),
        ("hxxxo", ["hello"], 0.0),  # 3 of 5 differ: below the threshold
        ("abcd", ["abxx"], 0.0),  # a distance of one half is not below one half
        ("abc", ["xyz", "abd"], 1 - 1 / 3),
    ],
)
def test_anls(answer, right, expected):
    assert answers.anls(answer, right) == pytest.approx(expected)


def test_levenshtein_distances_that_are_known():
    assert answers.levenshtein("kitten", "sitting") == 3
    assert answers.levenshtein("", "abc") == answers.levenshtein("abc", "") == 3
    assert answers.levenshtein("flaw", "lawn") == 2


@pytest.mark.parametrize(("agreeing", "expected"), [(0, 0), (1, 0.3), (2, 0.6), (3, 0.9), (4, 1)])
def test_vqa_accuracy_with_ten_annotators(agreeing, expected):
    """The values of the official evaluation: 0, 0.3, 0.6, 0.9, 1."""
    right = ["red"] * agreeing + ["blue"] * (10 - agreeing)
    assert answers.vqa_accuracy("red", right) == pytest.approx(expected)


def test_the_interval_counts_images():
    """Ten equal questions per image: the interval is that of the images' means."""
    rng = np.random.default_rng(0)
    per_image = rng.random(40) < 0.6
    right, image = np.repeat(per_image, 10), np.repeat(np.arange(40), 10)
    score = answers.accuracy(right, image)
    once = answers.accuracy(per_image, np.arange(40))
    assert score.value == pytest.approx(once.value)
    assert score.ci_low == pytest.approx(once.ci_low)
    assert score.n == 400
    naive = answers.accuracy(right, np.arange(400))
    assert score.ci_high - score.ci_low > 2.5 * (naive.ci_high - naive.ci_low)


def test_all_right_is_not_certain():
    """With 20 images all right, Wilson's lower end is 1 / (1 + z^2 / 20)."""
    score = answers.accuracy(np.ones(60), np.repeat(np.arange(20), 3))
    assert (score.value, score.ci_high) == (1.0, 1.0)
    assert score.ci_low == pytest.approx(1 / (1 + 1.959964**2 / 20))
    none = answers.accuracy(np.zeros(60), np.repeat(np.arange(20), 3))
    assert (none.ci_low, none.ci_high) == (0.0, pytest.approx(1 - score.ci_low))


def test_the_interval_of_a_difference_is_that_of_a_bootstrap_over_images():
    rng = np.random.default_rng(0)
    image = rng.integers(0, 200, 500)  # a different number of questions about each image
    of_image = rng.random(200)[image]
    a, b = (of_image * rng.random(500) > 0.3).astype(float), (of_image > 0.5).astype(float)
    found = answers.compare_answers("a", "b", (a, b), image)
    assert found.difference == pytest.approx(a.mean() - b.mean())
    rows = [np.flatnonzero(image == i) for i in np.unique(image)]
    drawn = []
    for _ in range(2000):
        chosen = np.concatenate([rows[i] for i in rng.integers(0, len(rows), len(rows))])
        drawn.append((a - b)[chosen].mean())
    assert (found.ci_low, found.ci_high) == pytest.approx(
        np.quantile(drawn, [0.025, 0.975]), abs=5e-3
    )
    naive = answers.compare_answers("a", "b", (a, b), np.arange(500))
    assert naive.ci_high - naive.ci_low < 0.9 * (found.ci_high - found.ci_low)


def test_answers_that_agree_on_every_image_may_still_differ():
    """The exact bound of no event in n images; larger images weigh more."""
    right, image = np.ones(60), np.repeat(np.arange(20), 3)
    found = answers.compare_answers("a", "b", (right, right), image)
    exact = stats.binomtest(0, 20, alternative="less").proportion_ci(0.95).high
    assert (found.ci_low, found.ci_high) == pytest.approx((-exact, exact))
    assert (found.difference, found.p, found.verdict) == (0, 1, "cannot distinguish")
    uneven = np.repeat([0, 1, 2], [2, 3, 4])
    assert answers.least_half_width(uneven) == pytest.approx(4 / 3 * (1 - 0.05 ** (1 / 3)))
    # One image that differs does not make the interval narrower than none.
    one = right.copy()
    one[:3] = 0
    wider = answers.compare_answers("a", "b", (right, one), image)
    assert wider.ci_high - wider.ci_low >= found.ci_high - found.ci_low


def test_a_difference_over_seeds_has_the_variance_of_images_and_of_seeds():
    rng = np.random.default_rng(0)
    a, b = rng.random((3, 90)) < 0.6, rng.random((3, 90)) < np.array([[0.3], [0.5], [0.4]])
    image = np.repeat(np.arange(30), 3)
    found = answers.compare_answers_over_seeds("a", "b", (a, b), image, comparisons=4)
    by_seed = a.mean(axis=1) - b.mean(axis=1)
    of_image = (a.mean(axis=0) - b.mean(axis=0)).reshape(30, 3).mean(axis=1)
    over_images, over_seeds = of_image.var(ddof=1) / 30, by_seed.var(ddof=1) / 3
    total = over_images + over_seeds
    freedom = total**2 / (over_images**2 / 29 + over_seeds**2 / 2)
    half = stats.t.ppf(1 - 0.05 / 4 / 2, freedom) * total**0.5
    assert found.difference == pytest.approx(by_seed.mean())
    assert found.ci_low == pytest.approx(by_seed.mean() - half)
    assert found.ci_high == pytest.approx(by_seed.mean() + half)
    assert found.level == pytest.approx(1 - 0.05 / 4) and found.samples_needed is None
    one = answers.compare_answers_over_seeds("a", "b", (a[:1], b[:1]), image)
    assert one == answers.compare_answers("a", "b", (a[0], b[0]), image)


def test_no_question_gives_no_accuracy():
    assert answers.accuracy(np.zeros(0), np.zeros(0, int)).undefined == "no question"


def test_the_most_common_answer_of_each_question():
    common = answers.most_common_answer(["q", "q", "q", "r"], ["a", "b", "b", "c"])
    assert common == {"q": "b", "r": "c", "": "b"}


def test_of_one_seed_the_interval_is_over_images():
    right = np.array([[1, 0, 1, 1, 0, 1]])
    image = np.array([0, 0, 1, 2, 3, 3])
    assert answers.accuracy_over_seeds(right, image, 0.2) == answers.accuracy(right[0], image, 0.2)


@pytest.mark.parametrize(("of_image", "of_seed"), [(0.25, 0.0), (0.05, 0.1), (0.2, 0.05)])
def test_the_interval_over_images_and_seeds_covers_the_mean_of_both_populations(of_image, of_seed):
    rng = np.random.default_rng(0)
    covered = []
    for _ in range(600):
        share = 0.5 + of_image * rng.uniform(-1, 1, 80) + of_seed * rng.uniform(-1, 1, (3, 1))
        right = rng.random((3, 80)) < share
        score = answers.accuracy_over_seeds(right, np.arange(80))
        covered.append(score.ci_low <= 0.5 <= score.ci_high)
    assert 0.93 < np.mean(covered) <= 1.0


def test_seeds_that_differ_widen_the_interval():
    image, alike = np.arange(40), np.tile(np.arange(40) % 2, (3, 1))
    apart = np.stack([np.arange(40) < count for count in (10, 20, 30)])
    narrow, wide = (answers.accuracy_over_seeds(x, image) for x in (alike, apart))
    assert float(narrow) == float(wide) == 0.5
    assert wide.ci_high - wide.ci_low > 1.5 * (narrow.ci_high - narrow.ci_low)
