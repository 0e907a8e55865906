"""Measures token reduction: reconstruction, distribution, re-injection, readout, neighbours.

Scores are computed per image, so that intervals and comparisons are paired over images. All tokens
are of one layer. Draws and prints nothing.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from encoderlab.compression.answers import AnswerTask
from encoderlab.compression.neighbour_agreement import max_sim, neighbour_agreement
from encoderlab.compression.readout import read_out
from encoderlab.compression.reinjection import Reinjection
from encoderlab.compression.retention import PerImage, RetentionScale, share
from encoderlab.compression.token_set import TokenSet
from encoderlab.core.score import Score
from encoderlab.losses.distribution import PROJECTIONS, directions
from encoderlab.metrics import cka
from encoderlab.metrics.uncertainty import jackknife_interval
from encoderlab.models.token_grid import Grid
from encoderlab.patch_tokens.pooling import RandomInWindow
from encoderlab.patch_tokens.reducer import CompressedTokens, TokenReducer
from encoderlab.patch_tokens.statistics import norms, outliers

NMSE = "squared error over the variance about the mean token; jackknife over images"
DISTANCE = "sliced Wasserstein distance; delete-a-tenth jackknife over images"
MEAN = "mean over images; jackknife over images"
COMPRESS_BATCH = 128
LOYALTY_IMAGES, SHOWN = 150, 4
PARTS, ROUGH = 10, 16


@dataclass(frozen=True)
class Measurement:
    """One method at one budget; None or absent where it was not measured, or has no such score.

    A method that needs a question has answers alone, and one whose kept tokens have more channels
    than tokens has nothing that compares the two: distance, norm ratio, readings and neighbours.

    Args:
        milliseconds: time to compress one image on this machine.
        distance: sliced Wasserstein between the compressed tokens and real ones, standardised; its
            interval leaves out a tenth of the images at a time. None for tokens of another width.
        per_image: task -> score of every image, mean over the seeds of a random method.
        kept: task -> share of the score kept, from 0 (floor) to 1 (all tokens).
        reading: part of a reading task -> accuracy of a head on the compressed tokens.
        neighbours: share of each image's nearest neighbours that stay nearest.
        without_parts: error without each image, and distance without each tenth of the images.
        error_map: squared error of every token.
        decoded: reconstructed tokens of the first images.
        texts: the VLM's answers to all questions, for each seed of a random method.
    """

    method: str
    budget: Grid
    tokens: int
    milliseconds: float | None = None
    operations: float | None = None
    nmse: Score | None = None
    nmse_without_outliers: Score | None = None
    cosine: Score | None = None
    distance: Score | None = None
    norm_ratio: float | None = None
    neighbours: Score | None = None
    cka: Score | None = None
    kept: Mapping[str, Score] = field(default_factory=dict)
    reading: Mapping[str, Score] = field(default_factory=dict)
    per_image: Mapping[str, PerImage] = field(default_factory=dict, repr=False)
    without_parts: Mapping[str, np.ndarray] = field(default_factory=dict, repr=False)
    error_map: Float[Tensor, "b n"] | None = field(default=None, repr=False)
    decoded: Float[Tensor, "few n c"] | None = field(default=None, repr=False)
    texts: Sequence[Sequence[str]] = field(default=(), repr=False)


@dataclass(frozen=True)
class _Run:
    """Raw measurements of one method, or one seed of a random one."""

    per_image: dict[str, PerImage]
    distances: Float[np.ndarray, " parts"] | None
    norm_ratio: float | None
    milliseconds: float
    error_map: Float[Tensor, "b n"]
    decoded: Float[Tensor, "some n c"]
    texts: Sequence[str]


@dataclass(frozen=True)
class _Projected:
    """Sorted projections of the standardised tokens of all images, for sliced Wasserstein.

    Args:
        fine: on `PROJECTIONS` directions.
        rough: on `ROUGH` others.
        without: for each tenth of the images, `rough` of the rest.
    """

    fine: Float[np.ndarray, "fine bk"]
    rough: Float[np.ndarray, "rough bk"]
    without: Sequence[Float[np.ndarray, "rough rest"]]

    @classmethod
    def of(cls, projections: Float[np.ndarray, "directions bk"], images: int) -> _Projected:
        rough = projections[PROJECTIONS:]
        order = rough.argsort(axis=1)
        ordered = np.take_along_axis(rough, order, axis=1)
        tenth = (order // (rough.shape[1] // images)) * PARTS // images
        # What is left of a sorted row is sorted.
        without = [ordered[tenth != part].reshape(len(rough), -1) for part in range(PARTS)]
        return cls(np.sort(projections[:PROJECTIONS], axis=1), ordered, without)

    def distance(self, other: _Projected) -> float:
        """The sliced Wasserstein distance of both sets."""
        return _apart(self.fine, other.fine)

    def distances(self, other: _Projected) -> Float[np.ndarray, " parts"]:
        """The distance of all images, then without each tenth of them."""
        # Differences are measured with fewer projections, and added to the value of all.
        value, rough = self.distance(other), _apart(self.rough, other.rough)
        parts = zip(self.without, other.without, strict=True)
        return np.array([value, *(value + _apart(a, b) - rough for a, b in parts)])


@dataclass(frozen=True)
class ReadingTask:
    """Labelled pictures for the heads; `parts` names groups of test pictures, such as a height."""

    name: str
    train: TokenSet
    labels: Int[Tensor, " n"]
    test: TokenSet
    test_labels: Int[Tensor, " m"]
    classes: int
    parts: Mapping[str, slice]

    def hits(self, train: Tensor, test: Tensor) -> PerImage:
        """Hits on every test picture of heads trained on `train`, mean over their seeds."""
        args = (train, self.labels, test, self.test_labels, self.classes)
        return read_out(*args).mean(axis=0)


class Bench:
    """The measured images, the score of all tokens and of the mean token, and all measurements.

    Args:
        measured: tokens of the measured images.
        fit: tokens of other images, for the mean token and the standard deviation of channels.
        grid: (rows, columns) of the tokens.
        reinjection: the remaining blocks of the encoder; None where its family cannot run them.
        reading: tasks for the heads.
        loyalty: whether neighbours and CKA are measured.
        answers: questions to a VLM.
    """

    def __init__(
        self,
        measured: TokenSet,
        fit: TokenSet,
        grid: Grid,
        reinjection: Reinjection | None = None,
        reading: Sequence[ReadingTask] = (),
        loyalty: bool = True,
        answers: AnswerTask | None = None,
    ) -> None:
        self.measured, self.fit, self.grid = measured, fit, grid
        self.reinjection, self.reading, self.answers = reinjection, reading, answers
        self.mean, self.spread = fit.mean_token, fit.tokens.std(dim=(0, 1)).clamp_min(1e-6)
        tokens = measured.tokens
        length = norms(tokens.unflatten(1, grid))
        self.inliers = ~outliers(length).flatten(1)
        self.variances = (tokens - self.mean).double().square().sum(dim=-1)
        self.scales: dict[str, RetentionScale] = {}
        if reinjection is not None:
            full = reinjection.scores(tokens)
            floor = reinjection.scores(self.mean.expand_as(tokens))
            self.scales = {task: RetentionScale(full[task], floor[task]) for task in full}
        self.reading_scales = {
            part: RetentionScale(full, floor)
            for task in reading
            for part, full, floor in _ends_of_reading(task)
        }
        self._similar: Tensor | None = None
        self._gram: cka.Gram | None = None
        if loyalty:
            few = tokens[:LOYALTY_IMAGES]
            self._similar = max_sim(few, self.mean)
            self._gram = cka.Gram.of(few.flatten(1).numpy())
        self._directions = torch.cat(
            [
                directions(tokens.shape[-1], count, torch.Generator().manual_seed(0))
                for count in (PROJECTIONS, ROUGH)
            ],
            dim=1,
        )
        self._real: dict[tuple[Grid, int], _Projected] = {}

    @property
    def variance(self) -> float:
        """Mean squared distance of the measured tokens from the mean token."""
        return float(self.variances.mean())

    def floor_of_distribution(self, budget: Grid) -> float:
        """Sliced Wasserstein of two draws of one real token per window."""
        return self._real_tokens(budget).distance(self._real_tokens(budget, 1))

    def measure(self, name: str, methods: Sequence[TokenReducer], budget: Grid) -> Measurement:
        """Measures one method at one budget.

        Args:
            name: of the method, for the result.
            methods: the method, or the seeds of a random one, whose scores are averaged.
            budget: (rows, columns) of the kept tokens.

        Returns:
            All measurements.

        Raises:
            UsageError: the method cannot give the budget, or lacks an input.
        """
        if self.answers is not None and "text" in methods[0].needs:
            texts = [self.answers.ask_each(method, self.grid, budget) for method in methods]
            return Measurement(name, budget, budget[0] * budget[1], texts=texts)
        runs = [self._run(method, budget) for method in methods]
        first = runs[0]
        # The heads have seeds of their own: they read the first draw of a random method.
        read = self._reads(methods[0], budget)
        per_image = {
            task: np.mean([run.per_image[task] for run in runs], axis=0) for task in first.per_image
        }
        error, whole = per_image["error"], self.variances.sum(dim=1).numpy()
        without = {"error": (error.sum() - error) / (whole.sum() - whole)}
        distance = norm_ratio = None
        if distances := [run.distances for run in runs if run.distances is not None]:
            value, *parts = np.mean(distances, axis=0)
            without["distance"] = np.array(parts)
            ends = jackknife_interval(float(value), without["distance"]) or (None, None)
            distance = Score(float(value), *ends, None, len(error), DISTANCE)
            norm_ratio = float(np.mean([run.norm_ratio for run in runs if run.norm_ratio]))
        return Measurement(
            method=name,
            budget=budget,
            tokens=budget[0] * budget[1],
            milliseconds=float(np.mean([run.milliseconds for run in runs])),
            operations=self._operations(methods[0], budget),
            nmse=share(error, whole, NMSE),
            nmse_without_outliers=share(
                per_image["error_without_outliers"],
                (self.variances * self.inliers).sum(dim=1).numpy(),
                NMSE + "; without outlier tokens",
            ),
            cosine=_mean(per_image["cosine"]),
            distance=distance,
            norm_ratio=norm_ratio,
            neighbours=_mean(per_image["neighbours"]) if "neighbours" in per_image else None,
            cka=self._linear_cka(first.decoded),
            kept={task: scale.kept(per_image[task]) for task, scale in self.scales.items()},
            reading={part: _mean(values) for part, values in read.items()},
            per_image=per_image | read,
            without_parts=without,
            error_map=torch.stack([run.error_map for run in runs]).mean(dim=0),
            decoded=first.decoded[:SHOWN].clone(),
            texts=[run.texts for run in runs],
        )

    def _reads(self, method: TokenReducer, budget: Grid) -> dict[str, PerImage]:
        """Part of a task -> hits of the heads on the method's tokens."""
        hits: dict[str, PerImage] = {}
        for task in self.reading if self._comparable(method, budget) else ():
            train, test = (
                method.compress(half.tokens, self.grid, budget, half.side).tokens
                for half in (task.train, task.test)
            )
            own = task.hits(train, test)
            hits |= {part: own[rows] for part, rows in task.parts.items()}
        return hits

    def _comparable(self, method: TokenReducer, budget: Grid) -> bool:
        """Whether kept tokens have the channels of tokens."""
        channels = self.measured.tokens.shape[-1]
        return method.width(channels, self.grid, budget) == channels

    def _run(self, method: TokenReducer, budget: Grid) -> _Run:
        tokens = self.measured.tokens
        kept, decoded, milliseconds = self._compressed(self.measured, method, budget)
        error = (decoded - tokens).square().sum(dim=-1).double()
        cosine = F.cosine_similarity(decoded, tokens, dim=-1).double().mean(dim=1).numpy()
        per_image: dict[str, PerImage] = {
            "error": error.sum(dim=1).numpy(),
            "error_without_outliers": (error * self.inliers).sum(dim=1).numpy(),
            "cosine": cosine,
        }
        if self.reinjection is not None:
            per_image |= self.reinjection.scores(decoded)
        texts: list[str] = []
        if self.answers is not None:
            _, rebuilt, _ = self._compressed(self.answers.pictures, method, budget)
            texts = self.answers.ask_method(method.name, rebuilt, budget)
        distances = norm_ratio = None
        if self._comparable(method, budget):
            distances = self._projected(kept.tokens).distances(self._real_tokens(budget))
            norm_ratio = float(kept.tokens.norm(dim=-1).mean() / tokens.norm(dim=-1).mean())
            if self._similar is not None:
                few = kept.tokens[:LOYALTY_IMAGES]
                per_image["neighbours"] = neighbour_agreement(
                    self._similar, max_sim(few, self.mean)
                )
        # Copies, because a slice would keep the tokens of all images in memory.
        few = decoded[:LOYALTY_IMAGES].clone()
        return _Run(per_image, distances, norm_ratio, milliseconds, error.float(), few, texts)

    def _linear_cka(self, decoded: Float[Tensor, "some n c"]) -> Score | None:
        if self._gram is None:
            return None
        return cka.score(self._gram, cka.Gram.of(decoded.flatten(1).numpy()))

    def _operations(self, method: TokenReducer, budget: Grid) -> float:
        """Of compressing one image."""
        first = self.measured.part(slice(1))
        with FlopCounterMode(display=False) as counter:
            method.compress(first.tokens, self.grid, budget, first.side)
        return float(counter.get_total_flops())

    def _compressed(
        self, measured: TokenSet, method: TokenReducer, budget: Grid
    ) -> tuple[CompressedTokens, Float[Tensor, "b n c"], float]:
        """All images compressed and decoded, some at a time, and the time of one."""
        parts, decoded, seconds = [], [], 0.0
        for start in range(0, len(measured), COMPRESS_BATCH):
            some = measured.part(slice(start, start + COMPRESS_BATCH))
            clock = time.perf_counter()
            kept = method.compress(some.tokens, self.grid, budget, some.side)
            seconds += time.perf_counter() - clock
            parts.append(kept)
            decoded.append(method.decode(kept, self.grid))
        joined = {
            name: torch.cat([getattr(part, name) for part in parts])
            for name in ("tokens", "positions", "sizes", "assignment")
        }
        whole = CompressedTokens(**joined, grid=parts[0].grid)
        return whole, torch.cat(decoded), 1000 * seconds / len(measured)

    def _real_tokens(self, budget: Grid, draw: int = 0) -> _Projected:
        """One random real token of each window; another draw is another one."""
        if (budget, draw) not in self._real:
            tokens = RandomInWindow(101 + draw).compress(self.measured.tokens, self.grid, budget)
            self._real[budget, draw] = self._projected(tokens.tokens)
        return self._real[budget, draw]

    def _projected(self, tokens: Float[Tensor, "b k c"]) -> _Projected:
        standard = ((tokens - self.mean) / self.spread).flatten(0, 1)
        return _Projected.of((self._directions.T @ standard.T).numpy(), len(tokens))


def _ends_of_reading(task: ReadingTask) -> list[tuple[str, PerImage, PerImage]]:
    """Part -> hits of the heads on all tokens, and on the image's mean token alone."""
    full = task.hits(task.train.tokens, task.test.tokens)
    floor = task.hits(
        task.train.tokens.mean(dim=1, keepdim=True), task.test.tokens.mean(dim=1, keepdim=True)
    )
    return [(part, full[rows], floor[rows]) for part, rows in task.parts.items()]


def _apart(a: Float[np.ndarray, "p n"], b: Float[np.ndarray, "p n"]) -> float:
    """Mean Wasserstein-1 distance of sorted rows of equal length."""
    return float(np.abs(a - b).mean(dtype=np.float64))


def _mean(values: PerImage) -> Score:
    return share(values, np.ones(len(values)), MEAN)
