"""A hundred thousand images are never in memory at once, nor is what was read of their files."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.faults.jobs import picture

FEW, MANY = 1_000, 100_000
# Decoded for tiny-clip an image has 96 x 96 x 3 = 27,648 bytes, and its file has more than 4,000:
# all of them would be 2.8 GB and 400 MB. What may be kept of each is its name, place, caption and
# digest: some objects of Python with two hundred bytes each.
BYTES_PER_IMAGE = 2_000
LEAST_FILE = 4_000
CASES = [("index", ""), ("features", ".csv")]
if int(os.environ.get("ENCODERLAB_KILL_ROUNDS", "0")) >= 100:
    CASES += [("index", ".csv"), ("features", "")]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`few` and `many` pictures, hard links to some files; and the same as CSV."""
    root = tmp_path_factory.mktemp("many")
    contents = []
    for number in range(8):
        path = root / f"picture-{number}.jpg"
        picture(number, 64).save(path, quality=95)
        assert path.stat().st_size > LEAST_FILE
        contents.append(path)
    for name, count in (("few", FEW), ("many", MANY)):
        (root / name).mkdir()
        rows = ["image_path,caption"]
        for number in range(count):
            os.link(contents[number % 8], root / name / f"{number:06}.jpg")
            rows.append(f"{name}/{number:06}.jpg,what picture {number} shows in a few words")
        (root / f"{name}.csv").write_text("\n".join(rows) + "\n")
    return root


@pytest.mark.slow
@pytest.mark.parametrize("command, ending", CASES)
def test_memory_grows_by_names_and_not_by_pictures(command, ending, folders, tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "tests.faults.measure_memory", command,
         str(folders / f"few{ending}"), str(folders / f"many{ending}")],
        cwd=tmp_path, capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(
            [str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")])},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    grown = float(done.stdout.split()[-1]) * 2**20
    print(f"{command} {ending or 'folder'}: {grown / (MANY - FEW):.0f} bytes an image")
    assert grown < BYTES_PER_IMAGE * (MANY - FEW)
