"""Answers of learners to lesson 4, and what the grader has to say to them."""

import torch
import torch.nn.functional as F


def right(x):
    return (x[:, :-1] * x[:, 1:]).sum(-1)


def down(x):
    return (x[:-1] * x[1:]).sum(-1)


def both(x):
    return right(x), down(x)


def unit(x):
    return F.normalize(x, dim=-1)


def in_a_loop(grid):
    h, w, _ = grid.shape
    cosine = torch.cosine_similarity
    across = [[cosine(grid[i, j], grid[i, j + 1], 0) for j in range(w - 1)] for i in range(h)]
    below = [[cosine(grid[i, j], grid[i + 1, j], 0) for j in range(w)] for i in range(h - 1)]
    return across, below


def within(t):
    t = unit(t)
    return ((t @ t.T).sum() - len(t)) / (len(t) * (len(t) - 1))


def dots_within(t):
    return ((t @ t.T).sum() - (t @ t.T).trace()) / (len(t) * (len(t) - 1))


def between(a, b):
    return (unit(a) @ unit(b).T).mean()


def outliers(x, factor=1.4826, both=torch.logical_and):
    m = x.median()
    s = factor * (x - m).abs().median()
    return both(x > m + 5 * s, x > 1.5 * m)


def far_from_median(x):
    return (x - x.median()).abs() > 5 * 1.4826 * (x - x.median()).abs().median()


def kept(across, below, drop, one=torch.logical_and):
    """The cosines whose two tokens are kept, across and down."""
    keep = ~drop
    return across[one(keep[:, :-1], keep[:, 1:])], below[one(keep[:-1], keep[1:])]


def mean_without(across, below, drop, one=torch.logical_and):
    return torch.cat(kept(across, below, drop, one)).mean()


def rank(t, centre=True, power=2, exp=torch.exp, log=torch.log):
    values = torch.linalg.svdvals(t - t.mean(0) if centre else t) ** power
    p = values / values.sum()
    return exp(-(p * log(p)).sum())


GIVEN = {}
RIGHT = [(3, in_a_loop), (4, within, between), (5, outliers, mean_without)]
MISTAKES = [
    (1, lambda h, w, p: (h // p) * (w // p), "CLS is a token too"),
    (1, lambda h, w, p: h * w // p + 1, "divided by `patch` once"),
    (1, lambda h, w, p: h // p + w // p + 1, "rows *plus* columns"),
    (1, lambda h, w, p: (h // p) ** 2 + 1, "use the width"),
    (1, lambda h, w, p: (w // p) ** 2 + 1, "use the height"),
    (1, lambda h, w, p: -(-h // p) * -(-w // p) + 1, "you round up"),
    (1, lambda h, w, p: h * w // p**2 + 1, "divide all pixels at once"),
    (1, lambda h, w, p: (h / p) * (w / p) + 1, "a whole number"),
    (1, lambda h, w, p: 145, "rows of patches times columns"),
    (1, lambda h, w, p: ..., "not yet answered"),
    (1, lambda h, w, p: None, "is a `return` missing?"),
    (2, lambda t, h, w: t.reshape(h, w, -1), "CLS is still among them"),
    (2, lambda t, h, w: t.reshape(h, w, t.shape[1]), "CLS is still among them"),
    (2, lambda t, h, w: t.unflatten(0, (h, w)), "CLS is still among them"),
    (2, lambda t, h, w: t[:-1].reshape(h, w, -1), "the *last* token"),
    (2, lambda t, h, w: t[1:].reshape(w, h, -1), "rows and columns are the wrong way round"),
    (2, lambda t, h, w: t[1:].reshape(w, h, -1).transpose(0, 1), "is transposed"),
    (2, lambda t, h, w: t[1:].T.reshape(-1, h, w), "channels first"),
    (2, lambda t, h, w: t[1:].T.reshape(h, w, -1), "scattered over the map"),
    (2, lambda t, h, w: t[1:].reshape(h, w, -1).flip(0), "upside down"),
    (2, lambda t, h, w: t[1:].reshape(h, w, -1).flip(1), "left and right"),
    (2, lambda t, h, w: t[1:], "expect shape (3, 4, 5)"),
    (2, lambda t, h, w: 2 * t[1:].reshape(h, w, -1), "not where they belong"),
    (2, lambda t, h, w: t.foo, "raised an error"),
    (3, both, "dot products, without the lengths"),
    (3, lambda g: (right(unit(g)), down(g)), "dot products, without the lengths"),
    (3, lambda g: both(unit(g))[::-1], "the other direction"),
    (3, lambda g: both(F.normalize(g, dim=0)), "along the wrong axis"),
    (3, lambda g: both(F.normalize(g, dim=1)), "along the wrong axis"),
    (3, lambda g: both(g / g.norm()), "the length of the whole grid"),
    (3, lambda g: both(g / g.square().sum(-1, keepdim=True)), "*squared* lengths"),
    (3, lambda g: tuple((unit(g) * unit(g).roll(-1, k)).sum(-1) for k in (1, 0)),
     "at the edge there is none"),
    (3, lambda g: (unit(g)[:, :-1] * unit(g)[:, 1:], down(unit(g))), "still has the axis D"),
    (3, lambda g: (1 - right(unit(g)), 1 - down(unit(g))), "a distance"),
    (3, lambda g: (right(unit(g)) ** 2, down(unit(g))), "the squares of the cosines"),
    (3, lambda g: (right(unit(g)).flip(1), down(unit(g))), "compares ("),
    (3, lambda g: (right(unit(g)).mean(), down(unit(g)).mean()), "expect (3, 4)"),
    (3, lambda g: right(unit(g)), "two tensors are wanted"),
    (4, lambda t: (unit(t) @ unit(t).T).mean(), between, "each token with itself"),
    (4, lambda t: within(t) * (len(t) - 1) / len(t), between, "number of pairs"),
    (4, lambda t: within(t) / 2, between, "adds up each pair once"),
    (4, dots_within, between, "dot products without the lengths: bring"),
    (4, lambda t: (t @ t.T).mean(), between, "and each token with itself too"),
    (4, lambda t: (unit(t)[1:] * unit(t)[:-1]).sum(-1).mean(), between, "only with the next one"),
    (4, lambda t: unit(t) @ unit(t).T, between, "one number"),
    (4, lambda t: 0.5, between, "the mean of 6 x 5 cosines"),
    (4, within, lambda a, b: (a @ b.T).mean(), "`between` takes dot products"),
    (4, within, lambda a, b: unit(a.mean(0)) @ unit(b.mean(0)), "the two mean tokens"),
    (4, within, lambda a, b: (unit(a) * unit(b)[: len(a)]).sum(-1).mean(), "only with token i"),
    (4, within, lambda a, b: between(a, b) * len(b) / (len(b) - 1), "no token meets itself"),
    (4, within, lambda a, b: between(a, b) - 1 / len(b), "no token meets itself"),
    (4, within, lambda a, b: 0.5, "the mean of 6 x 9 cosines"),
    (4, within, lambda a, b: ..., "not yet answered"),
    (5, lambda x: outliers(x, both=torch.logical_or), mean_without,
     "one of the conditions is enough"),
    (5, lambda x: outliers(x, both=lambda a, b: a), mean_without, "1.5 m is missing"),
    (5, lambda x: outliers(x, both=lambda a, b: b), mean_without, "m + 5 s is missing"),
    (5, lambda x: outliers(x, 1.0), mean_without, "1.4826 is missing"),
    (5, lambda x: ~outliers(x), mean_without, "turn the comparison around"),
    (5, lambda x: x > x.mean() + 5 * x.std(), mean_without, "the outliers change both"),
    (5, far_from_median, mean_without, "short tokens too"),
    (5, lambda x: x * outliers(x), mean_without, "truth values"),
    (5, lambda x: outliers(x).sum(), mean_without, "a truth value for every token"),
    (5, lambda x: outliers(x).nonzero(), mean_without, "a truth value for every token"),
    (5, lambda x: x > 180, mean_without, "Look at lengths such as 170"),
    (5, outliers, lambda r, d, x: torch.cat([r.ravel(), d.ravel()]).mean(), "leaves nothing out"),
    (5, outliers, lambda r, d, x: mean_without(r, d, x, torch.logical_or), "only if *both*"),
    (5, outliers, lambda r, d, x: mean_without(r, d, x, lambda a, b: a), "only at the first token"),
    (5, outliers, lambda r, d, x: mean_without(r, d, x, lambda a, b: b),
     "only at the second token"),
    (5, outliers, lambda r, d, x: sum(part.mean() for part in kept(r, d, x)) / 2,
     "the mean of two means"),
    (5, outliers, lambda r, d, x: sum(part.sum() for part in kept(r, d, x)) / 17,
     "puts 0 in the place"),
    (5, outliers, lambda r, d, x: mean_without(r, d, x, lambda a, b: ~(a & b)),
     "turn the mask around"),
    (5, outliers, lambda r, d, x: kept(r, d, x)[0].mean(), "takes `right` alone"),
    (5, outliers, lambda r, d, x: 0.3, "whose tokens are both kept"),
    (6, lambda t: rank(t, exp=lambda x: x), "the entropy itself"),
    (6, lambda t: rank(t, power=1), "variance is their *square*"),
    (6, lambda t: rank(t, centre=False), "the mean token is still in: take it away"),
    (6, lambda t: rank(t, centre=False, power=1), "and the singular values are not squared"),
    (6, lambda t: rank(t - t.mean(1, keepdim=True), centre=False), "dim=0"),
    (6, lambda t: rank(t, exp=lambda x: torch.exp(-x)), "the minus before the sum"),
    (6, lambda t: rank(t, log=torch.log2), "base 2"),
    (6, lambda t: rank(t, power=4), "squared twice"),
    (6, lambda t: torch.linalg.matrix_rank(t - t.mean(0)), "the ordinary rank"),
    (6, lambda t: torch.linalg.svdvals(t - t.mean(0)), "one number"),
    (6, lambda t: 3.0, "Mean away, squared"),
    (6, lambda t: rank(t) if len(t) == 9 else torch.tensor(float("nan")), "`torch.xlogy(p, p)`"),
    (6, lambda t: rank(t) if len(t) == 9 else 2.0, "for tokens on a line you give 2"),
]  # fmt: skip
