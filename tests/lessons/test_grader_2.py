"""What the grader says to the mistakes that learners make in lesson 2."""

from __future__ import annotations

import math
import random

import pytest
import torch
import torch.nn.functional as F

LESSON = 2


def one(logits):
    return F.cross_entropy(logits, torch.arange(len(logits)))


def both(logits):
    return (one(logits) + one(logits.T)) / 2


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (lambda x, y, s: one(s * x @ y.T), "one direction, from image to text"),
        (lambda x, y, s: one(s * y @ x.T), "one direction, from text to image"),
        (lambda x, y, s: one(s * x @ y.T) + one(s * y @ x.T), "sum of both directions"),
        (lambda x, y, s: len(x) * both(s * x @ y.T), "add up over the batch"),
        (lambda x, y, s: -both(s * x @ y.T), "*minus* the logarithm"),
        (lambda x, y, s: both(x @ y.T), "the scale is missing"),
        (lambda x, y, s: both(x @ y.T / s), "you divide by `scale`"),
        (lambda x, y, s: both(s.exp() * x @ y.T), "`exp` of the scale once more"),
        (
            lambda x, y, s: (
                (one((s * x @ y.T).softmax(dim=1)) + one((s * y @ x.T).softmax(dim=1))) / 2
            ),
            "one softmax too many",
        ),
        (
            lambda x, y, s: (
                -(
                    (s * x @ y.T).softmax(dim=1).diag().mean()
                    + (s * x @ y.T).softmax(dim=0).diag().mean()
                )
                / 2
            ),
            "without their logarithm",
        ),
        (
            lambda x, y, s: F.cross_entropy(s * x @ y.T, torch.zeros(len(x), dtype=torch.long)),
            "along the diagonal",
        ),
        (
            lambda x, y, s: F.cross_entropy(s * x @ y.T, torch.arange(len(x)), reduction="none"),
            "take the mean over the batch",
        ),
        (lambda x, y, s: both(s * x @ y.T).item(), "has no gradient"),
        (lambda x, y, s: F.cross_entropy(s * x @ y.T, torch.arange(64)), "raised an error"),
        (lambda x, y, s: print("loss"), "is a `return` missing?"),
        (lambda x, y, s: ..., "not yet answered"),
    ],
)
def test_loss(answer, said, says):
    verdict = says(1, answer)
    assert verdict.state != "right" and said in verdict.text


def test_loss_written_out_is_right(says):
    def clip_loss(image, text, scale):
        logits = scale * image @ text.T
        rows = logits.log_softmax(dim=1).diag().mean()
        return -(rows + logits.log_softmax(dim=0).diag().mean()) / 2

    assert says(1, clip_loss).state == "right"


def test_loss_of_one_batch_size_is_found_out(says):
    def clip_loss(image, text, scale):
        logits = scale * image @ text.T
        return (one(logits) + one(logits.T)) / 2 * (5 / len(image))

    assert "8 equal embeddings" in says(1, clip_loss).text


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (6.0, "base 2"),
        (math.log10(64), "base 10"),
        (1 / 64, "*probability* of the right partner"),
        (-math.log(64), "sign is wrong"),
        (2 * math.log(64), "sum of both directions"),
        (64, "gives each of the 64 candidates the same probability"),
        ("ln 64", "should hold numbers"),
        (float("inf"), "NaN or infinite"),
    ],
)
def test_chance(answer, said, says):
    verdict = says(2, answer, BATCH=64)
    assert verdict.state == "wrong" and said in verdict.text


@pytest.mark.parametrize("answer", [math.log(64), torch.tensor(64.0).log(), 4.159])
def test_chance_is_right(answer, says):
    assert says(2, answer, BATCH=64).state == "right"


@pytest.fixture(scope="session")
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


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (by_pair, "that is leakage. Divide the *pictures* first"),
        (in_order, "that is leakage"),  # the pairs come in any order
        (lambda p, s: pictures_apart(p, s)[::-1], "the wrong way round: 80%"),
        (lambda p, s: pictures_apart(p, 0.5), "50% of the pictures are held out"),
        (lambda p, s: (pictures_apart(p, s)[0][:-1], pictures_apart(p, s)[1]), "199 come back"),
        (lambda p, s: (p, []), "one side is empty: 200 to train on, 0 held out"),
        (lambda p, s: pictures_apart(p, s)[0], "should return two lists"),
        (lambda p, s: (range(160), range(160, 200)), "yours hold the number 0"),
        (lambda p, s: None, "is a `return` missing?"),
    ],
)
def test_split(answer, said, says, pairs):
    verdict = says(3, answer, pairs=pairs, share=0.2)
    assert verdict.state == "wrong" and said in verdict.text


def test_split_by_picture_is_right(says, pairs):
    assert says(3, pictures_apart, pairs=pairs, share=0.2).state == "right"


def hits(similarity, k, dim=1):
    best = similarity.topk(k, dim=dim).indices
    numbers = torch.arange(len(similarity))
    return (best == (numbers[:, None] if dim == 1 else numbers)).any(dim=dim).float()


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (lambda s, k: hits(s, k).sum(), "is the number of hits"),
        (lambda s, k: 100 * hits(s, k).mean(), "is in percent"),
        (lambda s, k: hits(s, k), "one value for each of the 20 rows"),
        (lambda s, k: hits(s, k, dim=0).mean(), "that is the other direction"),
        (lambda s, k: hits(s, 1).mean(), "does the function use `k`?"),
        (lambda s, k: 1 - hits(s, k).mean(), "share of *misses*"),
        (lambda s, k: s.topk(k).indices, "recall is one number"),
        (lambda s, k: s.diagonal().mean(), "a hit is a row whose own number"),
        (lambda s, k: "half", "should hold numbers"),
    ],
)
def test_recall(answer, said, says):
    verdict = says(4, answer)
    assert verdict.state == "wrong" and said in verdict.text


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (lambda x, y: (x @ y.T).argmax(dim=0), "one for each class"),
        (lambda x, y: x @ y.T, "these are scores of shape (7, 3)"),
        (lambda x, y: (x @ y.T).softmax(dim=1), "these are scores"),
        (lambda x, y: (x @ y.T).max(dim=1).values, "these are the largest cosines"),
        (lambda x, y: (x @ y.T).argmax(dim=1) + 1, "from 1"),
        (lambda x, y: (x @ y.T).argmin(dim=1), "fits worst"),
        (lambda x, y: torch.zeros(7), "is nearest to class"),
        (lambda x, y: (x @ y.T).argmax(), "expect shape (7,)"),
        (lambda x, y: ["red"] * 7, "should hold numbers"),
    ],
)
def test_zero_shot(answer, said, says):
    verdict = says(5, answer)
    assert verdict.state == "wrong" and said in verdict.text


def test_the_lesson_goes_on_with_the_learners_own_where_it_is_right():
    from grader import Grader

    def mine(similarity, k):
        return hits(similarity, k).mean()

    grader = Grader(LESSON)
    assert grader.check(4, mine).value is mine
    ours = grader.check(4, lambda similarity, k: 7).value
    scores = torch.randn(30, 30, generator=torch.Generator().manual_seed(0)) + torch.eye(30)
    assert ours(scores, 5) == pytest.approx(float(mine(scores, 5)))
