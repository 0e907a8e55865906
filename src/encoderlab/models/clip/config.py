"""The configuration of a CLIP: frozen dataclasses with their checks, and named presets.

Knows numbers only. Builds no module, reads no file.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any, Literal

from encoderlab.errors import UsageError, unknown

Activation = Literal["gelu", "quick_gelu", "gelu_pytorch_tanh"]
ACTIVATIONS: tuple[Activation, ...] = ("gelu", "quick_gelu", "gelu_pytorch_tanh")
# Sizes that `_require_multiple` checks as well, and ids, which start at 0.
MAY_BE_ZERO = ("width", "image_size", "patch_size", "heads", "end_token_id")


def _require_multiple(what: str, number: int, of_what: str, divisor: int) -> None:
    if number < 1 or divisor < 1 or number % divisor:
        raise UsageError(
            f"{what} must be a positive multiple of {of_what}",
            got=f"{number} and {divisor}",
            want=f"for example {max(divisor, 1) * max(round(number / max(divisor, 1)), 1)}",
        )


def _require_counts(what: str, shape: Any) -> None:
    """Raises for sizes that are not positive integers: they may come from a file."""
    for name in (entry.name for entry in dataclasses.fields(shape)):
        value = getattr(shape, name)
        if name in ("activation", "norm_eps") or (name, value) == ("end_token_id", None):
            continue
        counts = list(value) if name == "blocks" else [value]
        least = 0 if name in MAY_BE_ZERO else 1
        if not all(type(count) is int and count >= least for count in counts):
            raise UsageError(
                f"the {name} of the {what} is no size", got=value, want="a whole number from 1"
            )


def check_held(config: Any, held: int) -> None:
    """Raises for a configuration with more weights than a checkpoint, before memory is allocated.

    Args:
        config: of a CLIP.
        held: the number of values in the checkpoint's weights.

    Raises:
        UsageError: naming both numbers.
    """
    text = config.text
    least = _least_weights(text) + (text.vocab_size + text.context_length) * text.width
    if isinstance(config.vision, ViTConfig):
        side, patch = config.vision.grid[0], config.vision.patch_size
        least += _least_weights(config.vision) + (side * side + 3 * patch * patch) * (
            config.vision.width
        )
    else:
        least += sum(config.vision.blocks) + config.vision.width**2
    if least > held:
        raise UsageError(
            "the configuration names more weights than the checkpoint has",
            got=f"at least {least:,}",
            want=f"at most {held:,}",
            hint="a size in the configuration is wrong, or the weights are another model's",
        )


def _least_weights(tower: Any) -> int:
    """The weights of the blocks of a transformer, without biases and norms."""
    return tower.layers * (4 * tower.width**2 + 2 * tower.width * tower.mlp_width)


def _require_norm_eps(what: str, value: Any) -> None:
    if type(value) not in (int, float) or not 0 <= value < 1:
        raise UsageError(
            f"the norm_eps of the {what} is no small number", got=value, want="such as 1e-05"
        )


def _require_activation(name: str) -> None:
    if name not in ACTIVATIONS:
        raise unknown("activation", name, list(ACTIVATIONS), "encoderlab train --help")


@dataclass(frozen=True)
class ViTConfig:
    """A vision transformer: `image_size` pixels cut into squares of `patch_size` pixels."""

    image_size: int = 224
    patch_size: int = 32
    width: int = 768
    layers: int = 12
    heads: int = 12
    mlp_width: int = 3072
    activation: Activation = "gelu"
    norm_eps: float = 1e-5

    def __post_init__(self) -> None:
        _require_counts("image encoder", self)
        _require_norm_eps("image encoder", self.norm_eps)
        _require_multiple("vision width", self.width, "heads", self.heads)
        _require_multiple("image size", self.image_size, "patch size", self.patch_size)
        _require_activation(self.activation)

    @property
    def grid(self) -> tuple[int, int]:
        """Patches down and across."""
        side = self.image_size // self.patch_size
        return side, side


@dataclass(frozen=True)
class ResNetConfig:
    """A bottleneck ResNet with a three-convolution stem and attention pooling (CLIP paper, 2.4).

    `blocks` holds the number of bottlenecks of each of the four stages; the last stage has
    `32 * width` channels at 1/32 of the image's resolution.
    """

    image_size: int = 224
    width: int = 64
    blocks: tuple[int, int, int, int] = (3, 4, 6, 3)
    heads: int = 32
    groups: int = 16

    def __post_init__(self) -> None:
        object.__setattr__(self, "blocks", tuple(self.blocks))
        _require_counts("image encoder", self)
        _require_multiple("image size", self.image_size, "the stride of a ResNet", 32)
        _require_multiple("pooled width (32 x width)", self.width * 32, "heads", self.heads)
        _require_multiple(
            "half the ResNet width",
            self.width // 2,
            "normalisation groups",
            min(self.groups, self.width // 2),
        )

    @property
    def grid(self) -> tuple[int, int]:
        """Positions down and across after the last stage."""
        return self.image_size // 32, self.image_size // 32


@dataclass(frozen=True)
class TextConfig:
    """A causal text transformer that pools at the end-of-text token.

    `end_token_id=None` pools at the largest id of each row: checkpoints written before the id was
    recorded (their `eos_token_id` says 2) rely on end-of-text being the largest id they have.
    """

    vocab_size: int = 49408
    context_length: int = 77
    width: int = 512
    layers: int = 12
    heads: int = 8
    mlp_width: int = 2048
    activation: Activation = "gelu"
    norm_eps: float = 1e-5
    end_token_id: int | None = None

    def __post_init__(self) -> None:
        _require_counts("text encoder", self)
        _require_norm_eps("text encoder", self.norm_eps)
        _require_multiple("text width", self.width, "heads", self.heads)
        _require_activation(self.activation)


@dataclass(frozen=True)
class CLIPConfig:
    """Both towers, and `embed_dim`, the width of the shared space."""

    vision: ViTConfig | ResNetConfig = field(default_factory=ViTConfig)
    text: TextConfig = field(default_factory=TextConfig)
    embed_dim: int = 512

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready mapping that `from_dict` reads back."""
        kind = "vit" if isinstance(self.vision, ViTConfig) else "resnet"
        record = dataclasses.asdict(self)
        record["vision"] = {"kind": kind, **record["vision"]}
        return record

    @classmethod
    def from_dict(cls, record: dict[str, Any]) -> CLIPConfig:
        """The configuration that `to_dict` wrote."""
        vision = dict(record["vision"])
        tower = ViTConfig if vision.pop("kind") == "vit" else ResNetConfig
        return cls(tower(**vision), TextConfig(**record["text"]), record["embed_dim"])


def _vit(image_size: int, patch_size: int, width: int, layers: int, heads: int) -> ViTConfig:
    return ViTConfig(image_size, patch_size, width, layers, heads, 4 * width)


def _text(width: int, heads: int, layers: int = 12) -> TextConfig:
    return TextConfig(width=width, heads=heads, layers=layers, mlp_width=4 * width)


PRESETS: dict[str, CLIPConfig] = {
    "ViT-B/32": CLIPConfig(_vit(224, 32, 768, 12, 12), _text(512, 8), 512),
    "ViT-B/16": CLIPConfig(_vit(224, 16, 768, 12, 12), _text(512, 8), 512),
    "ViT-L/14": CLIPConfig(_vit(224, 14, 1024, 24, 16), _text(768, 12), 768),
    "ViT-L/14-336": CLIPConfig(_vit(336, 14, 1024, 24, 16), _text(768, 12), 768),
    "RN50": CLIPConfig(ResNetConfig(), _text(512, 8), 1024),
    # The bundled tiny-clip: under 3 M parameters, so that fp16 weights fit in 6 MB.
    "tiny": CLIPConfig(
        _vit(96, 8, 192, 4, 3),
        TextConfig(vocab_size=4000, context_length=64, width=128, layers=3, heads=2, mlp_width=512),
        128,
    ),
    "tiny-resnet": CLIPConfig(
        ResNetConfig(image_size=96, width=16, blocks=(1, 1, 1, 1), heads=4, groups=8),
        TextConfig(vocab_size=4000, context_length=64, width=128, layers=3, heads=2, mlp_width=512),
        128,
    ),
}


def preset(name: str) -> CLIPConfig:
    """The configuration called `name`, in upper or lower case."""
    for known, config in PRESETS.items():
        if known.lower() == name.lower():
            return config
    raise unknown("preset", name, list(PRESETS), "encoderlab train --help")
