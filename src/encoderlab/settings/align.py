"""Settings of the alignment commands: which encoder fits which LLM."""

from __future__ import annotations

from dataclasses import dataclass

from encoderlab.settings.common import COMMON, DEVICE_HELP, DTYPE_HELP, WHERE, Common
from encoderlab.settings.setting import output_folder, setting

EMBEDDED_ENCODERS = ["tiny-clip", "tiny-siglip", "tiny-dinov2"]
EMBEDDED_LLMS = ["tiny-llama", "tiny-qwen"]


@dataclass
class Alignment(Common):
    """What the alignment commands share."""

    encoders: list[str] = setting(EMBEDDED_ENCODERS, "vision encoders")
    llms: list[str] = setting(EMBEDDED_LLMS, "language models to align with")
    n_samples: int = setting(30, "samples per data type", least=1)
    data_types: list[str] = setting([], "data types to use; empty: all that are there")
    data_root: str | None = setting(
        None, "data folder; empty: VLM_DATA_ROOT, else the built-in samples"
    )
    batch_size: int = setting(16, "samples at once", least=1, group=WHERE)
    device: str = setting("auto", DEVICE_HELP, group=WHERE)
    dtype: str = setting("auto", DTYPE_HELP, group=WHERE)


@dataclass
class Compare(Alignment):
    """Compare encoders by CKA and by the quality of a projector into an LLM."""

    output_dir: str = setting(output_folder("compare"), "folder for results", group=COMMON)


@dataclass
class MultiLlm(Alignment):
    """Repeat the comparison against several LLMs."""

    output_dir: str = setting(output_folder("multi-llm"), "folder for results", group=COMMON)


@dataclass
class Coral(Alignment):
    """CORAL distance and EAS between encoders and LLMs."""

    output_dir: str = setting(output_folder("coral"), "folder for results", group=COMMON)


@dataclass
class Elas(Alignment):
    """ELAS of every pair of encoder and LLM."""

    epochs: int = setting(300, "training epochs of a projector", least=1)
    output_dir: str = setting(output_folder("elas"), "folder for results", group=COMMON)


@dataclass
class E2e(Alignment):
    """Does CKA foretell how well a trained projector retrieves?"""

    epochs: int = setting(300, "training epochs of a projector", least=1)
    output_dir: str = setting(output_folder("e2e"), "folder for results", group=COMMON)


@dataclass
class Layers(Alignment):
    """Alignment of every layer of an encoder with every layer of an LLM."""

    output_dir: str = setting(output_folder("layers"), "folder for results", group=COMMON)


@dataclass
class Embedding(Alignment):
    """Map of the embedding space in two dimensions."""

    method: str = setting("tsne", "how the map is made", choices=("tsne", "umap", "pca"))
    output_dir: str = setting(output_folder("embedding"), "folder for results", group=COMMON)


@dataclass
class Attention(Alignment):
    """Heatmap of how much each image patch agrees with a text."""

    image: str | None = setting(None, "image to explain")
    text: str = setting("", "text to compare with")
    output_dir: str = setting(output_folder("attention"), "folder for results", group=COMMON)


@dataclass
class Speed(Alignment):
    """Latency, throughput and memory of each encoder."""

    batch_sizes: list[int] = setting([1, 4, 8, 16, 32], "batch sizes to time", least=1)
    output_dir: str = setting(output_folder("speed"), "folder for results", group=COMMON)


@dataclass
class All(Alignment):
    """Run compare, coral, elas, embedding and speed, and bind them into one report."""

    output_dir: str = setting(output_folder("all"), "folder for results", group=COMMON)
