"""Answers of learners to lesson 5, and what the grader has to say to them."""

import torch
import torch.nn.functional as F


def windows(x, side, small):
    k = side // small
    return x.reshape(len(x), small, k, small, k, -1)


def pool(x, side, small):
    return windows(x, side, small).mean((2, 4)).flatten(1, 2)


def in_reading_order(x, side, small):
    return x.reshape(len(x), small * small, (side // small) ** 2, -1).mean(2)


def far_apart(x, side, small):
    return (
        x.reshape(len(x), side // small, small, side // small, small, -1).mean((1, 3)).flatten(1, 2)
    )


def error(x, y, mean=(0, 1)):
    return (y - x).square().sum() / (x - x.mean(mean, keepdim=True)).square().sum()


def smallest(scores, floor, full, most, lost=None):
    return min((n for n, s in scores.items() if full - s <= most * (full - floor)), default=None)


def around(d, half):
    return d.mean() - half, d.mean() + half


def interval(half):
    """Answers with the mean difference, give or take `half(differences)`."""
    return lambda a, b: around(a - b, half(a - b))


def of_different_pictures(a, b):
    return around(a - b, 1.96 * ((a.var() + b.var()) / len(a)) ** 0.5)


def standard_error(d, **how):
    return d.std(**how) / len(d) ** 0.5


GIVEN = {}
RIGHT = []
MISTAKES = [
    (1, lambda t, n, h, d: t * n * h * d, "the keys alone"),
    (1, lambda t, n, h, d: 2 * t * n * h * d, "half of it"),
    (1, lambda t, n, h, d: 32 * t * n * h * d, "these are bits"),
    (1, lambda t, n, h, d: 8 * t * n * h * d, "not 4"),
    (1, lambda t, n, h, d: 4 * t * t * n * h * d, "the tokens are squared"),
    (1, lambda t, n, h, d: 4 * t * h * d, "the layers are missing"),
    (1, lambda t, n, h, d: 4 * t * n * d, "heads are missing"),
    (1, lambda t, n, h, d: 4 * (t + n + h + d), "key and value, tokens"),
    (1, lambda t, n, h, d: ..., "not yet answered"),
    (2, in_reading_order, "follow one another in reading order"),
    (2, far_apart, "far apart"),
    (2, lambda x, s, k: x.reshape(len(x), -1, k * k, x.shape[2]).mean(1), "whole rows apart"),
    (2, lambda x, s, k: windows(x, s, k).sum((2, 4)).flatten(1, 2), "the sum of each window"),
    (2, lambda x, s, k: windows(x, s, k).amax((2, 4)).flatten(1, 2), "the largest"),
    (2, lambda x, s, k: windows(x, s, k)[:, :, 0, :, 0].flatten(1, 2), "upper left"),
    (2, lambda x, s, k: windows(x, s, k).mean((2, 4)).transpose(1, 2).flatten(1, 2),
     "column by column"),
    (2, lambda x, s, k: windows(x, s, k).mean((2, 4)), "still a grid"),
    (2, lambda x, s, k: x.mean(1), "expect shape (2, 9, 5)"),
    (2, lambda x, s, k: pool(x, s, k).flip(1), "the first token should be the mean"),
    (2, lambda x, s, k: pool(x, 6, 3), "expect shape (2, 4, 5)"),
    (3, lambda x, y: error(x, y).sqrt(), "the root of it"),
    (3, lambda x, y: (y - x).square().sum() / x.square().sum(), "squared lengths"),
    (3, lambda x, y: error(x, y, (0, 1, 2)), "a single number"),
    (3, lambda x, y: error(x, y, 1), "that of each picture"),
    (3, lambda x, y: error(x, y, 0), "that of each place"),
    (3, lambda x, y: error(x, y, 2), "the last axis"),
    (3, lambda x, y: F.mse_loss(y, x), "the mean squared error"),
    (3, lambda x, y: (y - x).square().sum(), "the division is missing"),
    (3, lambda x, y: 1 - error(x, y), "the share that is explained"),
    (3, lambda x, y: (y - x).abs().sum() / (x - x.mean((0, 1))).abs().sum(), "absolute values"),
    (3, lambda x, y: (y - x).square().sum() / (y - y.mean((0, 1))).square().sum(), "`rebuilt`"),
    (3, lambda x, y: (y - x).square().sum((1, 2)), "one number"),
    (3, lambda x, y: 0.5, "the sum of squared errors"),
    (4, lambda s, f, c, m: min(n for n in s if s[n] >= (1 - m) * c), "with the full score alone"),
    (4, lambda s, f, c, m: max(s), "the most tokens"),
    (4, lambda s, f, c, m: next(n for n in s if s[n] >= 0.96), "15 %"),
    (4, lambda s, f, c, m: s[smallest(s, f, c, m)], "this is the score"),
    (4, lambda s, f, c, m: 9, "you choose 9"),
    (4, lambda s, f, c, m: None, "is a `return` missing?"),
    (4, lambda s, f, c, m: smallest(s, f, c, 0.99 * m), "exactly `most`"),
    (4, lambda s, f, c, m: smallest(s, f, c, min(m, 0.5)), "as it is given"),
    (4, lambda s, f, c, m: smallest(s, f, c, m) or max(s), "return None"),
    (4, lambda s, f, c, m: min(n for n in s if c - s[n] <= m * (c - f)), "min(..., default=None)"),
    (4, lambda s, f, c, m: ..., "not yet answered"),
    (5, interval(lambda d: 1.96 * d.std()), "the root of n is missing"),
    (5, interval(lambda d: 1.96 * d.std() / len(d)), "divide by its root"),
    (5, of_different_pictures, "*different* pictures"),
    (5, interval(standard_error), "1.96 is missing"),
    (5, interval(lambda d: 1.96 * d.var() / len(d) ** 0.5), "the variance"),
    (5, interval(lambda d: 1.96 * standard_error(d, correction=0)), "n - 1"),
    (5, lambda a, b: interval(lambda d: 1.96 * standard_error(d))(b, a), "b - a"),
    (5, interval(lambda d: -1.96 * standard_error(d)), "wrong way round"),
    (5, lambda a, b: around(torch.zeros(1), 1.96 * (a - b).std() / 12**0.5), "around 0"),
    (5, lambda a, b: (a - b).mean(), "two numbers are wanted"),
    (5, lambda a, b: (0, 1), "differences with mean"),
]  # fmt: skip
