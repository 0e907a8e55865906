"""Token similarity maps against the bare encoder: what do the maps cost?

    python benchmarks/bench_token_maps.py [-n 1000]

Both run on the same decoded pictures, batch by batch, in turns; the ratio is that of the medians.
"""

from __future__ import annotations

import argparse
import statistics
import time

import numpy as np
import torch
from table import Row, report

from encoderlab.core.progress import configure
from encoderlab.data.synthetic import render_arrays
from encoderlab.inspection.analyzer import TokenSimilarityAnalyzer

BATCH = 50


def main() -> None:
    """Prints both rates and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-n", type=int, default=1000, help="images")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--dtype", default="float32")
    given = parser.parse_args()
    configure(quiet=True)
    analyzer = TokenSimilarityAnalyzer("tiny-clip", dtype=given.dtype)
    pictures = render_arrays(range(given.n), split="test").pixels
    pixels = torch.from_numpy(np.ascontiguousarray(pictures.transpose(0, 3, 1, 2)))
    batches = [pixels[i : i + BATCH] for i in range(0, given.n, BATCH)]
    null = analyzer.null
    bare, maps = [], []
    for _ in range(given.rounds):
        spent = [0.0, 0.0]
        for batch in batches:  # in turns, since the machine is not equally fast all the time
            started = time.perf_counter()
            analyzer.encoder.encode_pixels(batch)
            middle = time.perf_counter()
            for result in analyzer.of_pixels(batch, null=null):
                assert result.horizontal_right.shape == (12, 11)
            spent[0] += middle - started
            spent[1] += time.perf_counter() - middle
        bare.append(spent[0])
        maps.append(spent[1])
    one, other = statistics.median(bare), statistics.median(maps)
    ratios = tuple(a / b for a, b in zip(bare, maps, strict=True))
    report(
        Row(
            f"token similarity maps of {given.n} images, tiny-clip, {given.dtype}",
            f"{given.n / other:.0f} images/s",
            f"{given.n / one:.0f} images/s",
            "the bare encoder",
            ratios,
            "0.9",
            one / other >= 0.9,
        )
    )


if __name__ == "__main__":
    main()
