"""The examples that the page shows first: each has the right answer."""

import json
from pathlib import Path

import pytest
from tests.docs.drawn import is_right, item_of

import encoderlab
from encoderlab.data.vlm_dataset import SAMPLE_DATA
from encoderlab.web import examples
from encoderlab.web.tabs.search import QUERY
from encoderlab.web.tabs.zero_shot import CLASSES

pytestmark = pytest.mark.slow


def test_the_first_image_for_the_query_of_the_search_tab_is_right(tmp_path):
    index = examples.index(tmp_path)
    hits = encoderlab.search(query=QUERY, db=str(index)).hits
    assert is_right(QUERY, item_of(Path(hits[0].path), examples.KINDS))


def test_the_question_of_the_ask_tab_is_answered_right():
    records = (SAMPLE_DATA / "labels.jsonl").read_text(encoding="utf-8").splitlines()
    right = {
        record["messages"][0]["content"][-1]["image"]: record["messages"][-1]["content"][0]["text"]
        for record in map(json.loads, records)
    }
    first, question = examples.samples()[0][0], examples.questions()[0]
    answer = encoderlab.vlm_answer(image=first, text=question).answer
    expected = right[str(Path(first).relative_to(SAMPLE_DATA / "images"))]
    assert answer.lower() in expected.lower(), (question, answer, expected)


def test_every_image_of_the_zero_shot_tab_is_named_right(tmp_path):
    for path, _ in examples.samples():
        folder = tmp_path / Path(path).parent.name
        folder.mkdir()
        (folder / "image.png").symlink_to(path)
        result = encoderlab.classify(image_dir=str(folder), classes=CLASSES)
        (prediction,) = result.predictions
        assert prediction.top[0][0] == folder.name and result.unfit == 0, path
