"""The preprocessing of a checkpoint: read from its files to a `Preprocess`, and written.

Uses the same file, keys and defaults as transformers, and refuses settings that a `Preprocess` does
not support. Imports no image processor of transformers, so that checkpoints work whose processor
needs torchvision.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from encoderlab.core.progress import note
from encoderlab.errors import EncoderLabError, UsageError
from encoderlab.models.clip.preprocess import OPENAI_MEAN, OPENAI_STD, Preprocess
from encoderlab.models.folder import read_record
from encoderlab.models.native_resolution import NATIVE, RULES, Cells, native

Triple = tuple[float, float, float]
OWN, NESTED = "preprocessor_config.json", "processor_config.json"
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
HALF = (0.5, 0.5, 0.5)
BICUBIC, BILINEAR, LANCZOS = 3, 2, 1

# The defaults of the image processors of transformers, and those of each class that differ.
DEFAULTS: dict[str, Any] = {
    "do_resize": True, "size": {"height": 224, "width": 224}, "default_to_square": True,
    "resample": BICUBIC, "do_center_crop": False, "crop_size": None, "do_rescale": True,
    "rescale_factor": 1 / 255, "do_normalize": True, "image_mean": HALF, "image_std": HALF,
    "do_pad": False, "pad_size": None,
}  # fmt: skip
OPENAI = {"image_mean": OPENAI_MEAN, "image_std": OPENAI_STD}
IMAGENET = {"image_mean": IMAGENET_MEAN, "image_std": IMAGENET_STD}
CROP = {"do_center_crop": True, "crop_size": {"height": 224, "width": 224}}
SHORT = {"size": {"shortest_edge": 224}, "default_to_square": False}
# At least and at most so many pixels.
PIXELS = {"size": {"shortest_edge": 56 * 56, "longest_edge": 28 * 28 * 1280},
          "default_to_square": False}  # fmt: skip
SHORT_256 = {"size": {"shortest_edge": 256}, "default_to_square": False}
SIDE_384 = {"size": {"height": 384, "width": 384}}
SIDE_1024 = {"size": {"height": 1024, "width": 1024}}
PROCESSORS: dict[str, dict[str, Any]] = {
    "CLIP": {**OPENAI, **CROP, **SHORT},
    "ChineseCLIP": {**OPENAI, **CROP, **SHORT},
    "Bit": {**OPENAI, **CROP, **SHORT},
    "Siglip": {"default_to_square": False},
    "Siglip2": {"resample": BILINEAR, "max_num_patches": 256},
    "ViT": {"resample": BILINEAR},
    "DeiT": {**CROP, "size": {"height": 256, "width": 256}},
    "Beit": {"crop_size": {"height": 224, "width": 224}},
    "Blip": {**OPENAI, **SIDE_384},
    "GotOcr2": {**OPENAI, **SIDE_384},
    "Gemma3": {"resample": BILINEAR},
    "DINOv3ViT": {**IMAGENET, "resample": BILINEAR},
    "Qwen2VL": {**OPENAI, **PIXELS},
    "VideoLlama3": PIXELS,
    "Glm4v": {**OPENAI, **PIXELS, "temporal_patch_size": 2,
              "size": {"shortest_edge": 112 * 112, "longest_edge": 28 * 28 * 15000}},
    "Pixtral": {**OPENAI, "size": {"longest_edge": 1024}, "do_pad": True},
    "Gemma4": {"do_normalize": False, "image_mean": (0.0,) * 3, "image_std": (1.0,) * 3,
               "max_soft_tokens": 280},
    # The square of the tower stands for the tiles of these two.
    "Idefics3": {"resample": LANCZOS, "size": {"longest_edge": 4 * 364}, "do_pad": True},
    "SmolVLM": {"resample": LANCZOS, "size": {"longest_edge": 4 * 364}, "do_pad": True},
    "Kimi_K25": {"size": {"max_height": 512, "max_width": 512}, "max_patches": 16384},
    "ConvNext": {"size": {"shortest_edge": 384}, "default_to_square": False, "crop_pct": 0.875},
    "MobileNetV1": {**CROP, **SHORT_256, "resample": BILINEAR},
    "MobileNetV2": {**CROP, **SHORT_256, "resample": BILINEAR},
    "Tipsv2": {"size": {"height": 448, "width": 448}, "resample": BILINEAR, "do_normalize": False},
    "Sam": {**IMAGENET, "size": {"longest_edge": 1024}, "resample": BILINEAR, "do_pad": True,
            "pad_size": SIDE_1024["size"]},
    "Sam2": {**IMAGENET, **SIDE_1024, "resample": BILINEAR},
    "Sam3": {"size": {"height": 1008, "width": 1008}, "resample": BILINEAR},
}  # fmt: skip
TILED = ("Idefics3", "SmolVLM")
# ConvNext crops the centre below this side in pixels, and squashes from it on.
CONVNEXT_SQUASHES_FROM = 384
# Steps of some classes that a `Preprocess` does not support.
EXTRA_STEPS = ("crop_to_patches", "do_pan_and_scan", "use_square_size")


def read_preprocess(
    folder: Path,
    usual: str,
    side: int | None,
    resolution: tuple[int, int] | str | None = None,
    cells: Cells | None = None,
) -> Preprocess:
    """The preprocessing of the checkpoint in `folder`.

    As in transformers, an image processor in processor_config.json has precedence over
    preprocessor_config.json.

    Args:
        folder: of the checkpoint.
        usual: the image processor of the checkpoint's family, such as "CLIPImageProcessor", for a
            file that names none.
        side: the image size of the tower, for a checkpoint without such a file, and for an image
            processor of `RULES`, which has no size.
        resolution: (height, width) to resize to instead of the checkpoint's size; "native" for the
            size that the image processor gives each image.
        cells: of the tower; needed for "native".

    Returns:
        A preprocessing that gives the same pixels as transformers' PIL image processor.

    Raises:
        UsageError: a file is damaged, or has other steps than resizing to one fixed size, a centre
            crop, a factor and a standardisation.
    """  # noqa: DOC501
    path, record = _record(folder)
    try:
        return _read(record, usual, side, resolution, cells, path)
    except EncoderLabError:
        raise
    except (TypeError, ValueError, AttributeError, KeyError, ZeroDivisionError) as error:
        raise UsageError(
            "the preprocessing of the checkpoint makes no sense",
            got=f"{path}: {error}",
            want="sizes in pixels, and three means and standard deviations",
        ) from error


def _read(
    record: dict[str, Any] | None,
    usual: str,
    side: int | None,
    resolution: tuple[int, int] | str | None,
    cells: Cells | None,
    path: Path,
) -> Preprocess:
    if record is None:
        note(f"preprocessing: {path.parent.name} has no file for it, so that of {usual} is used")
    kind = _kind(record or {}, usual, path)
    if record is None:
        record = _at_own_size(kind, side)
    # In transformers null does not mean the default, but that a step is skipped.
    values = {**DEFAULTS, **PROCESSORS[kind], **record}
    _refuse_other_steps(values, path)
    mean, std = _standardisation(values)
    if isinstance(resolution, tuple):
        return Preprocess(
            resolution[0], "squash", mean, std, values["resample"], width=resolution[1]
        )
    if kind in RULES or kind in TILED:
        square = Preprocess(side or 256, "squash", mean, std, values["resample"])
        if resolution is None:
            return square
        if kind in RULES and cells is not None:
            return native(square, kind, values, cells)
    if resolution == NATIVE:
        raise UsageError(
            "the family gives all images one size",
            got=f"resolution={NATIVE!r} with {kind}ImageProcessor",
            want="no resolution, or (height, width)",
        )
    if kind == "ConvNext":
        values |= _share_as_crop(values, path)
    size = _size(values["size"], values["default_to_square"], "size", path)
    short = size.get("shortest_edge")
    resized = (short, short) if short else (size["height"], size["width"])
    shape = resized
    if values["do_center_crop"]:
        cut = _size(values["crop_size"], True, "crop_size", path)
        if "height" not in cut:
            raise _refused(path, "crop_size", values["crop_size"], "height and width")
        shape = cut["height"], cut["width"]
    elif short:
        raise _refused(
            path, "size", values["size"],
            "height and width, or a centre crop: else every image gets another shape",
        )  # fmt: skip
    _refuse_padding(values, shape, path)
    plain = resized == shape and (not short or shape[0] == shape[1])
    to: int | tuple[int, int] | None = None if plain else resized
    if isinstance(to, tuple) and to[0] == to[1]:
        to = to[0]
    width = None if shape[0] == shape[1] else shape[1]
    fit: Literal["crop", "squash"] = "crop" if short else "squash"
    return Preprocess(shape[0], fit, mean, std, values["resample"], resize_to=to, width=width)


def as_record(preprocess: Preprocess, kind: str = "CLIP") -> dict[str, Any]:
    """The preprocessor_config.json, with an image processor of `PROCESSORS`, for transformers."""
    height, width = preprocess.shape
    down, across = preprocess.resized
    cuts = preprocess.fit == "crop" or preprocess.resize_to is not None
    return {
        "image_processor_type": f"{kind}ImageProcessor",
        "do_convert_rgb": True,
        "do_resize": True,
        "size": {"shortest_edge": down}
        if preprocess.fit == "crop"
        else {"height": down, "width": across},
        "resample": preprocess.resample,
        "do_center_crop": cuts,
        **({"crop_size": {"height": height, "width": width}} if cuts else {}),
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(preprocess.mean),
        "image_std": list(preprocess.std),
    }


def _record(folder: Path) -> tuple[Path, dict[str, Any] | None]:
    """The file that transformers' AutoImageProcessor reads, and its content; None without one."""
    nested, own = folder / NESTED, folder / OWN
    if nested.is_file() and "image_processor" in (whole := read_record(nested)):
        record = whole["image_processor"]
        if not isinstance(record, dict):
            raise _refused(nested, "image_processor", record, "a table of settings")
        return nested, record
    return own, read_record(own) if own.is_file() else None


def _at_own_size(kind: str, side: int | None) -> dict[str, Any]:
    """The content to assume for a missing file."""
    size = {**DEFAULTS, **PROCESSORS[kind]}["size"]
    return {"size": dict.fromkeys(size, side), "crop_size": side} if side else {}


def _share_as_crop(values: dict[str, Any], path: Path) -> dict[str, Any]:
    """ConvNext's size and share of the shorter side, as a size and a centre crop."""
    size = _size(values["size"], False, "size", path)
    side = size.get("shortest_edge")
    if side is None:
        raise _refused(path, "size", values["size"], "shortest_edge")
    if side >= CONVNEXT_SQUASHES_FROM:
        return {"size": {"height": side, "width": side}, "do_center_crop": False}
    return {
        "size": {"shortest_edge": int(side / values["crop_pct"])},
        "do_center_crop": True,
        "crop_size": side,
    }


def _kind(record: dict[str, Any], usual: str, path: Path) -> str:
    """The image processor that a file names, as a key of `PROCESSORS`."""
    named = record.get("image_processor_type") or record.get("feature_extractor_type") or usual
    kind = str(named)
    for ending in ("Fast", "Pil", "ImageProcessor", "FeatureExtractor"):
        kind = kind.removesuffix(ending)
    if kind not in PROCESSORS:
        raise _refused(
            path, "image_processor_type", named,
            f"one that resizes, crops and standardises: {', '.join(PROCESSORS)}",
        )  # fmt: skip
    return kind


def _standardisation(values: dict[str, Any]) -> tuple[Triple, Triple]:
    """Mean and deviation of pixels in [0, 1] that are equivalent to the file's of bytes."""
    # With factor f, mean m, deviation s and byte b: (f b - m) / s = (b / 255 - m / 255 f) / (s /
    # 255 f)
    mean, std = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    if values["do_normalize"]:
        mean, std = _triple(values["image_mean"]), _triple(values["image_std"])
    factor = float(values["rescale_factor"]) if values["do_rescale"] else 1.0
    if factor == 1 / 255:
        return mean, std  # exactly as in the file
    scale = 255 * factor
    return _triple([m / scale for m in mean]), _triple([s / scale for s in std])


def _refuse_other_steps(values: dict[str, Any], path: Path) -> None:
    if not values["do_resize"]:
        raise _refused(
            path, "do_resize", values["do_resize"], "true: images of one size are needed"
        )
    for step in EXTRA_STEPS:
        if values.get(step):
            raise _refused(path, step, values[step], "false, or a resolution of your own")


def _refuse_padding(values: dict[str, Any], shape: tuple[int, int], path: Path) -> None:
    """Raises for padding to another size than that of all images."""
    if not values["do_pad"] or values["pad_size"] is None:
        return
    pad = _size(values["pad_size"], True, "pad_size", path)
    if (pad.get("height"), pad.get("width")) != shape:
        raise _refused(path, "pad_size", values["pad_size"], f"{shape[0]} x {shape[1]}, or none")


def _size(value: Any, square: bool, key: str, path: Path) -> dict[str, int]:
    """A size in one of the forms of transformers: a table, one number or (height, width)."""
    size = value
    if isinstance(value, int) and not isinstance(value, bool):
        size = {"height": value, "width": value} if square else {"shortest_edge": value}
    elif isinstance(value, list | tuple) and len(value) == 2:
        size = {"height": value[0], "width": value[1]}
    if not isinstance(size, dict) or set(size) not in ({"height", "width"}, {"shortest_edge"}):
        raise _refused(path, key, value, "height and width, shortest_edge, or one number")
    return size


def _triple(values: Any) -> Triple:
    red, green, blue = map(float, [values] * 3 if isinstance(values, int | float) else values)
    return red, green, blue


def _refused(path: Path, key: str, value: Any, want: str) -> UsageError:
    return UsageError(
        "the checkpoint's preprocessing is not supported",
        got=f"{key}={value!r} in {path}"[:300],
        want=want,
    )
