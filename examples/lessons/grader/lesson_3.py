"""Checks of lesson 3, read an alignment report.

Learners work in NumPy. Functions that take a function are given one that watches: it remembers
which rows it has been shown, so that a wrong shuffle or a wrong split is seen as what it is.
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
from encoderlab.metrics.cka import CKA, cka
from grader.said import Right, Wrong
from grader.values import as_number, as_numbers, call, is_near, name_mistake, short, what

# -- 1 -------------------------------------------------------------------------------------------


def value_1() -> Callable[..., float]:
    """The CKA that the lesson goes on with."""
    return CKA.compute_cka


def exercise_1(linear_cka: Any) -> Right:
    """`linear_cka(x, y)` of (n, d) and (n, k): biased CKA of centred columns."""
    rng = np.random.default_rng(1)
    n = 12
    x = rng.normal(size=(n, 5)) + 2
    y = x[:, :3] * (1, 2, 1) + rng.normal(size=(n, 3)) - 1
    right = _cka_of_tables(x, y)
    found = call(linear_cka, x, y, name="linear_cka")
    if isinstance(found, Score):
        raise Wrong(
            "this is EncoderLab's own score, with an interval, and of the debiased kind. Write the "
            "formula yourself: two lines of NumPy.",
            "EncoderLab이 계산한 점수 객체이며, 게다가 편향을 없앤 값입니다. 공식을 직접 "
            "작성하십시오. NumPy 두 줄이면 됩니다.",
        )
    got = as_numbers(found, "the CKA")
    if got.ndim:
        raise Wrong(
            f"CKA is one number; yours is {what(found).en}. Take the norm of the matrices: "
            "`np.linalg.norm`.",
            f"CKA는 수 하나입니다. 지금 값: {what(found).ko}. 행렬의 노름을 구하십시오: "
            "`np.linalg.norm`.",
        )
    a, b = x - x.mean(axis=0), y - y.mean(axis=0)
    norm = np.linalg.norm
    spectral = norm(a.T @ b, 2) ** 2 / (norm(a.T @ a, 2) * norm(b.T @ b, 2))
    name_mistake(
        got,
        (
            (
                _cka(x, y),
                "you have not centred: subtract from each column its mean over the samples, "
                "`x - x.mean(axis=0)`. Without it, what all samples share counts as agreement.",
                "중심화하지 않았습니다. 각 열에서 샘플에 대한 평균을 빼십시오: "
                "`x - x.mean(axis=0)`. 그러지 않으면 모든 샘플에 공통된 것이 일치로 계산됩니다.",
            ),
            (
                _cka(a, y),
                "you have centred `x`, but not `y`.",
                "`x`는 중심화했지만 `y`는 하지 않았습니다.",
            ),
            (
                _cka(x, b),
                "you have centred `y`, but not `x`.",
                "`y`는 중심화했지만 `x`는 하지 않았습니다.",
            ),
            (
                _cka(*(one - one.mean(axis=1, keepdims=True) for one in (x, y))),
                "you have centred each row; take the mean over the samples, column by column: "
                "`axis=0`.",
                "행마다 중심화했습니다. 샘플에 대한 평균을 열마다 구하십시오: `axis=0`.",
            ),
            (
                _cka(x - x.mean(), y - y.mean()),
                "you subtract one mean of the whole matrix; each column has its own: `axis=0`.",
                "행렬 전체의 평균 하나를 뺐습니다. 평균은 열마다 다릅니다: `axis=0`.",
            ),
            (
                _cka(a / a.std(axis=0), b / b.std(axis=0)),
                "you also divide each column by its standard deviation; CKA only centres.",
                "열을 표준편차로도 나누었습니다. CKA는 중심화만 합니다.",
            ),
            (
                math.sqrt(right),
                "this is the root of CKA: the norm above the line is squared, and there is no root "
                "around the product below it.",
                "CKA의 제곱근입니다. 분자의 노름은 제곱이고, 분모의 곱에는 제곱근이 없습니다.",
            ),
            (
                norm(a.T @ b) / (norm(a.T @ a) * norm(b.T @ b)),
                "the norm above the line is squared.",
                "분자의 노름은 제곱해야 합니다.",
            ),
            (
                norm(a.T @ b) ** 2 / (norm(a.T @ a) * norm(b.T @ b)) ** 2,
                "below the line you have squares: the two norms stand there as they are (for "
                "traces: the root of both).",
                "분모가 제곱되어 있습니다. 분모의 두 노름은 그대로 곱합니다(대각합으로 계산했다면 "
                "곱의 제곱근입니다).",
            ),
            (
                norm(a.T @ b) ** 2 / (norm(a) * norm(b)) ** 2,
                "below the line are the norms of X'X and Y'Y, not those of X and Y.",
                "분모는 X와 Y의 노름이 아니라 X'X와 Y'Y의 노름입니다.",
            ),
            (
                norm(a.T @ b) ** 2 / (norm(a) * norm(b)),
                "below the line are the norms of X'X and Y'Y, not those of X and Y.",
                "분모는 X와 Y의 노름이 아니라 X'X와 Y'Y의 노름입니다.",
            ),
            (
                np.trace(a @ a.T) * np.trace(b @ b.T) / (norm(a.T @ a) * norm(b.T @ b)),
                "above the line you multiply two traces; what is needed is the trace of the "
                "product, tr(XX'YY'), which is the squared norm of X'Y.",
                "분자에서 대각합 두 개를 곱했습니다. 필요한 것은 곱의 대각합 tr(XX'YY'), 곧 X'Y의 "
                "노름의 제곱입니다.",
            ),
            (
                spectral,
                "`np.linalg.norm(m, 2)` is the largest singular value; without the 2 it is the "
                "root of the sum of squares.",
                "`np.linalg.norm(m, 2)`는 가장 큰 특잇값입니다. 2를 빼면 제곱합의 제곱근이 됩니다.",
            ),
            (
                float(cka(x, y)),
                "this is the *debiased* CKA. It comes later; here the published formula is asked.",
                "이것은 *편향을 없앤* CKA입니다. 뒤에서 다룹니다. 여기서는 논문의 공식을 묻습니다.",
            ),
            (
                1 - right,
                "this is a distance, 1 - CKA.",
                "이것은 거리, 곧 1 - CKA입니다.",
            ),
        ),
    )
    if not is_near(got, right):
        raise Wrong(
            f"for two matrices of shapes {x.shape} and {y.shape} you give {float(got):.4g}; expect "
            f"{right:.4g}. Centre the columns of both, then three norms: of X'Y (squared), of X'X "
            "and of Y'Y.",
            f"모양이 {x.shape}, {y.shape}인 두 행렬에서 {float(got):.4g}이 나옵니다. "
            f"{right:.4g}이어야 합니다. 두 행렬의 열을 중심화한 다음 노름 세 개를 구하십시오: "
            "X'Y(제곱), X'X, Y'Y.",
        )
    other = rng.normal(size=(7, 9)), rng.normal(size=(7, 4))
    again = as_number(call(linear_cka, *other, name="linear_cka"), "the CKA")
    if not is_near(again, _cka_of_tables(*other)):
        raise Wrong(
            f"right for {n} samples, but for 7 samples you give {again:.4g}; expect "
            f"{_cka_of_tables(*other):.4g}. Is a size written down somewhere?",
            f"샘플 {n}개에서는 맞지만 샘플 7개에서는 {again:.4g}이 나옵니다. "
            f"{_cka_of_tables(*other):.4g}이어야 합니다. 크기를 숫자로 적어 두지 않았습니까?",
        )
    return Right(
        "It agrees with tables of who is like whom, compared cell by cell.",
        "누가 누구와 닮았는지를 적은 두 표를 칸마다 비교한 값과 일치합니다.",
        linear_cka,
    )


def _cka(a: np.ndarray, b: np.ndarray) -> float:
    """The formula of the lesson on matrices as they are."""
    norm = np.linalg.norm
    return float(norm(a.T @ b) ** 2 / (norm(a.T @ a) * norm(b.T @ b)))


def _cka_of_tables(x: np.ndarray, y: np.ndarray) -> float:
    """The same by another way: the cosine of the two centred Gram matrices."""
    centre = np.eye(len(x)) - 1 / len(x)
    k, m = (centre @ (one @ one.T) @ centre for one in (x, y))
    return float((k * m).sum() / math.sqrt((k * k).sum() * (m * m).sum()))


# -- 2 -------------------------------------------------------------------------------------------


def value_2() -> Callable[[int, int, int], float]:
    """CKA of two matrices of noise."""

    def noise_cka(n: int, d: int, seed: int) -> float:
        rng = np.random.default_rng(seed)
        return CKA.compute_cka(rng.normal(size=(n, d)), rng.normal(size=(n, d)))

    return noise_cka


def exercise_2(noise_cka: Any) -> Right:
    """`noise_cka(n, d, seed)`: biased CKA of two independent Gaussian (n, d)."""

    def mean(n: int, d: int) -> float:
        values = [
            as_number(call(noise_cka, n, d, seed, name="noise_cka"), "the CKA of noise")
            for seed in range(6)
        ]
        if all(value > 0.9999 for value in values):
            raise Wrong(
                "CKA is 1: both matrices are the same. Two generators with the same seed give the "
                "same numbers; make one generator and ask it twice.",
                "CKA가 1입니다. 두 행렬이 같습니다. 시드가 같은 생성기 두 개는 같은 수를 냅니다. "
                "생성기를 하나만 만들어 두 번 뽑으십시오.",
            )
        again = as_number(call(noise_cka, n, d, 0, name="noise_cka"), "the CKA of noise")
        if again != values[0]:
            raise Wrong(
                "the same seed gives another value each time; make the generator inside the "
                "function: `rng = np.random.default_rng(seed)`.",
                "같은 시드인데 부를 때마다 값이 다릅니다. 함수 안에서 생성기를 만드십시오: "
                "`rng = np.random.default_rng(seed)`.",
            )
        if np.ptp(values) < 1e-9:
            raise Wrong(
                "every seed gives the same value: does the function use `seed`?",
                "시드를 바꾸어도 값이 같습니다. 함수가 `seed`를 사용합니까?",
            )
        return float(np.mean(values))

    for n, d in ((20, 40), (60, 15)):
        got, expected = mean(n, d), d / (n + d)
        if abs(got) < 0.06:
            raise Wrong(
                f"you give {got:.2g} on average: this is the debiased CKA. Use `published_cka`.",
                f"평균 {got:.2g}이 나옵니다. 이것은 편향을 없앤 CKA입니다. `published_cka`를 "
                "사용하십시오.",
            )
        if abs(got - n / (n + d)) < 0.05:
            raise Wrong(
                f"for n = {n} and d = {d} you give {got:.2f}, which is right for n = {d} and "
                f"d = {n}: rows are samples, so the shape is (n, d).",
                f"n = {n}, d = {d}에서 {got:.2f}이 나오는데, 이는 n = {d}, d = {n}일 때의 "
                "값입니다. 행이 샘플이므로 모양은 (n, d)입니다.",
            )
        if abs(got - expected) > 0.07:
            raise Wrong(
                f"for n = {n} and d = {d} you give {got:.2f} on average; two *independent* "
                f"Gaussian matrices of shape (n, d) give about {expected:.2f}.",
                f"n = {n}, d = {d}에서 평균 {got:.2f}이 나옵니다. 모양이 (n, d)이고 서로 *독립인* "
                f"정규분포 행렬 두 개라면 약 {expected:.2f}입니다.",
            )
    return Right(
        "With 20 samples of 40 dimensions, noise already reaches about 0.67.",
        "40차원 샘플이 20개일 때 잡음은 벌써 0.67쯤에 이릅니다.",
        noise_cka,
    )


# -- 3 -------------------------------------------------------------------------------------------


class _Watched:
    """A score of pairs that remembers which row of y stood beside each row of x.

    Args:
        answer: what it returns, from (number of the call among the shuffled ones, whether the
            pairs are as they were).
    """

    def __init__(self, n: int, answer: Callable[[int, bool], float]) -> None:
        numbers = np.arange(n, dtype=float)
        self.x = np.stack([numbers, 2 * numbers + 500], axis=1)
        self.y = np.stack([numbers + 100, 3 * numbers + 900, numbers**2 + 2000], axis=1)
        self.answer = answer
        self.pairings: list[tuple[int, ...]] = []  # those that are not as they were
        self.moved_together = False
        self.kept = 0
        self.torn = self.repeated = False

    def __call__(self, x: Any, y: Any) -> float:
        x, y = np.asarray(x), np.asarray(y)
        left, right = _rows(x, self.x), _rows(y, self.y)
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

    def complain(self, name: str) -> None:
        """Says what is wrong with how it has been called.

        Raises:
            Wrong: torn rows, a bootstrap, pairs that moved together, or no shuffle at all.
        """
        given = "score" if name == "shuffle_p" else "metric"
        if self.torn:
            raise Wrong(
                f"`{given}` was given rows that are in neither matrix. Whole rows change places: "
                "`rng.permutation(y)` does it; numbers within a row stay where they are.",
                f"`{given}` 함수가 원래 행렬에 없는 행을 받았습니다. 행 전체의 자리를 바꾸어야 "
                "합니다. `rng.permutation(y)`이 그렇게 합니다. 행 안의 수는 그대로 둡니다.",
            )
        if self.repeated:
            raise Wrong(
                "some rows are there twice and others not at all: that is drawing with "
                "replacement. A shuffle keeps each row once: `rng.permutation`.",
                "어떤 행은 두 번 나오고 어떤 행은 빠졌습니다. 복원 추출입니다. 섞기는 모든 행을 한 "
                "번씩 씁니다: `rng.permutation`.",
            )
        if self.pairings:
            return
        if self.moved_together:
            raise Wrong(
                "you move the rows of `x` and `y` together, so that every pair stays a pair. "
                "Shuffle one of the two only.",
                "`x`와 `y`의 행을 함께 옮겨서 짝이 그대로 남습니다. 둘 중 하나만 섞으십시오.",
            )
        if self.kept:
            raise Wrong(
                f"`{given}` has only seen the pairs as they are: is the shuffled `y` what you give "
                "it?",
                f"`{given}` 함수가 원래의 짝만 보았습니다. 섞은 `y`를 넘겨주고 있습니까?",
            )
        raise Wrong(
            f"your function never calls `{given}`.",
            f"작성한 함수가 `{given}` 함수를 한 번도 부르지 않습니다.",
        )


def _rows(found: np.ndarray, known: np.ndarray) -> tuple[int, ...] | None:
    """Which row of `known` each row of `found` is; None where one is none of them."""
    if found.ndim != 2 or found.shape[1] != known.shape[1]:
        return None
    numbers = []
    for row in found:
        same = np.flatnonzero((known == row).all(axis=1))
        if len(same) != 1:
            return None
        numbers.append(int(same[0]))
    return tuple(numbers)


# What the shuffled scores are, beside an observed 1: two above, two equal, four far below.
_SCRIPT = (0.2, 1.0, -3.0, 0.4, 1.5, 0.1, -2.0, 0.3, 0.6, 1.0, 0.5, -1.5, 0.7, 2.5, 0.0, 0.8, -4.0)
_SCRIPT += (0.9, 0.15)


def value_3() -> Callable[..., float]:
    """p of a score from shuffles."""

    def shuffle_p(score: Any, x: Any, y: Any, rounds: int, seed: int) -> float:
        rng = np.random.default_rng(seed)
        observed = score(x, y)
        reached = sum(score(x, rng.permutation(y)) >= observed for _ in range(rounds))
        return float((1 + reached) / (1 + rounds))

    return shuffle_p


def exercise_3(shuffle_p: Any) -> Right:
    """`shuffle_p(score, x, y, rounds, seed)`: one-sided p, the pairing as it is included."""
    rounds = len(_SCRIPT)

    def asked(seed: int) -> tuple[Any, _Watched]:
        watched = _Watched(9, lambda i, kept: 1.0 if kept else _SCRIPT[i % rounds])
        found = call(shuffle_p, watched, watched.x, watched.y, rounds, seed, name="shuffle_p")
        return found, watched

    found, watched = asked(5)
    got = as_number(found, "the p")
    watched.complain("shuffle_p")
    if not watched.kept:
        raise Wrong(
            "the score of the pairs *as they are* is never asked for: compute it before you "
            "shuffle (`rng.shuffle(y)` changes `y` itself; `rng.permutation(y)` makes a copy).",
            "*원래 짝*의 점수를 구하지 않았습니다. 섞기 전에 구하십시오(`rng.shuffle(y)`는 `y` "
            "자체를 바꾸고, `rng.permutation(y)`는 복사본을 만듭니다).",
        )
    if len(watched.pairings) != rounds:
        raise Wrong(
            f"`rounds` is {rounds}, and you shuffle {len(watched.pairings)} times.",
            f"`rounds`는 {rounds}인데 {len(watched.pairings)}번 섞었습니다.",
        )
    if len(set(watched.pairings)) == 1:
        raise Wrong(
            "every round has the same order: make the generator once, before the loop.",
            "매번 같은 순서로 섞입니다. 생성기는 반복문 앞에서 한 번만 만드십시오.",
        )
    if asked(5)[1].pairings != watched.pairings:
        raise Wrong(
            "the same seed shuffles in another way each time: make the generator inside the "
            "function, `rng = np.random.default_rng(seed)`.",
            "같은 시드인데 부를 때마다 다르게 섞입니다. 함수 안에서 생성기를 만드십시오: "
            "`rng = np.random.default_rng(seed)`.",
        )
    scores = np.array(_SCRIPT)
    reached, above = int((scores >= 1).sum()), int((scores > 1).sum())
    right = (1 + reached) / (1 + rounds)
    name_mistake(
        got,
        (
            (
                reached / rounds,
                f"{reached} of {rounds} shuffles reach the observed score; but the pairing as it "
                "is, is one of the possible pairings too: add 1 above *and* below the line. "
                "Without it, p can be 0, and nothing is that sure.",
                f"{rounds}번 중 {reached}번이 관측된 점수에 이르렀습니다. 그런데 원래의 짝도 "
                "가능한 짝짓기 중 하나이므로 분자와 분모에 *모두* 1을 더하십시오. 더하지 않으면 "
                "p가 0이 될 수 있는데, 그만큼 확실한 것은 없습니다.",
            ),
            (
                (1 + reached) / rounds,
                "the 1 is missing below the line: with the pairing as it is there are "
                f"{rounds + 1} pairings.",
                f"분모에 1이 빠졌습니다. 원래의 짝까지 세면 짝짓기는 {rounds + 1}개입니다.",
            ),
            (
                reached / (1 + rounds),
                "the 1 is missing above the line: the pairing as it is reaches its own score.",
                "분자에 1이 빠졌습니다. 원래의 짝은 자기 점수에 이릅니다.",
            ),
            (
                (1 + above) / (1 + rounds),
                "a shuffle that gives *exactly* the observed score has reached it: `>=`, not `>`.",
                "관측된 점수와 *똑같은* 점수도 이른 것입니다. `>`가 아니라 `>=`입니다.",
            ),
            (
                above / rounds,
                "two things: a tie counts as reached (`>=`), and the pairing as it is counts too, "
                "so add 1 above and below the line.",
                "두 가지입니다. 같은 점수도 센 것으로 보고(`>=`), 원래의 짝도 세므로 분자와 분모에 "
                "1을 더하십시오.",
            ),
            (
                (1 + int((np.abs(scores) >= 1).sum())) / (1 + rounds),
                "this is two-sided: scores far *below* chance count as well. The question is "
                "whether the pairs fit *better* than shuffled ones: no absolute values.",
                "양쪽 검정입니다. 우연보다 훨씬 *낮은* 점수까지 세었습니다. 질문은 원래의 짝이 "
                "섞은 짝보다 *더 잘* 맞는가이므로 절댓값을 쓰지 마십시오.",
            ),
            *(
                (
                    value,
                    "you count the shuffles *below* the observed score; p counts those that do as "
                    "well or better.",
                    "관측된 점수보다 *낮은* 것을 세었습니다. p는 그만큼 또는 그보다 높은 것을 "
                    "셉니다.",
                )
                for below in (int((scores <= 1).sum()), int((scores < 1).sum()))
                for value in (below / rounds, (1 + below) / (1 + rounds))
            ),
            (1 - right, "this is 1 - p.", "이것은 1 - p입니다."),
            (
                100 * right,
                f"{short(got)} is in percent; return the share, between 0 and 1.",
                f"{short(got)}은 퍼센트입니다. 0과 1 사이의 비율을 돌려주십시오.",
            ),
            (
                1 + reached,
                f"{short(got)} is how many; p is their share.",
                f"{short(got)}은 개수입니다. p는 비율입니다.",
            ),
            (
                reached,
                f"{short(got)} is how many; p is their share, with 1 added above and below.",
                f"{short(got)}은 개수입니다. p는 비율이며 분자와 분모에 1을 더합니다.",
            ),
        ),
    )
    if not is_near(got, right):
        raise Wrong(
            f"of {rounds} shuffles {reached} reach the observed score, and you give {got:.4g}; "
            f"expect (1 + {reached}) / (1 + {rounds}) = {right:.4g}.",
            f"{rounds}번 중 {reached}번이 관측된 점수에 이르렀는데 {got:.4g}이 나옵니다. "
            f"(1 + {reached}) / (1 + {rounds}) = {right:.4g}이어야 합니다.",
        )
    return Right(
        f"With {rounds} shuffles no p is below 1/{rounds + 1}: want a smaller one, shuffle more.",
        f"{rounds}번 섞어서는 p가 1/{rounds + 1}보다 작아질 수 없습니다. 더 작은 값을 원하면 더 "
        "많이 섞어야 합니다.",
        shuffle_p,
    )


# -- 4 -------------------------------------------------------------------------------------------


def value_4() -> Callable[..., bool]:
    """Whether a metric stays as it is when the pairs are shuffled."""

    def ignores_pairing(metric: Any, x: Any, y: Any) -> bool:
        shuffled = np.random.default_rng(0).permutation(y)
        return bool(np.isclose(metric(x, y), metric(x, shuffled)))

    return ignores_pairing


def exercise_4(ignores_pairing: Any) -> Right:
    """`ignores_pairing(metric, x, y)`: True where shuffling the rows of y changes nothing."""
    # (what the metric gives for the pairs as they are, and shuffled; the right answer)
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
        if not isinstance(said, bool | np.bool_):
            raise Wrong(
                f"`ignores_pairing` should return True or False; it returns {what(said).en}.",
                "`ignores_pairing` 함수는 True 또는 False를 돌려주어야 합니다. 반환값: "
                f"{what(said).ko}.",
            )
        watched.complain("ignores_pairing")
        if not watched.kept:
            raise Wrong(
                "the metric has not seen the pairs as they are: compare with `metric(x, y)` "
                "(`rng.shuffle(y)` changes `y` itself).",
                "지표가 원래의 짝을 보지 못했습니다. `metric(x, y)`와 비교하십시오"
                "(`rng.shuffle(y)`는 `y` 자체를 바꿉니다).",
            )
        found.append(bool(said))
    right = [one for _, one in cases]
    if found == right:
        return Right(
            "A last digit that moves is rounding; anything more is the pairing.",
            "마지막 자리의 변화는 반올림 때문이고, 그보다 큰 변화는 짝 때문입니다.",
            ignores_pairing,
        )
    if found == [not one for one in right]:
        raise Wrong(
            "the wrong way round: True is for a metric that shuffling does *not* change.",
            "반대입니다. 섞어도 *변하지 않는* 지표일 때 True입니다.",
        )
    if found == [False, False, False, True]:
        raise Wrong(
            "a metric that moves by 1e-13 has not changed: a sum in another order is rounded in "
            "another way. Compare with `np.isclose`, not with `==`.",
            "1e-13만큼 움직인 지표는 변한 것이 아닙니다. 더하는 순서가 바뀌면 반올림이 달라집니다. "
            "`==` 대신 `np.isclose`로 비교하십시오.",
        )
    if found == [False, True, True, True]:
        raise Wrong(
            "a metric of a small scale fell from 0.0004 to 0.0001, and you call that nothing: "
            "compare relative to its size (`np.isclose` does).",
            "눈금이 작은 지표가 0.0004에서 0.0001로 떨어졌는데 변하지 않았다고 보았습니다. 크기에 "
            "견주어 비교하십시오(`np.isclose`가 그렇게 합니다).",
        )
    raise Wrong(
        f"of four metrics, two ignore the pairing: expect {right}, you say {found}. Compare "
        "`metric(x, y)` with `metric` of `x` and shuffled rows of `y`.",
        f"지표 네 개 중 두 개가 짝을 보지 않습니다. {right}이어야 하는데 답은 {found}입니다. "
        "`metric(x, y)`를, `x`와 행을 섞은 `y`에 대한 `metric`과 비교하십시오.",
    )


# -- 5 -------------------------------------------------------------------------------------------


def value_5() -> Callable[..., tuple[float, float]]:
    """R2 of a projector on the pairs it was fitted on, and on others."""

    def seen_and_unseen(x: Any, y: Any, fit: Any) -> tuple[float, float]:
        cut = len(x) * 4 // 5
        predict, mean = fit(x[:cut], y[:cut]), y[:cut].mean(axis=0)
        seen, unseen = (
            float(1 - ((y[rows] - predict(x[rows])) ** 2).sum() / ((y[rows] - mean) ** 2).sum())
            for rows in (slice(cut), slice(cut, None))
        )
        return seen, unseen

    return seen_and_unseen


def exercise_5(seen_and_unseen: Any) -> Right:
    """`seen_and_unseen(x, y, fit)`: R2 on the first four fifths, fitted on, and on the rest."""
    n, cut = 50, 40
    rng = np.random.default_rng(5)
    x = rng.normal(size=(n, 6)) + 1
    y = x[:, :4] @ rng.normal(size=(4, 3)) * (1, 0.5, 2) + 1.5 * rng.normal(size=(n, 3))
    y[cut:] += 0.8  # what is held out has another mean
    fitted: list[tuple[int, ...] | None] = []
    targets: list[tuple[int, ...] | None] = []

    def fit(some_x: Any, some_y: Any) -> Callable[[Any], np.ndarray]:
        a, b = np.asarray(some_x, dtype=float), np.asarray(some_y, dtype=float)
        fitted.append(_rows(a, x))
        targets.append(_rows(b, y))
        return _least_squares(a, b)

    found = call(seen_and_unseen, x, y, fit, name="seen_and_unseen")
    got = as_numbers(found, "the result of `seen_and_unseen`")
    if got.shape != (2,):
        raise Wrong(
            f"return two numbers, R² on the rows it was fitted on and on the rest; you return "
            f"{what(found).en}.",
            "두 수를 돌려주십시오: 맞추는 데 쓴 행의 R²와 나머지 행의 R². 반환값: "
            f"{what(found).ko}.",
        )
    if not fitted:
        raise Wrong(
            "your function never calls `fit`.",
            "작성한 함수가 `fit`을 한 번도 부르지 않습니다.",
        )
    rows = fitted[-1]
    if rows is None or targets[-1] is None:
        raise Wrong(
            "`fit` was given rows that are neither in `x` nor in `y`: give it `x[:cut]` and "
            "`y[:cut]` as they are.",
            "`fit`에 `x`에도 `y`에도 없는 행을 넘겼습니다. `x[:cut]`과 `y[:cut]`을 그대로 "
            "넘기십시오.",
        )
    if rows != targets[-1]:
        raise Wrong(
            "`fit` was given rows of `x` and of `y` that do not belong together: take the same "
            "rows of both.",
            "`fit`에 넘긴 `x`의 행과 `y`의 행이 서로 짝이 아닙니다. 양쪽에서 같은 행을 "
            "가져오십시오.",
        )
    if len(fitted) > 1:
        raise Wrong(
            f"you fit {len(fitted)} times: a projector that is fitted on the held-out rows has "
            "seen them. Fit once, on the first four fifths, and predict twice.",
            f"`fit`을 {len(fitted)}번 불렀습니다. 떼어 둔 행에 맞춘 프로젝터는 그 행을 본 "
            "것입니다. 앞의 5분의 4에 한 번만 맞추고 예측을 두 번 하십시오.",
        )
    if len(rows) == n:
        raise Wrong(
            f"`fit` has seen all {n} rows, so that nothing is held out: give it the first {cut}.",
            f"`fit`이 행 {n}개를 모두 보아서 떼어 둔 것이 없습니다. 앞의 {cut}개만 주십시오.",
        )
    if rows != tuple(range(cut)):
        raise Wrong(
            f"`fit` should see the first four fifths of the rows, here rows 0 to {cut - 1}; it has "
            f"seen {len(rows)} rows, {rows[0]} to {rows[-1]}.",
            f"`fit`은 앞의 5분의 4, 여기서는 0번부터 {cut - 1}번 행을 보아야 합니다. 지금 본 것은 "
            f"행 {len(rows)}개({rows[0]}번부터 {rows[-1]}번)입니다.",
        )
    predict = _least_squares(x[:cut], y[:cut])
    parts = (slice(cut), slice(cut, None))
    mean = y[:cut].mean(axis=0)
    right = np.array([_r2(y[part], predict(x[part]), mean) for part in parts])
    if is_near(got, right, 1e-3):
        return Right(
            f"{right[0]:.2f} on pairs it was fitted on, {right[1]:.2f} on pairs it has never seen.",
            f"맞추는 데 쓴 쌍에서는 {right[0]:.2f}, 처음 보는 쌍에서는 {right[1]:.2f}입니다.",
            seen_and_unseen,
        )
    name_mistake(
        got,
        (
            (
                right[::-1],
                "the two are the wrong way round: first the rows that it was fitted on.",
                "두 수의 순서가 바뀌었습니다. 맞추는 데 쓴 행이 먼저입니다.",
            ),
            (
                [right[0], right[0]],
                "you give the score of the seen rows twice: predict the last fifth as well.",
                "맞추는 데 쓴 행의 점수가 두 번 나옵니다. 마지막 5분의 1도 예측하십시오.",
            ),
            (
                [right[1], right[1]],
                "you give the score of the held-out rows twice.",
                "떼어 둔 행의 점수가 두 번 나옵니다.",
            ),
        ),
    )
    # Held-out rows first: on fitted ones, different mistakes give the same number.
    for i, part in reversed(list(enumerate(parts))):
        if not is_near(got[i], right[i], 1e-3):
            _name_r2(got[i], y[part], predict(x[part]), mean, is_held_out=i == 1)
    i = int(is_near(got[0], right[0], 1e-3))
    which = (("seen", "맞추는 데 쓴"), ("held-out", "떼어 둔"))[i]
    raise Wrong(
        f"for the {which[0]} rows you give {got[i]:.4g}; expect {right[i]:.4g}: 1 minus the sum of "
        "squared errors over the sum of squared deviations from the mean of the fitted rows, "
        "column by column.",
        f"{which[1]} 행에서 {got[i]:.4g}이 나옵니다. {right[i]:.4g}이어야 합니다. 오차의 제곱합을, "
        "맞추는 데 쓴 행들의 열 평균에서 벗어난 정도의 제곱합으로 나누고, 1에서 그 값을 빼십시오.",
    )


def _name_r2(
    got: float, truth: np.ndarray, guess: np.ndarray, mean: np.ndarray, is_held_out: bool
) -> None:
    """Says which well-known mistake gives this R2."""
    share = 1 - _r2(truth, guess, mean)
    columns = ((truth - guess) ** 2).sum(axis=0)
    own = ((truth - truth.mean(axis=0)) ** 2).sum(axis=0)
    mistakes = [
        (
            share,
            "this is the share that is *not* explained; R² is 1 minus that.",
            "이것은 설명하지 *못한* 비율입니다. R²는 1에서 이것을 뺀 값입니다.",
        ),
        (
            ((truth - guess) ** 2).mean(),
            "this is the mean squared error; R² sets it against the error of always saying the "
            "mean.",
            "이것은 평균제곱오차입니다. R²는 이것을 늘 평균만 말할 때의 오차와 견줍니다.",
        ),
        (
            ((truth - guess) ** 2).sum(),
            "this is the sum of squared errors; R² sets it against the error of always saying the "
            "mean.",
            "이것은 오차 제곱의 합입니다. R²는 이것을 늘 평균만 말할 때의 오차와 견줍니다.",
        ),
        (
            1 - columns.sum() / ((truth - mean.mean()) ** 2).sum(),
            "you take one mean over all numbers; each column has its own: `mean(axis=0)`.",
            "모든 수에 대한 평균 하나를 썼습니다. 평균은 열마다 다릅니다: `mean(axis=0)`.",
        ),
        (
            1 - columns.sum() / ((truth - truth.mean()) ** 2).sum(),
            "you take one mean over all numbers; each column has its own: `mean(axis=0)`.",
            "모든 수에 대한 평균 하나를 썼습니다. 평균은 열마다 다릅니다: `mean(axis=0)`.",
        ),
        (
            float(np.mean(1 - columns / own)),
            "this is the mean of an R² per column; here all columns are added up first, above and "
            "below the line.",
            "이것은 열마다 구한 R²의 평균입니다. 여기서는 분자와 분모에서 모든 열을 먼저 더합니다.",
        ),
        (
            np.corrcoef(truth.ravel(), guess.ravel())[0, 1] ** 2,
            "this is a squared correlation: it forgives a wrong mean and a wrong scale, which R² "
            "does not.",
            "이것은 상관계수의 제곱입니다. 틀린 평균과 틀린 배율을 눈감아 주는데, R²는 그러지 "
            "않습니다.",
        ),
    ]
    if is_held_out:
        mistakes.insert(
            0,
            (
                1 - columns.sum() / own.sum(),
                "for the held-out rows you subtract *their* mean, which nobody knows beforehand: "
                "the guess to beat is the mean of the rows that were fitted.",
                "떼어 둔 행에서 *그 행들의* 평균을 뺐는데, 그 값은 미리 알 수 없습니다. 이겨야 할 "
                "추측은 맞추는 데 쓴 행들의 평균입니다.",
            ),
        )
    name_mistake(np.asarray(got), mistakes)


def _r2(truth: np.ndarray, guess: np.ndarray, mean: np.ndarray) -> float:
    return float(1 - ((truth - guess) ** 2).sum() / ((truth - mean) ** 2).sum())


def _least_squares(x: np.ndarray, y: np.ndarray) -> Callable[[Any], np.ndarray]:
    mean_x, mean_y = x.mean(axis=0), y.mean(axis=0)
    weights = np.linalg.lstsq(x - mean_x, y - mean_y, rcond=None)[0]
    return lambda some: (np.asarray(some) - mean_x) @ weights + mean_y


# -- 6 -------------------------------------------------------------------------------------------

_SETS = (
    ((0.42, 0.51, 0.55, 0.63, 0.70), (0.35, 0.37, 0.20, 0.24, 0.19)),
    ((0.42, 0.51, 0.63), (0.38, 0.28, 0.19)),
    ((0.10, 0.25, 0.31, 0.58), (0.22, 0.20, 0.45, 0.41)),
)


def value_6() -> Callable[[Any, Any], float]:
    """Two-sided p of a correlation, over all orders."""
    return lambda a, b: float(np.mean(np.abs(_of_all_orders(a, b)) >= _slack(_of(a, b))))


def exercise_6(exact_p: Any) -> Right:
    """`exact_p(a, b)`: share of all orders of b whose |r| reaches that of the order given."""
    for a, b in _SETS:
        n, orders = len(a), math.factorial(len(a))
        r, every = _of(a, b), _of_all_orders(a, b)
        reached = int((np.abs(every) >= _slack(r)).sum())
        right = reached / orders
        got = as_number(call(exact_p, np.array(a), np.array(b), name="exact_p"), "the p")
        again = as_number(call(exact_p, np.array(a), np.array(b), name="exact_p"), "the p")
        if got != again:
            raise Wrong(
                "the same points give another p each time: with so few of them no order need be "
                f"drawn by lot, {n} points have only {orders}: `itertools.permutations`.",
                "같은 점인데 부를 때마다 p가 다릅니다. 점이 이렇게 적으면 순서를 제비뽑을 필요가 "
                f"없습니다. 점 {n}개의 순서는 {orders}가지뿐입니다: `itertools.permutations`.",
            )
        same_sign = int((np.sign(r) * every >= _slack(r)).sum())
        if is_near(got, right):
            continue
        name_mistake(
            np.asarray(got),
            (
                (
                    (1 + reached) / (1 + orders),
                    "the order as it is, is one of all orders already: here nothing is added. (The "
                    "1 of exercise 3 was for orders drawn by lot.)",
                    "원래 순서는 이미 모든 순서에 들어 있으므로 여기서는 아무것도 더하지 않습니다. "
                    "(연습 3의 1은 순서를 무작위로 뽑을 때의 것입니다.)",
                ),
                *(
                    (
                        value,
                        "the order as it is has not been counted: it reaches its own r (`>=` with "
                        "a little slack for rounding, such as `abs(r) - 1e-9`).",
                        "원래 순서를 세지 않았습니다. 원래 순서는 자기 r에 이릅니다(`>=`를 쓰고, "
                        "반올림을 위해 `abs(r) - 1e-9`처럼 약간의 여유를 두십시오).",
                    )
                    for value in ((reached - 1) / orders, (reached - 1) / (orders - 1))
                ),
                *(
                    (
                        value,
                        "this is one-sided. Nobody said beforehand which way the line would go, so "
                        "a strong correlation of either sign counts: compare `abs(r)`.",
                        "한쪽 검정입니다. 기울기의 방향을 미리 정하지 않았으므로 부호와 상관없이 "
                        "강한 상관을 모두 셉니다: `abs(r)`을 비교하십시오.",
                    )
                    for value in (same_sign / orders, (every >= _slack(r)).mean())
                ),
                (
                    float(stats.pearsonr(a, b).pvalue),
                    "this is the p of the t distribution, which takes the points for Gaussian; "
                    f"count the {orders} orders instead.",
                    "이것은 점들이 정규분포라고 가정한 t 분포의 p입니다. 대신 순서 "
                    f"{orders}가지를 세십시오.",
                ),
                (
                    reached,
                    f"{short(got)} is how many orders; p is their share of all {orders}.",
                    f"{short(got)}은 순서의 개수입니다. p는 전체 {orders}가지 중의 비율입니다.",
                ),
                (
                    100 * right,
                    f"{short(got)} is in percent; return the share, between 0 and 1.",
                    f"{short(got)}은 퍼센트입니다. 0과 1 사이의 비율을 돌려주십시오.",
                ),
                *(
                    (
                        value,
                        "you count the orders whose correlation is *weaker*; p counts those that "
                        "are as strong or stronger.",
                        "상관이 *더 약한* 순서를 세었습니다. p는 그만큼 또는 그보다 강한 것을 "
                        "셉니다.",
                    )
                    for value in (1 - right, (1 + orders - reached) / orders)
                ),
                (
                    r,
                    "this is r itself; p is the share of orders that reach it.",
                    "이것은 r입니다. p는 그 값에 이르는 순서의 비율입니다.",
                ),
            ),
        )
        raise Wrong(
            f"for {n} points with r = {r:.3f} you give {got:.4g}; of {orders} orders {reached} "
            f"have an r as strong: expect {right:.4g}.",
            f"r = {r:.3f}인 점 {n}개에서 {got:.4g}이 나옵니다. 순서 {orders}가지 중 "
            f"{reached}가지의 r이 그만큼 강하므로 {right:.4g}이어야 합니다.",
        )
    return Right(
        "Three points have six orders: no p can be below 1/6, whatever they are.",
        "점 세 개의 순서는 여섯 가지이므로, 어떤 점이든 p는 1/6보다 작을 수 없습니다.",
        exact_p,
    )


def _of(a: Sequence[float], b: Sequence[float]) -> float:
    return float(np.corrcoef(a, b)[0, 1])


def _of_all_orders(a: Any, b: Any) -> np.ndarray:
    return np.array([_of(a, order) for order in itertools.permutations(b)])


def _slack(r: float) -> float:
    """Sums in another order differ in their last digits."""
    return abs(r) - 1e-9


# -- 7 -------------------------------------------------------------------------------------------


COLUMNS = ("cka_linear", "cka_linear_biased", "cka_within", "ridge_r2")


def exercise_7(
    leader_is_ahead_of: Any, fooled_column: Any, not_ahead_of_untrained: Any, *, report: Any
) -> Right:
    """What a report of `encoderlab.compare` with controls says: right answers are read off it.

    Args:
        leader_is_ahead_of: the encoders that the one with the highest debiased CKA is ahead of.
        fooled_column: the column in which shuffled pairs still score.
        not_ahead_of_untrained: encoders that, within types, are not ahead of their untrained copy.
    """
    asked = [row.encoder for row in report.rows if row.control_of is None]
    leader = max(
        (row for row in report.rows if row.control_of is None),
        key=lambda row: float(row.scores["cka_linear"]),
    ).encoder
    seen = {
        other: _seen_from(report, "cka_linear", leader, other) for other in asked if other != leader
    }
    said = _names(leader_is_ahead_of, "leader_is_ahead_of", asked)
    if leader in said:
        raise Wrong(
            f"{leader} is the leader itself; whom is it ahead of?",
            f"{leader} 자신이 선두입니다. 선두가 앞선 인코더를 쓰십시오.",
        )
    ahead = {other for other, (verdict, _) in seen.items() if verdict == "ahead"}
    for other in sorted(said - ahead):
        raise Wrong(
            f"{leader} has the higher number, but the interval of the difference holds 0: "
            f"“{seen[other][1]}”. A higher number is not yet ahead.",
            f"{leader}의 수가 더 크지만 차이의 구간에 0이 들어 있습니다: “{seen[other][1]}”. 수가 "
            "더 크다고 앞선 것은 아닙니다.",
        )
    for other in sorted(ahead - said):
        raise Wrong(
            f"one is missing from `leader_is_ahead_of`: “{seen[other][1]}”, and that interval is "
            "above 0.",
            f"`leader_is_ahead_of`에 빠진 것이 있습니다: “{seen[other][1]}”. 이 구간은 0보다 "
            "위에 있습니다.",
        )
    _check_column(fooled_column, report)
    _check_untrained(not_ahead_of_untrained, report, asked)
    return Right(
        f"{leader} leads; of {len(seen)} others it is surely ahead of {len(ahead)}. That is how "
        "far this report goes, and you have not been fooled.",
        f"선두는 {leader}이며, 다른 인코더 {len(seen)}개 중 확실히 앞선 것은 {len(ahead)}개입니다. "
        "이 보고서가 말하는 것은 여기까지이고, 속지 않고 읽으셨습니다.",
    )


def _check_column(answer: Any, report: Any) -> None:
    """Whether it is the column with the largest numbers for shuffled pairs."""
    titles = {METRICS[name].title: name for name in COLUMNS}
    known = {**titles, **{name: name for name in COLUMNS}}
    found = None
    if isinstance(answer, str):
        found = next((v for k, v in known.items() if k.lower() == answer.strip().lower()), None)
    if found is None:
        listed = ", ".join(f"`{title}`" for title in titles)
        raise Wrong(
            f"`fooled_column` should be the head of a column, one of {listed}; you have given "
            f"{what(answer).en}.",
            f"`fooled_column`은 열의 제목이어야 합니다({listed} 중 하나). 제출한 값: "
            f"{what(answer).ko}.",
        )
    shuffled = [row for row in report.rows if row.encoder.startswith(SHUFFLED)]

    def level(name: str) -> float:
        return float(np.mean([float(row.scores[name]) for row in shuffled]))

    right = max(COLUMNS, key=level)
    if found != right:
        row = max(shuffled, key=lambda row: float(row.scores[found]))
        number = row.scores[found].as_number()
        raise Wrong(
            f"“{METRICS[found].title}” is not fooled: its best shuffled row, {row.encoder}, has "
            f"{number}, which is as good as 0. In which column are those rows clearly above 0?",
            f"“{METRICS[found].title}” 열은 속지 않았습니다. 짝을 섞은 행 중 가장 높은 "
            f"{row.encoder}의 값이 {number}으로, 0과 다름없습니다. 그런 행들이 0보다 뚜렷이 높은 "
            "열은 무엇입니까?",
        )


def _check_untrained(answer: Any, report: Any, asked: Sequence[str]) -> None:
    """Whether it names those whose training does not show within types."""
    said = _names(answer, "not_ahead_of_untrained", asked)
    seen = {name: _seen_from(report, "cka_within", name, UNTRAINED + name) for name in asked}
    right = {name for name, (verdict, _) in seen.items() if verdict != "ahead"}
    for name in sorted(said - right):
        raise Wrong(
            f"{name} is ahead of its untrained copy within types: “{seen[name][1]}”.",
            f"데이터 유형 안에서 {name}은(는) 학습하지 않은 자신보다 앞섭니다: “{seen[name][1]}”.",
        )
    for name in sorted(right - said):
        raise Wrong(
            f"one is missing from `not_ahead_of_untrained`: “{seen[name][1]}”. Only an interval "
            "above 0 makes it ahead.",
            f"`not_ahead_of_untrained`에 빠진 것이 있습니다: “{seen[name][1]}”. 구간이 0보다 위에 "
            "있어야 앞선 것입니다.",
        )


def _names(answer: Any, name: str, asked: Sequence[str]) -> set[str]:
    """The encoders of a list of names.

    Raises:
        Wrong: it is none, or names something else.
    """
    listed = ", ".join(f'"{one}"' for one in asked)
    found = [answer] if isinstance(answer, str) else answer
    if not isinstance(found, list | tuple | set) or not all(isinstance(one, str) for one in found):
        raise Wrong(
            f"`{name}` should be a list of names out of {listed}; you have given "
            f"{what(answer).en}.",
            f"`{name}`은(는) 이름의 리스트여야 합니다({listed} 중에서). 제출한 값: "
            f"{what(answer).ko}.",
        )
    for one in found:
        if one.startswith((UNTRAINED, SHUFFLED)):
            raise Wrong(
                f"{one} is a control, no encoder that somebody would choose. Name the trained "
                f"ones: {listed}.",
                f"{one}은(는) 대조군이며 고를 인코더가 아닙니다. 학습된 인코더의 이름을 "
                f"쓰십시오: {listed}.",
            )
        if one not in asked:
            raise Wrong(
                f"there is no encoder `{short(one)[1:-1]}` in this report; it has {listed}.",
                f"이 보고서에 `{short(one)[1:-1]}` 인코더는 없습니다. 있는 것: {listed}.",
            )
    return set(found)


def _seen_from(report: Any, metric: str, a: str, b: str) -> tuple[str, str]:
    """(verdict, the report's own words) of a against b, as seen from a."""
    turned = {"ahead": "behind", "behind": "ahead"}
    for one in report.verdicts:
        found = one.comparison
        if one.metric != metric or {found.a, found.b} != {a, b}:
            continue
        verdict = found.verdict if found.a == a else turned.get(found.verdict, found.verdict)
        return verdict, found.to_text()
    raise LookupError(f"the report does not compare {a} with {b} by {metric}")
