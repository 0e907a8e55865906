"""What has another name now: the old one works, says so once, and is gone when it was to go."""

from __future__ import annotations

import dataclasses
import importlib
import warnings
from dataclasses import dataclass

import pytest

import encoderlab
from encoderlab import deprecation
from encoderlab.cli.parser import parse
from encoderlab.core.commands import COMMANDS, Command
from encoderlab.core.common_settings import Common
from encoderlab.core.settings import from_dict, iter_settings, setting
from encoderlab.deprecation import Former, RenamedWarning, formerly
from encoderlab.errors import UsageError


@dataclass
class Inner:
    """A node of settings."""

    size: int = setting(7, "how large", flag="--size", formerly=("old.width", "0.3"))


@dataclass
class Renamed(Common):
    """A command whose settings had other names."""

    epochs: int = setting(3, "how long", formerly=("n_epochs", "0.3"))
    names: list[str] = setting([], "which", formerly=("words", "0.3"))  # noqa: RUF009
    shuffle: bool = setting(True, "mixed", formerly=("shuffled", "0.3"))
    inner: Inner = dataclasses.field(default_factory=Inner)
    output_dir: str = setting("outputs/renamed", "folder")


class Said:
    """What the command below was given."""

    def __init__(self, **given):
        self.given = given

    def to_json(self):
        return {**self.given, "inner": dataclasses.asdict(self.given["inner"])}

    def to_text(self):
        return str(self.to_json())


def run(*, out=None, epochs=3, names=(), shuffle=True, inner=None, seed=0):
    """Gives back what it was given."""
    return Said(epochs=epochs, names=names, shuffle=shuffle, inner=inner)


COMMAND = Command("renamed", Renamed, "workbench", "", f"{__name__}:run", leaves_folder=False)


@pytest.fixture(autouse=True)
def _nothing_was_said(monkeypatch):
    monkeypatch.setattr(deprecation, "_said", set())


@pytest.fixture
def said(monkeypatch, tmp_path, capsys):
    """Runs the command above with some words; gives what it took and what was told."""
    import json

    from encoderlab.cli.main import main
    from encoderlab.core import runner

    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(COMMANDS, "renamed", COMMAND)
    monkeypatch.setattr(runner, "load", lambda command: run)

    def typed(*words: str):
        code = main(["renamed", *words, "--json"])
        told = capsys.readouterr()
        assert code == 0, told.err
        return json.loads(told.out), told.err

    return typed


@pytest.mark.parametrize(
    ("words", "key", "value", "sentence"),
    [
        (["--n-epochs", "9"], "epochs", 9, "--n-epochs is called --epochs"),
        (["--n-epochs=9"], "epochs", 9, "--n-epochs is called --epochs"),
        (["n_epochs=9"], "epochs", 9, "n_epochs is called epochs"),
        (["--words", "a", "b", "--epochs", "3"], "names", ["a", "b"], "--words is called --names"),
        (["--names", "a", "--words", "b"], "names", ["b"], "--words is called --names"),
        (["--no-shuffled"], "shuffle", False, "--no-shuffled is called --no-shuffle"),
        (["--width", "9"], "inner", {"size": 9}, "--width is called --size"),
        (["old.width=9"], "inner", {"size": 9}, "old.width is called inner.size"),
    ],
)
def test_an_old_name_on_the_command_line_works_and_says_so(said, words, key, value, sentence):
    taken, told = said(*words)
    assert taken[key] == value
    assert told == f"{sentence} since 0.3; the old name goes in 0.5\n"


def test_the_new_name_says_nothing(said):
    assert said("--epochs", "9", "--no-shuffle")[1] == ""


def test_it_is_said_once(said):
    assert said("--n-epochs", "9")[1] and not said("--n-epochs", "9")[1]


def test_quiet_is_quiet(said):
    assert said("--n-epochs", "9", "--quiet")[1] == ""


def test_an_old_name_in_a_yaml_of_ones_own_works(said, tmp_path):
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs/mine.yaml").write_text("n_epochs: 9\nold: {width: 8}\n")
    taken, told = said("--config-name", "mine")
    assert (taken["epochs"], taken["inner"]) == (9, {"size": 8})
    assert "n_epochs is called epochs" in told and "old.width is called inner.size" in told


def test_an_old_name_is_not_shown_in_the_help(said, capsys):
    from encoderlab.cli.main import main

    assert main(["renamed", "--help"]) == 0
    shown = capsys.readouterr().out
    assert "--epochs" in shown and "n-epochs" not in shown


def test_a_run_recorded_under_the_old_name_can_be_repeated():
    with pytest.warns(RenamedWarning, match=r"n_epochs is called epochs since 0\.3"):
        again = from_dict(Renamed, {"n_epochs": 9, "old": {"width": 8}, "seed": 1})
    assert (again.epochs, again.inner.size, again.seed) == (9, 8, 1)
    with pytest.raises(UsageError, match="the same setting by two names: got 'n_epochs and epochs"):
        from_dict(Renamed, {"n_epochs": 9, "epochs": 8})


def test_an_old_parameter_works_and_the_warning_points_at_the_caller():
    @formerly(n_epochs=("epochs", "0.3"))
    def train(*, epochs: int = 1) -> int:
        return epochs

    with pytest.warns(RenamedWarning, match="the old name goes in 0.5") as told:
        assert train(n_epochs=9) == 9
    assert told[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert train(n_epochs=8) == 8 and train(epochs=7) == 7
    with pytest.raises(UsageError, match="by two names: got 'n_epochs and epochs'"):
        train(n_epochs=1, epochs=2)
    with pytest.raises(AssertionError, match="no parameter epoch"):
        formerly(n_epochs=("epoch", "0.3"))(lambda epochs: epochs)


def test_an_old_public_name_works_and_says_so(monkeypatch):
    monkeypatch.setitem(encoderlab._FORMERLY, "cka_score", ("cka", "0.3"))
    with pytest.warns(
        RenamedWarning, match=r"encoderlab\.cka_score is called encoderlab\.cka"
    ) as w:
        assert encoderlab.cka_score is encoderlab.cka
    assert w[0].filename == __file__
    assert "cka_score" not in dir(encoderlab)


def test_two_minor_versions_and_no_more():
    former = Former("n_epochs", since="0.9")
    assert former.goes == "0.11"
    assert [former.is_due(v) for v in ("0.9.3", "0.10.0", "0.11.0", "1.0.0")] == [
        False, False, True, True,
    ]  # fmt: skip


def test_nothing_is_kept_longer_than_promised():
    """A release that raises the version past its term has to take the old name out."""
    kept = [
        one.formerly for c in COMMANDS.values() for one in iter_settings(c.settings) if one.formerly
    ]
    kept += [Former(old, since) for old, (_, since) in encoderlab._FORMERLY.items()]
    for where in encoderlab._WHERE.values():
        module, _, name = where.partition(":")
        kept += getattr(getattr(importlib.import_module(module), name), "__formerly__", [])
    assert [one.name for one in kept if one.is_due(encoderlab.__version__)] == []


@pytest.mark.parametrize("name", COMMANDS)
def test_no_old_name_is_a_name_of_today(name):
    settings = list(iter_settings(COMMANDS[name].settings))
    today = {one.key for one in settings} | {flag for one in settings for flag in one.flags}
    for one in settings:
        assert one.formerly is None or one.formerly.name not in today


def test_words_of_a_sweep_keep_their_order():
    words = parse(COMMAND, ["n_epochs=1,2", "-m", "--words", "a"])
    assert words.overrides == ["epochs=1,2", "names=['a']"]
