"""Speed of each encoder, and its share of what the device can do."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from encoderlab.alignment.data import check_names
from encoderlab.alignment.settings import Speed
from encoderlab.core.results import Block, Result, Table
from encoderlab.core.spec import takes
from encoderlab.errors import UsageError

if TYPE_CHECKING:
    from encoderlab.encoders.compile import BackendTrial
    from encoderlab.encoders.vision import VisionEncoder

WARM_UPS, TIMED = 3, 10


@dataclass(frozen=True)
class Timed:
    """One encoder at one batch size.

    Args:
        latency_ms: mean, sd, p50 and p95 of a forward pass of the batch.
        images_per_s: at the median.
        peak_memory_mb: weights and what a pass needs above the idle process; None where the system
            does not say.
        gflop_per_image: multiplications and additions of the matrix products of one image.
        peak_share: of the device's measured matrix product.
        undefined: why there are no times, such as too little memory.
        ran_in: the number format, and the backend where it is not torch.
    """

    encoder: str
    batch_size: int
    latency_ms: dict[str, float]
    images_per_s: float | None
    peak_memory_mb: float | None
    gflop_per_image: float
    peak_share: float | None
    load_seconds: float
    parameters: int
    undefined: str | None = None
    ran_in: str = "float32"


@dataclass(frozen=True)
class SpeedResult(Result):
    """Every encoder at every batch size, on this device."""

    draw: ClassVar = "encoderlab.alignment.plots.speed:speed"
    records: ClassVar = "rows"

    rows: tuple[Timed, ...]
    device: str
    dtype: str
    peak_tflops: float
    fingerprints: dict[str, str]
    figures: tuple[dict[str, str], ...] = ()
    backend_trials: tuple[BackendTrial, ...] = ()
    warnings: tuple[str, ...] = field(default=(), metadata={"json": False})

    def blocks(self) -> list[Block]:
        """One row per encoder and batch size."""
        columns = (
            "encoder", "batch", "ran in", "p50 ms", "p95 ms", "mean ± sd ms", "images/s", "of peak",
            "memory MB", "GFLOP/image", "load s",
        )  # fmt: skip
        rows: list[tuple[str, ...]] = []
        for row in self.rows:
            head = (row.encoder, str(row.batch_size), row.ran_in)
            if row.undefined:
                rows.append((*head, row.undefined, *["-"] * 7))
                continue
            t = row.latency_ms
            rows.append(
                (
                    *head, f"{t['p50']:.1f}", f"{t['p95']:.1f}",
                    f"{t['mean']:.1f} ± {t['sd']:.1f}", f"{row.images_per_s:,.0f}",
                    f"{100 * (row.peak_share or 0):.0f} %",
                    "-" if row.peak_memory_mb is None else f"{row.peak_memory_mb:,.0f}",
                    f"{row.gflop_per_image:.3f}", f"{row.load_seconds:.2f}",
                )
            )  # fmt: skip
        about = (
            f"{self.device}, {self.dtype}; matrix peak measured now: {self.peak_tflops:.2f} "
            f"TFLOP/s; {WARM_UPS} passes to warm up, {TIMED} timed"
        )
        return [
            Table(columns, tuple(rows)),
            about,
            *(trial.sentence() for trial in self.backend_trials),
        ]


@takes(Speed)
def run(settings: Speed, out: Path | None = None) -> SpeedResult:
    """Times each encoder on random pixels; writes the dashboard to `out` if given.

    Returns:
        Milliseconds, images/s, share of the peak and memory of each encoder and batch size.

    Raises:
        MissingError: a model or the GPU is not there.
        UsageError: an encoder twice, or a batch size that is not positive.
    """
    import torch

    from encoderlab.core.progress import progress
    from encoderlab.encoders.compile import AUTO, TORCH
    from encoderlab.encoders.hardware import matrix_peak
    from encoderlab.encoders.loading import prepare_for_inference
    from encoderlab.encoders.model_cache import without_cache
    from encoderlab.encoders.vision import load_vision
    from encoderlab.plots.style import save

    check_names("encoder", settings.encoders)
    sizes = list(dict.fromkeys(settings.batch_sizes))
    if not sizes or min(sizes) < 1:
        raise UsageError("batch sizes must be positive", got=list(settings.batch_sizes))
    torch.manual_seed(settings.seed)
    prepare_for_inference()
    rows: list[Timed] = []
    prints, where = {}, ("cpu", "float32")
    peaks: dict[torch.dtype, float] = {}
    trials: list[BackendTrial] = []
    encoder: VisionEncoder | None
    load = partial(
        load_vision,
        device=settings.device,
        dtype=settings.dtype,
        trust_remote_code=settings.trust_remote_code,
    )
    for name in settings.encoders if settings.backend == AUTO else ():
        # Chosen once, at the largest batch.
        trial = load(name, backend=AUTO, batch_size=max(sizes)).trial
        assert trial is not None
        trials.append(trial)
    chosen = {trial.encoder: trial.chosen for trial in trials}
    total = len(settings.encoders) * len(sizes)
    with progress("timing encoders", total=total, unit="batch size") as bar:
        for name in settings.encoders:
            used = chosen.get(name, settings.backend)
            for size in sizes:
                if size == sizes[0] or used != TORCH:
                    # A forward is compiled for one size of batch.
                    encoder = None
                    started = time.perf_counter()
                    with without_cache():
                        encoder = load(name, backend=used, batch_size=size)
                    load_seconds = time.perf_counter() - started
                    prints[name], where = encoder.fingerprint, encoder.where
                    if encoder.dtype not in peaks:
                        peaks[encoder.dtype] = matrix_peak(encoder.device, encoder.dtype)
                    work = operations(encoder)
                assert encoder is not None
                rows.append(_time(encoder, size, work, peaks[encoder.dtype], load_seconds))
                bar.advance()
            del encoder
    peak = max(peaks.values(), default=0.0)
    result = SpeedResult(tuple(rows), *where, peak / 1e12, prints, backend_trials=tuple(trials))
    if out is not None and any(row.undefined is None for row in rows):
        result = replace(result, figures=save(result.figure_records(), out, svg=settings.svg))
    return result


def operations(encoder: VisionEncoder) -> float:
    """Multiplications and additions in the matrix products of one image, as torch counts them."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    ready = encoder.preprocess.standardise(_pixels(encoder, 1).to(encoder.device))
    # Fused attention kernels are not all counted, nor is a compiled forward; plain attention is.
    counter = FlopCounterMode(display=False)
    with torch.inference_mode(), encoder.eager_attention(), counter:
        encoder.image_side()(ready.to(encoder.dtype))
    return float(counter.get_total_flops())


def _time(
    encoder: VisionEncoder, size: int, work: float, peak: float, load_seconds: float
) -> Timed:
    import numpy as np
    import torch

    from encoderlab.encoders.hardware import PeakMemory, synchronize

    parameters = list(encoder.tower.parameters())
    row = partial(
        Timed,
        encoder.name,
        size,
        gflop_per_image=work / 1e9,
        load_seconds=load_seconds,
        parameters=sum(p.numel() for p in parameters),
        ran_in=encoder.ran_in,
    )
    try:
        pixels = _pixels(encoder, size)
        with PeakMemory(encoder.device) as memory:
            encoder.encode_pixels(pixels)
            synchronize(encoder.device)
        for _ in range(WARM_UPS - 1):
            encoder.encode_pixels(pixels)
        times = []
        for _ in range(TIMED):
            synchronize(encoder.device)
            started = time.perf_counter()
            encoder.encode_pixels(pixels)
            synchronize(encoder.device)
            times.append(time.perf_counter() - started)
    except (torch.OutOfMemoryError, MemoryError):
        return row({}, None, None, peak_share=None, undefined="out of memory")
    ms = 1000 * np.array(times)
    p50, p95 = np.percentile(ms, (50, 95)).tolist()
    latency = {"mean": float(ms.mean()), "sd": float(ms.std(ddof=1)), "p50": p50, "p95": p95}
    needed = None
    # The memory of a compiled forward beside torch's weights is not known.
    if memory.bytes is not None and encoder.backend is None:
        weights = sum(p.numel() * p.element_size() for p in parameters)
        needed = (weights + memory.bytes) / 1e6
    images_per_s = 1000 * size / p50
    return row(latency, images_per_s, needed, peak_share=images_per_s * work / peak)


def _pixels(encoder: VisionEncoder, size: int) -> Any:
    import torch

    return torch.randint(0, 256, (size, 3, *encoder.preprocess.shape), dtype=torch.uint8)
