"""Checkpoints of open_clip: read into the files of transformers, and written from our CLIP.

A CLIP with a vision transformer is read into our own network; a SigLIP, whose image tower is that
of timm, is renamed for transformers' SiglipModel. Names and defaults are those of open_clip 3.3
(model.py, transformer.py, transform.py) and timm 1.0 (vision_transformer.py). Imports neither.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from PIL import Image
from safetensors.torch import save_file
from tokenizers import Regex, normalizers
from tokenizers import Tokenizer as Pipeline
from torch import Tensor

from encoderlab.core.atomic_io import atomic_write
from encoderlab.errors import MissingError, UsageError
from encoderlab.models.clip import (
    CLIP,
    CLIPConfig,
    Preprocess,
    TextConfig,
    Tokenizer,
    ViTConfig,
    conversion,
)
from encoderlab.models.clip.config import ResNetConfig, check_held
from encoderlab.models.clip.preprocess import OPENAI_MEAN, OPENAI_STD
from encoderlab.models.folder import OPEN_CLIP, WEIGHTS, read_record
from encoderlab.models.preprocessing import as_record

NAMES = ("open_clip_model.safetensors", "open_clip_pytorch_model.safetensors")

# Keys of the configuration that are read, with the value that a missing one has.
MODEL = {"embed_dim": None, "quick_gelu": False, "custom_text": False, "init_logit_bias": None}
BLOCKS = {"layers": 12, "mlp_ratio": 4.0, "act_kwargs": None, "norm_kwargs": None}
VISION = {**BLOCKS, "width": 768, "head_width": 64, "patch_size": 16, "image_size": 224}
TEXT = {**BLOCKS, "width": 512, "heads": 8, "context_length": 77, "vocab_size": 49408}
CLIP_TEXT = {**TEXT, "pool_type": "argmax", "eos_id": 2}
TIMM = {"timm_model_name": None, "timm_pool": "avg", "timm_proj": "linear", "image_size": 224}
# Of a SigLIP: other values than these are another network.
SIGLIP_VISION = {"timm_pool": "map", "timm_proj": "none"}
SIGLIP_TEXT = {"no_causal_mask": True, "proj_bias": True, "pool_type": "last"}
# Keys without an effect on what a trained model gives.
UNUSED = (
    "patch_dropout", "output_tokens", "timm_model_pretrained", "timm_drop", "timm_drop_path",
    "hf_tokenizer_name", "init_logit_scale", "pad_id",
)  # fmt: skip
# The values of all other keys that ask for nothing.
NOTHING = {"pos_embed_type": "learnable", "block_type": "default", "proj_type": "linear"}

# Parts of the names of our CLIP's weights -> theirs.
CLIP_NAMES = {
    "vision.transformer.blocks.": "visual.transformer.resblocks.",
    "text.transformer.blocks.": "transformer.resblocks.",
    "attention.qkv.": "attn.in_proj_", "attention.out.": "attn.out_proj.",
    ".norm1.": ".ln_1.", ".norm2.": ".ln_2.", ".mlp.0.": ".mlp.c_fc.", ".mlp.2.": ".mlp.c_proj.",
    "vision.class_embedding": "visual.class_embedding", "vision.patch_embedding": "visual.conv1",
    "vision.position_embedding": "visual.positional_embedding",
    "vision.pre_norm": "visual.ln_pre", "vision.post_norm": "visual.ln_post",
    "text.token_embedding": "token_embedding", "text.position_embedding": "positional_embedding",
    "text.final_norm": "ln_final", "visual_projection.weight": "visual.proj",
    "text_projection.weight": "text_projection",
}  # fmt: skip
TRANSPOSED = ("visual_projection.weight", "text_projection.weight")
# Parts of the names of a SigLIP's weights -> those of transformers' SiglipModel.
SIGLIP_NAMES = {
    "visual.trunk.": "vision_model.", "text.": "text_model.", "transformer.resblocks.": "blocks.",
    "blocks.": "encoder.layers.", "patch_embed.proj.": "embeddings.patch_embedding.",
    "pos_embed": "embeddings.position_embedding.weight",
    "positional_embedding": "embeddings.position_embedding.weight",
    "token_embedding.": "embeddings.token_embedding.", "attn_pool.latent": "head.probe",
    "attn_pool.proj.": "head.attention.out_proj.", "attn_pool.norm.": "head.layernorm.",
    "attn_pool.mlp.": "head.mlp.", "vision_model.norm.": "vision_model.post_layernorm.",
    "ln_final.": "final_layer_norm.", "text_projection.": "head.",
    ".attn.proj.": ".self_attn.out_proj.", ".attn.out_proj.": ".self_attn.out_proj.",
    ".norm1.": ".layer_norm1.", ".norm2.": ".layer_norm2.", ".ln_1.": ".layer_norm1.",
    ".ln_2.": ".layer_norm2.", ".c_fc.": ".fc1.", ".c_proj.": ".fc2.",
}  # fmt: skip
SIGLIP_TOWER = re.compile(r"vit_(base|large|so400m|giantopt)_patch\d+_siglip_\d+")
SIGLIP_HEADS = {"base": 12, "large": 16, "so400m": 16, "giantopt": 16}
# timm has the exact GELU in its other towers, and epsilon 1e-6 in all.
SIGLIP_TANH = (
    "vit_base_patch32_", "vit_large_patch16_siglip_512", "vit_so400m_patch16_", "vit_giantopt_",
)  # fmt: skip

RESAMPLE = {
    "bicubic": Image.Resampling.BICUBIC,
    "bilinear": Image.Resampling.BILINEAR,
    "random": Image.Resampling.BICUBIC,
}
FITS: dict[str, Literal["crop", "squash"]] = {"shortest": "crop", "squash": "squash"}
ASCII_PUNCTUATION = r"[!-/:-@\[-`{-~]"


def convert(source: Path, folder: Path) -> None:
    """Writes the checkpoint of open_clip in `source` as one of transformers.

    Args:
        source: a folder with open_clip_config.json, weights in safetensors and, for texts, the
            files of the tokenizer.
        folder: an empty folder.

    Raises:
        MissingError: the weights are missing, or pickled.
        UsageError: the files are damaged, or describe a network that is neither such a CLIP nor a
            SigLIP; the message has the key.
    """
    with conversion.one_sentence(
        source, f"a configuration and weights of open_clip in {OPEN_CLIP}"
    ):
        vision = _model_config(source)["vision_cfg"]
        if "timm_model_name" in vision:
            _convert_siglip(source, folder)
        else:
            clip = read(source)
            half = all(weight.dtype == torch.float16 for weight in clip.state_dict().values())
            conversion.save(clip, folder, half=half)


def read(folder: Path) -> CLIP:
    """Our CLIP from a folder of open_clip.

    Args:
        folder: as of `convert`.

    Returns:
        The model in eval mode, in the number format of the file.

    Raises:
        MissingError: the weights are missing, or pickled.
        UsageError: another network than a CLIP with a vision transformer.
    """  # noqa: DOC501
    model = _model_config(folder)
    whole = _known(model, {**MODEL, "vision_cfg": None, "text_cfg": None}, "model_cfg")
    if isinstance(model["vision_cfg"].get("layers"), list):
        raise _unsupported("vision_cfg.layers", model["vision_cfg"]["layers"], folder)
    vision = _known(model["vision_cfg"], VISION, "vision_cfg")
    text = _known(model["text_cfg"], CLIP_TEXT, "text_cfg")
    # 2 would be taken for "the largest id" in the configuration of transformers.
    if text["pool_type"] not in ("argmax", "eos"):
        raise _unsupported("text_cfg.pool_type", text["pool_type"], folder)
    if text["pool_type"] == "eos" and text["eos_id"] == 2:
        raise _unsupported("text_cfg.eos_id", 2, folder)
    config = CLIPConfig(
        ViTConfig(
            **_sizes(vision, whole["quick_gelu"]),
            heads=vision["width"] // vision["head_width"],
            image_size=vision["image_size"],
            patch_size=vision["patch_size"],
        ),
        TextConfig(
            **_sizes(text, whole["quick_gelu"]),
            heads=text["heads"],
            vocab_size=text["vocab_size"],
            context_length=text["context_length"],
            end_token_id=text["eos_id"] if text["pool_type"] == "eos" else None,
        ),
        whole["embed_dim"],
    )
    # custom_text puts the same text tower below a prefix.
    theirs = {name.removeprefix("text."): tensor for name, tensor in _weights(folder).items()}
    check_held(config, sum(tensor.numel() for tensor in theirs.values()))
    tokenizer = None
    if any((folder / file).is_file() for file in ("tokenizer.json", "vocab.json")):
        padding = conversion.pad_id(folder, config.text.vocab_size)
        tokenizer = Tokenizer.from_folder(folder, config.text.context_length, padding)
        tokenizer.check_fits(config.text.vocab_size)
    notes = read_record(folder / OPEN_CLIP).get("encoderlab") or {}
    preprocess = _preprocess(folder, config.vision.image_size)
    with torch.device("meta"):
        clip = CLIP(config, tokenizer, preprocess, trained_steps=notes.get("trained_steps"))
        if "logit_bias" in theirs:
            clip.add_logit_bias()
    weights = {}
    for name, ours in clip.state_dict().items():
        tensor = theirs.pop(_clip_name(name), None)
        if tensor is None:
            raise _lacking(_clip_name(name), folder)
        tensor = tensor.T.contiguous() if name in TRANSPOSED else tensor
        if tensor.numel() == 1:
            tensor = tensor.reshape(ours.shape)  # some have a scale of shape (1,)
        if tensor.shape != ours.shape:
            raise UsageError(
                "a weight does not have the shape that the configuration says",
                got=f"{_clip_name(name)} {tuple(tensor.shape)} in {folder}",
                want=str(tuple(ours.shape)),
            )
        weights[name] = tensor
    _refuse_rest(theirs, folder)
    clip.load_state_dict(weights, assign=True)
    return clip.eval()


def save(clip: CLIP, folder: Path) -> Path:
    """Writes a CLIP as open_clip reads it: `create_model_and_transforms("local-dir:FOLDER")`.

    Args:
        clip: with a vision transformer, and one activation in both towers.
        folder: written to; created if missing.

    Returns:
        `folder`.

    Raises:
        UsageError: open_clip has no such network, or no such preprocessing.
    """
    vision, text, preprocess = clip.config.vision, clip.config.text, clip.preprocess
    if isinstance(vision, ResNetConfig):
        raise UsageError(
            "open_clip has no such network",
            got="an image tower that is a ResNet with group norm",
            want="a vision transformer",
        )
    activations = {tower.activation for tower in (vision, text)}
    if len(activations) > 1:
        raise UsageError(
            "open_clip has one activation for both towers", got=" and ".join(sorted(activations))
        )
    resample = {int(number): name for name, number in reversed(RESAMPLE.items())}
    if preprocess.resize_to is not None or preprocess.resample not in resample:
        raise UsageError(
            "open_clip has no such preprocessing",
            got=f"resize_to={preprocess.resize_to}, resample={preprocess.resample}",
            want="images resized to the size of the tower, bicubic or bilinear",
        )
    folder.mkdir(parents=True, exist_ok=True)
    weights = {}
    for name, tensor in clip.state_dict().items():
        tensor = tensor.detach().to("cpu", torch.float32)
        weights[_clip_name(name)] = (tensor.T if name in TRANSPOSED else tensor).contiguous()
    with atomic_write(folder / NAMES[0]) as unfinished:
        save_file(weights, unfinished, metadata={"format": "pt"})
    model: dict[str, Any] = {
        "embed_dim": clip.config.embed_dim,
        "quick_gelu": activations == {"quick_gelu"},
        "vision_cfg": {
            "image_size": vision.image_size,
            "patch_size": vision.patch_size,
            "head_width": vision.width // vision.heads,
            **_their_sizes(vision),
        },
        "text_cfg": {
            "context_length": text.context_length,
            "vocab_size": text.vocab_size,
            "heads": text.heads,
            **_their_sizes(text),
        },
    }
    if clip.logit_bias is not None:
        model["init_logit_bias"] = clip.logit_bias.item()
    if text.end_token_id is not None:
        model["text_cfg"] |= {"pool_type": "eos", "eos_id": text.end_token_id}
    if clip.tokenizer is not None:
        conversion.write_tokenizer(clip.tokenizer, folder)
        # Any name makes open_clip use the tokenizer of the folder instead of OpenAI's.
        model["text_cfg"]["hf_tokenizer_name"] = folder.name
    record = {
        "model_cfg": model,
        "preprocess_cfg": {
            "mean": list(preprocess.mean),
            "std": list(preprocess.std),
            "interpolation": resample[preprocess.resample],
            "resize_mode": {ours: theirs for theirs, ours in FITS.items()}[preprocess.fit],
        },
        "encoderlab": {"trained_steps": clip.trained_steps},
    }
    conversion.write_json(folder / OPEN_CLIP, record)
    return folder


def _their_sizes(tower: ViTConfig | TextConfig) -> dict[str, Any]:
    ratio = tower.mlp_width / tower.width
    if int(tower.width * ratio) != tower.mlp_width:  # open_clip rounds the product down
        ratio = (tower.mlp_width + 0.5) / tower.width
    sizes = {"width": tower.width, "layers": tower.layers, "mlp_ratio": ratio}
    tanh = {"approximate": "tanh"} if tower.activation == "gelu_pytorch_tanh" else None
    return {
        **sizes,
        "norm_kwargs": {"eps": tower.norm_eps},
        **({"act_kwargs": tanh} if tanh else {}),
    }


def _clip_name(ours: str) -> str:
    for part, theirs in CLIP_NAMES.items():
        ours = ours.replace(part, theirs)
    return ours


def _model_config(folder: Path) -> dict[str, Any]:
    record = read_record(folder / OPEN_CLIP)
    model = record.get("model_cfg", record)
    for part in (model, *(model.get(key) for key in ("vision_cfg", "text_cfg"))):
        if not isinstance(part, dict):
            raise UsageError(
                "the configuration of open_clip lacks a part",
                got=str(folder / OPEN_CLIP),
                want="a table model_cfg with the tables vision_cfg and text_cfg",
            )
    return model


def _known(given: Mapping[str, Any], known: Mapping[str, Any], part: str) -> dict[str, Any]:
    """The values of the known keys. A key of another network is refused by its name."""
    for key, value in given.items():
        if key in known or key in UNUSED or value in (None, False, NOTHING.get(key)):
            continue
        raise _unsupported(f"{part}.{key}", value, None)
    return {**known, **{key: value for key, value in given.items() if key in known}}


def _unsupported(key: str, value: Any, folder: Path | None) -> UsageError:
    return UsageError(
        "this network of open_clip cannot be read",
        got=f"{key}={json.dumps(value)}" + (f" in {folder}" if folder else ""),
        want="a CLIP with a vision and a text transformer, or a SigLIP with timm's image tower",
    )


def _lacking(name: str, folder: Path) -> UsageError:
    return UsageError(
        "the checkpoint lacks a weight that its configuration names",
        got=f"no {name} in {folder}",
        want="a complete checkpoint of open_clip",
    )


def _refuse_rest(rest: Mapping[str, Tensor], folder: Path) -> None:
    """Raises for weights that no part of the network has taken."""
    left = sorted(name for name in rest if name != "attn_mask")
    if left:
        raise UsageError(
            "the checkpoint has a weight that its configuration does not name",
            got=f"{left[0]} in {folder}" + (f", and {len(left) - 1} more" if left[1:] else ""),
            want="the weights of a CLIP or SigLIP alone",
        )


def _sizes(tower: Mapping[str, Any], quick_gelu: bool) -> dict[str, Any]:
    """The sizes that both towers of our CLIP have."""
    return {
        "width": tower["width"],
        "layers": tower["layers"],
        "mlp_width": int(tower["width"] * tower["mlp_ratio"]),
        "activation": _activation(tower, quick_gelu),
        "norm_eps": _eps(tower),
    }


def _activation(tower: Mapping[str, Any], quick_gelu: bool) -> str:
    kind = tower["act_kwargs"] or {}
    if kind not in ({}, {"approximate": "tanh"}, {"approximate": "none"}) or (kind and quick_gelu):
        raise _unsupported("act_kwargs", kind, None)
    tanh = kind.get("approximate") == "tanh"
    return "quick_gelu" if quick_gelu else "gelu_pytorch_tanh" if tanh else "gelu"


def _eps(tower: Mapping[str, Any]) -> float:
    norm = tower["norm_kwargs"] or {}
    if set(norm) - {"eps"}:
        raise _unsupported("norm_kwargs", norm, None)
    return norm.get("eps", 1e-5)


def _weights(folder: Path) -> dict[str, Tensor]:
    files = [file for name in (*NAMES, WEIGHTS) if (file := folder / name).is_file()]
    if not files:
        pickled = any((*folder.glob("*.bin"), *folder.glob("*.pt")))
        only = " (only pickled weights are there, and those are not opened)" if pickled else ""
        raise MissingError(
            "the checkpoint of open_clip has no weights in safetensors",
            got=f"no {folder / NAMES[0]}{only}",
            hint="write it with open_clip's push_to_hf_hub.save_for_hf, or safetensors.torch",
        )
    return conversion.read_weights(files[:1])


def _preprocess(folder: Path, side: int) -> Preprocess:
    """The preprocessing, at the size of the tower whatever size it names, as in open_clip."""
    given = read_record(folder / OPEN_CLIP).get("preprocess_cfg") or {}
    values = {
        "mean": OPENAI_MEAN, "std": OPENAI_STD, "interpolation": "bicubic",
        "resize_mode": "shortest", "mode": "RGB",
        **{key: value for key, value in given.items() if value is not None},
    }  # fmt: skip
    for key, known in (("resize_mode", FITS), ("interpolation", RESAMPLE), ("mode", ("RGB",))):
        if values[key] not in known:
            raise UsageError(
                "the checkpoint's preprocessing is not supported",
                got=f"preprocess_cfg.{key}={values[key]!r} in {folder / OPEN_CLIP}",
                want=" or ".join(known),
            )
    mean, std = (
        (value,) * 3 if isinstance(value, int | float) else tuple(value)
        for value in (values["mean"], values["std"])
    )
    # Of a margin of 4 k + 3 pixels open_clip cuts 2 k + 2 off at the left, or at the top, and we
    # cut 2 k + 1: torchvision rounds half of it to an even number.
    return Preprocess(
        side, FITS[values["resize_mode"]], mean, std, int(RESAMPLE[values["interpolation"]])
    )


def _convert_siglip(source: Path, folder: Path) -> None:
    model = _model_config(source)
    whole = _known(model, {**MODEL, "vision_cfg": None, "text_cfg": None}, "model_cfg")
    vision = _known(model["vision_cfg"], {**VISION, **TIMM}, "vision_cfg")
    known: dict[str, Any] = {**TEXT, **dict.fromkeys(SIGLIP_TEXT), "tokenizer_kwargs": {}}
    text = _known(model["text_cfg"], known, "text_cfg")
    name = vision["timm_model_name"]
    kind = SIGLIP_TOWER.fullmatch(name)
    if kind is None:
        raise _unsupported("vision_cfg.timm_model_name", name, source)
    for part, values, wanted in (
        ("vision_cfg", vision, SIGLIP_VISION),
        ("text_cfg", text, SIGLIP_TEXT),
    ):
        for key, value in wanted.items():
            if values[key] != value:
                raise _unsupported(f"{part}.{key}", values[key], source)
    theirs = _weights(source)
    if _depth(theirs, "text.transformer.resblocks.") != text["layers"]:
        raise _unsupported("text_cfg.layers", text["layers"], source)
    patch_embedding = theirs["visual.trunk.patch_embed.proj.weight"]
    width, _, patch, _ = patch_embedding.shape
    config = {
        "architectures": ["SiglipModel"],
        "model_type": "siglip",
        "dtype": str(patch_embedding.dtype).removeprefix("torch."),
        "text_config": {
            "model_type": "siglip_text_model",
            "vocab_size": text["vocab_size"],
            "hidden_size": text["width"],
            "intermediate_size": int(text["width"] * text["mlp_ratio"]),
            "num_hidden_layers": text["layers"],
            "num_attention_heads": text["heads"],
            "max_position_embeddings": text["context_length"],
            "hidden_act": _activation(text, whole["quick_gelu"]),
            "layer_norm_eps": _eps(text),
            "projection_size": whole["embed_dim"],
        },
        "vision_config": {
            "model_type": "siglip_vision_model",
            "image_size": vision["image_size"],
            "patch_size": patch,
            "hidden_size": width,
            "intermediate_size": theirs["visual.trunk.blocks.0.mlp.fc1.weight"].shape[0],
            "num_hidden_layers": _depth(theirs, "visual.trunk.blocks."),
            "num_attention_heads": SIGLIP_HEADS[kind[1]],
            "hidden_act": "gelu_pytorch_tanh" if name.startswith(SIGLIP_TANH) else "gelu",
            "layer_norm_eps": 1e-6,
        },
    }
    conversion.write_weights(_siglip_weights(theirs), folder)
    record = as_record(_preprocess(source, vision["image_size"]))
    conversion.write_json(folder / "preprocessor_config.json", record)
    _write_siglip_tokenizer(source, folder, text)
    conversion.write_json(folder / "config.json", config)


def _depth(names: Iterable[str], prefix: str) -> int:
    return len(
        {name.removeprefix(prefix).split(".")[0] for name in names if name.startswith(prefix)}
    )


def _siglip_weights(theirs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights under the names of SiglipModel, which loads them strictly."""
    weights: dict[str, Tensor] = {}
    for name, tensor in theirs.items():
        fused = re.fullmatch(r"(.*\.)attn\.(?:qkv\.|in_proj_)(weight|bias)", name)
        if "attn_pool.kv." in name:
            continue  # with the queries
        if "attn_pool.q." in name:
            keys = theirs[name.replace(".q.", ".kv.")]
            name = name.replace("attn_pool.q.", "vision_model.head.attention.in_proj_")
            weights[name.removeprefix("visual.trunk.")] = torch.cat([tensor, keys])
        elif fused is not None:
            for letter, part in zip("qkv", tensor.chunk(3), strict=True):
                new = f"{fused[1]}self_attn.{letter}_proj.{fused[2]}"
                weights[_siglip_name(new)] = part.clone()
        elif name in ("logit_scale", "logit_bias"):
            weights[name] = tensor.reshape(1)
        else:
            tensor = tensor.squeeze(0) if name.endswith("pos_embed") else tensor
            weights[_siglip_name(name)] = tensor
    return weights


def _siglip_name(name: str) -> str:
    for part, theirs in SIGLIP_NAMES.items():
        name = name.replace(part, theirs)
    return name


def _write_siglip_tokenizer(source: Path, folder: Path, text: Mapping[str, Any]) -> None:
    """Copies tokenizer.json, with the cleaning of texts that open_clip does in Python before it."""
    given = {"clean": "whitespace", **(text["tokenizer_kwargs"] or {})}
    clean = given.pop("clean")
    if given or clean not in ("canonicalize", "lower", "whitespace"):
        raise _unsupported("text_cfg.tokenizer_kwargs", text["tokenizer_kwargs"], source)
    if not (source / "tokenizer.json").is_file():
        return  # images can be encoded without
    try:
        pipeline = Pipeline.from_file(str(source / "tokenizer.json"))
    except Exception as error:  # tokenizers has no other class of errors
        raise UsageError(
            "the tokenizer file cannot be read",
            got=f"{source / 'tokenizer.json'}: {error}"[:300],
            hint="the file is damaged or cut short: fetch it again",
        ) from error
    steps = [normalizers.Replace(Regex(r"\s+"), " "), normalizers.Strip()]
    if clean != "whitespace":
        steps = [normalizers.Lowercase(), *steps]
    if clean == "canonicalize":
        punctuation = normalizers.Replace(Regex(ASCII_PUNCTUATION), "")
        steps = [normalizers.Replace("_", " "), punctuation, *steps]
    own = [pipeline.normalizer] if pipeline.normalizer is not None else []
    pipeline.normalizer = normalizers.Sequence([*steps, *own])
    pipeline.save(str(folder / "tokenizer.json"))
    record = {}
    if (source / "tokenizer_config.json").is_file():
        record = read_record(source / "tokenizer_config.json")
    kept = ("bos_token", "eos_token", "unk_token", "pad_token")
    conversion.write_json(
        folder / "tokenizer_config.json",
        {
            **{key: record[key] for key in kept if record.get(key)},
            "tokenizer_class": "PreTrainedTokenizerFast",
            "model_max_length": text["context_length"],
            "model_input_names": ["input_ids"],  # SigLIP reads padding
        },
    )
