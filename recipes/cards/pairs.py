"""The card of a CLIP or SigLIP: retrieval and zero-shot classification on held-out data."""

from __future__ import annotations

import csv
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from encoderlab.contrastive import classify, evaluate
from encoderlab.core.score import Score
from encoderlab.data.synthetic import KINDS, generate, write_dataset
from recipes.cards import short_queries
from recipes.cards.facts import Facts
from recipes.settings import CLIPS

SYNTHETIC_IMAGES = 1000

ABOUT = """
A small {family} for trying EncoderLab without a download: {millions:.2f} M parameters (fp16,
{megabytes:.1f} MB), images of {size} x {size} pixels, patches of {patch}. It was trained from
scratch with EncoderLab{loss} and loads in transformers as a `{architecture}`.

The training data are coloured shapes, simple charts, tables, documents and sums with English and
Korean captions, and some emoji, clothes and real charts. It cannot read small text, so it does not
distinguish real tables, and its only photographs are of clothes. For real data, use a checkpoint
from the hub (`--model {alias}`).
"""

MEASURED = """
95 % intervals in brackets; ties count against the model. Image to text ranks distinct captions,
 text to image ranks images; a query counts as correct if any of its matches is in the top K.

### Retrieval

| data | measure | image to text | text to image | chance (i2t, t2i) |
|---|---|---|---|---|
{retrieval}

### Short queries

Precision at 3 over 3,000 held-out pictures of all kinds: the share of the first three results that
show the named object. Queries are names such as "red star" that match at least three pictures.
95 % intervals over pictures in brackets; where every query has 100 %, over queries.

| query | English | Korean | chance |
|---|---|---|---|
{short}

### Zero-shot classification

| data | classes | accuracy | chance |
|---|---|---|---|
{zero_shot}
"""


def retrieval_rows(name: str, model: str, table: Path, cutoffs: tuple[int, ...]) -> Iterator[str]:
    """Rows of the retrieval table for one CSV."""
    result = evaluate.run(csv=str(table), model=model, dtype="float32").retrieval
    both = (result.image_to_text, result.text_to_image)
    for k in cutoffs:
        first, second = (direction.recall[k] for direction in both)
        label = f"{name} ({result.images:,} images, {result.distinct_captions:,} captions)"
        yield (
            f"| {label if k == cutoffs[0] else ''} | Recall@{k} | {first.as_percent()} | "
            f"{second.as_percent()} | {_percent(first)}, {_percent(second)} |"
        )


def _percent(score: Score) -> str:
    return "-" if score.chance is None else f"{100 * score.chance:.1f} %"


def zero_shot_row(name: str, model: str, folder: Path, **more: str) -> str:
    """The row of the classification table for one folder."""
    result = classify.run(image_dir=str(folder), model=model, dtype="float32", **more)
    assert result.accuracy is not None
    top = result.accuracy.top1
    return (
        f"| {name} ({top.n:,} images) | {', '.join(result.classes)} | {top.as_percent()} | "
        f"{_percent(top)} |"
    )


def about(config: dict[str, Any], facts: Facts) -> str:
    """The description of the model."""
    siglip = config["model_type"] == "siglip"
    vision = config["vision_config"]
    return ABOUT.format(
        family="SigLIP" if siglip else "CLIP",
        loss=" and the sigmoid loss" if siglip else "",
        architecture=config["architectures"][0],
        alias="siglip" if siglip else "clip",
        size=vision["image_size"],
        patch=vision["patch_size"],
        **vars(facts),
    )


def measured(folder: Path, real: Path | None) -> str:
    """Both tables, measured now."""
    model = str(folder)
    with tempfile.TemporaryDirectory() as work:
        world = write_dataset(Path(work) / "world", SYNTHETIC_IMAGES, languages=("en", "ko"))
        retrieval = [
            *retrieval_rows("synthetic world, English", model, world / "captions.en.csv", (1, 5)),
            *retrieval_rows(
                "the same, only captions that no training picture has",
                model,
                _new_captions(world, CLIPS[folder.name].pictures()),
                (1,),
            ),
            *retrieval_rows("synthetic world, Korean", model, world / "captions.ko.csv", (1, 5)),
        ]
        zero_shot = [
            zero_shot_row("synthetic world", model, world / "images", classes=",".join(KINDS))
        ]
        if real is not None:
            for name, table in (
                ("emoji, English", "emoji-bilingual/test.en.csv"),
                ("emoji, Korean", "emoji-bilingual/test.ko.csv"),
                ("charts", "vega-charts/test.csv"),
                ("tables", "wikitables-mini/test.csv"),
                ("mathematics, English and Korean", "math-ko-en/test.csv"),
            ):
                retrieval += retrieval_rows(name, model, real / table, (1, 10))
            for name, column in (("clothes, English", "name"), ("clothes, Korean", "name_ko")):
                labels, classes = _clothes(real, column, Path(work))
                zero_shot.append(
                    zero_shot_row(
                        name,
                        model,
                        real / "clothing-small/images/test",
                        labels_csv=str(labels),
                        classes=",".join(classes),
                    )
                )
    return MEASURED.format(
        retrieval="\n".join(retrieval),
        short="\n".join(short_queries.rows_of(model)),
        zero_shot="\n".join(zero_shot),
    )


def _new_captions(world: Path, trained_on: Sequence[tuple[str | None, range]]) -> Path:
    """The pictures of `world` whose complete caption none of the training pictures has.

    Pictures of the two splits differ in their seeds, but there are only so many short sentences.
    """
    # Words do not depend on the size: the smallest picture is the fastest.
    seen = {
        generate(number, split="train", kind=kind, size=8).captions[0]
        for kind, numbers in trained_on
        for number in numbers
    }
    with (world / "captions.en.csv").open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["caption"] not in seen]
    table = world / "captions.new.csv"
    with table.open("w", encoding="utf-8", newline="") as file:
        out = csv.DictWriter(file, ["image_path", "caption"])
        out.writeheader()
        out.writerows(rows)
    return table


def _clothes(real: Path, column: str, work: Path) -> tuple[Path, list[str]]:
    """The test split's labels in one language, and all class names."""
    table = real / "clothing-small" / "labels.csv"
    with table.open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["split"] == "test"]
    labels = work / f"labels.{column}.csv"
    with labels.open("w", encoding="utf-8", newline="") as file:
        out = csv.writer(file)
        out.writerow(["image_path", "label"])
        out.writerows((str(table.parent / row["image_path"]), row[column]) for row in rows)
    return labels, sorted({row[column] for row in rows})
