"""Answers of learners to lesson 2, and what the grader has to say to them."""

import math
import random
from functools import cache

import torch
import torch.nn.functional as F


def one(logits):
    return F.cross_entropy(logits, torch.arange(len(logits)))


def both(logits):
    return (one(logits) + one(logits.T)) / 2


def loss_written_out(image, text, scale):
    logits = scale * image @ text.T
    rows = logits.log_softmax(dim=1).diag().mean()
    return -(rows + logits.log_softmax(dim=0).diag().mean()) / 2


def probabilities(logits):
    return -(logits.softmax(dim=1).diag().mean() + logits.softmax(dim=0).diag().mean()) / 2


@cache
def pairs():
    import shapes

    return [shapes.Pair(i, f"{what} {i}") for i in range(100) for what in ("all of", "some of")]


def by_pair(pairs, share):
    mixed = random.Random(0).sample(pairs, len(pairs))
    cut = round((1 - share) * len(pairs))
    return mixed[:cut], mixed[cut:]


def in_order(pairs, share):
    cut = round((1 - share) * len(pairs))
    return pairs[:cut], pairs[cut:]


def pictures_apart(pairs, share):
    out = set(range(round(100 * share)))
    return [p for p in pairs if p.picture not in out], [p for p in pairs if p.picture in out]


def hits(similarity, k, dim=1):
    best = similarity.topk(k, dim=dim).indices
    numbers = torch.arange(len(similarity))
    return (best == (numbers[:, None] if dim == 1 else numbers)).any(dim=dim).float()


def recall(similarity, k):
    return hits(similarity, k).mean()


GIVEN = {2: lambda: {"BATCH": 64}, 3: lambda: {"pairs": pairs(), "share": 0.2}}
RIGHT = [
    (1, loss_written_out),
    (2, math.log(64)),
    (2, torch.tensor(64.0).log()),
    (2, 4.159),
    (3, pictures_apart),
    (4, recall),
]
MISTAKES = [
    (1, lambda x, y, s: one(s * x @ y.T), "one direction, from image to text"),
    (1, lambda x, y, s: one(s * y @ x.T), "one direction, from text to image"),
    (1, lambda x, y, s: one(s * x @ y.T) + one(s * y @ x.T), "sum of both directions"),
    (1, lambda x, y, s: len(x) * both(s * x @ y.T), "add up over the batch"),
    (1, lambda x, y, s: -both(s * x @ y.T), "*minus* the logarithm"),
    (1, lambda x, y, s: both(x @ y.T), "the scale is missing"),
    (1, lambda x, y, s: both(x @ y.T / s), "you divide by `scale`"),
    (1, lambda x, y, s: both(s.exp() * x @ y.T), "`exp` of the scale once more"),
    (1, lambda x, y, s: (one((s * x @ y.T).softmax(1)) + one((s * y @ x.T).softmax(1))) / 2,
     "one softmax too many"),
    (1, lambda x, y, s: probabilities(s * x @ y.T), "without their logarithm"),
    (1, lambda x, y, s: F.cross_entropy(s * x @ y.T, torch.zeros(len(x), dtype=torch.long)),
     "along the diagonal"),
    (1, lambda x, y, s: F.cross_entropy(s * x @ y.T, torch.arange(len(x)), reduction="none"),
     "take the mean over the batch"),
    (1, lambda x, y, s: both(s * x @ y.T).item(), "has no gradient"),
    (1, lambda x, y, s: F.cross_entropy(s * x @ y.T, torch.arange(64)), "raised an error"),
    (1, lambda x, y, s: print("loss"), "is a `return` missing?"),
    (1, lambda x, y, s: ..., "not yet answered"),
    (1, lambda x, y, s: both(s * x @ y.T) * (5 / len(x)), "8 equal embeddings"),
    (2, 6.0, "base 2"),
    (2, math.log10(64), "base 10"),
    (2, 1 / 64, "*probability* of the right partner"),
    (2, -math.log(64), "sign is wrong"),
    (2, 2 * math.log(64), "sum of both directions"),
    (2, 64, "gives each of the 64 candidates the same probability"),
    (2, "ln 64", "should hold numbers"),
    (2, float("inf"), "NaN or infinite"),
    (3, by_pair, "that is leakage. Divide the *pictures* first"),
    (3, in_order, "that is leakage"),  # the pairs come in any order
    (3, lambda p, s: pictures_apart(p, s)[::-1], "the wrong way round: 80%"),
    (3, lambda p, s: pictures_apart(p, 0.5), "50% of the pictures are held out"),
    (3, lambda p, s: (pictures_apart(p, s)[0][:-1], pictures_apart(p, s)[1]), "199 come back"),
    (3, lambda p, s: (p, []), "one side is empty: 200 to train on, 0 held out"),
    (3, lambda p, s: pictures_apart(p, s)[0], "should return two lists"),
    (3, lambda p, s: (range(160), range(160, 200)), "yours hold the number 0"),
    (3, lambda p, s: None, "is a `return` missing?"),
    (4, lambda s, k: hits(s, k).sum(), "is the number of hits"),
    (4, lambda s, k: 100 * hits(s, k).mean(), "is in percent"),
    (4, lambda s, k: hits(s, k), "one value for each of the 20 rows"),
    (4, lambda s, k: hits(s, k, dim=0).mean(), "that is the other direction"),
    (4, lambda s, k: hits(s, 1).mean(), "does the function use `k`?"),
    (4, lambda s, k: 1 - hits(s, k).mean(), "share of *misses*"),
    (4, lambda s, k: s.topk(k).indices, "recall is one number"),
    (4, lambda s, k: s.diagonal().mean(), "a hit is a row whose own number"),
    (4, lambda s, k: "half", "should hold numbers"),
    (5, lambda x, y: (x @ y.T).argmax(dim=0), "one for each class"),
    (5, lambda x, y: x @ y.T, "these are scores of shape (7, 3)"),
    (5, lambda x, y: (x @ y.T).softmax(dim=1), "these are scores"),
    (5, lambda x, y: (x @ y.T).max(dim=1).values, "these are the largest cosines"),
    (5, lambda x, y: (x @ y.T).argmax(dim=1) + 1, "from 1"),
    (5, lambda x, y: (x @ y.T).argmin(dim=1), "fits worst"),
    (5, lambda x, y: torch.zeros(7), "is nearest to class"),
    (5, lambda x, y: (x @ y.T).argmax(), "expect shape (7,)"),
    (5, lambda x, y: ["red"] * 7, "should hold numbers"),
]  # fmt: skip
