"""How long one waits: importing, help, and the first answer of a search, each in fresh processes.

Takes medians, beside the target and the time that a Python with nothing in it needs. Files are in
the system's cache after the first turn, which is left out.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from table import Row, report

from encoderlab.data.synthetic import write_dataset

LAB = ["-m", "encoderlab"]
CASES: dict[str, tuple[list[str], float | None]] = {
    "python -c pass": (["-c", "pass"], None),
    "import encoderlab": (["-c", "import encoderlab"], 0.15),
    "encoderlab --help": ([*LAB, "--help"], 0.3),
    "encoderlab train --help": ([*LAB, "train", "--help"], 0.3),
    "encoderlab ls encoders": ([*LAB, "ls", "encoders"], None),
    "python -c 'import torch'": (["-c", "import torch"], None),
    "encoderlab search, first result": ([*LAB, "search", "a red circle", "--db", "index"], 4.0),
    "the same with a condition": (
        [*LAB, "search", "a red circle", "--db", "index", "--where", "width > 0"],
        None,
    ),
}


def main() -> None:
    """Prints one line for each case."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=300, help="in the index that is searched")
    parser.add_argument("--repeat", type=int, default=7, help="processes for each; the median")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        write_dataset(Path(work) / "world", given.images)
        _seconds([*LAB, "index", "world/images", "--db", "index", "--quiet"], work)
        for name, (words, target) in CASES.items():
            taken = [_seconds(words, work) for _ in range(given.repeat + 1)][1:]
            median = float(np.median(taken))
            report(
                Row(
                    f"start: {name}",
                    f"{median:.2f} s",
                    target="" if target is None else f"under {target:g} s",
                    met=None if target is None else median < target,
                    note=f"{min(taken):.2f} to {max(taken):.2f} s in {given.repeat} processes",
                )
            )


def _seconds(words: list[str], folder: str) -> float:
    started = time.perf_counter()
    # Of a terminal that shows nothing: stdout is read to its end.
    subprocess.run(
        [sys.executable, *words], cwd=folder, check=True, capture_output=True,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
    )  # fmt: skip
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
