"""A training checkpoint is whole and ours, or refused in one sentence; nothing in it runs."""

import os
import pickle
from pathlib import Path

import pytest
import torch
from tests.small_models import make_clip

from encoderlab.errors import UsageError
from encoderlab.models import checkpoint
from encoderlab.models.clip import CLIP


@pytest.fixture
def record() -> dict:
    model = make_clip()
    return {
        "model": checkpoint.describe(model), "weights": model.state_dict(), "average": None,
        "step": 3,
    }  # fmt: skip


def test_it_comes_back(tmp_path, record):
    checkpoint.write(tmp_path / "x.ckpt", record)
    assert checkpoint.load(tmp_path / "x.ckpt", CLIP).trained_steps == 3


@pytest.mark.parametrize(
    ("keys", "value", "says"),
    [
        (("weights",), None, "does not fit together"),
        (("step",), None, "does not fit together"),
        (("step",), [], "does not fit together"),
        (("model", "config", "embed_dim"), [[]], "does not fit together"),
        (("model", "config", "text", "layers"), -0.0, "layers of the text encoder is no size"),
        (("model", "config", "vision", "norm_eps"), {}, "norm_eps of the image encoder"),
        (("model", "config", "text", "end_token_id"), 1.5, "end_token_id of the text encoder"),
        (("model", "config", "vision", "width"), 3 * 2**38, "more weights than the checkpoint has"),
        (("model", "config", "text", "layers"), 10**9, "more weights than the checkpoint has"),
        (("model", "config", "text", "context_length"), 10**9, "more weights than the checkpoint"),
        (("model", "preprocess", "size"), 10**9, "images cannot be resized to this"),
        (("model", "preprocess", "std"), [0.0, 1.0, 1.0], "standard deviation of pixels is 0"),
        (("model", "preprocess", "resample"), 99, "unknown resampling filter"),
        (("model", "tokenizer"), "{", "tokenizer file cannot be read"),
        (("model", "pad_id"), -5, "cannot be read"),
    ],
)
def test_a_spoiled_value_is_named(tmp_path, record, keys, value, says):
    inner = record
    for key in keys[:-1]:
        inner = inner[key]
    inner[keys[-1]] = value
    checkpoint.write(tmp_path / "x.ckpt", record)
    with pytest.raises(UsageError, match=says) as caught:
        checkpoint.load(tmp_path / "x.ckpt", CLIP)
    assert "x.ckpt" in str(caught.value)


def test_a_value_that_is_gone_is_named(tmp_path, record):
    del record["model"]["preprocess"]["size"], record["average"]
    checkpoint.write(tmp_path / "x.ckpt", record)
    with pytest.raises(UsageError, match=r"does not fit together.*it has no 'average'"):
        checkpoint.load(tmp_path / "x.ckpt", CLIP)


class Evil:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self):
        return os.system, (f"touch {self.mark}",)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_that_would_run_a_program_does_not(tmp_path, zipped):
    mark, file = tmp_path / "ran", tmp_path / "x.ckpt"
    if zipped:
        torch.save({"format": checkpoint.FORMAT, "step": Evil(mark)}, file)
    else:
        file.write_bytes(pickle.dumps(Evil(mark)))
    with pytest.raises(UsageError, match="the checkpoint cannot be read"):
        checkpoint.read(file)
    assert not mark.exists()


@pytest.mark.parametrize("seed", range(40))
def test_damage_anywhere_is_refused_or_harmless(tmp_path, record, seed):
    file = tmp_path / "x.ckpt"
    checkpoint.write(file, record)
    content = bytearray(file.read_bytes())
    at = (seed * 7919) % 3000
    content[at : at + 8] = bytes([0, 0, 0, 0, 0, 0, 0, 128])
    file.write_bytes(content)
    try:
        checkpoint.load(file, CLIP)
    except UsageError as error:
        assert "x.ckpt" in str(error)
