"""A small disk of our own to fill up or to lock: a tmpfs. Needs the right to mount."""

import os
import subprocess
from pathlib import Path

import pytest

PAGE = 4096


class Disk:
    """A tmpfs at `place`.

    Args:
        place: an empty folder.
    """

    def __init__(self, place: Path, megabytes: int = 256) -> None:
        self.place = place
        place.mkdir(parents=True)
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "none", str(place)],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode:
            place.rmdir()
            pytest.skip(f"mounting a tmpfs is not allowed here: {done.stderr.strip()}")

    @property
    def free(self) -> int:
        """Bytes that can be written."""
        about = os.statvfs(self.place)
        return about.f_bavail * about.f_frsize

    def leave(self, room: int) -> None:
        """Makes the disk so small that only `room` bytes can be written."""
        if room < PAGE:  # size=0 would mean no limit, and no limit can be set again after it
            (self.place / "filler").write_bytes(b"\0" * PAGE)
        about = os.statvfs(self.place)
        used = (about.f_blocks - about.f_bfree) * about.f_frsize
        self._remount(f"size={used + room // PAGE * PAGE}")
        assert self.free == room // PAGE * PAGE

    def lock(self) -> None:
        """Makes it read-only."""
        self._remount("ro")

    def remove(self) -> None:
        """Unmounts it; what was in it is gone."""
        subprocess.run(["umount", "-l", str(self.place)], check=True)

    def _remount(self, options: str) -> None:
        subprocess.run(["mount", "-o", f"remount,{options}", str(self.place)], check=True)
