"""How cost grows: 10^2 to 10^5 images against time and memory, each point in a process of its own.

Extraction (tar shards to the feature store) and index building with tiny-clip, CKA in one pass at
width 768, exact search of 100 queries at width 512. Time is without imports and loading; memory is
what the process holds at most above what it held before. Prints each curve's exponent (1 is
linear) and draws docs/images/growth.png.
"""

from __future__ import annotations

import argparse
import io
import json
import resource
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from table import Row, report

COUNTS = (100, 1_000, 10_000, 100_000)
PER_SHARD = 10_000
TASKS = ("extraction", "index building", "CKA", "exact search")
FIGURE = Path(__file__).parents[1] / "docs" / "images" / "growth.png"


def write_shards(folder: Path, count: int) -> None:
    """Small pictures, no two alike."""
    from PIL import Image

    rng = np.random.default_rng(0)
    for first in range(0, count, PER_SHARD):
        with tarfile.open(folder / f"{first:06d}.tar", "w") as tar:
            for number in range(first, min(first + PER_SHARD, count)):
                file = io.BytesIO()
                pixels = rng.integers(0, 256, (12, 12, 3), dtype=np.uint8)
                Image.fromarray(pixels).resize((96, 96)).save(file, "JPEG")
                about = tarfile.TarInfo(f"{number:06d}.jpg")
                about.size = len(file.getvalue())
                file.seek(0)
                tar.addfile(about, file)


def ready(task: str, count: int, shards: Path, place: Path) -> Callable[[], object]:
    """The work to be timed, with everything that it needs loaded and warm."""
    if task == "extraction":
        from encoderlab.data.read import read_parts
        from encoderlab.encoders.vision import load_vision
        from encoderlab.feature_store.extract import extract_images

        encoder = load_vision("tiny-clip")
        first = next(read_parts(shards))[:64]
        extract_images(encoder, first, place / "warm")

        def extract() -> None:
            for part in read_parts(shards):
                extract_images(encoder, part, place / "store")

        return extract
    if task == "index building":
        from encoderlab.data.read import read_samples
        from encoderlab.encoders.dual import load_dual
        from encoderlab.retrieval.image_index import Index

        dual = load_dual("tiny-clip")
        Index.create(place / "warm", dual).sync(read_samples(shards)[:64], "warm")
        return lambda: Index.create(place / "index", dual).sync(read_samples(shards), "x")
    rng = np.random.default_rng(0)
    if task == "CKA":
        from encoderlab.metrics.moments import Moments

        def block(size: int) -> dict[str, np.ndarray]:
            x = rng.standard_normal((size, 768), dtype=np.float32)
            return {"x": x, "y": x[:, ::-1] + 1}

        Moments.of(block(256))

        def one_pass() -> float:
            state = Moments()
            for start in range(0, count, 4096):
                state.update(block(min(4096, count - start)))
            return state.cka("x", "y")

        return one_pass
    from encoderlab.retrieval.exact import top_k

    vectors = rng.standard_normal((count, 512), dtype=np.float32)
    queries = rng.standard_normal((100, 512), dtype=np.float32)
    top_k(queries, vectors[:100], 10)
    return lambda: top_k(queries, vectors, 10)


def one(task: str, count: int, shards: Path) -> dict[str, float]:
    """Seconds and megabytes of one point."""
    from encoderlab.core.progress import configure

    configure(quiet=True)
    with tempfile.TemporaryDirectory() as folder:
        work = ready(task, count, shards, Path(folder))
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        turns = 5 if task == "exact search" else 1
        spent = []
        for _ in range(turns):
            started = time.perf_counter()
            work()
            spent.append(time.perf_counter() - started)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"seconds": float(np.median(spent)), "megabytes": (peak - before) / 1024}


def exponent(counts: list[int], values: list[float]) -> float:
    """The slope of the last decade: what more of the same will cost."""
    return float(np.log(values[-1] / values[-2]) / np.log(counts[-1] / counts[-2]))


def draw(counts: list[int], found: dict[str, list[dict[str, float]]]) -> None:
    """Time and memory of every task, on logarithmic axes."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (left, right) = pyplot.subplots(1, 2, figsize=(11, 4.4))
    for task, points in found.items():
        seconds = [point["seconds"] for point in points]
        label = f"{task}: n^{exponent(counts, seconds):.2f}"
        left.loglog(counts, seconds, marker="o", label=label)
        right.semilogx(counts, [p["megabytes"] for p in points], marker="o", label=task)
    left.set(xlabel="images", ylabel="seconds", title="Time (exponent of the last decade)")
    right.set(xlabel="images", ylabel="megabytes", title="Memory above that before the work")
    right.set_ylim(bottom=0)
    for axes in (left, right):
        axes.grid(alpha=0.3)
        axes.legend()
    figure.tight_layout()
    FIGURE.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(FIGURE, dpi=110)


def main() -> None:
    """Measures, prints, draws."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--most", type=int, default=COUNTS[-1], help="images at most")
    parser.add_argument("--no-figure", action="store_true")
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        task, count, shards = given.one
        print(json.dumps(one(task, int(count), Path(shards))))
        return
    counts = [count for count in COUNTS if count <= given.most]
    found: dict[str, list[dict[str, float]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for count in counts:
            (Path(folder) / str(count)).mkdir()
            write_shards(Path(folder) / str(count), count)
        for task in TASKS:
            for count in counts:
                place = str(Path(folder) / str(count))
                done = subprocess.run(
                    [sys.executable, __file__, "--one", task, str(count), place],
                    check=True, capture_output=True, text=True,
                )  # fmt: skip
                point = json.loads(done.stdout.splitlines()[-1])
                found.setdefault(task, []).append(point)
                print(f"{task}, {count:,}: {point['seconds']:.3g} s, "
                      f"{point['megabytes']:.0f} MB", flush=True)  # fmt: skip
    for task, points in found.items():
        seconds = [point["seconds"] for point in points]
        slope = exponent(counts, seconds)
        memory = exponent(counts, [max(point["megabytes"], 1) for point in points])
        report(
            Row(
                f"growth of {task}, {counts[0]:,} to {counts[-1]:,} images",
                f"time ~ n^{slope:.2f}, memory ~ n^{memory:.2f}",
                target="no more than linear: 1.1",
                met=slope <= 1.1,
                note=f"at the end {seconds[-1]:.3g} s and {points[-1]['megabytes']:.0f} MB; "
                f"memory at a tenth of it {points[-2]['megabytes']:.0f} MB",
            )
        )
    if not given.no_figure:
        draw(counts, found)


if __name__ == "__main__":
    main()
