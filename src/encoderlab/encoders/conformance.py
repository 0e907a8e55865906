"""Does an encoder keep the promises that everything here builds on? Run it on your own adapter.

`encoderlab.encoders.check(encoder)` looks at noise pictures only: it needs no data and no weights
that mean anything.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from encoderlab.encoders.vision import (
    VisionEncoder,
    VisionFeatures,
    names_class_token,
    stack,
)
from encoderlab.errors import UsageError, WorkError

# Largest relative difference of two ways to the same numbers.
SAME = {torch.float32: 1e-4, torch.bfloat16: 5e-2, torch.float16: 1e-2}
HALF = 5e-2


@dataclass(frozen=True)
class Finding:
    """One promise, whether it was kept, and what was seen."""

    promise: str
    kept: bool
    seen: str


@dataclass(frozen=True)
class Conformance:
    """All findings about one encoder."""

    encoder: str
    findings: tuple[Finding, ...]

    @property
    def kept(self) -> bool:
        """Whether every promise was."""
        return all(finding.kept for finding in self.findings)

    def __str__(self) -> str:
        lines = [f"{self.encoder}: {'conforms' if self.kept else 'does not conform'}"]
        for one in self.findings:
            lines.append(f"  {'ok  ' if one.kept else 'FAIL'} {one.promise}: {one.seen}")
        return "\n".join(lines)


def check(encoder: VisionEncoder, *, seed: int = 0, strict: bool = True) -> Conformance:
    """Checks the promises of the vision contract.

    Args:
        strict: raise where a promise is broken, rather than only say so.

    Raises:
        WorkError: a promise is broken; the message names each one.
    """
    rng = np.random.default_rng(seed)
    height, width = encoder.preprocess.shape
    pixels = stack([rng.integers(0, 256, (height, width, 3), dtype=np.uint8) for _ in range(8)])
    try:
        whole = encoder.encode_pixels(pixels, layers=(0, -1))
    except UsageError as error:
        findings: tuple[Finding, ...] = (Finding("images become tokens", False, str(error)),)
    else:
        looks = (_shapes, _names, _order, _batches, _places, _special, _apart, _half, _pictures)
        findings = tuple(f for look in looks for f in look(encoder, pixels, whole))
    found = Conformance(encoder.name, findings)
    if strict and not found.kept:
        broken = [one for one in findings if not one.kept]
        raise WorkError(
            f"the encoder {encoder.name} breaks {len(broken)} promises of the vision contract",
            got="; ".join(f"{one.promise}: {one.seen}" for one in broken),
        )
    return found


def _shapes(encoder: VisionEncoder, pixels: Tensor, seen: VisionFeatures) -> Iterator[Finding]:
    h, w = seen.grid
    b, n, d = seen.patches.shape
    yield Finding("grid x grid is the number of patches", n == h * w, f"{h} x {w}, {n} patches")
    yield Finding("one row per image", b == len(pixels), f"{b} rows of {len(pixels)} images")
    finite = all(bool(t.isfinite().all()) for t in (seen.patches, seen.pooled))
    yield Finding("all features are finite", finite, "finite" if finite else "NaN or infinite")
    alike = all(layer.shape == (b, n, d) for layer in seen.layers.values())
    yield Finding("layers have the shape of the patches", alike, str(tuple(seen.layers)))


def _names(encoder: VisionEncoder, pixels: Tensor, seen: VisionFeatures) -> Iterator[Finding]:
    d, p = seen.patches.shape[-1], seen.pooled.shape[-1]
    yield Finding("width is as declared", d == encoder.width, f"{d}, declared {encoder.width}")
    yield Finding(
        "pooled width is as declared", p == encoder.pooled_width, f"{p}, declared "
        f"{encoder.pooled_width}",
    )  # fmt: skip
    yield Finding(
        "grid is as declared", seen.grid == encoder.grid, f"{seen.grid}, declared {encoder.grid}"
    )
    named = bool(encoder.name and encoder.family and encoder.fingerprint)
    yield Finding("it has a name, a family and a fingerprint", named, encoder.family)
    first, last = sorted(seen.layers)
    yield Finding(
        "layers count from 0 to n_layers",
        (first, last) == (0, encoder.n_layers),
        f"{first} to {last}",
    )


def _order(encoder: VisionEncoder, pixels: Tensor, seen: VisionFeatures) -> Iterator[Finding]:
    order = torch.arange(len(pixels)).flip(0)
    other = encoder.encode_pixels(pixels[order])
    gap = _gap(other.pooled, seen.pooled[order.to(seen.pooled.device)])
    yield Finding("the order of a batch is kept", gap < _same(encoder), f"differs by {gap:.1e}")


def _batches(encoder: VisionEncoder, pixels: Tensor, seen: VisionFeatures) -> Iterator[Finding]:
    single = [encoder.encode_pixels(one[None]) for one in pixels]
    for name, pick in _parts(seen):
        gap = _gap(torch.cat([pick(one) for one in single]), pick(seen))
        yield Finding(
            f"{name}: one at a time as in a batch of 8",
            gap < _same(encoder),
            f"differs by {gap:.1e}",
        )


def _places(encoder: VisionEncoder, pixels: Tensor, seen: VisionFeatures) -> Iterator[Finding]:
    """Before the first block a token knows its own patch only: repainting one patch must move that
    token and no other. So patches are in reading order, and no special token is among them."""
    (h, w), size = seen.grid, encoder.patch_size
    before = seen.layers[0][:1]
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
        "patches are in reading order, without CLS and registers",
        not wrong,
        "; ".join(wrong) or "each patch moves its own token alone",
    )


def _special(encoder: VisionEncoder, pixels: Tensor, seen: VisionFeatures) -> Iterator[Finding]:
    """Before the first block special tokens are the tower's own weights, the same for every image,
    and patches are not. Of a CLS more cannot be seen than that there is a weight called so."""
    special, patches = seen.layers_special[0], seen.layers[0]
    count, declared = special.shape[1], encoder.special_tokens
    moved = (special != special[:1]).any(dim=(0, 2)).nonzero().flatten().tolist()
    still = (patches == patches[:1]).all(dim=(0, 2)).nonzero().flatten().tolist()
    yield Finding(
        "special tokens are the same for all images before the first block, patches are not",
        count == declared and not moved and not still,
        f"{count} special tokens, declared {declared}"
        + (f"; special tokens {moved[:5]} depend on the image" if moved else "")
        + (f"; patches {still[:5]} do not" if still else ""),
    )
    named = count == 1 or (count > 1 and names_class_token(encoder.tower))
    has = encoder.has_cls
    yield Finding(
        "CLS is declared where the tower has one, and given",
        (not has if count == 0 else has or not named) and (seen.cls is not None) == has,
        f"has_cls={has}, {count} special tokens, "
        f"{'CLS' if seen.cls is not None else 'no CLS'} in the features",
    )


def _apart(encoder: VisionEncoder, pixels: Tensor, seen: VisionFeatures) -> Iterator[Finding]:
    if seen.cls is None:
        return
    nearest = (seen.patches - seen.cls[:, None]).abs().amax(dim=-1).min()
    yield Finding("CLS is none of the patches", bool(nearest > 0), f"nearest at {nearest:.1e}")


def _half(encoder: VisionEncoder, pixels: Tensor, seen: VisionFeatures) -> Iterator[Finding]:
    other = torch.float32 if encoder.dtype != torch.float32 else torch.bfloat16
    twin = copy.copy(encoder)
    twin.tower = copy.deepcopy(encoder.tower)
    twin.to(dtype=other)
    again = twin.encode_pixels(pixels)
    for name, pick in _parts(seen):
        a, b = pick(seen).float(), pick(again).float()
        error = float((a - b).norm() / b.norm().clamp(min=1e-12))
        yield Finding(
            f"{name}: full and half precision agree", error < HALF, f"relative error {error:.1e}"
        )


def _pictures(encoder: VisionEncoder, pixels: Tensor, seen: VisionFeatures) -> Iterator[Finding]:
    picture = Image.fromarray(pixels[0].permute(1, 2, 0).contiguous().numpy())
    odd = picture.resize((picture.width + 13, picture.height + 29)).convert("L")
    features = encoder.encode([odd])
    fits = features.patches.shape[1:] == seen.patches.shape[1:]
    yield Finding(
        "a grey picture of another size is taken", fits, f"{tuple(features.patches.shape)}"
    )


def _parts(seen: VisionFeatures) -> list[tuple[str, Callable[[VisionFeatures], Tensor]]]:
    parts: list[tuple[str, Callable[[VisionFeatures], Tensor]]] = [
        ("pooled", lambda f: f.pooled),
        ("patches", lambda f: f.patches),
    ]
    if seen.cls is not None:
        parts.append(("CLS", lambda f: f.cls if f.cls is not None else f.pooled))
    return parts


def _same(encoder: VisionEncoder) -> float:
    return SAME[encoder.dtype]


def _gap(first: Tensor, second: Tensor) -> float:
    first, second = first.float(), second.float()
    return float((first - second).abs().max() / second.abs().max().clamp(min=1e-12))
