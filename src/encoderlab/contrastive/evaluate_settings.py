"""Settings of `encoderlab evaluate`."""

from __future__ import annotations

from dataclasses import dataclass

from encoderlab.core.common_settings import (
    BACKEND_HELP,
    BACKENDS,
    COMMON,
    DEVICE_HELP,
    DTYPE_HELP,
    IMG_ROOT_HELP,
    MODEL_HELP,
    STORE_HELP,
    WHERE,
    Loads,
)
from encoderlab.core.settings import output_folder, setting


@dataclass
class Evaluate(Loads):
    """Measure image-text retrieval in both directions: Recall@K, median rank, MRR, and chance."""

    csv: str = setting("data/train.csv", "held-out pairs: CSV with image_path,caption")
    img_root: str | None = setting(None, IMG_ROOT_HELP)
    model: str = setting("tiny-clip", MODEL_HELP, names="encoders")
    features_dir: str | None = setting(None, STORE_HELP, group=WHERE)
    batch_size: int = setting(64, "batch size", least=1, group=WHERE)
    device: str = setting("auto", DEVICE_HELP, group=WHERE)
    dtype: str = setting("auto", DTYPE_HELP, group=WHERE)
    backend: str = setting("torch", BACKEND_HELP, choices=BACKENDS, group=WHERE)
    output_dir: str = setting(output_folder("evaluate"), "folder for results", group=COMMON)
