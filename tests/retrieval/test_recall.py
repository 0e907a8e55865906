"""Recall against plain numpy, and against searches whose recall is known beforehand."""

import numpy as np
import pytest

from encoderlab.retrieval.approximate import Effort
from encoderlab.retrieval.exact import nearest, top_k
from encoderlab.retrieval.recall import NO_ROW, Probe, choose, moved, recall, true_nearest


def _unit(rng: np.random.Generator, *shape: int) -> np.ndarray:
    vectors = rng.normal(size=shape).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@pytest.fixture
def vectors() -> np.ndarray:
    return _unit(np.random.default_rng(0), 500, 16)


@pytest.fixture
def truth(vectors):
    rng = np.random.default_rng(1)
    own = rng.choice(500, 40, replace=False)
    probe = Probe(moved(vectors[own], rng), own)
    blocks = [(vectors[s : s + 130], np.arange(s, min(s + 130, 500))) for s in range(0, 500, 130)]
    return true_nearest({"images": probe}, blocks, 10)["images"]


def test_blocks_give_the_same_nearest_as_all_at_once(vectors):
    queries = _unit(np.random.default_rng(2), 7, 16)
    numbers = np.arange(500) + 1000
    blocks = ((vectors[s : s + 5], numbers[s : s + 5]) for s in range(0, 500, 5))  # less than k
    scores, names = nearest(queries, blocks, 12)
    expected, places = top_k(queries, vectors, 12)
    np.testing.assert_allclose(scores, expected, rtol=1e-6)
    np.testing.assert_array_equal(names, places + 1000)


def test_of_equal_scores_the_first_block_wins():
    blocks = [(np.ones((2, 2), np.float32), np.array([start, start + 1])) for start in (0, 2, 4)]
    assert nearest(np.ones((1, 2), np.float32), blocks, 3)[1].tolist() == [[0, 1, 2]]


def test_queries_are_near_their_rows_but_not_them(vectors):
    queries = moved(vectors, np.random.default_rng(0))
    np.testing.assert_allclose(np.linalg.norm(queries, axis=1), 1, rtol=1e-5)
    cosines = (queries * vectors).sum(1)
    assert cosines.min() > 0.95 and cosines.max() < 0.999


def test_recall_is_the_share_found_without_the_row_of_the_query(truth, vectors):
    rng = np.random.default_rng(3)
    result, shares = [], []
    for query, own in zip(truth.probe.queries, truth.probe.own, strict=True):
        cosines = vectors @ query
        order = np.argsort(-cosines)
        rows = order[np.sort(rng.choice(20, 10, replace=False))]  # some of the true ten, some not
        result.append((rows, cosines[rows]))
        others = set(order[:10].tolist()) - {int(own)}
        shares.append(len(others & set(rows.tolist())) / len(others))
    measured = recall(truth, result)
    assert measured.value == pytest.approx(np.mean(shares))
    assert 0.3 < measured.value < 0.7
    assert measured.ci_low < measured.value < measured.ci_high
    assert measured.queries == 40


def test_a_search_that_finds_only_the_row_of_the_query_has_found_nothing(truth):
    result = [(np.array([own]), np.array([0.98])) for own in truth.probe.own]
    assert recall(truth, result).value == 0


def test_the_truth_itself_is_one_with_an_interval_that_is_not_empty(truth):
    result = list(zip(truth.rows, truth.scores, strict=True))
    measured = recall(truth, result)
    assert (measured.value, measured.ci_high) == (1, 1)
    assert 0.8 < measured.ci_low < 1


def test_a_row_that_ties_with_the_last_is_as_good():
    twins = np.array([[1, 0], [0.6, 0.8], [0.6, 0.8]], np.float32)
    probe = Probe(np.array([[1, 0]], np.float32), np.array([NO_ROW]))
    truth = true_nearest({"sentences": probe}, [(twins, np.arange(3))], 2)["sentences"]
    assert truth.rows.tolist() == [[0, 1]]
    assert recall(truth, [(np.array([0, 2]), np.array([1, 0.6]))]).value == 1
    assert recall(truth, [(np.array([0]), np.array([1.0]))]).value == 0.5


@pytest.mark.parametrize(("target", "chosen"), [(0.5, 2), (0.9, 3), (1.0, 4)])
def test_the_least_effort_that_reaches_the_target_is_chosen(truth, target, chosen):
    def search(queries, effort):  # finds more with each step
        stored = {1: 3, 2: 6, 3: 10}[effort.nprobes] if effort.nprobes < 4 else 10
        rows = truth.rows if effort.nprobes == 4 else truth.rows.copy()
        if effort.nprobes == 3:
            rows[0] = NO_ROW - 1
        scores = np.where(rows < 0, -1.0, truth.scores)
        return [(r[:stored], s[:stored]) for r, s in zip(rows, scores, strict=True)]

    tries = [Effort(n, 200) for n in (1, 2, 3, 4)]
    assert choose({"images": truth}, search, tries, target).nprobes == chosen


def test_every_kind_of_query_has_to_reach_the_target(truth):
    def search(queries, effort):
        rows = truth.rows if effort.nprobes > 1 or len(queries) == 40 else truth.rows - 10_000
        return [(r, np.full(10, -1.0)) for r in rows[: len(queries)]]

    half = truth.halves()[0]
    both = {"images": truth, "sentences": half}
    assert choose(both, search, [Effort(1, 200), Effort(2, 200)], 0.95).nprobes == 2
