"""What all tests share: no network, one torch thread per worker, the real data where it is."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from encoderlab.core import progress

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
if os.environ.get("PYTEST_XDIST_WORKER"):
    # Two workers with as many threads as cores each would only get into each other's way.
    os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real data sets; tests that want it are left out where it is not named."""
    folder = os.environ.get("ENCODERLAB_REAL_DATA")
    if not folder:
        pytest.skip("ENCODERLAB_REAL_DATA is not set")
    return Path(folder)


@pytest.fixture(autouse=True)
def _plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """The user's own folders and aliases must not decide what a test finds, nor how loud the test
    before it was."""
    progress.configure()
    for name in ("VLM_DATA_ROOT", "VLM_OUTPUT_DIR", "ENCODERLAB_ALIASES"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="session")
def clip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint folder that passes for a trained model."""
    from tests.small_models import make_clip

    return make_clip().save_pretrained(tmp_path_factory.mktemp("models") / "small-clip")


@pytest.fixture(scope="session")
def other_clip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another model's checkpoint folder."""
    from tests.small_models import make_clip

    return make_clip(seed=1).save_pretrained(tmp_path_factory.mktemp("models") / "other-clip")


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty pictures of the synthetic world on disk, in every layout. Not to be written to."""
    from encoderlab.data.synthetic import write_dataset

    return write_dataset(tmp_path_factory.mktemp("data") / "world", 20, languages=("en", "ko"))


@pytest.fixture(scope="session")
def vision_folder(tmp_path_factory) -> Callable[[str], Path]:
    """family -> folder of its small vision checkpoint."""
    return _once(tmp_path_factory, "save_vision")


@pytest.fixture(scope="session")
def text_folder(tmp_path_factory) -> Callable[[str], Path]:
    """family -> folder of its small language model."""
    return _once(tmp_path_factory, "save_text")


def _once(tmp_path_factory, save: str) -> Callable[[str], Path]:
    made: dict[str, Path] = {}

    def folder(family: str) -> Path:
        if family not in made:
            from tests import small_checkpoints

            make = getattr(small_checkpoints, save)
            made[family] = make(family, tmp_path_factory.mktemp(family))
        return made[family]

    return folder


@pytest.fixture(scope="session")
def pictures() -> list[Image.Image]:
    """Four noise pictures of different shapes, wide and tall."""
    rng = np.random.default_rng(0)
    shapes = [(40, 50), (64, 33), (32, 32), (70, 41)]
    return [Image.fromarray(rng.integers(0, 256, (*s, 3), dtype=np.uint8)) for s in shapes]
