"""Extraction by a Ray cluster: the same store as the plain one, and a worker that dies."""

import functools
import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from encoderlab.data import Sample, read_samples
from encoderlab.encoders.text import load_text
from encoderlab.encoders.vision import VisionEncoder, load_vision
from encoderlab.errors import UsageError, WorkError
from encoderlab.feature_store import ray_engine
from encoderlab.feature_store.engines import engine
from encoderlab.feature_store.extract import extract_images, extract_texts
from encoderlab.feature_store.local_engine import LocalEngine
from encoderlab.feature_store.ray_engine import RayEngine
from encoderlab.feature_store.store import FeatureStore
from encoderlab.feature_store.streamed import Streamed
from encoderlab.feature_store.task import ImageTask
from encoderlab.metrics.cka import cka
from encoderlab.metrics.moments import merge

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("ray")]
FP32 = {"device": "cpu", "dtype": "float32"}
SIZES = {"batch_size": 8, "chunk_size": 16}


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    """As the workers have: in another order, sums differ in the last digit."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def cluster() -> Iterator[RayEngine]:
    """Two workers on this machine."""
    import ray

    result = RayEngine(workers=2)
    yield result
    ray.shutdown()


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> list[Sample]:
    folder = tmp_path_factory.mktemp("many")
    rng = np.random.default_rng(0)
    for i in range(90):
        pixels = rng.integers(0, 256, (40, 40, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{i:04}.png")
    (folder / "0020.png").write_bytes(b"")  # one that cannot be read, in the middle
    return read_samples(folder)


@pytest.fixture(scope="module")
def encoder(clip_folder: Path) -> VisionEncoder:
    return load_vision(clip_folder, **FP32)


def bytes_of(store: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(store)): path.read_bytes()
        for path in store.rglob("*")
        if path.is_file() and ".locks" not in path.parts
    }


@pytest.fixture(scope="module")
def plain(encoder, samples, tmp_path_factory) -> Path:
    store = tmp_path_factory.mktemp("plain")
    extract_images(encoder, samples, store, what=("pooled", "patches"), **SIZES)
    return store


def test_texts_are_the_same_too(cluster, text_folder, tmp_path):
    llm = load_text(text_folder("llama"), **FP32)
    texts = [f"w{i} w{i % 7}" for i in range(20)]
    ours = extract_texts(llm, texts, tmp_path / "ray", layers=(1,), by=cluster, **SIZES)
    local = extract_texts(llm, texts, tmp_path / "local", layers=(1,), **SIZES)
    np.testing.assert_array_equal(ours.array("mean@1"), local.array("mean@1"))


def test_shard_moments_merge_to_the_same_cka(cluster, encoder, samples, text_folder, tmp_path):
    llm = load_text(text_folder("llama"), **FP32)
    texts = [f"w{i % 9} w{i % 7}" for i in range(90)]
    result = {}
    for name, by in (("ray", cluster), ("local", LocalEngine())):
        images = extract_images(encoder, samples, tmp_path, by="local", **SIZES)
        text = extract_texts(llm, texts, tmp_path, **SIZES)
        rows = range(len(images))
        streamed = Streamed.empty()
        streamed.add({"image": (images, rows), "text": (text, rows)}, by)
        whole = merge(streamed.shares)
        result[name] = (whole.n, whole.cka("image", "text"))
    assert result["ray"][0] == result["local"][0] == 89
    assert result["ray"][1] == pytest.approx(result["local"][1], abs=1e-10)
    expected = float(cka(images.array(), text.array()[:89]))
    assert result["ray"][1] == pytest.approx(expected, abs=1e-10)


def _die_once(mark: Path) -> None:
    try:
        mark.touch(exist_ok=False)
    except FileExistsError:
        return
    os.kill(os.getpid(), signal.SIGKILL)


def _prepare_or_die(prepare, marks: Path, item: Sample):
    if item.id == "0033.png":
        _die_once(marks / "decoding")
    return prepare(item)


@dataclass(frozen=True)
class _DiesOnce(ImageTask):
    """Kills the process that decodes, and later the one that computes, each once."""

    marks: Path = Path()

    def preparing(self):
        return functools.partial(_prepare_or_die, super().preparing(), self.marks)

    def compute(self, rows):
        if len(list((self.marks / "store").glob("*/*/chunk.json"))) >= 2:
            _die_once(self.marks / "computing")
        return super().compute(rows)


def test_the_store_is_the_plain_one_to_the_byte_though_workers_are_killed(
    cluster, encoder, samples, plain, tmp_path, monkeypatch
):
    from encoderlab.feature_store import extract

    def dying(encoder, kinds):
        return _DiesOnce(encoder, kinds, marks=tmp_path)

    monkeypatch.setattr(extract, "ImageTask", dying)
    store = tmp_path / "store"
    both = ("pooled", "patches")
    result = extract_images(encoder, samples, store, what=both, by=cluster, **SIZES)
    assert result.computed == 90 and [skipped.id for skipped in result.skipped] == ["0020.png"]
    assert (tmp_path / "decoding").exists() and (tmp_path / "computing").exists()
    for table in FeatureStore(store).tables():
        table.prune()  # what the killed worker was writing
    assert bytes_of(store) == bytes_of(plain)


def _refuses(item: int) -> int:
    if item == 3:
        raise UsageError("this one is wrong", got=item)
    return item + 1


def _dies(item: int) -> int:
    os.kill(os.getpid(), signal.SIGKILL)
    return item


def test_what_a_worker_says_is_said_here(cluster):
    assert list(cluster.map(_refuses, range(3))) == [1, 2, 3]
    with pytest.raises(UsageError, match="this one is wrong: got 3"):
        list(cluster.map(_refuses, range(9)))


def test_a_worker_that_always_dies_ends_the_work_in_words(cluster, monkeypatch):
    monkeypatch.setattr(ray_engine, "RETRIES", 0)
    with pytest.raises(WorkError, match="the workers failed"):
        list(cluster.map(_dies, [1]))


def test_engines_by_name(cluster):
    assert isinstance(engine("local"), LocalEngine) and engine(cluster) is cluster
    with pytest.raises(UsageError, match=r"unknown engine.*'spark'.*local, ray"):
        engine("spark")
    with pytest.raises(UsageError, match="workers must not be negative"):
        RayEngine(workers=-1)


def test_a_folder_for_temporary_files_with_too_long_a_path_is_named(monkeypatch, tmp_path):
    import ray
    from ray._private.utils import validate_socket_filepath

    def init(**_: object) -> None:  # its own check, though a cluster may be up here already
        validate_socket_filepath(f"{os.environ['RAY_TMPDIR']}/ray/session/sockets/plasma_store")

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", init)
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path / ("x" * 100)))
    with pytest.raises(UsageError, match=r"so long a path.*x{100}.*RAY_TMPDIR"):
        RayEngine(workers=2)
