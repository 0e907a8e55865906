"""Every layer of an encoder with every layer of an LLM. Orchestration only."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from encoderlab.alignment.data import SHUFFLED, AlignmentData, extract_features
from encoderlab.alignment.settings import Layers
from encoderlab.alignment.tables import notes
from encoderlab.core.results import Block, as_text
from encoderlab.core.spec import takes

if TYPE_CHECKING:
    import numpy as np

    from encoderlab.metrics.uncertainty import Comparison

FEWEST = 16  # two halves, each with enough to compare on


@dataclass(frozen=True)
class LayerMap:
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
        """Plain values."""
        return {
            **vars(self),
            "cka": self.cka.tolist(),
            "p": self.p.tolist(),
            "choice": None if self.choice is None else self.choice.to_json(),
        }


@dataclass(frozen=True)
class LayersResult:
    """A map per pair."""

    pairs: tuple[LayerMap, ...]
    facts: dict[str, Any]
    figures: tuple[dict[str, str], ...] = ()
    warnings: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Plain values for run.json."""
        return {
            "pairs": [one.to_json() for one in self.pairs],
            "figures": list(self.figures),
            **self.facts,
        }

    def blocks(self) -> list[Block]:
        """The answer as paragraphs and tables, in reading order."""
        return [notes(self.facts), "\n".join(one.text for one in self.pairs)]

    def to_text(self) -> str:
        """What the terminal shows."""
        return as_text(self.blocks())


@takes(Layers)
def run(settings: Layers, out: Path | None = None) -> LayersResult:
    """Debiased CKA of all layers of every pair; writes a heat map for each to `out` if given.

    Raises:
        MissingError: data or a model is not there.
        UsageError: too few samples, a model twice, or features that are not finite.
    """
    aligned = extract_features(settings, layers=True)
    return analyse(aligned, out, svg=settings.svg)


def analyse(aligned: AlignmentData, out: Path | None = None, *, svg: bool = False) -> LayersResult:
    """The maps of features that are at hand."""
    from encoderlab.alignment.plots import compare as plots
    from encoderlab.core.progress import progress
    from encoderlab.plots.style import save

    names = [name for name in aligned.vision if not name.startswith(SHUFFLED)]
    found = []
    with progress("comparing layers", total=len(names) * len(aligned.text), unit="pair") as bar:
        for encoder in names:
            for llm in aligned.text:
                found.append(_map(aligned, encoder, llm))
                bar.advance()
    result = LayersResult(tuple(found), aligned.facts(), warnings=aligned.warnings())
    if out is not None:
        result = replace(result, figures=save(plots.layers(result.to_json()), out, svg=svg))
    return result


def _map(aligned: AlignmentData, encoder: str, llm: str) -> LayerMap:
    import numpy as np

    from encoderlab.alignment.pair_scores import LAYER, PERMUTATIONS, gram
    from encoderlab.metrics import cka
    from encoderlab.metrics.uncertainty import max_corrected_p

    one = aligned.vision[encoder]
    vision = [gram(aligned, f"{encoder}{LAYER}{k}") for k in sorted(one.layers)]
    text = [gram(aligned, f"{llm}{LAYER}{k}") for k in sorted(aligned.text[llm].layers)]
    empty = np.full((len(vision), len(text)), np.nan)
    habit = len(vision) - 2
    if aligned.n < 4:
        said = f"{encoder} with {llm}: undefined, {aligned.n} samples are fewer than 4"
        nothing = {"vision": habit, "text": len(text) - 1, "value": None}
        return LayerMap(encoder, llm, empty, empty, None, nothing, None, said, one.of)
    table = cka.grid(vision, text)
    if np.isnan(table).all():
        said = f"{encoder} with {llm}: undefined, the features are the same for every sample"
        nothing = {"vision": habit, "text": len(text) - 1, "value": None}
        return LayerMap(encoder, llm, table, empty, None, nothing, None, said, one.of)
    null = cka.cka_permutation_null(vision, text, PERMUTATIONS, aligned.seed)
    p = max_corrected_p(np.nan_to_num(table, nan=-2), np.nan_to_num(null, nan=-2))
    p = np.where(np.isnan(table), np.nan, p)
    v, t = (int(i) for i in np.unravel_index(np.nanargmax(table), table.shape))
    best = {"vision": v, "text": t, "value": float(table[v, t]), "p": float(p[v, t])}
    penultimate = {"vision": habit, "text": t, "value": _known(table[habit, t])}
    choice = _choice(aligned, encoder, llm, vision, text, habit)
    said = (
        f"{encoder} with {llm}: layer {v} of {len(vision) - 1} with layer {t} of {len(text) - 1} "
        f"is the best of {table.size} pairs ({best['value']:.3f}, p = {best['p']:.2g} corrected "
        f"for all of them); the penultimate layer {habit} has {table[habit, t]:.3f}"
    )
    return LayerMap(
        encoder, llm, table, p, best, penultimate, choice, said + _in_words(choice), one.of
    )


def _choice(
    aligned: AlignmentData, encoder: str, llm: str, vision: list[Any], text: list[Any], habit: int
) -> Comparison | None:
    """Whether the best vision layer is better than the penultimate: chosen on one half of the
    images, compared on the other, since the best of many looks better than it is."""
    import numpy as np
    import torch

    from encoderlab.alignment.pair_scores import compare_grams
    from encoderlab.metrics import cka

    if aligned.n < FEWEST:
        return None
    drawn = np.random.default_rng(aligned.seed).permutation(np.sort(aligned.contents))
    first = np.isin(aligned.contents, drawn[: aligned.n // 2])
    halves = [torch.from_numpy(np.flatnonzero(rows)) for rows in (first, ~first)]
    table = cka.grid([g.take(halves[0]) for g in vision], [g.take(halves[0]) for g in text])
    v, t = (int(i) for i in np.unravel_index(np.nanargmax(table), table.shape))
    target = text[t].take(halves[1])
    pair = [vision[k].take(halves[1]) for k in (v, habit)]
    left_out = cka.without_each(pair[0], target), cka.without_each(pair[1], target)
    return compare_grams((f"layer {v}", f"layer {habit}"), pair, target, left_out)


def _in_words(choice: Comparison | None) -> str:
    if choice is None:
        return f"; fewer than {FEWEST} images are too few to say whether that matters"
    if choice.a == choice.b:
        return "; chosen on one half of the samples it is the penultimate itself"
    return f"; chosen on one half and compared on the other: {choice.to_text()}"


def _known(value: float) -> float | None:
    return None if value != value else float(value)
