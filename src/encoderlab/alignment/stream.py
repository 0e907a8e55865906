"""CKA and CORAL over any number of pairs, a part of the data at a time. Orchestration only.

What a part leaves behind is a state of fixed size; states are merged, and every number, its
interval too, comes from them. Features go through the store, so a run that stops goes on.
"""

from __future__ import annotations

import gc
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from encoderlab.alignment.settings import Stream
from encoderlab.alignment.tables import notes, table
from encoderlab.core.progress import collect_warnings, note
from encoderlab.core.results import Block, Table, as_text
from encoderlab.core.skipped import SkippedImages, as_records, skipped_images
from encoderlab.core.spec import takes
from encoderlab.data.sample import Sample, merge_duplicates
from encoderlab.encoders.load_spec import LoadOptions
from encoderlab.errors import UsageError

if TYPE_CHECKING:
    from encoderlab.alignment.pair_scores import PairScores, PairVerdict
    from encoderlab.core.skipped import Skipped
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
    """How alike the clouds of an encoder and of an LLM are, features at length one."""

    encoder: str
    llm: str
    coral: CORALMetrics

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {"encoder": self.encoder, "llm": self.llm, **self.coral.to_json()}


@dataclass(frozen=True)
class StreamResult:
    """Every encoder with every LLM over all pairs; paired verdicts; the answer in words."""

    answer: str
    also: tuple[str, ...]
    rows: tuple[PairScores, ...]
    clouds: tuple[EncoderMoments, ...]
    verdicts: tuple[PairVerdict, ...]
    facts: dict[str, Any]
    figures: tuple[dict[str, str], ...] = ()
    warnings: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Plain values for run.json."""
        return {
            "answer": self.answer,
            "also": list(self.also),
            "rows": [row.to_json() for row in self.rows],
            "coral": [one.to_json() for one in self.clouds],
            "verdicts": [one.to_json() for one in self.verdicts],
            "figures": list(self.figures),
            **self.facts,
        }

    def blocks(self) -> list[Block]:
        """The answer as paragraphs and tables, in reading order."""
        blocks: list[Block] = [
            "\n".join((self.answer, *self.also)),
            notes(self.facts),
            table([row.to_json() for row in self.rows], ("cka_linear", "cka_linear_biased")),
            self._clouds(),
        ]
        if self.verdicts:
            said = [f"with {one.llm}: {one.comparison.to_text()}" for one in self.verdicts]
            blocks.append("\n".join(["debiased CKA, every two on the same samples:", *said]))
        return blocks

    def to_text(self) -> str:
        """What the terminal shows."""
        return as_text(self.blocks())

    def _clouds(self) -> Table:
        from encoderlab.metrics.coral import MARGINALS_ONLY

        def number(value: float | None, form: str) -> str:
            return "undefined" if value is None else format(value, form)

        rows = tuple(
            (
                one.encoder,
                one.llm,
                number(one.coral.spectral_similarity, ".3f"),
                number(one.coral.similarity, ".6f"),
                number(one.coral.distance, ".3g"),
            )
            for one in self.clouds
        )
        heads = ("encoder", "LLM", "spectral similarity", "CORAL, as published", "distance")
        return Table(heads, rows, said=(MARGINALS_ONLY,))


@takes(Stream)
def run(settings: Stream, out: Path | None = None) -> StreamResult:
    """Aligns every encoder with every LLM over all pairs of `data`.

    Raises:
        UsageError: no data named, a model twice, a setting that has no effect, or features that are
            not finite.
        MissingError: data, a model or Ray is not there.
        WorkError: features cannot be stored, or workers die again and again.
    """
    from encoderlab.alignment.data import check_names
    from encoderlab.core.settings import output_folder
    from encoderlab.data.read import KINDS_OF_DATA, read_parts
    from encoderlab.encoders.text import check_placement
    from encoderlab.feature_store import engines
    from encoderlab.feature_store.streamed import Streamed

    if not settings.data:
        raise UsageError("stream needs pairs", got="no data", want=KINDS_OF_DATA)
    for kind, names in (("encoder", settings.encoders), ("LLM", settings.llms)):
        check_names(kind, names)
    check_placement(settings.device, settings.quantize, settings.device_map)
    by = engines.engine(settings.engine, settings.workers)
    gathering = _Gathering(
        tuple(settings.encoders),
        tuple(settings.llms),
        Path(settings.features_dir or output_folder("features")()),
        by,
        settings.batch_size,
        (settings.device, settings.dtype),
        LoadOptions.of(settings),
    )
    streamed = Streamed.empty()
    for number, part in enumerate(read_parts(settings.data, settings.img_root), start=1):
        stored = gathering.of(part)
        streamed.add(stored, by)
        if number > 1 or len(part) < streamed.n:
            note(f"part {number}: {streamed.n:,} pairs so far")
    with collect_warnings() as warned:
        for cut in gathering.cut.values():
            cut.warn()
    result = _judged(
        streamed, settings.encoders, settings.llms, gathering.facts(settings.data, streamed.n)
    )
    if gathering.left_out:
        warned.append(f"left out, image or caption unusable: {gathering.left_out:,} of the pairs")
    if gathering.copies:
        warned.append(
            f"{gathering.copies:,} of the pairs show an image that another pair shows: each image "
            "counts once"
        )
    result = replace(result, warnings=tuple(warned))
    if out is not None:
        result = replace(result, figures=_kept(result, streamed, out, settings.svg))
    return result


class _Gathering:
    """The features of one part after the other, and what to say of them all."""

    def __init__(
        self,
        encoders: tuple[str, ...],
        llms: tuple[str, ...],
        store: Path,
        by: Engine,
        batch_size: int,
        where: tuple[str, str],
        load: LoadOptions,
    ) -> None:
        self.encoders, self.llms, self.store, self.by = encoders, llms, store, by
        self.batch_size, self.where, self.load = batch_size, where, load
        self.computed_on = ("cpu", "float32")
        self.fingerprints: dict[str, str] = {}
        self.named: SkippedImages = ()
        self.left_out = 0
        self.copies = 0
        self._images_seen: set[bytes] = set()
        self.cut: dict[str, CutTexts] = {}

    def of(self, part: Samples) -> dict[str, tuple[StoredFeatures, Sequence[int]]]:
        """Model -> its features, and the rows of them of samples that all encoders can read.

        Samples of one image are one row: those of this part with all their texts. An image of an
        earlier part is left out, because its texts are encoded already.
        """
        samples = part.with_texts()
        seen = dict(self._images(samples))
        bad = {one.id: one for stored in seen.values() for one in stored.skipped}
        self._leave_out([*samples.skipped, *bad.values()])
        first = next(iter(seen.values()))
        readable = [
            (sample, digest)
            for sample, digest in zip(first.samples, first.digests, strict=True)
            if sample.id not in bad
        ]
        new = [(sample, d) for sample, d in readable if d not in self._images_seen]
        self._images_seen.update(digest for _, digest in new)
        images = merge_duplicates([sample for sample, _ in new], [digest for _, digest in new])
        self.copies += len(readable) - len(images)
        chosen = {sample.id for sample in images}
        texts = [" ".join(sample.texts) for sample in images]
        found: dict[str, tuple[StoredFeatures, Sequence[int]]] = {}
        for name, stored in seen.items():
            rows = [i for i, one in enumerate(stored.samples) if one.id in chosen]
            found[name] = (stored, rows)
        for name, said in self._texts(texts):
            found[name] = (said, range(len(texts)))
        return found

    def _images(self, samples: Sequence[Sample]) -> Iterator[tuple[str, StoredFeatures]]:
        from encoderlab.encoders.vision import load_vision
        from encoderlab.feature_store.extract import extract_images

        for name in self.encoders:
            encoder = load_vision(name, *self.where, **self.load.vision)
            self.fingerprints[name], self.computed_on = encoder.fingerprint, encoder.where
            yield (
                name,
                extract_images(
                    encoder, samples, self.store, batch_size=self.batch_size, by=self.by
                ),
            )
            del encoder
            gc.collect()

    def _texts(self, texts: Sequence[str]) -> Iterator[tuple[str, StoredFeatures]]:
        from encoderlab.encoders.text import CutTexts, load_text
        from encoderlab.feature_store.extract import extract_texts

        for name in self.llms:
            llm = load_text(name, *self.where, **self.load.text)
            self.fingerprints[name] = llm.fingerprint
            cut = self.cut.setdefault(name, CutTexts(llm.name, llm.max_length))
            yield (
                name,
                extract_texts(
                    llm, texts, self.store, batch_size=self.batch_size, by=self.by, cut=cut
                ),
            )
            del llm
            gc.collect()

    def _leave_out(self, skipped: Sequence[Skipped]) -> None:
        self.left_out += len(skipped)
        self.named = (*self.named, *skipped_images(skipped[: NAMED - len(self.named)]))

    def facts(self, source: str, n: int) -> dict[str, Any]:
        """What a run's record keeps of the data."""
        return {
            "data": {
                "source": source,
                "samples": n + self.copies,
                "images": n,
                "types": {"all": n},
            },
            "device": self.computed_on[0],
            "dtype": self.computed_on[1],
            "fingerprints": self.fingerprints,
            "preflight": [],
            "skipped": as_records(self.named),
            "left_out": self.left_out,
        }


def _judged(
    streamed: Streamed, encoders: Sequence[str], llms: Sequence[str], facts: dict[str, Any]
) -> StreamResult:
    from encoderlab.alignment.pair_scores import PairScores, PairVerdict, answer
    from encoderlab.metrics.catalogue import HEADLINE
    from encoderlab.metrics.coral import coral_of_moments
    from encoderlab.metrics.moments import cka_without_each, merge, score_of
    from encoderlab.metrics.uncertainty import compare_paired

    whole = merge(streamed.shares)
    if whole.n < 2:
        raise UsageError(
            "too few readable pairs to compare anything",
            got=f"{whole.n} from {facts['data']['source']}",
            want="at least 2, better 1,000",
        )
    every = list(itertools.product(encoders, llms))
    without = cka_without_each(whole, streamed.shares, every)
    rows = [
        PairScores(
            encoder,
            llm,
            {
                HEADLINE: score_of(whole, without[encoder, llm], encoder, llm),
                f"{HEADLINE}_biased": score_of(
                    whole, without[encoder, llm], encoder, llm, "biased"
                ),
            },
        )
        for encoder, llm in every
    ]
    clouds = [
        EncoderMoments(
            encoder, llm, coral_of_moments(streamed.unit[encoder], encoder, streamed.unit[llm], llm)
        )
        for encoder, llm in every
    ]
    couples = list(itertools.combinations(encoders, 2))
    verdicts = [
        PairVerdict(
            HEADLINE,
            llm,
            compare_paired(
                a,
                b,
                (whole.cka(a, llm), whole.cka(b, llm)),
                (without[a, llm], without[b, llm]),
                whole.n,
                comparisons=len(couples),
            ),
        )
        for llm in llms
        for a, b in couples
    ]
    said = answer(rows, verdicts, whole.n)
    return StreamResult(said.text, said.also, tuple(rows), tuple(clouds), tuple(verdicts), facts)


def _kept(
    result: StreamResult, streamed: Streamed, out: Path, svg: bool
) -> tuple[dict[str, str], ...]:
    from encoderlab.alignment.plots.compare import cka_both_ways
    from encoderlab.metrics.moments import merge
    from encoderlab.plots.style import save

    out.mkdir(parents=True, exist_ok=True)
    merge(streamed.shares).save(out / "moments.npz")
    return save([cka_both_ways(result.to_json())], out, svg=svg)
