"""Attention and keys of the tokens, against the plain transformers modules."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from tests.small_checkpoints import VISION

from encoderlab.compression.token_set import TokenSet
from encoderlab.encoders.vision import load_vision
from encoderlab.patch_tokens.merging import VisionZip
from encoderlab.patch_tokens.pooling import CLSAttention

FP32 = {"device": "cpu", "dtype": "float32"}
LAYER = 2


@pytest.fixture(scope="module")
def pictures():
    rng = np.random.default_rng(0)
    return [Image.fromarray(rng.integers(0, 256, (40, 48, 3), dtype=np.uint8)) for _ in range(3)]


@pytest.mark.parametrize("family", VISION)
def test_attention_is_that_of_the_towers_own_maps(family, vision_folder, pictures):
    encoder = load_vision(vision_folder(family), **FP32)
    found = TokenSet.of(encoder, pictures, LAYER).side
    assert (found.keys is None) == (encoder.attention_module(LAYER) is None)
    if found.attention is None:
        # No CLS, or a tower that gives no maps, and no blocks that can be reached.
        assert found.keys is None
        return
    maps = encoder.encode(pictures, attention=[LAYER]).attention[LAYER]
    special = encoder.special_tokens
    asking = maps[:, :, :1] if encoder.has_cls else maps[:, :, special:]
    for image in range(3):
        for patch in range(16):
            received = float(asking[image, :, :, special + patch].mean())
            assert float(found.attention[image, patch]) == pytest.approx(received, abs=1e-6)


@pytest.mark.parametrize("name", ["tiny-clip", "tiny-siglip", "tiny-dinov2"])
def test_keys_are_those_of_the_block_that_gives_the_tokens(name, pictures):
    encoder = load_vision(name, **FP32)
    tokens = TokenSet.of(encoder, pictures, LAYER)
    tower, special = encoder.tower, encoder.special_tokens
    pixels = encoder.pixel_values(pictures)
    with torch.no_grad():
        before = tower(pixel_values=pixels, output_hidden_states=True).hidden_states[LAYER - 1]
        if name == "tiny-dinov2":
            block = tower.encoder.layer[LAYER - 1]
            attention, normed = block.attention, block.norm1(before)
        else:
            block = getattr(tower, "vision_model", tower).encoder.layers[LAYER - 1]
            attention, normed = block.self_attn, block.layer_norm1(before)
        keys = attention.k_proj(normed)
    heads = encoder.config.num_attention_heads
    mean = torch.stack(keys.chunk(heads, dim=-1)).mean(dim=0)[:, special:]
    assert tokens.side.keys.shape == (3, encoder.grid[0] * encoder.grid[1], encoder.width // heads)
    assert torch.allclose(tokens.side.keys, mean, atol=1e-5)
    for method in (VisionZip(), CLSAttention()):
        kept = method.compress(tokens.tokens, encoder.grid, 9, tokens.side)
        assert kept.tokens.shape == (3, 9, encoder.width)


def test_before_the_first_block_there_is_neither(pictures):
    side = TokenSet.of(load_vision("tiny-siglip", **FP32), pictures, 0).side
    assert side.attention is None and side.keys is None
