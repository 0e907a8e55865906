"""Our SigLIP as the files of a Hugging Face SiglipModel. No other place knows their names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from encoderlab.models.clip.conversion import (
    BLOCK_NAMES,
    write_json,
    write_tokenizer,
    write_weights,
)
from encoderlab.models.preprocessing import as_record
from encoderlab.models.siglip.siglip import SigLIP

NAMES = {
    "vision.patch_embedding": "vision_model.embeddings.patch_embedding",
    "vision.position_embedding": "vision_model.embeddings.position_embedding.weight",
    "vision.post_norm": "vision_model.post_layernorm",
    "vision.pooling.out": "vision_model.head.attention.out_proj",
    "vision.pooling.qkv.weight": "vision_model.head.attention.in_proj_weight",
    "vision.pooling.qkv.bias": "vision_model.head.attention.in_proj_bias",
    "vision.pooling.norm": "vision_model.head.layernorm",
    "vision.pooling.mlp.0": "vision_model.head.mlp.fc1",
    "vision.pooling.mlp.2": "vision_model.head.mlp.fc2",
    "text.token_embedding": "text_model.embeddings.token_embedding",
    "text.position_embedding": "text_model.embeddings.position_embedding.weight",
    "text.final_norm": "text_model.final_layer_norm",
    "text.head": "text_model.head",
}


def save(model: SigLIP, folder: Path, *, half: bool = False) -> Path:
    """Writes `model` as a SiglipModel folder; each file whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    write_weights(_their_names(model, torch.float16 if half else torch.float32), folder)
    write_json(folder / "preprocessor_config.json", as_record(model.preprocess, "Siglip"))
    if model.tokenizer is not None:
        # Without a mask, as SigLIP was trained: its text tower reads the padding.
        write_tokenizer(model.tokenizer, folder, {"model_input_names": ["input_ids"]})
    write_json(folder / "config.json", _their_config(model, half))
    return folder


def _their_names(model: SigLIP, dtype: torch.dtype) -> dict[str, Tensor]:
    renamed: dict[str, Tensor] = {}
    for ours, tensor in model.state_dict().items():
        tensor = tensor.detach().to("cpu", dtype).contiguous()
        tower, in_block, rest = ours.partition(".transformer.blocks.")
        if in_block:
            index, _, inside = rest.partition(".")
            prefix = f"{tower}_model.encoder.layers.{index}"
            if inside.startswith("attention.qkv."):
                leaf = inside.rpartition(".")[2]
                for part, piece in zip("qkv", tensor.chunk(3), strict=True):
                    renamed[f"{prefix}.self_attn.{part}_proj.{leaf}"] = piece.clone()
                continue
            for our_part, their_part in BLOCK_NAMES.items():
                inside = inside.replace(our_part, their_part)
            renamed[f"{prefix}.{inside}"] = tensor
        elif ours in ("logit_scale", "logit_bias"):
            renamed[ours] = tensor.reshape(1)
        elif ours == "vision.pooling.probe":
            renamed["vision_model.head.probe"] = tensor.reshape(1, 1, -1)
        elif ours in NAMES:
            renamed[NAMES[ours]] = tensor
        else:
            module, _, leaf = ours.rpartition(".")
            renamed[f"{NAMES[module]}.{leaf}"] = tensor
    return renamed


def _their_config(model: SigLIP, half: bool) -> dict[str, Any]:
    vision, text = model.config.vision, model.config.text
    tokenizer = model.tokenizer
    ends = {
        "bos_token_id": tokenizer.start_id if tokenizer else None,
        "eos_token_id": tokenizer.end_id if tokenizer else None,
        "pad_token_id": tokenizer.pad_id if tokenizer else None,
    }
    return {
        "architectures": ["SiglipModel"],
        "model_type": "siglip",
        "dtype": "float16" if half else "float32",
        "text_config": {
            "model_type": "siglip_text_model",
            "vocab_size": text.vocab_size,
            "hidden_size": text.width,
            "intermediate_size": text.mlp_width,
            "num_hidden_layers": text.layers,
            "num_attention_heads": text.heads,
            "max_position_embeddings": text.context_length,
            "hidden_act": text.activation,
            "layer_norm_eps": text.norm_eps,
            "projection_size": model.config.embed_dim,
            **ends,
        },
        "vision_config": {
            "model_type": "siglip_vision_model",
            "image_size": vision.image_size,
            "patch_size": vision.patch_size,
            "hidden_size": vision.width,
            "intermediate_size": vision.mlp_width,
            "num_hidden_layers": vision.layers,
            "num_attention_heads": vision.heads,
            "num_channels": 3,
            "hidden_act": vision.activation,
            "layer_norm_eps": vision.norm_eps,
        },
        "encoderlab": {"trained_steps": model.trained_steps},
    }
