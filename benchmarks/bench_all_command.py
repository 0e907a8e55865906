"""`encoderlab all` as a newcomer types it first: the bundled models, the built-in samples.

In a fresh process and an empty folder, from the first word to the report.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time

from table import Row, report

TARGET_SECONDS = 45


def main() -> None:
    """Prints the time."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=1)
    given = parser.parse_args()
    spent = []
    for _ in range(given.rounds):
        with tempfile.TemporaryDirectory() as folder:
            started = time.perf_counter()
            subprocess.run(
                [sys.executable, "-m", "encoderlab", "all", "--quiet"],
                cwd=folder, check=True, capture_output=True,
            )  # fmt: skip
            spent.append(time.perf_counter() - started)
    seconds = statistics.median(spent)
    report(
        Row(
            "encoderlab all, bundled models, built-in samples, from the first word",
            f"{seconds:.0f} s",
            target=f"under {TARGET_SECONDS} s",
            met=seconds < TARGET_SECONDS,
        )
    )


if __name__ == "__main__":
    main()
