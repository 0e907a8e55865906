"""Promises are made to those who type commands: the fixtures of the tests of `cli`."""

from tests.cli.conftest import experiment, lab, settings

__all__ = ["experiment", "lab", "settings"]
