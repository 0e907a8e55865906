"""Checks of our own networks and losses against published sizes and closed forms.

    python -m encoderlab.selftest           # every part
    python -m encoderlab.selftest clip      # one part; `encoderlab.selftest.clip()` in Python

Every expected value is from a paper, a released checkpoint or a formula written here. Reads no
file; `encoderlab doctor --deep` shows the same checks.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import wraps

import torch
from torch import Tensor, nn

from encoderlab.errors import UsageError, unknown
from encoderlab.losses.contrastive import contrastive_loss
from encoderlab.losses.distribution import mmd, sinkhorn_divergence, sliced_wasserstein
from encoderlab.losses.reconstruction import reconstruction_loss
from encoderlab.losses.sigmoid import sigmoid_loss
from encoderlab.losses.wgan_gp import critic_loss, generator_loss, leak_between_samples
from encoderlab.models.clip.clip import CLIP
from encoderlab.models.clip.config import PRESETS, ResNetConfig, TextConfig
from encoderlab.models.clip.resnet import ResNet
from encoderlab.models.clip.text import TextTransformer
from encoderlab.models.projectors import create_projector
from encoderlab.models.token_compressor import AutoencoderShape, TokenAutoencoder, TokenCritic

# Of OpenAI's released checkpoints (Radford et al. 2021). Their RN50 has one bias of 1,024 more, in
# the output of the attention pooling; our projections have none.
PUBLISHED = {
    "ViT-B/32": 151_277_313, "ViT-B/16": 149_620_737, "ViT-L/14": 427_616_513,
    "ViT-L/14-336": 427_944_193, "RN50": 102_007_137 - 1_024,
}  # fmt: skip
TOLERANCE = 1e-5  # relative, or absolute below 1, of numbers computed in fp32


@dataclass(frozen=True)
class Check:
    """One comparison.

    Args:
        name: the part and what was compared.
        expected, got: the two values; numbers with a fraction may differ by TOLERANCE.
    """

    name: str
    expected: object
    got: object

    @property
    def ok(self) -> bool:
        """Whether both values are equal."""
        if isinstance(self.expected, float) and isinstance(self.got, float):
            return math.isclose(self.expected, self.got, rel_tol=TOLERANCE, abs_tol=TOLERANCE)
        return self.expected == self.got

    @property
    def comparison(self) -> str:
        """The value, or the expected and the actual one."""
        if self.ok:
            return _shown(self.got)
        return f"expected {_shown(self.expected)}, got {_shown(self.got)}"

    def __str__(self) -> str:
        return f"{'ok' if self.ok else 'FAILED'} {self.name}: {self.comparison}"


Checks = Iterator[tuple[str, object, object]]
Part = Callable[[], tuple[Check, ...]]
PARTS: dict[str, Part] = {}


def _part(compare: Callable[[], Checks]) -> Part:
    """Registers a part; an error in it is a failed check, and the caller's seed is kept."""
    part = compare.__name__

    @wraps(compare)
    def run() -> tuple[Check, ...]:
        checks: list[Check] = []
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            try:
                checks += (Check(f"{part}: {name}", *values) for name, *values in compare())
            except Exception as error:  # whatever a broken installation raises
                checks.append(Check(part, "no error", f"{type(error).__name__}: {error}"))
        return tuple(checks)

    PARTS[part] = run
    return run


@_part
def clip() -> Checks:
    """The parameters of every published CLIP, and shapes and temperature of ViT-B/32."""
    for name, count in PUBLISHED.items():
        with torch.device("meta"):
            yield f"parameters of {name}", count, _parameters(CLIP(PRESETS[name]))
    model = CLIP(PRESETS["ViT-B/32"]).eval()
    with torch.no_grad():
        image, text = model(torch.randn(2, 3, 224, 224), torch.randint(49408, (2, 77)))
        patches = model.vision(torch.randn(1, 3, 224, 224)).patches
    yield "shapes of ViT-B/32", [(2, 512), (2, 512), (1, 49, 768)], _shapes(image, text, patches)
    yield "embeddings are finite", True, bool(torch.cat([image, text]).isfinite().all())
    # Section 2.5 there: the temperature starts at 0.07, and the factor on the logits ends at 100.
    yield "temperature", 1 / 0.07, model.logit_scale.exp().item()
    model.logit_scale.data.fill_(9.0)
    model.clamp_logit_scale()
    yield "largest temperature", 100.0, model.logit_scale.exp().item()


@_part
def resnet() -> Checks:
    """The image tower of RN50: 7 x 7 positions of 2,048 channels."""
    tower = ResNet(ResNetConfig()).eval()
    with torch.no_grad():
        features = tower(torch.randn(1, 3, 224, 224))
    # OpenAI's has 38,316,896 with the output of its attention pooling, which is our projection.
    yield "parameters", 38_316_896 - (2048 * 1024 + 1024), _parameters(tower)
    yield "shapes", [(1, 2048), (1, 49, 2048)], _shapes(features.pooled, features.patches)
    yield "embeddings are finite", True, bool(features.pooled.isfinite().all())


@_part
def text() -> Checks:
    """The text tower of ViT-B/32: 12 layers of 512 channels, 77 tokens."""
    tower, w = TextTransformer(TextConfig(end_token_id=49407)).eval(), 512
    with torch.no_grad():
        first, second = tower(torch.tensor([[49406, 9, 49407, 0, 0], [49406, 9, 49407, 5, 6]]))
    block = 12 * w**2 + 13 * w  # attention, an MLP of 4 w, two norms
    yield "parameters", (49408 + 77) * w + 12 * block + 2 * w, _parameters(tower)
    yield "shape", [(w,)], _shapes(first)
    yield "change by words after the end", 0.0, _distance(first, second)


@_part
def compressor() -> Checks:
    """The compressor and decoder of `encoderlab compress`: 144 tokens of 192 channels to 36."""
    model, c, w, window = TokenAutoencoder(AutoencoderShape(192, (12, 12), ((6, 6),))), 192, 128, 4
    residual = 2 * w + (9 * w + 1) * w + (w + 1) * w  # norm, 3 x 3, 1 x 1
    stage = 2 * w + (9 * w + 1) * w + residual
    down = (c + 1) * w + residual + stage + (window * c + 1) * c + residual + (w + 1) * c
    up = (c + 1) * window * c + (c + 1) * w + w * 144 + 2 * residual + (w + 1) * c
    yield "parameters", down, _parameters(model.compressor)
    yield "parameters of the decoder", up, _parameters(model.decoder)
    tokens = torch.randn(2, 144, c)
    with torch.no_grad():
        kept = model.compress(tokens, (6, 6))
        back = model.decode(kept, (6, 6))
    yield "shapes", [(2, 36, c), (2, 144, c)], _shapes(kept, back)
    means = tokens.view(2, 6, 2, 6, 2, c).mean(dim=(2, 4))
    repeated = means.repeat_interleave(2, dim=1).repeat_interleave(2, dim=2)
    yield "distance from average pooling", 0.0, _distance(kept, means.flatten(1, 2))
    yield "distance from repeated means", 0.0, _distance(back, repeated.flatten(1, 2))


@_part
def critic() -> Checks:
    """The critic of the Wasserstein loss: one score for each sample, alone."""
    model, c, w = TokenCritic(192, (6, 6)), 192, 64
    tokens = torch.randn(3, 36, c)
    yield "parameters", (c + 1) * w + 2 * ((9 * w + 1) * w + 2 * w) + w + 1, _parameters(model)
    yield "shape", [(3,)], _shapes(model(tokens))
    yield "gradient to other samples", 0.0, leak_between_samples(model, tokens)


@_part
def projectors() -> Checks:
    """Projectors of LLaVA's widths, 1,024 to 4,096."""
    v, t = 1024, 4096
    for kind, count in {
        "linear": v * t + t,  # LLaVA (Liu et al. 2023)
        "mlp": 20_979_712,  # LLaVA-1.5 7B: weights of 4096 x 1024 and 4096 x 4096, two biases
        "mlp_norm": 20_979_712 + 2 * t,  # ELAS: a layer norm more
        "cross_attention": 4 * t + 2 * (v * t + t) + t * t + t,
    }.items():
        with torch.device("meta"):
            model = create_projector(kind, v, t)
            yield f"parameters of {kind}", count, _parameters(model)
            yield f"shape of {kind}", [(2, t)], _shapes(model(torch.empty(2, v)))


@_part
def losses() -> Checks:
    """Every loss where its value is a closed form."""
    n, two = 32, torch.tensor(2.0)
    same, apart, others = torch.eye(n)[:1].expand(n, n), torch.eye(n), (n - 1) * math.exp(-2)
    yield "contrastive, equal: ln n", math.log(n), contrastive_loss(same, same, two).item()
    loss = contrastive_loss(apart, apart, two).item()
    yield "contrastive, orthogonal: ln(1 + (n - 1) / e^2)", math.log1p(others), loss
    expected = math.log(2) + (n - 1) * math.log1p(math.exp(-2))
    yield "sigmoid, orthogonal", expected, sigmoid_loss(apart, apart, two, -two).item()
    # A linear critic has the slope |w| = 5 everywhere, a penalty of 16. Real and fake are 2 apart
    # along both axes, which is a distance of 2 (3 + 4).
    w = torch.tensor([3.0, 4.0], requires_grad=True)
    real, fake = torch.full((6, 2), 1.5), torch.full((6, 2), -0.5)
    parts = critic_loss(lambda x: x @ w, real, fake, lambda_gp=10.0)
    yield "gradient penalty of a linear critic", 16.0, parts.penalty.item()
    yield "distance of a linear critic", 14.0, parts.distance.item()
    yield "critic", -14.0 + 10 * 16.0, parts.loss.item()
    yield "generator", 3.5, generator_loss(lambda x: x @ w, fake).item()
    x = torch.randn(2, 5, 7)
    opposite = 4 * x.square().mean().item() + 2
    yield "reconstruction, equal", 0.0, reconstruction_loss(x, x).item()
    yield "reconstruction, opposite", opposite, reconstruction_loss(-x, x).item()
    # All points of one set are 3 from all of the other.
    near, far = torch.zeros(4, 1), torch.full((4, 1), 3.0)
    yield "sliced Wasserstein", 3.0, sliced_wasserstein(near, far).item()
    yield "Sinkhorn, half the squared distance", 4.5, sinkhorn_divergence(near, far).item()
    yield "MMD, width 3", 2 - 2 * math.exp(-0.5), mmd(near, far, width=3.0).item()


def run(parts: Sequence[str] = ()) -> Iterator[Check]:
    """The checks of the named parts, or of all, as they are done."""
    for name in parts:
        if name not in PARTS:
            raise unknown("part", name, PARTS, "python -m encoderlab.selftest --help")
    for name in parts or PARTS:
        yield from PARTS[name]()


def main(argv: Sequence[str] | None = None) -> int:
    """Prints one line per check; returns 1 where one failed, 2 where a part is unknown."""
    parts = list(sys.argv[1:] if argv is None else argv)
    if {"-h", "--help"} & set(parts):
        print("python -m encoderlab.selftest [PART ...]\n")
        print("\n".join(f"  {name:<12}{part.__doc__}" for name, part in PARTS.items()))
        return 0
    failed = 0
    try:
        for check in run(parts):
            print(check, flush=True)
            failed |= not check.ok
    except UsageError as error:
        print(f"encoderlab.selftest: error: {error}", file=sys.stderr)
        return error.exit_code
    return failed


def _parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def _shapes(*tensors: Tensor) -> list[tuple[int, ...]]:
    return [tuple(tensor.shape) for tensor in tensors]


def _distance(a: Tensor, b: Tensor) -> float:
    return (a - b).abs().max().item()


def _shown(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    return f"{value:,}" if type(value) is int else str(value)


if __name__ == "__main__":
    sys.exit(main())
