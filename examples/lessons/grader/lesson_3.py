"""Checks of lesson 3, read an alignment report.

Learners work in NumPy. A function that takes a function is given one that records which rows it has
been shown, so that a wrong shuffle or a wrong split is recognised.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from scipy import stats

from encoderlab.alignment.data import SHUFFLED, UNTRAINED
from encoderlab.core.score import Score
from encoderlab.metrics.catalogue import METRICS
from encoderlab.metrics.cka import cka
from grader.phrases import Phrase, Right, Wrong, expect
from grader.values import as_number, as_numbers, call, is_near, name_mistake, number_from


def exercise_1(linear_cka: Any) -> Right:
    """`linear_cka(x, y)` of (n, d) and (n, k): biased CKA of centred columns."""
    rng = np.random.default_rng(1)
    n = 12
    x = rng.normal(size=(n, 5)) + 2
    y = x[:, :3] * (1, 2, 1) + rng.normal(size=(n, 3)) - 1
    right = _cka_of_tables(x, y)
    found = call(linear_cka, x, y, name="linear_cka")
    expect(not isinstance(found, Score), "library_score")
    got = as_number(found, "the CKA")
    a, b = x - x.mean(axis=0), y - y.mean(axis=0)
    norm = np.linalg.norm
    squared, below = norm(a.T @ b) ** 2, norm(a.T @ a) * norm(b.T @ b)
    mistakes = {
        "not_centred": _cka(x, y),
        "y_not_centred": _cka(a, y),
        "x_not_centred": _cka(x, b),
        "rows_centred": _cka(*(one - one.mean(axis=1, keepdims=True) for one in (x, y))),
        "one_mean": _cka(x - x.mean(), y - y.mean()),
        "standardised": _cka(a / a.std(axis=0), b / b.std(axis=0)),
        "root": math.sqrt(right),
        "not_squared": norm(a.T @ b) / below,
        "squared_below": squared / below**2,
        "norms_of_x_and_y": (squared / (norm(a) * norm(b)) ** 2, squared / (norm(a) * norm(b))),
        "traces": np.trace(a @ a.T) * np.trace(b @ b.T) / below,
        "spectral": norm(a.T @ b, 2) ** 2 / (norm(a.T @ a, 2) * norm(b.T @ b, 2)),
        "debiased": float(cka(x, y)),
        "distance": 1 - right,
    }
    name_mistake(got, mistakes)
    expect(is_near(got, right), "wrong", x=x, y=y, got=got, right=right)
    other = rng.normal(size=(7, 9)), rng.normal(size=(7, 4))
    again, expected = number_from(linear_cka, *other, name="linear_cka"), _cka_of_tables(*other)
    expect(is_near(again, expected), "other_size", n=n, again=again, expected=expected)
    return Right(linear_cka)


def _cka(a: np.ndarray, b: np.ndarray) -> float:
    """The formula of the lesson, without centring."""
    norm = np.linalg.norm
    return float(norm(a.T @ b) ** 2 / (norm(a.T @ a) * norm(b.T @ b)))


def _cka_of_tables(x: np.ndarray, y: np.ndarray) -> float:
    """CKA computed in another way: the cosine of the two centred Gram matrices."""
    centre = np.eye(len(x)) - 1 / len(x)
    k, m = (centre @ (one @ one.T) @ centre for one in (x, y))
    return float((k * m).sum() / math.sqrt((k * k).sum() * (m * m).sum()))


def exercise_2(noise_cka: Any, *, published_cka: Any) -> Right:
    """`noise_cka(n, d, seed)`: biased CKA of two independent Gaussian (n, d).

    Args:
        published_cka: the lesson's biased CKA, which our solution calls.
    """

    def cka_of_noise(n: int, d: int, seed: int) -> float:
        return number_from(noise_cka, n, d, seed, name="noise_cka")

    for n, d in ((20, 40), (60, 15)):
        scores = [cka_of_noise(n, d, seed) for seed in range(6)]
        expect(min(scores) <= 0.9999, "same_twice")
        expect(cka_of_noise(n, d, 0) == scores[0], "unseeded")
        expect(np.ptp(scores) >= 1e-9, "ignores_seed")
        got = float(np.mean(scores))
        values = {"n": n, "d": d, "got": got, "expected": d / (n + d)}
        expect(abs(got) >= 0.06, "debiased", got=got)
        expect(abs(got - n / (n + d)) >= 0.05, "turned", **values)
        expect(abs(got - d / (n + d)) <= 0.07, "wrong", **values)
    return Right(noise_cka)


class _Watched:
    """A score of pairs that records which row of y was paired with each row of x.

    Args:
        answer: computes its value from (number of the call among the shuffled ones, whether the
            pairs are the original ones).
    """

    def __init__(self, n: int, answer: Callable[[int, bool], float]) -> None:
        numbers = np.arange(n, dtype=float)
        self.x = np.stack([numbers, 2 * numbers + 500], axis=1)
        self.y = np.stack([numbers + 100, 3 * numbers + 900, numbers**2 + 2000], axis=1)
        self.answer = answer
        self.pairings: list[tuple[int, ...]] = []  # those that differ from the original
        self.moved_together = False
        self.kept = 0
        self.torn = self.repeated = False

    def __call__(self, x: Any, y: Any) -> float:
        left, right = _rows(np.asarray(x), self.x), _rows(np.asarray(y), self.y)
        if left is None or right is None or len(left) != len(right):
            self.torn = True
            return 0.0
        if len(set(left)) < len(left) or len(set(right)) < len(right):
            self.repeated = True
        if left == right:
            self.kept += 1
            self.moved_together |= left != tuple(range(len(self.x)))
            return self.answer(-1, True)
        self.pairings.append(tuple(right[i] for i in np.argsort(left)))
        return self.answer(len(self.pairings) - 1, False)

    def check(self, given: str) -> None:
        """Checks how it was called; `given` is its name in the exercise.

        Raises:
            Wrong: torn rows, a bootstrap, pairs that moved together, or no shuffle at all.
        """
        expect(not self.torn, "torn", given=given)
        expect(not self.repeated, "repeated")
        if not self.pairings:
            expect(not self.moved_together, "moved_together")
            raise Wrong("never_shuffled" if self.kept else "never_called", given=given)
        expect(self.kept, "never_asked")


def _rows(found: np.ndarray, known: np.ndarray) -> tuple[int, ...] | None:
    """The index in `known` of each row of `found`; None if a row is not in `known`."""
    if found.ndim != 2 or found.shape[1] != known.shape[1]:
        return None
    same = [np.flatnonzero((known == row).all(axis=1)) for row in found]
    return tuple(int(one[0]) for one in same) if all(len(one) == 1 for one in same) else None


# The shuffled scores, for an observed score of 1: two above, two equal, four far below.
_SCRIPT = (0.2, 1.0, -3.0, 0.4, 1.5, 0.1, -2.0, 0.3, 0.6, 1.0, 0.5, -1.5, 0.7, 2.5, 0.0, 0.8, -4.0)
_SCRIPT += (0.9, 0.15)


def exercise_3(shuffle_p: Any) -> Right:
    """`shuffle_p(score, x, y, rounds, seed)`: one-sided p, including the original pairing."""
    rounds = len(_SCRIPT)

    def asked(seed: int) -> tuple[float, _Watched]:
        watched = _Watched(9, lambda i, kept: 1.0 if kept else _SCRIPT[i % rounds])
        found = call(shuffle_p, watched, watched.x, watched.y, rounds, seed, name="shuffle_p")
        return as_number(found, "the p"), watched

    got, watched = asked(5)
    watched.check("score")
    expect(len(watched.pairings) == rounds, "rounds", rounds=rounds, n=len(watched.pairings))
    expect(len(set(watched.pairings)) > 1, "same_order")
    expect(asked(5)[1].pairings == watched.pairings, "unseeded")
    scores, pairings = np.array(_SCRIPT), 1 + rounds
    reached, above = int((scores >= 1).sum()), int((scores > 1).sum())
    far = int((np.abs(scores) >= 1).sum())
    at_most, below = int((scores <= 1).sum()), int((scores < 1).sum())
    right = (1 + reached) / pairings
    mistakes = {
        "not_counted": reached / rounds,
        "missing_below": (1 + reached) / rounds,
        "missing_above": reached / pairings,
        "ties": (1 + above) / pairings,
        "ties_and_1": above / rounds,
        "two_sided": (1 + far) / pairings,
        "below": tuple(
            value
            for count in (at_most, below)
            for value in (count / rounds, (1 + count) / pairings)
        ),
        "one_minus": 1 - right,
        "percent": 100 * right,
        "count": 1 + reached,
        "count_without_1": reached,
    }
    values = {"got": got, "rounds": rounds, "reached": reached, "pairings": pairings}
    name_mistake(got, mistakes, **values)
    expect(is_near(got, right), "wrong", right=right, **values)
    return Right(shuffle_p, **values)


def exercise_4(ignores_pairing: Any) -> Right:
    """`ignores_pairing(metric, x, y)`: True where shuffling the rows of y changes nothing."""
    # (score of the original pairs, score of the shuffled pairs; the right answer)
    cases = (
        (lambda i, kept: 0.6 if kept else 0.1, False),
        (lambda i, kept: 0.7 if kept else 0.7 + 1e-13 * (i + 1), True),
        (lambda i, kept: 4e-4 if kept else 1e-4, False),
        (lambda i, kept: 0.3, True),
    )
    found = []
    for answer, _ in cases:
        watched = _Watched(9, answer)
        said = call(ignores_pairing, watched, watched.x, watched.y, name="ignores_pairing")
        expect(isinstance(said, bool | np.bool_), "no_truth", said=said)
        watched.check("metric")
        found.append(bool(said))
    right = [one for _, one in cases]
    expect(found != [not one for one in right], "turned")
    expect(found != [False, False, False, True], "rounding")
    expect(found != [False, True, True, True], "small_scale")
    expect(found == right, "wrong", right=right, found=found)
    return Right(ignores_pairing)


def exercise_5(seen_and_unseen: Any) -> Right:
    """`seen_and_unseen(x, y, fit)`: R2 on the first four fifths (fitted) and on the rest."""
    n, cut = 50, 40
    rng = np.random.default_rng(5)
    x = rng.normal(size=(n, 6)) + 1
    y = x[:, :4] @ rng.normal(size=(4, 3)) * (1, 0.5, 2) + 1.5 * rng.normal(size=(n, 3))
    y[cut:] += 0.8  # the held-out rows have another mean
    fitted: list[tuple[tuple[int, ...] | None, tuple[int, ...] | None]] = []

    def fit(some_x: Any, some_y: Any) -> Callable[[Any], np.ndarray]:
        a, b = np.asarray(some_x, dtype=float), np.asarray(some_y, dtype=float)
        fitted.append((_rows(a, x), _rows(b, y)))
        return _least_squares(a, b)

    found = call(seen_and_unseen, x, y, fit, name="seen_and_unseen")
    got = as_numbers(found, "the result of `seen_and_unseen`")
    expect(got.shape == (2,), "two_numbers", found=found)
    expect(fitted, "never_called", given="fit")
    rows, targets = fitted[-1]
    if rows is None or targets is None:
        raise Wrong("other_rows")
    expect(rows == targets, "no_pairs")
    expect(len(fitted) == 1, "fits_twice", n=len(fitted))
    expect(len(rows) != n, "nothing_held_out", n=n, cut=cut)
    is_first = rows == tuple(range(cut))
    expect(is_first, "rows", last=cut - 1, n=len(rows), first=rows[0], to=rows[-1])
    parts, mean = (slice(cut), slice(cut, None)), y[:cut].mean(axis=0)
    guess = _least_squares(x[:cut], y[:cut])(x)
    right = np.array([_r2(y[part], guess[part], mean) for part in parts])
    if is_near(got, right, 1e-3):
        return Right(seen_and_unseen, seen=right[0], unseen=right[1])
    mistakes = {
        "turned": right[::-1],
        "seen_twice": [right[0], right[0]],
        "unseen_twice": [right[1], right[1]],
    }
    name_mistake(got, mistakes)
    # Held-out rows first: on training rows, different mistakes give the same number.
    for i in (1, 0):
        if not is_near(got[i], right[i], 1e-3):
            _name_r2(got[i], y[parts[i]], guess[parts[i]], mean, is_held_out=i == 1)
    i = int(is_near(got[0], right[0], 1e-3))
    raise Wrong("wrong", which=[Phrase(("seen", "unseen")[i])], got=got[i], right=right[i])


def _name_r2(
    got: float, truth: np.ndarray, guess: np.ndarray, mean: np.ndarray, is_held_out: bool
) -> None:
    """Names the known mistake that gives this R2."""
    squares = (truth - guess) ** 2
    columns = squares.sum(axis=0)
    own = ((truth - truth.mean(axis=0)) ** 2).sum(axis=0)
    mistakes = {"own_mean": 1 - columns.sum() / own.sum()} if is_held_out else {}
    mistakes |= {
        "unexplained": 1 - _r2(truth, guess, mean),
        "mean_squared": squares.mean(),
        "sum_squared": squares.sum(),
        "one_mean": (_r2(truth, guess, mean.mean()), _r2(truth, guess, truth.mean())),
        "per_column": float(np.mean(1 - columns / own)),
        "correlation": np.corrcoef(truth.ravel(), guess.ravel())[0, 1] ** 2,
    }
    name_mistake(got, mistakes)


def _r2(truth: np.ndarray, guess: np.ndarray, mean: Any) -> float:
    return float(1 - ((truth - guess) ** 2).sum() / ((truth - mean) ** 2).sum())


def _least_squares(x: np.ndarray, y: np.ndarray) -> Callable[[Any], np.ndarray]:
    mean_x, mean_y = x.mean(axis=0), y.mean(axis=0)
    weights = np.linalg.lstsq(x - mean_x, y - mean_y, rcond=None)[0]
    return lambda some: (np.asarray(some) - mean_x) @ weights + mean_y


_SETS = (
    ((0.42, 0.51, 0.55, 0.63, 0.70), (0.35, 0.37, 0.20, 0.24, 0.19)),
    ((0.42, 0.51, 0.63), (0.38, 0.28, 0.19)),
    ((0.10, 0.25, 0.31, 0.58), (0.22, 0.20, 0.45, 0.41)),
)


def exercise_6(exact_p: Any) -> Right:
    """`exact_p(a, b)`: share of all orders of b whose |r| reaches that of the order given."""
    for a, b in _SETS:
        n, orders = len(a), math.factorial(len(a))
        every = np.array([np.corrcoef(a, order)[0, 1] for order in itertools.permutations(b)])
        r = every[0]
        slack = abs(r) - 1e-9  # sums in another order differ in their last digits
        reached = int((np.abs(every) >= slack).sum())
        right = reached / orders
        got, again = (
            number_from(exact_p, np.array(a), np.array(b), name="exact_p") for _ in range(2)
        )
        values = {"n": n, "orders": orders, "got": got, "r": r, "reached": reached, "right": right}
        expect(got == again, "drawn", **values)
        if is_near(got, right):
            continue
        same_sign = (np.sign(r) * every >= slack).mean()
        mistakes = {
            "adds_1": (1 + reached) / (1 + orders),
            "excludes_itself": ((reached - 1) / orders, (reached - 1) / (orders - 1)),
            "one_sided": (same_sign, (every >= slack).mean()),
            "t_distribution": float(stats.pearsonr(a, b).pvalue),
            "count": reached,
            "percent": 100 * right,
            "weaker": (1 - right, (1 + orders - reached) / orders),
            "r": r,
        }
        name_mistake(got, mistakes, **values)
        raise Wrong("wrong", **values)
    return Right(exact_p)


COLUMNS = ("cka_linear", "cka_linear_biased", "cka_within", "ridge_r2")


def exercise_7(
    leader_is_ahead_of: Any, fooled_column: Any, not_ahead_of_untrained: Any, *, report: Any
) -> Right:
    """Answers from a report of `encoderlab.compare` with controls.

    Args:
        leader_is_ahead_of: the encoders that the one with the highest debiased CKA is ahead of.
        fooled_column: the column in which shuffled pairs still score.
        not_ahead_of_untrained: encoders that, within types, are not ahead of their untrained copy.
    """
    rows = [row for row in report.rows if row.control_of is None]
    asked = [row.encoder for row in rows]
    leader = max(rows, key=lambda row: float(row.scores["cka_linear"])).encoder
    others = [name for name in asked if name != leader]
    said = _names(leader_is_ahead_of, "leader_is_ahead_of", asked)
    expect(leader not in said, "leader_itself", leader=leader)
    seen = {other: _compared(report, "cka_linear", leader, other) for other in others}
    ahead = {other for other, (verdict, _) in seen.items() if verdict == "ahead"}
    for other in sorted(said ^ ahead):
        key = "not_ahead" if other in said else "ahead_missing"
        raise Wrong(key, leader=leader, sentence=seen[other][1])
    _check_column(fooled_column, report)
    said = _names(not_ahead_of_untrained, "not_ahead_of_untrained", asked)
    seen = {name: _compared(report, "cka_within", name, UNTRAINED + name) for name in asked}
    not_ahead = {name for name, (verdict, _) in seen.items() if verdict != "ahead"}
    for name in sorted(said ^ not_ahead):
        key = "ahead_of_untrained" if name in said else "untrained_missing"
        raise Wrong(key, name=name, sentence=seen[name][1])
    return Right(leader=leader, total=len(others), n=len(ahead))


def _check_column(answer: Any, report: Any) -> None:
    """Whether it is the column with the largest numbers for shuffled pairs."""
    titles = {METRICS[name].title: name for name in COLUMNS}
    known = {key.lower(): name for name in COLUMNS for key in (METRICS[name].title, name)}
    found = known.get(answer.strip().lower()) if isinstance(answer, str) else None
    if found is None:
        listed = ", ".join(f"`{title}`" for title in titles)
        raise Wrong("no_column", listed=listed, answer=answer)
    shuffled = [row for row in report.rows if row.encoder.startswith(SHUFFLED)]
    right = max(COLUMNS, key=lambda name: sum(float(row.scores[name]) for row in shuffled))
    row = max(shuffled, key=lambda row: float(row.scores[found]))
    values = {"encoder": row.encoder, "number": row.scores[found].as_number()}
    expect(found == right, "other_column", title=METRICS[found].title, **values)


def _names(answer: Any, name: str, asked: Sequence[str]) -> set[str]:
    """The encoders of a list of names.

    Raises:
        Wrong: it is none, or names something else.
    """
    listed = ", ".join(f'"{one}"' for one in asked)
    found = [answer] if isinstance(answer, str) else answer
    is_list = isinstance(found, list | tuple | set) and all(isinstance(one, str) for one in found)
    expect(is_list, "no_names", name=name, listed=listed, answer=answer)
    for one in found:
        expect(not one.startswith((UNTRAINED, SHUFFLED)), "control", one=one, listed=listed)
        expect(one in asked, "unknown", one=one[:60], listed=listed)
    return set(found)


def _compared(report: Any, metric: str, a: str, b: str) -> tuple[str, str]:
    """(verdict, the report's sentence) of a compared with b."""
    turned = {"ahead": "behind", "behind": "ahead"}
    for one in report.verdicts:
        found = one.comparison
        if one.metric != metric or {found.a, found.b} != {a, b}:
            continue
        verdict = found.verdict if found.a == a else turned.get(found.verdict, found.verdict)
        return verdict, found.to_text()
    raise LookupError(f"the report does not compare {a} with {b} by {metric}")
