"""The table of families of vision encoders. Each has one adapter, which says how its tower is
loaded, which tokens are special, and which vector is the pooled one.
"""

from __future__ import annotations

from encoderlab.core import extensions
from encoderlab.errors import UsageError

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
    "metaclip_2": HERE + "dual_towers:MetaCLIP2Vision",
    "metaclip_2_vision_model": HERE + "dual_towers:MetaCLIP2TowerAlone",
    "chinese_clip": HERE + "dual_towers:ChineseCLIPVision",
    "chinese_clip_vision_model": HERE + "dual_towers:ChineseCLIPTowerAlone",
    "mlcd": HERE + "dual_towers:MLCD",
    "mlcd_vision_model": HERE + "dual_towers:MLCD",
    "aimv2": HERE + "dual_towers:AIMv2Vision",
    "aimv2_vision_model": HERE + "dual_towers:AIMv2TowerAlone",
    "tipsv2": HERE + "dual_towers:TIPSv2Vision",
    "tipsv2_vision_model": HERE + "dual_towers:TIPSv2Vision",
    "radio": HERE + "radio:RADIO",
    **dict.fromkeys(
        ("convnext", "convnextv2", "resnet", "regnet", "bit", "mobilenet_v1", "mobilenet_v2"),
        HERE + "feature_map:FeatureMap",
    ),
    "dinov3_convnext": HERE + "feature_map:DINOv3ConvNeXt",
    "hiera": HERE + "feature_map:Hiera",
    "swin": HERE + "feature_map:Swin",
    "swinv2": HERE + "feature_map:Swin",
    "vitdet": HERE + "segmentation:ViTDet",
    **dict.fromkeys(("sam", "sam_vision_model"), HERE + "segmentation:SAM"),
    **dict.fromkeys(
        ("sam2", "sam2_vision_model", "sam2_hiera_det_model"), HERE + "segmentation:SAM2"
    ),
    **dict.fromkeys(("sam3", "sam3_vision_model", "sam3_vit_model"), HERE + "segmentation:SAM3"),
}
# model_type -> why no adapter can load it.
REFUSED = dict.fromkeys(
    ("timm_wrapper", "timm_backbone"), "timm, which builds its network, imports torchvision"
)
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
    """The adapter of a family.

    Args:
        family: the `model_type` of its config.json.

    Returns:
        "module:class".

    Raises:
        UsageError: a family that cannot be loaded.
    """
    extensions.load()
    if family in REFUSED and family not in FAMILIES:
        raise UsageError(
            f"this family cannot be loaded: {REFUSED[family]}, and we do not",
            got=family,
            want="the checkpoint of the same network in transformers' own format",
        )
    return FAMILIES.get(family, GENERIC)
