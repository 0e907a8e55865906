"""Answers of learners to lesson 6, and what the grader has to say to them."""

import itertools
import math
from collections import Counter

import numpy as np
import torch.nn.functional as F


def each(logits, labels):
    return F.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="none").view_as(labels)


def loss(logits, labels):
    return each(logits, labels).sum() / (labels != -100).sum()


def padding_as_token_0(logits, labels):
    return each(logits, labels.clamp_min(0)).mean()


def of_probabilities(logits, labels):
    there = labels != -100
    return -logits.softmax(-1)[there].gather(1, labels[there][:, None]).mean()


def common(questions, answers, default=""):
    groups = {q: [a for r, a in zip(questions, answers, strict=True) if r == q] for q in questions}
    groups |= {} if default is None else {default: answers}
    return {q: Counter(group).most_common(1)[0][0] for q, group in groups.items()}


def ranks(values):
    return values.argsort(0).argsort(0)


def correlated(rows, pairs=None):
    pairs = itertools.combinations(range(len(rows)), 2) if pairs is None else pairs
    return np.mean([np.corrcoef(rows[a], rows[b])[0, 1] for a, b in pairs])


def needed(metrics, level, compare=lambda p, level: p <= level, sides=2):
    return next(n for n in range(1, 99) if compare(metrics * sides / math.factorial(n), level))


GIVEN = {}
RIGHT = [
    (1, loss),
    (2, common),
    (3, lambda a, b: 1 - (1 - a) / (1 - b)),
    (4, lambda x: correlated(ranks(x).T)),
    (5, needed),
]
MISTAKES = [
    (1, lambda x, y: each(x, y).sum(), "the sum over the 8 answer tokens"),
    (1, padding_as_token_0, "the padding counts as well"),
    (1, lambda x, y: each(x, y).mean(), "you divide by all labels"),
    (1, lambda x, y: (each(x, y).sum(1) / (y != -100).sum(1)).mean(), "each answer's mean"),
    (1, lambda x, y: each(x, y).sum() / len(y), "by the number of answers"),
    (1, lambda x, y: -loss(x, y), "*minus* the logarithm"),
    (1, lambda x, y: loss(x.softmax(-1), y), "one softmax too many"),
    (1, of_probabilities, "without their logarithm"),
    (1, lambda x, y: 1 + of_probabilities(x, y), "without their logarithm"),
    (1, lambda x, y: loss(x[:, :-1], y[:, 1:]), "shift by one position"),
    (1, lambda x, y: loss(x, y).exp(), "the perplexity"),
    (1, lambda x, y: loss(x, y).item(), "has no gradient"),
    (1, each, "take the mean over the answers' tokens"),
    (1, lambda x, y: loss(x, y) + 1, "for 8 answer tokens your loss"),
    (1, lambda x, y: ..., "not yet answered"),
    (2, lambda q, a: Counter(a).most_common(1)[0][0], "should return a dictionary"),
    (2, lambda q, a: common(q, a, None), 'the key `""` is missing'),
    (2, lambda q, a: {"": "red"}, "“How many?” is missing"),
    (2, lambda q, a: dict.fromkeys([*q, ""], "red"), "count apart for each question"),
    (2, lambda q, a: {k: [v] for k, v in common(q, a).items()}, "should be a text"),
    (2, lambda q, a: {**dict(zip(q, a, strict=True)), "": "blue"}, 'question "" stands'),
    (2, lambda q, a: {**common(q, a), "How many?": "2"}, "you give '2'; expect '3'"),
    (3, lambda a, b: a - b, "this is the difference"),
    (3, lambda a, b: a / b, "this is a ratio"),
    (3, lambda a, b: (a - b) / b, "you divide by the blind share"),
    (3, lambda a, b: (a - b) / a, "by a share of the model"),
    (3, lambda a, b: (b - a) / (1 - a), "the wrong way round"),
    (3, lambda a, b: (1 - a) / (1 - b), "still *left*"),
    (3, lambda a, b: 100 * (a - b) / (1 - b), "in percent"),
    (3, lambda a, b: max(0, (a - b) / (1 - b)), "do not cut it off"),
    (3, lambda a, b: 0.3, "the gain over what could be gained"),
    (4, lambda x: correlated(x.T), "you correlate the shares"),
    (4, lambda x: correlated(ranks(x).T, itertools.product(range(3), repeat=2)), "with itself"),
    (4, lambda x: correlated(ranks(x).T[:2]), "first two seeds"),
    (4, lambda x: correlated(x.argsort(0).T), "the order, not the ranks"),
    (4, lambda x: correlated(ranks(x.T).T), "compare seeds (columns)"),
    (4, lambda x: 3 * correlated(ranks(x).T), "the sum over the 3 pairs"),
    (4, lambda x: np.corrcoef(ranks(x).T), "one number without an axis"),
    (4, lambda x: 0.77, "the mean of rho over the 3 pairs"),
    (5, lambda m, level: 2 / math.factorial(needed(m, level)), "is a p"),
    (5, lambda m, level: needed(1, level), "as if one metric had been tried"),
    (5, lambda m, level: needed(m, level, sides=1), "the reverse ranking"),
    (5, lambda m, level: needed(m, level) - 1, "is still above"),
    (5, lambda m, level: needed(m, level) + 1, "is enough"),
    (5, lambda m, level: needed(m, level, lambda p, at: p < at), "exactly `level` is allowed"),
    (5, lambda m, level: 40, "the smallest n with"),
]  # fmt: skip
