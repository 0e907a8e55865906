"""The towers' shapes, invariances and promises, apart from any checkpoint."""

import dataclasses

import pytest
import torch

from encoderlab.errors import UsageError
from encoderlab.models.clip import CLIP, CLIPConfig, ResNetConfig, TextConfig, ViTConfig, preset
from encoderlab.models.clip.blocks import attend
from encoderlab.models.clip.config import PRESETS

END = 99


def _clip(**changes) -> CLIP:
    text = TextConfig(100, 12, 16, 2, 2, 32, end_token_id=END)
    vision = ViTConfig(32, 8, 24, 2, 3, 48)
    torch.manual_seed(0)
    return CLIP(CLIPConfig(vision, text, 8), **changes)


def test_patches_come_with_their_grid_and_without_cls():
    tokens = _clip().eval().vision(torch.randn(2, 3, 32, 32))
    assert tokens.patches.shape == (2, 16, 24)
    assert tokens.grid == (4, 4)
    assert tokens.pooled.shape == (2, 24)


@pytest.mark.parametrize("share", [0.25, 0.5, 0.9])
def test_patch_dropout_keeps_its_share_in_training_and_everything_in_eval(share):
    clip = _clip(patch_dropout=share)
    pixels = torch.randn(2, 3, 32, 32)
    assert clip.train().vision(pixels).patches.shape[1] == round(16 * (1 - share))
    assert clip.eval().vision(pixels).patches.shape[1] == 16


def test_words_after_the_end_do_not_change_the_sentence():
    clip = _clip().eval()
    rows = torch.tensor([[1, 5, 6, END, 0, 0], [1, 5, 6, END, 7, 8]])
    first, second = clip.encode_text(rows)
    torch.testing.assert_close(first, second)


def test_a_word_before_the_end_does_change_it():
    clip = _clip().eval()
    first, second = clip.encode_text(torch.tensor([[1, 5, 6, END], [1, 9, 6, END]]))
    assert (first - second).abs().max() > 1e-4


@pytest.mark.parametrize("name", ["tiny", "tiny-resnet"])
def test_gradient_checkpointing_changes_no_gradient(name):
    torch.manual_seed(0)
    config = preset(name)
    text = dataclasses.replace(config.text, vocab_size=100, end_token_id=END)
    clip = CLIP(dataclasses.replace(config, text=text)).train()
    pixels = torch.randn(2, 3, 96, 96)
    tokens = torch.tensor([[1, 2, END], [1, 3, END]])
    found = []
    for on in (False, True):
        clip.zero_grad()
        clip.set_gradient_checkpointing(on)
        image, text_vector = clip(pixels, tokens)
        (image * text_vector).sum().backward()
        found.append([p.grad.clone() for p in clip.parameters() if p.grad is not None])
    for without, with_it in zip(*found, strict=True):
        torch.testing.assert_close(without, with_it)


@pytest.mark.parametrize("causal", [False, True])
def test_both_ways_to_attend_agree(causal):
    torch.manual_seed(0)
    q, k, v = (torch.randn(2, 3, 9, 8).bfloat16() for _ in range(3))
    fused = attend(q, k, v, causal)
    products = attend(q.requires_grad_(), k, v, causal)
    assert products.requires_grad
    torch.testing.assert_close(fused, products.detach(), atol=2e-2, rtol=2e-2)


def test_the_resnet_gives_one_image_the_same_embedding_in_any_company():
    torch.manual_seed(0)
    tower = CLIP(preset("tiny-resnet")).train().vision
    pixels = torch.randn(3, 3, 96, 96)
    torch.testing.assert_close(
        tower(pixels).pooled[:1], tower(pixels[:1]).pooled, atol=1e-5, rtol=1e-4
    )


def test_the_temperature_starts_at_one_over_seven_hundredths_and_stops_at_a_hundred():
    clip = _clip()
    assert clip.logit_scale.exp().item() == pytest.approx(1 / 0.07)
    clip.logit_scale.data.fill_(9.0)
    clip.clamp_logit_scale()
    assert clip.logit_scale.exp().item() == pytest.approx(100, rel=1e-5)


# Published sizes of OpenAI's checkpoints; RN50 there has batch normalisation's as many parameters.
@pytest.mark.parametrize(
    ("name", "millions"),
    [
        ("ViT-B/32", 151.3),
        ("ViT-B/16", 149.6),
        ("ViT-L/14", 427.6),
        ("ViT-L/14-336", 427.9),
        ("RN50", 102.0),
    ],
)
def test_presets_have_the_published_number_of_parameters(name, millions):
    with torch.device("meta"):
        count = sum(p.numel() for p in CLIP(PRESETS[name]).parameters())
    assert count / 1e6 == pytest.approx(millions, abs=0.1)


def test_the_configuration_survives_as_plain_values():
    for config in PRESETS.values():
        assert CLIPConfig.from_dict(config.to_dict()) == config


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: ViTConfig(width=100, heads=3), "vision width must be a positive multiple"),
        (lambda: ViTConfig(image_size=100, patch_size=32), "image size must be a positive"),
        (lambda: TextConfig(width=0), "text width"),
        (lambda: ResNetConfig(image_size=100), "stride of a ResNet"),
        (lambda: ViTConfig(activation="relu"), "unknown activation"),  # type: ignore[arg-type]
        (lambda: preset("ViT-B/23"), "unknown preset.*'ViT-B/32'"),
    ],
)
def test_an_impossible_shape_is_refused_in_words(make, says):
    with pytest.raises(UsageError, match=says):
        make()
