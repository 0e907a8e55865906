"""A run's folder: strict JSON, whole files, a record that comes back as it was."""

import json
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from encoderlab.core import run_folder
from encoderlab.core.results import to_plain
from encoderlab.errors import MissingError, UsageError


def _record(**result):
    return run_folder.record(
        "evaluate", ["encoderlab", "evaluate"], {"seed": 3, "device": "auto", "dtype": "auto"},
        result, ["a warning"], seconds=1.5, started=datetime(2026, 1, 2, tzinfo=UTC),
    )  # fmt: skip


def test_record_comes_back_as_it_was_written(tmp_path):
    run = _record(recall=0.5, device="cpu")
    again = run_folder.read(run_folder.write(tmp_path / "run", run))
    assert again.result == run.result and again.settings == run.settings
    assert (again.device, again.seed, again.started) == ("cpu", 3, "2026-01-02T00:00:00+00:00")


def test_values_become_strict_json():
    values = [float("nan"), np.float32("inf"), np.arange(3), Path("a"), np.float64(0.5), (1, "이")]
    plain = to_plain({"values": values, 3: None})
    assert plain == {"values": [None, None, [0, 1, 2], "a", 0.5, [1, "이"]], "3": None}
    json.dumps(plain, allow_nan=False)


def test_a_broken_or_missing_record_is_named(tmp_path):
    with pytest.raises(MissingError, match="no run in this folder"):
        run_folder.read(tmp_path)
    (tmp_path / "run.json").write_text('{"command": ')
    with pytest.raises(UsageError, match=r"run\.json is broken"):
        run_folder.read(tmp_path)


def test_git_commit_of_the_users_tree(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert run_folder.git_commit() is None
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b"]
    subprocess.run([*git, "init", "-q"], check=True)
    subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", "a"], check=True)
    head = subprocess.run(
        ["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True
    ).stdout.strip()
    assert run_folder.git_commit() == head


@pytest.mark.parametrize("spoiled", [{"command": None}, {"command": ["x"]}, {"settings": [1]},
                                     {"result": 3}, {"command_line": "x"}])  # fmt: skip
def test_a_record_with_another_kind_of_value_is_broken(tmp_path, spoiled):
    run = run_folder.record("ls", (), {}, {}, seconds=1.0, started=datetime.now(UTC))
    path = run_folder.write(tmp_path, run) / "run.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | spoiled))
    with pytest.raises(UsageError, match=f"is broken.*its {next(iter(spoiled))} is"):
        run_folder.read(tmp_path)
