"""Settings of `encoderlab export`."""

from __future__ import annotations

from dataclasses import dataclass

from encoderlab.core.common_settings import COMMON, MODEL_HELP, Loads
from encoderlab.core.settings import output_folder, setting

FORMS = ("onnx", "open_clip")


@dataclass
class Export(Loads):
    """Write an encoder as ONNX files that run without torch, and check them against it."""

    model: str = setting("tiny-clip", MODEL_HELP, positional=True, names="encoders")
    form: str = setting(
        "onnx", "onnx: graphs; open_clip: a CLIP as the folder that open_clip loads", choices=FORMS
    )
    text: bool = setting(
        True, "also the text encoder, if the model has one", needs={"form": ("onnx",)}
    )
    opset: int = setting(20, "version of the ONNX operators", least=18, needs={"form": ("onnx",)})
    batch_sizes: list[int] = setting(
        [1, 3, 8], "batch sizes at which the files are checked against torch", least=1,
        needs={"form": ("onnx",)},
    )  # fmt: skip
    output_dir: str = setting(
        output_folder("export"), "output folder; each model gets a sub-folder", group=COMMON
    )
