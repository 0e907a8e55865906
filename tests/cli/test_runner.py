"""A run prints its answer on stdout only, keeps its folder, and fails with the right exit code."""

import dataclasses
import errno
import json
import os
import shutil
from dataclasses import dataclass

import numpy as np
import pytest

from encoderlab.compression import compress
from encoderlab.core.progress import note
from encoderlab.errors import UsageError, WorkError


@dataclass(frozen=True)
class Echo:
    """A result that is what was asked."""

    batch_size: int
    seconds: float = 0.5
    fingerprint: str = "abc"
    model: str = "tiny-clip"
    warnings: tuple[str, ...] = ("too few",)

    def to_json(self):
        return dataclasses.asdict(self)

    def to_text(self):
        return f"batch {self.batch_size}"


def _echo(*, batch_size, **given):
    note("a decision")
    print("chatter of a library")
    return Echo(batch_size)


def test_json_is_all_there_is_on_stdout(lab, experiment):
    experiment(_echo)
    answer = lab("evaluate", "--json", "--batch-size", "3")
    assert answer.code == 0, answer.err
    assert answer.json["batch_size"] == 3
    assert "chatter" in answer.err and "a decision" in answer.err


def test_quiet_says_only_the_result(lab, experiment):
    experiment(_echo)
    answer = lab("evaluate", "--quiet")
    assert answer.out == "batch 64\n" and "a decision" not in answer.err


def test_run_folder_holds_what_repeats_the_run(lab, experiment, tmp_path):
    experiment(_echo)
    lab("evaluate", "--batch-size", "3", "--seed", "7", "--output-dir", "kept")
    record = json.loads((tmp_path / "kept/run.json").read_text())
    assert record["command_line"][:3] == ["encoderlab", "evaluate", "--batch-size"]
    assert record["settings"]["batch_size"] == 3 and record["seed"] == 7
    assert record["result"]["batch_size"] == 3 and record["warnings"] == ["too few"]
    assert record["checkpoints"] == {"tiny-clip": "abc"}
    assert record["versions"]["torch"] and record["seconds"] >= 0
    assert sorted(path.name for path in (tmp_path / "kept").iterdir()) == [
        "config.yaml",
        "run.json",
    ]


def test_rerun_repeats_it_and_finds_the_same(lab, experiment, tmp_path):
    experiment(_echo)
    lab("evaluate", "--batch-size", "3")
    answer = lab("rerun", "outputs/evaluate", "--json")
    assert answer.code == 0, answer.err
    assert answer.json["same"] is True and answer.json["result"]["batch_size"] == 3
    assert (tmp_path / "outputs/evaluate-rerun/run.json").is_file()


def test_rerun_names_what_differs(lab, experiment):
    experiment(_echo)
    lab("evaluate", "--batch-size", "3")
    experiment(lambda **given: Echo(4, seconds=9.0))
    answer = lab("rerun", "outputs/evaluate", "--output-dir", "again", "--json")
    assert answer.json["differences"] == [["batch_size", 3, 4]]
    answer = lab("rerun", "outputs/evaluate", "--output-dir", "again")
    assert "1 values differ" in answer.out and "batch_size: 3, now 4" in answer.out


def test_rerun_never_overwrites_the_first_run(lab, experiment):
    experiment(_echo)
    lab("evaluate")
    assert lab("rerun", "outputs/evaluate", "--output-dir", "outputs/evaluate").code == 2


def test_rerun_repeats_a_run_whose_settings_were_ignored(lab, monkeypatch, tmp_path):
    """As version 0.1 kept them; the command itself refuses such a setting."""
    given = []
    monkeypatch.setattr(compress, "train", lambda settings, out: given.append(settings) or Echo(1))
    assert lab("compress", "training.batch_size=8").code == 0
    file = tmp_path / "outputs/compress/run.json"
    run = json.loads(file.read_text())
    run["settings"]["training"]["lambda_gp"] = 20.0
    file.write_text(json.dumps(run))
    assert lab("rerun", "outputs/compress").code == 0
    training = given[-1].training
    assert (training.lambda_gp, training.batch_size) == (10.0, 8)


def test_sweep_jobs_keep_folders_of_their_own(lab, experiment, tmp_path):
    experiment(_echo)
    answer = lab("evaluate", "-m", "batch_size=1,2", "--json", "--output-dir", "sweep")
    assert answer.code == 0, answer.err
    rows = [json.loads(row) for row in answer.out.splitlines()]
    assert [row["result"]["batch_size"] for row in rows] == [1, 2]
    kept = [json.loads((tmp_path / f"sweep/multirun-{job}/run.json").read_text()) for job in (0, 1)]
    assert [one["settings"]["batch_size"] for one in kept] == [1, 2]
    assert not list(tmp_path.rglob(".hydra"))


def test_a_failing_job_does_not_stop_the_sweep(lab, experiment, tmp_path):
    def fails_at_two(*, batch_size, **given):
        if batch_size == 2:
            raise WorkError("the loss became NaN", hint="lower --lr")
        return Echo(batch_size)

    experiment(fails_at_two)
    answer = lab("evaluate", "-m", "batch_size=1,2,3")
    assert answer.code == 1
    assert "job 1 (batch_size=2): error: the loss became NaN" in answer.err
    assert "1 of 3 jobs of the sweep failed" in answer.err
    assert "Error executing job" not in answer.err
    assert (tmp_path / "outputs/evaluate/multirun-2/run.json").is_file()
    assert not (tmp_path / "outputs/evaluate/multirun-1/run.json").exists()


@pytest.mark.parametrize(
    ("error", "code", "says"),
    [
        (UsageError("the CSV is empty", got="a.csv"), 2, "'a.csv'"),
        (WorkError("diverged"), 1, "diverged"),
        (MemoryError(), 1, "out of memory"),
        (OSError(errno.ENOSPC, "No space left on device", "x"), 1, "disk is full"),
        (FileNotFoundError(errno.ENOENT, "No such file", "a.csv"), 3, "a.csv"),
        (PermissionError(errno.EACCES, "denied", "/root/x"), 3, "/root/x"),
        (KeyboardInterrupt(), 130, "is kept"),
        (RuntimeError("surprise"), 1, "please report it with"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else None,
)
def test_exit_codes(error, code, says, lab, experiment, tmp_path):
    def fails(**given):
        raise error

    experiment(fails)
    answer = lab("evaluate")
    assert answer.code == code and says in answer.err, answer.err
    assert "Traceback" not in answer.err and answer.out == ""
    assert not list(tmp_path.iterdir())


def test_verbose_shows_where_an_unexpected_error_came_from(lab, experiment):
    def fails(**given):
        raise RuntimeError("surprise")

    experiment(fails)
    answer = lab("evaluate", "--verbose")
    assert answer.code == 1 and "Traceback" in answer.err and "in fails" in answer.err


def test_offline_forbids_the_network(lab, experiment, monkeypatch):

    seen = []
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    experiment(lambda **given: seen.append(os.environ["HF_HUB_OFFLINE"]) or Echo(1))
    lab("evaluate", "--offline")
    assert seen == ["1"]


def test_output_folder_that_is_a_file_is_refused_before_the_work(lab, experiment, tmp_path):
    (tmp_path / "taken").write_text("")
    experiment(lambda **given: pytest.fail("the work was begun"))
    assert lab("evaluate", "--output-dir", "taken").code == 2


def test_ls_lists_every_kind(lab):
    answer = lab("ls", "--json")
    assert answer.code == 0, answer.err
    assert set(answer.json) == {
        "encoders", "llms", "metrics", "commands", "datasets", "methods", "compressors", "vlms",
        "references",
    }  # fmt: skip
    assert answer.json["encoders"]["clip"] == "openai/clip-vit-base-patch32"


def test_a_sweep_that_only_lists_leaves_nothing(lab, tmp_path):
    answer = lab("ls", "-m", "what=llms,metrics", "--json")
    rows = [json.loads(row) for row in answer.out.splitlines()]
    assert [row["job"] for row in rows] == ["job 0 (what=llms)", "job 1 (what=metrics)"]
    assert not list(tmp_path.iterdir())


def test_doctor_tells_what_to_mend(lab):
    answer = lab("doctor", "--json", "--quiet")
    assert answer.code == 0, answer.err
    assert answer.json["installation"]["torch"]["state"] == "ok"
    assert {"machine", "models", "data", "self-test"} <= set(answer.json)


def test_doctor_measures_the_tokens_of_a_model(lab):
    from encoderlab.data.typed_samples import typed_samples
    from encoderlab.encoders.vision import load_vision

    answer = lab("doctor", "tiny-dinov2", "--json", "--quiet")
    assert answer.code == 0, answer.err
    images = [sample.image for sample in typed_samples(n_per_type=16).samples]
    tokens = load_vision("tiny-dinov2", "cpu", "float32").encode(images).patches.numpy()
    scale = answer.json["encoder"]
    assert scale["model"] == "tiny-dinov2" and scale["problems"] == []
    assert scale["tokens"] == tokens[..., 0].size
    assert scale["sd"] == pytest.approx(tokens.std(), rel=1e-4)
    assert scale["norm_mean"] == pytest.approx(np.linalg.norm(tokens, axis=-1).mean(), rel=1e-4)


def test_doctor_and_compare_name_the_normalisation_of_a_scaled_encoder(lab, tmp_path):
    from safetensors.torch import load_file, save_file

    from encoderlab.zoo import ZOO

    folder = tmp_path / "scaled"
    shutil.copytree(ZOO / "tiny-dinov2", folder)
    weights = load_file(folder / "model.safetensors")
    for name in ("layernorm.weight", "layernorm.bias"):
        weights[name] = 50 * weights[name]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    scale = lab("doctor", str(folder), "--json", "--quiet").json["encoder"]
    assert scale["sd"] == pytest.approx(50, rel=0.1)
    assert any("LayerNorm in front of the projector" in problem for problem in scale["problems"])
    words = ("compare", "--encoders", str(folder), "tiny-dinov2", "--llms", "tiny-llama")
    answer = lab(*words, "--n-samples", "4", "--dtype", "float32", "--json", "--quiet")
    scaled, plain = answer.json["pooled_scale"].values()
    assert scaled["sd"] == pytest.approx(50 * plain["sd"], rel=1e-3)
    found = [row["what"] for row in answer.json["preflight"]]
    assert any("pooled feature standard deviation" in what for what in found)


def test_doctor_says_when_the_model_is_not_there(lab):
    assert lab("doctor", "tiny-clpi", "--quiet").code == 3
    assert lab("doctor", "--trust-remote-code", "--quiet").code == 2


def test_doctor_begins_with_the_verdict_and_lists_what_passed_on_request():
    from encoderlab.workbench.doctor import OK, WRONG, Diagnosis, Finding

    findings = (Finding("a", "fine", OK, "works"), Finding("a", "broken", WRONG, "fails"))
    brief, full = (Diagnosis(findings, verbose=verbose).blocks() for verbose in (False, True))
    assert brief[0].startswith("1 problem") and full[0].startswith("1 problem")
    assert "broken" in brief[1] and "works" not in brief[1]
    assert "broken" in full[1] and "works" in full[1]
