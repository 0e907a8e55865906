"""What a probe has found, kept in the user's cache folder, so that the next run need not probe.

A finding holds for one checkpoint, one size of pixels and of batch, on one processor with one set
of libraries; with any of them changed there is none.
"""

from __future__ import annotations

import hashlib
import json
import os
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from encoderlab.core.atomic_io import write_text_atomic
from encoderlab.core.json_text import parsed
from encoderlab.core.progress import note
from encoderlab.encoders.backends.parity import ParityReport
from encoderlab.encoders.hardware import device_name

LIBRARIES = ("encoderlab", "torch", "transformers", "onnx", "onnxruntime", "onnxscript", "openvino")


def folder() -> Path:
    """`encoderlab/backends` below XDG_CACHE_HOME, or below ~/.cache."""
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root) / "encoderlab" / "backends"


def key(
    fingerprint: str,
    outputs: tuple[str, ...],
    shape: tuple[int, int],
    device: torch.device,
    dtype: str,
    batch: int,
) -> dict[str, Any]:
    """All that a finding depends on."""
    return {
        "fingerprint": fingerprint,
        "outputs": list(outputs),
        "shape": list(shape),
        "device": device.type,
        "processor": device_name(device),
        "threads": torch.get_num_threads() if device.type == "cpu" else None,
        "dtype": dtype,
        "batch": batch,
        "libraries": {name: _version(name) for name in LIBRARIES},
    }


def find(asked: dict[str, Any]) -> ParityReport | None:
    """The finding for this key; None where there is none, or it cannot be read."""
    try:
        record = parsed(_file(asked).read_text(encoding="utf-8"))
        return ParityReport.from_json(record["report"])
    except (OSError, ValueError, TypeError, KeyError):
        return None


def keep(asked: dict[str, Any], report: ParityReport) -> None:
    """Keeps a finding; a folder that cannot be written costs a probe the next time, and is said."""
    file = _file(asked)
    try:
        write_text_atomic(
            file, json.dumps({"key": asked, "report": report.to_json()}, indent=2) + "\n"
        )
    except OSError as error:
        note(f"the choice of a backend cannot be kept: {error.strerror or error} ({file.parent})")


def _file(asked: dict[str, Any]) -> Path:
    text = json.dumps(asked, sort_keys=True)
    return folder() / f"{hashlib.blake2b(text.encode(), digest_size=12).hexdigest()}.json"


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
