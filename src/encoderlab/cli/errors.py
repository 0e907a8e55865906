"""How a mistake is shown, and which exit code it gets.

Turns our own errors, Hydra's and the system's into four parts on stderr: what, what we got, what
would be right, what to do next. Runs nothing.
"""

from __future__ import annotations

import re
import sys
import tempfile
import traceback

from encoderlab.cli.parser import OVERRIDE, TYPE_NAMES_IN_HELP, unknown_setting
from encoderlab.core import distributed
from encoderlab.core.commands import Command
from encoderlab.core.settings import iter_settings
from encoderlab.errors import (
    EncoderLabError,
    MissingError,
    UsageError,
    as_ours,
    as_sentence,
    unknown,
)

INTERRUPTED = 130
LAUNCHERS = ("joblib", "submitit_local", "submitit_slurm", "ray", "rq")


def report_error(error: BaseException, *, verbose: bool = False, where: str = "") -> int:
    """Draws an error on stderr; returns the exit code it stands for.

    Of several processes with the same error only the first one draws it; one that is alone with
    its error says who it is.
    """
    known = as_ours(error)
    if not distributed.should_report(error):
        return known.exit_code if known is not None else 1
    where = distributed.process_name() + where
    if verbose:
        traceback.print_exception(error)
    start = f"encoderlab: {where}error: "
    if known is None:
        print(start + _unexpected(error, verbose), file=sys.stderr)
        return 1
    lines = [start + " ".join(known.what.splitlines())]
    if known.got is not None:
        lines.append(f"  got:       {known.got!r}")
    if known.want:
        lines.append(f"  expected:  {known.want}")
    if known.hint:
        lines.append(f"  next:      {as_sentence(known.hint)}")
    print("\n".join(lines), file=sys.stderr)
    return known.exit_code


def one_line(error: BaseException) -> str:
    """An error for a list of several."""
    known = as_ours(error)
    text = str(known) if known is not None else f"{type(error).__name__}: {error}"
    return " ".join(text.split())


def is_launcher_error(error: BaseException) -> bool:
    """Whether what starts the jobs of a sweep failed, and no job."""
    return type(error).__module__.partition(".")[0] in ("joblib", "submitit", "ray", "concurrent")


def _unexpected(error: BaseException, verbose: bool) -> str:
    first = (str(error).strip().splitlines() or [""])[0]
    text = f"something unexpected: {type(error).__name__}: {first}"
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


def explain_configuration_error(error: Exception, command: Command) -> EncoderLabError | None:
    """What Hydra or OmegaConf objects to, in our own words; None where they did not object."""
    from hydra.errors import (
        ConfigCompositionException,
        HydraException,
        MissingConfigException,
        OverrideParseException,
        SearchPathException,
    )
    from omegaconf.errors import OmegaConfBaseException

    see = f"see encoderlab {command.name} --help"
    text = str(error).strip()
    if isinstance(error, MissingConfigException):
        return _missing_config(error, command)
    if isinstance(error, SearchPathException):
        return MissingError(text, hint="check --config-dir")
    if isinstance(error, OverrideParseException):
        return UsageError(
            "a setting's value cannot be read",
            got=error.override,
            want="key=value",
            hint="give it by its flag, or put the value in quotes: key=\"'my text'\"",
        )
    if isinstance(error, ConfigCompositionException | OmegaConfBaseException):
        return _hydra_reason(error, command, see)
    if isinstance(error, RuntimeError) and "srun" in text:
        return MissingError(
            "there is no SLURM here",
            got="hydra/launcher=submitit_slurm",
            want="a machine of the cluster, with sbatch and srun",
            hint="on this machine hydra/launcher=submitit_local does the same",
        )
    if isinstance(error, HydraException):
        return UsageError(text.splitlines()[0] if text else type(error).__name__, hint=see)
    return None


def explain_composition_error(error: Exception, command: Command) -> EncoderLabError | None:
    """The same for an error before any job: it can be about the user's own YAML, too."""
    import yaml

    known = explain_configuration_error(error, command)
    if known is not None:
        return known
    first = (str(error).strip().splitlines() or [""])[0]
    if isinstance(error, yaml.YAMLError):
        mark = getattr(error, "problem_mark", None)
        where = f"{mark.name}, line {mark.line + 1}: " if mark is not None else ""
        return UsageError(
            "a configuration is no YAML",
            got=where + str(getattr(error, "problem", None) or first),
            want="lines `key: value`",
        )
    if isinstance(error, RuntimeError) and first.startswith("Invalid plugin"):
        return UsageError(
            "the configuration names code, which none may",
            got=first,
            want="hydra/launcher=NAME or hydra/sweeper=NAME, by its name",
        )
    if isinstance(error, RuntimeError) and first.endswith("is not configured"):
        return UsageError(
            "the configuration leaves out a part of Hydra's own",
            got=first,
            want="a YAML whose part hydra, if it has one, keeps sweeper and launcher",
        )
    if isinstance(error, ValueError | RecursionError):
        return UsageError(
            "the configuration cannot be read",
            got=first or type(error).__name__,
            want="key=value on the command line, and YAML in UTF-8 where it names one",
            hint=f"see encoderlab {command.name} --help",
        )
    return None


def _missing_config(error: Exception, command: Command) -> EncoderLabError:
    name = getattr(error, "missing_cfg_file", None) or ""
    options = [option for option in getattr(error, "options", None) or [] if option != "schema"]
    group, _, choice = str(name).rpartition("/")
    if group in ("hydra/launcher", "hydra/sweeper"):
        if choice.startswith(LAUNCHERS):
            hint = 'install it: pip install "encoderlab[sweep]"'
            if choice.startswith("ray"):
                hint = (
                    "it needs an environment of its own, without encoderlab[sweep]: see "
                    "docs/en/clusters.md"
                )
            elif choice.startswith("rq"):
                hint = "install it: pip install hydra-rq-launcher"
            return MissingError(f"{group}={choice} is not installed", hint=hint)
        return unknown(group, choice, options, f"encoderlab {command.name} --info plugins")
    if group and options:
        return unknown(
            f"{group} for `encoderlab {command.name}`",
            choice,
            options,
            f"encoderlab {command.name} --help",
        )
    return MissingError(
        "no such configuration",
        got=str(name),
        want="a YAML of that name in configs/ or in --config-dir",
        hint="check --config-name and --config-dir",
    )


def _hydra_reason(error: Exception, command: Command, see: str) -> EncoderLabError:
    """A key that is not there, or a value of the wrong type."""
    cause = error.__cause__ or error
    reason = str(cause).strip().splitlines()[0] if str(cause).strip() else str(error)
    word = re.search(
        r"(?:merging override|override) '?([^\s']+=.*)", (str(error).splitlines() or [""])[0]
    )
    typed = word[1].rstrip("'") if word else ""
    key = getattr(cause, "full_key", None) or OVERRIDE.sub(r"\2", typed)
    missing = re.search(r"Key '([^']+)' (?:is )?not in", str(cause))
    if missing or "Could not override" in str(error):
        return unknown_setting(str(key or (missing[1] if missing else typed)), command)
    setting = {one.key: one for one in iter_settings(command.settings)}.get(str(key).split("[")[0])
    if setting is not None:
        kind = TYPE_NAMES_IN_HELP.get(setting.item, "a value")
        want = f"a list, [a,b,...], each {kind}" if setting.many else kind
        return UsageError(
            f"`{key}` has the wrong kind of value", got=typed or reason, want=want, hint=see
        )
    if "Ambiguous value" in str(error):
        return UsageError(
            "a list of values, and no sweep was asked for",
            got=typed or reason,
            want="key=[a,b] for a list, or --multirun for one run per value",
        )
    return UsageError("the configuration does not fit", got=reason, hint=see)
