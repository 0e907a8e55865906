"""The names that people type after `encoderlab.` are all there."""

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


def test_no_package_has_the_name_of_a_function():
    packages = {path.parent.name for path in Path(encoderlab.__file__).parent.glob("*/__init__.py")}
    assert not packages & set(encoderlab.__all__)
