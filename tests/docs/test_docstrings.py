"""Examples in docstrings give what they say."""

import doctest
import importlib
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "src"
MODULES = [
    ".".join(path.relative_to(SOURCE).with_suffix("").parts)
    for path in sorted((SOURCE / "encoderlab").rglob("*.py"))
    if ">>> " in path.read_text(encoding="utf-8")
]


SLOW = {"encoderlab.encoders.manager"}  # loads a model of each kind


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[pytest.mark.slow] if name in SLOW else []) for name in MODULES],
)
def test_examples_of_a_module_give_what_they_say(name):
    failed, tried = doctest.testmod(importlib.import_module(name), optionflags=doctest.ELLIPSIS)
    assert tried and not failed


def test_there_are_examples_to_run():
    assert len(MODULES) > 20
