"""Models that a long-running process keeps."""

from __future__ import annotations

import threading

import pytest

from encoderlab.encoders.model_cache import share, weight_bytes, without_cache
from encoderlab.encoders.vision import load_vision


@pytest.fixture
def sharing():
    before = share(1_000_000_000)
    yield
    share(before)


def test_nothing_is_kept_unless_asked_for():
    share(0)
    assert load_vision("tiny-clip", "cpu") is not load_vision("tiny-clip", "cpu")


def test_kept_model_is_the_same_for_all_threads(sharing):
    found = []
    threads = [
        threading.Thread(target=lambda: found.append(load_vision("tiny-clip", "cpu")))
        for _ in range(4)
    ]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert len(found) == 4 and len(set(map(id, found))) == 1


def test_other_format_or_resolution_is_another_model(sharing):
    first = load_vision("tiny-clip", "cpu", "float32")
    assert load_vision("tiny-clip", "cpu", "bfloat16") is not first
    assert load_vision("tiny-clip", "cpu", "float32") is first
    assert load_vision("tiny-clip", "cpu", "float32", resolution=48) is not first


def test_least_recently_used_goes_first_when_the_room_is_full(sharing):
    names = ("tiny-clip", "tiny-dinov2", "tiny-siglip")
    sizes = [weight_bytes(load_vision(name, "cpu")) for name in names]
    assert all(size > 1_000_000 for size in sizes)
    share(0)
    share(sum(sizes) - 1)
    first, second, _ = (load_vision(name, "cpu") for name in names)
    assert load_vision("tiny-dinov2", "cpu") is second
    assert load_vision("tiny-clip", "cpu") is not first


def test_weights_are_counted_as_torch_counts_them():
    tower = load_vision("tiny-clip", "cpu", "float32").tower
    counted = weight_bytes(load_vision("tiny-clip", "cpu", "float32"))
    assert counted >= 4 * sum(one.numel() for one in tower.parameters())


def test_model_larger_than_the_room_is_given_and_not_kept(sharing):
    share(1000)
    assert load_vision("tiny-clip", "cpu") is not load_vision("tiny-clip", "cpu")


def test_apart_loads_anew(sharing):
    first = load_vision("tiny-clip", "cpu")
    with without_cache():
        assert load_vision("tiny-clip", "cpu") is not first
    assert load_vision("tiny-clip", "cpu") is first
