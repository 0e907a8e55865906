"""One set of valid inputs for all cases, and a room for caches that cases may write to."""

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.fuzz.seeds import Seeds

from encoderlab.encoders import model_cache

MODELS = 64 << 20  # bytes of models that stay loaded: the embedded ones, and not every case's


@contextmanager
def _in_a_room(room: Path) -> Iterator[None]:
    """Caches and temporary files are in a folder of their own, for the time of the block only:
    the next test of this process may be one of another suite."""
    redirected = {
        "HOME": room, "XDG_CACHE_HOME": room / "cache", "TMPDIR": room,
        "MPLCONFIGDIR": room / "mpl",
        "HF_HOME": room / "hf", "TORCH_HOME": room / "torch",
        "TORCHINDUCTOR_CACHE_DIR": room / "ind",
        "ENCODERLAB_SHARD_CACHE": room / "shards",
    }  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        for name, value in redirected.items():
            patch.setenv(name, str(value))
        for name in list(os.environ):
            if name.startswith(("VLM_", "ENCODERLAB_ALIASES", "ENCODERLAB_APP")):
                patch.delenv(name)
        patch.setattr(tempfile, "tempdir", str(room))
        patch.setattr(sys, "dont_write_bytecode", True)
        before = model_cache.share(MODELS)
        try:
            yield
        finally:
            model_cache.share(before)


@pytest.fixture(scope="session")
def made_once(tmp_path_factory: pytest.TempPathFactory) -> Seeds:
    folder, room = tmp_path_factory.mktemp("seeds"), tmp_path_factory.mktemp("room")
    made = Seeds(folder, room)
    with _in_a_room(room):
        made.warm_up()
    return made


@pytest.fixture
def seeds(made_once: Seeds) -> Iterator[Seeds]:
    """The inputs, in their room."""
    with _in_a_room(made_once.room):
        yield made_once
