"""Arrows point down only: no circles, and import-linter, which `make check` runs, would notice."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from scripts.size import import_circles

ROOT = Path(__file__).parent.parent


def _lint(config: Path) -> subprocess.CompletedProcess[str]:
    program = (
        "import sys; from importlinter.cli import lint_imports; "
        f"sys.exit(lint_imports(config_filename={str(config)!r}, no_cache=True))"
    )
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT)


def test_a_broken_layer_is_noticed(tmp_path):
    config = tmp_path / "contracts.toml"
    config.write_text(
        '[tool.importlinter]\nroot_package = "encoderlab"\n'
        '[[tool.importlinter.contracts]]\nname = "upside down"\ntype = "layers"\n'
        'layers = ["encoderlab.errors", "encoderlab.cli"]\n'
    )
    assert _lint(config).returncode == 1


def test_no_modules_import_each_other():
    """Imports in functions and under TYPE_CHECKING count too."""
    assert import_circles("encoderlab") == []


def test_an_import_circle_is_noticed(tmp_path, monkeypatch):
    package = tmp_path / "circular"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "first.py").write_text("import circular.second\n")
    (package / "second.py").write_text("def late():\n    import circular.first\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert import_circles("circular") == [["circular.first", "circular.second"]]


@pytest.mark.parametrize("file", sorted((ROOT / "src").rglob("*.py")), ids=lambda path: path.stem)
def test_file_says_what_it_knows(file):
    import ast

    assert ast.get_docstring(ast.parse(file.read_text(encoding="utf-8")))
