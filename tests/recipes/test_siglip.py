"""transformers' SiglipModel under our trainer, and as the folder that it saves."""

import numpy as np
import pytest
import torch
from PIL import Image

from encoderlab.contrastive.dataset import ImageTextDataset
from encoderlab.contrastive.loop import ContrastiveTrainer, Recipe
from encoderlab.data.sample import Sample
from encoderlab.encoders.dual import load_dual
from encoderlab.encoders.vision import load_vision
from encoderlab.errors import UsageError
from encoderlab.models import checkpoint
from encoderlab.models.clip import CLIP, CLIPConfig, Preprocess, TextConfig, Tokenizer, ViTConfig
from encoderlab.training.devices import make_fabric
from recipes.siglip import SigLIP

TEXTS = ["a red circle", "파란 별", "a tall blue arrow"]


def make_siglip(patch_dropout: float = 0.0) -> SigLIP:
    tokenizer = Tokenizer.train_bpe(TEXTS, 300, 16)
    torch.manual_seed(0)
    act = "gelu_pytorch_tanh"
    return SigLIP(
        CLIPConfig(
            ViTConfig(32, 8, 48, 2, 3, 64, act, 1e-6),
            TextConfig(tokenizer.vocab_size, 16, 32, 2, 2, 48, act, 1e-6),
            48,
        ),
        tokenizer,
        Preprocess(32, "squash", (0.5,) * 3, (0.5,) * 3),
        patch_dropout=patch_dropout,
    )


def _images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (3, 3, 32, 32), dtype=np.uint8)


def _trained(folder, epochs: int, **more) -> SigLIP:
    model = make_siglip(more.pop("patch_dropout", 0.0))
    samples = [Sample(str(i), folder / f"{i}.png", (text,)) for i, text in enumerate(TEXTS)]
    pairs = ImageTextDataset(
        samples, model.tokenizer, model.preprocess, _images(), model.reads_padding
    )
    recipe = Recipe.of(epochs=epochs, batch_size=3, lr=2e-3, warmup_steps=2, loss="sigmoid", **more)
    fabric = make_fabric("cpu", 1, "auto", "fp32")
    assert ContrastiveTrainer(model, pairs, recipe, fabric, folder, workers=0).run().step == epochs
    return model.eval()


def test_the_trainer_trains_it(tmp_path):
    model = _trained(tmp_path, 60)
    pixels = model.preprocess.standardise(torch.from_numpy(_images()))
    with torch.no_grad():
        image = torch.nn.functional.normalize(model.encode_image(pixels), dim=-1)
        text = torch.nn.functional.normalize(model.encode_text(model.tokenizer(TEXTS)), dim=-1)
    assert (image @ text.T).argmax(dim=1).tolist() == [0, 1, 2]


@pytest.mark.parametrize("half", [False, True])
def test_the_saved_folder_gives_the_embeddings_of_the_trained_model(half, tmp_path):
    model = _trained(tmp_path, 3, patch_dropout=0.5, ema=0.9)
    folder = model.save_pretrained(tmp_path / "saved", half=half)
    pictures = [Image.fromarray(pixels.transpose(1, 2, 0)) for pixels in _images()]
    with torch.no_grad():
        image = model.encode_image(model.preprocess.standardise(torch.from_numpy(_images())))
        text = model.encode_text(model.tokenizer(TEXTS))
    dual = load_dual(str(folder), "cpu", "float32")
    normalise, atol = torch.nn.functional.normalize, 2e-3 if half else 1e-5
    np.testing.assert_allclose(dual.embed_images(pictures), normalise(image), atol=atol)
    np.testing.assert_allclose(dual.embed_texts(TEXTS), normalise(text), atol=atol)
    pooled = load_vision(folder, "cpu", "float32").encode(pictures).pooled
    np.testing.assert_allclose(normalise(pooled), normalise(image), atol=atol)
    assert dual.trained_steps == 3
    assert dual.logit_scale == pytest.approx(float(model.logit_scale.detach().exp()), rel=1e-2)


def test_its_training_checkpoint_holds_the_same_weights_and_is_no_clip(tmp_path):
    model = _trained(tmp_path, 2)
    path = tmp_path / "checkpoints" / "latest.ckpt"
    again = make_siglip().eval()
    again.load_state_dict(checkpoint.read(path)["weights"])
    pixels = torch.randn(2, 3, 32, 32)
    assert torch.equal(again.encode_image(pixels), model.encode_image(pixels))
    with pytest.raises(UsageError) as refused:
        checkpoint.load(path, CLIP)
    assert refused.value.got == "siglip"


def test_a_sharper_scale_leaves_the_cosine_of_logit_zero():
    model = make_siglip()
    model.sharpen(50)
    assert model.logit_scale.exp().item() == pytest.approx(50)
    assert model.logit_bias.item() == pytest.approx(-50)  # it began with a scale of 10, bias -10


def test_patches_are_dropped_in_training_alone():
    model, pixels = make_siglip(patch_dropout=0.5), torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        whole = model.eval().encode_image(pixels)
        assert not torch.allclose(model.train().encode_image(pixels), whole)
        assert torch.equal(model.eval().encode_image(pixels), whole)
    model.patch_dropout = 1e-9  # drops none, on the way that drops
    with torch.no_grad():
        torch.testing.assert_close(model.train().encode_image(pixels), whole)


def test_every_column_of_the_padding_is_handed_to_it():
    model = make_siglip()
    samples = [Sample(str(i), __file__, (text,)) for i, text in enumerate(TEXTS)]
    whole = ImageTextDataset(samples, model.tokenizer, model.preprocess, keep_padding=True)
    assert whole.tokens_of(np.array([0])).shape == (1, 16)
    cut = ImageTextDataset(samples, model.tokenizer, model.preprocess)
    assert cut.tokens_of(np.array([0])).shape[1] < 16
