"""`encoderlab WORDS`: finds the command, runs it, and turns whatever happens into an exit code.

Exit codes: 0 done; 1 the work failed; 2 what was asked is wrong; 3 something needed is not there;
130 interrupted. stdout is the answer, stderr everything else.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from encoderlab.core import distributed, extensions
from encoderlab.core.commands import COMMANDS
from encoderlab.errors import EncoderLabError, UsageError, unknown


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command line; returns its exit code."""
    typed = list(sys.argv[1:] if argv is None else argv)
    try:
        code = _dispatch(typed)
        sys.stdout.flush()
        return code
    except KeyboardInterrupt as stopped:
        if not distributed.is_secondary_rank():
            print(
                "\nencoderlab: interrupted; what was finished and saved so far is kept",
                file=sys.stderr,
            )
        distributed.barrier_after_error(stopped)
        return distributed.exit_now(130)
    except BrokenPipeError:
        # The reader of our answer, such as `head`, has seen enough.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        from encoderlab.cli import errors

        code = errors.report_error(error, verbose="--verbose" in typed or "verbose=true" in typed)
        distributed.barrier_after_error(error)
        return distributed.exit_now(code)


def _dispatch(typed: list[str]) -> int:
    from encoderlab.cli import help as shown

    extensions.load()
    if not typed or typed[0] in ("-h", "--help", "help"):
        known = len(typed) > 1 and typed[1] in COMMANDS
        print(shown.of_command(COMMANDS[typed[1]]) if known else shown.overview())
        return 0
    if typed[0] in ("--version", "-V"):
        print(shown.version())
        return 0
    if typed[0] == "completion":
        return _completion(typed[1:])
    command = COMMANDS.get(typed[0])
    if command is None:
        raise _no_command(typed[0])
    distributed.set_shared(command.shares_work)
    from encoderlab.cli.parser import parse

    words = parse(command, typed[1:])
    if words.help:
        if not distributed.is_secondary_rank():
            print(shown.of_command(command))
        return 0
    from encoderlab.cli import compose

    return compose.run(command, words, ["encoderlab", *typed])


def _completion(rest: list[str]) -> int:
    from encoderlab.cli import completion

    if not rest:
        raise UsageError(
            "no shell is named",
            want="encoderlab completion bash, zsh, fish or tcsh",
            hint="how to install it: encoderlab completion --help",
        )
    if rest[0] in ("-h", "--help"):
        print(completion.USAGE)
        return 0
    print(completion.script(rest[0]))
    return 0


def _no_command(word: str) -> EncoderLabError:
    if word.startswith("-") or "=" in word:
        return UsageError(
            "a command comes first",
            got=word,
            want="encoderlab COMMAND [--flag value ...]",
            hint="list them: encoderlab --help",
        )
    return unknown("command", word, [*COMMANDS, "completion"], "encoderlab --help")
