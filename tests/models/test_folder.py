"""The files of a checkpoint's folder: what is not there, or leads elsewhere, is named."""

import json
from pathlib import Path

import pytest

from encoderlab.errors import MissingError, UsageError
from encoderlab.models.folder import INDEX, WEIGHTS, read_record, shard_files, weight_files


def index_of(folder: Path, weight_map: object) -> Path:
    path = folder / INDEX
    path.write_text(json.dumps({"weight_map": weight_map}))
    return path


def test_shards_are_listed_once_in_order(tmp_path):
    for name in ("b", "a"):
        (tmp_path / name).touch()
    index = index_of(tmp_path, {"one": "b", "two": "a", "three": "b"})
    assert shard_files(index)["three"] == tmp_path / "b"
    assert weight_files(tmp_path) == [tmp_path / "a", tmp_path / "b"]


def test_one_file_needs_no_index(tmp_path):
    (tmp_path / WEIGHTS).touch()
    assert weight_files(tmp_path) == [tmp_path / WEIGHTS]


def test_one_file_goes_before_an_index_of_an_earlier_save(tmp_path):
    (tmp_path / WEIGHTS).touch()
    index_of(tmp_path, {"one": "model-00001-of-00002.safetensors"})
    assert weight_files(tmp_path) == [tmp_path / WEIGHTS]


def test_a_shard_that_is_not_there_is_named(tmp_path):
    index_of(tmp_path, {"logit_scale": "other.safetensors"})
    with pytest.raises(MissingError, match=r"a part of the weights is not there.*other\.safetens"):
        weight_files(tmp_path)


@pytest.mark.parametrize("name", ["../a", "/etc/passwd", 3, None])
def test_a_shard_elsewhere_is_refused(tmp_path, name):
    index_of(tmp_path, {"logit_scale": name})
    with pytest.raises(UsageError, match="leaves the checkpoint's folder"):
        weight_files(tmp_path)


@pytest.mark.parametrize("table", [{}, [], None, "a"])
def test_an_index_without_a_table_is_none(tmp_path, table):
    index_of(tmp_path, table)
    with pytest.raises(UsageError, match="names no file"):
        weight_files(tmp_path)


def test_pickles_alone_are_said(tmp_path):
    with pytest.raises(MissingError, match="no weights in safetensors") as error:
        weight_files(tmp_path)
    assert "pickled weights" not in str(error.value)
    (tmp_path / "pytorch_model.bin").touch()
    with pytest.raises(MissingError, match="only pickled weights are there"):
        weight_files(tmp_path)


def test_json_that_is_none_is_said(tmp_path):
    (tmp_path / "config.json").write_text("[1")
    with pytest.raises(UsageError, match=r"config\.json cannot be read"):
        read_record(tmp_path / "config.json")
