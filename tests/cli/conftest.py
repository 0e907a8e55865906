"""Runs command lines in this process, in an empty folder."""

import json
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from encoderlab.cli.main import main
from encoderlab.core import progress


@dataclass(frozen=True)
class Said:
    """What a command line answered."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@pytest.fixture
def lab(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Said]:
    """`lab("coral", "--n-samples", "3")` runs it in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def run(*words: str) -> Said:
        capsys.readouterr()
        with warnings.catch_warnings():
            code = main(words)
        progress.configure()
        told = capsys.readouterr()
        return Said(code, told.out, told.err)

    return run


@pytest.fixture
def settings(lab: Callable[..., Said]) -> Callable[..., dict[str, Any]]:
    """The composed settings of a command line."""

    def compose(*words: str) -> dict[str, Any]:
        said = lab(*words, "--show-config", "--json")
        assert said.code == 0, said.err
        return said.json["settings"]

    return compose
