"""Settings of `encoderlab classify`."""

from __future__ import annotations

from dataclasses import dataclass

from encoderlab.core.common_settings import (
    BACKEND_HELP,
    BACKENDS,
    COMMON,
    DEVICE_HELP,
    DTYPE_HELP,
    MODEL_HELP,
    STORE_HELP,
    WHERE,
    Loads,
)
from encoderlab.core.settings import output_folder, setting


@dataclass
class Classify(Loads):
    """Classify images by the names of the classes alone (zero-shot)."""

    image_dir: str = setting("data/images", "folder of images, flat or one sub-folder per class")
    classes: str = setting(
        "",
        "comma-separated class names, a name with a comma in double quotes; empty: "
        "names of the sub-folders",
    )
    templates: list[str] = setting([], "sentences with {} where the class goes; empty: built in")
    model: str = setting("tiny-clip", MODEL_HELP, names="encoders")
    top_k: int = setting(5, "classes shown per image", least=1)
    labels_csv: str | None = setting(
        None, "CSV with image_path,label: the true labels; paths are relative to its folder"
    )
    save_csv: str | None = setting(None, "also write the predictions to this CSV")
    features_dir: str | None = setting(None, STORE_HELP, group=WHERE)
    batch_size: int = setting(64, "batch size", least=1, group=WHERE)
    device: str = setting("auto", DEVICE_HELP, group=WHERE)
    dtype: str = setting("auto", DTYPE_HELP, group=WHERE)
    backend: str = setting("torch", BACKEND_HELP, choices=BACKENDS, group=WHERE)
    output_dir: str = setting(output_folder("classify"), "folder for results", group=COMMON)
