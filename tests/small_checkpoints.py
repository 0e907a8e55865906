"""Small random checkpoints of every family, saved as their authors' would be."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers as hf

VIT = {
    "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 48,
    "image_size": 32, "patch_size": 8,
}  # fmt: skip
NO_MLP_WIDTH = {key: value for key, value in VIT.items() if key != "intermediate_size"}
TEXT_TOWER = {
    "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16,
    "vocab_size": 99, "bos_token_id": 1, "eos_token_id": 98, "pad_token_id": 2,
    "max_position_embeddings": 12,
}  # fmt: skip
LLM = {
    "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1,
    "intermediate_size": 48, "vocab_size": 99, "head_dim": 16, "max_position_embeddings": 64,
    "bos_token_id": 1, "eos_token_id": 98, "pad_token_id": None,
}  # fmt: skip
OPENAI = {"image_mean": [0.48, 0.46, 0.41], "image_std": [0.27, 0.26, 0.28]}
SQUASH = {"size": {"height": 32, "width": 32}, "image_mean": [0.5] * 3, "image_std": [0.5] * 3}


def _clip() -> Any:
    config = hf.CLIPConfig(
        vision_config=VIT | {"projection_dim": 24},
        text_config=TEXT_TOWER | {"projection_dim": 24},
        projection_dim=24,
    )
    return hf.CLIPModel(config)


def _siglip2() -> Any:
    vision = {key: value for key, value in VIT.items() if key != "image_size"}
    return hf.Siglip2Model(
        hf.Siglip2Config(vision_config=vision | {"num_patches": 16}, text_config=TEXT_TOWER)
    )


def _internvl() -> Any:
    text = LLM | {"model_type": "qwen2"}
    return hf.InternVLForConditionalGeneration(
        hf.InternVLConfig(vision_config=VIT, text_config=text, image_token_id=97)
    )


def _paligemma() -> Any:
    vision = VIT | {"model_type": "siglip_vision_model", "vision_use_head": False}
    text = LLM | {"model_type": "gemma", "hidden_size": 40}
    return hf.PaliGemmaForConditionalGeneration(
        hf.PaliGemmaConfig(
            vision_config=vision, text_config=text, projection_dim=40, image_token_index=97
        )
    )


def _gemma3() -> Any:
    vision = VIT | {"model_type": "siglip_vision_model"}
    text = LLM | {"model_type": "gemma3_text", "sliding_window": 32}
    return hf.Gemma3ForConditionalGeneration(
        hf.Gemma3Config(
            vision_config=vision, text_config=text, mm_tokens_per_image=4, image_token_index=97
        )
    )


# name -> (model, preprocessor_config.json)
VISION: dict[str, tuple[Callable[[], Any], dict[str, Any]]] = {
    "clip": (_clip, OPENAI | {"image_processor_type": "CLIPImageProcessor", "do_center_crop": True,
             "size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}}),
    "clip-tower-alone": (lambda: hf.CLIPVisionModel(hf.CLIPVisionConfig(**VIT)), OPENAI | {
        "image_processor_type": "CLIPImageProcessor", "size": {"shortest_edge": 32},
        "crop_size": {"height": 32, "width": 32}}),
    "siglip": (lambda: hf.SiglipModel(hf.SiglipConfig(vision_config=VIT, text_config=TEXT_TOWER)),
               SQUASH | {"image_processor_type": "SiglipImageProcessor"}),
    "siglip2": (_siglip2, {"image_processor_type": "Siglip2ImageProcessor", "patch_size": 8,
                "max_num_patches": 16, "image_mean": [0.5] * 3, "image_std": [0.5] * 3}),
    "dinov2": (lambda: hf.Dinov2Model(hf.Dinov2Config(**NO_MLP_WIDTH, mlp_ratio=2)), OPENAI | {
        "image_processor_type": "BitImageProcessor", "size": {"shortest_edge": 40},
        "crop_size": {"height": 32, "width": 32}, "do_center_crop": True}),
    "dinov2-registers": (lambda: hf.Dinov2WithRegistersModel(hf.Dinov2WithRegistersConfig(
        **NO_MLP_WIDTH, mlp_ratio=2, num_register_tokens=3)), SQUASH),
    "dinov3": (lambda: hf.DINOv3ViTModel(hf.DINOv3ViTConfig(**VIT, num_register_tokens=4)),
               SQUASH | {"image_processor_type": "DINOv3ViTImageProcessorFast"}),
    "internvl": (_internvl, SQUASH | {"image_processor_type": "GotOcr2ImageProcessor"}),
    "internvl-tower-alone": (lambda: hf.models.internvl.InternVLVisionModel(
        hf.models.internvl.InternVLVisionConfig(**VIT)), SQUASH),
    "paligemma": (_paligemma, SQUASH | {"image_processor_type": "SiglipImageProcessor"}),
    "vit": (lambda: hf.ViTModel(hf.ViTConfig(**VIT)),
            SQUASH | {"image_processor_type": "ViTImageProcessor"}),
    "deit": (lambda: hf.DeiTModel(hf.DeiTConfig(**VIT)), SQUASH | {
        "image_processor_type": "DeiTImageProcessor", "do_center_crop": True,
        "size": {"height": 40, "width": 40}, "crop_size": {"height": 32, "width": 32}}),
    "ijepa": (lambda: hf.IJepaModel(hf.IJepaConfig(**VIT)), SQUASH),
}  # fmt: skip

BERT = TEXT_TOWER | {"num_hidden_layers": 2, "max_position_embeddings": 64}
TEXT: dict[str, Callable[[], Any]] = {
    "llama": lambda: hf.LlamaForCausalLM(hf.LlamaConfig(**LLM)),
    "qwen2": lambda: hf.Qwen2ForCausalLM(
        hf.Qwen2Config(**{key: value for key, value in LLM.items() if key != "head_dim"})
    ),
    "qwen3": lambda: hf.Qwen3ForCausalLM(hf.Qwen3Config(**LLM)),
    "gemma3": _gemma3,
    "gemma3-text": lambda: hf.Gemma3ForCausalLM(hf.Gemma3TextConfig(**LLM, sliding_window=32)),
    "gpt2": lambda: hf.GPT2LMHeadModel(
        hf.GPT2Config(
            n_embd=32, n_layer=2, n_head=2, vocab_size=99, bos_token_id=1, eos_token_id=98
        )
    ),
    "bert": lambda: hf.BertForMaskedLM(hf.BertConfig(**BERT)),
    "t5": lambda: hf.T5ForConditionalGeneration(
        hf.T5Config(d_model=32, d_kv=16, d_ff=48, num_layers=2, num_heads=2, vocab_size=99)
    ),
}


def save_vision(family: str, folder: Path) -> Path:
    """The checkpoint of a family in `folder`."""
    make, preprocessor = VISION[family]
    _save(make, folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(preprocessor))
    return folder


def save_text(family: str, folder: Path, pad: bool = False) -> Path:
    """The language model of a family in `folder`, with a tokenizer of 99 words."""
    _save(TEXT[family], folder)
    save_tokenizer(folder, pad=pad)
    return folder


def save_tokenizer(folder: Path, pad: bool = False, start: bool = True, end: bool = False) -> None:
    """One token per word w0 ... w94; `<s>` in front of every sentence; `</s>` behind it, as a CLIP
    needs, and a padding token, or none."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    words = ["<unk>", "<s>", "<pad>", *(f"w{i}" for i in range(95)), "</s>"]
    pipeline = Tokenizer(
        models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>")
    )
    pipeline.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    if start:
        pipeline.post_processor = processors.TemplateProcessing(
            single="<s> $A </s>" if end else "<s> $A",
            special_tokens=[("<s>", 1), ("</s>", 98)],
        )
    fast = hf.PreTrainedTokenizerFast(
        tokenizer_object=pipeline,
        bos_token="<s>",
        eos_token="</s>",
        **({"pad_token": "<pad>"} if pad else {}),
    )
    fast.save_pretrained(folder)


def _save(make: Callable[[], Any], folder: Path) -> None:
    torch.manual_seed(0)
    model = make()
    for parameter in model.parameters():
        # Layers that begin as zero or one would hide a wrong order.
        if parameter.ndim < 2 or float(parameter.detach().abs().max()) == 0:
            torch.nn.init.normal_(parameter, mean=float(parameter.detach().mean()), std=0.1)
    model.save_pretrained(folder)
