"""Exact top-10 over 100,000 vectors of width 512, 1,000 queries, against FAISS's flat index.

Both in this process, in turns, with all threads. Prints the ratio of the times and whether the
answers are the same.
"""

from __future__ import annotations

import argparse
import time

import faiss
import numpy as np
from table import Row, report

from encoderlab.retrieval.exact import top_k


def main() -> None:
    """Prints the comparison."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--vectors", type=int, default=100_000)
    parser.add_argument("--queries", type=int, default=1_000)
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("-k", type=int, default=10)
    parser.add_argument("--repeat", type=int, default=5, help="turns; the median ratio counts")
    given = parser.parse_args()
    rng = np.random.default_rng(0)
    vectors, queries = (
        rng.normal(size=(n, given.width)).astype(np.float32) for n in (given.vectors, given.queries)
    )
    for rows in (vectors, queries):
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    flat = faiss.IndexFlatIP(given.width)
    flat.add(vectors)
    ratios = []
    for _ in range(given.repeat):
        started = time.perf_counter()
        _, theirs = flat.search(queries, given.k)
        middle = time.perf_counter()
        _, ours = top_k(queries, vectors, given.k)
        ended = time.perf_counter()
        ratios.append((middle - started) / (ended - middle))
    same = (theirs == ours).mean()
    report(
        Row(
            f"exact top-{given.k}, {given.queries:,} queries, {given.vectors:,} x {given.width}",
            f"{given.queries / (ended - middle):,.0f} queries/s",
            f"{given.queries / (middle - started):,.0f} queries/s",
            "FAISS flat",
            tuple(ratios),
            "1 / 1.3 = 0.77, same answers",
            bool(np.median(ratios) >= 1 / 1.3 and same == 1),
            f"same answers: {same:.2%}",
        )
    )


if __name__ == "__main__":
    main()
