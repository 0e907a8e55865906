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
BACKENDS = ("torch", "compile", "onnxruntime", "openvino", "auto")
BACKEND_HELP = "what runs the image tower; auto: the fastest of those here that give the same"
MODEL_HELP = "an embedded name, an alias, a checkpoint, a folder or a Hugging Face id[@revision]"
ENGINE_HELP = (
    "who computes: local (this process), or ray (a cluster: RAY_ADDRESS, else this machine)"
)
WORKERS_HELP = "ray: processes with a model each; 0: one per GPU, or one per machine"
ENGINES = ("local", "ray")
IMAGES_HELP = "a folder, CSV or JSONL of images, or shards: train-{000..123}.tar, s3://b/*.parquet"


@dataclass
class Common:
    """What every command understands."""

    json: bool = setting(False, "print the result as JSON and nothing else", group=COMMON)
    quiet: bool = setting(False, "say nothing but the result and errors", group=COMMON)
    verbose: bool = setting(False, "say more, and show where an error came from", group=COMMON)
    offline: bool = setting(False, "use no network: only what is here already", group=COMMON)
    seed: int = setting(0, "seed of everything random", group=COMMON)


# Fields of `Common` that say how the program talks: no experiment takes them as a parameter.
TALK = ("json", "quiet", "verbose", "offline")
