"""Writes the card of the bundled compressors: `python -m recipes.compressor_card --real FOLDER`.

Measures them and every other method on held-out images of the synthetic world and of clothes, with
`--against NAME:FOLDER ...` also compressors that were trained in other ways. `--runs FOLDER ...`
first bundles the best epochs of those training runs, in fp16. `--evaluation FOLDER` only makes that
run of `encoderlab compress evaluate` the one that the web page shows.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from encoderlab.compression.compress import run
from encoderlab.compression.compressor import Compressor, shipped
from encoderlab.compression.evaluate import CompressEvaluationResult
from encoderlab.compression.settings import (
    CompressData,
    CompressEvaluation,
    CompressModel,
    CompressorShape,
)
from encoderlab.compression.stored_evaluation import keep
from encoderlab.compression.trainer import Recipe
from encoderlab.core.atomic_io import write_text_atomic
from encoderlab.core.results import score_text
from encoderlab.errors import EncoderLabError
from encoderlab.metrics.uncertainty import Verdict
from encoderlab.zoo import ZOO
from recipes.real_data import SETS

SYNTHETIC_IMAGES, FIT_IMAGES = 1000, 3000
SYNTHETIC_TRAINED = 8000
TRAINED, TRAINED_ANSWERS = "trained", "trained_answers"
TASKS = ("embedding", "embedding_hard", "retrieval", "retrieval_hard")
USED = ("clothing-small", "vega-charts", "wikitables-mini", "math-ko-en")

CARD = """---
license: mit
library_name: encoderlab
---

# Token compressors for {encoders}

They reduce the 144 patch tokens (12 x 12) of an encoder: progressive strided convolutions in
parallel with a linear path initialised by block-PCA, and a decoder back to the full grid, in fp16.
They serve the bundled encoders, to try the evaluation offline; train your own for another encoder.

| compressor | encoder, layer | tokens | parameters | trained on |
|---|---|---|---|---|
{list}

Those trained on answers start from the one trained by reconstruction and add a second loss: the
negative log-likelihood of the right answers by a frozen VLM that reads the rebuilt tokens.

```
encoderlab compress evaluate
encoderlab compress evaluate --model tiny-siglip --answers tiny-vlm
```

## How it was made

{commands}

`REAL` is the folder of the real sets credited below; seed 0, two-core CPU with bf16.

## Measured on held-out images

`kept` is (score - floor) / (full - floor): 0 if every patch is the mean token of the data set, 1
with all tokens; rebuilt tokens are put back into the encoder with the true class token, or with the
mean token if there is none. `error` is the squared error divided by the variance about the mean
token; `distance` the sliced Wasserstein distance of the kept tokens to real ones, with that of two
samples of real ones for comparison; `same neighbours` the share of the ten nearest images that stay
the same. 95 % intervals over images in brackets. Bold: trained compressors. token_pca and block_pca
are fitted bounds. {fitted}

{tables}
{verdicts}
{variants}
## Credits

{credits}

The images of these sets are not part of this project.
"""


def ship(run: Path) -> Path:
    """Makes the best epoch of a training run one of the bundled compressors."""
    compressor = Compressor.from_checkpoint(run / "checkpoints" / "best_model.pt")
    (before, _), ((after, _), *_) = compressor.grid, compressor.budgets
    name = f"{compressor.about['encoder']}-{before}to{after}"
    name += "-answers" if compressor.about.get("answers") else ""
    return compressor.save_pretrained(ZOO / "compressors" / name, half=True)


def write_card(real: Path | None, against: Sequence[str], notes: str = "") -> Path:
    """Measures the bundled compressors and writes their README.md."""
    folders = shipped()
    compressors = {name: Compressor.from_pretrained(path) for name, path in folders.items()}
    encoders = list(dict.fromkeys(str(c.about["encoder"]) for c in compressors.values()))
    results = {}
    for encoder in encoders:
        own = {name: c for name, c in compressors.items() if c.about["encoder"] == encoder}
        results[f"{encoder}: synthetic world (test split)"] = _evaluated(own, [], [], against)
        if real is not None:
            clothes = real / "clothing-small"
            results[f"{encoder}: photographs of clothes (clothing-small, test split)"] = _evaluated(
                own, [str(clothes / "test.csv")], [str(clothes / "train.csv")], against
            )
    text = CARD.format(
        encoders=" and ".join(encoders),
        list="\n".join(_row(name, compressor) for name, compressor in compressors.items()),
        commands="```\n" + "\n".join(map(_command, compressors.values())) + "\n```",
        fitted=f"They were fitted on at most {FIT_IMAGES:,} images of the measured kind; the "
        "trained ones on the mixture named above.",
        tables="\n".join(_tables(title, result) for title, result in results.items()),
        verdicts=_verdicts(results),
        variants=notes,
        credits="\n".join(f"- {data.credit}" for data in SETS if data.name in USED),
    )
    card = next(iter(folders.values())).parent / "README.md"
    write_text_atomic(card, text)
    return card


def _row(name: str, compressor: Compressor) -> str:
    about, parameters = compressor.about, compressor.model.parameters()
    answers = about.get("answers")
    cells = (
        f"`{name}`", f"`{about['encoder']}`, {about['layer']}",
        ", ".join(str(h * w) for h, w in compressor.budgets),
        f"{sum(p.numel() for p in parameters) / 1e6:.2f} M",
        f"answers of `{answers}`" if answers else "reconstruction",
    )  # fmt: skip
    return f"| {' | '.join(cells)} |"


def _evaluated(
    own: Mapping[str, Compressor], images: list[str], fit: list[str], against: Sequence[str]
) -> CompressEvaluationResult:
    labels = {
        name: TRAINED_ANSWERS if c.about.get("answers") else TRAINED for name, c in own.items()
    }
    names = [f"{label}:{name}" for name, label in labels.items()]
    (encoder,) = {str(compressor.about["encoder"]) for compressor in own.values()}
    others = [
        name for name in against
        if Compressor.from_pretrained(name.rpartition(":")[2]).about["encoder"] == encoder
    ]  # fmt: skip
    result = run(
        action="evaluate",
        model=CompressModel(encoder),
        data=CompressData(images=images),
        evaluation=CompressEvaluation(
            n_samples=SYNTHETIC_IMAGES, n_fit=FIT_IMAGES, fit_images=fit,
            compressors=[*names, *others],
            parts=["reinjection", "loyalty"],
        ),
    )  # fmt: skip
    assert isinstance(result, CompressEvaluationResult)
    return result


def _command(compressor: Compressor) -> str:
    about, usual = compressor.about, CompressorShape()
    words = ["encoderlab compress"]
    if about["encoder"] != CompressModel().name:
        words.append(f"--model {about['encoder']}")
    if about.get("answers"):  # rows are questions, one in each language
        return " ".join([
            *words, f"--answers {about['answers']}", "evaluation.languages=[en,ko]",
            f"data.n_samples={about['images'] // 2}", f"--init {about['init']}",
            f"--epochs {about['epochs']}", f"--lr {about['lr']}",
        ])  # fmt: skip
    words += [
        "--images synthetic",
        *(f"REAL/{name}/train.csv" for name in USED),
        f"data.n_samples={SYNTHETIC_TRAINED}",
        f"--grid {compressor.budgets[0][0]}",
        f"training.epochs={about['epochs']}",
    ]
    if compressor.model.shape.width != usual.width:
        words.append(f"model.compressor.width={compressor.model.shape.width}")
    if about["wgan_weight"] != Recipe.of().wgan_weight:
        words.append(f"training.wgan_weight={about['wgan_weight']}")
    if about["distribution"] != Recipe.of().distribution:
        words.append(f"--distribution {about['distribution']}")
    return " ".join(words)


def _tables(title: str, result: CompressEvaluationResult) -> str:
    lines = [f"### {title}, {result.images:,} images", ""]
    for task, ends in result.scales.items():
        if task in TASKS:
            lines.append(
                f"- {_title(task)}: all tokens {ends['full']:.3f}, floor {ends['floor']:.3f}"
            )
    for budget in dict.fromkeys(tuple(row["budget"]) for row in result.rows):
        rows = [row for row in result.rows if tuple(row["budget"]) == budget]
        count = budget[0] * budget[1]
        floor = rows[0]["distance_floor"]
        columns = " | ".join(f"{_title(task)} kept" for task in TASKS)
        lines += [
            "",
            f"**{count} of 144 tokens**; two draws of real tokens are {floor:.3f} apart",
            "",
            f"| method | error | distance | {columns} | same neighbours |",
            "|---" * (len(TASKS) + 4) + "|",
        ]
        measured = [row for row in rows if row["nmse"]]
        for row in sorted(measured, key=lambda row: row["nmse"]["value"]):
            name = row["method"]
            bold = "**" if not row["training_free"] and not name.endswith("_pca") else ""
            kept = " | ".join(score_text(row["kept"].get(task)) for task in TASKS)
            near = row["neighbours"]
            lines.append(
                f"| {bold}{name}{bold} | {score_text(row['nmse'])} | "
                f"{score_text(row['distance'])} | {kept} | "
                f"{'-' if near is None else format(near['value'], '.3f')} |"
            )
    return "\n".join([*lines, ""])


def _verdicts(results: Mapping[str, CompressEvaluationResult]) -> str:
    """The bundled compressors against the other methods: ahead, level, behind."""
    lines = ["### Paired verdicts, all methods of a budget together (Bonferroni)", ""]
    for title, result in results.items():
        budgets = dict.fromkeys(tuple(verdict["budget"]) for verdict in result.verdicts)
        for name, budget in itertools.product((TRAINED, TRAINED_ANSWERS), budgets):
            for task in ("error", "distance", *TASKS):
                wanted = (name, budget, task)
                chosen = [
                    v for v in result.verdicts if (v["a"], tuple(v["budget"]), v["task"]) == wanted
                ]
                if chosen:
                    tokens = f"{budget[0] * budget[1]} tokens"
                    ranks = standing(chosen, "**")
                    lines.append(f"- {title}, {name}, {tokens}, {_title(task)}: {ranks}")
    return "\n".join([*lines, ""])


def standing(verdicts: Sequence[Mapping[str, Any]], mark: str = "") -> str:
    """How one method compares with the others, such as "behind tome, ahead of 9 of 10".

    Args:
        verdicts: `Comparison.to_json()` of the method with each other one.
        mark: put around the names of the better methods.

    Returns:
        The text.
    """
    by = {
        kind: [verdict["b"] for verdict in verdicts if verdict["verdict"] == kind]
        for kind in Verdict
    }
    text = ""
    if by[Verdict.BEHIND]:
        text += f"{mark}behind {', '.join(by[Verdict.BEHIND])}{mark}, "
    if by[Verdict.CANNOT_DISTINGUISH]:
        text += f"cannot be distinguished from {', '.join(by[Verdict.CANNOT_DISTINGUISH])}, "
    return text + f"ahead of {len(by[Verdict.AHEAD])} of {len(verdicts)}"


def _title(task: str) -> str:
    name = task.removesuffix("_hard")
    return f"{name}, no CLS" if task.endswith("_hard") else name


def main(argv: list[str] | None = None) -> int:
    """The command line of this module."""
    parser = argparse.ArgumentParser(prog="python -m recipes.compressor_card", description=__doc__)
    parser.add_argument("--real", type=Path, help="folder of the unpacked real sets")
    parser.add_argument("--runs", type=Path, nargs="*", default=[], help="runs to ship")
    parser.add_argument("--against", nargs="*", default=[], help="NAME:FOLDER of other compressors")
    parser.add_argument(
        "--evaluation", type=Path, help="run of compress evaluate that becomes the shipped one"
    )
    parser.add_argument("--notes", type=Path, help="a text about the variants, put on the card")
    args = parser.parse_args(argv)
    notes = args.notes.read_text(encoding="utf-8") if args.notes else ""
    try:
        if args.evaluation:
            print(keep(args.evaluation))
            return 0
        for folder in args.runs:
            ship(folder)
        card = write_card(args.real, args.against, notes)
    except EncoderLabError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    print(card.read_text(encoding="utf-8"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
