"""The file of a training run: weights, shapes, vocabulary, and whatever is needed to go on.

Read only with `weights_only=True`: tensors and plain values, nothing that runs. Written under a
temporary name, synced and renamed, so a file that is there is whole.
"""

from __future__ import annotations

import pickle
import zipfile
from pathlib import Path
from typing import Any

import torch

from encoderlab.errors import MissingError, UsageError
from encoderlab.models.clip.clip import CLIP
from encoderlab.models.clip.config import CLIPConfig
from encoderlab.models.clip.preprocess import Preprocess
from encoderlab.models.clip.tokenizer import Tokenizer
from encoderlab.models.siglip import SigLIP, SigLIPConfig
from encoderlab.whole_files import replacing

FORMAT = "encoderlab-clip-1"
TwoTowers = CLIP | SigLIP


def describe(model: TwoTowers) -> dict[str, Any]:
    """All of `model` but its weights, as plain values."""
    return {
        "class": "siglip" if isinstance(model, SigLIP) else "clip",
        "config": model.config.to_dict(),
        "preprocess": model.preprocess.to_dict(),
        "tokenizer": None if model.tokenizer is None else model.tokenizer.to_json(),
        "pad_id": None if model.tokenizer is None else model.tokenizer.pad_id,
        "sigmoid": model.logit_bias is not None,
    }


def build(record: dict[str, Any], *, patch_dropout: float = 0.0) -> TwoTowers:
    """A fresh model of the description that `describe` gave."""
    shape = SigLIPConfig if record.get("class") == "siglip" else CLIPConfig
    config: CLIPConfig | SigLIPConfig = shape.from_dict(record["config"])
    tokenizer = None
    if record["tokenizer"] is not None:
        tokenizer = Tokenizer.from_json(
            record["tokenizer"], config.text.context_length, record["pad_id"]
        )
    preprocess = Preprocess.from_dict(record["preprocess"])
    if isinstance(config, SigLIPConfig):
        return SigLIP(config, tokenizer, preprocess, patch_dropout=patch_dropout)
    model = CLIP(config, tokenizer, preprocess, patch_dropout=patch_dropout)
    if record["sigmoid"]:
        model.add_logit_bias()
    return model


def write(path: Path, record: dict[str, Any], format: str = FORMAT) -> None:
    """Puts `record` (tensors and plain values) at `path`, whole or not at all."""
    with replacing(path) as unfinished:
        torch.save({"format": format, **record}, unfinished)


def read(path: Path, format: str = FORMAT) -> dict[str, Any]:
    """What `write` put at `path`, on the CPU.

    Raises:
        MissingError: no such file.
        UsageError: damaged, or not one of ours.
    """
    if not path.is_file():
        raise MissingError(
            "no such checkpoint",
            got=str(path),
            want="a file of a run, such as outputs/train/checkpoints/latest.ckpt",
        )
    try:
        record = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, zipfile.BadZipFile, KeyError) as error:
        raise UsageError(
            "the checkpoint cannot be read",
            got=str(path),
            want="a training checkpoint of encoderlab",
            hint="it is damaged or of another program; that of an earlier epoch may be whole",
        ) from error
    if not isinstance(record, dict) or record.get("format") != format:
        found = record.get("format") if isinstance(record, dict) else type(record).__name__
        raise UsageError(
            "the file is no training checkpoint of encoderlab",
            got=f"{path} (format {found!r})",
            want=format,
        )
    return record


def load(path: Path) -> TwoTowers:
    """The model of a checkpoint in eval mode: the averaged weights where the run kept an average.

    Raises:
        MissingError, UsageError: as `read`.
    """
    record = read(path)
    model = build(record["model"])
    model.load_state_dict(record["average"] or record["weights"])
    model.trained_steps = record["step"]
    return model.eval()
