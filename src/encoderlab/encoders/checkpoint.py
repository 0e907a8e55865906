"""What a model's name stands for: an embedded model, an alias, a folder, a training run, a hub id.

Reads a configuration, never a weight (except to fingerprint it).
"""

from __future__ import annotations

import functools
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from encoderlab.errors import MissingError, UsageError, did_you_mean
from encoderlab.models.folder import read_record
from encoderlab.models.hub import local_folder
from encoderlab.settings.aliases import encoder_aliases, llm_aliases

ZOO = Path(__file__).parent.parent / "zoo"
Kind = Literal["embedded", "alias", "folder", "training", "hub"]
TRAINING = "encoderlab-clip"  # the family of our own training checkpoints


@dataclass(frozen=True)
class Checkpoint:
    """Where a model lies and what it is.

    Args:
        name: what the user called it.
        path: a folder, or the file of a training checkpoint.
        kind: how the name was resolved.
        family: `model_type` of its configuration.
    """

    name: str
    path: Path
    kind: Kind
    family: str

    @functools.cached_property
    def fingerprint(self) -> str:
        """A digest of configuration, vocabulary and weights: equal means the same embeddings."""
        digest = hashlib.blake2b(digest_size=12)
        files = (
            [self.path]
            if self.path.is_file()
            else sorted(
                file
                for file in self.path.iterdir()
                if file.suffix in (".json", ".safetensors", ".txt") and file.is_file()
            )
        )
        for file in files:
            digest.update(file.name.encode())
            with file.open("rb") as content:
                while block := content.read(1 << 20):
                    digest.update(block)
        return digest.hexdigest()


def embedded_models(language: bool | None = None) -> tuple[str, ...]:
    """Names of the checkpoints that ship with the package: language models, encoders, or all."""
    found = []
    for config in sorted(ZOO.glob("*/config.json")):
        classes = json.loads(config.read_text(encoding="utf-8")).get("architectures", [""])
        if language is None or classes[0].endswith("ForCausalLM") == language:
            found.append(config.parent.name)
    return tuple(found)


def resolve(name: str | Path, *, language: bool = False, code: bool = False) -> Checkpoint:
    """The checkpoint that `name` stands for, in this order: an embedded model, an alias, a local
    folder or file, a hub id (`owner/name`, optionally `@revision`).

    Raises:
        MissingError: nothing has that name, or the hub cannot be reached.
        UsageError: a folder or file is there but is no checkpoint.
    """
    text = str(name)
    if text in embedded_models():
        return _folder(text, ZOO / text, "embedded")
    aliases = llm_aliases() if language else encoder_aliases()
    path = Path(text).expanduser()
    if text in aliases and not path.exists():
        return _folder(text, local_folder(aliases[text], code=code), "alias")
    if path.is_file():
        if path.suffix != ".ckpt":
            raise UsageError(
                "the model's name points to a file that is no checkpoint",
                got=text,
                want="a .ckpt file of a training run, or a checkpoint's folder",
            )
        return Checkpoint(text, path, "training", TRAINING)
    if path.is_dir():
        best = path / "checkpoints" / "best.ckpt"
        if best.is_file():
            return Checkpoint(text, best, "training", TRAINING)
        return _folder(text, path, "folder")
    if text.count("/") == 1 and not text.startswith((".", "~", "/")):
        return _folder(text, local_folder(text, code=code), "hub")
    known = [*embedded_models(language), *aliases]
    near = did_you_mean(text, known)
    raise MissingError(
        "unknown model",
        got=text,
        want=f"{near!r}?" if near else f"one of {', '.join(known)}, a folder, or a hub id",
        hint=f"list the known ones: encoderlab ls {'llms' if language else 'encoders'}",
    )


def _folder(name: str, path: Path, kind: Kind) -> Checkpoint:
    config = path / "config.json"
    if not config.is_file():
        raise UsageError(
            "the folder is no checkpoint",
            got=str(path),
            want="a folder with config.json and model.safetensors, or one of a "
            "training run with checkpoints/best.ckpt",
        )
    return Checkpoint(name, path, kind, str(read_record(config).get("model_type")))
