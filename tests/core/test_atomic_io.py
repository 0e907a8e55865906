"""A file is there whole or as it was."""

import errno
import multiprocessing
import os
import shutil
import signal
import tempfile
from pathlib import Path

import pytest

from encoderlab.core import atomic_io
from encoderlab.core.atomic_io import (
    atomic_folder,
    atomic_write,
    check_writable,
    remove_stale,
    write_text_atomic,
)
from encoderlab.errors import UsageError


def test_the_new_text_takes_the_place_of_the_old(tmp_path):
    path = tmp_path / "deep" / "a.txt"
    write_text_atomic(path, "하나\r\n")
    write_text_atomic(path, "둘\n")
    assert path.read_bytes().decode() == "둘\n"
    assert path.stat().st_mode & 0o444 == 0o444
    assert [file.name for file in path.parent.iterdir()] == ["a.txt"]


def test_what_goes_wrong_leaves_the_old_and_nothing_beside_it(tmp_path):
    path = tmp_path / "a.txt"
    write_text_atomic(path, "old")
    with pytest.raises(KeyboardInterrupt), atomic_write(path) as unfinished:
        unfinished.write_text("half")
        raise KeyboardInterrupt
    assert path.read_text() == "old"
    assert [file.name for file in tmp_path.iterdir()] == ["a.txt"]


def test_a_full_disk_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "a.json"
    write_text_atomic(path, "old")

    def no_space(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(atomic_io.os, "fsync", no_space)
    with pytest.raises(OSError, match="No space"):
        write_text_atomic(path, "new")
    assert path.read_text() == "old"
    assert [file.name for file in tmp_path.iterdir()] == ["a.json"]


def test_the_new_folder_takes_the_place_of_the_old(tmp_path):
    path = tmp_path / "deep" / "folder"
    for name in ("first", "second"):
        with atomic_folder(path) as unfinished:
            (unfinished / "inside").mkdir()
            (unfinished / "inside" / name).write_text(name)
    assert [one.name for one in (path / "inside").iterdir()] == ["second"]
    assert path.stat().st_mode & 0o555 == 0o555
    assert [one.name for one in path.parent.iterdir()] == ["folder"]


def test_what_goes_wrong_leaves_the_old_folder_and_nothing_beside_it(tmp_path):
    path = tmp_path / "folder"
    with atomic_folder(path) as unfinished:
        (unfinished / "a").write_text("old")
    with pytest.raises(KeyboardInterrupt), atomic_folder(path) as unfinished:
        (unfinished / "a").write_text("half")
        raise KeyboardInterrupt
    assert (path / "a").read_text() == "old"
    assert [one.name for one in tmp_path.iterdir()] == ["folder"]


def _dies_while_it_writes(path: Path, write) -> None:
    """What a process leaves that is killed within the block of `write`."""

    def work() -> None:
        with write(path) as unfinished:
            if unfinished.is_dir():
                (unfinished / "a").write_text("half")
            os.kill(os.getpid(), signal.SIGKILL)

    process = multiprocessing.get_context("fork").Process(target=work)
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL


@pytest.mark.parametrize("write", [atomic_write, atomic_folder])
def test_what_a_killed_process_left_goes_when_the_same_is_written_next(write, tmp_path):
    place = tmp_path / "here" / "a.txt"
    _dies_while_it_writes(place, write)
    (left,) = place.parent.iterdir()
    write_text_atomic(place.with_name("b.txt"), "another")
    assert left.exists(), "it is no business of another file's writer"
    with write(place) as unfinished:
        assert not left.exists()
        remove_stale(place.parent)
        assert unfinished.exists(), "one that is being written stays"
    assert sorted(one.name for one in place.parent.iterdir()) == ["a.txt", "b.txt"]


def test_files_of_the_users_own_are_not_swept(tmp_path):
    for name in (".a.txt-personal", ".a.txt-xxxxxxxx.partial", ".b.part", "a.txt.part"):
        (tmp_path / name).touch()
    before = sorted(tmp_path.iterdir())
    remove_stale(tmp_path)
    write_text_atomic(tmp_path / "a.txt", "")
    assert sorted(tmp_path.iterdir()) == [*before[:1], *before[1:3], tmp_path / "a.txt", before[3]]


def test_a_folder_killed_between_its_two_renames_is_put_back(tmp_path, monkeypatch):
    path = tmp_path / "folder"
    with atomic_folder(path) as unfinished:
        (unfinished / "a").write_text("old")

    def replace() -> None:
        with atomic_folder(path) as unfinished:
            (unfinished / "a").write_text("new")
            rename = Path.rename

            def and_die(self: Path, target: Path) -> None:
                rename(self, target)
                os.kill(os.getpid(), signal.SIGKILL)

            monkeypatch.setattr(Path, "rename", and_die)

    process = multiprocessing.get_context("fork").Process(target=replace)
    process.start()
    process.join()
    assert not path.exists()
    remove_stale(tmp_path)
    assert (path / "a").read_text() == "old"
    assert [one.name for one in tmp_path.iterdir()] == ["folder"]


def test_a_link_in_the_place_of_a_lock_is_not_followed(tmp_path):
    (tmp_path / "elsewhere").write_text("precious")
    (tmp_path / ".lock").symlink_to("elsewhere")
    with pytest.raises(UsageError, match="a link is where a file of ours should be"):
        atomic_io.refuse_symlink(tmp_path / ".lock")
    atomic_io.refuse_symlink(tmp_path / "elsewhere")
    atomic_io.refuse_symlink(tmp_path / "nothing")


def test_a_folder_swept_before_it_was_locked_is_made_again(tmp_path, monkeypatch):
    make, swept = tempfile.mkdtemp, []

    def then_swept(*words: str) -> str:
        made = make(*words)
        if len(swept) < 3:
            swept.append(made)
            remove_stale(tmp_path)
        return made

    monkeypatch.setattr(tempfile, "mkdtemp", then_swept)
    with atomic_folder(tmp_path / "folder") as unfinished:
        (unfinished / "a").write_text("a")
    assert len(swept) == 3 and not any(Path(made).exists() for made in swept)
    assert (tmp_path / "folder" / "a").read_text() == "a"


def test_what_a_sweep_removes_stays_locked_until_it_is_gone(tmp_path, monkeypatch):
    """A process that has just made it, and asks for the lock only now, must not get it."""
    left = tmp_path / ".a.txt-00000000.part"
    left.mkdir()
    (left / "a.txt").touch()
    got: list[bool | None] = []
    rmtree = shutil.rmtree

    def asked(path: Path, **how: bool) -> None:
        with atomic_io._locked(path) as ours:
            got.append(ours)
        rmtree(path, **how)

    monkeypatch.setattr(shutil, "rmtree", asked)
    remove_stale(tmp_path)
    assert got == [False]
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_written_is_found_before_the_work(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError) as error:
        check_writable(tmp_path / "file" / "below")
    assert error.value.filename == str(tmp_path / "file")
    with pytest.raises(OSError) as error:
        check_writable(tmp_path / ("n" * 300))
    assert error.value.errno == errno.ENAMETOOLONG
    check_writable(tmp_path / "new" / "folder")
    assert [one.name for one in tmp_path.iterdir()] == ["file"]
