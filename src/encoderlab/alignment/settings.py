"""Settings of the alignment commands: which encoder fits which LLM."""

from __future__ import annotations

from dataclasses import dataclass

from encoderlab.core.common_settings import (
    BACKEND_HELP,
    BACKENDS,
    COMMON,
    DEVICE_HELP,
    DTYPE_HELP,
    ENGINE_HELP,
    ENGINES,
    FEATURES_HELP,
    IMAGES_HELP,
    IMG_ROOT_HELP,
    SVG_HELP,
    WHERE,
    WORKERS_HELP,
    Common,
    Loads,
    LoadsLLM,
)
from encoderlab.core.settings import output_folder, setting
from encoderlab.vlm.settings import LAYER_HELP, QUESTIONS_HELP, REDUCE_HELP, VlmTrain

BUNDLED_ENCODERS = ["tiny-clip", "tiny-siglip", "tiny-dinov2"]
BUNDLED_LLMS = ["tiny-llama", "tiny-qwen"]
EPOCHS_HELP = "training epochs of a projector"
PROJECTORS_HELP = "also train projectors of four kinds into every language model"
LLMS_HELP = "language models to align with"
CONTROLS_HELP = "add each encoder untrained, and with shuffled pairs: what chance looks like"
METHODS = ("tsne", "umap", "pca")
LANGUAGES = ("en", "ko")
ENCODERS_HELP = "vision encoders; untrained:NAME is NAME before training"
DATA = "the data"
FIGURES = "what is written"
ANSWERS = "answers"


@dataclass
class Encoders(Loads):
    """What the commands on vision encoders share."""

    encoders: list[str] = setting(BUNDLED_ENCODERS, ENCODERS_HELP, names="encoders")
    device: str = setting("auto", DEVICE_HELP, group=WHERE)
    dtype: str = setting("auto", DTYPE_HELP, group=WHERE)
    svg: bool = setting(False, SVG_HELP, group=FIGURES)


@dataclass
class OnSamples(Encoders):
    """What the commands on features of samples share."""

    n_samples: int = setting(30, "samples per data type", least=1, group=DATA)
    data_types: list[str] = setting([], "data types to use; empty: all available", group=DATA)
    data_root: str | None = setting(
        None,
        "folder of typed sets, a CSV, a JSONL, or `synthetic`; empty: VLM_DATA_ROOT, else the "
        "built-in samples and more of their kind",
        group=DATA,
    )
    features_dir: str | None = setting(None, FEATURES_HELP, group=WHERE)
    batch_size: int = setting(16, "batch size", least=1, group=WHERE)


@dataclass
class OnPairs(OnSamples, LoadsLLM):
    """What the commands on encoders with language models share."""

    llms: list[str] = setting(BUNDLED_LLMS, LLMS_HELP, names="llms")


@dataclass
class Alignment(OnPairs):
    """What the alignment commands share."""

    controls: bool = setting(False, CONTROLS_HELP)


@dataclass
class Compare(Alignment):
    """Compare encoders by CKA, neighbours, a ridge map and, if asked for, trained projectors."""

    projectors: bool = setting(False, PROJECTORS_HELP)
    epochs: int = setting(300, EPOCHS_HELP, least=1, needs={"projectors": ()})
    gw: bool = setting(
        False, "also the Gromov-Wasserstein distance, of at most 500 images (extra gw)"
    )
    output_dir: str = setting(output_folder("compare"), "folder for results", group=COMMON)


@dataclass
class MultiLlm(Alignment):
    """Every encoder with every LLM, as heat maps."""

    output_dir: str = setting(output_folder("multi-llm"), "folder for results", group=COMMON)


@dataclass
class Coral(Alignment):
    """CORAL distance, spectra and EAS (Enhanced Alignment Score) between encoders and LLMs."""

    output_dir: str = setting(output_folder("coral"), "folder for results", group=COMMON)


@dataclass
class Stream(Encoders, LoadsLLM):
    """CKA and CORAL over any number of pairs, a shard at a time, on one machine or many."""

    data: str = setting("", "pairs of image and caption: " + IMAGES_HELP, positional=True)
    llms: list[str] = setting(BUNDLED_LLMS, LLMS_HELP, names="llms")
    img_root: str | None = setting(None, IMG_ROOT_HELP, group=DATA)
    engine: str = setting("local", ENGINE_HELP, choices=ENGINES, group=WHERE)
    workers: int = setting(0, WORKERS_HELP, least=0, group=WHERE, needs={"engine": ("ray",)})
    features_dir: str | None = setting(None, FEATURES_HELP, group=WHERE)
    batch_size: int = setting(32, "batch size", least=1, group=WHERE)
    output_dir: str = setting(output_folder("stream"), "folder for results", group=COMMON)


@dataclass
class Elas(Alignment):
    """ELAS (Encoder-LLM Alignment Score) of every pair of encoder and LLM."""

    epochs: int = setting(300, EPOCHS_HELP, least=1)
    output_dir: str = setting(output_folder("elas"), "folder for results", group=COMMON)


@dataclass
class WithAnswers(OnPairs):
    """What the commands share that train small VLMs and count their right answers."""

    answers: bool = setting(
        False, "also train small VLMs and measure their accuracy", group=ANSWERS
    )  # fmt: skip
    data: str = setting(
        "synthetic", f"{QUESTIONS_HELP}, with `split` train and test", group=ANSWERS,
        needs={"answers": ()},
    )  # fmt: skip
    img_root: str | None = setting(
        None, "folder that image paths of the questions are relative to; empty: that of the data",
        group=ANSWERS, needs={"answers": ()},
    )  # fmt: skip
    n_images: int = setting(
        4000, "synthetic images to train a VLM on, one question each", least=1, group=ANSWERS,
        needs={"answers": (), "data": ("synthetic",)},
    )  # fmt: skip
    n_test: int = setting(
        500, "synthetic images of the test questions", least=1, group=ANSWERS,
        needs={"answers": (), "data": ("synthetic",)},
    )  # fmt: skip
    layer: int = setting(VlmTrain.layer, LAYER_HELP, group=ANSWERS, needs={"answers": ()})
    reduce: str = setting(VlmTrain.reduce, REDUCE_HELP, group=ANSWERS, needs={"answers": ()})
    seeds: int = setting(
        3, "VLMs of each kind, trained from --seed, --seed + 1, ...", least=1, group=ANSWERS,
        needs={"answers": ()},
    )  # fmt: skip
    cells_dir: str | None = setting(
        None, "folder that keeps the trained VLMs between runs, and is shared by those of a sweep; "
        "empty: outputs/e2e-cells", group=ANSWERS, needs={"answers": ()},
    )  # fmt: skip


@dataclass
class E2e(WithAnswers, Alignment):
    """Which metric predicts retrieval, the answers of small VLMs, or scores of your own?"""

    epochs: int = setting(300, EPOCHS_HELP, least=1, needs={"scores": (None,)})
    scores: str | None = setting(
        None, "CSV of your benchmark results: columns encoder, llm, benchmark, score"
    )
    answers: bool = setting(
        False, "also train a small VLM for every encoder, language model and seed, and one "
        "without images, and measure their accuracy", group=ANSWERS, needs={"scores": (None,)},
    )  # fmt: skip
    output_dir: str = setting(output_folder("e2e"), "folder for results", group=COMMON)


@dataclass
class Validate(OnPairs):
    """Does a metric predict published benchmark results, among encoders of one class?"""

    scores: str = setting(
        "cambrian1", "published scores: cambrian1 or law-of-vision; a CSV with columns encoder, "
        "benchmark, score and, if you like, llm, setting, class (lang, ssl or other), resolution; "
        "the folder of a run of e2e with --answers; or results of CLIP_benchmark, a folder of its "
        "JSON files or its CSV",
    )  # fmt: skip
    features: str | None = setting(
        None, "a feature store, or the folder of a run of compare, multi-llm, stream or e2e, "
        "with encoders of the scores; empty: use the scores alone", needs={"compute": (False,)},
    )  # fmt: skip
    compute: bool = setting(
        False, "load the encoders of the scores by their hub ids, and compute their features"
    )
    encoders: list[str] = setting(
        [], "encoders of the scores to load; empty: all that have a hub id", names="encoders",
        needs={"compute": ()},
    )  # fmt: skip
    scores_setting: str | None = setting(
        None, "setting of the scores to predict, such as 1.2M-frozen; empty: the first"
    )
    metrics: list[str] = setting(
        [],
        "metrics to test; empty: all available; gw_pairing and gw_distance (extra gw) "
        "are computed only if named. p is corrected for every metric and target tested",
    )
    targets: list[str] = setting(
        [], "benchmarks or groups of them to predict; empty: all, the groups and the average"
    )
    output_dir: str = setting(output_folder("validate"), "folder for results", group=COMMON)


@dataclass
class Complement(WithAnswers):
    """Does a second encoder add to a first one, for an LLM?"""

    answers: bool = setting(
        False, "also train small VLMs with each encoder alone, with two encoders, with one and "
        "a rotated copy of it, and one without images, and measure their accuracy",
        group=ANSWERS,
    )  # fmt: skip
    output_dir: str = setting(output_folder("complement"), "folder for results", group=COMMON)


@dataclass
class Layers(Alignment):
    """Alignment of every layer of an encoder with every layer of an LLM."""

    output_dir: str = setting(output_folder("layers"), "folder for results", group=COMMON)


@dataclass
class Embedding(Alignment):
    """Map the embedding spaces in two dimensions, and align them by rotation (Procrustes)."""

    method: str = setting("tsne", "method of the map", choices=METHODS)
    output_dir: str = setting(output_folder("embedding"), "folder for results", group=COMMON)


@dataclass
class Attention(Encoders):
    """Show attention, and the similarity of patches to a text, over an image."""

    image: str | None = setting(None, "image file; empty: a built-in chart")
    text: str = setting("", "text to compare with; empty: the built-in chart's caption")
    output_dir: str = setting(output_folder("attention"), "folder for results", group=COMMON)


@dataclass
class Speed(Encoders):
    """Latency, throughput, memory and share of the peak of each encoder."""

    batch_sizes: list[int] = setting([1, 4, 8, 16, 32], "batch sizes to measure", least=1)
    backend: str = setting("torch", BACKEND_HELP, choices=BACKENDS, group=WHERE)
    output_dir: str = setting(output_folder("speed"), "folder for results", group=COMMON)


@dataclass
class All(Alignment):
    """Run every alignment experiment on one set of features and write one report."""

    controls: bool = setting(True, CONTROLS_HELP)
    projectors: bool = setting(False, PROJECTORS_HELP + ", and for inner layers in e2e")
    epochs: int = setting(300, EPOCHS_HELP, least=1)
    method: str = setting("tsne", "method of the maps of the spaces", choices=METHODS)
    batch_sizes: list[int] = setting([1, 4, 16], "batch sizes to measure", least=1)
    language: str = setting("en", "language of the report", choices=LANGUAGES, group=FIGURES)
    output_dir: str = setting(output_folder("all"), "folder for results", group=COMMON)


@dataclass
class Figures(Common):
    """Draw the figures of a run again, such as at the size of a printed page."""

    run: str = setting("", "folder with the run.json of a run", positional=True)
    style: str = setting(
        "paper", "paper: .pdf and .png, 7 inches wide at most; screen: .png",
        choices=("paper", "screen"),
    )  # fmt: skip
    output_dir: str | None = setting(
        None, "folder for the figures; empty: figures in the run's folder", group=COMMON
    )
