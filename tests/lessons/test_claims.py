"""What the lessons say in words about what their cells show."""

import re

import pytest
from tests.lessons.notebooks import source_of

from encoderlab.zoo import ZOO

FIRST, SECOND = "1_multimodal_embeddings.py", "2_train_your_own_clip.py"
SIXTH = "6_answers_of_a_vlm.py"


@pytest.mark.slow
def test_lesson_1_shows_what_it_says(solved):
    ran = solved(FIRST)
    similarity = ran.defs["similarity"]
    assert similarity.argmax(dim=0).tolist() == similarity.argmax(dim=1).tolist() == list(range(9))
    assert "argmax: tensor(2)" in ran.printed and "max:    tensor(99)" in ran.printed
    assert "a large purple star: picture 90" in ran.printed, "the one with a large purple star"
    assert "Total 200 images are loaded!" in ran.printed
    assert "Image Embedding's shape: (200, 128)" in ran.printed
    assert "Text Embedding's shape: (1, 128)" in ran.printed
    colour, grey = (
        int(re.search(rf"{word}: +(\d+)% of", ran.printed)[1]) for word in ("in colour", "grey")
    )
    assert colour > 80 and grey < 20, "grey pictures are not found by their colours"


@pytest.mark.slow
def test_lesson_2_shows_what_it_says(solved):
    ran = solved(SECOND)
    held_out, untrained, seen = (
        {k: found[1] for k, found in ran.defs["recalls"][name].items()}
        for name in ("trained, held out", "untrained, held out", "trained, seen in training")
    )
    assert held_out[5] > 0.6 > 0.15 > untrained[5]
    assert sum(seen.values()) > sum(held_out.values()), "what a leak would have sold"
    assert held_out[1] > 0.15 > untrained[1]
    for found in ran.defs["recalls"].values():
        for ours, theirs in found.values():
            assert float(ours) == pytest.approx(theirs), "Recall@K by hand is the library's"
    assert ran.defs["losses"][0] == pytest.approx(4.159, abs=0.3), "training begins at ln 64"
    accuracies = ran.defs["accuracies"]
    assert accuracies["colour"] > 0.6 and accuracies["shape"] < 0.35, "colours, hardly shapes"
    without_shapes = int(re.search(r"but shapes:\s+Recall@1 (\d+)%", ran.printed)[1]) / 100
    assert without_shapes > held_out[1]


def test_lesson_6_names_the_numbers_of_the_card_of_tiny_vlm():
    card = (ZOO / "tiny-vlm" / "README.md").read_text(encoding="utf-8")
    row = re.search(r"synthetic world, English \| all \| 1,000 \|(.*)", card)[1].split("|")
    right, untrained = row[0].split("[")[0].strip(), row[3].split("[")[0].strip()
    steps = re.search(r"([\d,]+) optimiser steps", card)[1]
    source = source_of(SIXTH)
    for number in (right, untrained.removesuffix(" %"), steps):
        assert source.count(number) == 2, "in English and in Korean"
