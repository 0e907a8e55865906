"""The files of a checkpoint folder in the format of transformers: JSON files and weight files.

Reads no weights, knows no model family.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from encoderlab.core.json_text import record_in
from encoderlab.errors import MissingError, UsageError

WEIGHTS = "model.safetensors"
OPEN_CLIP = "open_clip_config.json"
INDEX = f"{WEIGHTS}.index.json"


def read_record(path: Path) -> dict[str, Any]:
    """The mapping in a JSON file of a checkpoint."""
    try:
        return record_in(path)
    except ValueError as error:
        raise UsageError(
            f"{path.name} cannot be read",
            got=f"{path}: {error}",
            want="a JSON mapping",
            hint="the file is damaged or cut short: fetch it again",
        ) from error


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files with the weights: model.safetensors, else all that the index names."""
    # As in transformers, an index beside model.safetensors is ignored: it may be of an earlier
    # save.
    whole, index = folder / WEIGHTS, folder / INDEX
    if whole.is_file():
        return [whole]
    if index.is_file():
        return sorted(set(shard_files(index).values()))
    pickled = any(folder.glob("*.bin"))
    only = " (only pickled weights are there, and those are not opened)" if pickled else ""
    raise MissingError(
        "the checkpoint has no weights in safetensors",
        got=f"no {whole}{only}",
        hint="convert it with transformers' save_pretrained",
    )


def shard_files(index: Path) -> dict[str, Path]:
    """The file of each tensor, from an index (model.safetensors.index.json).

    Returns:
        Name of the tensor -> path beside `index`.

    Raises:
        MissingError: a file that it names is missing.
        UsageError: it is not an index, or names a file outside the folder.
    """
    names = read_record(index).get("weight_map")
    if not isinstance(names, dict) or not names:
        raise UsageError(
            "the index of the weights names no file", got=str(index), want="a table weight_map"
        )
    for file in names.values():
        if not isinstance(file, str) or Path(file).name != file:
            raise UsageError(
                "the index of the weights leaves the checkpoint's folder",
                got=f"{file!r} in {index}",
                want="names of files beside it",
            )
    for file in sorted(set(names.values())):
        if not (index.parent / file).is_file():
            raise MissingError(
                "a part of the weights is not there",
                got=f"no {index.parent / file}",
                hint=f"{index.name} names it: copy it too, or fetch the checkpoint again",
            )
    return {name: index.parent / file for name, file in names.items()}
