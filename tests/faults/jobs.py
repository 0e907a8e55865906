"""The five commands that are killed: what each is told, what of an earlier result must hold after a
kill, and when its folder `out` is the one that an undisturbed run leaves.

Every run writes to `out` in the current folder.
"""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from tests.faults.runs import Server, Trace, bytes_of, leftovers

from encoderlab.feature_store.store import FeatureStore
from encoderlab.models import checkpoint
from encoderlab.retrieval.image_index import Index

CHUNK = 16
PICTURES, EARLIER = 120, 60
OUT = ["--output-dir", "out"]


@dataclass
class Job:
    """A command with what an undisturbed run of it does and leaves.

    Args:
        base: holds `whole/out`, what the run leaves; with an earlier result, `earlier/out`, and
            `onto/out`, what the run makes of that.
        files: how many files the run makes.
    """

    argv: list[str]
    base: Path
    trace: Trace
    files: int
    has_earlier: bool = field(default=False, init=False)

    def looks(self, out: Path, earlier: Path | None) -> None:
        """What must hold of `out` right after a kill."""
        raise NotImplementedError

    def same(self, out: Path, whole: Path) -> None:
        """Whether `out` is what an undisturbed run has left in `whole`."""
        raise NotImplementedError

    def again(self, out: Path) -> list[str]:
        """The words that go on from what a kill has left in `out`."""
        return self.argv


class IndexJob(Job):
    """Its earlier result: half of the pictures, two of them others by now, one of them gone."""

    has_earlier = True

    def looks(self, out: Path, earlier: Path | None) -> None:
        if not (out / "index.json").exists():
            assert earlier is None, "the index is gone"
            return
        found = rows_of(out)
        assert len(found) == len(Index.open(out)), "an image is there twice"
        if earlier is not None:
            before, after = rows_of(earlier), rows_of(self.base / "whole" / "out")
            for path in before.keys() & after.keys():
                assert path in found, f"{path} is lost"
                if before[path][0] == after[path][0]:
                    np.testing.assert_array_equal(found[path][1], before[path][1])

    def same(self, out: Path, whole: Path) -> None:
        found, expected = rows_of(out), rows_of(whole)
        assert found.keys() == expected.keys()
        assert len(Index.open(out)) == len(expected) == PICTURES - 1
        for path, (content, vector) in expected.items():
            assert found[path][0] == content, path
            np.testing.assert_allclose(found[path][1], vector, atol=1e-6)
        queries = np.stack([vector for _, vector in list(expected.values())[:5]])
        for one, other in zip(
            Index.open(out).search_many(queries, 7),
            Index.open(whole).search_many(queries, 7),
            strict=True,
        ):
            assert [hit.path for hit in one] == [hit.path for hit in other]
            np.testing.assert_allclose([h.score for h in one], [h.score for h in other], atol=1e-6)


def rows_of(out: Path) -> dict[str, tuple[str, np.ndarray]]:
    """path -> (hash, vector) of every row of an index."""
    rows = Index.open(out)._table.rows(["path", "hash", "vector"]).to_pylist()
    return {row["path"]: (row["hash"], np.array(row["vector"])) for row in rows}


class FeaturesJob(Job):
    """Its earlier result: the features of half of the pictures."""

    has_earlier = True

    def looks(self, out: Path, earlier: Path | None) -> None:
        for table in FeatureStore(out).tables():
            assert table.state(verify=True).damaged == ()
        if earlier is not None:
            here, before = bytes_of(out), bytes_of(earlier, leave_out=("run.json", "config.yaml"))
            assert {path: here.get(path) for path in before} == before

    def same(self, out: Path, whole: Path) -> None:
        assert bytes_of(out) == bytes_of(whole)
        tables = FeatureStore(out).tables()
        assert len(tables) == 2
        for table in tables:
            assert table.state(verify=True).damaged == ()
            assert table.state().left_out == 1


@dataclass
class TrainJob(Job):
    """Goes on with --resume once there is a state to resume from."""

    latest: str = "latest.ckpt"
    best: str = "best.ckpt"
    format: str = checkpoint.FORMAT
    exported: str = "export"

    def looks(self, out: Path, earlier: Path | None) -> None:
        for path in (out / "checkpoints").glob("*"):
            if not path.name.startswith("."):
                checkpoint.read(path, self.format)

    def again(self, out: Path) -> list[str]:
        if not (out / "checkpoints" / self.latest).exists():
            return self.argv
        return [*self.argv, "--resume", "out"]

    def same(self, out: Path, whole: Path) -> None:
        self.same_training(out, whole)

    def same_training(self, out: Path, whole: Path) -> None:
        """Whether both learnt the same, to the last bit."""
        for name in (self.latest, self.best):
            one, other = (
                checkpoint.read(folder / "checkpoints" / name, self.format)
                for folder in (out, whole)
            )
            assert equal(one, other), name
        assert bytes_of(out / self.exported) == bytes_of(whole / self.exported)
        assert sorted(bytes_of(out / "checkpoints")) == sorted(bytes_of(whole / "checkpoints"))
        one, other = (json.loads((f / "run.json").read_text())["result"] for f in (out, whole))
        for timed in ("seconds", "pairs_per_second", "images_per_second", "questions_per_second"):
            one.pop(timed, None)
            other.pop(timed, None)
        assert one == other


class CompressJob(TrainJob):
    """The same, and the store of tokens that it keeps."""

    def same(self, out: Path, whole: Path) -> None:
        self.same_training(out, whole)
        assert bytes_of(out / "store") == bytes_of(whole / "store")


class VLMJob(TrainJob):
    """The same, and the blind twin that is trained after it."""

    def same(self, out: Path, whole: Path) -> None:
        self.same_training(out, whole)
        assert bytes_of(out / "blind" / "model") == bytes_of(whole / "blind" / "model")


def equal(one: Any, other: Any) -> bool:
    """Whether two records of a checkpoint are the same to the last bit."""
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(equal(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(equal(a, b) for a, b in zip(one, other, strict=True))
    return one == other


def picture(number: int, side: int = 40) -> Image.Image:
    """A picture of its own for every number."""
    rng = np.random.default_rng(number)
    return Image.fromarray(rng.integers(0, 256, (side, side, 3), dtype=np.uint8))


def photos(folder: Path, count: int = PICTURES) -> Path:
    """Noise pictures, no two alike, and one among them that cannot be read."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        picture(number).save(folder / f"{number:04}.png")
    (folder / "0050.png").write_bytes(b"")
    return folder


def make(
    name: str, base: Path, server: Server, clip: Path, world: Path, vision: Callable[[str], Path]
) -> Job:
    """The job of a command, its undisturbed runs done."""
    if name == "index":
        argv = [
            "index", str(base / "photos"), "--db", "out", "--model", str(clip),
            "--batch-size", "8", *OUT,
        ]  # fmt: skip
        return _with_earlier(IndexJob, argv, base, server)
    if name == "features":
        argv = [
            "features", "extract", str(base / "photos"), "--encoders", str(clip),
            "--what", "pooled", "patches", "--batch-size", "8", *OUT,
        ]  # fmt: skip
        return _with_earlier(FeaturesJob, argv, base, server)
    if name == "train":
        argv = [
            "train", "--train-csv", str(world / "captions.csv"), "--epochs", "4",
            "--batch-size", "4", "--image-size", "32", "--patch-size", "8",
            "--vision-layers", "1", "--text-layers", "1", "--vocab-size", "300",
            "--precision", "fp32", "--device", "cpu", "--save-every-steps", "2", *OUT,
        ]  # fmt: skip
        trace, files = _undisturbed(argv, base / "whole", server)
        return TrainJob(argv, base, trace, files)
    if name == "vlm":
        argv = [
            "vlm", "train", "--n-images", "16", "--batch-size", "4", "--epochs", "2",
            "--reduce", "pixel_shuffle:6", "--features-dir", "out/store", "--precision", "fp32",
            "--device", "cpu", "--save-every-steps", "1", "--logger", "none", *OUT,
        ]  # fmt: skip
        trace, files = _undisturbed(argv, base / "whole", server)
        return VLMJob(argv, base, trace, files, format="encoderlab-vlm-1", exported="model")
    argv = [
        "compress", "training.epochs=3", "model.compressor.width=16", "training.batch_size=8",
        "--grid", "2", "--model", str(vision("clip")), "--images", str(world / "images"),
        "--store", "out/store", "training.save_every_steps=1", *OUT,
    ]  # fmt: skip
    trace, files = _undisturbed(argv, base / "whole", server)
    return CompressJob(
        argv, base, trace, files, "latest.pt", "best_model.pt", "encoderlab-compressor-1",
        "compressor",
    )  # fmt: skip


def _with_earlier(kind: type[Job], argv: list[str], base: Path, server: Server) -> Job:
    folder = photos(base / "photos", EARLIER)
    picture(1003).save(folder / "0003.png")
    picture(1017).save(folder / "0017.png")
    picture(2000).save(folder / "gone.png")
    _undisturbed(argv, base / "earlier", server)
    (folder / "gone.png").unlink()
    photos(folder)
    trace, files = _undisturbed(argv, base / "whole", server)
    shutil.copytree(base / "earlier", base / "onto")
    _undisturbed(argv, base / "onto", server)
    return kind(argv, base, trace, files)


def _undisturbed(argv: list[str], place: Path, server: Server) -> tuple[Trace, int]:
    place.mkdir(exist_ok=True)
    trace = server.trace(argv, place, chunk=CHUNK)
    left = [one for one in leftovers(place / "out") if not one.endswith(".locks")]
    assert left == [], "an undisturbed run leaves something behind"
    return trace, len(bytes_of(place / "out"))
