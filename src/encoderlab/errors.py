"""Every error that EncoderLab raises on purpose, and the words they share. Standard library only.

EncoderLabError
├── UsageError    exit 2   what was asked is wrong: a word, a value, a file's content
│   └── NoImagesError      a folder that is there holds no image
├── MissingError  exit 3   something needed is not there: file, checkpoint, GPU, network, extra
└── WorkError     exit 1   the work failed: memory, disk, divergence
"""

from __future__ import annotations

import difflib
import errno
import os
import re
from collections.abc import Iterable

# Names of programs that hints begin with.
PROGRAMS = ("encoderlab", "pip", "python", "torchrun", "srun", "sbatch")


class EncoderLabError(Exception):
    """A mistake or mishap with a message for the user.

    Args:
        what: what is wrong.
        got: the offending value.
        want: what would be right.
        hint: what to do next.
    """

    exit_code = 1

    def __init__(
        self, what: str, *, got: object = None, want: str | None = None, hint: str | None = None
    ) -> None:
        self.what, self.got, self.want = what, got, want
        # It may name a file whose name has a line break.
        self.hint = None if hint is None else one_line(hint)
        super().__init__(self._sentence())

    def _sentence(self) -> str:
        text = self.what
        if self.got is not None:
            text += f": got {self.got!r}"
        if self.want:
            text += f"; expected {self.want}"
        if self.hint:
            text += f". {as_sentence(self.hint)}"
        return text


def one_line(text: str) -> str:
    """The text with a blank for every line break."""
    return " ".join(text.splitlines())


def as_sentence(hint: str) -> str:
    """A hint with a capital letter at its start, unless it starts with code, which has its own."""
    first = hint.split(maxsplit=1)[0].rstrip(",:;.") if hint.strip() else ""
    is_word = first.isascii() and first.isalpha() and first not in PROGRAMS
    return hint[:1].upper() + hint[1:] if is_word else hint


class UsageError(EncoderLabError, ValueError):
    """The request is wrong: a word, a value, or the content of a file."""

    exit_code = 2


class NoImagesError(UsageError):
    """The folder exists but contains no image."""


class MissingError(EncoderLabError):
    """Something needed is not there: file, checkpoint, GPU, network, extra."""

    exit_code = 3


class WorkError(EncoderLabError):
    """The work failed: out of memory or disk, diverged."""

    exit_code = 1


def is_utf8(text: str) -> bool:
    """Whether UTF-8 can hold the text."""
    # It cannot hold a lone surrogate, as which Python reads the bytes of other encodings in file
    # names and on the command line.
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def did_you_mean(word: str, known: Iterable[str]) -> str | None:
    """The known word that is nearest to `word`, if any is near."""
    near = difflib.get_close_matches(word, list(known), n=1)
    return near[0] if near else None


def unknown(kind: str, word: str, known: Iterable[str], list_with: str) -> UsageError:
    """The error for a name that is not among the known ones."""
    known = list(known)
    near = did_you_mean(word, known)
    hint = f"List them: {list_with}"
    if near:
        hint = f"Did you mean {near!r}? {hint}"
    return UsageError(
        f"unknown {kind}", got=word, want="one of " + ", ".join(known) if known else None, hint=hint
    )


def as_ours(error: BaseException) -> EncoderLabError | None:
    """The error in our own words, where it is one that a user can mend."""
    if isinstance(error, EncoderLabError):
        return error
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return WorkError("out of memory", hint="use a smaller --batch-size")
    if is_of_lost_process(error):
        return WorkError(
            "another process of the run has ended",
            got=(str(error).strip().splitlines() or [""])[0][:120],
            hint="see its output, or that of its launcher, for the reason",
        )
    if isinstance(error, OSError) and error.errno is not None:
        return _of_system(error)
    # Libraries in Rust give the system's number in their text.
    number = re.search(r"\(os error (\d+)\)", str(error))
    if number is not None:
        return _of_system(OSError(int(number[1]), os.strerror(int(number[1]))))
    return None


def is_of_lost_process(error: BaseException) -> bool:
    """Whether a process only found that another one of its run is gone."""
    if type(error).__name__ in ("DistBackendError", "DistNetworkError", "DistStoreError"):
        return True
    text = str(error)
    return isinstance(error, RuntimeError) and "gloo" in text and "peer" in text


def _of_system(error: OSError) -> EncoderLabError | None:
    name = None if error.filename is None else str(error.filename)
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return WorkError(
            "the disk is full",
            got=name,
            hint="free some space, or choose another folder with --output-dir",
        )
    if error.errno in (errno.ENAMETOOLONG, errno.ELOOP) and name is not None:
        wrong = "is too long" if error.errno == errno.ENAMETOOLONG else "is a link to itself"
        return UsageError(f"a path {wrong}", got=str(name)[:120], hint="choose another path")
    if error.errno == errno.EROFS:
        return MissingError(
            "the disk is read-only", got=name, hint="choose another folder with --output-dir"
        )
    if "No usable temporary directory" in str(error):
        return WorkError(
            "the folder for temporary files is full, or cannot be written",
            hint="free some space, or name another folder in TMPDIR",
        )
    if isinstance(error, FileNotFoundError) and name is not None:
        return MissingError("a file is not there", got=str(name), hint="check the path")
    if isinstance(error, PermissionError) and name is not None:
        return MissingError(
            "no permission", got=str(name), hint="choose another folder, or change who may use it"
        )
    if isinstance(error, FileExistsError | NotADirectoryError | IsADirectoryError) and name:
        return UsageError("another file is at this path", got=str(name), hint="choose another path")
    return None
