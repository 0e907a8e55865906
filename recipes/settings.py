"""How each embedded checkpoint is made: its shape, its data, its schedule. Numbers only."""

from __future__ import annotations

from dataclasses import dataclass, replace

from encoderlab.contrastive.loop import Recipe
from encoderlab.errors import unknown
from encoderlab.models.clip.config import CLIPConfig, TextConfig, ViTConfig


@dataclass(frozen=True)
class CLIPRecipe:
    """A CLIP or SigLIP of the zoo.

    Args:
        synthetic_images: how many pictures of the synthetic world it sees.
        captions_per_image: captions taken from each of them, the complete one always among them.
        real_copies: how many altered copies of each real picture are mixed in.
        siglip: transformers' SigLIP instead of our CLIP.
    """

    shape: CLIPConfig
    training: Recipe
    synthetic_images: int
    captions_per_image: int
    real_copies: int
    siglip: bool = False


_TINY = CLIPConfig(
    ViTConfig(image_size=96, patch_size=8, width=192, layers=4, heads=3, mlp_width=768),
    TextConfig(vocab_size=3000, context_length=48, width=128, layers=2, heads=2, mlp_width=512),
    128,
)

CLIPS = {
    # about 28 min on two cores with bf16 matrix units; Recall@1 0.85 of 1,000 held-out pictures
    "tiny-clip": CLIPRecipe(
        _TINY,
        Recipe.of(
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
    "tiny-siglip": CLIPRecipe(
        CLIPConfig(
            ViTConfig(96, 8, 192, 4, 3, 640, "gelu_pytorch_tanh", 1e-6),
            TextConfig(3000, 48, 128, 2, 2, 512, "gelu_pytorch_tanh", 1e-6),
            192,
        ),
        Recipe.of(
            epochs=2,
            batch_size=256,
            lr=1.5e-3,
            wd=0.1,
            warmup_steps=200,
            loss="sigmoid",
            patch_dropout=0.5,
            ema=0.999,
        ),
        synthetic_images=60_000,
        captions_per_image=3,
        real_copies=2,
        siglip=True,
    ),
}


@dataclass(frozen=True)
class LanguageRecipe:
    """A language model of the zoo.

    Args:
        architecture: "llama" or "qwen2".
        context: tokens in a training row.
        batch_size: rows in a step.
        synthetic_images: of how many pictures of the synthetic world it reads what they say.
        real_copies: how often the real texts come in one pass.
    """

    architecture: str
    vocab_size: int
    width: int
    layers: int
    heads: int
    key_value_heads: int
    mlp_width: int
    context: int = 128
    batch_size: int = 64
    epochs: int = 1
    lr: float = 2e-3
    wd: float = 0.1
    warmup_steps: int = 100
    synthetic_images: int = 40_000
    real_copies: int = 2
    seed: int = 0


LANGUAGE_MODELS = {
    "tiny-llama": LanguageRecipe("llama", 4000, 192, 3, 3, 3, 512),
    "tiny-qwen": LanguageRecipe("qwen2", 4000, 192, 3, 6, 2, 576, seed=1),
}


@dataclass(frozen=True)
class SelfSupervisedRecipe:
    """A vision transformer of the zoo that never sees a word.

    Args:
        steps: optimiser steps.
        synthetic_images: how many pictures of the synthetic world it draws from, of all kinds.
        more_scenes: as many scenes on top: the kind in which pictures differ least.
        patch_share: share of the batch whose patches are compared as well.
        temperature: of both contrastive losses.
        momentum: of the averaged copy that gives the targets, at the start; one at the end.
    """

    image_size: int
    patch_size: int
    width: int
    layers: int
    heads: int
    mlp_ratio: int
    steps: int
    synthetic_images: int = 50_000
    more_scenes: int = 50_000
    batch_size: int = 256
    lr: float = 1.5e-3
    wd: float = 0.05
    warmup_steps: int = 100
    patch_dropout: float = 0.5
    patch_share: float = 0.25
    patch_weight: float = 0.5
    temperature: float = 0.1
    momentum: float = 0.99
    seed: int = 0


SELF_SUPERVISED = {"tiny-dinov2": SelfSupervisedRecipe(96, 8, 192, 4, 3, 4, steps=900)}

ZooRecipe = CLIPRecipe | SelfSupervisedRecipe | LanguageRecipe
RECIPES: dict[str, ZooRecipe] = {**CLIPS, **SELF_SUPERVISED, **LANGUAGE_MODELS}


def recipe_of(name: str) -> ZooRecipe:
    """The recipe of an embedded checkpoint.

    Raises:
        UsageError: there is none of that name.
    """
    if name not in RECIPES:
        raise unknown("embedded model", name, list(RECIPES), "encoderlab ls encoders")
    return RECIPES[name]


def scaled(recipe: ZooRecipe, share: float) -> ZooRecipe:
    """The same recipe with `share` of the synthetic pictures (and steps), for a trial run."""
    images = max(1000, int(recipe.synthetic_images * share))
    if isinstance(recipe, SelfSupervisedRecipe):
        scenes, steps = int(recipe.more_scenes * share), max(2, int(recipe.steps * share))
        return replace(recipe, synthetic_images=images, more_scenes=scenes, steps=steps)
    return replace(recipe, synthetic_images=images)
