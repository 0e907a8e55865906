"""The bundled CLIP and SigLIP do what their cards say, small and with transformers alone."""

from pathlib import Path

import pytest
import torch
from PIL import Image
from transformers import AutoTokenizer, CLIPModel, SiglipModel
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

from encoderlab.contrastive import classify, evaluate
from encoderlab.data.synthetic import KINDS, write_dataset
from encoderlab.encoders.checkpoint import ZOO, bundled_models
from encoderlab.encoders.dual import load_dual
from recipes.cards.short_queries import named_pictures, short_queries
from recipes.real_data import SETS, read_set

NAMES = ("tiny-clip", "tiny-siglip")
every_model = pytest.mark.parametrize("name", NAMES)


@pytest.fixture(scope="module")
def held_out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures that no training has seen, with captions of which no two are alike."""
    return write_dataset(tmp_path_factory.mktemp("zoo") / "w", 1000, languages=("en", "ko"))


@every_model
def test_it_ships_small_and_with_a_card(name):
    assert name in bundled_models()
    assert sum(file.stat().st_size for file in (ZOO / name).iterdir()) <= 6_000_000
    card = (ZOO / name / "README.md").read_text(encoding="utf-8")
    assert "chance" in card
    assert all(which.credit in card for which in SETS)


def test_all_bundled_models_together_stay_small():
    def size(*kinds: str) -> int:
        names = {name for kind in kinds for name in bundled_models(kind)}
        files = [f for name in names for f in (ZOO / name).rglob("*") if f.is_file()]
        return sum(file.stat().st_size for file in files)

    assert size("encoder", "llm") <= 25_000_000
    assert size("vlm") <= 13_000_000


@every_model
def test_transformers_alone_gives_the_same_embeddings(name):
    encoder = load_dual(name, "cpu", "float32")
    folder = ZOO / name
    clip = name == "tiny-clip"
    model = (CLIPModel if clip else SiglipModel).from_pretrained(folder, dtype=torch.float32)
    processor = (CLIPImageProcessorPil if clip else SiglipImageProcessorPil).from_pretrained(folder)
    images = [Image.new("RGB", (120, 80), name) for name in ("red", "navy")]
    texts = ["a small red circle", "수학 문제"]
    pixels = processor(images, return_tensors="pt")["pixel_values"]
    words = AutoTokenizer.from_pretrained(folder)(
        texts, padding=True if clip else "max_length", return_tensors="pt"
    )
    with torch.no_grad():
        image = model.get_image_features(pixel_values=pixels).pooler_output
        text = model.get_text_features(**words).pooler_output
    normalise = torch.nn.functional.normalize
    for ours, theirs in ((encoder.embed_images(images), image), (encoder.embed_texts(texts), text)):
        torch.testing.assert_close(torch.from_numpy(ours), normalise(theirs), atol=1e-4, rtol=0)


@pytest.mark.slow
@every_model
@pytest.mark.parametrize("language", ["en", "ko"])
def test_recall_on_a_thousand_held_out_pictures(name, held_out, language):
    result = evaluate.run(csv=str(held_out / f"captions.{language}.csv"), model=name).retrieval
    assert result.distinct_captions == 1000 or language == "ko"
    for direction in (result.image_to_text, result.text_to_image):
        assert float(direction.recall[1]) >= 0.60


@pytest.mark.slow
@every_model
def test_short_queries_find_what_they_name(name):
    scores = short_queries(load_dual(name, "cpu", "float32"), *named_pictures(1000))
    assert min(score.value for score in scores["all of these"].values()) >= 0.92


@pytest.mark.slow
@every_model
def test_zero_shot_over_the_kinds_of_pictures(name, held_out):
    result = classify.run(image_dir=str(held_out / "images"), classes=",".join(KINDS), model=name)
    assert result.accuracy is not None
    assert float(result.accuracy.top1) >= 0.95


@pytest.mark.slow
@every_model
@pytest.mark.parametrize("table", ["test.en.csv", "test.ko.csv"])
def test_it_finds_real_emoji_far_above_chance(name, real_data, table):
    result = evaluate.run(csv=str(real_data / "emoji-bilingual" / table), model=name).retrieval
    recall = result.text_to_image.recall[10]
    assert recall.ci_low is not None and recall.chance is not None
    assert recall.ci_low > 3 * recall.chance


@pytest.mark.parametrize("which", SETS, ids=lambda which: which.name)
def test_no_real_picture_stands_in_two_splits(real_data, which):
    splits = [
        {sample.image for sample in read_set(which, real_data, split, ("en", "ko"))}
        for split in ("train", "val", "test")
    ]
    assert all(splits)
    assert not (splits[0] & splits[1] or splits[0] & splits[2] or splits[1] & splits[2])
