"""Our CLIP to and from the files of a Hugging Face CLIPModel, whose names only this module knows.

Reads and writes config.json, model.safetensors, tokenizer and preprocessor without importing
transformers; the tests compare both directions with it.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from encoderlab.core.atomic_io import atomic_write, write_text_atomic
from encoderlab.core.progress import warn
from encoderlab.errors import EncoderLabError, MissingError, UsageError
from encoderlab.models.clip.config import (
    ACTIVATIONS,
    CLIPConfig,
    ResNetConfig,
    TextConfig,
    ViTConfig,
    check_held,
)
from encoderlab.models.clip.preprocess import Preprocess
from encoderlab.models.clip.tokenizer import END, START, Tokenizer
from encoderlab.models.folder import WEIGHTS, read_record, weight_files
from encoderlab.models.hub import local_folder
from encoderlab.models.preprocessing import as_record, read_preprocess

# The defaults of transformers for missing keys of config.json (configuration_clip.py).
TEXT_DEFAULTS: dict[str, Any] = {
    "vocab_size": 49408, "hidden_size": 512, "intermediate_size": 2048, "num_hidden_layers": 12,
    "num_attention_heads": 8, "max_position_embeddings": 77, "hidden_act": "quick_gelu",
    "layer_norm_eps": 1e-5, "eos_token_id": 49407, "pad_token_id": 1,
}  # fmt: skip
VISION_DEFAULTS: dict[str, Any] = {
    "hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12,
    "num_attention_heads": 12, "image_size": 224, "patch_size": 32, "hidden_act": "quick_gelu",
    "layer_norm_eps": 1e-5,
}  # fmt: skip

# Our fields -> their keys.
TEXT_KEYS = {
    "vocab_size": "vocab_size", "width": "hidden_size", "mlp_width": "intermediate_size",
    "layers": "num_hidden_layers", "heads": "num_attention_heads",
    "context_length": "max_position_embeddings", "activation": "hidden_act",
    "norm_eps": "layer_norm_eps",
}  # fmt: skip
VISION_KEYS = {
    "image_size": "image_size", "patch_size": "patch_size", "width": "hidden_size",
    "mlp_width": "intermediate_size", "layers": "num_hidden_layers",
    "heads": "num_attention_heads", "activation": "hidden_act", "norm_eps": "layer_norm_eps",
}  # fmt: skip

BLOCK_NAMES = {
    "norm1": "layer_norm1",
    "norm2": "layer_norm2",
    "attention.out": "self_attn.out_proj",
    "mlp.0": "mlp.fc1",
    "mlp.2": "mlp.fc2",
}
OTHER_NAMES = {
    "vision.class_embedding": "vision_model.embeddings.class_embedding",
    "vision.patch_embedding.weight": "vision_model.embeddings.patch_embedding.weight",
    "vision.position_embedding": "vision_model.embeddings.position_embedding.weight",
    "vision.pre_norm": "vision_model.pre_layrnorm",  # the misspelling is theirs
    "vision.post_norm": "vision_model.post_layernorm",
    "text.token_embedding.weight": "text_model.embeddings.token_embedding.weight",
    "text.position_embedding": "text_model.embeddings.position_embedding.weight",
    "text.final_norm": "text_model.final_layer_norm",
    "visual_projection.weight": "visual_projection.weight",
    "text_projection.weight": "text_projection.weight",
    "logit_scale": "logit_scale",
}


def load(name: str | Path, make: Any) -> Any:
    """Our CLIP, of class `make`, from a Hugging Face CLIP folder or hub id, in eval mode, fp32."""
    folder = local_folder(name)
    record = read_config(folder)
    with one_sentence(
        folder, "the files of a CLIPModel, as transformers' save_pretrained writes them"
    ):
        return _load(folder, record, make)


@contextlib.contextmanager
def one_sentence(folder: Path, want: str) -> Iterator[None]:
    """Blames the errors that a wrong value in the files of `folder` may cause on them."""
    try:
        yield
    except EncoderLabError:
        raise
    except (
        TypeError,
        ValueError,
        LookupError,
        AttributeError,
        ArithmeticError,
        RuntimeError,
    ) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        raise UsageError(
            "a value in the checkpoint's files makes no sense", got=f"{folder}: {reason}", want=want
        ) from error


def _load(folder: Path, record: dict[str, Any], make: Any) -> Any:
    config = _our_config(record)
    theirs = read_weights(weight_files(folder))
    check_held(config, sum(tensor.numel() for tensor in theirs.values()))
    tokenizer = None
    if any((folder / file).is_file() for file in ("tokenizer.json", "vocab.json")):
        text = _tower(record, "text", TEXT_DEFAULTS)
        tokenizer = Tokenizer.from_folder(
            folder, config.text.context_length, pad_id(folder, text["vocab_size"])
        )
        tokenizer.check_fits(config.text.vocab_size)
        if config.text.end_token_id not in (None, tokenizer.end_id):
            warn_of_other_end(folder, config.text.end_token_id, tokenizer.end_id)
            config = replace(config, text=replace(config.text, end_token_id=tokenizer.end_id))
    notes = record.get("encoderlab", {})
    model = make(
        config,
        tokenizer,
        _read_preprocess(folder, config.vision.image_size),
        trained_steps=notes.get("trained_steps"),
    )
    weights = _our_names(theirs, model.state_dict())
    if "logit_bias" in notes:
        model.add_logit_bias(notes["logit_bias"])
        weights["logit_bias"] = torch.tensor(float(notes["logit_bias"]))
    _fill(model, weights, folder)
    return model.eval()


def warn_of_other_end(folder: Path, looked_for: object, written: int) -> None:
    """Warns that the tokenizer does not end texts with the token at which the text tower pools. The
    tower would pool at the first token of every text, before any word.

    Args:
        folder: of the checkpoint.
        looked_for: the id in its config.json.
        written: the id that its tokenizer writes.
    """
    warn(
        f"{folder}: eos_token_id={looked_for} of its config.json is not {written}, with which its "
        "tokenizer ends a text: all texts would be equal, so the tokenizer's is taken"
    )


def save(model: Any, folder: Path, *, half: bool = False) -> Path:
    """Writes `model` as a Hugging Face CLIP folder, each file atomically.

    Args:
        model: a CLIP with a vision transformer.
        folder: created if it does not exist.
        half: store weights as fp16 instead of fp32.

    Returns:
        `folder`.

    Raises:
        UsageError: the image tower is a ResNet.
    """
    if isinstance(model.config.vision, ResNetConfig):
        raise UsageError(
            "a CLIP with a ResNet has no Hugging Face form",
            got="image_encoder=resnet",
            want="a vision transformer",
            hint="use the training checkpoint itself: --model outputs/train",
        )
    folder.mkdir(parents=True, exist_ok=True)
    weights = _their_names(model, torch.float16 if half else torch.float32)
    write_weights(weights, folder)
    write_json(folder / "preprocessor_config.json", as_record(model.preprocess))
    if model.tokenizer is not None:
        write_tokenizer(model.tokenizer, folder)
    write_json(folder / "config.json", _their_config(model, half))
    return folder


def read_config(folder: Path) -> dict[str, Any]:
    """The config.json of a CLIP folder."""
    path = folder / "config.json"
    if not path.is_file():
        raise MissingError(
            "the folder is no checkpoint",
            got=str(folder),
            want="a folder with config.json and model.safetensors",
        )
    record = read_record(path)
    family = record.get("model_type")
    if family != "clip":
        raise UsageError(
            "the checkpoint belongs to another family",
            got=family,
            want="clip",
            hint=f"its folder: {folder}",
        )
    return record


def _our_config(record: dict[str, Any]) -> CLIPConfig:
    text, vision = _tower(record, "text", TEXT_DEFAULTS), _tower(record, "vision", VISION_DEFAULTS)
    for tower in (text, vision):
        if tower["hidden_act"] not in ACTIVATIONS:
            raise UsageError(
                "the checkpoint uses an activation that CLIP does not have",
                got=tower["hidden_act"],
                want=" or ".join(ACTIVATIONS),
            )
    end = text["eos_token_id"]
    return CLIPConfig(
        ViTConfig(**{ours: vision[theirs] for ours, theirs in VISION_KEYS.items()}),
        TextConfig(
            **{ours: text[theirs] for ours, theirs in TEXT_KEYS.items()},
            end_token_id=None if end == 2 else end,
        ),
        record.get("projection_dim", 512),
    )


def _tower(record: dict[str, Any], side: str, defaults: dict[str, Any]) -> dict[str, Any]:
    """The part of a tower in a config.json."""
    # Files of old versions have a second part, with suffix `_dict`, which with its defaults has
    # precedence over the first.
    old = record.get(f"{side}_config_dict")
    complete = {} if old is None else {**defaults, **old}
    return {**defaults, **(record.get(f"{side}_config") or {}), **complete}


def _their_config(model: Any, half: bool) -> dict[str, Any]:
    vision, text = model.config.vision, model.config.text
    assert isinstance(vision, ViTConfig)
    ends: dict[str, int | None] = {"bos_token_id": None, "pad_token_id": None}
    if model.tokenizer is not None:
        ends = {"bos_token_id": model.tokenizer.start_id, "pad_token_id": model.tokenizer.pad_id}
    notes: dict[str, Any] = {"trained_steps": model.trained_steps}
    if model.logit_bias is not None:
        notes["logit_bias"] = model.logit_bias.item()
    return {
        "architectures": ["CLIPModel"],
        "model_type": "clip",
        "dtype": "float16" if half else "float32",
        "projection_dim": model.config.embed_dim,
        "logit_scale_init_value": 2.6592,
        "text_config": {
            "model_type": "clip_text_model",
            **{theirs: getattr(text, ours) for ours, theirs in TEXT_KEYS.items()},
            "projection_dim": model.config.embed_dim,
            "eos_token_id": 2 if text.end_token_id is None else text.end_token_id,
            **ends,
        },
        "vision_config": {
            "model_type": "clip_vision_model",
            **{theirs: getattr(vision, ours) for ours, theirs in VISION_KEYS.items()},
            "num_channels": 3,
            "projection_dim": model.config.embed_dim,
        },
        "encoderlab": notes,
    }


def _their_names(model: Any, dtype: torch.dtype) -> dict[str, Tensor]:
    renamed: dict[str, Tensor] = {}
    for ours, tensor in model.state_dict().items():
        if ours == "logit_bias":
            continue  # CLIPModel has none, so it is stored in config.json
        names = _names(ours)
        tensor = tensor.detach().to("cpu", dtype).contiguous()
        parts = [part.clone() for part in tensor.chunk(3)] if len(names) > 1 else [tensor]
        renamed |= zip(names, parts, strict=True)
    return renamed


def _names(ours: str) -> list[str]:
    """Their name of one of our parameters; three for our fused query, key and value."""
    if ".attention.qkv." in ours:
        return [_translate(ours.replace("attention.qkv", f"self_attn.{p}_proj")) for p in "qkv"]
    return [_translate(ours)]


def _translate(ours: str) -> str:
    if ".transformer.blocks." in ours:
        tower, _, rest = ours.partition(".transformer.blocks.")
        index, _, inside = rest.partition(".")
        for our_part, their_part in BLOCK_NAMES.items():
            inside = inside.replace(our_part, their_part)
        return f"{tower}_model.encoder.layers.{index}.{inside}"
    if ours in OTHER_NAMES:
        return OTHER_NAMES[ours]
    module, _, leaf = ours.rpartition(".")
    return f"{OTHER_NAMES[module]}.{leaf}"


def _our_names(theirs: dict[str, Tensor], expected: Iterable[str]) -> dict[str, Tensor]:
    weights: dict[str, Tensor] = {}
    for ours in expected:
        names = _names(ours)
        absent = [name for name in names if name not in theirs]
        if absent:
            raise UsageError(
                "the checkpoint lacks a weight that its configuration names",
                got=f"no {absent[0]}",
                want="a complete CLIPModel checkpoint",
            )
        weights[ours] = (
            torch.cat([theirs[name].float() for name in names])
            if len(names) > 1
            else theirs[names[0]].float()
        )
    return weights


def _fill(model: Any, weights: dict[str, Tensor], folder: Path) -> None:
    for name, parameter in model.state_dict().items():
        if parameter.shape != weights[name].shape:
            raise UsageError(
                "a weight does not have the shape that the configuration says",
                got=f"{name} {tuple(weights[name].shape)} in {folder}",
                want=str(tuple(parameter.shape)),
            )
    model.load_state_dict(weights)


def read_weights(files: Iterable[Path]) -> dict[str, Tensor]:
    """All tensors in safetensors files."""
    weights: dict[str, Tensor] = {}
    for path in files:
        try:
            weights.update(load_file(path))
        except (SafetensorError, OSError) as error:
            raise UsageError(
                "the weights cannot be read",
                got=f"{path}: {error}",
                hint="the file is damaged or cut short: fetch it again",
            ) from error
    return weights


def pad_id(folder: Path, vocab_size: int) -> int | None:
    """The padding of the checkpoint's tokenizer; None for padding with end of text."""
    path = folder / "tokenizer_config.json"
    if not path.is_file() or not (folder / "tokenizer.json").is_file():
        return None
    token = read_record(path).get("pad_token")
    if isinstance(token, dict):
        token = token.get("content")
    stored = read_record(folder / "tokenizer.json")
    ids = {entry["content"]: entry["id"] for entry in stored.get("added_tokens", [])}
    ids.update(stored.get("model", {}).get("vocab", {}) if token not in ids else {})
    number = ids.get(token)
    return number if number is not None and number < vocab_size else None


def _read_preprocess(folder: Path, image_size: int) -> Preprocess:
    preprocess = read_preprocess(folder, "CLIPImageProcessor", image_size)
    if preprocess.shape != (image_size, image_size):
        raise UsageError(
            "the checkpoint's preprocessing does not give the image size of its tower",
            got=f"{preprocess.shape[0]} x {preprocess.shape[1]} in {folder}",
            want=f"{image_size} x {image_size}",
        )
    return preprocess


def write_weights(weights: dict[str, Tensor], folder: Path) -> None:
    """Writes `model.safetensors`, atomically."""
    with atomic_write(folder / WEIGHTS) as unfinished:
        save_file(weights, unfinished, metadata={"format": "pt"})


def write_tokenizer(tokenizer: Tokenizer, folder: Path, more: dict[str, Any] | None = None) -> None:
    """Writes the files of transformers' AutoTokenizer; `more` is added to tokenizer_config.json."""
    write_text_atomic(folder / "tokenizer.json", tokenizer.to_json())
    special = {
        "bos_token": START,
        "eos_token": END,
        "pad_token": tokenizer.pipeline.id_to_token(tokenizer.pad_id),
    }
    write_json(
        folder / "tokenizer_config.json",
        {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "model_max_length": tokenizer.context_length,
            **special,
            **(more or {}),
        },
    )
    write_json(folder / "special_tokens_map.json", special)


def write_json(path: Path, record: dict[str, Any]) -> None:
    """Writes `record` as indented JSON, atomically."""
    write_text_atomic(path, json.dumps(record, ensure_ascii=False, indent=2) + "\n")
