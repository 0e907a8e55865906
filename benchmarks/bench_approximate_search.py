"""A million vectors, searched approximately: our index on disk against FAISS and usearch in memory.

    python benchmarks/bench_approximate_search.py [-n 1000000] [--width 256] [--without usearch]

All get the same vectors and queries in one process, and are searched in turns. FAISS: IVFPQ with as
many partitions and bytes a vector as our index, its candidates compared again with the vectors;
usearch: its HNSW graph. Each searches as hard as it takes to find the target share of the true ten
nearest (FAISS's flat index says which these are) of one half of the queries; the recall that is
printed is that of the other half. Ours never reads less than the partitions of 64,000 rows, so it
finds more than it was asked for, and spends more.

The vectors are made to be like embeddings: a mixture of clusters of unequal size, few directions
that carry much and many that carry little, of unit length. Uniform random vectors would be the
worst case of every index and are like no model's embeddings.

FAISS and usearch hold everything in memory and know numbers only. Ours reads from disk through
LanceDB, survives a restart, and answers with paths and captions. A ratio is ours by theirs.
"""

from __future__ import annotations

import argparse
import gc
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from table import Row, report

from encoderlab.core.progress import configure
from encoderlab.encoders.hardware import PeakMemory
from encoderlab.retrieval import image_index as index_module
from encoderlab.retrieval.approximate import MEASURED_K as K
from encoderlab.retrieval.approximate import plan
from encoderlab.retrieval.image_index import Hit, Index
from encoderlab.retrieval.recall import moved
from encoderlab.retrieval.storage import Storage
from encoderlab.retrieval.sync import schema
from encoderlab.retrieval.table import Table

CHUNK = 4096
Search = Callable[[np.ndarray], np.ndarray]  # queries -> numbers of the rows found, -1 for none


def embeddings(n: int, width: int, rng: np.random.Generator) -> np.ndarray:
    """Unit vectors in 2 sqrt(n) clusters whose sizes and directions fall off by power laws."""
    clusters = int(2 * n**0.5)
    spread = np.arange(1, width + 1, dtype=np.float32) ** -0.5
    spread /= np.linalg.norm(spread)
    turn = np.linalg.qr(rng.normal(size=(width, width)))[0].astype(np.float32)
    centres = rng.standard_normal((clusters, width), dtype=np.float32) * spread
    share = np.arange(1, clusters + 1) ** -0.7
    cluster = rng.choice(clusters, n, p=share / share.sum())
    made = np.empty((n, width), np.float32)
    for start in range(0, n, CHUNK):
        its = cluster[start : start + CHUNK]
        noise = rng.standard_normal((len(its), width), dtype=np.float32) * spread
        part = (centres[its] + 0.5 * noise) @ turn
        made[start : start + CHUNK] = part / np.linalg.norm(part, axis=1, keepdims=True)
    return made


@dataclass(frozen=True)
class Model:
    """What an index asks of the model that made its vectors."""

    dim: int
    name: str = "synthetic"
    fingerprint: str = "0" * 24


class Stage:
    """Times a block and prints it with its peak memory."""

    def __init__(self, what: str) -> None:
        self.what, self.seconds, self.bytes = what, 0.0, 0
        self._peak = PeakMemory(torch.device("cpu"))

    def __enter__(self) -> Stage:
        self._peak.__enter__()
        self._started = time.perf_counter()
        return self

    def __exit__(self, *error: object) -> None:
        self.seconds = time.perf_counter() - self._started
        self._peak.__exit__(*error)
        self.bytes = self._peak.bytes or 0
        print(f"{self.what}: {self.seconds:.1f} s, {self.bytes / 1e6:,.0f} MB more", flush=True)


def build_ours(vectors: np.ndarray, folder: Path, target: float) -> tuple[Index, dict[str, Stage]]:
    """Our index with its approximate one, and what each stage took."""
    n, width = vectors.shape
    Index.create(folder, Model(width))  # type: ignore[arg-type]
    table = Table.open(Storage(folder))
    stages = {"add": Stage("ours: adding the rows")}
    with stages["add"], table.writer(set()) as writer:
        for start in range(0, n, CHUNK):
            part = vectors[start : start + CHUNK]
            writer.add(_rows(part, start))
    with Stage("ours: putting the files together"):
        table.tidy(n)
    stages["train"] = Stage("ours: training the approximate index")
    with stages["train"]:
        table.train(plan(n, width))
    # Again through the door that users have, which also measures; the difference is the measuring.
    index = Index.open(folder)
    stages["build"] = Stage("ours: training and measuring recall (encoderlab index --ann)")
    with stages["build"]:
        index.build_ann(target)
    return index, stages


def _rows(part: np.ndarray, start: int) -> pa.Table:
    names = [str(start + i) for i in range(len(part))]
    ones, empty = [1] * len(part), [""] * len(part)
    flat = pa.FixedSizeListArray.from_arrays(pa.array(part.reshape(-1)), part.shape[1])
    columns = [names, empty, empty, ones, ones, empty, empty, flat]
    return pa.table(
        dict(zip(schema(part.shape[1]).names, columns, strict=True)),
        schema=schema(part.shape[1]),
    )


def build_faiss(vectors: np.ndarray, flat: object) -> tuple[Callable[[int], Search], Stage]:
    """FAISS's IVFPQ, its candidates compared again with the vectors of `flat`."""
    import faiss

    n, width = vectors.shape
    partitions = plan(n, width).partitions
    coarse = faiss.index_factory(
        width, f"IVF{partitions},PQ{width // 8}x8", faiss.METRIC_INNER_PRODUCT
    )
    rows = np.random.default_rng(0).choice(n, min(n, 64 * partitions), replace=False)
    with Stage("FAISS IVFPQ: training and adding") as stage:
        coarse.train(vectors[rows])
        coarse.add(vectors)
    refined = faiss.IndexRefine(coarse, flat)
    refined.k_factor = 20  # 200 candidates for ten answers, as ours begins with

    def with_effort(nprobe: int) -> Search:
        def search(queries: np.ndarray) -> np.ndarray:
            coarse.nprobe = nprobe
            return refined.search(queries, K)[1]

        return search

    return with_effort, stage


def build_usearch(vectors: np.ndarray) -> tuple[Callable[[int], Search], Stage]:
    """usearch's HNSW graph over fp32 vectors."""
    from usearch.index import Index as Graph

    graph = Graph(ndim=vectors.shape[1], metric="ip", dtype="f32")
    with Stage("usearch HNSW: building") as stage:
        graph.add(np.arange(len(vectors)), vectors)

    def with_effort(expansion: int) -> Search:
        def search(queries: np.ndarray) -> np.ndarray:
            graph.expansion_search = expansion
            found = graph.search(queries, K)
            return np.asarray(found.keys).astype(np.int64).reshape(len(queries), -1)

        return search

    return with_effort, stage


def share_found(found: np.ndarray, true: np.ndarray) -> float:
    """Recall@K."""
    return float(np.mean([len(set(f) & set(t)) / K for f, t in zip(found, true, strict=True)]))


def hard_enough(
    with_effort: Callable[[int], Search], queries: np.ndarray, true: np.ndarray, target: float
) -> tuple[Search, int]:
    """The search with the least effort, doubled from 8, that reaches the target."""
    effort = 8
    while share_found(with_effort(effort)(queries), true) < target and effort < 4096:
        effort *= 2
    return with_effort(effort), effort


def latencies(searches: dict[str, Search], queries: np.ndarray) -> dict[str, np.ndarray]:
    """Seconds of one query at a time, each query by all of them in turns."""
    taken: dict[str, list[float]] = {name: [] for name in searches}
    for query in queries:
        for name, search in searches.items():
            started = time.perf_counter()
            search(query[None])
            taken[name].append(time.perf_counter() - started)
    return {name: np.array(seconds) for name, seconds in taken.items()}


def rates(searches: dict[str, Search], queries: np.ndarray, turns: int) -> dict[str, np.ndarray]:
    """Queries a second when all are asked at once, one value per turn."""
    taken: dict[str, list[float]] = {name: [] for name in searches}
    for _ in range(turns):
        for name, search in searches.items():
            started = time.perf_counter()
            search(queries)
            taken[name].append(len(queries) / (time.perf_counter() - started))
    return {name: np.array(values) for name, values in taken.items()}


def main() -> None:
    """Prints the stages as they end, and a table of all comparisons."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-n", type=int, default=1_000_000, help="vectors")
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--queries", type=int, default=1000)
    parser.add_argument("--target", type=float, default=0.95, help="recall@10 to reach")
    parser.add_argument("--turns", type=int, default=3, help="of the batches; the median counts")
    parser.add_argument("--without", nargs="*", default=[], choices=["faiss", "usearch"])
    parser.add_argument("--db", type=Path, help="folder for the index; a temporary one if left out")
    given = parser.parse_args()
    configure(quiet=True)
    import faiss

    folder = given.db or Path(tempfile.mkdtemp(prefix="encoderlab-bench-"))
    rng = np.random.default_rng(0)
    vectors = embeddings(given.n, given.width, rng)
    queries = moved(vectors[rng.choice(given.n, given.queries, replace=False)], rng)
    half = len(queries) // 2
    print(f"{given.n:,} vectors of width {given.width}, {vectors.nbytes / 1e6:,.0f} MB of fp32")
    flat = faiss.IndexFlatIP(given.width)
    flat.add(vectors)
    true = flat.search(queries, K)[1]
    try:
        index, ours = build_ours(vectors, folder, given.target)
        lines = compare(given, index, ours, vectors, flat, queries, true, half)
        size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        lines.append(_line("MB on disk: the vectors", size / 1e6, vectors.nbytes / 1e6, ",.0f"))
    finally:
        if given.db is None:
            shutil.rmtree(folder)
    widths = [max(map(len, cells)) for cells in zip(*lines, strict=True)]
    print()
    for line in lines:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)))
    for row in as_rows(lines[2:], f"{given.n:,} x {given.width}"):
        report(row)


def as_rows(lines: list[Line], size: str) -> list[Row]:
    """The lines that the table of all benchmarks shows; costs become rates."""
    rows = []
    for task, mine, other, ratio in lines:
        what, _, against = task.rpartition(": ")
        if "p95" in task or "peak MB" in task or "same answers" in task or not against:
            continue
        value = float(ratio) if ratio else None
        costs = what.startswith(("seconds", "ms", "MB"))
        rates = () if value is None or "recall" in what else (1 / value if costs else value,)
        rows.append(Row(f"{size}: {what}", mine, other, against, rates))
    return rows


def compare(given, index: Index, ours: dict[str, Stage], vectors, flat, queries, true, half):
    """The lines of the table: task, ours, theirs, ratio."""
    built = index.approximate
    assert built is not None
    print(f"ours: {built.description()}; {built.effort.nprobes} of {built.partitions} partitions")
    if given.n <= index_module.EXACT_LIMIT:
        print(f"note: searches of up to {index_module.EXACT_LIMIT:,} images are exact, except here")
    index_module.EXACT_LIMIT = 0

    def our_search(asked: np.ndarray) -> np.ndarray:
        return _numbers(index.search_many(asked, K))

    def our_exact(asked: np.ndarray) -> np.ndarray:
        return _numbers(index.search_many(asked, K, exact=True))

    makers = {
        "FAISS IVFPQ": lambda: build_faiss(vectors, flat),
        "usearch HNSW": lambda: build_usearch(vectors),
    }
    searches, stages = {"ours": our_search}, {}
    for name, make in makers.items():
        if name.split()[0].lower() in given.without:
            continue
        gc.collect()
        with_effort, stages[name] = make()
        searches[name], effort = hard_enough(with_effort, queries[:half], true[:half], given.target)
        print(f"{name}: effort {effort}")
    few = queries[half : half + 200]
    for search in searches.values():
        for query in few:
            search(query[None])  # what is read from disk once is read now
    from_disk = latencies(searches, few)
    with Stage("ours: reading all vectors into memory, at the first exact search") as reading:
        our_exact(queries[:1])
    found = {
        name: share_found(search(queries[half:]), true[half:]) for name, search in searches.items()
    }
    batch = rates(searches, queries[half:], given.turns)
    both = {"ours": our_exact, "FAISS flat": lambda asked: flat.search(asked, K)[1]}
    same = (our_exact(queries[:half]) == true[:half]).mean()
    exact = rates(both, queries[:half], given.turns)
    alone = latencies(both, queries[:20])

    lines: list[Line] = [("task", "ours", "theirs", "ratio"), ("----", "----", "------", "-----")]
    train = ours["train"]
    for name, stage in stages.items():
        lines += [
            _line(f"seconds to build: {name}", train.seconds, stage.seconds, ".1f"),
            _line(f"peak MB while building: {name}", train.bytes / 1e6, stage.bytes / 1e6, ",.0f"),
            _line(f"recall@{K}: {name}", found["ours"], found[name], ".3f"),
        ]
        for q in (50, 95):
            mine, other = (1e3 * np.percentile(from_disk[who], q) for who in ("ours", name))
            lines.append(_line(f"ms of a query, p{q}, ours from disk: {name}", mine, other, ".2f"))
        mine, other = (np.median(batch[who]) for who in ("ours", name))
        ratio = np.median(batch["ours"] / batch[name])
        count = len(queries) - half
        lines.append(_line(f"queries/s, {count} at once: {name}", mine, other, ",.0f", ratio))
    mine, other = (np.median(exact[who]) for who in ("ours", "FAISS flat"))
    ratio = np.median(exact["ours"] / exact["FAISS flat"])
    lines.append(_line(f"exact: queries/s, {half} at once: FAISS flat", mine, other, ",.0f", ratio))
    mine, other = (1e3 * np.median(alone[who]) for who in ("ours", "FAISS flat"))
    lines.append(_line("exact: ms of a query, p50: FAISS flat", mine, other, ".1f"))
    lines.append(("exact: same answers as FAISS flat", f"{same:.3%}", "", ""))
    mine = 1e3 * np.median(from_disk["ours"])
    other = 1e3 * np.median(alone["ours"])
    lines.append(_line("ms of a query, approximate: our own exact search", mine, other, ".1f"))
    lines.append(
        _line(
            "MB to search exactly: the vectors", reading.bytes / 1e6, vectors.nbytes / 1e6, ",.0f"
        )
    )
    return lines


Line = tuple[str, str, str, str]


def _line(task: str, mine: float, other: float, form: str, ratio: float | None = None) -> Line:
    ratio = mine / other if ratio is None else ratio
    return task, format(mine, form), format(other, form), f"{ratio:.2f}"


def _numbers(hits: list[list[Hit]]) -> np.ndarray:
    found = np.full((len(hits), K), -1, dtype=np.int64)
    for i, of_query in enumerate(hits):
        found[i, : len(of_query)] = [int(hit.path) for hit in of_query]
    return found


if __name__ == "__main__":
    main()
