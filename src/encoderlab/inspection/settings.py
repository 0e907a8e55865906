"""Settings of `encoderlab tokens`, `text-size`, `registers` and `words`: what patch tokens hold."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from encoderlab.core.common_settings import (
    COMMON,
    DEVICE_HELP,
    DTYPE_HELP,
    IMG_ROOT_HELP,
    MODEL_HELP,
    SVG_HELP,
    WHERE,
    Loads,
)
from encoderlab.core.settings import group, output_folder, setting
from encoderlab.vlm.settings import LAYER_HELP, VLM_HELP, VlmTrain

DRAWN = {"output.save_visualizations": (True,)}
SMALLEST = 3  # pixels: lower digits cannot be drawn


@dataclass
class Model:
    """Which encoder; a file of the group `model` fills it in."""

    name: str = setting("tiny-clip", MODEL_HELP, flag="--model", names="encoders")


@dataclass
class Image:
    """The image or images to analyse."""

    path: str | None = setting(
        None, "image, folder or glob to analyse; empty: a built-in chart", flag="--image"
    )


@dataclass
class Similarity:
    """How two tokens are compared, and which tokens."""

    metric: str = setting(
        "cosine", "similarity of two tokens", flag="--metric", choices=("cosine", "dot_product")
    )
    layer: int | None = setting(
        None, "hidden state: 0 enters the first block, negative from the end; empty: the last"
    )
    stage: str = setting(
        "last", "last, after the final norm, or projected", choices=("last", "normed", "projected")
    )
    text: str = setting("", "text to locate in the image, for encoders with a text tower",
                        flag="--text")  # fmt: skip


@dataclass
class Visualization:
    """How the figures look."""

    figsize: list[int] = setting([20, 16], "width and height in inches", least=1)
    cmap: str = setting("viridis", "colour map")
    save_individual: bool = setting(True, "one file per direction")
    save_combined: bool = setting(True, "all directions in one file")
    images: str = setting(
        "ends", "images of a folder whose maps are drawn: ends (lowest and highest statistics) "
        "or all",
        choices=("ends", "all"),
    )  # fmt: skip


@dataclass
class Output:
    """Where the results go."""

    dir: str = setting(
        output_folder("tokens"), "folder for results", flag="--output-dir", group=COMMON
    )
    format: str = setting(
        "png", "format of the figures", choices=("png", "pdf", "svg"), needs=DRAWN
    )
    dpi: int = setting(150, "dots per inch of the figures", least=1, needs=DRAWN)
    save_similarities: bool = setting(True, "write similarities.npz")
    save_visualizations: bool = setting(True, "write figures")


@dataclass
class Tokens(Loads):
    """Similarity of every patch token to its neighbours and to CLS."""

    model: Model = group(Model)
    image: Image = group(Image)
    device: Any = setting(None, DEVICE_HELP + ", or N; empty: auto", group=WHERE)
    dtype: str = setting("float32", "float32, bfloat16 or float16", group=WHERE)
    similarity: Similarity = group(Similarity)
    visualization: Visualization = group(Visualization, DRAWN)
    output: Output = group(Output)


@dataclass
class TextSize(Loads):
    """Find the smallest text that can be read from the patch tokens."""

    encoders: list[str] = setting(["tiny-clip"], "vision encoders", names="encoders")
    heights: list[int] = setting(
        [], "heights of the digits in pixels of the encoder's input; empty: half a patch to "
        "four patches", least=SMALLEST,
    )  # fmt: skip
    layer: int = setting(VlmTrain.layer, LAYER_HELP)
    n_train: int = setting(600, "images of each height to fit the probe on", least=20)
    n_test: int = setting(300, "images of each height to test it on", least=20)
    device: str = setting("auto", DEVICE_HELP, group=WHERE)
    dtype: str = setting("auto", DTYPE_HELP, group=WHERE)
    batch_size: int = setting(32, "batch size", least=1, group=WHERE)
    svg: bool = setting(False, "write the figure as .svg too")
    output_dir: str = setting(output_folder("text-size"), "folder for results", group=COMMON)


@dataclass
class Registers(Loads):
    """Move the activation behind outlier tokens into an added token, and measure the effect."""

    model: str = setting("tiny-siglip", MODEL_HELP, names="encoders")
    images: str | None = setting(None, "images to find the neurons on; empty: synthetic images")
    n_images: int = setting(16, "number of these", least=1)
    neurons: int = setting(10, "number of register neurons", least=1)
    csv: str | None = setting(
        None, "CSV of image_path,caption to measure recall on; empty: the synthetic world"
    )
    img_root: str | None = setting(None, IMG_ROOT_HELP, needs={"csv": ()})
    n: int = setting(
        500, "number of pairs and of questions to measure the effect on; 0: none", least=0
    )
    vlm: str = setting(
        "tiny-vlm", "VLM that answers questions, if it uses this encoder; empty: none"
    )
    svg: bool = setting(False, SVG_HELP)
    device: str = setting("auto", DEVICE_HELP, group=WHERE)
    dtype: str = setting("float32", "float32, bfloat16 or float16", group=WHERE)
    output_dir: str = setting(output_folder("registers"), "folder for results", group=COMMON)


@dataclass
class Words(Loads):
    """Read the words nearest to each image token inside the language model of a VLM."""

    image: str | None = setting(None, "image; empty: a synthetic scene", positional=True)
    model: str = setting("tiny-vlm", VLM_HELP)
    text: str | None = setting(
        None, "question about the image; empty: what the image shows",
        flag=("--text", "--question"),
    )  # fmt: skip
    k: int = setting(5, "number of nearest words", flag=("-k", "--k"), least=1)
    layer: int | None = setting(
        None, "hidden state to show, 0 to the number of blocks, or negative; empty: for each "
        "lens the one furthest above chance, or the last if none is",
    )  # fmt: skip
    n: int = setting(100, "number of synthetic scenes to check the words on; 0: none", least=0)
    corpus: str | None = setting(
        None, "text file of captions, one per line, whose words are compared with the tokens; "
        "empty: captions of the synthetic world",
    )  # fmt: skip
    captions: int = setting(500, "number of these", least=1)
    batch_size: int = setting(16, "batch size", least=1, group=WHERE)
    svg: bool = setting(False, SVG_HELP)
    device: str = setting("auto", DEVICE_HELP, group=WHERE)
    dtype: str = setting("auto", DTYPE_HELP, group=WHERE)
    output_dir: str = setting(output_folder("words"), "folder for results", group=COMMON)
