"""Parameters of the approximate index: what LanceDB builds, how it is searched, when it is rebuilt.

Functions of the number of rows and the width of the vectors; touches no table. The measurements:
docs/en/search.md.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

# RaBitQ's codes (Gao & Long 2024): the sign of each coordinate after a random rotation. One bit a
# dimension, nothing to train, and with a few hundred candidates compared again with the stored
# vectors it finds what 8-bit codes find. Product quantisation (IVF_PQ) has codebooks to train and
# finds less at the same size; a graph (IVF_HNSW_SQ) takes several times the time and the space:
# benchmarks/bench_index_kinds.py.
ONE_BIT = "IVF_RQ"
# LanceDB packs one-bit codes into bytes and refuses other widths; these get a byte a dimension.
EIGHT_BITS = "IVF_SQ"
PACKED = 8

LEAST_ROWS = 256  # fewer rows make no second partition
# A partition of fewer rows is mostly its own centroid, and k-means would have too few rows.
ROWS_IN_PARTITION = 256
# Vectors for k-means per partition. FAISS asks for 39 at least and uses 256 at most; with eight
# partitions searched or more, 64 lose nothing against 256 and train sooner.
SAMPLE_RATE, LEAST_RATE = 64, 40
SAMPLE_BYTES = 4 << 30  # of vectors in memory while k-means runs

MEASURED_K = 10  # recall is measured at this many answers
# So many codes are compared within a millisecond, less than LanceDB spends on a query whatever it
# reads. Queries unlike those that recall is measured with need them: sentences lie far from images,
# and few images unlike the rest may share a partition that is not among the nearest.
FIRST_CODES, FIRST_PROBES = 64_000, 8
FIRST_CANDIDATES, MOST_CANDIDATES = 200, 6400

# Rows that the index does not know are compared one by one at each search: this many cost about
# what the search itself costs.
FOLD_IN = 10_000
# Partitions suit the count of rows for which they were trained: sqrt(rows) is off by 1.4 here.
GROWTH = 2.0
# Each folding-in adds a part to the index, and each part is searched.
MOST_PARTS = 8


@dataclass(frozen=True)
class Plan:
    """What LanceDB is asked to build.

    Args:
        kind: LanceDB's name of the index.
        partitions: groups of near vectors (centroids of k-means).
        sample_rate: vectors per partition that k-means sees.
    """

    kind: str
    partitions: int
    sample_rate: int

    def as_config(self) -> Any:
        """The same for `table.create_index`."""
        from lancedb.index import IvfRq, IvfSq

        make = IvfRq if self.kind == ONE_BIT else IvfSq
        return make(
            distance_type="cosine", num_partitions=self.partitions, sample_rate=self.sample_rate
        )


def plan(rows: int, dim: int) -> Plan:
    """The index for a table.

    Args:
        rows: number of vectors.
        dim: their width.

    Returns:
        Kind, number of partitions, and vectors per partition to train on.

    >>> plan(1_000_000, 512)
    Plan(kind='IVF_RQ', partitions=1000, sample_rate=64)
    """
    kind = EIGHT_BITS if dim % PACKED else ONE_BIT
    # A search ranks all centroids and then reads some partitions: both stay small at sqrt(rows).
    partitions = max(1, min(round(math.sqrt(rows)), rows // ROWS_IN_PARTITION))
    fits = SAMPLE_BYTES // (4 * dim * partitions)
    return Plan(kind, partitions, max(LEAST_RATE, min(SAMPLE_RATE, fits)))


@dataclass(frozen=True)
class Effort:
    """What a search reads and compares.

    Args:
        nprobes: partitions that are searched.
        candidates: rows whose stored vectors are compared again; the codes only chose them.
    """

    nprobes: int
    candidates: int

    def refine_factor(self, k: int) -> int:
        """Candidates for each of k answers: as measured up to ten answers, in proportion beyond."""
        return math.ceil(self.candidates / min(k, MEASURED_K))

    def under(self, share: float, partitions: int) -> Effort:
        """The effort if an SQL condition keeps only `share` of the rows."""
        # The partitions that are searched then hold as many of them.
        most = max(partitions, self.nprobes)
        return Effort(min(math.ceil(self.nprobes / share), most), self.candidates)


def efforts(partitions: int, rows: int) -> Iterator[Effort]:
    """From the least to the most that is tried for the target recall.

    Each step doubles the partitions, each second one the candidates too: the first alone cannot
    find what the codes have ranked too low. The last steps search every partition.

    Yields:
        Efforts, the least first.

    >>> [(e.nprobes, e.candidates) for e in efforts(1000, 1_000_000)][:5]
    [(64, 200), (128, 200), (256, 400), (512, 400), (1000, 800)]
    """
    most = min(MOST_CANDIDATES, rows)
    first = max(FIRST_PROBES, math.ceil(FIRST_CODES * partitions / rows))
    nprobes, candidates, step = min(first, partitions), min(FIRST_CANDIDATES, rows), 0
    while True:
        yield Effort(nprobes, candidates)
        if nprobes == partitions and candidates == most:
            return
        step += 1
        if step % 2 == 0 or nprobes == partitions:
            candidates = min(2 * candidates, most)
        nprobes = min(2 * nprobes, partitions)


# What a search spends on an index that nobody has measured.
UNMEASURED = Effort(64, 400)


@dataclass(frozen=True)
class Recall:
    """The share of the true nearest that a search finds, with its 95 % interval.

    Args:
        queries: how many queries it was measured with.
    """

    value: float
    ci_low: float
    ci_high: float
    queries: int

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.ci_low:.3f}, {self.ci_high:.3f}]"


@dataclass(frozen=True)
class Approximate:
    """An approximate index that has been built and measured, as index.json keeps it.

    Args:
        kind: LanceDB's name of the index.
        trained_rows: rows when its partitions were trained.
        rows: rows when its recall was measured.
        effort: what a search spends, chosen for the target.
        target: the recall that was asked for.
        k: answers at which recall was measured.
        recall: by kind of query: "images", and "sentences" where captions are stored. Empty where
            nobody has measured.
    """

    kind: str
    partitions: int
    trained_rows: int
    rows: int = 0
    effort: Effort = UNMEASURED
    target: float = 0.0
    k: int = MEASURED_K
    recall: Mapping[str, Recall] = field(default_factory=dict)

    @property
    def reached(self) -> bool:
        """Whether every kind of query has the target recall, as far as its sample can tell."""
        measured = self.recall.values()
        return bool(measured) and all(recall.ci_high >= self.target for recall in measured)

    def to_json(self) -> dict[str, Any]:
        """Plain values for index.json and run.json."""
        return {**asdict(self), "reached": self.reached}

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Approximate:
        """The record that `to_json` wrote."""
        if not isinstance(record, Mapping) or not isinstance(record.get("recall"), Mapping):
            raise ValueError("its entry of the approximate index is invalid")
        fields = {name: value for name, value in record.items() if name != "reached"}
        fields["effort"] = Effort(**record["effort"])
        fields["recall"] = {name: Recall(**value) for name, value in record["recall"].items()}
        return cls(**fields)

    def description(self) -> str:
        """The recall with its interval and the number of queries, as one sentence."""
        if not self.recall:
            return "recall not measured yet; `encoderlab index --ann` measures it"
        parts = [
            f"{recall} with {recall.queries} {_QUERIES[name]}"
            for name, recall in self.recall.items()
        ]
        return f"recall@{self.k} (95 % interval) " + ", ".join(parts)


_QUERIES = {"images": "stored images", "sentences": "stored captions"}


def must_retrain(known: Approximate | None, rows: int, dim: int, parts: int) -> bool:
    """Whether an index of `parts` parts has to be built anew, or new rows can be folded into it."""
    if known is None or not known.trained_rows or parts > MOST_PARTS:
        return True
    if known.kind != plan(rows, dim).kind:
        return True
    return not 1 / GROWTH < rows / known.trained_rows < GROWTH
