"""`encoderlab WORDS`: finds the command, runs it, and turns whatever happens into an exit code.

Exit codes: 0 done; 1 the work failed; 2 what was asked is wrong; 3 something needed is not there;
130 interrupted. stdout is the answer, stderr everything else.
"""

from __future__ import annotations

import atexit
import gc
import os
import sys
from collections.abc import Sequence

from encoderlab import __version__
from encoderlab.core import distributed, extensions
from encoderlab.core.commands import COMMANDS, named
from encoderlab.errors import UsageError, unknown

# By default Python searches for garbage after 700 new objects. Imports of torch and transformers
# create millions, hardly any of them garbage: a tenth of the time of `encoderlab embedding`.
gc.set_threshold(20_000)
# Before it ends, Python searches all modules for garbage: with torch and transformers a second.
atexit.register(gc.freeze)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command line; returns its exit code."""
    typed = list(sys.argv[1:] if argv is None else argv)
    try:
        code = _dispatch(typed)
        sys.stdout.flush()
        return code
    except KeyboardInterrupt as stopped:
        if not distributed.is_secondary_rank():
            kept = "what was finished and saved so far is kept"
            print(f"\nencoderlab: interrupted; {kept}", file=sys.stderr)
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
    extensions.load()
    name, rest = named(typed or ["--help"])
    text = _text(name, rest)
    if text is None:
        command = COMMANDS[name]
        distributed.set_shared(command.shares_work)
        from encoderlab.cli.parser import parse

        args = parse(command, rest)
        if not args.help:
            if args.multirun:
                from encoderlab.cli.sweep import run
            else:
                from encoderlab.cli.compose import run
            return run(command, args, ["encoderlab", *typed])
        text = _text("help", name.split())
    if not distributed.is_secondary_rank():
        print(text)
    return 0


def _text(word: str, then: Sequence[str] = ()) -> str | None:
    """The text printed for a first word that is no command; None for a command."""
    if word in ("--version", "-V"):
        return f"encoderlab {__version__}"
    if word == "completion":
        from encoderlab.cli import completion

        shell = then[0] if then else ""
        return completion.USAGE if shell in ("-h", "--help") else completion.script(shell)
    if word in ("-h", "--help", "help"):
        from encoderlab.cli import help as shown

        about = named(then)[0] if then else ""
        return shown.of_command(COMMANDS[about]) if about in COMMANDS else shown.overview()
    if word in COMMANDS:
        return None
    if word.startswith("-") or "=" in word:
        want, hint = "encoderlab COMMAND [--flag value ...]", "list them: encoderlab --help"
        raise UsageError("a command comes first", got=word, want=want, hint=hint)
    parts = [name for name in COMMANDS if name.startswith(f"{word} ")]
    if parts:
        got = " ".join([word, *then[:1]])
        raise UsageError(f"{word} is part of a command's name", got=got, want=", ".join(parts))
    raise unknown("command", word, [*COMMANDS, "completion"], "encoderlab --help")
