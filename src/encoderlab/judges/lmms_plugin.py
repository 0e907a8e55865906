"""The entry point by which lmms-eval finds our model; imports lmms-eval when it asks."""

from __future__ import annotations

from typing import Any

MODEL = "encoderlab"


def manifest() -> Any:
    """What lmms-eval registers: the name of the model, and where its class is."""
    from lmms_eval.models.registry_v2 import ModelManifest

    return ModelManifest(MODEL, simple_class_path="encoderlab.judges.lmms_model.LmmsModel")
