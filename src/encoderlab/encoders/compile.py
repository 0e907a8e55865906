"""Compiled torch for the plain forward of an encoder, checked against torch. Knows no family.

The plain forward takes standardised pixels to the tokens and the vector of each image. Hidden
layers, attention, text and gradients always go through torch.

Shapes: b batch, (h, w) pixels, n tokens, d width, p width of the vector of an image.
"""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from encoderlab.core.common_settings import BACKENDS
from encoderlab.core.progress import note
from encoderlab.encoders.encoder import CompiledImageSide, ImageEncoder, Run, stack
from encoderlab.encoders.hardware import choose_device, choose_dtype, device_name, synchronize
from encoderlab.encoders.model_cache import without_cache
from encoderlab.errors import MissingError, UsageError, WorkError, unknown
from encoderlab.models.clip import Preprocess

TORCH, COMPILE, AUTO = BACKENDS
# The least cosine between the vectors of an image, compiled and by torch in fp32.
LEAST_COSINE = 0.999
# The least gain: compiling takes up to a minute in every run.
WORTH_COMPILING = 1.05
# Distinct images of a trial (a larger batch repeats them), and those of the parity check.
PICTURES, CHECKED_ON = 32, 8
# A CPU gains nothing from larger batches, and the trial is shorter.
LARGEST_ON_CPU = 32
TURNS, TURNS_OF_SLOW_ONES, SLOW_SECONDS = 7, 3, 2.0

AnyEncoder = TypeVar("AnyEncoder", bound=ImageEncoder)


@dataclass(frozen=True)
class BackendTrial:
    """Compiled torch against torch on the same images of one encoder, timed in turns.

    Args:
        encoder: its name.
        device: where it ran, and the processor's name.
        batch: images at once.
        dtype: the number format of both.
        torch_images_per_s: at the median of the turns; None where nothing was timed.
        compile_images_per_s: the same, compiled.
        ratio: the median, over the turns, of the compiled speed against torch's in the same turn.
        cosine: the smallest between the vectors of an image, compiled and by torch in fp32.
        difference: the largest between two numbers of their tokens (of the vectors, where an
            encoder gives those alone).
        build_seconds: from the loaded weights to the first answer.
        left_out: why compiled torch cannot be chosen; None where it can.
    """

    encoder: str
    device: str
    batch: int
    dtype: str
    torch_images_per_s: float | None = None
    compile_images_per_s: float | None = None
    ratio: float | None = None
    cosine: float | None = None
    difference: float | None = None
    build_seconds: float | None = None
    left_out: str | None = None

    @property
    def chosen(self) -> str:
        """The faster of the two; torch, where compiled torch is hardly faster or was left out."""
        faster = self.left_out is None and (self.ratio or 0.0) >= WORTH_COMPILING
        return COMPILE if faster else TORCH

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {**asdict(self), "chosen": self.chosen}

    def sentence(self) -> str:
        """The choice and its reason, in one line."""
        if self.left_out is not None:
            reason = f"compile left out: {self.left_out}"
        else:
            reason = (
                f"compile {self.ratio:.2f} x torch, {self.compile_images_per_s:,.1f} against "
                f"{self.torch_images_per_s:,.1f} images/s in batches of {self.batch} in "
                f"{self.dtype}; smallest cosine {self.cosine:.5f}, largest difference "
                f"{self.difference:.2g}; compiled in {self.build_seconds:.0f} s"
            )
        return f"backend: {self.chosen} for {self.encoder} on {self.device} ({reason})"


def select(
    load: Callable[[str | int | None, str], AnyEncoder],
    backend: str,
    device: str | int | None,
    dtype: str,
    batch: int,
) -> AnyEncoder:
    """Loads an encoder and chooses what runs its plain forward.

    Args:
        load: takes a device and a number format and gives the encoder on torch.
        backend: torch, compile or auto.
        device: as `choose_device` takes it.
        dtype: as `choose_dtype` takes it.
        batch: images at once.

    Returns:
        The encoder, with `backend` None where torch runs it.

    Raises:
        MissingError: there is no compiler.
        UsageError: an unknown backend, or a batch that is not positive.
        WorkError: the compiled forward differs from torch.
    """  # noqa: DOC501
    if backend == TORCH:
        return load(device, dtype)
    where = choose_device(device)
    if batch < 1:
        raise UsageError("batch_size must be positive", got=batch)
    if backend not in BACKENDS:
        raise unknown("backend", backend, BACKENDS, "encoderlab features --help")
    # Cached models are shared, and this one is changed.
    with without_cache():
        encoder = load(str(where), "float32")
    number = choose_dtype(dtype, encoder.device)
    size = min(batch, LARGEST_ON_CPU) if encoder.device.type == "cpu" else batch
    compiled = None
    if backend == AUTO:
        encoder.trial, compiled = try_compile(encoder, number, size)
        note(encoder.trial.sentence())
    elif backend == COMPILE:
        compiled, cosine, _, seconds = compile_image_side(encoder, number, size)
        if not cosine >= LEAST_COSINE:
            raise WorkError(
                "compiled torch differs from torch for this encoder",
                got=f"{encoder.name}: smallest cosine {cosine:.5f}",
                want=f"at least {LEAST_COSINE}",
                hint="choose --backend torch, or --dtype float32",
            )
        note(
            f"backend: compile is ready after {seconds:.0f} s "
            f"(smallest cosine to torch in float32 {cosine:.5f})"
        )
    if compiled is None:
        encoder.to(dtype=number)
    encoder.backend = compiled
    return encoder


def compile_image_side(
    encoder: ImageEncoder, dtype: torch.dtype, batch: int
) -> tuple[CompiledImageSide, float, float, float]:
    """Moves an encoder from fp32 to `dtype` and compiles its plain forward.

    On a CPU the weights are frozen into the compiled code, which lets the compiler lay them out for
    the matrix units; on a GPU the whole forward becomes one CUDA graph.

    Args:
        encoder: in fp32; it is left in `dtype`.
        dtype: the number format to compile for.
        batch: images at once.

    Returns:
        The compiled forward, its parity to fp32 (see `parity`), and the seconds that it took.

    Raises:
        MissingError: there is no compiler.
    """
    require_compiler(encoder.device)
    pixels = pictures(encoder.preprocess, min(batch, CHECKED_ON), encoder.device)
    reference = answer(encoder.image_side(), pixels)
    encoder.to(dtype=dtype)
    started = time.perf_counter()
    # Every new shape is compiled again, for half a minute: so there is one shape.
    options: dict[str, Any] = {"dynamic": False}
    if "isolate_recompiles" in inspect.signature(torch.compile).parameters:
        # All encoders compile the same function, and torch gives up on one that was compiled eight
        # times, unless its compilations are isolated.
        options["isolate_recompiles"] = True
    if encoder.device.type == "cuda":
        run = _copied(torch.compile(encoder.image_side(), mode="reduce-overhead", **options))
    else:
        run = torch.compile(encoder.image_side(), options={"freezing": True}, **options)
    compiled = CompiledImageSide(run, dtype, batch)
    outputs = answer(compiled, pixels)
    return compiled, *parity(outputs, reference), time.perf_counter() - started


def _copied(compiled: Any) -> Run:
    def run(pixels: Tensor) -> tuple[Tensor, ...]:
        torch.compiler.cudagraph_mark_step_begin()
        # The graph's own outputs are overwritten by its next run.
        return tuple(output.clone() for output in compiled(pixels))

    return run


def require_compiler(device: torch.device) -> None:
    """Refuses a machine where torch.compile has nothing to compile with.

    Raises:
        MissingError: naming what is not there.
    """
    if device.type == "cuda":
        from torch.utils._triton import has_triton

        missing = None if has_triton() else ("no Triton here", "the Triton that comes with torch")
    else:
        from torch._inductor import cpp_builder, exc

        missing = None
        try:
            cpp_builder.get_cpp_compiler()
        except (exc.InvalidCxxCompiler, RuntimeError, OSError):
            missing = "no C++ compiler here", "g++ or clang++"
    if missing is not None:
        what, want = missing
        raise MissingError(
            f"torch.compile has {what}", want=want, hint="install it, or use --backend torch"
        )


def parity(outputs: Sequence[Tensor], reference: Sequence[Tensor]) -> tuple[float, float]:
    """How far one run of an image side is from another on the same images.

    Args:
        outputs: of one run.
        reference: of the other run.

    Returns:
        The smallest cosine between the two vectors of an image (NaN where one is not finite), and
        the largest difference between two numbers of the first output.
    """
    a, b = ([tensor.float().cpu() for tensor in tensors] for tensors in (outputs, reference))
    cosine = F.cosine_similarity(a[-1], b[-1], dim=-1).min()
    return float(cosine), float((a[0] - b[0]).abs().max())


@torch.inference_mode()  # other tensors would cause a second compilation
def pictures(preprocess: Preprocess, count: int, device: torch.device) -> Tensor:
    """Standardised pixels of `count` synthetic images, the same each time, on `device`."""
    from encoderlab.data.synthetic import generate

    images = [generate(i, split="test").image for i in range(min(count, PICTURES))]
    pixels = stack([preprocess.to_bytes(image) for image in images]).to(device)
    rows = torch.arange(count, device=device) % len(images)
    return preprocess.standardise(pixels).contiguous()[rows]


@torch.inference_mode()
def answer(run: Run, pixels: Tensor) -> tuple[Tensor, ...]:
    """The outputs of a run, without gradients; returns when the device has finished."""
    outputs = run(pixels)
    synchronize(pixels.device)
    return outputs


def try_compile(
    encoder: ImageEncoder, dtype: torch.dtype, batch: int
) -> tuple[BackendTrial, CompiledImageSide | None]:
    """Compiles, checks and times an encoder.

    Args:
        encoder: in fp32; it may be left in `dtype`.
        dtype: the number format to run in.
        batch: images at once.

    Returns:
        The trial, and the compiled forward where it was chosen.
    """
    trial = BackendTrial(
        encoder.name,
        f"{encoder.device} ({device_name(encoder.device)})",
        batch,
        str(dtype).removeprefix("torch."),
    )
    try:
        compiled, cosine, difference, seconds = compile_image_side(encoder, dtype, batch)
        trial = replace(trial, cosine=cosine, difference=difference, build_seconds=seconds)
        if not cosine >= LEAST_COSINE:
            reason = f"smallest cosine {cosine:.5f} is under {LEAST_COSINE}"
            return replace(trial, left_out=reason), None
        pixels = pictures(encoder.preprocess, batch, encoder.device).to(dtype)
        by_torch, by_compile = time_in_turns([encoder.image_side(), compiled], pixels)
    except MissingError as error:
        return replace(trial, left_out=error.what), None
    except Exception as error:  # a compiler may raise anything: torch runs it instead
        lines = str(error).strip().splitlines() or [type(error).__name__]
        return replace(trial, left_out=f"it failed: {lines[0][:160]}", cosine=None), None
    trial = replace(
        trial,
        torch_images_per_s=batch / float(np.median(by_torch)),
        compile_images_per_s=batch / float(np.median(by_compile)),
        ratio=float(np.median(np.divide(by_torch, by_compile))),
    )
    return trial, compiled if trial.chosen == COMPILE else None


def time_in_turns(runs: Sequence[Run], pixels: Tensor) -> list[list[float]]:
    """Seconds of each run in each turn. Runs take turns, so that other load affects all of them."""
    seconds: list[list[float]] = [[] for _ in runs]
    turns = TURNS
    while len(seconds[0]) < turns:
        for run, spent in zip(runs, seconds, strict=True):
            started = time.perf_counter()
            answer(run, pixels)
            spent.append(time.perf_counter() - started)
        if max(spent[0] for spent in seconds) > SLOW_SECONDS:
            turns = TURNS_OF_SLOW_ONES
    return seconds
