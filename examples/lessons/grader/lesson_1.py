"""Checks of lesson 1, multimodal embeddings with CLIP.

Right values are computed in NumPy, in float64; learners work in torch. Positions count from 0.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from textwrap import shorten
from typing import Any

import numpy as np
import torch
from PIL import Image

from encoderlab.data import open_image
from grader.phrases import Phrase, Right, Wrong, expect
from grader.values import (
    as_number,
    as_numbers,
    call,
    call_and_listen,
    check_printed,
    is_near,
    name_mistake,
    number_from,
    numbers_from,
    to_torch,
    unit,
)

# Two rows whose cosines are this close count as equal: rounding decides between them.
NEAR = 1e-4
PROBES = ("a red circle", "a table with a blue header", "a bar chart")
# The example by hand: one query and four vectors, of lengths 3 and 6, 3, 3, 3.
QUERY, FOUR = [[1, 2, 2]], [[2, 4, 4], [2, 1, 2], [2, -2, 1], [-1, -2, -2]]


def exercise_1(cosine: Any) -> Right:
    """`cosine(a, b)`: of two vectors (D,), as one number; whole numbers too."""
    x, y = np.array([1.0, 2.0, 2.0]), np.array([2.0, 0.0, 1.0])
    dot, long_x, long_y = float(x @ y), float(np.linalg.norm(x)), float(np.linalg.norm(y))
    right = dot / (long_x * long_y)
    found = call(cosine, to_torch(x), to_torch(y), name="cosine")
    got = as_numbers(found, "`cosine(a, b)`")
    mistakes = {
        "no_sum": x * y,
        "no_sum_divided": x * y / (long_x * long_y),
        "dot_product": dot,
        "one_length": (dot / long_x, dot / long_y),
        "squared_lengths": dot / (long_x * long_y) ** 2,
        "sum_of_lengths": dot / (long_x + long_y),
        "distance": 1 - right,
        "angle": np.arccos(right),
        "absolute_lengths": dot / (np.abs(x).sum() * np.abs(y).sum()),
    }
    name_mistake(got, mistakes, dot=dot, got=got)
    expect(not got.ndim, "one_number", found=found)
    expect(is_near(got, right), "wrong", got=got, dot=dot, long_x=long_x, long_y=long_y)
    back = number_from(cosine, to_torch(x), to_torch(-x), name="cosine")
    expect(is_near(back, -1.0), "opposite", back=back)
    try:
        got = number_from(cosine, torch.tensor([3, 4]), torch.tensor([4, 3]), name="cosine")
    except Wrong as wrong:
        reason = shorten(str(wrong.phrase.values.get("reason", "")), 90, placeholder=" …")
        raise Wrong("whole_error", reason=reason) from wrong
    expect(is_near(got, 0.96), "whole_rounded", got=got)
    return Right()


def exercise_2(cosine_matrix: Any) -> Right:
    """`cosine_matrix(a, b)`: of (N, D) and (M, D), the cosines (N, M)."""
    rng = np.random.default_rng(0)
    n, m, d = 4, 9, 6
    x, y = rng.normal(size=(n, d)) + 0.5, rng.normal(size=(m, d)) + 0.5
    right = unit(x) @ unit(y).T
    a, b = to_torch(x), to_torch(y)
    try:
        found = call(cosine_matrix, a, b, name="cosine_matrix")
    except Wrong as wrong:
        reason = wrong.phrase.values.get("reason", "")
        if "shapes cannot be multiplied" in reason or "must match the size" in reason:
            raise Wrong("not_turned", n=n, m=m, d=d) from wrong
        raise
    got = as_numbers(found, "`cosine_matrix(a, b)`")
    shapes = {"a": x.shape, "b": y.shape, "expected": (n, m)}
    expect(got.shape != (m, n), "transposed", got=got, **shapes)
    expect(got.shape == (n, m), "shape", found=found, **shapes)
    mistakes = {
        "dot_products": x @ y.T,
        "one_side": (unit(x) @ y.T, x @ unit(y).T),
        "columns": unit(x.T).T @ unit(y.T),
        "whole_matrix": x @ y.T / (np.linalg.norm(x) * np.linalg.norm(y)),
        "distances": 1 - right,
    }
    name_mistake(got, mistakes, largest=got.max())
    if not is_near(got, right):
        i, j = np.unravel_index(np.abs(got - right).argmax(), right.shape)
        raise Wrong("wrong", got=got, i=i, j=j, cell=got[i, j], expected=right[i, j])
    one = numbers_from(cosine_matrix, a, b[:1], name="cosine_matrix")
    expect(one.shape == (n, 1), "squeezed", b=(1, d), one=one, expected=(n, 1))
    got = numbers_from(cosine_matrix, to_torch(QUERY), to_torch(FOUR), name="cosine_matrix")
    expect(is_near(got, [[1, 8 / 9, 0, -1]]), "by_hand", got=got)
    return Right()


def exercise_3(
    best_position: Any, best_cosine: Any, top_three: Any, *, scores: torch.Tensor
) -> Right:
    """The position and value of the largest of `scores` (9,), and the three best positions."""
    cosines = scores.detach().cpu().double().numpy()
    n, order = len(cosines), np.argsort(-cosines, kind="stable").tolist()
    best, largest = order[0], cosines.max()
    where = as_numbers(best_position, "`best_position`")
    expect(where.size < 2 or where.any(), "zeros", size=where.size)
    expect(not where.ndim, "one_position", best_position=best_position)
    found = float(where)
    is_cosine = is_near(found, largest) and found != best
    expect(not is_cosine, "cosine_not_position", found=found)
    is_position = found == int(found) and -n <= found < n
    expect(is_position, "no_position", found=found, n=n, last=n - 1)
    if int(found) % n != best:
        hint = {order[-1]: "smallest", best + 1: "from_1"}.get(int(found))
        cosine = cosines[int(found)]
        raise Wrong("not_best", hint, found=int(found), cosine=cosine, largest=largest)
    value = as_number(best_cosine, "`best_cosine`")
    expect(value != best or is_near(value, largest), "position_not_cosine", value=value)
    expect(is_near(value, largest, 1e-3), "other_cosine", value=value, best=best)
    expect(not (isinstance(top_three, tuple) and hasattr(top_three, "indices")), "pair")
    expect(not isinstance(top_three, set), "set")
    listed = as_numbers(top_three, "`top_three`").ravel()
    mistakes = {
        "cosines_not_positions": cosines[order[:3]],
        "reversed": order[2::-1],
        "counts_from_1": [one + 1 for one in order[:3]],
        "worst": order[:-4:-1],
    }
    name_mistake(listed, mistakes)
    expect(len(listed) == 3, "length", n=len(listed))
    expect(is_near(listed, order[:3]), "wrong", top_three=top_three)
    return Right(best=best, cosine=largest, second=order[1], third=order[2])


def exercise_4(load_images: Any, *, folder: Path) -> Right:
    """`load_images(folder)`: every file as RGB, in order of names; prints the count."""
    paths = sorted(folder.iterdir())
    total = len(paths)
    found, printed = call_and_listen(load_images, folder, name="load_images")
    expect(isinstance(found, list | tuple), "no_list", found=found)
    n = len(found)
    if n != total:
        endings = sorted({path.suffix for path in paths})
        only = [e for e in endings if sum(path.suffix == e for path in paths) == n]
        hint, ending = ("only", only[0]) if only else (None, "")
        listed = ", ".join(endings)
        raise Wrong("count", hint, n=n, total=total, endings=listed, ending=ending)
    for number, (one, path) in enumerate(zip(found, paths, strict=True)):
        expect(isinstance(one, Image.Image), "no_picture", number=number, one=one)
        expect(one.mode == "RGB", "mode", number=number, name=path.name, mode=one.mode)
    thumbs = [_thumb(one) for one in found]
    wanted = [_thumb(open_image(path)) for path in paths]
    off = [i for i in range(n) if not is_near(thumbs[i], wanted[i], 12)]
    if off:
        same = [j for j in range(n) if is_near(thumbs[off[0]], wanted[j], 12)]
        if same and len(off) > 2:
            raise Wrong("order", n=n, number=off[0], name=paths[same[0]].name)
        raise Wrong("other_picture", number=off[0], name=paths[off[0]].name)
    check_printed(printed, f"Total {total} images are loaded!", "load_images")
    # The number must come from the folder and not from the text of the task.
    with tempfile.TemporaryDirectory() as other:
        for path in paths[:3]:
            shutil.copy(path, other)
        few, heard = call_and_listen(load_images, Path(other), name="load_images")
    counts = isinstance(few, list | tuple) and len(few) == 3 and "Total 3 images are" in heard
    said = (heard.strip().splitlines() or [""])[-1][:80]
    expect(counts, "hard_coded", few=few, said=said)
    print(printed, end="")
    return Right(list(found))


def _thumb(image: Image.Image) -> np.ndarray:
    """A thumbnail: distinguishes pictures, and hardly depends on the colour behind transparency."""
    return np.asarray(image.resize((16, 16)), dtype=float)


_kept: tuple[Any, Any, np.ndarray] | None = None


def _embedded(encoder: Any, gallery: Sequence[Image.Image]) -> np.ndarray:
    """The vectors of the gallery (n, D), cached for further attempts."""
    global _kept
    if _kept is None or _kept[0] is not encoder or _kept[1] is not gallery:
        _kept = encoder, gallery, encoder.embed_images(list(gallery)).astype(float)
    return _kept[2]


def exercise_5(
    embed_images: Any, embed_text: Any, *, encoder: Any, gallery: Sequence[Image.Image]
) -> Right:
    """`embed_images(pictures)` (n, D) and `embed_text(sentence)` (1, D); both print the shape."""
    n, d = expected = len(gallery), encoder.dim
    found, printed = call_and_listen(embed_images, list(gallery), name="embed_images")
    is_listed = isinstance(found, list | tuple) and found and not np.isscalar(found[0])
    expect(not is_listed, "list_of_vectors", found=found, expected=expected)
    got = as_numbers(found, "`embed_images(...)`")
    expect(got.shape != (d, n), "transposed", got=got, expected=expected)
    expect(got.shape == (n, d), "shape", got=got, expected=expected, n=n, d=d)
    off = np.flatnonzero(_row_cosines(got, _embedded(encoder, gallery)) < 1 - 1e-3)
    expect(not len(off), "other_vectors", n=len(off), number=off[0] if len(off) else 0)
    _check_shape_printed(printed, f"Image Embedding's shape: {(n, d)}", "embed_images")
    print(printed, end="")
    for sentence in PROBES[:2]:
        found, printed = call_and_listen(embed_text, sentence, name="embed_text")
        vector = as_numbers(found, "`embed_text(...)`")
        expect(vector.shape != (d,), "no_batch", d=d)
        expect(vector.shape == (1, d), "text_shape", got=vector, d=d)
        wanted = encoder.embed_texts([sentence]).astype(float)
        expect(_row_cosines(vector, wanted)[0] >= 1 - 1e-3, "other_text", sentence=sentence)
        _check_shape_printed(printed, f"Text Embedding's shape: (1, {d})", "embed_text")
    print(printed, end="")
    return Right(torch.from_numpy(got).float(), d=d)


def _check_shape_printed(printed: str, expected: str, name: str) -> None:
    is_size = "torch.Size" in printed and expected not in printed
    heard = printed.strip()[:80]
    expect(not is_size, "torch_size", name=name, heard=heard, expected=expected)
    check_printed(printed, expected, name)


def _row_cosines(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return (a * b).sum(axis=1) / np.maximum(lengths, 1e-12)


def exercise_6(top_1: Any, *, encoder: Any, gallery_vectors: torch.Tensor, sentence: str) -> Right:
    """`top_1(sentence)`: the position of the best picture in the gallery."""
    n = len(gallery_vectors)
    for asked in (sentence, *PROBES):
        scores = _scores(encoder, gallery_vectors, asked)
        best, largest = int(scores.argmax()), scores.max()
        found = call(top_1, asked, name="top_1")
        expect(not isinstance(found, Image.Image), "picture")
        got = as_numbers(found, "`top_1(...)`")
        if got.size != 1:
            raise Wrong("several", None if got.any() else "wrong_axis", found=found)
        number = float(got.reshape(()))
        is_cosine = is_near(number, largest) and number != best
        expect(not is_cosine, "cosine", asked=asked, number=number)
        is_position = number == int(number) and 0 <= number < n
        expect(is_position, "no_position", asked=asked, number=number, last=n - 1)
        cosine, number = scores[int(number)], int(number)
        if cosine < largest - NEAR:
            hints = (
                "worst" if number == scores.argmin() else None,
                None if asked == sentence else "same_for_all",
            )
            values = {"asked": asked, "number": number, "cosine": cosine, "largest": largest}
            raise Wrong("not_best", *hints, **values)
    best = int(_scores(encoder, gallery_vectors, sentence).argmax())
    return Right(best, n=n, sentence=sentence, best=best)


def exercise_7(
    sentences: Any, *, encoder: Any, gallery_vectors: torch.Tensor, targets: Sequence[int]
) -> Right:
    """A sentence for each of the `targets` that finds it among all."""
    total = len(targets)
    expect(isinstance(sentences, list | tuple), "no_list", total=total, sentences=sentences)
    expect(len(sentences) == total, "length", n=len(sentences), total=total)
    is_open = [one is ... or one == "" for one in sentences]
    if all(is_open):
        raise Wrong("not_answered", state="open")
    problems = []
    for number, (said, target) in enumerate(zip(sentences, targets, strict=True), start=1):
        if is_open[number - 1]:
            problems.append(Phrase("open", number=number))
            continue
        expect(isinstance(said, str), "no_text", number=number, said=said)
        scores = _scores(encoder, gallery_vectors, said)
        place, best = int((scores > scores[target] + NEAR).sum()) + 1, int(scores.argmax())
        if place > 1:
            problem = Phrase("other", number=number, best=best, target=target, place=place)
            problems.append(problem)
    done = total - len(problems)
    expect(not problems, "not_found", done=done, total=total, problems=problems)
    return Right(total=total, n=len(gallery_vectors))


def exercise_8(
    three_query: Any, *, encoder: Any, gallery_vectors: torch.Tensor, targets: Sequence[int]
) -> Right:
    """A sentence whose first three results are the `targets`, in any order."""
    if three_query == "":
        raise Wrong("not_answered", state="open")
    expect(isinstance(three_query, str), "no_text", query=three_query)
    scores = _scores(encoder, gallery_vectors, three_query)
    order, total = np.argsort(-scores, kind="stable").tolist(), len(targets)
    found = order[:total]
    first = ", ".join(map(str, found))
    others, lost = [i for i in found if i not in targets], [i for i in targets if i not in found]
    if others:
        missing = [Phrase("missing", number=i, place=order.index(i) + 1) for i in lost]
        values = {"query": three_query, "first": first, "other": others[0], "missing": missing}
        raise Wrong("others", n=total - len(others), total=total, **values)
    return Right(first=first)


def _scores(encoder: Any, gallery_vectors: torch.Tensor, sentence: str) -> np.ndarray:
    """Cosines (n,) of the gallery with a sentence."""
    images = gallery_vectors.double().numpy()
    text = encoder.embed_texts([sentence])[0].astype(float)
    return images @ text / np.maximum(np.linalg.norm(images, axis=1) * np.linalg.norm(text), 1e-12)
