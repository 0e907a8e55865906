"""What the grader says to the mistakes that learners make in lesson 3."""

from __future__ import annotations

import itertools
from types import SimpleNamespace

import numpy as np
import pytest
from scipy import stats

import encoderlab

LESSON = 3


norm = np.linalg.norm


def centred(x):
    return x - x.mean(axis=0)


def formula(a, b, order=None):
    return norm(a.T @ b, order) ** 2 / (norm(a.T @ a, order) * norm(b.T @ b, order))


def right_cka(x, y):
    return formula(centred(x), centred(y))


def with_centred(make):
    return lambda x, y: make(centred(x), centred(y))


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (formula, "you have not centred"),
        (lambda x, y: formula(centred(x), y), "centred `x`, but not `y`"),
        (lambda x, y: formula(x, centred(y)), "centred `y`, but not `x`"),
        (lambda x, y: formula(centred(x.T).T, centred(y.T).T), "column by column"),
        (lambda x, y: formula(x - x.mean(), y - y.mean()), "one mean of the whole matrix"),
        (with_centred(lambda a, b: formula(a / a.std(0), b / b.std(0))), "standard deviation"),
        (lambda x, y: right_cka(x, y) ** 0.5, "the root of CKA"),
        (
            with_centred(lambda a, b: norm(a.T @ b) / norm(a.T @ a) / norm(b.T @ b)),
            "the norm in the numerator is squared",
        ),
        (
            with_centred(lambda a, b: (norm(a.T @ b) / norm(a.T @ a) / norm(b.T @ b)) ** 2),
            "the denominator is squared",
        ),
        (with_centred(lambda a, b: (norm(a.T @ b) / norm(a) / norm(b)) ** 2), "not those of X"),
        (with_centred(lambda a, b: norm(a.T @ b) ** 2 / norm(a) / norm(b)), "not those of X"),
        (
            with_centred(
                lambda a, b: np.trace(a @ a.T) * np.trace(b @ b.T) / norm(a.T @ a) / norm(b.T @ b)
            ),
            "you multiply two traces",
        ),
        (with_centred(lambda a, b: formula(a, b, 2)), "largest singular value"),
        (lambda x, y: float(encoderlab.cka(x, y)), "the *debiased* CKA"),
        (encoderlab.cka, "EncoderLab's own score"),
        (lambda x, y: 1 - right_cka(x, y), "this is a distance"),
        (lambda x, y: x.T @ y, "CKA is one number"),
        (lambda x, y: norm(x @ y.T), "raised an error"),
        (lambda x, y: right_cka(x[:12], y[:12]) if len(x) == 12 else 0.5, "7 samples you give"),
        (lambda x, y: 0.123, "Centre the columns of both"),
    ],
)
def test_cka(answer, said, says):
    verdict = says(1, answer)
    assert verdict.state == "wrong" and said in verdict.text


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


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (same_seed_twice, "both matrices are the same"),
        (lambda n, d, seed: noise(n, d, 0), "does the function use `seed`?"),
        (unseeded(), "make the generator inside"),
        (lambda n, d, seed: noise(d, n, seed), "the shape is (n, d)"),
        (debiased, "this is the debiased CKA"),
        (related, "two *independent* Gaussian matrices"),
        (lambda n, d, seed: noise(20, 40, seed), "for n = 60 and d = 15"),
    ],
)
def test_noise(answer, said, says):
    verdict = says(2, answer, published_cka=right_cka)
    assert verdict.state == "wrong" and said in verdict.text


def counted(end, compare=np.greater_equal, shuffle=None):
    """A function that shuffles and counts, and ends as `end(reached, rounds)`."""

    def shuffle_p(score, x, y, rounds, seed):
        rng, observed = np.random.default_rng(seed), score(x, y)
        mix = shuffle or (lambda rng, x, y: (x, rng.permutation(y)))
        reached = sum(compare(score(*mix(rng, x, y)), observed) for _ in range(rounds))
        return end(int(reached), rounds)

    return shuffle_p


def right_p(reached, rounds):
    return (1 + reached) / (1 + rounds)


def together(rng, x, y):
    order = rng.permutation(len(x))
    return x[order], y[order]


def in_place(score, x, y, rounds, seed):
    rng = np.random.default_rng(seed)
    rng.shuffle(y)
    observed = score(x, y)
    return right_p(sum(score(x, rng.permutation(y)) >= observed for _ in range(rounds)), rounds)


def reseeded(rng, x, y):
    return x, np.random.default_rng(0).permutation(y)


def unseeded_shuffle(rng, x, y):
    return x, np.random.default_rng().permutation(y)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (counted(lambda k, n: k / n), "add 1 to numerator *and* denominator"),
        (counted(lambda k, n: (1 + k) / n), "missing in the denominator"),
        (counted(lambda k, n: k / (1 + n)), "missing in the numerator"),
        (counted(right_p, np.greater), "`>=`, not `>`"),
        (counted(lambda k, n: k / n, np.greater), "two things"),
        (counted(right_p, lambda a, b: abs(a) >= abs(b)), "this is two-sided"),
        (counted(right_p, np.less_equal), "*below* the observed"),
        (counted(lambda k, n: k / n, np.less), "*below* the observed"),
        (counted(lambda k, n: 1 - right_p(k, n)), "this is 1 - p"),
        (counted(lambda k, n: 100 * right_p(k, n)), "in percent"),
        (counted(lambda k, n: k), "is how many"),
        (counted(lambda k, n: 1 + k), "is how many"),
        (counted(lambda k, n: 0.77), "expect (1 + 4) / (1 + 19)"),
        (counted(right_p, shuffle=together), "move the rows of `x` and `y` together"),
        (counted(right_p, shuffle=lambda rng, x, y: (x, y)), "only seen the pairs as they are"),
        (counted(right_p, shuffle=lambda rng, x, y: (x, rng.permuted(y))), "Whole rows"),
        (counted(right_p, shuffle=lambda rng, x, y: (x, rng.choice(y, len(y)))), "replacement"),
        (counted(right_p, shuffle=reseeded), "every round has the same order"),
        (counted(right_p, shuffle=unseeded_shuffle), "the same seed shuffles in another way"),
        (in_place, "*as they are* is never asked for"),
        (lambda score, x, y, rounds, seed: counted(right_p)(score, x, y, 5, seed), "5 times"),
        (lambda *_: 0.05, "never calls `score`"),
    ],
)
def test_shuffle_p(answer, said, says):
    verdict = says(3, answer)
    assert verdict.state == "wrong" and said in verdict.text


def compared(same, shuffle=lambda rng, x, y: (x, rng.permutation(y))):
    return lambda metric, x, y: bool(
        same(metric(x, y), metric(*shuffle(np.random.default_rng(0), x, y)))
    )


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (compared(lambda a, b: a == b), "moves by 1e-13"),
        (compared(lambda a, b: abs(a - b) < 1e-2), "of a small scale"),
        (compared(lambda a, b: not np.isclose(a, b)), "the wrong way round"),
        (compared(lambda a, b: a > 0), "two ignore the pairing"),
        (compared(np.isclose, together), "move the rows of `x` and `y` together"),
        (compared(np.isclose, lambda rng, x, y: (x, rng.permuted(y))), "Whole rows"),
        (lambda m, x, y: m(x, y) - m(x, y[::-1]), "should return True or False"),
        (lambda m, x, y: True, "never calls `metric`"),
        (lambda m, x, y: bool(m(x, y[::-1]) > 0), "has not seen the pairs as they are"),
    ],
)
def test_pairing(answer, said, says):
    verdict = says(4, answer)
    assert verdict.state == "wrong" and said in verdict.text


def r2(truth, guess, mean):
    return 1 - ((truth - guess) ** 2).sum() / ((truth - mean) ** 2).sum()


def projected(score, rows=slice(40), rest=slice(40, None)):
    """Fits on `rows`, and scores by `score(truth, guess, mean)` there and on `rest`."""

    def seen_and_unseen(x, y, fit):
        predict, mean = fit(x[rows], y[rows]), y[rows].mean(axis=0)
        return tuple(score(y[part], predict(x[part]), mean) for part in (rows, rest))

    return seen_and_unseen


def fitted_twice(x, y, fit):
    parts = slice(40), slice(40, None)
    return tuple(r2(y[part], fit(x[part], y[part])(x[part]), y[part].mean(0)) for part in parts)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (projected(r2, slice(None)), "`fit` has seen all 50 rows"),
        (projected(r2, slice(10, None), slice(10)), "40 rows, 10 to 49"),
        (fitted_twice, "you fit 2 times"),
        (lambda x, y, fit: projected(r2)(x, y, fit)[::-1], "the wrong way round"),
        (projected(r2, rest=slice(40)), "of the seen rows twice"),
        (lambda x, y, fit: projected(r2)(x, y, fit)[1:] * 2, "of the held-out rows twice"),
        (
            lambda x, y, fit: (projected(r2)(x, y, fit)[0], 0.1),
            "for the held-out rows you give 0.1",
        ),
        (lambda x, y, fit: projected(r2)(x, y, fit)[1], "return two numbers"),
        (projected(lambda t, g, m: r2(t, g, t.mean(axis=0))), "you subtract *their* mean"),
        (projected(lambda t, g, m: r2(t, g, t.mean())), "one mean over all numbers"),
        (projected(lambda t, g, m: 1 - r2(t, g, m)), "share that is *not* explained"),
        (projected(lambda t, g, m: ((t - g) ** 2).mean()), "mean squared error"),
        (projected(lambda t, g, m: ((t - g) ** 2).sum()), "sum of squared errors"),
        (
            projected(lambda t, g, m: np.corrcoef(t.ravel(), g.ravel())[0, 1] ** 2),
            "squared correlation",
        ),
        (
            projected(lambda t, g, m: np.mean(1 - ((t - g) ** 2).sum(0) / (len(t) * t.var(0)))),
            "an R² per column",
        ),
        (projected(lambda t, g, m: 0.5), "for the seen rows you give 0.5"),
        (lambda x, y, fit: (fit(x[:40], y[10:]), 1)[1:] * 2, "do not belong together"),
        (lambda x, y, fit: (fit(2 * x[:40], y[:40]), 1)[1:] * 2, "neither in `x` nor in `y`"),
        (lambda x, y, fit: (1.0, 0.5), "never calls `fit`"),
    ],
)
def test_seen_and_unseen(answer, said, says):
    verdict = says(5, answer)
    assert verdict.state == "wrong" and said in verdict.text


def every_r(a, b):
    return np.array([np.corrcoef(a, order)[0, 1] for order in itertools.permutations(b)])


def ordered(end):
    """`end(all r, the r of the order given)`, with a slack in it."""
    return lambda a, b: end(every_r(a, b), np.corrcoef(a, b)[0, 1])


def as_strong(every, r):
    return abs(every) >= abs(r) - 1e-9


def drawn(a, b):
    rng = np.random.default_rng()
    return np.mean([rng.random() for _ in range(50)])


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (ordered(lambda e, r: (1 + as_strong(e, r).sum()) / (1 + len(e))), "nothing is added"),
        (ordered(lambda e, r: (abs(e) > abs(r) + 1e-9).mean()), "has not been counted"),
        (ordered(lambda e, r: (as_strong(e, r).sum() - 1) / (len(e) - 1)), "has not been counted"),
        (ordered(lambda e, r: (e <= r + 1e-9).mean()), "this is one-sided"),
        (ordered(lambda e, r: (e >= abs(r) - 1e-9).mean()), "this is one-sided"),
        (lambda a, b: stats.pearsonr(a, b).pvalue, "p of the t distribution"),
        (ordered(lambda e, r: as_strong(e, r).sum()), "is how many orders"),
        (ordered(lambda e, r: 100 * as_strong(e, r).mean()), "in percent"),
        (ordered(lambda e, r: 1 - as_strong(e, r).mean()), "*weaker*"),
        (ordered(lambda e, r: r), "this is r itself"),
        (lambda a, b: 0.5, "for 5 points with r = "),
        (drawn, "drawn at random"),
    ],
)
def test_exact_p(answer, said, says):
    verdict = says(6, answer)
    assert verdict.state == "wrong" and said in verdict.text


def test_right_answers_are_right(says):
    assert says(1, right_cka).state == "right"
    assert says(2, noise, published_cka=right_cka).state == "right"
    assert says(3, counted(right_p)).state == "right"
    assert says(4, compared(np.isclose)).state == "right"
    assert says(5, projected(r2)).state == "right"
    assert says(6, ordered(lambda e, r: as_strong(e, r).mean())).state == "right"


@pytest.fixture
def report():
    """a leads b surely and c perhaps; within types only a is ahead of its untrained copy."""
    from encoderlab.alignment.pair_scores import PairScores, PairVerdict
    from encoderlab.core.score import Score
    from encoderlab.metrics.uncertainty import Comparison

    def row(name, value, of=None):
        plain = Score(value, value - 0.1, value + 0.1, 0.0, 30, "")
        found = dict.fromkeys(("cka_linear", "cka_within", "ridge_r2"), plain)
        published = Score(value + 0.2, None, None, 0.2, 30, "")
        return PairScores(name, "llm", {**found, "cka_linear_biased": published}, control_of=of)

    def judged(metric, a, b, low, high):
        one = Comparison(a, b, (low + high) / 2, low, high, 0.1, 30, 0.95)
        return PairVerdict(metric, "llm", one)

    names = "abc"
    return SimpleNamespace(
        rows=[
            *(row(name, 0.6 - 0.1 * i) for i, name in enumerate(names)),
            *(row(f"shuffled:{name}", 0.01, name) for name in names),
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


@pytest.mark.parametrize(
    ("answers", "said"),
    [
        ((["b", "c"], PUBLISHED, ["b", "c"]), "the interval of the difference holds 0"),
        (([], PUBLISHED, ["b", "c"]), "missing from `leader_is_ahead_of`"),
        ((["a"], PUBLISHED, ["b", "c"]), "a is the leader itself"),
        ((["untrained:b"], PUBLISHED, ["b", "c"]), "is a control"),
        ((["clip"], PUBLISHED, ["b", "c"]), "there is no encoder `clip`"),
        ((1, PUBLISHED, ["b", "c"]), "should be a list of names"),
        ((["b"], "CKA, debiased", ["b", "c"]), "which is about 0"),
        ((["b"], "shuffled", ["b", "c"]), "should be the head of a column"),
        ((["b"], PUBLISHED, ["a", "b", "c"]), "a is ahead of its untrained copy"),
        ((["b"], PUBLISHED, ["c"]), "missing from `not_ahead_of_untrained`"),
    ],
)
def test_report(answers, said, says, report):
    verdict = says(7, *answers, report=report)
    assert verdict.state == "wrong" and said in verdict.text


def test_report_read_rightly(says, report):
    for column in (PUBLISHED, "cka, as published ", "cka_linear_biased"):
        assert says(7, "b", column, {"c", "b"}, report=report).state == "right"
    assert says(7, ["b"], ..., ["b", "c"], report=report).state == "open"
