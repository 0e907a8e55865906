"""CKA and CORAL over any number of pairs, a part of the data at a time.

Each part is reduced to moments of fixed size; moments are merged, and every number and interval
comes from them. Features go through the feature store, so a run that was stopped continues.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from encoderlab.alignment.settings import Stream
from encoderlab.alignment.tables import AlignmentResult, notes, table
from encoderlab.core.progress import collect_warnings, note
from encoderlab.core.results import Block, Table
from encoderlab.core.skipped import SkippedImages, as_records, skipped_images
from encoderlab.core.spec import takes
from encoderlab.data.sample import Sample, merge_duplicates
from encoderlab.encoders.load_spec import LoadOptions
from encoderlab.errors import UsageError

if TYPE_CHECKING:
    from encoderlab.alignment.pair_scores import PairScores, PairVerdict
    from encoderlab.data.sample import Samples
    from encoderlab.encoders.text import CutTexts
    from encoderlab.feature_store.engines import Engine
    from encoderlab.feature_store.extract import StoredFeatures
    from encoderlab.feature_store.streamed import Streamed
    from encoderlab.metrics.coral import CORALMetrics

# Images left out that the record names; the rest are counted.
NAMED = 1000


@dataclass(frozen=True)
class EncoderMoments:
    """CORAL of an encoder and an LLM on features of unit length."""

    encoder: str
    llm: str
    coral: CORALMetrics

    def to_json(self) -> dict[str, Any]:
        """Encoder, LLM and the fields of their CORAL comparison."""
        return {"encoder": self.encoder, "llm": self.llm, **self.coral.to_json()}


@dataclass(frozen=True)
class StreamResult(AlignmentResult):
    """Every encoder with every LLM over all pairs; paired verdicts; the answer in words."""

    draw: ClassVar = "encoderlab.alignment.plots.compare:stream"
    records: ClassVar = "rows"

    answer: str
    also: tuple[str, ...]
    rows: tuple[PairScores, ...]
    clouds: tuple[EncoderMoments, ...]
    verdicts: tuple[PairVerdict, ...]

    def to_json(self) -> dict[str, Any]:
        """The fields, with the CORAL comparisons as `coral`."""
        values = super().to_json()
        return values | {"coral": values.pop("clouds")}

    def blocks(self) -> list[Block]:
        """CKA and CORAL of each pair of encoder and LLM."""
        from encoderlab.metrics.coral import MARGINALS_ONLY

        clouds = []
        for row in self.clouds:
            coral = row.coral
            values = (coral.spectral_similarity, coral.similarity, coral.distance)
            cells = (
                "undefined" if value is None else format(value, form)
                for value, form in zip(values, (".3f", ".6f", ".3g"), strict=True)
            )
            clouds.append((row.encoder, row.llm, *cells))
        columns = ("encoder", "LLM", "spectral similarity", "CORAL, as published", "distance")
        blocks: list[Block] = [
            "\n".join((self.answer, *self.also)),
            notes(self.facts),
            table([row.to_json() for row in self.rows], ("cka_linear", "cka_linear_biased")),
            Table(columns, tuple(clouds), said=(MARGINALS_ONLY,)),
        ]
        if self.verdicts:
            lines = [
                f"with {verdict.llm}: {verdict.comparison.to_text()}" for verdict in self.verdicts
            ]
            blocks.append("\n".join(["debiased CKA, every two on the same samples:", *lines]))
        return blocks


@takes(Stream)
def run(settings: Stream, out: Path | None = None) -> StreamResult:
    """Aligns every encoder with every LLM over all pairs of `data`.

    Returns:
        CKA, with an interval over shards, and CORAL of each pair of encoder and LLM.

    Raises:
        UsageError: no data named, a model twice, a setting that has no effect, or features that are
            not finite.
        MissingError: data, a model or Ray is not there.
        WorkError: features cannot be stored, or workers die again and again.
    """
    from encoderlab.alignment.data import check_llms, check_names
    from encoderlab.data.read import KINDS_OF_DATA, read_parts
    from encoderlab.encoders.text import check_placement
    from encoderlab.feature_store.engines import engine
    from encoderlab.feature_store.streamed import Streamed
    from encoderlab.metrics.moments import merge

    if not settings.data:
        raise UsageError("stream needs pairs", got="no data", want=KINDS_OF_DATA)
    check_names("encoder", settings.encoders)
    check_llms(settings.llms, settings.encoders)
    check_placement(settings.device, settings.quantize, settings.device_map)
    by = engine(settings.engine, settings.workers)
    extraction = _Extraction(settings, by)
    streamed = Streamed.empty()
    for number, part in enumerate(read_parts(settings.data, settings.img_root), start=1):
        streamed.add(extraction.features(part), by)
        if number > 1 or len(part) < streamed.n:
            note(f"part {number}: {streamed.n:,} pairs so far")
    with collect_warnings() as warnings:
        for cut in extraction.cut.values():
            cut.warn()
    left_out, copies = extraction.left_out, extraction.copies
    if left_out:
        warnings.append(f"left out, image or caption unusable: {left_out:,} of the pairs")
    if copies:
        warnings.append(
            f"{copies:,} of the pairs show an image that another pair shows: each image counts once"
        )
    result = replace(
        _scored(streamed, settings, extraction.facts(streamed.n)), warnings=tuple(warnings)
    )
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        merge(streamed.shares).save(out / "moments.npz")
    return result.with_figures(out, settings.svg)


class _Extraction:
    """The features of one part after the other, and what the record keeps of them all."""

    def __init__(self, settings: Stream, by: Engine) -> None:
        from encoderlab.core.settings import output_folder

        self.settings, self.by = settings, by
        self.store = Path(settings.features_dir or output_folder("features")())
        self.where = ("cpu", "float32")
        self.fingerprints: dict[str, str] = {}
        self.skipped: SkippedImages = ()
        self.left_out = 0
        self.copies = 0
        self._digests: set[bytes] = set()
        self.cut: dict[str, CutTexts] = {}

    def features(self, part: Samples) -> dict[str, tuple[StoredFeatures, Sequence[int]]]:
        """Model -> its features, and the rows of them of samples that all encoders can read."""
        # Samples of one image are one row: those of this part with all their texts. An image of an
        # earlier part is left out, because its texts are encoded already.
        samples = part.with_texts()
        stored = {name: self._images(name, samples) for name in self.settings.encoders}
        bad = {skipped.id: skipped for s in stored.values() for skipped in s.skipped}
        left_out = [*samples.skipped, *bad.values()]
        self.left_out += len(left_out)
        self.skipped += skipped_images(left_out[: NAMED - len(self.skipped)])
        first = next(iter(stored.values()))
        readable = [
            (sample, digest)
            for sample, digest in zip(first.samples, first.digests, strict=True)
            if sample.id not in bad
        ]
        new = [(sample, digest) for sample, digest in readable if digest not in self._digests]
        self._digests.update(digest for _, digest in new)
        images = merge_duplicates([sample for sample, _ in new], [digest for _, digest in new])
        self.copies += len(readable) - len(images)
        chosen = {sample.id for sample in images}
        texts = [" ".join(sample.texts) for sample in images]
        features: dict[str, tuple[StoredFeatures, Sequence[int]]] = {
            name: (s, [i for i, sample in enumerate(s.samples) if sample.id in chosen])
            for name, s in stored.items()
        }
        for name in self.settings.llms:
            features[name] = (self._texts(name, texts), range(len(texts)))
        return features

    def _images(self, name: str, samples: Sequence[Sample]) -> StoredFeatures:
        from encoderlab.encoders.vision import load_vision
        from encoderlab.feature_store.extract import extract_images

        s = self.settings
        encoder = load_vision(name, s.device, s.dtype, **LoadOptions.of(s).vision)
        self.fingerprints[name], self.where = encoder.fingerprint, encoder.where
        return extract_images(encoder, samples, self.store, batch_size=s.batch_size, by=self.by)

    def _texts(self, name: str, texts: Sequence[str]) -> StoredFeatures:
        from encoderlab.encoders.text import CutTexts, load_text
        from encoderlab.feature_store.extract import extract_texts

        s = self.settings
        llm = load_text(name, s.device, s.dtype, **LoadOptions.of(s).text)
        self.fingerprints[name] = llm.fingerprint
        cut = self.cut.setdefault(name, CutTexts(llm.name, llm.max_length))
        return extract_texts(llm, texts, self.store, batch_size=s.batch_size, by=self.by, cut=cut)

    def facts(self, n: int) -> dict[str, Any]:
        """What a run's record keeps of the data."""
        return {
            "data": {
                "source": self.settings.data,
                "samples": n + self.copies,
                "images": n,
                "types": {"all": n},
            },
            "device": self.where[0],
            "dtype": self.where[1],
            "fingerprints": self.fingerprints,
            "preflight": [],
            "skipped": as_records(self.skipped),
            "left_out": self.left_out,
        }


def _scored(streamed: Streamed, settings: Stream, facts: dict[str, Any]) -> StreamResult:
    from encoderlab.alignment.pair_scores import PairScores, PairVerdict, answer
    from encoderlab.metrics.catalogue import HEADLINE
    from encoderlab.metrics.coral import coral_of_moments
    from encoderlab.metrics.moments import cka_without_each, merge, score_of
    from encoderlab.metrics.uncertainty import compare_paired

    whole = merge(streamed.shares)
    if whole.n < 2:
        raise UsageError(
            "too few readable pairs to compare anything",
            got=f"{whole.n} from {settings.data}",
            want="at least 2, better 1,000",
        )
    pairs = list(itertools.product(settings.encoders, settings.llms))
    without = cka_without_each(whole, streamed.shares, pairs)
    rows = []
    clouds = []
    for encoder, llm in pairs:
        debiased = score_of(whole, without[encoder, llm], encoder, llm)
        biased = score_of(whole, without[encoder, llm], encoder, llm, "biased")
        rows.append(PairScores(encoder, llm, {HEADLINE: debiased, f"{HEADLINE}_biased": biased}))
        coral = coral_of_moments(streamed.unit[encoder], encoder, streamed.unit[llm], llm)
        clouds.append(EncoderMoments(encoder, llm, coral))
    couples = list(itertools.combinations(settings.encoders, 2))
    verdicts, total = [], len(couples) * len(settings.llms)
    for llm, (a, b) in itertools.product(settings.llms, couples):
        values = (whole.cka(a, llm), whole.cka(b, llm))
        left_out = (without[a, llm], without[b, llm])
        comparison = compare_paired(a, b, values, left_out, whole.n, comparisons=total)
        verdicts.append(PairVerdict(HEADLINE, llm, comparison))
    text = answer(rows, verdicts, whole.n)
    return StreamResult(
        text.text, text.also, tuple(rows), tuple(clouds), tuple(verdicts), facts=facts
    )
