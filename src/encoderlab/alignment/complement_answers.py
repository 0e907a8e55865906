"""Right answers of small VLMs that read A, B, both, or A and a rotated copy of A, for `encoderlab
complement --answers`. Trains and counts through the cells of `answers`.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Bool

from encoderlab.alignment.answers import Cells, right_answers
from encoderlab.alignment.data import AlignmentData
from encoderlab.alignment.settings import Complement
from encoderlab.core.results import Result
from encoderlab.encoders.layers import layer_numbers
from encoderlab.encoders.vision import load_vision
from encoderlab.feature_store.extract import StoredFeatures, extract_images
from encoderlab.metrics.answers import accuracy_over_seeds, compare_answers_over_seeds
from encoderlab.metrics.uncertainty import Comparison, Verdict
from encoderlab.models.token_grid import Grid
from encoderlab.vlm.reduction import Reduction
from encoderlab.vlm.side_by_side import SideBySide, Standardised, with_rotated_copy

if TYPE_CHECKING:
    from encoderlab.core.score import Score


@dataclass(frozen=True)
class AddedAnswers(Result):
    """What B adds to A for the answers of small VLMs with one LLM.

    Args:
        base, added, both, copy: share of right answers of VLMs that read A, B, both side by side,
            and A beside a rotated copy of itself as wide as B; chance is that of the LLM trained
            without the image.
        gain: both against A.
        over_copy: both against `copy`.
        gain_by_seed, over_copy_by_seed: the differences of each seed.
        grid: (rows, columns) of the patch tokens of all four.
    """

    base: Score
    added: Score
    both: Score
    copy: Score
    gain: Comparison
    over_copy: Comparison
    gain_by_seed: tuple[float, ...]
    over_copy_by_seed: tuple[float, ...]
    grid: tuple[int, int]

    @property
    def adds(self) -> bool:
        """Whether both are ahead of A alone, and of A with a copy of itself."""
        return {self.gain.verdict, self.over_copy.verdict} == {Verdict.AHEAD}

    def to_json(self) -> dict[str, Any]:
        """The fields and the verdict."""
        return super().to_json() | {"adds": self.adds}


@dataclass(frozen=True)
class ComplementAnswers(Result):
    """The answers of every ordered pair of encoders with every LLM.

    Args:
        data: the questions.
        questions, test_questions: how many were trained on, and asked.
        test_images: how many images are asked about.
        seeds: of the training.
        vlms: how many VLMs were trained, in this run or before.
        pairs: (A, B, LLM) -> what B adds.
    """

    data: str
    questions: int
    test_questions: int
    test_images: int
    seeds: tuple[int, ...]
    vlms: int
    pairs: dict[tuple[str, str, str], AddedAnswers]

    def to_json(self) -> dict[str, Any]:
        """The fields without the pairs, which are in the rows of the result."""
        return {key: value for key, value in vars(self).items() if key != "pairs"}


@dataclass(frozen=True)
class Reads:
    """What a VLM reads: the tokens of encoders on a grid, and a copy of `copy_width` channels."""

    encoders: tuple[str, ...]
    grid: Grid
    copy_width: int | None = None

    def __str__(self) -> str:
        copy = "" if self.copy_width is None else " and a rotated copy"
        return ("+".join(self.encoders) or "blind") + copy


def answers_of_pairs(settings: Complement, aligned: AlignmentData) -> ComplementAnswers:
    """Trains every VLM that is not stored in its cell, and compares accuracies on the test
    questions.

    Args:
        settings: the questions, the seeds and the folder of the cells.
        aligned: the encoders and LLMs.

    Returns:
        What each encoder adds to each other one.

    Raises:
        UsageError: no question, an image in both splits, or a grid that the reduction does not
            divide.
        MissingError: a file or a checkpoint is not there.
        WorkError: a run diverged.
    """
    cells = Cells(settings, aligned)
    towers = _Towers(cells)
    pairs = list(itertools.permutations(aligned.encoders, 2))
    reads = {pair: towers.reads(*pair) for pair in pairs}
    for of_pair in reads.values():  # refused before the first VLM is trained
        Reduction(None if settings.reduce in ("", "none") else settings.reduce, of_pair[0].grid)
    blind = Reads((), (0, 0))
    of_each = dict.fromkeys([blind, *(one for of_pair in reads.values() for one in of_pair)])
    wanted = list(itertools.product(of_each, aligned.text, cells.seeds))
    records = {}
    for number, (vlm, llm, seed) in enumerate(wanted, start=1):
        what = f"VLM {number} of {len(wanted)}: {vlm}, {llm}, seed {seed}"
        made = towers.side_by_side(vlm, seed) if vlm.encoders else None
        records[vlm, llm, seed] = cells.record(vlm.encoders, llm, seed, what, made)
    test, image = cells.asked_of_all(records.values())
    right = {
        (vlm, llm): right_answers([records[vlm, llm, seed] for seed in cells.seeds], test)
        for vlm, llm in itertools.product(of_each, aligned.text)
    }
    count = len(pairs) * len(aligned.text)

    def added(pair: tuple[str, str], llm: str) -> AddedAnswers:
        chance = float(right[blind, llm].mean())
        base, alone, both, copy = (right[vlm, llm] for vlm in reads[pair])

        def share(own: Bool[np.ndarray, "s q"]) -> Score:
            return accuracy_over_seeds(own, image, chance)

        def against(name: str, other: Bool[np.ndarray, "s q"]) -> Comparison:
            return compare_answers_over_seeds("A with B", name, (both, other), image, count)

        return AddedAnswers(
            share(base), share(alone), share(both), share(copy),
            against("A", base), against("A with a copy of A", copy),
            tuple((both.mean(axis=1) - base.mean(axis=1)).tolist()),
            tuple((both.mean(axis=1) - copy.mean(axis=1)).tolist()),
            reads[pair][0].grid,
        )  # fmt: skip

    return ComplementAnswers(
        settings.data, len(cells.train), len(test), len(set(image.tolist())), cells.seeds,
        len(wanted), {(*pair, llm): added(pair, llm) for llm in aligned.text for pair in pairs},
    )  # fmt: skip


@dataclass(frozen=True)
class _Tower:
    """What is kept of an encoder when it is unloaded: its stored tokens of the training images."""

    grid: Grid
    width: int
    stored: StoredFeatures
    what: str


class _Towers:
    """The encoders of a run, and the statistics of their tokens on the training images."""

    def __init__(self, cells: Cells) -> None:
        self.of = {name: _tower(cells, name) for name in cells.aligned.encoders}
        self.statistics: dict[tuple[str, Grid], Standardised] = {}

    def reads(self, base: str, added: str) -> tuple[Reads, Reads, Reads, Reads]:
        """What the VLMs of a pair read, on the grid of the smaller one: more tokens are no gain.

        Args:
            base: A.
            added: B.

        Returns:
            A, B, both, and A with its copy.
        """
        a, b = self.of[base], self.of[added]
        grid = min(a.grid[0], b.grid[0]), min(a.grid[1], b.grid[1])
        both = tuple(sorted((base, added)))  # both orders of a pair share a VLM
        return (
            Reads((base,), grid), Reads((added,), grid), Reads(both, grid),
            Reads((base,), grid, b.width),
        )  # fmt: skip

    def side_by_side(self, vlm: Reads, seed: int) -> tuple[SideBySide, str]:
        """What makes the tokens, and the words that name it in a cell."""
        parts = tuple(self._standardised(name, vlm.grid) for name in vlm.encoders)
        words = f"standardised on {vlm.grid[0]} x {vlm.grid[1]}"
        if vlm.copy_width is None:
            return SideBySide(parts), words
        # Each seed draws its own rotation, so that the spread over seeds has that of rotations.
        made = with_rotated_copy(parts[0], vlm.copy_width, seed)
        return made, f"{words} with a rotated copy of {vlm.copy_width}"

    def _standardised(self, name: str, grid: Grid) -> Standardised:
        if (name, grid) not in self.statistics:
            tower = self.of[name]
            self.statistics[name, grid] = Standardised.on(
                tower.stored, tower.what, tower.grid, grid
            )
        return self.statistics[name, grid]


def _tower(cells: Cells, name: str) -> _Tower:
    """The tokens of the images that VLMs are trained on, by the encoder as training loads it."""
    vlm = cells.vlm
    encoder = load_vision(
        name, str(cells.fabric.device), "float32", trust_remote_code=vlm.trust_remote_code
    )
    (layer,) = layer_numbers([cells.settings.layer], encoder.n_layers)
    images = list({question.image.id: question.image for question in cells.train}.values())
    what = f"patches@{layer}"
    stored = extract_images(encoder, images, vlm.features_dir, what=[what])
    return _Tower(encoder.grid, encoder.width, stored, what)
