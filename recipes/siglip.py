"""An adapter of transformers' SiglipModel for the training loop.

Zhai et al. 2023, "Sigmoid Loss for Language Image Pre-Training".
"""

from __future__ import annotations

import copy
import math
from pathlib import Path

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import SiglipConfig, SiglipModel

from encoderlab.core.atomic_io import atomic_folder
from encoderlab.models.clip import Preprocess, Tokenizer, TwoTowers
from encoderlab.models.clip.config import CLIPConfig, TextConfig, ViTConfig
from encoderlab.models.clip.conversion import write_json, write_tokenizer
from encoderlab.models.clip.vision import blank_patches, drop_patches
from encoderlab.models.preprocessing import as_record


class SigLIP(TwoTowers):
    """A SiglipModel with fresh weights, its tokenizer and its preprocessing.

    Args:
        shape: of both towers; its shared space must be as wide as the image tower.
        tokenizer: pads to the text tower's full context.
        patch_dropout: share of patches left out of each training image.
    """

    kind = "siglip"
    drops_blank_first = False
    # The text tower attends to padding, and pools at the last position.
    reads_padding = True
    tokenizer: Tokenizer

    def __init__(
        self,
        shape: CLIPConfig,
        tokenizer: Tokenizer,
        preprocess: Preprocess,
        *,
        patch_dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.tokenizer, self.preprocess, self.trained_steps = tokenizer, preprocess, 0
        self.patch_dropout = patch_dropout
        vision, text = shape.vision, shape.text
        assert isinstance(vision, ViTConfig) and shape.embed_dim == vision.width
        self.config = SiglipConfig(
            vision_config={
                **_tower(vision),
                "image_size": vision.image_size,
                "patch_size": vision.patch_size,
            },
            text_config={
                **_tower(text),
                "vocab_size": text.vocab_size,
                "max_position_embeddings": text.context_length,
                "projection_size": shape.embed_dim,
                "bos_token_id": tokenizer.start_id,
                "eos_token_id": tokenizer.end_id,
                "pad_token_id": tokenizer.pad_id,
            },
        )
        self.network = SiglipModel(self.config)
        # On a CPU, SDPA's backward pass in bf16 is slower.
        self.network.set_attn_implementation("eager")
        # The names that the training loop reads.
        self.logit_scale, self.logit_bias = self.network.logit_scale, self.network.logit_bias
        # Zhai et al. 2023, section 3.2: ten for the temperature, minus ten for the bias.
        nn.init.constant_(self.logit_scale, math.log(10))
        nn.init.constant_(self.logit_bias, -10.0)

    def sharpen(self, scale: float) -> None:
        """Sets the scale of the logits, and the bias so that the same cosine gives logit zero."""
        assert self.logit_bias is not None
        with torch.no_grad():
            self.logit_bias.mul_(scale / self.logit_scale.exp())
            self.logit_scale.fill_(math.log(scale))

    def encode_image(self, pixels: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b d"]:
        """Image embeddings, not normalised."""
        if not (self.training and self.patch_dropout):
            return self.network.get_image_features(pixels).pooler_output
        tower = self.network.vision_model
        side = self.config.vision_config.patch_size
        blank = blank_patches(pixels, side) if self.drops_blank_first else None
        patches = drop_patches(tower.embeddings(pixels), self.patch_dropout, blank)
        patches = tower.encoder(inputs_embeds=patches).last_hidden_state
        return tower.head(tower.post_layernorm(patches))

    def encode_text(self, tokens: Int[Tensor, "b t"]) -> Float[Tensor, "b d"]:
        """Text embeddings, not normalised."""
        return self.network.get_text_features(tokens).pooler_output

    def save_pretrained(self, folder: str | Path, *, half: bool = False) -> Path:
        """Writes the folder that transformers' SiglipModel, image processor and tokenizer load.

        Args:
            half: store weights as fp16 (half the size) instead of fp32.
        """
        network = copy.deepcopy(self.network)
        if half:
            network.half()
        network.config.encoderlab = {"trained_steps": self.trained_steps}
        with atomic_folder(Path(folder)) as place:
            network.save_pretrained(place)
            write_json(place / "preprocessor_config.json", as_record(self.preprocess, "Siglip"))
            # Without a mask, as SigLIP was trained: its text tower reads the padding.
            write_tokenizer(self.tokenizer, place, {"model_input_names": ["input_ids"]})
        return Path(folder)


def _tower(config: ViTConfig | TextConfig) -> dict[str, int | float | str]:
    return {
        "hidden_size": config.width,
        "intermediate_size": config.mlp_width,
        "num_hidden_layers": config.layers,
        "num_attention_heads": config.heads,
        "hidden_act": config.activation,
        "layer_norm_eps": config.norm_eps,
    }
