"""A file is there whole or as it was."""

from __future__ import annotations

from pathlib import Path

import pytest

from encoderlab import whole_files
from encoderlab.whole_files import replacing, replacing_folder, write_whole


def test_the_new_text_takes_the_place_of_the_old(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "a.txt"
    write_whole(path, "하나\r\n")
    write_whole(path, "둘\n")
    assert path.read_bytes().decode() == "둘\n"
    assert path.stat().st_mode & 0o444 == 0o444
    assert [file.name for file in path.parent.iterdir()] == ["a.txt"]


def test_what_goes_wrong_leaves_the_old_and_nothing_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    write_whole(path, "old")
    with pytest.raises(KeyboardInterrupt), replacing(path) as unfinished:
        unfinished.write_text("half")
        raise KeyboardInterrupt
    assert path.read_text() == "old"
    assert [file.name for file in tmp_path.iterdir()] == ["a.txt"]


def test_a_full_disk_leaves_the_old_file(tmp_path: Path, monkeypatch) -> None:
    path = tmp_path / "a.json"
    write_whole(path, "old")

    def no_space(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(whole_files.os, "fsync", no_space)
    with pytest.raises(OSError, match="No space"):
        write_whole(path, "new")
    assert path.read_text() == "old"
    assert [file.name for file in tmp_path.iterdir()] == ["a.json"]


def test_the_new_folder_takes_the_place_of_the_old(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "folder"
    for name in ("first", "second"):
        with replacing_folder(path) as unfinished:
            (unfinished / "inside").mkdir()
            (unfinished / "inside" / name).write_text(name)
    assert [one.name for one in (path / "inside").iterdir()] == ["second"]
    assert path.stat().st_mode & 0o555 == 0o555
    assert [one.name for one in path.parent.iterdir()] == ["folder"]


def test_what_goes_wrong_leaves_the_old_folder_and_nothing_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "folder"
    with replacing_folder(path) as unfinished:
        (unfinished / "a").write_text("old")
    with pytest.raises(KeyboardInterrupt), replacing_folder(path) as unfinished:
        (unfinished / "a").write_text("half")
        raise KeyboardInterrupt
    assert (path / "a").read_text() == "old"
    assert [one.name for one in tmp_path.iterdir()] == ["folder"]
