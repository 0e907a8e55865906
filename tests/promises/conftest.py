"""Promises are made to those who type commands: `lab` and `settings` as in the tests of `cli`."""

from tests.cli.conftest import lab, settings

__all__ = ["lab", "settings"]
