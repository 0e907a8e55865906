"""What a model's name means: a bundled model, an alias, a folder, a training run or a hub id.

Reads configurations, and weights only for a fingerprint.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib.metadata
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from encoderlab.core.aliases import encoder_aliases, llm_aliases
from encoderlab.core.atomic_io import atomic_folder
from encoderlab.core.commands import load
from encoderlab.core.progress import note
from encoderlab.core.project import cache_folder
from encoderlab.errors import EncoderLabError, MissingError, UsageError, did_you_mean
from encoderlab.models.folder import INDEX, OPEN_CLIP, WEIGHTS, read_record
from encoderlab.models.hub import local_folder, looks_like_path, no_such_folder
from encoderlab.zoo import ZOO

Kind = Literal["bundled", "alias", "folder", "training", "hub"]
ModelKind = Literal["encoder", "llm", "vlm"]
SUFFIXES = (".json", ".safetensors", ".txt")  # configuration, weights and vocabulary
GGUF, ONNX = ".gguf", ".onnx"
# What writes another format in that of transformers, imported for the first such checkpoint.
CONVERTERS = {
    GGUF: "encoderlab.encoders.gguf:convert",
    OPEN_CLIP: "encoderlab.models.open_clip:convert",
}
TRAINING = "encoderlab-clip"  # the family of our own training checkpoints
VLM_FAMILY = "encoderlab_vlm"  # that of our own VLMs
LLM_FOLDER = "llm"  # where a VLM keeps a language model that was trained with it


@dataclass(frozen=True)
class Checkpoint:
    """Where a model is stored and what it is.

    Args:
        name: as the user gave it.
        path: a folder, or the file of a training checkpoint.
        kind: how the name was resolved.
        family: `model_type` of its configuration.
        source: the folder or file from which `path` was converted; None for `path` itself.
    """

    name: str
    path: Path
    kind: Kind
    family: str
    source: Path | None = None

    @functools.cached_property
    def fingerprint(self) -> str:
        """A digest of configuration, vocabulary and weights: equal means the same embeddings."""
        digest = hashlib.blake2b(digest_size=12)
        files = [file for file in self.path.glob("*") if file.suffix in SUFFIXES and file.is_file()]
        for file in [self.path] if self.path.is_file() else sorted(files):
            digest.update(file.name.encode())
            with file.open("rb") as content:
                while block := content.read(1 << 20):
                    digest.update(block)
        return digest.hexdigest()


def bundled_models(kind: ModelKind | None = None) -> dict[str, str]:
    """The bundled models.

    Args:
        kind: "encoder", "llm" or "vlm"; None for all.

    Returns:
        Name -> class in transformers, or ours, in alphabetical order.
    """
    models = {}
    for config in sorted(ZOO.glob("*/config.json")):
        (architecture, *_) = json.loads(config.read_text(encoding="utf-8"))["architectures"]
        kinds: dict[str, ModelKind] = {"ForCausalLM": "llm", "VLM": "vlm"}
        own = next((k for end, k in kinds.items() if architecture.endswith(end)), "encoder")
        if kind in (None, own):
            models[config.parent.name] = architecture
    return models


def resolve(name: str | Path, *, language: bool = False, code: bool = False) -> Checkpoint:
    """The checkpoint called `name`.

    Args:
        name: looked up as a bundled model, an alias, a local folder or file, and a hub id
            (`owner/name`, optionally `@revision`), in this order.
        language: whether a language model is meant: aliases are those of language models, and a
            VLM of `vlm train` is its language model.
        code: whether Python files of a hub's checkpoint are needed.

    Returns:
        Where its files are, downloaded if necessary.

    Raises:
        MissingError: nothing has that name, or the hub cannot be reached.
        UsageError: a folder or file is there but is no checkpoint, or a VLM without a language
            model of its own.
    """
    found = _resolved(str(name), language, code)
    return _language_model_of(found) if language and found.family == VLM_FAMILY else found


def _language_model_of(vlm: Checkpoint) -> Checkpoint:
    folder = vlm.path / LLM_FOLDER
    if not folder.is_dir():
        llm = read_record(vlm.path / "config.json").get("design", {}).get("llm")
        raise UsageError(
            "the VLM was trained without its language model, so it has none of its own",
            got=vlm.name,
            want=f"the name of the language model itself: {llm}",
        )
    return _folder(vlm.name, folder, vlm.kind)


def _resolved(text: str, language: bool, code: bool) -> Checkpoint:
    if text in bundled_models():
        return _folder(text, ZOO / text, "bundled")
    aliases = llm_aliases() if language else encoder_aliases()
    path = Path(text).expanduser()
    if text in aliases and not path.exists():
        return _folder(text, local_folder(aliases[text], code=code), "alias")
    if path.is_file():
        if path.suffix == GGUF:
            return _converted(text, path, "folder", [path])
        if path.suffix == ONNX:
            raise _is_onnx(text)
        if path.suffix != ".ckpt":
            raise UsageError(
                "the model's name points to a file that is no checkpoint",
                got=text,
                want="a .ckpt file of a training run, a language model in a .gguf file, or a "
                "checkpoint's folder",
            )
        return Checkpoint(text, path, "training", TRAINING)
    if path.is_dir():
        trained = _of_training_run(text, path)
        return _folder(text, path, "folder") if trained is None else trained
    if looks_like_path(text):
        raise no_such_folder(text, "a checkpoint's folder or that of a training run")
    if text.count("/") == 1:
        return _folder(text, local_folder(text, code=code), "hub")
    known = [*bundled_models("llm" if language else "encoder"), *aliases]
    near = did_you_mean(text, known)
    raise MissingError(
        "unknown model",
        got=text,
        want=f"{near!r}?" if near else f"one of {', '.join(known)}, a folder, or a hub id",
        hint=f"list the known ones: encoderlab ls {'llms' if language else 'encoders'}",
    )


def _of_training_run(name: str, folder: Path) -> Checkpoint | None:
    """The best epoch of a training run, or its newest state before one; None if there is no run."""
    best, latest = (folder / "checkpoints" / file for file in ("best.ckpt", "latest.ckpt"))
    chosen = best if best.is_file() else latest
    if not chosen.is_file():
        return None
    _note_unfinished(name, chosen, latest)
    return Checkpoint(name, chosen, "training", TRAINING)


@functools.cache  # several steps of one command resolve the same name
def _note_unfinished(name: str, chosen: Path, latest: Path) -> None:
    from encoderlab.models.checkpoint import read

    record: dict[str, Any] = {}
    with contextlib.suppress(EncoderLabError):  # only the weights that are taken must be whole
        record = read(latest, lazily=True)
    step, total = record.get("step"), record.get("total_steps")
    if chosen == latest:
        note(f"{name}: the run has not ended an epoch; its state after step {step} is taken")
    elif step is not None and total is not None and step < total:
        note(
            f"{name}: the run is not finished, {step} of {total} steps are done; its best epoch so "
            f"far, {record.get('best_epoch')}, is taken"
        )


def _folder(name: str, path: Path, kind: Kind) -> Checkpoint:
    config = path / "config.json"
    record = read_record(config) if config.is_file() else {}
    # timm's own files name no model_type; transformers knows them by this table.
    family = "timm_wrapper" if "pretrained_cfg" in record else record.get("model_type")
    # Repositories of open_clip often hold transformers' form as well, or timm's, whose
    # configuration has no model_type.
    is_whole = family and any((path / file).is_file() for file in (WEIGHTS, INDEX))
    if not is_whole and (path / OPEN_CLIP).is_file():
        files = [file for file in path.glob("*") if file.suffix in SUFFIXES]
        return _converted(name, path, kind, files)
    if config.is_file():
        return Checkpoint(name, path, kind, str(family))
    if files := sorted(path.glob(f"*{GGUF}")):
        if len(files) > 1:
            raise UsageError(
                "the folder holds several GGUF files",
                got=f"{', '.join(file.name for file in files)} in {path}",
                want="the path of one of them",
            )
        return _converted(name, files[0], kind, files)
    if any(path.glob(f"*{ONNX}")):
        raise _is_onnx(str(path))
    raise UsageError(
        "the folder is no checkpoint",
        got=str(path),
        want="a folder with config.json and model.safetensors, one of open_clip, or one of a "
        "training run with checkpoints/best.ckpt",
    )


def _is_onnx(got: str) -> UsageError:
    return UsageError(
        "an ONNX file is no checkpoint: it has one fixed graph, without layers and attention",
        got=got,
        want="the checkpoint from which it was exported, in safetensors",
        hint="run the file itself with onnxruntime",
    )


def _converted(name: str, source: Path, kind: Kind, files: Iterable[Path]) -> Checkpoint:
    """A checkpoint of another format, converted once per state of its files and per version."""
    digest = hashlib.blake2b(importlib.metadata.version("encoderlab").encode(), digest_size=8)
    for file in sorted(files):
        digest.update(f"{file.absolute()} {file.stat().st_size} {file.stat().st_mtime_ns}".encode())
    folder = cache_folder("converted") / f"{source.name}-{digest.hexdigest()}"
    if not folder.is_dir():
        note(f"{name}: is written once in the format of transformers, to {folder}")
        folder.parent.mkdir(parents=True, exist_ok=True)
        with atomic_folder(folder) as unfinished:
            load(CONVERTERS[OPEN_CLIP if source.is_dir() else GGUF])(source, unfinished)
    family = str(read_record(folder / "config.json").get("model_type"))
    return Checkpoint(name, folder, kind, family, source)
