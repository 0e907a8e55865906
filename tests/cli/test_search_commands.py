"""`index` and `search` as typed, with an address for the index and an approximate one in it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image


def test_index_and_search_with_recall_and_exact(lab, clip_folder: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    (tmp_path / "photos").mkdir()
    for i in range(260):
        pixels = rng.integers(0, 256, (4, 4, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((32, 32)).save(tmp_path / f"photos/{i}.png")
    db = (tmp_path / "db").as_uri()
    model = ["--model", str(clip_folder), "--device", "cpu"]
    said = lab("index", "photos", "--db", db, *model, "--ann", "--recall", "0.8")
    assert said.code == 0, said.err
    assert "recall@10 (95 % interval)" in said.out
    assert f"--db {db}" in said.out
    record = json.loads((tmp_path / "outputs/index/run.json").read_text())
    assert record["result"]["approximate"]["target"] == 0.8
    said = lab("search", "a red circle", "--db", db, "-k", "3", "--exact", "--json")
    assert said.code == 0, said.err
    assert said.json["approximate"] is None
    assert len(said.json["hits"]) == 3


def test_mistakes_with_an_index_are_told_in_a_sentence(lab) -> None:
    said = lab("search", "x", "--db", "s3://me:secret@bucket/index")
    assert (said.code, "hold no credentials" in said.err, "secret@" in said.err) == (2, True, False)
    said = lab("index", "photos", "--db", "ftp://host/index")
    assert said.code == 2
    assert "unknown kind of storage" in said.err
    said = lab("index", "photos", "--ann", "--recall", "2")
    assert said.code == 2
    assert "recall is a share" in said.err
