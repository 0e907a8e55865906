"""The architecture page says what the code is: its layers, its files, its contracts."""

import ast
import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "src" / "encoderlab"
LANGUAGES = pytest.mark.parametrize("language", ["en", "ko"])


def _section(language: str, name: str) -> str:
    page = (ROOT / "docs" / language / "architecture.md").read_text(encoding="utf-8")
    pieces = re.split(r"^## .*\{#([\w-]+)\}$", page, flags=re.M)
    return dict(zip(pieces[1::2], pieces[2::2], strict=True))[name]


def _layers() -> list[list[str]]:
    """The packages of each layer of the import-linter contract, from the top."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    contracts = settings["tool"]["importlinter"]["contracts"]
    layers = next(one["layers"] for one in contracts if one["type"] == "layers")
    return [re.findall(r"encoderlab\.(\w+)", layer) for layer in layers]


@LANGUAGES
def test_the_table_of_layers_is_the_contract(language):
    rows = re.findall(r"^\| (`\w.*?`) \|", _section(language, "layers"), re.M)
    assert [re.findall(r"`(\w+)`", row) for row in rows] == _layers()


def test_packages_are_all_in_some_layer():
    there = {
        path.stem
        for path in PACKAGE.iterdir()
        if (path.is_dir() and (path / "__init__.py").is_file()) or path.suffix == ".py"
    }
    assert there - {"__init__", "__main__"} == {name for layer in _layers() for name in layer}


@LANGUAGES
def test_every_file_that_the_page_names_is_there(language):
    for section in ("contracts", "change"):
        named = re.findall(r"`([a-z_/]+(?:\.(?:py|html|yaml)|/))`", _section(language, section))
        assert len(named) > 5
        for path in named:
            beside = PACKAGE / "web" / "words" / path  # the second of two languages
            places = (PACKAGE / path, ROOT / path, beside)
            assert any(place.exists() for place in places), path


@LANGUAGES
def test_every_contract_is_where_the_page_says(language):
    rows = re.findall(r"^\| `(\w+)` \| `([\w/.]+)` \|", _section(language, "contracts"), re.M)
    assert len(rows) == 8
    for name, path in rows:
        tree = ast.parse((PACKAGE / path).read_text(encoding="utf-8"))
        assert name in {node.name for node in tree.body if isinstance(node, ast.ClassDef)}


@LANGUAGES
def test_there_are_ten_decisions(language):
    numbers = re.findall(r"^(\d+)\. \*\*", _section(language, "decisions"), re.M)
    assert numbers == [str(one) for one in range(1, 11)]
