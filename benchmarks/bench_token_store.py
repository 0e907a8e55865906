"""Random batches of token tensors from disk: our store, and the formats it could have been.

    python benchmarks/bench_token_store.py [-n 4096]

The same tokens (fp16, 144 x 192 a picture, as tiny-dinov2 has them) are written in each format and
read back in random batches of 64: rows that a training step would ask for. Every format is read
warm (the pages are in memory) and cold (they were dropped before, where the system allows it). Each
prints its rate as a share of `pread` into a buffer: the least that any format must do.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
from table import Row, report

from encoderlab.feature_store.store import FeatureStore, TableKey

TOKENS, WIDTH, BATCH = 144, 192, 64
Read = Callable[[np.ndarray], np.ndarray]


def plain_read(path: Path, n: int) -> Read:
    """`pread` row by row into one buffer: nothing but the copy."""
    size = TOKENS * WIDTH * 2
    handle = os.open(path, os.O_RDONLY)
    offset = path.stat().st_size - n * size

    def read(rows: np.ndarray) -> np.ndarray:
        buffer = np.empty((len(rows), TOKENS, WIDTH), dtype=np.float16)
        for i, row in enumerate(rows):
            os.preadv(handle, [memoryview(buffer[i]).cast("B")], offset + int(row) * size)
        return buffer

    return read


def our_store(values: np.ndarray, folder: Path) -> Read:
    """The store as `extract_images` writes it, in chunks of 256; fp16 out."""
    table = FeatureStore(folder).table(TableKey("bench", "0", "{}", "patches", "float16"))
    digests = [i.to_bytes(16, "big") for i in range(len(values))]
    for start in range(0, len(values), 256):
        table.add(digests[start : start + 256], values[start : start + 256])
    return lambda rows: table.batch([digests[row] for row in rows]).numpy()


def memory_map(values: np.ndarray, folder: Path) -> Read:
    """One `.npy` file, memory-mapped."""
    np.save(folder / "all.npy", values)
    mapped = np.load(folder / "all.npy", mmap_mode="r")
    return lambda rows: mapped[rows]


def safetensors(values: np.ndarray, folder: Path) -> Read:
    """One safetensors file, a slice per row."""
    from safetensors import safe_open
    from safetensors.numpy import save_file

    save_file({"tokens": values}, folder / "all.safetensors")
    opened = safe_open(folder / "all.safetensors", framework="numpy").__enter__()
    part = opened.get_slice("tokens")
    return lambda rows: np.concatenate([part[int(row) : int(row) + 1] for row in rows])


def _table(values: np.ndarray) -> pa.Table:
    flat = pa.array(values.reshape(-1))
    return pa.table({"tokens": pa.FixedSizeListArray.from_arrays(flat, TOKENS * WIDTH)})


def arrow(values: np.ndarray, folder: Path) -> Read:
    """An Arrow IPC file in record batches of 256, memory-mapped."""
    table = _table(values)
    place = str(folder / "all.arrow")
    with pa.OSFile(place, "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=256)
    opened = pa.ipc.open_file(pa.memory_map(str(folder / "all.arrow")))
    parts = [opened.get_batch(i).column(0) for i in range(opened.num_record_batches)]

    def read(rows: np.ndarray) -> np.ndarray:
        found = [
            parts[row // 256].slice(row % 256, 1).flatten().to_numpy(zero_copy_only=True)
            for row in rows.tolist()
        ]
        return np.stack(found).reshape(len(rows), TOKENS, WIDTH)

    return read


def lance(values: np.ndarray, folder: Path) -> Read:
    """A LanceDB table, rows taken by number."""
    import lancedb

    table = lancedb.connect(folder / "lance").create_table("tokens", _table(values))

    def read(rows: np.ndarray) -> np.ndarray:
        # The rows come in the order of the table: put them back into the order asked for.
        order = np.argsort(rows)
        found = table.take_offsets(rows[order].tolist()).to_arrow().column(0).combine_chunks()
        out = np.empty((len(rows), TOKENS, WIDTH), dtype=np.float16)
        out[order] = found.flatten().to_numpy(zero_copy_only=False).reshape(out.shape)
        return out

    return read


FORMATS = {
    "our store (chunks of .npy)": our_store,
    "one .npy, memory-mapped": memory_map,
    "safetensors": safetensors,
    "Arrow IPC, memory-mapped": arrow,
    "Lance": lance,
}


def drop_pages(folder: Path) -> bool:
    """Asks the system to forget the files of a folder."""
    if not hasattr(os, "posix_fadvise"):
        return False
    for path in folder.rglob("*"):
        if path.is_file():
            handle = os.open(path, os.O_RDONLY)
            os.fsync(handle)
            os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(handle)
    return True


def rate(read: Read, batches: list[np.ndarray]) -> float:
    """Pictures a second."""
    started = time.perf_counter()
    for rows in batches:
        read(rows)
    return sum(map(len, batches)) / (time.perf_counter() - started)


def main() -> None:
    """Prints one line per format."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-n", type=int, default=4096, help="pictures")
    n = parser.parse_args().n
    rng = np.random.default_rng(0)
    values = rng.standard_normal((n, TOKENS, WIDTH), dtype=np.float32).astype(np.float16)
    batches = [rng.choice(n, BATCH, replace=False) for _ in range(n // BATCH)]
    print(f"{n:,} pictures, {values.nbytes / 1e6:.0f} MB, batches of {BATCH}")
    for name, make in FORMATS.items():
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place)
            np.save(folder / "raw.npy", values)
            least = plain_read(folder / "raw.npy", n)
            (folder / "format").mkdir()
            read = make(values, folder / "format")
            np.testing.assert_array_equal(read(batches[0]), values[batches[0]])
            shares = {"cold": 0.0, "warm": 0.0}
            for state in shares:
                if state == "cold":
                    drop_pages(folder)
                mine = rate(read, batches)
                if state == "cold":
                    drop_pages(folder)
                shares[state] = mine / rate(least, batches)
            report(
                Row(
                    f"random batches of tokens from {name}",
                    f"{mine:,.0f} pictures/s",
                    f"{mine / shares['warm']:,.0f} pictures/s",
                    "plain pread",
                    (shares["warm"],),
                    "1" if make is our_store else "",
                    shares["warm"] >= 1 if make is our_store else None,
                    f"warm; cold {shares['cold']:.2f}",
                )
            )


if __name__ == "__main__":
    main()
