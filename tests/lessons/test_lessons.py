"""What holds of every lesson, in both languages."""

import ast
import os
import re
import string
import subprocess
import sys

import pytest
import yaml
from tests.lessons.notebooks import (
    FOLDER,
    LANGUAGES,
    NAMES,
    exercises,
    filled,
    functions,
    is_check,
    solutions_of,
    source_of,
    states,
)

LESSONS = pytest.mark.parametrize("name", NAMES)
NOT_YET = {"en": "exercise {}: not yet answered", "ko": "연습 {}: 아직 답하지 않았습니다"}


def texts(name: str) -> list[tuple[str, str, list[str], list[str]]]:
    """Each text of a lesson: English, Korean, and the expressions that either interpolates."""
    found = []
    for node in ast.walk(ast.parse(source_of(name))):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "text":
            given, halves, values = node.args[0], [""], [[]]
            for part in given.values if isinstance(given, ast.JoinedStr) else [given]:
                if isinstance(part, ast.FormattedValue):
                    values[-1].append(ast.unparse(part))
                    continue
                first, *rest = re.split(r"\n *\[ko\]\n", part.value)
                halves[-1] += first
                for half in rest:
                    halves.append(half)
                    values.append([])
            assert len(halves) == 2, f"no line [ko], or several: {halves[0][:60]}"
            found.append((*halves, *map(sorted, values)))
    return found


@LESSONS
def test_every_text_is_in_both_languages(name):
    for english, korean, in_english, in_korean in texts(name):
        assert re.search("[가-힣]", korean) and not re.search("[가-힣]", english)
        assert in_english == in_korean, f"other values in Korean: {english[:60]}"
        heads = [re.findall(r"^ *(#+) ", half, re.MULTILINE) for half in (english, korean)]
        assert heads[0] == heads[1]


@LESSONS
def test_no_sentence_becomes_a_list(name):
    """A line of prose that happens to begin with "1. " is a list to markdown."""
    found = re.findall(r"^ {4}[^\s\d#*+-].*\n {4}(?:\d+\.|[-+*]) .*", source_of(name), re.MULTILINE)
    assert found == []


@LESSONS
def test_each_exercise_has_a_solution_and_a_check(name):
    cells, solutions = functions(source_of(name)), functions(solutions_of(name))
    names = exercises(source_of(name))
    assert names == [f"exercise_{i + 1}" for i in range(len(names))] and len(names) >= 4
    assert exercises(solutions_of(name)) == names
    for number, cell in enumerate(names, start=1):
        asked = next(node for node in cells[cell].body if is_check(node)).value
        assert asked.args[0].value == number
        answers = ast.unparse(ast.Tuple([*asked.args[1:]], ast.Load()))
        assert answers == ast.unparse(solutions[cell].body[-1].value), "what a solution returns"
        given = {word.arg for word in asked.keywords}
        assert {one.arg for one in solutions[cell].args.args} <= given, "what a solution needs"


@pytest.mark.parametrize("table", ["common", *(f"lesson_{name[0]}" for name in NAMES)])
def test_messages_are_used_and_have_the_same_values_in_both_languages(table):
    grader = FOLDER / "grader"
    messages = yaml.safe_load((grader / f"{table}.yaml").read_text(encoding="utf-8"))
    sources = [grader / f"{table}.py", grader / "__init__.py", grader / "phrases.py"]
    sources += grader.glob("lesson_*.py") if table == "common" else []
    sources += [grader / "values.py"]
    code = "".join(path.read_text(encoding="utf-8") for path in sources if path.exists())
    for exercise in [messages] if table == "common" else messages.values():
        for key, (english, korean) in exercise.items():
            assert f'"{key}"' in code, key
            assert re.search("[가-힣]", korean) and not re.search("[가-힣]", english), key
            fields = [
                {part[1] for part in string.Formatter().parse(text) if part[1]}
                for text in (english, korean)
            ]
            assert fields[1] <= fields[0], key


@LESSONS
def test_marimo_would_save_it_as_it_is(name):
    from marimo._convert.converters import MarimoConvert

    assert MarimoConvert.from_py(source_of(name)).to_py() == source_of(name)


def test_marimo_check_is_clean():
    done = as_typed("-m", "marimo", "check", "--strict", *(str(FOLDER / name) for name in NAMES))
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
@LESSONS
def test_runs_to_its_end_with_nothing_answered(name, unanswered):
    """Each in one language: both texts are made in either, and only the grader chooses."""
    language = LANGUAGES[int(name[0]) % 2]
    ran = unanswered(language, name)
    expected = exercises(source_of(name))
    assert states(ran.defs) == ["open"] * len(expected)
    for number in range(1, len(expected) + 1):
        assert NOT_YET[language].format(number) in ran.printed


@pytest.mark.slow
@LESSONS
def test_solutions_are_right(name, solved):
    ran = solved(name)
    assert states(ran.defs) == ["right"] * len(exercises(filled(name))), ran.printed


STRANGE = (None, "a heart", float("nan"), {}, [None], object, 1 + 2j, True, b"x", lambda *_: "x")


@pytest.mark.slow
@LESSONS
def test_strange_answers_get_a_sentence(name, unanswered, capsys):
    from grader import Grader

    for number, answers, given in unanswered(LANGUAGES[int(name[0]) % 2], name).checks:
        for strange in STRANGE:
            verdict = Grader(int(name[0])).check(number, *[strange] * answers, **given)
            assert verdict.state == "wrong", (number, strange)
            for message in verdict.messages.values():
                assert 10 < len(message) < 600 and "Traceback" not in message


def as_typed(*words, **how):
    return subprocess.run([sys.executable, *words], capture_output=True, text=True, **how)


@pytest.mark.slow
def test_runs_as_a_script_in_the_language_that_is_asked_for(tmp_path, cache):
    env = {**os.environ, "XDG_CACHE_HOME": str(cache)}
    done = as_typed(str(FOLDER / NAMES[3]), "--lang", "ko", cwd=tmp_path, env=env)
    assert done.returncode == 0, done.stderr
    assert "연습 3: 아직 답하지 않았습니다" in done.stdout
    assert not list(tmp_path.iterdir()), "a lesson leaves nothing where it is started"


def test_the_language_is_what_the_command_line_says(monkeypatch, capsys):
    from grader import Grader

    both = "\nhello\n    [ko]\n    안녕\n"
    for words, expected in (([], "hello"), (["--lang", "ko"], "안녕"), (["--lang=en"], "hello")):
        monkeypatch.setattr(sys, "argv", ["lesson.py", *words])
        assert Grader(1).text(both).text.count(expected) == 1
    monkeypatch.setattr(sys, "argv", ["lesson.py", "--lang", "de"])
    with pytest.raises(SystemExit) as left:
        Grader(1)
    assert left.value.code == 2 and "choose from" in capsys.readouterr().err
