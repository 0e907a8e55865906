"""Arrows point down only: import-linter's contracts hold, and would notice a broken one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def _lint(config: Path) -> subprocess.CompletedProcess[str]:
    program = (
        "import sys; from importlinter.cli import lint_imports; "
        f"sys.exit(lint_imports(config_filename={str(config)!r}, no_cache=True))"
    )
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT)


def test_layers_hold():
    said = _lint(ROOT / "pyproject.toml")
    assert said.returncode == 0, said.stdout


def test_a_broken_layer_is_noticed(tmp_path):
    config = tmp_path / "contracts.toml"
    config.write_text(
        '[tool.importlinter]\nroot_package = "encoderlab"\n'
        '[[tool.importlinter.contracts]]\nname = "upside down"\ntype = "layers"\n'
        'layers = ["encoderlab.errors", "encoderlab.cli"]\n'
    )
    assert _lint(config).returncode == 1


@pytest.mark.parametrize("file", sorted((ROOT / "src").rglob("*.py")), ids=lambda path: path.stem)
def test_file_says_what_it_knows(file):
    import ast

    assert ast.get_docstring(ast.parse(file.read_text(encoding="utf-8")))
