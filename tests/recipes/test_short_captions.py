"""Short captions: which pictures they fit, and how well a search by them works."""

import math

import numpy as np
import pytest
import scipy.stats

from encoderlab.data.synthetic import KINDS, generate
from recipes.cards.short_queries import PARTS, precision, precision_at
from recipes.short_captions import OBJECTS, TAGS, tags_of


def test_tags_name_the_objects_of_the_scene():
    for number in range(50):
        item = generate(number, kind="scene", size=8)
        shown = {f"{thing.colour} {thing.shape}" for thing in item.objects}
        tags = tags_of("scene", item.captions[0])
        two = {
            tag
            for tag in tags
            if len(tag.split()) == 2 and tag.split()[0] not in ("small", "large")
        }
        assert two == shown
        assert all(tag in OBJECTS for tag in tags[1:])


@pytest.mark.parametrize("kind", KINDS)
def test_every_picture_has_tags(kind):
    for number in range(30):
        tags = tags_of(kind, generate(number, kind=kind, size=8).captions[0])
        assert len(tags) >= (2 if kind in ("scene", "chart") else 1)
        assert set(tags) <= set(TAGS)


def test_precision_counts_the_first_k():
    cosines = np.array([[0.9, 0.8, 0.1, 0.0], [0.0, 0.1, 0.2, 0.3]])
    right = np.array([[True, False, True, False], [True, True, True, True]])
    shares, chance = precision_at(2, cosines, right)
    assert shares.tolist() == [0.5, 1.0]
    assert chance == 0.75
    # One right picture alone is all that a query can find.
    assert precision_at(2, cosines, np.eye(2, 4, dtype=bool))[0].tolist() == [1.0, 0.0]


def test_the_interval_of_precision_is_over_pictures():
    rng = np.random.default_rng(0)
    right = rng.random((6, 400)) < 0.3
    cosines = right + rng.normal(0, 1.0, right.shape)
    score = precision(3, cosines, right)
    assert score.value == precision_at(3, cosines, right)[0].mean() and score.n == 6
    # The same query four times says no more than once.
    again = precision(3, np.tile(cosines, (4, 1)), np.tile(right, (4, 1)))
    assert again.ci_low == pytest.approx(score.ci_low)
    part = np.random.default_rng(0).permutation(400) % PARTS
    left = [precision_at(3, cosines[:, part != i], right[:, part != i])[0].mean()
            for i in range(PARTS)]  # fmt: skip
    error = math.sqrt((PARTS - 1) / PARTS * ((left - np.mean(left)) ** 2).sum())
    half = scipy.stats.t.ppf(0.975, PARTS - 1) * error
    assert score.ci_low == pytest.approx(score.value - half)


def test_queries_that_are_all_right_have_an_exact_bound():
    right = np.repeat(np.eye(80, dtype=bool), 3, axis=1)
    score = precision(3, right.astype(float), right)
    assert score.ci_low == pytest.approx(0.05 ** (1 / 80))
    assert (score.value, score.ci_high) == (1.0, 1.0)
