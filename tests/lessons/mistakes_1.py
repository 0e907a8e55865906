"""Answers of learners to lesson 1, and what the grader has to say to them."""

import os
from functools import cache
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image


def unit(rows, dim=-1):
    return rows / rows.norm(dim=dim, keepdim=True)


def cosine(a, b):
    a, b = a.float(), b.float()
    return a @ b / (a.norm() * b.norm())


def cosine_in_python(a, b):
    dot = sum(x * y for x, y in zip(a.tolist(), b.tolist(), strict=True))
    return dot / (sum(x * x for x in a.tolist()) * sum(y * y for y in b.tolist())) ** 0.5


def one_row_loses_its_axis(a, b):
    return unit(a) @ unit(b).T if len(a) > 1 else unit(a)[0] @ unit(b).T


SCORES = torch.tensor([0.1, 0.2, -0.1, 0.0, 0.59, 0.63, 0.5, 0.3, -0.3])
POSITIONS = (5, 0.63, [5, 4, 6])


def instead(place, answer):
    """The right positions and values with another answer at one place."""
    return *POSITIONS[:place], answer, *POSITIONS[place + 1 :]


@cache
def folder() -> Path:
    """The two hundred files, fewer of them: what matters is in every twenty."""
    import pictures

    target = Path(os.environ["XDG_CACHE_HOME"]) / "some"
    target.mkdir()
    for number in range(20):
        pictures._write(number, target)
    return target


def by_name(folder):
    return sorted(folder.iterdir())


def pngs(folder):
    return sorted(folder.glob("*.png"))


def loader(find, change=lambda image: image.convert("RGB"), line="Total {} images are loaded!"):
    def load_images(folder):
        images = [change(Image.open(path)) for path in find(folder)]
        if line:
            print(line.format(len(images)))
        return images

    return load_images


@cache
def encoder():
    from encoderlab import load_dual

    return load_dual("tiny-clip", device="cpu", dtype="float32")


@cache
def gallery():
    import pictures

    return [pictures.item(number).image for number in range(12)]


@cache
def gallery_vectors():
    return torch.from_numpy(images_of(gallery()))


def images_of(pictures):
    return encoder().embed_images(pictures)


def texts_of(texts):
    return encoder().embed_texts(texts)


def embedding(make, line):
    def embed(given):
        vectors = make(given)
        print(line.format(getattr(vectors, "shape", None)))
        return vectors

    return embed


RIGHT_IMAGES = embedding(images_of, "Image Embedding's shape: {}")
TEXT_LINE = "Text Embedding's shape: {}"
RIGHT_TEXT = embedding(lambda sentence: texts_of([sentence]), TEXT_LINE)


def top_1(choose):
    """A function of a sentence that answers `choose(scores of the gallery)`."""
    return lambda s: choose(gallery_vectors() @ torch.from_numpy(texts_of([s]))[0])


def embedded():
    return {"encoder": encoder(), "gallery_vectors": gallery_vectors()}


GIVEN = {
    3: lambda: {"scores": SCORES},
    4: lambda: {"folder": folder()},
    5: lambda: {"encoder": encoder(), "gallery": gallery()},
    6: lambda: {"sentence": "a large brown circle", **embedded()},
    7: lambda: {"targets": (5, 10), **embedded()},
    8: lambda: {"targets": (3, 5, 8), **embedded()},
}
RIGHT = [
    (1, cosine),
    (1, lambda a, b: F.cosine_similarity(a.float(), b.float(), dim=0).item()),
    (1, cosine_in_python),
    (3, SCORES.argmax(), SCORES.max(), SCORES.topk(3).indices),
    (4, loader(by_name)),
    (7, ["a large brown circle", "a small brown triangle"]),
    (8, "a circle"),
    (8, "circles"),
]
MISTAKES = [
    (1, lambda a, b: a.float() @ b.float(), "dot product: you have not yet divided"),
    (1, lambda a, b: a * b, "do not add up"),
    (1, lambda a, b: unit(a) * unit(b), "do not add up the products"),
    (1, lambda a, b: a @ b / a.norm(), "one of the two lengths only"),
    (1, lambda a, b: a @ b / b.norm(), "one of the two lengths only"),
    (1, lambda a, b: a @ b / ((a @ a) * (b @ b)), "square *root*"),
    (1, lambda a, b: a @ b / (a.norm() + b.norm()), "their product"),
    (1, lambda a, b: 1 - cosine(a, b), "*distance*"),
    (1, lambda a, b: torch.arccos(cosine(a, b)), "angle itself"),
    (1, lambda a, b: a @ b / (a.abs().sum() * b.abs().sum()), "absolute values"),
    (1, lambda a, b: cosine(a, b).abs(), "opposite directions have the cosine -1"),
    (1, lambda a, b: cosine(a, b).clamp(min=0), "opposite directions have the cosine -1"),
    (1, lambda a, b: a @ b / (a.norm() * b.norm()), "begin with `.float()`"),
    (1, lambda a, b: F.cosine_similarity(a, b, dim=0), "begin with `.float()`"),
    (1, lambda a, b: cosine(a, b) if a.is_floating_point() else 1, "Something is rounded"),
    (1, lambda a, b: F.cosine_similarity(a[None].float(), b[None].float()), "one number"),
    (1, lambda a, b: None, "is a `return` missing?"),
    (1, lambda a, b: "0.6", "should hold numbers"),
    (1, lambda a, b: float("nan"), "NaN"),
    (1, lambda a, b: 0.1, "Their dot product is 4, their lengths are 3 and 2.236"),
    (1, lambda a: a, "raised an error"),
    (1, torch.tensor(0.6), "should be a function; it is a tensor 0.6, float32"),
    (2, lambda a, b: unit(b) @ unit(a).T, "your matrix is (9, 4), transposed: row i must be"),
    (2, lambda a, b: a @ b.T, "these are dot products"),
    (2, lambda a, b: unit(a) @ b.T, "only one of the two inputs"),
    (2, lambda a, b: a @ unit(b).T, "only one of the two inputs"),
    (2, lambda a, b: unit(a, 0) @ unit(b, 0).T, "the columns to length 1 (dim=0)"),
    (2, lambda a, b: a @ b.T / (a.norm() * b.norm()), "length of the whole matrix"),
    (2, lambda a, b: 1 - unit(a) @ unit(b).T, "distances"),
    (2, lambda a, b: unit(a) @ unit(b), "one of the two must be turned (`.T`)"),
    (2, lambda a, b: F.cosine_similarity(a, b), "one of the two must be turned (`.T`)"),
    (2, lambda a, b: (unit(a) @ unit(b).T).max(dim=1).values, "expect (4, 9)"),
    (2, lambda a, b: (unit(a) @ unit(b).T) ** 2, "of exercise 1 would be"),
    (2, lambda a, b: (unit(a) @ unit(b).T).squeeze(), "keep the axis"),
    (2, one_row_loses_its_axis, "shape (1, 4)"),
    (2, lambda a, b: a / 0, "NaN or infinite"),
    (2, lambda a, b: ..., "not yet answered"),
    (3, *instead(0, SCORES.max()), "that is the cosine of the best picture"),
    (3, *instead(0, 6), "Do you count from 1?"),
    (3, *instead(0, 8), "smallest of them all"),
    (3, *instead(0, 0), "and another one has 0.630"),
    (3, *instead(0, SCORES[:, None].argmax(dim=1)), "9 zeros"),
    (3, *instead(0, [5]), "one whole number"),
    (3, *instead(0, "a bar chart"), "should hold numbers"),
    (3, *instead(0, 99), "whole number from 0 to 8"),
    (3, *instead(1, 5), "that is the position"),
    (3, *instead(1, 0.2), "another number at position 5"),
    (3, *instead(1, None), "should hold numbers; you have given None"),
    (3, *instead(2, SCORES.topk(3)), "the pair that `topk` returns"),
    (3, *instead(2, SCORES.topk(3).values), "three largest cosines"),
    (3, *instead(2, SCORES.sort().indices[-3:]), "turn the order around"),
    (3, *instead(2, [6, 5, 7]), "count from 1"),
    (3, *instead(2, SCORES.sort().indices[:3]), "three worst"),
    (3, *instead(2, {4, 5, 6}), "no order"),
    (3, *instead(2, [5, 4]), "2 entries; expect 3"),
    (3, *instead(2, [5, 4, 1]), "not the three largest in order"),
    (3, *instead(2, ...), "`top_three` is not yet answered"),
    (4, loader(by_name, lambda image: image), "003.png) has the mode 'L' instead of 'RGB'"),
    (4, loader(pngs), "Do you load .png files only?"),
    (4, loader(pngs), "endings .jpeg, .jpg, .png"),
    (4, loader(lambda f: by_name(f)[::-1]), "sort the paths"),
    (4, loader(by_name, lambda image: image.convert("RGB").rotate(90)), "does not look like"),
    (4, loader(by_name, np.asarray), "entry 0 of your list is an array"),
    (4, loader(by_name, line=""), "prints nothing; expect `Total 20 images are loaded!`"),
    (4, loader(by_name, line="{} images"), "prints `20 images`; expect `Total 20 images"),
    (4, loader(by_name, line="Total 20 images are loaded!"), "another one of 3 files"),
    (4, lambda folder: print("Total 20 images are loaded!"), "is a `return` missing?"),
    (4, lambda folder: len(by_name(folder)), "a list of pictures; it returns the number 20"),
    (4, by_name, "expect an opened picture"),
    (4, lambda folder: Image.open(folder), "raised an error"),
    (5, lambda p: images_of(p).T, RIGHT_TEXT, "are (128, 12), transposed"),
    (5, lambda p: [images_of([one]) for one in p], RIGHT_TEXT, "into one tensor"),
    (5, lambda p: images_of(p[:1]), RIGHT_TEXT, "shape (1, 128); expect (12, 128)"),
    (5, lambda p: images_of(p[::-1]), RIGHT_TEXT, "are not the vectors of their"),
    (5, images_of, RIGHT_TEXT, "prints nothing"),
    (5, RIGHT_IMAGES, lambda s: texts_of([s])[0], "the batch dimension is missing"),
    (5, RIGHT_IMAGES, texts_of, "prints nothing"),
    (5, RIGHT_IMAGES, lambda s: texts_of([s, s]), "shape (2, 128); expect (1, 128)"),
    (5, RIGHT_IMAGES, lambda s: texts_of(["a cat"]), "not the vector of 'a red circle'"),
    (5, RIGHT_IMAGES, lambda s: texts_of([s]), "prints nothing"),
    (5, RIGHT_IMAGES, embedding(lambda s: torch.from_numpy(texts_of([s])), TEXT_LINE),
     "`tuple(vectors.shape)`"),
    (6, top_1(lambda scores: scores.max()), "which is the best cosine"),
    (6, top_1(lambda scores: scores.argmin()), "`argmax`, not `argmin`"),
    (6, top_1(lambda scores: gallery()[int(scores.argmax())]), "returns the picture itself"),
    (6, top_1(lambda scores: scores[:, None].argmax(dim=1)), "the axis of the one sentence"),
    (6, top_1(lambda scores: scores.topk(2).indices), "instead of one position"),
    (6, top_1(lambda scores: 99), "whole number from 0 to 11"),
    (6, top_1(lambda scores: "5"), "should hold numbers"),
    (6, lambda sentence: 5, "Does the function use the sentence"),
    (7, [..., ...], "not yet answered"),
    (7, ["", ""], "not yet answered"),
    (7, ["a large brown circle", ...], "1 of 2 are found. sentence 2 is not yet there"),
    (7, ["a table", "a table"], "the one you want, 5, comes at place"),
    (7, "a large brown circle", "a list of 2 sentences"),
    (7, ["a large brown circle"], "1 entries; there are 2"),
    (7, ["a large brown circle", 7], "sentence 2 is the number 7"),
    (8, "", "not yet answered"),
    (8, ..., "not yet answered"),
    (8, ["a heart"], "expect one sentence in quotes"),
    (8, "a triangle", "finds 10, 3, 8: 2 of the 3 wanted. Missing: picture 5 (place"),
    (8, "a bar chart", "What do the wanted pictures have that picture 6 does not"),
]  # fmt: skip
