"""The maps as `embedding.parquet`, which Embedding Atlas opens as it is."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float

from encoderlab.core.atomic_io import atomic_write

FILE = "embedding.parquet"
NEIGHBOURS = 15
PARTS = ("x", "y", "neighbors", "vector")  # of each space, as Embedding Atlas calls them


def write(
    path: Path,
    samples: Mapping[str, Sequence[str]],
    thumbnails: Sequence[bytes],
    spaces: Mapping[str, Float[np.ndarray, "n d"]],
    places: Mapping[str, Float[np.ndarray, "n 2"]],
) -> None:
    """Writes one row per sample: its texts, its thumbnail, and of each space four columns.

    Args:
        path: of the file.
        samples: column -> one text per sample.
        thumbnails: JPEG files.
        spaces: space -> unit vectors; `vector_SPACE`.
        places: space -> coordinates; `x_SPACE` and `y_SPACE`. `neighbors_SPACE` has, for each
            sample, the row numbers of the nearest others by cosine, nearest first, as `ids`, and
            one minus their cosines as `distances`.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns: dict[str, pa.Array] = {name: pa.array(texts) for name, texts in samples.items()}
    kind = pa.struct({"bytes": pa.binary(), "path": pa.string()})  # an image of Hugging Face
    rows = [{"bytes": jpeg, "path": None} for jpeg in thumbnails]
    columns["image"] = pa.array(rows, kind)
    for name, vectors in spaces.items():
        ids, distances = neighbours(vectors)
        x, y, neighbour, vector = (f"{part}_{name}" for part in PARTS)
        columns[x], columns[y] = (pa.array(axis, pa.float32()) for axis in places[name].T)
        columns[neighbour] = pa.array(
            [{"ids": i, "distances": d} for i, d in zip(ids, distances, strict=True)],
            pa.struct({"ids": pa.list_(pa.int64()), "distances": pa.list_(pa.float32())}),
        )
        columns[vector] = pa.array(list(vectors), pa.list_(pa.float32()))
    with atomic_write(path) as unfinished:
        pq.write_table(pa.table(columns), unfinished)


def neighbours(
    vectors: Float[np.ndarray, "n d"], count: int = NEIGHBOURS
) -> tuple[np.ndarray, np.ndarray]:
    """The nearest other rows of each row.

    Args:
        vectors: unit vectors.
        count: how many; all others where there are fewer.

    Returns:
        (row numbers, one minus the cosines), (n, k) each, nearest first; of equally near ones the
        first row.
    """
    cosines = vectors @ vectors.T
    np.fill_diagonal(cosines, -np.inf)
    ids = np.argsort(-cosines, axis=1, kind="stable")[:, : min(count, len(vectors) - 1)]
    return ids, 1 - np.take_along_axis(cosines, ids, axis=1)


def command(path: Path, space: str) -> str:
    """The command line that opens the map of one space in Embedding Atlas."""
    x, y, neighbour, _ = (f"{part}_{space}" for part in PARTS)
    words = ["embedding-atlas", str(path), "--x", x, "--y", y, "--neighbors", neighbour,
             "--image", "image", "--text", "caption"]  # fmt: skip
    return shlex.join(words)
