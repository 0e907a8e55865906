"""Processes that torchrun or srun started are one run: one folder, one answer, the same numbers.

srun is played by its variables: they are all that it tells a task.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from encoderlab.cli.main import main

pytestmark = pytest.mark.slow
TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
TRAIN = [
    "train", "--epochs", "2", "--batch-size", "8", "--image-size", "32", "--patch-size", "16",
    "--vision-width", "32", "--vision-layers", "1", "--text-width", "32", "--text-layers", "1",
    "--vocab-size", "300", "--context-length", "24", "--precision", "fp32", "--device", "cpu",
    "--logger", "none", "--json",
]  # fmt: skip
COMPRESS = [
    "compress", "training.epochs=1", "training.batch_size=6", "model.compressor.width=8",
    "model.compressor.output_grid_size=4", "--model", "tiny-dinov2", "--dtype", "float32",
    "hardware.precision=fp32", "--device", "cpu", "--json",
]  # fmt: skip


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """Pairs that are learnt from, and pictures."""
    folder = tmp_path_factory.mktemp("pairs")
    random.seed(0)
    rows = ["image_path,caption"]
    for number in range(24):
        name = random.choice(["red", "green", "blue"])
        Image.new("RGB", (40, 40), name).effect_spread(number).save(folder / f"{number}.png")
        rows.append(f"{number}.png,a {name} picture of number {number}")
    (folder / "pairs.csv").write_text("\n".join(rows))
    return folder


@pytest.fixture
def words(data, tmp_path):
    """The words of a command, on the data."""
    csv = str(data / "pairs.csv")
    named = {
        "train": [*TRAIN, "--train-csv", csv, "--val-csv", csv],
        "compress": [*COMPRESS, "data.n_samples=24", "--store", str(tmp_path / "store")],
    }
    return lambda command, *more: [*named[command], *more]


def _environment(**more: str) -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", **more}


def _task(rank: int, port: int) -> dict[str, str]:
    """What srun tells a task."""
    return _environment(
        SLURM_JOB_ID=str(port), SLURM_STEP_ID="0", SLURM_JOB_NAME="bash", SLURM_NTASKS="2",
        SLURM_PROCID=str(rank), SLURM_LOCALID=str(rank), SLURM_NODEID="0", SLURM_NNODES="1",
        SLURM_STEP_NUM_TASKS="2", SLURM_STEP_NUM_NODES="1", SLURM_STEP_TASKS_PER_NODE="2",
    )  # fmt: skip


def _start(words: list[str], folder: Path) -> list[subprocess.Popen[str]]:
    port = random.SystemRandom().randrange(10_000)
    return [
        subprocess.Popen(
            [sys.executable, "-m", "encoderlab", *words], env=_task(rank, port), text=True,
            stdout=subprocess.PIPE, stderr=(folder / f"{rank}.err").open("w"),
        )
        for rank in range(2)
    ]  # fmt: skip


def _srun(words: list[str], folder: Path) -> list[tuple[int, str, str]]:
    """(exit code, stdout, stderr) of both tasks."""
    tasks = _start(words, folder)
    outs = [task.communicate(timeout=120)[0] for task in tasks]
    return [
        (task.returncode, out, (folder / f"{rank}.err").read_text())
        for rank, (task, out) in enumerate(zip(tasks, outs, strict=True))
    ]


def _torchrun(words: list[str], **variables: str) -> subprocess.CompletedProcess[str]:
    return _start_both(["-m", "encoderlab", *words], **variables)


def _start_both(words: list[str], **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *TORCHRUN, *words],
        capture_output=True, text=True, timeout=120, env=_environment(**variables),
    )  # fmt: skip


def _start_one(words: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *words], capture_output=True, text=True, timeout=120, env=_environment()
    )


def _alone(words: list[str], capsys) -> dict:
    capsys.readouterr()
    assert main(words) == 0, capsys.readouterr().err
    return json.loads(capsys.readouterr().out)


def _same_numbers(one: dict, two: dict) -> None:
    assert len(one["history"]) == len(two["history"])
    for ours, theirs in zip(one["history"], two["history"], strict=True):
        assert ours.keys() == theirs.keys()
        for name, value in ours.items():
            # Losses to 1e-5; what is computed from a nearly flat space magnifies their rounding.
            off = 1e-5 if "loss" in name else 1e-3
            assert theirs[name] == pytest.approx(value, rel=off, abs=off), name


def test_torchrun_trains_as_one_process_does(words, tmp_path, capsys):
    done = _torchrun(words("train", "--output-dir", str(tmp_path / "two")))
    assert done.returncode == 0, done.stderr
    two = json.loads(done.stdout)  # one answer, and nothing else
    assert done.stderr.count("epoch 1 of 2") == 1
    assert "2 on one machine, started by torchrun, joined by gloo" in done.stderr
    one = _alone(words("train", "--output-dir", str(tmp_path / "one")), capsys)
    _same_numbers(one, two)
    assert two["loss"] == pytest.approx(one["loss"], abs=1e-5)
    stored, expected = (
        sorted(p.name for p in (tmp_path / run).iterdir()) for run in ("two", "one")
    )
    assert stored == expected
    assert json.loads((tmp_path / "two/run.json").read_text())["result"]["steps"] == 6


def test_no_thread_of_the_process_group_is_left_when_python_ends(tmp_path):
    """Such a thread aborts the process if it frees a tensor then."""
    script = tmp_path / "script.py"
    script.write_text(
        """
import atexit, os, sys
from encoderlab.training.devices import make_fabric

def threads():
    return [open(f"/proc/self/task/{n}/comm").read().strip() for n in os.listdir("/proc/self/task")]

# Functions registered first are called last.
atexit.register(lambda: print(*threads(), sep="\\n"))
make_fabric("cpu", strategy=sys.argv[1])
assert "pt_gloo_runloop" in threads()
"""
    )
    for started, strategy in ((_start_both, "auto"), (_start_one, "ddp")):
        done = started([str(script), strategy])
        assert done.returncode == 0, done.stderr
        assert "python" in done.stdout and "gloo" not in done.stdout


@pytest.mark.parametrize("more", [(), ("--distribution", "wgan", "training.n_critic=2")])
def test_torchrun_compresses_as_one_process_does(more, words, tmp_path, capsys):
    typed = words("compress", *more)
    done = _torchrun([*typed, "--output-dir", str(tmp_path / "two")])
    assert done.returncode == 0, done.stderr
    two = json.loads(done.stdout)
    _same_numbers(_alone([*typed, "--output-dir", str(tmp_path / "one")], capsys), two)
    assert (tmp_path / "two/compressor/model.safetensors").is_file()


def test_srun_stops_at_sigterm_and_one_process_goes_on(words, tmp_path, capsys):
    """SIGTERM reaches one of two tasks; both leave, and the state is that of the last step."""
    typed = words("train", "--epochs", "20")
    tasks = _start([*typed, "--output-dir", str(tmp_path / "run")], tmp_path)
    text = tmp_path / "0.err"
    while "epoch 2 of 20" not in text.read_text():
        assert tasks[0].poll() is None, text.read_text()
        time.sleep(0.05)
    tasks[1].send_signal(signal.SIGTERM)
    outs = [task.communicate(timeout=60)[0] for task in tasks]
    assert [task.returncode for task in tasks] == [130, 130], text.read_text()
    assert outs == ["", ""] and (tmp_path / "1.err").read_text() == ""
    assert text.read_text().count("interrupted") == 1
    run = tmp_path / "run"
    assert "started by srun" in text.read_text() and f"--resume {run}" in text.read_text()
    assert not (run / "run.json").exists()
    again = _alone([*typed, "--resume", str(run), "--output-dir", str(run)], capsys)
    whole = _alone([*typed, "--output-dir", str(tmp_path / "whole")], capsys)
    assert again["steps"] == whole["steps"] == 60
    assert again["loss"] == pytest.approx(whole["loss"], abs=1e-3)


def test_torchrun_trains_a_vlm_as_one_process_does(tmp_path, capsys):
    typed = [
        "vlm", "train", "--n-images", "64", "--batch-size", "16", "controls=[]", "--precision",
        "fp32", "--device", "cpu", "--logger", "none", "--json",
        "--features-dir", str(tmp_path / "store"), "--output-dir",
    ]  # fmt: skip
    done = _torchrun([*typed, str(tmp_path / "two")])
    assert done.returncode == 0, done.stderr
    two, one = json.loads(done.stdout), _alone([*typed, str(tmp_path / "one")], capsys)
    assert two["loss"] == pytest.approx(one["loss"], abs=1e-5)
    ours, theirs = (
        load_file(tmp_path / run / "model/projector.safetensors") for run in ("two", "one")
    )
    assert all(torch.allclose(ours[name], theirs[name], atol=1e-4) for name in theirs)


@pytest.mark.parametrize(
    ("more", "code", "says"),
    [
        (["--batch-size", "9"], 2, "the batch does not divide over the devices"),
        (["--devices", "4"], 2, "--devices contradicts the processes that srun started"),
        (["--lr", "1e30", "--grad-clip", "0", "--warmup-steps", "0"], 1, "so the run was stopped"),
    ],
)
def test_every_process_leaves_with_one_code_and_one_message(more, code, says, words, tmp_path):
    result = _srun(words("train", *more, "--output-dir", str(tmp_path / "run")), tmp_path)
    assert [returned for returned, _, _ in result] == [code, code], result
    assert says in result[0][2] and result[0][2].count("error:") == 1
    assert result[1][1:] == ("", "") and result[0][1] == ""
    assert not (tmp_path / "run/run.json").exists()


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (["--loss", "softmx"], "unknown value for --loss"),
        (["--batch-size", "9"], "the batch does not divide"),
    ],
)
def test_torchrun_shows_a_mistake_once(more, says, words, tmp_path):
    # Rank 0 starts last: torchrun ends it as soon as another process is gone.
    late = 'import os, time\ntime.sleep(2 * (os.environ.get("RANK") == "0"))\n'
    (tmp_path / "sitecustomize.py").write_text(late)
    done = _torchrun(words("train", *more), PYTHONPATH=str(tmp_path))
    assert done.stdout == "" and done.stderr.count(says) == 1
    assert "exitcode  : 2" in done.stderr  # torchrun's own code is 1, whatever ours is


def test_what_one_machine_lacks_is_told_by_the_first(words, tmp_path, data):
    """The second process stands in another folder, where the data is not."""
    here, elsewhere = tmp_path / "here", tmp_path / "there"
    elsewhere.mkdir()
    here.symlink_to(data)
    typed = [*TRAIN, "--train-csv", "here/pairs.csv", "--output-dir", str(tmp_path / "run")]
    port = random.SystemRandom().randrange(10_000)
    tasks = [
        subprocess.Popen(
            [sys.executable, "-m", "encoderlab", *typed], env=_task(rank, port), text=True,
            cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )
        for rank, folder in enumerate((tmp_path, elsewhere))
    ]  # fmt: skip
    result = [task.communicate(timeout=60) for task in tasks]
    assert [task.returncode for task in tasks] == [3, 3], result
    assert "process 1 on " in result[0][1] and "no such data" in result[0][1]
    assert result[1] == ("", "")
