"""Adaptive budgets: more tokens for images that need more, the same number in the mean.

The allocation knows the tokens of the images alone, no label and no outcome. n images, t tokens.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from encoderlab.compression.answers import ANSWERS
from encoderlab.compression.bench import COMPRESS_BATCH, NMSE, Bench, Measurement
from encoderlab.compression.retention import PerImage, share
from encoderlab.compression.token_set import TokenSet
from encoderlab.core.commands import load
from encoderlab.core.progress import progress
from encoderlab.core.results import Block, Table, score_text
from encoderlab.errors import UsageError
from encoderlab.metrics.answers import accuracy, compare_answers
from encoderlab.metrics.uncertainty import Comparison, Verdict, compare_paired
from encoderlab.models.token_grid import Grid
from encoderlab.patch_tokens.methods import METHODS
from encoderlab.patch_tokens.reducer import TokenReducer
from encoderlab.patch_tokens.statistics import compressibility, smallest_grid

LOSS = 0.25  # of those that `encoderlab tokens` names the middle one
ERROR, EMBEDDING = "error", "embedding"
TITLES = {ERROR: "error", EMBEDDING: "embedding kept", ANSWERS: "right answers"}

KINDS = ("adaptive", "fixed")

Counts = Int[np.ndarray, " n"]


def able(names: Iterable[str]) -> list[str]:
    """Those of the named methods that give any number of tokens, the same for every question.

    Args:
        names: of methods, checked.

    Returns:
        At least one of them.

    Raises:
        UsageError: there is none.
    """
    made = {name: METHODS[name].made_by for name in names if name in METHODS}
    classes = {name: load(by) for name, by in made.items() if by}
    found = [n for n, c in classes.items() if not c.keeps_grid and "text" not in c.needs]
    if not found:
        raise UsageError(
            "--adaptive needs a method that gives any number of tokens",
            got=", ".join(names),
            want="kmeans, tome, random or diverse among --methods",
        )
    return found


def predicted_budgets(tokens: Float[Tensor, "n t c"], grid: Grid) -> Counts:
    """The token budget of every image as `encoderlab tokens` predicts it.

    Args:
        tokens: of the images.
        grid: (rows, columns) of the tokens.

    Returns:
        Tokens of the smallest grid to which average pooling loses at most a quarter of the image's
        variance, at least 1.
    """
    losses = [compressibility(image.unflatten(0, grid)) for image in tokens]
    return np.array([math.prod(smallest_grid(image, LOSS)) for image in losses])


def allocate(predicted: Float[np.ndarray, " n"] | Counts, budget: int, most: int) -> Counts:
    """Divides `budget` tokens an image among the images, in proportion to what they need.

    Args:
        predicted: what each image needs, above 0; only the proportions count.
        budget: the mean number of tokens, from 1 to `most`.
        most: the largest number of tokens of an image.

    Returns:
        Whole numbers from 1 to `most` with exactly the mean `budget`: proportional shares, cut to
        that range, rounded by the largest remainder; an image that needs more never gets fewer.
    """
    needs = np.asarray(predicted, dtype=np.float64)
    total = budget * len(needs)
    low, high = 0.0, most / needs.min()
    for _ in range(100):
        middle = (low + high) / 2
        enough = np.clip(middle * needs, 1, most).sum() >= total
        low, high = (low, middle) if enough else (middle, high)
    shares = np.clip(high * needs, 1, most)
    whole = np.floor(shares + 1e-9).astype(np.int64)
    largest = np.argsort(-(shares - whole), kind="stable")
    whole[largest[: total - whole.sum()]] += 1
    return whole


def rebuilt(
    pictures: TokenSet, method: TokenReducer, grid: Grid, counts: Counts
) -> Float[Tensor, "n t c"]:
    """Every image compressed to its own number of tokens, and decoded to all of them.

    Args:
        pictures: tokens of the images.
        method: gives any number of tokens.
        grid: (rows, columns) of the tokens.
        counts: number of tokens of each image.

    Returns:
        All tokens, reconstructed.
    """
    decoded = torch.empty_like(pictures.tokens)
    for count in np.unique(counts).tolist():
        same = np.flatnonzero(counts == count)
        for start in range(0, len(same), COMPRESS_BATCH):
            rows = same[start : start + COMPRESS_BATCH]
            some = pictures.part(rows)
            kept = method.compress(some.tokens, grid, count, some.side)
            decoded[rows] = method.decode(kept, grid)
    return decoded


def compare_budgets(
    bench: Bench, methods: Mapping[str, Sequence[TokenReducer]], rows: Sequence[Measurement]
) -> dict[str, Any]:
    """Measures methods with adaptive budgets beside their measurements with a fixed one.

    Args:
        bench: the measured images and the questions.
        methods: name -> the method, or the seeds of a random one; all give any number of tokens.
        rows: measurements at fixed budgets.

    Returns:
        "loss" of the predictor; "budgets", the numbers of tokens at each; "rows", for each method
        and budget the scores of error, embedding kept and right answers with adaptive and fixed
        budgets, and the paired comparison of both over images, None where there is none. A positive
        difference says that adaptive budgets are better; intervals are corrected for the number of
        methods (Bonferroni).
    """
    whole = bench.grid[0] * bench.grid[1]
    pictures = {ERROR: bench.measured}
    if bench.answers is not None:
        pictures[ANSWERS] = bench.answers.pictures
    predicted = {name: predicted_budgets(p.tokens, bench.grid) for name, p in pictures.items()}
    budgets, records = [], []
    with progress(
        "adaptive budgets", total=sum(row.method in methods for row in rows), unit="method"
    ) as bar:
        for budget in dict.fromkeys(row.budget for row in rows):
            here = [row for row in rows if row.budget == budget and row.method in methods]
            if not here:
                continue
            counts = {n: allocate(p, here[0].tokens, whole) for n, p in predicted.items()}
            given = {
                "least": int(counts[ERROR].min()), "most": int(counts[ERROR].max()),
                "mean": float(counts[ERROR].mean()), "images": len(counts[ERROR]),
            }  # fmt: skip
            budgets.append({"budget": list(budget), "tokens": here[0].tokens, **given})
            for row in here:
                scores = _measured(bench, methods[row.method], row, pictures, counts, len(here))
                records.append({"method": row.method, "budget": list(budget), **scores})
                bar.advance()
    return {"loss": LOSS, "budgets": budgets, "rows": records}


def _measured(
    bench: Bench,
    draws: Sequence[TokenReducer],
    row: Measurement,
    pictures: Mapping[str, TokenSet],
    counts: Mapping[str, Counts],
    comparisons: int,
) -> dict[str, Any]:
    """Quantity -> scores of adaptive and fixed budgets, and their comparison."""
    names = (f"{row.method}, adaptive", f"{row.method}, fixed")
    tokens = bench.measured.tokens
    errors, embeddings, texts = [], [], []
    for method in draws:
        decoded = rebuilt(pictures[ERROR], method, bench.grid, counts[ERROR])
        errors.append(_squares(decoded - tokens))
        if bench.reinjection is not None:
            embeddings.append(bench.reinjection.scores(decoded)[EMBEDDING])
        if bench.answers is not None:
            asked = rebuilt(pictures[ANSWERS], method, bench.grid, counts[ANSWERS])
            texts.append(bench.answers.ask(asked))
    variance = bench.variances.sum(dim=1).numpy()
    error, fixed = np.mean(errors, axis=0), row.per_image["error"]
    scores = [share(one, variance, NMSE) for one in (error, fixed)]
    # Less is better, so the signs are changed.
    values, parts = (
        [-float(score) for score in scores],
        [-(one.sum() - one) / (variance.sum() - variance) for one in (error, fixed)],
    )
    found = compare_paired(
        *names, (values[0], values[1]), (parts[0], parts[1]), len(error), comparisons=comparisons
    )
    record: dict[str, Any] = {ERROR: _entry(scores, found), EMBEDDING: None, ANSWERS: None}
    if embeddings:
        scale = bench.scales[EMBEDDING]
        both = np.mean(embeddings, axis=0), row.per_image[EMBEDDING]
        shares = scale.compare(*names, both, comparisons)
        record[EMBEDDING] = _entry([scale.kept(one) for one in both], shares)
    if bench.answers is not None:
        image = bench.answers.image
        right = bench.answers.right(texts), bench.answers.right(row.texts)
        answered = compare_answers(*names, right, image, comparisons)
        record[ANSWERS] = _entry([accuracy(one, image) for one in right], answered)
    return record


def _squares(x: Float[Tensor, "n t c"]) -> PerImage:
    return x.square().sum(dim=-1).double().sum(dim=1).numpy()


def _entry(scores: Sequence[Any], comparison: Comparison | None) -> dict[str, Any]:
    both = {kind: score.to_json() for kind, score in zip(KINDS, scores, strict=True)}
    return both | {"comparison": None if comparison is None else comparison.to_json()}


def blocks(adaptive: Mapping[str, Any]) -> list[Block]:
    """The comparison as a table for each budget, with a sentence below it."""
    return [
        block
        for about in adaptive["budgets"]
        for block in _of_budget(
            about, [row for row in adaptive["rows"] if row["budget"] == about["budget"]]
        )
    ]


def _of_budget(about: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> list[Block]:
    measured = [task for task in TITLES if any(row[task] for row in rows)]
    columns, cells = ["method"], [[row["method"]] for row in rows]
    for task in measured:
        columns += [TITLES[task], "fixed", "better by"]
        for row, cell in zip(rows, cells, strict=True):
            cell += [score_text({"value": row[task][kind]["value"]}) for kind in KINDS]
            compared = row[task]["comparison"]
            cell.append(score_text(compared and {**compared, "value": compared["difference"]}))
    title = (
        f"adaptive budgets: {about['tokens']} tokens in the mean, {about['least']} to "
        f"{about['most']} for an image"
    )
    legend = (
        "better by: adaptive against fixed, paired over images, intervals corrected for "
        f"{len(rows)} methods (Bonferroni)"
    )
    return [Table(tuple(columns), tuple(map(tuple, cells)), title, (legend,)), _said(about, rows)]


def _said(about: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> str:
    """For which methods adaptive budgets are better, and for which worse."""
    parts = []
    for task, title in TITLES.items():
        by = {
            kind: [
                row["method"] for row in rows
                if row[task] and row[task]["comparison"]
                and row[task]["comparison"]["verdict"] == kind
            ]
            for kind in Verdict
        }  # fmt: skip
        said = [
            f"{text} {', '.join(names)}"
            for text, names in (
                ("better for", by[Verdict.AHEAD]),
                ("worse for", by[Verdict.BEHIND]),
                ("not to be told apart for", by[Verdict.CANNOT_DISTINGUISH]),
            )
            if names
        ]
        if said:
            parts.append(f"{title} {', '.join(said)}")
    return f"{about['tokens']} tokens, adaptive against fixed: " + "; ".join(parts)
