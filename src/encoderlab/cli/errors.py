"""How a mistake is shown, and which exit code it gets.

Turns our own errors, Hydra's and the system's into four parts on stderr: what, what we got, what
would be right, what to do next. Runs nothing.
"""

from __future__ import annotations

import sys
import tempfile
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

from encoderlab.cli.parser import all_keys
from encoderlab.core import distributed
from encoderlab.core.commands import Command
from encoderlab.core.settings import iter_settings, unknown_setting
from encoderlab.errors import (
    EncoderLabError,
    MissingError,
    UsageError,
    as_ours,
    as_sentence,
    one_line,
    unknown,
)

INSTALL = {  # how to get a launcher that is not installed
    **dict.fromkeys(
        ("joblib", "submitit_local", "submitit_slurm"),
        'install it: pip install "encoderlab[sweep]"',
    ),
    "ray": "it needs an environment of its own, without encoderlab[sweep]: see docs/en/clusters.md",
    "rq": "install it: pip install hydra-rq-launcher",
}


def report_error(error: BaseException, *, verbose: bool = False, where: str = "") -> int:
    """Prints an error on stderr; returns its exit code."""
    # Of several processes with the same error only the first one draws it; one that is alone with
    # its error says who it is.
    known = as_ours(error)
    if not distributed.should_report(error):
        return known.exit_code if known is not None else 1
    where = distributed.process_name() + where
    if verbose:
        traceback.print_exception(error)
    start = f"encoderlab: {where}error: "
    if known is None:
        _print_at_once(start + _unexpected(error, verbose))
        return 1
    lines = [start + " ".join(known.what.splitlines())]
    if known.got is not None:
        lines.append(f"  got:       {known.got!r}")
    if known.want:
        lines.append(f"  expected:  {known.want}")
    if known.hint:
        lines.append(f"  next:      {as_sentence(known.hint)}")
    _print_at_once("\n".join(lines))
    return known.exit_code


def _print_at_once(text: str) -> None:
    # In one write: several processes may share an unbuffered stderr.
    print(text + "\n", end="", file=sys.stderr, flush=True)


@contextmanager
def explained(command: Command) -> Iterator[None]:
    """Turns errors of Hydra, OmegaConf and YAML about the configuration into ours."""
    try:
        yield
    except Exception as error:
        if as_ours(error) is not None:
            raise
        raise explain_configuration_error(error, command) from error


def explain_configuration_error(error: Exception, command: Command) -> EncoderLabError:
    """The error for a wrong configuration, by the type and attributes of Hydra's, else its text."""
    from omegaconf.errors import ConfigAttributeError, ConfigKeyError

    see = f"encoderlab {command.name} --help"
    cause = error.__cause__ or error
    text = one_line(str(cause) or type(error).__name__)[:300]
    key = str(getattr(cause, "full_key", None) or "")
    if isinstance(cause, ConfigAttributeError | ConfigKeyError) and key:
        return unknown_setting(key, all_keys(command), command.name)
    for setting in iter_settings(command.settings):
        if setting.key == key.partition("[")[0]:
            value = getattr(cause, "value", text)
            what = f"{setting.name} has the wrong kind of value"
            return UsageError(what, got=value, want=setting.kind, hint=f"see {see}")
    group, _, choice = str(getattr(error, "missing_cfg_file", "")).rpartition("/")
    if group == "hydra/launcher":
        if choice in INSTALL:
            return MissingError(f"{group}={choice} is not installed", hint=INSTALL[choice])
        return unknown(group, choice, error.options or [], see)  # type: ignore[attr-defined]
    return UsageError(
        "the configuration cannot be read",
        got=str(getattr(error, "override", None) or text).lstrip("+"),
        hint=f"put a text in quotes: key=\"'my text'\"; see {see}",
    )


def _unexpected(error: BaseException, verbose: bool) -> str:
    first = (str(error).strip().splitlines() or [""])[0]
    text = f"unexpected error: {type(error).__name__}: {first}"
    if verbose:
        return text
    try:
        with tempfile.NamedTemporaryFile(
            "w", prefix="encoderlab-", suffix=".log", delete=False, encoding="utf-8"
        ) as log:
            log.write("".join(traceback.format_exception(error)))
    except OSError:  # no room for it either
        return f"{text} (this is a bug of ours; please report it with what --verbose says)"
    return f"{text} (this is a bug of ours; please report it with {log.name})"
