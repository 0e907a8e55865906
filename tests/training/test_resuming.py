"""A run goes on from a checkpoint with the data and the settings that it began with, or says why
not; with its best epoch so far, in whatever folder."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image
from tests.contrastive.test_loop import _trainer

from encoderlab.contrastive import train as experiment
from encoderlab.contrastive.loop import NAMES, Validation
from encoderlab.encoders.dual import load_dual
from encoderlab.encoders.vision import load_vision
from encoderlab.errors import MissingError, UsageError
from encoderlab.models import checkpoint
from encoderlab.training.loggers import make_logger
from encoderlab.training.loop import checkpoint_to_resume

COLOURS = ("red", "blue", "green", "black", "white", "grey", "gold", "pink", "navy", "teal")
SETTINGS = {
    "epochs": 2, "batch_size": 4, "image_size": 32, "vision_layers": 1, "text_layers": 1,
    "vocab_size": 300, "device": "cpu", "logger": "none", "precision": "fp32",
}  # fmt: skip


def _write(folder: Path, colours=COLOURS, word: str = "a {} field") -> Path:
    """Pictures whose files are all of one size, and their captions."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = ["image_path,caption"]
    for number, colour in enumerate(colours):
        Image.new("RGB", (32, 32), colour).save(folder / f"{number}.bmp")
        rows.append(f"{number}.bmp,{word.format(colour)}")
    (folder / "pairs.csv").write_text("\n".join(rows))
    return folder / "pairs.csv"


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of two epochs, with its data beside it."""
    root = tmp_path_factory.mktemp("first")
    table = _write(root / "data")
    _run(root / "run", table)
    return root


def _run(out: Path, table: Path, val: Path | None = None, **more):
    options = {**SETTINGS, "train_csv": str(table), "val_csv": str(val or table), **more}
    return experiment.run(out=out, **options)


def _weights(run: Path, name: str = "latest.ckpt") -> dict[str, torch.Tensor]:
    return checkpoint.read(run / "checkpoints" / name)["weights"]


@pytest.mark.parametrize(
    ("changes", "names"),
    [
        ({"word": "one {} field"}, "training captions"),
        ({"colours": COLOURS[::-1]}, "training images, training captions"),
        ({"colours": (*COLOURS[:9], "cyan"), "word": "a field"}, "training images"),
    ],
)
def test_other_pairs_of_the_same_number_are_refused(
    first: Path, tmp_path: Path, changes: dict, names: str
) -> None:
    other = _write(tmp_path / "other", **changes)
    start = str(first / "run/checkpoints/epoch_1.ckpt")
    with pytest.raises(UsageError) as error:
        _run(tmp_path / "run", other, first / "data/pairs.csv", resume=start)
    assert str(error.value.got).startswith(f"other {names}")
    assert not (tmp_path / "run/checkpoints").exists()


def test_other_pixels_in_files_of_one_name_and_size_are_refused(
    first: Path, tmp_path: Path
) -> None:
    table = _write(tmp_path / "data", (*COLOURS[:9], "cyan"))
    table.write_text((first / "data/pairs.csv").read_text())
    with pytest.raises(UsageError) as error:
        _run(tmp_path / "run", table, first / "data/pairs.csv", resume=str(first / "run"))
    assert error.value.got == "other training images"


def test_other_validation_pairs_are_refused(first: Path, tmp_path: Path) -> None:
    val = _write(tmp_path / "val", word="one {} field")
    with pytest.raises(UsageError) as error:
        _run(tmp_path / "run", first / "data/pairs.csv", val, resume=str(first / "run"))
    assert error.value.got == "other validation captions"


@pytest.mark.parametrize("in_memory", ["yes", "no"])
def test_the_same_pairs_elsewhere_go_on_to_the_same_numbers(
    first: Path, tmp_path: Path, in_memory: str
) -> None:
    shutil.copytree(first / "data", tmp_path / "moved")
    start = str(first / "run/checkpoints/epoch_1.ckpt")
    _run(tmp_path / "run", tmp_path / "moved/pairs.csv", resume=start, in_memory=in_memory)
    again, before = _weights(tmp_path / "run"), _weights(first / "run")
    assert all(torch.equal(again[name], value) for name, value in before.items())


def test_a_checkpoint_without_a_digest_goes_on_with_one_warning(
    first: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record = checkpoint.read(first / "run/checkpoints/epoch_1.ckpt")
    for key in ("format", "data", "best", "total_steps"):
        record.pop(key)
    checkpoint.write(tmp_path / "epoch_1.ckpt", record)
    _run(tmp_path / "run", first / "data/pairs.csv", resume=str(tmp_path / "epoch_1.ckpt"))
    assert capsys.readouterr().err.count("kept no digest of its data") == 1
    again, before = _weights(tmp_path / "run"), _weights(first / "run")
    assert all(torch.equal(again[name], value) for name, value in before.items())


def test_a_checkpoint_of_version_0_1_within_the_first_epoch_goes_on(tmp_path: Path) -> None:
    whole = _trainer(tmp_path / "whole")
    whole.run()
    part = _trainer(tmp_path / "part")
    for batch in part.batches(0):
        part.train_step(batch)
        part.step += 1
        if part.step == 2:
            break
    part._save("latest.ckpt")
    record = checkpoint.read(part.folder / "latest.ckpt")
    for key in ("format", "data", "best", "total_steps", "warnings"):
        record.pop(key)
    checkpoint.write(part.folder / "latest.ckpt", record)
    again = _trainer(tmp_path / "part")
    again.resume(part.folder / "latest.ckpt")
    assert again.run().history == tuple(whole.history)
    for name, value in whole.module.state_dict().items():
        assert torch.equal(value, again.module.state_dict()[name]), name


def test_a_finished_run_says_so_and_exports_in_the_new_folder(
    first: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = first / "data/pairs.csv"
    result = _run(tmp_path / "run", table, resume=str(first / "run"))
    text = capsys.readouterr().err
    assert "the run is finished" in text and "--epochs above 2" in text
    assert "0/0" not in text
    stored = checkpoint.read(first / "run/checkpoints/best.ckpt")
    assert result.best_epoch == stored["best_epoch"]
    assert load_dual(result.model, "cpu", "float32").trained_steps == stored["step"]
    # What it left can be gone on from too.
    longer = _run(tmp_path / "run", table, resume=str(tmp_path / "run"), epochs=3)
    assert longer.steps == 6 and any("followed the learning rate" in w for w in longer.warnings)


def test_fewer_epochs_than_planned_are_refused(first: Path, tmp_path: Path) -> None:
    start = str(first / "run/checkpoints/epoch_1.ckpt")
    with pytest.raises(UsageError, match=r"epochs=1.*epochs=2"):
        _run(tmp_path / "run", first / "data/pairs.csv", resume=start, epochs=1)


@pytest.mark.parametrize(
    ("asked", "names"),
    [
        ({"vision_layers": 3}, "vision_layers"),
        ({"embed_dim": 32}, "embed_dim"),
        ({"preset": "ViT-B/32"}, "preset"),
        ({"tokenizer": "char"}, "tokenizer"),
        ({"lr": 1.0}, "lr"),
    ],
)
def test_another_model_or_recipe_than_the_checkpoints_is_refused(
    first: Path, tmp_path: Path, asked: dict, names: str
) -> None:
    with pytest.raises(UsageError) as error:
        _run(tmp_path / "run", first / "data/pairs.csv", resume=str(first / "run"), **asked)
    assert str(error.value.got).startswith(names)


def _judged(folder: Path, scores: dict[int, float], epochs: int = 3):
    """A trainer whose epochs are judged as they are told."""
    trainer = _trainer(folder, epochs=epochs)
    trainer.validate = lambda model: Validation(scores[trainer.step // 3], {})
    return trainer


@pytest.mark.parametrize("gone", [(), ("best.ckpt",)])
def test_the_best_epoch_before_comes_along_into_another_folder(
    tmp_path: Path, gone: tuple[str, ...]
) -> None:
    scores = {1: 0.9, 2: 0.5, 3: 0.4}
    _judged(tmp_path / "a", scores).run()
    for name in gone:
        (tmp_path / "a/checkpoints" / name).unlink()
    again = _judged(tmp_path / "b", scores)
    again.resume(tmp_path / "a/checkpoints/epoch_2.ckpt")
    assert again.run().best_epoch == 1
    assert checkpoint.read(tmp_path / "b/checkpoints/best.ckpt")["step"] == 3


def test_going_back_to_an_earlier_epoch_forgets_a_later_best_one(tmp_path: Path) -> None:
    _judged(tmp_path, {1: 0.5, 2: 0.9, 3: 0.8}).run()
    again = _judged(tmp_path, {2: 0.4, 3: 0.4})
    again.resume(tmp_path / "checkpoints/epoch_1.ckpt")
    assert again.run().best_epoch == 1
    assert checkpoint.read(tmp_path / "checkpoints/best.ckpt")["step"] == 3


def test_without_its_best_checkpoint_a_run_chooses_among_the_epochs_to_come(
    tmp_path: Path,
) -> None:
    scores = {1: 0.9, 2: 0.5, 3: 0.4}
    _judged(tmp_path / "a", scores).run()
    (tmp_path / "alone").mkdir()
    for name in ("epoch_2.ckpt", "latest.ckpt"):
        shutil.copy(tmp_path / "a/checkpoints" / name, tmp_path / "alone" / name)
    again = _judged(tmp_path / "b", scores)
    again.resume(tmp_path / "alone/epoch_2.ckpt")
    done = again.run()
    assert done.best_epoch == 3 and "is not there" in done.warnings[0]
    with pytest.raises(MissingError, match="the checkpoint of its best epoch is not there"):
        _judged(tmp_path / "c", scores).resume(tmp_path / "alone/latest.ckpt")


def test_what_to_resume_from_is_a_file_a_run_or_its_checkpoints(first: Path) -> None:
    latest = first / "run/checkpoints/latest.ckpt"
    for word in (latest, latest.parent, first / "run"):
        assert checkpoint_to_resume(str(word), NAMES) == latest
    assert checkpoint_to_resume(None, NAMES) is None
    for word, why in ((first / "none", "no such folder"), (first / "data", "has no checkpoint")):
        with pytest.raises(MissingError, match=why):
            checkpoint_to_resume(str(word), NAMES)


@pytest.mark.parametrize("load", [load_dual, load_vision])
def test_an_interrupted_run_is_loaded_as_far_as_it_came(
    first: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], load
) -> None:
    run = tmp_path / f"cut-{load.__name__}/checkpoints"
    run.mkdir(parents=True)
    # Killed within the second epoch, then within the first.
    shutil.copy(first / "run/checkpoints/epoch_1.ckpt", run / "best.ckpt")
    record = checkpoint.read(first / "run/checkpoints/epoch_1.ckpt")
    record.pop("format")
    checkpoint.write(run / "latest.ckpt", {**record, "step": 3})
    assert load(str(run.parent), "cpu", "float32") is not None
    text = capsys.readouterr().err
    assert "3 of 4 steps are done" in text and "best epoch so far, 1" in text
    assert load(str(first / "run"), "cpu", "float32") is not None
    assert "not finished" not in capsys.readouterr().err
    early = tmp_path / f"early-{load.__name__}"
    shutil.copytree(run.parent, early)
    (early / "checkpoints/best.ckpt").unlink()
    assert load(str(early), "cpu", "float32") is not None
    assert "has not ended an epoch; its state after step 3" in capsys.readouterr().err


def test_rows_of_the_csv_are_kept_when_a_run_is_resumed(tmp_path):
    for resumed, steps in ((False, [1, 2]), (True, [3]), (False, [1])):
        logger = make_logger("csv", tmp_path, resumed=resumed)
        for step in steps:
            logger.log_metrics({"loss": 1 / step} | ({"new": 5} if resumed else {}), step=step)
        if resumed:
            with (tmp_path / "curves/metrics.csv").open(newline="") as stream:
                rows = list(csv.DictReader(stream))
            assert [(row["step"], float(row["loss"])) for row in rows] == [
                ("1", 1.0), ("2", 0.5), ("3", 1 / 3)
            ]  # fmt: skip
    assert (tmp_path / "curves/metrics.csv").read_text().split() == ["loss,step", "1.0,1"]
