"""Our own CLIP: `config` its shapes, `vision`, `resnet` and `text` its towers, `clip` the whole.

`tokenizer` and `preprocess` turn sentences and pictures into tensors; `conversion` speaks Hugging
Face's format, `checkpoint` the format of a training run.
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
