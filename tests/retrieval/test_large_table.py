"""A table of thousands of rows: both ways to search it, its growth and its upkeep."""

from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest

from encoderlab.data.sample import Sample
from encoderlab.encoders.dual import DualEncoder, load_dual
from encoderlab.errors import UsageError
from encoderlab.retrieval import approximate
from encoderlab.retrieval import image_index as index_module
from encoderlab.retrieval import table as table_module
from encoderlab.retrieval.approximate import Approximate, Effort
from encoderlab.retrieval.image_index import Index
from encoderlab.retrieval.sync import as_rows, compare, plan_sync

ROWS = 3000


@pytest.fixture(scope="module")
def encoder(clip_folder: Path) -> DualEncoder:
    return load_dual(str(clip_folder), "cpu", "float32")


def _clustered(rows: int, dim: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(99).normal(size=(40, dim))
    vectors = centres[rng.integers(40, size=rows)] + 0.5 * rng.normal(size=(rows, dim))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors.astype(np.float32)


def _fill(index: Index, vectors: np.ndarray, first: int = 0, captions: bool = False) -> None:
    """Rows as `sync` would have made them, named by their numbers."""
    samples = [
        Sample(str(first + i), index_module.Image.new("L", (1, 1)),
               (f"picture {first + i}",) if captions else ())
        for i in range(len(vectors))
    ]  # fmt: skip
    sizes = [(1, 1)] * len(samples)
    index._table.inner.add(as_rows(samples, sizes, vectors, plan_sync(samples), "made"))


def _paths(hits) -> list[str]:
    return [hit.path for hit in hits]


@pytest.fixture
def vectors(encoder: DualEncoder) -> np.ndarray:
    return _clustered(ROWS, encoder.dim)


@pytest.fixture
def index(encoder: DualEncoder, vectors, tmp_path: Path, monkeypatch) -> Index:
    index = Index.create(tmp_path / "db", encoder)
    _fill(index, vectors)
    monkeypatch.setattr(index_module, "EXACT_LIMIT", 1000)
    return index


def test_exact_is_what_numpy_says_in_memory_and_in_blocks(index, vectors, monkeypatch):
    queries = _clustered(5, vectors.shape[1], seed=1)
    expected = np.argsort(-(queries @ vectors.T), axis=1)[:, :20]
    in_memory = index.search_many(queries, 20)
    monkeypatch.setattr(table_module, "HELD_BYTES", 0)
    monkeypatch.setattr(table_module, "BLOCK_BYTES", 4096)
    in_blocks = Index.open(index.folder).search_many(queries, 20)
    for i, wanted in enumerate(expected):
        assert _paths(in_memory[i]) == _paths(in_blocks[i]) == [str(row) for row in wanted]
        np.testing.assert_allclose(
            [hit.score for hit in in_blocks[i]], (queries[i] @ vectors.T)[wanted], atol=1e-6
        )


def test_blocks_are_small(index, monkeypatch):
    dim = index.about["dim"]
    monkeypatch.setattr(table_module, "BLOCK_BYTES", 4 * dim * 100)
    sizes = [len(block) for block, _ in index._table.blocks()]
    assert sum(sizes) == ROWS
    assert max(sizes) <= 100 + 1024  # LanceDB gives 1024 rows at a time


def test_recall_is_measured_stored_and_true(index, vectors):
    built = index.build_ann()
    assert set(built.recall) == {"images"}  # no captions are stored
    assert built.reached and built.rows == built.trained_rows == ROWS
    assert Index.open(index.folder).approximate == built
    queries = _clustered(100, vectors.shape[1], seed=5)
    result = index.search_many(queries, 10)
    true = np.argsort(-(queries @ vectors.T), axis=1)[:, :10].astype(str)
    share = np.mean([len(set(t) & set(_paths(f))) / 10 for t, f in zip(true, result, strict=True)])
    assert share >= built.recall["images"].ci_low - 0.02
    assert index.find(queries[0], 10).approximate == built
    exact = index.find(queries[0], 10, exact=True)
    assert exact.approximate is None
    assert _paths(exact.hits[0]) == true[0].tolist()


def test_the_measured_recall_is_that_of_the_search_that_is_used(index, vectors, monkeypatch):
    """An independent count, with the queries of the measurement, of what `search` finds."""
    monkeypatch.setattr(approximate, "FIRST_CODES", 0)
    monkeypatch.setattr(approximate, "FIRST_PROBES", 3)
    built = index.build_ann(target=0.01, sample=100, seed=3)
    assert built.effort == Effort(3, 200)
    probe = index._probes(100, 3)["images"]
    shares = []
    names = {row: v["path"] for row, v in index._table.take(probe.own, ["path"]).items()}
    for query, own in list(zip(probe.queries, probe.own, strict=True))[100:]:
        me = names[int(own)]
        true = set(np.argsort(-(vectors @ query))[:10].astype(str)) - {me}
        result = set(_paths(index.search(query, 10)))
        shares.append(len(true & result) / len(true))
    assert built.recall["images"].value == pytest.approx(np.mean(shares), abs=1e-9)


def test_many_queries_at_once_are_answered_as_one_by_one(index, vectors):
    index.build_ann()
    _fill(index, _clustered(30, vectors.shape[1], seed=8), first=ROWS)
    queries = _clustered(70, vectors.shape[1], seed=6)  # more than LanceDB gets together
    one_by_one = [index.search(query, 7) for query in queries]
    together = index.search_many(queries, 7)
    assert [_paths(hits) for hits in together] == [_paths(hits) for hits in one_by_one]
    np.testing.assert_allclose(
        [hit.score for hits in together for hit in hits],
        [hit.score for hits in one_by_one for hit in hits],
        atol=1e-5,
    )


def test_a_hard_target_takes_more_effort(index, vectors, monkeypatch):
    easy = index.build_ann(target=0.1)
    hard = index.build_ann(target=1.0)
    assert hard.effort.nprobes >= easy.effort.nprobes
    assert hard.recall["images"].value >= easy.recall["images"].value
    assert hard.trained_rows == easy.trained_rows


def test_captions_are_queries_too(encoder, vectors, tmp_path):
    index = Index.create(tmp_path / "said", encoder)
    _fill(index, vectors[:400], captions=True)
    built = index.build_ann(sample=50)
    assert {name: measured.queries for name, measured in built.recall.items()} == {
        "images": 50,
        "sentences": 50,
    }


def test_rows_added_later_are_found_and_counted(index, vectors):
    index.build_ann()
    new = _clustered(50, vectors.shape[1], seed=8)
    _fill(index, new, first=ROWS)
    other = Index.open(index.folder)
    result = other.find(new[7], 3)
    assert result.hits[0][0].path == str(ROWS + 7)
    assert (result.unindexed, result.approximate.rows) == (50, ROWS)
    folded = other.build_ann()
    assert (other.unindexed, folded.rows, folded.trained_rows) == (0, ROWS + 50, ROWS)
    assert other.search(new[7], 1)[0].path == str(ROWS + 7)


def test_a_table_that_has_doubled_is_trained_anew(index, vectors):
    before = index.build_ann()
    _fill(index, _clustered(ROWS, vectors.shape[1], seed=9), first=ROWS)
    after = index.build_ann()
    assert (before.trained_rows, after.trained_rows) == (ROWS, 2 * ROWS)
    assert after.partitions > before.partitions


def test_an_index_of_before_the_measurement_is_used_and_says_so(index, vectors):
    from lancedb.index import IvfPq

    index._table.inner.create_index("vector", config=IvfPq(distance_type="cosine"))
    result = index.find(vectors[3], 1)
    assert result.hits[0][0].path == "3"
    assert isinstance(result.approximate, Approximate)
    assert "not measured" in result.approximate.description()
    assert index.build_ann().kind == "IVF_RQ"


def test_a_condition_is_filled_up_and_a_narrow_one_is_exact(index, vectors):
    index.build_ann(target=0.01)
    wide = index.find(vectors[0], 10, where="path LIKE '%1%'")
    assert wide.approximate is not None and len(wide.hits[0]) == 10
    assert all("1" in hit.path for hit in wide.hits[0])
    narrow = index.find(vectors[0], 10, where="path LIKE '%11%'")
    assert narrow.approximate is None
    rows = [i for i in range(ROWS) if "11" in str(i)]
    best = sorted(rows, key=lambda i: -float(vectors[i] @ vectors[0]))[:10]
    assert _paths(narrow.hits[0]) == [str(row) for row in best]


def test_a_condition_on_far_rows_makes_the_search_go_on(index, vectors, monkeypatch):
    monkeypatch.setattr(index_module, "EXACT_LIMIT", 200)
    index.build_ann()
    index.about["ann"]["effort"]["nprobes"] = 1
    far = np.argsort(vectors @ vectors[0])[:300]
    where = f"path IN ({', '.join(repr(str(row)) for row in far)})"
    (rows,) = index._table.nearest(vectors[:1], 10, Effort(1, 200), where)
    assert len(rows) == 10  # though none of them is in the nearest partition
    result = index.find(vectors[0], 10, where=where)
    assert result.approximate is not None
    assert len(result.hits[0]) == 10
    assert set(_paths(result.hits[0])) <= set(far.astype(str))


def test_an_open_index_sees_what_another_writes(index, vectors):
    index.search(vectors[0], 1)
    other = Index.open(index.folder)
    new = _clustered(1, vectors.shape[1], seed=11)
    _fill(other, new, first=ROWS)
    other._table.optimise()
    assert index.search(new[0], 1)[0].path == str(ROWS)
    other._table.delete([str(ROWS)])
    assert index.search(new[0], 1)[0].path != str(ROWS)


def test_a_reader_of_an_old_version_is_not_broken_by_tidying(index, vectors):
    for start in range(5):
        _fill(index, vectors[:10], first=ROWS + 10 * start)
    reader = Index.open(index.folder)
    (_, rows), *_ = reader._table.blocks()
    index._table.optimise()
    index._table.optimise()
    values = reader._table.take(rows, ["path"])  # between the two reads of one search
    assert sorted(int(value["path"]) for value in values.values()) == list(range(ROWS + 50))


def test_many_small_commits_are_put_together(index, vectors):
    for start in range(table_module.SMALL_FILES + 2):
        _fill(index, vectors[:3], first=ROWS + 3 * start)
    files = index._table.inner.stats()["fragment_stats"]
    assert files["num_fragments"] > table_module.SMALL_FILES
    index._table.tidy(0)
    assert index._table.inner.stats()["fragment_stats"]["num_fragments"] < 5
    assert len(index) == ROWS + 3 * (table_module.SMALL_FILES + 2)


def test_what_lies_there_twice_goes_when_nobody_needs_it(index, vectors, monkeypatch):
    for start in range(table_module.SMALL_FILES + 2):
        _fill(index, vectors[:3], first=ROWS + 3 * start)
    index._table.tidy(0)
    stored = len(index._table.inner.list_versions())
    index._table.tidy(0)
    assert len(index._table.inner.list_versions()) == stored > table_module.SMALL_FILES
    monkeypatch.setattr(table_module, "KEEP_VERSIONS", timedelta(milliseconds=1))
    index._table.tidy(0)
    assert len(index._table.inner.list_versions()) < 5
    assert len(index.search(vectors[0], 5)) == 5


def test_a_busy_table_is_left_untidied_and_that_is_said(index, monkeypatch, capsys):
    def busy(**given):
        raise RuntimeError("lance error: Commit conflict for version 7")

    monkeypatch.setattr(index._table.inner, "optimize", busy)
    index._table.tidy(table_module.MANY_ROWS)
    assert "clean-up postponed (lance error: Commit conflict" in capsys.readouterr().err


def test_a_replaced_row_is_never_missing(index, vectors):
    versions = len(index._table.inner.list_versions())
    sample = Sample("5", index_module.Image.new("L", (1, 1)), ("new",))
    with index._table.writer() as writer:
        writer.add(as_rows([sample], [(1, 1)], vectors[9:10], plan_sync([sample]), "made"))
    assert len(index._table.inner.list_versions()) == versions + 1  # one commit, not two
    assert len(index) == ROWS
    assert {hit.path for hit in index.search(vectors[9], 2)} == {"5", "9"}


def test_a_row_that_another_has_committed_meanwhile_is_not_added_twice(index, vectors):
    sample = Sample("new", index_module.Image.new("L", (1, 1)))
    rows = as_rows([sample], [(1, 1)], vectors[:1], plan_sync([sample]), "made")
    other = Index.open(index.folder)
    assert other._table.version == index._table.version
    for one in (index, other):  # no lock: as on object storage
        with one._table.writer() as writer:
            writer.add(rows)
    assert len(Index.open(index.folder)) == ROWS + 1


def test_what_differs_is_found_without_the_database(vectors):
    image = index_module.Image.new("L", (1, 1))
    old = [Sample(name, image, (f"says {name}",)) for name in "abcd"]
    rows = as_rows(old, [(1, 1)] * 4, vectors[:4], plan_sync(old), "here").to_batches(2)
    expected = [old[0], Sample("b", image, ("says another thing",)),
              Sample("c", index_module.Image.new("L", (2, 1)), ("says c",)),
              Sample("e", image, ()), Sample("e", image, ("again",))]  # fmt: skip
    todo = compare(rows, plan_sync(expected), "here", remove=True)
    assert [plan_sync(expected).samples[i].id for i in todo.new] == ["b", "c", "e"]
    assert (todo.replaced, todo.gone) == ({"b", "c"}, ["d"])
    assert compare(rows, plan_sync(expected), "elsewhere", remove=True).gone == []
    assert compare(rows, plan_sync(expected), "here", remove=False).gone == []


@pytest.mark.parametrize(
    ("ask", "says"),
    [
        (lambda i: i.build_ann(target=0), "recall is a share: got 0"),
        (lambda i: i.build_ann(target=1.2), "recall is a share"),
        (lambda i: i.search_many(np.zeros((2, 3))), "the vectors do not fit the index"),
        (lambda i: i.search_many(np.zeros(i.about["dim"])), "the vectors do not fit the index"),
        (lambda i: i.search_many(np.zeros((1, i.about["dim"])), 0), "k must be at least 1"),
    ],
)
def test_what_cannot_be_asked_is_said(index, ask, says):
    with pytest.raises(UsageError, match=says):
        ask(index)


def test_no_vectors_are_no_answers(index):
    assert index.search_many(np.zeros((0, index.about["dim"]))) == []
