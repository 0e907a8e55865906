"""The scale of tokens equals numpy's, and what a projector cannot take is named."""

import numpy as np
import pytest
import torch

from encoderlab.data.synthetic import generate
from encoderlab.encoders.vision import load_vision
from encoderlab.errors import UsageError
from encoderlab.metrics.token_scale import token_scale


@pytest.fixture(scope="module")
def tokens():
    encoder = load_vision("tiny-clip", "cpu", "float32")
    return encoder.encode([generate(seed, split="test").image for seed in range(6)]).patches


def test_values_are_numpys(tokens):
    scale = token_scale(list(tokens))
    x = tokens.double().numpy()
    flat = x.reshape(-1, x.shape[-1])
    length = np.linalg.norm(x, axis=-1)
    middle = np.median(length, axis=1, keepdims=True)
    deviation = 1.4826 * np.median(np.abs(length - middle), axis=1, keepdims=True)
    shares = np.linalg.svd(flat - flat.mean(axis=0), compute_uv=False) ** 2
    shares = shares[shares > 1e-12 * shares.sum()] / shares.sum()
    outlying = (length > middle + 5 * deviation) & (length > 1.5 * middle)
    assert (scale.tokens, scale.width) == flat.shape
    assert scale.norm_mean == pytest.approx(length.mean())
    assert scale.norm_sd == pytest.approx(length.std())
    assert scale.sd == pytest.approx(flat.std())
    assert outlying.any() and scale.outlier_share == pytest.approx(outlying.mean())
    assert scale.effective_rank == pytest.approx(np.exp(-(shares * np.log(shares)).sum()), rel=1e-5)
    assert scale.largest == np.abs(flat).max()
    assert (scale.massive_channels, scale.below_bf16, scale.problems()) == ((), 0, ())


@pytest.mark.parametrize("times", [50, 0.01])
def test_scaled_tokens_need_normalisation(tokens, times):
    scale = token_scale(list(times * tokens))
    assert scale.sd == pytest.approx(times * float(tokens.std()), rel=1e-4)
    [problem] = scale.problems()
    assert f"token standard deviation is {scale.sd:.3g}: standardise or LayerNorm" in problem


def test_massive_channels_are_named_with_the_ones_that_bf16_cannot_hold(tokens):
    changed = tokens.clone()
    changed[..., 7] += 1000 * tokens.std()
    scale = token_scale(list(changed))
    assert scale.massive_channels == (7,)
    spread = changed[..., 7].double().std(correction=0)
    assert scale.below_bf16 == int(changed[..., 7].double().mean().abs() / 128 > spread) == 1
    assert len(scale.problems()) == 3


def test_fp16_overflows_beyond_its_largest_number():
    fits = torch.tensor([[65504.0, -1.0], [-65504.0, 1.0]])
    for values, overflows in ((fits, False), (fits * 1.001, True)):
        assert any("fp16" in problem for problem in token_scale([values]).problems()) is overflows
        assert bool(values.half().isinf().any()) is overflows


def test_values_that_are_not_finite_or_not_there_are_refused():
    for images in ([], [torch.full((2, 2), torch.nan)]):
        with pytest.raises(UsageError):
            token_scale(images)
