"""The settings that every command has: how it talks, its seed, whether it may use the network."""

from __future__ import annotations

from dataclasses import dataclass

from encoderlab.core.settings import setting

COMMON = "on every command"
WHERE = "where it runs"
DEVICE_HELP = "auto, cpu, cuda or cuda:N"
DEVICES_HELP = (
    "how many GPUs or processes on this machine; empty: as many as torchrun or srun started, else 1"
)
DTYPE_HELP = "auto, float32, bfloat16 or float16"
BACKENDS = ("torch", "compile", "auto")
BACKEND_HELP = "what runs the image tower; auto: compile where it gives the same and is faster here"
MODEL_HELP = "a bundled name, an alias, a checkpoint, a folder or a Hugging Face id[@revision]"
STORE_HELP = "folder of a feature store to read embeddings from and keep them in; empty: none"
ENGINE_HELP = (
    "who computes: local (this process), or ray (a cluster: RAY_ADDRESS, else this machine)"
)
WORKERS_HELP = "ray: processes with a model each; 0: one per GPU, or one per machine"
ENGINES = ("local", "ray")
SVG_HELP = "write figures as .svg too"
GRAD_CLIP_HELP = "largest gradient norm; 0: no limit"
SAVE_STEPS_HELP = "steps between checkpoints; empty: one per minute"
LOGGER_HELP = "logger of the training curves"
LOGGER_PROJECT_HELP = "project name for --logger wandb"
TRAIN_DIR_HELP = "folder for checkpoints and results"
FEATURES_HELP = "folder that keeps features between runs; empty: outputs/features"
IMG_ROOT_HELP = "folder that image paths are relative to; empty: that of the file"
IMAGES_HELP = "a folder, CSV or JSONL of images, or shards: train-{000..123}.tar, s3://b/*.parquet"
TRUST_HELP = "run the Python that comes with a checkpoint (only from a source you trust)"
QUANTISED = ("8bit", "4bit")
DEVICE_MAPS = ("auto", "balanced", "balanced_low_0", "sequential")


@dataclass
class Common:
    """What every command understands."""

    json: bool = setting(False, "print the result as JSON and nothing else", group=COMMON)
    quiet: bool = setting(False, "print only the result and errors", group=COMMON)
    verbose: bool = setting(False, "print more, and the traceback of an error", group=COMMON)
    offline: bool = setting(
        False, "do not use the network: only local files and caches", group=COMMON
    )
    seed: int = setting(0, "seed of all random numbers", group=COMMON)


@dataclass
class Loads(Common):
    """What every command that loads a model understands."""

    trust_remote_code: bool = setting(False, TRUST_HELP, group=WHERE)


@dataclass
class LoadsLLM(Loads):
    """What every command that loads a language model understands."""

    quantize: str | None = setting(
        None, "quantise the weights of the language models (GPU only)", choices=QUANTISED,
        group=WHERE,
    )  # fmt: skip
    device_map: str | None = setting(
        None, "distribute the layers of the language models over all GPUs and the main memory",
        choices=DEVICE_MAPS, group=WHERE,
    )  # fmt: skip


def place_of(heading: str) -> int:
    """Where a heading is listed: a command's own first, then where it runs, then what all have."""
    return {WHERE: 1, COMMON: 2}.get(heading, 0)


# Fields of `Common` that say how the program talks: no experiment takes them as a parameter.
TALK = ("json", "quiet", "verbose", "offline")
