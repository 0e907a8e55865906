"""Settings of the commands about EncoderLab itself: ls, doctor, rerun, features, app."""

from __future__ import annotations

from dataclasses import dataclass

from encoderlab.settings.common import COMMON, DEVICE_HELP, WHERE, Common
from encoderlab.settings.setting import output_folder, setting


@dataclass
class Ls(Common):
    """List what there is: encoders, LLMs, metrics, commands, data sets."""

    what: str | None = setting(
        None,
        "what to list; empty: everything",
        positional=True,
        choices=("encoders", "llms", "metrics", "commands", "datasets"),
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
    """Show and tidy the store of features that were computed before."""

    action: str = setting(
        "ls", "what to do with the store", positional=True, choices=("ls", "verify", "prune")
    )
    output_dir: str = setting(output_folder("features"), "folder of the store", group=COMMON)


@dataclass
class App(Common):
    """Open the web page over all commands."""

    host: str = setting("127.0.0.1", "address to listen on")
    port: int = setting(7860, "port to listen on", least=0)
    output_dir: str = setting(output_folder("app"), "folder for results", group=COMMON)
