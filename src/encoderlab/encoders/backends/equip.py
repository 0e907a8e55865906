"""Puts a backend into an encoder: the one that was asked for, or the one that the probe chooses."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Protocol, TypeVar

from encoderlab.core.progress import detail, note
from encoderlab.encoders.backends import remembered
from encoderlab.encoders.backends.contract import AUTO, TORCH, Engine, backend_called
from encoderlab.encoders.backends.parity import LEAST_COSINE, Parity, ParityReport
from encoderlab.encoders.backends.probe import Probed, answer, pictures, probe
from encoderlab.encoders.hardware import choose_dtype
from encoderlab.encoders.model_cache import without_cache
from encoderlab.errors import UsageError, WorkError

# Pictures on which a backend that was asked for by name is compared with torch.
CHECKED_ON = 4


class Equippable(Probed, Protocol):
    """An encoder that has a place for a backend."""

    backend: Engine | None
    report: ParityReport | None


Encoder = TypeVar("Encoder", bound=Equippable)


def equipped(load: Callable[[], Encoder], backend: str, dtype: str, batch: int) -> Encoder:
    """The encoder that `load` gives in fp32, in the number format `dtype`, with a backend that
    takes batches of `batch`.

    Args:
        backend: torch, compile, onnxruntime, openvino or auto.
        dtype: as `choose_dtype` takes it; with "auto" a backend may have a format of its own.

    Raises:
        MissingError: a package or a compiler that the backend needs is not there.
        UsageError: an unknown backend, or an encoder, device or format that it cannot take.
        WorkError: the backend does not give what torch gives.
    """
    if batch < 1:
        raise UsageError("batch_size must be positive", got=batch)
    if backend != AUTO:
        backend_called(backend)  # a wrong name is found before a model is loaded
    # Kept models are shared, and these are going to be changed.
    with without_cache():
        encoder = load()
        free = dtype == "auto"
        number = choose_dtype(dtype, encoder.device)
        report = None
        if backend == AUTO:
            side = encoder.image_side()
            asked = remembered.key(
                encoder.fingerprint, side.outputs, side.shape, encoder.device, dtype, batch
            )
            report = remembered.find(asked)
            if report is None:
                note("backend: trying those that can run here, once for this model and machine")
                report = probe(encoder, number, free, batch)
                remembered.keep(asked, report)
                del side
                encoder = load()  # the probe has rounded its weights
            # The same weights may have had another name when they were probed.
            report = replace(report, encoder=encoder.name)
            note(report.sentence())
            detail(report.to_text())
            backend = report.chosen
    kind = backend_called(backend)
    if kind.format(number, free) != number:
        number = kind.format(number, free)
        note(f"dtype: {str(number).removeprefix('torch.')} ({backend} runs in it here)")
    refused = kind.refusal(encoder.device, number)
    if refused is not None:
        raise refused
    encoder.report = report
    if backend == TORCH:
        encoder.to(dtype=number)
        return encoder
    started = time.perf_counter()
    pixels = pictures(encoder.preprocess, CHECKED_ON, encoder.device)
    reference = answer(encoder.image_side(), pixels)
    if kind.copies:
        run = kind.build(encoder.image_side(), number, batch)
    encoder.to(dtype=number)
    if not kind.copies:
        run = kind.build(encoder.image_side(), number, batch)
    engine = Engine(backend, run, number)
    parity = Parity.between(answer(engine, pixels), reference)
    if not parity.kept:
        raise WorkError(
            f"the backend {backend} does not give what torch gives for this encoder",
            got=f"{encoder.name}: smallest cosine {parity.cosine:.5f}",
            want=f"at least {LEAST_COSINE}",
            hint="choose another --backend, or --dtype float32",
        )
    note(
        f"backend: {backend} is ready after {time.perf_counter() - started:.0f} s "
        f"(smallest cosine to torch in float32 {parity.cosine:.5f})"
    )
    encoder.backend = engine
    return encoder
