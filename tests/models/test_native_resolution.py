"""The size rules of native resolution against the functions of transformers, over many sizes."""

import ast
import importlib
import importlib.util
import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from encoderlab.errors import UsageError
from encoderlab.models.native_resolution import RULES, Cells, NativePreprocess, native
from encoderlab.models.preprocessing import DEFAULTS, PROCESSORS, read_preprocess

SIDES = (1, 3, 13, 14, 27, 28, 56, 99, 224, 336, 640, 1023, 1024, 1025, 4032)


def theirs(family, function):
    """A function of transformers' module, also where the module needs torchvision."""
    name = f"image_processing_pil_{family}" if family != "kimi_k25" else "image_processing_kimi_k25"
    package = importlib.util.find_spec(f"transformers.models.{family}")
    if family != "kimi_k25":
        return getattr(importlib.import_module(f"transformers.models.{family}.{name}"), function)
    source = ast.parse(Path(package.submodule_search_locations[0], f"{name}.py").read_text())
    space = {"math": math}
    exec(ast.unparse(next(f for f in source.body if getattr(f, "name", "") == function)), space)
    return space[function]


# image processor -> (patch and merge, transformers' size of an image of height h and width w)
EXPECTED = {
    "Qwen2VL": (Cells(14, 2), lambda h, w: theirs("qwen2_vl", "smart_resize")(
        h, w, 28, 56 * 56, 28 * 28 * 1280)),
    "VideoLlama3": (Cells(14), lambda h, w: theirs("video_llama_3", "smart_resize")(
        h, w, 14, 56 * 56, 28 * 28 * 1280)),
    "Glm4v": (Cells(14, 2), lambda h, w: theirs("glm4v", "smart_resize")(
        2, h, w, 2, 28, 112 * 112, 28 * 28 * 15000)),
    "Siglip2": (Cells(16), lambda h, w: theirs("siglip2", "get_image_size_for_max_num_patches")(
        h, w, 16, 256)),
    "Pixtral": (Cells(16), lambda h, w: theirs("pixtral", "get_resize_output_image_size")(
        np.empty((3, h, w)), 1024, 16, "channels_first")),
    "Gemma4": (Cells(16, 3), lambda h, w: theirs("gemma4", "get_aspect_ratio_preserving_size")(
        h, w, 16, 280 * 9, 3)),
    "Kimi_K25": (Cells(14, 2), lambda h, w: theirs("kimi_k25", "navit_resize")(
        h, w, 14, 2, 16384, 512)[0]),
}  # fmt: skip


@pytest.mark.parametrize("kind", RULES)
def test_every_image_gets_the_size_that_transformers_gives_it(kind):
    cells, expected = EXPECTED[kind]
    rule = native(
        read_preprocess(Path("none"), f"{kind}ImageProcessor", 64),
        kind, {**DEFAULTS, **PROCESSORS[kind]}, cells,
    ).rule  # fmt: skip
    for h in SIDES:
        for w in SIDES:
            try:
                size = expected(h, w)
            except ValueError:
                with pytest.raises(UsageError, match="too narrow"):
                    rule(h, w)
            else:
                assert rule(h, w) == size, (h, w)


def test_the_limits_are_those_of_the_file(tmp_path):
    # As Qwen2.5-VL's file says it.
    (tmp_path / "preprocessor_config.json").write_text(
        '{"image_processor_type": "Qwen2VLImageProcessor", "min_pixels": 3136, "max_pixels": 90000}'
    )
    found = read_preprocess(tmp_path, "", 64, "native", Cells(14, 2))
    assert isinstance(found, NativePreprocess)
    smart_resize = theirs("qwen2_vl", "smart_resize")
    assert found.rule(480, 640) == smart_resize(480, 640, 28, 3136, 90000) == (252, 336)
    assert found.to_bytes(Image.new("RGB", (640, 480))).shape == (252, 336, 3)


def test_another_merging_than_the_towers_is_refused(tmp_path):
    (tmp_path / "preprocessor_config.json").write_text(
        '{"image_processor_type": "VideoLlama3ImageProcessor", "merge_size": 2}'
    )
    with pytest.raises(UsageError, match="does not fit its tower"):
        read_preprocess(tmp_path, "", 64, "native", Cells(14))
