"""The shipped evaluation of token compression, and what is read back from a run's folder."""

from __future__ import annotations

import json
import shlex

import pytest

from encoderlab.compression.stored_evaluation import (
    SHIPPED,
    draw,
    read,
    stored,
)
from encoderlab.errors import UsageError


def test_shipped_evaluation_is_read_and_names_no_machine():
    (first, *_) = stored()
    result = first.result
    assert result.model == "tiny-siglip" and result.images == 1000
    assert {row["method"] for row in result.rows} >= {"trained", "average", "block_pca", "kmeans"}
    assert "36 tokens" in result.to_text()
    assert shlex.split(first.command)[:3] == ["encoderlab", "compress", "evaluate"]
    text = SHIPPED.read_text(encoding="utf-8")
    assert "/tmp" not in text and "/root" not in text and "/home" not in text


def test_shipped_evaluation_is_of_the_shipped_compressors():
    from encoderlab import load_vision

    assert (
        stored()[0].result.fingerprint == load_vision("tiny-siglip", "cpu", "float32").fingerprint
    )


def test_charts_of_it_are_drawn(tmp_path):
    drawn = draw(stored()[0], tmp_path)
    files = [one["file"] for one in drawn.result.figures]
    assert files == ["by_tokens.png", "pareto.png", "answers_kept.png", "two_axes.png"]
    assert all((tmp_path / one["file"]).stat().st_size > 10_000 for one in drawn.result.figures)


def test_own_last_evaluation_stands_behind_it(tmp_path, monkeypatch):
    monkeypatch.setenv("VLM_OUTPUT_DIR", str(tmp_path))
    folder = tmp_path / "compress/evaluate"
    folder.mkdir(parents=True)
    record = json.loads(SHIPPED.read_text(encoding="utf-8"))
    record["result"]["images"] = 77
    (folder / "run.json").write_text(json.dumps(record), encoding="utf-8")
    assert [one.result.images for one in stored()] == [1000, 77]


@pytest.mark.parametrize("content", ["{", "{}", '{"result": {}, "settings": {}}', "[1]"])
def test_file_without_an_evaluation_gets_a_sentence(content, tmp_path):
    path = tmp_path / "run.json"
    path.write_text(content)
    with pytest.raises(UsageError, match="holds no evaluation of token compression"):
        read(path)
