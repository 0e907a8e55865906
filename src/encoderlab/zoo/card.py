"""The model card of an embedded checkpoint: `python -m encoderlab.zoo.card FOLDER --real FOLDER`.

Every number on it is measured here, on held-out data, by the project's own evaluation; none is
copied. Writes the card into the checkpoint's folder.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from encoderlab.data.synthetic import KINDS, generate, write_dataset
from encoderlab.errors import EncoderLabError
from encoderlab.experiments import classify, evaluate
from encoderlab.metrics.score import Score
from encoderlab.zoo.real_data import SETS
from encoderlab.zoo.recipes import CLIPS

SYNTHETIC_IMAGES = 1000
Row = tuple[str, str, str]

ABOUT = """---
license: mit
library_name: transformers
pipeline_tag: zero-shot-image-classification
language: [en, ko]
---

# {name}

A CLIP of {millions:.2f} M parameters (fp16, {megabytes:.1f} MB) for a first search, a first chart
and a first Korean query without a download: {size} x {size} pixels in patches of {patch}. It is
trained from scratch by EncoderLab's own trainer and loads in transformers as a `CLIPModel`.

It knows coloured shapes, simple charts, tables, documents and sums in English and Korean, and a
little of emoji, clothes and real charts. It does not read small text, so real tables are all alike
to it, and it has seen no photographs but those of clothes: for anything serious use a checkpoint
from the hub (`--model clip`).

## Made by

```
python -m encoderlab.zoo.train {name} --real FOLDER
python -m encoderlab.zoo.card FOLDER_OF_THE_CHECKPOINT --real FOLDER
```

Seed {seed}, {steps:,} optimiser steps{wall}. Trained on the training
split of the synthetic world and the training splits of the sets credited below.

## Measured on held-out data

95 % intervals in brackets; ties count against the model. Image to text ranks distinct captions,
text to image ranks images; a query is answered if any of its right partners is in the top K.

### Retrieval

| data | measure | image to text | text to image | chance (i2t, t2i) |
|---|---|---|---|---|
{retrieval}

### Zero-shot classification

| data | classes | accuracy | chance |
|---|---|---|---|
{zero_shot}

## Credits

{credits}

The pictures themselves are not part of this project.
"""


def retrieval_rows(name: str, model: str, table: Path, cutoffs: tuple[int, ...]) -> Iterator[str]:
    """Rows of the retrieval table for one CSV."""
    found = evaluate.run(csv=str(table), model=model, dtype="float32").retrieval
    both = (found.image_to_text, found.text_to_image)
    for k in cutoffs:
        first, second = (direction.recall[k] for direction in both)
        label = f"{name} ({found.images:,} images, {found.distinct_captions:,} captions)"
        yield (
            f"| {label if k == cutoffs[0] else ''} | Recall@{k} | {first.as_percent()} | "
            f"{second.as_percent()} | {_percent(first)}, {_percent(second)} |"
        )


def _percent(score: Score) -> str:
    return "-" if score.chance is None else f"{100 * score.chance:.1f} %"


def zero_shot_row(name: str, model: str, folder: Path, **more: str) -> str:
    """The row of the classification table for one folder."""
    result = classify.run(image_dir=str(folder), model=model, dtype="float32", **more)  # type: ignore[arg-type]
    assert result.accuracy is not None
    top = result.accuracy.top1
    return (
        f"| {name} ({top.n:,} images) | {', '.join(result.classes)} | {top.as_percent()} | "
        f"{_percent(top)} |"
    )


def write_card(folder: Path, real: Path | None, seconds: float | None) -> Path:
    """Measures the checkpoint in `folder` and writes its README.md."""
    model = str(folder)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    with tempfile.TemporaryDirectory() as work:
        world = write_dataset(Path(work) / "world", SYNTHETIC_IMAGES, languages=("en", "ko"))
        retrieval = [
            *retrieval_rows("synthetic world, English", model, world / "captions.en.csv", (1, 5)),
            *retrieval_rows(
                "the same, only captions that no training picture has",
                model,
                _new_captions(world, CLIPS[folder.name].synthetic_images),
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
    weights = folder / "model.safetensors"
    parameters = weights.stat().st_size / 2
    vision = config["vision_config"]
    text = ABOUT.format(
        name=folder.name,
        millions=parameters / 1e6,
        megabytes=sum(file.stat().st_size for file in folder.iterdir()) / 1e6,
        size=vision["image_size"],
        patch=vision["patch_size"],
        seed=0,
        steps=config["encoderlab"]["trained_steps"],
        wall=f", {seconds / 60:.0f} min on two CPU cores with bf16" if seconds else "",
        retrieval="\n".join(retrieval),
        zero_shot="\n".join(zero_shot),
        credits="\n".join(f"- {which.credit}" for which in SETS)
        if real
        else "The synthetic world alone.",
    )
    card = folder / "README.md"
    card.write_text(text, encoding="utf-8")
    return card


def _new_captions(world: Path, trained_on: int) -> Path:
    """The pictures of `world` whose complete caption none of the training pictures has.

    Pictures of the two splits differ in their seeds, but there are only so many short sentences.
    """
    # Words do not depend on the size: the smallest picture is the fastest.
    seen = {generate(i, split="train", size=8).captions[0] for i in range(trained_on)}
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


def main(words: list[str] | None = None) -> int:
    """The command line of this module."""
    parser = argparse.ArgumentParser(prog="python -m encoderlab.zoo.card", description=__doc__)
    parser.add_argument("folder", type=Path, help="folder of the checkpoint")
    parser.add_argument("--real", type=Path, help="folder of the unpacked real sets")
    parser.add_argument("--seconds", type=float, help="wall time of the training run")
    given = parser.parse_args(words)
    try:
        card = write_card(given.folder, given.real, given.seconds)
    except EncoderLabError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    print(card.read_text(encoding="utf-8"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
