"""Vision adapters against the transformers call that a reader would write by hand."""

import functools
import importlib
import json
import shutil

import numpy as np
import pytest
import torch
import transformers as hf
from PIL import Image
from tests.small_checkpoints import MAPS, SQUASH, VISION, VIT, save_own_vision
from tests.small_models import make_clip

from encoderlab.compression.token_set import TokenSet
from encoderlab.encoders import check
from encoderlab.encoders.rollout import attention_rollout
from encoderlab.encoders.text import load_text
from encoderlab.encoders.vision import TowerOutput, VisionEncoder, load_vision
from encoderlab.errors import MissingError, UsageError, WorkError
from encoderlab.inspection.analyzer import TokenSimilarityAnalyzer
from encoderlab.models.clip import CLIP
from encoderlab.patch_tokens.pooling import CLSAttention

FP32 = {"device": "cpu", "dtype": "float32"}
# Of each family: special tokens, where they are not one.
SPECIAL_TOKENS = {
    "dinov2-registers": 4, "dinov3": 5, "deit": 2, "ijepa": 0, "tipsv2": 2, "tipsv2-tower-alone": 2,
    "radio": 10, "aimv2-tower-alone": 0, "vitdet": 0, "sam3": 0,
}  # fmt: skip
POOLED_BY_THE_TOWER = (
    "clip-tower-alone", "metaclip2-tower-alone", "chinese-clip-tower-alone", "mlcd",
    "aimv2-tower-alone",
)  # fmt: skip
WINDOWED = ("vitdet", "sam3")
FIXED_RESOLUTION = ("deit", "aimv2", "aimv2-tower-alone", "sam3")


def by_hand(family: str, folder, pixels: torch.Tensor) -> dict[str, torch.Tensor]:
    """The tokens, CLS and pooled vector of the plain transformers call."""
    load = {"dtype": torch.float32}
    if family in ("clip", "metaclip2", "chinese-clip"):
        out = hf.AutoModel.from_pretrained(folder, **load).get_image_features(pixels)
        return {
            "patches": out.last_hidden_state[:, 1:],
            "cls": out.last_hidden_state[:, 0],
            "pooled": out.pooler_output,
        }
    if family in ("siglip", "aimv2"):
        out = hf.AutoModel.from_pretrained(folder, **load).get_image_features(pixels)
        return {"patches": out.last_hidden_state, "pooled": out.pooler_output}
    if family == "siglip2":
        images = [Image.fromarray(one) for one in _bytes_of(pixels)]
        processor = hf.models.siglip2.image_processing_pil_siglip2.Siglip2ImageProcessorPil
        batch = processor.from_pretrained(folder)(images, return_tensors="pt")
        out = hf.Siglip2Model.from_pretrained(folder, **load).get_image_features(**batch)
        return {"patches": out.last_hidden_state, "pooled": out.pooler_output}
    if family == "internvl":
        model = hf.InternVLForConditionalGeneration.from_pretrained(folder, **load)
        tokens = model.model.vision_tower(pixels).last_hidden_state
        return {
            "patches": tokens[:, 1:], "cls": tokens[:, 0], "pooled": tokens[:, 1:].mean(dim=1)
        }  # fmt: skip
    if family == "paligemma":
        model = hf.PaliGemmaForConditionalGeneration.from_pretrained(folder, **load)
        out = model.model.get_image_features(pixels)
        return {
            "patches": out.last_hidden_state,
            "projected": out.pooler_output,
            "pooled": out.pooler_output.mean(dim=1),
        }
    alone = {"metaclip2-tower-alone": hf.MetaClip2VisionModel, "tipsv2": hf.Tipsv2VisionModel}
    out = alone.get(family, hf.AutoModel).from_pretrained(folder, **load)(pixels)
    special = SPECIAL_TOKENS.get(family, 1)
    tokens = out.last_hidden_state
    pooled = tokens[:, 0] if special else tokens.mean(dim=1)
    if family == "internvl-tower-alone":
        pooled = tokens[:, 1:].mean(dim=1)
    if family in POOLED_BY_THE_TOWER:
        pooled = out.pooler_output
    if family == "radio":
        pooled = out.summary
    if family == "vitdet":
        tokens = tokens.flatten(2).mT
        pooled = tokens.mean(dim=1)
    found = {"patches": tokens[:, special:], "pooled": pooled}
    return found | ({"cls": tokens[:, 0]} if special else {})


def _bytes_of(pixels: torch.Tensor) -> np.ndarray:
    return ((pixels * 0.5 + 0.5) * 255).round().byte().permute(0, 2, 3, 1).numpy()


@pytest.mark.parametrize("family", VISION)
def test_features_are_those_of_the_plain_call(family, vision_folder, pictures):
    encoder = load_vision(vision_folder(family), **FP32)
    seen = encoder.encode(pictures)
    pixels = encoder.pixel_values(pictures)
    with torch.no_grad():
        expected = by_hand(family, vision_folder(family), pixels)
    for name, value in expected.items():
        assert torch.allclose(getattr(seen, name), value, atol=1e-5), name
    assert seen.grid == (4, 4)
    assert (seen.cls is None) == ("cls" not in expected)


@pytest.mark.parametrize("family", VISION)
def test_every_adapter_keeps_the_contract(family, vision_folder):
    found = check(load_vision(vision_folder(family), **FP32))
    assert found.kept, str(found)


@pytest.mark.parametrize(
    "family, processor",
    [
        ("clip", "clip.image_processing_pil_clip.CLIPImageProcessorPil"),
        ("siglip", "siglip.image_processing_pil_siglip.SiglipImageProcessorPil"),
        ("dinov2", "bit.image_processing_pil_bit.BitImageProcessorPil"),
        ("internvl", "got_ocr2.image_processing_pil_got_ocr2.GotOcr2ImageProcessorPil"),
        ("vit", "vit.image_processing_pil_vit.ViTImageProcessorPil"),
        ("deit", "deit.image_processing_pil_deit.DeiTImageProcessorPil"),
    ],
)
def test_pixels_are_those_of_the_checkpoints_own_processor(
    family, processor, vision_folder, pictures
):
    module, _, name = processor.rpartition(".")
    theirs = getattr(importlib.import_module(f"transformers.models.{module}"), name)
    theirs = theirs.from_pretrained(vision_folder(family))
    ours = load_vision(vision_folder(family), **FP32).preprocess
    for picture in pictures:
        expected = theirs(picture, return_tensors="pt").pixel_values[0]
        assert torch.allclose(ours(picture), expected, atol=1e-5)


@pytest.mark.parametrize("family", VISION)
def test_layers_and_attention_are_the_towers_own(family, vision_folder, pictures):
    encoder = load_vision(vision_folder(family), **FP32)
    if family in WINDOWED:
        with pytest.raises(UsageError, match="does not give its attention maps"):
            encoder.encode(pictures, attention=(1,))
    blocks = () if family in WINDOWED else (1, -1)
    seen = encoder.encode(pictures, layers=(0, 2, -1), attention=blocks)
    assert list(seen.layers) == [0, 2, 3] and list(seen.attention) == ([1, 3] if blocks else [])
    tokens = 16 + encoder.special_tokens
    for weights in seen.attention.values():
        assert weights.shape == (4, 2, tokens, tokens)
        assert torch.allclose(weights.sum(dim=-1), torch.ones(4, 2, tokens), atol=1e-5)
    # A kernel that keeps maps and one that does not must agree on everything else.
    plain = encoder.encode(pictures)
    assert torch.allclose(seen.patches, plain.patches, atol=1e-5)
    assert torch.allclose(seen.pooled, plain.pooled, atol=1e-5)


@pytest.mark.parametrize("family", VISION)
def test_the_last_layer_is_what_leaves_the_last_block(family, vision_folder, pictures):
    encoder = load_vision(vision_folder(family), **FP32)
    lists = [m for m in encoder.tower.modules() if isinstance(m, torch.nn.ModuleList)]
    (blocks,) = [one for one in lists if len(one) == encoder.n_layers]
    left = {}
    hook = blocks[-1].register_forward_hook(lambda m, i, out: left.update(block=out))
    seen = encoder.encode(pictures, layers=(-1,))
    hook.remove()
    raw = left["block"][0] if isinstance(left["block"], tuple) else left["block"]
    if family in WINDOWED:
        raw = raw.flatten(2).mT if family == "vitdet" else raw.flatten(1, 2)
    expected = raw[:, encoder.special_tokens :]
    torch.testing.assert_close(seen.layers[encoder.n_layers], expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("family", [f for f in VISION if f not in FIXED_RESOLUTION])
def test_a_rectangle_of_another_resolution_is_taken(family, vision_folder, pictures):
    encoder = load_vision(vision_folder(family), **FP32, resolution=(48, 24))
    seen = encoder.encode(pictures)
    assert seen.grid == (6, 3) and seen.patches.shape[:2] == (4, 18)
    assert check(encoder).kept


def test_interpolated_positions_are_transformers_own(vision_folder, pictures):
    folder = vision_folder("clip")
    encoder = load_vision(folder, **FP32, resolution=(48, 24))
    pixels = encoder.pixel_values(pictures)
    assert pixels.shape == (4, 3, 48, 24)
    model = hf.CLIPModel.from_pretrained(folder)
    with torch.no_grad():
        expected = model.get_image_features(pixels, interpolate_pos_encoding=True).pooler_output
    assert torch.allclose(encoder.encode(pictures).pooled, expected, atol=1e-5)


def test_a_resolution_that_the_patches_do_not_divide_is_refused(vision_folder):
    with pytest.raises(UsageError, match=r"no multiple of the patch size.*50 x 48.*48 x 48"):
        load_vision(vision_folder("dinov2"), **FP32, resolution=(50, 48))


def test_pixels_that_the_patches_do_not_fill_are_left_over(tmp_path, pictures):
    # google/siglip-so400m-patch14-384 has 384 pixels in patches of 14
    config = hf.SiglipVisionConfig(**(VIT | {"image_size": 37}))
    hf.SiglipVisionModel(config).save_pretrained(tmp_path)
    side = {"height": 37, "width": 37}
    record = {"image_processor_type": "SiglipImageProcessor", "size": side}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(record))
    encoder = load_vision(tmp_path, **FP32)
    assert encoder.grid == (4, 4) and check(encoder).kept
    pixels = encoder.pixel_values(pictures)
    with torch.no_grad():
        expected = hf.SiglipVisionModel.from_pretrained(tmp_path)(pixels).pooler_output
    assert torch.allclose(encoder.encode(pictures).pooled, expected, atol=1e-5)


def test_a_training_run_of_ours_is_an_encoder_too(tmp_path, pictures):
    model = make_clip()
    model.save_pretrained(tmp_path / "exported")
    from encoderlab.models import checkpoint

    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    record = {"model": checkpoint.describe(model), "weights": model.state_dict(), "step": 3}
    checkpoint.write(tmp_path / "run/checkpoints/best.ckpt", {**record, "average": None})
    run = load_vision(tmp_path / "run", **FP32)
    exported = load_vision(tmp_path / "exported", **FP32)
    assert torch.equal(run.encode(pictures).pooled, exported.encode(pictures).pooled)
    with pytest.raises(UsageError, match=r"a training run takes the resolution"):
        load_vision(tmp_path / "run", **FP32, resolution=64)
    with pytest.raises(UsageError, match=r"is no language model.*load_dual"):
        load_text(tmp_path / "run", **FP32)
    ours = CLIP.from_pretrained(tmp_path / "exported")
    pixels = run.pixel_values(pictures)
    with torch.no_grad():
        assert torch.allclose(run.encode(pictures).pooled, ours.encode_image(pixels), atol=1e-5)


@pytest.mark.parametrize(
    "family",
    [
        "clip",
        "clip-tower-alone",
        "siglip",
        "dinov2",
        "dinov2-registers",
        "metaclip2",
        "chinese-clip",
        "paligemma",
    ],
)
@pytest.mark.parametrize("layer", [0, 1])
def test_the_rest_of_the_tower_gives_the_pooled_vector(family, layer, vision_folder, pictures):
    encoder = load_vision(vision_folder(family), **FP32)
    features = encoder.encode(pictures, layers=[layer])
    special = features.layers_special[layer]
    assert special.shape[1] == encoder.special_tokens
    tokens = torch.cat([special, features.layers[layer]], dim=1)
    assert torch.allclose(encoder.finish(tokens, layer), features.pooled, atol=1e-4)


@pytest.mark.parametrize("family", ["dinov3", "internvl"])
def test_a_family_that_cannot_says_so(family, vision_folder):
    encoder = load_vision(vision_folder(family), **FP32)
    with pytest.raises(UsageError, match="cannot be put back into this family"):
        encoder.finish(torch.zeros(1, 5, encoder.width), 1)


def map_by_hand(family: str, folder, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The patches and the pooled vector of the plain transformers call."""
    out = hf.AutoModel.from_pretrained(folder, dtype=torch.float32)(pixels)
    last, pooled = out.last_hidden_state, getattr(out, "pooler_output", None)
    if family == "dinov3-convnext":
        return last[:, 1:], pooled
    if family == "sam2":
        last = last.permute(0, 3, 1, 2)
    patches = last.flatten(2).mT if last.ndim == 4 else last
    if family in ("sam", "sam2", "hiera"):
        pooled = None
    return patches, patches.mean(dim=1) if pooled is None else pooled.flatten(1)


@pytest.mark.parametrize("family", [f for f in MAPS if f != "hiera-two-poolings"])
def test_patches_of_a_feature_map_are_those_of_the_plain_call(family, vision_folder, pictures):
    encoder = load_vision(vision_folder(family), **FP32)
    seen = encoder.encode(pictures)
    pixels = encoder.pixel_values(pictures)
    with torch.no_grad():
        patches, pooled = map_by_hand(family, vision_folder(family), pixels)
    torch.testing.assert_close(seen.patches, patches, atol=1e-5, rtol=0)
    torch.testing.assert_close(seen.pooled, pooled, atol=1e-5, rtol=0)
    assert seen.grid == encoder.grid == (2, 2) and encoder.patch_size == 32
    assert seen.cls is None and encoder.width == seen.patches.shape[-1]


def test_hiera_puts_windows_into_reading_order(vision_folder, pictures):
    """A last stage that does not pool leaves windows of 2 x 2 tokens: transformers reorders them in
    `reshaped_hidden_states`."""
    folder = vision_folder("hiera-two-poolings")
    encoder = load_vision(folder, **FP32)
    pixels = encoder.pixel_values(pictures)
    with torch.no_grad():
        out = hf.HieraModel.from_pretrained(folder)(pixels, output_hidden_states=True)
    seen = encoder.encode(pictures)
    assert seen.grid == (4, 4)
    assert torch.allclose(seen.patches, out.reshaped_hidden_states[-1].flatten(1, 2), atol=1e-5)
    assert not torch.allclose(seen.patches, out.last_hidden_state, atol=1e-3)


@pytest.mark.parametrize("family", MAPS)
def test_an_adapter_whose_patches_are_not_local_keeps_the_rest_of_the_contract(
    family, vision_folder, pictures
):
    encoder = load_vision(vision_folder(family), **FP32)
    found = check(encoder, strict=True)
    assert found.kept, str(found)
    apply = {f.promise: f.kept for f in found.findings}
    assert apply[ORDER] is apply[SPECIAL] is apply[CLS] is None
    assert all(f.seen.startswith("not applicable") for f in found.findings if f.kept is None)
    with pytest.raises(UsageError, match="does not give its hidden states"):
        encoder.encode(pictures, layers=(-1,))
    with pytest.raises(UsageError, match="does not give its attention maps"):
        encoder.encode(pictures, attention=(-1,))


@pytest.mark.parametrize("family", ["convnext", "dinov3-convnext", "resnet", "swin", "sam2"])
def test_a_feature_map_takes_a_rectangle(family, vision_folder, pictures):
    encoder = load_vision(vision_folder(family), **FP32, resolution=(128, 64))
    assert encoder.encode(pictures).grid == (4, 2)
    assert check(encoder).kept


@pytest.mark.parametrize(
    ("make", "inner"),
    [
        (lambda: hf.SamModel(hf.SamConfig(vision_config=MAPS["sam"][0]().config.to_dict())),
         "vision_encoder"),
        (lambda: hf.Sam2Model(hf.Sam2Config(vision_config=MAPS["sam2"][0]().config.to_dict())),
         "vision_encoder.backbone"),
    ],
    ids=["sam", "sam2"],
)  # fmt: skip
def test_the_tower_of_a_whole_model_is_loaded(make, inner, tmp_path, pictures):
    torch.manual_seed(0)
    model = make()
    folder = save(model, tmp_path)
    encoder = load_vision(folder, **FP32, resolution=64)
    with torch.no_grad():
        out = model.get_submodule(inner).eval()(encoder.pixel_values(pictures))
    last = out.last_hidden_state
    last = last if "backbone" in inner else last.permute(0, 2, 3, 1)
    assert torch.allclose(encoder.encode(pictures).patches, last.flatten(1, 2), atol=1e-5)


def test_a_network_of_timm_is_refused_in_words(tmp_path):
    (tmp_path / "config.json").write_text('{"architecture": "resnet50", "pretrained_cfg": {}}')
    with pytest.raises(UsageError, match="timm, which builds its network, imports torchvision"):
        load_vision(tmp_path, **FP32)


def test_a_hierarchical_network_without_an_adapter_is_refused_in_words(tmp_path, pictures):
    model = hf.PvtModel(hf.PvtConfig(image_size=32, hidden_sizes=[8, 16, 20, 32]))
    save(model, tmp_path)
    with pytest.raises(UsageError, match=r"no vision transformer that we can look into.*pvt"):
        load_vision(tmp_path, **FP32).encode(pictures)


def test_an_untrained_copy_of_a_projected_tower_is_refused_in_words(vision_folder):
    with pytest.raises(UsageError, match="has no untrained copy"):
        load_vision(f"untrained:{vision_folder('chinese-clip')}", **FP32)


def test_a_language_model_is_no_vision_encoder(text_folder):
    with pytest.raises(UsageError, match=r"no vision transformer that we can look into.*llama"):
        load_vision(text_folder("llama"), **FP32)


@pytest.mark.parametrize("layers", [(4,), (-5,), (99,)])
def test_a_layer_that_is_not_there_is_named(layers, vision_folder, pictures):
    encoder = load_vision(vision_folder("vit"), **FP32)
    with pytest.raises(UsageError, match=rf"no such layer.*{layers[0]}.*0 to 3"):
        encoder.encode(pictures, layers=layers)


def test_a_weight_that_is_lacking_is_an_error_and_never_random(vision_folder, tmp_path):
    from safetensors.torch import load_file, save_file

    shutil.copytree(vision_folder("dinov2"), tmp_path / "cut")
    weights = load_file(tmp_path / "cut/model.safetensors")
    del weights["encoder.layer.1.norm1.weight"]
    save_file(weights, tmp_path / "cut/model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UsageError, match=r"lacks a weight.*encoder\.layer\.1\.norm1\.weight"):
        load_vision(tmp_path / "cut", **FP32)


def test_damaged_and_missing_weights_end_in_one_sentence(vision_folder, tmp_path):
    folder = shutil.copytree(vision_folder("dinov2"), tmp_path / "damaged")
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(UsageError, match=r"weights cannot be read"):
        load_vision(folder, **FP32)
    weights.unlink()
    with pytest.raises(MissingError, match=r"no weights in safetensors"):
        load_vision(folder, **FP32)


def test_a_hub_name_without_network_names_every_way_out(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(MissingError) as caught:
        load_vision("nobody/no-such-vit", **FP32)
    for part in ("nobody/no-such-vit", "download", "folder", "tiny-clip"):
        assert part in str(caught.value)
    assert caught.value.exit_code == 3


@pytest.fixture(scope="module")
def remote_folder(tmp_path_factory):
    """A checkpoint in the form of the original InternViT: with its own Python."""
    return save_own_vision(tmp_path_factory.mktemp("remote"))


def test_remote_code_does_not_run_unless_it_is_allowed(remote_folder):
    with pytest.raises(UsageError, match=r"runs Python of its own.*--trust-remote-code"):
        load_vision(remote_folder, **FP32)


def test_remote_code_that_is_allowed_keeps_the_contract(remote_folder, pictures):
    encoder = load_vision(remote_folder, **FP32, trust_remote_code=True)
    assert check(encoder).kept
    assert torch.equal(encoder.encode(pictures).pooled, encoder.encode(pictures).cls)
    with pytest.raises(UsageError, match=r"does not give its attention maps"):
        encoder.encode(pictures, attention=(1,))


# Families without an adapter of their own: (model, special tokens, whether the first is CLS).
OTHERS = {
    "aimv2": (lambda: hf.Aimv2VisionModel(hf.Aimv2VisionConfig(**VIT, use_head=False)), 0, False),
    "ijepa": (lambda: hf.IJepaModel(hf.IJepaConfig(**VIT)), 0, False),
    "idefics3": (lambda: hf.models.idefics3.Idefics3VisionTransformer(
        hf.models.idefics3.Idefics3VisionConfig(**VIT)), 0, False),
    "beit": (lambda: hf.BeitModel(hf.BeitConfig(**VIT, use_mean_pooling=False)), 1, True),
    "data2vec": (lambda: hf.Data2VecVisionModel(hf.Data2VecVisionConfig(**VIT)), 1, True),
    "msn": (lambda: hf.ViTMSNModel(hf.ViTMSNConfig(**VIT)), 1, True),
    "deit": (lambda: hf.DeiTModel(hf.DeiTConfig(**VIT)), 2, True),
}  # fmt: skip


def save(model, folder):
    for parameter in model.parameters():
        # Tokens and positions that begin as zero would look alike.
        if float(parameter.detach().abs().max()) == 0:
            torch.nn.init.normal_(parameter, std=0.1)
    model.save_pretrained(folder)
    record = {"image_processor_type": "ViTImageProcessor", **SQUASH}
    (folder / "preprocessor_config.json").write_text(json.dumps(record))
    return folder


@pytest.fixture(scope="module")
def other_folder(tmp_path_factory):
    @functools.cache
    def make(family):
        torch.manual_seed(0)
        return save(OTHERS[family][0](), tmp_path_factory.mktemp(family))

    return make


@pytest.mark.parametrize("family", OTHERS)
def test_special_tokens_are_those_that_the_tower_has(family, other_folder, pictures):
    make, special, has_cls = OTHERS[family]
    encoder = load_vision(other_folder(family), **FP32)
    assert (encoder.special_tokens, encoder.has_cls) == (special, has_cls)
    pixels = encoder.pixel_values(pictures)
    with torch.no_grad():
        plain = type(make()).from_pretrained(other_folder(family)).eval()(pixels)
    tokens = plain.last_hidden_state
    seen = encoder.encode(pictures)
    assert torch.allclose(seen.patches, tokens[:, special:], atol=1e-5)
    assert (seen.cls is not None) == has_cls
    pooled = tokens[:, 0] if has_cls else tokens.mean(dim=1)
    assert torch.allclose(seen.pooled, pooled, atol=1e-5)
    found = check(encoder)
    assert found.kept, str(found)


@pytest.mark.parametrize("family", ["aimv2", "ijepa"])
def test_without_cls_nothing_is_read_from_patch_0(family, other_folder, pictures):
    encoder = load_vision(other_folder(family), **FP32)
    seen = encoder.encode(pictures, layers=[2], attention=range(1, 4))
    assert seen.layers_cls == {}
    maps = [seen.attention[k][0] for k in (1, 2, 3)]
    rollout = attention_rollout(maps, encoder.special_tokens, encoder.has_cls)
    flow = np.eye(16)
    for one in maps:
        flow = (0.5 * one.double().mean(dim=0).numpy() + 0.5 * np.eye(16)) @ flow
    assert np.allclose(rollout, flow.mean(axis=0), atol=1e-6)
    assert not np.allclose(rollout, flow[0], atol=1e-6)
    tokens = TokenSet.of(encoder, pictures, 2)
    assert tokens.side.cls is None and tokens.side.attention is None
    with pytest.raises(UsageError, match=r"cls_attention needs the attention.*with CLS.*kmeans"):
        CLSAttention().compress(tokens.tokens, encoder.grid, 4, tokens.side)
    (result,) = TokenSimilarityAnalyzer(encoder=encoder).analyze_batch(pictures[:1])
    assert result.anchor == "pooled embedding" and result.warnings == ()
    mean = torch.nn.functional.normalize(seen.patches[0].mean(dim=0), dim=-1)
    cosine = torch.nn.functional.normalize(seen.patches[0], dim=-1) @ mean
    assert np.allclose(result.cls_similarity.ravel(), cosine.numpy(), atol=1e-5)


def test_a_roll_out_from_the_cls_of_no_special_tokens_is_refused():
    with pytest.raises(UsageError, match="patch 0 is no CLS"):
        attention_rollout([torch.ones(1, 4, 4) / 4], special_tokens=0, has_cls=True)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: hf.YolosModel(hf.YolosConfig(**VIT | {"image_size": [32, 32]})),
         "special tokens do not stand before its patches"),
        (lambda: hf.ViTMAEModel(hf.ViTMAEConfig(**VIT)), "tokens do not make its grid"),
        (lambda: hf.VideoMAEModel(hf.VideoMAEConfig(**VIT)), "network does not run"),
    ],
    ids=["yolos", "mae", "videomae"],
)  # fmt: skip
def test_a_network_that_gives_no_token_per_patch_is_refused_when_loaded(make, said, tmp_path):
    with pytest.raises(UsageError, match=said):
        load_vision(save(make(), tmp_path), **FP32)


@pytest.mark.parametrize("family", ["aimv2", "siglip"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_the_mean_patch_of_sixteen_bits_is_that_of_fp32(family, dtype, vision_folder, other_folder):
    folder = other_folder(family) if family in OTHERS else vision_folder(family)
    encoder = load_vision(folder, **FP32)
    encoder.to(dtype=dtype)
    patches = (1000 + 50 * torch.randn(2, 144, 8)).to(encoder.dtype)
    found = encoder.pool(TowerOutput(patches), patches)
    assert found.dtype == encoder.dtype
    ulp = torch.finfo(encoder.dtype).eps * 1024
    assert float((found - patches.double().mean(dim=1)).abs().max()) <= 0.51 * ulp


class ReadsTheWrongTokens(VisionEncoder):
    """An adapter that takes CLS for a patch and loses the last one."""

    @property
    def special_tokens(self) -> int:
        return 0

    def run_tower(self, pixels, **wanted):
        seen = super().run_tower(pixels, **wanted)
        return type(seen)(seen.tokens[:, :-1], seen.pooled, seen.hidden, seen.attention)


class PooledByMean(VisionEncoder):
    """CLS before the patches: right for most, wrong where there is none."""

    def pool(self, seen, patches):
        return patches.mean(dim=1)


class TakesPatch0ForCLS(PooledByMean):
    """As version 0.1 read I-JEPA: a CLS among no special tokens."""

    special_tokens = 0


class RepeatsPatch0AsCLS(TakesPatch0ForCLS):
    """Every token and, before them, patch 0 once more."""

    special_tokens = 1

    def run_tower(self, pixels, **wanted):
        seen = super().run_tower(pixels, **wanted)
        hidden = tuple(torch.cat([one[:, :1], one], dim=1) for one in seen.hidden)
        return TowerOutput(torch.cat([seen.tokens[:, :1], seen.tokens], dim=1), None, hidden)


class OverlooksCLS(PooledByMean):
    """Takes CLS for a register."""

    has_cls = False
    special_tokens = 1


class PutsCLSLast(PooledByMean):
    """CLS behind the patches, and read as if it stood before them."""

    def run_tower(self, pixels, **wanted):
        seen = super().run_tower(pixels, **wanted)
        last, *hidden = (one.roll(-1, dims=1) for one in (seen.tokens, *seen.hidden))
        return TowerOutput(last, seen.pooled, tuple(hidden))


class CountsTwoSpecialTokens(PooledByMean):
    """One register more than there is."""

    special_tokens = 2


SPECIAL = "special tokens are the same for all images before the first block, patches are not"
CLS = "CLS is declared where the tower has one, and given"
ORDER = "patches are in reading order, without CLS and registers"


@pytest.mark.parametrize(
    ("family", "adapter", "broken"),
    [
        ("ijepa", TakesPatch0ForCLS, {CLS}),
        ("aimv2", TakesPatch0ForCLS, {CLS}),
        ("aimv2", RepeatsPatch0AsCLS, {SPECIAL}),
        ("msn", OverlooksCLS, {CLS}),
        ("msn", PooledByMean, set()),
        ("deit", CountsTwoSpecialTokens, set()),
        ("msn", PutsCLSLast, {SPECIAL, ORDER}),
        ("msn", CountsTwoSpecialTokens, {"images become tokens"}),
        ("aimv2", PooledByMean, {"images become tokens"}),
    ],
)
def test_the_check_finds_wrong_special_tokens(family, adapter, broken, other_folder):
    good = load_vision(other_folder(family), **FP32)
    bad = adapter(good.tower, good.preprocess, good.checkpoint, good.device, good.dtype)
    found = check(bad)
    failed = {one.promise for one in found.findings if not one.kept}
    assert broken <= failed and bool(broken) == bool(failed), str(found)


def test_the_check_finds_an_adapter_that_is_off_by_one(vision_folder):
    good = load_vision(vision_folder("dinov2"), **FP32)
    bad = ReadsTheWrongTokens(good.tower, good.preprocess, good.checkpoint, good.device, good.dtype)
    assert ORDER in {f.promise for f in check(bad).findings if not f.kept}
    with pytest.raises(WorkError, match=r"breaks .* promises of the vision contract"):
        check(bad, strict=True)


def test_an_onnx_file_is_refused_with_what_to_do(tmp_path):
    (tmp_path / "vision.onnx").touch()
    for name in (tmp_path, tmp_path / "vision.onnx"):
        with pytest.raises(UsageError) as caught:
            load_vision(name, "cpu", "float32")
        assert caught.value.got == str(name)
        assert "onnxruntime" in str(caught.value.hint)
