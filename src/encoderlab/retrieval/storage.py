"""The storage of an index: a local folder, or an address in object storage (s3://bucket/index).

Reads and writes small text files there and connects LanceDB; knows nothing of the table.
Credentials come from the environment alone and are never written.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from filelock import FileLock, Timeout

from encoderlab.core.atomic_io import refuse_symlink, write_text_atomic
from encoderlab.core.progress import note
from encoderlab.data.remote_files import PACKAGES
from encoderlab.errors import MissingError, UsageError, is_utf8

LOCK = ".lock"
# LanceDB reads and writes these by itself; index.json needs a package of fsspec's beside it.
PROTOCOLS = ("s3", "gs", "az", "file")


class Storage:
    """A local folder where `db` has no scheme, else the object storage at that address.

    Args:
        db: a folder, or an address: s3://bucket/index, gs://…, az://… or file:///folder.

    Raises:
        UsageError: a scheme that LanceDB does not have, a password in the address, or a name that
            is not UTF-8.
    """

    def __init__(self, db: str | Path) -> None:
        if not is_utf8(str(db)):
            raise UsageError("the name of an index must be UTF-8", got=str(db), want="another name")
        self.folder: Path | None = Path(db) if "://" not in str(db) else None
        self.address = str(db).rstrip("/") if self.folder is None else str(db)
        if self.folder is None:
            self._check()

    def _check(self) -> None:
        parts = urlsplit(self.address)
        if parts.username or parts.password:
            raise UsageError(
                "an address is written into records, so it must hold no credentials",
                got=f"{parts.scheme}://…@{parts.hostname}{parts.path}",
                want=f"{parts.scheme}://{parts.hostname}{parts.path}",
                hint="put them into the environment: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY",
            )
        if parts.scheme not in PROTOCOLS:
            raise UsageError(
                "unknown kind of storage",
                got=self.address,
                want="a folder, or an address that begins with "
                + ", ".join(f"{name}://" for name in PROTOCOLS),
            )

    def __str__(self) -> str:
        return self.address

    def read(self, name: str) -> str | None:
        """The text of the file `name`, or None where there is none."""
        if self.folder is not None:
            path = self.folder / name
            return path.read_text(encoding="utf-8") if path.is_file() else None
        system, root = self._system()
        try:
            return system.cat_file(f"{root}/{name}").decode("utf-8")
        except FileNotFoundError:
            return None
        except UnicodeDecodeError:
            raise
        except Exception as error:
            raise self.unreachable(error) from error

    def write(self, name: str, text: str) -> None:
        """Writes the file `name` whole: a reader meets the old text or the new one.

        Raises:
            MissingError: the package for this storage is not installed, or it cannot be reached.
        """
        if self.folder is not None:
            self.folder.mkdir(parents=True, exist_ok=True)
            write_text_atomic(self.folder / name, text)
            return
        system, root = self._system()
        try:
            system.makedirs(root, exist_ok=True)
            # One PUT is atomic in object storage.
            system.pipe_file(f"{root}/{name}", text.encode("utf-8"))
        except Exception as error:
            raise self.unreachable(error) from error

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Holds the lock of a local index during the block; waits for another writer.

        Raises:
            OSError: the folder cannot be written.
            UsageError: the lock is a link to somewhere else.
        """
        if self.folder is None:  # object storage has no locks
            yield
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        refuse_symlink(self.folder / LOCK)
        lock = FileLock(self.folder / LOCK)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            note(f"{self}: waiting for another process that writes to this index")
            lock.acquire()
        try:
            yield
        finally:
            lock.release()

    def connect(self) -> Any:
        """A LanceDB connection."""
        # Its engine reports every table that it creates as a warning.
        os.environ.setdefault("LANCEDB_LOG", "error")
        import lancedb

        if self.folder is not None:
            self.folder.mkdir(parents=True, exist_ok=True)
        return lancedb.connect(self.address, storage_options=self.lance_options() or None)

    @property
    def _scheme(self) -> str:
        return urlsplit(self.address).scheme

    def lance_options(self) -> dict[str, str]:
        """Options that LanceDB does not read from the environment; no secrets."""
        if self.folder is not None or self._scheme != "s3":
            return {}
        options = {}
        endpoint = _endpoint()
        if endpoint:
            options["aws_endpoint"] = endpoint
            if endpoint.startswith("http://"):
                options["allow_http"] = "true"
        region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
        if region:
            options["aws_region"] = region
        return options

    def _system(self) -> tuple[Any, str]:
        """(the fsspec file system, the path on it)."""
        import fsspec

        options: dict[str, Any] = {}
        if self._scheme == "s3" and _endpoint():
            options["endpoint_url"] = _endpoint()
        try:
            return fsspec.core.url_to_fs(self.address, **options)
        except ImportError as error:
            package = PACKAGES[self._scheme]
            raise MissingError(
                f"storage at {self._scheme}:// needs a package that is not installed",
                got=self.address,
                want=package,
                hint=f"install it: pip install {package}",
            ) from error

    def unreachable(self, error: Exception) -> MissingError:
        """The error for storage that cannot be read or written."""
        reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
        return MissingError(
            "the storage of the index cannot be reached",
            got=f"{self.address} ({reason})",
            want="a bucket that is there, and the right to use it",
            hint="check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION and AWS_ENDPOINT_URL"
            if self._scheme == "s3"
            else "check the address and the credentials in the environment",
        )


def _endpoint() -> str | None:
    return os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or None
