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
    answer = lab("index", "photos", "--db", db, *model, "--ann", "--recall", "0.8")
    assert answer.code == 0, answer.err
    assert "recall@10 (95 % interval)" in answer.out
    assert f"--db {db}" in answer.out
    record = json.loads((tmp_path / "outputs/index/run.json").read_text())
    assert record["result"]["approximate"]["target"] == 0.8
    answer = lab("search", "a red circle", "--db", db, "-k", "3", "--exact", "--json")
    assert answer.code == 0, answer.err
    assert answer.json["approximate"] is None
    assert len(answer.json["hits"]) == 3


def test_names_that_need_quotes_and_bytes_that_are_not_utf_8(lab, clip_folder, tmp_path):
    photos = tmp_path / "my 사진"
    photos.mkdir()
    for i in range(2):
        Image.new("RGB", (32, 32), (120 * i, 9, 99)).save(photos / f"{i}.png")
    shutil.copy(photos / "0.png", tmp_path / "caf\udce9.png")
    answer = lab("index", photos.name, "--db", "my index", "--model", str(clip_folder))
    assert answer.code == 0, answer.err
    command = next(line for line in answer.out.splitlines() if line.startswith("next: "))
    words = shlex.split(command.removeprefix("next: encoderlab "))
    assert words[-2:] == ["--db", "my index"]
    answer = lab(*words)
    assert answer.code == 0, answer.err
    assert "5 asked, 2 in the index" in answer.out
    answer = lab("search", "--image", "caf\udce9.png", "--db", "my index", "--json")
    assert answer.code == 0, answer.err
    assert json.loads(answer.out.encode())["query"] == "caf\udce9.png"
    record = json.loads((tmp_path / "outputs/search/run.json").read_bytes())
    assert record["result"]["query"] == "caf\udce9.png"
    answer = lab("search", "caf\udce9", "--db", "my index")
    assert (answer.code, "the query is not UTF-8" in answer.err) == (2, True)
    photos.rename(tmp_path / "moved")
    answer = lab("index", photos.name, "--db", "my index", "--model", str(clip_folder))
    assert (answer.code, f"--remove '{photos.name}' --db 'my index'" in answer.err) == (3, True)
    answer = lab("index", "--remove", photos.name, "--db", "my index", "--json")
    assert (answer.code, answer.json["removed"], answer.json["total"]) == (0, 2, 0)
