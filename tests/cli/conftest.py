"""Runs command lines in this process, in an empty folder."""

import json
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from encoderlab.cli.main import main
from encoderlab.contrastive import evaluate
from encoderlab.core import progress


@dataclass(frozen=True)
class Answer:
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
) -> Callable[..., Answer]:
    """`lab("coral", "--n-samples", "3")` runs it in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def run(*words: str) -> Answer:
        capsys.readouterr()
        with warnings.catch_warnings():
            code = main(words)
        progress.configure()
        printed = capsys.readouterr()
        return Answer(code, printed.out, printed.err)

    return run


@pytest.fixture
def settings(lab: Callable[..., Answer]) -> Callable[..., dict[str, Any]]:
    """The composed settings of a command line."""

    def compose(*words: str) -> dict[str, Any]:
        answer = lab(*words, "--show-config", "--json")
        assert answer.code == 0, answer.err
        return answer.json["settings"]

    return compose


@pytest.fixture
def experiment(monkeypatch):
    """Puts something quick in place of the experiment behind `evaluate`."""

    def use(run):
        def with_settings(settings, out):
            return run(out=out, **vars(settings))

        monkeypatch.setattr(evaluate.run, "with_settings", with_settings)

    return use
