"""Trains the bundled VLM on questions of the synthetic world and of the real sets.

The images are encoded once, into a feature store of the work folder; the encoder stays as it is.
"""

from __future__ import annotations

from pathlib import Path

from encoderlab.core.progress import note
from encoderlab.errors import MissingError
from encoderlab.training.devices import make_fabric
from encoderlab.vlm.model import VLM
from encoderlab.vlm.questions import Question, read_questions, synthetic_questions
from encoderlab.vlm.settings import VlmTrain
from encoderlab.vlm.train import VALIDATION_START, built, train_one
from recipes.settings import VLMRecipe

LANGUAGES = ("en", "ko")
VALIDATED = 250  # synthetic images
QUESTIONED = ("vega-charts", "wikitables-mini", "math-ko-en")  # the real sets with questions


def real_questions(root: Path, split: str) -> dict[str, list[Question]]:
    """The questions of the real sets.

    Args:
        root: folder of the unpacked sets.
        split: "train" or "test".

    Returns:
        Name of the set -> its questions.

    Raises:
        MissingError: a set is not there.
    """
    questions = {}
    for name in QUESTIONED:
        file = root / name / "qa.jsonl"
        if not file.is_file():
            raise MissingError("a real set is not there", got=str(file), want="the unpacked sets")
        questions[name] = read_questions(file, split=split).rows
    return questions


def train_vlm(name: str, recipe: VLMRecipe, root: Path | None, folder: Path, resume: bool) -> Path:
    """Trains the VLM and its control twins, and writes it.

    Args:
        name: of the checkpoint.
        recipe: what is trained, and on what.
        root: folder of the real sets; None for the synthetic world alone.
        folder: of the work.
        resume: go on from the work folder.

    Returns:
        The written folder.
    """
    rows = synthetic_questions("train", range(recipe.synthetic_images), LANGUAGES)
    if root is not None:
        real = [q for questions in real_questions(root, "train").values() for q in questions]
        rows += real * recipe.real_copies
    held = range(VALIDATION_START, VALIDATION_START + VALIDATED)
    validation = synthetic_questions("train", held, LANGUAGES)
    work = folder / f"{name}-run"
    settings = VlmTrain(
        encoder=recipe.encoder, llm=recipe.llm, reduce=recipe.reduce, epochs=recipe.epochs,
        batch_size=recipe.batch_size, lr=recipe.lr, llm_lr=recipe.llm_lr, seed=recipe.seed,
        features_dir=str(folder / "features"), resume=str(work) if resume else None,
    )  # fmt: skip
    fabric = make_fabric()
    for part, encoder in (
        ("", recipe.encoder),
        ("blind", recipe.encoder),
        ("untrained", f"untrained:{recipe.encoder}"),
    ):
        model = built(settings, encoder, str(fabric.device))
        note(f"{name} {part}: {len(rows):,} questions")
        _, done = train_one(
            settings, model, rows, validation, fabric, work, part, blind=part == "blind"
        )
        note(f"{name} {part}: {done.seconds:.0f} s, {done.best_score:.1%} of the held-out right")
    best = VLM.load(work, "cpu", "float32")
    best.record = {"trained_steps": done.step}
    return best.save(folder / name)
