"""The training run: it learns, it stops when it should, and it resumes to the same numbers."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.small_models import make_clip

from encoderlab.contrastive import train as experiment
from encoderlab.contrastive.dataset import ImageTextDataset, positives_of
from encoderlab.contrastive.images import DecodedImages
from encoderlab.contrastive.loop import ContrastiveTrainer, Recipe, Validation
from encoderlab.contrastive.preflight import findings
from encoderlab.contrastive.validation import RetrievalValidation
from encoderlab.data.sample import Sample
from encoderlab.errors import MissingError, UsageError, WorkError
from encoderlab.models import checkpoint
from encoderlab.models.clip import CLIP
from encoderlab.models.clip.vision import VisionTransformer
from encoderlab.training.devices import make_fabric
from encoderlab.training.optimiser import RunningAverage, adamw, learning_rate
from encoderlab.training.schedule import Schedule

SMALL = {
    "epochs": 1, "batch_size": 8, "image_size": 32, "vision_layers": 1, "text_layers": 1,
    "vocab_size": 300, "device": "cpu", "logger": "none", "precision": "fp32",
}  # fmt: skip
COLOURS = {"red": (220, 30, 40), "blue": (30, 80, 230), "green": (20, 150, 60), "black": (9, 9, 9)}


def _pairs(clip: CLIP, copies: int = 6) -> ImageTextDataset:
    samples, pixels = [], []
    for copy in range(copies):
        for name, rgb in COLOURS.items():
            samples.append(Sample(f"{name}{copy}", Path(name), (f"a {name} picture",)))
            noise = np.random.default_rng(copy).integers(-20, 20, (3, 32, 32))
            pixels.append(np.clip(np.array(rgb)[:, None, None] + noise, 0, 255).astype(np.uint8))
    assert clip.tokenizer is not None
    return ImageTextDataset(samples, clip.tokenizer, clip.preprocess, np.stack(pixels))


def _trainer(folder: Path, **changes) -> ContrastiveTrainer:
    clip = make_clip(trained_steps=0)
    recipe = Recipe.of(**{"epochs": 3, "batch_size": 8, "lr": 1e-3, **changes})
    fabric = make_fabric("cpu", precision="fp32")
    return ContrastiveTrainer(clip, _pairs(clip), recipe, fabric, folder, workers=0, save_every=2)


def test_it_learns_four_colours(tmp_path: Path) -> None:
    done = _trainer(tmp_path, epochs=40, lr=3e-3).run()
    assert done.step == 120
    assert done.history[0]["loss"] > 1.3
    assert done.history[-1]["loss"] < 0.8 * done.history[0]["loss"]
    assert CLIP.from_checkpoint(tmp_path / "checkpoints/best.ckpt").trained_steps is not None


@pytest.mark.parametrize(
    "changes", [{}, {"ema": 0.9, "loss": "sigmoid"}, {"augment": "strong", "chunk_size": 4}]
)
def test_going_on_from_the_middle_of_an_epoch_gives_the_same_numbers(
    tmp_path: Path, changes: dict
) -> None:
    whole = _trainer(tmp_path / "whole", **changes)
    whole.run()
    part = _trainer(tmp_path / "part", **changes)
    part.schedule = Schedule(len(part.pairs), 8, 3)
    stop_after = 5
    step = part.train_step

    def interrupted(batch):
        if part.step == stop_after:
            raise KeyboardInterrupt
        return step(batch)

    part.train_step = interrupted  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        part.run()
    again = _trainer(tmp_path / "part", **changes)
    again.resume(tmp_path / "part/checkpoints/latest.ckpt")
    assert again.step == 4  # the last multiple of two before the interruption
    again.run()
    for name, value in whole.module.state_dict().items():
        assert torch.equal(value, again.module.state_dict()[name]), name
    assert whole.losses == again.losses
    assert whole.history == again.history


@pytest.mark.parametrize(
    ("scores", "losses", "best"),
    [
        ([0.5, 0.5, 0.5], [3.0, 1.0, 2.0], 2),
        ([0.5, 0.6, 0.5], [1.0, 3.0, 0.1], 2),
        ([1.0, 1.0, 1.0], [1.0, 1.0, 1.0], 1),
        ([0.0, 0.0, 0.1], [1.0, 0.5, 0.5], 3),
    ],
)
def test_the_best_epoch_has_the_best_score_and_of_equal_ones_the_lower_loss(
    tmp_path: Path, scores: list[float], losses: list[float], best: int
) -> None:
    trainer = _trainer(tmp_path)
    epochs = iter(zip(scores, losses, strict=True))

    def validate(model) -> Validation:
        score, loss = next(epochs)
        trainer.losses[:] = [1.0]  # the training loss has no say here
        return Validation(score, {"validation_loss": loss})

    trainer.validate = validate
    trainer.schedule = Schedule(len(trainer.pairs), 8, 3)
    for epoch in (1, 2, 3):
        trainer.losses = [1.0] * 3
        trainer.end_epoch(epoch)
    assert (trainer.best_epoch, trainer.best_score) == (best, scores[best - 1])
    stored = checkpoint.read(tmp_path / "checkpoints/best.ckpt")
    assert stored["history"][-1]["epoch"] == best


def test_without_a_score_the_training_loss_decides(tmp_path: Path) -> None:
    trainer = _trainer(tmp_path)
    trainer.validate = lambda model: Validation(None, {"validation_loss": 0.0})
    for epoch, loss in ((1, 3.0), (2, 1.0), (3, 2.0)):
        trainer.losses = [loss] * 3
        trainer.end_epoch(epoch)
    assert (trainer.best_epoch, trainer.best_score) == (2, None)


@pytest.mark.parametrize("images", [1, 2, 6])
def test_validation_on_few_images_claims_nothing(world: Path, tmp_path: Path, images: int) -> None:
    few = tmp_path / "few.csv"
    rows: dict[str, list[str]] = {}
    head, *lines = (world / "captions.csv").read_text(encoding="utf-8").splitlines()
    for line in lines:
        rows.setdefault(line.split(",")[0], []).append(line)
    chosen = [line for name in list(rows)[:images] for line in rows[name]]
    few.write_text("\n".join([head, *chosen]), encoding="utf-8")
    csv = str(world / "captions.csv")
    options = {"train_csv": csv, "val_csv": str(few), "img_root": str(world), **SMALL}
    result = experiment.run(out=tmp_path / "run", **options)
    assert (result.val_images, result.val_captions) == (images, len(chosen))
    doubts = [warning for warning in result.warnings if "fewer than 10" in warning]
    assert any(f"validation on {images} image" in warning for warning in doubts)
    chances = {n: v for n, v in result.history[0].items() if n.endswith("chance")}
    assert all(chance < 1 for chance in chances.values())
    assert bool(chances) == (images > 1) and (result.best_score is None) == (images == 1)
    for direction in ("image_to_text", "text_to_image"):
        for k in (1, 5, 10):
            if chances.get(f"{direction}/R@{k}/chance", 0) > 0.5:
                assert "so it tells nothing" in result.to_text()
    assert "(chance 100.0%" not in result.to_text()


def test_resuming_with_other_settings_is_refused(tmp_path: Path) -> None:
    _trainer(tmp_path).run()
    with pytest.raises(UsageError, match=r"lr=0.002.*lr=0.001"):
        _trainer(tmp_path, lr=2e-3).resume(tmp_path / "checkpoints/latest.ckpt")


def test_a_loss_that_is_no_number_stops_the_run_and_names_the_last_checkpoint(
    tmp_path: Path,
) -> None:
    trainer = _trainer(tmp_path)
    step = trainer.train_step

    def poisoned(batch):
        if trainer.step == 4:
            trainer.module.visual_projection.weight.data.fill_(math.nan)
        return step(batch)

    trainer.train_step = poisoned  # type: ignore[method-assign]
    with pytest.raises(WorkError, match=r"loss is nan at step 5.*latest\.ckpt"):
        trainer.run()
    stored = checkpoint.read(tmp_path / "checkpoints/latest.ckpt")
    assert all(value.isfinite().all() for value in stored["weights"].values())


def test_a_resumed_run_still_warns_of_what_was_before(tmp_path: Path) -> None:
    first = _trainer(tmp_path)
    first.warn("the data is odd")
    first.run()
    again = _trainer(tmp_path)
    again.resume(tmp_path / "checkpoints/latest.ckpt")
    assert again.run().warnings == ("the data is odd",)


def test_a_loss_that_stays_at_guessing_is_said(tmp_path: Path) -> None:
    done = _trainer(tmp_path, lr=1e-12, multi_positive=False, epochs=4).run()
    assert any("what guessing gives" in warning for warning in done.warnings) or (
        done.history[-1]["loss"] < 0.995 * math.log(8)
    )


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"batch_size": 1}, "a batch of one pair has no negatives"),
        ({"batch_size": 1000}, "the batch is larger than the data.*24 pairs"),
        ({"loss": "hinge"}, "unknown loss.*softmax or sigmoid"),
        ({"augment": "stron"}, "unknown augmentation.*'strong'"),
        ({"patch_dropout": 1.5}, "patch_dropout is out of range"),
        ({"lr": 0}, "lr must be positive"),
    ],
)
def test_a_recipe_that_cannot_work_is_refused(tmp_path: Path, changes: dict, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        _trainer(tmp_path, **changes)


def test_every_epoch_holds_every_row_at_most_once_and_ranks_share_them_out() -> None:
    whole = list(Schedule(103, 10, 2, seed=5).batches())
    assert len(whole) == 20
    for epoch in (whole[:10], whole[10:]):
        rows = [row for batch in epoch for row in batch]
        assert len(set(rows)) == 100
    assert whole[:10] != whole[10:]
    shares = [list(Schedule(103, 10, 2, 5, rank, 2).batches()) for rank in range(2)]
    for batch, *parts in zip(whole, *shares, strict=True):
        assert sorted(batch) == sorted(parts[0] + parts[1])
    assert list(Schedule(103, 10, 2, 5).batches(13)) == whole[13:]


def test_partners_share_an_image_or_the_words() -> None:
    result = positives_of(torch.tensor([0, 0, 1, 2]), torch.tensor([5, 6, 6, 7]))
    assert result.int().tolist() == [[1, 1, 0, 0], [1, 1, 1, 0], [0, 1, 1, 0], [0, 0, 0, 1]]


def test_norms_biases_and_temperature_do_not_decay() -> None:
    clip = make_clip()
    decaying, resting = adamw(clip, 1e-3, 0.1).param_groups
    names = {id(p): name for name, p in clip.named_parameters()}
    assert decaying["weight_decay"] == 0.1
    assert resting["weight_decay"] == 0.0
    resting_names = {names[id(p)] for p in resting["params"]}
    assert "logit_scale" in resting_names
    assert all(
        ".norm" in n or "bias" in n or n.endswith(("norm.weight", "logit_scale", "class_embedding"))
        for n in resting_names
    )
    assert {"text.token_embedding.weight", "visual_projection.weight"} <= {
        names[id(p)] for p in decaying["params"]
    }


def test_the_learning_rate_rises_to_its_peak_and_falls_to_zero() -> None:
    rates = [learning_rate(step, 2.0, 10, 100) for step in range(100)]
    assert max(rates) == rates[9] == rates[10] == 2.0
    assert rates[0] == pytest.approx(0.2)
    assert rates[-1] < 0.01
    assert rates[10:] == sorted(rates[10:], reverse=True)


def test_the_running_average_forgets_its_start() -> None:
    model = torch.nn.Linear(2, 2)
    average = RunningAverage(model, 0.99)
    model.weight.data.fill_(1.0)
    for step in range(600):
        average.update(model, step)
    assert (average.weights["weight"] - 1).abs().max() < 0.02


@pytest.mark.parametrize(
    "changes",
    [
        {"image_encoder": "resnet", "image_size": 32, "vision_width": 8, "vision_heads": 2},
        {"loss": "sigmoid", "tokenizer": "char", "image_size": 32},
    ],
)
def test_the_experiment_trains_exports_and_reports(
    world: Path, tmp_path: Path, changes: dict
) -> None:
    options = {"epochs": 1, "batch_size": 8, "text_layers": 1, "vocab_size": 300, "device": "cpu"}
    result = experiment.run(
        out=tmp_path, train_csv=str(world / "captions.csv"), logger="csv", precision="fp32",
        **options, **changes,
    )  # fmt: skip
    assert result.steps == 2
    with (tmp_path / "curves/metrics.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["step"] for row in rows if row["train/loss"]] == ["1", "2"]
    assert (tmp_path / "checkpoints/epoch_1.ckpt").is_file()
    assert CLIP.from_checkpoint(tmp_path / "checkpoints/best.ckpt").tokenizer is not None
    exported = tmp_path / "export" / "model.safetensors"
    assert exported.is_file() == (changes.get("image_encoder") != "resnet")
    assert "chance" in result.to_text()
    assert result.to_json()["train_pairs"] == result.train_pairs


@pytest.mark.parametrize(
    ("changes", "error", "says"),
    [
        ({"train_csv": "none.csv"}, MissingError, "no such data"),
        ({"image_encoder": "rsnet"}, UsageError, "for --image-encoder: got .rsnet."),
        ({"preset": "ViT-B/32", "image_encoder": "resnet"}, UsageError, "the other image encoder"),
        ({"resume": "nowhere"}, MissingError, "nothing to resume from"),
        ({"tokenizer": "words"}, UsageError, "unknown tokenizer"),
        ({"logger": "paper"}, UsageError, "for --logger: got .paper."),
        ({"device": "cuda:7"}, MissingError, "GPU that was asked for is not there"),
        ({"precision": "fp16", "device": "cpu"}, UsageError, "fp16 training needs a GPU"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_written(
    world: Path, tmp_path: Path, changes: dict, error, says: str
) -> None:
    options = {
        "train_csv": str(world / "captions.csv"),
        "batch_size": 8,
        "device": "cpu",
        **changes,
    }
    with pytest.raises(error, match=says):
        experiment.run(out=tmp_path / "run", **options)
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_a_collapsed_space_is_said(tmp_path: Path) -> None:
    clip = make_clip()
    assert isinstance(clip.vision, VisionTransformer)
    clip.vision.post_norm.weight.data.zero_()
    clip.vision.post_norm.bias.data.fill_(1.0)
    pairs = _pairs(clip)
    assert clip.tokenizer is not None
    checked = DecodedImages(list(pairs.samples), pairs._images, [])
    validate = RetrievalValidation(checked, clip.tokenizer, clip.preprocess, torch.device("cpu"))
    (warning,) = validate(clip).warnings
    assert "the space has collapsed" in warning


def test_the_users_own_classes_are_classified_while_training(world: Path, tmp_path: Path) -> None:
    table = tmp_path / "labelled.csv"
    rows = zip(
        (world / "captions.csv").read_text().splitlines(),
        (world / "labels.csv").read_text().splitlines(),
        strict=True,
    )
    table.write_text("\n".join(f"{row},{label.split(',')[-1]}" for row, label in rows))
    options = {"train_csv": str(table), "val_csv": str(table), "img_root": str(world), **SMALL}
    result = experiment.run(out=tmp_path / "run", zero_shot_classes=" Chart,tablé", **options)
    assert 0 <= result.history[0]["zero_shot/top1"] <= 1
    labels = [row.split(",")[-1] for row in table.read_text().splitlines()[1:]]
    assert result.history[0]["zero_shot/n"] == labels.count("chart")
    assert any(
        "of label 'table'" in warning and "'tablé'" in warning for warning in result.warnings
    )
    with pytest.raises(UsageError, match="no validation image has one of the zero-shot classes"):
        experiment.run(out=tmp_path / "other", zero_shot_classes="cat,dog", **options)


def test_captions_beyond_the_context_are_a_finding() -> None:
    clip = make_clip()
    samples = [
        Sample(str(i), Path(str(i)), (f"{'in the picture ' * 40}{i}", "short")) for i in range(3)
    ]
    pixels = np.zeros((3, 3, 32, 32), dtype=np.uint8)
    pairs = ImageTextDataset(samples, clip.tokenizer, clip.preprocess, pixels)
    checked = DecodedImages(samples, pixels, [])
    sentences = findings(pairs, checked, DecodedImages([], None, []), 2, True, ["a " * 60, "red"])
    text = [line for line in sentences if "longer than the context of 24 tokens" in line]
    assert len(text) == 2 and "1 of 2 zero-shot classes" in text[1]
    assert "3 of 6 training captions" in text[0]
    assert text[0].endswith("3 different training captions become equal")
