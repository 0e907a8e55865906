"""Linear CKA of many samples in one pass: its time against the matrix products that it cannot do
without, and the memory that it takes.

Features are made block by block and thrown away, as they would come from shards.
"""

from __future__ import annotations

import argparse
import resource
import time

import torch
from table import Row, report

from encoderlab.metrics.moments import BLOCK, Moments


def block(number: int, rows: int, width: int) -> dict[str, torch.Tensor]:
    """Related features of two models, with an offset that would spoil raw sums."""
    generator = torch.Generator().manual_seed(number)
    x = torch.randn(rows, width, generator=generator)
    y = 0.5 * x + torch.randn(rows, width, generator=generator)
    return {"encoder": x + 100, "llm": y - 300}


def main() -> None:
    """Prints the ratio and the memory."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-n", type=int, default=100_000, help="samples")
    parser.add_argument("--width", type=int, default=768)
    given = parser.parse_args()
    block(0, 8, 8)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    state, spent, products = Moments(), 0.0, 0.0
    for number, start in enumerate(range(0, given.n, BLOCK)):
        features = block(number, min(BLOCK, given.n - start), given.width)
        started = time.perf_counter()
        state.update(features)
        spent += time.perf_counter() - started
        x, y = (one.double() for one in features.values())
        started = time.perf_counter()
        x.T @ x, x.T @ y, y.T @ y
        products += time.perf_counter() - started
        del features, x, y
    started = time.perf_counter()
    found = {kind: state.cka("encoder", "llm", kind) for kind in ("biased", "debiased")}
    spent += time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(f"n = {state.n:,}, d = {given.width}: {found}")
    report(
        Row(
            f"linear CKA, both estimators, n = {given.n:,}, d = {given.width}",
            f"{spent:.1f} s",
            f"{products:.1f} s",
            "its three matrix products",
            (products / spent,),
            "1 / 2 = 0.5, memory O(d^2)",
            products / spent >= 0.5,
            f"peak {peak / 1024:.0f} MB, {before / 1024:.0f} MB of it before the first sample",
        )
    )


if __name__ == "__main__":
    main()
