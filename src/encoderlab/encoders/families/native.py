"""Towers that take images of any aspect ratio: those of Qwen2-VL to Qwen3.5, GLM-4.1V, ...

A tower gets the patches of all images of a batch as one sequence, most in squares of patches that
its projector merges. Here they are in reading order, one row per image.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from encoderlab.encoders.layers import block_states
from encoderlab.encoders.loading import built, load_part
from encoderlab.encoders.vision import TowerOutput, VisionEncoder, mask_of
from encoderlab.models.native_resolution import Cells

Grids = Sequence[tuple[int, int]]
# Patches per side of an image, at most, where no resolution is asked for.
PATCHES = 32


class NativeTower(VisionEncoder):
    """A tower for images of any aspect ratio, without loading its LLM.

    Without a resolution, images are squashed to 32 x 32 patches, or the largest square below that
    the projector can merge.

    Pooled: the mean of the patches before the projector. `projected` are the tokens that the LLM
    gets. Attention maps are not given.
    """

    has_cls = False

    @classmethod
    def own_side(cls, config: Any) -> int:
        cells = cls.cells(config)
        return PATCHES // cells.merge * cells.side

    @classmethod
    def cells(cls, config: Any) -> Cells:
        raise NotImplementedError

    def grids_of(self, pixels: Tensor | Sequence[Tensor]) -> tuple[tuple[int, int], ...]:
        p = self.patch_size
        return tuple((image.shape[-2] // p, image.shape[-1] // p) for image in pixels)

    def tower_blocks(self) -> Sequence[nn.Module]:
        """The blocks in order."""
        return self.tower.blocks

    def run_images(self, images: Any, grids: Grids) -> Tensor:
        """The tower's sequence (N, d) of images (3, height, width), before its projector."""
        raise NotImplementedError

    def order(self, grids: Grids) -> Tensor:
        """The place in reading order, image after image, of each token of the tower's sequence."""
        return torch.arange(sum(h * w for h, w in grids))

    def run_tower(self, pixels: Any, **outputs: bool) -> TowerOutput:
        grids = self.grids_of(pixels)
        wanted = outputs.get("output_hidden_states", False)
        with block_states(self.tower_blocks() if wanted else ()) as states:
            tokens = self.rows(self.run_images(pixels, grids), grids)
        counts = mask_of(grids, tokens.device).sum(dim=1, keepdim=True)
        pooled = (tokens.sum(dim=1, dtype=torch.float32) / counts).to(tokens.dtype)
        return TowerOutput(tokens, pooled, tuple(self.rows(state, grids) for state in states))

    def rows(self, sequence: Tensor, grids: Grids) -> Tensor:
        """A sequence (N, d) of the tower as rows (b, n, d) in reading order, padded with zeros."""
        place = self.order(grids).argsort().to(sequence.device)
        return pad_sequence(
            sequence.reshape(-1, sequence.shape[-1])[place].split([h * w for h, w in grids]),
            batch_first=True,
        )

    def sequence(self, rows: Tensor, grids: Grids) -> Tensor:
        """Rows (b, n, d) as the tower's sequence (N, d): undoes `rows`."""
        return rows[mask_of(grids, rows.device)][self.order(grids).to(rows.device)]

    def project(self, patches: Tensor, grids: Grids) -> Tensor:
        counts = [h * w // self.merge**2 for h, w in grids]
        return pad_sequence(self.merged(patches, grids).split(counts), batch_first=True)

    def merged(self, patches: Tensor, grids: Grids) -> Tensor:
        """The projected tokens of all images (M, d_llm), each image in reading order."""
        raise NotImplementedError


class QwenVL(NativeTower):
    """The tower of a Qwen2-VL (Wang et al. 2024), Qwen3-VL or Qwen3.5.

    `patches` are the last block's output, to which no norm is applied. Qwen3-VL's DeepStack
    features, of earlier blocks for the LLM, are not among the features: see `layers`.
    """

    prefixes: ClassVar[tuple[str, ...]] = ("model.visual.", "visual.")
    towers: ClassVar[dict[str, str]] = {
        "qwen2_vl": "Qwen2VisionTransformerPretrainedModel",
        "qwen2_5_vl": "Qwen2_5_VisionTransformerPretrainedModel",
        "qwen3_vl": "Qwen3VLVisionModel",
        "qwen3_5": "Qwen3_5VisionModel",
        "glm4v": "Glm4vVisionModel",
    }

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.merge = int(self.config.spatial_merge_size)
        # Qwen2-VL calls the width of its LLM hidden_size.
        self.width = int(getattr(self.config, "embed_dim", self.width))

    @classmethod
    def load_tower(cls, folder: Path, config: Any, trust_remote_code: bool) -> nn.Module:
        family = config.model_type
        module = importlib.import_module(f"transformers.models.{family}.modeling_{family}")
        tower = getattr(module, cls.towers[family])
        return load_part(built(lambda: tower(config.vision_config), folder), folder, cls.prefixes)

    @classmethod
    def cells(cls, config: Any) -> Cells:
        return Cells(config.vision_config.patch_size, config.vision_config.spatial_merge_size)

    def final_norm(self, tokens: Tensor) -> Tensor | None:
        return None

    def run_images(self, images: Any, grids: Grids) -> Tensor:
        p, m, frames = self.patch_size, self.merge, self.config.temporal_patch_size
        patches = torch.cat(
            [
                rearrange(image, "c (h a p) (w b q) -> (h w a b) c p q", a=m, b=m, p=p, q=p)
                for image in images
            ]
        )
        # A still image is a video that does not move.
        patches = patches[:, :, None].expand(-1, -1, frames, -1, -1)
        return self.run_sequence(patches.flatten(1), self.sizes(grids))

    def run_sequence(self, patches: Tensor, sizes: Tensor) -> Tensor:
        """The last hidden state of a sequence of patches, before they are merged."""
        return self.tower(patches, grid_thw=sizes).last_hidden_state

    def sizes(self, grids: Grids) -> Tensor:
        """Frames, height and width of each image (b, 3)."""
        return torch.tensor([(1, h, w) for h, w in grids], device=self.tower.device)

    def order(self, grids: Grids) -> Tensor:
        m = self.merge
        places = super().order(grids).split([h * w for h, w in grids])
        return torch.cat(
            [
                rearrange(place, "(h a w b) -> (h w a b)", a=m, b=m, w=w // m)
                for place, (_, w) in zip(places, grids, strict=True)
            ]
        )

    def merged(self, patches: Tensor, grids: Grids) -> Tensor:
        return self.tower.merger(self.sequence(patches, grids))


class Qwen25VL(QwenVL):
    """The tower of a Qwen2.5-VL (Bai et al. 2025), most of whose blocks attend within windows; its
    sequence is ordered by them.
    """

    def order(self, grids: Grids) -> Tensor:
        squares = super().order(grids).unflatten(0, (-1, self.merge**2))
        return squares[self._windows(grids)].flatten()

    def merged(self, patches: Tensor, grids: Grids) -> Tensor:
        return super().merged(patches, grids)[self._windows(grids).argsort()]

    def _windows(self, grids: Grids) -> Tensor:
        """The merged squares in the order of the windows."""
        from transformers.vision_utils import get_vision_window_index

        sizes = torch.tensor([(1, h, w) for h, w in grids])
        window = self.config.window_size
        return get_vision_window_index(sizes, self.merge, window, self.patch_size)[0]
