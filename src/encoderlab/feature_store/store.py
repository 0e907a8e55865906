"""Features on disk: a folder of tables, each of chunks that are written atomically.

A table holds one kind of feature of one encoder: (checkpoint fingerprint, preprocessing, what,
number format). Rows are found by the content of the sample, so a file that was moved, or is in two
data sets, is computed once. Several processes may read and write at once. Chunks are `.npy` files,
read by memory map: the fastest format in benchmarks/bench_token_store.py.

Knows arrays and digests; loads no model, decodes no image.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import shutil
import tokenize
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, astuple, dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from encoderlab.core.atomic_io import (
    explain_full_disk,
    remove_stale,
    temporary_folder,
    write_text_atomic,
)
from encoderlab.core.json_text import record_in
from encoderlab.data.sample import Sample
from encoderlab.errors import UsageError, WorkError

DIGEST_BYTES = 16
# A row: the name of its chunk, and its number there.
Place = tuple[str, int]
VALUES, DIGESTS, ABOUT = "values.npy", "digests.npy", "chunk.json"


@dataclass(frozen=True)
class TableKey:
    """The contents of a table.

    Args:
        encoder: name of the model; no part of the identity.
        fingerprint: of the checkpoint.
        preprocessing: of the pixels or the text, as canonical JSON.
        what: pooled, cls, projected, patches, patches@LAYER, mean@LAYER.
        dtype: the number format that the model ran in, and the backend where it was not torch.
    """

    encoder: str
    fingerprint: str
    preprocessing: str
    what: str
    dtype: str

    @property
    def name(self) -> str:
        """The table's folder: a digest of everything but the encoder's name."""
        identity = [self.fingerprint, self.preprocessing, self.what, self.dtype]
        return hashlib.blake2b(json.dumps(identity).encode(), digest_size=8).hexdigest()


def digest_of(sample: Sample | str) -> bytes:
    """A digest of a sample: of the bytes of its file, the pixels of a decoded image, or a text."""
    content = sample.encode() if isinstance(sample, str) else sample.content()
    return hashlib.blake2b(content, digest_size=DIGEST_BYTES).digest()


@dataclass(frozen=True)
class TableState:
    """One table in numbers: samples with features, unreadable samples (`left_out`), bytes."""

    key: TableKey
    folder: Path
    chunks: int
    samples: int
    left_out: int
    bytes: int
    damaged: tuple[str, ...] = ()


class FeatureTable:
    """One kind of feature of one encoder.

    Args:
        listed: whether to read the list of rows; reading given places does not need it.

    >>> import tempfile
    >>> key = TableKey("tiny", "f00", "{}", "pooled", "float32")
    >>> table = FeatureTable(Path(tempfile.mkdtemp()), key)
    >>> _ = table.add([b"a" * 16, b"b" * 16], np.eye(2, dtype=np.float32))
    >>> table.read([b"b" * 16]).tolist()
    [[0.0, 1.0]]
    """

    def __init__(self, root: Path, key: TableKey, *, listed: bool = True) -> None:
        self.key, self.folder = key, root / key.name
        self._where: dict[bytes, Place] = {}
        self._left_out: dict[bytes, str] = {}
        self._known: set[str] = set()
        self._open: dict[str, np.ndarray] = {}
        self._swept = False
        if listed:
            self.refresh()

    def refresh(self) -> None:
        """Reads the list of chunks again: other processes may have added or removed some."""
        names = set(_chunk_names(self.folder))
        if self._known - names:
            self._where, self._left_out, self._known = {}, {}, set()
            self._open.clear()
        for name in sorted(names - self._known):
            try:
                digests, left_out = _listed(self.folder / name)
            except ValueError:
                continue  # damaged: `verify` reports it, and its samples are computed again
            for row, digest in enumerate(digests):
                self._where.setdefault(digest.tobytes(), (name, row))
            self._left_out.update(left_out)
            self._known.add(name)

    def __contains__(self, digest: bytes) -> bool:
        return digest in self._where or digest in self._left_out

    def __len__(self) -> int:
        return len(self._where)

    def has_values(self, digest: bytes) -> bool:
        """Whether there is a row for this sample."""
        return digest in self._where

    def has_chunk(self, name: str) -> bool:
        """Whether a chunk is there, by its name; looks at the disk."""
        return (self.folder / name / ABOUT).is_file()

    def why_left_out(self, digest: bytes) -> str | None:
        """Why a sample that was tried has no row."""
        return self._left_out.get(digest)

    def add(
        self,
        digests: Sequence[bytes],
        values: Shaped[np.ndarray, "n ..."],
        left_out: Mapping[bytes, str] | None = None,
    ) -> Path:
        """Writes one chunk, atomically.

        Args:
            digests: of the samples.
            values: from `for_disk`; row i belongs to digest i.
            left_out: digest -> reason, of samples without a row.

        Returns:
            The folder of the chunk.

        Raises:
            ValueError: not one row per digest.
            WorkError: the disk is full or refuses.
        """
        if len(digests) != len(values):
            raise ValueError(f"{len(digests)} digests for {len(values)} rows")
        name = chunk_name([*digests, *(left_out or {})])
        place = self.folder / name
        try:
            self._write_key()
            with temporary_folder(place) as unfinished, explain_full_disk(place):
                np.save(unfinished / VALUES, np.ascontiguousarray(values))
                rows = np.frombuffer(b"".join(digests), dtype=np.uint8)
                np.save(unfinished / DIGESTS, rows.reshape(-1, DIGEST_BYTES))
                about = {
                    "rows": len(digests),
                    "dtype": "bfloat16" if values.dtype == np.uint16 else str(values.dtype),
                    "left_out": {digest.hex(): why for digest, why in (left_out or {}).items()},
                    "checksums": {file: _checksum(unfinished / file) for file in (VALUES, DIGESTS)},
                }
                (unfinished / ABOUT).write_text(json.dumps(about, sort_keys=True) + "\n")
                for file in unfinished.iterdir():
                    _sync(file)
                _sync(unfinished)
                if place.exists() and not self._is_whole(name, thorough=True):
                    shutil.rmtree(place)
                _rename(unfinished, place)
                _sync(self.folder)
        except OSError as error:
            raise WorkError(
                "features cannot be stored",
                got=f"{self.folder}: {error.strerror or error}",
                want="a disk with room, and the right to write",
                hint="chunks stored so far are complete; run the same command again to continue",
            ) from error
        self.refresh()
        return place

    def read(self, digests: Sequence[bytes]) -> Float[np.ndarray, "n ..."]:
        """The rows of `digests` in their order, in fp32; a KeyError for one without a row."""
        return self.batch(digests).float().numpy()

    def batch(self, digests: Sequence[bytes]) -> Shaped[Tensor, "n ..."]:
        """The rows of `digests` in their order, in their stored format."""
        return self.at(self.places(digests))

    def places(self, digests: Sequence[bytes]) -> list[Place]:
        """(chunk, row) of each digest: another process can read them without the list of rows."""
        return [self._where[digest] for digest in digests]

    def at(self, where: Sequence[Place]) -> Shaped[Tensor, "n ..."]:
        """The rows at these places, in their order, as they are stored."""
        order = sorted(range(len(where)), key=where.__getitem__)
        out: np.ndarray | None = None
        for name, group in itertools.groupby(order, key=lambda position: where[position][0]):
            positions = list(group)
            values = self._values(name)
            if out is None:
                out = np.empty((len(where), *values.shape[1:]), dtype=values.dtype)
            try:
                for position in positions:
                    out[position] = values[where[position][1]]
            except (IndexError, ValueError) as error:
                raise self._damaged(name, error) from error
        if out is None:
            return torch.zeros(0, 0)
        rows = torch.from_numpy(out)
        return rows.view(torch.bfloat16) if out.dtype == np.uint16 else rows

    def state(self, verify: bool = False) -> TableState:
        """Numbers about the table; `verify` reads every byte and compares it with its checksum."""
        names = _chunk_names(self.folder)
        size = sum(
            file.stat().st_size
            for name in names
            for file in (self.folder / name).iterdir()
            if file.is_file()
        )
        damaged = tuple(name for name in names if not self._is_whole(name, verify))
        return TableState(
            self.key, self.folder, len(names), len(self._where), len(self._left_out), size, damaged
        )

    def prune(self) -> list[str]:
        """Removes damaged chunks and files of killed runs; returns the names of the damaged."""
        damaged = [name for name in _chunk_names(self.folder) if not self._is_whole(name, True)]
        for name in damaged:
            shutil.rmtree(self.folder / name)
        self.sweep()
        self.refresh()
        return damaged

    def sweep(self) -> None:
        """Removes the files of killed runs."""
        remove_stale(self.folder)

    def delete(self) -> None:
        """Removes the whole table."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.refresh()

    def _values(self, name: str) -> np.ndarray:
        if name not in self._open:
            try:
                # As a plain array: every look at a numpy memmap makes another object of its kind.
                self._open[name] = np.asarray(_array(self.folder / name / VALUES, mapped=True))
            except ValueError as error:
                raise self._damaged(name, error) from error
        return self._open[name]

    def _damaged(self, name: str, error: Exception) -> WorkError:
        return WorkError(
            "stored features are damaged",
            got=f"{self.folder / name}: {(str(error).splitlines() or [''])[0][:200]}",
            hint="remove them with encoderlab features prune; the next run computes their samples "
            "again",
        )

    def _is_whole(self, name: str, thorough: bool) -> bool:
        chunk = self.folder / name
        try:
            about = record_in(chunk / ABOUT)
            rows = len(_array(chunk / VALUES, mapped=True))
            if not rows == len(_listed(chunk)[0]) == about["rows"]:
                return False
            checksums = about["checksums"]
            # Only these two files: a name from the record could be a path out of the chunk.
            return not thorough or checksums == {f: _checksum(chunk / f) for f in (VALUES, DIGESTS)}
        except (OSError, ValueError, KeyError):
            return False

    def _write_key(self) -> None:
        path = self.folder / "key.json"
        if not path.is_file():
            self.folder.mkdir(parents=True, exist_ok=True)
            write_text_atomic(path, json.dumps(asdict(self.key), indent=2) + "\n")
        if not self._swept:
            self._swept = True
            remove_stale(self.folder)


class FeatureStore:
    """All tables below one folder.

    Args:
        root: the folder, which need not exist.

    Raises:
        UsageError: it is a file.
    """

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root).expanduser()
        if self.root.exists() and not self.root.is_dir():
            raise UsageError("the feature store is a file", got=str(self.root), want="a folder")

    def table(self, key: TableKey) -> FeatureTable:
        """The table of one encoder and kind.

        Args:
            key: encoder, kind and preparation of the features.

        Returns:
            The table; empty where nothing was stored yet.
        """
        return FeatureTable(self.root, key)

    def tables(self) -> list[FeatureTable]:
        """Every existing table.

        Returns:
            Tables, sorted by encoder and kind.
        """
        tables = []
        for path in self.root.glob("*/key.json"):
            try:
                key = TableKey(**record_in(path))
            except (ValueError, TypeError):
                continue
            if not all(isinstance(part, str) for part in astuple(key)):
                continue
            tables.append(FeatureTable(self.root, key))
        return sorted(tables, key=lambda table: (table.key.encoder, table.key.what, table.key.name))


def chunk_name(digests: Iterable[bytes]) -> str:
    """The name of the chunk of these samples, in any order; known before they are computed."""
    return hashlib.blake2b(b"".join(sorted(digests)), digest_size=12).hexdigest()


def _chunk_names(folder: Path) -> list[str]:
    try:
        with os.scandir(folder) as entries:  # tells folders from files without a look at each
            return sorted(e.name for e in entries if e.is_dir() and not e.name.startswith("."))
    except FileNotFoundError:
        return []


def for_disk(values: Tensor) -> np.ndarray:
    """An array that numpy can store; bf16 as its bits in uint16, since numpy has no such type."""
    values = values.detach().cpu().contiguous()
    if values.dtype == torch.bfloat16:
        return values.view(torch.uint16).numpy()
    return values.numpy()


def _listed(chunk: Path) -> tuple[np.ndarray, dict[bytes, str]]:
    """The digests of a chunk's rows (n, DIGEST_BYTES), and why others have none."""
    digests = _array(chunk / DIGESTS)
    if digests.dtype != np.uint8 or digests.ndim != 2 or digests.shape[1] != DIGEST_BYTES:
        raise ValueError(f"{DIGESTS} holds {digests.dtype} {digests.shape}")
    left_out = record_in(chunk / ABOUT).get("left_out")
    if not isinstance(left_out, dict) or not all(isinstance(w, str) for w in left_out.values()):
        raise ValueError(f"{ABOUT} does not say what was left out")
    return digests, {bytes.fromhex(digest): why for digest, why in left_out.items()}


def _array(path: Path, mapped: bool = False) -> np.ndarray:
    """The array of an .npy file with at least one axis; a ValueError where there is none."""
    try:
        array = np.load(path, mmap_mode="r" if mapped else None)
    except (OSError, EOFError, SyntaxError, tokenize.TokenError, TypeError, MemoryError) as error:
        # numpy parses the header, a Python literal, with Python's tokenizer.
        raise ValueError(f"{path.name} is no array ({error})") from error
    if not isinstance(array, np.ndarray) or not array.ndim:
        raise ValueError(f"{path.name} holds no rows")
    return array


def _checksum(path: Path) -> str:
    digest = hashlib.blake2b(digest_size=16)
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _rename(unfinished: Path, place: Path) -> None:
    """Puts a finished chunk in its place; where one like it is there already, that one stays."""
    try:
        unfinished.rename(place)
    except OSError:
        if not (place / ABOUT).is_file():
            raise
