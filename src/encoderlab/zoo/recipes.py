"""How each embedded checkpoint is made: its shape, its data, its schedule. Numbers only."""

from __future__ import annotations

from dataclasses import dataclass, replace

from encoderlab.models.clip.config import CLIPConfig, TextConfig, ViTConfig
from encoderlab.training.loop import Recipe


@dataclass(frozen=True)
class CLIPRecipe:
    """A CLIP of the zoo.

    Args:
        synthetic_images: how many pictures of the synthetic world it sees.
        captions_per_image: captions taken from each of them, the complete one always among them.
        real_copies: how many altered copies of each real picture are mixed in.
    """

    shape: CLIPConfig
    training: Recipe
    synthetic_images: int
    captions_per_image: int
    real_copies: int


_TINY = CLIPConfig(
    ViTConfig(image_size=96, patch_size=8, width=192, layers=4, heads=3, mlp_width=768),
    TextConfig(vocab_size=3000, context_length=48, width=128, layers=2, heads=2, mlp_width=512),
    128,
)

CLIPS = {
    # about 28 min on two cores with bf16 matrix units; Recall@1 0.85 of 1,000 held-out pictures
    "tiny-clip": CLIPRecipe(
        _TINY,
        Recipe(
            epochs=2,
            batch_size=256,
            lr=1.5e-3,
            wd=0.1,
            warmup_steps=200,
            patch_dropout=0.5,
            ema=0.999,
        ),
        synthetic_images=60_000,
        captions_per_image=3,
        real_copies=2,
    ),
}


def scaled(recipe: CLIPRecipe, share: float) -> CLIPRecipe:
    """The same recipe with `share` of the synthetic pictures, for a trial run."""
    return replace(recipe, synthetic_images=max(1000, int(recipe.synthetic_images * share)))
