"""Results in Korean: what the code really says is translated, and data is not."""

import re
import string
from collections import Counter

import numpy as np
import pytest
import yaml

from encoderlab.alignment.tables import notes
from encoderlab.metrics.preflight import preflight
from encoderlab.metrics.uncertainty import Comparison
from encoderlab.retrieval.image_index import Hit
from encoderlab.retrieval.search import SearchResult
from encoderlab.vlm.answer import VlmAnswerResult
from encoderlab.vlm.explain import Explanation
from encoderlab.web.result_phrases import TEMPLATES, korean

ROWS: dict[str, str] = yaml.safe_load(TEMPLATES.read_text(encoding="utf-8"))


def fields(text: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(text) if name}


def test_a_translation_is_korean_and_names_no_field_that_its_template_lacks():
    for english, translation in ROWS.items():
        assert fields(translation) <= fields(english), english
        in_words = re.sub(r"\{\w+\}|[\[\] ]", "", translation)
        assert not in_words or re.search("[가-힣~/]", in_words), english


def numbers(text: str) -> Counter[str]:
    return Counter(re.findall(r"\d+(?:\.\d+)?", text))


def check(text: str) -> None:
    """The text is Korean, and has all its numbers."""
    translated = korean(text)
    assert re.search("[가-힣]", translated), text
    assert not re.search(" (the|of|is|with|by|for) ", translated), translated
    assert numbers(text) <= numbers(translated)


@pytest.mark.parametrize(
    ("low", "high", "needed"),
    [
        (0.01, 0.3, None),
        (-0.3, -0.01, None),
        (-0.1, 0.3, 400),
        (-0.1, 0.3, None),
        (None, None, None),
    ],
)
def test_verdicts(low, high, needed):
    middle = None if low is None else (low + high) / 2
    compared = Comparison("tiny-clip", "org/vit", middle, low, high, 0.1, 30, 0.95, needed)
    check(f"with tiny-qwen: {compared.to_text()}")


@pytest.mark.parametrize("fall", [0.5, 0.0])
def test_an_explained_answer(fall):
    explained = Explanation(np.zeros((2, 2)), 0.24, 3, 36, 9, -0.02, fall, (0.01, 0.02, 0.03))
    for line in explained.to_text().splitlines():
        check(line)


def test_an_answer_and_a_caption_of_a_model_stay_as_they_are():
    said = ("The purple one.", "a small red square to the left of a large brown star", "A by B")
    assert [korean(text) for text in said] == list(said)
    empty = VlmAnswerResult("m", "i", "q", "", 0.5, ({"answer": "", "probability": 0.5},))
    line, table = empty.blocks()
    assert korean(line) == "(답 없음)   (50.0%)" and korean(table.rows[0][0]) == "(답 없음)"


def test_what_is_said_where_nothing_fits():
    hit = Hit(0.42, "a.png", "", "", 9, 9)
    found = SearchResult("a cat", "db", "m", "f", "cpu", "float32", (hit,), images=1,
                         k=1, unrelated_as_near=0.47, unrelated_as_distinct=0.2)  # fmt: skip
    (table,) = found.blocks()
    check(table.said[-1])
    check(
        "1 of 1 image may fit none of the classes: several names that no image shows, such as "
        "'democracy' or 'patience', are nearer than any class"
    )


def test_what_is_said_of_data():
    generator = np.random.default_rng(0)
    rows = generator.normal(size=(20, 40))
    rows[1] = rows[0]
    features = {"tiny-clip": rows, "tiny-siglip": 5 + generator.normal(size=(20, 40)) / 9}
    found = preflight(features, texts=["a, b and c"] * 2 + [str(i) for i in range(18)])
    preflighted = [{"what": finding.what, "serious": False} for finding in found]
    assert len(preflighted) == 5
    data = {"types": {"chart": 12, "table": 8}, "samples": 20, "source": "9 built-in samples and "
            "11 pictures of the synthetic world"}  # fmt: skip
    text = notes({"data": data, "preflight": preflighted, "skipped": []})
    for line in text.splitlines():
        check(line.removeprefix("- "))


def test_the_answer_of_compare_keeps_its_numbers_and_names():
    for text in (
        "tiny-dinov2 aligns best with tiny-qwen (debiased CKA 0.722 [0.649, 0.781]), ahead of "
        "tiny-clip by 0.142 [0.058, 0.227] and tiny-siglip by 0.253 [0.163, 0.344]. Within data "
        "types its CKA is 0.766 [0.595, 0.870] for chart and 0.133 [-0.140, 0.387] for table; over "
        "all types together 0.719 [0.531, 0.839], where it is ahead of tiny-clip and tiny-siglip.",
        "a has the highest alignment with b (debiased CKA 0.5 [0.4, 0.6]); the data cannot "
        "separate a from c and d: about 300 samples would.",
        "A linear map carries it into tiny-qwen with a held-out R² of 0.832 [0.787, 0.877], where "
        "it is ahead of a and the data cannot separate it from b and c.",
    ):  # fmt: skip
        translated = korean(text)
        assert numbers(translated) == numbers(text)
        assert set(re.findall("tiny-[a-z0-9]+", translated)) == set(
            re.findall("tiny-[a-z0-9]+", text)
        )
        assert not re.search(r" (the|of|is|with|by|for|where) ", translated), translated


def test_a_text_without_a_template_is_unchanged_and_a_long_one_takes_no_time():
    assert korean("a sentence. Another that nothing knows.") == (
        "a sentence. Another that nothing knows."
    )
    assert korean("x and " * 10_000) == "x and " * 10_000
