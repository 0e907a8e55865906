"""Tokens in a byte per channel: how far they are off, on disk and in a forecast."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from encoderlab.data import read_samples
from encoderlab.encoders.vision import load_vision
from encoderlab.errors import UsageError, WorkError
from encoderlab.feature_store import disk_estimate
from encoderlab.feature_store.extract import extract_images
from encoderlab.feature_store.quantise import from_int8, to_int8


@given(st.integers(0, 2**31), st.floats(1e-6, 1e6))
def test_a_value_is_off_by_half_a_code_at_most(seed, size):
    tokens = torch.randn(2, 3, 5, generator=torch.Generator().manual_seed(seed)) * size
    rows = to_int8(tokens)
    assert rows.dtype == torch.int8
    assert rows.shape == (2, 3, 5 + 4)
    code = tokens.abs().amax(dim=-1, keepdim=True) / 127
    assert ((from_int8(rows) - tokens).abs() <= 0.501 * code).all()


def test_tokens_of_nothing_stay_nothing():
    assert torch.equal(from_int8(to_int8(torch.zeros(1, 2, 3))), torch.zeros(1, 2, 3))


def test_the_store_gives_back_tokens_at_half_the_bytes(world, tmp_path):
    encoder = load_vision("tiny-clip", "cpu", "bfloat16")
    samples = read_samples(world / "images")
    result = extract_images(encoder, samples, tmp_path, what=["patches@3", "patches@3:int8"])
    whole, coded = (result.batch([2, 0], kind).float() for kind in ("patches@3", "patches@3:int8"))
    error = (coded - whole).square().sum() / (whole - whole.mean(dim=(0, 1))).square().sum()
    assert 0 < float(error) < 1e-3
    assert torch.equal(torch.from_numpy(result.rows([2, 0], "patches@3:int8")), coded)
    state = {s.key.what: s.state().bytes for s in result.tables.values()}
    assert state["patches@3:int8"] < 0.55 * state["patches@3"]
    # The forecast is what came of it, but for digests and checksums.
    for kind, size in state.items():
        assert disk_estimate.bytes_of_tokens(encoder, len(result), kind) == pytest.approx(
            size, rel=0.01
        )


def test_means_have_no_codes(world, tmp_path):
    encoder = load_vision("tiny-clip", "cpu", "float32")
    with pytest.raises(UsageError, match="unknown kind of feature: got 'mean@3:int8'"):
        extract_images(encoder, read_samples(world / "images"), tmp_path, what=["mean@3:int8"])


def test_what_does_not_fit_is_refused_before_anything_is_written(tmp_path):
    encoder = load_vision("tiny-clip", "cpu", "float32")
    assert (
        disk_estimate.check_room(encoder, 10, tmp_path / "a/b", "patches@3") == 10 * 144 * 192 * 4
    )
    with pytest.raises(WorkError, match="would not fit on the disk"):
        disk_estimate.check_room(encoder, 10**15, tmp_path / "a/b", "patches@3")
    assert not (tmp_path / "a").exists()
