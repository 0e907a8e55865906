"""`encoderlab classify`: zero-shot classification by class names, and its accuracy where labels are
known.

Reads the names and labels; `metrics.classification` computes.
"""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from encoderlab.contrastive.classify_settings import Classify
from encoderlab.core.atomic_io import write_text_atomic
from encoderlab.core.progress import collect_warnings, counted
from encoderlab.core.results import Block, Result, Table, as_text, shown
from encoderlab.core.skipped import as_notes, as_records, as_warnings, skipped_images
from encoderlab.core.spec import takes
from encoderlab.data.class_names import (
    class_key,
    class_names,
    class_numbers,
    count_strays,
    stray_sentences,
)
from encoderlab.data.csv_table import read_labels
from encoderlab.data.folder import read_folder
from encoderlab.data.sample import Sample
from encoderlab.data.unrelated import NAMES, UNRELATED_SHARE
from encoderlab.data.zero_shot_templates import TEMPLATES, TEMPLATES_KO
from encoderlab.errors import UsageError, is_utf8

if TYPE_CHECKING:
    from encoderlab.metrics.classification import Classification

SHOWN = 20
WIDEST = 44  # longer paths are cut in the table
UNFIT_SHARE = 0.1  # of the images; with classes that fit, a few are nearer to unrelated names
LISTED = 5  # rows without an image that the terminal lists; run.json has all
SPLITS = ("train", "training", "val", "valid", "validation", "dev", "test")


@dataclass(frozen=True)
class Prediction:
    """The classes of one image.

    Args:
        top: (class, probability), the most probable first.
        answer: the right class; None where it is not known.
    """

    image: str
    top: tuple[tuple[str, float], ...]
    answer: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain values for run.json."""
        top = [{"class": name, "probability": value} for name, value in self.top]
        return {"image": self.image, "answer": self.answer, "top": top}


@dataclass(frozen=True)
class ClassifyResult(Result):
    """The predictions for all images and, where labels are known, their accuracy.

    Args:
        fingerprint: of the model's weights.
        dtype: number format that the model ran in.
        templates: the sentences that the (first) class name was put into.
        accuracy: over the images whose label is one of the classes; None without any.
        strays: label -> number of images, of the labels that are none of the classes.
        unfit: number of images that more than 5 % of the names that no image shows are as near to
            as any class.
        unmatched: (path, label) of the rows of the label CSV that label no image.
        skipped: (id, reason) of the images that were left out.
    """

    records: ClassVar = "predictions"

    model: str
    fingerprint: str
    device: str
    dtype: str
    classes: tuple[str, ...]
    templates: tuple[str, ...]
    predictions: tuple[Prediction, ...]
    accuracy: Classification | None
    unfit: int = 0
    strays: dict[str, int] = field(default_factory=dict, metadata={"json": False})
    unmatched: tuple[tuple[str, str], ...] = field(default=(), metadata={"json": False})
    skipped: tuple[tuple[str, str], ...] = field(default=(), metadata={"json": False})
    warnings: tuple[str, ...] = field(default=(), metadata={"json": False})

    def to_json(self) -> dict[str, Any]:
        """The result for run.json."""
        unmatched = [{"image_path": path, "label": label} for path, label in self.unmatched]
        return {
            **super().to_json(),
            "labels_without_class": self.strays,
            "rows_without_image": unmatched,
            "skipped": as_records(self.skipped),
        }

    def blocks(self) -> list[Block]:
        """The accuracy and its confusion matrix, the first predictions, and the warnings."""
        blocks: list[Block] = [
            f"{self.model}: {counted(len(self.predictions), 'image')}, {len(self.classes)} classes"
        ]
        if self.accuracy is not None:
            blocks += self._accuracy(self.accuracy)
        elif self.strays:
            blocks.append("no accuracy: no image has a label that is one of the classes")
        blocks += [self._predictions(), *as_notes(self.warnings, self.skipped)]
        return blocks

    def to_text(self) -> str:
        """The blocks, and how to get the predictions that they do not show."""
        rest = ["all of them: --save-csv FILE or --json"] if self._hidden > 0 else []
        return as_text([*shown(self), *rest])

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

    def _accuracy(self, accuracy: Classification) -> list[Block]:
        text = (
            f"accuracy {accuracy.top1.as_percent()} over {accuracy.top1.n:,} of "
            f"{counted(len(self.predictions), 'image')} (chance {100 / len(self.classes):.1f} %)"
        )
        if accuracy.top5.value is not None:
            text += f"\ntop-5 {accuracy.top5.as_percent()}"
        rows = []
        for i, (name, recall) in enumerate(zip(self.classes, accuracy.recall, strict=True)):
            counts = [str(n or ".") for n in accuracy.confusion[i]]
            share = "-" if recall.value is None else f"{100 * recall.value:.1f} %"
            rows.append((f"{i + 1} {name}", *counts, share))
        columns = ("answer", *[f"{i + 1}" for i in range(len(self.classes))], "recall")
        title = "confusion (rows: the answer, columns: the prediction)"
        return [text, Table(columns, tuple(rows), title)]


@takes(Classify)
def run(settings: Classify, out: Path | None = None) -> ClassifyResult:
    """Zero-shot classes of the images in `image_dir`.

    Returns:
        The class of each image with its probability; accuracy and confusion where labels are known.

    Raises:
        MissingError: the folder, the model or the GPU is not there.
        UsageError: classes missing, blank or twice, a template without {}, labels that are none of
            the classes or of none of the images, or no readable image.
    """
    import numpy as np

    from encoderlab.core.score import caveats
    from encoderlab.data.sample import content_digests
    from encoderlab.encoders.dual import load_dual
    from encoderlab.feature_store.extract import embed_samples
    from encoderlab.metrics.classification import (
        class_vector,
        classification,
        probabilities,
        ranking,
    )

    samples = read_folder(settings.image_dir)
    names = _classes(settings.classes, samples)
    _check_templates(settings.templates)
    labels, unmatched = _labels(samples, settings.labels_csv, settings.image_dir, names)
    encoder = load_dual(
        settings.model,
        settings.device,
        settings.dtype,
        trust_remote_code=settings.trust_remote_code,
        backend=settings.backend,
        batch_size=settings.batch_size,
    )
    templates = [
        settings.templates or (TEMPLATES_KO if _is_hangul(name) else TEMPLATES) for name in names
    ]
    texts = [t.replace("{}", name) for name, own in zip(names, templates, strict=True) for t in own]
    ends = np.cumsum([len(own) for own in templates])
    common = settings.templates or TEMPLATES
    with collect_warnings() as text_warnings:
        vectors = [class_vector(part) for part in np.split(encoder.embed_texts(texts), ends[:-1])]
        prompts = encoder.embed_texts([t.replace("{}", name) for name in NAMES for t in common])
        unrelated = [class_vector(part) for part in np.split(prompts, len(NAMES))]
    embedded = embed_samples(encoder, samples, settings.batch_size, settings.features_dir)
    if not embedded.samples:
        raise UsageError(
            "no image can be read",
            got=f"{len(samples)} in {settings.image_dir}",
            want=f"readable images; the first says: {embedded.skipped[0].reason}",
        )
    chances = probabilities(embedded.vectors, np.stack(vectors), encoder.logit_scale)
    numbers = class_numbers(names)
    answers = [numbers.get(class_key(labels.get(s.id) or "")) for s in embedded.samples]
    predictions = tuple(
        Prediction(
            sample.id,
            tuple((names[j], float(row[j])) for j in ranking(row, answer)[: settings.top_k]),
            None if answer is None else names[answer],
        )
        for sample, row, answer in zip(embedded.samples, chances, answers, strict=True)
    )
    known = [i for i, answer in enumerate(answers) if answer is not None]
    distinct = len(known)
    accuracy = None
    doubts: tuple[str, ...] = ()
    if known:
        right = np.array([answers[i] for i in known])
        digests = content_digests([embedded.samples[i] for i in known])
        distinct = len(set(digests))
        accuracy = classification(chances[known], right, digests)
        doubts = caveats(distinct, {"top-5": accuracy.top5}, "the accuracy was measured")
        if len(set(right.tolist())) == 1 and len(known) > 1:
            doubts += (
                f"all answers are {names[int(right[0])]!r}: the accuracy is the recall of that "
                "class alone, and a model that always says it reaches 100 %",
            )
    of_classes, of_names = (embedded.vectors @ np.stack(of).T for of in (vectors, unrelated))
    nearer = (of_names >= of_classes.max(axis=1, keepdims=True)).mean(axis=1)
    unfit = int((nearer > UNRELATED_SHARE).sum())
    if unfit > UNFIT_SHARE * len(predictions):
        images = counted(len(predictions), "image")
        doubts += (
            f"{unfit:,} of {images} may fit none of the classes: several names "
            f"that no image shows, such as {NAMES[0]!r} or {NAMES[2]!r}, are nearer than any class",
        )
    skipped = skipped_images([*samples.skipped, *embedded.skipped])
    strays = count_strays((labels.get(sample.id) for sample in embedded.samples), names)
    warnings = [*as_warnings(skipped), *stray_sentences(strays, names)]
    if unmatched:
        rows = ", ".join(path for path, _ in unmatched[:LISTED])
        more = ", …" if len(unmatched) > LISTED else ""
        warnings.append(
            f"{len(unmatched):,} rows of the label CSV label no image of the folder: {rows}{more}"
        )
    if distinct < len(known):
        warnings.append(
            f"the accuracy is over {len(known):,} images, {distinct:,} of them different: its "
            "interval counts copies once"
        )
    result = ClassifyResult(
        encoder.name,
        encoder.fingerprint,
        str(encoder.device),
        encoder.ran_in,
        tuple(names),
        tuple(templates[0]),
        predictions,
        accuracy,
        unfit,
        strays,
        unmatched,
        skipped,
        (*doubts, *warnings, *text_warnings),
    )
    if settings.save_csv is not None:
        _save(result, Path(settings.save_csv), settings.top_k)
    return result


def _classes(names: str, samples: Sequence[Sample]) -> list[str]:
    if names.strip():
        return class_names(names)
    folders = sorted({sample.label for sample in samples if sample.label})
    if not folders:
        raise UsageError(
            "no classes were named and the folder has no sub-folders to name them",
            want='--classes "cat,dog,car"',
        )
    if {class_key(folder) for folder in folders} <= set(SPLITS):
        raise UsageError(
            "the sub-folders are splits, not classes",
            got=", ".join(folders),
            want="--image-dir with one of the splits, or --classes with the names",
        )
    return class_names(folders)


def _check_templates(templates: Sequence[str]) -> None:
    for template in templates:
        if not is_utf8(template):
            raise UsageError("a template is not UTF-8", got=template, want="text in UTF-8")
        if "{}" not in template:
            raise UsageError(
                "a template has no place for the class",
                got=template,
                want='text with {}, such as "a photo of {}"',
            )


def _is_hangul(text: str) -> bool:
    return any("가" <= letter <= "힣" for letter in text)


def _labels(
    samples: Sequence[Sample], labels_csv: str | None, image_dir: str, names: Sequence[str]
) -> tuple[dict[str, str], tuple[tuple[str, str], ...]]:
    """The label of each image by its id, and the rows of the label CSV that label no image."""
    if labels_csv is not None:
        return _labels_of_csv(samples, labels_csv, image_dir, names)
    known = class_numbers(names)
    labels = {}
    for sample in samples:
        folders = sample.id.split("/")[:-1]
        if sample.label not in (None, *folders[:1]):  # from a file beside the images
            folders = [str(sample.label)]
        # The first folder is the label, unless only a folder further inside is a class.
        if folders:
            classes = (folder for folder in folders if class_key(folder) in known)
            labels[sample.id] = next(classes, folders[0])
    return labels, ()


def _labels_of_csv(
    samples: Sequence[Sample], labels_csv: str, image_dir: str, names: Sequence[str]
) -> tuple[dict[str, str], tuple[tuple[str, str], ...]]:
    table = read_labels(labels_csv)
    images: dict[str, list[str]] = {}
    for sample in samples:
        if isinstance(sample.image, Path):
            images.setdefault(os.path.realpath(sample.image), []).append(sample.id)
    # One folder for all rows: otherwise a path could name images of two folders.
    deciding = [name for name in table if not os.path.isabs(name)] or list(table)
    for root in (Path(labels_csv).absolute().parent, Path(image_dir).absolute()):
        if any(os.path.realpath(root / name) in images for name in deciding):
            break
    else:
        raise UsageError(
            "no label belongs to an image of the folder",
            got=f"{next(iter(table))} in {labels_csv}",
            want=f"paths that start from the folder of the CSV, or from {image_dir}",
        )
    paths = {name: os.path.realpath(root / name) for name in table}
    labels: dict[str, str] = {}
    for name, label in table.items():
        for image in images.get(paths[name], ()):
            if class_key(labels.setdefault(image, label)) != class_key(label):
                raise UsageError(
                    f"{labels_csv} gives an image two labels",
                    got=f"{image}: {labels[image]!r} and {label!r}",
                    want="one label per image",
                )
    strays = count_strays(labels.values(), names)
    if strays:
        raise UsageError(
            "a label is none of the classes",
            got=next(iter(strays)),
            want=", ".join(names),
            hint=stray_sentences(strays, names)[0],
        )
    unmatched = tuple((name, table[name]) for name, path in paths.items() if path not in images)
    return labels, unmatched


def _save(result: ClassifyResult, path: Path, top_k: int) -> None:
    text = io.StringIO()
    table = csv.writer(text)
    numbers = range(1, min(top_k, len(result.classes)) + 1)
    heads = [f"{what}_{number}" for number in numbers for what in ("class", "probability")]
    table.writerow(["image_path", "answer", *heads])
    for p in result.predictions:
        cells = [cell for name, value in p.top for cell in (name, f"{value:.6f}")]
        table.writerow([p.image, p.answer or "", *cells])
    write_text_atomic(path, text.getvalue())
