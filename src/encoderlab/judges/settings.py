"""Settings of `encoderlab judge mteb`."""

from __future__ import annotations

from dataclasses import dataclass

from encoderlab.core.common_settings import (
    COMMON,
    DEVICE_HELP,
    DTYPE_HELP,
    MODEL_HELP,
    WHERE,
    Loads,
)
from encoderlab.core.settings import output_folder, setting

MOCK = "mock"


@dataclass
class JudgeMteb(Loads):
    """Score an encoder by tasks of MTEB and MIEB, the benchmarks of text and image embeddings."""

    model: str = setting(
        "tiny-clip", f"{MODEL_HELP}; untrained:NAME is its images before training", names="encoders"
    )
    tasks: list[str] = setting(
        [], "tasks of mteb by name, such as CIFAR10; mock: the small tasks that mteb brings to "
        "check a model, which need no network",
    )  # fmt: skip
    batch_size: int = setting(32, "batch size", least=1, group=WHERE)
    device: str = setting("auto", DEVICE_HELP, group=WHERE)
    dtype: str = setting("auto", DTYPE_HELP, group=WHERE)
    output_dir: str = setting(output_folder("judge-mteb"), "folder for results", group=COMMON)
