"""Classify images by class names alone. Orchestration only."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from encoderlab.data.class_names import class_names
from encoderlab.data.csv_table import read_labels
from encoderlab.data.folder import read_folder
from encoderlab.data.sample import Sample
from encoderlab.errors import UsageError, did_you_mean
from encoderlab.experiments.left_out import as_records, as_remarks, as_warnings, left_out
from encoderlab.experiments.tables import Block, Table, as_text
from encoderlab.progress import kept_warnings
from encoderlab.whole_files import write_whole

if TYPE_CHECKING:
    from encoderlab.metrics.classification import Classification

TEMPLATES = ("{}", "a photo of {}", "a picture of {}", "an image of {}", "a drawing of {}")
TEMPLATES_KO = ("{}", "{} 사진", "{} 그림", "{} 이미지")
SHOWN = 20
WIDEST = 44  # longer paths are cut in the table


@dataclass(frozen=True)
class Prediction:
    """One image's `top` classes with their probabilities, best first; `answer` where known."""

    image: str
    top: tuple[tuple[str, float], ...]
    answer: str | None = None


@dataclass(frozen=True)
class ClassifyResult:
    """Predictions for every image and, where the answers are known, how many are right."""

    model: str
    fingerprint: str
    device: str
    dtype: str
    classes: tuple[str, ...]
    templates: tuple[str, ...]
    predictions: tuple[Prediction, ...]
    accuracy: Classification | None
    skipped: tuple[tuple[str, str], ...] = ()
    warnings: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Plain values for run.json."""
        return {
            "model": self.model,
            "fingerprint": self.fingerprint,
            "device": self.device,
            "dtype": self.dtype,
            "classes": list(self.classes),
            "templates": list(self.templates),
            "predictions": [
                {
                    "image": p.image,
                    "answer": p.answer,
                    "top": [{"class": name, "probability": value} for name, value in p.top],
                }
                for p in self.predictions
            ],
            "accuracy": None if self.accuracy is None else self.accuracy.to_json(),
            "skipped": as_records(self.skipped),
        }

    def blocks(self) -> list[Block]:
        """The answer as paragraphs and tables, in reading order."""
        blocks: list[Block] = [
            f"{self.model}: {len(self.predictions):,} images, {len(self.classes)} classes"
        ]
        if self.accuracy is not None:
            blocks += self._accuracy(self.accuracy)
        blocks += [self._predictions(), *as_remarks(self.warnings, self.skipped)]
        return blocks

    def to_text(self) -> str:
        """What the terminal shows: the tables, and where the predictions beyond them are."""
        rest = ["all of them: --save-csv FILE or --json"] if self._hidden > 0 else []
        return as_text([*self.blocks(), *rest])

    @property
    def _hidden(self) -> int:
        return len(self.predictions) - SHOWN

    def _predictions(self) -> Table:
        answered = any(p.answer is not None for p in self.predictions)
        rows = []
        for p in self.predictions[:SHOWN]:
            name = p.image if len(p.image) <= WIDEST else "…" + p.image[1 - WIDEST :]
            top = ", ".join(f"{c} {100 * value:.0f} %" for c, value in p.top)
            mark = ""
            if p.answer is not None:
                mark = "✓" if p.top[0][0] == p.answer else f"✗ ({p.answer})"
            rows.append((name, top, mark) if answered else (name, top))
        columns = ("image", "classes", "right") if answered else ("image", "classes")
        more = (f"… and {self._hidden:,} more",) if self._hidden > 0 else ()
        return Table(columns, tuple(rows), said=more)

    def _accuracy(self, found: Classification) -> list[Block]:
        said = f"accuracy {found.top1.as_percent()} (chance {100 / len(self.classes):.1f} %)"
        if found.top5.value is not None:
            said += f"\ntop-5 {found.top5.as_percent()}"
        rows = []
        for i, (name, recall) in enumerate(zip(self.classes, found.recall, strict=True)):
            counts = [str(n or ".") for n in found.confusion[i]]
            share = "-" if recall.value is None else f"{100 * recall.value:.1f} %"
            rows.append((f"{i + 1} {name}", *counts, share))
        columns = ("answer", *[f"{i + 1}" for i in range(len(self.classes))], "recall")
        title = "confusion (rows: the answer, columns: the prediction)"
        return [said, Table(columns, tuple(rows), title)]


def run(
    *,
    out: Path | None = None,
    image_dir: str = "data/images",
    classes: str | Sequence[str] = "",
    templates: Sequence[str] = (),
    model: str = "tiny-clip",
    top_k: int = 5,
    labels_csv: str | None = None,
    save_csv: str | None = None,
    batch_size: int = 64,
    device: str = "auto",
    dtype: str = "auto",
    backend: str = "torch",
    seed: int = 0,
) -> ClassifyResult:
    """Zero-shot classes of the images in `image_dir`.

    Args:
        classes: names, comma-separated or a sequence; empty: the names of the sub-folders.
        templates: sentences with {} for the class; built-in ones if empty, Korean ones for names in
            Hangul.
        labels_csv: image_path,label: the right answers; else the sub-folders' names are, where they
            are classes.

    Raises:
        MissingError: the folder, the model or the GPU is not there.
        UsageError: classes missing, blank or twice, a template without {}, or no readable image.
    """
    import numpy as np

    from encoderlab.data.sample import contents, first_of_each
    from encoderlab.encoders.dual import load_dual
    from encoderlab.features.embed import embed_samples
    from encoderlab.metrics.classification import class_vector, classification, probabilities
    from encoderlab.metrics.score import doubts

    if top_k < 1:
        raise UsageError("top_k must be at least 1", got=top_k)
    samples = read_folder(image_dir)
    names = _classes(classes, samples)
    sentences = _templates(templates, names)
    answers = _answers(samples, labels_csv, image_dir, names)
    encoder = load_dual(model, device, dtype, backend=backend, batch_size=batch_size)
    used = [sentences or (TEMPLATES_KO if _is_hangul(name) else TEMPLATES) for name in names]
    texts = [t.replace("{}", name) for name, own in zip(names, used, strict=True) for t in own]
    ends = np.cumsum([len(own) for own in used])
    with kept_warnings() as warned:
        vectors = [class_vector(part) for part in np.split(encoder.embed_texts(texts), ends[:-1])]
    embedded = embed_samples(encoder, samples, batch_size)
    if not embedded.samples:
        raise UsageError(
            "not one image can be read",
            got=f"{len(samples)} in {image_dir}",
            want=f"readable images; the first says: {embedded.skipped[0].reason}",
        )
    chances = probabilities(embedded.vectors, np.stack(vectors), encoder.logit_scale)
    best = np.argsort(-chances, axis=1, kind="stable")[:, :top_k]
    predictions = tuple(
        Prediction(
            sample.id,
            tuple((names[j], float(chances[i, j])) for j in best[i]),
            answers.get(sample.id),
        )
        for i, sample in enumerate(embedded.samples)
    )
    keys = contents(embedded.samples)
    # Copies of an image with the same answer are one observation.
    answered = [(key, p.answer) for key, p in zip(keys, predictions, strict=True)]
    known = [i for i in first_of_each(answered) if predictions[i].answer is not None]
    accuracy = None
    doubtful: tuple[str, ...] = ()
    if known:
        right = np.array([names.index(str(predictions[i].answer)) for i in known])
        accuracy = classification(chances[known], right)
        doubtful = doubts(len(known), {"top-5": accuracy.top5}, "the accuracy was measured")
        if len(set(right)) == 1 and len(known) > 1:
            doubtful += (
                f"all answers are {names[right[0]]!r}: the accuracy is the recall of that class "
                "alone, and a model that always says it reaches 100 %",
            )
    skipped = left_out([*samples.skipped, *embedded.skipped])
    warnings = [*as_warnings(skipped)]
    copies = sum(p.answer is not None for p in predictions) - len(known)
    if copies:
        warnings.append(
            f"{copies:,} images copy another one with the same answer: the accuracy counts "
            "each image once"
        )
    result = ClassifyResult(
        encoder.name, encoder.fingerprint,
        str(encoder.device), encoder.ran_in, tuple(names),
        tuple(sentences) or (TEMPLATES_KO if _is_hangul(names[0]) else TEMPLATES),
        predictions, accuracy, skipped, (*doubtful, *warnings, *warned),
    )  # fmt: skip
    if save_csv is not None:
        _save(result, Path(save_csv), top_k)
    return result


def _classes(given: str | Sequence[str], samples: Sequence[Sample]) -> list[str]:
    if not given or (isinstance(given, str) and not given.strip()):
        given = sorted({sample.label for sample in samples if sample.label})
        if not given:
            raise UsageError(
                "no classes were named and the folder has no sub-folders to name them",
                want='--classes "cat,dog,car"',
            )
    return class_names(given)


def _templates(given: Sequence[str], names: Sequence[str]) -> tuple[str, ...]:
    for template in given:
        if "{}" not in template:
            raise UsageError(
                "a template has no place for the class",
                got=template,
                want='text with {}, such as "a photo of {}"',
            )
    return tuple(given)


def _is_hangul(text: str) -> bool:
    return any("가" <= letter <= "힣" for letter in text)


def _answers(
    samples: Sequence[Sample], labels_csv: str | None, image_dir: str, names: Sequence[str]
) -> dict[str, str]:
    """The known answer of each image, by its id."""
    if labels_csv is None:
        # Sub-folders that are no classes of this list are just folders.
        return {s.id: s.label for s in samples if s.label is not None and s.label in names}
    table = read_labels(labels_csv)
    stray = sorted({label for label in table.values() if label not in names})
    if stray:
        near = did_you_mean(stray[0], names)
        raise UsageError(
            "a label is none of the classes",
            got=stray[0],
            want=", ".join(names),
            hint=f"did you mean {near!r}?" if near else None,
        )
    root = Path(image_dir).resolve()
    beside = Path(labels_csv).resolve().parent
    by_path: dict[Path, str] = {}
    for name, label in table.items():
        by_path[(root / name).resolve()] = label
        by_path[(beside / name).resolve()] = label
    found = {
        s.id: by_path[p]
        for s in samples
        if isinstance(s.image, Path) and (p := s.image.resolve()) in by_path
    }
    if not found:
        raise UsageError(
            "no label belongs to an image of the folder",
            got=f"{next(iter(table))} in {labels_csv}",
            want=f"paths under {image_dir}, or beside the CSV",
        )
    return found


def _save(result: ClassifyResult, path: Path, top_k: int) -> None:
    text = io.StringIO()
    rows = csv.writer(text)
    shown = min(top_k, len(result.classes))
    rows.writerow(
        [
            "image_path",
            "answer",
            *(f"{what}_{i + 1}" for i in range(shown) for what in ("class", "probability")),
        ]
    )
    for p in result.predictions:
        rows.writerow(
            [
                p.image,
                p.answer or "",
                *(cell for name, value in p.top for cell in (name, f"{value:.6f}")),
            ]
        )
    write_whole(path, text.getvalue())
