"""Checks of lesson 5, choose a token budget.

Right values are computed in NumPy, in float64; learners work in torch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch

from grader.said import Right, Wrong
from grader.values import as_number, as_numbers, call, is_near, name_mistake, what


def value_1() -> Callable[..., int]:
    """Keys and values, two bytes a number."""
    return lambda tokens, layers, kv_heads, head_dim: 4 * tokens * layers * kv_heads * head_dim


def exercise_1(cache_bytes: Any) -> Right:
    """`cache_bytes(tokens, layers, kv_heads, head_dim)`: keys and values in 16 bits."""
    given = (10, 3, 5, 7)
    found = call(cache_bytes, *given, name="cache_bytes")
    got = as_number(found, "the number of bytes")
    right = value_1()(*given)
    name_mistake(
        got,
        (
            (
                right / 4,
                "these are the numbers of the keys alone: values are kept too (twice as many), "
                "and each number has 2 bytes.",
                "키(key)에 든 수의 개수입니다. 값(value)도 있어 두 배이고 수마다 2바이트입니다.",
            ),
            (
                right / 2,
                "half of it: either the values beside the keys are missing, or the 2 bytes of "
                "each number.",
                "절반입니다. 키와 함께 두는 값(value)이나 수 하나의 2바이트 중 하나가 빠졌습니다.",
            ),
            (
                right * 8,
                "these are bits; a byte has eight.",
                "비트 수입니다. 1바이트는 8비트입니다.",
            ),
            (
                right * 2,
                "twice too many: 16 bits are 2 bytes, not 4.",
                "두 배입니다. 16비트는 4바이트가 아니라 2바이트입니다.",
            ),
            (
                right * 10,
                "the tokens are squared: attention's *work* grows with the square, its cache does "
                "not.",
                "토큰 수를 제곱했습니다. 제곱으로 느는 것은 어텐션의 *계산량*이고 캐시는 아닙니다.",
            ),
            (
                right / 3,
                "the layers are missing: each has keys and values of its own.",
                "층 수가 빠졌습니다. 키와 값은 층마다 따로 있습니다.",
            ),
            (
                right / 5,
                "the key-value heads are missing.",
                "키-값 헤드(kv_heads)의 수가 빠졌습니다.",
            ),
        ),
    )
    if not is_near(got, right):
        raise Wrong(
            f"for {given} you give {got:g} bytes; expect {right}: key and value, tokens, layers, "
            "heads, numbers, bytes.",
            f"{given}에서 {got:g}바이트가 나왔습니다. {right}이어야 합니다. 키와 값, 토큰, 층, "
            "헤드, 수의 개수, 바이트를 모두 곱한 값입니다.",
        )
    return Right(
        "Every token costs the same, whatever it shows.",
        "무엇을 보여 주든 토큰 하나의 비용은 같습니다.",
        cache_bytes,
    )


def value_2() -> Callable[[torch.Tensor, int, int], torch.Tensor]:
    """By PyTorch's pooling of pictures."""

    def average_pool(tokens: torch.Tensor, side: int, small: int) -> torch.Tensor:
        picture = tokens.mT.unflatten(2, (side, side))
        return torch.nn.functional.avg_pool2d(picture, side // small).flatten(2).mT

    return average_pool


def exercise_2(average_pool: Any) -> Right:
    """`average_pool(tokens, side, small)`: (B, side^2, D) to (B, small^2, D)."""
    rng = np.random.default_rng(2)
    b, d = 2, 5
    for side, small in ((6, 3), (6, 2)):
        tokens = rng.normal(size=(b, side**2, d))
        k = side // small
        windows = tokens.reshape(b, small, k, small, k, d)
        right = windows.mean(axis=(2, 4)).reshape(b, small**2, d)
        found = call(average_pool, torch.tensor(tokens).float(), side, small, name="average_pool")
        got = as_numbers(found, "the result of `average_pool`")
        if got.shape == (b, small, small, d):
            raise Wrong(
                f"your result is still a grid, {got.shape}; flatten it to rows: {right.shape}.",
                f"결과가 아직 격자입니다: {got.shape}. 한 줄로 펴서 {right.shape}로 만드십시오.",
            )
        if got.shape != right.shape:
            raise Wrong(
                f"for side {side} and small {small} you return {what(found).en}; expect shape "
                f"{right.shape}.",
                f"side {side}, small {small}에 대한 반환값: {what(found).ko}. 모양은 {right.shape}"
                "이어야 합니다.",
            )

        def flat(values: np.ndarray, small: int = small) -> np.ndarray:
            return values.reshape(b, small**2, d)

        name_mistake(
            got,
            (
                (
                    tokens.reshape(b, small**2, k * k, d).mean(axis=2),
                    f"you average {k * k} tokens that follow one another in reading order: they "
                    f"lie side by side in a row. A window has {k} rows and {k} columns.",
                    f"글을 읽는 순서로 이어진 토큰 {k * k}개를 평균했습니다. 그 토큰들은 한 행에 "
                    f"나란히 있습니다. 창 하나는 {k}행 {k}열입니다.",
                ),
                (
                    flat(tokens.reshape(b, k, small, k, small, d).mean(axis=(1, 3))),
                    "you average tokens that lie far apart: the axes are the wrong way round. "
                    "(small, window) and not (window, small).",
                    "멀리 떨어진 토큰들을 평균했습니다. 축의 순서가 바뀌었습니다. "
                    "(window, small)이 아니라 (small, window)입니다.",
                ),
                (
                    tokens.reshape(b, k * k, small**2, d).mean(axis=1),
                    "you average tokens that lie whole rows apart; a window has neighbours.",
                    "여러 행 떨어진 토큰들을 평균했습니다. 창은 이웃으로 이루어집니다.",
                ),
                (
                    right * k * k,
                    "this is the sum of each window, not its mean.",
                    "창의 평균이 아니라 합입니다.",
                ),
                (
                    flat(windows.max(axis=(2, 4))),
                    "this is the largest of each window, not its mean.",
                    "창의 평균이 아니라 최댓값입니다.",
                ),
                (
                    flat(windows[:, :, 0, :, 0]),
                    "this keeps the upper left token of each window; take the mean of all.",
                    "창마다 왼쪽 위 토큰만 남겼습니다. 모두의 평균을 구하십시오.",
                ),
                (
                    flat(right.reshape(b, small, small, d).transpose(0, 2, 1, 3)),
                    "the means are right, but column by column: keep the reading order.",
                    "평균은 맞지만 열 단위로 놓였습니다. 글을 읽는 순서를 지키십시오.",
                ),
            ),
        )
        if not is_near(got, right):
            raise Wrong(
                f"for side {side} and small {small} the first token should be the mean of rows 0 "
                f"to {k - 1} and columns 0 to {k - 1}, and so on; yours differ.",
                f"side {side}, small {small}에서 첫 토큰은 0~{k - 1}행, 0~{k - 1}열의 평균이어야 "
                "합니다. 결과가 다릅니다.",
            )
    return Right(
        "Windows of 2 x 2 and of 3 x 3 are both right.",
        "2 x 2 창과 3 x 3 창이 모두 맞습니다.",
        average_pool,
    )


def value_3() -> Callable[[torch.Tensor, torch.Tensor], float]:
    """EncoderLab's own."""
    from encoderlab.patch_tokens.reducer import normalised_error

    return normalised_error


def exercise_3(relative_error: Any) -> Right:
    """`relative_error(tokens, rebuilt)`: squared error over the variance about the mean token."""
    rng = np.random.default_rng(3)
    x = rng.normal(size=(3, 4, 5)) + rng.normal(size=5) + rng.normal(size=(3, 1, 1))
    y = x + 0.4 * rng.normal(size=x.shape)
    inputs = (torch.tensor(x).float(), torch.tensor(y).float())
    found = call(relative_error, *inputs, name="relative_error")
    got = as_numbers(found, "the result of `relative_error`")
    if got.ndim:
        raise Wrong(
            f"`relative_error` should return one number; yours is {what(found).en}: add up over "
            "all axes before you divide.",
            f"`relative_error` 함수는 수 하나를 돌려주어야 합니다. 지금 값: {what(found).ko}. "
            "나누기 전에 모든 축에 대해 더하십시오.",
        )
    error = np.square(y - x).sum()

    def about(mean: Any) -> float:
        return float(np.square(x - mean).sum())

    right = error / about(x.mean(axis=(0, 1)))
    name_mistake(
        got,
        (
            (
                np.sqrt(right),
                "this is the root of it; squared errors are asked for.",
                "제곱근입니다. 제곱 오차를 구하십시오.",
            ),
            (
                error / about(0),
                "you divide by the squared lengths; divide by the distances to the *mean token*, "
                "or every encoder with a large mean looks good.",
                "길이의 제곱으로 나누었습니다. *평균 토큰*까지의 거리로 나누십시오. 그러지 않으면 "
                "평균이 큰 인코더는 모두 좋아 보입니다.",
            ),
            (
                error / about(x.mean()),
                "your mean is a single number; the mean token has D of them: dim=(0, 1).",
                "평균이 수 하나입니다. 평균 토큰은 수 D개입니다: dim=(0, 1).",
            ),
            (
                error / about(x.mean(axis=1, keepdims=True)),
                "your mean is that of each picture; here one mean token stands for all pictures: "
                "dim=(0, 1).",
                "사진마다의 평균을 썼습니다. 평균 토큰은 모든 사진에 하나입니다: dim=(0, 1).",
            ),
            (
                error / about(x.mean(axis=0)),
                "your mean is that of each place; the mean token is over places too: dim=(0, 1).",
                "자리마다의 평균을 썼습니다. 평균 토큰은 자리에 대해서도 평균합니다: dim=(0, 1).",
            ),
            (
                error / about(x.mean(axis=2, keepdims=True)),
                "your mean is over the numbers of a token (the last axis); take it over pictures "
                "and places: dim=(0, 1).",
                "마지막 축을 평균했습니다. 사진과 자리에 대해 평균하십시오: dim=(0, 1).",
            ),
            (
                error / x.size,
                "this is the mean squared error; divide by that of the mean token.",
                "평균 제곱 오차입니다. 평균 토큰의 오차로 나누십시오.",
            ),
            (error, "the division is missing.", "나눗셈이 빠졌습니다."),
            (
                1 - right,
                "this is the share that is explained; the error is 1 minus it.",
                "설명된 비율입니다. 오차는 1에서 이것을 뺀 값입니다.",
            ),
            (
                np.abs(y - x).sum() / np.abs(x - x.mean(axis=(0, 1))).sum(),
                "these are absolute values; square them.",
                "절댓값입니다. 제곱하십시오.",
            ),
            (
                error / np.square(y - y.mean(axis=(0, 1))).sum(),
                "you divide by the variance of `rebuilt`; that of `tokens` is the measure.",
                "`rebuilt`의 분산으로 나누었습니다. 기준은 `tokens`의 분산입니다.",
            ),
        ),
    )
    if not is_near(got, right):
        raise Wrong(
            f"you give {float(got):.4g}; expect {right:.4g}: the sum of squared errors over the "
            "sum of squared distances to the mean token.",
            f"{float(got):.4g}이 나왔습니다. {right:.4g}이어야 합니다. 제곱 오차의 합을 평균 "
            "토큰까지 거리의 제곱의 합으로 나눈 값입니다.",
        )
    return Right(
        "0 is lossless, 1 is the mean token everywhere.",
        "0은 손실이 없고, 1은 어디에나 평균 토큰을 놓은 것과 같습니다.",
        relative_error,
    )


def value_4() -> Callable[..., int | None]:
    """From the smallest budget up, the first that is good enough."""

    def smallest_budget(
        scores: Mapping[int, float], floor: float, full: float, most: float
    ) -> int | None:
        for tokens in sorted(scores):
            if scores[tokens] >= full - most * (full - floor) - 1e-12:
                return tokens
        return None

    return smallest_budget


def exercise_4(smallest_budget: Any) -> Right:
    """`smallest_budget(scores, floor, full, most)`: of {tokens: score}, or None."""
    scores = {16: 0.97, 144: 1.0, 36: 0.985, 4: 0.9, 9: 0.94}
    floor, full, most = 0.8, 1.0, 0.10
    found = _budget(smallest_budget, scores, floor, full, most)
    if found is None:
        raise Wrong(
            "`smallest_budget` returns None where 36 tokens lose little enough: is a `return` "
            "missing?",
            "토큰 36개면 충분히 적게 잃는데 `smallest_budget` 함수가 None을 돌려줍니다. `return`이 "
            "빠지지 않았는지 확인해 보십시오.",
        )
    got = as_number(found, "the budget")
    name_mistake(
        got,
        (
            (
                4,
                "you compare with the full score alone: 0.9 is ten per cent below 1, but of what "
                "lies between the floor, 0.8, and 1 it has lost half.",
                "전체 점수하고만 비교했습니다. 0.9는 1보다 10 % 작지만, 바닥값 0.8과 1 사이에서는 "
                "절반을 잃은 것입니다.",
            ),
            (
                144,
                "these are the most tokens, which lose least; the *smallest* number that is good "
                "enough is wanted.",
                "가장 많은 토큰입니다. 충분히 좋은 것 중 *가장 작은* 수를 구하십시오.",
            ),
            (
                16,
                "16 tokens have 0.97: of the 0.2 between floor and full they lose 0.03, which is "
                "15 %, more than `most`.",
                "토큰 16개는 0.97입니다. 바닥값과 전체 사이 0.2 가운데 0.03, 곧 15 %를 잃어 "
                "`most`보다 큽니다.",
            ),
            (
                0.985,
                "this is the score; return the number of tokens that reaches it.",
                "점수입니다. 그 점수에 이르는 토큰의 개수를 돌려주십시오.",
            ),
        ),
    )
    if not is_near(got, 36):
        raise Wrong(
            f"you choose {got:g}; expect 36: it loses 0.015 of the 0.2 between floor and full, "
            "and the next smaller one 0.03.",
            f"{got:g}을 골랐습니다. 36이어야 합니다. 바닥값과 전체 사이 0.2 가운데 0.015를 잃고, "
            "바로 아래 예산은 0.03을 잃습니다.",
        )
    for more, expected, en, ko in (
        (
            ({16: 0.875, 4: 0.5, 36: 1.0}, 0.5, 1.0, 0.25),
            16,
            "a budget that loses exactly `most` is still allowed (`<=`).",
            "정확히 `most`만큼 잃는 예산도 허용됩니다(`<=`).",
        ),
        (
            ({16: 0.3, 4: 0.28}, 0.2, 0.4, 0.6),
            4,
            "`most` should be used as it is given, and the loss divided by full - floor.",
            "`most`는 주어진 대로 쓰고, 손실은 full - floor로 나누어야 합니다.",
        ),
        (
            ({16: 0.3, 4: 0.2}, 0.2, 1.0, 0.1),
            None,
            "none of the budgets is good enough there; return None.",
            "충분히 좋은 예산이 없으므로 None을 돌려주십시오.",
        ),
    ):
        found = _budget(smallest_budget, *more)
        if found is not None and expected is not None:
            found = as_number(found, "the budget")
        if found != expected:
            scores, floor, full, most = more
            raise Wrong(
                f"for {scores}, floor {floor}, full {full} and most {most} you give "
                f"{what(found).en}; expect {expected}: {en}",
                f"{scores}, 바닥값 {floor}, 전체 {full}, most {most}에 대한 반환값: "
                f"{what(found).ko}. {expected}이어야 합니다. {ko}",
            )
    return Right(
        "The choice is made by a rule that was there before the numbers.",
        "수치를 보기 전에 정한 규칙으로 골랐습니다.",
        smallest_budget,
    )


def _budget(function: Any, *arguments: Any) -> Any:
    """What is returned, also None; an empty list of candidates is a mistake of its own."""
    if not callable(function):
        return call(function, *arguments, name="smallest_budget")
    returned: list[Any] = []

    def listening(*given: Any) -> Any:
        returned.append(function(*given))
        return 0 if returned[0] is None else returned[0]

    try:
        call(listening, *arguments, name="smallest_budget")
    except Wrong as wrong:
        if "empty" in wrong.en:
            raise Wrong(
                "where no budget is good enough your function raises an error; return None there "
                "(`min(..., default=None)`).",
                "충분히 좋은 예산이 없을 때 함수가 오류를 냅니다. 그때는 None을 "
                "돌려주십시오(`min(..., default=None)`).",
            ) from wrong
        raise
    return returned[0]


def value_5() -> Callable[[Any, Any], tuple[float, float]]:
    """The interval of the mean difference."""

    def paired_interval(a: Any, b: Any) -> tuple[float, float]:
        d = np.asarray(a, dtype=float) - np.asarray(b, dtype=float)
        half = 1.96 * d.std(ddof=1) / np.sqrt(len(d))
        return float(d.mean() - half), float(d.mean() + half)

    return paired_interval


def exercise_5(paired_interval: Any) -> Right:
    """`paired_interval(a, b)`: both ends of the 95 % interval of the mean of a - b."""
    rng = np.random.default_rng(5)
    n = 12
    hard = rng.normal(size=n)
    a = hard + 0.3 * rng.normal(size=n) + 0.5
    b = hard + 0.3 * rng.normal(size=n)
    inputs = (torch.tensor(a).float(), torch.tensor(b).float())
    found = call(paired_interval, *inputs, name="paired_interval")
    is_row = isinstance(found, torch.Tensor | np.ndarray) and tuple(found.shape) == (2,)
    if not is_row and not (isinstance(found, tuple | list) and len(found) == 2):
        raise Wrong(
            f"two numbers are wanted, the lower and the upper end; you return {what(found).en}.",
            f"아래 끝과 위 끝, 수 두 개가 필요합니다. 지금 반환값: {what(found).ko}.",
        )
    got = np.array([as_number(end, "an end of the interval") for end in found])
    d = a - b
    middle, s = d.mean(), d.std(ddof=1)

    def ends(half: float, centre: float = middle) -> list[float]:
        return [centre - half, centre + half]

    right = ends(1.96 * s / np.sqrt(n))
    apart = np.sqrt((a.var(ddof=1) + b.var(ddof=1)) / n)
    name_mistake(
        got,
        (
            (
                ends(1.96 * s),
                "the root of n is missing: this is where a single picture lies, not the mean of "
                f"{n}.",
                f"n의 제곱근이 빠졌습니다. 사진 {n}장의 평균이 아니라 사진 한 장이 놓이는 "
                "구간입니다.",
            ),
            (
                ends(1.96 * s / n),
                "you divide by n; divide by its root.",
                "n으로 나누었습니다. n의 제곱근으로 나누십시오.",
            ),
            (
                ends(1.96 * apart),
                "this is the interval for two methods on *different* pictures, and much too wide: "
                "take the difference for each picture first.",
                "*서로 다른* 사진에서 잰 두 방법의 구간이라 너무 넓습니다. 먼저 사진마다 차이를 "
                "구하십시오.",
            ),
            (
                ends(s / np.sqrt(n)),
                "the factor 1.96 is missing.",
                "1.96이 빠졌습니다.",
            ),
            (
                ends(1.96 * s**2 / np.sqrt(n)),
                "you take the variance; take its root, the standard deviation.",
                "분산을 썼습니다. 그 제곱근인 표준편차를 쓰십시오.",
            ),
            (
                ends(1.96 * d.std() / np.sqrt(n)),
                "you divide by n in the standard deviation; divide by n - 1 (torch's `std` does).",
                "표준편차에서 n으로 나누었습니다. n - 1로 나누십시오(torch의 `std`).",
            ),
            (
                ends(1.96 * s / np.sqrt(n), -middle),
                "this is the interval for b - a; a - b is asked for.",
                "b - a의 구간입니다. a - b를 구하십시오.",
            ),
            (
                right[::-1],
                "the ends are the wrong way round: the lower one first.",
                "두 끝의 순서가 바뀌었습니다. 아래 끝이 먼저입니다.",
            ),
            (
                ends(1.96 * s / np.sqrt(n), 0.0),
                "the interval lies around 0; it belongs around the mean difference.",
                "구간이 0을 중심으로 놓였습니다. 차이의 평균이 중심입니다.",
            ),
        ),
    )
    if not is_near(got, right, 1e-3):
        raise Wrong(
            f"you give [{got[0]:.3f}, {got[1]:.3f}]; expect [{right[0]:.3f}, {right[1]:.3f}] for "
            f"{n} differences with mean {middle:.3f} and s = {s:.3f}.",
            f"[{got[0]:.3f}, {got[1]:.3f}]이 나왔습니다. 평균 {middle:.3f}, s = {s:.3f}인 차이 "
            f"{n}개에서는 [{right[0]:.3f}, {right[1]:.3f}]이어야 합니다.",
        )
    return Right(
        "Hard pictures are hard for both, and no longer blur the comparison.",
        "어려운 사진은 두 방법 모두에 어려우므로, 이제 비교를 흐리지 않습니다.",
        paired_interval,
    )
