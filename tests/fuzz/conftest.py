"""One set of valid inputs for all cases, and a room for caches that cases may write to."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator

import pytest
from tests.fuzz.seeds import Seeds

from encoderlab.encoders import shared

MODELS = 64 << 20  # bytes of models that stay loaded: the embedded ones, and not every case's


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", "fuzz: spoiled inputs by the hundred; leave out with -m 'not fuzz'"
    )


@pytest.fixture(scope="session")
def seeds(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Seeds]:
    """The inputs; meanwhile caches and temporary files are in a folder of their own."""
    folder, room = tmp_path_factory.mktemp("seeds"), tmp_path_factory.mktemp("room")
    redirected = {
        "HOME": room, "XDG_CACHE_HOME": room / "cache", "TMPDIR": room,
        "MPLCONFIGDIR": room / "mpl",
        "HF_HOME": room / "hf", "TORCH_HOME": room / "torch",
        "TORCHINDUCTOR_CACHE_DIR": room / "ind",
        "ENCODERLAB_SHARD_CACHE": room / "shards",
    }  # fmt: skip
    patch = pytest.MonkeyPatch()
    for name, value in redirected.items():
        patch.setenv(name, str(value))
    for name in list(os.environ):
        if name.startswith(("VLM_", "ENCODERLAB_ALIASES", "ENCODERLAB_APP")):
            patch.delenv(name)
    patch.setattr(tempfile, "tempdir", str(room))
    patch.setattr(sys, "dont_write_bytecode", True)
    before = shared.share(MODELS)
    made = Seeds(folder, room)
    made.warm_up()
    yield made
    shared.share(before)
    patch.undo()
