"""Sweeps in other processes, as typed: every job answers, keeps its folder, and may fail alone."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from encoderlab.cli.main import main
from encoderlab.cli.sweep import JobOutcome, report
from encoderlab.errors import WorkError


def _lab(words: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "encoderlab", *words], capture_output=True, text=True, cwd=folder,
        timeout=120, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip


def _evaluate(launcher: str, world: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    """Two jobs that do well around one that asks for what cannot be."""
    return _lab(
        ["evaluate", "-m", f"hydra/launcher={launcher}", "--csv", str(world / "captions.csv"),
         "--device", "cpu", "batch_size=8,0,16", "--output-dir", "sweep", "--json"],
        folder,
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["joblib", "submitit_local"])
def test_a_failing_job_stops_no_other_wherever_they_run(launcher, world, tmp_path):
    done = _evaluate(launcher, world, tmp_path)
    assert done.returncode == 1, done.stderr
    rows = sorted((json.loads(row) for row in done.stdout.splitlines()), key=lambda row: row["job"])
    assert [row["job"][:5] for row in rows] == ["job 0", "job 2"]
    folders = [Path(row["folder"]) for row in rows]
    assert [one.name for one in folders] == ["multirun-0", "multirun-2"]
    for one in folders:
        assert json.loads((one / "run.json").read_text())["settings"]["output_dir"] == str(one)
    assert not (tmp_path / "sweep/multirun-1/run.json").exists()
    failed = [line for line in done.stderr.splitlines() if " failed: " in line]
    assert len(failed) == 1 and failed[0].startswith("encoderlab: job 1 (")
    assert "1 of 3 jobs of the sweep failed" in done.stderr
    assert "Error executing job" not in done.stderr and "Traceback" not in done.stderr
    assert not list((tmp_path / "sweep").glob(".*.json"))  # what the jobs noted is taken away


@pytest.mark.slow
def test_submitit_says_where_its_logs_are(world, tmp_path):
    done = _lab(["ls", "-m", "what=llms,metrics", "hydra/launcher=submitit_local"], tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.index("job 0 (what=llms)") < done.stdout.index("job 1 (what=metrics)")
    assert "tiny-llama" in done.stdout and "cka" in done.stdout
    logs = tmp_path / "outputs/sweep-ls/.submitit"
    assert "logs: outputs/sweep-ls/.submitit" in done.stderr
    assert len(list(logs.glob("*/*_log.out"))) == 2


class _Writes(io.StringIO):
    """Keeps every write, as an unbuffered stream of the system gets it."""

    def __init__(self) -> None:
        super().__init__()
        self.kept: list[str] = []

    def write(self, text: str) -> int:
        self.kept += [text] if text else []
        return super().write(text)


@pytest.mark.parametrize("words", [["ls", "llms"], ["ls", "llms", "--json"], ["ls", "nothing"]])
def test_an_answer_or_error_is_one_write(words, monkeypatch):
    out, err = _Writes(), _Writes()
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)
    main(words)
    (text,) = err.kept if words == ["ls", "nothing"] else out.kept
    assert text.endswith("\n")


def test_joblib_answers_on_stdout(tmp_path):
    done = _lab(["ls", "-m", "what=llms,metrics", "hydra/launcher=joblib", "--json"], tmp_path)
    assert done.returncode == 0, done.stderr
    jobs = sorted(json.loads(row)["job"] for row in done.stdout.splitlines())
    assert jobs == ["job 0 (what=llms)", "job 1 (what=metrics)"]
    assert not list(tmp_path.iterdir())  # a sweep that only lists leaves nothing


@pytest.mark.parametrize(
    ("launcher", "says"),
    [
        ("submitit_slurm", "there is no SLURM here"),
        ("ray", "hydra/launcher=ray is not installed"),
        ("joblob", "unknown hydra/launcher"),
    ],
)
def test_a_launcher_that_is_not_there_is_one_message(launcher, says, lab, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    answer = lab("ls", "-m", "what=llms,metrics", f"hydra/launcher={launcher}")
    assert answer.code in (2, 3) and says in answer.err, answer.err
    assert "Traceback" not in answer.err


def test_without_the_extra_its_name_is_told(tmp_path):
    program = (
        "import sys; sys.modules['hydra_plugins'] = None\n"
        "from encoderlab.cli.main import main\n"
        "sys.exit(main(['ls', '-m', 'what=llms,metrics', 'hydra/launcher=' + sys.argv[1]]))"
    )
    for launcher in ("joblib", "submitit_local"):
        done = subprocess.run(
            [sys.executable, "-c", program, launcher], capture_output=True, text=True, cwd=tmp_path
        )
        assert done.returncode == 3, done.stderr
        assert f"hydra/launcher={launcher} is not installed" in done.stderr
        assert 'pip install "encoderlab[sweep]"' in done.stderr


def test_a_job_of_a_sweep_starts_no_copies_of_itself(lab):
    answer = lab("train", "-m", "epochs=1,2", "--devices", "2")
    assert answer.code == 1 and answer.err.count("a job of a sweep has one device: got") == 2


def test_outcomes_are_told_in_the_order_of_the_jobs(tmp_path, capsys):
    outcomes = [
        JobOutcome("job 0 (b=1)", printed="the answer"),
        JobOutcome("job 1 (b=2)", "no room"),
    ]
    with pytest.raises(WorkError, match="1 of 2 jobs of the sweep failed"):
        report(outcomes, tmp_path)
    told = capsys.readouterr()
    assert told.out == "the answer\n" and "job 1 (b=2) failed: no room" in told.err
    report(outcomes[:1], tmp_path)


def test_a_killed_job_is_told_with_its_logs(tmp_path):
    (tmp_path / ".submitit").mkdir()
    with pytest.raises(WorkError, match=r"the sweep broke off.*exit code 9.*\.submitit"):
        report([], tmp_path, RuntimeError("killed, exit code 9\nmore"))


def test_installed_launchers_cost_little():
    """Hydra imports every launcher that is installed whenever it composes."""
    program = (
        "import sys\nfrom hydra.core.plugins import Plugins\n"
        "took = Plugins.instance().get_stats().modules_import_time\n"
        "ours = [s for name, s in took.items() if name.startswith('hydra_plugins.')]\n"
        "heavy = [name for name in ('joblib', 'submitit', 'ray') if name in sys.modules]\n"
        "print(len(ours), sum(ours), heavy)"
    )
    found = []
    for _ in range(3):
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
        count, seconds, heavy = done.stdout.split(maxsplit=2)
        assert int(count) >= 2 and heavy.strip() == "[]"
        found.append(float(seconds))
    assert min(found) < 0.1
