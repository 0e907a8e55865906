"""Lists encoders, LLMs, metrics, methods, commands and data sets. Loads no model."""

from __future__ import annotations

import ast
import json
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from encoderlab.core.aliases import encoder_aliases, llm_aliases
from encoderlab.core.commands import COMMANDS
from encoderlab.core.results import Block, Result
from encoderlab.core.spec import takes
from encoderlab.encoders.checkpoint import ModelKind, bundled_models
from encoderlab.errors import unknown
from encoderlab.patch_tokens.methods import METHODS
from encoderlab.workbench.settings import Ls
from encoderlab.zoo import ZOO


@dataclass(frozen=True)
class Listing(Result):
    """Kind of thing -> rows of (name, one line about it)."""

    kinds: dict[str, tuple[tuple[str, str], ...]]

    def to_json(self) -> dict[str, Any]:
        """kind -> name -> line."""
        return {kind: dict(rows) for kind, rows in self.kinds.items()}

    def blocks(self) -> list[Block]:
        """One paragraph per kind."""
        blocks: list[Block] = []
        for kind, rows in self.kinds.items():
            width = max((len(name) for name, _ in rows), default=0) + 2
            lines = [f"  {name:<{width}}{line}".rstrip() for name, line in rows]
            blocks.append("\n".join([f"{kind}:", *(lines or ["  none"])]))
        return blocks


@takes(Ls)
def run(settings: Ls, out: Path | None = None) -> Listing:
    """Lists one kind of thing, or all."""
    listings: dict[str, Callable[[], list[tuple[str, str]]]] = {
        "encoders": lambda: _models("encoder") + list(encoder_aliases().items()),
        "llms": lambda: _models("llm") + list(llm_aliases().items()),
        "vlms": lambda: _models("vlm"),
        "metrics": _metrics,
        "commands": lambda: [(command.name, command.summary) for command in COMMANDS.values()],
        "datasets": _datasets,
        "methods": lambda: [(name, method.meaning) for name, method in METHODS.items()],
        "compressors": _compressors,
        "references": _references,
    }
    if settings.what is not None and settings.what not in listings:
        raise unknown("kind of thing", settings.what, listings, "encoderlab ls --help")
    kinds = listings if settings.what is None else (settings.what,)
    return Listing({kind: tuple(listings[kind]()) for kind in kinds})


def _models(kind: ModelKind) -> list[tuple[str, str]]:
    return [(name, f"bundled, {made_by}") for name, made_by in bundled_models(kind).items()]


def _references() -> list[tuple[str, str]]:
    from encoderlab.data.reference_scores import bundled_tables

    return list(bundled_tables().items())


def _metrics() -> list[tuple[str, str]]:
    folder = Path(__file__).parent.parent / "metrics"
    rows = []
    for module in pkgutil.iter_modules([str(folder)]):
        # Parsed, not imported: importing would load torch.
        tree = ast.parse((folder / f"{module.name}.py").read_text(encoding="utf-8"))
        rows.append((module.name, (ast.get_docstring(tree) or "").partition("\n")[0]))
    return rows


def _compressors() -> list[tuple[str, str]]:
    rows = []
    for path in sorted((ZOO / "compressors").glob("*/config.json")):
        config = json.loads(path.read_text(encoding="utf-8"))
        (h, w), about = config["shape"]["grid"], config["about"]
        budgets = ", ".join(f"{a} x {b}" for a, b in config["shape"]["budgets"])
        line = f"{about['encoder']}, layer {about['layer']}: {h} x {w} to {budgets}"
        rows.append((path.parent.name, line))
    return rows


def _datasets() -> list[tuple[str, str]]:
    from encoderlab.data.synthetic import KINDS
    from encoderlab.data.vlm_dataset import ROOT_VARIABLE, SAMPLE_DATA, typed_sets

    return [
        ("built-in samples", f"chat JSONL, {SAMPLE_DATA}"),
        *((n, f"chat JSONL, {ROOT_VARIABLE}/{files.labels}") for n, files in typed_sets().items()),
        *((f"synthetic {k}", "made as needed: encoderlab.data.synthetic") for k in KINDS),
    ]
