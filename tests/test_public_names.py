"""The names that people type after `encoderlab.`: all there, loaded late."""

import subprocess
import sys
from pathlib import Path

import pytest

import encoderlab


@pytest.mark.parametrize("name", encoderlab.__all__)
def test_public_name_is_there(name):
    assert getattr(encoderlab, name) is not None
    assert name in dir(encoderlab)


def test_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'clpi'"):
        encoderlab.clpi  # noqa: B018


def test_import_loads_nothing_heavy():
    program = (
        "import sys, encoderlab\n"
        "print([n for n in ('torch', 'numpy', 'PIL', 'yaml', 'rich') if n in sys.modules])"
    )
    said = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert said.stdout.strip() == "[]"


def test_no_package_has_the_name_of_a_function():
    packages = {path.parent.name for path in Path(encoderlab.__file__).parent.glob("*/__init__.py")}
    assert not packages & set(encoderlab.__all__)
