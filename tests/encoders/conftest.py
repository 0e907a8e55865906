"""Checkpoints of every family, built once a run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.encoders import small_checkpoints


@pytest.fixture(scope="session")
def vision_folder(tmp_path_factory) -> Callable[[str], Path]:
    """family -> folder of its small vision checkpoint."""
    return _once(tmp_path_factory, small_checkpoints.save_vision)


@pytest.fixture(scope="session")
def text_folder(tmp_path_factory) -> Callable[[str], Path]:
    """family -> folder of its small language model."""
    return _once(tmp_path_factory, small_checkpoints.save_text)


def _once(tmp_path_factory, save: Callable[[str, Path], Path]) -> Callable[[str], Path]:
    made: dict[str, Path] = {}

    def folder(family: str) -> Path:
        if family not in made:
            made[family] = save(family, tmp_path_factory.mktemp(family))
        return made[family]

    return folder


@pytest.fixture(scope="session")
def pictures() -> list[Image.Image]:
    """Four noise pictures of different shapes, wide and tall."""
    rng = np.random.default_rng(0)
    shapes = [(40, 50), (64, 33), (32, 32), (70, 41)]
    return [Image.fromarray(rng.integers(0, 256, (*s, 3), dtype=np.uint8)) for s in shapes]
