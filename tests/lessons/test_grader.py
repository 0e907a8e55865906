"""What the grader says to right answers and to the mistakes that learners make, lesson by lesson.

`mistakes_N.py` holds of lesson N: `MISTAKES`, rows of an exercise, its answers and a part of what
is said to them; `RIGHT`, rows of an exercise and its answers; `GIVEN`, what an exercise is given.
"""

import re

import pytest
import torch
from tests.lessons import mistakes_1, mistakes_2, mistakes_3, mistakes_4, mistakes_5, mistakes_6

TABLES = {1: mistakes_1, 2: mistakes_2, 3: mistakes_3, 4: mistakes_4, 5: mistakes_5, 6: mistakes_6}
MISTAKES = [(lesson, row) for lesson, table in TABLES.items() for row in table.MISTAKES]
RIGHT = [(lesson, row) for lesson, table in TABLES.items() for row in table.RIGHT]


def graded(lesson, exercise, *answers):
    """The verdict of an exercise; its Korean text must be Korean."""
    from grader import Grader

    given = TABLES[lesson].GIVEN.get(exercise, dict)()
    verdict = Grader(lesson, "en").check(exercise, *answers, **given)
    assert re.search("[가-힣]", verdict.messages["ko"])
    return verdict


@pytest.mark.parametrize(
    ("lesson", "row"), MISTAKES, ids=[f"{lesson}.{row[0]} {row[-1]}" for lesson, row in MISTAKES]
)
def test_a_mistake_is_explained(lesson, row):
    *answered, message = row
    verdict = graded(lesson, *answered)
    # "sentence 2 is not yet there" is a wrong answer; "not yet answered" is none.
    assert verdict.state == ("open" if "not yet answered" in message else "wrong")
    assert message in str(verdict)


@pytest.mark.parametrize(("lesson", "row"), RIGHT)
def test_a_right_answer_is_right(lesson, row):
    assert graded(lesson, *row).state == "right"


def test_the_lesson_goes_on_with_the_learners_own_where_it_is_right():
    assert graded(2, 4, mistakes_2.recall).value is mistakes_2.recall
    for exercise, *answers in mistakes_4.RIGHT[1:]:
        assert graded(4, exercise, *answers).value == tuple(answers)


def test_what_a_right_answer_prints_is_printed_once(capsys):
    assert "All 2 pictures" in str(graded(1, 7, ["a large brown circle", "a small brown triangle"]))
    assert "The first three results are" in str(graded(1, 8, "a circle"))
    capsys.readouterr()
    assert graded(1, 4, mistakes_1.loader(mistakes_1.by_name)).state == "right"
    assert capsys.readouterr().out.count("Total 20 images are loaded!") == 1


def nothing(*_):
    """An exercise that is not yet answered: the lesson goes on with our own function."""
    return ...


def test_our_recall_is_that_of_the_right_answer():
    ours = graded(2, 4, lambda similarity, k: 7).value
    scores = torch.randn(30, 30, generator=torch.Generator().manual_seed(0)) + torch.eye(30)
    assert ours(scores, 5) == pytest.approx(float(mistakes_2.recall(scores, 5)))


def test_our_answers_to_lesson_4_are_those_of_encoderlab():
    from encoderlab.patch_tokens import statistics

    t = torch.randn(5, 7, 6, generator=torch.Generator().manual_seed(0))
    t[2, 3] *= 20
    flat, lengths = t.flatten(0, 1), t.norm(dim=-1)
    outliers, mean_without = graded(4, 5, nothing, nothing).value
    drop = outliers(lengths)
    assert torch.equal(drop, statistics.outliers(lengths)) and drop[2, 3]
    across, below = graded(4, 3, nothing).value(t)
    expected = mistakes_4.mean_without(across, below, drop)
    assert mean_without(across, below, drop) == pytest.approx(float(expected), abs=1e-6)
    within, between = graded(4, 4, nothing, nothing).value
    assert within(flat) == pytest.approx(float(mistakes_4.within(flat)), abs=1e-5)
    expected = mistakes_4.between(flat, flat[:9])
    assert between(flat, flat[:9]) == pytest.approx(float(expected), abs=1e-5)
    assert graded(4, 6, nothing).value(flat) == pytest.approx(float(mistakes_4.rank(flat)), 1e-3)
    tokens = torch.cat([torch.zeros(1, 6), flat])
    assert torch.equal(graded(4, 2, nothing).value(tokens, 5, 7), t)


def test_our_answers_to_lesson_5_are_those_of_encoderlab():
    from encoderlab.compression.cost import KNOWN
    from encoderlab.patch_tokens.pooling import AveragePooling

    llm = KNOWN["llama3"]
    cache = graded(5, 1, nothing).value(36, llm.layers, llm.kv_heads, llm.head_dim)
    assert cache == 36 * llm.cache_per_token
    x = torch.randn(3, 144, 8, generator=torch.Generator().manual_seed(0))
    expected = AveragePooling().compress(x, (12, 12), (4, 4)).tokens
    for pool in (graded(5, 2, nothing).value, mistakes_5.pool):
        assert torch.allclose(pool(x, 12, 4), expected, atol=1e-6)
    error = graded(5, 3, nothing).value(x, x + 0.1)
    assert error == pytest.approx(float(mistakes_5.error(x, x + 0.1)), rel=1e-4)
    assert graded(5, 4, nothing).value({4: 0.5, 36: 0.99, 16: 0.96}, 0.5, 1.0, 0.1) == 16
    low, high = graded(5, 5, nothing).value(x[0, :, 0], x[0, :, 1])
    half = 1.96 * (x[0, :, 0] - x[0, :, 1]).std() / 12
    assert high - low == pytest.approx(2 * float(half), rel=1e-4)
