"""FastV among the methods: the answers of the VLM in a `fastv` block, and no other score."""

from __future__ import annotations

import json

import numpy as np
import pytest

from encoderlab.cli.main import main
from encoderlab.compression.answers import ANSWERS, AnswerTask
from encoderlab.compression.inside_llm import FASTV, measure
from encoderlab.compression.token_set import TokenSet
from encoderlab.encoders.vision import load_vision
from encoderlab.errors import UsageError
from encoderlab.vlm.fastv import fastv
from encoderlab.vlm.model import VLM
from encoderlab.vlm.questions import synthetic_questions

LAYER, SCORES = 3, ("nmse", "nmse_without_outliers", "cosine", "distance", "neighbours", "cka")


@pytest.fixture(scope="module")
def task():
    """Two questions about each of twelve images."""
    questions = synthetic_questions("test", range(12), ["en", "ko"])
    encoder = load_vision("tiny-siglip", "cpu", "float32")
    tokens = TokenSet.of(encoder, [q.image.load() for q in questions[::2]], LAYER)
    vlm = VLM.load("tiny-vlm", "cpu", "float32")
    return AnswerTask("tiny-vlm", vlm, "a test", questions, tokens, np.repeat(np.arange(12), 2))


def test_the_answers_are_those_of_the_vlm_that_drops_tokens(task):
    row = measure(task, (1, 1))
    with fastv(task.vlm, 1):
        alone = [task.vlm.answer(q.image.image, q.text, candidates=0).text for q in task.questions]
    assert row.texts == [alone] and row.tokens == 1
    assert alone != task.ask(task.pictures.tokens)
    assert row.nmse is None and row.distance is None and not row.kept and not row.per_image


def test_as_many_tokens_as_the_llm_gets_are_refused(task):
    for budget in ((6, 6), (7, 7)):
        with pytest.raises(UsageError, match="fewer than the image tokens"):
            measure(task, budget)


@pytest.mark.parametrize(
    "words", ["evaluate --methods fastv", "show --methods fastv", "evaluate --methods tome fastv"]
)
def test_without_a_vlm_it_is_refused(words, capsys):
    assert main(["compress", *words.split(), "--device", "cpu"]) == 2
    assert "fastv" in capsys.readouterr().err


def test_the_command_compares_it_with_all_others(capsys, tmp_path):
    words = (
        "compress evaluate --model tiny-siglip --answers tiny-vlm --methods fastv "
        "--grids 6 3 --n-samples 20 "
        "evaluation.n_questions=20 evaluation.n_fit=20 evaluation.parts=[reinjection] "
        "--device cpu --json --output-dir"
    )
    assert main([*words.split(), str(tmp_path)]) == 0
    result = json.loads(capsys.readouterr().out)
    (row,) = [row for row in result["rows"] if row["method"] == FASTV]
    assert row["tokens"] == 9 and row["answers"][ANSWERS]["n"] >= 20
    assert [row[name] for name in SCORES] == [None] * len(SCORES)
    assert {task for task, score in row["kept"].items() if score} == {ANSWERS, "answers_vtc"}
    assert "fastv, 6 x 6" in result["refused"]
    pairs = {(v["a"], v["b"]) for v in result["verdicts"] if v["task"] == ANSWERS}
    assert {(FASTV, "all tokens"), (FASTV, "random")} <= pairs
    assert {frozenset(("smaller_image", FASTV))} <= {frozenset(pair) for pair in pairs}
    (file,) = tmp_path.rglob("answers.jsonl")
    lines = file.read_text(encoding="utf-8").splitlines()
    assert all("fastv/9" in json.loads(line)["generated"] for line in lines)
