"""Settings of `encoderlab compress`: how few visual tokens are enough."""

from __future__ import annotations

from dataclasses import dataclass

from encoderlab.core.common_settings import (
    COMMON,
    DEVICE_HELP,
    DEVICES_HELP,
    DTYPE_HELP,
    GRAD_CLIP_HELP,
    IMG_ROOT_HELP,
    MODEL_HELP,
    SAVE_STEPS_HELP,
    WHERE,
    Loads,
)
from encoderlab.core.settings import (
    Needs,
    group,
    output_folder,
    setting,
)
from encoderlab.patch_tokens.methods import METHODS
from encoderlab.vlm.settings import LANGUAGES, LANGUAGES_HELP, N_QUESTIONS_HELP, QUESTIONS_HELP

MODEL, STEPS, DATA, WATCH = "model", "training", "data", "watching"
EVALUATE = "evaluate"

# What settings need to have an effect.
TRAIN: Needs = {"action": ("train",)}
MEASURE: Needs = {"action": ("evaluate",)}
ASKED: Needs = {**MEASURE, "evaluation.answers": ()}
TRAINED_OR_MEASURED: Needs = {"action": ("train", "evaluate")}
UNASKED: Needs = {**TRAIN, "evaluation.answers": (None,)}
DISTRIBUTIONS = ("sliced_wasserstein", "wgan", "sinkhorn", "mmd", "none")
MATCH = {"loss.distribution": DISTRIBUTIONS[:-1]}
WEIGHTED = {"training.wgan_weight": ()}
CRITIC = {"loss.distribution": ("wgan",), **WEIGHTED}
SYNTHETIC: Needs = {"data.images": ([], "synthetic"), "data.imagenet_root": (None,)}


@dataclass
class CompressorShape:
    """The network that makes fewer tokens."""

    output_grid_size: int = setting(
        6, "tokens per side after compression", flag="--grid", least=1, group=MODEL
    )
    nested: list[int] = setting(
        [], "additional grid sizes of the same network", least=1, group=MODEL
    )
    width: int = setting(128, "width of the hidden layers", least=1, group=MODEL)
    decoder: str = setting(
        "convolution",
        "decoder that rebuilds the tokens",
        choices=("convolution", "attention"),
        group=MODEL,
    )
    start: str = setting(
        "block_pca",
        "initialisation: the best linear map of windows, or average pooling",
        choices=("block_pca", "average"),
        group=MODEL,
    )


@dataclass
class CompressModel:
    """Which encoder, and what compresses its tokens."""

    name: str = setting("tiny-clip", MODEL_HELP, flag="--model", group=MODEL, names="encoders")
    layer: int = setting(
        -2, "hidden state to take the tokens from; -2 as in LLaVA", flag="--layer", group=MODEL
    )
    # A compressor to start from has its own shape.
    compressor: CompressorShape = group(CompressorShape, {**TRAIN, "training.init": (None,)})


@dataclass
class CompressTraining:
    """How the compressor is trained."""

    batch_size: int = setting(64, "images per step", flag="--batch-size", least=1, group=STEPS)
    epochs: int = setting(10, "passes over the data", flag="--epochs", least=1, group=STEPS)
    lr: float = setting(1e-3, "peak learning rate", flag="--lr", least=0, group=STEPS)
    critic_lr: float = setting(
        1e-4, "the critic's learning rate", least=0, group=STEPS, needs=CRITIC
    )
    n_critic: int = setting(
        5, "steps of the critic per step of the compressor", least=1, group=STEPS, needs=CRITIC
    )
    lambda_gp: float = setting(
        10.0, "weight of the gradient penalty", least=0, group=STEPS, needs=CRITIC
    )
    wgan_weight: float = setting(
        0.1,
        "weight of the distribution loss; 0: a plain autoencoder",
        least=0,
        group=STEPS,
        needs=MATCH,
    )
    ae_weight: float = setting(1.0, "weight of the reconstruction loss", least=0, group=STEPS)
    balance: bool = setting(
        True,
        "scale the gradient of the distribution loss to that of the reconstruction loss",
        group=STEPS,
        needs={**MATCH, **WEIGHTED, "training.ae_weight": ()},
    )
    standardise: str = setting(
        "channel",
        "tokens are divided by the standard deviation of each channel, or of all",
        choices=("channel", "all"),
        group=STEPS,
        needs={"training.init": (None,)},
    )
    grad_clip: float = setting(1.0, GRAD_CLIP_HELP, least=0, group=STEPS)
    init: str | None = setting(
        None,
        "trained compressor to start from: a run folder or a bundled name; empty: "
        "initialise by model.compressor",
        flag="--init",
        group=STEPS,
        names="compressors",
    )
    resume: str | None = setting(
        None, "run folder or .pt file to resume", flag="--resume", group=STEPS
    )
    save_every_steps: int | None = setting(None, SAVE_STEPS_HELP, least=1, group=STEPS)


@dataclass
class CompressLoss:
    """What makes compressed tokens look like tokens."""

    distribution: str = setting(
        "sliced_wasserstein",
        "loss that draws compressed tokens to the distribution of real tokens; wgan: a critic",
        flag="--distribution",
        choices=DISTRIBUTIONS,
        group=STEPS,
        needs=WEIGHTED,
    )
    answers_weight: float = setting(
        1.0,
        "weight of the answers' negative log-likelihood, in nats per answer token",
        least=0,
        group=STEPS,
        needs={"evaluation.answers": ()},
    )


@dataclass
class CompressData:
    """What it is trained on."""

    images: list[str] = setting(
        [],
        "folders, CSVs or JSONLs of images, or synthetic; empty: synthetic",
        flag="--images",
        group=DATA,
    )
    imagenet_root: str | None = setting(
        None,
        "folder in ImageNet's layout: train and val with one folder per class",
        flag="--imagenet-root",
        group=DATA,
    )
    img_root: str | None = setting(
        None,
        IMG_ROOT_HELP,
        group=DATA,
        needs={"data.images": ()},
    )
    n_samples: int = setting(
        4000,
        "pictures of the synthetic world",
        least=4,
        group=DATA,
        needs={**TRAIN, **SYNTHETIC, "evaluation.questions": ("synthetic",)},
    )
    cache: str = setting(
        "on",
        "cache tokens instead of computing them every epoch: on, int8 (a byte per channel) or off",
        flag="--cache",
        choices=("on", "int8", "off"),
        group=DATA,
        needs=UNASKED,
    )
    store: str = setting(
        output_folder("features"),
        "folder of the feature store",
        flag="--store",
        group=DATA,
        needs={**TRAIN, "data.cache": ("on", "int8")},
    )


@dataclass
class Hardware:
    """Where it runs."""

    device: str = setting("auto", DEVICE_HELP, flag="--device", group=WHERE)
    cuda_device: int | None = setting(
        None, "number of the GPU; empty: as --device says", flag="--cuda-device", least=0,
        group=WHERE, needs={"hardware.device": ("auto", "cuda")},
    )  # fmt: skip
    dtype: str = setting("auto", f"the encoder's: {DTYPE_HELP}", flag="--dtype", group=WHERE)
    precision: str = setting(
        "auto", "precision of the compressor; that of the critic is always fp32",
        choices=("auto", "fp32", "bf16", "fp16"), group=WHERE, needs=TRAIN,
    )  # fmt: skip
    devices: int | None = setting(
        None, DEVICES_HELP, flag="--devices", least=1, group=WHERE, needs=TRAIN
    )
    strategy: str = setting(
        "auto", "distributed strategy", choices=("auto", "ddp"), group=WHERE, needs=TRAIN
    )

    @property
    def device_name(self) -> str:
        """The device by name, from the two settings that name it."""
        return self.device if self.cuda_device is None else f"cuda:{self.cuda_device}"


@dataclass
class CompressWatch:
    """How the run is watched."""

    use_wandb: bool = setting(False, "log to Weights & Biases instead of TensorBoard", group=WATCH)
    wandb_project: str = setting(
        "encoderlab",
        "project of Weights & Biases",
        group=WATCH,
        needs={"experiment.use_wandb": (True,)},
    )


@dataclass
class CompressEvaluation:
    """What `encoderlab compress evaluate` measures."""

    n_samples: int = setting(
        200,
        "largest number of images to measure",
        flag="--n-samples",
        least=20,
        group=EVALUATE,
        needs=MEASURE,
    )
    fit_images: list[str] = setting(
        [],
        "images to fit methods and heads on; empty: half of the named ones, or others "
        "of the synthetic world",
        group=EVALUATE,
        needs=MEASURE,
    )
    n_fit: int = setting(
        1000, "largest number of these images", least=20, group=EVALUATE, needs=MEASURE
    )
    grids: list[int] = setting(
        [6, 4, 3], "tokens per side, every budget", flag="--grids", least=1, group=EVALUATE
    )
    methods: list[str] = setting(
        [],
        "methods; evaluate adds random, average and smaller_image, and pixel_shuffle if "
        "it applies; empty: all",
        flag="--methods",
        choices=METHODS.keys(),
        group=EVALUATE,
    )
    compressors: list[str] = setting(
        [],
        "trained compressors: folders or bundled names, NAME:FOLDER sets a name; empty: "
        "those bundled for the encoder",
        flag="--compressors",
        names="compressors",
        group=EVALUATE,
    )
    parts: list[str] = setting(
        ["reinjection", "loyalty"],
            "measurements: tokens put back into the encoder, neighbours of images, main "
            "colour and small digits predicted by a trained head",
        choices=("reinjection", "readout", "loyalty", "glyphs"), group=EVALUATE, needs=MEASURE,
    )  # fmt: skip
    adaptive: bool = setting(
        False,
        "also measure adaptive budgets: more tokens for images that need more, with the same mean",
        flag="--adaptive",
        group=EVALUATE,
        needs=MEASURE,
    )
    answers: str | None = setting(
        None, "VLM that answers from the rebuilt tokens: tiny-vlm, or a run folder of vlm "
        "train; train: also train on its answers; evaluate: measure its accuracy",
        flag="--answers", group=EVALUATE, needs=TRAINED_OR_MEASURED,
    )  # fmt: skip
    questions: str = setting(
        "synthetic", QUESTIONS_HELP, group=EVALUATE,
        needs={**TRAINED_OR_MEASURED, "evaluation.answers": ()},
    )  # fmt: skip
    languages: list[str] = setting(
        ["en"], LANGUAGES_HELP, choices=LANGUAGES, group=EVALUATE,
        needs={
            **TRAINED_OR_MEASURED, "evaluation.answers": (), "evaluation.questions": ("synthetic",),
        },
    )  # fmt: skip
    shuffled: list[str] = setting(
        [], "VLMs with the same language model for the method pixel_shuffle, one per number "
        "of tokens; empty: the bundled ones", group=EVALUATE, needs=ASKED,
    )  # fmt: skip
    n_questions: int = setting(
        500, N_QUESTIONS_HELP, least=0,
        group=EVALUATE, needs=ASKED,
    )  # fmt: skip
    llm: str = setting(
        "llama",
        "LLM whose cost is computed, and measured if it is available locally: an alias "
        "or a checkpoint",
        flag="--llm",
        names="llms",
        group=EVALUATE,
        needs=MEASURE,
    )
    text_tokens: int = setting(
        64, "text tokens beside the image", least=0, group=EVALUATE, needs=MEASURE
    )


@dataclass
class CompressPicture:
    """What `encoderlab compress show` looks at."""

    image: str | None = setting(
        None, "show: the image; empty: a built-in chart", flag="--image", group=DATA
    )


@dataclass
class CompressOutput:
    """Where the results go."""

    dir: str = setting(
        output_folder("compress"), "folder for results", flag="--output-dir", group=COMMON
    )


@dataclass
class Compress(Loads):
    """Train a compressor of visual tokens, or compare compression methods (evaluate)."""

    action: str = setting(
        "train",
        "train; evaluate: what every method keeps; show: one image's tokens before and after",
        positional=True,
        choices=("train", "evaluate", "show"),
    )
    model: CompressModel = group(CompressModel)
    training: CompressTraining = group(CompressTraining, TRAIN)
    loss: CompressLoss = group(CompressLoss, TRAIN)
    data: CompressData = group(CompressData, {"action": ("train", "evaluate")})
    hardware: Hardware = group(Hardware)
    experiment: CompressWatch = group(CompressWatch, TRAIN)
    evaluation: CompressEvaluation = group(CompressEvaluation, {"action": ("evaluate", "show")})
    picture: CompressPicture = group(CompressPicture, {"action": ("show",)})
    output: CompressOutput = group(CompressOutput)
