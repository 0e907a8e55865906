"""Our SigLIP against transformers' SiglipModel, and under the trainer."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import transformers as hf

from encoderlab.contrastive.dataset import ImageTextDataset
from encoderlab.contrastive.loop import Recipe, Trainer
from encoderlab.data.sample import Sample
from encoderlab.errors import UsageError
from encoderlab.models import checkpoint
from encoderlab.models.clip import CLIP, TextConfig, Tokenizer, ViTConfig
from encoderlab.models.siglip import SigLIP, SigLIPConfig
from encoderlab.training.devices import make_fabric

TEXTS = ["a red circle", "파란 별", "a tall blue arrow"]


def make_siglip() -> SigLIP:
    tokenizer = Tokenizer.train_bpe(TEXTS, 300, 16)
    torch.manual_seed(0)
    act = "gelu_pytorch_tanh"
    return SigLIP(
        SigLIPConfig(
            ViTConfig(32, 8, 48, 2, 3, 64, act, 1e-6),
            TextConfig(tokenizer.vocab_size, 16, 32, 2, 2, 48, act, 1e-6),
        ),
        tokenizer,
    )


def test_the_export_is_the_same_model_in_transformers(tmp_path):
    ours = make_siglip().eval()
    for parameter in ours.parameters():
        if parameter.ndim == 1:
            torch.nn.init.normal_(parameter, std=0.3)
    ours.save_pretrained(tmp_path)
    theirs = hf.SiglipModel.from_pretrained(tmp_path)
    tokenizer = hf.AutoTokenizer.from_pretrained(tmp_path)
    batch = tokenizer(TEXTS, padding="max_length", return_tensors="pt")
    assert list(batch) == ["input_ids"], "no mask: SigLIP reads its padding"
    assert torch.equal(batch.input_ids, ours.tokenizer(TEXTS))
    pixels = torch.randn(3, 3, 32, 32)
    with torch.no_grad():
        image = theirs.get_image_features(pixels).pooler_output
        text = theirs.get_text_features(**batch).pooler_output
        assert torch.allclose(ours.encode_image(pixels), image, atol=1e-5)
        assert torch.allclose(ours.encode_text(batch.input_ids), text, atol=1e-5)
    assert theirs.logit_bias.item() == pytest.approx(-10.0)
    assert theirs.logit_scale.item() == pytest.approx(math.log(10))


def test_its_training_checkpoint_comes_back_as_a_siglip(tmp_path):
    model = make_siglip()
    record = {"model": checkpoint.describe(model), "weights": model.state_dict(), "step": 7}
    path = tmp_path / "best.ckpt"
    checkpoint.write(path, {**record, "average": None})
    again = checkpoint.load(path)
    assert isinstance(again, SigLIP) and again.trained_steps == 7
    pixels = torch.randn(2, 3, 32, 32)
    assert torch.equal(again.encode_image(pixels), model.eval().encode_image(pixels))
    with pytest.raises(UsageError, match=r"another kind of model.*SigLIP.*expected CLIP"):
        CLIP.from_checkpoint(path)


def test_the_trainer_of_clip_trains_it(tmp_path):
    torch.manual_seed(0)
    model = make_siglip()
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (3, 3, 32, 32), dtype=np.uint8)
    samples = [Sample(str(i), tmp_path / f"{i}.png", (text,)) for i, text in enumerate(TEXTS)]
    pairs = ImageTextDataset(samples, model.tokenizer, model.preprocess, images, keep_padding=True)
    recipe = Recipe(epochs=60, batch_size=3, lr=2e-3, warmup_steps=5, loss="sigmoid")
    trainer = Trainer(model, pairs, recipe, make_fabric("cpu", 1, "auto", "fp32"), tmp_path)
    done = trainer.run()
    model.eval()
    pixels = model.preprocess.standardise(torch.from_numpy(images))
    with torch.no_grad():
        image = torch.nn.functional.normalize(model.encode_image(pixels), dim=-1)
        text = torch.nn.functional.normalize(model.encode_text(model.tokenizer(TEXTS)), dim=-1)
    assert (image @ text.T).argmax(dim=1).tolist() == [0, 1, 2]
    assert done.step == 60


def test_every_column_of_the_padding_is_handed_to_it():
    model = make_siglip()
    samples = [Sample(str(i), __file__, (text,)) for i, text in enumerate(TEXTS)]
    whole = ImageTextDataset(samples, model.tokenizer, model.preprocess, keep_padding=True)
    assert whole.tokens_of(np.array([0])).shape == (1, 16)
    assert (
        ImageTextDataset(samples, model.tokenizer, model.preprocess)
        .tokens_of(np.array([0]))
        .shape[1]
        < 16
    )
