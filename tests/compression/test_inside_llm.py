"""FastV among the methods: the answers of the VLM in a `fastv` block, and no other score."""

from __future__ import annotations

import json

import numpy as np
import pytest

from encoderlab.cli.main import main
from encoderlab.compression import plots
from encoderlab.compression.answers import ANSWERS, AnswerTask
from encoderlab.compression.evaluate import TITLES
from encoderlab.compression.inside_llm import FASTV, Answered, answer, is_asked, records
from encoderlab.compression.settings import CompressEvaluation
from encoderlab.compression.stored_evaluation import SHIPPED, read
from encoderlab.compression.token_set import TokenSet
from encoderlab.encoders.vision import load_vision
from encoderlab.errors import UsageError
from encoderlab.vlm.fastv import fastv
from encoderlab.vlm.model import VLM
from encoderlab.vlm.questions import synthetic_questions

LAYER, SCORES = 3, ("nmse", "nmse_without_outliers", "cosine", "distance", "neighbours", "cka")


@pytest.fixture(scope="module")
def task():
    """Two questions about each of six images."""
    questions = synthetic_questions("test", range(6), ["en", "ko"])
    encoder = load_vision("tiny-clip", "cpu", "float32")
    tokens = TokenSet.of(encoder, [q.image.load() for q in questions[::2]], LAYER)
    vlm = VLM.load("tiny-vlm-clip", "cpu", "float32")
    return AnswerTask("tiny-vlm-clip", vlm, "a test", questions, tokens, np.repeat(np.arange(6), 2))


def test_the_answers_are_those_of_the_vlm_that_drops_tokens(task):
    found = answer(task, [(6, 6), (1, 2)])
    with fastv(task.vlm, 2):
        alone = [task.vlm.answer(q.image.image, q.text, candidates=0).text for q in task.questions]
    assert found.texts == {(1, 2): alone}
    assert alone != task.ask(task.pictures.tokens)


def test_as_many_tokens_as_the_llm_gets_are_refused(task):
    found = answer(task, [(6, 6), (7, 7)])
    assert not found.texts and list(found.refused) == ["fastv, 6 x 6", "fastv, 7 x 7"]
    assert "fewer than the image tokens" in found.refused["fastv, 6 x 6"]


def test_the_record_has_the_keys_of_the_others_and_no_score(task):
    other = {
        "method": "average", "budget": [1, 2], "tokens": 2, "distance_floor": 0.1, "nmse": {"v": 1},
        "words": "", "training_free": True, "kept": {"embedding": {}}, "reading": {}, "scores": {},
    }  # fmt: skip
    (made,) = records(answer(task, [(1, 2)]), [other])
    assert made == {
        **other, "method": FASTV, "nmse": None, "kept": {"embedding": None},
        "words": "drops image tokens inside the LLM (FastV); answers only",
    }  # fmt: skip


def test_it_is_asked_only_with_a_vlm():
    assert not is_asked(CompressEvaluation())
    assert not is_asked(CompressEvaluation(answers="tiny-vlm", methods=["tome"]))
    assert is_asked(CompressEvaluation(answers="tiny-vlm"))
    with pytest.raises(UsageError, match="fastv needs --answers"):
        is_asked(CompressEvaluation(methods=["tome", FASTV]))


@pytest.mark.parametrize(
    "words", ["evaluate --methods fastv", "show --methods fastv", "evaluate --methods tome fastv"]
)
def test_without_a_vlm_it_is_refused(words, capsys):
    assert main(["compress", *words.split(), "--device", "cpu"]) == 2
    assert "fastv" in capsys.readouterr().err


def test_the_command_compares_it_with_all_others(capsys, tmp_path):
    words = (
        "compress evaluate --answers tiny-vlm-clip --methods fastv --grids 6 3 --n-samples 20 "
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
    assert {(FASTV, "all tokens"), (FASTV, "random"), ("smaller_image", FASTV)} <= pairs
    (file,) = tmp_path.rglob("answers.jsonl")
    lines = file.read_text(encoding="utf-8").splitlines()
    assert all("fastv/9" in json.loads(line)["generated"] for line in lines)


def test_figures_of_what_it_does_not_have_leave_it_out():
    result = read(SHIPPED).result
    found = Answered({(4, 4): []})
    rows = [*result.rows, *records(found, result.rows)]
    assert rows[-1]["method"] == FASTV
    digits = {name: (1.0, 0.1) for name in rows[0]["reading"] if name.startswith("digit")}
    for drawn in (
        *plots.kept(rows, ["trained"], 144, TITLES),
        plots.two_axes(rows, ["trained"]),
        plots.glyph_curve(rows, ["trained"], digits),
    ):
        values = {name: array for name, array in drawn.arrays.items() if FASTV in name}
        assert all(array.size == 0 for array in values.values())
