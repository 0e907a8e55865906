"""The command `compress`: trains a compressor of visual tokens. Orchestration only.

Its actions `evaluate` and `show` are in the files of these names.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Any

from encoderlab.compression.settings import Compress, CompressData
from encoderlab.core.distributed import rank_info
from encoderlab.core.progress import counted, note
from encoderlab.core.results import Result
from encoderlab.core.settings import output_folder
from encoderlab.core.skipped import (
    SkippedImages,
    as_records,
    as_text_lines,
    as_warnings,
    skipped_images,
)
from encoderlab.core.spec import takes
from encoderlab.errors import UsageError

if TYPE_CHECKING:
    from encoderlab.compression.evaluate import CompressEvaluationResult
    from encoderlab.compression.show import CompressPictureResult
    from encoderlab.compression.token_source import TokenSource
    from encoderlab.data.sample import Sample
    from encoderlab.encoders.vision import VisionEncoder

HELD_OUT, VALIDATION = 0.1, 512


@dataclass(frozen=True)
class CompressResult(Result):
    """The result of training a compressor.

    Args:
        compressor: folder of the exported compressor.
        validation: metrics of the best epoch on held-out images.
        bounds: normalised error of the closed forms on the same images.
        checks: metrics of the critic before training.
        history: one row of metrics per epoch.
        train_images, val_images: how many; with answers, how many questions.
        int8_error: normalised error of storing tokens in a byte per channel, if they are.
        answers: the VLM whose answers were trained on, if there was one.
    """

    folder: str
    compressor: str
    encoder: str
    fingerprint: str
    layer: int
    grid: tuple[int, int]
    budgets: tuple[tuple[int, int], ...]
    parameters: int
    device: str
    dtype: str
    precision: str
    train_images: int
    val_images: int
    steps: int
    best_epoch: int
    validation: dict[str, float]
    bounds: dict[str, float]
    checks: dict[str, float]
    history: tuple[dict[str, float], ...]
    seconds: float
    images_per_second: float
    int8_error: float | None = None
    answers: str | None = None
    skipped: SkippedImages = ()
    figures: tuple[dict[str, str], ...] = ()
    warnings: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The result for run.json."""
        return {**super().to_json(), "skipped": as_records(self.skipped)}

    def blocks(self) -> list[str]:
        """The result as one paragraph."""
        metrics = self.validation
        grids = ", ".join(f"{h} x {w}" for h, w in self.budgets)
        rows = "questions" if self.answers else "images"
        lines = [
            f"{self.encoder}, layer {self.layer}: {self.grid[0]} x {self.grid[1]} tokens to "
            f"{grids}",
            f"trained {self.parameters / 1e6:.2f} M parameters on {self.train_images:,} {rows}: "
            f"{self.steps:,} steps, {self.seconds:.0f} s, {self.images_per_second:.0f} {rows}/s",
            f"best epoch {self.best_epoch} on {self.val_images:,} held-out {rows}:",
            f"  normalised error     {metrics['nmse']:.4f}   (0 lossless, 1 the mean token)",
        ]
        titles = {"average": "average pooling", "block_pca": "block-PCA, the best linear map"}
        lines += [f"    {titles[name]:<32}{value:.4f}" for name, value in self.bounds.items()]
        lines += [
            f"  cosine               {metrics['cosine']:.4f}",
            f"  sliced Wasserstein   {metrics['sliced_wasserstein']:.4f}   "
            f"(two draws of real tokens: {metrics['sliced_wasserstein_floor']:.4f})",
        ]
        if self.answers:
            lines += [
                f"  answers of {self.answers} (all tokens in brackets):",
                f"    nats per answer token            {metrics['answer_nll']:.3f}   "
                f"({metrics['answer_nll_of_all_tokens']:.3f})",
                f"    right                            {metrics['answers']:.1%}   "
                f"({metrics['answers_of_all_tokens']:.1%})",
            ]
        if self.int8_error is not None:
            lines.append(
                f"  tokens stored in a byte per channel: normalised error {self.int8_error:.2g}"
            )
        lines += [f"! {warning}" for warning in self.warnings]
        lines += as_text_lines(self.skipped)
        lines += [
            f"compressor: {self.compressor}",
            f"next: encoderlab compress evaluate --model {quote(self.encoder)} "
            + (f"--answers {quote(self.answers)} " if self.answers else "")
            + f"--compressors {quote(self.compressor)}",
        ]
        return ["\n".join(lines)]


@takes(Compress)
def run(
    settings: Compress, out: Path | None = None
) -> CompressResult | CompressEvaluationResult | CompressPictureResult:
    """Trains a compressor (action "train"), measures every method ("evaluate"), or compresses one
    image ("show").

    Returns:
        The result of the action.

    Raises:
        UsageError: a value, a shape or the data is wrong, or a setting was given for nothing.
        MissingError: images, a model or a GPU are not there.
        WorkError: the run diverged, or the disk is full.
    """
    if settings.action != "train" and rank_info().world > 1:
        raise UsageError(
            f"compress {settings.action} is done by one process",
            got=f"{rank_info().world} processes, started by {rank_info().launcher}",
            want="the command by itself",
        )
    if settings.action == "evaluate":
        # Said before the imports, which take seconds.
        chosen = settings.evaluation
        budgets = counted(len(chosen.grids), "number of tokens", "numbers of tokens")
        note(f"compress evaluate: {settings.model.name}, {budgets}, {chosen.n_samples:,} images")
        from encoderlab.compression.evaluate import evaluate

        return evaluate(settings, out)
    if settings.action == "show":
        from encoderlab.compression.show import show

        return show(settings, out)
    return train(settings, out)


def train(settings: Compress, out: Path | None) -> CompressResult:
    """Reads or computes the tokens, trains, and exports the best epoch."""
    from encoderlab.compression import plots
    from encoderlab.compression.answer_loss import AnswerLoss
    from encoderlab.compression.compressor import Compressor
    from encoderlab.compression.images import images_of
    from encoderlab.compression.trainer import NAMES, CompressorTrainer, Recipe
    from encoderlab.core.score import caveats
    from encoderlab.encoders.layers import layer_numbers
    from encoderlab.encoders.vision import load_vision
    from encoderlab.models.token_compressor import AutoencoderShape
    from encoderlab.models.token_grid import check_grids
    from encoderlab.plots.style import save
    from encoderlab.training.collectives import (
        check_same,
        deferred,
        from_rank0,
        on_all_ranks,
    )
    from encoderlab.training.devices import make_fabric
    from encoderlab.training.loggers import make_logger
    from encoderlab.training.loop import checkpoint_to_resume

    model, data, hardware = settings.model, settings.data, settings.hardware
    watch, training = settings.experiment, settings.training
    folder = Path(output_folder("compress")()) if out is None else out
    recipe = Recipe.of(settings)
    resumed = deferred(checkpoint_to_resume, training.resume, NAMES)
    asked = bool(settings.evaluation.answers)
    rows: Callable[[], Any] = (
        deferred(_questions, settings) if asked
        else deferred(images_of, data, [], HELD_OUT, lambda: _synthetic(data.n_samples))
    )  # fmt: skip
    initial = deferred(
        lambda: None if training.init is None else Compressor.from_pretrained(training.init)
    )
    fabric = make_fabric(
        hardware.device_name, hardware.devices, hardware.strategy, hardware.precision
    )
    start = on_all_ranks(fabric, resumed)
    # Each process has its own device, and its share of the images to encode.
    where = fabric.device
    encoder = on_all_ranks(
        fabric, load_vision, model.name,
        where.type if where.index is None else str(where), hardware.dtype,
        trust_remote_code=settings.trust_remote_code,
    )  # fmt: skip

    begin = on_all_ranks(fabric, initial)

    def fitted() -> tuple[int, AutoencoderShape]:
        (layer,) = layer_numbers([model.layer], encoder.n_layers)
        if begin is not None:
            begin.check_tokens(str(training.init), encoder.name, encoder.fingerprint, layer)
            return layer, begin.model.shape
        sides = (model.compressor.output_grid_size, *model.compressor.nested)
        shape = AutoencoderShape(
            encoder.width, encoder.grid, tuple((side, side) for side in dict.fromkeys(sides)),
            model.compressor.width, model.compressor.decoder,
        )  # fmt: skip
        for budget in shape.budgets:
            check_grids(shape.grid, budget)
        return layer, shape

    layer, shape = on_all_ranks(fabric, fitted)
    (samples, val_samples), not_images, *_ = on_all_ranks(fabric, rows)
    logger = on_all_ranks(
        fabric, make_logger,
        "wandb" if watch.use_wandb else "tensorboard", folder, watch.wandb_project,
    )  # fmt: skip
    answers: AnswerLoss | None = None
    tokens: TokenSource
    val: TokenSource
    if asked:
        answers = on_all_ranks(
            fabric, AnswerLoss.of, encoder, layer, settings, samples, val_samples
        )
        tokens, val = answers.train, answers.validation
        skipped, also_skipped = answers.train.skipped, answers.validation.skipped
    else:
        tokens, skipped = on_all_ranks(fabric, tokens_of, encoder, samples, layer, data)
        val, also_skipped = on_all_ranks(fabric, tokens_of, encoder, val_samples, layer, data)
    check_same(fabric, "images", f"{len(tokens)} + {len(val)} of {encoder.fingerprint}")
    row_name = "question" if asked else "image"
    note(f"validation: {counted(len(val), row_name)}")
    doubtful = caveats(len(val), {}, "validation")
    for warning in doubtful:
        note(f"warning: {warning}")
    about = {
        "encoder": encoder.name, "fingerprint": encoder.fingerprint, "layer": layer,
        "dtype": encoder.where[1], "cache": data.cache,
    }  # fmt: skip
    trainer = on_all_ranks(
        fabric, CompressorTrainer, shape, tokens, val, recipe, fabric, folder,
        answers=answers, initial=begin, about=about, save_every=training.save_every_steps,
        logger=logger,
    )  # fmt: skip
    if start is not None:
        on_all_ranks(fabric, trainer.resume, start)
    done = trainer.run()
    row = next(row for row in done.history if row["epoch"] == done.best_epoch)
    validation = {k.removeprefix("val/"): v for k, v in row.items() if k.startswith("val/")}
    exported = folder / "compressor"

    def export() -> tuple[dict[str, str], ...]:
        best = Compressor.from_checkpoint(folder / "checkpoints" / "best_model.pt")
        best.save_pretrained(exported)
        return () if out is None else save([plots.curves(done.history, done.best_epoch)], out)

    figures = from_rank0(fabric, export)
    left = skipped_images([*not_images, *skipped, *also_skipped])
    return CompressResult(
        str(folder), str(exported), encoder.name, encoder.fingerprint, layer, encoder.grid,
        shape.budgets, sum(p.numel() for p in trainer.model.parameters()),
        str(fabric.device), encoder.where[1], str(fabric._precision.precision),
        len(tokens), len(val), done.step, done.best_epoch, validation,
        _bounds(tokens, val, trainer.model.shape.grid, shape.budgets[0], trainer.model.scale.mean),
        trainer.checks, done.history, done.seconds, done.rows_per_second,
        _int8_error(encoder, val_samples, layer) if data.cache == "int8" else None,
        settings.evaluation.answers, left, figures,
        (
            *doubtful, *done.warnings,
            *_learnt(done.best_epoch, len(tokens), done.step, trainer.began, f"{row_name}s"),
            *as_warnings(left),
        ),
    )  # fmt: skip


def _learnt(
    best_epoch: int,
    rows: int,
    steps: int,
    began: Mapping[tuple[int, int], str],
    things: str = "images",
) -> tuple[str, ...]:
    """A warning where no epoch was better than the initial state."""
    if best_epoch or not steps:
        return ()
    start = ", ".join(f"{kind} for {h} x {w}" for (h, w), kind in began.items())
    return (
        f"no epoch was better than the start ({start}): {rows:,} {things} in {steps:,} steps teach "
        f"little; more {things}, more of training.epochs, or a smaller --lr",
    )


def _questions(settings: Compress) -> tuple[tuple[Any, Any], list[Any]]:
    """Questions to train on and held-out ones, and those that cannot be used."""
    from encoderlab.compression.answer_loss import questions_of

    data = settings.data
    if data.images or data.imagenet_root:
        raise UsageError(
            "two sources of images: --answers uses the images of the questions",
            got=f"data.images={data.images} and data.imagenet_root={data.imagenet_root}",
            want="evaluation.questions alone",
        )
    train, validation, skipped = questions_of(settings)
    note(f"questions: {len(train):,} of {settings.evaluation.questions}")
    return (train, validation), skipped


def _synthetic(count: int) -> tuple[list[Sample], list[Sample]]:
    from encoderlab.data.synthetic import generate
    from encoderlab.data.synthetic.world import SPLIT_SIZE

    note(f"images: {count:,} of the synthetic world")
    # From the end of the training split: the test split is for `evaluate`.
    held_out = max(2, min(VALIDATION, count // 8))
    return (
        [generate(i).to_sample() for i in range(count)],
        [generate(SPLIT_SIZE - 1 - i).to_sample() for i in range(held_out)],
    )


def tokens_of(
    encoder: VisionEncoder, samples: list[Sample], layer: int, data: CompressData
) -> tuple[TokenSource, list[Any]]:
    """The tokens of samples, and the images that were skipped."""
    from encoderlab.compression.token_source import FreshTokens, StoredTokens
    from encoderlab.feature_store.disk_estimate import check_room
    from encoderlab.feature_store.extract import extract_images

    source: TokenSource
    if data.cache == "off":
        source = fresh = FreshTokens(encoder, samples, layer)
        skipped = fresh.skipped
    else:
        kind = f"patches@{layer}" + (":int8" if data.cache == "int8" else "")
        check_room(encoder, len(samples), data.store, kind)
        features = extract_images(encoder, samples, data.store, what=[kind])
        source, skipped = StoredTokens(features, kind), features.skipped
    if len(source) < 2:
        raise UsageError(
            "too few readable images",
            got=len(source),
            want="at least 2 to train on, and 2 to validate on",
        )
    return source, skipped


def _bounds(
    train: TokenSource, val: TokenSource, grid: tuple[int, int], budget: tuple[int, int], mean: Any
) -> dict[str, float]:
    """The error of the closed forms at the first budget, on the same held-out tokens."""
    from encoderlab.compression.token_source import first_tokens
    from encoderlab.compression.trainer import FIT_IMAGES, VALIDATED
    from encoderlab.models.token_grid import divides
    from encoderlab.patch_tokens.linear import BlockPCA
    from encoderlab.patch_tokens.pooling import AveragePooling
    from encoderlab.patch_tokens.reducer import normalised_error

    tokens, mean = first_tokens(val, VALIDATED, seed=0), mean.cpu()
    methods: dict[str, Any] = {"average": AveragePooling()}
    if divides(grid, budget):
        methods["block_pca"] = BlockPCA().fit(first_tokens(train, FIT_IMAGES, seed=0), grid, budget)
    return {
        name: normalised_error(
            tokens, method.decode(method.compress(tokens, grid, budget), grid), mean
        )
        for name, method in methods.items()
    }


def _int8_error(encoder: VisionEncoder, samples: list[Sample], layer: int) -> float:
    from encoderlab.compression.token_source import FreshTokens
    from encoderlab.feature_store.quantise import from_int8, to_int8
    from encoderlab.patch_tokens.reducer import normalised_error

    source = FreshTokens(encoder, samples[:32], layer)
    tokens = source.batch(range(len(source))).float()
    return normalised_error(tokens, from_int8(to_int8(tokens)))
