"""`encoderlab vlm evaluate`: right answers of VLMs per kind of question, beside the controls.

Loads the models and asks them; `metrics.answers` judges.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from jaxtyping import Float

from encoderlab.core.atomic_io import write_text_atomic
from encoderlab.core.progress import progress
from encoderlab.core.results import Block, Result, Table
from encoderlab.core.score import Score
from encoderlab.core.skipped import as_notes, as_records, as_warnings, skipped_images
from encoderlab.core.spec import takes
from encoderlab.errors import UsageError
from encoderlab.metrics.answers import (
    accuracy,
    anls,
    compare_answers,
    exact_match,
    relaxed_match,
    vqa_accuracy,
)
from encoderlab.metrics.uncertainty import Comparison
from encoderlab.vlm.settings import VlmEvaluate

if TYPE_CHECKING:
    from encoderlab.vlm.questions import Question

JUDGES: dict[str, Callable[[str, Sequence[str]], float]] = {
    "exact": exact_match, "relaxed": relaxed_match, "anls": anls, "vqa": vqa_accuracy,
}  # fmt: skip
ALL = "all"
SUMS = "math"  # a kind that stays near the floor at small sizes; it is reported apart
ANSWERS = "answers.jsonl"


@dataclass(frozen=True)
class ModelAccuracy(Result):
    """The accuracy of one model.

    Args:
        model: as it was named.
        accuracy: of each kind of question, and of all under "all"; `chance` is that of the most
            common training answer to the same question.
        blind: of the twin that was trained without the image, or of the model asked without it.
        blind_twin: whether there is such a twin. A frozen LLM has none: see `shuffled`, since its
            projector may have taught the form of the answers.
        shuffled: the model with another question's image.
        untrained: of the twin with an untrained encoder; empty where there is none.
        common: the most common training answer to the same question.
        between: (accuracy - blind) / (1 - blind), of all questions; None without controls.
        unseen: of the questions whose text was not in the training data; None where unknown.
        seen_share: share of the questions whose text was; None where the training data is unknown.
        by_options: of multiple choice, by the likelihood of the options; None without options.
    """

    model: str
    fingerprint: str
    accuracy: dict[str, Score]
    blind: dict[str, Score]
    blind_twin: bool
    shuffled: dict[str, Score]
    untrained: dict[str, Score]
    common: dict[str, Score]
    between: float | None
    unseen: Score | None
    seen_share: float | None
    by_options: Score | None = None


@dataclass(frozen=True)
class VlmEvaluateResult(Result):
    """Accuracies of all models on the same questions, and paired comparisons.

    Args:
        metric: what is counted as right.
        comparisons: of each pair of models, and of each model with its controls, on all questions.
    """

    records: ClassVar = "models"

    data: str
    metric: str
    questions: int
    images: int
    device: str
    models: tuple[ModelAccuracy, ...]
    comparisons: tuple[Comparison, ...]
    skipped: tuple[tuple[str, str], ...] = ()
    warnings: tuple[str, ...] = field(default=(), metadata={"json": False})

    def to_json(self) -> dict[str, Any]:
        """The result for run.json; `skipped` is a list of ids and reasons."""
        return {**super().to_json(), "skipped": as_records(self.skipped)}

    def blocks(self) -> list[Block]:
        """A table per model, the comparisons, and the warnings."""
        head = f"{self.questions:,} questions about {self.images:,} images of {self.data}"
        blocks: list[Block] = [f"{head}; right: {self.metric}"]
        blocks += [_table(model) for model in self.models]
        if self.comparisons:
            blocks.append("\n".join(comparison.to_text() for comparison in self.comparisons))
        return [*blocks, *as_notes(self.warnings, self.skipped)]


def _table(model: ModelAccuracy) -> Table:
    columns: list[tuple[str, dict[str, Score]]] = [("right", model.accuracy)]
    name = "blind twin" if model.blind_twin else "without image"
    columns += [
        (title, scores)
        for title, scores in (
            (name, model.blind), ("shuffled", model.shuffled),
            ("untrained", model.untrained), ("most common", model.common),
        )
        if scores
    ]  # fmt: skip
    rows = tuple(
        (kind, str(score.n), *(scores[kind].as_percent() for _, scores in columns))
        for kind, score in model.accuracy.items()
    )
    notes = []
    if model.between is not None:
        notes.append(f"share of the way from blind to perfect: {model.between:.1%}")
    if not model.blind_twin and model.blind:
        notes.append(
            "no blind twin: the model was asked without the image instead, a lower baseline"
        )
    if model.seen_share is not None:
        text = f"question texts that were in the training data: {model.seen_share:.1%}"
        if model.unseen is not None and model.unseen.value is not None:
            text += f"; right on the others: {model.unseen.as_percent()}"
        notes.append(text)
    if model.by_options is not None:
        notes.append(f"by the likelihood of the options: {model.by_options.as_percent()}")
    titles = tuple(title for title, _ in columns)
    return Table(("kind", "n", *titles), rows, model.model, tuple(notes))


@takes(VlmEvaluate)
def run(settings: VlmEvaluate, out: Path | None = None) -> VlmEvaluateResult:
    """Counts the right answers of VLMs; see `encoderlab vlm evaluate --help`.

    Returns:
        Accuracies per kind with intervals over images, controls, and paired comparisons.

    Raises:
        UsageError: no question, or a model that is no VLM.
        MissingError: data, a checkpoint or a GPU is not there.
    """
    from encoderlab.vlm.questions import SYNTHETIC, read_questions

    split = settings.split or ("test" if settings.data == SYNTHETIC else None)
    read = read_questions(
        settings.data, settings.img_root, split=split, n=settings.n, languages=settings.languages
    )
    asked = [Asked.of(name, read.rows, settings) for name in settings.model]
    # The same questions for all: those whose image all of them could read.
    common = functools.reduce(lambda a, b: a & b, ({*a.ids} for a in asked))
    if not common:
        raise UsageError("no image can be read", got=settings.data, want="images of the questions")
    asked = [a.only(common) for a in asked]
    questions = asked[0].questions
    image = np.unique([q.image.id for q in questions], return_inverse=True)[1]
    judge = JUDGES[settings.metric]
    models = tuple(_judged(a, judge, image) for a in asked)
    if out is not None and settings.save_answers:
        _save(out / ANSWERS, asked, judge)
    skipped = skipped_images([*read.skipped, *asked[0].skipped])
    warnings = list(as_warnings(skipped))
    if (SUMS in {q.kind for q in questions}) and settings.data == SYNTHETIC:
        warnings.append(
            "questions about sums (math) contain their numbers: read their accuracy separately"
        )
    return VlmEvaluateResult(
        data=settings.data,
        metric=settings.metric,
        questions=len(questions),
        images=int(image.max()) + 1,
        device=asked[0].device,
        models=models,
        comparisons=tuple(_comparisons(asked, judge, image)),
        skipped=skipped,
        warnings=tuple(warnings),
    )


@dataclass(frozen=True)
class Asked:
    """The answers of one model to all questions, and those of its controls.

    Args:
        texts: control -> one text per question; the model's own under "".
        likelihood: of the right answer to each question; empty unless answers are saved.
        options: the most likely of the options of each question; "" without options.
    """

    name: str
    fingerprint: str
    device: str
    questions: list[Question]
    texts: dict[str, list[str]]
    likelihood: list[float]
    options: list[str]
    common_answers: dict[str, str]
    blind_twin: bool
    skipped: list[Any]

    @property
    def ids(self) -> list[str]:
        """The ids of the questions."""
        return [question.id for question in self.questions]

    def only(self, ids: set[str]) -> Asked:
        """The answers to some questions."""
        kept = [i for i, question in enumerate(self.questions) if question.id in ids]
        return dataclasses.replace(
            self,
            questions=[self.questions[i] for i in kept],
            texts={name: [texts[i] for i in kept] for name, texts in self.texts.items()},
            likelihood=[self.likelihood[i] for i in kept if self.likelihood],
            options=[self.options[i] for i in kept],
        )

    @classmethod
    def of(cls, name: str, questions: list[Question], settings: VlmEvaluate) -> Asked:
        """Evaluates one model and its controls."""
        from encoderlab.vlm.trainer import answer_all

        model, data = _loaded(name, questions, settings)
        ask = functools.partial(answer_all, batch_size=settings.batch_size)
        twins = _twins(name) if settings.controls else {}
        rounds = 1 + (len({"blind", *twins}) + 1 if settings.controls else 0)
        total = rounds * len(data.questions)
        with progress(f"asking {model.name}", total=total, unit="question") as bar:
            texts = {"": ask(model, data, advance=bar.advance)}
            if settings.controls:
                others = other_images(np.asarray(data.image), settings.seed)
                texts["shuffled"] = ask(model, data, images=others, advance=bar.advance)
                if "blind" not in twins:
                    texts["blind"] = ask(model, data, blind=True, advance=bar.advance)
                for twin, folder in twins.items():
                    other, tokens = _loaded(str(folder), data.questions, settings)
                    texts[twin] = ask(other, tokens, blind=twin == "blind", advance=bar.advance)
        return cls(
            name,
            fingerprint_of(model),
            str(model.device),
            data.questions,
            texts,
            _likelihoods(model, data, settings.batch_size) if settings.save_answers else [],
            _most_likely_options(model, data),
            model.common_answers,
            "blind" in twins,
            data.skipped,
        )


def fingerprint_of(model: Any) -> str:
    """The fingerprints of the parts that a VLM loaded, joined by +."""
    own = getattr(model, "fingerprint", None)
    return own or "+".join(encoder.fingerprint for encoder in model.encoders)


def _loaded(name: str, questions: list[Question], settings: VlmEvaluate) -> tuple[Any, Any]:
    """A model, and the images of the questions as it takes them."""
    from encoderlab.encoders.checkpoint import resolve
    from encoderlab.vlm.llava import LlavaVLM, Pictures, is_llava
    from encoderlab.vlm.model import VLM, saved_in
    from encoderlab.vlm.trainer import VisionTokens

    trusted = settings.trust_remote_code
    checkpoint = resolve(saved_in(name), code=trusted)
    if is_llava(checkpoint):
        llava = LlavaVLM(checkpoint, settings.device, settings.dtype, trusted)
        return llava, Pictures(questions)
    model = VLM.load(name, settings.device, settings.dtype, trust_remote_code=trusted)
    return model, VisionTokens(model, questions, settings.features_dir)


def _twins(name: str) -> dict[str, Path]:
    """The control twins that were trained beside a model."""
    folders = {twin: Path(name).expanduser() / twin for twin in ("blind", "untrained")}
    return {twin: folder for twin, folder in folders.items() if (folder / "model").is_dir()}


def other_images(image: np.ndarray, seed: int) -> list[int]:
    """For each question, the number of one with another image, drawn at random.

    Args:
        image: the number of each question's image.
        seed: of the draw.

    Returns:
        Numbers of questions; with a single image each question keeps it.
    """
    rng = np.random.default_rng(seed)
    names = np.unique(image)
    # A cyclic shift of a random order gives every image another one.
    order = rng.permutation(names)
    other = dict(zip(order.tolist(), np.roll(order, 1).tolist(), strict=True))
    first = {int(i): number for number, i in reversed(list(enumerate(image)))}
    return [first[other[int(i)]] for i in image]


def _likelihoods(model: Any, data: Any, batch_size: int) -> list[float]:
    answers = [question.answers[0] for question in data.questions]
    values: list[float] = []
    for start in range(0, len(answers), batch_size):
        rows = range(start, min(start + batch_size, len(answers)))
        logs = model.log_likelihood(
            data.of(rows), [data.questions[i].text for i in rows], [answers[i] for i in rows]
        )
        values += logs.exp().tolist()
    return values


def _most_likely_options(model: Any, data: Any) -> list[str]:
    chosen = []
    for row, question in enumerate(data.questions):
        if not question.options:
            chosen.append("")
            continue
        rows, texts = [row] * len(question.options), [question.text] * len(question.options)
        logs = model.log_likelihood(data.of(rows), texts, list(question.options))
        chosen.append(question.options[int(logs.argmax())])
    return chosen


def _values(
    texts: Sequence[str], questions: Sequence[Question], judge: Callable[..., float]
) -> Float[np.ndarray, " q"]:
    return np.array([float(judge(t, q.answers)) for t, q in zip(texts, questions, strict=True)])


def _judged(asked: Asked, judge: Callable[..., float], image: np.ndarray) -> ModelAccuracy:
    questions = asked.questions
    kinds = np.array([question.kind or "" for question in questions])
    groups = {ALL: np.ones(len(kinds), dtype=bool)}
    if len(set(kinds)) > 1:
        groups |= {str(kind): kinds == kind for kind in sorted(set(kinds))}

    def scores(values: np.ndarray, chance: dict[str, Score] | None = None) -> dict[str, Score]:
        return {
            kind: accuracy(
                values[chosen], image[chosen], None if chance is None else float(chance[kind])
            )
            for kind, chosen in groups.items()
        }

    known = asked.common_answers
    guesses = [known.get(q.text, known.get("", "")) for q in questions]
    common = scores(_values(guesses, questions, judge)) if known else {}
    right = {name: _values(texts, questions, judge) for name, texts in asked.texts.items()}
    own = scores(right[""], common or None)
    unseen, seen_share = None, None
    if known:
        seen = np.array([question.text in known for question in questions])
        seen_share = float(seen.mean())
        unseen = accuracy(right[""][~seen], image[~seen])
    controls = {
        name: scores(right[name]) if name in right else {}
        for name in ("blind", "shuffled", "untrained")
    }
    between = None
    if controls["blind"]:
        blind = float(controls["blind"][ALL])
        between = None if blind >= 1 else (float(own[ALL]) - blind) / (1 - blind)
    has_options = np.array([bool(question.options) for question in questions])
    by_options = None
    if has_options.any():
        chosen = _values(asked.options, questions, judge)
        by_options = accuracy(chosen[has_options], image[has_options])
    return ModelAccuracy(
        asked.name, asked.fingerprint, own, controls["blind"], asked.blind_twin,
        controls["shuffled"], controls["untrained"], common, between, unseen, seen_share,
        by_options,
    )  # fmt: skip


def _comparisons(
    asked: Sequence[Asked], judge: Callable[..., float], image: np.ndarray
) -> list[Comparison]:
    """Each pair of models, and each model with its controls, on all questions."""
    columns = {a.name: _values(a.texts[""], a.questions, judge) for a in asked}
    pairs = [(a.name, b.name) for a, b in itertools.combinations(asked, 2)]
    for a in asked:
        for control, texts in a.texts.items():
            if control:
                name = f"{a.name} ({control})"
                columns[name] = _values(texts, a.questions, judge)
                pairs.append((a.name, name))
    return [
        compare_answers(a, b, (columns[a], columns[b]), image, comparisons=len(pairs))
        for a, b in pairs
    ]


def _save(path: Path, asked: Sequence[Asked], judge: Callable[..., float]) -> None:
    lines = []
    for a in asked:
        right = _values(a.texts[""], a.questions, judge)
        for i, question in enumerate(a.questions):
            record = {
                "model": a.name, "id": question.id, "image": question.image.id,
                "kind": question.kind, "question": question.text, "answers": question.answers,
                "generated": a.texts[""][i], "right": right[i], "likelihood": a.likelihood[i],
            }  # fmt: skip
            record |= {name: texts[i] for name, texts in a.texts.items() if name}
            lines.append(json.dumps(record, ensure_ascii=False))
    write_text_atomic(path, "\n".join(lines) + "\n")
