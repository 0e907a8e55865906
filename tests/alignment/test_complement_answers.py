"""`complement --answers`: which VLMs are trained, what they read, and what is counted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import transformers as hf
from PIL import Image
from tests.small_checkpoints import save_vision

import encoderlab
from encoderlab.alignment.complement_answers import AddedAnswers
from encoderlab.core.score import undefined
from encoderlab.encoders.checkpoint import resolve
from encoderlab.errors import UsageError
from encoderlab.metrics.answers import compare_answers_over_seeds, exact_match
from encoderlab.vlm.questions import read_questions
from encoderlab.vlm.trainer import VLMTrainer

CPU = {"device": "cpu", "dtype": "float32"}


@pytest.fixture(scope="module")
def few(tmp_path_factory) -> dict[str, Any]:
    """Two steps of two encoders with one LLM and two seeds."""
    return {
        **CPU, "encoders": ["tiny-clip", "tiny-dinov2"], "llms": ["tiny-llama"], "answers": True,
        "n_images": 64, "n_test": 15, "seeds": 2, "n_samples": 4,
        "features_dir": tmp_path_factory.mktemp("features"),
        "cells_dir": tmp_path_factory.mktemp("cells"),
    }  # fmt: skip


@pytest.fixture(scope="module")
def result(few):
    return encoderlab.complement(**few)


def test_right_answers_are_those_of_the_cells(result, few):
    cells = [json.loads(path.read_text()) | {"name": path.parent.name}
             for path in sorted(Path(few["cells_dir"]).glob("*/answers.json"))]  # fmt: skip
    assert result.answers.vlms == len(cells) == 2 * (1 + 2 + 1 + 2)
    test = read_questions("synthetic", None, split="test", n=15).rows

    def share(start: str) -> set[float]:
        return {np.mean([exact_match(cell["answers"][q.id], q.answers) for q in test])
                for cell in cells if cell["name"].startswith(start)}  # fmt: skip

    first, second = (row.answers for row in result.rows)
    assert [row.base for row in result.rows] == ["tiny-clip", "tiny-dinov2"]
    both = np.mean([exact_match(c["answers"][q.id], q.answers) for q in test for c in cells
                    if c["name"].startswith("tiny-clip-tiny-dinov2-")])  # fmt: skip
    assert first.both.value == second.both.value == pytest.approx(both)
    assert first.base.value == second.added.value and first.added.value == second.base.value
    blind = share("blind-")
    assert min(blind) <= first.base.chance <= max(blind)
    for own in (first, second):
        assert own.gain.difference == pytest.approx(own.both.value - own.base.value)
        assert own.over_copy.difference == pytest.approx(own.both.value - own.copy.value)
        assert np.mean(own.gain_by_seed) == pytest.approx(own.gain.difference)
        assert own.gain.level == pytest.approx(0.975) and own.grid == (12, 12)
    assert result.answers.seeds == (0, 1) and result.answers.test_questions == 15


def test_the_record_has_the_answers(result):
    record = result.to_json()
    own = record["rows"][0]["answers"]
    assert own["adds"] is False and own["both"]["n"] == 15
    assert record["answers"]["vlms"] == 12
    gains = result.to_pandas()["answers.gain.difference"]
    assert gains.tolist() == [row.answers.gain.difference for row in result.rows]
    text = result.to_text()
    assert "by answers" in text and "By right answers" in text


def test_cells_that_are_there_are_read_back(result, few, monkeypatch):
    monkeypatch.setattr(VLMTrainer, "run", lambda *_: pytest.fail("a VLM was trained again"))
    again = encoderlab.complement(**few)
    assert [row.answers for row in again.rows] == [row.answers for row in result.rows]
    turned = encoderlab.complement(**few | {"encoders": few["encoders"][::-1]})
    assert {row.base: row.answers for row in turned.rows} == {
        row.base: row.answers for row in result.rows
    }
    # Other test questions are asked of the VLMs that are there.
    fewer = encoderlab.complement(**few | {"n_test": 10})
    assert fewer.answers.test_questions == 10


def test_different_grids_are_pooled_to_the_smaller_one(few, tmp_path):
    small = str(save_vision("clip", tmp_path / "small"))
    own = few | {"encoders": ["tiny-clip", small], "seeds": 1, "n_images": 32, "n_test": 5}
    rows = encoderlab.complement(**own).rows
    assert [row.answers.grid for row in rows] == [(4, 4), (4, 4)]
    assert all(row.answers.gain.difference is not None for row in rows)
    with pytest.raises(UsageError) as refused:
        encoderlab.complement(**own | {"reduce": "pixel_shuffle:3", "cells_dir": tmp_path / "c"})
    assert "4 x 4" in str(refused.value)
    assert not list((tmp_path / "c").glob("*"))


def claimed(gain: float, sd: float, rounds: int = 200) -> float:
    """Share of simulations in which B is said to add to A: 500 images of different difficulty, and
    three seeds whose shares have this standard deviation."""
    rng = np.random.default_rng(0)
    image, none, adds = np.arange(500), undefined("", 0, ""), 0
    for _ in range(rounds):
        shares = rng.normal(0.5, sd, (3, 3, 1)) + np.array([0, gain, 0]).reshape(3, 1, 1)
        base, both, copy = (rng.random(500) + rng.random((3, 3, 500))) / 2 < shares
        gains = (compare_answers_over_seeds("", "", (both, x), image) for x in (base, copy))
        adds += AddedAnswers(none, none, none, none, *gains, (), (), (1, 1)).adds
    return adds / rounds


def test_claims_where_nothing_is_added_and_where_something_is():
    assert max(claimed(0, sd) for sd in (0.0, 0.02, 0.08)) <= 0.05
    assert claimed(0.15, 0.02) >= 0.8


def test_settings_of_answers_need_answers():
    with pytest.raises(UsageError) as refused:
        encoderlab.complement(seeds=2)
    assert "--seeds" in str(refused.value)


@pytest.fixture
def blinded(tmp_path) -> str:
    """tiny-clip with tokens that do not depend on the image."""
    source = resolve("tiny-clip").path
    model = hf.CLIPModel.from_pretrained(source)
    model.vision_model.embeddings.patch_embedding.weight.data.zero_()
    model.save_pretrained(tmp_path / "blinded")
    for file in source.glob("*"):
        target = tmp_path / "blinded" / file.name
        if file.is_file() and not target.exists():
            target.write_bytes(file.read_bytes())
    return str(tmp_path / "blinded")


@pytest.mark.slow
def test_an_encoder_that_holds_the_answer_adds_to_one_that_does_not(few, blinded, tmp_path):
    colours = {"red": (220, 20, 20), "green": (20, 200, 20), "blue": (30, 30, 220)}
    rng = np.random.default_rng(0)
    lines = ["image_path,question,answer,split"]
    for i in range(480):
        name = list(colours)[i % 3]
        noise = rng.integers(-20, 20, (32, 32, 3))
        pixels = np.clip(np.array(colours[name]) + noise, 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{i}.png")
        lines.append(f"{i}.png,Which colour?,{name},{'test' if i >= 384 else 'train'}")
    (tmp_path / "qa.csv").write_text("\n".join(lines))
    own = {k: v for k, v in few.items() if k not in ("n_images", "n_test")}
    result = encoderlab.complement(
        **own | {"encoders": [blinded, "tiny-clip"], "data": str(tmp_path / "qa.csv"),
                 "reduce": "average:1", "cells_dir": tmp_path / "cells"}
    )  # fmt: skip
    gained, other = (row.answers for row in result.rows)
    assert gained.adds and gained.gain.difference > 0.3
    assert not other.adds and abs(other.gain.difference) < 0.2
