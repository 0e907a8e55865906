"""Loggers of training curves: TensorBoard, CSV, or Weights & Biases. Knows no trainer."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from encoderlab.core.progress import note
from encoderlab.errors import MissingError, UsageError

KINDS = ("tensorboard", "csv", "wandb", "none")


def make_logger(kind: str, folder: Path, project: str | None = None) -> Any:
    """A Lightning logger.

    Weights & Biases writes to disk only with `WANDB_MODE=offline` or `--offline`; `wandb sync`
    uploads it later.

    Args:
        kind: tensorboard, csv, wandb or none.
        folder: of the run.
        project: of Weights & Biases.

    Returns:
        The logger; None for "none".

    Raises:
        UsageError: an unknown kind.
        MissingError: wandb is not installed.
    """
    if kind == "none":
        return None
    if kind == "tensorboard":
        from lightning.fabric.loggers import TensorBoardLogger

        return TensorBoardLogger(folder, name="curves", version="")
    if kind == "csv":
        from lightning.fabric.loggers import CSVLogger

        return CSVLogger(folder, name="curves", version="")
    if kind != "wandb":
        raise UsageError("unknown logger", got=kind, want=", ".join(KINDS))
    try:
        from lightning.pytorch.loggers import WandbLogger

        offline = os.environ.get("HF_HUB_OFFLINE") == "1" or (
            os.environ.get("WANDB_MODE") == "offline"
        )
        if offline:
            note(f"wandb: offline, kept in {folder}; send it later with `wandb sync`")
        return WandbLogger(project=project or "encoderlab", save_dir=folder, offline=offline)
    except ModuleNotFoundError as error:
        raise MissingError(
            "Weights & Biases is not installed",
            got="logger=wandb",
            hint="pip install 'encoderlab[wandb]'",
        ) from error
