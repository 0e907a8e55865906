"""What holds of every lesson, in both languages."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from tests.lessons.notebooks import (
    FOLDER,
    LANGUAGES,
    NAMES,
    code_alone,
    exercises,
    filled,
    states,
)

LESSONS = pytest.mark.parametrize("name", NAMES)
BOTH = pytest.mark.parametrize("language", LANGUAGES)
NOT_YET = {"en": "exercise {}: not yet answered", "ko": "연습 {}: 아직 답하지 않았습니다"}


@LESSONS
def test_both_languages_have_the_same_code(name):
    english, korean = (
        code_alone((FOLDER / language / name).read_text(encoding="utf-8")) for language in LANGUAGES
    )
    assert english == korean


def test_other_code_is_found_out():
    source = (FOLDER / "en" / NAMES[0]).read_text(encoding="utf-8")
    other = source.replace("numbers.argmax()", "numbers.argmin()")
    assert other != source and code_alone(other) != code_alone(source)
    prose = source.replace("# Your answer", "# 여기에 답").replace("half an hour", "반 시간")
    assert prose != source and code_alone(prose) == code_alone(source)


@LESSONS
def test_each_exercise_has_a_solution_and_a_verdict(name):
    source = (FOLDER / "en" / name).read_text(encoding="utf-8")
    found = exercises(source)
    assert found == [f"exercise_{i + 1}" for i in range(len(found))] and len(found) >= 4
    solved = (FOLDER / "solutions" / name).read_text(encoding="utf-8")
    assert exercises(solved) == found
    for number in range(1, len(found) + 1):
        assert f"check_{number} = grader.check(" in source


@LESSONS
def test_solutions_define_what_the_cells_define(name):
    def returned(source: str) -> dict[str, str]:
        return {
            node.name: ast.unparse(node.body[-1])
            for node in ast.parse(source).body
            if isinstance(node, ast.FunctionDef) and node.name.startswith("exercise_")
        }

    notebook = (FOLDER / "en" / name).read_text(encoding="utf-8")
    solutions = (FOLDER / "solutions" / name).read_text(encoding="utf-8")
    assert returned(notebook) == returned(solutions)


@BOTH
@LESSONS
def test_no_sentence_becomes_a_list(language, name):
    """A line of prose that happens to begin with "1. " is a list to markdown."""
    source = (FOLDER / language / name).read_text(encoding="utf-8")
    found = re.findall(r"^ {4}[^\s\d#*+-].*\n {4}(?:\d+\.|[-+*]) .*", source, re.MULTILINE)
    assert found == []


@BOTH
@LESSONS
def test_marimo_would_save_it_as_it_is(language, name):
    from marimo._convert.converters import MarimoConvert

    source = (FOLDER / language / name).read_text(encoding="utf-8")
    assert MarimoConvert.from_py(source).to_py() == source


@BOTH
@LESSONS
def test_marimo_check_is_clean(language, name):
    done = subprocess.run(
        [sys.executable, "-m", "marimo", "check", "--strict", str(FOLDER / language / name)],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
@BOTH
@LESSONS
def test_runs_to_its_end_with_nothing_answered(language, name, unanswered):
    ran = unanswered(language, name)
    expected = exercises((FOLDER / language / name).read_text(encoding="utf-8"))
    assert states(ran.defs) == ["open"] * len(expected)
    for number in range(1, len(expected) + 1):
        assert NOT_YET[language].format(number) in ran.printed


@pytest.mark.slow
@BOTH
@LESSONS
def test_solutions_are_right(language, name, solved):
    ran = solved(language, name)
    assert states(ran.defs) == ["right"] * len(exercises(filled(language, name))), ran.printed


STRANGE = (None, "a heart", float("nan"), {}, [None], object, 1 + 2j, True, b"x", lambda *_: "x")


@pytest.mark.slow
@LESSONS
def test_strange_answers_get_a_sentence(name, unanswered, capsys):
    from grader import Grader

    for number, answers, given in unanswered("en", name).checks:
        for strange in STRANGE:
            verdict = Grader(FOLDER / "en" / name).check(number, *[strange] * answers, **given)
            assert verdict.state == "wrong", (number, strange)
            for said in (verdict.en, verdict.ko):
                assert 10 < len(said) < 600 and "Traceback" not in said


@pytest.mark.slow
def test_runs_as_a_script_as_typed(tmp_path, cache):
    done = subprocess.run(
        [sys.executable, str(FOLDER / "ko" / NAMES[0])],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "XDG_CACHE_HOME": str(cache)},
    )
    assert done.returncode == 0, done.stderr
    assert "연습 3: 아직 답하지 않았습니다" in done.stdout
    assert not list(Path(tmp_path).iterdir()), "a lesson leaves nothing where it is started"
