"""Loggers of training curves: TensorBoard, CSV, or Weights & Biases. Knows no trainer."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from encoderlab.core.progress import note
from encoderlab.errors import MissingError


def make_logger(kind: str, folder: Path, project: str | None = None) -> Any:
    """A Lightning logger: tensorboard, csv or wandb; None for none."""
    if kind == "none":
        return None
    if kind != "wandb":
        from lightning.fabric import loggers

        make = loggers.CSVLogger if kind == "csv" else loggers.TensorBoardLogger
        return make(folder, name="curves", version="")
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
