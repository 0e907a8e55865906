"""Our own CLIP: `config` (sizes), `vision`, `resnet` and `text` (towers), `clip` (the model).

`tokenizer` and `preprocess` turn texts and images into tensors; `conversion` reads and writes the
format of Hugging Face. The format of a training run is in `models.checkpoint`.
"""

from encoderlab.models.clip.clip import CLIP, TwoTowers
from encoderlab.models.clip.config import CLIPConfig, ResNetConfig, TextConfig, ViTConfig, preset
from encoderlab.models.clip.preprocess import Preprocess
from encoderlab.models.clip.tokenizer import Tokenizer

__all__ = [
    "CLIP",
    "CLIPConfig",
    "Preprocess",
    "ResNetConfig",
    "TextConfig",
    "Tokenizer",
    "TwoTowers",
    "ViTConfig",
    "preset",
]
