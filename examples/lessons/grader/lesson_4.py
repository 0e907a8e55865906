"""Checks of lesson 4, look inside the tokens.

Right values are computed in NumPy, in float64; learners work in torch.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from grader.said import Right, Wrong
from grader.values import as_number, as_numbers, call, is_near, name_mistake, what

Array = np.ndarray


def value_1() -> Callable[[int, int, int], int]:
    """Whole patches, and CLS."""
    return lambda height, width, patch: (height // patch) * (width // patch) + 1


def exercise_1(count_tokens: Any) -> Right:
    """`count_tokens(height, width, patch)`: the patches of a picture and CLS."""
    right_of = value_1()
    for height, width, patch in ((224, 336, 14), (96, 96, 8), (100, 90, 8)):
        found = call(count_tokens, height, width, patch, name="count_tokens")
        got = as_number(found, "the number of tokens")
        right = right_of(height, width, patch)
        size = f"{height} x {width}, {patch}"
        name_mistake(
            got,
            (
                (
                    right - 1,
                    f"for {size} you give {got:g}: that is the patches. CLS is a token too: one "
                    "more.",
                    f"{size}에서 {got:g}이 나왔습니다. 패치의 개수입니다. CLS도 토큰이므로 하나를 "
                    "더하십시오.",
                ),
                (
                    height * width // patch + 1,
                    f"for {size} you give {got:g}: the pixels are divided by `patch` once. A patch "
                    "has `patch` x `patch` pixels.",
                    f"{size}에서 {got:g}이 나왔습니다. 픽셀 수를 `patch`로 한 번만 나누었습니다. "
                    "패치 하나에는 `patch` x `patch` 픽셀이 있습니다.",
                ),
                (
                    height // patch + width // patch + 1,
                    f"for {size} you give {got:g}: rows *plus* columns. Each row has all columns: "
                    "multiply.",
                    f"{size}에서 {got:g}이 나왔습니다. 행과 열의 *합*입니다. 모든 행에 모든 열이 "
                    "있으므로 곱하십시오.",
                ),
                (
                    (height // patch) ** 2 + 1,
                    f"for {size} you give {got:g}: the picture need not be square, use the width "
                    "as well.",
                    f"{size}에서 {got:g}이 나왔습니다. 사진이 정사각형이 아닐 수 있으니 너비도 "
                    "사용하십시오.",
                ),
                (
                    (width // patch) ** 2 + 1,
                    f"for {size} you give {got:g}: the picture need not be square, use the height "
                    "as well.",
                    f"{size}에서 {got:g}이 나왔습니다. 사진이 정사각형이 아닐 수 있으니 높이도 "
                    "사용하십시오.",
                ),
                (
                    -(-height // patch) * -(-width // patch) + 1,
                    f"for {size} you give {got:g}: you round up. Pixels that fill no patch are "
                    "dropped: round down (`//`).",
                    f"{size}에서 {got:g}이 나왔습니다. 올림을 했습니다. 패치를 채우지 못하는 "
                    "픽셀은 버리므로 내림(`//`)을 하십시오.",
                ),
                (
                    (height * width) // patch**2 + 1,
                    f"for {size} you give {got:g}: you divide all pixels at once. A rest in each "
                    "row makes no patch: round down for height and width on their own.",
                    f"{size}에서 {got:g}이 나왔습니다. 픽셀 수 전체를 한 번에 나누었습니다. 행마다 "
                    "남는 픽셀은 패치가 되지 못하므로 높이와 너비에서 따로 내림을 하십시오.",
                ),
            )
            if not is_near(got, right)
            else (),
        )
        if got != round(got):
            raise Wrong(
                f"for {size} you give {got:.4g}: a number of tokens is a whole number. Use `//`.",
                f"{size}에서 {got:.4g}이 나왔습니다. 토큰의 개수는 정수입니다. `//`를 "
                "사용하십시오.",
            )
        if not is_near(got, right):
            raise Wrong(
                f"for {size} you give {got:g}; expect {right}: rows of patches times columns of "
                "patches, and CLS.",
                f"{size}에서 {got:g}이 나왔습니다. {right}이어야 합니다. 패치의 행 수와 열 수를 "
                "곱하고 CLS를 더한 값입니다.",
            )
    return Right(
        "A side twice as long makes four times as many tokens.",
        "한 변이 두 배가 되면 토큰은 네 배가 됩니다.",
        count_tokens,
    )


def value_2() -> Callable[[torch.Tensor, int, int], torch.Tensor]:
    """Without CLS, row by row."""
    return lambda tokens, height, width: tokens[1:].unflatten(0, (height, width))


def exercise_2(to_grid: Any) -> Right:
    """`to_grid(tokens, height, width)`: (1 + H*W, D) with CLS first, to (H, W, D)."""
    rng = np.random.default_rng(2)
    h, w, d = 3, 4, 5
    tokens = rng.normal(size=(1 + h * w, d))
    try:
        found = call(to_grid, torch.tensor(tokens).float(), h, w, name="to_grid")
    except Wrong as wrong:
        if f"input of size {tokens.size}" in wrong.en or f"({1 + h * w})" in wrong.en:
            raise Wrong(
                f"{1 + h * w} tokens do not fill {h} x {w} places: CLS is still among them. It "
                "stands first; take it off.",
                f"토큰 {1 + h * w}개는 {h} x {w} 자리에 맞지 않습니다. CLS가 아직 들어 있습니다. "
                "맨 앞의 CLS를 떼어 내십시오.",
            ) from wrong
        raise
    got = as_numbers(found, "the map")
    right = tokens[1:].reshape(h, w, d)
    if got.shape == (w, h, d):
        raise Wrong(
            f"your map has shape {got.shape}: rows and columns are the wrong way round. Expect "
            f"(height, width, D) = {(h, w, d)}.",
            f"지도의 모양이 {got.shape}입니다. 행과 열이 바뀌었습니다. (높이, 너비, D) = "
            f"{(h, w, d)}이어야 합니다.",
        )
    if got.shape == (d, h, w):
        raise Wrong(
            f"your map has shape {got.shape}, channels first as pictures often have them; here "
            f"the last axis is D: {(h, w, d)}.",
            f"지도의 모양이 {got.shape}입니다. 사진에서 흔히 그러하듯 채널이 앞에 있습니다. "
            f"여기서는 마지막 축이 D입니다: {(h, w, d)}.",
        )
    if got.shape != (h, w, d):
        raise Wrong(
            f"your map is {what(found).en}; expect shape {(h, w, d)}.",
            f"지도가 다음과 같습니다: {what(found).ko}. 모양은 {(h, w, d)}이어야 합니다.",
        )
    name_mistake(
        got,
        (
            (
                tokens[:-1].reshape(h, w, d),
                "you have taken off the *last* token, and CLS, the first, has become the patch at "
                "the upper left: every patch is one place too far to the right.",
                "*마지막* 토큰을 떼어 냈습니다. 맨 앞의 CLS가 왼쪽 위 패치가 되어 모든 패치가 "
                "오른쪽으로 한 자리씩 밀렸습니다.",
            ),
            (
                tokens[1:].reshape(w, h, d).transpose(1, 0, 2),
                "the shape is right, but you fill columns from top to bottom: your map lies on "
                "its side. Tokens are in reading order, row by row.",
                "모양은 맞지만 위에서 아래로 열부터 채워 지도가 옆으로 누웠습니다. 토큰은 "
                "글을 읽는 순서, 곧 행 단위로 놓입니다.",
            ),
            (
                tokens[1:].T.reshape(h, w, d),
                "the shape is right, but the numbers of a token are scattered over the map: the "
                "axis D has to stay last, without a transposition.",
                "모양은 맞지만 한 토큰의 수들이 지도 전체에 흩어졌습니다. 전치하지 말고 축 D를 "
                "마지막에 두십시오.",
            ),
            (
                right[::-1],
                "the map is upside down: row 0 is at the top.",
                "지도의 위아래가 뒤집혔습니다. 0번 행이 맨 위입니다.",
            ),
            (
                right[:, ::-1],
                "left and right are exchanged: column 0 is on the left.",
                "왼쪽과 오른쪽이 바뀌었습니다. 0번 열이 왼쪽입니다.",
            ),
        ),
    )
    if not is_near(got, right):
        raise Wrong(
            "the shape is right, but the tokens are not where they belong: cell [i, j] is token "
            "1 + i * width + j, unchanged.",
            "모양은 맞지만 토큰이 제자리에 있지 않습니다. [i, j] 칸은 1 + i * width + j번 토큰 "
            "그대로입니다.",
        )
    return Right(
        "CLS is gone, and every patch is in its place.",
        "CLS가 빠지고 모든 패치가 제자리에 놓였습니다.",
        to_grid,
    )


def value_3() -> Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor]]:
    """Every token with its right and its lower neighbour."""
    return lambda grid: (
        torch.cosine_similarity(grid[:, :-1], grid[:, 1:], dim=-1),
        torch.cosine_similarity(grid[:-1], grid[1:], dim=-1),
    )


def exercise_3(neighbour_cosines: Any) -> Right:
    """`neighbour_cosines(grid)`: of (H, W, D), (H, W - 1) and (H - 1, W)."""
    rng = np.random.default_rng(3)
    h, w, d = 3, 5, 6
    grid = rng.normal(size=(h, w, d)) * rng.uniform(0.5, 3, size=(h, w, 1))
    found = call(neighbour_cosines, torch.tensor(grid).float(), name="neighbour_cosines")
    if not isinstance(found, tuple | list) or len(found) != 2:
        raise Wrong(
            f"two tensors are wanted, `right` and `down`; you return {what(found).en}.",
            f"`right`와 `down` 텐서 두 개가 필요합니다. 지금 반환값: {what(found).ko}.",
        )
    unit = _unit(grid)
    right, down = _right(unit), _down(unit)
    mistakes: tuple[tuple[Array, str, str], ...] = (
        (
            grid,
            "these are dot products, without the lengths: divide by both lengths, or bring the "
            "tokens to length 1 first (along dim=-1).",
            "길이로 나누지 않은 내적입니다. 두 길이로 나누거나 먼저 토큰의 길이를 1로 "
            "만드십시오(dim=-1).",
        ),
        (
            grid / np.square(grid).sum(axis=-1, keepdims=True),
            "you divide by the *squared* lengths: the square root is missing.",
            "길이의 *제곱*으로 나누었습니다. 제곱근이 빠졌습니다.",
        ),
        (
            grid / np.linalg.norm(grid, axis=0, keepdims=True),
            "you normalise along the wrong axis: a token is the last one, so its length is taken "
            "along dim=-1.",
            "정규화한 축이 다릅니다. 토큰은 마지막 축이므로 길이는 dim=-1을 따라 구합니다.",
        ),
        (
            grid / np.linalg.norm(grid, axis=1, keepdims=True),
            "you normalise along the wrong axis: a token is the last one, so its length is taken "
            "along dim=-1.",
            "정규화한 축이 다릅니다. 토큰은 마지막 축이므로 길이는 dim=-1을 따라 구합니다.",
        ),
        (
            grid / np.linalg.norm(grid),
            "you divide by the length of the whole grid; every token has a length of its own "
            "(dim=-1, keepdim=True).",
            "격자 전체의 길이로 나누었습니다. 길이는 토큰마다 따로 있습니다(dim=-1, keepdim=True).",
        ),
    )
    for name, one, expected, other, of in (
        ("right", found[0], right, down, _right),
        ("down", found[1], down, right, _down),
    ):
        got = as_numbers(one, f"`{name}`")
        if got.shape == other.shape and is_near(got, other):
            raise Wrong(
                f"`{name}` has the cosines of the other direction: the first axis is the rows, "
                "the second the columns. Return `right` first.",
                f"`{name}`에 다른 방향의 코사인이 들어 있습니다. 첫째 축이 행, 둘째 축이 "
                "열입니다. `right`를 먼저 돌려주십시오.",
            )
        if got.shape == (h, w):
            raise Wrong(
                f"`{name}` has shape {got.shape}, a neighbour for every patch; but at the edge "
                f"there is none (does `roll` bring in the other side?). Expect {expected.shape}.",
                f"`{name}`의 모양이 {got.shape}이라 모든 패치에 이웃이 있습니다. 그러나 가장자리 "
                "패치에는 이웃이 없습니다(`roll`이 반대쪽을 가져오지 않습니까?). 모양은 "
                f"{expected.shape}이어야 합니다.",
            )
        if got.shape == (*expected.shape, d):
            raise Wrong(
                f"`{name}` still has the axis D, {got.shape}: add the products up along dim=-1.",
                f"`{name}`에 축 D가 남아 있습니다: {got.shape}. 곱을 dim=-1을 따라 더하십시오.",
            )
        if got.shape != expected.shape:
            raise Wrong(
                f"`{name}` has shape {got.shape}; expect {expected.shape} for a grid of {h} rows "
                f"and {w} columns.",
                f"`{name}`의 모양이 {got.shape}입니다. 행 {h}개, 열 {w}개인 격자에서는 "
                f"{expected.shape}이어야 합니다.",
            )
        name_mistake(got, [(of(version), en, ko) for version, en, ko in mistakes])
        name_mistake(
            got,
            (
                (
                    1 - expected,
                    "this is 1 minus the cosine, a distance.",
                    "1에서 코사인을 뺀 값, 곧 거리입니다.",
                ),
                (
                    expected**2,
                    "these are the squares of the cosines.",
                    "코사인을 제곱한 값입니다.",
                ),
            ),
        )
        if not is_near(got, expected):
            i, j = (int(k) for k in np.unravel_index(np.abs(got - expected).argmax(), got.shape))
            partner = (i, j + 1) if name == "right" else (i + 1, j)
            raise Wrong(
                f"`{name}`[{i}, {j}] compares ({i}, {j}) with {partner}: expect "
                f"{expected[i, j]:.3f}, yours is {got[i, j]:.3f}.",
                f"`{name}`[{i}, {j}]는 ({i}, {j})와 {partner}를 비교합니다. {expected[i, j]:.3f}"
                f"이어야 하는데 {got[i, j]:.3f}입니다.",
            )
    return Right(
        "Every pair of neighbours stands there once.",
        "이웃한 쌍이 모두 한 번씩 들어 있습니다.",
        neighbour_cosines,
    )


def value_4() -> tuple[Callable[..., float], Callable[..., float]]:
    """By the sums of unit vectors: no matrix of all pairs."""

    def within(tokens: torch.Tensor) -> float:
        unit = _unit(tokens.double().numpy())
        total = float(np.square(unit.sum(axis=0)).sum())
        return (total - len(unit)) / (len(unit) * (len(unit) - 1))

    def between(tokens: torch.Tensor, others: torch.Tensor) -> float:
        a, b = (_unit(one.double().numpy()).mean(axis=0) for one in (tokens, others))
        return float(a @ b)

    return within, between


def exercise_4(within: Any, between: Any) -> Right:
    """`within(tokens)` over pairs of different tokens, `between(tokens, others)` over all."""
    rng = np.random.default_rng(4)
    x = (rng.normal(size=(6, 4)) + 0.7) * rng.uniform(0.5, 3, size=(6, 1))
    y = (rng.normal(size=(9, 4)) + 0.7) * rng.uniform(0.5, 3, size=(9, 1))
    n = len(x)
    cosines = _unit(x) @ _unit(x).T
    upper = cosines[np.triu_indices(n, 1)]
    products = x @ x.T
    found = call(within, torch.tensor(x).float(), name="within")
    got = _one_number(found, "within")
    right = upper.mean()
    name_mistake(
        got,
        (
            (
                cosines.mean(),
                f"`within` counts each token with itself as well: {n} pairs with the cosine 1, "
                "which lift the mean. Leave the diagonal out.",
                f"`within`에 토큰과 자기 자신의 쌍도 들어 있습니다. 코사인이 1인 쌍 {n}개가 평균을 "
                "끌어올립니다. 대각선을 빼십시오.",
            ),
            (
                (cosines.sum() - n) / n**2,
                f"the diagonal is out of the sum in `within`, but not of the number of pairs: "
                f"divide by {n} x {n - 1}.",
                f"`within`의 합에서는 대각선을 뺐지만 쌍의 개수에서는 빼지 않았습니다. "
                f"{n} x {n - 1}로 나누십시오.",
            ),
            (
                upper.sum() / (n * (n - 1)),
                "`within` adds up each pair once, but divides by twice as many.",
                "`within`에서 쌍을 한 번씩만 더하고 두 배의 개수로 나누었습니다.",
            ),
            (
                (products.sum() - np.trace(products)) / (n * (n - 1)),
                "`within` takes dot products without the lengths: bring the tokens to length 1 "
                "first.",
                "`within`에서 길이로 나누지 않은 내적을 썼습니다. 먼저 토큰의 길이를 1로 "
                "만드십시오.",
            ),
            (
                products.mean(),
                "`within` takes dot products without the lengths, and each token with itself too.",
                "`within`에서 길이로 나누지 않은 내적을 썼고, 자기 자신과의 쌍도 넣었습니다.",
            ),
            (
                np.diag(cosines, 1).mean(),
                "`within` compares each token only with the next one; take all pairs.",
                "`within`에서 토큰을 바로 다음 것하고만 비교했습니다. 모든 쌍을 쓰십시오.",
            ),
        ),
    )
    if not is_near(got, right):
        raise Wrong(
            f"`within` gives {float(got):.4g} for {n} tokens; expect {right:.4g}: the mean of "
            f"{n} x {n - 1} cosines.",
            f"토큰 {n}개에서 `within` 값이 {float(got):.4g}입니다. {right:.4g}이어야 합니다. "
            f"코사인 {n} x {n - 1}개의 평균입니다.",
        )
    found = call(between, torch.tensor(x).float(), torch.tensor(y).float(), name="between")
    got = _one_number(found, "between")
    across = _unit(x) @ _unit(y).T
    right = across.mean()
    m = _unit(x.mean(axis=0)[None]) @ _unit(y.mean(axis=0)[None]).T
    name_mistake(
        got,
        (
            (
                (x @ y.T).mean(),
                "`between` takes dot products without the lengths: bring the tokens to length 1 "
                "first.",
                "`between`에서 길이로 나누지 않은 내적을 썼습니다. 먼저 토큰의 길이를 1로 "
                "만드십시오.",
            ),
            (
                m[0, 0],
                "`between` compares the two mean tokens; the mean of the cosines is another number "
                "(lengths are lost before the mean, not after it).",
                "`between`에서 평균 토큰 둘을 비교했습니다. 코사인의 평균은 다른 값입니다(평균을 "
                "내기 전에 길이를 1로 만드십시오).",
            ),
            (
                np.diag(across).mean(),
                "`between` compares token i only with token i of the other picture; take all "
                "pairs.",
                "`between`에서 i번 토큰을 다른 사진의 i번 토큰하고만 비교했습니다. 모든 쌍을 "
                "쓰십시오.",
            ),
            (
                across.sum() / (len(x) * (len(y) - 1)),
                "in `between` no token meets itself: nothing is to be left out.",
                "`between`에서는 토큰이 자기 자신과 만나지 않으므로 뺄 것이 없습니다.",
            ),
            (
                (across.sum() - n) / (len(x) * len(y)),
                "in `between` no token meets itself: nothing is to be left out.",
                "`between`에서는 토큰이 자기 자신과 만나지 않으므로 뺄 것이 없습니다.",
            ),
        ),
    )
    if not is_near(got, right):
        raise Wrong(
            f"`between` gives {float(got):.4g} for {len(x)} and {len(y)} tokens; expect "
            f"{right:.4g}: the mean of {len(x)} x {len(y)} cosines.",
            f"토큰 {len(x)}개와 {len(y)}개에서 `between` 값이 {float(got):.4g}입니다. {right:.4g}"
            f"이어야 합니다. 코사인 {len(x)} x {len(y)}개의 평균입니다.",
        )
    return Right(
        "Now a cosine has something to stand beside.",
        "이제 코사인 옆에 놓고 비교할 것이 생겼습니다.",
        (within, between),
    )


def value_5() -> tuple[Callable[..., torch.Tensor], Callable[..., float]]:
    """The rule as EncoderLab has it, and the mean over pairs that are left."""

    def mean_without(right: Any, down: Any, drop: Any) -> float:
        keep = ~np.asarray(drop, dtype=bool)
        pairs = (np.asarray(right), keep[:, :-1] & keep[:, 1:])
        below = (np.asarray(down), keep[:-1] & keep[1:])
        return float(np.concatenate([values[there] for values, there in (pairs, below)]).mean())

    return lambda lengths: torch.from_numpy(_outliers(lengths.numpy())), mean_without


# Two pictures, in which each half of the rule finds something that the other lets pass.
_NARROW = np.r_[np.linspace(46, 54, 31), 70, 170, 200, 3]
_WIDE = np.r_[np.linspace(20, 80, 32), 100, 150, 260]


def exercise_5(outliers: Any, mean_without: Any) -> Right:
    """`outliers(lengths)` -> truth values; `mean_without(right, down, drop)` -> one number."""
    rng = np.random.default_rng(5)
    lengths = [rng.permutation(values).reshape(5, 7) for values in (_NARROW, _WIDE)]
    _check_outliers(
        [
            _truth(call(outliers, torch.tensor(one).float(), name="outliers"), one.shape)
            for one in lengths
        ],
        lengths,
    )
    h, w = 3, 4
    right, down = rng.uniform(0.2, 0.6, (h, w - 1)), rng.uniform(0.5, 1, (h - 1, w))
    drop = np.zeros((h, w), dtype=bool)
    drop[1, 1] = drop[1, 2] = True
    inputs = (torch.tensor(right).float(), torch.tensor(down).float(), torch.tensor(drop))
    got = _one_number(call(mean_without, *inputs, name="mean_without"), "mean_without")
    keep = ~drop

    def mean(across: Array, below: Array) -> float:
        return float(np.concatenate([right[across], down[below]]).mean())

    across, below = keep[:, :-1] & keep[:, 1:], keep[:-1] & keep[1:]
    expected = mean(across, below)
    everything = np.concatenate([right.ravel(), down.ravel()])
    name_mistake(
        got,
        (
            (
                everything.mean(),
                "`mean_without` leaves nothing out: is `drop` used?",
                "`mean_without`에서 아무것도 빠지지 않았습니다. `drop`을 사용했습니까?",
            ),
            (
                mean(keep[:, :-1] | keep[:, 1:], keep[:-1] | keep[1:]),
                "`mean_without` leaves a pair out only if *both* tokens are outliers; one is "
                "enough to spoil it. Keep a pair if both are kept (`&`).",
                "`mean_without`에서 *두* 토큰이 모두 이상치일 때만 쌍을 뺐습니다. 하나만 "
                "이상치여도 빼야 합니다. 둘 다 남는 쌍만 두십시오(`&`).",
            ),
            (
                mean(keep[:, :-1], keep[:-1]),
                "`mean_without` looks only at the first token of a pair, and not at its right or "
                "lower neighbour.",
                "`mean_without`에서 쌍의 첫 토큰만 보고, 오른쪽이나 아래 이웃은 보지 않았습니다.",
            ),
            (
                mean(keep[:, 1:], keep[1:]),
                "`mean_without` looks only at the second token of a pair, and not at the first.",
                "`mean_without`에서 쌍의 둘째 토큰만 보고 첫 토큰은 보지 않았습니다.",
            ),
            (
                (right[across].mean() + down[below].mean()) / 2,
                "`mean_without` takes the mean of two means; there are more pairs in one of the "
                "directions, so put all cosines together and take one mean.",
                "`mean_without`에서 두 평균의 평균을 냈습니다. 두 방향의 쌍 개수가 다르므로 모든 "
                "코사인을 모아 평균을 한 번 내십시오.",
            ),
            (
                (right[across].sum() + down[below].sum()) / everything.size,
                "`mean_without` puts 0 in the place of what is left out: divide by the number of "
                "pairs that are kept.",
                "`mean_without`에서 뺀 자리에 0을 넣었습니다. 남은 쌍의 개수로 나누십시오.",
            ),
            (
                mean(~across, ~below),
                "`mean_without` keeps what should be left out: turn the mask around (`~`).",
                "`mean_without`에서 빼야 할 것을 남겼습니다. 마스크를 뒤집으십시오(`~`).",
            ),
            (
                right[across].mean(),
                "`mean_without` takes `right` alone; `down` belongs to it too.",
                "`mean_without`에서 `right`만 썼습니다. `down`도 넣으십시오.",
            ),
        ),
    )
    if not is_near(got, expected):
        raise Wrong(
            f"`mean_without` gives {float(got):.4g}; expect {expected:.4g}: the mean of the "
            f"{int(across.sum() + below.sum())} cosines, of {everything.size}, whose tokens are "
            "both kept.",
            f"`mean_without` 값이 {float(got):.4g}입니다. {expected:.4g}이어야 합니다. "
            f"{everything.size}개 중 두 토큰이 모두 남는 코사인 "
            f"{int(across.sum() + below.sum())}개의 평균입니다.",
        )
    return Right(
        "The median is not moved by a few giants, and neither is your rule.",
        "중앙값은 거인 몇에 흔들리지 않으며, 여러분의 규칙도 그렇습니다.",
        (outliers, mean_without),
    )


def _outliers(lengths: Array, factor: float = 1.4826) -> Array:
    by_deviation, by_median = _halves(lengths, factor)
    return by_deviation & by_median


def _halves(lengths: Array, factor: float = 1.4826) -> tuple[Array, Array]:
    # The lower of two middle values, as torch has it.
    def median(values: Array) -> float:
        return float(np.sort(values, axis=None)[(values.size - 1) // 2])

    middle = median(lengths)
    spread = factor * median(np.abs(lengths - middle))
    return lengths > middle + 5 * spread, lengths > 1.5 * middle


def _truth(found: Any, shape: tuple[int, ...]) -> Array:
    if isinstance(found, torch.Tensor) and found.dtype == torch.bool:
        found = found.int()
    elif isinstance(found, np.ndarray) and found.dtype == bool:
        found = found.astype(int)
    got = as_numbers(found, "the result of `outliers`")
    if got.shape != shape:
        raise Wrong(
            f"`outliers` returns {what(found).en}; expect a truth value for every token, shape "
            f"{shape}.",
            f"`outliers` 반환값: {what(found).ko}. 토큰마다 참거짓 값 하나, 곧 모양 {shape}이어야 "
            "합니다.",
        )
    if not np.isin(got, (0, 1)).all():
        raise Wrong(
            "`outliers` should return truth values (a comparison makes them), not lengths.",
            "`outliers`는 길이가 아니라 참거짓 값(비교의 결과)을 돌려주어야 합니다.",
        )
    return got.astype(bool)


def _check_outliers(got: list[Array], lengths: list[Array]) -> None:
    """A mistake is one that explains both pictures."""
    by_mean = (
        "you take the mean and the standard deviation: the outliers drag both along, and hide. "
        "Take the median twice.",
        "평균과 표준편차를 썼습니다. 이상치가 둘을 모두 끌고 가서 숨습니다. 중앙값을 두 번 "
        "쓰십시오.",
    )
    mistakes: tuple[tuple[Callable[[Array], Array], str, str], ...] = (
        (
            lambda x: ~_outliers(x),
            "`outliers` is true for the ordinary tokens: turn the comparison around.",
            "`outliers`가 보통 토큰에서 참입니다. 부등호를 뒤집으십시오.",
        ),
        (
            lambda x: np.logical_or(*_halves(x)),
            "one of the conditions is enough in `outliers`; both have to hold (`&`).",
            "`outliers`에서 조건 하나만 맞아도 참입니다. 둘 다 맞아야 합니다(`&`).",
        ),
        (
            lambda x: _halves(x)[0],
            "the condition 1.5 m is missing in `outliers`.",
            "`outliers`에 1.5 m 조건이 빠졌습니다.",
        ),
        (
            lambda x: _halves(x)[1],
            "the condition m + 5 s is missing in `outliers`.",
            "`outliers`에 m + 5 s 조건이 빠졌습니다.",
        ),
        (
            lambda x: _outliers(x, 1.0),
            "the factor 1.4826 is missing in `outliers`.",
            "`outliers`에 1.4826이 빠졌습니다.",
        ),
        (
            lambda x: np.abs(x - np.median(x)) > 5 * _spread(x),
            "`outliers` finds short tokens too; only those that are too *long* are meant.",
            "`outliers`가 짧은 토큰도 찾습니다. 너무 *긴* 토큰만 찾아야 합니다.",
        ),
        (lambda x: (x > x.mean() + 5 * x.std()) & (x > 1.5 * x.mean()), *by_mean),
        (lambda x: x > x.mean() + 5 * x.std(), *by_mean),
    )
    if all((a == _outliers(x)).all() for a, x in zip(got, lengths, strict=True)):
        return
    for gives, en, ko in mistakes:
        if all((a == gives(x)).all() for a, x in zip(got, lengths, strict=True)):
            raise Wrong(en, ko)
    for one, values in zip(got, lengths, strict=True):
        expected = _outliers(values)
        if (one != expected).any():
            shown = ", ".join(f"{length:.0f}" for length in values[one != expected][:3])
            m, s = np.median(values), _spread(values)
            raise Wrong(
                f"`outliers` finds {int(one.sum())} of {one.size}; expect {int(expected.sum())}. "
                f"Look at lengths such as {shown}: the median m is {m:.0f}, and s = {s:.1f}.",
                f"`outliers`가 {one.size}개 중 {int(one.sum())}개를 찾았습니다. "
                f"{int(expected.sum())}개여야 합니다. 중앙값 m = {m:.0f}, s = {s:.1f}일 때 길이 "
                f"{shown} 등을 살펴보십시오.",
            )


def _spread(values: Array) -> float:
    return float(1.4826 * np.median(np.abs(values - np.median(values))))


def value_6() -> Callable[[torch.Tensor], float]:
    """EncoderLab's own, for tokens in a row."""
    from encoderlab.patch_tokens.statistics import effective_rank

    return lambda tokens: effective_rank(tokens[None])


def exercise_6(effective_rank: Any) -> Right:
    """`effective_rank(tokens)`: exp of the entropy of the shares of variance."""
    rng = np.random.default_rng(6)
    tokens = rng.normal(size=(9, 5)) * [3, 2, 1, 0.5, 0.2] + [4, 0, 0, 0, 1]
    centred = tokens - tokens.mean(axis=0)

    def entropy(values: Array) -> float:
        shares = values / values.sum()
        return float(-(shares * np.log(shares)).sum())

    values = np.linalg.svd(centred, compute_uv=False)
    uncentred = np.linalg.svd(tokens, compute_uv=False)
    by_token = np.linalg.svd(tokens - tokens.mean(axis=1, keepdims=True), compute_uv=False)
    right = np.exp(entropy(values**2))
    found = call(effective_rank, torch.tensor(tokens).float(), name="effective_rank")
    got = _one_number(found, "effective_rank")
    name_mistake(
        got,
        (
            (
                entropy(values**2),
                "this is the entropy itself; the effective rank is its exponential.",
                "엔트로피 자체입니다. 유효 랭크(effective rank)는 그 지수 함수 값입니다.",
            ),
            (
                np.exp(entropy(values)),
                "you take shares of the singular values; variance is their *square*.",
                "특잇값의 비율을 썼습니다. 분산은 특잇값의 *제곱*입니다.",
            ),
            (
                np.exp(entropy(uncentred**2)),
                "the mean token is still in: take it away first, or it counts as a direction of "
                "its own, and as the greatest.",
                "평균 토큰이 남아 있습니다. 먼저 빼지 않으면 평균이 가장 큰 방향 하나로 "
                "세어집니다.",
            ),
            (
                np.exp(entropy(uncentred)),
                "the mean token is still in, and the singular values are not squared.",
                "평균 토큰이 남아 있고 특잇값을 제곱하지 않았습니다.",
            ),
            (
                np.exp(entropy(by_token[by_token > 1e-9] ** 2)),
                "you take the mean of every token's own numbers away (dim=1); the mean *token* is "
                "the one over all tokens, dim=0.",
                "토큰마다 자기 수들의 평균을 뺐습니다(dim=1). 평균 *토큰*은 모든 토큰에 대한 "
                "평균이므로 dim=0입니다.",
            ),
            (
                np.exp(-entropy(values**2)),
                "the minus before the sum is missing.",
                "합 앞의 마이너스가 빠졌습니다.",
            ),
            (
                np.exp(entropy(values**2) / np.log(2)),
                "your logarithm has base 2 and your power has base e: take the same for both.",
                "로그의 밑은 2인데 거듭제곱의 밑은 e입니다. 둘을 같게 하십시오.",
            ),
            (
                np.exp(entropy(values**4)),
                "the singular values are squared twice: `eigvalsh` of the products gives squares "
                "already.",
                "특잇값을 두 번 제곱했습니다. 곱 행렬의 `eigvalsh`는 이미 제곱입니다.",
            ),
            (
                len(values),
                "this is the ordinary rank, which counts the smallest direction like the greatest.",
                "보통의 랭크(rank)입니다. 가장 작은 방향도 가장 큰 방향과 똑같이 셉니다.",
            ),
        ),
    )
    if not is_near(got, right, 1e-3):
        raise Wrong(
            f"for {len(tokens)} tokens you give {float(got):.4g}; expect {right:.4g}. Mean away, "
            "squared singular values, their shares, entropy, exp.",
            f"토큰 {len(tokens)}개에서 {float(got):.4g}이 나왔습니다. {right:.4g}이어야 합니다. "
            "순서는 평균 빼기, 특잇값의 제곱, 비율, 엔트로피, exp입니다.",
        )
    line = torch.outer(torch.linspace(-1, 1, 8), torch.tensor([1.0, 2.0, 0.0]))
    try:
        flat = _one_number(call(effective_rank, line, name="effective_rank"), "effective_rank")
    except Wrong as wrong:
        if "NaN" not in wrong.en:
            raise
        raise Wrong(
            "right where every share is positive, but NaN for tokens on a line: 0 times the "
            "logarithm of 0. Use `torch.xlogy(p, p)`, or leave shares of 0 out.",
            "모든 비율이 양수이면 맞지만, 한 직선 위의 토큰에서는 NaN입니다. 0 곱하기 0의 로그가 "
            "됩니다. `torch.xlogy(p, p)`를 쓰거나 0인 비율을 빼십시오.",
        ) from wrong
    if not is_near(flat, 1, 1e-2):
        raise Wrong(
            f"for tokens on a line you give {float(flat):.4g}; expect 1.",
            f"한 직선 위의 토큰에서 {float(flat):.4g}이 나왔습니다. 1이어야 합니다.",
        )
    return Right(
        "Tokens on a line have 1, as they should.",
        "한 직선 위의 토큰은 예상대로 1입니다.",
        effective_rank,
    )


def _unit(rows: Array) -> Array:
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def _right(grid: Array) -> Array:
    return (grid[:, :-1] * grid[:, 1:]).sum(axis=-1)


def _down(grid: Array) -> Array:
    return (grid[:-1] * grid[1:]).sum(axis=-1)


def _one_number(found: Any, name: str) -> Array:
    got = as_numbers(found, f"the result of `{name}`")
    if got.ndim:
        raise Wrong(
            f"`{name}` should return one number; yours is {what(found).en}. Is a mean missing?",
            f"`{name}` 함수는 수 하나를 돌려주어야 합니다. 지금 값: {what(found).ko}. 평균이 "
            "빠지지 않았습니까?",
        )
    return got
