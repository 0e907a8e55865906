"""Shape, data and schedule of each bundled checkpoint. Numbers only."""

from __future__ import annotations

from dataclasses import dataclass, replace

from encoderlab.contrastive.loop import Recipe
from encoderlab.data.synthetic import KINDS
from encoderlab.errors import unknown
from encoderlab.models.clip.config import CLIPConfig, TextConfig, ViTConfig


@dataclass(frozen=True)
class ShortRecipe:
    """A stage of a CLIP with captions of every length.

    Args:
        first: number of the first picture of either part.
        scenes, others: number of pictures: scenes, and pictures of all kinds.
        kept: patches that training keeps of a picture with at most that many that are not blank,
            and of any other.
        whole: share of the pictures of a batch that keep all patches.
        scale: of the logits at the beginning of the stage; None: as the stage before left it.
    """

    training: Recipe
    first: int
    scenes: int
    others: int
    kept: tuple[int, int]
    whole: float = 0.0
    scale: float | None = None

    def pictures(self) -> list[tuple[str | None, range]]:
        """Kind (None: all in turn) and numbers of its pictures."""
        return [
            ("scene", range(self.first, self.first + self.scenes)),
            (None, range(self.first, self.first + self.others)),
        ]


@dataclass(frozen=True)
class CLIPRecipe:
    """A CLIP or SigLIP of the zoo.

    Args:
        synthetic_images: number of images of the synthetic world.
        captions_per_image: captions per synthetic image; the complete one is always among them.
        real_copies: how often each real image is mixed in, augmented but once.
        short: the stages after the first.
        siglip: transformers' SigLIP instead of our CLIP.
    """

    shape: CLIPConfig
    training: Recipe
    synthetic_images: int
    captions_per_image: int
    real_copies: int
    short: tuple[ShortRecipe, ...] = ()
    siglip: bool = False

    def pictures(self) -> list[tuple[str | None, range]]:
        """Kind (None: all in turn) and numbers of every picture that is trained on."""
        return [
            (None, range(self.synthetic_images)),
            *(part for stage in self.short for part in stage.pictures()),
        ]


_TRAINING = Recipe.of(
    epochs=2, batch_size=256, lr=1.5e-3, wd=0.1, warmup_steps=200, patch_dropout=0.5, ema=0.999
)
_EPOCH = Recipe.of(epochs=1, batch_size=256, lr=1e-3, wd=0.1, warmup_steps=50, ema=0.998)
# Scenes for the most part, moved and coloured for drawings of other code; then more of the other
# kinds, of which these forget a part, and whole pictures, as the model will see them.
_SHORT = (
    ShortRecipe(
        replace(_EPOCH, augment="light"),
        first=20_000_000, scenes=110_000, others=15_000, kept=(32, 72),
    ),
    ShortRecipe(
        replace(_EPOCH, augment="light"),
        first=21_000_000, scenes=100_000, others=25_000, kept=(32, 72),
    ),
    ShortRecipe(_EPOCH, first=22_000_000, scenes=60_000, others=40_000, kept=(40, 100)),
    ShortRecipe(
        replace(_EPOCH, lr=5e-4, ema=0.99),
        first=23_000_000, scenes=8_000, others=20_000, kept=(144, 144),
    ),
)  # fmt: skip
# The sigmoid loss raises the scale of its logits slowly, and similar captions are not separated
# where it is low. SigLIP's head attends to all patches, so some pictures of each batch are whole.
_SHORT_SIGLIP = (
    ShortRecipe(
        replace(_EPOCH, epochs=2, lr=1.5e-3, warmup_steps=100, augment="light", loss="sigmoid"),
        first=20_000_000, scenes=120_000, others=15_000, kept=(40, 100), whole=0.25, scale=50.0,
    ),
    ShortRecipe(
        replace(_EPOCH, loss="sigmoid"),
        first=21_000_000, scenes=90_000, others=20_000, kept=(40, 100), whole=0.3,
    ),
)  # fmt: skip


CLIPS = {
    # about 70 min on two cores; Recall@1 0.94 of 1,000 held-out pictures, short queries 98 % right
    "tiny-clip": CLIPRecipe(
        CLIPConfig(ViTConfig(96, 8, 192, 4, 3, 768), TextConfig(3000, 48, 128, 2, 2, 512), 128),
        _TRAINING,
        synthetic_images=60_000,
        captions_per_image=3,
        real_copies=2,
        short=_SHORT,
    ),
    # the stages after the first: about 60 min on two cores; Recall@1 0.83, short queries 98 % right
    "tiny-siglip": CLIPRecipe(
        CLIPConfig(
            ViTConfig(96, 8, 192, 4, 3, 640, "gelu_pytorch_tanh", 1e-6),
            TextConfig(3000, 48, 128, 2, 2, 512, "gelu_pytorch_tanh", 1e-6),
            192,
        ),
        replace(_TRAINING, loss="sigmoid"),
        synthetic_images=60_000,
        captions_per_image=3,
        real_copies=2,
        short=_SHORT_SIGLIP,
        siglip=True,
    ),
}


@dataclass(frozen=True)
class LanguageRecipe:
    """A language model of the zoo.

    Args:
        architecture: "llama" or "qwen2".
        context: tokens per training row.
        batch_size: rows per step.
        synthetic_images: number of images of the synthetic world whose texts it reads.
        real_copies: how often each real text occurs in an epoch.
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
    """A vision transformer of the zoo that is trained on images alone.

    Args:
        steps: optimiser steps.
        synthetic_images: number of images of the synthetic world, of all kinds.
        more_scenes: number of further scenes, the kind whose images differ least.
        patch_share: share of the batch whose patches are compared.
        temperature: of both contrastive losses.
        momentum: of the teacher's average at the start; one at the end.
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


@dataclass(frozen=True)
class VLMRecipe:
    """The VLM of the zoo: projector and language model are trained, the encoder is not.

    Args:
        synthetic_images: number of images of the synthetic world, with a question per language.
        real_copies: how often each real question occurs in an epoch.
    """

    encoder: str
    llm: str
    reduce: str
    synthetic_images: int = 20_000
    real_copies: int = 1
    epochs: int = 3
    batch_size: int = 32
    lr: float = 2e-3
    llm_lr: float = 1e-3
    seed: int = 0


VLMS = {
    "tiny-vlm": VLMRecipe("tiny-siglip", "tiny-llama", "pixel_shuffle:2"),
}

ZooRecipe = CLIPRecipe | SelfSupervisedRecipe | LanguageRecipe | VLMRecipe
RECIPES: dict[str, ZooRecipe] = {**CLIPS, **SELF_SUPERVISED, **LANGUAGE_MODELS, **VLMS}


def recipe_of(name: str) -> ZooRecipe:
    """The recipe of a bundled checkpoint.

    Raises:
        UsageError: there is none of that name.
    """
    if name not in RECIPES:
        raise unknown("bundled model", name, list(RECIPES), "encoderlab ls encoders")
    return RECIPES[name]


def scaled(recipe: ZooRecipe, share: float) -> ZooRecipe:
    """The recipe with `share` of the synthetic images (and steps), for a trial run."""
    images = max(1000, int(recipe.synthetic_images * share))
    if isinstance(recipe, CLIPRecipe):
        short = tuple(
            replace(stage, scenes=_some(stage.scenes, share), others=_some(stage.others, share))
            for stage in recipe.short
        )
        return replace(recipe, synthetic_images=images, short=short)
    if isinstance(recipe, SelfSupervisedRecipe):
        scenes, steps = int(recipe.more_scenes * share), max(2, int(recipe.steps * share))
        whole = images - images % len(KINDS)  # the further scenes follow the last of all kinds
        return replace(recipe, synthetic_images=whole, more_scenes=scenes, steps=steps)
    return replace(recipe, synthetic_images=images)


def _some(pictures: int, share: float) -> int:
    return max(500, int(pictures * share))
