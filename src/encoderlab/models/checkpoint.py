"""The checkpoint of a training run: weights, configuration, vocabulary, optimiser state.

Read with `weights_only=True`, so that no code in a file is executed; written atomically. Imports no
model: the caller passes the class that the file must contain.
"""

from __future__ import annotations

import pickle
import zipfile
from pathlib import Path
from typing import Any

import torch

from encoderlab.core.atomic_io import atomic_write
from encoderlab.errors import EncoderLabError, MissingError, UsageError
from encoderlab.models.clip.config import check_held
from encoderlab.models.clip.preprocess import Preprocess
from encoderlab.models.clip.tokenizer import Tokenizer

FORMAT = "encoderlab-clip-1"
# Errors that reading the entries of a damaged record may raise.
WRONG = (
    KeyError, TypeError, ValueError, AttributeError, RuntimeError, IndexError, OverflowError,
    ZeroDivisionError, AssertionError,
)  # fmt: skip


def describe(model: Any) -> dict[str, Any]:
    """The description of a model, without its weights, as plain values."""
    return {
        "class": model.kind,
        "config": model.config.to_dict(),
        "preprocess": model.preprocess.to_dict(),
        "tokenizer": None if model.tokenizer is None else model.tokenizer.to_json(),
        "pad_id": None if model.tokenizer is None else model.tokenizer.pad_id,
        "sigmoid": model.logit_bias is not None,
    }


def build(
    record: dict[str, Any], make: Any, *, patch_dropout: float = 0.0, held: int | None = None
) -> Any:
    """A new model from a description.

    Args:
        record: of `describe`.
        make: the class of the model, such as `CLIP`.
        patch_dropout: passed to `make`.
        held: the number of values in its weights, if known: a configuration with more is refused
            before memory is allocated.

    Returns:
        A model of that class, with new weights.

    Raises:
        UsageError: the description is of another class.
    """
    kind = record.get("class", make.kind)
    if kind != make.kind:
        raise UsageError(
            "the training checkpoint holds another kind of model",
            got=kind,
            want=f"{make.kind}; use the folder that the recipe of the other kind exported",
        )
    config = make.config_class.from_dict(record["config"])
    if held is not None:
        check_held(config, held)
    tokenizer = None
    if record["tokenizer"] is not None:
        tokenizer = Tokenizer.from_json(
            record["tokenizer"], config.text.context_length, record["pad_id"]
        )
        tokenizer.check_fits(config.text.vocab_size)
    preprocess = Preprocess.from_dict(record["preprocess"])
    model = make(config, tokenizer, preprocess, patch_dropout=patch_dropout)
    if record["sigmoid"]:
        model.add_logit_bias()
    return model


def write(path: Path, record: dict[str, Any], format: str = FORMAT) -> None:
    """Writes a record of tensors and plain values, atomically."""
    with atomic_write(path) as unfinished:
        torch.save({"format": format, **record}, unfinished)


def read(path: Path, format: str = FORMAT, *, lazily: bool = False) -> dict[str, Any]:
    """The content of a file of `write`, on the CPU.

    Args:
        path: the file.
        format: the format that it must have.
        lazily: read the values of tensors only when they are used.

    Returns:
        Name of the entry -> its value.

    Raises:
        MissingError: no such file.
        UsageError: it is damaged, or another file.
        OSError: the disk fails.
    """  # noqa: DOC501
    if not path.is_file():
        raise MissingError(
            "no such checkpoint",
            got=str(path),
            want="a file of a run, such as outputs/train/checkpoints/latest.ckpt",
        )
    try:
        record = torch.load(path, map_location="cpu", weights_only=True, mmap=lazily)
    except (pickle.UnpicklingError, EOFError, zipfile.BadZipFile, OSError, *WRONG) as error:
        # The reader of a damaged pickle raises any of these.
        if isinstance(error, OSError) and error.filename is not None:
            raise  # an error of the disk
        raise UsageError(
            "the checkpoint cannot be read",
            got=str(path),
            want="a training checkpoint of encoderlab",
            hint="it is damaged or of another program; that of an earlier epoch may be whole",
        ) from error
    if not isinstance(record, dict) or record.get("format") != format:
        actual = record.get("format") if isinstance(record, dict) else type(record).__name__
        raise UsageError(
            "the file is no training checkpoint of encoderlab",
            got=f"{path} (format {actual!r})",
            want=format,
        )
    return record


def rebuild(path: Path, record: dict[str, Any], make: Any, *, patch_dropout: float = 0.0) -> Any:
    """A new model of class `make` from the record that `read` gave; `path` is for errors."""
    try:
        held = numbers_in(record["weights"])
        return build(record["model"], make, patch_dropout=patch_dropout, held=held)
    except WRONG as error:
        raise incomplete(path, error) from error


def numbers_in(weights: dict[str, Any]) -> int:
    """The number of values in all tensors."""
    return sum(tensor.numel() for tensor in weights.values())


def incomplete(path: Path, error: Exception) -> UsageError:
    """The error for a checkpoint of the right format with an entry that is missing or not valid."""
    if isinstance(error, EncoderLabError):
        return UsageError(error.what, got=error.got, want=error.want, hint=f"checkpoint: {path}")
    reason = (str(error).strip().splitlines() or [""])[0][:200]
    if isinstance(error, KeyError):
        reason = f"it has no {reason}"
    return UsageError(
        "the checkpoint does not fit together",
        got=f"{path}: {reason or type(error).__name__}",
        want="a training checkpoint of encoderlab, as it was written",
        hint="it was changed or damaged; that of an earlier epoch may be whole",
    )


def load(path: Path, make: Any) -> Any:
    """The model of class `make` in a checkpoint, in eval mode; its averaged weights, if any."""
    record = read(path)
    try:
        weights = record["average"] or record["weights"]
        model = build(record["model"], make, held=numbers_in(weights))
        model.load_state_dict(weights)
        model.trained_steps = int(record["step"])
    except WRONG as error:
        raise incomplete(path, error) from error
    return model.eval()
