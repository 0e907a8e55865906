"""The embedded tiny-clip does what its card says, small and with nothing but transformers."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image
from transformers import AutoTokenizer, CLIPModel
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from encoderlab.data.synthetic import KINDS, write_dataset
from encoderlab.encoders.checkpoint import ZOO, embedded_models
from encoderlab.encoders.dual import load_dual
from encoderlab.experiments import classify, evaluate
from encoderlab.zoo.real_data import SETS, read_set

TINY = ZOO / "tiny-clip"


@pytest.fixture(scope="module")
def held_out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures that no training has seen, with captions of which no two are alike."""
    return write_dataset(tmp_path_factory.mktemp("zoo") / "w", 1000, languages=("en", "ko"))


def test_it_ships_small_and_with_a_card() -> None:
    assert "tiny-clip" in embedded_models()
    assert sum(file.stat().st_size for file in TINY.iterdir()) <= 6_000_000
    card = (TINY / "README.md").read_text(encoding="utf-8")
    assert "chance" in card
    assert all(which.credit in card for which in SETS)


def test_transformers_alone_gives_the_same_embeddings() -> None:
    encoder = load_dual("tiny-clip", "cpu", "float32")
    model = CLIPModel.from_pretrained(TINY, dtype=torch.float32).eval()
    images = [Image.new("RGB", (120, 80), name) for name in ("red", "navy")]
    texts = ["a small red circle", "수학 문제"]
    pixels = CLIPImageProcessorPil.from_pretrained(TINY)(images, return_tensors="pt")
    words = AutoTokenizer.from_pretrained(TINY)(texts, padding=True, return_tensors="pt")
    with torch.no_grad():
        image = model.get_image_features(pixel_values=pixels["pixel_values"]).pooler_output
        text = model.get_text_features(
            input_ids=words["input_ids"], attention_mask=words["attention_mask"]
        ).pooler_output
    normalise = torch.nn.functional.normalize
    for ours, theirs in (
        (encoder.embed_images(images), image),
        (encoder.embed_texts(texts), text),
    ):
        torch.testing.assert_close(torch.from_numpy(ours), normalise(theirs), atol=1e-4, rtol=0)


@pytest.mark.slow
@pytest.mark.parametrize("language", ["en", "ko"])
def test_recall_on_a_thousand_held_out_pictures(held_out: Path, language: str) -> None:
    found = evaluate.run(csv=str(held_out / f"captions.{language}.csv")).retrieval
    assert found.distinct_captions == 1000 or language == "ko"
    for direction in (found.image_to_text, found.text_to_image):
        assert float(direction.recall[1]) >= 0.60


@pytest.mark.slow
def test_zero_shot_over_the_kinds_of_pictures(held_out: Path) -> None:
    result = classify.run(image_dir=str(held_out / "images"), classes=",".join(KINDS))
    assert result.accuracy is not None
    assert float(result.accuracy.top1) >= 0.95


@pytest.mark.slow
@pytest.mark.parametrize("table", ["test.en.csv", "test.ko.csv"])
def test_it_finds_real_emoji_far_above_chance(real_data: Path, table: str) -> None:
    found = evaluate.run(csv=str(real_data / "emoji-bilingual" / table)).retrieval
    recall = found.text_to_image.recall[10]
    assert recall.ci_low is not None and recall.chance is not None
    assert recall.ci_low > 3 * recall.chance


@pytest.mark.parametrize("which", SETS, ids=lambda which: which.name)
def test_no_real_picture_stands_in_two_splits(real_data: Path, which) -> None:
    splits = [
        {sample.image for sample in read_set(which, real_data, split, ("en", "ko"))}
        for split in ("train", "val", "test")
    ]
    assert all(splits)
    assert not (splits[0] & splits[1] or splits[0] & splits[2] or splits[1] & splits[2])
