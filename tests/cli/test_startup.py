"""How long one waits for the first answer, and which libraries must not be waited for.

benchmarks/bench_startup.py takes the figures; here twice each target holds, the best of three
processes, since other tests may be using the cores.
"""

import os
import subprocess
import sys
import time

import pytest

HEAVY = ("torch", "numpy", "transformers", "lightning", "hydra", "lancedb", "PIL", "pyarrow")
# Whatever a search by a bundled model does not need.
NOT_FOR_A_SEARCH = (
    "lightning", "sklearn", "scipy", "matplotlib", "transformers", "pandas", "lancedb", "sympy",
    "torch._dynamo", "datasets", "gradio", "ray", "onnxruntime", "tensorboard", "huggingface_hub",
)  # fmt: skip
PROJECT = "from encoderlab import load_config, get_model_id, get_data_root, get_output_dir"
SEARCH = ["search", "a red circle", "-k", "2", "--db", "index", "--device", "cpu"]


def main(*words):
    return f"from encoderlab.cli.main import main\nassert main({list(words)!r}) == 0"


@pytest.fixture(scope="module")
def searched(world, tmp_path_factory):
    """A folder with an index of a few pictures."""
    from encoderlab.cli.main import main

    folder = tmp_path_factory.mktemp("startup")
    db = str(folder / "index")
    assert main(["index", str(world / "images"), "--db", db, "--output-dir", db, "--quiet"]) == 0
    return folder


def run(program, folder, names):
    """The seconds that a process with the program takes, and which of some modules it loads."""
    clock = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", f"import sys\n{program}\n"
         f"print('loaded:', *[name for name in {names!r} if name in sys.modules])"],
        capture_output=True, text=True, cwd=folder, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return time.perf_counter() - clock, done.stdout.splitlines()[-1].split()[1:]


@pytest.mark.parametrize(
    ("program", "not_loaded", "seconds"),
    [
        ("import encoderlab", (*HEAVY, "yaml", "rich"), 0.3),  # promised: 0.15
        (PROJECT, ("torch",), None),
        (main("--help"), HEAVY, 0.6),  # promised: 0.3
        (main("train", "--help"), HEAVY, 0.6),
        (main("completion", "bash"), ("torch", "numpy", "hydra", "rich"), None),
        (main(*SEARCH), NOT_FOR_A_SEARCH, None),
        pytest.param(main(*SEARCH), (), 8, marks=pytest.mark.slow),  # promised: 4
    ],
)
def test_nothing_is_loaded_or_waited_for_without_need(program, not_loaded, seconds, searched):
    runs = [run(program, searched, not_loaded) for _ in range(3 if seconds else 1)]
    assert [loaded for _, loaded in runs] == [[]] * len(runs)
    assert seconds is None or min(runs)[0] < seconds, runs


def test_the_test_of_what_is_loaded_can_fail(searched):
    """A condition is for the database, which a plain search does without."""
    _, loaded = run(main(*SEARCH, "--where", "width > 0"), searched, NOT_FOR_A_SEARCH)
    assert "lancedb" in loaded


def test_a_process_ends_without_a_last_search_for_garbage():
    # What is registered first is called last.
    code = (
        "import atexit, gc; atexit.register(lambda: print(gc.get_freeze_count() > 1000)); "
        "from encoderlab.cli.main import main; main(['--version'])"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "True"
