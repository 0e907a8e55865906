"""`encoderlab train`: reads the pairs, learns a vocabulary, builds a CLIP, trains and exports it.

Calls the other modules in order; computes nothing.
"""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from typing import Any

from encoderlab.contrastive.train_settings import Train
from encoderlab.core.distributed import current_rank
from encoderlab.core.progress import counted, note
from encoderlab.core.results import Block, Result
from encoderlab.core.score import uninformative
from encoderlab.core.settings import output_folder
from encoderlab.core.skipped import Skipped, as_records, as_warnings, skipped_images
from encoderlab.core.spec import takes
from encoderlab.data import read_samples
from encoderlab.data.class_names import class_names
from encoderlab.data.sample import Sample
from encoderlab.errors import UsageError
from encoderlab.models.hub import looks_like_path, no_such_folder

HELD_OUT = 0.05  # share of images kept for validation where no --val-csv is given
MOST_HELD_OUT = 5000  # images; recall among more takes long and says no more
MOST_WORKERS = 4  # decoding processes where --num-workers is 0
# Setting -> the fields of a model's configuration that it fixes.
SHAPE_KEYS = {
    "image_size": ("vision.image_size",),
    "patch_size": ("vision.patch_size",),
    "vision_width": ("vision.width",),
    "vision_layers": ("vision.layers",),
    "vision_heads": ("vision.heads",),
    "text_width": ("text.width",),
    "text_layers": ("text.layers",),
    "text_heads": ("text.heads",),
    "embed_dim": ("embed_dim",),
    "context_length": ("text.context_length",),
    "activation": ("vision.activation", "text.activation"),
    "vocab_size": ("text.vocab_size",),
}


@dataclass(frozen=True)
class TrainResult(Result):
    """The result of a training run.

    Args:
        folder: of the run, with `checkpoints`.
        model: folder of the exported model; the run's own where the model is not exported.
        parameters: how many the model has.
        best_epoch: counted from 1.
        best_score: mean of the recalls that are defined, on the validation pairs; None where none
            is.
        history: one row of metrics per epoch.
    """

    folder: str
    model: str
    parameters: int
    device: str
    precision: str
    train_pairs: int
    val_images: int
    val_captions: int
    steps: int
    loss: float
    best_epoch: int
    best_score: float | None
    history: tuple[dict[str, float], ...]
    seconds: float
    pairs_per_second: float
    skipped: tuple[tuple[str, str], ...] = ()
    warnings: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The result for run.json; `skipped` is a list of ids and reasons."""
        return {**super().to_json(), "skipped": as_records(self.skipped)}

    def blocks(self) -> list[Block]:
        """The size of the run, the recalls of the best epoch, and the next command."""
        best = next((row for row in self.history if row["epoch"] == self.best_epoch), {})
        lines = [
            f"trained {self.parameters / 1e6:.1f} M parameters on {self.train_pairs:,} pairs: "
            f"{self.steps:,} steps, {self.seconds:.0f} s, {self.pairs_per_second:.0f} pairs/s",
            f"best epoch {self.best_epoch} on {self.val_images:,} held-out images with "
            f"{self.val_captions:,} captions:",
        ]
        for direction in ("image_to_text", "text_to_image"):
            parts = []
            for k in (1, 5, 10):
                name = f"{direction}/R@{k}"
                if name in best:
                    chance = best[f"{name}/chance"]
                    nothing = ", so it tells nothing" * uninformative(chance)
                    parts.append(f"R@{k} {best[name]:.1%} (chance {chance:.1%}{nothing})")
            lines.append(
                f"  {direction.replace('_', ' ')}   "
                + ("   ".join(parts) or "recall undefined: no order of so few can be wrong")
            )
        lines += [f"! {warning}" for warning in self.warnings]
        lines.append(f"model: {self.model}")
        lines.append(f"next: encoderlab evaluate --model {quote(self.model)} --csv YOUR.csv")
        return ["\n".join(lines)]


@takes(Train)
def run(settings: Train, out: Path | None = None) -> TrainResult:
    """Trains a CLIP on the pairs of a CSV, folder, JSONL or shards; see `encoderlab train --help`.

    Returns:
        The best epoch, its metrics on the validation pairs, and the folder of the checkpoints.

    Raises:
        UsageError: a value, a shape or the data is wrong.
        MissingError: a file or a GPU is not there.
        WorkError: the run diverged.
    """
    import torch

    from encoderlab.contrastive import loop
    from encoderlab.contrastive.dataset import ImageTextDataset
    from encoderlab.contrastive.images import decode_all, images_of
    from encoderlab.contrastive.preflight import false_negative_share, findings
    from encoderlab.contrastive.streaming import Units
    from encoderlab.contrastive.validation import RetrievalValidation
    from encoderlab.models import checkpoint
    from encoderlab.models.clip import CLIP, Preprocess, Tokenizer
    from encoderlab.training.collectives import (
        check_same,
        deferred,
        from_rank0,
        on_all_ranks,
    )
    from encoderlab.training.devices import make_fabric
    from encoderlab.training.loggers import make_logger
    from encoderlab.training.loop import checkpoint_to_resume

    folder = Path(output_folder("train")()) if out is None else out
    recipe = loop.Recipe.of(settings)
    sizes = {name: getattr(settings, name) for name in SHAPE_KEYS}
    sizes = {name: value for name, value in sizes.items() if value is not None}
    shape = _shape(settings.image_encoder, settings.preset, sizes)
    classes = class_names(settings.zero_shot_classes) if settings.zero_shot_classes.strip() else []
    samples = deferred(_samples, settings.train_csv, settings.val_csv, settings.img_root)
    resumed = deferred(checkpoint_to_resume, settings.resume, loop.NAMES)
    fabric = make_fabric(settings.device, settings.devices, settings.strategy, settings.precision)
    train_samples, val_samples, unusable = on_all_ranks(fabric, samples)
    start = on_all_ranks(fabric, resumed)
    run_logger = on_all_ranks(
        fabric, make_logger, settings.logger, folder, settings.wandb_project,
        settings.resume is not None,
    )  # fmt: skip
    torch.manual_seed(settings.seed)
    if start is not None:
        record = on_all_ranks(fabric, checkpoint.read, start)
        model = checkpoint.rebuild(start, record, CLIP, patch_dropout=settings.patch_dropout)
        on_all_ranks(fabric, _check_model, model, shape, sizes, settings)
    else:
        texts = [text for sample in train_samples for text in sample.texts]
        # All ranks use the tokenizer of rank 0: their vocabularies could differ.
        tokenizer = from_rank0(
            fabric, _tokenizer, settings.tokenizer, texts, shape.text.vocab_size,
            shape.text.context_length,
        )  # fmt: skip
        text = dataclasses.replace(
            shape.text, vocab_size=tokenizer.vocab_size, end_token_id=tokenizer.end_id
        )
        model = CLIP(
            dataclasses.replace(shape, text=text),
            tokenizer,
            Preprocess(shape.vision.image_size, "squash"),
            patch_dropout=settings.patch_dropout,
        )
    assert isinstance(model.tokenizer, Tokenizer)
    model.set_gradient_checkpointing(settings.grad_checkpointing)
    train = on_all_ranks(
        fabric, images_of, train_samples, model.preprocess, "training images", settings.in_memory
    )
    val = on_all_ranks(fabric, decode_all, val_samples, model.preprocess, "validation images")
    check_same(fabric, "images", _digest(train.samples, val.samples))
    units = None
    if train.streamed:
        units = Units.of_samples(train.samples, [len(sample.texts) for sample in train.samples])
    pairs = ImageTextDataset(
        train.samples, model.tokenizer, model.preprocess, train.pixels, units=units
    )
    workers = settings.num_workers
    if not (pairs.in_memory or workers):
        workers = max(1, min(MOST_WORKERS, (os.cpu_count() or 2) // current_rank().local_world))
    warnings = findings(pairs, train, val, recipe.batch_size, settings.multi_positive, classes)
    share = false_negative_share(pairs, recipe.batch_size)
    if share and settings.multi_positive:
        note(f"several right answers: {share:.1%} of the rows of a batch; all count as right")
    captions = sum(len(sample.texts) for sample in val.samples)
    held_out = ", held out of the training data (no --val-csv)" if settings.val_csv is None else ""
    images = counted(len(val.samples), "image")
    note(f"validation: {images} with {counted(captions, 'caption')}{held_out}")
    for warning in warnings:
        note(f"warning: {warning}")
    validate = on_all_ranks(
        fabric, RetrievalValidation,
        val, model.tokenizer, model.preprocess, fabric.device, classes,
    )  # fmt: skip
    for sentence in validate.stray_labels:
        note(f"zero-shot while training: {sentence}")
    trainer = on_all_ranks(
        fabric, loop.ContrastiveTrainer, model, pairs, recipe, fabric, folder, validate=validate,
        val_pairs=validate.pairs, save_every=settings.save_every_steps, workers=workers,
        logger=run_logger,
    )  # fmt: skip
    if start is not None:
        on_all_ranks(fabric, trainer.resume, start)
    done = trainer.run()
    unused = skipped_images(unusable)
    exported = str(folder)
    if settings.image_encoder == "vit":
        exported = from_rank0(fabric, _export, folder)
    return TrainResult(
        folder=str(folder),
        model=exported,
        parameters=sum(p.numel() for p in model.parameters()),
        device=str(fabric.device),
        precision=str(fabric._precision.precision),
        train_pairs=len(pairs),
        val_images=len(val.samples),
        val_captions=captions,
        steps=done.step,
        loss=trainer.loss,
        best_epoch=done.best_epoch,
        best_score=done.best_score,
        history=done.history,
        seconds=done.seconds,
        pairs_per_second=done.rows_per_second,
        skipped=(*unused, *train.skipped, *val.skipped),
        warnings=(*as_warnings(unused), *warnings, *validate.stray_labels, *done.warnings),
    )


def _digest(*parts: list[Sample]) -> str:
    """The numbers of samples, and a digest of their ids and texts in order."""
    digest = hashlib.blake2b(digest_size=8)
    for sample in itertools.chain(*parts):
        digest.update(f"{sample.id}\n{sample.texts}\n".encode())
    return f"{' + '.join(str(len(part)) for part in parts)} ({digest.hexdigest()})"


def _shape(image_encoder: str, preset_name: str, sizes: Mapping[str, Any]):
    """The configuration of the preset with other sizes, where the image encoder has them."""
    from encoderlab.models.clip.config import ResNetConfig, preset

    if image_encoder == "resnet" and preset_name == "tiny":
        preset_name = "tiny-resnet"
    base = preset(preset_name)
    is_resnet = isinstance(base.vision, ResNetConfig)
    if is_resnet != (image_encoder == "resnet"):
        raise UsageError(
            "the preset has the other image encoder",
            got=f"preset={preset_name} with image_encoder={image_encoder}",
            want="RN50 or tiny-resnet with resnet, the others with vit",
        )
    changes: dict[str, dict[str, Any]] = {"vision": {}, "text": {}, "": {}}
    for name, value in sizes.items():
        for key in SHAPE_KEYS[name]:
            side, _, field = key.rpartition(".")
            if hasattr(getattr(base, side) if side else base, field):
                changes[side][field] = value
    for side in ("text",) if is_resnet else ("vision", "text"):
        _follow_width(changes[side], getattr(base, side))
    return dataclasses.replace(
        base,
        vision=dataclasses.replace(base.vision, **changes["vision"]),
        text=dataclasses.replace(base.text, **changes["text"]),
        **changes[""],
    )


def _follow_width(changes: dict[str, Any], base: Any) -> None:
    """A new width brings heads of 64 channels and an MLP of four widths, unless heads are given."""
    width = changes.get("width")
    if width is None:
        return
    changes["mlp_width"] = 4 * width
    if "heads" not in changes:
        size = 64 if width % 64 == 0 else base.width // base.heads
        changes["heads"] = max(1, width // size)


def _check_model(model: Any, shape: Any, sizes: Mapping[str, Any], settings: Train) -> None:
    """Checks that the resumed model has the shape and the tokenizer of the settings."""
    asked, own = _plain(shape), _plain(model.config)
    keys_of = {name: SHAPE_KEYS[name] for name in sizes if name != "vocab_size"}
    if (settings.preset, settings.image_encoder) != ("tiny", "vit"):
        # The vocabulary is as large as its captions made it.
        keys = tuple(asked.keys() - {"text.vocab_size", "text.end_token_id"})
        keys_of[f"preset={settings.preset}"] = keys
    for name, keys in keys_of.items():
        for key in sorted(keys):
            if key in asked and asked[key] != own.get(key):
                raise _other_model(f"{name} ({key}={asked[key]})", f"{key}={own.get(key)}")
    kind = settings.tokenizer
    if kind == "bpe":
        return
    pipeline = model.tokenizer.pipeline
    own_kind = {"WordLevel": "char"}.get(type(pipeline.model).__name__, "bpe")
    if Path(kind).is_dir():
        vocabulary = _tokenizer(kind, [], 0, model.tokenizer.context_length).pipeline
        same = vocabulary.get_vocab() == pipeline.get_vocab()
    else:
        same = kind == own_kind
    if not same:
        raise _other_model(f"tokenizer={kind}", f"the checkpoint's own, {own_kind}")


def _other_model(got: str, want: str) -> UsageError:
    return UsageError(
        "the checkpoint has another model than was asked for",
        got=got,
        want=want,
        hint="leave the setting out, or start a new run without --resume",
    )


def _plain(shape: Any) -> dict[str, Any]:
    """The fields of a configuration by dotted names."""
    record = shape.to_dict()
    return {"embed_dim": record["embed_dim"]} | {
        f"{side}.{name}": value
        for side in ("vision", "text")
        for name, value in record[side].items()
    }


def _samples(
    train_csv: str, val_csv: str | None, img_root: str | None
) -> tuple[list[Sample], list[Sample], list[Skipped]]:
    """The pairs to train on, those to validate on, and what cannot be used."""
    from encoderlab.data import split_by_image
    from encoderlab.data.sample import content_digests, merge_duplicates

    train = read_samples(train_csv, img_root).with_texts()
    if not train:
        raise UsageError(
            "no image has a caption",
            got=train_csv,
            want="a CSV with the columns image_path,caption",
        )
    if val_csv is not None:
        val = read_samples(val_csv, img_root).with_texts()
        return train, merge_duplicates(val, content_digests(val)), [*train.skipped, *val.skipped]
    rest, held_out = split_by_image(train, min(HELD_OUT, MOST_HELD_OUT / max(len(train), 1)))
    return rest, merge_duplicates(held_out, content_digests(held_out)), train.skipped


def _tokenizer(kind: str, texts: list[str], vocab_size: int, context_length: int):
    from encoderlab.models.clip import Tokenizer

    if Path(kind).is_dir():
        return Tokenizer.from_folder(Path(kind), context_length)
    if "/" in kind or looks_like_path(kind):
        raise no_such_folder(kind, "bpe, char, or a folder with tokenizer files")
    return Tokenizer.train(kind, texts, vocab_size, context_length)


def _export(folder: Path) -> str:
    from encoderlab.models.clip import CLIP

    best = CLIP.from_checkpoint(folder / "checkpoints" / "best.ckpt")
    return str(best.save_pretrained(folder / "export"))
