"""Runs what a page shows: ```console blocks as a user types them, ```pycon blocks by doctest.

What is printed must be what the page says. `...` stands for anything. Numbers with a point, and
per cents, may differ a little, because processors round differently; everything else is the same
but for runs of spaces and of dashes, which follow the widths of the numbers.
"""

import contextlib
import doctest
import io
import re
import runpy
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.docs.pages import Block

from encoderlab.cli.main import main
from encoderlab.core import progress

RELATIVE, ABSOLUTE, PER_CENT = 0.05, 0.03, 3
_PART = re.compile(r"(?P<any>\.\.\.)|(?P<number>-?\d+\.\d+)|(?P<share>\d+)(?= ?%)")


@dataclass(frozen=True)
class Example:
    """A command and what it should print."""

    command: str
    output: str
    line: int


def examples(block: Block) -> Iterator[Example]:
    """The commands of a console block, each with its output."""
    parts = re.split(r"^\$ ", block.body, flags=re.M)
    assert not parts[0].strip(), f"line {block.line}: a console block begins with `$ `"
    for part in parts[1:]:
        command, _, output = part.replace("\\\n", " ").partition("\n")
        yield Example(command, output, block.line)


def run(example: Example, folder: Path) -> str:
    """What the command prints: the answer, or the message if it fails. Everything in `folder`."""
    words = shlex.split(example.command)
    if words[0] == "encoderlab":
        code, out, err = _in_process(lambda: main(words[1:]))
    elif words[:2] == ["python", "-m"]:
        code, out, err = _in_process(lambda: _module(words[2:]))
    else:
        ran = subprocess.run(
            example.command, shell=True, cwd=folder, capture_output=True, text=True, check=False
        )
        code, out, err = ran.returncode, ran.stdout, ran.stderr
    if code and "error" not in example.output:
        raise AssertionError(f"{example.command}: exit code {code}\n{err}")
    return err if code else out


def _in_process(call) -> tuple[int, str, str]:
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = call()
    progress.configure()
    return code, out.getvalue(), err.getvalue()


def _module(words: list[str]) -> int:
    before, sys.argv = sys.argv, list(words)
    try:
        runpy.run_module(words[0], run_name="__main__", alter_sys=True)
    except SystemExit as ended:
        return int(ended.code or 0)
    finally:
        sys.argv = before
    return 0


def same(shown: str, printed: str) -> bool:
    """Whether what a page shows is what was printed."""
    shown, printed = _plain(shown), _plain(printed)
    pattern, numbers, end = "", [], 0
    for part in _PART.finditer(shown):
        pattern += re.escape(shown[end : part.start()])
        end = part.end()
        if part["any"]:
            pattern += ".*?"
        else:
            pattern += r"(-?\d+\.\d+)" if part["number"] else r"(\d+)"
            numbers.append(part)
    found = re.fullmatch(pattern + re.escape(shown[end:]), printed, re.DOTALL)
    if found is None:
        return False
    return all(
        _close(part, float(text)) for part, text in zip(numbers, found.groups(), strict=True)
    )


def _close(shown: re.Match[str], printed: float) -> bool:
    value = float(shown.group())
    if shown["share"]:
        return abs(value - printed) <= PER_CENT
    return abs(value - printed) <= max(ABSOLUTE, RELATIVE * abs(value))


def _plain(text: str) -> str:
    lines = (
        re.sub(r"-{3,}", "---", re.sub(r"\s+", " ", line)).strip() for line in text.splitlines()
    )
    return "\n".join(line for line in lines if line)


class _Checker(doctest.OutputChecker):
    def check_output(self, want: str, got: str, optionflags: int) -> bool:
        return same(want, got)


def run_python(block: Block, space: dict[str, object], name: str) -> str:
    """Runs a pycon block in `space`; returns what is wrong, nothing if all is as shown."""
    test = doctest.DocTestParser().get_doctest(block.body, space, name, name, block.line)
    test.globs = space  # get_doctest makes a copy; blocks of a page go on from one another
    said: list[str] = []
    doctest.DocTestRunner(_Checker(), verbose=False).run(test, out=said.append, clear_globs=False)
    return "".join(said)
