"""The table of all commands: settings, the experiment behind each, an example, its job.

A row names its experiment as a lazy "module:function"; nothing is imported here but settings.
"""

from __future__ import annotations

from dataclasses import dataclass

from encoderlab import extensions
from encoderlab.errors import UsageError
from encoderlab.settings import align, compress, tokens, train, workbench
from encoderlab.settings.classify import Classify
from encoderlab.settings.evaluate import Evaluate
from encoderlab.settings.export import Export
from encoderlab.settings.search import Index, Search

JOBS = {
    "train": "Train a CLIP of your own",
    "search": "Search with it",
    "align": "Compare encoders and LLMs",
    "look inside": "Look inside the tokens",
    "compress": "Use fewer tokens",
    "workbench": "The workbench itself",
}


@dataclass(frozen=True)
class Command:
    """One row of the table.

    Args:
        name: the word after `encoderlab`.
        settings: its settings dataclass, whose docstring says what the command does.
        job: which of the JOBS it belongs to.
        example: words after the name that show its use.
        experiment: "module:function" that does it.
        leaves_folder: whether a run is kept in a folder with config.yaml and run.json.
        shares_work: whether several processes (torchrun, srun) do it together.
    """

    name: str
    settings: type
    job: str
    example: str
    experiment: str
    leaves_folder: bool = True
    shares_work: bool = False

    @property
    def summary(self) -> str:
        """What it does, in one sentence."""
        return (self.settings.__doc__ or "").strip().splitlines()[0]


def _row(name: str, settings: type, job: str, example: str, **more: object) -> Command:
    more.setdefault("experiment", f"encoderlab.experiments.{name.replace('-', '_')}:run")
    return Command(name, settings, job, example, **more)  # type: ignore[arg-type]


def _align(name: str, settings: type, example: str) -> Command:
    return _row(name, settings, "align", example)


_ROWS = (
    _row("train", train.Train, "train", "--train-csv data/train.csv --epochs 10 --batch-size 64",
         shares_work=True),
    _row("evaluate", Evaluate, "train", "--csv data/train.csv --img-root data/images"),
    _row("classify", Classify, "train", '--image-dir photos --classes "cat,dog,car"'),
    _row("index", Index, "search", "photos/"),
    _row("search", Search, "search", '"A dog is sleeping" -k 3'),
    _align("compare", align.Compare, "--encoders clip siglip dinov2 --n-samples 30"),
    _align("multi-llm", align.MultiLlm, "--encoders clip siglip --llms llama qwen gemma3"),
    _align("coral", align.Coral, "--encoders clip siglip dinov2 --llms llama --n-samples 30"),
    _align("stream", align.Stream, "pairs.tar --encoders clip siglip --llms llama"),
    _align("elas", align.Elas, "--encoders clip siglip dinov2 --llms llama qwen"),
    _align("e2e", align.E2e, "--encoders clip siglip dinov2 --llms llama --epochs 300"),
    _align("layers", align.Layers, "--encoders clip --llms llama"),
    _align("embedding", align.Embedding, "--method umap --n-samples 50"),
    _align("attention", align.Attention, '--image chart.png --text "What is in this chart?"'),
    _align("speed", align.Speed, "--encoders clip siglip --batch-sizes 1 4 8 16 32"),
    _align("all", align.All, "--encoders clip siglip dinov2"),
    _row("tokens", tokens.Tokens, "look inside",
         "image.path=cat.jpg model=clip_vit_large_patch14_336 similarity.metric=dot_product"),
    _row("compress", compress.Compress, "compress",
         "model.compressor.output_grid_size=8 training.batch_size=16", shares_work=True),
    _row("draw", workbench.Draw, "workbench", "", leaves_folder=False),
    _row("ls", workbench.Ls, "workbench", "encoders", leaves_folder=False),
    _row("doctor", workbench.Doctor, "workbench", "", leaves_folder=False),
    _row("rerun", workbench.Rerun, "workbench", "outputs/evaluate", leaves_folder=False),
    _row("figures", workbench.Figures, "workbench", "outputs/compare --style paper",
         leaves_folder=False),
    _row("features", workbench.Features, "workbench", "extract photos --encoders tiny-dinov2",
         leaves_folder=False),
    _row("export", Export, "workbench", "tiny-clip --output-dir exported"),
    _row("app", workbench.App, "workbench", "", experiment="encoderlab.web.app:run",
         leaves_folder=False),
)  # fmt: skip

COMMANDS: dict[str, Command] = {row.name: row for row in _ROWS}


def register(command: Command) -> None:
    """Adds a command.

    Raises:
        UsageError: the name is taken, or the job is none of JOBS.
    """
    if command.job not in JOBS:
        raise UsageError("a command belongs to a job", got=command.job, want=", ".join(JOBS))
    extensions.add(COMMANDS, "a command", command.name, command)
