"""How often the first three pictures fit a short query, for the card of a CLIP or SigLIP."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from PIL import Image

from encoderlab.core.score import Score
from encoderlab.data.synthetic import render_arrays
from encoderlab.encoders.dual import DualEncoder, load_dual
from encoderlab.metrics.answers import least_half_width
from encoderlab.metrics.uncertainty import jackknife_interval
from recipes.short_captions import OBJECTS, tags_of

PICTURES = 3000  # 600 scenes among them
FIRST = 3
PARTS = 20  # of the pictures, each left out once
BATCH = 100
KINDS: dict[str, Callable[[list[str]], bool]] = {
    "shape": lambda words: len(words) == 1,
    "colour and shape": lambda words: len(words) == 2 and words[0] not in ("small", "large"),
    "size and shape": lambda words: len(words) == 2 and words[0] in ("small", "large"),
    "size, colour and shape": lambda words: len(words) == 3,
    "all of these": lambda words: True,
}


def precision_at(k: int, cosines: np.ndarray, right: np.ndarray) -> tuple[np.ndarray, float]:
    """Precision among the first k of every query; ties are broken by the order of pictures.

    Args:
        k: how many pictures are looked at.
        cosines: (queries, pictures).
        right: (queries, pictures), at least k right ones for each query.

    Returns:
        The share of each query (queries,), and chance: the mean share of right pictures.
    """
    first = np.argsort(-cosines, axis=1, kind="stable")[:, :k]
    hits = np.take_along_axis(right, first, axis=1).sum(axis=1)
    return hits / np.minimum(k, right.sum(axis=1).clip(min=1)), float(right.mean())


def precision(k: int, cosines: np.ndarray, right: np.ndarray) -> Score:
    """Mean precision among the first k, with its interval over pictures.

    Args:
        k: how many pictures are looked at.
        cosines: (queries, pictures).
        right: (queries, pictures), at least k right ones for each query.

    Returns:
        The mean over queries. "red star" and "large star" name the same pictures, so queries are
        no independent samples: parts of the pictures are left out. Where all queries have the same
        share, the exact bound of the share of queries that differ.
    """
    shares, chance = precision_at(k, cosines, right)
    value, n = float(shares.mean()), len(shares)
    part = np.random.default_rng(0).permutation(right.shape[1]) % PARTS
    left_out = [
        precision_at(k, cosines[:, part != i], right[:, part != i])[0].mean() for i in range(PARTS)
    ]
    ends = jackknife_interval(value, np.array(left_out), bounds=(0.0, 1.0))
    if np.ptp(shares) == 0:
        half = least_half_width(np.arange(n))
        ends = max(0.0, value - half), min(1.0, value + half)
    estimator = "mean over queries; delete-a-twentieth jackknife over pictures"
    return Score(value, *ends, chance, n, estimator)


def short_queries(
    encoder: DualEncoder, pictures: Sequence[Image.Image], tags: Sequence[Sequence[str]]
) -> dict[str, dict[str, Score]]:
    """Precision at 3 of the names of objects that fit at least three of the pictures.

    Args:
        encoder: both towers.
        pictures: what is searched.
        tags: the names of objects that each picture shows.

    Returns:
        Kind of query -> language -> precision at 3.
    """
    vectors = np.concatenate(
        [
            encoder.embed_images(list(pictures[i : i + BATCH]))
            for i in range(0, len(pictures), BATCH)
        ]
    )
    names = [name for name in OBJECTS if sum(name in own for own in tags) >= FIRST]
    right = np.array([[name in own for own in tags] for name in names])
    scores: dict[str, dict[str, Score]] = {}
    for language, texts in (("en", names), ("ko", [OBJECTS[name] for name in names])):
        cosines = encoder.embed_texts(texts) @ vectors.T
        for kind, fits in KINDS.items():
            rows = [i for i, name in enumerate(names) if fits(name.split())]
            if len(rows) > 1:
                score = precision(FIRST, cosines[rows], right[rows])
                scores.setdefault(kind, {})[language] = score
    return scores


def named_pictures(number: int) -> tuple[list[Image.Image], list[list[str]]]:
    """So many pictures that no training has seen, and the names of objects that each shows."""
    rendered = render_arrays(range(number), split="test")
    pictures = [Image.fromarray(pixels) for pixels in rendered.pixels]
    tags = [tags_of(k, t[0]) for k, t in zip(rendered.labels, rendered.texts, strict=True)]
    return pictures, tags


def rows_of(model: str) -> Iterator[str]:
    """Rows of the card's table, measured on held-out pictures."""
    encoder = load_dual(model, dtype="float32")
    for kind, scores in short_queries(encoder, *named_pictures(PICTURES)).items():
        english, korean = scores["en"], scores["ko"]
        yield (
            f"| {kind} ({english.n} queries) | {english.as_percent()} | {korean.as_percent()} | "
            f"{100 * (english.chance or 0):.1f} % |"
        )
