"""Short captions: which pictures they fit, and how well a search by them works."""

import numpy as np
import pytest

from encoderlab.data.synthetic import KINDS, generate
from recipes.cards.short_queries import mean_of, precision_at
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
    score = mean_of(shares, chance)
    assert (score.value, score.n) == (0.75, 2)


def test_queries_that_are_all_right_have_an_exact_bound():
    score = mean_of(np.ones(80), 0.1)
    assert score.ci_low == pytest.approx(0.05 ** (1 / 80))
    assert (score.value, score.ci_high) == (1.0, 1.0)
