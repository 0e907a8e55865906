"""What the grader says to the mistakes that learners make in lesson 1."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

LESSON = 1


def unit(rows, dim=-1):
    return rows / rows.norm(dim=dim, keepdim=True)


def cosine(a, b):
    a, b = a.float(), b.float()
    return a @ b / (a.norm() * b.norm())


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (lambda a, b: a.float() @ b.float(), "dot product: you have not yet divided"),
        (lambda a, b: a * b, "do not add up"),
        (lambda a, b: unit(a) * unit(b), "do not add up the products"),
        (lambda a, b: a @ b / a.norm(), "one of the two lengths only"),
        (lambda a, b: a @ b / b.norm(), "one of the two lengths only"),
        (lambda a, b: a @ b / ((a @ a) * (b @ b)), "square *root*"),
        (lambda a, b: a @ b / (a.norm() + b.norm()), "their product"),
        (lambda a, b: 1 - cosine(a, b), "*distance*"),
        (lambda a, b: torch.arccos(cosine(a, b)), "angle itself"),
        (lambda a, b: a @ b / (a.abs().sum() * b.abs().sum()), "absolute values"),
        (lambda a, b: cosine(a, b).abs(), "opposite directions have the cosine -1"),
        (lambda a, b: cosine(a, b).clamp(min=0), "opposite directions have the cosine -1"),
        (lambda a, b: a @ b / (a.norm() * b.norm()), "begin with `.float()`"),
        (lambda a, b: F.cosine_similarity(a, b, dim=0), "begin with `.float()`"),
        (lambda a, b: cosine(a, b) if a.is_floating_point() else 1, "Something is rounded"),
        (lambda a, b: F.cosine_similarity(a[None].float(), b[None].float()), "one number"),
        (lambda a, b: None, "is a `return` missing?"),
        (lambda a, b: "0.6", "should hold numbers"),
        (lambda a, b: float("nan"), "NaN"),
        (lambda a, b: 0.1, "Their dot product is 4, their lengths are 3 and 2.236"),
        (lambda a: a, "raised an error"),
        (torch.tensor(0.6), "should be a function; it is a tensor 0.6, float32"),
    ],
)
def test_cosine(answer, said, says):
    verdict = says(1, answer)
    assert verdict.state == "wrong" and said in verdict.text


@pytest.mark.parametrize(
    "answer",
    [
        cosine,
        lambda a, b: F.cosine_similarity(a.float(), b.float(), dim=0).item(),
        lambda a, b: (
            sum(x * y for x, y in zip(a.tolist(), b.tolist(), strict=True))
            / (sum(x * x for x in a.tolist()) * sum(y * y for y in b.tolist())) ** 0.5
        ),
    ],
)
def test_cosine_is_right_however_it_is_written(answer, says):
    assert says(1, answer).state == "right"


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (lambda a, b: unit(b) @ unit(a).T, "your matrix is (9, 4), transposed: row i must be"),
        (lambda a, b: a @ b.T, "these are dot products"),
        (lambda a, b: unit(a) @ b.T, "only one of the two inputs"),
        (lambda a, b: a @ unit(b).T, "only one of the two inputs"),
        (lambda a, b: unit(a, 0) @ unit(b, 0).T, "the columns to length 1 (dim=0)"),
        (lambda a, b: a @ b.T / (a.norm() * b.norm()), "length of the whole matrix"),
        (lambda a, b: 1 - unit(a) @ unit(b).T, "distances"),
        (lambda a, b: unit(a) @ unit(b), "one of the two must be turned (`.T`)"),
        (lambda a, b: F.cosine_similarity(a, b), "one of the two must be turned (`.T`)"),
        (lambda a, b: (unit(a) @ unit(b).T).max(dim=1).values, "expect (4, 9)"),
        (lambda a, b: (unit(a) @ unit(b).T) ** 2, "of exercise 1 would be"),
        (lambda a, b: (unit(a) @ unit(b).T).squeeze(), "keep the axis"),
        (
            lambda a, b: unit(a) @ unit(b).T if len(a) > 1 else unit(a)[0] @ unit(b).T,
            "shape (1, 4)",
        ),
        (lambda a, b: a / 0, "NaN or infinite"),
        (lambda a, b: ..., "not yet answered"),
    ],
)
def test_cosine_matrix(answer, said, says):
    verdict = says(2, answer)
    assert verdict.state != "right" and said in verdict.text


SCORES = torch.tensor([0.1, 0.2, -0.1, 0.0, 0.59, 0.63, 0.5, 0.3, -0.3])
RIGHT = (5, 0.63, [5, 4, 6])


@pytest.mark.parametrize(
    ("place", "answer", "said"),
    [
        (0, SCORES.max(), "that is the cosine of the best picture"),
        (0, 6, "Do you count from 1?"),
        (0, 8, "smallest of them all"),
        (0, 0, "and another one has 0.630"),
        (0, SCORES[:, None].argmax(dim=1), "9 zeros"),
        (0, [5], "one whole number"),
        (0, "a bar chart", "should hold numbers"),
        (0, 99, "whole number from 0 to 8"),
        (1, 5, "that is the position"),
        (1, 0.2, "another number at position 5"),
        (1, None, "should hold numbers; you have given None"),
        (2, SCORES.topk(3), "the pair that `topk` returns"),
        (2, SCORES.topk(3).values, "three largest cosines"),
        (2, SCORES.sort().indices[-3:], "turn the order around"),
        (2, [6, 5, 7], "count from 1"),
        (2, SCORES.sort().indices[:3], "three worst"),
        (2, {4, 5, 6}, "no order"),
        (2, [5, 4], "2 entries; expect 3"),
        (2, [5, 4, 1], "not the three largest in order"),
        (2, ..., "`top_three` is not yet answered"),
    ],
)
def test_positions_and_values(place, answer, said, says):
    answers = [*RIGHT[:place], answer, *RIGHT[place + 1 :]]
    verdict = says(3, *answers, scores=SCORES)
    assert verdict.state != "right" and said in verdict.text


def test_positions_may_be_tensors(says):
    top = SCORES.topk(3)
    assert says(3, SCORES.argmax(), SCORES.max(), top.indices, scores=SCORES).state == "right"


@pytest.fixture(scope="session")
def folder(cache) -> Path:
    """The two hundred files, fewer of them: what matters is in every twenty."""
    import pictures

    target = cache / "some"
    target.mkdir()
    for number in range(20):
        pictures._write(number, target)
    return target


def loader(find, change=lambda image: image.convert("RGB"), said="Total {} images are loaded!"):
    def load_images(folder):
        images = [change(Image.open(path)) for path in find(folder)]
        print(said.format(len(images)))
        return images

    return load_images


def by_name(folder):
    return sorted(folder.iterdir())


def silent(folder):
    return [Image.open(path).convert("RGB") for path in by_name(folder)]


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (loader(by_name, lambda image: image), "003.png) has the mode 'L' instead of 'RGB'"),
        (loader(lambda f: sorted(f.glob("*.png"))), "Do you load .png files only?"),
        (loader(lambda f: sorted(f.glob("*.png"))), "endings .jpeg, .jpg, .png"),
        (loader(lambda f: by_name(f)[::-1]), "sort the paths"),
        (loader(by_name, lambda image: image.convert("RGB").rotate(90)), "does not look like"),
        (loader(by_name, np.asarray), "entry 0 of your list is an array"),
        (silent, "prints nothing; expect `Total 20 images are loaded!`"),
        (loader(by_name, said="{} images"), "prints `20 images`; expect `Total 20 images"),
        (loader(by_name, said="Total 20 images are loaded!"), "another one of 3 files"),
        (lambda folder: print("Total 20 images are loaded!"), "is a `return` missing?"),
        (lambda folder: len(by_name(folder)), "a list of pictures; it returns the number 20"),
        (lambda folder: by_name(folder), "expect an opened picture"),
        (lambda folder: Image.open(folder), "raised an error"),
    ],
)
def test_loading(answer, said, says, folder):
    verdict = says(4, answer, folder=folder)
    assert verdict.state == "wrong" and said in verdict.text


def test_loading_is_right_and_prints_once(says, folder, capsys):
    assert says(4, loader(by_name), folder=folder).state == "right"
    assert capsys.readouterr().out.count("Total 20 images are loaded!") == 1


@pytest.fixture(scope="session")
def encoder():
    from encoderlab import load_dual

    return load_dual("tiny-clip", device="cpu", dtype="float32")


@pytest.fixture(scope="session")
def gallery():
    import pictures

    return [pictures.item(number).image for number in range(12)]


def embedding(make, line):
    def embed(given):
        vectors = make(given)
        print(line.format(getattr(vectors, "shape", None)))
        return vectors

    return embed


IMAGE, TEXT = "Image Embedding's shape: {}", "Text Embedding's shape: {}"


@pytest.mark.parametrize(
    ("images", "text", "said"),
    [
        (lambda e: lambda p: e.embed_images(p).T, None, "are (128, 12), transposed"),
        (lambda e: lambda p: [e.embed_images([one]) for one in p], None, "into one tensor"),
        (lambda e: lambda p: e.embed_images(p[:1]), None, "shape (1, 128); expect (12, 128)"),
        (lambda e: lambda p: e.embed_images(p[::-1]), None, "are not the vectors of their"),
        (lambda e: lambda p: e.embed_images(p), None, "prints nothing"),
        (None, lambda e: lambda s: e.embed_texts([s])[0], "the batch dimension is missing"),
        (None, lambda e: lambda s: e.embed_texts(s), "prints nothing"),
        (None, lambda e: lambda s: e.embed_texts([s, s]), "shape (2, 128); expect (1, 128)"),
        (None, lambda e: lambda s: e.embed_texts(["a cat"]), "not the vector of 'a red circle'"),
        (None, lambda e: lambda s: e.embed_texts([s]), "prints nothing"),
        (
            None,
            lambda e: embedding(lambda s: torch.from_numpy(e.embed_texts([s])), TEXT),
            "`tuple(vectors.shape)`",
        ),
    ],
)
def test_embedding(images, text, said, says, encoder, gallery):
    images = images(encoder) if images else embedding(encoder.embed_images, IMAGE)
    text = text(encoder) if text else embedding(lambda s: encoder.embed_texts([s]), TEXT)
    verdict = says(5, images, text, encoder=encoder, gallery=gallery)
    assert verdict.state == "wrong" and said in verdict.text


@pytest.fixture(scope="session")
def gallery_vectors(encoder, gallery):
    return torch.from_numpy(encoder.embed_images(gallery))


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (lambda scores, gallery: scores.max(), "which is the best cosine"),
        (lambda scores, gallery: scores.argmin(), "`argmax`, not `argmin`"),
        (lambda scores, gallery: gallery[int(scores.argmax())], "returns the picture itself"),
        (lambda scores, gallery: scores[:, None].argmax(dim=1), "the axis of the one sentence"),
        (lambda scores, gallery: scores.topk(2).indices, "instead of one position"),
        (lambda scores, gallery: 99, "whole number from 0 to 11"),
        (lambda scores, gallery: "5", "should hold numbers"),
    ],
)
def test_top_1(answer, said, says, encoder, gallery, gallery_vectors):
    def top_1(sentence):
        scores = gallery_vectors @ torch.from_numpy(encoder.embed_texts([sentence]))[0]
        return answer(scores, gallery)

    given = {"encoder": encoder, "gallery_vectors": gallery_vectors}
    verdict = says(6, top_1, sentence="a large brown circle", **given)
    assert verdict.state == "wrong" and said in verdict.text


def test_top_1_must_use_its_sentence(says, encoder, gallery_vectors):
    given = {"encoder": encoder, "gallery_vectors": gallery_vectors}
    verdict = says(6, lambda sentence: 5, sentence="a large brown circle", **given)
    assert "Does the function use the sentence" in verdict.text


@pytest.mark.parametrize(
    ("sentences", "state", "said"),
    [
        ([..., ...], "open", "not yet answered"),
        (["", ""], "open", "not yet answered"),
        (["a large brown circle", ...], "wrong", "1 of 2 are found. sentence 2 is not yet there"),
        (["a table", "a table"], "wrong", "the one you want, 5, comes at place"),
        ("a large brown circle", "wrong", "a list of 2 sentences"),
        (["a large brown circle"], "wrong", "1 entries; there are 2"),
        (["a large brown circle", 7], "wrong", "sentence 2 is the number 7"),
        (["a large brown circle", "a small brown triangle"], "right", "All 2 pictures"),
    ],
)
def test_sentences(sentences, state, said, says, encoder, gallery_vectors):
    given = {"encoder": encoder, "gallery_vectors": gallery_vectors}
    verdict = says(7, sentences, targets=(5, 10), **given)
    assert verdict.state == state and said in verdict.text


@pytest.mark.parametrize(
    ("query", "state", "said"),
    [
        ("", "open", "not yet answered"),
        (..., "open", "not yet answered"),
        (["a heart"], "wrong", "expect one sentence in quotes"),
        ("a table", "wrong", "finds 4, 5, 1: 1 of the 3 wanted. Missing: picture 0 (place"),
        ("a bar chart", "wrong", "What do the wanted pictures have that picture 6 does not"),
        ("a large brown circle", "right", "The first three results are"),
    ],
)
def test_a_query_with_given_results(query, state, said, says, encoder, gallery_vectors):
    given = {"encoder": encoder, "gallery_vectors": gallery_vectors}
    verdict = says(8, query, targets=(0, 5, 10), **given)
    assert verdict.state == state and said in verdict.text
