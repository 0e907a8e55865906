"""Checks that an encoder keeps the vision contract, on noise images: needs no data and no trained
weights.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from encoderlab.encoders.vision import VisionEncoder, VisionFeatures, names_class_token, stack
from encoderlab.errors import UsageError, WorkError

# Largest relative difference of two ways to the same numbers, and of fp32 to 16 bits.
SAME = {torch.float32: 1e-4, torch.bfloat16: 5e-2, torch.float16: 1e-2}
HALF = 5e-2
STATES = {True: "ok  ", False: "FAIL", None: "n/a "}
# The promises about layer 0 and the others.
LOCAL = SHAPE, COUNT, ORDER, SPECIAL, CLS = (
    "layers have the shape of the patches",
    "layers count from 0 to n_layers",
    "patches are in reading order, without CLS and registers",
    "special tokens are the same for all images before the first block, patches are not",
    "CLS is declared where the tower has one, and given",
)


@dataclass(frozen=True)
class Finding:
    """One promise, whether it is kept (None: it does not apply), and what was measured."""

    promise: str
    kept: bool | None
    seen: str


@dataclass(frozen=True)
class Conformance:
    """All findings about one encoder."""

    encoder: str
    findings: tuple[Finding, ...]

    @property
    def kept(self) -> bool:
        """Whether all promises that apply are kept."""
        return all(finding.kept is not False for finding in self.findings)

    def __str__(self) -> str:
        lines = [f"{self.encoder}: {'conforms' if self.kept else 'does not conform'}"]
        for finding in self.findings:
            lines.append(f"  {STATES[finding.kept]} {finding.promise}: {finding.seen}")
        return "\n".join(lines)


def check(encoder: VisionEncoder, *, seed: int = 0, strict: bool = False) -> Conformance:
    """Checks the promises of the vision contract. Those about layer 0 do not apply to an adapter
    with `local_patches = False`.

    Args:
        encoder: such as one with an adapter of your own.
        seed: of the noise images.
        strict: whether a broken promise raises.

    Returns:
        One finding per promise.

    Raises:
        WorkError: a promise is broken and `strict`; the message names each one.
    """
    rng = np.random.default_rng(seed)
    height, width = encoder.preprocess.shape
    pixels = stack([rng.integers(0, 256, (height, width, 3), dtype=np.uint8) for _ in range(8)])
    try:
        features = encoder.encode_pixels(pixels, layers=(0, -1) if encoder.local_patches else ())
    except UsageError as error:
        findings: tuple[Finding, ...] = (Finding("images become tokens", False, str(error)),)
    else:
        local = (_layers, _reading_order, _special) if encoder.local_patches else (_not_local,)
        checks = (_declared, *local, _same_by_any_way, _other_picture)
        findings = tuple(f for check in checks for f in check(encoder, pixels, features))
    broken = [finding for finding in findings if finding.kept is False]
    if strict and broken:
        raise WorkError(
            f"the encoder {encoder.name} breaks {len(broken)} promises of the vision contract",
            got="; ".join(f"{finding.promise}: {finding.seen}" for finding in broken),
        )
    return Conformance(encoder.name, findings)


def _declared(
    encoder: VisionEncoder, pixels: Tensor, features: VisionFeatures
) -> Iterator[Finding]:
    h, w = features.grid
    b, n, d = features.patches.shape
    p = features.pooled.shape[-1]
    finite = all(bool(t.isfinite().all()) for t in (features.patches, features.pooled))
    named = bool(encoder.name and encoder.family and encoder.fingerprint)
    for promise, kept, seen in (
        ("grid x grid is the number of patches", n == h * w, f"{h} x {w}, {n} patches"),
        ("one row per image", b == len(pixels), f"{b} rows of {len(pixels)} images"),
        ("all features are finite", finite, "finite" if finite else "NaN or infinite"),
        ("width is as declared", d == encoder.width, f"{d}, declared {encoder.width}"),
        ("pooled width is as declared", p == encoder.pooled_width,
         f"{p}, declared {encoder.pooled_width}"),
        ("grid is as declared", (h, w) == encoder.grid, f"{(h, w)}, declared {encoder.grid}"),
        ("it has a name, a family and a fingerprint", named, encoder.family),
    ):  # fmt: skip
        yield Finding(promise, kept, seen)
    if features.cls is not None:
        nearest = (features.patches - features.cls[:, None]).abs().amax(dim=-1).min()
        yield Finding("CLS is none of the patches", bool(nearest > 0), f"nearest at {nearest:.1e}")


def _not_local(
    encoder: VisionEncoder, pixels: Tensor, features: VisionFeatures
) -> Iterator[Finding]:
    for promise in LOCAL:
        yield Finding(promise, None, "not applicable: the adapter declares local_patches = False")


def _layers(encoder: VisionEncoder, pixels: Tensor, features: VisionFeatures) -> Iterator[Finding]:
    alike = all(layer.shape == features.patches.shape for layer in features.layers.values())
    numbers = sorted(features.layers)
    yield Finding(SHAPE, alike, str(tuple(numbers)))
    yield Finding(COUNT, numbers == [0, encoder.n_layers], f"{numbers[0]} to {numbers[-1]}")


def _same_by_any_way(
    encoder: VisionEncoder, pixels: Tensor, features: VisionFeatures
) -> Iterator[Finding]:
    same = SAME[encoder.dtype]
    order = torch.arange(len(pixels)).flip(0)
    gap = _gap(encoder.encode_pixels(pixels[order]).pooled, features.pooled.flip(0))
    yield Finding("the order of a batch is kept", gap < same, f"differs by {gap:.1e}")

    alone = [encoder.encode_pixels(image[None]) for image in pixels]
    twin = copy.copy(encoder)
    twin.model = copy.deepcopy(encoder.model)
    twin.to(dtype=torch.float32 if encoder.dtype != torch.float32 else torch.bfloat16)
    other = twin.encode_pixels(pixels)
    parts: dict[str, Callable[[VisionFeatures], Tensor]] = {
        "pooled": lambda f: f.pooled,
        "patches": lambda f: f.patches,
    }
    if features.cls is not None:
        parts["CLS"] = lambda f: f.pooled if f.cls is None else f.cls
    for name, part in parts.items():
        gap = _gap(torch.cat([part(row) for row in alone]), part(features))
        promise = f"{name}: one at a time as in a batch of 8"
        yield Finding(promise, gap < same, f"differs by {gap:.1e}")
        a, b = part(features).float(), part(other).float()
        error = float((a - b).norm() / b.norm().clamp(min=1e-12))
        promise = f"{name}: full and half precision agree"
        yield Finding(promise, error < HALF, f"relative error {error:.1e}")


def _reading_order(
    encoder: VisionEncoder, pixels: Tensor, features: VisionFeatures
) -> Iterator[Finding]:
    """Checks that before the first block repainting one patch changes that token and no other."""
    (h, w), size = features.grid, encoder.patch_size
    before = features.layers[0][:1]
    wrong = []
    for index in sorted({0, w - 1, (h // 2) * w + w // 2, h * w - 1}):
        y, x = divmod(index, w)
        repainted = pixels[:1].clone()
        square = (..., slice(y * size, (y + 1) * size), slice(x * size, (x + 1) * size))
        repainted[square] = 255 - repainted[square]
        after = encoder.encode_pixels(repainted, layers=(0,)).layers[0]
        moved = ((after - before).abs().amax(dim=-1)[0] > 0).nonzero().flatten().tolist()
        if moved != [index]:
            wrong.append(f"patch {index} moves tokens {moved[:5]}")
    yield Finding(
        ORDER,
        not wrong,
        "; ".join(wrong) or "each patch moves its own token alone",
    )


def _special(encoder: VisionEncoder, pixels: Tensor, features: VisionFeatures) -> Iterator[Finding]:
    """Checks that before the first block only special tokens are equal for every image."""
    # A CLS can be told from registers by the name of its weight only.
    special, patches = features.layers_special[0], features.layers[0]
    count, declared = special.shape[1], encoder.special_tokens
    moved = (special != special[:1]).any(dim=(0, 2)).nonzero().flatten().tolist()
    still = (patches == patches[:1]).all(dim=(0, 2)).nonzero().flatten().tolist()
    yield Finding(
        SPECIAL,
        count == declared and not moved and not still,
        f"{count} special tokens, declared {declared}"
        + (f"; special tokens {moved[:5]} depend on the image" if moved else "")
        + (f"; patches {still[:5]} do not" if still else ""),
    )
    named = count == 1 or (count > 1 and names_class_token(encoder.tower))
    has, given = encoder.has_cls, features.cls is not None
    yield Finding(
        CLS,
        (not has if count == 0 else has or not named) and given == has,
        f"has_cls={has}, {count} special tokens, {'CLS' if given else 'no CLS'} in the features",
    )


def _other_picture(
    encoder: VisionEncoder, pixels: Tensor, features: VisionFeatures
) -> Iterator[Finding]:
    picture = Image.fromarray(pixels[0].permute(1, 2, 0).contiguous().numpy())
    odd = picture.resize((picture.width + 13, picture.height + 29)).convert("L")
    shape = encoder.encode([odd]).patches.shape
    fits = shape[1:] == features.patches.shape[1:]
    yield Finding("a grey picture of another size is taken", fits, f"{tuple(shape)}")


def _gap(first: Tensor, second: Tensor) -> float:
    first, second = first.float(), second.float()
    return float((first - second).abs().max() / second.abs().max().clamp(min=1e-12))
