"""What a checkpoint says about its pixels, read from preprocessor_config.json.

Resizing on bytes with PIL and standardising, as transformers' PIL image processors do; none of them
is needed, so checkpoints whose processor exists for torchvision only work too.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from encoderlab.errors import EncoderLabError, UsageError
from encoderlab.json_text import record_in
from encoderlab.models.clip.preprocess import OPENAI_MEAN, OPENAI_STD, Preprocess
from encoderlab.progress import note

Triple = tuple[float, float, float]
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
HALF = (0.5, 0.5, 0.5)
BICUBIC, BILINEAR = 3, 2

# What each processor does where its file is silent: (crops, mean, std, resample, side).
DEFAULTS: dict[str, tuple[bool, Triple, Triple, int, int]] = {
    "clip": (True, OPENAI_MEAN, OPENAI_STD, BICUBIC, 224),
    "bit": (True, OPENAI_MEAN, OPENAI_STD, BICUBIC, 224),
    "siglip": (False, HALF, HALF, BICUBIC, 224),
    "siglip2": (False, HALF, HALF, BILINEAR, 256),
    "vit": (False, HALF, HALF, BILINEAR, 224),
    "deit": (True, IMAGENET_MEAN, IMAGENET_STD, BICUBIC, 224),
    "beit": (True, HALF, HALF, BICUBIC, 224),
    "gotocr2": (False, OPENAI_MEAN, OPENAI_STD, BICUBIC, 384),
    "dinov3vit": (False, IMAGENET_MEAN, IMAGENET_STD, BILINEAR, 224),
}


def read_preprocess(
    folder: Path, side: int | None, resolution: tuple[int, int] | None = None
) -> Preprocess:
    """How images become the pixels of the checkpoint in `folder`.

    Args:
        side: the tower's own image size, for a checkpoint that brings no preprocessor_config.json
            and for one that keeps the size open.
        resolution: (height, width) to squash to instead of the checkpoint's own size.

    Raises:
        UsageError: the file is damaged, or asks for steps that are not resize, crop, standardise.
    """
    try:
        return _read(folder, side, resolution)
    except EncoderLabError:
        raise
    except (TypeError, ValueError, AttributeError, KeyError) as error:
        raise UsageError(
            "the preprocessing of the checkpoint makes no sense",
            got=f"{folder / 'preprocessor_config.json'}: {error}",
            want="sizes in pixels, and three means and standard deviations",
        ) from error


def _read(folder: Path, side: int | None, resolution: tuple[int, int] | None) -> Preprocess:
    record = _record(folder)
    if record is None:
        note(f"preprocessing: {folder.name} says nothing, so squashed to its own size, mean 0.5")
        record = {"image_processor_type": "SiglipImageProcessor"}
    kind = str(record.get("image_processor_type") or record.get("feature_extractor_type") or "")
    for ending in ("Fast", "Pil", "ImageProcessor", "FeatureExtractor"):
        kind = kind.removesuffix(ending)
    crops, mean, std, resample, usual = DEFAULTS.get(kind.lower(), DEFAULTS["vit"])
    for step, wanted in (("do_rescale", True), ("do_normalize", True), ("do_resize", True)):
        if record.get(step, True) is not wanted:
            raise UsageError(
                "the checkpoint's preprocessing leaves out a step that every encoder here takes",
                got=f"{step}={record[step]} in {folder / 'preprocessor_config.json'}",
                want="resize, rescale by 1/255 and standardise",
            )
    factor = record.get("rescale_factor", 1 / 255)
    if abs(factor * 255 - 1) > 1e-3:
        raise UsageError("the checkpoint rescales its pixels otherwise", got=factor, want="1/255")
    mean = _triple(record.get("image_mean") or mean)
    std = _triple(record.get("image_std") or std)
    resample = record.get("resample", resample)
    if resolution is not None:
        return Preprocess(resolution[0], "squash", mean, std, resample, width=resolution[1])
    crops = record.get("do_center_crop", crops)
    size: Any = record.get("size", {})
    size = {"shortest_edge" if crops else "height": size} if isinstance(size, int) else size
    resized = size.get("shortest_edge") or size.get("height") or side or usual
    short_side = "shortest_edge" in size or (not size and crops)
    fit: Literal["crop", "squash"] = "crop" if short_side else "squash"
    crop: Any = record.get("crop_size", resized) if crops else None
    cut = (crop if isinstance(crop, int) else crop.get("height")) if crops else None
    # Without a crop a short edge alone would leave every image another shape.
    target = cut or (side if fit == "crop" and side else resized)
    if fit == "squash" and size.get("width") not in (None, resized) and cut is None:
        return Preprocess(resized, "squash", mean, std, resample, width=size["width"])
    return Preprocess(
        target, fit, mean, std, resample, resize_to=resized if resized != target else None
    )


def as_record(preprocess: Preprocess) -> dict[str, Any]:
    """The preprocessor_config.json of a preprocessing, which `read_preprocess` and transformers'
    CLIPImageProcessor read."""
    height, width = preprocess.shape
    cuts = preprocess.fit == "crop" or preprocess.resize_to is not None
    side = preprocess.resize_to or preprocess.size
    whole = {"height": side, "width": side} if cuts else {"height": height, "width": width}
    return {
        "image_processor_type": "CLIPImageProcessor",
        "do_convert_rgb": True,
        "do_resize": True,
        "size": {"shortest_edge": side} if preprocess.fit == "crop" else whole,
        "resample": preprocess.resample,
        "do_center_crop": cuts,
        **({"crop_size": {"height": height, "width": width}} if cuts else {}),
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(preprocess.mean),
        "image_std": list(preprocess.std),
    }


def _triple(values: Any) -> Triple:
    red, green, blue = map(float, values)
    return red, green, blue


def _record(folder: Path) -> dict[str, Any] | None:
    for name in ("preprocessor_config.json", "processor_config.json"):
        path = folder / name
        if not path.is_file():
            continue
        try:
            record = record_in(path)
        except ValueError as error:
            raise UsageError("the preprocessing cannot be read", got=f"{path}: {error}") from error
        # transformers 5 saves a whole processor as one file
        record = record.get("image_processor", record)
        if not isinstance(record, dict):
            raise UsageError("the preprocessing cannot be read", got=f"{path}: {record!r}"[:200])
        if "image_mean" in record or "size" in record or "image_processor_type" in record:
            return record
    return None
