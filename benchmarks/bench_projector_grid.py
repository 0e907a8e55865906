"""All projectors of an encoder x LLM x kind x seed grid at once, against one after another.

    python benchmarks/bench_projector_grid.py [--quick]

Both ways run in one process, in turns; the ratio is that of the medians. The same numbers come out:
the largest difference of any prediction is printed.
"""

from __future__ import annotations

import argparse
import statistics
import time

import torch
from table import Row, report

from encoderlab.alignment.projectors import ProjectorRecipe, train_grid, train_projector
from encoderlab.core.progress import configure
from encoderlab.models.projectors import KINDS


def pairs(n: int, widths: list[int], d_t: int, llms: int) -> dict:
    """Random vectors for every (encoder, LLM): the time does not depend on what they mean."""
    generator = torch.Generator().manual_seed(0)
    return {
        (f"encoder{i}", f"llm{j}"): (
            torch.randn(n, d_v, generator=generator),
            torch.randn(n, d_t, generator=generator),
        )
        for i, d_v in enumerate(widths)
        for j in range(llms)
    }


def compare(
    name: str, data: dict, kinds, seeds, recipe: ProjectorRecipe, rounds: int, least: float = 0
) -> None:
    """Reports the ratio and the largest difference."""
    alone, grid = [], []
    for _ in range(rounds):
        started = time.perf_counter()
        single = {
            (*names, kind, seed): train_projector(kind, x, y, recipe, seed)
            for names, (x, y) in data.items()
            for kind in kinds
            for seed in seeds
        }
        alone.append(time.perf_counter() - started)
        started = time.perf_counter()
        together = train_grid(data, kinds, seeds, recipe)
        grid.append(time.perf_counter() - started)
    with torch.no_grad():
        gap = max(
            float((one.projector(x) - together[cell].projector(x)).abs().max())
            for cell, one in single.items()
            for x in [data[cell[:2]][0]]
        )
    ratios = tuple(a / g for a, g in zip(alone, grid, strict=True))
    report(
        Row(
            f"train projectors: {name}",
            f"{statistics.median(grid):.2g} s",
            f"{statistics.median(alone):.2g} s",
            "ours, one after another",
            ratios,
            f"{least:g}" if least else "",
            statistics.median(ratios) >= least if least else None,
            f"largest difference of a prediction {gap:.0e}",
        )
    )


def main() -> None:
    """Prints the ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer epochs and rounds")
    quick = parser.parse_args().quick
    configure(quiet=True)
    rounds = 1 if quick else 3
    recipe = ProjectorRecipe(epochs=50 if quick else 300)
    small = pairs(300, [128, 192, 192, 128, 192, 192], 192, 2)
    compare("12 pairs, zoo widths, n = 300, all kinds", small, KINDS, (0,), recipe, rounds, 5)
    for kind in KINDS:
        compare(f"of the 12 pairs, {kind}", small, (kind,), (0,), recipe, 1)
    compare("the same with 5 seeds", small, KINDS, range(5), ProjectorRecipe(epochs=20), 1)
    large = pairs(300, [768, 1024], 4096, 1)
    few = ProjectorRecipe(epochs=2 if quick else 5)
    compare("LLM width 4096, 2 pairs, all kinds", large, KINDS, (0,), few, rounds, 0.95)


if __name__ == "__main__":
    main()
