"""Settings of `encoderlab compress`: how few visual tokens are enough."""

from __future__ import annotations

from dataclasses import dataclass, field

from encoderlab.settings.common import COMMON, MODEL_HELP, WHERE, Common
from encoderlab.settings.setting import output_folder, setting


@dataclass
class Compressor:
    """The network that makes fewer tokens."""

    output_grid_size: int = setting(6, "tokens per side after compression", flag="--grid", least=1)


@dataclass
class CompressModel:
    """Which encoder, and what compresses its tokens."""

    name: str = setting("tiny-clip", MODEL_HELP, flag="--model")
    compressor: Compressor = field(default_factory=Compressor)


@dataclass
class CompressTraining:
    """How the compressor is trained."""

    batch_size: int = setting(32, "images per step", flag="--batch-size", least=1)
    epochs: int = setting(10, "passes over the data", flag="--epochs", least=1)
    lr: float = setting(1e-4, "learning rate", flag="--lr", least=0)
    n_critic: int = setting(5, "steps of the critic per step of the compressor", least=1)
    lambda_gp: float = setting(10.0, "weight of the gradient penalty", least=0)
    wgan_weight: float = setting(1.0, "weight of the adversarial loss", least=0)
    ae_weight: float = setting(1.0, "weight of the reconstruction loss", least=0)


@dataclass
class CompressData:
    """What it is trained on."""

    imagenet_root: str | None = setting(
        None,
        "folder with one sub-folder per class; empty: the synthetic world",
        flag="--imagenet-root",
    )


@dataclass
class Hardware:
    """Where it runs."""

    cuda_device: int = setting(
        0, "number of the GPU, where there is one", flag="--cuda-device", least=0, group=WHERE
    )


@dataclass
class CompressOutput:
    """Where the results go."""

    dir: str = setting(
        output_folder("compress"), "folder for results", flag="--output-dir", group=COMMON
    )


@dataclass
class Compress(Common):
    """Train a compressor of visual tokens (convolution, WGAN-GP and autoencoder)."""

    model: CompressModel = field(default_factory=CompressModel)
    training: CompressTraining = field(default_factory=CompressTraining)
    data: CompressData = field(default_factory=CompressData)
    hardware: Hardware = field(default_factory=Hardware)
    output: CompressOutput = field(default_factory=CompressOutput)
