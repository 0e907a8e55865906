"""Zero-shot classification against independent computations."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import softmax

from encoderlab.core.score import wilson
from encoderlab.metrics.classification import class_vector, classification, probabilities, ranking


def test_a_class_is_the_normalised_mean_of_its_normalised_prompts():
    prompts = np.array([[3.0, 0.0], [0.0, 0.5]])
    np.testing.assert_allclose(class_vector(prompts), [np.sqrt(0.5), np.sqrt(0.5)])


@given(seed=st.integers(0, 100), scale=st.floats(0.1, 100))
def test_probabilities_are_the_softmax_of_scaled_cosines(seed, scale):
    rng = np.random.default_rng(seed)
    image, classes = rng.normal(size=(4, 3)), rng.normal(size=(5, 3))
    np.testing.assert_allclose(
        probabilities(image, classes, scale), softmax(scale * image @ classes.T, axis=1), rtol=1e-9
    )


def test_accuracy_confusion_and_recall_by_hand():
    scores = np.array([[3.0, 1, 0], [0, 2, 1], [0, 3, 1], [1, 0, 2]])
    found = classification(scores, np.array([0, 1, 2, 2]))
    assert found.top1.value == 0.75
    assert found.top1.chance == pytest.approx(1 / 3)
    assert found.confusion.tolist() == [[1, 0, 0], [0, 1, 0], [0, 1, 1]]
    assert [score.value for score in found.recall] == [1.0, 1.0, 0.5]
    assert found.balanced.value == pytest.approx((1 + 1 + 0.5) / 3)
    assert found.top5.undefined == "there are only 3 classes"


def test_equal_scores_count_against_the_model():
    found = classification(np.zeros((4, 3)), np.array([0, 1, 2, 0]))
    assert found.top1.value == 0.0
    assert np.trace(found.confusion) == 0


@given(seed=st.integers(0, 200))
def test_a_ranking_puts_the_answer_after_its_equals_in_any_order_of_classes(seed):
    rng = np.random.default_rng(seed)
    scores, answer = rng.integers(0, 3, 6).astype(float), int(rng.integers(6))
    order = ranking(scores, answer)
    assert sorted(order) == list(range(6))
    assert (np.diff(scores[order]) <= 0).all()
    assert list(order).index(answer) == (scores >= scores[answer]).sum() - 1
    found = classification(scores[None], np.array([answer]))
    assert found.confusion[answer].tolist() == np.eye(6, dtype=int)[order[0]].tolist()


def test_the_interval_of_copies_is_that_of_the_effective_number_of_images():
    scores, answer = np.eye(2)[[0, 0, 0, 0, 1, 1]], np.zeros(6, dtype=int)
    found = classification(scores, answer, ["a", "a", "a", "b", "b", "c"]).top1
    effective = 6**2 / (3**2 + 2**2 + 1)
    assert (found.value, found.n) == (4 / 6, 6)
    assert (found.ci_low, found.ci_high) == wilson(4 / 6 * effective, effective)
