"""One door to every vision encoder: pictures in; patch tokens, CLS, pooled vector, layers and
attention out, whatever the family.

`families/` holds one adapter per family, chosen by the checkpoint's `model_type`, never its name.
Shapes: b batch, (h, w) grid of patches, n = h*w, d width of the tower, p width of the pooled
vector, t = special tokens + n.
"""

from __future__ import annotations

import contextlib
import importlib
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from encoderlab.data.decode import open_images
from encoderlab.encoders.checkpoint import TRAINING, Checkpoint, resolve
from encoderlab.encoders.compile import (
    TORCH,
    BackendTrial,
    CompiledImageSide,
    ImageSide,
    ran_in,
    select,
)
from encoderlab.encoders.families import adapter_of
from encoderlab.encoders.fine_tuning import FineTunable, evaluating, ordinary
from encoderlab.encoders.hardware import choose_device, choose_dtype, to_device
from encoderlab.encoders.layers import final_norms, layer_numbers
from encoderlab.encoders.load_spec import reloadable
from encoderlab.encoders.loading import (
    FirstRun,
    quiet_loading,
    read_config,
    require_finite,
)
from encoderlab.encoders.model_cache import shareable
from encoderlab.errors import UsageError
from encoderlab.models.clip import Preprocess
from encoderlab.models.preprocessing import read_preprocess

UNTRAINED = "untrained:"
CLASS_TOKEN = re.compile(r"\b(cls|class)_\w*(token|embedding)")
BATCH = 32


@dataclass(frozen=True)
class VisionFeatures:
    """What an encoder saw in a batch of images.

    Args:
        patches: (b, h*w, d) last hidden state of the patches in reading order, after the final norm
            where the family has one; neither CLS nor registers are among them.
        grid: (h, w).
        cls: (b, d), or None where the tower has none.
        pooled: (b, p), the one vector per image; see the adapter's docstring for which it is. Not
            normalised.
        projected: (b, h*w, d_llm) the patches at the width of the language model, where the
            checkpoint brings its projector (PaliGemma).
        layers: hidden states of the patches (b, h*w, d) by layer: 0 what enters the first block, k
            what leaves block k. No final norm.
        layers_special: the special tokens of the same layers (b, t - n, d), CLS first.
        attention: attention maps (b, heads, t, t) by block from 1, special tokens first.
    """

    patches: Tensor
    grid: tuple[int, int]
    cls: Tensor | None
    pooled: Tensor
    projected: Tensor | None = None
    layers: Mapping[int, Tensor] = field(default_factory=dict)
    layers_special: Mapping[int, Tensor] = field(default_factory=dict)
    attention: Mapping[int, Tensor] = field(default_factory=dict)

    @property
    def layers_cls(self) -> Mapping[int, Tensor]:
        """CLS of the layers that were asked for (b, d); empty where the tower has none."""
        layers = self.layers_special if self.cls is not None else {}
        return {k: special[:, 0] for k, special in layers.items()}

    def to(self, device: str | torch.device) -> VisionFeatures:
        """The same as ordinary fp32 tensors on another device."""
        return replace(
            self, **{f.name: ordinary(getattr(self, f.name), device) for f in fields(self)}
        )


@dataclass(frozen=True)
class TowerOutput:
    """What a tower gave, before special tokens are told from patches."""

    tokens: Tensor
    pooled: Tensor | None = None
    hidden: tuple[Tensor, ...] = ()
    attention: tuple[Tensor, ...] = ()


class VisionEncoder(FineTunable):
    """A vision tower behind the one face; an adapter says how its family differs.

    An adapter says how many tokens stand before the patches (`special_tokens`) and whether the
    first of them is CLS (`has_cls`), loads its tower in `load_tower`, and overrides `run_tower` or
    `pool` where the family needs it. `encoders.check` finds what it says wrong.

    Args:
        tower: the network, in eval mode.
        preprocess: what it expects of its pixels.
        checkpoint: where it came from.
    """

    # Whether the first special token is CLS.
    has_cls: bool = True
    # Whether the family takes another resolution than it was trained at.
    any_resolution: ClassVar[bool] = True
    # What a block takes beside its tokens when it is run by itself.
    block_arguments: ClassVar[dict[str, Any]] = {}

    def __init__(
        self,
        tower: Any,
        preprocess: Preprocess,
        checkpoint: Checkpoint,
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        self.tower = tower.eval().to(device, dtype)
        self.config: Any = self.tower.config
        self.preprocess, self.checkpoint = preprocess, checkpoint
        self.name, self.fingerprint = checkpoint.name, checkpoint.fingerprint
        self.family = checkpoint.family
        self.device, self.dtype = device, dtype
        # The compiled plain forward, where it is used, and the trial that chose it.
        self.backend: CompiledImageSide | None = None
        self.trial: BackendTrial | None = None
        self.patch_size = self._patch_size()
        height, width = preprocess.shape
        # Rounded down: SigLIP so400m cuts 384 pixels into 27 patches of 14 and leaves the rest.
        self.grid = height // self.patch_size, width // self.patch_size
        self.width = int(self.config.hidden_size)
        self.n_layers = int(self.config.num_hidden_layers)
        self._first_run = FirstRun(self.name)

    # -- what an adapter may say otherwise ------------------------------------------------------

    @classmethod
    def load_tower(cls, folder: Path, config: Any, trust_remote_code: bool) -> nn.Module:
        """The network from the files of `folder`, in fp32."""
        raise NotImplementedError

    @classmethod
    def vision_config(cls, config: Any) -> Any:
        """The tower's part of the checkpoint's configuration."""
        return getattr(config, "vision_config", config)

    @property
    def special_tokens(self) -> int:
        """How many tokens stand before the patches."""
        return 1 if self.has_cls else 0

    @property
    def pooled_width(self) -> int:
        """Width of the pooled vector."""
        return self.width

    def run_tower(self, pixels: Float[Tensor, "b 3 height width"], **wanted: bool) -> TowerOutput:
        """Runs the tower; `wanted` are transformers' output_hidden_states, output_attentions."""
        out = self.tower(pixel_values=pixels, **self._resizing(), **wanted)
        return TowerOutput(
            out.last_hidden_state,
            getattr(out, "pooler_output", None),
            tuple(getattr(out, "hidden_states", None) or ()),
            tuple(getattr(out, "attentions", None) or ()),
        )

    def pool(self, seen: TowerOutput, patches: Tensor) -> Tensor:
        """The one vector per image."""
        assert seen.pooled is not None
        return seen.pooled

    @staticmethod
    def mean_of(patches: Float[Tensor, "b n d"]) -> Float[Tensor, "b d"]:
        """The mean patch. 16 bits cannot hold the sum of many tokens, so it is taken in fp32."""
        return patches.mean(dim=1, dtype=torch.float32).to(patches.dtype)

    def project(self, patches: Tensor) -> Tensor | None:
        """The patches at the language model's width, where the checkpoint can."""
        return None

    def embed_patches(self, patches: Tensor) -> Tensor | None:
        """Each patch (b, n, d) alone in the space that the text tower shares, (b, n, p); None where
        the family has no text tower."""
        return None

    def final_norm(self, tokens: Tensor) -> Tensor | None:
        """What the tower does to the last block's output before anything reads it; None where the
        family has no norm there."""
        norm = getattr(self.tower, "layernorm", None) or getattr(self.tower, "norm", None)
        return None if norm is None else norm(tokens)

    def last_block(self) -> nn.Module | None:
        """The last transformer block of a tower that goes with a text tower, as transformers' CLIP
        and SigLIP build it; None otherwise."""
        return None

    def blocks(self) -> Sequence[nn.Module] | None:
        """The transformer blocks in order; None where a block cannot be run by itself."""
        return None

    def pool_tokens(self, tokens: Tensor) -> Tensor:
        """The pooled vector of what leaves the last block, special tokens with it."""
        raise NotImplementedError

    # -- what every adapter does alike ------------------------------------------------------------

    @property
    def where(self) -> tuple[str, str]:
        """Device and number format, as a run's record names them."""
        return str(self.device), str(self.dtype).removeprefix("torch.")

    @property
    def ran_in(self) -> str:
        """What features of the plain forward are known by: the number format, and the backend
        where it is not torch, whose last digits differ."""
        return ran_in(self.dtype, self.backend)

    @property
    def image_size(self) -> int:
        """The shorter side of the pixels that the tower takes."""
        return min(self.preprocess.shape)

    @torch.inference_mode()
    def encode_pixels(
        self,
        pixels: UInt8[Tensor, "b 3 height width"],
        *,
        layers: Sequence[int] = (),
        attention: Sequence[int] = (),
    ) -> VisionFeatures:
        """Features of images that `preprocess.to_bytes` has made, as fast as they come: tensors of
        inference mode in `dtype` on `device`. `encode` gives ordinary ones.

        Args:
            layers: which hidden states, 0 to `n_layers`; negative ones count from the end. -1 is
                what leaves the last block, before the final norm; `patches` are after it.
            attention: the attention maps of which blocks, 1 to `n_layers` or negative.

        Raises:
            UsageError: a layer that the tower does not have.
        """
        ready = self.preprocess.standardise(to_device(pixels, self.device))
        with evaluating(self.tower):
            return self._features(ready, layers, attention, self.backend)

    def pixel_values(self, images: Any) -> Float[Tensor, "b 3 height width"]:
        """The standardised pixels of images, on the encoder's device: what `forward` takes.

        Args:
            images: one image (path, PIL image, array or tensor) or a list of them.

        Returns:
            (b, 3, height, width) in fp32.

        Raises:
            UsageError: no image, or something that is no image.
            ImageError: a file that cannot be read.
        """
        return self.preprocess.standardise(to_device(self._bytes_of(images), self.device))

    def forward(
        self,
        pixel_values: Float[Tensor, "b 3 height width"],
        *,
        layers: Sequence[int] = (),
        attention: Sequence[int] = (),
    ) -> VisionFeatures:
        """Features through which gradients flow into the parameters of `module`.

        Args:
            pixel_values: standardised pixels, as `pixel_values` gives them.
            layers, attention: as of `encode`.

        Returns:
            Features in fp32, where the weights are; in the mode, training or eval, of `module`.

        Raises:
            UsageError: a layer or a block that the tower does not have.
        """
        weight = next(self.module.parameters())
        ready = pixel_values.to(weight.device, weight.dtype)
        return self._features(ready, layers, attention, None).to(weight.device)

    def _features(
        self,
        ready: Float[Tensor, "b 3 height width"],
        layers: Sequence[int],
        attention: Sequence[int],
        backend: CompiledImageSide | None,
    ) -> VisionFeatures:
        chosen = layer_numbers(layers, self.n_layers)
        blocks = layer_numbers(attention, self.n_layers, first=1)
        wanted = {}
        if chosen:
            wanted["output_hidden_states"] = True
        if blocks:
            wanted["output_attentions"] = True
        pooled = None
        if backend is not None and not wanted:
            tokens, pooled = backend(ready)
            seen = TowerOutput(tokens)
        else:
            eager = self.eager_attention() if blocks else contextlib.nullcontext()
            with self._first_run, eager, final_norms(self.tower, bool(chosen)) as norms:
                seen = self.run_tower(ready.to(next(self.tower.parameters()).dtype), **wanted)
            seen = replace(seen, hidden=norms.undone(seen.hidden))
        special = self.special_tokens
        self.require_grid(seen.tokens, special)
        patches = seen.tokens[:, special:]
        self._require(
            chosen,
            seen.hidden,
            "hidden states",
            len(seen.hidden) == self.n_layers + 1 and all(one.ndim == 3 for one in seen.hidden),
        )
        self._require(blocks, seen.attention, "attention maps", bool(seen.attention))
        return VisionFeatures(
            patches,
            self.grid,
            seen.tokens[:, 0] if self.has_cls else None,
            self.pool(seen, patches) if pooled is None else pooled,
            self.project(patches),
            {k: seen.hidden[k][:, special:] for k in chosen},
            {k: seen.hidden[k][:, :special] for k in chosen},
            {k: seen.attention[k - 1] for k in blocks},
        )

    def finish(self, tokens: Tensor, layer: int) -> Tensor:
        """The pooled vectors that come of hidden states put back at their layer.

        Args:
            tokens: (b, t, d), special tokens first, as hidden state `layer` is.
            layer: 0 to `n_layers`.

        Returns:
            (b, p) in fp32.

        Raises:
            UsageError: a family whose blocks cannot be run one by one.
        """
        blocks = self.blocks()
        if blocks is None:
            raise UsageError(
                "tokens cannot be put back into this family",
                got=f"{self.name} ({self.family})",
                want="a CLIP, SigLIP or DINOv2",
            )
        with torch.inference_mode(), evaluating(self.tower):
            tokens = tokens.to(self.device, self.dtype)
            for block in blocks[layer:]:
                out = block(tokens, **self.block_arguments)
                tokens = out[0] if isinstance(out, tuple) else out
            pooled = self.pool_tokens(tokens)
        return ordinary(pooled)

    def encode(
        self,
        images: Any,
        *,
        layers: Sequence[int] = (),
        attention: Sequence[int] = (),
    ) -> VisionFeatures:
        """Features of a few images, one batch, in eval mode and without gradients.

        Args:
            images: one image (path, PIL image, array or tensor) or a list of them.
            layers: which hidden states, 0 to `n_layers`; negative ones count from the end. -1 is
                what leaves the last block, before the final norm; `patches` are after it.
            attention: the attention maps of which blocks, 1 to `n_layers` or negative.

        Returns:
            Features as ordinary fp32 tensors on `device`, whatever `dtype` the encoder runs in.

        Raises:
            UsageError: no image, something that is no image, or a layer that the tower does not
                have.
            ImageError: a file that cannot be read.
        """
        pixels = self._bytes_of(images)
        return self.encode_pixels(pixels, layers=layers, attention=attention).to(self.device)

    def _bytes_of(self, images: Any) -> UInt8[Tensor, "b 3 height width"]:
        pictures = open_images(images)
        if not pictures:
            raise UsageError("no image to encode", got="an empty list", want="at least one")
        return stack([self.preprocess.to_bytes(picture) for picture in pictures])

    @property
    def _network(self) -> nn.Module:
        return self.tower

    def image_side(self) -> ImageSide:
        """The plain forward as one module: all tokens, and the pooled vector."""
        return ImageSide(
            self.tower,
            self._tokens_and_pooled,
            ("tokens", "pooled"),
            self.preprocess.shape,
            self.name,
            self.family,
        )

    def _tokens_and_pooled(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        seen = self.run_tower(pixels)
        return seen.tokens, self.pool(seen, seen.tokens[:, self.special_tokens :])

    def to(self, *, device: torch.device | None = None, dtype: torch.dtype | None = None) -> None:
        """Moves the tower; a backend, which was built for where it was, is let go."""
        self.backend = None
        self.device, self.dtype = device or self.device, dtype or self.dtype
        self.tower.to(self.device, self.dtype)

    def require_grid(self, tokens: Float[Tensor, "b t d"], special: int) -> None:
        """Refuses tokens that are not the special ones and one per patch.

        Raises:
            UsageError: naming both numbers.
        """
        if tokens.ndim != 3 or tokens.shape[1] - special != self.grid[0] * self.grid[1]:
            count = tokens.shape[1] if tokens.ndim == 3 else tuple(tokens.shape)
            raise UsageError(
                "the tower's tokens do not make its grid",
                got=f"{count} tokens, {special} of them special",
                want=f"{self.grid[0]} x {self.grid[1]} patches",
                hint=f"checkpoint: {self.name} ({self.family})",
            )

    def _require(self, asked: list[int], got: tuple[Tensor, ...], what: str, enough: bool) -> None:
        if asked and not enough:
            raise UsageError(
                f"this family does not give its {what} per block",
                got=f"{self.name} ({self.family})",
                want="features without them",
            )

    def _patch_size(self) -> int:
        size = getattr(self.config, "patch_size", None)
        size = size[0] if isinstance(size, list | tuple) else size
        if not size:
            raise UsageError(
                "the tower has no patches of one size, so it is no vision transformer",
                got=f"{self.name} ({self.family})",
                want="a ViT",
            )
        return int(size)

    def _resizing(self) -> dict[str, bool]:
        """Asks for interpolated positions where the resolution is not the tower's own."""
        return {}

    @contextlib.contextmanager
    def eager_attention(self) -> Iterator[None]:
        """Fused attention kernels keep no maps: the plain one does, for the time being."""
        before = self.config._attn_implementation
        self.tower.set_attn_implementation("eager")
        try:
            yield
        finally:
            self.tower.set_attn_implementation(before)


@reloadable
@shareable
def load_vision(
    name: str | Path,
    device: str | int | None = "auto",
    dtype: str = "auto",
    *,
    resolution: tuple[int, int] | int | None = None,
    trust_remote_code: bool = False,
    backend: str = TORCH,
    batch_size: int = BATCH,
) -> VisionEncoder:
    """The vision encoder called `name`: embedded, alias, training run, folder or hub id.

    `untrained:NAME` is the same architecture with fresh random weights, the same each time: what an
    encoder that has learned nothing gives.

    Args:
        resolution: (height, width) or one side in pixels, instead of the checkpoint's own; images
            are squashed to it and positions interpolated.
        trust_remote_code: whether Python that comes with the checkpoint may run.
        backend: what runs the plain forward: torch, compile, or auto: compile where it
            gives the same and is faster here. Layers and attention go through torch.
        batch_size: images at once, for which the forward is compiled.

    Raises:
        MissingError: nothing has that name, the hub cannot be reached, or the GPU or the
            compiler is not there.
        UsageError: no vision encoder, a damaged checkpoint, a resolution that the
            family does not take, or remote code that was not allowed.
        WorkError: the compiled forward does not give what torch gives.
    """
    if backend == TORCH:
        return _load(name, device, dtype, resolution, trust_remote_code)
    where = choose_device(device)
    return select(
        lambda: _load(name, str(where), "float32", resolution, trust_remote_code),
        backend,
        dtype,
        batch_size,
    )


def _load(
    name: str | Path,
    device: str | int | None,
    dtype: str,
    resolution: tuple[int, int] | int | None,
    trust_remote_code: bool,
) -> VisionEncoder:
    """`load_vision` on torch."""
    if str(name).startswith(UNTRAINED):
        trained = load_vision(
            str(name).removeprefix(UNTRAINED),
            device,
            dtype,
            resolution=resolution,
            trust_remote_code=trust_remote_code,
        )
        return untrained(trained)
    where = choose_device(device)
    checkpoint = resolve(name, code=trust_remote_code)
    size = (resolution, resolution) if isinstance(resolution, int) else resolution
    if checkpoint.family == TRAINING:
        if size is not None:
            raise UsageError(
                "a training run takes the resolution that it was trained at",
                got=f"resolution={resolution} for {name}",
                want="its export folder, as a Hugging Face checkpoint",
            )
        return _of_training_run(checkpoint, where, choose_dtype(dtype, where))
    folder = checkpoint.path
    adapter = _adapter(checkpoint.family)
    config = read_config(checkpoint, trust_remote_code)
    vision = adapter.vision_config(config)
    usual = image_processor(checkpoint.family)
    preprocess = read_preprocess(folder, usual, own_side(vision), size)
    if size is not None and not adapter.any_resolution:
        raise UsageError(
            "this family takes only the resolution it was trained at",
            got=f"resolution={resolution} for {name} ({checkpoint.family})",
            want=f"{own_side(vision)}",
        )
    kind = choose_dtype(dtype, where)
    with quiet_loading(name):
        tower = adapter.load_tower(folder, config, trust_remote_code)
        encoder = adapter(tower, preprocess, checkpoint, where, kind)
    require_finite(encoder.tower, checkpoint)
    if size is None and any(encoder._resizing().values()):
        raise UsageError(
            "the checkpoint's preprocessing does not give the size that its tower takes",
            got=f"{preprocess.shape[0]} x {preprocess.shape[1]} for {name}",
            want=f"{own_side(vision)} x {own_side(vision)}",
            hint="resolution=(height, width) interpolates the tower's positions",
        )
    patch = encoder.patch_size
    if size is not None and (size[0] % patch or size[1] % patch or min(size) < patch):
        raise UsageError(
            "the resolution is no multiple of the patch size",
            got=f"{size[0]} x {size[1]} with patches of {patch}",
            want=f"for example {_nearest(size[0], patch)} x {_nearest(size[1], patch)}",
        )
    # Some families run once to tell: a network that gives no such tokens is refused here.
    _ = encoder.special_tokens
    return encoder


def untrained(encoder: VisionEncoder, seed: int = 0) -> VisionEncoder:
    """The same architecture and preprocessing with fresh random weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        tower = type(encoder.tower)(encoder.config)
    before = encoder.checkpoint
    name = f"{UNTRAINED}{before.name}"
    copy = type(encoder)(
        tower, encoder.preprocess, replace(before, name=name), encoder.device, encoder.dtype
    )
    copy.fingerprint = f"untrained-{seed}-{before.fingerprint}"
    return copy


def names_class_token(tower: nn.Module) -> bool:
    """Whether a weight of the tower is called a class token, as every family calls its own."""
    return any(CLASS_TOKEN.search(name) for name, _ in tower.named_parameters())


def image_processor(family: str) -> str:
    """The image processor that transformers takes for a `model_type` whose files name none."""
    from transformers.models.auto.image_processing_auto import IMAGE_PROCESSOR_MAPPING_NAMES

    # A tower alone is prepared for as its family is; where none is known, as a ViT.
    names = IMAGE_PROCESSOR_MAPPING_NAMES.get(family.removesuffix("_vision_model"), {})
    return names.get("torchvision") or names.get("pil") or "ViTImageProcessor"


def own_side(config: Any) -> int | None:
    """The image size that a tower was trained at, if its configuration says so."""
    size = getattr(config, "image_size", None)
    if isinstance(size, list | tuple):
        size = size[0]
    return size or None


def stack(
    images: Sequence[UInt8[np.ndarray, "h w 3"]], device: torch.device | None = None
) -> UInt8[Tensor, "b 3 h w"]:
    """Bytes of single images as one batch, channels first; in memory that a GPU copies from by
    itself, where `device` is one."""
    if device is None or device.type != "cuda":
        return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)
    pinned = torch.empty((len(images), *images[0].shape), dtype=torch.uint8, pin_memory=True)
    np.stack(images, out=pinned.numpy())
    return pinned.permute(0, 3, 1, 2)


def _adapter(family: str) -> type[VisionEncoder]:
    module, _, name = adapter_of(family).partition(":")
    return getattr(importlib.import_module(module), name)


def _of_training_run(
    checkpoint: Checkpoint, device: torch.device, dtype: torch.dtype
) -> VisionEncoder:
    """A training checkpoint of ours, by way of a temporary Hugging Face folder."""
    from encoderlab.models import checkpoint as training
    from encoderlab.models.clip import CLIP

    model = training.load(checkpoint.path, CLIP)
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        from transformers import AutoConfig

        config = AutoConfig.from_pretrained(folder)
        adapter = _adapter(config.model_type)
        with quiet_loading(checkpoint.name):
            tower = adapter.load_tower(Path(folder), config, False)
    encoder = adapter(tower, model.preprocess, checkpoint, device, dtype)
    require_finite(encoder.tower, checkpoint)
    return encoder


def _nearest(pixels: int, patch: int) -> int:
    return max(1, round(pixels / patch)) * patch
