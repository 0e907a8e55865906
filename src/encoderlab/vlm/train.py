"""`encoderlab vlm train`: reads the questions, builds a VLM, trains it and its control twins.

Calls the other modules in order; computes nothing.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Any

from encoderlab.core.progress import note
from encoderlab.core.results import Block, Result
from encoderlab.core.settings import output_folder
from encoderlab.core.skipped import as_records, as_warnings, skipped_images
from encoderlab.core.spec import takes
from encoderlab.vlm.settings import VlmTrain

if TYPE_CHECKING:
    from encoderlab.vlm.model import VLM
    from encoderlab.vlm.questions import Question
    from encoderlab.vlm.side_by_side import SideBySide

HELD_OUT = 0.05  # share of images kept for validation where no --val-data is given
MOST_VALIDATED = 500  # questions
VALIDATION_START = 1_000_000_000  # of the synthetic training split, which training never reaches
BLIND, UNTRAINED = "blind", "untrained"
CAPTIONS = "captions"


@dataclass(frozen=True)
class VlmTrainResult(Result):
    """The result of a training run.

    Args:
        folder: of the run.
        model: the folder with the trained VLM.
        train: what was trained: projector, lora or all.
        image_tokens: of an image in the language model's input.
        parameters: how many are trained.
        questions, val_questions: how many were trained and validated on.
        loss: of the last step, in nats per answer token.
        accuracy: exact match on the validation questions at the best epoch.
        history: one row of metrics per epoch.
        twins: control -> accuracy of the twin on the same questions.
    """

    folder: str
    model: str
    encoders: list[str]
    llm: str
    train: str
    image_tokens: int
    parameters: int
    device: str
    precision: str
    questions: int
    val_questions: int
    steps: int
    loss: float
    best_epoch: int
    accuracy: float
    history: tuple[dict[str, float], ...]
    seconds: float
    questions_per_second: float
    twins: dict[str, float]
    skipped: tuple[tuple[str, str], ...] = ()
    warnings: tuple[str, ...] = field(default=(), metadata={"json": False})

    def to_json(self) -> dict[str, Any]:
        """The result for run.json; `skipped` is a list of ids and reasons."""
        return {**super().to_json(), "skipped": as_records(self.skipped)}

    def blocks(self) -> list[Block]:
        """The size of the run, its accuracy beside that of its twins, and the next command."""
        lines = [
            f"trained {self.parameters / 1e6:.2f} M parameters on {self.questions:,} questions "
            f"with {self.image_tokens} image tokens: {self.steps:,} steps, {self.seconds:.0f} s, "
            f"{self.questions_per_second:.0f} questions/s",
            f"best epoch {self.best_epoch}: {self.accuracy:.1%} of {self.val_questions:,} held-out "
            "questions right",
        ]
        lines += [f"  {name} twin: {value:.1%}" for name, value in self.twins.items()]
        if BLIND not in self.twins and self.train != "projector":
            lines.append("  no blind twin: without it the number does not say what the image adds")
        lines += [f"! {warning}" for warning in self.warnings]
        lines.append(f"next: encoderlab vlm evaluate --model {quote(self.folder)}")
        return ["\n".join(lines)]


@takes(VlmTrain)
def run(settings: VlmTrain, out: Path | None = None) -> VlmTrainResult:
    """Trains a VLM on questions about images; see `encoderlab vlm train --help`.

    Returns:
        The accuracy on held-out questions beside that of the control twins.

    Raises:
        UsageError: a value, a design or the data is wrong.
        MissingError: a file, a checkpoint or a GPU is not there.
        WorkError: the run diverged.
    """
    from encoderlab.training.collectives import deferred, on_all_ranks
    from encoderlab.training.devices import make_fabric

    folder = Path(output_folder("vlm-train")()) if out is None else out
    questions = deferred(read_train_questions, settings)
    fabric = make_fabric(settings.device, settings.devices, settings.strategy, settings.precision)
    train, validation, skipped = on_all_ranks(fabric, questions)
    where = str(fabric.device)
    model = on_all_ranks(fabric, built, settings, settings.encoder, where)
    if settings.captions:
        _train_on_captions(settings, model, fabric, folder)
    trainer, done = train_one(settings, model, train, validation, fabric, folder)
    twins = {}
    for control in settings.controls:
        if control == BLIND and settings.train == "projector":
            note("no blind twin is needed: the language model is not trained")
            continue
        names = [f"untrained:{name}" for name in settings.encoder.split("+")]
        encoder = "+".join(names) if control == UNTRAINED else settings.encoder
        twin = on_all_ranks(fabric, built, settings, encoder, where)
        note(f"training the {control} twin")
        _, of_twin = train_one(
            settings, twin, train, validation, fabric, folder, control, blind=control == BLIND
        )
        twins[control] = of_twin.best_score
    unread = skipped_images([*skipped, *trainer.questions.skipped, *trainer.validation.skipped])
    return VlmTrainResult(
        folder=str(folder),
        model=str(folder / "model"),
        encoders=list(model.design.encoders),
        llm=settings.llm,
        train=settings.train,
        image_tokens=model.image_tokens,
        parameters=sum(p.numel() for p in trainer.parameters.values()),
        device=str(fabric.device),
        precision=str(fabric._precision.precision),
        questions=len(trainer.questions.questions),
        val_questions=len(trainer.validation.questions),
        steps=done.step,
        loss=trainer.losses[-1],
        best_epoch=done.best_epoch,
        accuracy=done.best_score,
        history=done.history,
        seconds=done.seconds,
        questions_per_second=done.rows_per_second,
        twins=twins,
        skipped=unread,
        warnings=(*as_warnings(unread), *done.warnings),
    )


def built(
    settings: VlmTrain, encoder: str, device: str, side_by_side: SideBySide | None = None
) -> VLM:
    """The untrained VLM of the settings, with any encoder, in fp32."""
    from encoderlab.vlm.model import VLM

    return VLM.build(
        encoder, settings.llm, settings.projector,
        reduce=None if settings.reduce in ("", "none") else settings.reduce,
        layer=settings.layer, norm=settings.norm, queries=settings.queries, device=device,
        dtype="float32", seed=settings.seed, trust_remote_code=settings.trust_remote_code,
        side_by_side=side_by_side,
    )  # fmt: skip


def read_train_questions(settings: VlmTrain) -> tuple[list[Question], list[Question], list[Any]]:
    """The questions to train on, those to validate on, and what cannot be used."""
    from encoderlab.data import split_by_image
    from encoderlab.vlm.questions import SYNTHETIC, read_questions, synthetic_questions

    read = read_questions(
        settings.data, settings.img_root, split=settings.split, n=settings.n_images
        if settings.data == SYNTHETIC else 0, languages=settings.languages,
    )  # fmt: skip
    if settings.val_data is not None:
        held = read_questions(
            settings.val_data, settings.img_root, n=MOST_VALIDATED, languages=settings.languages
        )
        return read.rows, held.rows[:MOST_VALIDATED], [*read.skipped, *held.skipped]
    if settings.data == SYNTHETIC:
        count = max(1, min(MOST_VALIDATED, settings.n_images // 4) // len(settings.languages))
        held_rows = synthetic_questions(
            "train", range(VALIDATION_START, VALIDATION_START + count), settings.languages
        )
        return read.rows, held_rows, read.skipped
    images = list({question.image.id: question.image for question in read.rows}.values())
    kept, _ = split_by_image(images, HELD_OUT)
    names = {sample.id for sample in kept}
    rest = [question for question in read.rows if question.image.id in names]
    held_rows = [question for question in read.rows if question.image.id not in names]
    return rest, held_rows[:MOST_VALIDATED], read.skipped


def _train_on_captions(settings: VlmTrain, model: VLM, fabric: Any, folder: Path) -> None:
    """LLaVA's first stage: the projector alone, on captions."""
    from encoderlab.vlm.questions import captions_as_questions

    note("first stage: the projector alone, on captions")
    count = min(settings.captions, MOST_VALIDATED)
    rows = captions_as_questions(range(settings.captions), settings.languages)
    start = VALIDATION_START
    held = captions_as_questions(range(start, start + min(count, 50)), settings.languages)
    first = dataclasses.replace(settings, train="projector", epochs=1)
    train_one(first, model, rows, held, fabric, folder, CAPTIONS)


def train_one(
    settings: VlmTrain,
    model: VLM,
    train: list[Question],
    validation: list[Question],
    fabric: Any,
    run_folder: Path,
    part: str = "",
    blind: bool = False,
) -> tuple[Any, Any]:
    """Trains one model to the end, or resumes it, and saves its best epoch; (trainer, run)."""
    from encoderlab.metrics.answers import most_common_answer
    from encoderlab.models import checkpoint
    from encoderlab.training.collectives import on_all_ranks
    from encoderlab.training.loggers import make_logger
    from encoderlab.training.loop import checkpoint_to_resume
    from encoderlab.vlm import trainer as training

    recipe = training.Recipe(
        blind=blind,
        **{
            f.name: getattr(settings, f.name)
            for f in dataclasses.fields(training.Recipe)
            if f.name != "blind"
        },
    )
    folder, store = run_folder / part, settings.features_dir
    data = on_all_ranks(fabric, training.VisionTokens, model, train, store)
    held = on_all_ranks(fabric, training.VisionTokens, model, validation, store)
    logger = on_all_ranks(
        fabric, make_logger, settings.logger, folder, settings.wandb_project,
        settings.resume is not None,
    )  # fmt: skip
    trainer = on_all_ranks(
        fabric, training.VLMTrainer, model, data, held, recipe, fabric, folder,
        together=settings.chunk_size, save_every=settings.save_every_steps, logger=logger,
    )  # fmt: skip
    before = None if settings.resume is None else Path(settings.resume).expanduser() / part
    # A run that was killed may not have begun its twins, or saved no state of them.
    if before is not None and (
        not part or (before / "checkpoints" / trainer.names.latest).exists()
    ):
        start = on_all_ranks(fabric, checkpoint_to_resume, str(before), trainer.names)
        on_all_ranks(fabric, trainer.resume, start)
    done = trainer.run()
    best = checkpoint.read(folder / "checkpoints" / trainer.names.best, trainer.names.format)
    trainer.load_weights(best["weights"])
    model.common_answers = most_common_answer(
        [question.text for question in data.questions], [q.answers[0] for q in data.questions]
    )
    if fabric.is_global_zero:
        model.save(folder / "model")
    fabric.barrier()
    return trainer, done
