"""Lists what there is: encoders, LLMs, metrics, methods, commands, data sets. Loads no model."""

from __future__ import annotations

import ast
import json
import pkgutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from encoderlab.core.aliases import encoder_aliases, llm_aliases
from encoderlab.core.commands import COMMANDS
from encoderlab.core.spec import takes
from encoderlab.errors import unknown
from encoderlab.patch_tokens.methods import METHODS
from encoderlab.workbench.settings import Ls
from encoderlab.zoo import ZOO


@dataclass(frozen=True)
class Listing:
    """What is there, by kind: for each thing its name and one line about it."""

    kinds: dict[str, tuple[tuple[str, str], ...]]
    warnings: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """kind -> name -> line."""
        return {kind: dict(rows) for kind, rows in self.kinds.items()}

    def to_text(self) -> str:
        """One table per kind."""
        blocks = []
        for kind, rows in self.kinds.items():
            width = max((len(name) for name, _ in rows), default=0) + 2
            lines = [f"  {name:<{width}}{line}".rstrip() for name, line in rows]
            blocks.append("\n".join([f"{kind}:", *(lines or ["  none"])]))
        return "\n\n".join(blocks)


@takes(Ls)
def run(settings: Ls, out: Path | None = None) -> Listing:
    """Lists one kind of thing, or all.

    Raises:
        UsageError: no such kind.
    """
    listings = {
        "encoders": _encoders, "llms": _llms, "metrics": _metrics, "commands": _commands,
        "datasets": _datasets, "methods": _methods, "compressors": _compressors,
    }  # fmt: skip
    if settings.what is not None and settings.what not in listings:
        raise unknown("kind of thing", settings.what, listings, "encoderlab ls --help")
    wanted = listings if settings.what is None else {settings.what: listings[settings.what]}
    return Listing({kind: tuple(make()) for kind, make in wanted.items()})


def embedded(language: bool) -> list[tuple[str, str]]:
    """(name, class) of the embedded checkpoints: language models, or the others."""
    rows = []
    for config in sorted(ZOO.glob("*/config.json")):
        content = json.loads(config.read_text(encoding="utf-8"))
        made_of = (content.get("architectures") or [content.get("model_type", "?")])[0]
        if made_of.endswith("ForCausalLM") == language:
            rows.append((config.parent.name, made_of))
    return rows


def _encoders() -> list[tuple[str, str]]:
    ours = [(name, f"embedded, {made_of}") for name, made_of in embedded(language=False)]
    return ours + list(encoder_aliases().items())


def _llms() -> list[tuple[str, str]]:
    ours = [(name, f"embedded, {made_of}") for name, made_of in embedded(language=True)]
    return ours + list(llm_aliases().items())


def _metrics() -> list[tuple[str, str]]:
    folder = Path(__file__).parent.parent / "metrics"
    rows = []
    for module in pkgutil.iter_modules([str(folder)]):
        # Read, not imported: a list of names is no reason to load torch.
        said = ast.get_docstring(
            ast.parse((folder / f"{module.name}.py").read_text(encoding="utf-8"))
        )
        rows.append((module.name, (said or "").splitlines()[0] if said else ""))
    return rows


def _commands() -> list[tuple[str, str]]:
    return [(command.name, command.summary) for command in COMMANDS.values()]


def _methods() -> list[tuple[str, str]]:
    return list(METHODS.items())


def _compressors() -> list[tuple[str, str]]:
    rows = []
    for config in sorted((ZOO / "compressors").glob("*/config.json")):
        shape = json.loads(config.read_text(encoding="utf-8"))
        (h, w), about = shape["shape"]["grid"], shape["about"]
        budgets = ", ".join(f"{a} x {b}" for a, b in shape["shape"]["budgets"])
        rows.append(
            (
                config.parent.name,
                f"{about['encoder']}, layer {about['layer']}: {h} x {w} to {budgets}",
            )
        )
    return rows


def _datasets() -> list[tuple[str, str]]:
    from encoderlab.data.synthetic import KINDS
    from encoderlab.data.vlm_dataset import ROOT_VARIABLE, SAMPLE_DATA, typed_sets

    rows = [("built-in samples", f"chat JSONL, {SAMPLE_DATA}")]
    rows += [
        (name, f"chat JSONL, {ROOT_VARIABLE}/{place.labels}")
        for name, place in typed_sets().items()
    ]
    rows += [(f"synthetic {kind}", "made as needed: encoderlab.data.synthetic") for kind in KINDS]
    return rows
