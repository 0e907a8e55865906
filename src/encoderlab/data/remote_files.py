"""Paths and URLs of shards: braces and wildcards, and local copies of remote files.

A remote shard is fetched once, as a whole, when it is first read: reading image by image would
make thousands of requests. Copies stay below a limit; the least recently used go first. Knows
files; not what is in them.
"""

from __future__ import annotations

import functools
import glob
import hashlib
import itertools
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from encoderlab.core.progress import note
from encoderlab.core.project import cache_folder
from encoderlab.errors import MissingError, UsageError, WorkError

CACHE_VARIABLE, LIMIT_VARIABLE = "ENCODERLAB_SHARD_CACHE", "ENCODERLAB_SHARD_CACHE_GB"
DEFAULT_LIMIT_GB = 50
# The package that adds a protocol to fsspec.
PACKAGES = {"s3": "s3fs", "s3a": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "abfs": "adlfs",
            "az": "adlfs", "http": "aiohttp", "https": "aiohttp"}  # fmt: skip


def is_url(path: str) -> bool:
    """Whether the path names its protocol: s3://bucket/x, file:///x."""
    return re.match(r"[a-z][a-z0-9+.-]+://", path) is not None


def expand_braces(pattern: str) -> list[str]:
    """The paths and URLs that a pattern with braces and wildcards stands for.

    Args:
        pattern: such as `s3://bucket/train-{00..12}.tar`.

    Returns:
        Paths and URLs in order, each once.

    Raises:
        MissingError: a wildcard that nothing matches.
        UsageError: a range that runs backwards, or a pattern that is no path.

    >>> expand_braces("s3://b/{train,val}-{08..10}.tar")[2:4]
    ['s3://b/train-10.tar', 's3://b/val-08.tar']
    """
    if "\x00" in pattern:
        raise UsageError("a path cannot hold the character NUL", got=pattern)
    try:
        os.fsencode(pattern)
    except UnicodeEncodeError as error:
        raise UsageError("no path has these characters", got=pattern, want="a path") from error
    paths: list[str] = []
    for path in _braces(pattern):
        if any(sign in path for sign in "*?[") and not Path(path).exists():
            matches = _matches(path)
            if not matches:
                raise MissingError("nothing matches", got=path, want="the path of some shards")
            paths += matches
        else:
            paths.append(path)
    return list(dict.fromkeys(paths))


def local_copy(url: str) -> Path:
    """The file on this disk: the shard itself if it is local, else a copy of it.

    Args:
        url: a path or a URL.

    Returns:
        The path of the file.

    Raises:
        MissingError: it is not there, or its protocol needs a package that is not installed.
        WorkError: it cannot be fetched.
    """
    if url.startswith("file://") or not is_url(url):
        path = Path(url.removeprefix("file://"))
        if not path.is_file():
            raise MissingError("no such shard", got=str(path), want="a file that exists")
        return path
    copy = _copy_of(url)
    if not copy.is_file():  # another process has removed it to make room
        _copy_of.cache_clear()
        copy = _copy_of(url)
    return copy


@functools.lru_cache(maxsize=4096)
def _copy_of(url: str) -> Path:
    from filelock import FileLock

    files, inside = _filesystem(url)
    try:
        info = files.info(inside)
    except FileNotFoundError as error:
        raise MissingError("no such shard", got=url, want="a shard that exists") from error
    except Exception as error:  # each filesystem has errors of its own
        raise _fetch_error(url, error) from error
    # The same URL with other content is another shard.
    state = [str(info.get(key)) for key in ("size", "ETag", "mtime", "LastModified", "created")]
    name = hashlib.blake2b("|".join([url, *state]).encode(), digest_size=16).hexdigest()
    folder = Path(os.environ.get(CACHE_VARIABLE) or cache_folder("shards"))
    folder.mkdir(parents=True, exist_ok=True)
    copy = folder / (name + Path(inside).suffix)
    with FileLock(folder / f"{name}.lock"):
        if copy.is_file():
            os.utime(copy)
            return copy
        _make_room(folder, int(info.get("size") or 0), url)
        for stale in folder.glob(f".{name}-*"):  # of a process that was killed with the lock
            stale.unlink(missing_ok=True)
        unfinished = folder / f".{name}-{os.getpid()}"
        try:
            files.get_file(inside, str(unfinished))
            unfinished.replace(copy)
        except Exception as error:
            raise _fetch_error(url, error) from error
        finally:
            unfinished.unlink(missing_ok=True)
    return copy


def _filesystem(url: str) -> tuple[Any, str]:
    import fsspec

    protocol = url.split("://")[0]
    try:
        return fsspec.core.url_to_fs(url)
    except ImportError as error:
        package = PACKAGES.get(protocol)
        raise MissingError(
            f"reading {protocol}:// needs a package that is not installed",
            got=url,
            want=f"pip install {package}" if package else str(error),
        ) from error
    except ValueError as error:
        raise UsageError(
            "unknown protocol", got=url, want="a path, s3://, gs://, https:// ..."
        ) from error


def _matches(pattern: str) -> list[str]:
    if not is_url(pattern):
        return sorted(glob.glob(pattern, recursive=True))
    files, inside = _filesystem(pattern)
    protocol = pattern.split("://")[0]
    try:
        return sorted(f"{protocol}://{path.lstrip('/')}" for path in files.glob(inside))
    except Exception as error:
        raise _fetch_error(pattern, error) from error


def _fetch_error(url: str, error: Exception) -> WorkError:
    if isinstance(error, OSError) and error.filename is not None:
        raise error  # an error of this disk
    return WorkError(
        "the shard cannot be fetched",
        got=f"{url}: {str(error).splitlines()[0][:200] if str(error) else type(error).__name__}",
        want="a place that this machine may read",
    )


def _make_room(folder: Path, needed: int, url: str) -> None:
    """Removes the least recently used copies until `needed` more bytes fit."""
    setting = os.environ.get(LIMIT_VARIABLE) or str(DEFAULT_LIMIT_GB)
    try:
        limit = float(setting) * 1e9
    except ValueError as error:
        raise UsageError(f"{LIMIT_VARIABLE} is no number", got=setting, want="gigabytes") from error
    if needed > limit:
        raise WorkError(
            "the shard is larger than all copies may be together",
            got=f"{url}: {needed / 1e9:.1f} GB",
            want=f"at most {limit / 1e9:g} GB",
            hint=f"set {LIMIT_VARIABLE}",
        )
    copies = [path for path in folder.iterdir() if path.suffix not in (".lock", "")]
    used = sum(path.stat().st_size for path in copies)
    for path in sorted(copies, key=lambda path: path.stat().st_mtime):
        if used + needed <= limit and needed <= shutil.disk_usage(folder).free:
            return
        note(f"shards: removing the copy {path.name} to make room")
        used -= path.stat().st_size
        path.unlink(missing_ok=True)
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise WorkError(
            "there is no room for a copy of the shard",
            got=f"{needed / 1e9:.1f} GB, with {free / 1e9:.1f} GB free at {folder}",
            hint=f"free some space, or name another folder in {CACHE_VARIABLE}",
        )


def _braces(pattern: str) -> Iterator[str]:
    """Expands `{a,b}` and `{000..123}`; other braces stay."""
    alternatives: list[list[str]] = []
    for text in re.split(r"(\{[^{}]*\})", pattern):
        ends = re.fullmatch(r"\{(\d+)\.\.(\d+)\}", text)
        if ends:
            first, last, digits = int(ends[1]), int(ends[2]), len(ends[1])
            if last < first:
                raise UsageError("the range runs backwards", got=text, want="{000..123}")
            alternatives.append([f"{number:0{digits}d}" for number in range(first, last + 1)])
        elif text.startswith("{") and text.endswith("}") and "," in text:
            alternatives.append(text[1:-1].split(","))
        else:
            alternatives.append([text])
    return map("".join, itertools.product(*alternatives))
