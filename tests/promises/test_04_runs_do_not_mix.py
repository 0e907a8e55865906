"""A second run into the same folder leaves no figure of the first beside its own record."""

import json
import os
import time
from dataclasses import dataclass

from encoderlab.core.atomic_io import write_text_atomic
from encoderlab.errors import WorkError


@dataclass(frozen=True)
class Result:
    """As many figures as were asked for."""

    figures: int

    def to_json(self):
        return {"figures": self.figures}

    def to_text(self):
        return f"{self.figures} figures"


def _draws(*, out, batch_size, **given):
    """Writes one figure per unit of batch_size, the first under the same name each time."""
    for number in range(batch_size):
        write_text_atomic(out / "figures" / f"{number}.png", "a figure")
    write_text_atomic(out / "weights.ckpt", "weights")
    return Result(batch_size)


def _files(folder):
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


def test_a_second_run_leaves_no_figure_of_the_first(lab, experiment, tmp_path):
    experiment(_draws)
    folder = tmp_path / "kept"
    lab("evaluate", "--batch-size", "4", "--output-dir", "kept")
    (folder / "mine.png").write_text("not of the run")
    (folder / "figures/3.png").write_text("changed by hand")
    os.utime(folder / "figures/3.png", ns=(time.time_ns() + 10**10,) * 2)
    lab("evaluate", "--batch-size", "1", "--output-dir", "kept")
    record = json.loads((folder / "run.json").read_text())
    assert record["files"] == ["figures/0.png"]
    assert _files(folder) == ["config.yaml", "figures/0.png", "figures/3.png", "mine.png",
                              "run.json", "weights.ckpt"]  # fmt: skip


def test_a_failed_second_run_leaves_the_first_whole(lab, experiment, tmp_path):
    experiment(_draws)
    lab("evaluate", "--batch-size", "2", "--output-dir", "kept")
    before = _files(tmp_path / "kept")

    def fails(**given):
        raise WorkError("the loss became NaN")

    experiment(fails)
    assert lab("evaluate", "--batch-size", "1", "--output-dir", "kept").code == 1
    assert _files(tmp_path / "kept") == before


def test_another_command_in_the_same_folder_takes_nothing_away(lab, experiment, tmp_path):
    experiment(_draws)
    lab("evaluate", "--batch-size", "2", "--output-dir", "kept")
    record = json.loads((tmp_path / "kept/run.json").read_text())
    (tmp_path / "kept/run.json").write_text(json.dumps(record | {"command": "classify"}))
    lab("evaluate", "--batch-size", "1", "--output-dir", "kept")
    assert "figures/1.png" in _files(tmp_path / "kept")


def test_a_record_cannot_name_files_outside_its_folder(lab, experiment, tmp_path):
    experiment(_draws)
    lab("evaluate", "--batch-size", "1", "--output-dir", "kept")
    (tmp_path / "other.png").write_text("of somebody else")
    record = json.loads((tmp_path / "kept/run.json").read_text())
    record["files"] += ["../other.png", str(tmp_path / "other.png")]
    (tmp_path / "kept/run.json").write_text(json.dumps(record))
    lab("evaluate", "--batch-size", "1", "--output-dir", "kept")
    assert (tmp_path / "other.png").is_file()


def test_a_shorter_sweep_leaves_no_job_of_a_longer_one(lab, experiment, tmp_path):
    experiment(_draws)
    lab("evaluate", "-m", "batch_size=1,2,3", "--output-dir", "sweep")
    lab("evaluate", "-m", "batch_size=2,1", "--output-dir", "sweep")
    assert _files(tmp_path / "sweep/multirun-2") == ["weights.ckpt"]
    assert "figures/1.png" not in _files(tmp_path / "sweep/multirun-1")
