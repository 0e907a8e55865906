"""Checkpoints of open_clip against its forward, written here again with torch's own modules."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import load_file, save_file
from tests.small_models import make_clip
from tokenizers import Tokenizer as Pipeline
from tokenizers import models, pre_tokenizers, processors
from torch import Tensor, nn

from encoderlab.encoders.checkpoint import resolve
from encoderlab.encoders.dual import load_dual
from encoderlab.encoders.text import load_text
from encoderlab.encoders.vision import load_vision
from encoderlab.errors import MissingError, UsageError
from encoderlab.models import open_clip

FP32 = ("cpu", "float32")
TEXTS = ["a large red circle", "파란 별", "a table"]
WIDTH, HEADS, DIM, SIDE, PATCH, CONTEXT = 24, 3, 16, 32, 8, 24


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def _random(shapes: dict[str, tuple[int, ...]]) -> dict[str, Tensor]:
    """Weights that are large enough for the activation to matter."""
    generator = torch.Generator().manual_seed(0)
    return {name: torch.randn(shape, generator=generator) * 0.3 for name, shape in shapes.items()}


def _block(prefix: str, width: int, fused: str, names: dict[str, str]) -> dict[str, tuple]:
    shapes: dict[str, tuple[int, ...]] = {
        f"{prefix}{fused}weight": (3 * width, width), f"{prefix}{fused}bias": (3 * width,),
        f"{prefix}{names['out']}.weight": (width, width), f"{prefix}{names['out']}.bias": (width,),
        f"{prefix}{names['wide']}.weight": (2 * width, width),
        f"{prefix}{names['wide']}.bias": (2 * width,),
        f"{prefix}{names['narrow']}.weight": (width, 2 * width),
        f"{prefix}{names['narrow']}.bias": (width,),
    }  # fmt: skip
    for norm in (names["norm1"], names["norm2"]):
        shapes |= {f"{prefix}{norm}.weight": (width,), f"{prefix}{norm}.bias": (width,)}
    return shapes


OWN = {"out": "attn.out_proj", "wide": "mlp.c_fc", "narrow": "mlp.c_proj", "norm1": "ln_1",
       "norm2": "ln_2"}  # fmt: skip
TIMM = {"out": "attn.proj", "wide": "mlp.fc1", "narrow": "mlp.fc2", "norm1": "norm1",
        "norm2": "norm2"}  # fmt: skip


def _clip_shapes(vocabulary: int) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {
        "visual.class_embedding": (WIDTH,), "visual.conv1.weight": (WIDTH, 3, PATCH, PATCH),
        "visual.positional_embedding": (17, WIDTH), "visual.proj": (WIDTH, DIM),
        "token_embedding.weight": (vocabulary, WIDTH), "positional_embedding": (CONTEXT, WIDTH),
        "text_projection": (WIDTH, DIM), "logit_scale": (),
    }  # fmt: skip
    for norm in ("visual.ln_pre", "visual.ln_post", "ln_final"):
        shapes |= {f"{norm}.weight": (WIDTH,), f"{norm}.bias": (WIDTH,)}
    for tower in ("visual.", ""):
        for i in range(2):
            prefix = f"{tower}transformer.resblocks.{i}."
            shapes |= _block(prefix, WIDTH, "attn.in_proj_", OWN)
    return shapes


def _write(folder: Path, config: dict, weights: dict[str, Tensor], tokenizer: Pipeline) -> Path:
    folder.mkdir()
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    save_file(weights, folder / "open_clip_model.safetensors")
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


def _clip_folder(folder: Path, *, quick: bool = False, custom: bool = False) -> Path:
    tokenizer = make_clip().tokenizer
    assert tokenizer is not None
    config = {
        "model_cfg": {
            "embed_dim": DIM, "quick_gelu": quick, "custom_text": custom,
            "vision_cfg": {"image_size": SIDE, "layers": 2, "width": WIDTH, "head_width": 8,
                           "mlp_ratio": 2.0, "patch_size": PATCH},
            "text_cfg": {"context_length": CONTEXT, "vocab_size": tokenizer.vocab_size,
                         "width": WIDTH, "heads": HEADS, "layers": 2, "mlp_ratio": 2.0},
        },
        "preprocess_cfg": {"mean": [0.5, 0.4, 0.3], "std": [0.2, 0.3, 0.4],
                           "interpolation": "bilinear", "resize_mode": "squash"},
    }  # fmt: skip
    weights = _random(_clip_shapes(tokenizer.vocab_size))
    if custom:
        weights = {
            key if key.startswith("visual.") or key == "logit_scale" else f"text.{key}": value
            for key, value in weights.items()
        }
    return _write(folder, config, weights, tokenizer.pipeline)


def _norm(x: Tensor, weights: dict[str, Tensor], name: str, eps: float = 1e-5) -> Tensor:
    return F.layer_norm(x, x.shape[-1:], weights[f"{name}.weight"], weights[f"{name}.bias"], eps)


def _linear(x: Tensor, weights: dict[str, Tensor], name: str) -> Tensor:
    return F.linear(x, weights[f"{name}.weight"], weights[f"{name}.bias"])


def _attend(q, kv, weights, heads, in_weight, in_bias, out, mask=None) -> Tensor:
    attention = nn.MultiheadAttention(q.shape[-1], heads, batch_first=True)
    attention.load_state_dict(
        {
            "in_proj_weight": in_weight, "in_proj_bias": in_bias,
            "out_proj.weight": weights[f"{out}.weight"], "out_proj.bias": weights[f"{out}.bias"],
        }
    )  # fmt: skip
    return attention(q, kv, kv, need_weights=False, attn_mask=mask)[0].detach()


def _blocks(x, weights, prefix, heads, act, names, fused, eps=1e-5, mask=None) -> Tensor:
    for i in range(2):
        here = f"{prefix}{i}."
        y = _norm(x, weights, here + names["norm1"], eps)
        x = x + _attend(
            y, y, weights, heads, weights[f"{here}{fused}weight"], weights[f"{here}{fused}bias"],
            here + names["out"], mask,
        )  # fmt: skip
        y = _norm(x, weights, here + names["norm2"], eps)
        x = x + _linear(
            act(_linear(y, weights, here + names["wide"])), weights, here + names["narrow"]
        )
    return x


def _clip_image(weights: dict[str, Tensor], pixels: Tensor, act) -> Tensor:
    x = F.conv2d(pixels, weights["visual.conv1.weight"], stride=PATCH).flatten(2).transpose(1, 2)
    x = torch.cat([weights["visual.class_embedding"].expand(len(x), 1, -1), x], dim=1)
    x = _norm(x + weights["visual.positional_embedding"], weights, "visual.ln_pre")
    x = _blocks(x, weights, "visual.transformer.resblocks.", HEADS, act, OWN, "attn.in_proj_")
    return _norm(x, weights, "visual.ln_post")[:, 0] @ weights["visual.proj"]


def _clip_text(weights: dict[str, Tensor], ids: Tensor, act) -> Tensor:
    x = weights["token_embedding.weight"][ids] + weights["positional_embedding"]
    mask = torch.full((CONTEXT, CONTEXT), float("-inf")).triu(1)
    x = _blocks(x, weights, "transformer.resblocks.", HEADS, act, OWN, "attn.in_proj_", mask=mask)
    x = _norm(x, weights, "ln_final")[torch.arange(len(x)), ids.argmax(-1)]
    return x @ weights["text_projection"]


def _squashed(pictures, resample: Image.Resampling, mean, std) -> Tensor:
    """What torchvision's Resize, ToTensor and Normalize give."""
    pixels = np.stack([np.asarray(p.resize((SIDE, SIDE), resample)) for p in pictures])
    ready = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255
    return (ready - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)


@pytest.mark.parametrize(("quick", "custom"), [(False, False), (True, False), (False, True)])
def test_a_clip_gives_what_open_clip_gives(tmp_path, pictures, quick, custom):
    folder = _clip_folder(tmp_path / "a", quick=quick, custom=custom)
    weights = {
        key.removeprefix("text."): value
        for key, value in load_file(folder / "open_clip_model.safetensors").items()
    }
    act = (lambda x: x * torch.sigmoid(1.702 * x)) if quick else F.gelu
    dual = load_dual(str(folder), *FP32)
    pixels = _squashed(pictures, Image.Resampling.BILINEAR, [0.5, 0.4, 0.3], [0.2, 0.3, 0.4])
    image = _clip_image(weights, pixels, act)
    text = _clip_text(weights, dual.tokenizer(TEXTS), act)
    normalise = F.normalize
    np.testing.assert_allclose(dual.embed_images(pictures), normalise(image), atol=1e-5)
    np.testing.assert_allclose(dual.embed_texts(TEXTS), normalise(text), atol=1e-5)
    assert dual.logit_scale == pytest.approx(weights["logit_scale"].exp().item())
    pooled = load_vision(folder, *FP32).encode(pictures).pooled
    np.testing.assert_allclose(pooled, image, rtol=1e-4, atol=1e-5)
    alone = load_text(folder, *FP32).encode(TEXTS).pooled
    np.testing.assert_allclose(alone, text, rtol=1e-4, atol=1e-5)
    other = F.gelu if quick else (lambda x: x * torch.sigmoid(1.702 * x))
    assert (_clip_image(weights, pixels, other) - image).abs().max() > 1e-3


def test_shortest_crops_and_a_missing_setting_is_openai_s(tmp_path):
    folder = _clip_folder(tmp_path / "a")
    config = json.loads((folder / "open_clip_config.json").read_text())
    config["preprocess_cfg"] = {"mean": None, "size": 99}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    preprocess = load_vision(folder, *FP32).preprocess
    assert (preprocess.fit, preprocess.shape, preprocess.resample) == ("crop", (SIDE, SIDE), 3)
    assert preprocess.mean == (0.48145466, 0.4578275, 0.40821073)


def _siglip_folder(folder: Path, tower: str, *, tanh: bool) -> Path:
    width = WIDTH
    words = ["<pad>", "</s>", "<unk>", "a", "large", "red", "circle", "table", "dog", "s", "_"]
    tokenizer = Pipeline(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", 1)]
    )
    shapes: dict[str, tuple[int, ...]] = {
        "visual.trunk.pos_embed": (1, 16, width), "visual.trunk.attn_pool.latent": (1, 1, width),
        "visual.trunk.patch_embed.proj.weight": (width, 3, PATCH, PATCH),
        "visual.trunk.patch_embed.proj.bias": (width,),
        "visual.trunk.attn_pool.q.weight": (width, width),
        "visual.trunk.attn_pool.q.bias": (width,),
        "visual.trunk.attn_pool.kv.weight": (2 * width, width),
        "visual.trunk.attn_pool.kv.bias": (2 * width,),
        "visual.trunk.attn_pool.proj.weight": (width, width),
        "visual.trunk.attn_pool.proj.bias": (width,),
        "visual.trunk.attn_pool.mlp.fc1.weight": (2 * width, width),
        "visual.trunk.attn_pool.mlp.fc1.bias": (2 * width,),
        "visual.trunk.attn_pool.mlp.fc2.weight": (width, 2 * width),
        "visual.trunk.attn_pool.mlp.fc2.bias": (width,),
        "text.token_embedding.weight": (len(words), width),
        "text.positional_embedding": (8, width), "text.text_projection.weight": (width, width),
        "text.text_projection.bias": (width,), "logit_scale": (1,), "logit_bias": (1,),
    }  # fmt: skip
    for norm in ("visual.trunk.norm", "visual.trunk.attn_pool.norm", "text.ln_final"):
        shapes |= {f"{norm}.weight": (width,), f"{norm}.bias": (width,)}
    for i in range(2):
        shapes |= _block(f"visual.trunk.blocks.{i}.", width, "attn.qkv.", TIMM)
        shapes |= _block(f"text.transformer.resblocks.{i}.", width, "attn.in_proj_", OWN)
    config = {
        "model_cfg": {
            "embed_dim": width, "init_logit_bias": -10, "custom_text": True,
            "vision_cfg": {"image_size": SIDE, "timm_model_name": tower,
                           "timm_model_pretrained": False, "timm_pool": "map",
                           "timm_proj": "none"},
            "text_cfg": {"context_length": 8, "vocab_size": len(words), "width": width,
                         "heads": HEADS, "layers": 2, "mlp_ratio": 2.0, "no_causal_mask": True,
                         "proj_bias": True, "pool_type": "last", "norm_kwargs": {"eps": 1e-6},
                         "hf_tokenizer_name": "timm/ViT-B-16-SigLIP",
                         "tokenizer_kwargs": {"clean": "canonicalize"},
                         **({"act_kwargs": {"approximate": "tanh"}} if tanh else {})},
        },
        "preprocess_cfg": {"mean": [0.5] * 3, "std": [0.5] * 3, "interpolation": "bicubic",
                           "resize_mode": "squash"},
    }  # fmt: skip
    _write(folder, config, _random(shapes), tokenizer)
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "T5Tokenizer", "pad_token": "<pad>", "eos_token": "</s>"})
    )
    return folder


@pytest.mark.parametrize(
    ("tower", "image_tanh", "text_tanh"),
    [
        ("vit_base_patch16_siglip_224", False, False),
        ("vit_base_patch32_siglip_256", True, True),
    ],
)
def test_a_siglip_gives_what_open_clip_and_timm_give(
    tmp_path, pictures, tower, image_tanh, text_tanh
):
    folder = _siglip_folder(tmp_path / "a", tower, tanh=text_tanh)
    w = load_file(folder / "open_clip_model.safetensors")

    def gelu(tanh: bool):
        return lambda x: F.gelu(x, approximate="tanh" if tanh else "none")

    v, act = "visual.trunk.", gelu(image_tanh)
    pixels = _squashed(pictures, Image.Resampling.BICUBIC, [0.5] * 3, [0.5] * 3)
    x = F.conv2d(
        pixels, w[v + "patch_embed.proj.weight"], w[v + "patch_embed.proj.bias"], stride=PATCH
    )
    x = x.flatten(2).transpose(1, 2) + w[v + "pos_embed"]
    x = _blocks(x, w, v + "blocks.", 12, act, TIMM, "attn.qkv.", 1e-6)
    x = _norm(x, w, v + "norm", 1e-6)
    pool = v + "attn_pool."
    fused = [
        torch.cat([w[f"{pool}q.{kind}"], w[f"{pool}kv.{kind}"]]) for kind in ("weight", "bias")
    ]
    x = _attend(w[pool + "latent"].expand(len(x), -1, -1), x, w, 12, *fused, pool + "proj")
    y = _linear(
        act(_linear(_norm(x, w, pool + "norm", 1e-6), w, pool + "mlp.fc1")), w, pool + "mlp.fc2"
    )
    image = (x + y)[:, 0]
    # "canonicalize" removes punctuation and turns underscores into spaces.
    texts = ["A large, red_circle!", "a dog's table"]
    ids = torch.tensor([[3, 4, 5, 6, 1, 0, 0, 0], [3, 2, 7, 1, 0, 0, 0, 0]])
    t = w["text.token_embedding.weight"][ids] + w["text.positional_embedding"]
    t = _blocks(
        t, w, "text.transformer.resblocks.", HEADS, gelu(text_tanh), OWN, "attn.in_proj_", 1e-6
    )
    text = _linear(_norm(t, w, "text.ln_final", 1e-6)[:, -1], w, "text.text_projection")
    dual = load_dual(str(folder), *FP32)
    assert dual.family == "siglip"
    assert dual.tokenizer(texts).tolist() == ids.tolist()
    np.testing.assert_allclose(dual.embed_images(pictures), F.normalize(image), atol=1e-5)
    np.testing.assert_allclose(dual.embed_texts(texts), F.normalize(text), atol=1e-5)
    assert dual.logit_scale == pytest.approx(w["logit_scale"].exp().item())


@pytest.mark.parametrize(
    ("part", "key", "value"),
    [
        ("vision_cfg", "attentional_pool", True),
        ("vision_cfg", "layers", [3, 4, 6, 3]),
        ("vision_cfg", "timm_model_name", "convnext_base"),
        ("text_cfg", "hf_model_name", "roberta-base"),
        ("text_cfg", "pool_type", "last"),
        ("text_cfg", "eos_id", 2),
    ],
)
def test_another_network_is_refused_by_its_key(tmp_path, part, key, value):
    folder = _clip_folder(tmp_path / "a")
    config = json.loads((folder / "open_clip_config.json").read_text())
    config["model_cfg"][part][key] = value
    if key == "eos_id":
        config["model_cfg"][part]["pool_type"] = "eos"
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    with pytest.raises(UsageError) as caught:
        resolve(folder)
    assert f"{part}.{key}=" in str(caught.value.got)
    assert not list((tmp_path / "cache" / "encoderlab" / "converted").iterdir())


def test_pickled_weights_are_refused(tmp_path):
    folder = _clip_folder(tmp_path / "a")
    (folder / "open_clip_model.safetensors").rename(folder / "open_clip_pytorch_model.bin")
    with pytest.raises(MissingError) as caught:
        load_vision(folder, *FP32)
    assert "pickled" in str(caught.value.got)


def test_a_weight_that_no_part_takes_is_refused(tmp_path):
    folder = _clip_folder(tmp_path / "a")
    file = folder / "open_clip_model.safetensors"
    save_file({**load_file(file), "visual.transformer.resblocks.0.ls_1.gamma": torch.ones(4)}, file)
    with pytest.raises(UsageError) as caught:
        resolve(folder)
    assert "ls_1.gamma" in str(caught.value.got)


def test_a_folder_without_tokenizer_has_images_only(tmp_path, pictures):
    folder = _clip_folder(tmp_path / "a")
    (folder / "tokenizer.json").unlink()
    assert load_vision(folder, *FP32).encode(pictures).pooled.shape == (4, DIM)
    with pytest.raises(UsageError) as caught:
        load_dual(str(folder), *FP32)
    assert "tokenizer.json" in str(caught.value.want)


def test_a_checkpoint_is_converted_once_and_again_after_a_change(tmp_path):
    folder = _clip_folder(tmp_path / "a")
    first = resolve(folder)
    assert (first.name, first.kind, first.source) == (str(folder), "folder", folder)
    assert resolve(folder).path == first.path
    file = folder / "open_clip_model.safetensors"
    save_file({**load_file(file), "logit_scale": torch.tensor(1.0)}, file)
    assert resolve(folder).fingerprint != first.fingerprint


def test_a_repository_may_hold_other_forms_beside_it(tmp_path, clip_folder, monkeypatch):
    folder = _clip_folder(tmp_path / "a")
    monkeypatch.setattr("encoderlab.encoders.checkpoint.local_folder", lambda name, code: folder)
    (folder / "config.json").write_text('{"architecture": "vit_base_patch32_clip_224"}')  # timm's
    shutil.copy(clip_folder / "model.safetensors", folder)
    found = resolve("owner/name")
    assert (found.name, found.kind, found.source) == ("owner/name", "hub", folder)
    shutil.copy(clip_folder / "config.json", folder)
    assert resolve("owner/name").path == folder
    (folder / "model.safetensors").unlink()
    assert resolve("owner/name").source == folder


def test_a_clip_survives_the_round_trip(tmp_path, pictures):
    clip = make_clip()
    clip.add_logit_bias(-3.0)
    folder = open_clip.save(clip, tmp_path / "out")
    clip.save_pretrained(tmp_path / "hf")
    back, here = load_dual(str(folder), *FP32), load_dual(str(tmp_path / "hf"), *FP32)
    np.testing.assert_allclose(back.embed_images(pictures), here.embed_images(pictures), atol=1e-6)
    np.testing.assert_allclose(back.embed_texts(TEXTS), here.embed_texts(TEXTS), atol=1e-6)
    assert torch.equal(back.tokenizer(TEXTS), here.tokenizer(TEXTS))
    assert (back.preprocess, back.trained_steps) == (here.preprocess, here.trained_steps)
    assert back.model.logit_bias.item() == -3.0
    # And the names are those of open_clip's own forward.
    weights = load_file(folder / "open_clip_model.safetensors")
    assert weights["visual.proj"].shape == (24, 16)
    assert weights["visual.transformer.resblocks.0.attn.in_proj_weight"].shape == (72, 24)
