"""A small random LLaVA generates with fewer image tokens, and with all of them as before."""

from __future__ import annotations

import pytest
import torch
import transformers as hf

from encoderlab.compression.compressor import Compressor
from encoderlab.compression.hooks import compressed_vision, family_of
from encoderlab.compression.hooks.square import LlavaVision
from encoderlab.compression.smaller_image import SmallerImage
from encoderlab.errors import UsageError
from encoderlab.models.token_compressor import AutoencoderShape, TokenAutoencoder
from encoderlab.patch_tokens.methods import METHODS, is_fitted, reducers
from encoderlab.patch_tokens.pooling import AveragePooling, CLSAttention, Strided

IMAGE, N = 90, 36


VIT = {
    "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2,
    "image_size": 48, "patch_size": 8,
}  # fmt: skip


def make(vision=hf.CLIPVisionConfig, pad=0, **settings):
    """A LLaVA of random weights on a tower of 6 x 6 patches."""
    torch.manual_seed(0)
    text = hf.LlamaConfig(
        vocab_size=100, hidden_size=24, intermediate_size=48, num_hidden_layers=2,
        num_attention_heads=2, num_key_value_heads=1, pad_token_id=pad, bos_token_id=1,
        eos_token_id=2,
    )  # fmt: skip
    config = hf.LlavaConfig(
        vision_config=vision(**VIT), text_config=text, image_token_index=IMAGE, **settings
    )
    return hf.LlavaForConditionalGeneration(config).eval()


class Watched(CLSAttention):
    """Keeps what it is given."""

    def _compress(self, tokens, grid, budget, side):
        self.tokens, self.side = tokens, side
        return super()._compress(tokens, grid, budget, side)


def attentions(tower, pixels):
    """Attention maps of the tower's own eager attention, block by block."""
    tower.set_attn_implementation("eager")
    maps = tower(pixels, output_attentions=True).attentions
    tower.set_attn_implementation("sdpa")
    return maps


@pytest.fixture(scope="module")
def llava():
    return make()


@pytest.fixture(scope="module")
def siglip_llava():
    return make(hf.SiglipVisionConfig, vision_feature_select_strategy="full")


@pytest.fixture
def inputs():
    torch.manual_seed(1)
    ids = torch.tensor([[1, 5, *[IMAGE] * N, 7, 8], [1, 5, *[IMAGE] * N, 9, 11]])
    return {
        "input_ids": ids,
        "attention_mask": torch.ones_like(ids),
        "pixel_values": torch.randn(2, 3, 48, 48),
    }


def test_an_identity_leaves_the_logits_unchanged(llava, inputs):
    plain = llava(**inputs).logits
    with compressed_vision(llava, Strided(), N) as vision:
        fitted = vision.fit(inputs)
        assert torch.equal(fitted["input_ids"], inputs["input_ids"])
        assert torch.allclose(llava(**fitted).logits, plain, atol=1e-6)
        assert torch.equal(vision.last[0].positions[0, 7], torch.tensor([1.0, 1.0]))
    assert not llava.model.multi_modal_projector._forward_pre_hooks
    assert torch.equal(llava(**inputs).logits, plain)


def test_generate_runs_on_nine_tokens_in_their_places(llava, inputs):
    with compressed_vision(llava, AveragePooling(), 9) as vision:
        fitted = vision.fit(inputs)
        assert fitted["input_ids"].tolist() == [
            [1, 5, *[IMAGE] * 9, 7, 8], [1, 5, *[IMAGE] * 9, 9, 11],
        ]  # fmt: skip
        out = llava.generate(**fitted, max_new_tokens=3, do_sample=False)
        assert out.shape == (2, 13 + 3)
        # What the language model reads in those places is the projected means.
        tower = llava.model.vision_tower(inputs["pixel_values"], output_hidden_states=True)
        tokens = tower.hidden_states[-2][:, 1:]
        means = AveragePooling().compress(tokens, (6, 6), 9).tokens
        seen = llava(**fitted).image_hidden_states
    assert torch.allclose(seen, llava.model.multi_modal_projector(means).flatten(0, 1)
                          .reshape(seen.shape), atol=1e-5)  # fmt: skip


def test_rows_with_other_numbers_of_images_are_padded_on_the_left(llava):
    ids = torch.tensor(
        [[1, *[IMAGE] * N, 4, *[IMAGE] * N, 5], [0] * (N + 1) + [1, *[IMAGE] * N, 6]]
    )
    with compressed_vision(llava, AveragePooling(), 4) as vision:
        fitted = vision.fit(
            {"input_ids": ids, "attention_mask": (ids != 0).long(),
             "pixel_values": torch.randn(3, 3, 48, 48)}
        )  # fmt: skip
        expected = [1, *[IMAGE] * 4, 4, *[IMAGE] * 4, 5]
        assert fitted["input_ids"][0][-len(expected) :].tolist() == expected
        assert fitted["input_ids"][1][-6:].tolist() == [1, *[IMAGE] * 4, 6]
        assert fitted["attention_mask"][1].sum() == 6
        assert llava(**fitted).logits.isfinite().all()


UNEQUAL = torch.tensor([[1, *[IMAGE] * N, *[7] * (N + 4)], [1, *[IMAGE] * 2 * N, *[7] * 4]])


@torch.no_grad()
def test_padding_is_counted_by_no_loss(llava):
    # Nothing predicts the first token of a row.
    labels = UNEQUAL.masked_fill((UNEQUAL == IMAGE) | (UNEQUAL == 1), -100)
    with compressed_vision(llava, AveragePooling(), 4) as vision:
        fitted = vision.fit(
            {"input_ids": UNEQUAL, "labels": labels, "pixel_values": torch.randn(3, 3, 48, 48)}
        )
        ids = fitted["input_ids"]
        assert ids.shape == (2, 5 + N + 4) and (ids[1, : N - 4] == 0).all()
        expected = torch.where(ids == 7, 7, -100)
        assert torch.equal(fitted["labels"], expected)
        # The loss of both rows is that of their own tokens.
        losses = []
        for row, images in ((0, slice(1)), (1, slice(1, 3))):
            own = fitted["attention_mask"][row] == 1
            alone = {k: fitted[k][row : row + 1, own] for k in ("input_ids", "labels")}
            losses.append(llava(**alone, pixel_values=fitted["pixel_values"][images]).loss)
        counted = (fitted["labels"][:, 1:] != -100).sum(dim=1)
        mean = sum(loss * n for loss, n in zip(losses, counted, strict=True)) / counted.sum()
        assert float(llava(**fitted).loss) == pytest.approx(float(mean), rel=1e-4)


def test_every_tensor_of_the_processor_is_padded_by_its_own_filler(llava):
    attended = torch.ones_like(UNEQUAL)
    given = {
        "input_ids": UNEQUAL,
        "position_ids": torch.arange(UNEQUAL.shape[1]).expand_as(UNEQUAL),
        "token_type_ids": (UNEQUAL == IMAGE).long(),
        "attention_mask": attended,
    }
    with compressed_vision(llava, AveragePooling(), 4) as vision:
        fitted = vision.fit(given)
    padding = N - 4
    assert fitted["attention_mask"].sum(dim=1).tolist() == [N + 9, 13]
    assert fitted["attention_mask"][1, :padding].sum() == 0
    assert fitted["token_type_ids"][1].tolist() == [0] * (padding + 1) + [1] * 8 + [0] * 4
    assert fitted["position_ids"][0].tolist() == list(range(N + 9))
    assert fitted["position_ids"][1].tolist() == [0] * padding + list(range(13))


def test_the_padding_token_of_the_whole_model_is_taken_where_the_text_part_has_none():
    model = make(pad=None)
    assert model.config.get_text_config().pad_token_id is None
    model.config.pad_token_id = 3
    with compressed_vision(model, AveragePooling(), 4) as vision:
        assert vision.fit({"input_ids": UNEQUAL})["input_ids"][1, 0] == 3


def test_all_tokens_of_a_siglip_tower_are_patches(siglip_llava, inputs):
    plain = siglip_llava(**inputs).logits
    with compressed_vision(siglip_llava, Strided(), N) as vision:
        assert torch.allclose(siglip_llava(**vision.fit(inputs)).logits, plain, atol=1e-6)
    with compressed_vision(siglip_llava, AveragePooling(), 9) as vision:
        fitted = vision.fit(inputs)
        seen = siglip_llava(**fitted).image_hidden_states
    tower = siglip_llava.model.vision_tower(inputs["pixel_values"], output_hidden_states=True)
    means = AveragePooling().compress(tower.hidden_states[-2], (6, 6), 9).tokens
    expected = siglip_llava.model.multi_modal_projector(means).reshape(seen.shape)
    assert torch.allclose(seen, expected, atol=1e-5)


def test_attention_of_a_tower_without_cls_is_what_each_patch_receives(siglip_llava, inputs):
    with compressed_vision(siglip_llava, Watched(), 5) as vision:
        siglip_llava(**vision.fit(inputs))
    maps = attentions(siglip_llava.model.vision_tower, inputs["pixel_values"])
    # Hidden state -2 leaves the second of three blocks.
    assert torch.allclose(vision.method.side.attention, maps[1].mean(dim=(1, 2)), atol=1e-6)


@pytest.mark.parametrize(
    ("vision", "strategy", "said"),
    [
        (hf.SiglipVisionConfig, "default", "the first patch is not among the image tokens"),
        (hf.CLIPVisionConfig, "full", "CLS is among the image tokens"),
        (hf.Dinov2Config, "default", "tokens of this vision tower cannot be compressed"),
    ],
)
def test_a_tower_whose_tokens_do_not_make_the_grid_is_refused(vision, strategy, said):
    if vision is hf.Dinov2Config:
        vision = lambda **kind: hf.Dinov2Config(**{**kind, "intermediate_size": None})  # noqa: E731
    with pytest.raises(UsageError, match=said):
        LlavaVision(make(vision, vision_feature_select_strategy=strategy), Strided(), 9)


@pytest.mark.parametrize("kind", ["VipLlava", "LlavaOnevision", "VideoLlava"])
def test_other_llavas_are_refused_before_anything_runs(kind):
    name = f"{kind}ForConditionalGeneration"
    config = getattr(hf, f"{kind}Config")()
    model = type(name, (torch.nn.Module,), {"config": config})()
    with pytest.raises(UsageError, match=f"got '{name} .*; expected a VLM.*qwen3_vl"):
        family_of(model)


def test_attention_of_cls_is_that_of_the_tower(llava, inputs):
    with compressed_vision(llava, Watched(), 5) as vision:
        llava(**vision.fit(inputs))
    maps = attentions(llava.model.vision_tower, inputs["pixel_values"])
    # Hidden state -2 leaves the second of three blocks.
    expected = maps[1].mean(dim=1)[:, 0, 1:]
    assert torch.allclose(vision.method.side.attention, expected, atol=1e-6)
    assert [kept.tokens.shape for kept in vision.last] == [(1, 5, 16)] * 2


@pytest.mark.parametrize(
    "name", [name for name, method in METHODS.items() if method.made_by and not is_fitted(name)]
)
def test_every_method_without_training_stands_there_or_is_refused(llava, inputs, name):
    method, *_ = reducers(name)
    if name == "pixel_shuffle":
        with pytest.raises(UsageError, match="more channels"), compressed_vision(llava, method, 9):
            pass
        return
    with compressed_vision(llava, method, 9) as vision:
        assert llava(**vision.fit(inputs)).logits.shape[1] == 13


def test_a_trained_compressor_stands_there(llava, inputs):
    compressor = Compressor(TokenAutoencoder(AutoencoderShape(16, (6, 6), ((3, 3),), 8)))
    with compressed_vision(llava, compressor, 9) as vision:
        assert llava(**vision.fit(inputs)).logits.isfinite().all()


@pytest.mark.parametrize(
    ("model", "method", "budget", "said"),
    [
        (
            torch.nn.Linear(2, 2),
            AveragePooling(),
            4,
            "this kind of model cannot be compressed: got 'Linear'",
        ),
        (None, SmallerImage(None, 1), 4, "runs the encoder again"),  # type: ignore[arg-type]
        (None, AveragePooling(), 7, "cannot keep exactly so many tokens: got '7 of 6 x 6'"),
    ],
)
def test_what_cannot_be_is_said(llava, model, method, budget, said):
    with pytest.raises(UsageError, match=said), compressed_vision(model or llava, method, budget):
        pass


def test_placeholders_of_no_whole_image_are_refused(llava, inputs):
    said = "not those of whole images: got '35 in row 0'"
    with (
        compressed_vision(llava, AveragePooling(), 4) as vision,
        pytest.raises(UsageError, match=said),
    ):
        vision.fit({"input_ids": inputs["input_ids"][:, :-3]})
