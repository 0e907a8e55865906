"""Right answers of small VLMs, one per encoder, LLM and seed, for `encoderlab e2e --answers`; and
the cells, which `complement --answers` has too.

A VLM and its answers are a cell: a folder named by a digest of all that its training depends on. So
a run after a kill goes on with the cell that was being trained, and the jobs of a sweep share
theirs. Trains and counts through `vlm`; computes no alignment metric.
"""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
import shutil
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Bool, Int

from encoderlab.alignment.data import AlignmentData
from encoderlab.alignment.settings import E2e, WithAnswers
from encoderlab.core.aliases import SHUFFLED, UNTRAINED
from encoderlab.core.atomic_io import write_text_atomic
from encoderlab.core.json_text import record_in
from encoderlab.core.progress import counted, note
from encoderlab.core.results import Block, Result, Table
from encoderlab.core.settings import output_folder
from encoderlab.errors import UsageError
from encoderlab.metrics.answers import accuracy_over_seeds, exact_match
from encoderlab.metrics.correlation import Correlation, correlate
from encoderlab.vlm.evaluate import ALL
from encoderlab.vlm.settings import VlmTrain

if TYPE_CHECKING:
    from encoderlab.core.score import Score
    from encoderlab.vlm.questions import Question
    from encoderlab.vlm.side_by_side import SideBySide

OUTCOME = "right answers"
NONE: Mapping[tuple[str, str], float | None] = {}
RECORD, LOCK = "answers.json", ".lock"
BLIND = "blind"
DESIGN = ("encoder", "llm", "projector", "norm", "reduce", "layer")  # of the VLM, in VlmTrain
VALIDATED = 100  # questions after the last step, which choose nothing: there is one epoch


@dataclass(frozen=True)
class PairAnswers:
    """The answers of the VLMs of one encoder and one LLM.

    Args:
        accuracy: kind of question, or "all", -> share of right answers over all seeds; its chance
            is that of the LLM trained without the image.
        by_seed: share of right answers to all questions of each seed.
        spread: standard deviation of `by_seed`; None for one seed.
        image_size: pixels of the shorter side of what the encoder takes.
        patch_tokens: of the encoder.
        control_of: the encoder behind a control.
        folders: of the cells, one per seed.
    """

    encoder: str
    llm: str
    accuracy: dict[str, Score]
    by_seed: tuple[float, ...]
    spread: float | None
    image_size: int
    patch_tokens: int
    control_of: str | None
    folders: tuple[str, ...]

    @property
    def is_trained(self) -> bool:
        """Whether the encoder is trained: controls count for no correlation but a baseline."""
        return self.control_of is None and not self.encoder.startswith(UNTRAINED)


@dataclass(frozen=True)
class Answers(Result):
    """The answers of all VLMs.

    Args:
        questions, test_questions: how many were trained on, and asked.
        pairs: of every encoder and LLM.
        blind: of every LLM trained and asked without the image.
        ceiling: how well one seed's ranking of the trained encoders predicts another's: Spearman's
            rho, mean over pairs of seeds. No metric can be expected to exceed it.
        no_ceiling: why there is none.
        baselines: rank correlation with what needs no metric; "trained or not" is over all
            encoders, the others over trained ones.
    """

    data: str
    questions: int
    test_questions: int
    test_images: int
    seeds: tuple[int, ...]
    pairs: tuple[PairAnswers, ...]
    blind: tuple[PairAnswers, ...]
    ceiling: float | None
    no_ceiling: str | None
    baselines: dict[str, Correlation]

    def outcomes(self) -> dict[str, dict[tuple[str, str], float]]:
        """Outcome -> (encoder, LLM) -> share of right answers, of all questions and each kind."""
        return {
            OUTCOME if kind == ALL else f"{OUTCOME}, {kind}": {
                (pair.encoder, pair.llm): float(pair.accuracy[kind]) for pair in self.pairs
            }
            for kind in self.pairs[0].accuracy
        }

    def blocks(self, retrieval: Mapping[tuple[str, str], float | None] = NONE) -> list[Block]:
        """Tables of all questions and of each kind, the ceiling and the baselines.

        Args:
            retrieval: (encoder, LLM) -> MRR on held-out pairs.

        Returns:
            Tables and paragraphs in reading order.
        """
        ordered = sorted(self.pairs, key=lambda p: (p.llm, -float(p.accuracy[ALL])))
        rows = []
        for pair in ordered:
            score, mrr = pair.accuracy[ALL], retrieval.get((pair.encoder, pair.llm))
            rows.append((
                pair.encoder, pair.llm, score.as_percent(),
                "-" if pair.spread is None else f"{100 * pair.spread:.1f}",
                f"{100 * (score.chance or 0):.1f} %", "-" if mrr is None else f"{mrr:.3f}",
            ))  # fmt: skip
        over = "images and seeds" if len(self.seeds) > 1 else "images alone: there is one seed"
        notes = [f"95 % intervals over {over}; blind: the LLM trained and asked without the image"]
        notes += [
            f"blind by seed, {pair.llm}: {', '.join(f'{100 * x:.1f}' for x in pair.by_seed)} %"
            for pair in self.blind
        ]
        title = (
            f"right answers of VLMs: {self.test_questions:,} held-out questions of {self.data}, "
            f"trained on {self.questions:,}, seeds {', '.join(map(str, self.seeds))}"
        )
        heads = ("encoder", "LLM", OUTCOME, "sd of seeds", "blind", "held-out MRR")
        blocks: list[Block] = [Table(heads, tuple(rows), title, tuple(notes))]
        kinds = [kind for kind in self.pairs[0].accuracy if kind != ALL]
        if kinds:
            lines = tuple(
                (pair.encoder, pair.llm, *(pair.accuracy[kind].as_percent() for kind in kinds))
                for pair in (*ordered, *self.blind)
            )
            blocks.append(Table(("encoder", "LLM", *kinds), lines, "right answers by kind"))
        ceiling = self.no_ceiling or (
            f"rho = {self.ceiling:+.2f} between one seed's ranking of the encoders and another's"
        )
        said = [f"noise ceiling: {ceiling}"]
        said += [
            f"baseline, {name}: "
            + (c.undefined or f"rho = {c.spearman or 0:+.2f}, p = {c.spearman_p:.2g}")
            for name, c in self.baselines.items()
        ]
        return [*blocks, "\n".join(said)]


def answers_of(settings: E2e, aligned: AlignmentData) -> Answers:
    """Trains every VLM that is not stored in its cell, and measures its accuracy on the test
    questions.

    Args:
        settings: the questions, the seeds and the folder of the cells.
        aligned: the encoders and LLMs, untrained controls included; shuffled ones have no VLM.

    Returns:
        The accuracies.

    Raises:
        UsageError: no question, or an image in both splits.
        MissingError: a file or a checkpoint is not there.
        WorkError: a run diverged.
    """
    cells = Cells(settings, aligned)
    encoders = [name for name in aligned.vision if not name.startswith(SHUFFLED)]
    seeds = cells.seeds
    wanted = list(itertools.product((BLIND, *encoders), aligned.text, seeds))
    records = {}
    for number, (encoder, llm, seed) in enumerate(wanted, start=1):
        what = f"VLM {number} of {len(wanted)}: {encoder}, {llm}, seed {seed}"
        encoders_of = () if encoder == BLIND else (encoder,)
        records[encoder, llm, seed] = cells.record(encoders_of, llm, seed, what)
    test, image = cells.asked_of_all(records.values())
    kinds = np.array([question.kind or "" for question in test])
    groups = {ALL: np.ones(len(test), dtype=bool)}
    if len(set(kinds)) > 1:
        groups |= {str(kind): kinds == kind for kind in sorted(set(kinds))}

    def pair_of(encoder: str, llm: str, floor: PairAnswers | None = None) -> PairAnswers:
        own = [records[encoder, llm, seed] for seed in seeds]
        right = right_answers(own, test)
        by_seed = right.mean(axis=1)
        return PairAnswers(
            encoder, llm,
            {
                kind: accuracy_over_seeds(
                    right[:, chosen], image[chosen],
                    None if floor is None else floor.accuracy[kind].value,
                )
                for kind, chosen in groups.items()
            },
            tuple(by_seed.tolist()), float(by_seed.std(ddof=1)) if len(seeds) > 1 else None,
            own[0]["image_size"], own[0]["patch_tokens"],
            None if floor is None else aligned.vision[encoder].of,
            tuple(r["folder"] for r in own),
        )  # fmt: skip

    blind = {llm: pair_of(BLIND, llm) for llm in aligned.text}
    pairs = [pair_of(encoder, llm, blind[llm]) for encoder in encoders for llm in aligned.text]
    return Answers(
        settings.data, len(cells.train), len(test), len(set(image.tolist())), seeds, tuple(pairs),
        tuple(blind.values()), *_ceiling(pairs, len(seeds)), _baselines(pairs, aligned.seed),
    )  # fmt: skip


class Cells:
    """The cells of a run: reads those that are done, trains the others."""

    def __init__(self, settings: WithAnswers, aligned: AlignmentData) -> None:
        from encoderlab.training.devices import make_fabric
        from encoderlab.vlm.questions import SYNTHETIC, read_questions
        from encoderlab.vlm.train import read_train_questions

        self.settings, self.aligned = settings, aligned
        self.seeds = tuple(range(settings.seed, settings.seed + settings.seeds))
        self.folder = Path(settings.cells_dir or output_folder("e2e-cells")())
        # As `vlm train` has it where this command has no such setting.
        self.vlm = VlmTrain(
            data=settings.data, img_root=settings.img_root, split="train", controls=[],
            n_images=settings.n_images, device=settings.device, logger="none",
            features_dir=settings.features_dir or output_folder("features")(),
            trust_remote_code=settings.trust_remote_code,
        )  # fmt: skip
        self.train, validation, skipped = read_train_questions(self.vlm)
        self.validation = validation[:VALIDATED]
        count = settings.n_test if settings.data == SYNTHETIC else 0
        read = read_questions(settings.data, settings.img_root, split="test", n=count)
        self.test = read.rows
        for row in {row.id: row for row in (*skipped, *read.skipped)}.values():
            note(f"warning: {row.id} is left out: {row.reason}")
        shared = {q.image.id for q in self.train} & {q.image.id for q in self.test}
        if shared:
            raise UsageError(
                "images of the test questions are in the training questions",
                got=f"{len(shared)} images of {settings.data}, the first: {min(shared)}",
                want="a column `split` with train and test, and each image in one of them",
            )
        self.data = _digest([*self.train, *self.validation])
        self.asked = _digest(self.test) + settings.dtype
        self.fabric = make_fabric(settings.device, precision=self.vlm.precision)

    def record(
        self,
        encoders: Sequence[str],
        llm: str,
        seed: int,
        what: str,
        side_by_side: tuple[SideBySide, str] | None = None,
    ) -> dict[str, Any]:
        """The record of a cell; trains and evaluates its VLM if the folder lacks it.

        Args:
            encoders: that the VLM reads; none for the LLM without the image.
            llm: the language model.
            seed: of the training.
            what: said before the training.
            side_by_side: makes the VLM's tokens; and what it makes of the training questions and
                the seed, in words.

        Returns:
            The answer to each question that has an image, and what is known of the encoder.
        """
        from filelock import FileLock

        from encoderlab.vlm.trainer import Recipe

        vlm, fingerprint, blind = (
            dataclasses.replace(self.vlm, llm=llm, seed=seed),
            "",
            not encoders,
        )
        if encoders:  # an encoder that is not looked through does not count
            vlm = dataclasses.replace(
                vlm, encoder="+".join(encoders), layer=self.settings.layer,
                reduce=self.settings.reduce,
            )  # fmt: skip
            fingerprint = "+".join(self.aligned.vision[name].fingerprint for name in encoders)
        recipe = [f.name for f in dataclasses.fields(Recipe) if f.name != "blind"]
        made_of = [
            *(getattr(vlm, name) for name in (*recipe, *DESIGN)), self.data, blind,
            fingerprint, self.aligned.text[llm].fingerprint,
            *(() if side_by_side is None else (side_by_side[1],)),
        ]  # fmt: skip
        text = json.dumps(made_of)
        name = "".join(
            c if c.isalnum() or c in "-." else "-"
            for c in f"{vlm.encoder if encoders else BLIND}_{llm}"
        )
        digest = hashlib.blake2b(text.encode(), digest_size=6).hexdigest()
        folder = self.folder / f"{name[:80]}-seed{seed}-{digest}"
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / LOCK):  # another job of a sweep may be training it
            with suppress(ValueError):
                record = record_in(folder / RECORD)
                if record.get("asked") == self.asked:
                    return record | {"folder": str(folder)}
            note(what)
            join = None if side_by_side is None else side_by_side[0]
            record = self._trained_and_asked(vlm, blind, folder, join)
            write_text_atomic(folder / RECORD, json.dumps(record, ensure_ascii=False))
            shutil.rmtree(folder / "checkpoints", ignore_errors=True)
        return record | {"folder": str(folder)}

    def asked_of_all(
        self, records: Iterable[dict[str, Any]]
    ) -> tuple[list[Question], Int[np.ndarray, " q"]]:
        """The test questions whose image every encoder could read.

        Args:
            records: of all VLMs that are compared.

        Returns:
            The questions, and the number of each one's image.
        """
        known = set.intersection(*(set(record["answers"]) for record in records))
        test = [question for question in self.test if question.id in known]
        if len(test) < len(self.test):
            left_out = counted(len(self.test) - len(test), "test question")
            note(f"warning: {left_out} left out: not every encoder can read the image")
        return test, np.unique([question.image.id for question in test], return_inverse=True)[1]

    def _trained_and_asked(
        self, vlm: VlmTrain, blind: bool, folder: Path, join: SideBySide | None
    ) -> dict[str, Any]:
        from encoderlab.vlm.model import VLM
        from encoderlab.vlm.train import built, train_one
        from encoderlab.vlm.trainer import NAMES, VisionTokens, answer_all

        if not (folder / "model").is_dir():
            model = built(vlm, vlm.encoder, str(self.fabric.device), join)
            if (folder / "checkpoints" / NAMES.latest).is_file():
                vlm = dataclasses.replace(vlm, resume=str(folder))
            train_one(vlm, model, self.train, self.validation, self.fabric, folder, blind=blind)
        # Asked as `vlm evaluate` asks a saved model.
        model = VLM.load(
            folder, vlm.device, self.settings.dtype, trust_remote_code=vlm.trust_remote_code,
            side_by_side=join,
        )  # fmt: skip
        tokens = VisionTokens(model, self.test, vlm.features_dir)
        texts = answer_all(model, tokens, blind=blind)
        rows, columns = model.grid
        return {
            "asked": self.asked, "image_size": model.encoders[0].image_size,
            "patch_tokens": rows * columns,
            "answers": {q.id: text for q, text in zip(tokens.questions, texts, strict=True)},
        }  # fmt: skip


def right_answers(
    records: Sequence[dict[str, Any]], questions: Sequence[Question]
) -> Bool[np.ndarray, "s q"]:
    """Whether each answer of each record is an exact match."""
    return np.array(
        [[exact_match(r["answers"][q.id], q.answers) for q in questions] for r in records]
    )


def _digest(questions: Sequence[Question]) -> str:
    """Equal for the same questions, answers and images, in order."""
    from encoderlab.feature_store.store import digest_of

    digest, images = hashlib.blake2b(digest_size=12), dict[str, bytes]()
    for question in questions:
        if question.image.id not in images:
            images[question.image.id] = b""
            with suppress(OSError):  # an image that cannot be read is left out later
                images[question.image.id] = digest_of(question.image)
        text = f"{question.id}\n{question.text}\n{question.answers}\n"
        digest.update(text.encode() + images[question.image.id])
    return digest.hexdigest()


def _ceiling(pairs: Sequence[PairAnswers], seeds: int) -> tuple[float | None, str | None]:
    trained = [pair for pair in pairs if pair.is_trained]
    found = [
        _correlated(
            trained, [pair.by_seed[a] for pair in trained], [pair.by_seed[b] for pair in trained]
        )
        for a, b in itertools.combinations(range(seeds), 2)
    ]
    values = [c.spearman for c in found if c.spearman is not None]
    if values:
        return float(np.mean(values)), None
    return None, found[0].undefined if found else "there is one seed"


def _baselines(pairs: Sequence[PairAnswers], seed: int) -> dict[str, Correlation]:
    trained = [pair for pair in pairs if pair.is_trained]
    values: dict[str, tuple[Sequence[PairAnswers], list[float]]] = {
        "trained or not (all encoders)": (pairs, [float(pair.is_trained) for pair in pairs]),
        "image size": (trained, [pair.image_size for pair in trained]),
        "patch tokens": (trained, [pair.patch_tokens for pair in trained]),
    }
    return {
        name: _correlated(own, baseline, [float(pair.accuracy[ALL]) for pair in own], seed)
        for name, (own, baseline) in values.items()
    }


def _correlated(
    pairs: Sequence[PairAnswers], x: Sequence[float], y: Sequence[float], seed: int = 0
) -> Correlation:
    names, llms = [pair.encoder for pair in pairs], [pair.llm for pair in pairs]
    return correlate(x, y, names, seed, conditions=llms)
