"""A process that has imported everything and computed nothing: each of its children is one run of
the command line, there at once, and may be killed.

Started by `tests.faults.runs`, one JSON line per order on stdin and one answer each on stdout. A
child is a process group of its own with files for its output; it can be told to kill itself just
before the n-th thing that it does to the files of a folder, which reaches the narrow windows that
a random moment misses.
"""

import atexit
import faulthandler
import importlib
import json
import os
import signal
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

IMPORTED = (
    "torch", "lightning.fabric", "lightning.fabric.loggers", "torch.utils.tensorboard", "hydra",
    "transformers", "encoderlab.cli.compose", "encoderlab.retrieval.index",
    "encoderlab.retrieval.search", "encoderlab.workbench.features",
    "encoderlab.contrastive.train", "encoderlab.compression.compress",
    "encoderlab.contrastive.loop", "encoderlab.compression.trainer",
    "encoderlab.feature_store.extract", "encoderlab.encoders.dual",
)  # fmt: skip
# What changes a folder, as audit hooks call it, and how many of its arguments are paths.
CHANGES = {"os.rename": 2, "os.remove": 1, "os.mkdir": 1, "os.rmdir": 1, "os.truncate": 1}
PATIENCE = 90
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT


def serve() -> int:
    """Answers orders until stdin ends."""
    for name in IMPORTED:
        importlib.import_module(name)
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    for line in sys.stdin:
        order = json.loads(line)
        if order["do"] == "import":
            for name in order["modules"]:
                with suppress(ImportError, AttributeError):
                    importlib.import_module(name)
            answer: dict[str, Any] = {"threads": threading.active_count()}
        elif order["do"] == "start":
            pid = os.fork()
            if pid == 0:
                _end(run(order))
            answer = {"pid": pid}
        else:
            _, status = os.waitpid(order["pid"], 0)
            answer = {"code": os.waitstatus_to_exitcode(status)}
        answers.write(json.dumps(answer) + "\n")
    return 0


def run(order: dict[str, Any]) -> int:
    """The command line of an order, as a fresh process would run it."""
    os.setsid()
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for handle, path in ((1, order["out"]), (2, order["err"])):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), handle)
    # A run that hangs says where, and fails.
    faulthandler.dump_traceback_later(PATIENCE, exit=True, file=sys.__stderr__)
    os.environ.update(order["environment"])
    os.chdir(order["cwd"])
    _smaller(order["chunk"])
    if order["least_room"] is not None:
        from encoderlab.core import atomic_io

        atomic_io.NO_ROOM = order["least_room"]
    watch = _Watch(Path(order["watched"]), order["trace"], order["kill_at"], order["kill_at_file"])
    from encoderlab.cli.main import main

    code = main(order["argv"])
    watch.finish()
    return code


def _end(code: int) -> NoReturn:
    """Ends a child as Python does, without taking apart two thousand modules first."""
    threading._shutdown()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _smaller(chunk: int | None) -> None:
    """Chunks and commits of a few samples, so that a small run has many."""
    if chunk is None:
        return
    from encoderlab.feature_store import extract
    from encoderlab.retrieval import table

    table.COMMIT_ROWS = chunk
    extract.extract_images.__kwdefaults__["chunk_size"] = chunk


class _Watch:
    """Counts what the process does to the files of a folder; kills it before number `kill_at`, or
    as soon as `kill_at_file` more files have come into being there, whoever made them.

    Args:
        trace: a file to write down what was seen: (seconds since the start, what, path).
    """

    def __init__(
        self, folder: Path, trace: str | None, kill_at: int | None, kill_at_file: int | None
    ) -> None:
        self.folder, self.trace, self.kill_at = str(folder), trace, kill_at
        self.seen: list[tuple[float, str, str]] = []
        self.started = time.monotonic()
        self.before = set(sys.modules)
        sys.addaudithook(self._heard)
        sync = os.fsync

        def fsync(handle: int) -> None:
            self._count("fsync", os.readlink(f"/proc/self/fd/{handle}"))
            sync(handle)

        os.fsync = fsync
        if kill_at_file is not None:
            threading.Thread(target=self._look, args=(kill_at_file,), daemon=True).start()

    def _heard(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            path, _, flags = arguments
            if isinstance(flags, int) and flags & WRITING:
                self._count("open", path)
        elif event in CHANGES:
            self._count(event, *arguments[: CHANGES[event]])

    def _count(self, what: str, *paths: Any) -> None:
        for path in paths:
            with suppress(TypeError):
                text = os.path.abspath(os.fsdecode(path))
                if text.startswith(self.folder):
                    self.seen.append((time.monotonic() - self.started, what, text))
                    if len(self.seen) == self.kill_at:
                        os.kill(os.getpid(), signal.SIGKILL)
                    return

    def _look(self, count: int) -> None:
        first = _files(self.folder)
        while _files(self.folder) - first < count:
            pass
        os.kill(os.getpid(), signal.SIGKILL)

    def finish(self) -> None:
        """Writes the trace, and which modules a run needs that were not there."""
        if self.trace is not None:
            modules = sorted(set(sys.modules) - self.before)
            seconds, seen = time.monotonic() - self.started, list(self.seen)
            with open(self.trace, "w") as file:
                json.dump({"seen": seen, "modules": modules, "seconds": seconds}, file)


def _files(folder: str) -> int:
    return sum(len(files) for _, _, files in os.walk(folder))


if __name__ == "__main__":
    sys.exit(serve())
