"""The cache of loaded models."""

import gc
import subprocess
import sys
import weakref
from concurrent.futures import ThreadPoolExecutor

import pytest
from tests.small_checkpoints import TEXT, VISION_AND_MAPS

from encoderlab.encoders.model_cache import share, weight_bytes, without_cache
from encoderlab.encoders.text import load_text
from encoderlab.encoders.vision import load_vision


@pytest.fixture
def sharing():
    before = share(1_000_000_000)
    yield
    share(before)


def test_kept_model_is_the_same_for_all_threads(sharing):
    with ThreadPoolExecutor(4) as pool:
        models = list(pool.map(lambda _: load_vision("tiny-clip", "cpu"), range(4)))
    assert len(set(map(id, models))) == 1


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
    encoder = load_vision("tiny-clip", "cpu", "float32")
    assert weight_bytes(encoder) >= 4 * sum(p.numel() for p in encoder.tower.parameters())


@pytest.mark.parametrize("room", [0, 1000])
def test_a_model_larger_than_the_cache_is_not_cached(room, sharing):
    share(room)
    assert load_vision("tiny-clip", "cpu") is not load_vision("tiny-clip", "cpu")


def test_without_cache_loads_again(sharing):
    first = load_vision("tiny-clip", "cpu")
    with without_cache():
        assert load_vision("tiny-clip", "cpu") is not first
    assert load_vision("tiny-clip", "cpu") is first


@pytest.fixture
def no_collection():
    gc.collect()
    gc.disable()
    yield
    gc.enable()


# `compare` loads one model after the other: two at once may be more than the memory holds.
@pytest.mark.parametrize("family", VISION_AND_MAPS)
def test_an_encoder_is_freed_with_its_last_name(family, vision_folder, pictures, no_collection):
    encoder = load_vision(vision_folder(family), "cpu", "float32")
    encoder.encode(pictures)
    weights = weakref.ref(next(encoder.tower.parameters()))
    del encoder
    assert weights() is None


@pytest.mark.parametrize("family", TEXT)
def test_a_language_model_is_freed_with_its_last_name(family, text_folder, no_collection):
    llm = load_text(text_folder(family), "cpu", "float32")
    llm.encode(["a cat"])
    weights = weakref.ref(next(llm.model.parameters()))
    del llm
    assert weights() is None


FIRST_LOAD = """
import gc, weakref
from encoderlab.encoders.vision import load_vision
gc.disable()
encoder = load_vision("tiny-clip", "cpu")
weights = weakref.ref(next(encoder.tower.parameters()))
del encoder
assert weights() is None
"""


def test_the_first_model_of_a_process_is_freed_too():
    subprocess.run([sys.executable, "-c", FIRST_LOAD], check=True)
