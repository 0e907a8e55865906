"""Sizes that every card states."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Facts:
    """Sizes of a checkpoint's folder, the card left out."""

    millions: float
    megabytes: float

    @classmethod
    def of(cls, folder: Path) -> Facts:
        """Computed from the sizes of the files; weights are fp16."""
        files = [file for file in folder.rglob("*") if file.is_file() and file.name != "README.md"]
        weights = sum(file.stat().st_size for file in files if file.suffix == ".safetensors")
        size = sum(file.stat().st_size for file in files)
        return cls(weights / 2 / 1e6, size / 1e6)
