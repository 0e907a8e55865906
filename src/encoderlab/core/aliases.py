"""Short names of checkpoints: ours from aliases.yaml, the project's and the user's own.

The project's configuration (`project.py`) and then the user's file add to ours or replace them. The
user's file is the one that `ENCODERLAB_ALIASES` names, else `encoderlab-aliases.yaml` in the
current folder; it has the same two tables, `encoders` and `llms`. Loads no checkpoint.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from encoderlab.core.project import load_config
from encoderlab.errors import MissingError, UsageError

SHIPPED = Path(__file__).parent / "aliases.yaml"
OWN_FILE = "encoderlab-aliases.yaml"
# Before the name of an encoder: the same before training; with the images of other samples.
UNTRAINED, SHUFFLED = "untrained:", "shuffled:"
KINDS = ("encoders", "llms")


def encoder_aliases() -> dict[str, str]:
    """Alias of a vision encoder or CLIP-like model -> Hugging Face id, or a local folder."""
    return _merged("encoders")


def llm_aliases() -> dict[str, str]:
    """Alias of a language model -> Hugging Face id, or a local folder."""
    return _merged("llms")


def get_model_id(name: str, kind: str | None = None) -> str:
    """The checkpoint of a short name, or the name itself.

    Args:
        name: an alias of the project or of EncoderLab.
        kind: "vision" or "llm"; None for both.

    Returns:
        A Hugging Face id or a folder.

    Raises:
        MissingError: as `load_config`.
        UsageError: as `load_config`; another kind.
    """
    tables = {"vision": encoder_aliases, "llm": llm_aliases}
    if kind is not None and kind not in tables:
        raise UsageError("unknown kind of model", got=kind, want="vision or llm")
    for aliases in [tables[kind]] if kind else tables.values():
        if name in aliases():
            return aliases()[name]
    return name


def own_file() -> Path | None:
    """The user's table of aliases, if any."""
    named = os.environ.get("ENCODERLAB_ALIASES")
    if named:
        if not Path(named).is_file():
            raise MissingError(
                "the file of ENCODERLAB_ALIASES is not there",
                got=named,
                hint="create it, or unset ENCODERLAB_ALIASES",
            )
        return Path(named)
    return Path(OWN_FILE) if Path(OWN_FILE).is_file() else None


def _merged(kind: str) -> dict[str, str]:
    project = load_config()
    named = project.vision_encoders if kind == "encoders" else project.llms
    own = own_file()
    return _read(SHIPPED)[kind] | dict(named) | ({} if own is None else _read(own)[kind])


def _read(path: Path) -> dict[str, dict[str, str]]:
    import yaml

    want = "the tables encoders and llms, each with lines `name: checkpoint`"
    try:
        content: Any = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except (yaml.YAMLError, ValueError, RecursionError) as broken:
        # Brackets without end, or a number of thousands of digits, are no YAMLError.
        raise UsageError(f"{path} is no YAML", got=str(broken), want=want) from broken
    if not isinstance(content, dict) or not set(content) <= set(KINDS):
        raise UsageError(f"{path} is no table of aliases", got=content, want=want)
    tables = {kind: content.get(kind) or {} for kind in KINDS}
    for table in tables.values():
        if not isinstance(table, dict) or not all(
            isinstance(word, str) for pair in table.items() for word in pair
        ):
            raise UsageError(f"{path} is no table of aliases", got=table, want=want)
    return tables
