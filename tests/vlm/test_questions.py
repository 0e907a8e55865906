"""Questions out of shards."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from encoderlab.errors import UsageError
from encoderlab.vlm.questions import read_questions


def png(colour: str) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (8, 8), colour).save(file, "png")
    return file.getvalue()


def chat(*turns: str) -> list[dict[str, object]]:
    roles = ("user", "assistant")
    return [
        {"role": roles[i % 2], "content": [{"type": "text", "text": text}]}
        for i, text in enumerate(turns)
    ]


RECORDS = {
    "0": {"question": "What colour?", "answer": ["red", "crimson"], "kind": "colour"},
    "1": {"messages": chat("What colour?", "blue", "How many?", "one")},
    "2": {"question": "What colour?", "answer": ""},
    "3": {"question": "Which?", "answer": "a", "options": ["a", "b"], "split": "test"},
}


@pytest.fixture
def tar(tmp_path) -> Path:
    file = tmp_path / "qa-000.tar"
    with tarfile.open(file, "w") as shard:
        for key, record in RECORDS.items():
            for ending, content in (("png", png("red")), ("json", json.dumps(record).encode())):
                member = tarfile.TarInfo(f"{key}.{ending}")
                member.size = len(content)
                shard.addfile(member, io.BytesIO(content))
    return file


def test_the_questions_of_a_tar(tar):
    found = read_questions(tar)
    assert [(q.id, q.text, q.answers, q.kind, q.options) for q in found.rows] == [
        ("qa-000/0", "What colour?", ("red", "crimson"), "colour", ()),
        ("qa-000/1/0", "What colour?", ("blue",), None, ()),
        ("qa-000/1/1", "How many?", ("one",), None, ()),
        ("qa-000/3", "Which?", ("a",), None, ("a", "b")),
    ]
    assert [one.id for one in found.skipped] == ["qa-000/2"]
    assert found.rows[0].image.load().getpixel((0, 0)) == (255, 0, 0)
    (only,) = read_questions(str(tar.with_name("qa-{000..000}.tar")), split="test", n=1).rows[-1:]
    assert only.id == "qa-000/0"  # a record without a split is of every split


def test_the_questions_of_a_table(tmp_path):
    images = [{"bytes": png(colour)} for colour in ("red", "blue")]
    columns = {"image": images, "question": ["What?"] * 2, "answer": ["red", None]}
    pq.write_table(pa.table(columns), tmp_path / "qa.parquet")
    found = read_questions(tmp_path / "qa.parquet")
    assert [(q.text, q.answers) for q in found.rows] == [("What?", ("red",))]
    assert len(found.skipped) == 1


def test_shards_without_questions_are_refused(tmp_path):
    pq.write_table(pa.table({"image": [{"bytes": png("red")}]}), tmp_path / "images.parquet")
    with pytest.raises(UsageError, match="there is no question"):
        read_questions(tmp_path / "images.parquet")
