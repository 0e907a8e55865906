"""The table of families of vision encoders. Each has one adapter, which says how its tower is
loaded, which tokens are special, and which vector is the pooled one.
"""

from __future__ import annotations

from encoderlab.core import extensions

# model_type -> "module:class"; every other type goes through the generic adapter.
HERE = "encoderlab.encoders.families."
FAMILIES = {
    "clip": HERE + "clip:CLIPVision",
    "clip_vision_model": HERE + "clip:CLIPTowerAlone",
    "siglip": HERE + "siglip:SigLIPVision",
    "siglip_vision_model": HERE + "siglip:SigLIPVision",
    "siglip2": HERE + "siglip2:SigLIP2Vision",
    "siglip2_vision_model": HERE + "siglip2:SigLIP2Vision",
    "dinov2": HERE + "dino:DINOv2",
    "dinov2_with_registers": HERE + "dino:DINOv2WithRegisters",
    "dinov3_vit": HERE + "dino:DINOv3",
    "internvl": HERE + "internvl:InternVLTower",
    "internvl_vision": HERE + "internvl:InternVLTower",
    "intern_vit_6b": HERE + "internvl:OriginalInternViT",
    "intern_vit_300m": HERE + "internvl:OriginalInternViT",
    "paligemma": HERE + "paligemma:PaliGemmaTower",
    "qwen2_vl": HERE + "native:QwenVL",
    "qwen2_5_vl": HERE + "native:Qwen25VL",
    "qwen3_vl": HERE + "native:QwenVL",
    "qwen3_5": HERE + "native:QwenVL",
    "glm4v": HERE + "native:GLM4V",
    "video_llama_3": HERE + "native:VideoLLaMA3",
    "pixtral": HERE + "native:Pixtral",
    "mistral3": HERE + "native:Pixtral",
    "llava": HERE + "native:Pixtral",
    "gemma4": HERE + "native:Gemma4Tower",
    "kimi_k25": HERE + "native:MoonViT",
    "gemma3": HERE + "paligemma:Gemma3Tower",
    "idefics3": HERE + "idefics3:Idefics3Tower",
    "smolvlm": HERE + "idefics3:Idefics3Tower",
}
GENERIC = HERE + "generic:AnyViT"


def register(family: str, adapter: str) -> None:
    """Adds a family of vision encoders.

    Args:
        family: the `model_type` of its config.json.
        adapter: "module:class" of a `VisionEncoder`, imported when the first one is loaded.

    Raises:
        UsageError: the family has another adapter.
    """
    extensions.add(FAMILIES, "an adapter", family, adapter)


def adapter_of(family: str) -> str:
    """ "module:class" of a family's adapter."""
    extensions.load()
    return FAMILIES.get(family, GENERIC)
