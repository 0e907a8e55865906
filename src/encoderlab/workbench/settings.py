"""Settings of the commands about EncoderLab itself: ls, doctor, rerun, features, app."""

from __future__ import annotations

from dataclasses import dataclass

from encoderlab.core.common_settings import (
    BACKEND_HELP,
    BACKENDS,
    COMMON,
    DEVICE_HELP,
    DTYPE_HELP,
    ENGINE_HELP,
    ENGINES,
    FEATURES_HELP,
    IMAGES_HELP,
    IMG_ROOT_HELP,
    MODEL_HELP,
    TRUST_HELP,
    WHERE,
    WORKERS_HELP,
    Common,
    Loads,
)
from encoderlab.core.settings import output_folder, setting

EXTRACT = {"action": ("extract",)}
DOOR, OFFER, LIMITS = "who gets in", "what visitors may choose", "limits"


@dataclass
class Ls(Common):
    """List encoders, LLMs, metrics, commands, data sets and compression methods."""

    what: str | None = setting(
        None,
        "what to list; empty: everything",
        positional=True,
        choices=(
            "encoders",
            "llms",
            "metrics",
            "commands",
            "datasets",
            "methods",
            "compressors",
            "vlms",
            "references",
        ),
    )


@dataclass
class Doctor(Common):
    """Report what is installed, cached and missing, and test the bundled models."""

    model: str | None = setting(
        None,
        "encoder whose patch tokens are also measured: norms, outliers, massive "
        "channels, rank and range",
        positional=True,
        names="encoders",
    )
    deep: bool = setting(
        False, "also check our own networks and losses against published sizes and closed forms"
    )
    device: str = setting("auto", DEVICE_HELP, group=WHERE)
    trust_remote_code: bool = setting(False, TRUST_HELP, group=WHERE, needs={"model": ()})


@dataclass
class Rerun(Loads):
    """Repeat a run from its folder, and compare the results."""

    run_folder: str = setting(
        "", "folder with the config.yaml and run.json of a run", positional=True
    )
    output_dir: str | None = setting(
        None,
        "folder for the repeated run; empty: beside the first, with -rerun at the end of its name",
        group=COMMON,
    )


@dataclass
class Draw(Common):
    """Draw images and caption pairs for trying every command: shapes, charts, tables, pages."""

    folder: str = setting(".", "folder in which photos/ and pairs/ are made", positional=True)
    photos: int = setting(100, "images in photos/, one sub-folder per kind", least=1)
    pairs: int = setting(
        1000, "pairs in pairs/train.csv; val.csv and test.csv get a fifth each", least=1
    )
    languages: list[str] = setting(["en"], "languages of the captions", choices=("en", "ko"))
    size: int = setting(96, "pixels per side", least=8)


@dataclass
class Features(Common):
    """Compute, list, verify and delete stored features."""

    action: str = setting(
        "ls",
        "ls: what is stored; extract: compute and store; verify: read every byte; prune: remove "
        "what is damaged; delete: remove what TARGET names",
        positional=True,
        choices=("ls", "extract", "verify", "prune", "delete"),
    )
    target: str | None = setting(
        None,
        f"extract: {IMAGES_HELP}; delete: a table, an encoder, or all",
        positional=True,
        needs={"action": ("extract", "delete")},
    )
    encoders: list[str] = setting(
        ["tiny-clip"], "extract: " + MODEL_HELP, names="encoders", needs=EXTRACT
    )
    what: list[str] = setting(
        ["pooled"],
        "extract: pooled, cls, projected, patches, patches@LAYER[:int8], mean@LAYER",
        needs=EXTRACT,
    )
    img_root: str | None = setting(None, IMG_ROOT_HELP, needs=EXTRACT)
    engine: str = setting(
        "local", "extract: " + ENGINE_HELP, choices=ENGINES, group=WHERE, needs=EXTRACT
    )
    workers: int = setting(
        0,
        "extract with " + WORKERS_HELP,
        least=0,
        group=WHERE,
        needs={**EXTRACT, "engine": ("ray",)},
    )
    batch_size: int = setting(32, "batch size", least=1, group=WHERE, needs=EXTRACT)
    device: str = setting("auto", DEVICE_HELP, group=WHERE, needs=EXTRACT)
    dtype: str = setting("auto", DTYPE_HELP, group=WHERE, needs=EXTRACT)
    backend: str = setting("torch", BACKEND_HELP, choices=BACKENDS, group=WHERE, needs=EXTRACT)
    trust_remote_code: bool = setting(False, TRUST_HELP, group=WHERE, needs=EXTRACT)
    output_dir: str = setting(output_folder("features"), "folder of the store", group=COMMON)


@dataclass
class App(Common):
    """Open the web page over all commands."""

    host: str = setting(
        "127.0.0.1", "address to listen on; 0.0.0.0: every network of this machine", group=DOOR
    )
    port: int = setting(7860, "port to listen on; 0: any free port", least=0, group=DOOR)
    share: bool = setting(False, "a public address through Gradio's servers", group=DOOR)
    auth: str | None = setting(
        None,
        "user:password that visitors must enter; other users of this machine can see it "
        "unless it is set by the variable ENCODERLAB_APP_AUTH",
        group=DOOR,
    )
    encoders: list[str] = setting(
        [],
        "encoders that visitors may choose; empty: the bundled ones, and for this machine alone "
        "every alias too",
        group=OFFER,
        names="encoders",
    )
    llms: list[str] = setting(
        [],
        "language models that visitors may choose; empty: as with encoders",
        group=OFFER,
        names="llms",
    )
    vlms: list[str] = setting(
        [], "VLMs that visitors may ask, by name or folder; empty: the bundled one", group=OFFER
    )
    allow_any_model: bool = setting(
        False, "visitors may also name any model of the Hugging Face hub", group=OFFER
    )
    data_root: str | None = setting(
        None, "more data that visitors may choose, as in `encoderlab compare`", group=OFFER
    )
    db: str | None = setting(
        None, "an index that visitors may search; empty: only the built-in one", group=OFFER
    )
    max_upload_mb: int = setting(10, "largest upload, in megabytes", least=1, group=LIMITS)
    max_images: int = setting(100, "largest number of images of one upload", least=1, group=LIMITS)
    max_visitor_mb: int = setting(
        500, "limit for uploads and results of all visitors, in megabytes", least=10, group=LIMITS
    )
    max_model_gb: int = setting(
        4, "gigabytes of models kept loaded between requests", least=1, group=LIMITS
    )
    device: str = setting("auto", DEVICE_HELP, group=WHERE)
    features_dir: str | None = setting(None, FEATURES_HELP, group=WHERE)
    output_dir: str = setting(
        output_folder("app"),
        "folder for uploads and results; emptied when the page closes",
        group=COMMON,
    )
