"""The store: whole chunks, found by content, the same bytes whatever happened on the way."""

import json
import os

import numpy as np
import pytest
import torch
from PIL import Image

from encoderlab.data.sample import Sample
from encoderlab.errors import UsageError, WorkError
from encoderlab.feature_store.store import FeatureStore, TableKey, digest_of, for_disk

KEY = TableKey("tiny", "f00d", "{}", "pooled", "float32")
# An .npy of one number: it has no rows.
SCALAR = (
    b"\x93NUMPY\x01\x00\x46\x00{'descr': '<f4', 'fortran_order': False, 'shape': (), }"
    + bytes([32] * 14)
    + b"\n"
    + bytes(4)
)


def digest(number: int) -> bytes:
    return number.to_bytes(16, "big")


def test_rows_come_back_in_the_order_asked_for(tmp_path):
    table = FeatureStore(tmp_path).table(KEY)
    values = np.arange(24, dtype=np.float32).reshape(8, 3)
    table.add([digest(i) for i in range(5)], values[:5])
    table.add([digest(i) for i in range(5, 8)], values[5:])
    order = [7, 0, 3, 3, 6]
    again = FeatureStore(tmp_path).table(KEY)
    np.testing.assert_array_equal(again.read([digest(i) for i in order]), values[order])
    assert len(again) == 8 and digest(9) not in again
    with pytest.raises(KeyError):
        again.read([digest(9)])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_every_number_format_survives_the_disk_bit_for_bit(tmp_path, dtype):
    values = torch.randn(4, 5, 3, generator=torch.Generator().manual_seed(0)).to(dtype)
    table = FeatureStore(tmp_path).table(KEY)
    table.add([digest(i) for i in range(4)], for_disk(values))
    read = table.read([digest(i) for i in range(4)])
    assert read.dtype == np.float32
    np.testing.assert_array_equal(read, values.float().numpy())
    batch = table.batch([digest(2), digest(0)])
    assert batch.dtype == dtype and torch.equal(batch, values[[2, 0]])


def test_identity_is_everything_but_the_name_of_the_encoder():
    changed = {
        TableKey("tiny", "beef", "{}", "pooled", "float32").name,
        TableKey("tiny", "f00d", '{"size": 96}', "pooled", "float32").name,
        TableKey("tiny", "f00d", "{}", "patches", "float32").name,
        TableKey("tiny", "f00d", "{}", "pooled", "bfloat16").name,
    }
    assert len(changed | {KEY.name}) == 5
    assert TableKey("other", "f00d", "{}", "pooled", "float32").name == KEY.name


def test_content_is_what_is_digested(tmp_path):
    image = Image.new("RGB", (4, 4), "red")
    image.save(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes((tmp_path / "a.png").read_bytes())
    assert digest_of(Sample("1", tmp_path / "a.png")) == digest_of(Sample("2", tmp_path / "b.png"))
    assert digest_of(Sample("1", image)) != digest_of(Sample("1", image.resize((2, 8))))
    assert digest_of("a") != digest_of("b")


def test_a_write_that_fails_leaves_nothing_half_written(tmp_path, monkeypatch):
    table = FeatureStore(tmp_path).table(KEY)
    table.add([digest(0)], np.ones((1, 2), np.float32))

    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "save", full)
    with pytest.raises(WorkError, match=r"cannot be stored.*No space left.*run the same command"):
        table.add([digest(1)], np.ones((1, 2), np.float32))
    monkeypatch.undo()
    assert [p.name for p in table.folder.iterdir() if p.name.startswith(".")] == []
    again = FeatureStore(tmp_path).table(KEY)
    assert len(again) == 1 and digest(1) not in again


def test_two_writers_of_one_chunk_leave_one(tmp_path):
    first, second = (FeatureStore(tmp_path).table(KEY) for _ in range(2))
    rows = [digest(0), digest(1)]
    place = first.add(rows, np.ones((2, 2), np.float32))
    assert second.add(rows, np.ones((2, 2), np.float32)) == place
    assert first.state().chunks == 1 and len(second) == 2


def test_a_flipped_bit_is_found_and_pruned(tmp_path):
    table = FeatureStore(tmp_path).table(KEY)
    place = table.add([digest(0)], np.ones((1, 64), np.float32))
    table.add([digest(1)], np.ones((1, 64), np.float32))
    values = place / "values.npy"
    content = bytearray(values.read_bytes())
    content[-1] ^= 1
    values.write_bytes(content)
    assert table.state().damaged == (), "only a thorough look reads every byte"
    assert table.state(verify=True).damaged == (place.name,)
    assert table.prune() == [place.name]
    assert digest(0) not in table and digest(1) in table


@pytest.mark.parametrize("file", ["values.npy", "digests.npy", "chunk.json"])
def test_a_chunk_that_lost_a_file_counts_as_not_there(tmp_path, file):
    table = FeatureStore(tmp_path).table(KEY)
    place = table.add([digest(0)], np.ones((1, 2), np.float32))
    (place / file).write_bytes(b"")
    fresh = FeatureStore(tmp_path).table(KEY)
    assert fresh.state().damaged == (place.name,)
    # Adding the same samples mends it.
    fresh.add([digest(0)], np.full((1, 2), 7, np.float32))
    mended = FeatureStore(tmp_path).table(KEY)
    assert mended.read([digest(0)]).tolist() == [[7, 7]] and not mended.state(verify=True).damaged


def test_the_reason_of_what_was_left_out_is_kept(tmp_path):
    table = FeatureStore(tmp_path).table(KEY)
    table.add([digest(0)], np.ones((1, 2), np.float32), {digest(1): "the file is empty"})
    again = FeatureStore(tmp_path).table(KEY)
    assert digest(1) in again and not again.has_values(digest(1))
    assert again.why_left_out(digest(1)) == "the file is empty"


def test_chunks_are_readable_by_others_and_described_for_people(tmp_path):
    table = FeatureStore(tmp_path).table(KEY)
    place = table.add([digest(0)], np.ones((1, 2), np.float32))
    assert os.stat(place).st_mode & 0o055 == 0o055
    assert json.loads((table.folder / "key.json").read_text())["encoder"] == "tiny"


def test_a_file_where_the_store_should_be_is_refused(tmp_path):
    (tmp_path / "store").touch()
    with pytest.raises(UsageError, match="the feature store is a file"):
        FeatureStore(tmp_path / "store")


@pytest.mark.parametrize(
    ("file", "content"),
    [
        # numpy reads the header with Python's tokenizer, whose errors are its own.
        ("digests.npy", b"\x93NUMPY\x01\x00\x10\x00{'descr': (\n    \n"),
        ("digests.npy", b"PK\x05\x06" + bytes(18)),  # an empty .npz
        ("values.npy", SCALAR),
        ("chunk.json", b"[" * 100_000),
        ("chunk.json", b'{"rows": 1, "left_out": [], "checksums": {}}'),
        ("chunk.json", b'{"rows": 1, "left_out": {}, "checksums": [1]}'),
        ("chunk.json", b'{"rows": 1, "left_out": {}, "checksums": {"../../x": "0"}}'),
    ],
)  # fmt: skip
def test_a_chunk_with_nonsense_in_a_file_is_damaged(tmp_path, file, content):
    place = FeatureStore(tmp_path).table(KEY).add([digest(0)], np.ones((1, 2), np.float32))
    (place / file).write_bytes(content)
    table = FeatureStore(tmp_path).table(KEY)
    assert table.state(verify=True).damaged == (place.name,)
    assert table.prune() == [place.name]


def test_values_that_are_cut_short_are_said_when_they_are_read(tmp_path):
    table = FeatureStore(tmp_path).table(KEY)
    place = table.add([digest(0), digest(1)], np.ones((2, 2), np.float32))
    np.save(place / "values.npy", np.ones((1, 2), np.float32))
    with pytest.raises(WorkError, match=r"stored features are damaged.*features prune"):
        FeatureStore(tmp_path).table(KEY).read([digest(1)])
    (place / "values.npy").write_bytes(b"")
    with pytest.raises(WorkError, match=r"stored features are damaged.*features prune"):
        FeatureStore(tmp_path).table(KEY).read([digest(1)])


def test_a_key_of_no_texts_is_no_table(tmp_path):
    table = FeatureStore(tmp_path).table(KEY)
    table.add([digest(0)], np.ones((1, 2), np.float32))
    key = table.folder / "key.json"
    key.write_text(json.dumps({**json.loads(key.read_text()), "encoder": 3}))
    assert FeatureStore(tmp_path).tables() == []
