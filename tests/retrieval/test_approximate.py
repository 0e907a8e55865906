"""The rules of the approximate index: legal and in proportion for every table."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from encoderlab.retrieval.approximate import (
    FIRST_CODES,
    GROWTH,
    LEAST_RATE,
    LEAST_ROWS,
    MOST_CANDIDATES,
    MOST_PARTS,
    SAMPLE_BYTES,
    Approximate,
    Effort,
    Recall,
    efforts,
    must_retrain,
    plan,
)

ROWS = st.integers(LEAST_ROWS, 10**10)
DIMS = st.integers(1, 4096)


@settings(max_examples=200, deadline=None)
@given(rows=ROWS, more=st.integers(0, 10**10), dim=DIMS)
def test_more_rows_never_mean_fewer_partitions_or_a_larger_sample_rate(rows, more, dim):
    small, large = plan(rows, dim), plan(rows + more, dim)
    assert small.partitions <= large.partitions
    assert small.sample_rate >= large.sample_rate
    assert small.kind == large.kind


@settings(max_examples=200, deadline=None)
@given(rows=ROWS, dim=DIMS)
@example(rows=LEAST_ROWS, dim=8)
def test_every_plan_is_one_that_k_means_can_train(rows, dim):
    built = plan(rows, dim)
    assert 1 <= built.partitions <= rows // 256
    assert built.partitions**2 <= 1.01 * rows
    assert built.partitions * built.sample_rate <= rows
    assert built.sample_rate >= LEAST_RATE
    sample = 4 * dim * built.partitions * built.sample_rate
    assert sample <= SAMPLE_BYTES or built.sample_rate == LEAST_RATE


@pytest.mark.parametrize(("rows", "partitions"), [(256, 1), (65_536, 256), (10**6, 1000)])
def test_partitions_are_the_root_of_the_rows_with_256_rows_each_at_least(rows, partitions):
    assert plan(rows, 512).partitions == partitions


@pytest.mark.parametrize(("dim", "kind"), [(512, "IVF_RQ"), (8, "IVF_RQ"), (100, "IVF_SQ")])
def test_lancedb_takes_the_plan_for_this_width(dim, kind, tmp_path):
    import lancedb
    import pyarrow as pa

    vectors = np.random.default_rng(0).normal(size=(600, dim)).astype(np.float32)
    flat = pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), dim)
    table = lancedb.connect(tmp_path).create_table("t", pa.table({"vector": flat}))
    built = plan(600, dim)
    table.create_index("vector", config=built.as_config())
    stats = table.index_stats("vector_idx")
    assert (built.kind, stats.index_type, stats.distance_type) == (kind, kind, "cosine")


@settings(max_examples=200, deadline=None)
@given(partitions=st.integers(1, 200_000), rows=st.integers(LEAST_ROWS, 10**10))
def test_efforts_only_grow_and_end_with_everything(partitions, rows):
    tried = list(efforts(partitions, rows))
    for before, after in pairwise(tried):
        assert before.nprobes <= after.nprobes and before.candidates <= after.candidates
        assert before != after
    assert all(1 <= effort.nprobes <= partitions and effort.candidates <= rows for effort in tried)
    assert tried[-1] == Effort(partitions, min(rows, MOST_CANDIDATES))
    assert len(tried) < 30
    assert tried[0].nprobes * rows / partitions >= min(FIRST_CODES, rows) * 0.999


@settings(max_examples=100, deadline=None)
@given(k=st.integers(1, 10_000), candidates=st.integers(10, MOST_CANDIDATES))
def test_no_search_compares_fewer_candidates_than_were_measured(k, candidates):
    compared = k * Effort(8, candidates).refine_factor(k)
    assert compared >= candidates
    assert compared / k >= candidates / 10 or k < 10


@pytest.mark.parametrize(
    ("share", "partitions", "probed"), [(1, 100, 8), (0.5, 100, 16), (0.01, 100, 100), (0.5, 0, 8)]
)
def test_a_condition_makes_the_search_look_into_more_partitions(share, partitions, probed):
    assert Effort(8, 200).under(share, partitions) == Effort(probed, 200)


def _known(trained: int) -> Approximate:
    return Approximate("IVF_RQ", 30, trained)


@pytest.mark.parametrize(
    ("known", "rows", "parts", "anew"),
    [
        (None, 1000, 0, True),
        (_known(0), 1000, 1, True),
        (_known(1000), 1000, 1, False),
        (_known(1000), 1900, 3, False),
        (_known(1000), int(1000 * GROWTH), 1, True),
        (_known(1000), 500, 1, True),
        (_known(1000), 1000, MOST_PARTS + 1, True),
    ],
)
def test_it_is_trained_anew_when_the_table_has_outgrown_it(known, rows, parts, anew):
    assert must_retrain(known, rows, 64, parts) is anew


def test_what_is_kept_of_it_comes_back():
    import json

    built = Approximate(
        "IVF_RQ", 10, 2000, 2100, Effort(8, 200), 0.9, 10, {"images": Recall(0.97, 0.94, 0.99, 200)}
    )
    assert Approximate.from_json(json.loads(json.dumps(built.to_json()))) == built
    assert built.reached
    assert "0.970 [0.940, 0.990] with 200 stored images" in built.description()
    assert "not measured" in _known(5).description()
    assert not _known(5).reached
