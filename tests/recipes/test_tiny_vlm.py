"""The bundled VLM: small, with a card, and right about what it was trained for."""

import pytest

from encoderlab.compression.answers import shuffling_vlms
from encoderlab.encoders.checkpoint import bundled_models
from encoderlab.metrics.answers import exact_match
from encoderlab.vlm.model import VLM
from encoderlab.vlm.questions import synthetic_questions
from encoderlab.zoo import ZOO
from recipes.real_data import SETS
from recipes.settings import VLMS
from recipes.vlm import QUESTIONED

SHUFFLED = {"tiny-vlm-shuffle3": (4, 4), "tiny-vlm-shuffle4": (3, 3)}


@pytest.mark.parametrize("name", VLMS)
def test_it_is_bundled_with_a_card(name):
    assert set(bundled_models("vlm")) == {*VLMS, *SHUFFLED}
    assert name not in {**bundled_models("encoder"), **bundled_models("llm")}
    folder = ZOO / name
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert "blind twin" in card and "untrained" in card and "shuffled" in card
    assert all(one.credit in card for one in SETS if one.name in QUESTIONED)


def test_its_projectors_of_fewer_tokens_are_small_and_differ_in_nothing_else():
    whole = VLM.load("tiny-vlm", "cpu", "float32")
    found = shuffling_vlms(whole, [], whole.encoders[0], *whole.layers())
    expected = {(6, 6): "tiny-vlm", **{grid: name for name, grid in SHUFFLED.items()}}
    assert {grid: vlm.name for grid, vlm in found.items()} == expected
    for name in SHUFFLED:
        files = [file for file in (ZOO / name).rglob("*") if file.is_file()]
        assert sum(file.stat().st_size for file in files) < 1.5e6
        card = (ZOO / name / "README.md").read_text(encoding="utf-8")
        assert "--train projector" in card and "--llm tiny-vlm" in card


def test_it_answers_held_out_questions_in_both_languages():
    """Its card says 100 % of documents in both languages, and of tables in English."""
    questions = synthetic_questions("test", range(3, 203, 5), ["en", "ko"])
    assert {q.kind for q in questions} == {"document", "document (Korean)"}
    model = VLM.load("tiny-vlm", "cpu")
    tokens = model.vision_tokens([q.image.image for q in questions])
    answers = model.answers(tokens, [q.text for q in questions])
    right = [exact_match(a.text, q.answers) for a, q in zip(answers, questions, strict=True)]
    assert sum(right) >= 0.95 * len(right)
