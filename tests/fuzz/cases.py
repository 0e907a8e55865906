"""One case: a seeded input, what is done with it, and the verdict on what happened.

A kind of input is a function from a Case to a Trial, registered with `kind`. A trial goes through
the command line, or in at the library's border where a whole command would take too long; either
way it may only succeed, or fail in our own words.
"""

from __future__ import annotations

import contextlib
import gc
import io
import os
import re
import sys
import traceback
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

from tests.fuzz import guard

from encoderlab.cli.main import main
from encoderlab.core import progress
from encoderlab.errors import EncoderLabError, as_ours

if TYPE_CHECKING:
    from tests.fuzz.seeds import Seeds

SEED_VARIABLE, CASES_VARIABLE, ONLY_VARIABLE = (
    "ENCODERLAB_FUZZ_SEED", "ENCODERLAB_FUZZ_CASES", "ENCODERLAB_FUZZ_ONLY",
)  # fmt: skip
SECONDS = 20.0
ERROR = re.compile(r"^encoderlab: (?:.*: )?error: (.+)$")
PART = re.compile(r"^  (got|expected|next): +\S")
# What an error of ours may not say of a file's content: it blames something else.
NO_ANSWER = ("unexpected error", "out of memory", "this is a bug of ours")


@dataclass
class Case:
    """One case of a kind.

    Args:
        folder: its own; `given` holds the input, `out` is where results go.
    """

    kind: str
    seed: int
    number: int
    folder: Path
    seeds: Seeds
    words: Sequence[str] | None = None

    def __post_init__(self) -> None:
        self.rng = Random(f"{self.seed}/{self.kind}/{self.number}")
        self.given, self.out = self.folder / "given", self.folder / "out"
        for place in (self.given, self.out, self.folder / "here"):
            place.mkdir(parents=True)

    @property
    def name(self) -> str:
        """How it is asked for again."""
        return f"{self.kind}:{self.number}"

    def put(self, name: str, content: bytes) -> Path:
        """A file among the given."""
        path = self.given / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return path

    def spoil(self, file: Path, mutation: Callable[..., bytes], *more: Any) -> None:
        """Mutates the content of a file."""
        file.write_bytes(mutation(self.rng, file.read_bytes(), *more))

    def every(self, several: int) -> bool:
        """Whether it is one of the few that go through the whole command line."""
        return self.number % several == 0


@dataclass(frozen=True)
class Trial:
    """What is done with the input.

    Args:
        words: a command line, or None for `act`.
        act: goes in at the library's border.
        writes: folders that may be written to, beside `out`.
        kept: folders that must be the same to the byte where the trial fails.
        content: whether a file's content is wrong, so that no answer may blame the machine.
        environment: variables that are set meanwhile.
    """

    words: Sequence[str] | None = None
    act: Callable[[], object] | None = None
    writes: tuple[Path, ...] = ()
    kept: tuple[Path, ...] = ()
    content: bool = True
    environment: dict[str, str] = field(default_factory=dict)


Maker = Callable[[Case], Trial]
KINDS: dict[str, tuple[Maker, float]] = {}


def kind(name: str, share: float = 1.0) -> Callable[[Maker], Maker]:
    """Registers a kind of input; `share` is how many cases it gets, beside the others."""

    def registered(make: Maker) -> Maker:
        KINDS[name] = make, share
        return make

    return registered


def count_of(name: str, total: int) -> int:
    """How many of `total` cases are of this kind."""
    return max(1, round(total * KINDS[name][1] / sum(share for _, share in KINDS.values())))


def run(case: Case, make: Maker, seconds: float = SECONDS) -> list[str]:
    """Does the trial of a case under guard, and says what is wrong with what happened."""
    trial = make(case)
    case.words = trial.words
    kept = [case.given, *trial.kept, case.out]
    before = [guard.state_of(folder) for folder in kept]
    memory = guard.peak_memory()
    allowed = [case.out, case.seeds.room, *trial.writes]
    with guard.limits(seconds, case.name) as limit, guard.watching(allowed) as watch:
        try:
            with _at_home(case, trial), limit:
                code, wrong = _by_words(trial) if trial.words is not None else _by_border(trial)
        except guard.TooLong as late:
            frames = traceback.extract_tb(late.__traceback__)
            where = [frame for frame in frames if frame.filename != guard.__file__][-1]
            code, wrong = 1, [f"hangs: {late} in {where.filename}:{where.lineno}"]
    wrong = [*dict.fromkeys(watch.seen), *wrong]
    more = guard.peak_memory() - memory
    if more > guard.MOST_RSS:
        wrong.append(f"took {more >> 20} MB of memory")
    for folder, was in zip(kept, before, strict=True):
        changed = guard.changed(was, guard.state_of(folder))
        if changed and (code or folder == case.given):
            wrong.append(f"changed what was in {folder.name}: {', '.join(changed[:3])}")
    if code and (case.out / "run.json").exists() and "run.json" not in before[-1]:
        wrong.append("a failed run left a run.json")
    return wrong


def _by_words(trial: Trial) -> tuple[int, list[str]]:
    out, err = _Text(), _Text()
    assert trial.words is not None
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = main(list(trial.words))
        except SystemExit as left:
            code = 99
            err.write(f"SystemExit({left.code!r})")
        except Exception as error:
            code = 99
            err.write("".join(traceback.format_exception(error)))
    progress.configure()
    return code, judge_words(code, out.getvalue(), err.getvalue(), trial.content)


def judge_words(code: int, out: str, err: str, content: bool = True) -> list[str]:
    """What is wrong with the answer of a command line."""
    wrong = []
    last = err.strip().splitlines()[-1:] or [""]
    if code not in (0, 1, 2, 3):
        wrong.append(f"exit code {code}: {last[0][:300]}")
    if "Traceback (most recent call last)" in err:
        wrong.append(f"a traceback: {last[0][:300]}")
    lines = err.splitlines()
    starts = [i for i, line in enumerate(lines) if ERROR.match(line)]
    if code == 0:
        return wrong
    if not starts:
        wrong.append(f"no sentence of ours for exit code {code}: {err[-300:]!r}")
    for line in (lines[i] for i in starts):
        if any(text in line for text in NO_ANSWER[: None if content else 1]):
            wrong.append(f"{line[:300]} {_log_of(line)}")
    if starts:
        stray = [line for line in lines[starts[-1] + 1 :] if not PART.match(line)]
        if stray:
            wrong.append(f"a line that is none of got, expected, next: {stray[0][:200]!r}")
    if out:
        wrong.append(f"an answer on stdout although it failed: {out[:100]!r}")
    return wrong


def _log_of(line: str) -> str:
    """The end of the log that an unexpected error leaves."""
    named = re.search(r"report it with (\S+\.log)", line)
    if named is None or not Path(named[1]).is_file():
        return ""
    log = Path(named[1]).read_text(encoding="utf-8", errors="replace")
    Path(named[1]).unlink()
    places = re.findall(r'File "[^"]*/(encoderlab/[^"]+)", line (\d+), in (\w+)', log)
    return "at " + " < ".join(f"{file}:{number} {name}" for file, number, name in places[::-1][:3])


def _by_border(trial: Trial) -> tuple[int, list[str]]:
    assert trial.act is not None
    quiet = _Text()
    try:
        with contextlib.redirect_stdout(quiet), contextlib.redirect_stderr(quiet):
            trial.act()
    except EncoderLabError as error:
        return error.exit_code, judge_sentence(error)
    except Exception as error:
        known = as_ours(error)
        if known is not None and isinstance(error, OSError):
            return known.exit_code, judge_sentence(known)
        frames = traceback.extract_tb(error.__traceback__)
        ours = [frame for frame in frames if "/encoderlab/" in frame.filename][-2:] or frames[-1:]
        where = " < ".join(f"{Path(f.filename).name}:{f.lineno} {f.name}" for f in reversed(ours))
        return 99, [f"{type(error).__name__}: {str(error)[:200]} at {where}"]
    return 0, []


def judge_sentence(error: EncoderLabError) -> list[str]:
    """What is wrong with an error of ours."""
    if not error.what.strip() or "\n" in error.what:
        return [f"no one-line sentence: {error.what!r}"]
    for part in (error.want, error.hint):
        if part is not None and ("\n" in part.strip() or not part.strip()):
            return [f"a part of several lines: {part[:200]!r}"]
    return []


def sign(wrong: Sequence[str]) -> str:
    """The same for the same mistake in other cases."""
    return "; ".join(re.sub(r"/\S+|'[^']*'|\d+", "#", what)[:160] for what in wrong)


class _Text(io.StringIO):
    """A stream as a terminal in UTF-8 is one: what cannot be encoded is an error there too."""

    encoding = "utf-8"  # type: ignore[assignment]

    def write(self, text: str) -> int:
        text.encode("utf-8")
        return super().write(text)


@contextlib.contextmanager
def _at_home(case: Case, trial: Trial):
    """In an empty folder of the case, with the state of the process put back afterwards."""
    before, argv, filters = dict(os.environ), sys.argv, warnings.filters[:]
    here = os.getcwd()
    os.chdir(case.folder / "here")
    os.environ.update(trial.environment)
    try:
        yield
    finally:
        os.chdir(here)
        sys.argv = argv
        os.environ.clear()
        os.environ.update(before)
        warnings.filters[:] = filters  # type: ignore[index]
        if case.every(50):
            gc.collect()


def report(case: Case, wrong: Sequence[str]) -> str:
    """A failed case in words, with its input and the command that repeats it alone."""
    return "\n    ".join(
        [
            f"{case.name} (seed {case.seed}): input in {case.folder}, {str(case.words)[:400]}",
            *wrong,
            f"again: {SEED_VARIABLE}={case.seed} {ONLY_VARIABLE}={case.name} "
            "python -m pytest tests/fuzz/test_fuzz.py",
        ]
    )
