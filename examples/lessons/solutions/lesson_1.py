"""Solutions of lesson 1: each function is the exercise cell of that name."""

import torch
from PIL import Image


def exercise_1():
    def cosine(a, b):
        a, b = a.float(), b.float()
        return (a @ b) / (a.norm() * b.norm())

    return (cosine,)


def exercise_2():
    def cosine_matrix(a, b):
        a = a / a.norm(dim=-1, keepdim=True)
        b = b / b.norm(dim=-1, keepdim=True)
        return a @ b.T

    return (cosine_matrix,)


def exercise_3(scores):
    best_position = scores.argmax()
    best_cosine = scores.max()
    top_three = scores.topk(3).indices
    return best_position, best_cosine, top_three


def exercise_4():
    def load_images(folder):
        images = [Image.open(path).convert("RGB") for path in sorted(folder.iterdir())]
        print(f"Total {len(images)} images are loaded!")
        return images

    return (load_images,)


def exercise_5(encoder):
    def embed_images(pictures):
        vectors = encoder.embed_images(pictures)
        print(f"Image Embedding's shape: {vectors.shape}")
        return vectors

    def embed_text(sentence):
        vector = encoder.embed_texts([sentence])
        print(f"Text Embedding's shape: {vector.shape}")
        return vector

    return embed_images, embed_text


def exercise_6(encoder, gallery_vectors):
    def top_1(sentence):
        vector = torch.from_numpy(encoder.embed_texts([sentence]))
        return int((gallery_vectors @ vector.T).squeeze(1).argmax())

    return (top_1,)


def exercise_7():
    sentences = [
        "a large purple star",
        "a green square and a blue square",
        "a pie chart with three slices, mostly turquoise",
        "a table with a blue header and a red cell",
        "a page with a black title and a turquoise stamp",
    ]
    return (sentences,)


def exercise_8():
    three_query = "a bar chart with red bars"
    return (three_query,)
