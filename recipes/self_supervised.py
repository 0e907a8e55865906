"""Trains the bundled DINOv2 from images alone, without captions and labels.

As in DINOv2 a student predicts the output of a slowly averaged teacher for another view. Meta's
losses need more images than an hour on two cores can process; this recipe uses contrast within the
batch, for whole images (Chen et al. 2021, MoCo v3) and for patches (Wang et al. 2021, DenseCL). The
student sees half of the patches, so that it has to infer a patch from its surroundings.

Shapes: b batch, n patches, d width.
"""

from __future__ import annotations

import copy
import json
import math
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from encoderlab.contrastive.augment import Augmentation, augment
from encoderlab.contrastive.images import decode_all
from encoderlab.core.atomic_io import write_text_atomic
from encoderlab.core.progress import note, progress
from encoderlab.data.synthetic import KINDS, render_arrays
from encoderlab.encoders.hardware import choose_device, choose_dtype
from encoderlab.models.clip import Preprocess
from encoderlab.models.preprocessing import IMAGENET_MEAN, IMAGENET_STD, as_record
from encoderlab.training.optimiser import adamw, learning_rate
from recipes.real_data import SETS, read_set
from recipes.settings import SelfSupervisedRecipe

MOVE = Augmentation(shift=0.12, zoom=0.35, turn=15, colour=0.0)
TINT = Augmentation(shift=0.0, zoom=0.0, turn=0.0, colour=0.5)
PATCHES_PER_IMAGE = 8
SAVE_EVERY = 100  # steps between two saved states of an unfinished run


class Projected(nn.Module):
    """A tower with an image head and a patch head, which are used in training only."""

    def __init__(self, tower: Any, width: int) -> None:
        super().__init__()
        self.tower = tower
        self.image_head, self.patch_head = _head(width), _head(width)

    def tokens(self, pixels: Tensor, keep: Tensor | None = None) -> Tensor:
        """Normed tokens (b, 1 + kept, d); only the patches of `keep` (b, kept) enter the tower."""
        x = self.tower.embeddings(pixels)
        if keep is not None:
            index = keep.unsqueeze(-1).expand(-1, -1, x.shape[-1])
            x = torch.cat([x[:, :1], x[:, 1:].gather(1, index)], dim=1)
        return self.tower.layernorm(self.tower.encoder(x).last_hidden_state)


def _head(width: int, hidden: int = 512, out: int = 128) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(width, hidden, bias=False),
        nn.BatchNorm1d(hidden),
        nn.GELU(),
        nn.Linear(hidden, out, bias=False),
    )


def train_self_supervised(
    name: str, recipe: SelfSupervisedRecipe, root: Path | None, folder: Path
) -> Path:
    """Trains and exports; returns the exported folder."""
    size = recipe.image_size
    preprocess = Preprocess(size, "squash", IMAGENET_MEAN, IMAGENET_STD)
    first, last = recipe.synthetic_images, recipe.synthetic_images + len(KINDS) * recipe.more_scenes
    numbers = [*range(first), *range(first, last, len(KINDS))]
    assert KINDS[numbers[-1] % len(KINDS)] == "scene" or not recipe.more_scenes
    images = render_arrays(numbers, split="train", size=size, processes=2).pixels
    images = images.transpose(0, 3, 1, 2)
    if root is not None:
        samples = [s for data in SETS for s in read_set(data, root, "train", ("en", "ko"))]
        checked = decode_all(samples, preprocess, "real train images")
        assert checked.pixels is not None
        images = np.concatenate([images, checked.pixels])
    torch.manual_seed(recipe.seed)
    tower = build(recipe)
    device = choose_device()
    dtype = choose_dtype("auto", device)
    student = Projected(tower, recipe.width).to(device)
    teacher = copy.deepcopy(student).requires_grad_(False)
    predictor = nn.ModuleDict({"image": _head(128), "patch": _head(128)}).to(device)
    both = nn.ModuleList([student, predictor])
    optimiser = adamw(both, recipe.lr, recipe.wd)
    note(
        f"{name}: {sum(p.numel() for p in tower.parameters()) / 1e6:.2f} M parameters, "
        f"{len(images):,} pictures, {recipe.steps:,} steps of {recipe.batch_size}"
    )
    rng = np.random.default_rng(recipe.seed)
    started = time.perf_counter()
    with progress("training", total=recipe.steps * recipe.batch_size, unit="image") as bar:
        for step in range(recipe.steps):
            lr = learning_rate(step, recipe.lr, recipe.warmup_steps, recipe.steps)
            for group in optimiser.param_groups:
                group["lr"] = lr
            rows = np.sort(rng.choice(len(images), recipe.batch_size, replace=False))
            raw = torch.from_numpy(images[rows]).to(device).float()
            with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
                image_loss, patch_loss = losses(
                    student, teacher, predictor, raw, recipe, preprocess
                )
            optimiser.zero_grad()
            (image_loss + recipe.patch_weight * patch_loss).backward()
            torch.nn.utils.clip_grad_norm_(both.parameters(), 1.0)
            optimiser.step()
            # The momentum rises to one along a cosine (Grill et al. 2020, BYOL).
            weight = (1 - recipe.momentum) * 0.5 * (1 + math.cos(math.pi * step / recipe.steps))
            with torch.no_grad():
                for slow, fast in zip(teacher.parameters(), student.parameters(), strict=True):
                    slow.lerp_(fast, weight)
            if (step + 1) % SAVE_EVERY == 0:
                tower = copy.deepcopy(teacher.tower)
                save(tower, preprocess, step + 1, folder / f"{name}-unfinished")
            values = f"image loss {image_loss.item():.3f}, patch loss {patch_loss.item():.3f}"
            bar.advance(recipe.batch_size, values)
    seconds = time.perf_counter() - started
    note(f"{name}: {seconds:.0f} s, {recipe.steps * recipe.batch_size / seconds:.0f} images/s")
    return save(teacher.tower, preprocess, recipe.steps, folder / name)


def build(recipe: SelfSupervisedRecipe) -> Any:
    """The untrained Dinov2Model of a recipe."""
    from transformers import Dinov2Config, Dinov2Model

    config = Dinov2Config(
        hidden_size=recipe.width,
        num_hidden_layers=recipe.layers,
        num_attention_heads=recipe.heads,
        mlp_ratio=recipe.mlp_ratio,
        image_size=recipe.image_size,
        patch_size=recipe.patch_size,
    )
    tower = Dinov2Model(config)
    # In the backward pass in bf16 on a CPU, eager attention is faster than the fused kernel.
    tower.set_attn_implementation("eager")
    return tower


def losses(
    student: Projected,
    teacher: Projected,
    predictor: nn.ModuleDict,
    raw: Tensor,
    recipe: SelfSupervisedRecipe,
    preprocess: Preprocess,
) -> tuple[Tensor, Tensor]:
    """(loss of whole images, loss of patches) for a batch of bytes as floats (b, 3, s, s)."""
    b = len(raw)
    with_patches = max(1, int(b * recipe.patch_share))
    moved = augment(raw, MOVE)
    first = preprocess.standardise(_tinted(moved))
    other = preprocess.standardise(_tinted(augment(raw, MOVE)))
    # Same crop, other colours: patches correspond one to one.
    recoloured = preprocess.standardise(_tinted(moved[:with_patches]))
    n = (recipe.image_size // recipe.patch_size) ** 2
    kept = max(PATCHES_PER_IMAGE, round(n * (1 - recipe.patch_dropout)))
    keep = torch.rand(b, n, device=raw.device).argsort(dim=1)[:, :kept]
    tokens = student.tokens(first, keep)
    chosen = torch.rand(with_patches, kept, device=raw.device).argsort(dim=1)[:, :PATCHES_PER_IMAGE]
    patches = _pick(tokens[:with_patches, 1:], chosen).flatten(0, 1)
    with torch.no_grad():
        image_target = teacher.image_head(teacher.tokens(other)[:, 0])
        teacher_patches = teacher.tokens(recoloured)[:, 1:]
        index = keep[:with_patches].gather(1, chosen)
        patch_target = teacher.patch_head(_pick(teacher_patches, index).flatten(0, 1))
    image_guess = predictor["image"](student.image_head(tokens[:, 0]))
    patch_guess = predictor["patch"](student.patch_head(patches))
    return (
        _contrast(image_guess, image_target, recipe.temperature),
        _contrast(patch_guess, patch_target, recipe.temperature),
    )


def _contrast(guess: Tensor, target: Tensor, temperature: float) -> Tensor:
    """InfoNCE: each guess against the targets of the batch (van den Oord et al. 2018)."""
    with torch.autocast(guess.device.type, enabled=False):
        guess, target = F.normalize(guess.float(), dim=-1), F.normalize(target.float(), dim=-1)
        own = torch.arange(len(guess), device=guess.device)
        return F.cross_entropy(guess @ target.T / temperature, own)


def _pick(tokens: Tensor, index: Tensor) -> Tensor:
    return tokens.gather(1, index.unsqueeze(-1).expand(-1, -1, tokens.shape[-1]))


def _tinted(pixels: Tensor) -> Tensor:
    """Changes brightness, contrast and saturation, permutes the channels of half of the images and
    makes a fifth grey, so that the model relies on shape and not on colour."""
    b = len(pixels)
    pixels = augment(pixels, TINT)
    order = torch.rand(b, 3, device=pixels.device).argsort(dim=1)
    plain = torch.rand(b, 1, device=pixels.device) < 0.5
    order = torch.where(plain, torch.arange(3, device=pixels.device), order)
    pixels = pixels.gather(1, order.view(b, 3, 1, 1).expand_as(pixels))
    grey = pixels.mean(dim=1, keepdim=True).expand_as(pixels)
    return torch.where(torch.rand(b, 1, 1, 1, device=pixels.device) < 0.2, grey, pixels)


def save(tower: Any, preprocess: Preprocess, steps: int, out: Path) -> Path:
    """Writes a Hugging Face Dinov2Model folder in fp16."""
    tower.config.encoderlab = {"trained_steps": steps}
    tower.half().save_pretrained(out)
    record = as_record(preprocess, "Bit")
    write_text_atomic(out / "preprocessor_config.json", json.dumps(record, indent=2) + "\n")
    return out
