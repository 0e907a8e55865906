"""The smallest text that the patch tokens of an encoder hold. Computes no metric itself."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from encoderlab.core.progress import progress
from encoderlab.core.results import Block, Result, Table
from encoderlab.core.score import Score
from encoderlab.core.spec import takes
from encoderlab.errors import UsageError
from encoderlab.inspection.settings import SMALLEST, TextSize

if TYPE_CHECKING:
    from encoderlab.data.synthetic.labelled import PrintedWords
    from encoderlab.encoders.vision import VisionEncoder

PATCHES = (0.5, 0.75, 1, 1.5, 2, 3, 4)  # heights over the side of a patch


@dataclass(frozen=True)
class ReadHeight(Result):
    """How often a linear probe reads digits of one height.

    Args:
        height: of the digits' ink, in pixels of the encoder's input.
        patches: the same in sides of a patch.
        accuracy: share of right digits in words and places that the probe was not fitted on.
        read: whether its interval, corrected for the number of heights, lies above the threshold.
    """

    height: int
    patches: float
    accuracy: Score
    read: bool


@dataclass(frozen=True)
class EncoderTextSize(Result):
    """The heights of one encoder.

    Args:
        image_size, patch_size: in pixels.
        heights: from the smallest.
        threshold: half-way between chance and 1.
        smallest: the smallest height in pixels that is read as are all larger ones; None where the
            largest is not read.
    """

    encoder: str
    fingerprint: str
    layer: int
    image_size: int
    patch_size: int
    heights: tuple[ReadHeight, ...]
    threshold: float
    smallest: int | None

    def to_text(self) -> str:
        """The answer as one sentence."""
        read = [row.height for row in self.heights if row.read]
        if read and self.smallest is None:
            lost = [row.height for row in self.heights if row.height > read[0] and not row.read]
            heights, others = (" and ".join(map(str, rows)) for rows in (read, lost))
            return f"{self.encoder} reads digits of {heights} pixels, but not of {others} pixels"
        if self.smallest is None:
            best = max(self.heights, key=lambda row: float(row.accuracy))
            return (
                f"{self.encoder}: no height is read half-way from chance to always; the best is "
                f"{best.accuracy.as_percent()} at {best.height} pixels"
            )
        patches = self.smallest / self.patch_size
        return (
            f"{self.encoder} holds digits from {self.smallest} pixels on ({patches:.2g} patches of "
            f"{self.patch_size}, at {self.image_size} x {self.image_size})"
        )


@dataclass(frozen=True)
class TextSizeResult(Result):
    """The readable size of text of every encoder."""

    draw: ClassVar = "encoderlab.inspection.plots:text_size"
    records: ClassVar = "rows"

    encoders: tuple[EncoderTextSize, ...]
    figures: tuple[dict[str, str], ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def rows(self) -> tuple[dict[str, Any], ...]:
        """One row for each height of each encoder."""
        return tuple(
            {"encoder": of.encoder, **row.to_json()} for of in self.encoders for row in of.heights
        )

    def blocks(self) -> list[Block]:
        """A sentence for each encoder, and the accuracies."""
        rows = tuple(
            (of.encoder, f"{row.height}", f"{row.patches:.2g}", row.accuracy.as_percent(),
             f"{100 * (row.accuracy.chance or 0):.1f} %", "yes" if row.read else "no")
            for of in self.encoders for row in of.heights
        )  # fmt: skip
        heads = ("encoder", "height (pixels)", "in patches", "right digits", "chance", "read")
        said = (
            "on words and places that the probe was not fitted on; 95 % intervals",
            "read: the interval that holds for all heights of the encoder together lies above "
            "half-way from chance to always",
        )
        sentences = "\n".join(of.to_text() for of in self.encoders)
        return [sentences, Table(heads, rows, said=said)]


@takes(TextSize)
def run(settings: TextSize, out: Path | None = None) -> TextSizeResult:
    """Reads digits of several heights from patch tokens; writes a figure to `out` if it is given.

    Pictures have one word of three digits each. The tokens of the patches that the middle digit
    touches, weighted by the area of each, are one vector; a linear probe reads the digit from it,
    and is tested on other words in other places.

    Returns:
        The accuracy at every height with its interval and chance, and the smallest height from
        which on all are read: their intervals, corrected for the number of heights, lie above
        half-way between chance and 1.

    Raises:
        MissingError: a model or the GPU is not there.
        UsageError: no encoder, one without a grid of patches, an unknown layer, or heights that
            cannot be drawn.
    """
    from encoderlab.encoders.load_spec import LoadOptions
    from encoderlab.encoders.vision import load_vision

    names = settings.encoders
    if not names or len(set(names)) < len(names):
        raise UsageError("encoders are needed, each once", got=", ".join(names) or "none")
    results = []
    for name in names:
        encoder = load_vision(
            name, settings.device, settings.dtype, **LoadOptions.of(settings).vision
        )
        results.append(_measured(encoder, settings))
        del encoder
    result = TextSizeResult(tuple(results))
    if out is None:
        return result
    from encoderlab.plots.style import save

    return replace(result, figures=save(result.figure_records(), out, svg=settings.svg))


def readable(accuracies: Sequence[Score]) -> tuple[float, list[bool]]:
    """The threshold, and which accuracies lie above it.

    Args:
        accuracies: one per height, each a share of `n` digits with its chance.

    Returns:
        (half-way between the mean chance and 1, whether the Wilson interval of each, corrected for
        their number by Bonferroni, lies above it).
    """
    from scipy.stats import binomtest

    threshold = (float(np.mean([score.chance or 0.0 for score in accuracies])) + 1) / 2
    level = 1 - 0.05 / len(accuracies)
    read = []
    for score in accuracies:
        right = 0 if score.value is None else round(score.value * score.n)
        low = binomtest(right, score.n).proportion_ci(level, method="wilson").low
        read.append(bool(low > threshold))
    return threshold, read


def _measured(encoder: VisionEncoder, settings: TextSize) -> EncoderTextSize:
    from encoderlab.data.synthetic.labelled import highest_word, printed_words
    from encoderlab.metrics.linear_probe import linear_probe

    size, patch = encoder.image_size, encoder.patch_size
    usual = (max(SMALLEST, round(share * patch)) for share in PATCHES)
    heights = sorted(set(settings.heights or (min(h, highest_word(size)) for h in usual)))
    # The largest is refused before probes are fitted to the others.
    printed_words(0, heights[-1], size=size, split="test", seed=settings.seed)
    measured = []
    counts = {"train": settings.n_train, "test": settings.n_test}
    with progress(f"reading digits with {encoder.name}", total=len(heights), unit="height") as bar:
        for height in heights:
            train, test = (
                printed_words(count, height, size=size, split=split, seed=settings.seed)
                for split, count in counts.items()
            )
            accuracy = linear_probe(
                _of_digit(encoder, train, settings), train.digits,
                _of_digit(encoder, test, settings), test.digits,
            )  # fmt: skip
            measured.append(accuracy)
            bar.advance()
    threshold, read = readable(measured)
    rows = [
        ReadHeight(height, height / patch, accuracy, above)
        for height, accuracy, above in zip(heights, measured, read, strict=True)
    ]
    onwards = list(itertools.takewhile(lambda row: row.read, reversed(rows)))
    return EncoderTextSize(
        encoder.name, encoder.fingerprint, settings.layer, size, patch, tuple(rows), threshold,
        onwards[-1].height if onwards else None,
    )  # fmt: skip


def _of_digit(encoder: VisionEncoder, drawn: PrintedWords, settings: TextSize) -> np.ndarray:
    """(n, d): the mean token of the patches that each middle digit touches."""
    from encoderlab.encoders.vision import stack

    parts = []
    for start in range(0, len(drawn.pictures), settings.batch_size):
        rows = slice(start, start + settings.batch_size)
        # Pictures have the size of the input: no preprocessing moves the boxes.
        pixels = stack([np.array(picture) for picture in drawn.pictures[rows]])
        encoded = encoder.encode_pixels(pixels, layers=[settings.layer])
        (tokens,) = encoded.layers.values()
        weights = patch_weights(drawn.boxes[rows], encoded.grid, encoder.patch_size)
        parts.append(np.einsum("bn,bnd->bd", weights, tokens.float().cpu().numpy()))
    return np.concatenate(parts)


def patch_weights(boxes: np.ndarray, grid: tuple[int, int], patch: int) -> np.ndarray:
    """The share of each box's area that lies in each patch.

    Args:
        boxes: (n, 4) left, top, right, bottom in pixels.
        grid: (h, w) patches.
        patch: pixels a side.

    Returns:
        (n, h * w) in reading order, each row with the sum 1.
    """
    overlap = []
    for low, high, count in ((1, 3, grid[0]), (0, 2, grid[1])):
        edges = np.arange(count + 1) * patch
        ends = np.minimum(boxes[:, high, None], edges[None, 1:])
        overlap.append(np.maximum(0, ends - np.maximum(boxes[:, low, None], edges[None, :-1])))
    area = (overlap[0][:, :, None] * overlap[1][:, None, :]).reshape(len(boxes), -1)
    # A digit in the rest beyond the last patch touches none.
    return area / np.maximum(area.sum(axis=1, keepdims=True), 1)
