"""What a stored evaluation recommends: its best method, and what is as good or untrained."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from encoderlab.compression import recommendation
from encoderlab.compression.stored_evaluation import stored


def recommend(result, tokens):
    answered = result.vlm is not None
    return recommendation.recommend(result.rows, result.verdicts, tokens, answered)


@pytest.fixture(scope="module")
def result() -> Any:
    """The bundled evaluation without its answers."""
    return replace(stored()[0].result, vlm=None)


def answered(result: Any, shares: dict[str, float], verdicts: tuple = ()) -> Any:
    """The evaluation with right answers of some methods in place of the embedding."""
    rows = tuple(
        {**row, "answers": {"answers": {"value": shares[row["method"]]}}}
        if row["method"] in shares else {**row, "answers": {}}
        for row in result.rows
    )  # fmt: skip
    return replace(result, rows=rows, verdicts=verdicts, vlm={"images": 9})


@pytest.mark.parametrize(("asked", "measured"), [(1, 9), (16, 16), (25, 36), (23, 16), (500, 36)])
def test_the_best_method_of_the_nearest_budget_is_recommended(asked, measured, result):
    best = recommend(result, asked)
    here = {row["method"]: row for row in result.rows if row["tokens"] == measured}
    kept = {
        name: row["kept"]["embedding"]["value"] for name, row in here.items()
        if name != "pixel_shuffle" and "embedding" in row["kept"]
    }  # fmt: skip
    assert (best.task, best.tokens) == ("embedding", measured)
    assert best.score["value"] == kept[best.method] == max(kept.values())


def test_one_as_good_takes_the_place_of_the_one_without_training(result):
    shares = {"trained": 0.9, "kmeans": 0.88, "average": 0.1}
    verdict = {
        "task": "answers", "budget": [4, 4], "a": "kmeans", "b": "trained",
        "verdict": "cannot distinguish",
    }  # fmt: skip
    alike = recommend(answered(result, shares, (verdict,)), 16)
    assert alike.alike == ("kmeans",) and alike.training_free is None
    behind = recommend(answered(result, shares, (verdict | {"verdict": "behind"},)), 16)
    assert behind.alike == () and behind.training_free[0] == "kmeans"


def test_the_recommendation_of_the_bundled_evaluation_is_by_answers():
    bundled = stored()[0].result
    best = recommend(bundled, 16)
    shares = {
        row["method"]: row["answers"]["answers"]["value"] for row in bundled.rows
        if row["tokens"] == 16 and row["method"] != "pixel_shuffle"
    }  # fmt: skip
    assert best.task == "answers" and shares[best.method] == max(shares.values())
    assert best.ahead_of == ("random", "average", "smaller_image")
    assert best.fastest[0] in (best.method, *best.alike)


def test_answers_count_where_a_vlm_was_asked(result):
    tie = {
        "task": "answers", "budget": [4, 4], "a": "tome", "b": "diverse",
        "verdict": "cannot distinguish",
    }  # fmt: skip
    shares = {"trained": 0.5, "tome": 0.7, "diverse": 0.6, "average": 0.1}
    best = recommend(answered(result, shares, (tie,)), 16)
    assert (best.task, best.method, best.score["value"]) == ("answers", "tome", 0.7)
    assert best.alike == ("diverse",) and best.training_free is None


def test_a_method_that_loses_nothing_by_wider_tokens_is_no_recommendation(result):
    rows = tuple(
        {**row, "method": "pixel_shuffle"} if row["method"] == "trained" else row
        for row in result.rows
    )
    assert recommend(replace(result, rows=rows), 16).method != "pixel_shuffle"


def test_without_scores_nothing_is_recommended(result):
    rows = tuple({**row, "kept": {"embedding": None}} for row in result.rows)
    assert recommend(replace(result, rows=rows), 16) is None
