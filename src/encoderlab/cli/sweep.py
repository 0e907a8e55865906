"""What became of the jobs of a sweep, wherever they ran: in this process, in another, on a cluster.

A job in another process notes its outcome in a file of the sweep's folder, which the command reads
when all are over. Knows no Hydra and no settings.
"""

from __future__ import annotations

import json
import os
import sys
import uuid
from dataclasses import asdict, dataclass, field
from pathlib import Path

from encoderlab.core.progress import note
from encoderlab.errors import WorkError

# What submitit sets in its jobs, whose stdout and stderr go to files.
OWN_LOGS, LOG_FOLDER = "SUBMITIT_EXECUTOR", ".submitit"
SUBFOLDER = "multirun-"  # of each job, with its number behind it


@dataclass(frozen=True)
class JobOutcome:
    """How one job ended.

    Args:
        job: its number and what it was asked, in words.
        error: why it failed, in one line; None where it is done.
        said: the answer, where the job's own stdout is not that of the command.
    """

    number: int
    job: str
    error: str | None = None
    said: str | None = None


@dataclass
class Sweep:
    """The jobs of one sweep. Plain data: it travels with the job."""

    name: str = field(default_factory=lambda: uuid.uuid4().hex[:12])
    process: int = field(default_factory=os.getpid)
    outcomes: list[JobOutcome] = field(default_factory=list)  # of jobs in this process

    def note(self, outcome: JobOutcome, folder: Path) -> None:
        """Keeps an outcome where the command finds it; `folder` is the sweep's."""
        if os.getpid() == self.process:
            self.outcomes.append(outcome)
            return
        folder.mkdir(parents=True, exist_ok=True)
        # A file each: two machines that append to one file may lose a line.
        path = folder / f".{self.name}-{outcome.number}.json"
        path.write_text(json.dumps(asdict(outcome)), encoding="utf-8")

    def collect(self, folder: Path) -> list[JobOutcome]:
        """All outcomes, in the order of the jobs; takes the files of the jobs away."""
        found = list(self.outcomes)
        for path in folder.glob(f".{self.name}-*.json"):
            found.append(JobOutcome(**json.loads(path.read_text(encoding="utf-8"))))
            path.unlink()
        return sorted(found, key=lambda one: one.number)


def remove_stale_jobs(folder: Path, command: str, jobs: int) -> None:
    """Removes the runs that a longer sweep of the same command left in the sweep's folder."""
    from encoderlab.core import run_folder

    for path in folder.glob(f"{SUBFOLDER}*"):
        number = path.name.removeprefix(SUBFOLDER)
        if number.isdecimal() and int(number) >= jobs:
            run_folder.remove(path, command)


def has_own_logs() -> bool:
    """Whether this job's stdout is a file, and not that of the command."""
    return OWN_LOGS in os.environ


def report_sweep(outcomes: list[JobOutcome], folder: Path, broken: BaseException | None) -> None:
    """Says what is left to say when all jobs are over.

    Args:
        broken: what the launcher itself raised, such as for a process that was killed.

    Raises:
        WorkError: a job failed.
    """
    for one in outcomes:
        if one.said is not None:
            print(one.said)
    sys.stdout.flush()
    logs = folder / LOG_FOLDER
    if logs.is_dir():
        note(f"logs: {logs} (one folder for each job)")
    failed = [one for one in outcomes if one.error is not None]
    for one in failed:
        print(f"encoderlab: {one.job} failed: {one.error}", file=sys.stderr)
    see = f"the others are done; their runs are in {folder}"
    if broken is not None:
        first = (str(broken).strip().splitlines() or [type(broken).__name__])[0]
        raise WorkError(
            "the sweep broke off: a job's process died or could not be started",
            got=first[:200],
            hint=f"what was done is in {folder}"
            + (f", what the job said in {logs}" if logs.is_dir() else ""),
        ) from broken
    if failed:
        some_done = len(failed) < len(outcomes)
        raise WorkError(
            f"{len(failed)} of {len(outcomes)} jobs of the sweep failed",
            hint=see if some_done else None,
        )
