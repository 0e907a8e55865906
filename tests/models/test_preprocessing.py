"""The preprocessing of a checkpoint: every case against transformers' own PIL image processor."""

import ast
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from PIL import Image
from tests.small_models import make_clip
from transformers import AutoImageProcessor, CLIPModel, image_utils
from transformers.models.auto.image_processing_auto import get_image_processor_class_from_name

from encoderlab.encoders.dual import load_dual
from encoderlab.errors import UsageError
from encoderlab.models.clip import CLIP, Preprocess
from encoderlab.models.preprocessing import DEFAULTS, PROCESSORS, as_record, read_preprocess

CLIP_FILE = {
    "image_processor_type": "CLIPImageProcessor", "size": {"shortest_edge": 32},
    "crop_size": {"height": 32, "width": 32}, "image_mean": [0.4, 0.5, 0.6], "image_std": [0.3] * 3,
}  # fmt: skip
# What is changed in a file: its keys, or the processor that it is of.
FILES: dict[str, dict[str, Any]] = {
    "plain": CLIP_FILE,
    "resize 43, crop 32": CLIP_FILE | {"size": {"shortest_edge": 43}},
    "squash and crop the same": CLIP_FILE | {"size": {"height": 32, "width": 32}},
    "squash 40 x 36, crop 32": CLIP_FILE | {"size": {"height": 40, "width": 36}},
    "squash without a crop": CLIP_FILE | {"size": {"height": 32, "width": 32},
                                          "do_center_crop": False},
    "squash to a rectangle": CLIP_FILE | {"size": {"height": 32, "width": 48},
                                          "do_center_crop": False},
    "crop a rectangle": CLIP_FILE | {"size": {"shortest_edge": 40},
                                     "crop_size": {"height": 24, "width": 36}},
    "crop larger than the image": CLIP_FILE | {"size": {"shortest_edge": 25}},
    "crop larger one way": CLIP_FILE | {"size": {"height": 40, "width": 21}},
    "numbers for sizes": CLIP_FILE | {"size": 37, "crop_size": 32},
    "pairs for sizes": CLIP_FILE | {"size": [36, 40], "crop_size": [32, 30]},
    "a number that is a square": CLIP_FILE | {"size": 37, "crop_size": 32,
                                              "default_to_square": True},
    "no standardisation": CLIP_FILE | {"do_normalize": False},
    "no scaling": CLIP_FILE | {"do_rescale": False},
    "neither": CLIP_FILE | {"do_rescale": False, "do_normalize": False},
    "scaled to [-1, 1]": CLIP_FILE | {"rescale_factor": 1 / 127.5, "image_mean": [1.0] * 3,
                                      "image_std": [1.0] * 3},
    "a factor of 0.0078": CLIP_FILE | {"rescale_factor": 0.0078},
    "one mean for all": CLIP_FILE | {"image_mean": 0.5, "image_std": 0.25},
    "nearest": CLIP_FILE | {"resample": 0},
    "lanczos": CLIP_FILE | {"resample": 1},
    "bilinear": CLIP_FILE | {"resample": 2},
    "box": CLIP_FILE | {"resample": 4},
    "null is false": CLIP_FILE | {"do_rescale": None, "do_center_crop": None,
                                  "size": {"height": 32, "width": 32}, "crop_size": None},
    "null is no square": CLIP_FILE | {"size": 40, "default_to_square": None, "do_normalize": None},
    "padding to the largest": CLIP_FILE | {"do_pad": True},
    "padding to the size there is": CLIP_FILE | {"do_pad": True,
                                                 "pad_size": {"height": 32, "width": 32}},
    "CLIP, silent": {"image_processor_type": "CLIPImageProcessor"},
    "old CLIP": {"feature_extractor_type": "CLIPFeatureExtractor", "size": 43, "crop_size": 32,
                 "do_center_crop": True, "resample": 3},
    "old ViT": {"feature_extractor_type": "ViTFeatureExtractor", "size": 32},
    "fast": {"image_processor_type": "ViTImageProcessorFast", "size": {"height": 32, "width": 32}},
    "ViT, silent": {"image_processor_type": "ViTImageProcessor"},
    "SigLIP, silent": {"image_processor_type": "SiglipImageProcessor"},
    "SigLIP": {"image_processor_type": "SiglipImageProcessor", "size": {"height": 32, "width": 32},
               "resample": 2},
    "DINOv2": {"image_processor_type": "BitImageProcessor", "size": {"shortest_edge": 40},
               "crop_size": {"height": 32, "width": 32}, "image_mean": [0.485, 0.456, 0.406],
               "image_std": [0.229, 0.224, 0.225]},
    "DINOv2, silent": {"image_processor_type": "BitImageProcessor"},
    "DeiT, silent": {"image_processor_type": "DeiTImageProcessor"},
    "BEiT, silent": {"image_processor_type": "BeitImageProcessor"},
    "BEiT, cropped": {"image_processor_type": "BeitImageProcessor", "do_center_crop": True,
                      "size": 40, "crop_size": 32},
    "BLIP, silent": {"image_processor_type": "BlipImageProcessor"},
    "GOT, silent": {"image_processor_type": "GotOcr2ImageProcessor"},
    "Gemma 3, silent": {"image_processor_type": "Gemma3ImageProcessor"},
    "ConvNeXt": {"image_processor_type": "ConvNextImageProcessor", "crop_pct": 0.75, "size": 30},
    "ConvNeXt, silent": {"image_processor_type": "ConvNextImageProcessor"},
    "old ConvNeXt": {"feature_extractor_type": "ConvNextFeatureExtractor", "size": 32},
    "MobileNet v1, silent": {"image_processor_type": "MobileNetV1ImageProcessor"},
    "MobileNet v2, silent": {"image_processor_type": "MobileNetV2ImageProcessor"},
    "Chinese CLIP, silent": {"image_processor_type": "ChineseCLIPImageProcessor"},
}  # fmt: skip
IMAGES = [
    Image.fromarray(np.random.default_rng(i).integers(0, 256, (*size, 3), dtype=np.uint8))
    for i, size in enumerate([(25, 40), (64, 33), (32, 32), (31, 300)])
]


def written(folder: Path, record: Any, name: str = "preprocessor_config.json") -> Path:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(json.dumps(record))
    return folder


def read(folder: Path) -> Preprocess:
    return read_preprocess(folder, "CLIPImageProcessor", 32)


@pytest.mark.parametrize("record", FILES.values(), ids=FILES)
def test_pixels_are_those_of_transformers(record, tmp_path):
    theirs = AutoImageProcessor.from_pretrained(written(tmp_path, record), backend="pil")
    ours = read(tmp_path)
    for image in IMAGES:
        expected = theirs(image, return_tensors="pt").pixel_values[0].float()
        torch.testing.assert_close(ours(image), expected, atol=2e-6, rtol=2e-6)


# Those without a PIL class: the values of their class are read from its source.
NO_PIL = {"Sam2": "sam2", "Sam3": "sam3", "Tipsv2": "tipsv2", "DINOv3ViT": "dinov3_vit"}


@pytest.mark.parametrize("kind", NO_PIL)
def test_defaults_are_those_of_the_class_that_needs_torchvision(kind):
    source = Path(transformers.__file__).parent / f"models/{NO_PIL[kind]}"
    tree = ast.parse((source / f"image_processing_{NO_PIL[kind]}.py").read_text())
    (theirs,) = (
        node for node in tree.body
        if isinstance(node, ast.ClassDef) and node.name == f"{kind}ImageProcessor"
    )  # fmt: skip
    names = {**vars(image_utils), "PILImageResampling": image_utils.PILImageResampling}
    ours = {**DEFAULTS, **PROCESSORS[kind]}
    compared = set()
    for node in theirs.body:
        if isinstance(node, ast.Assign) and (key := ast.unparse(node.targets[0])) in ours:
            expected = eval(ast.unparse(node.value), names)  # literals and names of transformers
            expected = tuple(expected) if isinstance(expected, list) else expected
            assert (ours[key] or None) == (expected or None), key
            compared.add(key)
    assert {"size", "resample"} <= compared


@pytest.mark.parametrize("kind", sorted({*PROCESSORS} - {*NO_PIL, "Kimi_K25"}))
def test_defaults_are_those_of_the_class_in_transformers(kind):
    theirs = get_image_processor_class_from_name(f"{kind}ImageProcessorPil")
    for key, value in {**DEFAULTS, **PROCESSORS[kind]}.items():
        expected = getattr(theirs, key, None)
        if kind in ("Siglip2", "Gemma4") and key == "size":
            continue
        value = list(value) if isinstance(value, tuple) else value
        expected = list(expected) if isinstance(expected, tuple) else expected
        assert (value or None) == (expected or None), key


def test_a_nested_processor_goes_before_a_file_of_its_own(tmp_path):
    written(tmp_path, CLIP_FILE)
    nested = {"image_processor": FILES["resize 43, crop 32"], "processor_class": "CLIPProcessor"}
    written(tmp_path, nested, "processor_config.json")
    theirs = AutoImageProcessor.from_pretrained(tmp_path, backend="pil")
    for image in IMAGES:
        expected = theirs(image, return_tensors="pt").pixel_values[0]
        torch.testing.assert_close(read(tmp_path)(image), expected, atol=2e-6, rtol=2e-6)


def test_a_processor_file_that_nests_nothing_is_not_taken(tmp_path):
    written(tmp_path, CLIP_FILE)
    other = {"processor_class": "CLIPProcessor", "size": {"shortest_edge": 99}}
    written(tmp_path, other, "processor_config.json")
    assert read(tmp_path).shape == (32, 32) and read(tmp_path).resized == (32, 32)


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"do_resize": False}, "do_resize"),
        ({"do_center_crop": False}, "size"),  # every image another shape
        ({"size": {"longest_edge": 32}}, "size"),
        ({"size": {"shortest_edge": 32, "longest_edge": 64}}, "size"),
        ({"size": {"max_height": 32, "max_width": 32}}, "size"),
        ({"size": {"height": 32}}, "size"),
        ({"size": "32"}, "size"),
        ({"size": True}, "size"),
        ({"crop_size": {"shortest_edge": 32}}, "crop_size"),
        ({"do_pad": True, "pad_size": {"height": 64, "width": 64}}, "pad_size"),
        ({"image_processor_type": "PvtImageProcessor"}, "image_processor_type"),
        ({"image_processor_type": "ConvNextImageProcessor", "size": [32, 32]}, "size"),
        ({"image_processor_type": "SamImageProcessor", "size": {"longest_edge": 32}}, "size"),
        ({"image_processor_type": "MyOwnProcessor"}, "image_processor_type"),
        ({"use_square_size": True}, "use_square_size"),
        ({"image_processor_type": "GotOcr2ImageProcessor", "size": 32, "crop_to_patches": True},
         "crop_to_patches"),
        ({"image_processor_type": "Gemma3ImageProcessor", "size": 32, "do_pan_and_scan": True},
         "do_pan_and_scan"),
    ],
)  # fmt: skip
def test_what_cannot_be_done_is_refused_by_its_key(change, key, tmp_path):
    written(tmp_path, CLIP_FILE | change)
    with pytest.raises(UsageError) as refused:
        read(tmp_path)
    assert str(refused.value.got).startswith(f"{key}=")


@pytest.mark.parametrize(
    "change",
    [
        {"image_mean": [0.5, 0.5]}, {"image_mean": None}, {"size": None}, {"image_std": "x"},
        {"resample": None}, {"rescale_factor": None},
        {"rescale_factor": 0},
        {"rescale_factor": "x"}, {"image_std": [0, 1, 1]}, {"resample": 9}, {"resample": "bicubic"},
        {"size": {"shortest_edge": -3}}, {"size": {"shortest_edge": 2.5}}, {"crop_size": 0},
        {"size": {"shortest_edge": 10**9}}, {"image_mean": [float("nan")] * 3},
    ],
    ids=str,
)  # fmt: skip
def test_nonsense_is_refused_in_words(change, tmp_path):
    with pytest.raises(UsageError):
        read(written(tmp_path, CLIP_FILE | change))


def test_without_a_file_the_family_says_what_is_usual(tmp_path, capsys):
    assert read(tmp_path) == Preprocess(32)
    assert "CLIPImageProcessor" in capsys.readouterr().err
    squash = read_preprocess(tmp_path, "SiglipImageProcessor", 32)
    assert squash == Preprocess(32, "squash", (0.5,) * 3, (0.5,) * 3)


@pytest.mark.parametrize(
    "preprocess",
    [
        Preprocess(32),
        Preprocess(32, resize_to=40),
        Preprocess(32, "squash", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5), 2),
        Preprocess(32, "squash", resize_to=40),
        Preprocess(32, "squash", resize_to=(40, 36)),
        Preprocess(32, "squash", width=48),
        Preprocess(32, resize_to=40, width=24),
    ],
    ids=lambda one: f"{one.fit}-{one.resize_to}-{one.width}",
)
def test_preprocessing_is_read_back_as_it_was_written(preprocess, tmp_path):
    written(tmp_path, as_record(preprocess))
    assert Preprocess.from_dict(json.loads(json.dumps(preprocess.to_dict()))) == preprocess
    theirs = AutoImageProcessor.from_pretrained(tmp_path, backend="pil")
    for image in IMAGES:
        torch.testing.assert_close(read(tmp_path)(image), preprocess(image))
        expected = theirs(image, return_tensors="pt").pixel_values[0]
        torch.testing.assert_close(preprocess(image), expected, atol=2e-6, rtol=2e-6)


CASES = [name for name, file in FILES.items() if file.get("crop_size") in (
    32, {"height": 32, "width": 32}) and "CLIP" in str(file.values())]  # fmt: skip


@pytest.fixture(scope="module")
def tiny_clip(tmp_path_factory) -> Path:
    clip = make_clip(trained_steps=3)
    return clip.save_pretrained(tmp_path_factory.mktemp("clip"))


@pytest.mark.parametrize("name", ["preprocessor_config.json", "processor_config.json"])
@pytest.mark.parametrize("case", [one for one in CASES if "rectangle" not in one])
def test_image_embeddings_are_those_of_plain_transformers(case, name, tiny_clip, tmp_path):
    import shutil

    folder = tmp_path / "clip"
    shutil.copytree(tiny_clip, folder)
    (folder / "preprocessor_config.json").unlink()
    record = FILES[case]
    written(folder, record if name[:3] == "pre" else {"image_processor": record}, name)
    processor = AutoImageProcessor.from_pretrained(folder, backend="pil")
    with torch.inference_mode():
        features = (
            CLIPModel.from_pretrained(folder)
            .eval()
            .get_image_features(**processor(IMAGES, return_tensors="pt"))
        )
    expected = torch.nn.functional.normalize(features.pooler_output, dim=-1)
    ours = load_dual(str(folder), "cpu", "float32").embed_images(IMAGES)
    assert (torch.from_numpy(ours) * expected).sum(dim=1).min() > 0.9999


def test_a_size_that_the_tower_does_not_take_is_refused(tiny_clip, tmp_path):
    import shutil

    folder = tmp_path / "clip"
    shutil.copytree(tiny_clip, folder)
    written(folder, CLIP_FILE | {"size": 48, "crop_size": 48})
    for load in (lambda: load_dual(str(folder), "cpu"), lambda: CLIP.from_pretrained(folder)):
        with pytest.raises(UsageError, match="48 x 48"):
            load()
