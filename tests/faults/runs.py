"""Runs of the command line that may be killed, and what is compared afterwards.

Knows the fork server and processes; nothing of any command.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

KILLED = -signal.SIGKILL
# A user's own settings must not decide what a test finds.
LEFT_OUT = ("VLM_DATA_ROOT", "VLM_OUTPUT_DIR", "ENCODERLAB_ALIASES")


@dataclass(frozen=True)
class Trace:
    """What an undisturbed run did: (seconds since its start, what, path) of every change."""

    seconds: float
    seen: list[tuple[float, str, str]]

    @property
    def working(self) -> tuple[float, float]:
        """From its first change to its end."""
        return (self.seen[0][0] if self.seen else 0.0), self.seconds


@dataclass
class Run:
    """One process, under way or ended."""

    server: Server | None
    pid: int
    out: Path
    err: Path
    process: subprocess.Popen | None = None
    _code: int | None = field(default=None, init=False)

    def kill(self) -> None:
        """kill -9 of all its processes."""
        try:
            os.killpg(self.pid, signal.SIGKILL)
        except ProcessLookupError:
            return

    def wait(self) -> int:
        """Its exit code; of a killed one the signal, negative."""
        if self._code is None:
            if self.process is not None:
                self._code = self.process.wait()
            else:
                assert self.server is not None
                self._code = self.server.ask(do="wait", pid=self.pid)["code"]
        return self._code

    @property
    def said(self) -> str:
        """What it wrote, the answer and everything else."""
        return self.out.read_text(errors="replace") + self.err.read_text(errors="replace")


class Server:
    """The fork server; `stop` ends it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.started = 0
        self._said = (folder / "server.log").open("w")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.fork_server"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._said, text=True,
            cwd=Path(__file__).parents[2], env=_environment(),
        )  # fmt: skip

    def ask(self, **order: Any) -> dict[str, Any]:
        """One order, one answer."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            raise RuntimeError(f"the fork server is gone; see {self.folder / 'server.log'}")
        return json.loads(answer)

    def start(
        self,
        argv: Sequence[str],
        cwd: Path,
        *,
        watched: Path | None = None,
        trace: Path | None = None,
        kill_at: int | None = None,
        kill_at_file: int | None = None,
        chunk: int | None = None,
        least_room: int | None = None,
        environment: dict[str, str] | None = None,
    ) -> Run:
        """A run of `encoderlab ARGV` in the folder `cwd`, under way.

        Args:
            watched: the folder whose changes are counted; that of the run where none is named.
            trace: a file for what was seen.
            kill_at: kill it before so many-th change.
            kill_at_file: kill it when so many files more are there.
            chunk: samples that are stored or committed at once.
            least_room: bytes below which a disk is called full before the work begins.
        """
        self.started += 1
        out, err = (self.folder / f"{self.started:04}.{name}" for name in ("out", "err"))
        pid = self.ask(
            do="start", argv=list(argv), cwd=str(cwd), out=str(out), err=str(err), chunk=chunk,
            watched=str(watched or cwd), trace=None if trace is None else str(trace),
            kill_at=kill_at, kill_at_file=kill_at_file, least_room=least_room,
            environment=environment or {},
        )["pid"]  # fmt: skip
        return Run(self, pid, out, err)

    def trace(self, argv: Sequence[str], cwd: Path, **options: Any) -> Trace:
        """An undisturbed run, and what it did; what it imports is there for the next ones."""
        place = self.folder / f"{self.started:04}.trace"
        run = self.start(argv, cwd, trace=place, **options)
        assert run.wait() == 0, run.said
        found = json.loads(place.read_text())
        self.ask(do="import", modules=found["modules"])
        return Trace(found["seconds"], [tuple(one) for one in found["seen"]])

    def stop(self) -> None:
        """Ends the server; its children are ended by those who started them."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(30)
        self._said.close()


def fresh(argv: Sequence[str], cwd: Path, folder: Path, name: str = "fresh") -> Run:
    """A run in a truly fresh process."""
    out, err = folder / f"{name}.out", folder / f"{name}.err"
    with out.open("w") as to_out, err.open("w") as to_err:
        process = subprocess.Popen(
            [sys.executable, "-m", "encoderlab", *argv], cwd=cwd, stdout=to_out, stderr=to_err,
            stdin=subprocess.DEVNULL, start_new_session=True, env=_environment(),
        )  # fmt: skip
    return Run(None, process.pid, out, err, process)


def kill_after(run: Run, seconds: float) -> int:
    """Kills a run so many seconds after now; its exit code, which is 0 where it was done before."""
    time.sleep(seconds)
    run.kill()
    return run.wait()


def bytes_of(folder: Path, *, leave_out: Sequence[str] = ()) -> dict[str, str]:
    """Every file below a folder -> a digest of its bytes."""
    return {
        str(path.relative_to(folder)): hashlib.blake2b(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name not in leave_out
    }


def leftovers(folder: Path) -> list[str]:
    """Hidden files and folders, which is what an unfinished file is called; not the locks, which
    are empty and stay."""
    return sorted(
        str(path.relative_to(folder))
        for path in folder.rglob(".*")
        if not path.name.endswith(".lock")
    )


def run_record_is_whole_or_absent(folder: Path) -> bool:
    """Whether run.json, where there is one, can be read."""
    path = folder / "run.json"
    return not path.exists() or "result" in json.loads(path.read_text(encoding="utf-8"))


def _environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name not in LEFT_OUT}
    return kept | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
