"""How long one waits for the first answer, and which libraries must not be waited for.

benchmarks/bench_startup.py takes the figures; here twice each target holds, the best of three
processes, since other tests may be using the cores.
"""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

# Whatever a search by a bundled model does not need.
NOT_FOR_A_SEARCH = (
    "lightning", "sklearn", "scipy", "matplotlib", "transformers", "pandas", "lancedb", "sympy",
    "torch._dynamo", "datasets", "gradio", "ray", "onnxruntime", "tensorboard", "huggingface_hub",
)  # fmt: skip


def _best(words: list[str], folder: Path) -> float:
    seconds = []
    for _ in range(3):
        clock = time.perf_counter()
        said = subprocess.run(
            [sys.executable, *words], capture_output=True, text=True, cwd=folder,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )  # fmt: skip
        seconds.append(time.perf_counter() - clock)
        assert said.returncode == 0, said.stderr
    return min(seconds)


@pytest.fixture(scope="module")
def searched(world, tmp_path_factory) -> Path:
    """A folder with an index of a few pictures."""
    from encoderlab.cli.main import main

    folder = tmp_path_factory.mktemp("startup")
    db = str(folder / "index")
    assert main(["index", str(world / "images"), "--db", db, "--output-dir", db, "--quiet"]) == 0
    return folder


SEARCH = ["search", "a red circle", "-k", "2", "--db", "index", "--device", "cpu"]


def test_importing_is_quick(tmp_path):
    assert _best(["-c", "import encoderlab"], tmp_path) < 0.3  # promised: 0.15


@pytest.mark.slow
def test_the_first_search_is_quick(searched):
    assert _best(["-m", "encoderlab", *SEARCH], searched) < 8  # promised: 4


def _loaded(words: list[str], folder: Path) -> list[str]:
    program = (
        "import sys\nfrom encoderlab.cli.main import main\n"
        f"assert main({words!r}) == 0\n"
        f"print('loaded:', *[name for name in {NOT_FOR_A_SEARCH!r} if name in sys.modules])"
    )
    said = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=folder
    )
    assert said.returncode == 0, said.stderr
    return said.stdout.splitlines()[-1].split()[1:]


def test_a_search_loads_no_more_than_it_needs(searched):
    assert _loaded(SEARCH, searched) == []


def test_the_test_of_what_is_loaded_can_fail(searched):
    """A condition is for the database, which a plain search does without."""
    assert "lancedb" in _loaded([*SEARCH, "--where", "width > 0"], searched)
