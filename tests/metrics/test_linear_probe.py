"""The linear probe reads what is there, and nothing where nothing is."""

import numpy as np
import pytest

from encoderlab.errors import UsageError
from encoderlab.metrics.linear_probe import linear_probe


def blobs(n: int, apart: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Three Gaussian classes in five dimensions."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, n)
    return rng.standard_normal((n, 5)) + apart * np.eye(3, 5)[labels], labels


def test_classes_that_lie_apart_are_told_apart():
    found = linear_probe(*blobs(150, 8, 0), *blobs(200, 8, 1))
    assert found.value > 0.99 and found.n == 200 and found.ci_low < found.value


def test_noise_is_at_chance():
    found = linear_probe(*blobs(300, 0, 0), *blobs(400, 0, 1))
    assert found.ci_low < 1 / 3 < found.ci_high
    assert found.chance == pytest.approx(1 / 3, abs=0.08)


def test_a_scale_that_differs_by_millions_does_no_harm():
    x, labels = blobs(150, 8, 0)
    test_x, test_labels = blobs(200, 8, 1)
    scale = np.array([1e6, 1, 1e-6, 1, 1])
    found = linear_probe(x * scale, labels, test_x * scale, test_labels)
    assert found.value == linear_probe(x, labels, test_x, test_labels).value


def test_guessing_is_the_commonest_label_of_training():
    x = np.random.default_rng(0).standard_normal((9, 2))
    labels = np.array([0] * 6 + [1] * 3)
    assert linear_probe(x, labels, x[:4], np.array([1, 1, 1, 0])).chance == 0.25
    # Accuracy is undefined if guessing is always right.
    assert linear_probe(x, labels, x[:4], np.zeros(4, int)).value is None
    assert linear_probe(x, labels, x[:4], np.ones(4, int)).chance == 0


@pytest.mark.parametrize(
    "labels, test_labels, words",
    [
        ([0, 0, 0], [0, 0, 0], "two classes.*1 classes"),
        ([0, 1], [0, 1, 0], "do not match.*3 and 2"),
    ],
)
def test_what_cannot_be_probed_is_refused(labels, test_labels, words):
    x = np.zeros((3, 2))
    with pytest.raises(UsageError, match=words):
        linear_probe(x, np.array(labels), x, np.array(test_labels))
