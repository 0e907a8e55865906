"""A project's configuration: the location of its data, its model names, its defaults.

The file is the one that `ENCODERLAB_CONFIG` names; `--config-name` sets it for the command and the
processes that it starts. Reads one YAML; knows no command.

    data: {root: null, sample_dir: sample_data,
           datasets: {chart: {label_file: label_v2/x.jsonl, image_dir: images/x}}}
    models: {vision_encoders: {clip: openai/clip-vit-base-patch32}, llms: {qwen: Qwen/Qwen2.5-7B}}
    defaults: {device: auto, output_dir: outputs, n_samples: 30, seed: 42}
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from encoderlab.errors import MissingError, UsageError, did_you_mean

VARIABLE = "ENCODERLAB_CONFIG"
PARTS: dict[str, dict[str, Any]] = {
    "data": {"root": str, "sample_dir": str, "datasets": dict},
    "models": {"vision_encoders": dict, "llms": dict},
    "defaults": {"device": str, "output_dir": str, "n_samples": int, "seed": int},
}
DATASET = ("label_file", "image_dir")


@dataclass(frozen=True)
class ProjectConfig:
    """The parts of a project's YAML; parts that it does not name are empty.

    Args:
        data_root: folder of the typed data sets.
        sample_dir: folder with labels.jsonl and images/, instead of the built-in samples.
        datasets: data type -> (label file, image folder), both below the data root.
        vision_encoders, llms: name -> checkpoint.
        defaults: device, output_dir, n_samples, seed, where named.
        rest: the other keys, which are settings of a command.
    """

    data_root: str | None = None
    sample_dir: str | None = None
    datasets: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    vision_encoders: Mapping[str, str] = field(default_factory=dict)
    llms: Mapping[str, str] = field(default_factory=dict)
    defaults: Mapping[str, Any] = field(default_factory=dict)
    rest: Mapping[str, Any] = field(default_factory=dict)

    def to_plain(self) -> dict[str, Any]:
        """The YAML's parts without settings of a command and without empty parts."""
        datasets = {
            name: dict(zip(DATASET, files, strict=True)) for name, files in self.datasets.items()
        }
        parts: dict[str, dict[str, Any]] = {
            "data": {"root": self.data_root, "sample_dir": self.sample_dir, "datasets": datasets},
            "models": {"vision_encoders": dict(self.vision_encoders), "llms": dict(self.llms)},
            "defaults": dict(self.defaults),
        }
        for part in parts.values():
            for key in [key for key, value in part.items() if value in (None, {})]:
                del part[key]
        return {name: part for name, part in parts.items() if part}


def load_config(path: str | Path | None = None) -> ProjectConfig:
    """The project's configuration.

    Args:
        path: a YAML; None for the one that `ENCODERLAB_CONFIG` names, or an empty configuration.

    Returns:
        Its parts.

    Raises:
        MissingError: there is no such file.
        UsageError: it is no YAML, or a value has another form.
    """
    named = path or os.environ.get(VARIABLE)
    if not named:
        return ProjectConfig()
    file = Path(named)
    if not file.is_file():
        where = "" if path else f" (from {VARIABLE})"
        raise MissingError("no such configuration", got=f"{file}{where}", want="a YAML that exists")
    return _parsed(read_yaml(file), file)


@contextmanager
def configured(file: str | Path | None) -> Iterator[None]:
    """Makes `file` the project's configuration for the block, also in processes started in it.

    Args:
        file: a YAML; None for no configuration.
    """
    before = os.environ.pop(VARIABLE, None)
    if file is not None:
        os.environ[VARIABLE] = str(file)
    try:
        yield
    finally:
        os.environ.pop(VARIABLE, None)
        if before is not None:
            os.environ[VARIABLE] = before


def read_yaml(file: Path) -> dict[str, Any]:
    """The mapping in a YAML file."""
    import yaml

    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{file}, line {mark.line + 1}" if mark is not None else str(file)
        reason = getattr(error, "problem", None) or (str(error).splitlines() or [""])[0]
        raise UsageError("a configuration is no YAML", got=f"{where}: {reason}") from error
    except (ValueError, RecursionError) as error:
        # Not UTF-8, nested too deeply, or a number of thousands of digits.
        reason = (str(error).splitlines() or [""])[0]
        raise UsageError("the configuration cannot be read", got=f"{file}: {reason}") from error
    if content is not None and not isinstance(content, dict):
        raise UsageError("a configuration is no table", got=str(file), want="lines `key: value`")
    return content or {}


def is_project(content: Mapping[str, Any]) -> bool:
    """Whether a YAML has a part of a project's configuration; a list `defaults` is Hydra's."""
    data = content.get("data")
    return (
        "models" in content
        or isinstance(content.get("defaults"), dict)
        or (isinstance(data, dict) and bool(set(data) & set(PARTS["data"])))
    )


def get_data_root() -> str | None:
    """The folder of the typed data sets.

    Returns:
        `VLM_DATA_ROOT`, else the configured folder, else None.

    Raises:
        MissingError: as `load_config`.
        UsageError: as `load_config`.
    """
    return os.environ.get("VLM_DATA_ROOT") or load_config().data_root


def get_output_dir() -> str:
    """The folder of all results.

    Returns:
        `VLM_OUTPUT_DIR`, else the configured folder, else "outputs".

    Raises:
        MissingError: as `load_config`.
        UsageError: as `load_config`.
    """
    configured = load_config().defaults.get("output_dir")
    return os.environ.get("VLM_OUTPUT_DIR") or configured or "outputs"


def configured_device() -> str:
    """The configured device, else "auto"."""
    return load_config().defaults.get("device") or "auto"


def _parsed(content: Mapping[str, Any], file: Path) -> ProjectConfig:
    parts = {name: _part(content, name, file) for name in PARTS}
    data, models = parts["data"], parts["models"]
    datasets = {}
    for name, files in (data.get("datasets") or {}).items():
        if not isinstance(files, dict) or set(files) != set(DATASET):
            raise UsageError(
                f"the data set {name} has another form in {file}",
                got=files,
                want="label_file and image_dir, both below the data root",
            )
        datasets[str(name)] = (str(files["label_file"]), str(files["image_dir"]))
    for kind in PARTS["models"]:
        for name, checkpoint in (models.get(kind) or {}).items():
            if not isinstance(checkpoint, str):
                raise UsageError(
                    f"models.{kind}.{name} is no checkpoint in {file}",
                    got=checkpoint,
                    want="a Hugging Face id or a folder",
                )
    return ProjectConfig(
        data.get("root"),
        data.get("sample_dir"),
        datasets,
        models.get("vision_encoders") or {},
        models.get("llms") or {},
        {name: value for name, value in parts["defaults"].items() if value is not None},
        _rest(content),
    )


def _part(content: Mapping[str, Any], name: str, file: Path) -> dict[str, Any]:
    """The known keys of one part, after a check of their types."""
    part = content.get(name)
    if part is None or (name == "defaults" and isinstance(part, list)):
        return {}
    if not isinstance(part, dict):
        raise UsageError(f"{name} is no table in {file}", got=part, want="lines `key: value`")
    for key, value in part.items():
        kind = PARTS[name].get(key)
        if kind is None and name != "data":
            near = did_you_mean(str(key), PARTS[name])
            raise UsageError(
                f"{name} has no such key in {file}",
                got=key,
                want=", ".join(PARTS[name]),
                hint=f"did you mean `{near}`?" if near else None,
            )
        wrong = isinstance(value, bool) or not isinstance(value, kind or object)
        if kind is not None and value is not None and wrong:
            want = {str: "a text", int: "a whole number", dict: "a table"}[kind]
            raise UsageError(f"{name}.{key} has another form in {file}", got=value, want=want)
    return {key: value for key, value in part.items() if key in PARTS[name]}


def _rest(content: Mapping[str, Any]) -> dict[str, Any]:
    """Keys that are settings of a command, such as `epochs`, or `data.cache` of `compress`."""
    rest: dict[str, Any] = {}
    for name, value in content.items():
        if (name == "defaults" and isinstance(value, list)) or name not in PARTS:
            rest[name] = value
        elif name == "data" and isinstance(value, dict):
            more = {key: inner for key, inner in value.items() if key not in PARTS["data"]}
            rest |= {name: more} if more else {}
    return rest


def cache_folder(part: str) -> Path:
    """A folder of copies that can be made again; not created.

    Args:
        part: what is kept in it.

    Returns:
        Its path below `XDG_CACHE_HOME`, else below ~/.cache.
    """
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "encoderlab" / part
