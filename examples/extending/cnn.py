"""A CNN of one's own: its patches are the positions of the last feature map. Pooled: their mean."""

from pathlib import Path
from typing import Any

from torch import Tensor, nn
from transformers import AutoConfig, PretrainedConfig

from encoderlab.encoders.loading import load_part
from encoderlab.encoders.vision import TowerOutput, VisionEncoder


class SmallCNNConfig(PretrainedConfig):
    """What config.json says: the stride and the channels of the last map, and the image size."""

    model_type = "small_cnn"

    def __init__(self, patch_size=8, hidden_size=24, image_size=64, **more: Any) -> None:
        super().__init__(**more)
        self.patch_size, self.hidden_size, self.image_size = patch_size, hidden_size, image_size
        self.num_hidden_layers = 1


# A model_type that transformers does not know.
AutoConfig.register("small_cnn", SmallCNNConfig, exist_ok=True)


class SmallCNN(nn.Module):
    """Two convolutions."""

    def __init__(self, config: SmallCNNConfig) -> None:
        super().__init__()
        self.config = config
        self.stem = nn.Conv2d(3, 12, 3, stride=4, padding=1)
        self.last = nn.Conv2d(12, config.hidden_size, 3, stride=2, padding=1)

    def extract_features(self, pixels: Tensor) -> Tensor:
        """The last feature map (b, d, h, w)."""
        return self.last(self.stem(pixels).relu()).relu()


class SmallCNNEncoder(VisionEncoder):
    """Without CLS; a patch sees more than its square, so there are no layers to check it by."""

    has_cls = False
    local_patches = False

    @classmethod
    def load_tower(cls, folder: Path, config: Any, trust_remote_code: bool) -> nn.Module:
        return load_part(SmallCNN(config), folder, ("",))

    def run_tower(self, pixels: Tensor, **wanted: bool) -> TowerOutput:
        return TowerOutput(self.tower.extract_features(pixels).flatten(2).mT)
