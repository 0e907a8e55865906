"""Small random checkpoints of every family, saved as their authors' would be."""

import functools
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
VIT_SQUASH = SQUASH | {"image_processor_type": "ViTImageProcessor"}


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
    "metaclip2": (lambda: hf.MetaClip2Model(hf.MetaClip2Config(
        vision_config=VIT | {"projection_dim": 24}, text_config=TEXT_TOWER | {"projection_dim": 24},
        projection_dim=24)), VIT_SQUASH),
    "metaclip2-tower-alone": (lambda: hf.MetaClip2VisionModel(hf.MetaClip2VisionConfig(**VIT)),
                              VIT_SQUASH),
    "chinese-clip": (lambda: hf.ChineseCLIPModel(hf.ChineseCLIPConfig(
        vision_config=VIT, text_config=TEXT_TOWER, projection_dim=24)), VIT_SQUASH),
    "chinese-clip-tower-alone": (lambda: hf.ChineseCLIPVisionModel(
        hf.ChineseCLIPVisionConfig(**VIT)), VIT_SQUASH),
    "mlcd": (lambda: hf.MLCDVisionModel(hf.MLCDVisionConfig(**VIT)), VIT_SQUASH),
    "aimv2": (lambda: hf.Aimv2Model(hf.Aimv2Config(
        vision_config=VIT, text_config=TEXT_TOWER, projection_dim=24)), VIT_SQUASH),
    "aimv2-tower-alone": (lambda: hf.Aimv2VisionModel(hf.Aimv2VisionConfig(**VIT)), VIT_SQUASH),
    "tipsv2": (lambda: hf.Tipsv2Model(hf.Tipsv2Config(
        vision_config=NO_MLP_WIDTH | {"mlp_ratio": 2}, text_config=TEXT_TOWER)),
        VIT_SQUASH | {"do_normalize": False}),
    "tipsv2-tower-alone": (lambda: hf.Tipsv2VisionModel(
        hf.Tipsv2VisionConfig(**NO_MLP_WIDTH, mlp_ratio=2)), VIT_SQUASH | {"do_normalize": False}),
    "radio": (lambda: hf.RadioModel(hf.RadioConfig(**NO_MLP_WIDTH, mlp_ratio=2.0, max_img_size=64)),
              VIT_SQUASH | {"do_normalize": False}),
    "vitdet": (lambda: hf.VitDetModel(hf.VitDetConfig(
        **NO_MLP_WIDTH, mlp_ratio=2, pretrain_image_size=32, window_size=2,
        window_block_indices=[0, 2], use_relative_position_embeddings=True)), VIT_SQUASH),
    "sam3": (lambda: hf.Sam3VisionModel(hf.Sam3VisionConfig(
        backbone_config=VIT | {"model_type": "sam3_vit_model", "pretrain_image_size": 32,
                               "window_size": 2, "global_attn_indexes": [1]},
        fpn_hidden_size=16)), SQUASH | {"image_processor_type": "Sam3ImageProcessor"}),
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

# CNNs and hierarchical towers: a map of 2 x 2 from images of 64 pixels, and no layers.
STAGES = {"hidden_sizes": [8, 12, 16, 24], "depths": [1, 1, 2, 1], "image_size": 64}
SQUASH_64 = SQUASH | {"size": {"height": 64, "width": 64}}
VIT_SQUASH_64 = VIT_SQUASH | SQUASH_64
CONVNEXT = {"image_processor_type": "ConvNextImageProcessor", "size": {"shortest_edge": 64}}
MAPS: dict[str, tuple[Callable[[], Any], dict[str, Any]]] = {
    "convnext": (lambda: hf.ConvNextModel(hf.ConvNextConfig(**STAGES)), CONVNEXT),
    "convnextv2": (lambda: hf.ConvNextV2Model(hf.ConvNextV2Config(**STAGES)), CONVNEXT),
    "dinov3-convnext": (lambda: hf.DINOv3ConvNextModel(hf.DINOv3ConvNextConfig(**STAGES)),
                        SQUASH_64),
    "resnet": (lambda: hf.ResNetModel(hf.ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 12, 16, 24], depths=[1, 1, 1, 1])), CONVNEXT),
    "hiera": (lambda: hf.HieraModel(hf.HieraConfig(
        embed_dim=8, depths=[1, 1, 2, 1], num_heads=[1, 2, 4, 8], image_size=[64, 64],
        masked_unit_size=[8, 8])), VIT_SQUASH_64),
    "hiera-two-poolings": (lambda: hf.HieraModel(hf.HieraConfig(
        embed_dim=8, depths=[1, 1, 2, 1], num_heads=[1, 2, 4, 8], image_size=[64, 64],
        num_query_pool=2, masked_unit_size=[8, 8])), VIT_SQUASH_64),
    "swin": (lambda: hf.SwinModel(hf.SwinConfig(
        image_size=64, patch_size=4, embed_dim=8, depths=[1, 1, 1, 1], num_heads=[1, 2, 2, 4],
        window_size=2)), SQUASH_64),
    "swinv2": (lambda: hf.Swinv2Model(hf.Swinv2Config(
        image_size=64, patch_size=4, embed_dim=8, depths=[1, 1, 1, 1], num_heads=[1, 2, 2, 4],
        window_size=2)), SQUASH_64),
    "sam": (lambda: hf.SamVisionModel(hf.SamVisionConfig(
        **(NO_MLP_WIDTH | {"image_size": 64, "patch_size": 32}), mlp_dim=48, output_channels=24,
        window_size=2, global_attn_indexes=[1])),
        VIT_SQUASH_64),
    "sam2": (lambda: hf.Sam2VisionModel(hf.Sam2VisionConfig(
        backbone_config={
            "model_type": "sam2_hiera_det_model", "hidden_size": 8, "num_attention_heads": 1,
            "image_size": [64, 64], "blocks_per_stage": [1, 1, 2, 1],
            "embed_dim_per_stage": [8, 16, 32, 64], "num_attention_heads_per_stage": [1, 2, 4, 8],
            "window_size_per_stage": [4, 2, 2, 1], "global_attention_blocks": [3],
            "window_positional_embedding_background_size": [2, 2]},
        backbone_channel_list=[64, 32, 16, 8], fpn_hidden_size=16)),
        SQUASH_64 | {"image_processor_type": "Sam2ImageProcessor"}),
}  # fmt: skip
VISION_AND_MAPS = VISION | MAPS

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
    make, preprocessor = VISION_AND_MAPS[family]
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
            single="<s> $A </s>" if end else "<s> $A", special_tokens=[("<s>", 1), ("</s>", 98)]
        )
    fast = hf.PreTrainedTokenizerFast(
        tokenizer_object=pipeline,
        bos_token="<s>",
        eos_token="</s>",
        **({"pad_token": "<pad>"} if pad else {}),
    )
    fast.save_pretrained(folder)


def _save(make: Callable[[], Any], folder: Path, **saving: Any) -> None:
    initialised(make).save_pretrained(folder, **saving)


def initialised(make: Callable[[], Any]) -> Any:
    """A model with random weights, the same each time."""
    torch.manual_seed(0)
    model = make()
    for parameter in model.parameters():
        # Layers that begin as zero or one would hide a wrong order.
        if parameter.ndim < 2 or float(parameter.detach().abs().max()) == 0:
            torch.nn.init.normal_(parameter, mean=float(parameter.detach().mean()), std=0.1)
    return model


# In the form of the original InternViT.
OWN_VISION = """
import torch
from torch import nn
from transformers import PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutputWithPooling

class Config(PretrainedConfig):
    model_type = "intern_vit_6b"
    def __init__(self, hidden_size=32, num_hidden_layers=1, image_size=32, patch_size=8, **more):
        super().__init__(**more)
        self.hidden_size, self.num_hidden_layers = hidden_size, num_hidden_layers
        self.image_size, self.patch_size = image_size, patch_size

class Model(PreTrainedModel):
    config_class = Config
    main_input_name = "pixel_values"
    def __init__(self, config):
        super().__init__(config)
        self.cls = nn.Parameter(torch.ones(1, 1, config.hidden_size))
        self.patch = nn.Conv2d(3, config.hidden_size, config.patch_size, config.patch_size)
        self.block = nn.Linear(config.hidden_size, config.hidden_size)
        self.post_init()
    def forward(self, pixel_values=None, output_hidden_states=None, return_dict=None, **more):
        x = self.patch(pixel_values).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls.expand(len(x), 1, -1), x], dim=1)
        y = x + self.block(x)
        return BaseModelOutputWithPooling(
            last_hidden_state=y, pooler_output=y[:, 0],
            hidden_states=(x, y) if output_hidden_states else None)
"""

# In the form of InternLM 2.
OWN_LLM = """
from transformers import LlamaConfig, LlamaModel

class Config(LlamaConfig):
    model_type = "own_llm"

class Model(LlamaModel):
    config_class = Config
"""


def save_own_vision(folder: Path) -> Path:
    """A vision encoder that needs the Python beside its weights."""
    space: dict[str, Any] = {}
    exec(OWN_VISION, space)  # the tests' own code
    torch.manual_seed(0)
    space["Model"](space["Config"]()).save_pretrained(folder)
    return _with_code(OWN_VISION, folder)


def save_own_text(folder: Path) -> Path:
    """A language model that needs the Python beside its weights, with a tokenizer of 99 words."""
    space: dict[str, Any] = {}
    exec(OWN_LLM, space)
    _save(lambda: space["Model"](space["Config"](**LLM)), folder)
    save_tokenizer(folder)
    return _with_code(OWN_LLM, folder)


def _with_code(code: str, folder: Path) -> Path:
    (folder / "modeling.py").write_text(code)
    config = json.loads((folder / "config.json").read_text())
    config["auto_map"] = {"AutoConfig": "modeling.Config", "AutoModel": "modeling.Model"}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


# Whole models whose tower takes images of any aspect ratio.
NATIVE_VIT = {"hidden_size": 32, "num_attention_heads": 2, "intermediate_size": 48, "patch_size": 4}
NATIVE_LLM = {key: value for key, value in LLM.items() if key != "head_dim"} | {"hidden_size": 40}


def _whole(family: str, vision: dict[str, Any], text: dict[str, Any], **more: Any) -> Any:
    config = getattr(hf, f"{family}Config")(
        vision_config=vision, text_config=NATIVE_LLM | text, **more
    )
    return getattr(hf, f"{family}ForConditionalGeneration")(config)


def _qwen(family: str, text: dict[str, Any] | None = None, **vision: Any) -> Callable[[], Any]:
    tower = NATIVE_VIT | {"num_hidden_layers": 3, "out_hidden_size": 40} | vision
    return lambda: _whole(family, tower, text or {})


QWEN_PIXELS = OPENAI | {
    "image_processor_type": "Qwen2VLImageProcessorFast",
    "patch_size": 4,
    "merge_size": 2,
    "size": {"shortest_edge": 256, "longest_edge": 1500},
}
LINEAR = {
    "head_dim": 20, "num_hidden_layers": 4, "linear_num_key_heads": 2, "linear_num_value_heads": 2,
    "linear_key_head_dim": 8, "linear_value_head_dim": 8,
}  # fmt: skip
MROPE = {"rope_type": "default", "rope_theta": 10_000.0, "mrope_section": [4, 3, 3]}
GLM_PIXELS = OPENAI | {
    "image_processor_type": "Glm4vImageProcessor",
    "patch_size": 4,
    "merge_size": 2,
    "size": {"shortest_edge": 512, "longest_edge": 3000},
}
PIXTRAL = NATIVE_VIT | {"num_hidden_layers": 3, "image_size": 48, "model_type": "pixtral"}
PIXTRAL_PIXELS = OPENAI | {
    "image_processor_type": "PixtralImageProcessor",
    "patch_size": 4,
    "size": {"longest_edge": 48},
}
GEMMA4 = NATIVE_VIT | {
    "num_hidden_layers": 3,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "position_embedding_size": 80,
    "pooling_kernel_size": 2,
    "standardize": True,
}
HALF_PIXELS = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}
# name -> (model, preprocessor_config.json)
NATIVE: dict[str, tuple[Callable[[], Any], dict[str, Any]]] = {
    "qwen2_vl": (lambda: _whole("Qwen2VL", {"depth": 3, "embed_dim": 32, "hidden_size": 40,
                 "num_heads": 2, "patch_size": 4}, {"rope_parameters": MROPE}), QWEN_PIXELS),
    "qwen2_5_vl": (_qwen("Qwen2_5_VL", {"rope_parameters": MROPE}, window_size=16,
                         fullatt_block_indexes=[1]), QWEN_PIXELS),
    "qwen3_vl": (_qwen("Qwen3VL", {"head_dim": 20}, num_position_embeddings=16,
                       deepstack_visual_indexes=[0]), QWEN_PIXELS | HALF_PIXELS),
    "qwen3_5": (_qwen("Qwen3_5", LINEAR, num_position_embeddings=16), QWEN_PIXELS | HALF_PIXELS),
    "glm4v": (_qwen("Glm4v", {"rope_parameters": MROPE}, image_size=16), GLM_PIXELS),
    "siglip2": (lambda: VISION["siglip2"][0](), VISION["siglip2"][1]),
    "pixtral": (lambda: hf.PixtralVisionModel(hf.PixtralVisionConfig(**PIXTRAL)), PIXTRAL_PIXELS),
    "mistral3": (lambda: _whole("Mistral3", PIXTRAL, {"model_type": "mistral"},
                                multimodal_projector_bias=True), PIXTRAL_PIXELS),
    "llava": (lambda: _whole("Llava", PIXTRAL, {"model_type": "mistral"}, vision_feature_layer=-1,
                             vision_feature_select_strategy="full"), PIXTRAL_PIXELS),
    "gemma4": (lambda: _whole("Gemma4", GEMMA4, {"head_dim": 20, "hidden_size_per_layer_input": 8,
               "vocab_size_per_layer_input": 99}), {
        "image_processor_type": "Gemma4ImageProcessor", "patch_size": 4, "pooling_kernel_size": 2,
        "max_soft_tokens": 70}),
    "video_llama_3": (lambda: _whole("VideoLlama3", NATIVE_VIT | {"num_hidden_layers": 3},
                      {"model_type": "qwen2"}), HALF_PIXELS | {
        "image_processor_type": "VideoLlama3ImageProcessor", "patch_size": 4, "merge_size": 1,
        "size": {"shortest_edge": 256, "longest_edge": 1500}}),
    "kimi_k25": (lambda: _whole("Kimi_K25", NATIVE_VIT | {"num_hidden_layers": 3,
                 "pos_emb_height": 4, "pos_emb_width": 4}, {"model_type": "llama"},
                 projection_hidden_size=32), HALF_PIXELS | {
        "image_processor_type": "Kimi_K25ImageProcessor", "patch_size": 4, "merge_size": 2,
        "max_patches": 100, "size": {"max_height": 12, "max_width": 12}}),
}  # fmt: skip
# Whole models whose tower takes one square.
SQUARE = {
    "gemma3": (_gemma3, SQUASH | {"image_processor_type": "Gemma3ImageProcessor"}),
    **{
        family.lower(): (
            functools.partial(_whole, family, VIT, {"model_type": "llama"}),
            HALF_PIXELS | {"image_processor_type": f"{family}ImageProcessor", "resample": 1,
                           "size": {"longest_edge": 64}, "max_image_size": {"longest_edge": 32}},
        )
        for family in ("Idefics3", "SmolVLM")
    },
}  # fmt: skip


def save_native(family: str, folder: Path) -> Path:
    """The checkpoint of a whole model in `folder`, in many files, with a tokenizer."""
    make, preprocessor = (NATIVE | SQUARE)[family]
    _save(make, folder, max_shard_size="20KB")
    (folder / "preprocessor_config.json").write_text(json.dumps(preprocessor))
    save_tokenizer(folder)
    return folder
