"""Checks of lesson 1, multimodal embeddings with CLIP.

Right values are computed in NumPy, in float64; learners work in torch. Positions count from 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from textwrap import shorten
from typing import Any

import numpy as np
import torch
from PIL import Image

from encoderlab.data import open_image
from grader.said import Right, Wrong, not_answered
from grader.values import (
    as_number,
    as_numbers,
    call,
    call_and_listen,
    check_printed,
    is_near,
    name_mistake,
    short,
    what,
)

# Two rows this close in cosine are one to everybody: rounding decides between them.
NEAR = 1e-4
PROBES = ("a red circle", "a table with a blue header", "a bar chart")


def exercise_1(cosine: Any) -> Right:
    """`cosine(a, b)`: of two vectors (D,), as one number; whole numbers too."""
    a, b = torch.tensor([1.0, 2.0, 2.0]), torch.tensor([2.0, 0.0, 1.0])
    found = call(cosine, a, b, name="cosine")
    x, y = np.array([1.0, 2.0, 2.0]), np.array([2.0, 0.0, 1.0])
    dot, long_x, long_y = float(x @ y), float(np.linalg.norm(x)), float(np.linalg.norm(y))
    right = dot / (long_x * long_y)
    got = as_numbers(found, "`cosine(a, b)`")
    name_mistake(
        got,
        (
            (
                x * y,
                "you multiply place by place but do not add up: a dot product is one number, here "
                f"{dot:g}.",
                "자리마다 곱했지만 더하지 않았습니다. 내적(dot product)은 수 하나이며, 여기서는 "
                f"{dot:g}입니다.",
            ),
            (
                x * y / (long_x * long_y),
                "you divide by the lengths, but do not add up the products: the answer is one "
                "number.",
                "길이로 나누었지만 곱들을 더하지 않았습니다. 답은 수 하나입니다.",
            ),
        ),
    )
    if got.ndim:
        raise Wrong(
            f"`cosine(a, b)` should be one number; yours is {what(found).en}.",
            f"`cosine(a, b)` 값은 수 하나여야 합니다. 지금 값: {what(found).ko}.",
        )
    half_x, half_y = dot / long_x, dot / long_y
    one_length = (
        f"you have divided by one of the two lengths only (got {float(got):.4g}): a cosine does "
        "not change when either vector becomes longer.",
        f"두 길이 중 하나로만 나누었습니다(결과 {float(got):.4g}). 코사인은 어느 벡터를 늘려도 "
        "변하지 않아야 합니다.",
    )
    name_mistake(
        got,
        (
            (
                dot,
                f"{dot:g} is the dot product: you have not yet divided by the lengths of the two "
                "vectors.",
                f"{dot:g} 값은 내적입니다. 아직 두 벡터의 길이로 나누지 않았습니다.",
            ),
            (half_x, *one_length),
            (half_y, *one_length),
            (
                dot / (long_x * long_y) ** 2,
                "you divide by the squared lengths: a length is the square *root* of the sum of "
                "squares.",
                "길이의 제곱으로 나누고 있습니다. 길이는 제곱합의 제곱근(square root)입니다.",
            ),
            (
                dot / (long_x + long_y),
                "you divide by the sum of the two lengths; it is their product that is needed.",
                "두 길이의 합으로 나누고 있습니다. 필요한 것은 두 길이의 곱입니다.",
            ),
            (
                1 - right,
                f"{1 - right:.4g} is the cosine *distance*, 1 - cosine: similar things should "
                "score high here.",
                f"{1 - right:.4g} 값은 코사인 거리(1 - 코사인)입니다. 여기서는 비슷할수록 값이 "
                "커야 합니다.",
            ),
            (
                np.arccos(right),
                "this is the angle itself (in radians): stop one step earlier, at its cosine.",
                "이것은 각도(라디안) 자체입니다. 한 단계 앞의 코사인에서 멈추면 됩니다.",
            ),
            (
                dot / (np.abs(x).sum() * np.abs(y).sum()),
                "you divide by sums of absolute values; the length here is the Euclidean one, the "
                "root of the sum of squares.",
                "절댓값의 합으로 나누고 있습니다. 여기서 길이는 제곱합의 제곱근(유클리드 길이)"
                "입니다.",
            ),
        ),
    )
    if not is_near(got, right):
        raise Wrong(
            f"`cosine` of (1, 2, 2) and (2, 0, 1) is {float(got):.4g} in your version. Their dot "
            f"product is {dot:g}, their lengths are {long_x:.4g} and {long_y:.4g}: what do the "
            "three make?",
            f"작성한 `cosine`으로 (1, 2, 2)와 (2, 0, 1)을 계산하면 {float(got):.4g}입니다. 내적은 "
            f"{dot:g}, 길이는 각각 {long_x:.4g}, {long_y:.4g}입니다. 이 세 수를 어떻게 묶어야 "
            "하겠습니까?",
        )
    back = as_number(call(cosine, a, -a, name="cosine"), "`cosine(a, -a)`")
    if not is_near(back, -1.0):
        raise Wrong(
            f"for a vector and its opposite your version gives {back:.4g}; opposite directions "
            "have the cosine -1, so no absolute value and no clipping at 0.",
            f"어떤 벡터와 그 반대 방향 벡터에 대해 {back:.4g}이 나옵니다. 반대 방향의 코사인은 "
            "-1이므로 절댓값을 취하거나 0에서 자르면 안 됩니다.",
        )
    whole = (torch.tensor([3, 4]), torch.tensor([4, 3]))
    try:
        found = call(cosine, *whole, name="cosine")
    except Wrong as wrong:
        raise Wrong(
            "right for real numbers, but tensors of whole numbers (int64) raise an error: they "
            "have no length until they are cast, so begin with `.float()`. "
            f"({shorten(wrong.en.split(': ', 1)[-1], 90, placeholder=' …')})",
            "실수에는 맞지만 정수 텐서(int64)에서 오류가 납니다. 정수 텐서는 자료형을 바꾸기 "
            "전에는 길이를 구할 수 없으므로 먼저 `.float()`로 바꾸십시오.",
        ) from wrong
    got = as_number(found, "`cosine(a, b)`")
    if not is_near(got, 0.96):
        raise Wrong(
            f"right for real numbers, but for the whole numbers (3, 4) and (4, 3) you give "
            f"{got:.4g}; expect 0.96. Something is rounded on the way: cast with `.float()` first.",
            f"실수에는 맞지만 정수 벡터 (3, 4)와 (4, 3)에 대해 {got:.4g}이 나옵니다. 0.96이어야 "
            "합니다. 계산 중에 반올림이 일어나므로 먼저 `.float()`로 바꾸십시오.",
        )
    return Right(
        "Longer vectors, opposite vectors and whole numbers all come out as they should.",
        "긴 벡터, 반대 방향 벡터, 정수 벡터 모두 올바르게 계산됩니다.",
    )


def exercise_2(cosine_matrix: Any) -> Right:
    """`cosine_matrix(a, b)`: of (N, D) and (M, D), the cosines (N, M)."""
    rng = np.random.default_rng(0)
    n, m, d = 4, 9, 6
    x, y = rng.normal(size=(n, d)) + 0.5, rng.normal(size=(m, d)) + 0.5
    unit_x = x / np.linalg.norm(x, axis=1, keepdims=True)
    unit_y = y / np.linalg.norm(y, axis=1, keepdims=True)
    right = unit_x @ unit_y.T
    a, b = torch.tensor(x).float(), torch.tensor(y).float()
    try:
        found = call(cosine_matrix, a, b, name="cosine_matrix")
    except Wrong as wrong:
        if "shapes cannot be multiplied" in wrong.en or "must match the size" in wrong.en:
            raise Wrong(
                f"({n}, {d}) and ({m}, {d}) do not fit together as they are: one of the two must "
                "be turned (`.T`), so that the D of the one meets the D of the other.",
                f"({n}, {d})와 ({m}, {d})는 그대로는 곱할 수 없습니다. 한쪽의 D가 다른 쪽의 D와 "
                "만나도록 둘 중 하나를 전치(`.T`)해야 합니다.",
            ) from wrong
        raise
    got = as_numbers(found, "`cosine_matrix(a, b)`")
    if got.shape == (m, n):
        raise Wrong(
            f"your matrix is {got.shape}, transposed: row i must be image i, so expect "
            f"{(n, m)} for inputs {(n, d)} and {(m, d)}.",
            f"행렬의 모양이 {got.shape}로 뒤집혀 있습니다. i번째 행이 i번째 이미지여야 하므로 "
            f"입력이 {(n, d)}, {(m, d)}이면 {(n, m)}이어야 합니다.",
        )
    if got.shape != (n, m):
        raise Wrong(
            f"for inputs {(n, d)} and {(m, d)} you return {what(found).en}; every row of the first "
            f"meets every row of the second, so expect {(n, m)}.",
            f"입력이 {(n, d)}, {(m, d)}일 때 반환값: {what(found).ko}. 첫째의 모든 행이 둘째의 "
            f"모든 행과 만나므로 {(n, m)}이어야 합니다.",
        )
    down_x, down_y = x / np.linalg.norm(x, axis=0), y / np.linalg.norm(y, axis=0)
    one_side = (
        "only one of the two inputs has been brought to length 1; do the same with the other.",
        "두 입력 중 하나만 길이를 1로 만들었습니다. 다른 쪽도 똑같이 해 주십시오.",
    )
    name_mistake(
        got,
        (
            (
                x @ y.T,
                f"these are dot products (the largest is {got.max():.3g}, and no cosine is above "
                "1): bring each row to length 1 first.",
                f"이것은 내적입니다. 코사인은 1을 넘지 못하는데 최댓값이 {got.max():.3g}입니다. "
                "먼저 각 행의 길이를 1로 만드십시오.",
            ),
            (unit_x @ y.T, *one_side),
            (x @ unit_y.T, *one_side),
            (
                down_x @ down_y.T,
                "you have brought the columns to length 1 (dim=0). A vector is a row: use the last "
                "axis, dim=-1.",
                "열의 길이를 1로 만들었습니다(dim=0). 벡터 하나는 행 하나이므로 마지막 축 dim=-1을 "
                "사용하십시오.",
            ),
            (
                x @ y.T / (np.linalg.norm(x) * np.linalg.norm(y)),
                "you have divided by the length of the whole matrix. Each row has a length of its "
                "own: take the norm along the last axis and keep that axis (dim=-1, keepdim=True).",
                "행렬 전체의 길이로 나누었습니다. 길이는 행마다 따로 있으므로 마지막 축을 따라 "
                "norm을 구하고 그 축을 남기십시오(dim=-1, keepdim=True).",
            ),
            (
                1 - right,
                "these are cosine distances, 1 - cosine: similar things should score high here.",
                "이것은 코사인 거리(1 - 코사인)입니다. 여기서는 비슷할수록 값이 커야 합니다.",
            ),
        ),
    )
    if not is_near(got, right):
        i, j = np.unravel_index(np.abs(got - right).argmax(), right.shape)
        raise Wrong(
            f"the shape {got.shape} is right, the numbers are not: cell [{i}, {j}] is "
            f"{got[i, j]:.4g}, and `cosine(a[{i}], b[{j}])` of exercise 1 would be "
            f"{right[i, j]:.4g}.",
            f"모양 {got.shape} 자체는 맞지만 값이 다릅니다. [{i}, {j}] 칸이 {got[i, j]:.4g}인데, "
            f"연습 1의 `cosine(a[{i}], b[{j}])` 값은 {right[i, j]:.4g}입니다.",
        )
    one = as_numbers(call(cosine_matrix, a, b[:1], name="cosine_matrix"), "`cosine_matrix(a, b)`")
    if one.shape != (n, 1):
        raise Wrong(
            f"right for nine sentences, but for a single one, {(1, d)}, you return {one.shape}; "
            f"expect {(n, 1)}: keep the axis even if it has one entry (no `squeeze`).",
            f"문장 아홉 개에는 맞지만 문장 하나 {(1, d)}에 대해 {one.shape} 모양을 돌려줍니다. "
            f"{(n, 1)}이어야 합니다. 길이가 1인 축도 남겨 두십시오(`squeeze` 없이).",
        )
    return Right(
        "One matrix product does the work of thirty-six calls of `cosine`.",
        "행렬 곱 한 번이 `cosine` 서른여섯 번의 일을 합니다.",
    )


def exercise_3(
    best_position: Any, best_cosine: Any, top_three: Any, *, scores: torch.Tensor
) -> Right:
    """Where the largest of `scores` (9,) is, what it is, and where the three largest are."""
    cosines = scores.detach().cpu().double().numpy()
    best, order = int(cosines.argmax()), np.argsort(-cosines, kind="stable")
    where = as_numbers(best_position, "`best_position`")
    if where.ndim:
        if where.size > 1 and not where.any():
            raise Wrong(
                f"`best_position` is {where.size} zeros: you have taken `argmax` along an axis "
                "with a single entry. Take it over the pictures.",
                f"`best_position` 값이 0만 {where.size}개입니다. 길이가 1인 축을 따라 `argmax`를 "
                "구했습니다. 사진들이 놓인 축에서 구하십시오.",
            )
        raise Wrong(
            f"`best_position` should be one whole number; it is {what(best_position).en}.",
            f"`best_position` 값은 정수 하나여야 합니다. 지금 값: {what(best_position).ko}.",
        )
    found = float(where)
    if is_near(found, cosines[best]) and found != best:
        raise Wrong(
            f"`best_position` is {found:.4g}: that is the cosine of the best picture. `argmax` "
            "gives the position, `max` the value; here the position is wanted.",
            f"`best_position` 값 {found:.4g}은 가장 잘 맞는 사진의 코사인입니다. "
            "`argmax`는 위치를, `max`는 값을 돌려줍니다. 여기서는 위치가 필요합니다.",
        )
    if found != int(found) or not -len(cosines) <= found < len(cosines):
        raise Wrong(
            f"`best_position` is {short(found)}; a position among {len(cosines)} pictures is a "
            f"whole number from 0 to {len(cosines) - 1}.",
            f"`best_position` 값이 {short(found)}입니다. 사진 {len(cosines)}장의 위치는 0부터 "
            f"{len(cosines) - 1}까지의 정수입니다.",
        )
    if int(found) % len(cosines) != best:
        if found == best + 1:
            hint = (" Do you count from 1? Positions begin at 0.", " 1부터 세지 않았습니까? "
                    "위치는 0부터 셉니다.")  # fmt: skip
        elif found == cosines.argmin():
            hint = (
                " That is the smallest of them all: `argmin`.",
                " 그것은 가장 작은 값의 위치(`argmin`)입니다.",
            )
        else:
            hint = ("", "")
        raise Wrong(
            f"picture {int(found)} has the cosine {cosines[int(found)]:.3f}, and another one has "
            f"{cosines.max():.3f}.{hint[0]}",
            f"{int(found)}번 사진의 코사인은 {cosines[int(found)]:.3f}인데, 코사인이 "
            f"{cosines.max():.3f}인 사진이 있습니다.{hint[1]}",
        )
    value = as_number(best_cosine, "`best_cosine`")
    if value == best and not is_near(value, cosines[best]):
        raise Wrong(
            f"`best_cosine` is {value:g}: that is the position. The value is what stands there, "
            "`scores[best_position]` or `scores.max()`.",
            f"`best_cosine` 값 {value:g}은 위치입니다. 값은 그 자리에 있는 수, 곧 "
            "`scores[best_position]` 또는 `scores.max()`입니다.",
        )
    if not is_near(value, cosines[best], 1e-3):
        raise Wrong(
            f"`best_cosine` is {value:.4g}, but `scores` has another number at position {best}.",
            f"`best_cosine` 값이 {value:.4g}인데, `scores`의 {best}번 위치에는 다른 수가 있습니다.",
        )
    three = [int(one) for one in order[:3]]
    if isinstance(top_three, tuple) and hasattr(top_three, "indices"):
        raise Wrong(
            "`top_three` is the pair that `topk` returns, values and positions: take its "
            "`.indices`.",
            "`top_three`에 `topk`가 돌려준 (값, 위치) 쌍이 그대로 들어 있습니다. 그중 `.indices`를 "
            "사용하십시오.",
        )
    if isinstance(top_three, set):
        raise Wrong(
            "`top_three` is a set, which has no order: give a list or a tensor, the best first.",
            "`top_three`가 순서 없는 집합(set)입니다. 가장 좋은 것부터 차례로 리스트나 텐서에 "
            "담으십시오.",
        )
    listed = as_numbers(top_three, "`top_three`").ravel()
    name_mistake(
        listed,
        (
            (
                cosines[order[:3]],
                "`top_three` holds the three largest cosines; here their positions are wanted "
                "(`topk(...).indices`).",
                "`top_three`에 가장 큰 코사인 값 세 개가 들어 있습니다. 여기서는 그 위치"
                "(`topk(...).indices`)가 필요합니다.",
            ),
            (
                three[::-1],
                "these are the right three, the best one last: turn the order around.",
                "세 위치는 맞지만 가장 좋은 것이 마지막에 있습니다. 순서를 뒤집으십시오.",
            ),
            (
                [one + 1 for one in three],
                "you count from 1; positions begin at 0.",
                "1부터 세고 있습니다. 위치는 0부터 셉니다.",
            ),
            (
                [int(one) for one in order[::-1][:3]],
                "these are the three worst: sort in descending order.",
                "가장 맞지 않는 세 장입니다. 큰 값부터 정렬하십시오(descending).",
            ),
        ),
    )
    if len(listed) != 3:
        raise Wrong(
            f"`top_three` has {len(listed)} entries; expect 3 positions.",
            f"`top_three`의 길이가 {len(listed)}입니다. 위치 3개여야 합니다.",
        )
    if not is_near(listed, three):
        raise Wrong(
            f"`top_three` is {what(top_three).en}, which are not the three largest in order: look "
            "at `scores.topk(3)`.",
            f"`top_three` 값이 큰 순서대로 세 위치가 아닙니다(제출: {what(top_three).ko}). "
            "`scores.topk(3)`를 살펴보십시오.",
        )
    return Right(
        f"Picture {best} with a cosine of {cosines[best]:.3f}; then {three[1]} and {three[2]}.",
        f"{best}번 사진이 코사인 {cosines[best]:.3f}으로 1등이고, 그다음은 {three[1]}번과 "
        f"{three[2]}번입니다.",
    )


def value_4(*, folder: Path) -> list[Image.Image]:
    """The pictures of the folder, in the order of their names."""
    return [open_image(path) for path in sorted(folder.iterdir())]


def exercise_4(load_images: Any, *, folder: Path) -> Right:
    """`load_images(folder)`: every file as RGB, by name; says how many."""
    paths = sorted(folder.iterdir())
    found, heard = call_and_listen(load_images, folder, name="load_images")
    if isinstance(found, tuple):
        found = list(found)
    if not isinstance(found, list):
        raise Wrong(
            f"`load_images` should return a list of pictures; it returns {what(found).en}.",
            f"`load_images` 함수는 사진의 리스트를 돌려주어야 합니다. 반환값: {what(found).ko}.",
        )
    if len(found) != len(paths):
        endings = sorted({path.suffix for path in paths})
        by_ending = {e: sum(path.suffix == e for path in paths) for e in endings}
        only = next((e for e, count in by_ending.items() if count == len(found)), None)
        seen = (f" ({only} files only?)", f"({only} 파일만 읽었습니까?)") if only else ("", "")
        raise Wrong(
            f"you have loaded {len(found)} of {len(paths)} files{seen[0]}. The folder has the "
            f"endings {', '.join(endings)}.",
            f"파일 {len(paths)}개 중 {len(found)}개를 읽었습니다{seen[1]}. 폴더에 있는 확장자: "
            f"{', '.join(endings)}.",
        )
    for number, (one, path) in enumerate(zip(found, paths, strict=True)):
        if not isinstance(one, Image.Image):
            raise Wrong(
                f"entry {number} of your list is {what(one).en}; expect an opened picture "
                "(`Image.open(path)`).",
                f"리스트의 {number}번 원소: {what(one).ko}. 열린 사진(`Image.open(path)`)이어야 "
                "합니다.",
            )
        if one.mode != "RGB":
            kinds = {"L": ("greyscale", "흑백"), "P": ("a palette", "팔레트"),
                     "RGBA": ("with transparency", "투명도 포함")}  # fmt: skip
            en, ko = kinds.get(one.mode, ("another mode", "다른 모드"))
            raise Wrong(
                f"picture {number} ({path.name}) has the mode {one.mode!r} ({en}) instead of "
                "'RGB': the model wants three channels, so convert every picture "
                '(`.convert("RGB")`).',
                f"{number}번 사진({path.name})의 모드가 'RGB'가 아니라 {one.mode!r}({ko})입니다. "
                '모델은 채널 세 개를 받으므로 모든 사진을 변환하십시오(`.convert("RGB")`).',
            )
    seen_by = [_thumb(one) for one in found]
    wanted = [_thumb(one) for one in value_4(folder=folder)]
    off = [i for i, (a, b) in enumerate(zip(seen_by, wanted, strict=True)) if not is_near(a, b, 12)]
    if off:
        places = [
            j for j, b in enumerate(wanted) if is_near(seen_by[off[0]], b, 12)
        ]  # fmt: skip
        if places and len(off) > 2:
            raise Wrong(
                f"all {len(found)} are there, but in another order: your picture {off[0]} is file "
                f"{paths[places[0]].name}. A folder lists its files in any order, so sort the "
                "paths (`sorted(folder.iterdir())`).",
                f"{len(found)}장이 모두 있지만 순서가 다릅니다. {off[0]}번 사진이 파일 "
                f"{paths[places[0]].name}입니다. 폴더는 파일을 아무 순서로나 나열하므로 경로를 "
                "정렬하십시오(`sorted(folder.iterdir())`).",
            )
        raise Wrong(
            f"picture {off[0]} does not look like its file {paths[off[0]].name} any more.",
            f"{off[0]}번 사진이 파일 {paths[off[0]].name}의 내용과 다릅니다.",
        )
    check_printed(heard, f"Total {len(paths)} images are loaded!", "load_images")
    _check_on_three(load_images, folder)
    print(heard, end="")
    return Right(
        "Every file is there, in order and in colour mode, whatever its name claims.",
        "이름이 무엇이든 모든 파일이 순서대로, RGB 모드로 들어왔습니다.",
        found,
    )


def _check_on_three(load_images: Any, folder: Path) -> None:
    """The number must come from the folder, not from the task's text."""
    import shutil
    import tempfile

    with tempfile.TemporaryDirectory() as other:
        for path in sorted(folder.iterdir())[:3]:
            shutil.copy(path, other)
        few, heard = call_and_listen(load_images, Path(other), name="load_images")
    expected = "Total 3 images are loaded!"
    if not isinstance(few, list | tuple) or len(few) != 3 or expected not in heard:
        said = (heard.strip().splitlines() or [""])[-1][:80]
        raise Wrong(
            f"right for this folder, but for another one of 3 files you return {what(few).en} and "
            f"print `{said}`: use the folder that is given, and count what you have loaded.",
            f"이 폴더에는 맞지만 파일이 3개인 다른 폴더에서는 반환값이 {what(few).ko}, 출력이 "
            f"`{said}`입니다. 인자로 받은 폴더를 쓰고, 읽은 장수를 세어 출력하십시오.",
        )


def _thumb(image: Image.Image) -> np.ndarray:
    """What tells pictures apart, and transparency laid over white or black does not change much."""
    return np.asarray(image.resize((16, 16)), dtype=float)


def value_5(*, encoder: Any, gallery: Sequence[Image.Image]) -> torch.Tensor:
    """The vectors of the gallery (n, D); kept, so that another attempt does not wait for them."""
    global _kept
    if _kept is None or _kept[0] is not encoder or _kept[1] is not gallery:
        _kept = encoder, gallery, torch.from_numpy(encoder.embed_images(list(gallery)))
    return _kept[2].clone()


_kept: tuple[Any, Any, torch.Tensor] | None = None


def exercise_5(
    embed_images: Any, embed_text: Any, *, encoder: Any, gallery: Sequence[Image.Image]
) -> Right:
    """`embed_images(pictures)` (n, D) and `embed_text(sentence)` (1, D); both say the shape."""
    n, d = len(gallery), encoder.dim
    found, heard = call_and_listen(embed_images, list(gallery), name="embed_images")
    if isinstance(found, list | tuple) and found and not np.isscalar(found[0]):
        raise Wrong(
            f"`embed_images` returns {what(found).en}; put the vectors into one tensor or array of "
            f"shape {(n, d)}.",
            f"`embed_images` 반환값: {what(found).ko}. 벡터들을 모양이 {(n, d)}인 "
            "텐서나 배열 하나에 담으십시오.",
        )
    got = as_numbers(found, "`embed_images(...)`")
    if got.shape == (d, n):
        raise Wrong(
            f"your image embeddings are {got.shape}, transposed: one row for each picture, so "
            f"expect {(n, d)}.",
            f"이미지 임베딩의 모양이 {got.shape}로 뒤집혀 있습니다. 사진 한 장이 행 하나이므로 "
            f"{(n, d)}이어야 합니다.",
        )
    if got.shape != (n, d):
        raise Wrong(
            f"your image embeddings have shape {got.shape}; expect {(n, d)}: {n} pictures, {d} "
            "numbers each.",
            f"이미지 임베딩의 모양이 {got.shape}입니다. 사진 {n}장, 각각 수 {d}개이므로 {(n, d)}"
            "이어야 합니다.",
        )
    wanted = value_5(encoder=encoder, gallery=gallery).double().numpy()
    off = np.flatnonzero(_row_cosines(got, wanted) < 1 - 1e-3)
    if len(off):
        raise Wrong(
            f"the shape is right, but {len(off)} rows are not the vectors of their pictures (the "
            f"first is row {off[0]}): embed the pictures that are given, in their order.",
            f"모양은 맞지만 {len(off)}개 행이 해당 사진의 벡터가 아닙니다(첫째는 {off[0]}번 행). "
            "주어진 사진을 주어진 순서대로 임베딩하십시오.",
        )
    _check_shape_printed(heard, f"Image Embedding's shape: {(n, d)}", "embed_images")
    for sentence in PROBES[:2]:
        _check_text(embed_text, encoder, sentence)
    print(heard, end="")
    print(call_and_listen(embed_text, PROBES[0], name="embed_text")[1], end="")
    return Right(
        f"Pictures and sentences now lie in one space of {d} numbers.",
        f"이제 사진과 문장이 수 {d}개로 된 한 공간에 놓였습니다.",
        torch.from_numpy(got).float(),
    )


def _check_text(embed_text: Any, encoder: Any, sentence: str) -> None:
    d = encoder.dim
    found, heard = call_and_listen(embed_text, sentence, name="embed_text")
    got = as_numbers(found, "`embed_text(...)`")
    if got.shape == (d,):
        raise Wrong(
            f"your text embedding has shape ({d},): the batch dimension is missing. Keep one row "
            f"for the one sentence, so expect (1, {d}).",
            f"텍스트 임베딩의 모양이 ({d},)로, 배치 차원(batch dimension)이 빠졌습니다. "
            f"문장 하나도 행 하나로 두어 (1, {d})이어야 합니다.",
        )
    if got.shape != (1, d):
        raise Wrong(
            f"your text embedding has shape {got.shape}; expect (1, {d}).",
            f"텍스트 임베딩의 모양이 {got.shape}입니다. (1, {d})이어야 합니다.",
        )
    wanted = encoder.embed_texts([sentence]).astype(float)
    if _row_cosines(got, wanted)[0] < 1 - 1e-3:
        raise Wrong(
            f"the shape is right, but this is not the vector of {sentence!r}: embed the sentence "
            "that is given.",
            f"모양은 맞지만 {sentence!r}의 벡터가 아닙니다. 인자로 받은 문장을 임베딩하십시오.",
        )
    _check_shape_printed(heard, f"Text Embedding's shape: (1, {d})", "embed_text")


def _check_shape_printed(heard: str, expected: str, name: str) -> None:
    if "torch.Size" in heard and expected not in heard:
        raise Wrong(
            f"`{name}` prints `{heard.strip()[:80]}`; for `{expected}` make a tuple of the shape: "
            "`tuple(vectors.shape)`.",
            f"`{name}` 함수가 `{heard.strip()[:80]}`을(를) 출력합니다. `{expected}`이(가) 되려면 "
            "모양을 튜플로 바꾸십시오: `tuple(vectors.shape)`.",
        )
    check_printed(heard, expected, name)


def _row_cosines(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return (a * b).sum(axis=1) / np.maximum(lengths, 1e-12)


def value_6(*, encoder: Any, gallery_vectors: torch.Tensor, sentence: str) -> int:
    """Where the picture that fits `sentence` best is."""
    return int(_scores(encoder, gallery_vectors, sentence).argmax())


def exercise_6(top_1: Any, *, encoder: Any, gallery_vectors: torch.Tensor, sentence: str) -> Right:
    """`top_1(sentence)`: the position of the best picture in the gallery."""
    for asked in (sentence, *PROBES):
        scores = _scores(encoder, gallery_vectors, asked)
        best = int(scores.argmax())
        found = call(top_1, asked, name="top_1")
        if isinstance(found, Image.Image):
            raise Wrong(
                "`top_1` returns the picture itself; return its position, and the next cell will "
                "show `gallery[position]`.",
                "`top_1` 함수가 사진 자체를 돌려줍니다. 위치를 돌려주면 다음 셀이 "
                "`gallery[position]`을 보여 줍니다.",
            )
        got = as_numbers(found, "`top_1(...)`")
        if got.size == 1:
            got = got.reshape(())
        if got.ndim:
            zeros = got.size > 1 and not got.any()
            raise Wrong(
                f"`top_1` returns {what(found).en} instead of one position"
                + (": `argmax` ran along the axis of the one sentence." if zeros else "."),
                f"`top_1` 반환값: {what(found).ko}. 위치 하나여야 합니다."
                + (" 문장이 하나뿐인 축을 따라 `argmax`를 구했습니다." if zeros else ""),
            )
        number = float(got)
        if is_near(number, scores[best]) and number != best:
            raise Wrong(
                f"`top_1({asked!r})` is {number:.4g}, which is the best cosine; return where it "
                "stands (`argmax`).",
                f"`top_1({asked!r})` 값 {number:.4g}은 가장 큰 코사인입니다. 그 위치(`argmax`)를 "
                "돌려주십시오.",
            )
        if number != int(number) or not 0 <= number < len(scores):
            raise Wrong(
                f"`top_1({asked!r})` is {short(number)}; expect a whole number from 0 to "
                f"{len(scores) - 1}.",
                f"`top_1({asked!r})` 값이 {short(number)}입니다. 0부터 {len(scores) - 1}까지의 "
                "정수여야 합니다.",
            )
        if scores[int(number)] < scores[best] - NEAR:
            worst = int(number) == int(scores.argmin())
            raise Wrong(
                f"for {asked!r} you find picture {int(number)} (cosine {scores[int(number)]:.3f}); "
                f"there is one with {scores[best]:.3f}."
                + (" Yours is the worst of all: `argmax`, not `argmin`." if worst else "")
                + ("" if asked == sentence else " Does the function use the sentence it is given?"),
                f"{asked!r}에 대해 {int(number)}번 사진(코사인 {scores[int(number)]:.3f})을 "
                f"찾았지만, {scores[best]:.3f}인 사진이 있습니다."
                + (" 가장 맞지 않는 사진입니다. `argmin`이 아니라 `argmax`입니다." if worst else "")
                + ("" if asked == sentence else " 함수가 인자로 받은 문장을 쓰는지 보십시오."),
            )
    best = value_6(encoder=encoder, gallery_vectors=gallery_vectors, sentence=sentence)
    return Right(
        f"Among {len(gallery_vectors)} pictures, {sentence!r} finds number {best}.",
        f"사진 {len(gallery_vectors)}장 중에서 {sentence!r}에 가장 잘 맞는 것은 {best}번입니다.",
        best,
    )


def exercise_7(
    sentences: Any, *, encoder: Any, gallery_vectors: torch.Tensor, targets: Sequence[int]
) -> Right:
    """A sentence for each of the `targets` that finds it among all."""
    if isinstance(sentences, str) or not isinstance(sentences, list | tuple):
        raise Wrong(
            f"`sentences` should be a list of {len(targets)} sentences; it is "
            f"{what(sentences).en}.",
            f"`sentences`는 문장 {len(targets)}개의 리스트여야 합니다. 지금 값: "
            f"{what(sentences).ko}.",
        )
    if len(sentences) != len(targets):
        raise Wrong(
            f"`sentences` has {len(sentences)} entries; there are {len(targets)} pictures to find.",
            f"`sentences`의 길이가 {len(sentences)}입니다. 찾을 사진은 {len(targets)}장입니다.",
        )
    empty = [i for i, one in enumerate(sentences) if one is ... or one == ""]
    if len(empty) == len(targets):
        raise not_answered()
    problems_en, problems_ko = [], []
    for i, (said, target) in enumerate(zip(sentences, targets, strict=True)):
        if i in empty:
            problems_en.append(f"sentence {i + 1} is not yet there")
            problems_ko.append(f"문장 {i + 1}은(는) 아직 없습니다")
            continue
        if not isinstance(said, str):
            raise Wrong(
                f"sentence {i + 1} is {what(said).en}; expect words.",
                f"문장 {i + 1}의 값: {what(said).ko}. 문자열이어야 합니다.",
            )
        scores = _scores(encoder, gallery_vectors, said)
        place = int((scores > scores[target] + NEAR).sum()) + 1
        if place > 1:
            best = int(scores.argmax())
            problems_en.append(
                f"sentence {i + 1} finds picture {best}; the one you want, {target}, comes at "
                f"place {place}"
            )
            problems_ko.append(
                f"문장 {i + 1}은(는) {best}번 사진을 찾으며, 찾으려는 {target}번은 {place}등입니다"
            )
    if problems_en:
        done = len(targets) - len(problems_en)
        raise Wrong(
            f"{done} of {len(targets)} are found. {'; '.join(problems_en)}. What does the other "
            "picture not have?",
            f"{len(targets)}장 중 {done}장을 찾았습니다. {'; '.join(problems_ko)}. "
            "다른 사진에는 없고 이 사진에만 있는 것은 무엇입니까?",
        )
    return Right(
        f"All {len(targets)} pictures come first among {len(gallery_vectors)}.",
        f"{len(targets)}장 모두 사진 {len(gallery_vectors)}장 중 1등으로 나왔습니다.",
    )


def _scores(encoder: Any, gallery_vectors: torch.Tensor, sentence: str) -> np.ndarray:
    """Cosines (n,) of the gallery with a sentence."""
    images = gallery_vectors.double().numpy()
    text = encoder.embed_texts([sentence])[0].astype(float)
    return images @ text / np.maximum(np.linalg.norm(images, axis=1) * np.linalg.norm(text), 1e-12)
