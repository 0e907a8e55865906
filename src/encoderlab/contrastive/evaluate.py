"""`encoderlab evaluate`: the image-text retrieval of a model on held-out pairs.

Calls the other modules in order; `metrics.retrieval` computes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from encoderlab.contrastive.evaluate_settings import Evaluate
from encoderlab.core.progress import collect_warnings, counted
from encoderlab.core.results import Block, Result, Table
from encoderlab.core.skipped import as_notes, as_records, as_warnings, skipped_images
from encoderlab.core.spec import takes
from encoderlab.data import read_samples
from encoderlab.errors import UsageError

if TYPE_CHECKING:
    from encoderlab.core.score import Score
    from encoderlab.metrics.retrieval import Retrieval


# A direction as it is shown, and its field of `Retrieval`.
DIRECTIONS = {"image to text": "image_to_text", "text to image": "text_to_image"}


@dataclass(frozen=True)
class EvaluateResult(Result):
    """Recall, MRR and median rank in both directions.

    Args:
        fingerprint: of the model's weights.
        dtype: number format that the model ran in.
        csv: the data, as it was named.
        skipped: (id, reason) of the images that were left out.
    """

    model: str
    fingerprint: str
    device: str
    dtype: str
    csv: str
    retrieval: Retrieval = field(metadata={"json": False})
    skipped: tuple[tuple[str, str], ...] = field(default=(), metadata={"json": False})
    warnings: tuple[str, ...] = field(default=(), metadata={"json": False})

    def to_json(self) -> dict[str, Any]:
        """The result for run.json; the numbers of `retrieval` are at the top level."""
        skipped = {"skipped": as_records(self.skipped)}
        return {**super().to_json(), **self.retrieval.to_json(), **skipped}

    def blocks(self) -> list[Block]:
        """The data, the table of both directions, and the warnings."""
        retrieval = self.retrieval
        about = (
            f"{self.model} on {counted(retrieval.images, 'image')}, "
            f"{counted(retrieval.captions, 'caption')} ({retrieval.distinct_captions:,} distinct)"
        )
        rows = []
        both = [getattr(retrieval, name) for name in DIRECTIONS.values()]
        for k in retrieval.image_to_text.recall:
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
        notes = ["in brackets: 95 % interval; ties count against the model"]
        notes += [
            f"with ties counted for it: {name} {100 * score.optimistic:.1f} %"
            for name, score in _recalls(retrieval).items()
            if score.optimistic is not None
        ]
        columns = ("measure", *DIRECTIONS, "chance (i2t, t2i)")
        table = Table(columns, tuple(rows), said=tuple(notes))
        return [about, table, *as_notes(self.warnings, self.skipped)]


def _recalls(retrieval: Retrieval) -> dict[str, Score]:
    """Recall at every cutoff by a name such as "image to text Recall@5"."""
    return {
        f"{direction} Recall@{k}": score
        for direction, name in DIRECTIONS.items()
        for k, score in getattr(retrieval, name).recall.items()
    }


@takes(Evaluate)
def run(settings: Evaluate, out: Path | None = None) -> EvaluateResult:
    """Recall@1/5/10, MRR and median rank of `model` on the pairs of `csv`, both directions.

    Returns:
        Scores in [0, 1] with interval and chance, and ranks, by direction.

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
    # A copy of an image would tie with it and count as another query.
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
            "no image can be read",
            got=f"{len(samples)} in {settings.csv}",
            want=f"readable images; the first says: {embedded.skipped[0].reason}",
        )
    texts = [text for sample in embedded.samples for text in sample.texts]
    owner = np.repeat(np.arange(len(embedded.samples)), [len(s.texts) for s in embedded.samples])
    with collect_warnings() as warned:
        text_vectors = encoder.embed_texts(texts)
    measured = retrieval(embedded.vectors, text_vectors, image_of_text=owner, texts=texts)
    skipped = skipped_images([*samples.skipped, *embedded.skipped])
    warnings = [*as_warnings(skipped), *warned]
    if len(samples) < len(named):
        warnings.append(
            f"{len(named):,} images are copies of {len(samples):,}: the copies of one count as "
            "one image with all their captions"
        )
    warnings += caveats(measured.images, _recalls(measured))
    shared = 1 - measured.distinct_captions / measured.captions
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
        measured,
        skipped,
        tuple(warnings),
    )
