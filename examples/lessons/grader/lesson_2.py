"""Checks of lesson 2, train your own CLIP.

Right values are computed in NumPy, in float64; learners work in torch.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from scipy.special import log_softmax, softmax

from encoderlab.losses.contrastive import contrastive_loss
from grader.said import Right, Wrong
from grader.values import (
    as_number,
    as_numbers,
    call,
    is_near,
    name_mistake,
    short,
    what,
)


def value_1() -> Callable[..., torch.Tensor]:
    """The loss that the lesson trains with."""
    return contrastive_loss


def exercise_1(clip_loss: Any) -> Right:
    """`clip_loss(image, text, scale)` of unit rows (N, D): the mean of both cross-entropies."""
    rng = np.random.default_rng(1)
    n, scale = 5, 10.0
    x, y = (_unit(rng.normal(size=(n, 4))) for _ in range(2))
    image, text = torch.tensor(x).float().requires_grad_(), torch.tensor(y).float()
    found = call(clip_loss, image, text, torch.tensor(scale), name="clip_loss")
    logits = scale * x @ y.T
    rows, columns = -np.diag(log_softmax(logits, 1)), -np.diag(log_softmax(logits, 0))
    to_text, to_image = rows.mean(), columns.mean()
    right = (to_text + to_image) / 2
    got = as_numbers(found, "`clip_loss(...)`")
    if got.ndim:
        raise Wrong(
            f"the loss should be one number; yours is {what(found).en}: take the mean over the "
            "batch.",
            f"손실은 수 하나여야 합니다. 지금 값: {what(found).ko}. 배치에 대해 평균을 구하십시오.",
        )
    bare = _both(x @ y.T)
    name_mistake(
        got,
        (
            (
                to_text,
                "this is one direction, from image to text. Do the same from text to image (the "
                "transposed matrix) and take the mean of the two.",
                "한 방향(이미지에서 텍스트로)만 계산했습니다. 행렬을 전치하여 텍스트에서 "
                "이미지로도 계산하고 둘의 평균을 구하십시오.",
            ),
            (
                to_image,
                "this is one direction, from text to image. Do the same from image to text and "
                "take the mean of the two.",
                "한 방향(텍스트에서 이미지로)만 계산했습니다. 이미지에서 텍스트로도 계산하고 "
                "둘의 평균을 구하십시오.",
            ),
            (
                to_text + to_image,
                "this is the sum of both directions; the loss is their mean (divide by 2).",
                "두 방향의 합입니다. 손실은 둘의 평균이므로 2로 나누십시오.",
            ),
            (
                right * n,
                f"you add up over the batch ({n} rows); the loss is the mean, so that it does not "
                "depend on the batch size in this way.",
                f"배치({n}행)에 대해 더했습니다. 손실은 평균입니다.",
            ),
            (
                -right,
                "the sign is turned around: a loss is *minus* the logarithm, and is never "
                "negative here.",
                "부호가 반대입니다. 손실은 로그에 *마이너스*를 붙인 것이며 여기서 음수가 될 수 "
                "없습니다.",
            ),
            (
                bare,
                "the scale is missing: multiply the cosines by `scale` before the softmax.",
                "`scale`이 빠졌습니다. 소프트맥스(softmax) 전에 코사인에 `scale`을 곱하십시오.",
            ),
            (
                _both(x @ y.T / scale),
                "you divide by `scale`; it is the inverse of the temperature already, so multiply.",
                "`scale`로 나누었습니다. `scale`은 이미 온도(temperature)의 역수이므로 곱해야 "
                "합니다.",
            ),
            (
                _both(math.exp(scale) * x @ y.T),
                "you take `exp` of the scale once more; here it is the factor itself.",
                "`scale`에 `exp`를 한 번 더 취했습니다. 여기서 `scale`은 곱할 값 자체입니다.",
            ),
            (
                (_one(softmax(logits, 1)) + _one(softmax(logits.T, 1))) / 2,
                "there is one softmax too many: `F.cross_entropy` takes the logits and does it "
                "itself.",
                "소프트맥스를 한 번 더 했습니다. `F.cross_entropy`는 로짓(logits)을 받아 스스로 "
                "소프트맥스를 계산합니다.",
            ),
            (
                -(np.diag(softmax(logits, 1)).mean() + np.diag(softmax(logits, 0)).mean()) / 2,
                "these are probabilities without their logarithm: `log_softmax` instead of "
                "`softmax`.",
                "로그를 취하지 않은 확률입니다. `softmax` 대신 `log_softmax`를 사용하십시오.",
            ),
        ),
    )
    if not is_near(got, right, 1e-3):
        raise Wrong(
            f"for a batch of {n} your loss is {float(got):.4g}; expect {right:.4g}. The right text "
            "of image i is text i: the targets are 0, 1, 2 ... along the diagonal.",
            f"크기 {n}인 배치에서 손실이 {float(got):.4g}입니다. {right:.4g}이어야 합니다. "
            "이미지 i의 정답은 텍스트 i이므로 목표(target)는 대각선을 따라 0, 1, 2 ... 입니다.",
        )
    if not isinstance(found, torch.Tensor) or not found.requires_grad:
        raise Wrong(
            "the number is right, but nothing can be learnt from it: it has lost its gradient. "
            "Stay in torch (no `.item()`, `.detach()`, NumPy).",
            "값은 맞지만 기울기(gradient)가 끊겨 학습할 수 없습니다. `.item()`, `.detach()`, "
            "NumPy를 쓰지 말고 torch 안에서 계산하십시오.",
        )
    same = torch.full((8, 4), 0.5)
    flat = as_number(
        call(clip_loss, same, same, torch.tensor(scale), name="clip_loss"), "`clip_loss(...)`"
    )
    if not is_near(flat, math.log(8), 1e-3):
        raise Wrong(
            f"right for a batch of {n}, but for 8 equal embeddings you give {flat:.4g}; expect "
            f"ln 8 = {math.log(8):.4g}. Is a batch size written down somewhere?",
            f"크기 {n}인 배치에는 맞지만 똑같은 임베딩 8개에서 {flat:.4g}이 나옵니다. ln 8 = "
            f"{math.log(8):.4g}이어야 합니다. 배치 크기를 숫자로 적어 두지 않았습니까?",
        )
    return Right(
        "This is the whole of CLIP's objective; the lesson trains with your function.",
        "이것이 CLIP 학습 목표의 전부입니다. 이 강의는 여러분의 함수로 학습합니다.",
        clip_loss,
    )


def _unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def _one(logits: np.ndarray) -> float:
    """Cross-entropy of the rows, the diagonal being right."""
    return float(-np.diag(log_softmax(logits, 1)).mean())


def _both(logits: np.ndarray) -> float:
    return (_one(logits) + _one(logits.T)) / 2


def exercise_2(chance_loss: Any, *, batch_size: int) -> Right:
    """The loss of a model that knows nothing."""
    got = as_number(chance_loss, "`chance_loss`")
    right = math.log(batch_size)
    name_mistake(
        got,
        (
            (
                math.log2(batch_size),
                f"{got:.4g} is the logarithm to the base 2; cross-entropy uses the natural one "
                "(`math.log`).",
                f"{got:.4g}은 밑이 2인 로그입니다. 교차 엔트로피는 자연로그(`math.log`)를 씁니다.",
            ),
            (
                math.log10(batch_size),
                f"{got:.4g} is the logarithm to the base 10; cross-entropy uses the natural one "
                "(`math.log`).",
                f"{got:.4g}은 밑이 10인 로그입니다. 교차 엔트로피는 자연로그(`math.log`)를 씁니다.",
            ),
            (
                1 / batch_size,
                f"1/{batch_size} is the *probability* of the right partner; the loss is minus its "
                "logarithm.",
                f"1/{batch_size}은 정답 짝의 *확률*입니다. 손실은 그 로그에 마이너스를 붙인 "
                "것입니다.",
            ),
            (
                -right,
                "the sign is turned around: ln(1/N) is negative, and the loss is minus that.",
                "부호가 반대입니다. ln(1/N)은 음수이고, 손실은 거기에 마이너스를 붙인 것입니다.",
            ),
            (
                2 * right,
                "that is the sum of both directions; the loss takes their mean.",
                "두 방향의 합입니다. 손실은 둘의 평균입니다.",
            ),
        ),
    )
    if not is_near(got, right, 5e-3):
        raise Wrong(
            f"`chance_loss` is {short(got)}. A model that knows nothing gives each of the "
            f"{batch_size} candidates the same probability: what is minus the logarithm of it?",
            f"`chance_loss` 값이 {short(got)}입니다. 아무것도 모르는 모델은 후보 {batch_size}개에 "
            "같은 확률을 줍니다. 그 확률의 로그에 마이너스를 붙이면 얼마이겠습니까?",
        )
    return Right(
        f"A loss that stays at {right:.3f} for a batch of {batch_size} means that nothing is "
        "being learnt.",
        f"배치 크기가 {batch_size}일 때 손실이 {right:.3f}에 머물러 있다면 아무것도 배우지 못하고 "
        "있는 것입니다.",
    )


def value_3(*, pairs: Sequence[Any], share: float) -> tuple[list[Any], list[Any]]:
    """Pairs to train on and pairs to hold out, no picture in both."""
    numbers = sorted({pair.picture for pair in pairs})
    random.Random(0).shuffle(numbers)
    out = set(numbers[: round(share * len(numbers))])
    return (
        [pair for pair in pairs if pair.picture not in out],
        [pair for pair in pairs if pair.picture in out],
    )


def exercise_3(split: Any, *, pairs: Sequence[Any], share: float) -> Right:
    """`split(pairs, share)`: train and held-out pairs, each picture on one side."""
    mixed = random.Random(1).sample(list(pairs), len(pairs))
    _check_split(call(split, mixed, share, name="split"), mixed, share)
    found = call(split, list(pairs), share, name="split")
    _check_split(found, pairs, share)
    train, held_out = (list(part) for part in found)
    return Right(
        f"{len(train)} pairs to train on, {len(held_out)} held out, and no picture on both sides.",
        f"학습용 쌍 {len(train)}개, 평가용 쌍 {len(held_out)}개이며, 양쪽에 모두 있는 사진은 "
        "없습니다.",
        (train, held_out),
    )


def _check_split(found: Any, pairs: Sequence[Any], share: float) -> None:
    if not isinstance(found, tuple | list) or len(found) != 2:
        raise Wrong(
            f"`split` should return two lists, to train on and held out; it returns "
            f"{what(found).en}.",
            "`split` 함수는 학습용과 평가용 두 리스트를 돌려주어야 합니다. 반환값: "
            f"{what(found).ko}.",
        )
    try:
        train, held_out = ([(one.picture, one.caption) for one in part] for part in found)
    except (AttributeError, TypeError):
        raise Wrong(
            "the two lists should hold the pairs themselves (each with `.picture` and "
            f"`.caption`); yours hold {_first(found).en}.",
            "두 리스트에는 쌍 자체(`.picture`와 `.caption`이 있는 것)가 들어 있어야 합니다. 지금 "
            f"들어 있는 값: {_first(found).ko}.",
        ) from None
    everything = sorted((one.picture, one.caption) for one in pairs)
    if not train or not held_out:
        raise Wrong(
            f"one side is empty: {len(train)} to train on, {len(held_out)} held out.",
            f"한쪽이 비어 있습니다. 학습용 {len(train)}개, 평가용 {len(held_out)}개입니다.",
        )
    both = {number for number, _ in train} & {number for number, _ in held_out}
    if both:
        held = {number for number, _ in held_out}
        raise Wrong(
            f"{len(both)} of the {len(held)} held-out pictures are in the training part as well, "
            f"with another caption (picture {min(both)}, for one): that is leakage. Divide the "
            "*pictures* first, then give each side the pairs of its pictures.",
            f"평가용 사진 {len(held)}장 중 {len(both)}장이 다른 설명문과 함께 학습용에도 있습니다"
            f"(예: {min(both)}번 사진). 이것이 데이터 누출(leakage)입니다. 먼저 *사진*을 나누고, "
            "각 쪽에 그 사진의 쌍을 주십시오.",
        )
    if sorted([*train, *held_out]) != everything:
        raise Wrong(
            f"of {len(everything)} pairs, {len(train) + len(held_out)} come back: each pair "
            "belongs to exactly one side.",
            f"쌍 {len(everything)}개 중 {len(train) + len(held_out)}개가 돌아왔습니다. 모든 쌍은 "
            "정확히 한쪽에 있어야 합니다.",
        )
    got = len({number for number, _ in held_out}) / len({number for number, _ in everything})
    if abs(got - (1 - share)) < 0.05:
        raise Wrong(
            f"the two sides are the wrong way round: {got:.0%} of the pictures are held out; "
            "return the training part first.",
            f"두 쪽이 바뀌었습니다. 사진의 {got:.0%}가 평가용입니다. 학습용을 먼저 돌려주십시오.",
        )
    if abs(got - share) > 0.05:
        raise Wrong(
            f"no picture is on both sides, good; but {got:.0%} of the pictures are held out, and "
            f"about {share:.0%} were asked for.",
            f"양쪽에 모두 있는 사진은 없습니다. 다만 사진의 {got:.0%}가 평가용인데, 요청한 것은 약 "
            f"{share:.0%}입니다.",
        )


def _first(found: Any) -> Any:
    try:
        return what(next(iter(found[0])))
    except (TypeError, StopIteration):
        return what(found[0])


def value_4() -> Callable[[torch.Tensor, int], float]:
    """Recall@K by counting how many candidates beat the right one."""

    def recall_at_k(similarity: torch.Tensor, k: int) -> float:
        beaten = (similarity > similarity.diagonal()[:, None]).sum(dim=1)
        return float((beaten < k).float().mean())

    return recall_at_k


def exercise_4(recall_at_k: Any) -> Right:
    """`recall_at_k(similarity, k)`: share of rows whose diagonal is among the k largest."""
    rng = np.random.default_rng(3)
    n = 20
    scores = rng.normal(size=(n, n)) + 1.2 * np.eye(n)
    similarity = torch.tensor(scores).float()

    def recall(matrix: np.ndarray, k: int) -> float:
        return float(((matrix > np.diag(matrix)[:, None]).sum(axis=1) < k).mean())

    for k in (1, 5):
        right, turned = recall(scores, k), recall(scores.T, k)
        found = call(recall_at_k, similarity, k, name="recall_at_k")
        got = as_numbers(found, "`recall_at_k(...)`")
        if got.shape == (n,):
            raise Wrong(
                f"you return one value for each of the {n} rows; recall is the share of rows that "
                "have a hit: take the mean.",
                f"행 {n}개마다 값을 하나씩 돌려주고 있습니다. 재현율(recall)은 맞힌 행의 "
                "비율이므로 평균을 구하십시오.",
            )
        if got.ndim:
            raise Wrong(
                f"recall is one number; yours is {what(found).en}.",
                f"재현율은 수 하나입니다. 지금 값: {what(found).ko}.",
            )
        name_mistake(
            got,
            (
                (
                    right * n,
                    f"{float(got):g} is the number of hits; recall is their share of the {n} rows.",
                    f"{float(got):g}은 맞힌 개수입니다. 재현율은 행 {n}개 중 맞힌 비율입니다.",
                ),
                (
                    right * 100,
                    f"{float(got):g} is in percent; return the share, between 0 and 1.",
                    f"{float(got):g}은 퍼센트입니다. 0과 1 사이의 비율을 돌려주십시오.",
                ),
                (
                    1 - right,
                    "this is the share of *misses*.",
                    "이것은 *틀린* 행의 비율입니다.",
                ),
            ),
        )
        if is_near(got, turned) and not is_near(turned, right):
            raise Wrong(
                f"Recall@{k} is {float(got):g} in your version: that is the other direction. Here "
                "each *row* is a query, so look for the largest along dim=1.",
                f"작성한 Recall@{k} 값 {float(got):g}은 반대 방향입니다. 여기서는 *행* 하나가 "
                "질의(query)이므로 dim=1을 따라 큰 값을 찾으십시오.",
            )
        if k > 1 and is_near(got, recall(scores, 1)):
            raise Wrong(
                f"for k = {k} you give the same {float(got):g} as for k = 1: does the function "
                "use `k`?",
                f"k = {k}에서도 k = 1과 같은 {float(got):g}이 나옵니다. 함수가 `k`를 사용합니까?",
            )
        if not is_near(got, right):
            raise Wrong(
                f"for a matrix of {n} x {n} you give Recall@{k} = {float(got):.3g}; expect "
                f"{right:.3g}. The right partner of row i is column i: a hit is a row whose own "
                f"number is among its {k} best columns.",
                f"{n} x {n} 행렬에서 Recall@{k} = {float(got):.3g}이 나옵니다. {right:.3g}이어야 "
                f"합니다. i번째 행의 정답은 i번째 열입니다. 가장 큰 열 {k}개 안에 자기 번호가 있는 "
                "행이 맞힌 행입니다.",
            )
    return Right(
        "Both Recall@1 and Recall@5 agree with a count made another way.",
        "Recall@1과 Recall@5 모두 다른 방법으로 센 값과 일치합니다.",
        recall_at_k,
    )


def value_5() -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
    """The position of the nearest class, for each picture."""
    return lambda image_vectors, class_vectors: (image_vectors @ class_vectors.T).argmax(dim=1)


def exercise_5(zero_shot: Any) -> Right:
    """`zero_shot(image_vectors, class_vectors)`: of (N, D) and (K, D), N positions."""
    rng = np.random.default_rng(5)
    n, classes, d = 7, 3, 6
    x, y = _unit(rng.normal(size=(n, d))), _unit(rng.normal(size=(classes, d)))
    cosines = x @ y.T
    right = cosines.argmax(axis=1)
    found = call(zero_shot, torch.tensor(x).float(), torch.tensor(y).float(), name="zero_shot")
    got = as_numbers(found, "`zero_shot(...)`")
    if got.shape in ((classes,), (1, classes)):
        raise Wrong(
            f"you return {classes} values, one for each class; here each *picture* is asked for "
            f"its class, so expect {n}: the largest along the axis of the classes, dim=1.",
            f"클래스마다 하나씩 값 {classes}개를 돌려줍니다. 여기서는 *사진*마다 클래스를 물으므로 "
            f"{n}개여야 합니다. 클래스 축 dim=1을 따라 가장 큰 것을 찾으십시오.",
        )
    if got.shape in ((n, classes), (classes, n)):
        raise Wrong(
            f"these are scores of shape {got.shape}; what is wanted is the position of the best "
            f"class for each picture, {n} whole numbers (`argmax`).",
            f"모양이 {got.shape}인 점수들입니다. 필요한 것은 사진마다 가장 잘 맞는 클래스의 위치, "
            f"곧 정수 {n}개(`argmax`)입니다.",
        )
    if got.shape != (n,):
        raise Wrong(
            f"for {n} pictures and {classes} classes you return {what(found).en}; expect shape "
            f"({n},).",
            f"사진 {n}장과 클래스 {classes}개에 대한 반환값: {what(found).ko}. 모양은 ({n},)이어야 "
            "합니다.",
        )
    name_mistake(
        got,
        (
            (
                cosines.max(axis=1),
                "these are the largest cosines; where they stand is the class (`argmax`).",
                "가장 큰 코사인 값들입니다. 클래스는 그 위치(`argmax`)입니다.",
            ),
            (
                right + 1,
                "you count classes from 1; positions begin at 0.",
                "클래스를 1부터 세고 있습니다. 위치는 0부터 셉니다.",
            ),
            (
                cosines.argmin(axis=1),
                "you choose the class that fits worst: `argmax`, not `argmin`.",
                "가장 맞지 않는 클래스를 고르고 있습니다. `argmin`이 아니라 `argmax`입니다.",
            ),
        ),
    )
    if not is_near(got, right):
        i = int(np.flatnonzero(got != right)[0])
        raise Wrong(
            f"picture {i} is nearest to class {right[i]} (cosine {cosines[i, right[i]]:.3f}); you "
            f"say {short(float(got[i]))}.",
            f"{i}번 사진에 가장 가까운 클래스는 {right[i]}번(코사인 "
            f"{cosines[i, right[i]]:.3f})인데, 답은 {short(float(got[i]))}입니다.",
        )
    return Right(
        "A classifier without a single labelled example: the class is a sentence.",
        "정답 표가 하나도 없는 분류기입니다. 클래스가 곧 문장입니다.",
        zero_shot,
    )
