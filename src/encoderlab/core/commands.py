"""The table of all commands: settings, the experiment behind each, an example, its job.

A row names its settings and its experiment as "module:attribute", imported when they are used.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from encoderlab.core import extensions
from encoderlab.errors import UsageError

JOBS = {
    "answer": "Build a VLM and measure its accuracy",
    "train": "Train a CLIP of your own",
    "search": "Search images",
    "align": "Compare encoders and LLMs",
    "look inside": "Look inside the tokens",
    "compress": "Compress the tokens",
    "workbench": "The workbench itself",
}


@dataclass(frozen=True)
class Command:
    """One row of the table.

    Args:
        name: the word, or two words, after `encoderlab`.
        spec: its settings dataclass or "module:Class"; the docstring says what the command does.
        job: which of the JOBS it belongs to.
        example: words after the name that show its use.
        experiment: "module:function" that does it.
        leaves_folder: whether a run is kept in a folder with config.yaml and run.json.
        shares_work: whether several processes (torchrun, srun) do it together.
    """

    name: str
    spec: type | str
    job: str
    example: str
    experiment: str
    leaves_folder: bool = True
    shares_work: bool = False

    @cached_property
    def settings(self) -> type:
        """The settings dataclass."""
        return load(self.spec) if isinstance(self.spec, str) else self.spec

    @property
    def file_name(self) -> str:
        """The name as a part of a file name."""
        return self.name.replace(" ", "-")

    @property
    def summary(self) -> str:
        """What it does, in one sentence."""
        return (self.settings.__doc__ or "").strip().splitlines()[0]


def load(where: str) -> Any:
    """Imports what "module:attribute" names."""
    module, _, attribute = where.partition(":")
    return getattr(importlib.import_module(module), attribute)


def _row(name: str, spec: str, job: str, example: str, experiment: str, **more: bool) -> Command:
    """A row whose settings and experiment are in this package: "folder.module:attribute"."""
    return Command(name, f"encoderlab.{spec}", job, example, f"encoderlab.{experiment}", **more)


def _align(name: str, settings: str, example: str) -> Command:
    experiment = f"alignment.{name.replace('-', '_')}:run"
    return _row(name, f"alignment.settings:{settings}", "align", example, experiment)


def _vlm(action: str, example: str, **more: bool) -> Command:
    return _row(f"vlm {action}", f"vlm.settings:Vlm{action.capitalize()}", "answer", example,
                f"vlm.{action}:run", **more)  # fmt: skip


def _workbench(name: str, example: str) -> Command:
    return _row(name, f"workbench.settings:{name.capitalize()}", "workbench", example,
                f"workbench.{name}:run", leaves_folder=False)  # fmt: skip


_ROWS = (
    _vlm("train", "--encoder tiny-clip --llm tiny-llama --data synthetic", shares_work=True),
    _vlm("evaluate", "--model tiny-vlm --data synthetic"),
    _vlm("answer", '--image chart.png --text "How many bars are there?" --model tiny-vlm'),
    _row("train", "contrastive.train_settings:Train", "train",
         "--train-csv data/train.csv --epochs 10 --batch-size 64", "contrastive.train:run",
         shares_work=True),
    _row("evaluate", "contrastive.evaluate_settings:Evaluate", "train",
         "--csv data/train.csv --img-root data/images", "contrastive.evaluate:run"),
    _row("classify", "contrastive.classify_settings:Classify", "train",
         '--image-dir photos --classes "cat,dog,car"', "contrastive.classify:run"),
    _row("index", "retrieval.settings:Index", "search", "photos/", "retrieval.index:run"),
    _row("search", "retrieval.settings:Search", "search", '"A dog is sleeping" -k 3',
         "retrieval.search:run"),
    _align("compare", "Compare", "--encoders clip siglip dinov2 --n-samples 30"),
    _align("multi-llm", "MultiLlm", "--encoders clip siglip --llms llama qwen gemma3"),
    _align("coral", "Coral", "--encoders clip siglip dinov2 --llms llama --n-samples 30"),
    _align("stream", "Stream", "pairs.tar --encoders clip siglip --llms llama"),
    _align("elas", "Elas", "--encoders clip siglip dinov2 --llms llama qwen"),
    _align("e2e", "E2e", "--encoders clip siglip dinov2 --llms llama --epochs 300"),
    _align("validate", "Validate", "--scores cambrian1 --features outputs/compare"),
    _row("judge mteb", "judges.settings:JudgeMteb", "align",
         "--model clip --tasks CIFAR10 CIFAR10ZeroShot", "judges.mteb:run"),
    _align("complement", "Complement", "--encoders clip siglip dinov2 --llms llama"),
    _align("layers", "Layers", "--encoders clip --llms llama"),
    _align("embedding", "Embedding", "--method umap --n-samples 50"),
    _align("attention", "Attention", '--image chart.png --text "What is in this chart?"'),
    _align("speed", "Speed", "--encoders clip siglip --batch-sizes 1 4 8 16 32"),
    _align("all", "All", "--encoders clip siglip dinov2"),
    _row("tokens", "inspection.settings:Tokens", "look inside",
         "image.path=cat.jpg model=clip_vit_large_patch14_336 similarity.metric=dot_product",
         "inspection.tokens:run"),
    _row("text-size", "inspection.settings:TextSize", "look inside",
         "--encoders clip siglip dinov2", "inspection.text_size:run"),
    _row("registers", "inspection.settings:Registers", "look inside", "--model tiny-siglip",
         "inspection.registers:run"),
    _row("words", "inspection.settings:Words", "look inside", "photo.png --model tiny-vlm -k 3",
         "inspection.words:run"),
    _row("compress", "compression.settings:Compress", "compress",
         "model.compressor.output_grid_size=8 training.batch_size=16", "compression.compress:run",
         shares_work=True),
    _workbench("draw", ""),
    _workbench("ls", "encoders"),
    _workbench("doctor", ""),
    _workbench("rerun", "outputs/evaluate"),
    _row("figures", "alignment.settings:Figures", "workbench", "outputs/compare --style paper",
         "alignment.figures:run", leaves_folder=False),
    _workbench("features", "extract photos --encoders tiny-dinov2"),
    _row("export", "workbench.export_settings:Export", "workbench",
         "tiny-clip --output-dir exported", "workbench.export:run"),
    _row("app", "workbench.settings:App", "workbench", "", "web.app:run", leaves_folder=False),
)  # fmt: skip

COMMANDS: dict[str, Command] = {row.name: row for row in _ROWS}


def named(words: Sequence[str]) -> tuple[str, list[str]]:
    """The name of a command, one word or two, and the words after it.

    Args:
        words: as typed after `encoderlab`, at least one.

    Returns:
        (name, rest); a name that is no command is the first word.
    """
    two = " ".join(words[:2])
    count = 2 if two in COMMANDS else 1
    return " ".join(words[:count]), list(words[count:])


def register(command: Command) -> None:
    """Adds a command.

    Raises:
        UsageError: the name is taken, or the job is none of JOBS.
    """
    if command.job not in JOBS:
        raise UsageError("a command belongs to a job", got=command.job, want=", ".join(JOBS))
    extensions.add(COMMANDS, "a command", command.name, command)
