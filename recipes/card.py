"""Writes the model card of a bundled checkpoint: `python -m recipes.card FOLDER --real FOLDER`.

Every number on it is measured here, on held-out data, by the project's own evaluation.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from encoderlab.core.atomic_io import write_text_atomic
from encoderlab.errors import EncoderLabError
from recipes.cards import language, pairs, vision, vlm
from recipes.cards.facts import Facts
from recipes.real_data import SETS
from recipes.settings import CLIPRecipe, recipe_of

HEAD = """---
license: mit
library_name: transformers
pipeline_tag: {task}
language: [en, ko]
---

# {name}
{about}
## How it was made

```
python -m recipes.train {name} --real FOLDER
python -m recipes.card FOLDER_OF_THE_CHECKPOINT --real FOLDER
```

Seed {seed}, {steps:,} optimiser steps{wall}. Trained on the training
split of the synthetic world and the training splits of the sets credited below.

## Measured on held-out data
{measured}
## Credits

{credits}

The images of these sets are not part of this project.
"""

# model_type -> (the module that measures and describes it, the hub's name of its task)
KINDS: dict[str, tuple[Any, str]] = {
    "clip": (pairs, "zero-shot-image-classification"),
    "siglip": (pairs, "zero-shot-image-classification"),
    "dinov2": (vision, "image-feature-extraction"),
    "llama": (language, "text-generation"),
    "qwen2": (language, "text-generation"),
    "encoderlab_vlm": (vlm, "image-text-to-text"),
}


def write_card(folder: Path, real: Path | None, seconds: float | None) -> Path:
    """Measures the checkpoint in `folder` and writes its README.md."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    kind, task = KINDS[config["model_type"]]
    recipe = recipe_of(folder.name)
    text = HEAD.format(
        task=task,
        name=folder.name,
        about=kind.about(config, Facts.of(folder)),
        seed=recipe.training.seed if isinstance(recipe, CLIPRecipe) else recipe.seed,
        steps=config["encoderlab"]["trained_steps"],
        wall=f", {seconds / 60:.0f} min on a two-core CPU with bf16" if seconds else "",
        measured=kind.measured(folder, real),
        credits="\n".join(f"- {real_set.credit}" for real_set in SETS)
        if real
        else "The synthetic world alone.",
    )
    card = folder / "README.md"
    write_text_atomic(card, text)
    return card


def main(argv: list[str] | None = None) -> int:
    """The command line of this module."""
    parser = argparse.ArgumentParser(prog="python -m recipes.card", description=__doc__)
    parser.add_argument("folder", type=Path, help="folder of the checkpoint, called as it is")
    parser.add_argument("--real", type=Path, help="folder of the unpacked real sets")
    parser.add_argument("--seconds", type=float, help="wall time of the training run")
    args = parser.parse_args(argv)
    try:
        card = write_card(args.folder, args.real, args.seconds)
    except EncoderLabError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    print(card.read_text(encoding="utf-8"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
