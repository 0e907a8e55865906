"""Attention, patch-text similarity, speed: against plain torch and closed forms."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

import encoderlab
from encoderlab.alignment import attention, speed
from encoderlab.encoders.hardware import PeakMemory
from encoderlab.encoders.rollout import attention_rollout
from encoderlab.errors import MissingError, UsageError


def test_rollout_of_even_attention_is_even_and_of_one_patch_is_that_patch():
    even = torch.full((2, 5, 5), 0.2)
    found = attention_rollout([even], special_tokens=1, has_cls=True)
    assert np.allclose(found, 0.1)  # half of a fifth: the rest is the residual path
    one = torch.zeros(1, 5, 5)
    one[..., 3] = 1
    found = attention_rollout([one, one, one], special_tokens=1, has_cls=True)
    assert found.argmax() == 2 and found[2] == pytest.approx(1 - 0.5**3)


def test_rollout_without_cls_is_the_mean_of_all_patches():
    maps = [torch.rand(3, 4, 4).softmax(-1) for _ in range(2)]
    found = attention_rollout(maps, special_tokens=0, has_cls=False)
    flow = np.eye(4)
    for one in maps:
        flow = (one.double().mean(0).numpy() + np.eye(4)) / 2 @ flow
    assert np.allclose(found, flow.mean(axis=0), atol=1e-6)


@pytest.fixture(scope="module")
def looked(tmp_path_factory):
    out = tmp_path_factory.mktemp("attention")
    return attention.run(out=out, device="cpu", dtype="float32"), out


def test_families_without_a_text_tower_have_attention_only_and_say_so(looked):
    result, out = looked
    clip, siglip, dino = result.encoders
    assert clip.similarity.shape == siglip.similarity.shape == dino.rollout.shape == (12, 12)
    assert dino.similarity is None and dino.no_similarity == "no text tower: attention only"
    assert 0 < clip.rollout_entropy <= 1
    assert (out / "attention.png").is_file()


def test_patch_text_cosine_is_the_plain_transformers_computation(looked):
    from transformers import AutoTokenizer, CLIPModel

    from encoderlab.encoders.checkpoint import ZOO

    result, _ = looked
    model = CLIPModel.from_pretrained(ZOO / "tiny-clip", dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(ZOO / "tiny-clip")
    encoder = encoderlab.load_vision("tiny-clip", "cpu", "float32")
    image = Image.open(result.image).convert("RGB")
    pixels = torch.from_numpy(encoder.preprocess.to_bytes(image)).permute(2, 0, 1)[None]
    with torch.no_grad():
        hidden = model.vision_model(encoder.preprocess.standardise(pixels)).last_hidden_state
        patches = model.visual_projection(model.vision_model.post_layernorm(hidden[:, 1:]))
        text = model.get_text_features(**tokenizer([result.text], return_tensors="pt"))
        text = getattr(text, "pooler_output", text)
    expected = (F.normalize(patches[0], dim=-1) @ F.normalize(text[0], dim=-1)).reshape(12, 12)
    assert np.allclose(result.encoders[0].similarity, expected, atol=1e-4)


def test_siglip_patch_is_what_its_head_makes_of_that_patch_alone():
    encoder = encoderlab.load_vision("tiny-siglip", "cpu", "float32")
    patches = torch.randn(1, 3, encoder.width)
    with torch.no_grad():
        alone = encoder.tower.head(patches[:, 1:2])
        assert torch.allclose(encoder.embed_patches(patches)[:, 1], alone, atol=1e-5)


def test_wrong_images_are_answered_in_one_sentence(tmp_path):
    (tmp_path / "text.png").write_text("hello")
    Image.new("RGB", (20, 20)).save(tmp_path / "real.png")
    with pytest.raises(MissingError, match=r"no such image: got 'none\.png'"):
        attention.run(image="none.png", text="x")
    with pytest.raises(UsageError, match="the image cannot be read"):
        attention.run(image=str(tmp_path / "text.png"), text="x")
    with pytest.raises(UsageError, match="a text to compare with is missing"):
        attention.run(image=str(tmp_path / "real.png"))


def test_operations_are_those_of_the_matrix_products():
    encoder = encoderlab.load_vision("tiny-dinov2", "cpu", "float32")
    c = encoder.config
    d, t, n = c.hidden_size, 145, 144
    block = 4 * t * d * d + 2 * t * t * d + 2 * t * d * d * c.mlp_ratio
    expected = 2 * (n * d * 3 * c.patch_size**2 + c.num_hidden_layers * block)
    assert speed.operations(encoder) == pytest.approx(expected, rel=1e-3)


def test_speed_times_every_encoder_at_every_batch_size(tmp_path):
    result = speed.run(out=tmp_path, encoders=["tiny-clip"], batch_sizes=[1, 2], device="cpu")
    assert [row.batch_size for row in result.rows] == [1, 2]
    for row in result.rows:
        assert 0 < row.latency_ms["p50"] <= row.latency_ms["p95"]
        assert row.images_per_s == pytest.approx(1000 * row.batch_size / row.latency_ms["p50"])
        assert row.peak_share == pytest.approx(
            row.gflop_per_image * row.images_per_s / (1000 * result.peak_tflops), rel=1e-6
        )
    assert (tmp_path / "speed.png").is_file()


def test_a_batch_that_does_not_fit_is_said_and_the_rest_goes_on(monkeypatch):
    real = encoderlab.load_vision("tiny-clip", "cpu").__class__.encode_pixels

    def small(self, pixels, **more):
        if len(pixels) > 1:
            raise torch.OutOfMemoryError
        return real(self, pixels, **more)

    monkeypatch.setattr("encoderlab.encoders.vision.VisionEncoder.encode_pixels", small)
    result = speed.run(encoders=["tiny-clip"], batch_sizes=[1, 4], device="cpu")
    assert [row.undefined for row in result.rows] == [None, "out of memory"]
    assert "out of memory" in result.to_text()
    with pytest.raises(UsageError, match="--batch-sizes is too small"):
        speed.run(encoders=["tiny-clip"], batch_sizes=[0])


def test_peak_memory_sees_what_a_block_holds():
    with PeakMemory(torch.device("cpu")) as memory:
        held = np.ones(20_000_000)
        del held
    assert memory.bytes is None or memory.bytes > 100e6
