"""A disk that is full or cannot be written: one clear sentence, nothing half-written, and what an
earlier run has left is as it was."""

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.faults.disks import PAGE, Disk
from tests.faults.jobs import photos as write_photos
from tests.faults.runs import Run, bytes_of, leftovers

KB = 1024
# The commands, and bytes to leave them: each fails at another of its writes.
FULL = [
    ("index", 12), ("features", 24), ("train", 100), ("compress", 100), ("search", 4),
]  # fmt: skip
if int(os.environ.get("ENCODERLAB_KILL_ROUNDS", "0")) >= 100:
    FULL += [
        ("index", 0), ("index", 40), ("features", 0), ("features", 60), ("train", 0),
        ("train", 12_000), ("compress", 0), ("compress", 400), ("evaluate", 4), ("compare", 4),
        ("compare", 64), ("stream", 8), ("export", 16),
    ]  # fmt: skip


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Noise pictures; one cannot be read. Not to be written to."""
    return write_photos(tmp_path_factory.mktemp("data") / "photos")


@pytest.fixture(scope="module")
def words(
    photos: Path, clip_folder: Path, world: Path, vision_folder: Callable[[str], Path], disk: Disk
) -> Callable[[str], list[str]]:
    """name -> a command whose output goes to the folder `out` of the disk."""
    out, csv = str(disk.place / "out"), str(world / "captions.csv")
    known = {
        "index": [
            "index", str(photos), "--db", out, "--model", str(clip_folder), "--output-dir", out,
        ],
        "features": [
            "features", "extract", str(photos), "--encoders", str(clip_folder), "--what", "pooled",
            "patches", "--batch-size", "8", "--output-dir", out,
        ],
        "train": [
            "train", "--train-csv", csv, "--epochs", "3", "--batch-size", "4", "--image-size",
            "32", "--patch-size", "8", "--vision-layers", "1", "--text-layers", "1",
            "--vocab-size", "300", "--precision", "fp32", "--device", "cpu", "--output-dir", out,
        ],
        "compress": [
            "compress", "training.epochs=2", "model.compressor.width=16", "training.batch_size=8",
            "--grid", "2", "--model", str(vision_folder("clip")), "--images",
            str(world / "images"), "--store", f"{out}/store", "--output-dir", out,
        ],
        "evaluate": ["evaluate", "--csv", csv, "--model", str(clip_folder), "--output-dir", out],
        "compare": [
            "compare", "--n-samples", "3", "--encoders", "tiny-clip",
            "tiny-siglip", "--llms", "tiny-llama", "--output-dir", out,
        ],
        "search": [
            "search", "--image", str(photos / "0001.png"), "--db", str(disk.place / "index"),
            "--html", f"{out}/hits.html", "--output-dir", out,
        ],
        "stream": [
            "stream", csv, "--encoders", "tiny-clip", "--llms", "tiny-llama", "--output-dir", out,
        ],
        "export": [
            "export", "--model", str(clip_folder), "--batch-sizes", "1", "--output-dir", out,
        ],
    }  # fmt: skip
    return lambda name: known[name]


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Disk]:
    """A disk that is emptied before every test."""
    found = Disk(tmp_path_factory.mktemp("disk") / "small")
    yield found
    found.remove()


@pytest.fixture
def empty(disk: Disk) -> Disk:
    """The disk, with nothing on it."""
    disk._remount("rw,size=256m")
    for path in sorted(disk.place.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    return disk


def _one_sentence(run: Run, code: int, *says: str) -> None:
    assert run.wait() == code, run.said
    said = run.err.read_text()
    assert said.count("encoderlab: error:") == 1, said
    for words in ("Traceback", "bug of ours", "Exception ignored"):
        assert words not in said, said
    for words in says:
        assert words in said, said


@pytest.mark.slow
@pytest.mark.parametrize("name, kilobytes", FULL, ids=lambda value: str(value))
def test_a_full_disk_is_one_sentence_and_leaves_what_was_there(
    name, kilobytes, words, server, empty, photos, tmp_path
):
    if name == "search":
        argv = [str(empty.place / "index") if w.endswith("/out") else w for w in words("index")]
        assert server.start(argv, tmp_path).wait() == 0
    out = empty.place / "out"
    out.mkdir()
    (out / "run.json").write_text('{"result": "of an earlier run"}')
    before = bytes_of(empty.place)
    empty.leave(KB * kilobytes)
    run = server.start(words(name), tmp_path, chunk=16, least_room=PAGE)
    _one_sentence(run, 1, str(empty.place))
    assert [one for one in leftovers(out) if not one.endswith(".locks")] == []
    after = bytes_of(empty.place)
    assert {path: after.get(path) for path in before} == before
    for path in out.rglob("*.json"):
        if "_versions" not in path.parts:  # Lance's own hint, which it does without if it is empty
            json.loads(path.read_text())


@pytest.mark.slow
@pytest.mark.parametrize("name", ["index", "features", "train", "search"])
def test_a_disk_that_is_read_only_is_said_before_the_work(name, words, server, empty, tmp_path):
    if name == "search":
        argv = [str(empty.place / "index") if w.endswith("/out") else w for w in words("index")]
        assert server.start(argv, tmp_path).wait() == 0
    empty.lock()
    before = bytes_of(empty.place)
    run = server.start(words(name), tmp_path)
    _one_sentence(run, 3, str(empty.place), "read-only")
    assert "images:" not in run.said and "extracting" not in run.said, "it was found out late"
    assert bytes_of(empty.place) == before


@pytest.mark.slow
def test_a_search_needs_no_more_than_an_index_to_read(words, server, empty, tmp_path):
    argv = [str(empty.place / "index") if w.endswith("/out") else w for w in words("index")]
    assert server.start(argv, tmp_path).wait() == 0
    empty.lock()
    kept = words("search")
    kept = [*kept[: kept.index("--html")], "--output-dir", "here", "--where", "width > 0"]
    run = server.start(kept, tmp_path)
    assert run.wait() == 0, run.said


@pytest.mark.slow
@pytest.mark.parametrize("name", ["index", "train"])
@pytest.mark.parametrize(
    "out, code, says",
    [("file/out", 2, "is a file"), ("n" * 300, 2, "path is too long"), ("file", 2, "is a file")],
    ids=["below-a-file", "too-long", "a-file"],
)
def test_a_place_where_no_folder_can_be_is_said(name, out, code, says, words, server, tmp_path):
    (tmp_path / "file").write_text("mine")
    argv = words(name)
    argv[argv.index("--output-dir") + 1] = out
    _one_sentence(server.start(argv, tmp_path), code, says)
    assert [one.name for one in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.slow
def test_full_temporary_and_cache_folders_do_not_end_in_a_traceback(words, server, empty, tmp_path):
    empty.leave(0)
    full = {name: str(empty.place) for name in ("TMPDIR", "TEMP", "TMP", "XDG_CACHE_HOME")}
    argv = words("index")
    argv[argv.index("--db") + 1] = argv[argv.index("--output-dir") + 1] = "here"
    run = server.start(argv, tmp_path, environment=full)
    assert run.wait() == 0, run.said


def test_no_room_for_a_copy_of_a_shard_is_said(empty, photos, tmp_path, monkeypatch):
    import fsspec
    from tests.pack import tar_of

    from encoderlab.data import read_samples
    from encoderlab.errors import WorkError

    whole = [one for one in read_samples(photos) if one.id != "0050.png"]
    shard = tar_of(whole, tmp_path / "s.tar").read_bytes()
    fsspec.filesystem("memory").pipe_file("/full/s.tar", shard)
    fsspec.filesystem("memory").pipe_file("/full/t.tar", shard)
    monkeypatch.setenv("ENCODERLAB_SHARD_CACHE", str(empty.place))
    empty.leave(len(shard) // 2)
    with pytest.raises(WorkError, match=r"no room for a copy.*ENCODERLAB_SHARD_CACHE") as error:
        read_samples("memory://full/s.tar")
    assert str(empty.place) in str(error.value)
    empty.leave(len(shard) + 4 * PAGE)
    assert len(read_samples("memory://full/s.tar")) == len(whole)
    # The copy that was not used for longest makes room where the disk has none.
    assert len(read_samples("memory://full/t.tar")) == len(whole)
    assert len(list(empty.place.glob("*.tar"))) == 1


def test_what_a_killed_fetch_left_goes(tmp_path, photos, monkeypatch):
    import fsspec

    from encoderlab.data import remote_files

    fsspec.filesystem("memory").pipe_file("/left/s.tar", b"content")
    monkeypatch.setenv("ENCODERLAB_SHARD_CACHE", str(tmp_path))
    copy = remote_files.local_copy("memory://left/s.tar")
    copy.unlink()
    left = tmp_path / f".{copy.stem}-99999"
    left.write_bytes(b"half")
    remote_files.local_copy("memory://left/s.tar")
    assert copy.exists() and not left.exists()
