"""Settings of `encoderlab train`."""

from __future__ import annotations

from dataclasses import dataclass

from encoderlab.core.common_settings import (
    COMMON,
    DEVICE_HELP,
    DEVICES_HELP,
    GRAD_CLIP_HELP,
    IMG_ROOT_HELP,
    LOGGER_HELP,
    LOGGER_PROJECT_HELP,
    SAVE_STEPS_HELP,
    TRAIN_DIR_HELP,
    WHERE,
    Common,
)
from encoderlab.core.settings import output_folder, setting

DATA, MODEL, SHAPE, STEPS = "data", "model", "shape (empty: the preset's)", "optimisation"
KEEP, WATCH = "checkpoints", "watching"
PATCHES = {"image_encoder": ("vit",)}


@dataclass
class Train(Common):
    """Train a CLIP of your own, from scratch, on your image-caption pairs."""

    train_csv: str = setting(
        "data/train.csv",
        "CSV with image_path,caption; also a folder, a JSONL, or shards: train-{000..123}.tar",
        also=("csv",),
        group=DATA,
    )
    val_csv: str | None = setting(
        None, "validation pairs; empty: hold out some of the images", group=DATA
    )
    img_root: str | None = setting(None, IMG_ROOT_HELP, group=DATA)
    multi_positive: bool = setting(
        True, "captions of one image are all positives of it", group=DATA
    )
    augment: str = setting(
        "none", "augmentation of the images", choices=("none", "light", "strong"), group=DATA
    )
    num_workers: int = setting(
        0,
        "data-loading processes; 0: none, or some if images are not kept in memory",
        least=0,
        group=DATA,
    )
    in_memory: str = setting(
        "auto",
        "keep decoded images in memory; auto: while they fit into 4 GB. Images in shards that are "
        "not kept are read shard by shard, each rank its own",
        choices=("auto", "yes", "no"),
        group=DATA,
    )

    image_encoder: str = setting(
        "vit", "kind of image encoder", choices=("vit", "resnet"), group=MODEL
    )
    preset: str = setting(
        "tiny",
        "named shape: tiny, ViT-B/32, ViT-B/16, ViT-L/14, ViT-L/14-336, RN50 ...",
        group=MODEL,
    )
    tokenizer: str = setting(
        "bpe", "bpe (trained on the captions), char, or a folder with tokenizer files", group=MODEL
    )
    activation: str | None = setting(
        None, "gelu or quick_gelu; empty: the preset's", choices=("gelu", "quick_gelu"), group=MODEL
    )
    patch_dropout: float = setting(
        0.0, "share of patches dropped in training", least=0, group=MODEL, needs=PATCHES
    )

    image_size: int | None = setting(None, "pixels per side", least=1, group=SHAPE)
    patch_size: int | None = setting(
        None, "pixels per side of a patch", least=1, group=SHAPE, needs=PATCHES
    )
    vision_width: int | None = setting(None, "channels of the image encoder", least=1, group=SHAPE)
    vision_layers: int | None = setting(
        None, "blocks of the image encoder", least=1, group=SHAPE, needs=PATCHES
    )
    vision_heads: int | None = setting(
        None, "attention heads of the image encoder", least=1, group=SHAPE
    )
    text_width: int | None = setting(None, "channels of the text encoder", least=1, group=SHAPE)
    text_layers: int | None = setting(None, "blocks of the text encoder", least=1, group=SHAPE)
    text_heads: int | None = setting(
        None, "attention heads of the text encoder", least=1, group=SHAPE
    )
    embed_dim: int | None = setting(None, "width of the shared embedding", least=1, group=SHAPE)
    context_length: int | None = setting(None, "tokens per caption at most", least=3, group=SHAPE)
    vocab_size: int | None = setting(
        None,
        "vocabulary size of a trained tokenizer",
        least=1,
        group=SHAPE,
        needs={"tokenizer": ("bpe", "char")},
    )

    epochs: int = setting(10, "passes over the data", least=1, group=STEPS)
    batch_size: int = setting(
        64, "batch size in pairs; the other pairs are the negatives", least=1, group=STEPS
    )
    chunk_size: int | None = setting(
        None,
        "pairs per forward pass (cached gradients); empty: the whole batch",
        least=1,
        group=STEPS,
    )
    lr: float = setting(5e-4, "peak learning rate", least=0, group=STEPS)
    wd: float = setting(0.1, "weight decay", least=0, also=("weight_decay",), group=STEPS)
    warmup_steps: int | None = setting(
        None, "steps of linear warm-up; empty: chosen from the length", least=0, group=STEPS
    )
    grad_clip: float = setting(1.0, GRAD_CLIP_HELP, least=0, group=STEPS)
    loss: str = setting("softmax", "contrastive loss", choices=("softmax", "sigmoid"), group=STEPS)
    ema: float = setting(0.0, "decay of averaged weights; 0: none", least=0, group=STEPS)
    grad_checkpointing: bool = setting(
        False, "recompute activations in the backward pass: less memory, more time", group=STEPS
    )

    device: str = setting("auto", DEVICE_HELP, group=WHERE)
    precision: str = setting(
        "auto", "precision", choices=("auto", "fp32", "bf16", "fp16"), group=WHERE
    )
    devices: int | None = setting(None, DEVICES_HELP, least=1, group=WHERE)
    strategy: str = setting("auto", "distributed strategy", choices=("auto", "ddp"), group=WHERE)

    resume: str | None = setting(None, "run folder or .ckpt file to resume", group=KEEP)
    save_every_steps: int | None = setting(None, SAVE_STEPS_HELP, least=1, group=KEEP)

    logger: str = setting(
        "tensorboard",
        LOGGER_HELP,
        choices=("tensorboard", "wandb", "csv", "none"),
        group=WATCH,
    )
    wandb_project: str | None = setting(
        None, LOGGER_PROJECT_HELP, group=WATCH, needs={"logger": ("wandb",)}
    )
    zero_shot_classes: str = setting(
        "", "comma-separated classes for zero-shot classification during training", group=WATCH
    )
    output_dir: str = setting(output_folder("train"), TRAIN_DIR_HELP, group=COMMON)
