"""Opens, fills and runs the lessons of `examples/lessons`."""

import ast
import importlib.util
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from unittest.mock import patch

FOLDER = Path(__file__).parents[2] / "examples" / "lessons"
LANGUAGES = ("en", "ko")
# What makes a lesson short where its numbers do not matter: names that a cell of its own defines.
# Those of minutes are short wherever they run.
MINUTES: dict[str, dict[str, Any]] = {
    "6_answers_of_a_vlm.py": {
        "N_IMAGES": 64, "N_TEST": 10, "EPOCHS": 1, "SEEDS": (0, 1), "train_button": None,
    }
}  # fmt: skip
SHORTER = MINUTES | {"2_train_your_own_clip.py": {"EPOCHS": 1, "train_button": None}}
NAMES = sorted(path.name for path in FOLDER.glob("[0-9]_*.py"))


def source_of(name: str) -> str:
    return (FOLDER / name).read_text(encoding="utf-8")


def solutions_of(name: str) -> str:
    return (FOLDER / "solutions" / f"lesson_{name[0]}.py").read_text(encoding="utf-8")


def filled(name: str) -> str:
    """The notebook with the solutions in the place of the dots of its exercise cells."""
    lines, solutions = source_of(name).splitlines(), solutions_of(name).splitlines()
    answers = functions(solutions_of(name))
    cells = functions(source_of(name))
    for cell in reversed([name for name in cells if name.startswith("exercise_")]):
        start = cells[cell].body[0].lineno
        check = next(node for node in cells[cell].body if is_check(node))
        body = answers[cell].body
        lines[start - 1 : check.lineno - 1] = [
            *solutions[body[0].lineno - 1 : body[-1].lineno - 1],
            "",
        ]
    return "\n".join(lines) + "\n"


def functions(source: str) -> dict[str, ast.FunctionDef]:
    """The functions of a module, by their names: the cells of a notebook."""
    return {node.name: node for node in ast.parse(source).body if isinstance(node, ast.FunctionDef)}


def exercises(source: str) -> list[str]:
    """The names of the exercise cells, in order."""
    return [name for name in functions(source) if name.startswith("exercise_")]


def is_check(node: ast.stmt) -> bool:
    """Whether it is the line that asks the grader."""
    return isinstance(node, ast.Assign) and ast.unparse(node.targets[0]).startswith("check_")


def run(path: Path, defs: Mapping[str, Any] | None = None, language: str = "en") -> Any:
    """Runs a notebook as `python notebook.py --lang LANGUAGE` would, and returns what its cells
    have defined.

    Args:
        defs: names that are given; the cells that would define them do not run.
    """
    argv = [str(path), "--lang", language]
    with patch.object(sys, "argv", argv), patch.object(sys, "path", [str(FOLDER), *sys.path]):
        spec = importlib.util.spec_from_file_location(f"lesson_{path.stem}", path)
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module.app.run(defs=dict(defs or {}))[1]


def states(defs: Mapping[str, Any]) -> list[str]:
    """right, wrong or open, for each exercise in order."""
    checks = [name for name in defs if name.startswith("check_")]
    return [defs[name].state for name in sorted(checks, key=lambda name: int(name[6:]))]
