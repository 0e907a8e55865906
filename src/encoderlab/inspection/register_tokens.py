"""Finds the neurons behind outlier tokens, and moves their activation into an added token.

The method of Jiang et al. 2025 ("Vision transformers don't need trained registers"). Draws nothing.

b images, (h, w) grid, t tokens of the tower, k hidden units of an MLP, d width.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Shaped, UInt8
from torch import Tensor, nn

from encoderlab.encoders.vision import TowerOutput, VisionEncoder, stack
from encoderlab.errors import UsageError
from encoderlab.metrics.matrix import median
from encoderlab.patch_tokens import statistics

BATCH = 16


@dataclass(frozen=True)
class Neuron:
    """A hidden unit of an MLP.

    Args:
        block: number of its block, from 1.
        unit: number of the hidden unit, from 0.
        effect: how much more it adds to an outlier token than to other patches, in units of the
            residual stream; 0 for one that was drawn at random.
    """

    block: int
    unit: int
    effect: float = 0.0


@dataclass(frozen=True)
class OutlierTokens:
    """The outlier tokens of a few images.

    Args:
        layer: the hidden state whose largest norms stand out most from the median norm.
        made_in: the block in which their norms, relative to the median norm, grow most.
        times: they are longer than this multiple of the median norm of their image.
        mask: (b, h, w) True at outlier tokens of `layer`.
        on_contrast: share of them whose patch has more contrast than the median patch of its image;
            registers are found on patches with little (Darcet et al. 2024).
    """

    layer: int
    made_in: int
    times: float
    mask: Bool[np.ndarray, "b h w"]
    on_contrast: float

    @property
    def count(self) -> int:
        """How many there are."""
        return int(self.mask.sum())


def outlier_tokens(
    encoder: VisionEncoder, pixels: UInt8[Tensor, "b 3 height width"]
) -> OutlierTokens | None:
    """The outlier tokens of images.

    They are outliers by `patch_tokens.statistics.outliers`, and nearer to the largest norm than to
    the median norm on a logarithmic scale: patches with content are outliers among plain ones too,
    but far shorter than registers.

    Args:
        encoder: gives the hidden states.
        pixels: from `encoder.preprocess.to_bytes`.

    Returns:
        Those of the hidden state with the largest ratio of the largest norm to the median norm,
        mean over images; None where it has none.

    Raises:
        UsageError: an encoder without hidden states, or at native resolution.
    """
    lengths = norms_of(encoder, pixels, range(encoder.n_layers + 1))
    peaks = {layer: peak(values) for layer, values in lengths.items() if layer > 0}
    # Not the layer with most outliers: in the first layers patches with content differ in norm too.
    layer = max(peaks, key=lambda layer: peaks[layer])
    times = math.sqrt(peaks[layer])
    mask = longer(lengths[layer], times)
    if not mask.any():
        return None
    relative = [float((relative_norms(lengths[k])[mask]).mean()) for k in range(layer + 1)]
    made_in = 1 + int(np.argmax(np.diff(relative)))
    contrast = _contrast(pixels, encoder.grid)
    above = contrast > contrast.flatten(1).median(dim=1).values[:, None, None]
    return OutlierTokens(layer, made_in, times, mask.numpy(), float(above[mask].float().mean()))


def register_neurons(
    encoder: VisionEncoder,
    pixels: UInt8[Tensor, "b 3 height width"],
    outliers: OutlierTokens,
    count: int = 10,
) -> tuple[Neuron, ...]:
    """The neurons that add most to outlier tokens, of the blocks up to the one that makes them.

    The paper ranks by the mean activation at outlier tokens. Here that of other patches is
    subtracted and the difference multiplied by the norm of the neuron's output weights, so that
    neurons of several blocks can be compared.

    Args:
        encoder: its blocks have an MLP each.
        pixels: the images that `outliers` was found on.
        outliers: from `outlier_tokens`.
        count: how many neurons.

    Returns:
        The neurons, largest effect first.

    Raises:
        UsageError: a family whose blocks or MLPs are not known.
    """
    layers = output_layers(encoder)[: outliers.made_in]
    mask = torch.from_numpy(outliers.mask).flatten(1)
    special, state = encoder.special_tokens, _Means(mask)
    with ExitStack() as hooks:
        for block, layer in enumerate(layers, start=1):
            hooks.enter_context(_before(layer, functools.partial(state.add, block, special)))
        for start in range(0, len(pixels), BATCH):
            state.rows = slice(start, start + BATCH)
            encoder.encode_pixels(pixels[start : start + BATCH])
    neurons = []
    for block, layer in enumerate(layers, start=1):
        effect = state.difference(block).abs() * layer.weight.detach().float().norm(dim=0).cpu()
        for unit in effect.topk(min(count, len(effect))).indices.tolist():
            neurons.append(Neuron(block, unit, float(effect[unit])))
    return tuple(sorted(neurons, key=lambda neuron: -neuron.effect)[:count])


def random_neurons(
    encoder: VisionEncoder, neurons: Sequence[Neuron], seed: int = 0
) -> tuple[Neuron, ...]:
    """The control: as many other neurons of the same blocks, drawn at random.

    Args:
        encoder: has the neurons.
        neurons: those that are not drawn.
        seed: of the draw.

    Returns:
        One for each of `neurons`, in the same block.

    Raises:
        UsageError: a block has too few others.
    """
    rng = np.random.default_rng(seed)
    layers, drawn = output_layers(encoder), []
    for block in sorted({neuron.block for neuron in neurons}):
        taken = [neuron.unit for neuron in neurons if neuron.block == block]
        rest = np.setdiff1d(np.arange(layers[block - 1].in_features), taken)
        if len(rest) < len(taken):
            raise UsageError(
                f"block {block} has too few other neurons for the control",
                got=f"{len(taken)} register neurons of {len(taken) + len(rest)}",
                want="fewer neurons",
            )
        units = rng.choice(rest, len(taken), replace=False)
        drawn += [Neuron(block, int(unit)) for unit in units]
    return tuple(drawn)


@contextmanager
def added_register(encoder: VisionEncoder, neurons: Sequence[Neuron]) -> Iterator[None]:
    """Adds a zero token behind the others, and moves the activation of `neurons` into it.

    In this block each neuron has, at the added token, its largest activation over all tokens, and 0
    at the others. No feature shows the added token; attention maps lack its column, so that their
    rows sum to less than 1.

    Args:
        encoder: changed in this block only; other threads must not use it.
        neurons: from `register_neurons`.

    Yields:
        None.

    Raises:
        UsageError: a family that takes no further token, or a compiled encoder.
    """
    if encoder.backend is not None:
        raise UsageError(
            "a compiled encoder takes no further token", got=encoder.name, want="backend=torch"
        )
    layers, blocks = output_layers(encoder), _blocks(encoder)
    state = _Appended()
    by_block: dict[int, list[int]] = {}
    for neuron in neurons:
        by_block.setdefault(neuron.block, []).append(neuron.unit)

    def append(
        _: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        tokens = inputs[0] if inputs else named["hidden_states"]
        state.length = tokens.shape[1]
        longer = torch.cat([tokens, torch.zeros_like(tokens[:, :1])], dim=1)
        if inputs:
            return (longer, *inputs[1:]), named
        return inputs, {**named, "hidden_states": longer}

    def strip(_: nn.Module, inputs: tuple[Any, ...], output: Any) -> Any:
        # `finish` may start behind the first block, where nothing was appended.
        length, state.length = state.length, None
        if length is None:
            return output
        if isinstance(output, tuple):
            return (output[0][:, :length], *output[1:])
        return output[:, :length]

    def moved(units: Sequence[int]) -> Any:
        index = torch.tensor(sorted(units), device=encoder.device)

        def move(values: Float[Tensor, "b t k"]) -> Float[Tensor, "b t k"] | None:
            if state.length is None:
                return None
            chosen = values[..., index]
            # Gated MLPs have large negative activations too.
            place = chosen.abs().argmax(dim=1, keepdim=True)
            largest = chosen.gather(1, place)
            changed = torch.zeros_like(chosen)
            changed[:, -1:] = largest
            values = values.clone()
            values[..., index] = changed
            return values

        return move

    plain = encoder.run_tower

    def run_tower(pixels: Tensor, **outputs: bool) -> TowerOutput:
        output = plain(pixels, **outputs)
        length = output.tokens.shape[1]
        return replace(
            output,
            # Recorded inside of the blocks, where the added token is.
            hidden=tuple(state_k[:, :length] for state_k in output.hidden),
            attention=tuple(maps[..., :length, :length] for maps in output.attention),
        )

    with ExitStack() as hooks:
        for block, units in by_block.items():
            hooks.enter_context(_before(layers[block - 1], moved(units)))
        for handle in (
            blocks[0].register_forward_pre_hook(append, with_kwargs=True),
            blocks[-1].register_forward_hook(strip),
        ):
            hooks.callback(handle.remove)
        encoder.run_tower = run_tower  # type: ignore[method-assign]
        hooks.callback(vars(encoder).pop, "run_tower")
        try:
            height, width = encoder.preprocess.shape
            encoder.encode_pixels(torch.zeros(1, 3, height, width, dtype=torch.uint8))
        except (RuntimeError, ValueError) as error:
            raise UsageError(
                "the blocks of this family take no further token",
                got=f"{encoder.name} ({encoder.family})",
                want="a CLIP, SigLIP or DINOv2",
            ) from error
        yield


def peak(norms: Float[Tensor, "b h w"]) -> float:
    """The largest norm of an image over its median norm, mean over images."""
    return float(relative_norms(norms).amax(dim=(1, 2)).mean())


def relative_norms(norms: Float[Tensor, "b h w"]) -> Float[Tensor, "b h w"]:
    """Norms over the median norm of their image."""
    return norms / median(norms.flatten(1))[:, None, None].clamp_min(1e-12)


def longer(norms: Float[Tensor, "b h w"], times: float) -> Bool[Tensor, "b h w"]:
    """Outliers that are longer than a multiple of the median norm of their image."""
    return statistics.outliers(norms) & (relative_norms(norms) > times)


def output_layers(encoder: VisionEncoder) -> list[nn.Linear]:
    """The output layer of the MLP of every block, whose input is what the neurons give.

    Args:
        encoder: of a family that gives its blocks.

    Returns:
        In each block the linear layer from more channels to the width of the tower.

    Raises:
        UsageError: a family that does not give its blocks, or a block without one such layer.
    """
    found = []
    for number, block in enumerate(_blocks(encoder), start=1):
        layers = [
            part for part in block.modules()
            if isinstance(part, nn.Linear) and part.out_features == encoder.width < part.in_features
        ]  # fmt: skip
        if len(layers) != 1:
            raise UsageError(
                "the MLP of this family is not found",
                got=f"{len(layers)} output layers in block {number} of {encoder.name}",
                want="one linear layer from more channels to the width of the tower",
            )
        found += layers
    return found


def pixels_of(encoder: VisionEncoder, images: Sequence[Any]) -> UInt8[Tensor, "b 3 height width"]:
    """Decoded images as the encoder takes them."""
    return stack([encoder.preprocess.to_bytes(image) for image in images])


def norms_of(
    encoder: VisionEncoder, pixels: UInt8[Tensor, "b 3 height width"], layers: Sequence[int]
) -> dict[int, Float[Tensor, "b h w"]]:
    """The norms of the patches in hidden states.

    Args:
        encoder: gives them.
        pixels: from `encoder.preprocess.to_bytes`.
        layers: numbers of hidden states.

    Returns:
        Layer -> norms on the CPU, at least 0.

    Raises:
        UsageError: an encoder without hidden states, or at native resolution.
    """
    parts: dict[int, list[Tensor]] = {layer: [] for layer in layers}
    for start in range(0, len(pixels), BATCH):
        features = encoder.encode_pixels(pixels[start : start + BATCH], layers=list(parts))
        for layer, tokens in features.layers.items():
            parts[layer].append(statistics.norms(tokens.unflatten(1, encoder.grid)).cpu().clone())
    return {layer: torch.cat(values) for layer, values in parts.items()}


class _Appended:
    """How many tokens the running forward pass had before one was added; None outside of one."""

    length: int | None = None


class _Means:
    """Sums of activations at outlier tokens and at other patches, by block."""

    def __init__(self, mask: Bool[Tensor, "b n"]) -> None:
        self.mask, self.rows = mask, slice(0)
        self.sums: dict[int, Tensor] = {}

    def add(self, block: int, special: int, values: Float[Tensor, "b t k"]) -> None:
        values = values[:, special:]
        mask = self.mask[self.rows].to(values.device)
        values = values.float()
        sums = torch.stack([values[mask].sum(dim=0), values[~mask].sum(dim=0)]).cpu()
        self.sums[block] = self.sums.get(block, 0) + sums

    def difference(self, block: int) -> Float[Tensor, " k"]:
        count = self.mask.sum(), (~self.mask).sum()
        at, other = self.sums[block]
        return at / count[0] - other / count[1].clamp_min(1)


@contextmanager
def _before(module: nn.Module, change: Any) -> Iterator[None]:
    """`change` of the input of a module; where it gives None the input stays."""

    def hook(_: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...] | None:
        changed = change(inputs[0])
        return None if changed is None else (changed, *inputs[1:])

    handle = module.register_forward_pre_hook(hook)
    try:
        yield
    finally:
        handle.remove()


def _blocks(encoder: VisionEncoder) -> Sequence[nn.Module]:
    blocks = encoder.blocks()
    if not blocks:
        raise UsageError(
            "this family takes no test-time register, as its blocks cannot be run one by one",
            got=f"{encoder.name} ({encoder.family})",
            want="a CLIP, SigLIP or DINOv2",
        )
    return blocks


def _contrast(
    pixels: UInt8[Tensor, "b 3 height width"], grid: tuple[int, int]
) -> Shaped[Tensor, "b h w"]:
    """Standard deviation of the pixels of every patch, mean over the colours."""
    h, w = grid
    height, width = pixels.shape[-2] // h, pixels.shape[-1] // w
    cut = pixels[..., : h * height, : w * width].float()
    patches = cut.unflatten(-2, (h, height)).unflatten(-1, (w, width))
    return patches.std(dim=(3, 5), correction=0).mean(dim=1)
