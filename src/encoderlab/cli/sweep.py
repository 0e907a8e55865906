"""A sweep: Hydra's own sweeper and launcher run one job per combination of values.

A job may run in this process, in another or on another machine; what it returns says how it ended.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from encoderlab.cli import compose, errors
from encoderlab.cli.parser import ParsedArgs
from encoderlab.core import extensions, run_folder
from encoderlab.core.commands import COMMANDS, Command
from encoderlab.core.common_settings import TALK
from encoderlab.core.progress import note
from encoderlab.core.settings import output_folder
from encoderlab.errors import (
    EncoderLabError,
    MissingError,
    UsageError,
    WorkError,
    as_ours,
    one_line,
)

# What submitit sets in its jobs, whose stdout and stderr go to files.
OWN_LOGS, LOG_FOLDER = "SUBMITIT_EXECUTOR", ".submitit"
# Launchers whose jobs run on other machines, or as if they did.
ELSEWHERE = ("hydra/launcher=submitit", "hydra/launcher=ray")


@dataclass(frozen=True)
class JobOutcome:
    """How one job ended.

    Args:
        name: its number and what it was asked, in words.
        error: why it failed, in one line; None where it is done.
        printed: its answer, where the job's own stdout is not that of the command.
    """

    name: str
    error: str | None = None
    printed: str | None = None


def run(command: Command, args: ParsedArgs, command_line: list[str]) -> int:
    """Does one job per combination of the values that were typed; gives the exit code."""
    from hydra.core.global_hydra import GlobalHydra
    from hydra.errors import HydraException
    from hydra.types import RunMode
    from omegaconf.errors import OmegaConfBaseException

    if args.view:
        raise UsageError("--cfg and --info show one configuration; --multirun makes many")
    typed = compose.typed_keys(args)
    if args.show_config:  # to look at settings needs no cluster
        launcher = ("hydra/launcher", "hydra.launcher")
        words = [w for w in args.overrides if not w.lstrip("+").startswith(launcher)]
        args = replace(args, overrides=words)
    job, broken = _SweepJob(command.name, command_line, typed, args.show_config), None
    with ExitStack() as stack, errors.explained(command):
        name, overrides = compose.prepare(command, args, stack)
        elsewhere = any(word.startswith(ELSEWHERE) for word in args.overrides)
        if not elsewhere and not args.show_config:
            _require_a_device(args.overrides)
        if args.show_config or not command.leaves_folder:
            # Hydra keeps a record of a sweep; nothing is to stay of one that only looks. But the
            # logs of jobs elsewhere are there, and others do not see our temporary files.
            here = stack.enter_context(tempfile.TemporaryDirectory())
            place = output_folder(f"sweep-{command.file_name}")() if elsewhere else here
            overrides.append(f"hydra.sweep.dir={compose.quoted(place)}")
        stack.enter_context(compose.initialize(command))
        app = GlobalHydra.instance().hydra
        assert app is not None
        cfg = app.compose_config(name, overrides, RunMode.MULTIRUN)
        compose.refuse_code(cfg)
        folder, batches = Path(cfg.hydra.sweep.dir), []
        _check_launcher(cfg.hydra.launcher._target_, folder)
        try:
            batches = app.multirun(name, job, overrides, with_log_configuration=False)
        except (HydraException, OmegaConfBaseException, OSError):
            raise
        except Exception as error:  # of the launcher: a job returns what it raises
            broken = error
        outcomes = [done.return_value for batch in batches or [] for done in batch]
        if broken is None:
            remove_stale_jobs(folder, command.name, len(outcomes))
        report(outcomes, folder, broken)
    return 0


class _SweepJob(compose.Job):
    def __call__(self, cfg: Any) -> JobOutcome:
        """Does the job of one configuration; returns what it raises, as a line."""
        from hydra.core.hydra_config import HydraConfig

        extensions.load()  # in a process of its own, nobody has yet
        about = HydraConfig.get()
        words = [word.lstrip("+") for word in about.overrides.task]
        silent = tuple(f"{key}=" for key in TALK)
        words = [word for word in words if not word.startswith(silent)]
        where = f"job {about.job.num} ({' '.join(words)})"
        keeps = COMMANDS[self.command].leaves_folder
        try:
            printed = self.do(cfg, where, Path(about.runtime.output_dir) if keeps else None)
        except Exception as error:
            errors.report_error(error, where=f"{where}: ", verbose=bool(cfg.get("verbose")))
            return JobOutcome(where, error=one_line(str(as_ours(error) or repr(error))))
        return JobOutcome(where, printed=printed if OWN_LOGS in os.environ else None)


def _require_a_device(overrides: list[str]) -> None:
    """Refuses a sweep over devices none of which is on this machine: once, not in every job.

    Raises:
        MissingError, UsageError: as `choose_device`, with all devices of the sweep.
    """
    values = [word.partition("=")[2] for word in overrides if word.startswith("++device=")]
    devices = [name.strip().strip("'\"") for value in values[-1:] for name in value.split(",")]
    if len(devices) < 2 or "auto" in devices:
        return
    from encoderlab.encoders.hardware import choose_device

    for name in devices:
        try:
            choose_device(name)
            return
        except EncoderLabError as error:
            refused = error
    raise type(refused)(refused.what, got=", ".join(devices), want=refused.want, hint=refused.hint)


def _check_launcher(target: str, folder: Path) -> None:
    if target.endswith("SlurmLauncher") and shutil.which("srun") is None:
        hint = "on this machine hydra/launcher=submitit_local does the same"
        raise MissingError("there is no SLURM here", want="sbatch and srun", hint=hint)
    if "submitit" in target:
        note(f"the jobs print to files of their own, in {folder / LOG_FOLDER}")


def remove_stale_jobs(folder: Path, command: str, jobs: int) -> None:
    """Removes the runs that a longer sweep of the same command left in the sweep's folder."""
    for path in folder.glob("multirun-*"):
        number = path.name.removeprefix("multirun-")
        if number.isdecimal() and int(number) >= jobs:
            run_folder.remove(path, command)


def report(outcomes: list[JobOutcome], folder: Path, broken: BaseException | None = None) -> None:
    """Prints the remaining output when all jobs have ended; raises a WorkError if one failed."""
    # `broken` is what the launcher itself raised, such as for a process that was killed.
    for outcome in outcomes:
        if outcome.printed is not None:
            print(outcome.printed, flush=True)
    logs = folder / LOG_FOLDER
    if logs.is_dir():
        note(f"logs: {logs} (one folder for each job)")
    if broken is not None:
        what = "the sweep broke off: a job's process died or could not be started"
        see = f"what was done is in {folder}" + f", the logs in {logs}" * logs.is_dir()
        raise WorkError(what, got=one_line(str(broken) or repr(broken))[:200], hint=see) from broken
    failed = [outcome for outcome in outcomes if outcome.error is not None]
    for outcome in failed:
        print(f"encoderlab: {outcome.name} failed: {outcome.error}", file=sys.stderr)
    if failed:
        hint = f"the runs of the others are in {folder}" if len(failed) < len(outcomes) else None
        raise WorkError(f"{len(failed)} of {len(outcomes)} jobs of the sweep failed", hint=hint)
