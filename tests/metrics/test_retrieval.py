"""Retrieval against brute force: sorted lists, enumerated permutations, hand-made examples."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from encoderlab.core.score import wilson
from encoderlab.errors import UsageError
from encoderlab.metrics.retrieval import (
    Part,
    chance_of_mrr,
    chance_of_recall,
    retrieval,
    retrieval_over,
)


def _best_rank(scores: np.ndarray, right: set[int], ties_against: bool) -> int:
    """By sorting a list: the slow way."""
    order = sorted(
        range(len(scores)),
        key=lambda j: (-scores[j], (j in right) if ties_against else (j not in right)),
    )
    return 1 + next(place for place, j in enumerate(order) if j in right)


def _brute(image, text, owner, words):
    image = image / np.linalg.norm(image, axis=1, keepdims=True)
    text = text / np.linalg.norm(text, axis=1, keepdims=True)
    distinct = list(dict.fromkeys(words))
    vectors = [text[words.index(w)] for w in distinct]
    scores = image.astype(np.float32) @ np.array(vectors, dtype=np.float32).T
    has = [
        {distinct.index(words[j]) for j in range(len(words)) if owner[j] == i}
        for i in range(len(image))
    ]
    i2t = [_best_rank(scores[i], has[i], True) for i in range(len(image))]
    t2i = [
        _best_rank(scores[:, u], {i for i in range(len(image)) if u in has[i]}, True)
        for u in range(len(distinct))
    ]
    return i2t, t2i


@st.composite
def worlds(draw):
    images = draw(st.integers(2, 7))
    owner = [i for i in range(images) for _ in range(draw(st.integers(1, 3)))]
    words = [draw(st.sampled_from("abcdefghij")) for _ in owner]
    seed = draw(st.integers(0, 10_000))
    rng = np.random.default_rng(seed)
    # Small whole numbers: ties are common, and exact in fp32.
    image = rng.integers(-1, 2, (images, 2)).astype(float) + np.array([0.0, 1.5])
    by_word = {w: rng.integers(-1, 2, 2).astype(float) + np.array([1.5, 0.0]) for w in words}
    return image, np.array([by_word[w] for w in words]), np.array(owner), words


@settings(max_examples=60, deadline=None)
@given(world=worlds())
def test_ranks_equal_those_of_sorting_with_ties_against_us(world):
    image, text, owner, words = world
    i2t, t2i = _brute(image, text, list(owner), words)
    found = retrieval(image, text, image_of_text=owner, texts=words, cutoffs=(1, 2))
    for direction, expected in ((found.image_to_text, i2t), (found.text_to_image, t2i)):
        if direction.mrr.value is None:  # nothing but right candidates: rank 1 whatever the order
            assert set(expected) == {1} and direction.recall[1].value is None
            continue
        assert direction.mrr.value == pytest.approx(np.mean([1 / r for r in expected]))
        assert direction.median_rank.value == np.median(expected)
        if direction.recall[1].value is not None:
            assert direction.recall[1].value == np.mean([r <= 1 for r in expected])


def test_five_captions_an_image_count_one_hit_is_enough():
    rng = np.random.default_rng(0)
    image = rng.normal(size=(20, 16))
    text = np.repeat(image, 5, axis=0) + 0.01 * rng.normal(size=(100, 16))
    found = retrieval(image, text, image_of_text=np.repeat(np.arange(20), 5))
    assert found.image_to_text.recall[1].value == 1.0
    assert found.text_to_image.recall[1].value == 1.0


def test_a_caption_that_two_images_share_is_right_for_both():
    image = np.eye(3)
    text = np.array([[1.0, 1, 0], [1, 1, 0], [0, 0, 1]])
    found = retrieval(image, text, texts=["same", "same", "other"], cutoffs=(1,))
    assert found.distinct_captions == 2
    assert found.text_to_image.recall[1].value == 1.0
    assert found.image_to_text.recall[1].value == 1.0


def test_a_collapsed_model_gets_no_recall_and_the_optimistic_bound_stands_beside_it():
    same = np.ones((10, 4))
    recall = retrieval(same, same).image_to_text.recall[1]
    assert recall.value == 0.0
    assert recall.optimistic == 1.0


@pytest.mark.parametrize(("images", "each"), [(1, 1), (1, 3), (2, 1), (3, 2)])
def test_recall_that_no_order_can_miss_has_no_value(images, each):
    """By enumeration: of all orders of the candidates, those without a right one in the top k."""
    owner = np.repeat(np.arange(images), each)
    vectors = np.random.default_rng(0).normal(size=(images, 4))
    found = retrieval(vectors, vectors[owner], image_of_text=owner, cutoffs=(1, 2, 5))
    for direction, m, right in (
        (found.image_to_text, images * each, each),
        (found.text_to_image, images, 1),
    ):
        ranks = [min(order[:right]) for order in itertools.permutations(range(1, m + 1))]
        for k, score in direction.recall.items():
            can_miss = k <= m and any(rank > k for rank in ranks)
            assert (score.value is not None) == can_miss, (m, k)
        assert (direction.mrr.value is None) == (max(ranks) == 1)


def test_embeddings_that_are_no_numbers_are_refused():
    broken = np.full((3, 2), np.nan)
    with pytest.raises(UsageError, match="3 of 3 text embeddings are not finite"):
        retrieval(np.ones((3, 2)), broken)


@pytest.mark.parametrize(("m", "p", "k"), [(5, 1, 1), (5, 2, 2), (6, 3, 2), (4, 1, 4)])
def test_chance_is_the_average_over_all_orders(m, p, k):
    places = [min(order[:p]) for order in itertools.permutations(range(1, m + 1))]
    positives = np.array([p])
    assert chance_of_recall(positives, m, k) == pytest.approx(np.mean([r <= k for r in places]))
    assert chance_of_mrr(positives, m) == pytest.approx(np.mean([1 / r for r in places]))


def test_chance_of_mrr_with_one_right_answer_is_the_harmonic_number_over_n():
    assert chance_of_mrr(np.ones(3, int), 20) == pytest.approx(
        sum(1 / r for r in range(1, 21)) / 20
    )


def test_random_embeddings_score_what_chance_says():
    rng = np.random.default_rng(1)
    found = retrieval(rng.normal(size=(400, 32)), rng.normal(size=(400, 32)))
    for score in (*found.image_to_text.recall.values(), found.image_to_text.mrr):
        assert score.ci_low <= score.chance + 0.02
        assert score.ci_high >= score.chance - 0.02
    assert found.text_to_image.median_rank.chance == np.median(range(1, 401))


def test_a_cutoff_beyond_the_candidates_is_undefined_with_the_reason():
    recall = retrieval(np.eye(3), np.eye(3)).text_to_image.recall[5]
    assert recall.value is None
    assert recall.undefined == "there are only 3 candidates"


def test_interval_covers_the_truth_about_as_often_as_it_says():
    rng = np.random.default_rng(2)
    truth, covered = 0.3, 0
    for _ in range(400):
        low, high = wilson(rng.binomial(60, truth), 60)
        covered += low <= truth <= high
    assert 0.92 <= covered / 400 <= 0.98


@settings(deadline=None)
@given(scale=st.floats(0.1, 100), seed=st.integers(0, 50))
def test_length_of_embeddings_does_not_matter(scale, seed):
    rng = np.random.default_rng(seed)
    image, text = rng.normal(size=(12, 5)), rng.normal(size=(12, 5))
    first, second = retrieval(image, text), retrieval(scale * image, text)
    assert math.isclose(first.image_to_text.mrr.value, second.image_to_text.mrr.value)


def test_five_captions_of_an_image_do_not_narrow_an_interval():
    rng = np.random.default_rng(2)
    image = rng.normal(size=(60, 8))
    text = image + 2 * rng.normal(size=(60, 8))
    once = retrieval(image, text).text_to_image
    owner = np.repeat(np.arange(60), 5)
    five = retrieval(image, text[owner], image_of_text=owner).text_to_image
    for name in ("median_rank", "mrr"):
        one, other = getattr(once, name), getattr(five, name)
        assert other.value == pytest.approx(one.value)
        assert (other.ci_low, other.ci_high) == pytest.approx((one.ci_low, one.ci_high))
    widths = [d.recall[10].ci_high - d.recall[10].ci_low for d in (once, five)]
    assert five.recall[10].n == 300 and widths[1] == pytest.approx(widths[0], rel=0.05)


def test_rows_of_one_image_are_right_for_each_other():
    image = np.eye(4)[[0, 0, 1, 1]]
    part = Part(image, image[[1, 0, 3, 2]], group=np.array([0, 0, 1, 1]))
    found = retrieval_over([part]).image_to_text
    assert found.recall[1].value == 1.0
    assert found.recall[1].chance == pytest.approx(2 / 4)
