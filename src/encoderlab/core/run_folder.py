"""The folder of a run: config.yaml, and run.json with all that is needed to repeat it.

Knows plain values only: no experiment, no Hydra, no figures. Files are written atomically.
"""

from __future__ import annotations

import dataclasses
import json
import platform
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from shlex import quote
from typing import Any

from filelock import FileLock, Timeout

from encoderlab.core.atomic_io import refuse_symlink, write_text_atomic
from encoderlab.core.json_text import record_in
from encoderlab.core.results import to_plain
from encoderlab.errors import EncoderLabError, MissingError, UsageError

CONFIG, RECORD, LOCK = "config.yaml", "run.json", ".lock"
DRAWN = (".png", ".svg", ".npz", ".html", ".csv")
FORMAT = 1
REPORTED_PACKAGES = (
    "encoderlab", "torch", "transformers", "tokenizers", "safetensors", "huggingface_hub",
    "lightning", "hydra-core", "lancedb", "pyarrow", "pillow", "numpy", "scipy",
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class RunRecord:
    """What run.json holds.

    Args:
        command: the command's name.
        command_line: the arguments that were typed; empty where Python started the run.
        settings: the resolved settings, plain and nested.
        result: the result's own `to_json()`.
        seconds: wall time of the experiment.
        started: when it began, UTC, ISO 8601.
        checkpoints: name -> fingerprint of each model, where the result has them.
        files: figures, tables and pages that the run wrote, relative to its folder.
        project: the project's data sets, model names and defaults; None in older records.
    """

    command: str
    command_line: tuple[str, ...]
    settings: dict[str, Any]
    result: dict[str, Any]
    warnings: tuple[str, ...]
    seconds: float
    started: str
    seed: int | None
    device: str | None
    dtype: str | None
    checkpoints: dict[str, str]
    versions: dict[str, str]
    python: str
    platform: str
    git_commit: str | None
    format: int = FORMAT
    files: tuple[str, ...] = ()
    project: dict[str, Any] | None = None


def record(
    command: str,
    command_line: Sequence[str],
    settings: Mapping[str, Any],
    result: Mapping[str, Any],
    warnings: Sequence[str] = (),
    *,
    seconds: float,
    started: datetime,
    project: Mapping[str, Any] | None = None,
) -> RunRecord:
    """The record of a finished run in this environment; `seconds` is the wall time."""
    plain_settings, plain_result = to_plain(dict(settings)), to_plain(dict(result))
    values = plain_settings | plain_result

    return RunRecord(
        command=command,
        command_line=tuple(command_line),
        settings=plain_settings,
        result=plain_result,
        warnings=tuple(warnings),
        seconds=round(seconds, 3),
        started=started.astimezone(UTC).isoformat(timespec="seconds"),
        seed=plain_settings.get("seed"),
        device=values.get("device"),
        dtype=values.get("dtype") or values.get("precision"),
        checkpoints=_checkpoints(plain_result),
        versions=versions(),
        python=platform.python_version(),
        platform=platform.platform(),
        git_commit=git_commit(),
        project=None if project is None else dict(project),
    )


def written_figures(written: Sequence[Path], folder: Path) -> list[str]:
    """The figures, tables and pages among the files written to `folder`, relative to it."""
    # Checkpoints and indexes are left out: a later run may continue from them.
    root = folder.absolute()
    return sorted(
        {
            path.relative_to(root).as_posix()
            for path in written
            if path.suffix in DRAWN and path.is_relative_to(root)
        }
    )


def write(folder: Path, run: RunRecord) -> Path:
    """Writes config.yaml and, last, run.json; returns the folder."""
    # First removes files that the last run of the same command drew here and this one did not.
    import yaml

    folder.mkdir(parents=True, exist_ok=True)
    _remove_drawn(folder, run.command, keep=run.files)
    config = f"# encoderlab rerun {quote(str(folder))}\n" + yaml.safe_dump(
        {"command": run.command, **run.settings}, allow_unicode=True, sort_keys=False
    )
    write_text_atomic(folder / CONFIG, config)
    text = json.dumps(dataclasses.asdict(run), ensure_ascii=False, indent=2, allow_nan=False)
    write_text_atomic(folder / RECORD, text + "\n")
    return folder


def remove(folder: Path, command: str) -> None:
    """Removes the figures and the record of a run of `command`, and the folder if it is empty."""
    if not _remove_drawn(folder, command):
        return
    for name in (CONFIG, RECORD):
        (folder / name).unlink(missing_ok=True)
    with suppress(OSError):
        folder.rmdir()


def _remove_drawn(folder: Path, command: str, keep: Sequence[str] = ()) -> bool:
    """Removes recorded files but `keep`; returns whether the record is one of `command`."""
    try:
        before = read(folder)
    except EncoderLabError:
        return False
    if before.command != command:
        return False
    recorded = (folder / RECORD).stat().st_mtime_ns
    for path in (folder / name for name in set(before.files) - set(keep)):
        ours = path.suffix in DRAWN and path.resolve().is_relative_to(folder.resolve())
        if not ours or not path.is_file() or path.is_symlink():
            continue
        if path.stat().st_mtime_ns <= recorded:  # else the user has changed it
            path.unlink()
            with suppress(OSError):
                path.parent.rmdir()
    return True


def read(folder: str | Path) -> RunRecord:
    """The record of the run in a folder.

    Args:
        folder: written by `write`.

    Returns:
        The record.

    Raises:
        MissingError: there is no run in this folder, or no such folder.
        UsageError: its run.json is broken, or of another version.
    """  # noqa: DOC501
    path = Path(folder) / RECORD
    if not path.is_file():
        raise MissingError(
            "no run in this folder" if Path(folder).is_dir() else "no such folder",
            got=str(folder),
            want=f"a folder with {RECORD}",
            hint="a run's folder is outputs/COMMAND, or its --output-dir",
        )
    want = "the run.json that encoderlab wrote"
    try:
        content = record_in(path)
        names = {field.name for field in dataclasses.fields(RunRecord)}
        run = RunRecord(**{key: value for key, value in content.items() if key in names})
        for name, kind in (
            ("command", str), ("command_line", list), ("settings", dict), ("result", dict),
            ("files", list | tuple), ("project", dict | None),
        ):  # fmt: skip
            if not isinstance(getattr(run, name), kind):
                raise ValueError(f"its {name} is {getattr(run, name)!r}")
    except (ValueError, TypeError) as broken:
        raise UsageError(f"{path} is broken", got=str(broken), want=want) from broken
    if run.format != FORMAT:
        raise UsageError(f"{path} has another format", got=run.format, want=f"format {FORMAT}")
    return run


@contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """Locks `folder` for the block, so that two runs do not write each other's checkpoints.

    Raises:
        UsageError: another process holds the lock.
    """
    folder.mkdir(parents=True, exist_ok=True)
    refuse_symlink(folder / LOCK)
    lock = FileLock(folder / LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise UsageError(
            "another run is writing to this folder",
            got=str(folder),
            hint="wait until it has ended, or choose another folder with --output-dir",
        ) from error
    try:
        yield
    finally:
        lock.release()
        with suppress(OSError):
            if [path.name for path in folder.iterdir()] == [LOCK]:  # the run wrote nothing
                (folder / LOCK).unlink()
                folder.rmdir()


def versions() -> dict[str, str]:
    """Installed version of each package whose version can change a result."""
    installed = {}
    for name in REPORTED_PACKAGES:
        with suppress(metadata.PackageNotFoundError):
            installed[name] = metadata.version(name)
    return installed


def git_commit() -> str | None:
    """The commit of the current folder, with `-dirty` where it has changes; None without git."""
    try:
        answer = subprocess.run(
            ["git", "describe", "--always", "--abbrev=40", "--dirty", "--exclude=*"],
            capture_output=True, text=True, timeout=10, stdin=subprocess.DEVNULL, check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return None
    return answer.stdout.strip() or None if answer.returncode == 0 else None


def _checkpoints(result: Mapping[str, Any]) -> dict[str, str]:
    if isinstance(result.get("fingerprints"), dict):
        return dict(result["fingerprints"])
    fingerprint = result.get("fingerprint") or result.get("model_fingerprint")
    return {str(result.get("model", "model")): str(fingerprint)} if fingerprint else {}
