"""What the grader says to the mistakes that learners make in lesson 5."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

LESSON = 5


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (lambda t, n, h, d: t * n * h * d, "the keys alone"),
        (lambda t, n, h, d: 2 * t * n * h * d, "half of it"),
        (lambda t, n, h, d: 32 * t * n * h * d, "these are bits"),
        (lambda t, n, h, d: 8 * t * n * h * d, "not 4"),
        (lambda t, n, h, d: 4 * t * t * n * h * d, "the tokens are squared"),
        (lambda t, n, h, d: 4 * t * h * d, "the layers are missing"),
        (lambda t, n, h, d: 4 * t * n * d, "heads are missing"),
        (lambda t, n, h, d: 4 * (t + n + h + d), "key and value, tokens"),
        (lambda t, n, h, d: ..., "not yet answered"),
    ],
)
def test_cache(answer, said, says):
    verdict = says(1, answer)
    assert verdict.state != "right" and said in verdict.text


def windows(x, side, small):
    k = side // small
    return x.reshape(len(x), small, k, small, k, -1)


def pool(x, side, small):
    return windows(x, side, small).mean((2, 4)).flatten(1, 2)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (
            lambda x, s, k: x.reshape(len(x), k * k, (s // k) ** 2, -1).mean(2),
            "follow one another in reading order",
        ),
        (
            lambda x, s, k: x.reshape(len(x), s // k, k, s // k, k, -1).mean((1, 3)).flatten(1, 2),
            "far apart",
        ),
        (lambda x, s, k: x.reshape(len(x), -1, k * k, x.shape[2]).mean(1), "whole rows apart"),
        (lambda x, s, k: windows(x, s, k).sum((2, 4)).flatten(1, 2), "the sum of each window"),
        (lambda x, s, k: windows(x, s, k).amax((2, 4)).flatten(1, 2), "the largest"),
        (lambda x, s, k: windows(x, s, k)[:, :, 0, :, 0].flatten(1, 2), "upper left"),
        (
            lambda x, s, k: windows(x, s, k).mean((2, 4)).transpose(1, 2).flatten(1, 2),
            "column by column",
        ),
        (lambda x, s, k: windows(x, s, k).mean((2, 4)), "still a grid"),
        (lambda x, s, k: x.mean(1), "expect shape (2, 9, 5)"),
        (lambda x, s, k: pool(x, s, k).flip(1), "the first token should be the mean"),
        (lambda x, s, k: pool(x, 6, 3), "expect shape (2, 4, 5)"),
    ],
)
def test_pool(answer, said, says):
    verdict = says(2, answer)
    assert verdict.state == "wrong" and said in verdict.text


def error(x, y, mean=(0, 1)):
    return (y - x).square().sum() / (x - x.mean(mean, keepdim=True)).square().sum()


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (lambda x, y: error(x, y).sqrt(), "the root of it"),
        (lambda x, y: (y - x).square().sum() / x.square().sum(), "squared lengths"),
        (lambda x, y: error(x, y, (0, 1, 2)), "a single number"),
        (lambda x, y: error(x, y, 1), "that of each picture"),
        (lambda x, y: error(x, y, 0), "that of each place"),
        (lambda x, y: error(x, y, 2), "the last axis"),
        (lambda x, y: F.mse_loss(y, x), "the mean squared error"),
        (lambda x, y: (y - x).square().sum(), "the division is missing"),
        (lambda x, y: 1 - error(x, y), "the share that is explained"),
        (lambda x, y: (y - x).abs().sum() / (x - x.mean((0, 1))).abs().sum(), "absolute values"),
        (lambda x, y: (y - x).square().sum() / (y - y.mean((0, 1))).square().sum(), "`rebuilt`"),
        (lambda x, y: (y - x).square().sum((1, 2)), "one number"),
        (lambda x, y: 0.5, "the sum of squared errors"),
    ],
)
def test_error(answer, said, says):
    verdict = says(3, answer)
    assert verdict.state == "wrong" and said in verdict.text


def smallest(scores, floor, full, most, lost=None):
    return min((n for n, s in scores.items() if full - s <= most * (full - floor)), default=None)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (lambda s, f, c, m: min(n for n in s if s[n] >= (1 - m) * c), "with the full score alone"),
        (lambda s, f, c, m: max(s), "the most tokens"),
        (lambda s, f, c, m: next(n for n in s if s[n] >= 0.96), "15 %"),
        (lambda s, f, c, m: s[smallest(s, f, c, m)], "this is the score"),
        (lambda s, f, c, m: 9, "you choose 9"),
        (lambda s, f, c, m: None, "is a `return` missing?"),
        (lambda s, f, c, m: smallest(s, f, c, 0.99 * m), "exactly `most`"),
        (lambda s, f, c, m: smallest(s, f, c, min(m, 0.5)), "as it is given"),
        (lambda s, f, c, m: smallest(s, f, c, m) or max(s), "return None"),
        (lambda s, f, c, m: min(n for n in s if c - s[n] <= m * (c - f)), "min(..., default=None)"),
        (lambda s, f, c, m: ..., "not yet answered"),
    ],
)
def test_smallest(answer, said, says):
    verdict = says(4, answer)
    assert verdict.state != "right" and said in verdict.text


def interval(d, half):
    return d.mean() - half, d.mean() + half


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (lambda a, b: interval(a - b, 1.96 * (a - b).std()), "the root of n is missing"),
        (lambda a, b: interval(a - b, 1.96 * (a - b).std() / len(a)), "divide by its root"),
        (
            lambda a, b: interval(a - b, 1.96 * ((a.var() + b.var()) / len(a)) ** 0.5),
            "*different* pictures",
        ),
        (lambda a, b: interval(a - b, (a - b).std() / len(a) ** 0.5), "1.96 is missing"),
        (lambda a, b: interval(a - b, 1.96 * (a - b).var() / len(a) ** 0.5), "the variance"),
        (lambda a, b: interval(a - b, 1.96 * (a - b).std(correction=0) / len(a) ** 0.5), "n - 1"),
        (lambda a, b: interval(b - a, 1.96 * (b - a).std() / len(a) ** 0.5), "b - a"),
        (lambda a, b: interval(a - b, -1.96 * (a - b).std() / len(a) ** 0.5), "wrong way round"),
        (lambda a, b: interval(torch.zeros(1), 1.96 * (a - b).std() / 12**0.5), "around 0"),
        (lambda a, b: (a - b).mean(), "two numbers are wanted"),
        (lambda a, b: (0, 1), "differences with mean"),
    ],
)
def test_interval(answer, said, says):
    verdict = says(5, answer)
    assert verdict.state == "wrong" and said in verdict.text


def test_ours_say_what_encoderlab_says(says):
    from encoderlab.compression.cost import KNOWN
    from encoderlab.patch_tokens.pooling import AveragePooling

    nothing = lambda *_: ...  # noqa: E731
    llm = KNOWN["llama3"]
    ours = says(1, nothing).verdict.value(36, llm.layers, llm.kv_heads, llm.head_dim)
    assert ours == 36 * llm.cache_per_token
    x = torch.randn(3, 144, 8, generator=torch.Generator().manual_seed(0))
    expected = AveragePooling().compress(x, (12, 12), (4, 4)).tokens
    assert torch.allclose(says(2, nothing).verdict.value(x, 12, 4), expected, atol=1e-6)
    assert torch.allclose(pool(x, 12, 4), expected, atol=1e-6)
    y = x + 0.1
    assert says(3, nothing).verdict.value(x, y) == pytest.approx(float(error(x, y)), rel=1e-4)
    scores = {4: 0.5, 36: 0.99, 16: 0.96}
    assert says(4, nothing).verdict.value(scores, 0.5, 1.0, 0.1) == 16
    low, high = says(5, nothing).verdict.value(x[0, :, 0], x[0, :, 1])
    half = 1.96 * (x[0, :, 0] - x[0, :, 1]).std() / 12
    assert high - low == pytest.approx(2 * float(half), rel=1e-4)
