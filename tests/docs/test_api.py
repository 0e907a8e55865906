"""Every public name is on the page of the Python interface, with what a reader needs of it."""

import ast
import importlib
import inspect
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import encoderlab
import encoderlab.data
import encoderlab.encoders
import encoderlab.feature_store
import encoderlab.retrieval

ROOT = Path(__file__).parents[2]
LANGUAGES = pytest.mark.parametrize("language", ["en", "ko"])
FENCES = re.compile(r"^```.*?^```$", re.S | re.M)
NAMES = [name for name in encoderlab.__all__ if name != "__version__"]
OF_PACKAGES = [
    (package, name)
    for package in (
        encoderlab.data,
        encoderlab.encoders,
        encoderlab.feature_store,
        encoderlab.retrieval,
    )
    for name in package.__all__
]


def _page(language: str) -> str:
    return (ROOT / "docs" / language / "api.md").read_text(encoding="utf-8")


def _documented(language: str) -> list[str]:
    return re.findall(r"^::: (\S+)$", _page(language), re.M)


def _at(path: str):
    """The object behind a dotted path."""
    module, _, name = path.rpartition(".")
    return getattr(importlib.import_module(module), name)


@LANGUAGES
def test_every_public_name_is_documented(language):
    documented = [_at(path) for path in _documented(language)]
    lacking = [
        name for name in NAMES if not any(one is getattr(encoderlab, name) for one in documented)
    ]
    lacking += [
        f"{package.__name__}.{name}"
        for package, name in OF_PACKAGES
        if not any(one is getattr(package, name) for one in documented)
    ]
    assert not lacking


def test_what_is_documented_is_found_without_running_anything():
    """The site reads the source: a name that is loaded late is there for type checkers too."""
    tree = ast.parse((ROOT / "src" / "encoderlab" / "__init__.pyi").read_text(encoding="utf-8"))
    seen = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)} | {
        alias.asname
        for node in tree.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    short = {path.split(".")[1] for path in _documented("en") if path.count(".") == 1}
    assert short <= seen


@LANGUAGES
def test_the_tables_link_to_what_stands_below(language):
    page = _page(language)
    linked = re.findall(r"^\| \[`[\w.]+`\]\(#(encoderlab[\w.]*)\) \|", page, re.M)
    assert linked == _documented(language)


@pytest.mark.parametrize("name", NAMES)
def test_every_public_name_has_an_example_that_runs_or_is_shown(name):
    shown = "".join(FENCES.findall(_page("en")))
    assert re.search(rf"\bencoderlab\.{name}\b", shown)


@pytest.mark.parametrize("path", _documented("en"))
def test_what_is_documented_says_what_it_is(path):
    said = inspect.getdoc(_at(path))
    assert said and len(said) > 20
    # Elsewhere than in a section of examples `>>>` would be drawn as a quotation.
    before = said.partition("Examples:")[0]
    assert ">>>" not in before


@pytest.mark.parametrize("name", [one for one in NAMES if one in encoderlab._WHERE])
def test_a_function_says_what_it_raises(name):
    found = getattr(encoderlab, name)
    if inspect.isfunction(found):
        assert "Raises:" in (inspect.getdoc(found) or "")
        assert "return" in inspect.get_annotations(found)


def _functions(path: str) -> Iterator[tuple[str, Callable]]:
    """(name, function) of what the page shows at `path`: a function, or the methods of a class."""
    shown = _at(path)
    if not inspect.isclass(shown):
        yield path, shown
        return
    listed = re.search(rf"^::: {path}\n    options:\n +members: \[(.*)\]$", _page("en"), re.M)
    for name, member in vars(shown).items():
        method = getattr(member, "__func__", member)  # of a classmethod or staticmethod
        public = not name.startswith("_") if listed is None else name in listed[1].split(", ")
        if public and inspect.isfunction(method):
            yield f"{path}.{name}", method


FUNCTIONS = {name: function for path in _documented("en") for name, function in _functions(path)}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_says_what_it_takes_and_what_it_returns(name):
    signature = inspect.signature(FUNCTIONS[name])
    said = inspect.getdoc(FUNCTIONS[name]) or ""
    args = re.search(r"^Args:\n((?: {4}.+\n?)*)", said, re.M)
    described = re.findall(r"^ {4}\*{0,2}(\w+): ", args[1] if args else "", re.M)
    assert described == [name for name in signature.parameters if name not in ("self", "cls")]
    if signature.return_annotation not in (None, "None"):
        assert re.search(r"^(Returns|Yields):\n {4}\S", said, re.M)
