"""What Ray costs on one machine, where it has nothing to give: the same images through the same
model into a store, in this process and by two Ray workers. Starting the cluster is not counted;
starting the workers, which each load the model, is. Also says whether both stores are the same.
"""

from __future__ import annotations

import argparse
import filecmp
import tempfile
import time
from pathlib import Path

from bench_growth import write_shards
from table import Row, report

from encoderlab.core.progress import configure
from encoderlab.data.read import read_samples
from encoderlab.encoders.vision import load_vision
from encoderlab.feature_store.engines import engine
from encoderlab.feature_store.extract import extract_images


def main() -> None:
    """Prints both rates."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-n", type=int, default=10_000, help="images")
    parser.add_argument("--workers", type=int, default=2)
    given = parser.parse_args()
    configure(quiet=True)
    encoder = load_vision("tiny-clip")
    cluster = engine("ray", given.workers)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        (folder / "shards").mkdir()
        write_shards(folder / "shards", given.n)
        samples = read_samples(folder / "shards")
        extract_images(encoder, samples[:64], folder / "warm")
        spent = {}
        for name, by in (("ray", cluster), ("local", "local")):
            started = time.perf_counter()
            extract_images(encoder, samples, folder / name, by=by)
            spent[name] = time.perf_counter() - started
        chunks = sorted(path.parent for path in (folder / "local").glob("*/*/values.npy"))
        same = bool(chunks) and all(
            filecmp.cmp(chunk / file, folder / "ray" / chunk.relative_to(folder / "local") / file)
            for chunk in chunks
            for file in ("values.npy", "digests.npy")
        )
    report(
        Row(
            f"extract features of {given.n:,} images of 96 px by {given.workers} Ray workers",
            f"{given.n / spent['ray']:.0f} images/s",
            f"{given.n / spent['local']:.0f} images/s",
            "ours in one process, on the same cores",
            (spent["local"] / spent["ray"],),
            "the same store",
            same,
            "the workers' start and their models' loading are part of it",
        )
    )


if __name__ == "__main__":
    main()
