"""Compiled torch for the plain forward of an encoder, checked against torch.

The plain forward takes standardised pixels to the tokens and the vector of each image. Hidden
layers, attention, text and gradients always go through torch. `select` puts the compiled forward
into an encoder: always, or (backend "auto") where a trial shows that it gives the same and is
faster. Knows no family.

Shapes: b batch, (h, w) pixels, n tokens, d width, p width of the vector of an image.
"""

from __future__ import annotations

import inspect
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from encoderlab.core.common_settings import BACKENDS
from encoderlab.core.progress import note
from encoderlab.encoders.hardware import choose_dtype, device_name, synchronize
from encoderlab.encoders.model_cache import without_cache
from encoderlab.errors import MissingError, UsageError, WorkError, unknown
from encoderlab.models.clip import Preprocess

TORCH, COMPILE, AUTO = BACKENDS
# Vectors of images that are less alike than this are not the same encoder's.
LEAST_COSINE = 0.999
# Compiling takes up to a minute in every run.
WORTH_COMPILING = 1.05
# Different pictures; a larger batch repeats them.
PICTURES, CHECKED_ON = 32, 8
# A CPU is as fast at 32 images as at more, and the trial is shorter.
LARGEST_ON_CPU = 32
TURNS, TURNS_OF_SLOW_ONES, SLOW_SECONDS = 7, 3, 2.0

Run = Callable[[Tensor], tuple[Tensor, ...]]


class ImageSide(nn.Module):
    """The plain forward of an encoder as one module: standardised pixels in, tensors out.

    The last output is the vector of each image (b, p); before it, where the encoder has them, all
    tokens (b, n, d).

    Args:
        network: holds the weights.
        run: pixels to outputs, through `network`.
        outputs: their names.
        shape: height and width of the pixels.
        name: the encoder's, and its family's, for messages.
    """

    def __init__(
        self,
        network: nn.Module,
        run: Run,
        outputs: tuple[str, ...],
        shape: tuple[int, int],
        name: str,
        family: str,
    ) -> None:
        super().__init__()
        self.network = network
        self.run = run
        self.outputs, self.shape = outputs, shape
        self.called = f"{name} ({family})"

    def forward(self, pixels: Float[Tensor, "b 3 h w"]) -> tuple[Tensor, ...]:
        return self.run(pixels)


class CompiledImageSide:
    """An image side compiled for one size of batch, which takes any: longer batches are cut, and
    the last short piece is padded with black pictures, whose rows are dropped.

    Out of memory halves the size, as a caller that retries with half a batch expects.

    Args:
        run: takes `batch` images in `dtype`.
    """

    name = COMPILE

    def __init__(self, run: Run, dtype: torch.dtype, batch: int) -> None:
        self.run, self.dtype, self.batch = run, dtype, batch
        # Encoders serve several threads; a CUDA graph serves one.
        self._lock = threading.Lock()

    def __call__(self, pixels: Float[Tensor, "b 3 h w"]) -> tuple[Tensor, ...]:
        with self._lock:
            parts = [self._run_padded(part) for part in pixels.to(self.dtype).split(self.batch)]
        if len(parts) == 1:
            return parts[0]
        return tuple(torch.cat(output) for output in zip(*parts, strict=True))

    def _run_padded(self, pixels: Tensor) -> tuple[Tensor, ...]:
        count = len(pixels)
        if count < self.batch:
            black = pixels.new_zeros((self.batch - count, *pixels.shape[1:]))
            pixels = torch.cat([pixels, black])
        try:
            outputs = self.run(pixels.contiguous())
        except (torch.OutOfMemoryError, MemoryError):
            self.batch = max(1, self.batch // 2)
            raise
        return tuple(output[:count].to(self.dtype) for output in outputs)


def ran_in(dtype: torch.dtype, backend: CompiledImageSide | None) -> str:
    """The number format, and the backend where it is not torch: `bfloat16+compile`."""
    return str(dtype).removeprefix("torch.") + (f"+{backend.name}" if backend else "")


class Compilable(Protocol):
    """What is needed of an encoder, whether of images alone or of images and text."""

    name: str
    fingerprint: str
    device: torch.device
    preprocess: Preprocess
    backend: CompiledImageSide | None
    trial: BackendTrial | None

    def image_side(self) -> ImageSide:
        """Its plain forward, in the number format that it is in."""
        ...

    def to(self, *, device: torch.device | None = None, dtype: torch.dtype | None = None) -> None:
        """Moves it to another number format."""
        ...


Encoder = TypeVar("Encoder", bound=Compilable)


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
        """The faster of both; torch, where compiled torch is hardly faster or was left out."""
        faster = self.left_out is None and (self.ratio or 0.0) >= WORTH_COMPILING
        return COMPILE if faster else TORCH

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {**asdict(self), "chosen": self.chosen}

    def sentence(self) -> str:
        """What was chosen and why, in one line."""
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


def select(load: Callable[[], Encoder], backend: str, dtype: str, batch: int) -> Encoder:
    """Loads an encoder and chooses what runs its plain forward.

    Args:
        load: gives the encoder in fp32.
        backend: torch, compile or auto.
        dtype: the number format to move it to, as `choose_dtype` takes it.
        batch: images at once.

    Returns:
        The encoder, with `backend` None where torch runs it.

    Raises:
        MissingError: there is no compiler.
        UsageError: an unknown backend, or a batch that is not positive.
        WorkError: the compiled forward does not give what torch gives.
    """
    if batch < 1:
        raise UsageError("batch_size must be positive", got=batch)
    if backend not in BACKENDS:
        raise unknown("backend", backend, BACKENDS, "encoderlab features --help")
    # Cached models are shared, and this one is changed.
    with without_cache():
        encoder = load()
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
                "compiled torch does not give what torch gives for this encoder",
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
    encoder: Compilable, dtype: torch.dtype, batch: int
) -> tuple[CompiledImageSide, float, float, float]:
    """Moves an encoder from fp32 to `dtype` and compiles its plain forward.

    On a CPU the weights are frozen into the compiled code, which lets the compiler lay them out for
    the matrix units; on a GPU the whole forward becomes one CUDA graph, launched at once.

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
    # Another shape would be compiled anew, for half a minute: so there is one shape.
    options: dict[str, Any] = {"dynamic": False}
    if "isolate_recompiles" in inspect.signature(torch.compile).parameters:
        # Every encoder compiles the same few lines of Python; torch gives up on a function that
        # was compiled eight times, unless it is told that they have nothing to do with another.
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

    Returns:
        The smallest cosine between the two vectors of an image (NaN where one is not finite), and
        the largest difference between two numbers of the first output.
    """
    a, b = ([tensor.float().cpu() for tensor in tensors] for tensors in (outputs, reference))
    cosine = F.cosine_similarity(a[-1], b[-1], dim=-1).min()
    return float(cosine), float((a[0] - b[0]).abs().max())


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
    """The outputs of a run, as every use has them: without gradients, and waited for."""
    outputs = run(pixels)
    synchronize(pixels.device)
    return outputs


def try_compile(
    encoder: Compilable, dtype: torch.dtype, batch: int
) -> tuple[BackendTrial, CompiledImageSide | None]:
    """Compiles, checks and times an encoder, which is in fp32 and may be left in `dtype`.

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
    except Exception as error:  # whatever a compiler may raise: torch runs it instead
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
    """Seconds of each run in each turn; in turns, so that what else the machine does meets all."""
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
