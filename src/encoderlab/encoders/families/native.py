"""Towers that take images of any aspect ratio, out of whole models without loading their LLM.

Most towers get the patches of all images of a batch as one sequence, ordered by the squares of
patches that the projector merges. Here they are in reading order, one row per image.
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

from encoderlab.encoders.families.paligemma import TowerWithProjector
from encoderlab.encoders.families.siglip2 import patch_rows
from encoderlab.encoders.layers import block_states
from encoderlab.encoders.loading import built, fill, load_part, pretrained, read_part
from encoderlab.encoders.vision import TowerOutput, VisionEncoder, mask_of
from encoderlab.errors import UsageError
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

    def tower_blocks(self) -> Sequence[nn.Module]:
        """The blocks in order."""
        return self.tower.blocks

    def final_norm(self, tokens: Tensor) -> Tensor | None:
        return None

    def run_images(self, images: Any, grids: Grids) -> Tensor:
        """The tower's sequence (N, d) of images (3, height, width), before its projector."""
        raise NotImplementedError

    def order(self, grids: Grids) -> Tensor:
        """The place in reading order, image after image, of each token of the tower's sequence."""
        return torch.arange(sum(h * w for h, w in grids))

    def squares(self, grids: Grids) -> Tensor:
        """The place in reading order of each patch, the merged squares one after another."""
        m = self.merge
        places = NativeTower.order(self, grids).split([h * w for h, w in grids])
        return torch.cat(
            [
                rearrange(place, "(h a w b) -> (h w a b)", a=m, b=m, w=w // m)
                for place, (_, w) in zip(places, grids, strict=True)
            ]
        )

    def run_tower(self, pixels: Any, **outputs: bool) -> TowerOutput:
        grids = self.grids_of(pixels)
        wanted = outputs.get("output_hidden_states", False)
        with block_states(self.tower_blocks() if wanted else ()) as states:
            tokens = self.rows(self.run_images(pixels, grids), grids)
        counts = mask_of(grids, tokens.device).sum(dim=1, keepdim=True)
        pooled = (tokens.sum(dim=1, dtype=torch.float32) / counts).to(tokens.dtype)
        # A tower that runs once per image gives the states of one image after another.
        steps = self.n_layers + 1
        sequences = (
            torch.cat([self.flat(state, grids) for state in states[k::steps]])
            for k in range(steps if wanted else 0)
        )
        return TowerOutput(tokens, pooled, tuple(self.rows(state, grids) for state in sequences))

    def flat(self, state: Tensor, grids: Grids) -> Tensor:
        """The output of a block as a sequence (N, d)."""
        return state.reshape(-1, state.shape[-1])

    def rows(self, sequence: Tensor, grids: Grids) -> Tensor:
        """A sequence (N, d) of the tower as rows (b, n, d) in reading order, padded with zeros."""
        place = self.order(grids).argsort().to(sequence.device)
        return pad_sequence(sequence[place].split([h * w for h, w in grids]), batch_first=True)

    def sequence(self, rows: Tensor, grids: Grids) -> Tensor:
        """Rows (b, n, d) as the tower's sequence (N, d): undoes `rows`."""
        return rows[mask_of(grids, rows.device)][self.order(grids).to(rows.device)]

    def project(self, patches: Tensor, grids: Grids) -> Tensor | None:
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
        return self.run_sequence(patches.flatten(1), sizes_of(grids, patches.device))

    def run_sequence(self, patches: Tensor, sizes: Tensor) -> Tensor:
        """The last hidden state of a sequence of patches, before they are merged."""
        return self.tower(patches, grid_thw=sizes).last_hidden_state

    def order(self, grids: Grids) -> Tensor:
        return self.squares(grids)

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

        window = self.config.window_size
        return get_vision_window_index(sizes_of(grids), self.merge, window, self.patch_size)[0]


class GLM4V(QwenVL):
    """The tower of a GLM-4.1V, whose projector merges by a convolution.

    `patches` are the last block's output after the final norm.
    """

    def final_norm(self, tokens: Tensor) -> Tensor:
        return self.tower.post_layernorm(tokens)

    def run_sequence(self, patches: Tensor, sizes: Tensor) -> Tensor:
        with block_states([self.tower.post_layernorm]) as states:
            self.tower(patches, grid_thw=sizes)
        return states[-1]

    def merged(self, patches: Tensor, grids: Grids) -> Tensor:
        m, tower = self.merge, self.tower
        squares = rearrange(self.sequence(patches, grids), "(n a b) d -> n d a b", a=m, b=m)
        return tower.merger(tower.downsample(squares).flatten(1))


class ProjectedTower(NativeTower):
    """A tower whose projector is a network of its own."""

    def new_tower(self) -> nn.Module:
        return self.tower.new()

    @property
    def network(self) -> Any:
        """The tower without its projector."""
        return self.tower.tower

    def merged(self, patches: Tensor, grids: Grids) -> Tensor:
        return self.tower.projector(self.sequence(patches, grids))


class VideoLLaMA3(ProjectedTower):
    """The tower of a VideoLLaMA 3 (Zhang et al. 2025), a SigLIP with rotary positions.

    `patches` are the last block's output after the final norm. Patches of images, unlike those of
    videos, are not merged.
    """

    @classmethod
    def load_tower(cls, folder: Path, config: Any, trust_remote_code: bool) -> nn.Module:
        from transformers.models.video_llama_3 import modeling_video_llama_3 as theirs

        return TowerWithProjector.read(
            lambda: theirs.VideoLlama3VisionModel(config.vision_config),
            lambda: theirs.VideoLlama3Projector(config),
            folder,
            ("model.vision_model.", "vision_model."),
            ("model.projector.", "projector."),
        )

    @classmethod
    def cells(cls, config: Any) -> Cells:
        return Cells(config.vision_config.patch_size)

    def tower_blocks(self) -> Sequence[nn.Module]:
        return self.network.encoder.layers

    def final_norm(self, tokens: Tensor) -> Tensor:
        return self.network.post_layernorm(tokens)

    def run_images(self, images: Any, grids: Grids) -> Tensor:
        p = self.patch_size
        patches = torch.cat(
            [rearrange(image, "c (h p) (w q) -> (h w) (c p q)", p=p, q=p) for image in images]
        )
        sizes = sizes_of(grids, patches.device)
        merges = torch.ones_like(sizes[:, 0])
        return self.network(patches, grid_thw=sizes, merge_sizes=merges).last_hidden_state


class Pixtral(ProjectedTower):
    """Pixtral's tower (Agrawal et al. 2024), alone, in a LLaVA, or in a Mistral 3, which merges.

    `patches` are the last block's output, to which no norm is applied.
    """

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        merger = getattr(getattr(self.tower, "projector", None), "patch_merger", None)
        self.merge = 1 if merger is None else int(merger.spatial_merge_size)

    @classmethod
    def load_tower(cls, folder: Path, config: Any, trust_remote_code: bool) -> nn.Module:
        from transformers import PixtralVisionModel
        from transformers.models.llava.modeling_llava import LlavaMultiModalProjector
        from transformers.models.mistral3.modeling_mistral3 import Mistral3MultiModalProjector

        if config.model_type == "pixtral":
            return pretrained(PixtralVisionModel, folder)
        if config.vision_config.model_type != "pixtral" or config.vision_feature_layer != -1:
            raise UsageError(
                "the tower of this VLM is not one that we can look into",
                got=f"{config.vision_config.model_type}, layer {config.vision_feature_layer}",
                want="pixtral, layer -1",
            )
        is_mistral = config.model_type == "mistral3"
        projector: Any = Mistral3MultiModalProjector if is_mistral else LlavaMultiModalProjector
        return TowerWithProjector.read(
            lambda: PixtralVisionModel(config.vision_config),
            lambda: projector(config),
            folder,
            ("model.vision_tower.", "vision_tower."),
            ("model.multi_modal_projector.", "multi_modal_projector."),
        )

    @classmethod
    def cells(cls, config: Any) -> Cells:
        patch = cls.vision_config(config).patch_size
        return Cells(patch, getattr(config, "spatial_merge_size", 1))

    def new_tower(self) -> nn.Module:
        return super().new_tower() if self.has_projector else NativeTower.new_tower(self)

    @property
    def has_projector(self) -> bool:
        """Whether the checkpoint has more than the tower."""
        return isinstance(self.tower, TowerWithProjector)

    @property
    def network(self) -> Any:
        return self.tower.tower if self.has_projector else self.tower

    def tower_blocks(self) -> Sequence[nn.Module]:
        return self.network.transformer.layers

    def run_images(self, images: Any, grids: Grids) -> Tensor:
        # One by one: together, their attention mask has a number for each pair of all patches.
        runs = [self.network(image[None]).last_hidden_state[0] for image in images]
        return torch.cat(runs)

    def project(self, patches: Tensor, grids: Grids) -> Tensor | None:
        return super().project(patches, grids) if self.has_projector else None

    def merged(self, patches: Tensor, grids: Grids) -> Tensor:
        if self.merge == 1:
            return super().merged(patches, grids)
        sizes = [(h * self.patch_size, w * self.patch_size) for h, w in grids]
        return self.tower.projector(self.sequence(patches, grids), sizes)


class Gemma4Tower(ProjectedTower):
    """The tower of a Gemma 4, which gives its LLM the means of squares of patches.

    `patches` are the last block's output, before these means.
    """

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.merge = int(self.config.pooling_kernel_size)

    @classmethod
    def load_tower(cls, folder: Path, config: Any, trust_remote_code: bool) -> nn.Module:
        from transformers.models.gemma4 import modeling_gemma4 as theirs

        return TowerWithProjector.read(
            lambda: theirs.Gemma4VisionModel(config.vision_config),
            lambda: theirs.Gemma4MultimodalEmbedder(config.vision_config, config.text_config),
            folder,
            ("model.vision_tower.", "vision_tower."),
            ("model.embed_vision.", "embed_vision."),
        )

    @classmethod
    def cells(cls, config: Any) -> Cells:
        return Cells(config.vision_config.patch_size, config.vision_config.pooling_kernel_size)

    def tower_blocks(self) -> Sequence[nn.Module]:
        return self.network.encoder.layers

    def flat(self, state: Tensor, grids: Grids) -> Tensor:
        return state[mask_of(grids, state.device)]

    def run_images(self, images: Any, grids: Grids) -> Tensor:
        rows = patch_rows(images, self.patch_size)
        with block_states(self.tower_blocks()[-1:]) as states:
            self.network(rows, self._places(grids, rows.device))
        return self.flat(states[-1], grids)

    @staticmethod
    def _places(grids: Grids, device: torch.device) -> Tensor:
        """(x, y) of each patch (b, n, 2), -1 at padding."""
        ways = [(torch.arange(h * w, device=device), w) for h, w in grids]
        places = [torch.stack([place % w, place // w], dim=1) for place, w in ways]
        return pad_sequence(places, batch_first=True, padding_value=-1)

    def merged(self, patches: Tensor, grids: Grids) -> Tensor:
        places, network = self._places(grids, patches.device), self.network
        padding = ~mask_of(grids, patches.device)
        means, real = network.pooler(patches, places, padding, patches.shape[1] // self.merge**2)
        means = means[real]
        if self.config.standardize:
            means = (means - network.std_bias.float()) * network.std_scale.float()
        return self.tower.projector(means.to(patches.dtype))


class MoonViT(ProjectedTower):
    """MoonViT, the tower of a Kimi K2.5 (Kimi Team 2026), from its original names of weights.

    `patches` are the last block's output after the final norm.
    """

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.merge = int(self.config.merge_kernel_size[0])

    @classmethod
    def load_tower(cls, folder: Path, config: Any, trust_remote_code: bool) -> nn.Module:
        from transformers.models.kimi_k25 import modeling_kimi_k25 as theirs

        network: Any = built(
            lambda: TowerWithProjector(
                lambda: theirs.Kimi_K25VisionModel(config.vision_config),
                lambda: theirs.Kimi_K25MultimodalProjection(config),
            ),
            folder,
        )
        tower = read_part(folder, ("vision_tower.", "model.vision_tower."))
        fill(network.tower, _renamed(tower, network.config.num_attention_heads), folder)
        projector = read_part(folder, ("mm_projector.proj.",))
        norm = read_part(folder, ("mm_projector.pre_norm.", "model.mm_projector.pre_norm."))
        names = {"0": "in_proj", "2": "out_proj"}
        named = {names[name[0]] + name[1:]: weight for name, weight in projector.items()}
        named |= {f"pre_norm.{name}": weight for name, weight in norm.items()}
        fill(network.projector, named, folder)
        return network

    @classmethod
    def cells(cls, config: Any) -> Cells:
        return Cells(config.vision_config.patch_size, config.vision_config.merge_kernel_size[0])

    def tower_blocks(self) -> Sequence[nn.Module]:
        return self.network.layers

    def final_norm(self, tokens: Tensor) -> Tensor:
        return self.network.final_layernorm(tokens)

    def run_images(self, images: Any, grids: Grids) -> Tensor:
        p = self.patch_size
        patches = torch.cat(
            [rearrange(image, "c (h p) (w q) -> (h w) c p q", p=p, q=p) for image in images]
        )
        sizes = sizes_of(grids, patches.device)
        return self.network(patches, grid_thw=sizes).last_hidden_state

    def merged(self, patches: Tensor, grids: Grids) -> Tensor:
        places = self.squares(grids).to(patches.device)
        squares = self.sequence(patches, grids)[places].unflatten(0, (-1, self.merge**2))
        return self.tower.projector(squares)[:, 0]


def _renamed(weights: dict[str, Tensor], heads: int) -> dict[str, Tensor]:
    """MoonViT's weights by transformers' names."""
    theirs = {
        "encoder.": "", "blocks.": "layers.", "norm1.": "norm2.", "norm0.": "norm1.",
        "fc1.": "fc2.", "fc0.": "fc1.", ".wo.": ".attn.proj.",
        "pos_emb.weight": "pos_emb.position_embeddings",
    }  # fmt: skip
    named = {}
    for name, weight in weights.items():
        for before, after in theirs.items():
            name = name.replace(before, after)
        if ".wqkv." not in name:
            named[name] = weight
            continue
        query, key, value = weight.chunk(3)
        # The original rotates neighbouring channels, transformers those half a head apart.
        split = "(heads c two) ... -> (heads two c) ..."
        for part, of in (("q", query), ("k", key)):
            turned = rearrange(of, split, heads=heads, two=2)
            named[name.replace("wqkv", f"attn.{part}_proj")] = turned
        named[name.replace("wqkv", "attn.v_proj")] = value
    return named


def sizes_of(grids: Grids, device: torch.device | None = None) -> Tensor:
    """Frames, height and width of each image (b, 3)."""
    return torch.tensor([(1, h, w) for h, w in grids], device=device)
