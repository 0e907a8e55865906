"""Settings of `encoderlab vlm train`, `vlm evaluate` and `vlm answer`."""

from __future__ import annotations

from dataclasses import dataclass

from encoderlab.core.common_settings import (
    COMMON,
    DEVICE_HELP,
    DEVICES_HELP,
    DTYPE_HELP,
    GRAD_CLIP_HELP,
    IMG_ROOT_HELP,
    LOGGER_HELP,
    LOGGER_PROJECT_HELP,
    SAVE_STEPS_HELP,
    SVG_HELP,
    TRAIN_DIR_HELP,
    WHERE,
    Loads,
)
from encoderlab.core.settings import output_folder, setting

MODEL, DATA, STEPS = "model", "questions", "optimisation"
KEEP, WATCH = "checkpoints", "watching"
QUESTIONS_HELP = (
    "synthetic, a chat-format JSONL, a CSV with image_path,question,answer (and kind, split, "
    "options separated by |), or shards of the same fields"
)
STORE_HELP = "folder of the feature store that holds the image tokens"
LANGUAGES_HELP = "languages of the synthetic questions"
N_QUESTIONS_HELP = "images of the synthetic world; of other data the first questions, 0: all"
VLM_HELP = "tiny-vlm, the folder of a run of vlm train, or a LLaVA folder or hub id"
REDUCE_HELP = "fewer image tokens: METHOD:TOKENS, pixel_shuffle:S, or none"
LAYER_HELP = "hidden state of the encoder; negative from the end"
PROJECTORS = ("linear", "mlp", "mlp_norm", "cross_attention")
LANGUAGES = ("en", "ko")
SYNTHETIC_ONLY = {"data": ("synthetic",)}


@dataclass
class VlmTrain(Loads):
    """Train a VLM of encoder, projector and language model on questions about images."""

    encoder: str = setting(
        "tiny-clip",
        "image encoder; NAME+NAME for two side by side, untrained:NAME for random weights",
        names="encoders",
        group=MODEL,
    )
    llm: str = setting("tiny-llama", "causal language model", names="llms", group=MODEL)
    projector: str = setting(
        "mlp", "projector from image tokens to the language model", choices=PROJECTORS, group=MODEL
    )
    norm: bool = setting(
        True, "LayerNorm before the projector, needed for large token norms", group=MODEL
    )
    reduce: str = setting("pixel_shuffle:2", REDUCE_HELP, group=MODEL)
    queries: int = setting(
        16, "number of output tokens of cross_attention", least=1, group=MODEL,
        needs={"projector": ("cross_attention",)},
    )  # fmt: skip
    layer: int = setting(-2, LAYER_HELP, group=MODEL)

    data: str = setting("synthetic", QUESTIONS_HELP, group=DATA)
    val_data: str | None = setting(
        None, "validation questions, which select the best epoch; empty: held-out images of "
        "the data",
        group=DATA,
    )  # fmt: skip
    img_root: str | None = setting(None, IMG_ROOT_HELP, group=DATA)
    split: str | None = setting(None, "train only on rows with this value of `split`", group=DATA)
    n_images: int = setting(
        10_000, "images of the synthetic world", least=1, group=DATA, needs=SYNTHETIC_ONLY
    )
    languages: list[str] = setting(
        ["en"], LANGUAGES_HELP, choices=LANGUAGES, group=DATA,
        needs=SYNTHETIC_ONLY,
    )  # fmt: skip
    captions: int = setting(
        0, "first train the projector alone on captions of this many synthetic images "
        "(LLaVA's first stage)", least=0, group=DATA,
    )  # fmt: skip

    train: str = setting(
        "all", "projector; lora: and low-rank updates of the language model; all: and its weights",
        choices=("projector", "lora", "all"), group=STEPS,
    )  # fmt: skip
    epochs: int = setting(1, "passes over the questions", least=1, group=STEPS)
    batch_size: int = setting(32, "batch size in questions", least=1, group=STEPS)
    chunk_size: int | None = setting(
        None, "questions per forward pass; empty: the whole batch", least=1, group=STEPS
    )
    lr: float = setting(2e-3, "peak learning rate of the projector", least=0, group=STEPS)
    llm_lr: float = setting(
        1e-3, "peak learning rate of the language model", least=0, group=STEPS,
        needs={"train": ("lora", "all")},
    )  # fmt: skip
    lora_rank: int = setting(
        8, "rank of the updates", least=1, group=STEPS, needs={"train": ("lora",)}
    )
    wd: float = setting(0.05, "weight decay", least=0, group=STEPS)
    warmup_steps: int | None = setting(
        None, "steps of linear warm-up; empty: a twentieth of all", least=0, group=STEPS
    )
    grad_clip: float = setting(1.0, GRAD_CLIP_HELP, least=0, group=STEPS)
    controls: list[str] = setting(
        ["blind"], "also train a twin: blind (without the image), untrained (random encoder)",
        choices=("blind", "untrained"), group=STEPS,
    )  # fmt: skip

    device: str = setting("auto", DEVICE_HELP, group=WHERE)
    precision: str = setting(
        "auto", "precision of training", choices=("auto", "fp32", "bf16", "fp16"), group=WHERE
    )
    devices: int | None = setting(None, DEVICES_HELP, least=1, group=WHERE)
    strategy: str = setting("auto", "distributed strategy: auto or ddp", group=WHERE)
    features_dir: str = setting(output_folder("features"), STORE_HELP, group=WHERE)

    resume: str | None = setting(None, "run folder to resume", group=KEEP)
    save_every_steps: int | None = setting(None, SAVE_STEPS_HELP, least=1, group=KEEP)
    logger: str = setting(
        "tensorboard", LOGGER_HELP,
        choices=("tensorboard", "wandb", "csv", "none"), group=WATCH,
    )  # fmt: skip
    wandb_project: str | None = setting(
        None, LOGGER_PROJECT_HELP, group=WATCH, needs={"logger": ("wandb",)}
    )
    output_dir: str = setting(output_folder("vlm-train"), TRAIN_DIR_HELP, group=COMMON)


@dataclass
class VlmEvaluate(Loads):
    """Measure the accuracy of VLMs, with the same questions asked without the image as control."""

    model: list[str] = setting(
        ["tiny-vlm"], f"one or several: {VLM_HELP}", flag=("--model", "--models")
    )
    data: str = setting("synthetic", QUESTIONS_HELP)
    img_root: str | None = setting(None, IMG_ROOT_HELP)
    split: str | None = setting(
        None, "train or test of the synthetic world (empty: test); else rows with this `split`"
    )
    n: int = setting(1000, N_QUESTIONS_HELP, least=0)
    languages: list[str] = setting(["en"], LANGUAGES_HELP, choices=LANGUAGES, needs=SYNTHETIC_ONLY)
    metric: str = setting(
        "exact", "metric: exact match, relaxed (numbers within 5 %), anls, or vqa (agreement "
        "with several annotators)", choices=("exact", "relaxed", "anls", "vqa"),
    )  # fmt: skip
    controls: bool = setting(
        True, "controls: ask without the image, and with the image of another question"
    )
    save_answers: bool = setting(False, "write one line per question to answers.jsonl")
    batch_size: int = setting(64, "batch size", least=1, group=WHERE)
    device: str = setting("auto", DEVICE_HELP, group=WHERE)
    dtype: str = setting("auto", DTYPE_HELP, group=WHERE)
    features_dir: str = setting(output_folder("features"), STORE_HELP, group=WHERE)
    output_dir: str = setting(output_folder("vlm-evaluate"), "folder for results", group=COMMON)


@dataclass
class VlmAnswer(Loads):
    """Answer a question about an image, with the probability of the answer and of others."""

    image: str | None = setting(None, "the image", positional=True)
    text: str | None = setting(None, "the question", flag=("--text", "--question"))
    model: str = setting("tiny-vlm", "tiny-vlm, or the folder of a run of vlm train")
    candidates: int = setting(5, "number of candidates", least=0)
    explain: bool = setting(
        False, "map the answer's attention over the image, and check the map by ablation"
    )
    svg: bool = setting(False, SVG_HELP)
    device: str = setting("auto", DEVICE_HELP, group=WHERE)
    dtype: str = setting("auto", DTYPE_HELP, group=WHERE)
    output_dir: str = setting(output_folder("vlm-answer"), "folder for results", group=COMMON)
