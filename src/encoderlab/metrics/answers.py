"""Whether an answer is right: exact match, relaxed accuracy, ANLS and VQA accuracy of one question,
and the share of right answers of many, with an interval that counts images.

Pure functions of texts and numbers. Letters: q questions, g images.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy import stats

from encoderlab.core.score import Score, undefined, wilson
from encoderlab.metrics.uncertainty import (
    Comparison,
    compare_paired,
    jackknife_error,
    jackknife_interval,
)

ACCURACY = "share of questions; delete-an-image jackknife"
ALL_ALIKE = "share of questions; Wilson interval over images"
OVER_SEEDS = "mean over seeds; variance over images (delete-an-image jackknife) plus over seeds"
ARTICLES = re.compile(r"\b(a|an|the)\b")
NUMBER_WORDS = {
    word: str(number)
    for number, words in enumerate((
        "none zero 영 공", "one 하나 한 일", "two 둘 두 이", "three 셋 세 삼", "four 넷 네 사",
        "five 다섯 오", "six 여섯 육", "seven 일곱 칠", "eight 여덟 팔", "nine 아홉 구", "ten 열",
    ))
    for word in words.split()
}  # fmt: skip
THOUSANDS = re.compile(r"(?<=\d),(?=\d{3}\b)")
# Signs that are part of a number stay: 0.5, -3, 1/2, 12 %.
PUNCTUATION = re.compile(r"[^\w\s.%/+-]|[./](?!\d)|(?<!\S)[+-](?!\d)|(?<=\w)-(?=\D)", re.UNICODE)
ANLS_THRESHOLD = 0.5
RELAXED = 0.05
AGREEING = 3  # VQA accuracy: an answer that three annotators gave is right


def normalised(text: str) -> str:
    """A text without the differences that make no other answer: case, articles, punctuation,
    thousands separators, number words in English and Korean, white space.

    Args:
        text: an answer.

    Returns:
        The text in lower case, NFKC.

    >>> normalised("The two  Circles."), normalised("둘")
    ('2 circles', '2')
    """
    text = unicodedata.normalize("NFKC", text).lower().strip()
    text = PUNCTUATION.sub(" ", THOUSANDS.sub("", text))
    words = ARTICLES.sub(" ", text).split()
    return " ".join(NUMBER_WORDS.get(word, word) for word in words)


def exact_match(answer: str, right: Sequence[str]) -> bool:
    """Whether the normalised answer equals a right one.

    Args:
        answer: to judge.
        right: the right answers.

    Returns:
        True for a match; an empty answer never matches.
    """
    mine = normalised(answer)
    return bool(mine) and any(mine == normalised(text) for text in right)


def relaxed_match(answer: str, right: Sequence[str]) -> bool:
    """The relaxed accuracy of ChartQA (Masry et al. 2022): a number within 5 % of a right one, else
    the same text in any case.

    Args:
        answer: to judge.
        right: the right answers.

    Returns:
        True for a match. A right answer of 0 takes only 0.
    """
    return any(_relaxed(answer.strip(), text.strip()) for text in right)


def _relaxed(answer: str, right: str) -> bool:
    a, b = _number(answer), _number(right)
    if a is not None and b is not None:
        return abs(a - b) <= RELAXED * abs(b)
    return bool(answer) and answer.lower() == right.lower()


def _number(text: str) -> float | None:
    text = THOUSANDS.sub("", text)
    try:
        return float(text.rstrip("%")) / 100 if text.endswith("%") else float(text)
    except ValueError:
        return None


def anls(answer: str, right: Sequence[str]) -> float:
    """Normalised Levenshtein similarity (Biten et al. 2019, DocVQA) of the nearest right answer.

    Args:
        answer: to judge.
        right: the right answers.

    Returns:
        1 - distance / length of the longer text; 0 where that is below 0.5.
    """
    best = 0.0
    mine = answer.strip().lower()
    for text in right:
        theirs = text.strip().lower()
        longest = max(len(mine), len(theirs))
        distance = levenshtein(mine, theirs) / longest if longest else 0.0
        best = max(best, 1 - distance if distance < ANLS_THRESHOLD else 0.0)
    return best


def levenshtein(a: str, b: str) -> int:
    """The least number of inserted, deleted and replaced characters that turn `a` into `b`."""
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, start=1):
        diagonal, row[0] = row[0], i
        for j, y in enumerate(b, start=1):
            diagonal, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, diagonal + (x != y))
    return row[-1]


def vqa_accuracy(answer: str, right: Sequence[str]) -> float:
    """VQA accuracy (Antol et al. 2015): the mean over all annotators of min(1, how many of the
    others gave the answer / 3).

    Args:
        answer: to judge.
        right: one answer per annotator.

    Returns:
        From 0 to 1; with a single annotator, whether the answer matches.
    """
    mine = normalised(answer)
    matches = [mine == normalised(text) for text in right]
    if len(matches) < 2:
        return float(any(matches))
    others = [sum(matches) - match for match in matches]
    return float(np.mean([min(1.0, count / AGREEING) for count in others]))


def accuracy(
    right: Bool[np.ndarray, " q"] | Float[np.ndarray, " q"],
    image: Int[np.ndarray, " q"],
    chance: float | None = None,
) -> Score:
    """The mean over questions, with an interval over images.

    Args:
        right: whether each answer is right, or a value from 0 to 1.
        image: number of each question's image; the questions of one image are no independent
            samples.
        chance: what an answer that ignores the image gives.

    Returns:
        The mean in [0, 1]; `n` is the number of questions; undefined without a question. Where all
        are right, or all wrong, the interval is Wilson's over images.
    """
    values = np.asarray(right, dtype=np.float64)
    if not len(values):
        return undefined("no question", 0, ACCURACY)
    if set(values.tolist()) in ({0.0}, {1.0}):
        # The jackknife sees no variance; that no image differed does not show that none would.
        images = len(np.unique(image))
        ends = wilson(images * float(values[0]), images)
        return Score(float(values[0]), *ends, chance, len(values), ALL_ALIKE)
    low, high = jackknife_interval(
        float(values.mean()), without_each_image(values, image), bounds=(0.0, 1.0)
    )
    return Score(float(values.mean()), low, high, chance, len(values), ACCURACY)


def accuracy_over_seeds(
    right: Bool[np.ndarray, "s q"], image: Int[np.ndarray, " q"], chance: float | None = None
) -> Score:
    """The mean over questions and training seeds, with an interval over images and seeds.

    Images and seeds are crossed: every seed answers all questions. The variance of the mean is that
    over images plus that over seeds, which counts their interaction twice: the interval is rather
    too wide. Its degrees of freedom are those of Satterthwaite (1946).

    Args:
        right: whether each answer of each seed is right.
        image: number of each question's image.
        chance: what an answer that ignores the image gives.

    Returns:
        The mean in [0, 1]; of one seed its `accuracy`, whose interval is over images alone.
    """
    score = accuracy(np.mean(right, axis=0), image, chance)
    seeds = len(right)
    if seeds < 2 or score.ci_low is None:
        return score
    left_out = without_each_image(np.mean(right, axis=0), image)
    variances = jackknife_error(left_out) ** 2, float(np.mean(right, axis=1).var(ddof=1)) / seeds
    spread = variances[0] ** 2 / (len(left_out) - 1) + variances[1] ** 2 / (seeds - 1)
    if spread == 0:
        return replace(score, estimator=OVER_SEEDS)
    half = stats.t.ppf(0.975, sum(variances) ** 2 / spread) * math.sqrt(sum(variances))
    return replace(
        score,
        ci_low=max(0.0, float(score) - half),
        ci_high=min(1.0, float(score) + half),
        estimator=OVER_SEEDS,
    )


def without_each_image(
    values: Float[np.ndarray, " q"], image: Int[np.ndarray, " q"]
) -> Float[np.ndarray, " g"]:
    """The mean over questions without those of image i, for each image i; NaN for a single one."""
    _, group = np.unique(image, return_inverse=True)
    sums, counts = np.bincount(group, weights=values), np.bincount(group)
    rest = len(values) - counts
    return (values.sum() - sums) / np.where(rest > 0, rest, np.nan)


def compare_answers(
    a: str,
    b: str,
    right: tuple[Float[np.ndarray, " q"], Float[np.ndarray, " q"]],
    image: Int[np.ndarray, " q"],
    comparisons: int = 1,
    other: tuple[float, float] = (0.0, 1.0),
) -> Comparison:
    """Compares two shares of right answers to the same questions, by the delete-an-image jackknife.

    Args:
        a: name of the one system.
        b: name of the other.
        right: whether each answer of `a`, and of `b`, is right.
        image: number of each question's image.
        comparisons: number of comparisons that are made together.
        other: variance of the difference that does not come from the images, and its degrees of
            freedom; see `compare_paired`.

    Returns:
        The comparison; its interval is at least as wide as `least_half_width`.
    """
    values = [np.asarray(side, dtype=np.float64) for side in right]
    (mean_a, mean_b), (without_a, without_b) = (
        [float(side.mean()) for side in values], [without_each_image(s, image) for s in values]
    )  # fmt: skip
    return compare_paired(
        a, b, (mean_a, mean_b), (without_a, without_b), len(image), comparisons=comparisons,
        least=least_half_width(image, 1 - 0.05 / max(1, comparisons)), other=other,
    )  # fmt: skip


def compare_answers_over_seeds(
    a: str,
    b: str,
    right: tuple[Bool[np.ndarray, "s q"], Bool[np.ndarray, "s q"]],
    image: Int[np.ndarray, " q"],
    comparisons: int = 1,
) -> Comparison:
    """Compares two systems that were trained from the same seeds, each asked the same questions.

    The variance is that over images of the mean over seeds, plus that over seeds of their
    differences, as in `accuracy_over_seeds`.

    Args:
        a: name of the one system.
        b: name of the other.
        right: whether each answer of each seed of `a`, and of `b`, is right.
        image: number of each question's image.
        comparisons: number of comparisons that are made together (Bonferroni).

    Returns:
        The comparison of the means; of one seed its interval is over images alone, of several
        `samples_needed` is None: more questions do not lower the variance over seeds.
    """
    x, y = (np.asarray(side, dtype=np.float64) for side in right)
    means = x.mean(axis=0), y.mean(axis=0)
    seeds = len(x)
    if seeds < 2:
        return compare_answers(a, b, means, image, comparisons)
    spread = float((x - y).mean(axis=1).var(ddof=1)) / seeds
    compared = compare_answers(a, b, means, image, comparisons, (spread, seeds - 1))
    return replace(compared, samples_needed=None)


def least_half_width(image: Int[np.ndarray, " q"], level: float = 0.95) -> float:
    """How far a difference of two shares may be from 0 although no image showed one.

    Args:
        image: number of each question's image.
        level: of the bound.

    Returns:
        The exact upper bound of the share of images that differ where none of g did (Clopper &
        Pearson 1934), 1 - (1 - level)^(1 / g), about 3 / g at 95 %; times the questions of the
        largest image over the mean; at most 1.

    >>> round(least_half_width(np.arange(300)), 4)
    0.0099
    """
    counts = np.unique(image, return_counts=True)[1]
    bound = 1 - (1 - level) ** (1 / len(counts))
    return float(min(1.0, bound * counts.max() / counts.mean()))


def most_common_answer(questions: Sequence[str], answers: Sequence[str]) -> dict[str, str]:
    """The answer that is given most often to each question; of equal ones the first.

    Args:
        questions: one per row.
        answers: one per row.

    Returns:
        Question -> answer; the key "" has the most common answer of all.
    """
    counts: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for question, answer in zip(questions, answers, strict=True):
        counts[question][answer] += 1
        counts[""][answer] += 1
    return {question: counter.most_common(1)[0][0] for question, counter in counts.items()}
