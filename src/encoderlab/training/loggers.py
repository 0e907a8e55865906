"""Loggers of training curves: TensorBoard, CSV, or Weights & Biases. Knows no trainer."""

from __future__ import annotations

import csv
import os
from pathlib import Path
from typing import Any

from encoderlab.core.distributed import is_secondary_rank
from encoderlab.core.progress import note
from encoderlab.errors import MissingError


def make_logger(kind: str, folder: Path, project: str | None = None, resumed: bool = False) -> Any:
    """A Lightning logger: tensorboard, csv or wandb; None for none."""
    # `resumed`: rows that the CSV has already are kept; a new run starts it anew.
    if kind == "none":
        return None
    if kind == "csv":
        return _csv_logger(folder, resumed)
    if kind == "tensorboard":
        from lightning.fabric.loggers import TensorBoardLogger

        return TensorBoardLogger(folder, name="curves", version="")
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


def _csv_logger(folder: Path, resumed: bool) -> Any:
    from lightning.fabric.loggers import CSVLogger

    # By default it writes every hundredth step alone, and not at the end.
    logger = CSVLogger(folder, name="curves", version="", flush_logs_every_n_steps=1)
    if is_secondary_rank():
        return logger
    file = Path(logger.log_dir) / "metrics.csv"
    rows: list[dict[str, str]] = []
    if resumed and file.is_file():
        with file.open(encoding="utf-8", newline="") as stream:
            rows = list(csv.DictReader(stream))
    # Lightning deletes a file that is there, with a warning.
    file.unlink(missing_ok=True)
    for row in rows:
        values = {name: float(value) for name, value in row.items() if value and name != "step"}
        logger.experiment.log_metrics(values, int(row["step"]))
    logger.save()
    return logger
