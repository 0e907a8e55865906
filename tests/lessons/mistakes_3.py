"""Answers of learners to lesson 3, and what the grader has to say to them."""

import itertools
from functools import cache
from types import SimpleNamespace

import numpy as np
from scipy import stats

import encoderlab

norm = np.linalg.norm


def centred(x):
    return x - x.mean(axis=0)


def formula(a, b, order=None):
    return norm(a.T @ b, order) ** 2 / (norm(a.T @ a, order) * norm(b.T @ b, order))


def right_cka(x, y):
    return formula(centred(x), centred(y))


def of_centred(make):
    return lambda x, y: make(centred(x), centred(y))


def cosine_of_covariances(a, b):
    return norm(a.T @ b) / norm(a.T @ a) / norm(b.T @ b)


def traces(a, b):
    return np.trace(a @ a.T) * np.trace(b @ b.T) / norm(a.T @ a) / norm(b.T @ b)


def noise(n, d, seed):
    rng = np.random.default_rng(seed)
    return right_cka(rng.normal(size=(n, d)), rng.normal(size=(n, d)))


def same_seed_twice(n, d, seed):
    x, y = (np.random.default_rng(seed).normal(size=(n, d)) for _ in range(2))
    return right_cka(x, y)


def debiased(n, d, seed):
    rng = np.random.default_rng(seed)
    return float(encoderlab.cka(rng.normal(size=(n, d)), rng.normal(size=(n, d))))


def unseeded():
    rng = np.random.default_rng(0)
    return lambda n, d, seed: right_cka(rng.normal(size=(n, d)), rng.normal(size=(n, d)))


def related(n, d, seed):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, d))
    return right_cka(x, x + 0.5 * rng.normal(size=(n, d)))


def shuffle_y(rng, x, y):
    return x, rng.permutation(y)


def shuffle_values(rng, x, y):
    return x, rng.permuted(y)


def together(rng, x, y):
    order = rng.permutation(len(x))
    return x[order], y[order]


def reseeded(rng, x, y):
    return x, np.random.default_rng(0).permutation(y)


def unseeded_shuffle(rng, x, y):
    return x, np.random.default_rng().permutation(y)


def right_p(reached, rounds):
    return (1 + reached) / (1 + rounds)


def counted(end=right_p, compare=np.greater_equal, shuffle=shuffle_y):
    """A function that shuffles and counts, and ends as `end(reached, rounds)`."""

    def shuffle_p(score, x, y, rounds, seed):
        rng, observed = np.random.default_rng(seed), score(x, y)
        reached = sum(compare(score(*shuffle(rng, x, y)), observed) for _ in range(rounds))
        return end(int(reached), rounds)

    return shuffle_p


def in_place(score, x, y, rounds, seed):
    rng = np.random.default_rng(seed)
    rng.shuffle(y)
    observed = score(x, y)
    return right_p(sum(score(x, rng.permutation(y)) >= observed for _ in range(rounds)), rounds)


def compared(same, shuffle=shuffle_y):
    return lambda metric, x, y: bool(
        same(metric(x, y), metric(*shuffle(np.random.default_rng(0), x, y)))
    )


def r2(truth, guess, mean):
    return 1 - ((truth - guess) ** 2).sum() / ((truth - mean) ** 2).sum()


def r2_of_columns(truth, guess, mean):
    return np.mean(1 - ((truth - guess) ** 2).sum(0) / (len(truth) * truth.var(0)))


def projected(score, rows=slice(40), rest=slice(40, None)):
    """Fits on `rows`, and scores by `score(truth, guess, mean)` there and on `rest`."""

    def seen_and_unseen(x, y, fit):
        predict, mean = fit(x[rows], y[rows]), y[rows].mean(axis=0)
        return tuple(score(y[part], predict(x[part]), mean) for part in (rows, rest))

    return seen_and_unseen


def fitted_twice(x, y, fit):
    parts = slice(40), slice(40, None)
    return tuple(r2(y[part], fit(x[part], y[part])(x[part]), y[part].mean(0)) for part in parts)


def ordered(end):
    """`end(r of every order, the r of the order given)`."""

    def exact_p(a, b):
        every = np.array([np.corrcoef(a, order)[0, 1] for order in itertools.permutations(b)])
        return end(every, np.corrcoef(a, b)[0, 1])

    return exact_p


def as_strong(every, r):
    return abs(every) >= abs(r) - 1e-9


def drawn(a, b):
    rng = np.random.default_rng()
    return np.mean([rng.random() for _ in range(50)])


@cache
def report():
    """a leads b surely and c perhaps; within types only a is ahead of its untrained copy."""
    from encoderlab.alignment.pair_scores import PairScores, PairVerdict
    from encoderlab.core.score import Score
    from encoderlab.metrics.uncertainty import Comparison

    def row(name, value, of=None):
        plain = Score(value, value - 0.1, value + 0.1, 0.0, 30, "")
        scores = dict.fromkeys(("cka_linear", "cka_within", "ridge_r2"), plain)
        published = Score(value + 0.2, None, None, 0.2, 30, "")
        return PairScores(name, "llm", {**scores, "cka_linear_biased": published}, control_of=of)

    def judged(metric, a, b, low, high):
        return PairVerdict(
            metric, "llm", Comparison(a, b, (low + high) / 2, low, high, 0.1, 30, 0.95)
        )

    return SimpleNamespace(
        rows=[
            *(row(name, 0.6 - 0.1 * i) for i, name in enumerate("abc")),
            *(row(f"shuffled:{name}", 0.01, name) for name in "abc"),
        ],
        verdicts=[
            judged("cka_linear", "b", "a", -0.3, -0.1),  # the other way round
            judged("cka_linear", "a", "c", -0.1, 0.3),
            judged("cka_within", "a", "untrained:a", 0.1, 0.3),
            judged("cka_within", "b", "untrained:b", -0.1, 0.3),
            judged("cka_within", "c", "untrained:c", -0.3, -0.1),
        ],
    )


PUBLISHED = "CKA, as published"
GIVEN = {2: lambda: {"published_cka": right_cka}, 7: lambda: {"report": report()}}
RIGHT = [
    (1, right_cka),
    (2, noise),
    (3, counted()),
    (4, compared(np.isclose)),
    (5, projected(r2)),
    (6, ordered(lambda e, r: as_strong(e, r).mean())),
    *((7, "b", column, {"c", "b"}) for column in (PUBLISHED, "cka, as published ",
                                                  "cka_linear_biased")),
]  # fmt: skip
MISTAKES = [
    (1, formula, "you have not centred"),
    (1, lambda x, y: formula(centred(x), y), "centred `x`, but not `y`"),
    (1, lambda x, y: formula(x, centred(y)), "centred `y`, but not `x`"),
    (1, lambda x, y: formula(centred(x.T).T, centred(y.T).T), "column by column"),
    (1, lambda x, y: formula(x - x.mean(), y - y.mean()), "one mean of the whole matrix"),
    (1, of_centred(lambda a, b: formula(a / a.std(0), b / b.std(0))), "standard deviation"),
    (1, lambda x, y: right_cka(x, y) ** 0.5, "the root of CKA"),
    (1, of_centred(cosine_of_covariances), "the norm in the numerator is squared"),
    (1, of_centred(lambda a, b: cosine_of_covariances(a, b) ** 2), "the denominator is squared"),
    (1, of_centred(lambda a, b: (norm(a.T @ b) / norm(a) / norm(b)) ** 2), "not those of X"),
    (1, of_centred(lambda a, b: norm(a.T @ b) ** 2 / norm(a) / norm(b)), "not those of X"),
    (1, of_centred(traces), "you multiply two traces"),
    (1, of_centred(lambda a, b: formula(a, b, 2)), "largest singular value"),
    (1, lambda x, y: float(encoderlab.cka(x, y)), "the *debiased* CKA"),
    (1, encoderlab.cka, "EncoderLab's own score"),
    (1, lambda x, y: 1 - right_cka(x, y), "this is a distance"),
    (1, lambda x, y: x.T @ y, "CKA is one number"),
    (1, lambda x, y: norm(x @ y.T), "raised an error"),
    (1, lambda x, y: right_cka(x[:12], y[:12]) if len(x) == 12 else 0.5, "7 samples you give"),
    (1, lambda x, y: 0.123, "Centre the columns of both"),
    (2, same_seed_twice, "both matrices are the same"),
    (2, lambda n, d, seed: noise(n, d, 0), "does the function use `seed`?"),
    (2, unseeded(), "make the generator inside"),
    (2, lambda n, d, seed: noise(d, n, seed), "the shape is (n, d)"),
    (2, debiased, "this is the debiased CKA"),
    (2, related, "two *independent* Gaussian matrices"),
    (2, lambda n, d, seed: noise(20, 40, seed), "for n = 60 and d = 15"),
    (3, counted(lambda k, n: k / n), "add 1 to numerator *and* denominator"),
    (3, counted(lambda k, n: (1 + k) / n), "missing in the denominator"),
    (3, counted(lambda k, n: k / (1 + n)), "missing in the numerator"),
    (3, counted(compare=np.greater), "`>=`, not `>`"),
    (3, counted(lambda k, n: k / n, np.greater), "two things"),
    (3, counted(compare=lambda a, b: abs(a) >= abs(b)), "this is two-sided"),
    (3, counted(compare=np.less_equal), "*below* the observed"),
    (3, counted(lambda k, n: k / n, np.less), "*below* the observed"),
    (3, counted(lambda k, n: 1 - right_p(k, n)), "this is 1 - p"),
    (3, counted(lambda k, n: 100 * right_p(k, n)), "in percent"),
    (3, counted(lambda k, n: k), "is how many"),
    (3, counted(lambda k, n: 1 + k), "is how many"),
    (3, counted(lambda k, n: 0.77), "expect (1 + 4) / (1 + 19)"),
    (3, counted(shuffle=together), "move the rows of `x` and `y` together"),
    (3, counted(shuffle=lambda rng, x, y: (x, y)), "only seen the pairs as they are"),
    (3, counted(shuffle=shuffle_values), "Whole rows"),
    (3, counted(shuffle=lambda rng, x, y: (x, rng.choice(y, len(y)))), "replacement"),
    (3, counted(shuffle=reseeded), "every round has the same order"),
    (3, counted(shuffle=unseeded_shuffle), "the same seed shuffles in another way"),
    (3, in_place, "*as they are* is never asked for"),
    (3, lambda score, x, y, rounds, seed: counted()(score, x, y, 5, seed), "5 times"),
    (3, lambda *_: 0.05, "never calls `score`"),
    (4, compared(lambda a, b: a == b), "moves by 1e-13"),
    (4, compared(lambda a, b: abs(a - b) < 1e-2), "of a small scale"),
    (4, compared(lambda a, b: not np.isclose(a, b)), "the wrong way round"),
    (4, compared(lambda a, b: a > 0), "two ignore the pairing"),
    (4, compared(np.isclose, together), "move the rows of `x` and `y` together"),
    (4, compared(np.isclose, shuffle_values), "Whole rows"),
    (4, lambda m, x, y: m(x, y) - m(x, y[::-1]), "should return True or False"),
    (4, lambda m, x, y: True, "never calls `metric`"),
    (4, lambda m, x, y: bool(m(x, y[::-1]) > 0), "has not seen the pairs as they are"),
    (5, projected(r2, slice(None)), "`fit` has seen all 50 rows"),
    (5, projected(r2, slice(10, None), slice(10)), "40 rows, 10 to 49"),
    (5, fitted_twice, "you fit 2 times"),
    (5, lambda x, y, fit: projected(r2)(x, y, fit)[::-1], "the wrong way round"),
    (5, projected(r2, rest=slice(40)), "of the seen rows twice"),
    (5, lambda x, y, fit: projected(r2)(x, y, fit)[1:] * 2, "of the held-out rows twice"),
    (5, lambda x, y, fit: (projected(r2)(x, y, fit)[0], 0.1), "for the held-out rows you give 0.1"),
    (5, lambda x, y, fit: projected(r2)(x, y, fit)[1], "return two numbers"),
    (5, projected(lambda t, g, m: r2(t, g, t.mean(axis=0))), "you subtract *their* mean"),
    (5, projected(lambda t, g, m: r2(t, g, t.mean())), "one mean over all numbers"),
    (5, projected(lambda t, g, m: 1 - r2(t, g, m)), "share that is *not* explained"),
    (5, projected(lambda t, g, m: ((t - g) ** 2).mean()), "mean squared error"),
    (5, projected(lambda t, g, m: ((t - g) ** 2).sum()), "sum of squared errors"),
    (5, projected(lambda t, g, m: np.corrcoef(t.ravel(), g.ravel())[0, 1] ** 2),
     "squared correlation"),
    (5, projected(r2_of_columns), "an R² per column"),
    (5, projected(lambda t, g, m: 0.5), "for the seen rows you give 0.5"),
    (5, lambda x, y, fit: (fit(x[:40], y[10:]), 1)[1:] * 2, "do not belong together"),
    (5, lambda x, y, fit: (fit(2 * x[:40], y[:40]), 1)[1:] * 2, "neither in `x` nor in `y`"),
    (5, lambda x, y, fit: (1.0, 0.5), "never calls `fit`"),
    (6, ordered(lambda e, r: (1 + as_strong(e, r).sum()) / (1 + len(e))), "nothing is added"),
    (6, ordered(lambda e, r: (abs(e) > abs(r) + 1e-9).mean()), "has not been counted"),
    (6, ordered(lambda e, r: (as_strong(e, r).sum() - 1) / (len(e) - 1)), "has not been counted"),
    (6, ordered(lambda e, r: (e <= r + 1e-9).mean()), "this is one-sided"),
    (6, ordered(lambda e, r: (e >= abs(r) - 1e-9).mean()), "this is one-sided"),
    (6, lambda a, b: stats.pearsonr(a, b).pvalue, "p of the t distribution"),
    (6, ordered(lambda e, r: as_strong(e, r).sum()), "is how many orders"),
    (6, ordered(lambda e, r: 100 * as_strong(e, r).mean()), "in percent"),
    (6, ordered(lambda e, r: 1 - as_strong(e, r).mean()), "*weaker*"),
    (6, ordered(lambda e, r: r), "this is r itself"),
    (6, lambda a, b: 0.5, "for 5 points with r = "),
    (6, drawn, "drawn at random"),
    (7, ["b", "c"], PUBLISHED, ["b", "c"], "the interval of the difference holds 0"),
    (7, [], PUBLISHED, ["b", "c"], "missing from `leader_is_ahead_of`"),
    (7, ["a"], PUBLISHED, ["b", "c"], "a is the leader itself"),
    (7, ["untrained:b"], PUBLISHED, ["b", "c"], "is a control"),
    (7, ["clip"], PUBLISHED, ["b", "c"], "there is no encoder `clip`"),
    (7, 1, PUBLISHED, ["b", "c"], "should be a list of names"),
    (7, ["b"], "CKA, debiased", ["b", "c"], "which is about 0"),
    (7, ["b"], "shuffled", ["b", "c"], "should be the head of a column"),
    (7, ["b"], PUBLISHED, ["a", "b", "c"], "a is ahead of its untrained copy"),
    (7, ["b"], PUBLISHED, ["c"], "missing from `not_ahead_of_untrained`"),
    (7, ["b"], ..., ["b", "c"], "not yet answered"),
]  # fmt: skip
