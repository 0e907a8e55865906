"""Every `model_type` of transformers that takes images loads when small, or is refused in words."""

import json
import re
import shutil
from typing import Any

import pytest
import torch
import transformers as hf
from tests.small_checkpoints import VIT_SQUASH
from transformers.models.auto import image_processing_auto as processors
from transformers.models.auto import modeling_auto as models

from encoderlab.encoders.vision import load_vision
from encoderlab.errors import EncoderLabError

CLASSES = models.MODEL_MAPPING_NAMES | models.MODEL_FOR_IMAGE_MAPPING_NAMES
TAKES_IMAGES = (
    {*models.MODEL_FOR_IMAGE_MAPPING_NAMES, *models.MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES}
    | {*processors.IMAGE_PROCESSOR_MAPPING_NAMES}
    | {name for name in CLASSES if "vision" in name}
)
TYPES = sorted(TAKES_IMAGES & {*CLASSES})
MOST_WEIGHTS = 20_000_000
# Types that are not built here: 13 that need timm, natten or detectron2, and 29 whose
# configuration ties its numbers to one another in a way of its own.
NEED_MORE = {
    "conditional_detr", "dab-detr", "deformable_detr", "detr", "dinat", "edgetam",
    "edgetam_vision_model", "layoutlmv2", "omdet-turbo", "perception_lm",
    "table-transformer", "timm_backbone", "timm_wrapper",
}  # fmt: skip
TIED = {
    "bridgetower", "chameleon", "cohere_compass", "cosmos3_edge", "cvt", "deepseek_ocr2",
    "dots3_note", "efficientloftr", "emu3", "ernie4_5_vl_moe", "gemma3n", "gemma3n_vision",
    "glm5_next", "glm_image", "glmga", "granite4_vision", "granite_docling", "hunyuan_vl",
    "janus", "lfm3_vl", "llama4", "lw_detr", "mistral_large4", "molmo2", "muse_spark",
    "phi4_multimodal", "pp_ocrv6_medium_det", "t5gemma2", "t5gemma2_encoder",
}  # fmt: skip

# Key of a configuration -> its small value; the first that matches counts.
SMALL: list[tuple[str, int]] = [
    (r"image_size|^img_size", 32), (r"^patch_size|^spatial_patch_size", 8),
    (r"vocab_size|num_embeddings", 99),
    (r"head_dim$", 16), (r"num_.*heads|_heads$|n_head$|num_key_value|groups", 2),
    (r"layers$|depth$|n_layer$|num_blocks", 2), (r"window_size$", 2),
    (r"num_.*experts$", 4), (r"num_experts_per_tok", 2),
    (r"intermediate|mlp_dim|ffn_dim|projection_dim|inner_dim|feedforward", 48),
    (r"hidden_size$|d_model|embed_dim$|embed_size|width$|_dim$|n_embd|d_latents|hidden_dim", 32),
    (r"num_latents|num_queries|num_query_tokens|query_length", 8),
    (r"max_position|n_positions", 64),
]  # fmt: skip
DERIVED = re.compile(
    r"out_features|out_indices|stage_names|.*layer_types|per_layer_config|.*_token_(id|index)"
)


def small(key: str, value: Any) -> Any:
    if isinstance(value, dict) and key.endswith("config"):
        return shrunk(value)
    if isinstance(value, list | tuple) and value and all(type(x) is int for x in value):
        if re.search(r"hidden_sizes|embed_dims|hidden_dims|channel|encoder_hidden|embed_dim", key):
            return type(value)(32 * 2 ** min(i, 3) for i in range(len(value)))
        if re.search(r"depths|blocks|num_.*layers|depth", key):
            return type(value)(1 for _ in value)
        if "heads" in key:
            return type(value)(1 for _ in value)
        return type(value)(32 for _ in value) if "image_size" in key else value
    if type(value) is float and "coefficient" in key:
        return 0.25
    if type(value) is int:
        return next((min(n, value) for rule, n in SMALL if re.search(rule, key)), value)
    return value


def shrunk(config: dict[str, Any]) -> dict[str, Any]:
    """The same configuration with small numbers."""
    return {k: small(k, v) for k, v in config.items() if not DERIVED.fullmatch(k.lstrip("_"))}


def build(model_type: str) -> Any:
    """The network of a type at a tiny size, with its random weights.

    Raises anything where it cannot be built.
    """
    config_class = hf.CONFIG_MAPPING[model_type]
    config = config_class.from_dict(shrunk(config_class().to_dict()))
    name = CLASSES[model_type]
    model_class = getattr(hf, name if isinstance(name, str) else name[0])
    if not isinstance(config, model_class.config_class):
        config = config.vision_config
    with torch.device("meta"):
        count = sum(weight.numel() for weight in model_class(config).parameters())
    if count > MOST_WEIGHTS:
        raise ValueError(f"{count:,} weights")
    torch.manual_seed(0)
    return model_class(config)


@pytest.mark.slow
def test_every_type_that_takes_images_loads_or_is_refused_in_a_sentence(tmp_path):
    not_built, loaded, refused = {}, set(), set()
    for model_type in TYPES:
        folder = tmp_path / model_type
        try:
            build(model_type).save_pretrained(folder)
        except Exception as error:
            not_built[model_type] = str(error)
            continue
        (folder / "preprocessor_config.json").write_text(json.dumps(VIT_SQUASH))
        try:
            encoder = load_vision(folder, "cpu", "float32")
            encoder.encode(torch.zeros(3, 32, 32, dtype=torch.uint8))
            loaded.add(model_type)
        except EncoderLabError as error:
            assert "\n" not in str(error), model_type
            refused.add(model_type)
        shutil.rmtree(folder)
    unexpected = {name: not_built[name] for name in not_built.keys() - NEED_MORE - TIED}
    assert unexpected == {}
    assert {"vit", "beit", "ijepa", "convnext", "swinv2", "tipsv2"} <= loaded
    assert {"videomae", "yolos", "segformer"} <= refused
