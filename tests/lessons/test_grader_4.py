"""What the grader says to the mistakes that learners make in lesson 4."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

LESSON = 4


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (lambda h, w, p: (h // p) * (w // p), "CLS is a token too"),
        (lambda h, w, p: h * w // p + 1, "divided by `patch` once"),
        (lambda h, w, p: h // p + w // p + 1, "rows *plus* columns"),
        (lambda h, w, p: (h // p) ** 2 + 1, "use the width"),
        (lambda h, w, p: (w // p) ** 2 + 1, "use the height"),
        (lambda h, w, p: -(-h // p) * -(-w // p) + 1, "you round up"),
        (lambda h, w, p: h * w // p**2 + 1, "divide all pixels at once"),
        (lambda h, w, p: (h / p) * (w / p) + 1, "a whole number"),
        (lambda h, w, p: 145, "rows of patches times columns"),
        (lambda h, w, p: ..., "not yet answered"),
        (lambda h, w, p: None, "is a `return` missing?"),
    ],
)
def test_count(answer, said, says):
    verdict = says(1, answer)
    assert verdict.state != "right" and said in verdict.text


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (lambda t, h, w: t.reshape(h, w, -1), "CLS is still among them"),
        (lambda t, h, w: t.reshape(h, w, t.shape[1]), "CLS is still among them"),
        (lambda t, h, w: t.unflatten(0, (h, w)), "CLS is still among them"),
        (lambda t, h, w: t[:-1].reshape(h, w, -1), "the *last* token"),
        (lambda t, h, w: t[1:].reshape(w, h, -1), "rows and columns are the wrong way round"),
        (lambda t, h, w: t[1:].reshape(w, h, -1).transpose(0, 1), "is transposed"),
        (lambda t, h, w: t[1:].T.reshape(-1, h, w), "channels first"),
        (lambda t, h, w: t[1:].T.reshape(h, w, -1), "scattered over the map"),
        (lambda t, h, w: t[1:].reshape(h, w, -1).flip(0), "upside down"),
        (lambda t, h, w: t[1:].reshape(h, w, -1).flip(1), "left and right"),
        (lambda t, h, w: t[1:], "expect shape (3, 4, 5)"),
        (lambda t, h, w: 2 * t[1:].reshape(h, w, -1), "not where they belong"),
        (lambda t, h, w: t.foo, "raised an error"),
    ],
)
def test_grid(answer, said, says):
    verdict = says(2, answer)
    assert verdict.state == "wrong" and said in verdict.text


def right(x):
    return (x[:, :-1] * x[:, 1:]).sum(-1)


def down(x):
    return (x[:-1] * x[1:]).sum(-1)


def unit(x):
    return F.normalize(x, dim=-1)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (lambda g: (right(g), down(g)), "dot products, without the lengths"),
        (lambda g: (right(unit(g)), down(g)), "dot products, without the lengths"),
        (lambda g: (down(unit(g)), right(unit(g))), "the other direction"),
        (lambda g: tuple(f(F.normalize(g, dim=0)) for f in (right, down)), "along the wrong axis"),
        (lambda g: tuple(f(F.normalize(g, dim=1)) for f in (right, down)), "along the wrong axis"),
        (lambda g: (right(g / g.norm()), down(g / g.norm())), "the length of the whole grid"),
        (
            lambda g: tuple(f(g / g.square().sum(-1, keepdim=True)) for f in (right, down)),
            "*squared* lengths",
        ),
        (
            lambda g: tuple((unit(g) * unit(g).roll(-1, k)).sum(-1) for k in (1, 0)),
            "at the edge there is none",
        ),
        (lambda g: (unit(g)[:, :-1] * unit(g)[:, 1:], down(unit(g))), "still has the axis D"),
        (lambda g: (1 - right(unit(g)), 1 - down(unit(g))), "a distance"),
        (lambda g: (right(unit(g)) ** 2, down(unit(g))), "the squares of the cosines"),
        (lambda g: (right(unit(g)).flip(1), down(unit(g))), "compares ("),
        (lambda g: (right(unit(g)).mean(), down(unit(g)).mean()), "expect (3, 4)"),
        (lambda g: right(unit(g)), "two tensors are wanted"),
    ],
)
def test_neighbours(answer, said, says):
    verdict = says(3, answer)
    assert verdict.state == "wrong" and said in verdict.text


def test_neighbours_in_a_loop_are_right(says):
    def neighbour_cosines(grid):
        h, w, _ = grid.shape
        cosine = torch.cosine_similarity
        across = [[cosine(grid[i, j], grid[i, j + 1], 0) for j in range(w - 1)] for i in range(h)]
        below = [[cosine(grid[i, j], grid[i + 1, j], 0) for j in range(w)] for i in range(h - 1)]
        return across, below

    assert says(3, neighbour_cosines).state == "right"


def within(t):
    t = unit(t)
    return ((t @ t.T).sum() - len(t)) / (len(t) * (len(t) - 1))


def between(a, b):
    return (unit(a) @ unit(b).T).mean()


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (lambda t: (unit(t) @ unit(t).T).mean(), "each token with itself"),
        (lambda t: ((unit(t) @ unit(t).T).sum() - len(t)) / len(t) ** 2, "number of pairs"),
        (lambda t: within(t) / 2, "adds up each pair once"),
        (
            lambda t: ((t @ t.T).sum() - (t @ t.T).trace()) / (len(t) * (len(t) - 1)),
            "dot products without the lengths: bring",
        ),
        (lambda t: (t @ t.T).mean(), "and each token with itself too"),
        (lambda t: (unit(t)[1:] * unit(t)[:-1]).sum(-1).mean(), "only with the next one"),
        (lambda t: unit(t) @ unit(t).T, "one number"),
        (lambda t: 0.5, "the mean of 6 x 5 cosines"),
    ],
)
def test_within(answer, said, says):
    verdict = says(4, answer, between)
    assert verdict.state == "wrong" and said in verdict.text


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (lambda a, b: (a @ b.T).mean(), "`between` takes dot products"),
        (lambda a, b: unit(a.mean(0)) @ unit(b.mean(0)), "the two mean tokens"),
        (lambda a, b: (unit(a) * unit(b)[: len(a)]).sum(-1).mean(), "only with token i"),
        (lambda a, b: between(a, b) * len(b) / (len(b) - 1), "no token meets itself"),
        (lambda a, b: between(a, b) - 1 / len(b), "no token meets itself"),
        (lambda a, b: 0.5, "the mean of 6 x 9 cosines"),
        (lambda a, b: ..., "not yet answered"),
    ],
)
def test_between(answer, said, says):
    verdict = says(4, within, answer)
    assert verdict.state != "right" and said in verdict.text


def outliers(x, factor=1.4826, both=torch.logical_and):
    m = x.median()
    s = factor * (x - m).abs().median()
    return both(x > m + 5 * s, x > 1.5 * m)


def mean_without(across, below, drop, one=torch.logical_and):
    keep = ~drop
    return torch.cat(
        [across[one(keep[:, :-1], keep[:, 1:])], below[one(keep[:-1], keep[1:])]]
    ).mean()


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (lambda x: outliers(x, both=torch.logical_or), "one of the conditions is enough"),
        (lambda x: outliers(x, both=lambda a, b: a), "1.5 m is missing"),
        (lambda x: outliers(x, both=lambda a, b: b), "m + 5 s is missing"),
        (lambda x: outliers(x, 1.0), "1.4826 is missing"),
        (lambda x: ~outliers(x), "turn the comparison around"),
        (lambda x: x > x.mean() + 5 * x.std(), "the outliers change both"),
        (
            lambda x: (x - x.median()).abs() > 5 * 1.4826 * (x - x.median()).abs().median(),
            "short tokens too",
        ),
        (lambda x: x * outliers(x), "truth values"),
        (lambda x: outliers(x).sum(), "a truth value for every token"),
        (lambda x: outliers(x).nonzero(), "a truth value for every token"),
        (lambda x: x > 180, "Look at lengths such as 170"),
    ],
)
def test_outliers(answer, said, says):
    verdict = says(5, answer, mean_without)
    assert verdict.state == "wrong" and said in verdict.text


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (lambda r, d, x: torch.cat([r.ravel(), d.ravel()]).mean(), "leaves nothing out"),
        (lambda r, d, x: mean_without(r, d, x, torch.logical_or), "only if *both*"),
        (lambda r, d, x: mean_without(r, d, x, lambda a, b: a), "only at the first token"),
        (lambda r, d, x: mean_without(r, d, x, lambda a, b: b), "only at the second token"),
        (
            lambda r, d, x: r[~x[:, :-1] & ~x[:, 1:]].mean() / 2 + d[~x[:-1] & ~x[1:]].mean() / 2,
            "the mean of two means",
        ),
        (
            lambda r, d, x: (r[~x[:, :-1] & ~x[:, 1:]].sum() + d[~x[:-1] & ~x[1:]].sum()) / 17,
            "puts 0 in the place",
        ),
        (lambda r, d, x: mean_without(r, d, x, lambda a, b: ~(a & b)), "turn the mask around"),
        (lambda r, d, x: r[~x[:, :-1] & ~x[:, 1:]].mean(), "takes `right` alone"),
        (lambda r, d, x: 0.3, "whose tokens are both kept"),
    ],
)
def test_mean_without(answer, said, says):
    verdict = says(5, outliers, answer)
    assert verdict.state == "wrong" and said in verdict.text


def rank(t, centre=True, power=2, exp=torch.exp, log=torch.log):
    values = torch.linalg.svdvals(t - t.mean(0) if centre else t) ** power
    p = values / values.sum()
    return exp(-(p * log(p)).sum())


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (lambda t: rank(t, exp=lambda x: x), "the entropy itself"),
        (lambda t: rank(t, power=1), "variance is their *square*"),
        (lambda t: rank(t, centre=False), "the mean token is still in: take it away"),
        (lambda t: rank(t, centre=False, power=1), "and the singular values are not squared"),
        (lambda t: rank(t - t.mean(1, keepdim=True), centre=False), "dim=0"),
        (lambda t: rank(t, exp=lambda x: torch.exp(-x)), "the minus before the sum"),
        (lambda t: rank(t, log=torch.log2), "base 2"),
        (lambda t: rank(t, power=4), "squared twice"),
        (lambda t: torch.linalg.matrix_rank(t - t.mean(0)), "the ordinary rank"),
        (lambda t: torch.linalg.svdvals(t - t.mean(0)), "one number"),
        (lambda t: 3.0, "Mean away, squared"),
        (lambda t: rank(t) if len(t) == 9 else torch.tensor(float("nan")), "`torch.xlogy(p, p)`"),
        (lambda t: rank(t) if len(t) == 9 else 2.0, "for tokens on a line you give 2"),
    ],
)
def test_rank(answer, said, says):
    verdict = says(6, answer)
    assert verdict.state == "wrong" and said in verdict.text


def test_the_lesson_goes_on_with_the_learners_own_where_it_is_right(says):
    assert says(5, outliers, mean_without).verdict.value == (outliers, mean_without)
    assert says(4, within, between).verdict.value == (within, between)


def test_ours_say_what_encoderlab_says(says):
    from encoderlab.patch_tokens import statistics

    nothing = lambda *_: ...  # noqa: E731
    t = torch.randn(5, 7, 6, generator=torch.Generator().manual_seed(0))
    t[2, 3] *= 20
    flat = t.flatten(0, 1)
    lengths = t.norm(dim=-1)
    ours, ours_without = says(5, nothing, nothing).verdict.value
    assert torch.equal(ours(lengths), statistics.outliers(lengths)) and ours(lengths)[2, 3]
    across, below = says(3, nothing).verdict.value(t)
    found = mean_without(across, below, ours(lengths))
    assert ours_without(across, below, ours(lengths)) == pytest.approx(float(found), abs=1e-6)
    one, other = says(4, nothing, nothing).verdict.value
    assert one(flat) == pytest.approx(float(within(flat)), abs=1e-5)
    assert other(flat, flat[:9]) == pytest.approx(float(between(flat, flat[:9])), abs=1e-5)
    assert says(6, nothing).verdict.value(flat) == pytest.approx(float(rank(flat)), rel=1e-3)
    tokens = torch.cat([torch.zeros(1, 6), flat])
    assert torch.equal(says(2, nothing).verdict.value(tokens, 5, 7), t)
