"""The copy of an index that a search reads: the same answers, and never an old one."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from encoderlab.data import read_samples
from encoderlab.encoders.dual import load_dual
from encoderlab.errors import UsageError
from encoderlab.retrieval import arrow_cache
from encoderlab.retrieval.exact import nearest
from encoderlab.retrieval.image_index import Index


@pytest.fixture(scope="module")
def encoder(clip_folder):
    return load_dual(str(clip_folder), "cpu", "float32")


@pytest.fixture
def index(encoder, world, tmp_path) -> Index:
    made = Index.create(tmp_path / "index", encoder)
    made.sync(read_samples(world / "images"), "world")
    made.prepare_search()
    return made


def _opened(index: Index, encoder) -> Index:
    result = Index.open(index.folder)
    result.use(encoder)
    return result


def test_a_search_from_the_copy_needs_no_database_and_answers_the_same(index, encoder):
    copied = _opened(index, encoder)
    assert copied.search("a red circle", 7) == index.search("a red circle", 7)
    assert len(copied) == len(index) == 20
    assert copied._opened is None
    assert copied.search("a table", 3, "width > 0") == index.search("a table", 3, "width > 0")
    assert copied._opened is not None  # a condition is the database's business


def test_a_changed_table_makes_the_copy_stale(index, encoder, tmp_path):
    assert _opened(index, encoder)._opened is None
    Image.new("RGB", (40, 40), "red").save(tmp_path / "new.png")
    index.add(_one(tmp_path / "new.png"))
    again = _opened(index, encoder)
    assert len(again) == 21
    assert {hit.path for hit in again.search("a red circle", 21)} >= {str(tmp_path / "new.png")}
    again.prepare_search()
    assert _opened(index, encoder)._opened is None


def _one(path: Path):
    from encoderlab.data.sample import Sample

    return [Sample(path.name, path, ())]


@pytest.mark.parametrize("content", [b"", b"junk", None])
def test_a_broken_copy_is_as_none(index, encoder, content):
    path = index.folder / arrow_cache.FILE
    path.write_bytes(path.read_bytes()[:-20] if content is None else content)
    result = _opened(index, encoder)
    assert result._opened is not None and len(result.search("a table", 2)) == 2


def test_a_copy_whose_lengths_lie_is_as_none_and_never_read_beyond_its_memory(index, encoder):
    path = index.folder / arrow_cache.FILE
    whole = path.read_bytes()
    table = index.folder / "images.lance"
    for at in range(8, len(whole) - 8, max(1, len(whole) // 300)):
        path.write_bytes(whole[:at] + b"\xff\xff\xff\x7f" + whole[at + 4 :])
        copy = arrow_cache.read(index.folder, table)
        if copy is not None and len(copy):
            _, rows = nearest(np.ones((1, copy.dim), np.float32), copy.blocks(), 2)
            copy.take(rows[0])


def test_a_damaged_table_is_said_in_spite_of_a_copy(index):
    for version in (index.folder / "images.lance" / "_versions").iterdir():
        version.write_bytes(b"junk")
    with pytest.raises(UsageError, match="the index is damaged"):
        Index.open(index.folder)


def test_a_large_table_has_no_copy(index, encoder, monkeypatch):
    monkeypatch.setattr(arrow_cache, "MOST_ROWS", 19)
    index.prepare_search()
    assert not (index.folder / arrow_cache.FILE).exists()
