"""Which backend is fastest here and still the same encoder: all of them, in turns, on one batch."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from encoderlab.core.progress import progress
from encoderlab.encoders.backends.contract import (
    BACKENDS,
    TORCH,
    Backend,
    ImageSide,
    Run,
    backend_called,
)
from encoderlab.encoders.backends.parity import LEAST_COSINE, Parity, ParityReport, Tried
from encoderlab.encoders.hardware import device_name, synchronize
from encoderlab.errors import EncoderLabError
from encoderlab.models.clip import Preprocess

# Different pictures; a larger batch repeats them.
PICTURES = 32
# A CPU is as fast at 32 images as at more, and the probe is shorter.
LARGEST_ON_CPU = 32
# Others than torch take seconds or minutes to build in every run.
WORTH_BUILDING = 1.05
TURNS, TURNS_OF_SLOW_ONES, SLOW_SECONDS = 7, 3, 2.0


class Probed(Protocol):
    """What is needed of an encoder, whether of images alone or of images and text."""

    name: str
    fingerprint: str
    device: torch.device
    preprocess: Preprocess

    def image_side(self) -> ImageSide:
        """Its plain forward, in the number format that it is in."""
        ...

    def to(self, *, device: torch.device | None = None, dtype: torch.dtype | None = None) -> None:
        """Moves it to another number format."""
        ...


def probe(
    encoder: Probed,
    dtype: torch.dtype,
    free: bool,
    batch: int,
    kinds: Sequence[Backend] | None = None,
) -> ParityReport:
    """Builds, checks and times every backend that can run here.

    Args:
        encoder: in fp32; it is left in whichever format came last.
        dtype: the number format that torch runs in; `free` says that nobody asked for it.
        batch: images at once.
        kinds: the backends; torch is among them, and all are compared with it.
    """
    device = encoder.device
    size = min(batch, LARGEST_ON_CPU) if device.type == "cpu" else batch
    pixels = pictures(encoder.preprocess, size, device)
    some = pixels[:PICTURES]
    reference = answer(encoder.image_side(), some)
    found: dict[str, Tried] = {}
    ready: dict[str, Run] = {}
    kinds = [backend_called(name) for name in BACKENDS] if kinds is None else list(kinds)
    with progress("trying backends", total=len(kinds) + 1, unit="step") as bar:
        # First those that read fp32: the others run the module in its own format.
        for kind in sorted(kinds, key=lambda kind: not kind.copies):
            number = kind.format(dtype, free)
            if not kind.copies:
                encoder.to(dtype=number)
            bar.advance(0, kind.name)
            found[kind.name], run = _try(kind, encoder, number, size, some, reference)
            if run is not None:
                ready[kind.name] = run
            bar.advance()
        found |= _timed(ready, pixels, found)
        bar.advance(text="timed")
    return ParityReport(
        encoder.name,
        f"{device} ({device_name(device)})",
        size,
        tuple(found[kind.name] for kind in kinds),
        fastest(found.values()),
        datetime.now(UTC).isoformat(timespec="seconds"),
    )


def fastest(rows: Iterable[Tried]) -> str:
    """The backend to take: the fastest that was not left out; torch, where that is hardly
    faster."""
    usable = [row for row in rows if row.left_out is None and row.ratio is not None]
    best = max(usable, key=lambda row: row.ratio or 0.0, default=None)
    return best.backend if best is not None and (best.ratio or 0.0) >= WORTH_BUILDING else TORCH


@torch.inference_mode()  # tensors of another mode would be compiled for once more
def pictures(preprocess: Preprocess, count: int, device: torch.device) -> Tensor:
    """Standardised pixels of drawn pictures, the same each time: scenes, charts, tables, text."""
    from encoderlab.data.synthetic import generate

    distinct = [
        preprocess.to_bytes(generate(i, split="test").image) for i in range(min(count, PICTURES))
    ]
    bytes_ = torch.from_numpy(np.stack(distinct)).permute(0, 3, 1, 2)
    rows = torch.arange(count) % len(distinct)
    return preprocess.standardise(bytes_.to(device)).contiguous()[rows.to(device)]


@torch.inference_mode()
def answer(run: Run, pixels: Tensor) -> tuple[Tensor, ...]:
    """What a run makes of the pixels, as every use of it is: without gradients, and waited for."""
    found = run(pixels)
    synchronize(pixels.device)
    return found


def _try(
    kind: Backend,
    encoder: Probed,
    dtype: torch.dtype,
    batch: int,
    pixels: Tensor,
    reference: tuple[Tensor, ...],
) -> tuple[Tried, Run | None]:
    """One backend's row without its speed, and the backend itself where it may be chosen."""
    number = str(dtype).removeprefix("torch.")
    refused = kind.refusal(encoder.device, dtype)
    if refused is not None:
        return Tried(kind.name, number, left_out=refused.what), None
    started = time.perf_counter()
    try:
        run = kind.build(encoder.image_side(), dtype, batch)
        outputs = answer(run, pixels)
    except EncoderLabError as error:
        return Tried(kind.name, number, left_out=f"{error.what}; {error.hint}"), None
    except Exception as error:  # a compiler or a runtime of others: it is left out, aloud
        lines = str(error).strip().splitlines() or [type(error).__name__]
        return Tried(kind.name, number, left_out=f"it failed: {lines[0][:160]}"), None
    seconds = time.perf_counter() - started
    parity = Parity.between(outputs, reference)
    left_out = None if parity.kept else f"smallest cosine is under {LEAST_COSINE}"
    row = Tried(
        kind.name, number, None, None, parity.cosine, parity.difference, seconds, left_out
    )  # fmt: skip
    return row, run if parity.kept else None


def _timed(ready: dict[str, Run], pixels: Tensor, found: dict[str, Tried]) -> dict[str, Tried]:
    """The rows with their speeds. In turns: what else the machine does meets all of them alike."""
    seconds: dict[str, list[float]] = {name: [] for name in ready}
    turns = TURNS
    for turn in range(TURNS):
        for name, run in ready.items():
            started = time.perf_counter()
            answer(run, pixels)
            seconds[name].append(time.perf_counter() - started)
        if turn == 0 and ready and max(one[0] for one in seconds.values()) > SLOW_SECONDS:
            turns = TURNS_OF_SLOW_ONES
        if turn + 1 == turns:
            break
    rows = {}
    for name, spent in seconds.items():
        # Torch alone may be left out itself, such as by too little memory: then none is chosen.
        ratio = None
        if TORCH in seconds:
            ratio = float(np.median(np.divide(seconds[TORCH], spent)))
        rows[name] = replace(
            found[name], images_per_s=len(pixels) / float(np.median(spent)), ratio=ratio
        )
    return rows
