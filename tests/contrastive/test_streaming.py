"""Pairs from shards: every row once, on one rank; the same run after a break; bad images."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.pack import shards_of, tar_of
from tests.small_models import make_clip

from encoderlab.contrastive import images, streaming
from encoderlab.contrastive.dataset import ImageTextDataset
from encoderlab.contrastive.streaming import StreamSchedule, Units
from encoderlab.contrastive.train import run
from encoderlab.data import read_samples
from encoderlab.errors import WorkError
from encoderlab.training.schedule import Schedule

sizes = st.lists(st.integers(1, 9), min_size=1, max_size=12)


def _units(shards: list[int], window: int = 6, most: int | None = None) -> Units:
    return Units(np.repeat(np.arange(len(shards)), shards), window, most)


@settings(max_examples=60)
@given(sizes, st.integers(1, 4), st.integers(1, 3), st.integers(0, 5), st.integers(0, 50))
def test_no_row_comes_twice_in_an_epoch_and_a_run_goes_on_anywhere(shards, world, each, seed, at):
    units = _units(shards)
    rows = sum(shards)
    if rows < world * each:
        return
    plans = [
        StreamSchedule(rows, world * each, 3, seed, rank, world, units) for rank in range(world)
    ]
    steps = plans[0].steps_per_epoch
    assert steps >= 1 and all(plan.steps_per_epoch == steps for plan in plans)
    batches = [list(plan.batches()) for plan in plans]
    for epoch in range(3):
        part = slice(epoch * steps, (epoch + 1) * steps)
        visited = [row for own in batches for batch in own[part] for row in batch]
        assert len(visited) == len(set(visited)) == steps * world * each
    for plan, own in zip(plans, batches, strict=True):
        assert len(own) == plan.total_steps == 3 * steps
        assert list(plan.batches(min(at, len(own)))) == own[min(at, len(own)) :]


@given(sizes, st.integers(0, 5))
def test_one_rank_alone_sees_every_row_of_an_epoch(shards, epoch):
    rows = sum(shards)
    plan = StreamSchedule(rows, 1, 9, 0, units=_units(shards))
    assert sorted(plan.order(epoch)) == list(range(rows))


def test_shards_are_read_one_window_after_the_other_in_another_order_every_epoch():
    shards = [5] * 40
    plan = StreamSchedule(200, 10, 9, 0, units=_units(shards, window=15))
    of = plan.units.of
    orders = [plan.order(epoch) for epoch in (0, 1)]
    for order in orders:
        for start in range(0, 195, 15):
            assert len(set(of[order[start : start + 15]])) == 3, "three shards at a time"
        first = of[order[:15]]
        assert (first[1:] != first[:-1]).sum() > 3, "shuffled within the window"
    assert set(of[orders[0][:15]]) != set(of[orders[1][:15]])
    few = StreamSchedule(200, 10, 9, 0, units=_units(shards, window=10**6, most=4))
    assert len(set(of[few.order(0)[:20]])) == 4


@pytest.fixture(scope="module")
def shards(world: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    return shards_of(read_samples(world / "captions.csv"), tmp_path_factory.mktemp("shards"), 4)


SHAPE = {
    "image_size": 32, "patch_size": 16, "vision_width": 32, "vision_layers": 1, "vision_heads": 2,
    "text_width": 32, "text_layers": 1, "text_heads": 2, "embed_dim": 16, "vocab_size": 300,
    "context_length": 16, "device": "cpu", "precision": "fp32", "logger": "none", "seed": 3,
}  # fmt: skip


def test_shards_in_memory_train_to_the_numbers_of_the_same_pairs_as_csv(shards, world, tmp_path):
    options = {"epochs": 1, "batch_size": 8, **SHAPE}
    csv = str(world / "captions.csv")
    ours = run(train_csv=shards, val_csv=csv, out=tmp_path / "a", **options)
    plain = run(train_csv=csv, val_csv=csv, out=tmp_path / "b", **options)
    assert ours.loss == plain.loss and ours.train_pairs == plain.train_pairs


def test_a_streamed_run_that_is_cut_off_ends_with_the_same_numbers(
    shards, world, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(streaming, "WINDOW", 12)
    options = {"batch_size": 4, "in_memory": "no", "num_workers": 1, "save_every_steps": 1, **SHAPE}
    options |= {"train_csv": shards, "val_csv": str(world / "captions.csv"), "epochs": 2}
    whole = run(out=tmp_path / "whole", **options)
    assert "read from their shards as they are needed" in capsys.readouterr().err
    from encoderlab.contrastive.loop import ContrastiveTrainer

    step = ContrastiveTrainer.train_step

    def dies(self, batch):
        if self.step == 7:
            raise KeyboardInterrupt
        return step(self, batch)

    monkeypatch.setattr(ContrastiveTrainer, "train_step", dies)
    with pytest.raises(KeyboardInterrupt):
        run(out=tmp_path / "cut", **options)
    monkeypatch.setattr(ContrastiveTrainer, "train_step", step)
    rest = run(out=tmp_path / "cut", resume=str(tmp_path / "cut"), **options)
    assert rest.steps == whole.steps and rest.loss == whole.loss


def test_an_unreadable_image_gives_its_place_away(world, tmp_path, capsys):
    samples = read_samples(world / "captions.csv")[:6]
    shard = tar_of(samples, tmp_path / "a.tar")
    listed = read_samples(shard)
    content = bytearray(shard.read_bytes())
    for broken in (listed[0].image, listed[3].image):
        content[broken.start : broken.start + broken.size] = b"\0" * broken.size
    shard.write_bytes(content)
    clip = make_clip()
    pairs = ImageTextDataset(listed, clip.tokenizer, clip.preprocess)
    first = np.unique(pairs.image_of, return_index=True)[1]
    batch = pairs.__getitems__(first)
    assert batch.image_ids.tolist() == [1, 1, 2, 2, 4, 5]
    assert (batch.pixels[0] == batch.pixels[1]).all() and len(batch.tokens) == 6
    pairs.__getitems__(first)
    assert capsys.readouterr().err.count("left out: cannot use the image") == 2
    with pytest.raises(WorkError, match="no image of a batch can be read"):
        pairs.__getitems__(first[[0, 3]])


def test_what_is_kept_in_memory_is_chosen_by_its_size(shards, world, monkeypatch):
    listed, files = read_samples(shards), read_samples(world / "captions.csv")
    preprocess = make_clip().preprocess
    assert images.images_of(listed, preprocess, "x", "auto").pixels is not None
    assert images.images_of(listed, preprocess, "x", "no").streamed
    assert images.images_of(files, preprocess, "x", "no").pixels is None
    monkeypatch.setattr(images, "MEMORY_FOR_IMAGES", 1000)
    assert images.images_of(listed, preprocess, "x", "auto").streamed
    assert images.images_of(listed, preprocess, "x", "yes").pixels is not None
    assert Units.of_samples(files, [1] * len(files)) is None
    assert isinstance(Schedule(10, 2, 1), Schedule)


@pytest.mark.slow
def test_two_processes_stream_the_same_shards(shards, tmp_path):
    words = ["train", "--train-csv", shards, "--in-memory", "no", "--epochs", "1"]
    words += ["--batch-size", "4", "--output-dir", str(tmp_path)]
    words += [f"{key}={value}" for key, value in SHAPE.items()]
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    done = subprocess.run(
        [sys.executable, *launch, "-m", "encoderlab", *words],
        capture_output=True, text=True, timeout=200,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert "processes: 2 on one machine" in done.stderr
    assert done.stdout.count("best epoch 1") == 1
    assert (tmp_path / "run.json").is_file()
