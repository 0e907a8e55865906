"""Cached gradients equal the big batch's, for every parameter, with dropped patches too."""

from __future__ import annotations

import dataclasses

import pytest
import torch
import torch.nn.functional as F

from encoderlab.contrastive.cached_gradients import backward_in_chunks
from encoderlab.losses.contrastive import contrastive_loss
from encoderlab.losses.sigmoid import sigmoid_loss
from encoderlab.models.clip import CLIP, CLIPConfig, TextConfig, ViTConfig, preset

PAIRS, END = 11, 49


def _clip(tower: str) -> CLIP:
    torch.manual_seed(0)
    text = TextConfig(50, 8, 16, 2, 2, 32, end_token_id=END)
    vision = ViTConfig(16, 4, 16, 2, 2, 32)
    config = CLIPConfig(vision, text, 8)
    if tower == "resnet":
        config = dataclasses.replace(preset("tiny-resnet"), text=text, embed_dim=8)
    clip = CLIP(config, patch_dropout=0.5 if tower == "vit" else 0.0).double().train()
    clip.add_logit_bias(-2.0)
    return clip.double()


def _batch(clip: CLIP) -> tuple[torch.Tensor, torch.Tensor]:
    size = clip.config.vision.image_size
    tokens = torch.randint(0, END, (PAIRS, 8))
    tokens[:, -1] = END
    return torch.randn(PAIRS, 3, size, size, dtype=torch.float64), tokens


def _loss(clip: CLIP, kind: str):
    def loss_of(image: torch.Tensor, text: torch.Tensor) -> torch.Tensor:
        image, text = F.normalize(image, dim=-1), F.normalize(text, dim=-1)
        if kind == "sigmoid":
            return sigmoid_loss(image, text, clip.logit_scale.exp(), clip.logit_bias)
        return contrastive_loss(image, text, clip.logit_scale.exp())

    return loss_of


def _gradients(clip: CLIP) -> dict[str, torch.Tensor]:
    return {name: p.grad.clone() for name, p in clip.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("kind", ["softmax", "sigmoid"])
@pytest.mark.parametrize("tower", ["vit", "resnet"])
@pytest.mark.parametrize("chunk", [1, 4, 11])
def test_cached_gradients_equal_the_gradient_of_the_whole_batch(
    tower: str, kind: str, chunk: int
) -> None:
    clip = _clip(tower)
    pixels, tokens = _batch(clip)
    drops_patches = tower == "vit"
    # Which patches are dropped depends on how the batch is cut, so both sides are cut alike.
    torch.manual_seed(3)
    parts = [clip(*part) for part in zip(pixels.split(chunk), tokens.split(chunk), strict=True)]
    whole = _loss(clip, kind)(*(torch.cat(side) for side in zip(*parts, strict=True)))
    whole.backward()
    expected = _gradients(clip)
    clip.zero_grad()
    torch.manual_seed(3)
    cached = backward_in_chunks(clip, pixels, tokens, _loss(clip, kind), chunk)
    result = _gradients(clip)
    assert cached.item() == pytest.approx(whole.item(), rel=1e-12)
    assert result.keys() == expected.keys()
    assert {
        "logit_scale",
        "vision.position_embedding" if drops_patches else "vision.pool.value.bias",
    } <= result.keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(result[name], gradient, atol=1e-9, rtol=1e-6, msg=name)


def test_the_random_state_goes_on_as_after_one_forward_pass() -> None:
    clip = _clip("vit")
    pixels, tokens = _batch(clip)
    torch.manual_seed(5)
    with torch.no_grad():
        for part in zip(pixels.split(4), tokens.split(4), strict=True):
            clip(*part)
    expected = torch.rand(3)
    torch.manual_seed(5)
    backward_in_chunks(clip, pixels, tokens, _loss(clip, "softmax"), 4)
    assert torch.equal(torch.rand(3), expected)
