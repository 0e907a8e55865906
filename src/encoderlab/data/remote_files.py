"""Where shards lie: paths and URLs, several in one word, and a copy on this disk of a remote one.

A remote shard is fetched whole, once, when it is first read: one request where reading image by
image would make thousands. Copies stay below a limit; the ones unused for longest go first.
Knows files; not what is in them.
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
from encoderlab.errors import MissingError, UsageError, WorkError

CACHE_VARIABLE, LIMIT_VARIABLE = "ENCODERLAB_SHARD_CACHE", "ENCODERLAB_SHARD_CACHE_GB"
DEFAULT_LIMIT_GB = 50
# What to install for a protocol that fsspec knows and that is not there.
PACKAGES = {
    "s3": "s3fs",
    "s3a": "s3fs",
    "gs": "gcsfs",
    "gcs": "gcsfs",
    "abfs": "adlfs",
    "az": "adlfs",
    "http": "aiohttp",
    "https": "aiohttp",
}


def is_url(place: str) -> bool:
    """Whether it names its protocol: s3://bucket/x, file:///x."""
    return re.match(r"[a-z][a-z0-9+.-]+://", place) is not None


def expand_braces(word: str) -> list[str]:
    """The places that a word with braces and wildcards stands for, in order.

    >>> expand_braces("s3://b/{train,val}-{08..10}.tar")[2:4]
    ['s3://b/train-10.tar', 's3://b/val-08.tar']

    Raises:
        MissingError: a wildcard that nothing matches.
        UsageError: a range that is none, or a word that is no path.
    """
    if "\x00" in word:
        raise UsageError("a path cannot hold the character NUL", got=word)
    try:
        os.fsencode(word)
    except UnicodeEncodeError as error:
        raise UsageError("no path has these characters", got=word, want="a path") from error
    places: list[str] = []
    for one in _braces(word):
        if any(sign in one for sign in "*?[") and not Path(one).exists():
            found = _matching(one)
            if not found:
                raise MissingError("nothing matches", got=one, want="the path of some shards")
            places += found
        else:
            places.append(one)
    return list(dict.fromkeys(places))


def local_copy(place: str) -> Path:
    """The file on this disk: the shard itself where it is local, else a copy of it.

    Raises:
        MissingError: it is not there, or its protocol needs a package that is not installed.
        WorkError: it cannot be fetched.
    """
    path = Path(place)
    if not is_url(place):
        if not path.is_file():
            raise MissingError("no such shard", got=place, want="a file that exists")
        return path
    if place.startswith("file://"):
        return local_copy(place.removeprefix("file://"))
    copy = _copy_of(place)
    # Another process may have made room meanwhile.
    if not copy.is_file():
        _copy_of.cache_clear()
        copy = _copy_of(place)
    return copy


@functools.lru_cache(maxsize=4096)
def _copy_of(place: str) -> Path:
    from filelock import FileLock

    files, inside = _filesystem(place)
    try:
        about = files.info(inside)
    except FileNotFoundError as error:
        raise MissingError("no such shard", got=place, want="a shard that exists") from error
    except Exception as error:  # each filesystem has errors of its own
        raise _unreachable(place, error) from error
    # The same name with other content is another shard.
    state = [str(about.get(key)) for key in ("size", "ETag", "mtime", "LastModified", "created")]
    name = hashlib.blake2b("|".join([place, *state]).encode(), digest_size=16).hexdigest()
    folder = _cache()
    copy = folder / (name + Path(inside).suffix)
    with FileLock(folder / f"{name}.lock"):
        if copy.is_file():
            os.utime(copy)
            return copy
        _make_room(folder, int(about.get("size") or 0), place)
        for left in folder.glob(f".{name}-*"):  # by one that was killed while it had the lock
            left.unlink(missing_ok=True)
        unfinished = folder / f".{name}-{os.getpid()}"
        try:
            files.get_file(inside, str(unfinished))
            unfinished.replace(copy)
        except Exception as error:
            raise _unreachable(place, error) from error
        finally:
            unfinished.unlink(missing_ok=True)
    return copy


def _filesystem(place: str) -> tuple[Any, str]:
    import fsspec

    protocol = place.split("://")[0]
    try:
        return fsspec.core.url_to_fs(place)
    except ImportError as error:
        package = PACKAGES.get(protocol)
        raise MissingError(
            f"reading {protocol}:// needs a package that is not installed",
            got=place,
            want=f"pip install {package}" if package else str(error),
        ) from error
    except ValueError as error:
        raise UsageError(
            "unknown protocol", got=place, want="a path, s3://, gs://, https:// ..."
        ) from error


def _matching(word: str) -> list[str]:
    if not is_url(word):
        return sorted(glob.glob(word, recursive=True))
    files, inside = _filesystem(word)
    protocol = word.split("://")[0]
    try:
        return sorted(f"{protocol}://{one.lstrip('/')}" for one in files.glob(inside))
    except Exception as error:
        raise _unreachable(word, error) from error


def _unreachable(place: str, error: Exception) -> WorkError | MissingError:
    if isinstance(error, OSError) and error.filename is not None:
        raise error  # of this disk, and known as such
    return WorkError(
        "the shard cannot be fetched",
        got=f"{place}: {str(error).splitlines()[0][:200] if str(error) else type(error).__name__}",
        want="a place that this machine may read",
    )


def _cache() -> Path:
    named = os.environ.get(CACHE_VARIABLE)
    usual = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "encoderlab"
    folder = Path(named) if named else usual / "shards"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _make_room(folder: Path, needed: int, place: str) -> None:
    """Removes copies, those unused for longest first, until a shard of so many bytes has room."""
    said = os.environ.get(LIMIT_VARIABLE) or str(DEFAULT_LIMIT_GB)
    try:
        limit = float(said) * 1e9
    except ValueError as error:
        raise UsageError(f"{LIMIT_VARIABLE} is no number", got=said, want="gigabytes") from error
    if needed > limit:
        raise WorkError(
            "the shard is larger than all copies may be together",
            got=f"{place}: {needed / 1e9:.1f} GB",
            want=f"at most {limit / 1e9:g} GB",
            hint=f"set {LIMIT_VARIABLE}",
        )
    copies = [path for path in folder.iterdir() if path.suffix not in (".lock", "")]
    kept = sum(path.stat().st_size for path in copies)
    for path in sorted(copies, key=lambda path: path.stat().st_mtime):
        if kept + needed <= limit and needed <= shutil.disk_usage(folder).free:
            return
        note(f"shards: removing the copy {path.name} to make room")
        kept -= path.stat().st_size
        path.unlink(missing_ok=True)
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise WorkError(
            "there is no room for a copy of the shard",
            got=f"{needed / 1e9:.1f} GB, with {free / 1e9:.1f} GB free at {folder}",
            hint=f"free some space, or name another folder in {CACHE_VARIABLE}",
        )


def _braces(word: str) -> Iterator[str]:
    """`{a,b}` and `{000..123}` become words; other braces stay as they are."""
    pieces: list[list[str]] = []
    for text in re.split(r"(\{[^{}]*\})", word):
        inside = text[1:-1]
        ends = re.fullmatch(r"(\d+)\.\.(\d+)", inside)
        if not (text.startswith("{") and text.endswith("}")):
            pieces.append([text])
        elif ends:
            first, last = int(ends[1]), int(ends[2])
            if last < first:
                raise UsageError("the range runs backwards", got=text, want="{000..123}")
            digits = len(ends[1])
            pieces.append([f"{number:0{digits}d}" for number in range(first, last + 1)])
        else:
            pieces.append(inside.split(",") if "," in inside else [text])
    return ("".join(one) for one in itertools.product(*pieces))
