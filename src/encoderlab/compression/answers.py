"""Right answers of a VLM that sees the rebuilt tokens: the part `--answers` of the evaluation.

A method gives k tokens, its `decode` rebuilds the grid that the VLM's projector was trained on, and
the VLM answers from that grid. Pixel shuffle rebuilds every token, so its answers are those of a
VLM whose projector was trained on k shuffled tokens. q questions, b images, n tokens, c channels.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from PIL.Image import Image
from scipy import stats
from torch import Tensor

from encoderlab.compression.hooks.base import match
from encoderlab.compression.retention import PerImage, RetentionScale
from encoderlab.compression.settings import Compress
from encoderlab.compression.token_set import BATCH, TokenSet
from encoderlab.core.score import Score, undefined
from encoderlab.core.skipped import Skipped
from encoderlab.data.decode import ImageError
from encoderlab.data.sample import Sample
from encoderlab.encoders.checkpoint import bundled_models
from encoderlab.encoders.vision import VisionEncoder
from encoderlab.errors import UsageError
from encoderlab.feature_store.pipeline import batches_of
from encoderlab.metrics.answers import accuracy, compare_answers, exact_match, least_half_width
from encoderlab.metrics.correlation import FEWEST, LEVEL, correlate, holm_p
from encoderlab.metrics.uncertainty import (
    Comparison,
    Verdict,
    compare_paired,
    fisher,
    jackknife_interval,
)
from encoderlab.models.token_grid import Grid, window_of
from encoderlab.patch_tokens.reducer import TokenReducer
from encoderlab.vlm.evaluate import fingerprint_of, other_images
from encoderlab.vlm.model import VLM
from encoderlab.vlm.questions import SYNTHETIC, Question, read_questions
from encoderlab.vlm.reduction import PIXEL_SHUFFLE
from encoderlab.vlm.trainer import answer_all

ANSWERS, HARD = "answers", "answers_vtc"  # all questions, and the VTC split
SMALLER, RANDOM = "smaller_image", "random"  # in every table of answers
ALL_TOKENS, OTHER_IMAGE = "all tokens", "all tokens of another question's image"
SCORES = ("nmse", "nmse_without_outliers", "cosine", "distance", "neighbours", "cka")
RHO = "Spearman over methods and budgets; delete-a-method jackknife of Fisher's z"

Right = Float[np.ndarray, " q"]


@dataclass(frozen=True)
class _Shown:
    """The input of `answer_all`: the questions, and tokens of their images."""

    questions: Sequence[Question]
    tokens: Float[Tensor, "b n c"]
    image: Int[np.ndarray, " q"]

    def of(self, rows: Sequence[int]) -> Float[Tensor, "k n c"]:
        return self.tokens[torch.from_numpy(self.image[list(rows)])]


@dataclass(frozen=True)
class AnswerTask:
    """Questions to a VLM.

    Args:
        name: of the VLM.
        vlm: answers from tokens on its full grid.
        data: where the questions come from.
        questions: those whose image can be read.
        pictures: the tokens of their images, at the VLM's layer.
        image: number of each question's image.
        shuffled: (rows, columns) of shuffled tokens -> the VLM that answers from so many.
    """

    name: str
    vlm: VLM
    data: str
    questions: Sequence[Question]
    pictures: TokenSet
    image: Int[np.ndarray, " q"]
    shuffled: Mapping[Grid, VLM] = field(default_factory=dict)

    @classmethod
    def of(
        cls, encoder: VisionEncoder, layer: int, settings: Compress
    ) -> tuple[AnswerTask, list[Skipped]]:
        """The task of the settings.

        Args:
            encoder: of the compressed tokens.
            layer: of the compressed tokens.
            settings: name the VLM and the questions.

        Returns:
            The task, and the questions and images that cannot be used.

        Raises:
            UsageError: the VLM has another encoder or layer, or reduces the tokens itself; no image
                can be read.
            MissingError: the VLM or the questions are not there.
        """
        chosen = settings.evaluation
        name = str(chosen.answers)
        trusted = settings.trust_remote_code
        vlm = answering_vlm(name, encoder, layer, trusted)
        shuffled = shuffling_vlms(vlm, chosen.shuffled, encoder, layer, trusted)
        split = "test" if chosen.questions == SYNTHETIC else None
        read = read_questions(
            chosen.questions, split=split, n=chosen.n_questions, languages=chosen.languages
        )
        samples: dict[str, Sample] = {q.image.id: q.image for q in read.rows}
        pictures: dict[str, Image] = {}
        skipped = list(read.skipped)
        for id_, sample in samples.items():
            try:
                pictures[id_] = sample.load()
            except ImageError as error:
                skipped.append(Skipped(id_, error.reason))
        if not pictures:
            raise UsageError(
                "no image of the questions can be read",
                got=f"{chosen.questions}: {skipped[-1].reason}",
                want="images of the questions",
            )
        questions = [q for q in read.rows if q.image.id in pictures]
        numbers = {id_: number for number, id_ in enumerate(pictures)}
        tokens = TokenSet.of(encoder, list(pictures.values()), layer)
        image = np.array([numbers[q.image.id] for q in questions])
        return cls(name, vlm, chosen.questions, questions, tokens, image, shuffled), skipped

    def ask(
        self,
        tokens: Float[Tensor, "b n c"],
        images: Sequence[int] | None = None,
        vlm: VLM | None = None,
    ) -> list[str]:
        """The greedy answers.

        Args:
            tokens: of every image, on the full grid.
            images: for each question, the question whose image is shown; None for its own.
            vlm: another VLM than that of the task.

        Returns:
            One text per question.
        """
        data: Any = _Shown(self.questions, tokens, self.image)
        return answer_all(vlm or self.vlm, data, images=images)

    def ask_each(self, method: TokenReducer, grid: Grid, budget: Grid) -> list[str]:
        """The greedy answers where a method keeps other tokens for each question.

        Args:
            method: needs `SideInputs.text`.
            grid: (rows, columns) of the tokens.
            budget: (rows, columns) of the kept tokens.

        Returns:
            One text per question.

        Raises:
            UsageError: the method cannot give the budget, or lacks another input.
        """
        texts: list[str] = []
        for rows in batches_of(range(len(self.questions)), BATCH):
            shown = self.pictures.part(self.image[list(rows)])
            side = replace(shown.side, text=self.relevance(rows))
            kept = method.compress(shown.tokens, grid, budget, side)
            data: Any = _Shown(
                [self.questions[row] for row in rows], method.decode(kept, grid),
                np.arange(len(rows)),
            )  # fmt: skip
            texts += answer_all(self.vlm, data)
        return texts

    @torch.no_grad()
    def relevance(self, rows: Sequence[int]) -> Float[Tensor, "r n"]:
        """How well each patch of a question's image matches the question.

        Args:
            rows: numbers of questions.

        Returns:
            The mean cosine, -1 to 1, of the patch's projected token with the embeddings of the
            question's tokens in the LLM's input; where the VLM shuffles pixels, of the window's.

        Raises:
            UsageError: the projector does not give one token for each place.
        """
        vlm = self.vlm
        if vlm.image_tokens != vlm.reduction.tokens:
            raise UsageError(
                "the projector mixes all patches, so no image token is that of a place",
                got=f"{self.name}: {vlm.design.projector}",
                want="a VLM with another projector, or a method that needs no question",
            )
        embed = vlm.llm.get_input_embeddings()

        def words(question: str) -> Float[Tensor, "w d"]:
            ids = vlm.prompter.tokenizer(question, add_special_tokens=False).input_ids
            return embed(torch.tensor(ids, device=vlm.device))

        tokens = self.pictures.tokens[torch.from_numpy(self.image[list(rows)])]
        pairs = zip(vlm.image_embeddings(tokens), rows, strict=True)
        cosine = [match(image, words(self.questions[row].text)) for image, row in pairs]
        return torch.stack(cosine).cpu()[:, window_of(vlm.grid, vlm.reduction.windows)]

    def ask_method(self, method: str, rebuilt: Float[Tensor, "b n c"], budget: Grid) -> list[str]:
        """The greedy answers from the tokens of a method.

        Args:
            method: its name.
            rebuilt: what it decodes, for every image.
            budget: (rows, columns) of the kept tokens.

        Returns:
            One text per question; none for pixel shuffle where no VLM was trained on so many.
        """
        if method != PIXEL_SHUFFLE:
            return self.ask(rebuilt)
        vlm = self.shuffled.get(budget)
        return [] if vlm is None else self.ask(rebuilt, vlm=vlm)

    def right(self, draws: Sequence[Sequence[str]]) -> Right:
        """Which answers match exactly.

        Args:
            draws: one text per question, from each draw of a random method.

        Returns:
            For each question the share of draws that are right, from 0 to 1.
        """
        matches = [
            [exact_match(text, q.answers) for text, q in zip(texts, self.questions, strict=True)]
            for texts in draws
        ]
        return np.array(matches, dtype=np.float64).mean(axis=0)

    @cached_property
    def texts(self) -> dict[str, list[list[str]]]:
        """The answers from all tokens of the question's image, and of another question's image."""
        tokens = self.pictures.tokens
        other = self.ask(tokens, other_images(self.image, 0))
        return {ALL_TOKENS: [self.ask(tokens)], OTHER_IMAGE: [other]}

    @cached_property
    def full(self) -> Right:
        """Which questions are answered right from all tokens."""
        return self.right(self.texts[ALL_TOKENS])

    @cached_property
    def floor(self) -> Right:
        """Which are answered right from all tokens of another question's image."""
        return self.right(self.texts[OTHER_IMAGE])

    def ends(self, asked: Bool[np.ndarray, " q"]) -> dict[str, Any]:
        """The number of the questions `asked`; the scores of all tokens and of the floor on them"""
        image = self.image[asked]
        ends = {"full": self.full, "floor": self.floor}
        return {
            "questions": len(image),
            "images": len(set(image.tolist())),
            **{name: accuracy(right[asked], image).to_json() for name, right in ends.items()},
        }

    def kept(self, right: Right, asked: Bool[np.ndarray, " q"]) -> Score:
        """The share kept of the right answers to the questions `asked`."""
        image = self.image[asked]
        full, floor, score = (_by_image(s[asked], image) for s in (self.full, self.floor, right))
        return RetentionScale(full, floor).kept(score, least_half_width(image))

    def lines(self, texts: Mapping[str, Sequence[Sequence[str]]]) -> str:
        """All answers as JSON, one line per question.

        Args:
            texts: name of a method with its tokens -> answers of each draw.

        Returns:
            Lines that each end with a line feed.
        """
        return "".join(
            json.dumps({
                "id": q.id, "image": q.image.id, "kind": q.kind, "question": q.text,
                "answers": q.answers, "generated": {
                    name: [draw[i] for draw in draws]
                    for name, draws in {**self.texts, **texts}.items() if all(draws)
                },
            }, ensure_ascii=False) + "\n"
            for i, q in enumerate(self.questions)
        )  # fmt: skip


def answering_vlm(name: str, encoder: VisionEncoder, layer: int, trusted: bool = False) -> VLM:
    """A VLM that can answer from the rebuilt tokens of a method.

    Args:
        name: a bundled VLM, or the folder of one.
        encoder: of the compressed tokens; the VLM runs on its device, in its dtype.
        layer: of the compressed tokens.
        trusted: whether Python that comes with a checkpoint may run.

    Returns:
        The VLM.

    Raises:
        UsageError: the VLM has another encoder or layer, or reduces the tokens itself.
        MissingError: the VLM is not there.
    """
    vlm = VLM.load(name, *encoder.where, trust_remote_code=trusted)
    if (fingerprint_of(vlm), vlm.layers()) != (encoder.fingerprint, [layer]):
        raise UsageError(
            "the VLM answers from the tokens of another encoder or layer",
            got=f"{name}: {'+'.join(e.name for e in vlm.encoders)}, layer {vlm.layers()[0]}",
            want=f"{encoder.name}, layer {layer}",
            hint="choose them with --model and --layer",
        )
    if not vlm.reduction.lossless:
        raise UsageError(
            "the VLM reduces the tokens itself, which hides what a method loses",
            got=f"{name}: --reduce {vlm.reduction.spec}",
            want="a VLM of --reduce none or pixel_shuffle:S",
        )
    return vlm


def shuffling_vlms(
    vlm: VLM, names: Sequence[str], encoder: VisionEncoder, layer: int, trusted: bool = False
) -> dict[Grid, VLM]:
    """VLMs that differ from `vlm` in the number of shuffled tokens, and in the projector, alone.

    Args:
        vlm: of the encoder and the layer.
        names: of other VLMs; empty: the bundled ones that qualify.
        encoder: of the tokens.
        layer: of the tokens.
        trusted: whether Python that comes with a checkpoint may run.

    Returns:
        (rows, columns) of the shuffled tokens -> a VLM, `vlm` itself where it shuffles.

    Raises:
        UsageError: a named one has another encoder, layer or language model, or does not shuffle.
        MissingError: a named one is not there.
    """

    def shuffles(other: VLM) -> bool:
        spec = str(other.reduction.spec).partition(":")[0]
        return spec == PIXEL_SHUFFLE and other.image_tokens == other.reduction.tokens

    def qualifies(other: VLM) -> bool:
        own = fingerprint_of(other), other.layers()
        if own != (encoder.fingerprint, [layer]) or not shuffles(other):
            return False
        ours, theirs = vlm.llm.state_dict(), other.llm.state_dict()
        return ours.keys() == theirs.keys() and all(
            torch.equal(weight, theirs[name]) for name, weight in ours.items()
        )

    found = {vlm.reduction.windows: vlm} if shuffles(vlm) else {}
    for name in names or [n for n in bundled_models("vlm") if n != vlm.name]:
        other = VLM.load(name, *encoder.where, trust_remote_code=trusted)
        if qualifies(other):
            found.setdefault(other.reduction.windows, other)
        elif names:
            raise UsageError(
                "the VLM cannot answer for pixel shuffle beside the other methods",
                got=f"{name}: {other.name}, layer {other.layers()[0]}, "
                f"--reduce {other.reduction.spec}",
                want=f"the language model of {vlm.name}, {encoder.name}, layer {layer}, and "
                "--reduce pixel_shuffle:S",
                hint=f"encoderlab vlm train --llm {vlm.name} --train projector "
                f"--encoder {encoder.name} --layer {layer} --reduce pixel_shuffle:S",
            )
    return found


def judge(
    task: AnswerTask, records: Sequence[dict[str, Any]], right: Sequence[Right | None]
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Adds the answers to the records of methods.

    Args:
        task: the questions.
        records: one per method and budget; gets "answers" (share of right answers) and more entries
            of "kept", on all questions and on the VTC split (after Liao et al. 2025,
            arXiv:2510.07143): the questions that the smaller image with as many tokens gets wrong.
        right: for each record, whether each question is answered right, a mean over draws; None
            where there are no answers, whose record gets none.

    Returns:
        What was asked, with the scores of all tokens and of the floor on each VTC split; and the
        paired comparisons at each budget, of every method with all tokens and of each two methods,
        each family corrected by Holm's procedure.
    """
    splits, verdicts = [], []
    for record in records:
        record["answers"] = {}
    for budget in dict.fromkeys(tuple(record["budget"]) for record in records):
        here = {
            record["method"]: (record, values)
            for record, values in zip(records, right, strict=True)
            if tuple(record["budget"]) == budget and values is not None
        }
        asked = {ANSWERS: np.ones(len(task.questions), dtype=bool)}
        if SMALLER in here and (wrong := here[SMALLER][1] == 0).any():
            asked[HARD] = wrong
            splits.append({"budget": list(budget), **task.ends(wrong)})
        for split, chosen in asked.items():
            image, columns = task.image[chosen], {ALL_TOKENS: task.full[chosen]}
            for method, (record, values) in here.items():
                if (split, method) == (HARD, SMALLER):  # wrong by construction
                    continue
                columns[method] = values[chosen]
                score = accuracy(values[chosen], image, float(task.floor[chosen].mean()))
                record["answers"][split] = score.to_json()
                record["kept"][split] = task.kept(values, chosen).to_json()
            # Random comes last, so that it is the second of every pair.
            methods = sorted(
                {*columns} - {ALL_TOKENS}, key=lambda m: (m == RANDOM, [*here].index(m))
            )
            families = (
                [(method, ALL_TOKENS) for method in methods],
                itertools.combinations(methods, 2),
            )
            verdicts += [
                {"task": split, "budget": list(budget), **verdict}
                for family in families
                for verdict in _compared(list(family), columns, image)
            ]
    about = {
        "model": task.name, "fingerprint": fingerprint_of(task.vlm), "data": task.data,
        "metric": "exact match", "floor_is": OTHER_IMAGE,
        "shuffled": {f"{h}x{w}": vlm.name for (h, w), vlm in task.shuffled.items()},
        **task.ends(np.ones(len(task.questions), dtype=bool)), "vtc": splits,
        "predictors": predictors(records),
    }  # fmt: skip
    return about, verdicts


def _compared(
    pairs: Sequence[tuple[str, str]], right: Mapping[str, Right], image: Int[np.ndarray, " q"]
) -> list[dict[str, Any]]:
    """`Comparison.to_json()` of each pair, with p corrected for the number of pairs (Holm 1979)."""

    def compare(pair: tuple[str, str], comparisons: int = 1) -> Comparison:
        return compare_answers(*pair, (right[pair[0]], right[pair[1]]), image, comparisons)

    p = [1.0 if (found := compare(pair).p) is None else found for pair in pairs]
    corrected = holm_p(p)
    rejected = sum(value < LEVEL for value in corrected)
    rank = np.argsort(np.argsort(p, kind="stable"))
    # The level of an interval is that of Holm's step, 1 - 0.05 / (tests that were left), so that
    # its verdict is that of the corrected p.
    return [
        {**compare(pair, len(pairs) - min(int(place), rejected)).to_json(), "p_corrected": value}
        for pair, place, value in zip(pairs, rank, corrected, strict=True)
    ]


def predictors(records: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """How well each other score predicts the answers, the best first.

    Args:
        records: with "answers"; left out are those without any, those without another score, and
            pixel shuffle, whose answers are those of other VLMs.

    Returns:
        For each score: "rho" over all methods and budgets, with an interval over methods, since the
        budgets of one method are no independent samples; "rho_of_methods", of the methods' means
        over the budgets that all share, with p by permuting methods and p corrected for the number
        of scores (Holm); and whether |rho| cannot be told apart from that of the best ("is_best").
    """
    records = [
        record for record in records
        if record["method"] != PIXEL_SHUFFLE and ANSWERS in record["answers"]
        and any(record[name] for name in SCORES)
    ]  # fmt: skip
    own = [
        {name: record[name] for name in SCORES} | record["reading"]
        | {task: v for task, v in record["kept"].items() if task not in (ANSWERS, HARD)}
        for record in records
    ]  # fmt: skip
    # A record lacks the scores that its method does not have.
    scores = {
        name: [_value(one.get(name)) for one in own]
        for name in dict.fromkeys(itertools.chain.from_iterable(own))
    }
    outcome = np.array([record["answers"][ANSWERS]["value"] for record in records])
    methods, budgets = ([str(record[name]) for record in records] for name in ("method", "budget"))
    rows: list[dict[str, Any]] = []
    left_out: dict[str, np.ndarray] = {}
    for name, values in scores.items():
        found = correlate(values, outcome.tolist(), methods, conditions=budgets)
        rho, left_out[name] = _rho(np.array(values), outcome, np.array(methods))
        rows.append({
            "score": name, "rho": rho.to_json(), "methods": found.families,
            "rho_of_methods": found.spearman, "p": found.spearman_p, "p_corrected": None,
            "is_best": False,
        })  # fmt: skip
    tested = [row for row in rows if row["p"] is not None]
    for row, p in zip(tested, holm_p([row["p"] for row in tested]), strict=True):
        row["p_corrected"] = p
    known = [row for row in rows if row["rho"]["value"] is not None]
    known.sort(key=lambda row: -abs(row["rho"]["value"]))
    for row in known:
        z, parts = zip(
            *((abs(fisher(r["rho"]["value"])), np.sign(r["rho"]["value"]) * left_out[r["score"]])
              for r in (known[0], row)),
            strict=True,
        )  # fmt: skip
        # The comparisons with all other scores are enough for the best one to be among those that
        # are left, with 95 % confidence (Gupta 1965).
        others = len(known) - 1
        verdict = compare_paired("", "", z, parts, len(parts[0]), comparisons=others).verdict
        row["is_best"] = verdict is Verdict.CANNOT_DISTINGUISH
    return [*known, *(row for row in rows if row["rho"]["value"] is None)]


def _value(score: Mapping[str, Any] | None) -> float:
    """Of a score; nan where there is none."""
    return np.nan if score is None or score["value"] is None else score["value"]


def _rho(
    values: Float[np.ndarray, " k"], outcome: Float[np.ndarray, " k"], methods: np.ndarray
) -> tuple[Score, Float[np.ndarray, " m"]]:
    """Spearman's rho of the points with a value, and Fisher's z of it without each method."""
    # A method without a value leaves z as it is: the parts of all scores have one order, and the
    # interval is of those with a value.
    names, known = np.unique(methods), np.isfinite(values)
    values, outcome, methods = values[known], outcome[known], methods[known]
    if (count := len(set(methods))) < FEWEST:
        reason = f"measured on {count} methods, and {FEWEST} are needed"
        return undefined(reason, len(values), RHO), np.array([])
    if np.ptp(values) == 0 or np.ptp(outcome) == 0:
        return undefined("all points have one value", len(values), RHO), np.array([])
    rho = float(stats.spearmanr(values, outcome).statistic)
    without = np.array([
        stats.spearmanr(values[methods != name], outcome[methods != name]).statistic
        for name in names
    ])  # fmt: skip
    # Equal orders have no variance to compute an interval from, which is no certainty.
    parts = without[np.isin(names, methods)]
    ends = (None, None) if abs(rho) > 1 - 1e-9 else jackknife_interval(rho, parts, correlation=True)
    return Score(rho, *ends, 0.0, len(values), RHO), fisher(without)


def _by_image(values: Right, image: Int[np.ndarray, " q"]) -> PerImage:
    """One value per image whose mean is the mean over questions."""
    sums = np.bincount(np.unique(image, return_inverse=True)[1], weights=values)
    return sums * len(sums) / len(values)
