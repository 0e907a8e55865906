"""RADIO, distilled from several encoders at once (Ranzinger et al. 2024)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from encoderlab.encoders.loading import pretrained
from encoderlab.encoders.vision import TowerOutput, VisionEncoder


class RADIO(VisionEncoder):
    """A tower with a class token per teacher, and registers. It standardises pixels itself.

    Pooled: RADIO's summary, the class tokens of the teachers that its configuration names, one
    after the other.
    """

    @classmethod
    def load_tower(cls, folder: Path, config: Any, trust_remote_code: bool) -> nn.Module:
        from transformers import RadioModel

        return pretrained(RadioModel, folder)

    @property
    def special_tokens(self) -> int:
        return int(self.config.num_summary_tokens)

    @property
    def pooled_width(self) -> int:
        return self.width * len(self.config.summary_idxs)

    def run_tower(self, pixels: Tensor, **outputs: bool) -> TowerOutput:
        output = self.tower(pixel_values=pixels, **outputs)
        return replace(TowerOutput.of(output), pooled=output.summary)
