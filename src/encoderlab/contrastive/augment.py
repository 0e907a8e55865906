"""Random affine and colour changes to a batch of training images, on any device.

Never mirrors: a caption that says "left" would become wrong.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from encoderlab.errors import unknown


@dataclass(frozen=True)
class Augmentation:
    """The largest changes to an image.

    Args:
        shift: largest translation, as a share of the side.
        zoom: largest change of scale, as a factor minus one, either way.
        turn: largest rotation, in degrees.
        colour: largest change of brightness, contrast and saturation, as a factor minus one.
    """

    shift: float
    zoom: float
    turn: float
    colour: float


STRENGTHS: dict[str, Augmentation | None] = {
    "none": None,
    "light": Augmentation(shift=0.06, zoom=0.12, turn=5, colour=0.15),
    "strong": Augmentation(shift=0.12, zoom=0.3, turn=15, colour=0.4),
}


def strength(name: str) -> Augmentation | None:
    """The augmentation called `name`; None means none."""
    if name not in STRENGTHS:
        raise unknown("augmentation", name, list(STRENGTHS), "encoderlab train --help")
    return STRENGTHS[name]


def augment(
    pixels: Float[Tensor, "b 3 h w"], how: Augmentation, generator: torch.Generator | None = None
) -> Float[Tensor, "b 3 h w"]:
    """Changes each image independently. Borders are replicated, so a white background stays white.

    Args:
        pixels: values in [0, 255].
        how: the largest changes.
        generator: of the random numbers, on the CPU; None uses torch's global one.

    Returns:
        The changed images, values in [0, 255].
    """
    b, device = len(pixels), pixels.device

    def uniform(limit: float) -> Tensor:
        return (torch.rand(b, generator=generator).to(device) * 2 - 1) * limit

    angle = uniform(math.radians(how.turn))
    scale = torch.exp(uniform(math.log1p(how.zoom)))
    cos, sin = torch.cos(angle) * scale, torch.sin(angle) * scale
    affine = torch.stack(
        [
            torch.stack([cos, -sin, uniform(2 * how.shift)], dim=1),
            torch.stack([sin, cos, uniform(2 * how.shift)], dim=1),
        ],
        dim=1,
    )
    grid = F.affine_grid(affine, list(pixels.shape), align_corners=False)
    moved = F.grid_sample(pixels, grid, padding_mode="border", align_corners=False)

    def factor() -> Tensor:
        return (1 + uniform(how.colour)).view(b, 1, 1, 1)

    grey = moved.mean(dim=1, keepdim=True)
    coloured = grey + (moved - grey) * factor()
    middle = coloured.mean(dim=(1, 2, 3), keepdim=True)
    contrasted = middle + (coloured - middle) * factor()
    return (contrasted * factor()).clamp(0, 255)
