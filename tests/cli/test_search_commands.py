"""`index` and `search` as typed, with an address for the index and an approximate one in it."""

import json
import shlex
import shutil

import numpy as np
from PIL import Image


def test_index_and_search_with_recall_and_exact(lab, clip_folder, tmp_path):
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


def test_mistakes_with_an_index_are_told_in_a_sentence(lab):
    said = lab("search", "x", "--db", "s3://me:secret@bucket/index")
    assert (said.code, "hold no credentials" in said.err, "secret@" in said.err) == (2, True, False)
    said = lab("index", "photos", "--db", "ftp://host/index")
    assert said.code == 2
    assert "unknown kind of storage" in said.err
    said = lab("index", "photos", "--ann", "--recall", "2")
    assert said.code == 2
    assert "recall is a share" in said.err


def test_names_that_need_quotes_and_bytes_that_are_not_utf_8(lab, clip_folder, tmp_path):
    photos = tmp_path / "my 사진"
    photos.mkdir()
    for i in range(2):
        Image.new("RGB", (32, 32), (120 * i, 9, 99)).save(photos / f"{i}.png")
    shutil.copy(photos / "0.png", tmp_path / "caf\udce9.png")
    said = lab("index", photos.name, "--db", "my index", "--model", str(clip_folder))
    assert said.code == 0, said.err
    command = next(line for line in said.out.splitlines() if line.startswith("next: "))
    words = shlex.split(command.removeprefix("next: encoderlab "))
    assert words[-2:] == ["--db", "my index"]
    said = lab(*words)
    assert said.code == 0, said.err
    assert "5 asked, 2 in the index" in said.out
    said = lab("search", "--image", "caf\udce9.png", "--db", "my index", "--json")
    assert said.code == 0, said.err
    assert json.loads(said.out.encode())["query"] == "caf\udce9.png"
    record = json.loads((tmp_path / "outputs/search/run.json").read_bytes())
    assert record["result"]["query"] == "caf\udce9.png"
    said = lab("search", "caf\udce9", "--db", "my index")
    assert (said.code, "the query is not UTF-8" in said.err) == (2, True)
    photos.rename(tmp_path / "moved")
    said = lab("index", photos.name, "--db", "my index", "--model", str(clip_folder))
    assert (said.code, f"--remove '{photos.name}' --db 'my index'" in said.err) == (3, True)
    said = lab("index", "--remove", photos.name, "--db", "my index", "--json")
    assert (said.code, said.json["removed"], said.json["total"]) == (0, 2, 0)
