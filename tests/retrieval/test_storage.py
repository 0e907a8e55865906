"""An index at an address instead of in a folder, and what is said when that cannot be."""

import json
import sys

import pytest

from encoderlab.data import read_samples
from encoderlab.encoders.dual import load_dual
from encoderlab.errors import MissingError, UsageError
from encoderlab.retrieval.image_index import Index
from encoderlab.retrieval.storage import Storage


def test_an_index_at_an_address_is_that_of_the_folder(world, clip_folder, tmp_path):
    encoder = load_dual(str(clip_folder), "cpu", "float32")
    address = (tmp_path / "db").as_uri()
    index = Index.create(address, encoder)
    assert index.folder == address
    assert index.sync(read_samples(world / "captions.csv"), "a").added == 20
    again = Index.open(address + "/")
    again.use(encoder)
    in_folder = Index.open(tmp_path / "db")
    in_folder.use(encoder)
    assert again.search("a table", 3) == in_folder.search("a table", 3)
    assert len(again.search("a table", 3)) == 3


def test_a_file_at_an_address_is_written_read_and_missed(tmp_path):
    place = Storage((tmp_path / "deep" / "er").as_uri())
    assert place.read("index.json") is None
    place.write("index.json", "색인")
    assert place.read("index.json") == "색인"
    assert Storage(tmp_path / "deep/er").read("index.json") == "색인"


@pytest.mark.parametrize(
    ("address", "says"),
    [
        ("s3://key:secret@bucket/index", "hold no credentials.*got 's3://…@bucket/index'"),
        ("ftp://host/index", "unknown kind of storage.*s3://"),
        ("memory://index", "unknown kind of storage"),
    ],
)
def test_an_address_that_cannot_be_is_refused(address, says):
    with pytest.raises(UsageError, match=says) as error:
        Index.open(address)
    assert "secret" not in str(error.value)


@pytest.mark.parametrize(("address", "package"), [("s3://b/i", "s3fs"), ("gs://b/i", "gcsfs")])
def test_a_missing_package_is_named(address, package, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingError, match=f"not installed.*pip install {package}"):
        Index.open(address)


def test_options_come_from_the_environment_without_secrets(monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "me")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://localhost:9000")
    monkeypatch.setenv("AWS_REGION", "eu-central-1")
    assert Storage("s3://b/i").lance_options() == {
        "aws_endpoint": "http://localhost:9000",
        "allow_http": "true",
        "aws_region": "eu-central-1",
    }
    assert Storage("gs://b/i").lance_options() == {}


def test_nothing_secret_is_in_the_record(world, clip_folder, tmp_path, monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "very-secret")
    address = (tmp_path / "db").as_uri()
    Index.create(address, load_dual(str(clip_folder), "cpu", "float32"))
    record = (tmp_path / "db/index.json").read_text()
    assert set(json.loads(record)) == {"format", "model", "fingerprint", "dim", "preprocess"}
    for path in (tmp_path / "db").rglob("*"):
        assert path.is_dir() or b"very-secret" not in path.read_bytes()
