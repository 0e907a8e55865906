"""A small random LLaVA generates with fewer image tokens, and with all of them as before."""

from __future__ import annotations

import pytest
import torch

from encoderlab.compress.catalogue import FITTED, MAKE
from encoderlab.compress.compressor import Compressor
from encoderlab.compress.llava import compressed_vision
from encoderlab.compress.pooling import AveragePooling, CLSAttention, Strided
from encoderlab.compress.smaller_image import SmallerImage
from encoderlab.errors import UsageError
from encoderlab.models.token_compressor import AutoencoderShape, TokenAutoencoder

IMAGE, N = 90, 36


@pytest.fixture(scope="module")
def llava():
    from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig
    from transformers import LlavaForConditionalGeneration as Llava

    torch.manual_seed(0)
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(
            hidden_size=16, intermediate_size=32, num_hidden_layers=3, num_attention_heads=2,
            image_size=48, patch_size=8,
        ),
        text_config=LlamaConfig(
            vocab_size=100, hidden_size=24, intermediate_size=48, num_hidden_layers=2,
            num_attention_heads=2, num_key_value_heads=1, pad_token_id=0, bos_token_id=1,
            eos_token_id=2,
        ),
        image_token_index=IMAGE,
    )  # fmt: skip
    return Llava(config).eval()


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
        assert torch.equal(vision.last.positions[0, 7], torch.tensor([1.0, 1.0]))
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


def test_attention_of_cls_is_that_of_the_tower(llava, inputs):
    with compressed_vision(llava, CLSAttention(), 5) as vision:
        llava(**vision.fit(inputs))
        seen = vision._cls_attention
    tower = llava.model.vision_tower
    tower.set_attn_implementation("eager")
    maps = tower(inputs["pixel_values"], output_attentions=True).attentions
    tower.set_attn_implementation("sdpa")
    # Hidden state -2 leaves the second of three blocks.
    assert torch.allclose(seen, maps[1].mean(dim=1)[:, 0, 1:], atol=1e-5)
    assert vision.last.tokens.shape == (2, 5, 16)


@pytest.mark.parametrize("name", [name for name in MAKE if name not in FITTED])
def test_every_method_without_training_stands_there(llava, inputs, name):
    method, *_ = MAKE[name]()
    with compressed_vision(llava, method, 9) as vision:
        assert llava(**vision.fit(inputs)).logits.shape[1] == 13


def test_a_trained_compressor_stands_there(llava, inputs):
    compressor = Compressor(TokenAutoencoder(AutoencoderShape(16, (6, 6), ((3, 3),), 8)))
    with compressed_vision(llava, compressor, 9) as vision:
        assert llava(**vision.fit(inputs)).logits.isfinite().all()


@pytest.mark.parametrize(
    ("model", "method", "budget", "said"),
    [
        (torch.nn.Linear(2, 2), AveragePooling(), 4, "no vision tower and projector: got 'Linear'"),
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
