"""Settings of `encoderlab index` and `encoderlab search`."""

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
    WHERE,
    Loads,
)
from encoderlab.core.settings import output_folder, setting

DB_HELP = "folder of the index, or its address in object storage: s3://bucket/index"


@dataclass
class Index(Loads):
    """Embed a folder, CSV or JSONL of images and keep the index up to date with it."""

    source: str = setting("data/images", "folder, CSV or JSONL of images", positional=True)
    db: str = setting(output_folder("index"), DB_HELP)
    model: str = setting("tiny-clip", MODEL_HELP, names="encoders")
    img_root: str | None = setting(None, IMG_ROOT_HELP)
    remove: bool = setting(
        False, "remove the images of SOURCE from the index; SOURCE need not exist any more"
    )
    ann: bool = setting(
        False, "also build or update an approximate index, and measure it (from 100,000 images)"
    )
    recall: float = setting(
        0.95,
        "recall at 10 that the approximate index must reach",
        least=0,
        needs={"ann": (True,)},
    )
    batch_size: int = setting(64, "batch size", least=1, group=WHERE)
    device: str = setting("auto", DEVICE_HELP, group=WHERE)
    dtype: str = setting("auto", DTYPE_HELP, group=WHERE)
    backend: str = setting("torch", BACKEND_HELP, choices=BACKENDS, group=WHERE)
    output_dir: str = setting(
        output_folder("index"), "folder for the record of the run", group=COMMON
    )


@dataclass
class Search(Loads):
    """Find images by a sentence or by an image."""

    query: str | None = setting(None, "the sentence to search for", positional=True)
    image: str | None = setting(None, "search with this image instead of a sentence")
    db: str = setting(output_folder("index"), DB_HELP)
    k: int = setting(5, "number of results", flag=("-k", "--k"), least=1)
    where: str | None = setting(
        None, "keep only rows for which this SQL condition holds: caption LIKE '%dog%'"
    )
    exact: bool = setting(False, "compare with every image, even if there is an approximate index")
    html: str | None = setting(None, "also write a gallery page to this file")
    model: str | None = setting(None, MODEL_HELP + "; empty: the index's own", names="encoders")
    device: str = setting("auto", DEVICE_HELP, group=WHERE)
    dtype: str = setting("auto", DTYPE_HELP, group=WHERE)
    output_dir: str = setting(
        output_folder("search"), "folder for the record of the run", group=COMMON
    )
