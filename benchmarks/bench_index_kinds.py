"""What LanceDB's kinds of index cost and find: the measurements behind `search.approximate`.

    python benchmarks/bench_index_kinds.py [-n 100000] [--width 256] [--uniform]

Each kind is built over the same vectors and asked the same queries with the same partitions read,
for ten answers out of 50, 100, 200 and 400 candidates. Prints seconds, bytes a vector and
recall@10; in brackets seconds and bytes against our choice, which comes first. The vectors are
clustered like embeddings; `--uniform` takes the worst case of every index instead, which is like no
embeddings.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from dataclasses import replace

import numpy as np
import pyarrow as pa
from bench_approximate_search import embeddings, share_found

from encoderlab.retrieval.approximate import MEASURED_K as K
from encoderlab.retrieval.approximate import plan
from encoderlab.retrieval.exact import top_k
from encoderlab.retrieval.recall import moved

CANDIDATES = (50, 100, 200, 400)


def kinds(n: int, width: int, slow: bool) -> dict[str, object]:
    """Name -> configuration, ours first."""
    from lancedb.index import HnswSq, IvfPq, IvfRq, IvfSq

    ours = plan(n, width)
    same = {
        "distance_type": "cosine",
        "num_partitions": ours.partitions,
        "sample_rate": ours.sample_rate,
    }
    made = {
        f"ours: {ours.kind}": ours.as_config(),
        "ours, k-means of 256 vectors a partition": replace(ours, sample_rate=256).as_config(),
        "ours, half the partitions": replace(
            ours, partitions=max(1, ours.partitions // 2)
        ).as_config(),
        "ours, twice the partitions": replace(ours, partitions=ours.partitions * 2).as_config(),
        "IVF_RQ of 4 bits": IvfRq(num_bits=4, **same),
        "IVF_SQ": IvfSq(**same),
        "IVF_PQ, d/16": IvfPq(num_sub_vectors=width // 16, **same),
        "IVF_PQ, d/8": IvfPq(num_sub_vectors=width // 8, **same),
        "LanceDB's default": IvfPq(distance_type="cosine"),
    }
    if slow:
        made["IVF_HNSW_SQ"] = HnswSq(distance_type="cosine", num_partitions=1)
    return made


def main() -> None:
    """Prints one line per kind."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-n", type=int, default=100_000, help="vectors")
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--queries", type=int, default=400)
    parser.add_argument("--nprobes", type=int, default=16, help="partitions read")
    parser.add_argument("--uniform", action="store_true", help="vectors without any structure")
    parser.add_argument("--graph", action="store_true", help="IVF_HNSW_SQ too, which takes long")
    given = parser.parse_args()
    os.environ["LANCEDB_LOG"] = "error"
    import lancedb

    rng = np.random.default_rng(0)
    if given.uniform:
        vectors = rng.standard_normal((given.n, given.width), dtype=np.float32)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    else:
        vectors = embeddings(given.n, given.width, rng)
    queries = moved(vectors[rng.choice(given.n, given.queries, replace=False)], rng)
    true = top_k(queries, vectors, K)[1]
    flat = pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), given.width)
    rows = pa.table({"id": np.arange(given.n), "vector": flat})
    print(f"{given.n:,} x {given.width}, {given.nprobes} partitions read; recall@{K} with")
    print(f"{'':42}{'seconds':>16}{'bytes a vector':>18}", *(f"{c:>6}" for c in CANDIDATES))
    first: tuple[float, float] | None = None
    with tempfile.TemporaryDirectory() as folder:
        table = lancedb.connect(folder).create_table("vectors", rows)
        for name, config in kinds(given.n, given.width, given.graph).items():
            started = time.perf_counter()
            table.create_index("vector", config=config, replace=True)
            seconds = time.perf_counter() - started
            each = table.list_indices()[0].size_bytes / given.n
            first = first or (seconds, each)
            recalls = []
            for candidates in CANDIDATES:
                found = np.full((given.queries, K), -1)
                for i, query in enumerate(queries):
                    asked = table.search(query).distance_type("cosine").limit(K).select(["id"])
                    asked = asked.nprobes(given.nprobes).refine_factor(candidates // K)
                    numbers = asked.to_arrow().column("id").to_numpy()
                    found[i, : len(numbers)] = numbers
                recalls.append(share_found(found, true))
            print(
                f"{name:42}{seconds:8.1f} ({seconds / first[0]:4.1f}){each:10.1f} "
                f"({each / first[1]:4.1f})",
                *(f"{value:6.3f}" for value in recalls),
                flush=True,
            )


if __name__ == "__main__":
    main()
