"""Opens, fills and runs the lessons of `examples/lessons`, and compares the languages."""

from __future__ import annotations

import ast
import importlib.util
import sys
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parents[2] / "examples" / "lessons"
LANGUAGES = ("en", "ko")
# What makes a lesson short where its numbers do not matter: names that a cell of its own defines.
SHORTER: dict[str, dict[str, Any]] = {
    "2_train_your_own_clip.py": {"EPOCHS": 1, "train_button": None},
}
NAMES = sorted(path.name for path in (FOLDER / "en").glob("[0-9]_*.py"))


def filled(language: str, name: str) -> str:
    """The notebook with the solutions in its exercise cells."""
    source = (FOLDER / language / name).read_text(encoding="utf-8")
    solutions = (FOLDER / "solutions" / name).read_text(encoding="utf-8")
    for cell, text in _functions(solutions).items():
        source = _replaced(source, cell, text)
    return source


def answered(language: str, name: str, answers: Mapping[str, str]) -> str:
    """The notebook with the bodies of the named exercise cells replaced."""
    source = (FOLDER / language / name).read_text(encoding="utf-8")
    for cell, body in answers.items():
        text = f"def {cell}():\n" + textwrap.indent(textwrap.dedent(body).strip(), "    ")
        source = _replaced(source, cell, text)
    return source


def exercises(source: str) -> list[str]:
    """The names of the exercise cells, in order."""
    return [name for name in _functions(source) if name.startswith("exercise_")]


def saved(source: str, folder: Path, language: str, name: str) -> Path:
    """A copy that the grader takes for the lesson: of its name, in a folder of its language."""
    path = folder / language / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(source, encoding="utf-8")
    return path


def run(path: Path, defs: Mapping[str, Any] | None = None) -> Mapping[str, Any]:
    """Runs a notebook as `python notebook.py` would, and returns what its cells have defined.

    Args:
        defs: names that are given; the cells that would define them do not run.
    """
    before = list(sys.path)
    sys.path.insert(0, str(FOLDER))
    try:
        spec = importlib.util.spec_from_file_location(f"lesson_{path.stem}", path)
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module.app.run(defs=dict(defs or {}))[1]
    finally:
        sys.path[:] = before


def states(defs: Mapping[str, Any]) -> list[str]:
    """right, wrong or open, for each exercise in order."""
    checks = [name for name in defs if name.startswith("check_")]
    return [defs[name].state for name in sorted(checks, key=lambda name: int(name[6:]))]


def code_alone(source: str) -> list[str]:
    """The notebook without its prose: what of the syntax tree is left without markdown, comments,
    title and docstring. What prose interpolates is code; the order, which languages differ in, is
    not kept."""
    tree = ast.parse(source)
    if ast.get_docstring(tree) is not None:
        tree.body = tree.body[1:]
    return [ast.dump(_WithoutProse().visit(node)) for node in tree.body]


class _WithoutProse(ast.NodeTransformer):
    def visit_Call(self, node: ast.Call) -> ast.AST:
        self.generic_visit(node)
        called = ast.unparse(node.func)
        if called == "mo.md":
            told = [one for one in ast.walk(node) if isinstance(one, ast.FormattedValue)]
            inside = sorted(ast.unparse(one.value) for one in told)
            node.args = [ast.Constant(text) for text in inside]
        if called == "marimo.App":
            node.keywords = [word for word in node.keywords if word.arg != "app_title"]
        return node


def _functions(source: str) -> dict[str, str]:
    lines = source.splitlines()
    return {
        node.name: "\n".join(lines[node.lineno - 1 : node.end_lineno])
        for node in ast.parse(source).body
        if isinstance(node, ast.FunctionDef)
    }


def _replaced(source: str, cell: str, text: str) -> str:
    old = _functions(source)[cell]
    assert source.count(old) == 1
    return source.replace(old, text)
