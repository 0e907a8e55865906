"""Features are ordinary fp32 tensors, `encode` takes an image in any form, and encoders train."""

import numpy as np
import pytest
import torch
from torch import nn

from encoderlab import Index, TokenSimilarityAnalyzer, load_dual, load_text, load_vision
from encoderlab.data.sample import Sample
from encoderlab.data.synthetic import generate
from encoderlab.encoders.load_spec import load_spec_of
from encoderlab.errors import UsageError
from encoderlab.feature_store import extract_images

FP32 = {"device": "cpu", "dtype": "float32"}
BF16 = {"device": "cpu", "dtype": "bfloat16"}
NAMES = ("tiny-clip", "tiny-siglip", "tiny-dinov2")
TEXTS = ["a large red circle", "a small blue star"]


@pytest.fixture(scope="module")
def images():
    return [generate(i, split="test").image for i in range(8)]


def _is_ordinary(*tensors: torch.Tensor) -> bool:
    return all(one.dtype == torch.float32 and not one.is_inference() for one in tensors)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("where", [FP32, BF16], ids=["fp32", "bf16"])
def test_features_of_images_are_ordinary(name, where, images):
    encoder = load_vision(name, **where)
    seen = encoder.encode(images[:2], layers=(0, -1), attention=(-1,))
    assert seen.pooled.numpy().dtype == np.float32
    parts = [seen.patches, seen.pooled, *seen.layers.values(), *seen.layers_special.values()]
    assert _is_ordinary(*parts, *seen.attention.values())
    layer = nn.Linear(encoder.width, 2)
    layer(seen.patches).sum().backward()
    assert layer.weight.grad is not None
    tokens = torch.cat([seen.layers_special[0], seen.layers[0]], dim=1)
    assert _is_ordinary(encoder.finish(tokens, 0))
    embedded = encoder.embed_patches(seen.patches)
    assert embedded is None or _is_ordinary(embedded)


@pytest.mark.parametrize("name", ["tiny-llama", "tiny-clip", "tiny-siglip"])
def test_features_of_texts_are_ordinary(name):
    encoder = load_text(name, **BF16)
    seen = encoder.encode(TEXTS, layers=(1,) if name == "tiny-llama" else ())
    assert _is_ordinary(seen.pooled, *seen.layers.values()) and not seen.tokens.is_inference()
    nn.Linear(encoder.pooled_width, 1)(seen.pooled).sum().backward()


def test_bf16_features_are_the_stored_ones(images, tmp_path):
    encoder = load_vision("tiny-clip", **BF16)
    samples = [Sample(str(i), image) for i, image in enumerate(images)]
    stored = extract_images(encoder, samples, tmp_path, what=("pooled", "patches"))
    seen = encoder.encode(images)
    assert np.array_equal(stored.array("pooled"), seen.pooled.numpy())
    assert np.array_equal(stored.array("patches").astype(np.float32), seen.patches.numpy())


def _forms(image, path):
    """The same image in every form."""
    values = np.asarray(image)
    first = torch.from_numpy(values.copy()).permute(2, 0, 1)
    path.parent.mkdir(exist_ok=True)
    image.save(path)
    return [
        image, [image], path, str(path), [path], values, values[None], values / 255,
        (values / 255).astype(np.float32), first, first[None], first / 255, [first], (values,),
    ]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_an_image_in_every_form(name, images, tmp_path):
    encoder = load_vision(name, **FP32)
    expected = encoder.encode([images[0]]).pooled
    assert expected.shape == (1, encoder.pooled_width)
    for form in _forms(images[0], tmp_path / "a.png"):
        assert torch.equal(encoder.encode(form).pooled, expected), type(form)
    mixed = encoder.encode([tmp_path / "a.png", np.asarray(images[1]), images[2]]).pooled
    assert torch.allclose(mixed, encoder.encode(images[:3]).pooled)


def test_what_is_no_image(images):
    encoder = load_vision("tiny-clip", **FP32)
    for wrong in ([], 3, None, [images[0], 3], np.full((4, 4, 3), 2.0)):
        with pytest.raises(UsageError):
            encoder.encode(wrong)


def test_the_dual_encoder_the_analyzer_and_the_index_take_the_same_forms(images, tmp_path):
    dual = load_dual("tiny-clip", **FP32)
    expected = dual.embed_images([images[0]])
    forms = _forms(images[0], tmp_path / "a.png")
    assert all(np.array_equal(dual.embed_images(form), expected) for form in forms)
    assert np.array_equal(dual.embed_texts(TEXTS[0]), dual.embed_texts(TEXTS[:1]))

    analyzer = TokenSimilarityAnalyzer("tiny-clip", device="cpu")
    one = analyzer.analyze(images[0])
    for form in forms:
        assert np.array_equal(analyzer.analyze(form).horizontal_right, one.horizontal_right)
    assert analyzer.analyze(tmp_path / "a.png").source == str(tmp_path / "a.png")
    results = analyzer.analyze_batch([str(tmp_path / "a.png"), np.stack(images[:2])])
    assert [result.source for result in results] == [str(tmp_path / "a.png"), "", ""]
    with pytest.raises(UsageError, match=r"not one image: got .2 images"):
        analyzer.analyze(images[:2])

    index = Index.create(tmp_path / "index", dual)
    for i in range(4):
        images[i].save(tmp_path / f"{i}.png")
    index.add([Sample(f"{i}.png", tmp_path / f"{i}.png") for i in range(4)])
    first = torch.from_numpy(np.asarray(images[2]).copy()).permute(2, 0, 1)
    for query in (tmp_path / "2.png", images[2], np.asarray(images[2]), first / 255):
        [hit] = index.search(query, k=1)
        assert hit.path.endswith("2.png") and hit.score == pytest.approx(1, abs=1e-5)


def test_one_text_or_a_list():
    encoder = load_text("tiny-llama", **FP32)
    assert torch.equal(encoder.encode(TEXTS[0]).pooled, encoder.encode(TEXTS[:1]).pooled)


def train(loss, *modules):
    """Three steps of Adam, after each of which the loss is lower."""
    optimiser = torch.optim.Adam([p for m in modules for p in m.parameters()], lr=1e-4)
    losses = []
    for _ in range(3):
        optimiser.zero_grad()
        losses.append(loss())
        losses[-1].backward()
        optimiser.step()
    assert losses[0] > losses[1] > losses[2]


@pytest.mark.parametrize("name", NAMES)
def test_a_vision_encoder_is_fine_tuned(name, images):
    encoder = load_vision(name, **FP32)
    before = encoder.encode(images)  # in inference mode: must leave nothing behind
    pixels = encoder.pixel_values(images)
    seen = encoder(pixels, layers=(-1,))
    assert torch.allclose(seen.pooled, before.pooled, atol=1e-5) and seen.pooled.requires_grad
    head = nn.Linear(encoder.pooled_width, 2)
    labels = torch.arange(8) % 2
    encoder.module.train()
    train(
        lambda: nn.functional.cross_entropy(head(encoder(pixels).pooled), labels),
        encoder.module, head,
    )  # fmt: skip
    after = encoder.encode(images)
    assert encoder.module.training and _is_ordinary(after.pooled)
    assert not torch.allclose(after.pooled, before.pooled, atol=1e-3)
    encoder.module.eval()
    assert torch.equal(encoder.encode(images).pooled, after.pooled)


def test_encode_is_in_eval_mode_whatever_the_module_is_in(images, vision_folder):
    encoder = load_vision(vision_folder("vit"), **FP32)
    for part in encoder.module.modules():
        if isinstance(part, nn.Dropout):
            part.p = 0.5
    expected = encoder.encode(images[:1]).pooled
    encoder.module.train()
    encoder.module.layernorm.eval()
    assert torch.equal(encoder.encode(images[:1]).pooled, expected)
    assert encoder.module.training and not encoder.module.layernorm.training
    assert not torch.equal(encoder(encoder.pixel_values(images[:1])).pooled, expected)


@pytest.mark.parametrize("name", ["tiny-llama", "tiny-clip", "tiny-siglip"])
def test_a_text_encoder_is_fine_tuned(name):
    encoder = load_text(name, **FP32)
    before = encoder.encode(TEXTS).pooled
    tokens = encoder.padded(TEXTS)
    target = torch.randn(2, encoder.pooled_width, generator=torch.Generator().manual_seed(0))
    train(lambda: nn.functional.mse_loss(encoder(*tokens).pooled, target), encoder.module)
    assert not torch.equal(encoder.encode(TEXTS).pooled, before)


@pytest.mark.parametrize("name", ["tiny-clip", "tiny-siglip"])
def test_a_dual_encoder_is_fine_tuned(name, images):
    encoder = load_dual(name, **FP32)
    pixels, tokens = encoder.pixel_values(images[:2]), encoder.tokenizer(TEXTS)
    image, text = encoder(pixels, tokens)
    assert np.allclose(image.detach().numpy(), encoder.embed_images(images[:2]), atol=1e-5)
    assert np.allclose(text.detach().numpy(), encoder.embed_texts(TEXTS), atol=1e-5)

    def distance():
        image, text = encoder(pixels, tokens)
        return (image - text).square().sum()

    train(distance, encoder.module)


def test_stored_features_are_never_those_of_other_weights(images, tmp_path):
    encoder = load_vision("tiny-clip", **FP32)
    samples = [Sample(str(i), image) for i, image in enumerate(images)]
    before = extract_images(encoder, samples, tmp_path).array("pooled")
    own = encoder.fingerprint
    with torch.no_grad():
        for weight in encoder.module.parameters():
            weight.mul_(1.1)
    assert encoder.fingerprint not in (own, load_vision("tiny-clip", **FP32).fingerprint)
    after = extract_images(encoder, samples, tmp_path).array("pooled")
    assert np.allclose(after, encoder.encode(images).pooled, atol=1e-5)
    assert not np.allclose(after, before, atol=1e-3)
    with pytest.raises(UsageError, match="the weights that its name stands for"):
        load_spec_of(encoder)
