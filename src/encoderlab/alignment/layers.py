"""Every layer of an encoder with every layer of an LLM. Computes no metric itself."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from encoderlab.alignment.data import SHUFFLED, AlignmentData, extract_features
from encoderlab.alignment.settings import Layers
from encoderlab.alignment.tables import AlignmentResult, notes
from encoderlab.core.results import Block, Result
from encoderlab.core.spec import takes
from encoderlab.errors import UsageError

if TYPE_CHECKING:
    from encoderlab.metrics.uncertainty import Comparison

FEWEST = 16  # two halves, each with enough to compare on


@dataclass(frozen=True)
class LayerMap(Result):
    """One encoder with one LLM; cell [v, t] is the mean patch of layer v with layer t.

    Args:
        cka: debiased linear CKA.
        p: of each cell against the best of all cells under the same shuffles.
        best: the layers of the highest cell, its value and p; None where nothing is defined.
        penultimate: the pair that habit takes: the last vision layer but one, with the best text
            layer.
        choice: the best vision layer against the penultimate: layers chosen on one half of the
            samples, compared on the other.
    """

    encoder: str
    llm: str
    cka: np.ndarray
    p: np.ndarray
    best: dict[str, Any] | None
    penultimate: dict[str, Any]
    choice: Comparison | None
    text: str
    control_of: str | None = None

    def to_json(self) -> dict[str, Any]:
        """The fields, with CKA and p as lists of rows."""
        return super().to_json() | {"cka": self.cka.tolist(), "p": self.p.tolist()}


@dataclass(frozen=True)
class LayersResult(AlignmentResult):
    """A map per pair."""

    draw: ClassVar = "encoderlab.alignment.plots.compare:layers"
    records: ClassVar = "pairs"

    pairs: tuple[LayerMap, ...]

    def blocks(self) -> list[Block]:
        """One sentence per pair of encoder and LLM."""
        return [notes(self.facts), "\n".join(pair.text for pair in self.pairs)]


@takes(Layers)
def run(settings: Layers, out: Path | None = None) -> LayersResult:
    """Debiased CKA of all layers of every pair; writes a heat map for each to `out` if given.

    Returns:
        CKA and p of each pair (vision layer, text layer), and whether the best layer is better than
        the penultimate.

    Raises:
        MissingError: data or a model is not there.
        UsageError: too few samples, a model twice, or features that are not finite.
    """
    aligned = extract_features(settings, layers=True)
    return analyse(aligned, out, svg=settings.svg)


def analyse(aligned: AlignmentData, out: Path | None = None, *, svg: bool = False) -> LayersResult:
    """The maps of features that are extracted already.

    Args:
        aligned: with layers.
        out: folder for figures; None draws none.
        svg: whether figures are SVG too.

    Returns:
        As of `run`, of the encoders that give layers.

    Raises:
        UsageError: no encoder gives layers.
    """
    from encoderlab.core.progress import progress

    names = [name for name in aligned.vision if not name.startswith(SHUFFLED)]
    without = [name for name in names if not aligned.vision[name].layers]
    if without == names:
        raise UsageError(
            "no encoder gives its layers", got=", ".join(names), want="a vision transformer"
        )
    left_out = tuple(f"layers: {name} gives none, and is left out" for name in without)
    names = [name for name in names if name not in without]
    pairs = []
    with progress("comparing layers", total=len(names) * len(aligned.text), unit="pair") as bar:
        for encoder in names:
            for llm in aligned.text:
                pairs.append(_map(aligned, encoder, llm))
                bar.advance()
    return LayersResult(
        tuple(pairs), facts=aligned.facts(), warnings=(*aligned.warnings(), *left_out)
    ).with_figures(out, svg)


def _map(aligned: AlignmentData, encoder: str, llm: str) -> LayerMap:
    from encoderlab.alignment.pair_scores import LAYER, PERMUTATIONS, gram
    from encoderlab.metrics import cka
    from encoderlab.metrics.uncertainty import max_corrected_p

    control_of = aligned.vision[encoder].of
    vision, text = (
        [gram(aligned, f"{name}{LAYER}{k}") for k in sorted(features[name].layers)]
        for name, features in ((encoder, aligned.vision), (llm, aligned.text))
    )
    empty = np.full((len(vision), len(text)), np.nan)
    habit = len(vision) - 2
    penultimate: dict[str, Any] = {"vision": habit, "value": None}
    table = empty if aligned.n < 4 else cka.grid(vision, text)
    if np.isnan(table).all():
        reason = (
            f"{aligned.n} samples are fewer than 4"
            if aligned.n < 4
            else "the features are the same for every sample"
        )
        sentence = f"{encoder} with {llm}: undefined, {reason}"
        penultimate["text"] = len(text) - 1
        return LayerMap(encoder, llm, table, empty, None, penultimate, None, sentence, control_of)
    null = cka.cka_permutation_null(vision, text, PERMUTATIONS, aligned.seed)
    p = max_corrected_p(np.nan_to_num(table, nan=-2), np.nan_to_num(null, nan=-2))
    p = np.where(np.isnan(table), np.nan, p)
    v, t = _highest(table)
    best = {"vision": v, "text": t, "value": float(table[v, t]), "p": float(p[v, t])}
    penultimate["text"] = t
    if not np.isnan(table[habit, t]):
        penultimate["value"] = float(table[habit, t])
    choice = _choice(aligned, vision, text, habit)
    sentence = (
        f"{encoder} with {llm}: layer {v} of {len(vision) - 1} with layer {t} of {len(text) - 1} "
        f"is the best of {table.size} pairs ({best['value']:.3f}, p = {best['p']:.2g} corrected "
        f"for all of them); the penultimate layer {habit} has {table[habit, t]:.3f}"
    )
    if choice is None:
        sentence += f"; fewer than {FEWEST} images are too few to say whether that matters"
    elif choice.a == choice.b:
        sentence += "; chosen on one half of the samples it is the penultimate itself"
    else:
        sentence += f"; chosen on one half and compared on the other: {choice.to_text()}"
    return LayerMap(encoder, llm, table, p, best, penultimate, choice, sentence, control_of)


def _choice(
    aligned: AlignmentData, vision: list[Any], text: list[Any], habit: int
) -> Comparison | None:
    """Whether the best vision layer is better than the penultimate one."""
    # Chosen on one half of the images, compared on the other: the best of many looks better than it
    # is.
    import torch

    from encoderlab.alignment.pair_scores import compare_grams
    from encoderlab.metrics import cka

    if aligned.n < FEWEST:
        return None
    order = np.random.default_rng(aligned.seed).permutation(np.sort(aligned.contents))
    first = np.isin(aligned.contents, order[: aligned.n // 2])
    halves = [torch.from_numpy(np.flatnonzero(rows)) for rows in (first, ~first)]
    v, t = _highest(cka.grid(*([g.take(halves[0]) for g in side] for side in (vision, text))))
    target = text[t].take(halves[1])
    pair = [vision[k].take(halves[1]) for k in (v, habit)]
    left_out = cka.without_each(pair[0], target), cka.without_each(pair[1], target)
    return compare_grams((f"layer {v}", f"layer {habit}"), pair, target, left_out)


def _highest(table: np.ndarray) -> tuple[int, int]:
    v, t = np.unravel_index(np.nanargmax(table), table.shape)
    return int(v), int(t)
