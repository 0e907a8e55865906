"""What a source holds and cannot be used is counted and listed, whichever command reads it."""

import json
from pathlib import Path

import pytest
from PIL import Image

from encoderlab.compression.images import images_of
from encoderlab.compression.settings import CompressData
from encoderlab.contrastive import classify, evaluate, train
from encoderlab.core.skipped import as_records, as_text_lines
from encoderlab.data.folder import image_files
from encoderlab.data.typed_samples import typed_samples
from encoderlab.workbench import features


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for kind in ("chart", "table"):
        (tmp_path / kind).mkdir()
        for i in range(3):
            Image.new("RGB", (24, 24), (i * 90, 0, 0)).save(tmp_path / kind / f"{i}.png")
            (tmp_path / kind / f"{i}.txt").write_text(f"{kind} {i}")
    (tmp_path / "chart/0.txt").unlink()
    (tmp_path / "logo.svg").write_text("<svg/>")
    return tmp_path


def test_the_terminal_shows_the_first_few_and_the_number():
    many = tuple((f"{i}.svg", "a drawing") for i in range(8))
    lines = as_text_lines(many)
    assert lines[0] == "8 images left out, the first: 0.svg: a drawing"
    assert len(lines) == 6 and "3 more" in lines[-1]
    assert as_text_lines(()) == []
    assert as_records(many)[7] == {"id": "7.svg", "reason": "a drawing"}


def test_readers_of_pairs_list_images_without_a_caption(folder):
    everything = ["logo.svg", "chart/0.png"]
    kept, held_out, skipped = train._samples(str(folder), None, None)
    assert sum(len(sample.texts) for sample in (*kept, *held_out)) == 5
    assert [item.id for item in skipped] == everything
    assert [item.id for item in typed_samples(folder).skipped] == everything


def test_readers_of_images_list_what_is_no_image(folder, clip_folder):
    model = str(clip_folder)
    skipped = images_of(CompressData(images=[str(folder)]), [], 0.5, lambda: ([], []))[1]
    assert [item.id for item in skipped] == ["logo.svg"]
    assert [item.id for item in image_files(str(folder))[1]] == ["logo.svg"]
    result = classify.run(image_dir=str(folder), model=model)
    assert [name for name, _ in result.skipped] == ["logo.svg"]
    assert result.to_json()["skipped"][0]["id"] == "logo.svg"
    stored = features.run(
        out=folder / "store", action="extract", target=str(folder), encoders=[model]
    )
    assert [name for name, _ in stored.left_out] == ["logo.svg"]
    pairs = evaluate.run(csv=str(folder), model=model)
    assert [name for name, _ in pairs.skipped] == ["logo.svg", "chart/0.png"]
    assert "2 images left out" in pairs.to_text()


def test_the_record_of_a_training_run_lists_them_as_every_record_does():
    result = train.TrainResult(
        folder="", model="", parameters=1, device="cpu", precision="32", train_pairs=1,
        val_images=1, val_captions=1, steps=1, loss=0.0, best_epoch=0, best_score=0.0,
        history=(), seconds=1.0, pairs_per_second=1.0, skipped=(("a.svg", "a drawing"),),
    )  # fmt: skip
    assert json.loads(json.dumps(result.to_json()))["skipped"] == [
        {"id": "a.svg", "reason": "a drawing"}
    ]
