"""Settings of the commands about EncoderLab itself: ls, doctor, rerun, features, app."""

from __future__ import annotations

from dataclasses import dataclass

from encoderlab.settings.common import COMMON, DEVICE_HELP, DTYPE_HELP, MODEL_HELP, WHERE, Common
from encoderlab.settings.setting import output_folder, setting


@dataclass
class Ls(Common):
    """List what there is: encoders, LLMs, metrics, commands, data sets, ways to compress."""

    what: str | None = setting(
        None,
        "what to list; empty: everything",
        positional=True,
        choices=("encoders", "llms", "metrics", "commands", "datasets", "methods", "compressors"),
    )


@dataclass
class Doctor(Common):
    """Say what is installed, cached and missing, and test the embedded models."""

    device: str = setting("auto", DEVICE_HELP, group=WHERE)


@dataclass
class Rerun(Common):
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
        "extract: a folder, CSV or JSONL of images; delete: a shelf, an encoder, or all",
        positional=True,
    )
    encoders: list[str] = setting(["tiny-clip"], "extract: " + MODEL_HELP)
    what: list[str] = setting(
        ["pooled"], "extract: pooled, cls, projected, patches, patches@LAYER[:int8], mean@LAYER"
    )
    img_root: str | None = setting(None, "folder the image paths start from; empty: the CSV's")
    batch_size: int = setting(32, "images at once", least=1, group=WHERE)
    device: str = setting("auto", DEVICE_HELP, group=WHERE)
    dtype: str = setting("auto", DTYPE_HELP, group=WHERE)
    trust_remote_code: bool = setting(
        False,
        "run the Python that comes with a checkpoint (only from a source you trust)",
        group=WHERE,
    )
    output_dir: str = setting(output_folder("features"), "folder of the store", group=COMMON)


@dataclass
class App(Common):
    """Open the web page over all commands."""

    host: str = setting("127.0.0.1", "address to listen on")
    port: int = setting(7860, "port to listen on", least=0)
    output_dir: str = setting(output_folder("app"), "folder for results", group=COMMON)
