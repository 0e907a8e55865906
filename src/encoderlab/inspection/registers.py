"""`encoderlab registers`: removes outlier tokens at test time, and measures what that changes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from encoderlab.core.progress import counted
from encoderlab.core.results import Block, Result, Table
from encoderlab.core.skipped import Skipped, as_notes, as_records, as_warnings, skipped_images
from encoderlab.core.spec import takes
from encoderlab.errors import UsageError
from encoderlab.inspection.settings import Registers

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image
    from torch import Tensor

    from encoderlab.core.score import Score
    from encoderlab.data.sample import Sample
    from encoderlab.encoders.vision import VisionEncoder
    from encoderlab.inspection.register_tokens import Neuron
    from encoderlab.metrics.uncertainty import Comparison
    from encoderlab.vlm.model import VLM

BATCH = 32
DRAWS = 3  # of random neurons; one alone may hit a neuron that matters
SHOWN = 3  # images in the figure
LISTED = 10  # neurons in the table
FAR = 1 << 20  # the neurons are found on synthetic pictures that the effect is not measured on
PLAIN, TOKEN, REGISTER, RANDOM = "unchanged", "empty token", "register", "random neurons"
# The first pair is what a user gets, the third what the register neurons do in it.
PAIRS = ((REGISTER, PLAIN), (TOKEN, PLAIN), (REGISTER, RANDOM))
RECALL, ANSWERS = "Recall@1", "right answers"


@dataclass(frozen=True)
class RegistersResult(Result):
    """Outlier tokens, the neurons behind them, and scores with and without.

    Args:
        images: how many the neurons were found on.
        outliers: how many tokens of them are outliers; 0 ends the analysis.
        layer: the hidden state that they are counted in; None without any.
        made_in: the block in which their norms grow most; None without any.
        on_contrast: share of them on patches with more contrast than the median patch; None without
            any.
        neurons: block, unit and effect of each, the largest effect first.
        norms: what was changed -> outlier tokens per image, and the largest norm over the median
            norm, of `layer`.
        scores: measure -> what was changed -> score; `Recall@1` is the mean of both directions.
        comparisons: of each measure, paired by image; those with random neurons count the
            variance between their draws too.
        notes: what was not measured, and why.
    """

    records: ClassVar = "rows"

    model: str
    fingerprint: str
    device: str
    dtype: str
    images: int
    outliers: int
    layer: int | None = None
    made_in: int | None = None
    on_contrast: float | None = None
    neurons: tuple[Neuron, ...] = ()
    norms: dict[str, dict[str, float]] = field(default_factory=dict)
    scores: dict[str, dict[str, Score]] = field(default_factory=dict)
    comparisons: tuple[Comparison, ...] = ()
    notes: tuple[str, ...] = ()
    skipped: tuple[tuple[str, str], ...] = ()
    figures: tuple[dict[str, str], ...] = ()
    warnings: tuple[str, ...] = field(default=(), metadata={"json": False})

    def to_json(self) -> dict[str, Any]:
        """The result for run.json; `skipped` is a list of ids and reasons."""
        return {**super().to_json(), "skipped": as_records(self.skipped)}

    @property
    def rows(self) -> tuple[dict[str, Any], ...]:
        """One row for each thing that was changed: its norms and its score by each measure."""
        return tuple(
            {
                "changed": change,
                **norms,
                "scores": {name: scores[change] for name, scores in self.scores.items()},
            }
            for change, norms in self.norms.items()
        )

    def blocks(self) -> list[Block]:
        """The findings, the tables, and the comparisons."""
        images = counted(self.images, "image")
        if not self.outliers:
            nothing = f"no outlier tokens found in {images}, nothing to remove"
            return [f"{self.model}: {nothing}", *as_notes(self.warnings, self.skipped)]
        found = (
            f"{self.model}: {counted(self.outliers, 'outlier token')} in {images}, in hidden "
            f"state {self.layer}, made in block {self.made_in}; {self.on_contrast:.0%} of them on "
            "patches with more contrast than the median patch"
        )
        first = self.neurons[:LISTED]
        neurons = tuple((str(n.block), str(n.unit), f"{n.effect:.2f}") for n in first)
        title = f"register neurons, {len(first)} of {len(self.neurons)}"
        rows = tuple(
            (
                name,
                f"{norms['outliers']:.2f}",
                f"{norms['peak']:.2f}",
                *(scores[name].as_percent() for scores in self.scores.values()),
            )
            for name, norms in self.norms.items()
        )
        columns = ("changed", "outliers per image", "largest over median norm", *self.scores)
        blocks: list[Block] = [
            found,
            Table(("block", "neuron", "effect on the norm"), neurons, title),
            Table(columns, rows, "activations moved into an added token"),
        ]
        if self.comparisons:
            blocks.append("\n".join(comparison.to_text() for comparison in self.comparisons))
        if self.notes:
            blocks.append("\n".join(self.notes))
        return [*blocks, *as_notes(self.warnings, self.skipped)]


@takes(Registers)
def run(settings: Registers, out: Path | None = None) -> RegistersResult:
    """Finds register neurons, moves their activation into an added token, and measures the effect.

    The controls add the token alone, and move the activation of as many random neurons of the same
    blocks.

    Returns:
        Norms, Recall@1 and right answers in [0, 1], unchanged, with the empty token, with the
        register and with random neurons, and their paired differences. Without outlier tokens only
        their number, 0.

    Raises:
        MissingError: a model, image or the GPU is not there.
        UsageError: a family that takes no further token, or no readable image.
    """
    import numpy as np

    from encoderlab.core.progress import progress
    from encoderlab.core.score import caveats
    from encoderlab.encoders.model_cache import without_cache
    from encoderlab.encoders.vision import load_vision
    from encoderlab.inspection import plots
    from encoderlab.inspection.register_tokens import (
        added_register,
        longer,
        norms_of,
        outlier_tokens,
        peak,
        pixels_of,
        random_neurons,
        register_neurons,
    )
    from encoderlab.metrics.answers import accuracy_over_seeds
    from encoderlab.plots.style import save

    images, skipped = _images(settings)
    # Hooks change the encoder, so no other thread of the web page may have it.
    with without_cache():
        encoder = load_vision(
            settings.model, settings.device, settings.dtype,
            trust_remote_code=settings.trust_remote_code,
        )  # fmt: skip
    pixels = pixels_of(encoder, images)
    outliers = outlier_tokens(encoder, pixels)
    device, dtype = encoder.where
    result = RegistersResult(
        settings.model, encoder.fingerprint, device, dtype, len(images), 0,
        skipped=skipped, warnings=as_warnings(skipped),
    )  # fmt: skip
    if outliers is None:
        return result
    neurons = register_neurons(encoder, pixels, outliers, settings.neurons)
    draws = [random_neurons(encoder, neurons, settings.seed + draw) for draw in range(DRAWS)]
    changes: dict[str, Sequence[Moved]] = {
        PLAIN: [None],
        TOKEN: [()],
        REGISTER: [neurons],
        RANDOM: draws,
    }

    def changed(encoder: VisionEncoder, neurons: Moved) -> AbstractContextManager[None]:
        return nullcontext() if neurons is None else added_register(encoder, neurons)

    def norms(neurons: Moved) -> Tensor:
        with changed(encoder, neurons):
            return norms_of(encoder, pixels, [outliers.layer])[outliers.layer]

    lengths = {name: [norms(moved) for moved in sets] for name, sets in changes.items()}
    measures, notes = _measures(settings, encoder, changed)
    values: dict[str, dict[str, np.ndarray]] = {}
    with progress("measuring", total=len(measures) * (3 + DRAWS), unit="pass") as bar:
        for name, measure in measures.items():
            values[name] = {}
            for change, sets in changes.items():
                passes = []
                for moved in sets:
                    passes.append(measure.values(moved))
                    bar.advance()
                values[name][change] = np.array(passes)
    warnings = list(result.warnings)
    if outliers.on_contrast > 0.5:
        warnings.append(
            f"{outliers.on_contrast:.0%} of the outlier tokens are on patches with much contrast: "
            "they may show content and be no registers, so that moving them loses it"
        )
    scores = {
        name: {
            change: accuracy_over_seeds(passes, np.arange(passes.shape[1]), measures[name].chance)
            for change, passes in by_change.items()
        }
        for name, by_change in values.items()
    }
    for name, by_score in scores.items():
        plain = by_score[PLAIN]
        warnings += caveats(plain.n, {name: plain}, f"{name} measured")
    result = replace(
        result,
        outliers=outliers.count,
        layer=outliers.layer,
        made_in=outliers.made_in,
        on_contrast=outliers.on_contrast,
        neurons=neurons,
        norms={
            name: {
                "outliers": float(np.mean([int(longer(x, outliers.times).sum()) for x in passes]))
                / len(images),
                "peak": float(np.mean([peak(x) for x in passes])),
            }
            for name, passes in lengths.items()
        },
        scores=scores,
        comparisons=tuple(_comparisons(values)),
        notes=tuple(notes),
        warnings=tuple(warnings),
    )
    if out is None:
        return result
    most = outliers.mask.sum(axis=(1, 2)).argsort(kind="stable")[::-1][:SHOWN]
    views = [encoder.preprocess.view(images[row]) for row in most]
    maps = {name: passes[0].numpy()[most] for name, passes in lengths.items()}
    drawn = plots.registers(views, maps, settings.model, outliers.layer)
    return replace(result, figures=save([drawn], out, svg=settings.svg))


Moved = Sequence["Neuron"] | None  # None: no token is added
Changed = Callable[..., AbstractContextManager[None]]


@dataclass(frozen=True)
class _Measure:
    """Values in [0, 1], one per image, with neurons moved; and what chance gives."""

    values: Callable[[Moved], np.ndarray]
    chance: float | None = None


def _images(settings: Registers) -> tuple[list[Image.Image], tuple[tuple[str, str], ...]]:
    from encoderlab.data.decode import ImageError, open_image
    from encoderlab.data.folder import image_files
    from encoderlab.data.synthetic import generate

    count = settings.n_images
    if settings.images is None:
        return [generate(FAR + i, split="test").image for i in range(count)], ()
    files, not_images = image_files(settings.images)
    images, unreadable = [], list(not_images)
    for file in files[:count]:
        try:
            images.append(open_image(file))
        except ImageError as error:
            unreadable.append(Skipped(str(file), error.reason))
    if not images:
        raise UsageError("no image can be read", got=settings.images, want="readable images")
    return images, skipped_images(unreadable)


def _measures(
    settings: Registers, encoder: VisionEncoder, changed: Changed
) -> tuple[dict[str, _Measure], list[str]]:
    """The measures by name, and why there are no others."""
    measures: dict[str, _Measure] = {}
    notes: list[str] = []
    if not settings.n:
        return {}, []
    for name, of in ((RECALL, _recall), (ANSWERS, _answers)):
        measure = of(settings, encoder, changed)
        if isinstance(measure, str):
            notes.append(f"{name}: {measure}")
        else:
            measures[name] = measure
    return measures, notes


def _recall(settings: Registers, encoder: VisionEncoder, changed: Changed) -> _Measure | str:
    import numpy as np
    import torch
    import torch.nn.functional as F
    from scipy import sparse

    from encoderlab.encoders.dual import FAMILIES, load_dual
    from encoderlab.inspection.register_tokens import pixels_of
    from encoderlab.metrics.retrieval import chance_of_recall, ranks

    if encoder.family not in FAMILIES:
        return f"{settings.model} has no text tower"
    samples = _pairs(settings)
    dual = load_dual(
        settings.model, settings.device, settings.dtype, allow_untrained=True,
        trust_remote_code=settings.trust_remote_code,
    )  # fmt: skip
    names = [sample.texts[0] for sample in samples]
    text = dual.embed_texts(names)
    if text.shape[1] != encoder.pooled_width:
        return f"the image vectors of {settings.model} are not in the space of its texts"
    same = np.equal.outer(np.array(names), np.array(names))
    right = sparse.csr_matrix(same)

    def values(neurons: Moved) -> np.ndarray:
        parts = []
        with changed(encoder, neurons):
            for start in range(0, len(samples), BATCH):
                images = [sample.load() for sample in samples[start : start + BATCH]]
                parts.append(encoder.encode_pixels(pixels_of(encoder, images)).pooled.float())
        image = F.normalize(torch.cat(parts), dim=-1).cpu().numpy()
        found = [ranks(a, b, right)[0] == 1 for a, b in ((image, text), (text, image))]
        return np.mean(found, axis=0)

    return _Measure(values, chance_of_recall(same.sum(axis=1), len(samples), 1))


def _pairs(settings: Registers) -> list[Sample]:
    from encoderlab.core.progress import warn
    from encoderlab.data import read_samples
    from encoderlab.data.decode import ImageError
    from encoderlab.data.sample import content_digests, merge_duplicates
    from encoderlab.data.synthetic import generate

    if settings.csv is None:
        return [generate(i, split="test").to_sample() for i in range(settings.n)]
    named = read_samples(settings.csv, settings.img_root).with_texts()
    readable = []
    for sample in merge_duplicates(named, content_digests(named))[: settings.n]:
        try:
            sample.load()
            readable.append(sample)
        except ImageError as error:
            warn(f"{RECALL} is measured without {sample.id}: {error.reason}")
    if not readable:
        raise UsageError("no image has a caption", got=settings.csv, want="captions to retrieve by")
    return readable


def _answers(settings: Registers, encoder: VisionEncoder, changed: Changed) -> _Measure | str:
    import numpy as np

    from encoderlab.encoders.model_cache import without_cache
    from encoderlab.metrics.answers import exact_match
    from encoderlab.vlm.model import VLM
    from encoderlab.vlm.questions import synthetic_questions

    if not settings.vlm:
        return "no VLM is named"
    with without_cache():
        vlm = VLM.load(
            settings.vlm, settings.device, settings.dtype,
            trust_remote_code=settings.trust_remote_code,
        )  # fmt: skip
    same = [own for own in vlm.encoders if own.fingerprint == encoder.fingerprint]
    if not same:
        return f"{settings.vlm} reads {'+'.join(vlm.design.encoders)}, not {settings.model}"
    questions = synthetic_questions("test", range(settings.n), ["en"])

    def values(neurons: Moved) -> np.ndarray:
        with changed(same[0], neurons):
            texts = [text for part in _parts(questions) for text in _asked(vlm, part)]
        return np.array(
            [exact_match(t, q.answers) for t, q in zip(texts, questions, strict=True)], dtype=float
        )

    return _Measure(values)


def _asked(vlm: VLM, questions: Sequence[Any]) -> list[str]:
    tokens = vlm.vision_tokens([question.image.load() for question in questions])
    return [answer.text for answer in vlm.answers(tokens, [q.text for q in questions])]


def _parts(rows: Sequence[Any]) -> Iterator[Sequence[Any]]:
    return (rows[start : start + BATCH] for start in range(0, len(rows), BATCH))


def _comparisons(values: dict[str, dict[str, np.ndarray]]) -> Iterator[Comparison]:
    """Of what each change (passes, images) gives by each measure."""
    import numpy as np

    from encoderlab.metrics.answers import compare_answers

    for measure, by_change in values.items():
        for a, b in PAIRS:
            draws = by_change[b].mean(axis=1)
            # The mean of the draws misses that of all random neurons, and the register differs from
            # it as one draw does.
            spread = float(draws.var(ddof=1)) * (1 + 1 / len(draws)) if len(draws) > 1 else 0.0
            compared = compare_answers(
                f"{measure}, {a}", f"{measure}, {b}",
                (by_change[a].mean(axis=0), by_change[b].mean(axis=0)),
                np.arange(by_change[a].shape[1]), comparisons=len(PAIRS) * len(values),
                other=(spread, max(1, len(draws) - 1)),
            )  # fmt: skip
            # More images do not lower the variance between draws.
            yield replace(compared, samples_needed=None) if spread else compared
