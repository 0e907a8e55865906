"""Measure retrieval of a model on held-out pairs. Orchestration only."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from encoderlab.contrastive.evaluate_settings import Evaluate
from encoderlab.core.progress import collect_warnings, counted
from encoderlab.core.results import Block, Table, as_text
from encoderlab.core.skipped import (
    as_notes,
    as_records,
    as_warnings,
    skipped_images,
)
from encoderlab.core.spec import takes
from encoderlab.data import read_samples
from encoderlab.errors import UsageError

if TYPE_CHECKING:
    from encoderlab.metrics.retrieval import Retrieval


@dataclass(frozen=True)
class EvaluateResult:
    """Recall, MRR and median rank both ways, with what was measured on."""

    model: str
    fingerprint: str
    device: str
    dtype: str
    csv: str
    retrieval: Retrieval
    skipped: tuple[tuple[str, str], ...] = ()
    warnings: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Plain values for run.json."""
        return {
            "model": self.model,
            "fingerprint": self.fingerprint,
            "device": self.device,
            "dtype": self.dtype,
            "csv": self.csv,
            **self.retrieval.to_json(),
            "skipped": as_records(self.skipped),
        }

    def blocks(self) -> list[Block]:
        """The answer as paragraphs and tables, in reading order."""
        found = self.retrieval
        about = (
            f"{self.model} on {counted(found.images, 'image')}, "
            f"{counted(found.captions, 'caption')} ({found.distinct_captions:,} distinct)"
        )
        rows = []
        both = (found.image_to_text, found.text_to_image)
        for k in found.image_to_text.recall:
            pair = [direction.recall[k] for direction in both]
            chances = ", ".join(
                "-" if s.chance is None else f"{100 * s.chance:.2f} %" for s in pair
            )
            rows.append((f"Recall@{k}", *[score.as_percent() for score in pair], chances))
        for name, attribute, digits in (("MRR", "mrr", 3), ("median rank", "median_rank", 0)):
            pair = [getattr(direction, attribute) for direction in both]
            cells = [
                s.as_number(digits) if s.value is not None else f"undefined ({s.undefined})"
                for s in pair
            ]
            chances = ", ".join("-" if s.chance is None else f"{s.chance:.{digits}f}" for s in pair)
            rows.append((name, *cells, chances))
        said = (
            "in brackets: 95 % interval; ties count against the model",
            *[f"with ties counted for it: {text}" for text in self._optimistic()],
        )
        columns = ("measure", "image to text", "text to image", "chance (i2t, t2i)")
        remarks = as_notes(self.warnings, self.skipped)
        return [about, Table(columns, tuple(rows), said=said), *remarks]

    def to_text(self) -> str:
        """What the terminal shows."""
        return as_text(self.blocks())

    def _optimistic(self) -> list[str]:
        found = self.retrieval
        return [
            f"{name} Recall@{k} {100 * score.optimistic:.1f} %"
            for name, direction in (
                ("image to text", found.image_to_text),
                ("text to image", found.text_to_image),
            )
            for k, score in direction.recall.items()
            if score.optimistic is not None
        ]


@takes(Evaluate)
def run(settings: Evaluate, out: Path | None = None) -> EvaluateResult:
    """Recall@1/5/10, MRR and median rank of `model` on the pairs of `csv`, both directions.

    `out` and `seed` are taken for the sake of the common face: nothing is drawn or random here.

    Raises:
        MissingError: the data, the model or the GPU is not there.
        UsageError: no captions, no readable image, or a model that cannot be evaluated.
    """
    import numpy as np

    from encoderlab.core.score import caveats
    from encoderlab.data.sample import content_digests, merge_duplicates
    from encoderlab.encoders.dual import load_dual
    from encoderlab.feature_store.extract import embed_samples
    from encoderlab.metrics.retrieval import retrieval

    named = read_samples(settings.csv, settings.img_root).with_texts()
    # A copy of an image would tie with it, and count as another query.
    samples = merge_duplicates(named, content_digests(named))
    if not samples:
        raise UsageError("no image has a caption", got=settings.csv, want="captions to retrieve by")
    encoder = load_dual(
        settings.model,
        settings.device,
        settings.dtype,
        trust_remote_code=settings.trust_remote_code,
        backend=settings.backend,
        batch_size=settings.batch_size,
    )
    embedded = embed_samples(encoder, samples, settings.batch_size, settings.features_dir)
    if not embedded.samples:
        raise UsageError(
            "not one image can be read",
            got=f"{len(samples)} in {settings.csv}",
            want=f"readable images; the first says: {embedded.skipped[0].reason}",
        )
    texts = [text for sample in embedded.samples for text in sample.texts]
    owner = np.repeat(np.arange(len(embedded.samples)), [len(s.texts) for s in embedded.samples])
    with collect_warnings() as warned:
        text_vectors = encoder.embed_texts(texts)
    found = retrieval(embedded.vectors, text_vectors, image_of_text=owner, texts=texts)
    skipped = skipped_images([*samples.skipped, *embedded.skipped])
    warnings = [*as_warnings(skipped), *warned]
    if len(samples) < len(named):
        warnings.append(
            f"{len(named):,} images are copies of {len(samples):,}: the copies of one count as "
            "one image with all their captions"
        )
    recalls = {
        f"{name} Recall@{k}": score
        for name, direction in (
            ("image to text", found.image_to_text),
            ("text to image", found.text_to_image),
        )
        for k, score in direction.recall.items()
    }
    warnings += caveats(found.images, recalls)
    shared = 1 - found.distinct_captions / found.captions
    if shared > 0.01:
        warnings.append(
            f"{shared:.1%} of the captions repeat another word for word: they count as "
            "one, right for every image that has them"
        )
    return EvaluateResult(
        encoder.name,
        encoder.fingerprint,
        str(encoder.device),
        encoder.ran_in,
        settings.csv,
        found,
        skipped,
        tuple(warnings),
    )
