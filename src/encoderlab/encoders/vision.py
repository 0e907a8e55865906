"""Vision encoders: images in; patch tokens, CLS, pooled vector, layers and attention out.

`families/` holds one adapter per family, chosen by the checkpoint's `model_type`, never its name.

Shapes: b batch, (h, w) grid of patches, n = h*w, d width of the tower, p width of the pooled
vector, t = special tokens + n.
"""

from __future__ import annotations

import contextlib
import math
import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor, nn

from encoderlab.core.aliases import UNTRAINED
from encoderlab.core.commands import load
from encoderlab.encoders.checkpoint import TRAINING, Checkpoint, resolve
from encoderlab.encoders.compile import TORCH, select
from encoderlab.encoders.encoder import (
    CompiledImageSide,
    ImageEncoder,
    ImageSide,
    each,
    evaluating,
    ordinary,
)
from encoderlab.encoders.encoder import stack as stack
from encoderlab.encoders.families import adapter_of
from encoderlab.encoders.hardware import choose_device, choose_dtype
from encoderlab.encoders.layers import eager_attention, final_norms, layer_numbers
from encoderlab.encoders.load_spec import reloadable
from encoderlab.encoders.loading import quiet_loading, read_config, require_finite
from encoderlab.encoders.model_cache import shareable
from encoderlab.errors import UsageError
from encoderlab.models.clip import Preprocess
from encoderlab.models.native_resolution import NATIVE, Cells
from encoderlab.models.preprocessing import read_preprocess

CLASS_TOKEN = re.compile(r"\b(cls|class)_\w*(token|embedding)")
BATCH = 32


@dataclass(frozen=True)
class VisionFeatures:
    """Features of a batch of images.

    At native resolution images have grids of their own: n is the number of patches of the largest,
    and what a smaller image lacks is zero and False in `mask`. Otherwise all have one `grid`.

    Args:
        patches: (b, n, d) last hidden state of the patches in reading order, after the final norm
            where the family has one; neither CLS nor registers are among them.
        grids: (h, w) of each image.
        cls: (b, d), or None where the tower has none.
        pooled: (b, p), the one vector per image, not normalised; the adapter's docstring says
            which.
        projected: (b, n / merge**2, d_llm) the patches as the language model gets them, in reading
            order of `projected_grids`, where the checkpoint brings its projector.
        layers: hidden states of the patches (b, n, d) by layer: 0 what enters the first block, k
            what leaves block k. No final norm.
        layers_special: the special tokens of the same layers (b, t - n, d), CLS first.
        attention: attention maps (b, heads, t, t) by block from 1, special tokens first.
        merge: the projector makes one token of a square of merge x merge patches.
    """

    patches: Tensor
    grids: tuple[tuple[int, int], ...]
    cls: Tensor | None
    pooled: Tensor
    projected: Tensor | None = None
    layers: Mapping[int, Tensor] = field(default_factory=dict)
    layers_special: Mapping[int, Tensor] = field(default_factory=dict)
    attention: Mapping[int, Tensor] = field(default_factory=dict)
    merge: int = 1

    @property
    def grid(self) -> tuple[int, int]:
        """(h, w), where all images have the same.

        Raises:
            UsageError: the images have grids of their own.
        """
        if len(set(self.grids)) != 1:
            raise UsageError(
                "the images have different grids",
                got=", ".join(f"{h} x {w}" for h, w in self.grids[:5]),
                want="grids and mask, or an encoder that is not at native resolution",
            )
        return self.grids[0]

    @property
    def mask(self) -> Tensor:
        """(b, n), True at patches and False at padding."""
        return mask_of(self.grids, self.patches.device)

    @property
    def projected_grids(self) -> tuple[tuple[int, int], ...]:
        """(h, w) of the projected tokens of each image."""
        return tuple((h // self.merge, w // self.merge) for h, w in self.grids)

    @property
    def projected_mask(self) -> Tensor:
        """(b, n / merge**2), True at projected tokens and False at padding."""
        return mask_of(self.projected_grids, self.patches.device)

    @property
    def layers_cls(self) -> Mapping[int, Tensor]:
        """CLS of the requested layers (b, d); empty where the tower has none."""
        layers = self.layers_special if self.cls is not None else {}
        return {k: special[:, 0] for k, special in layers.items()}

    def to(self, device: str | torch.device) -> VisionFeatures:
        """Moves features to a device.

        Args:
            device: of the new tensors.

        Returns:
            The same features as ordinary fp32 tensors.
        """
        return replace(
            self, **{f.name: ordinary(getattr(self, f.name), device) for f in fields(self)}
        )


def mask_of(grids: Sequence[tuple[int, int]], device: torch.device | str) -> Bool[Tensor, "b n"]:
    """True at the tokens of grids (h, w) that are padded to the longest."""
    counts = [h * w for h, w in grids]
    return torch.arange(max(counts), device=device) < torch.tensor(counts, device=device)[:, None]


@dataclass(frozen=True)
class TowerOutput:
    """The output of a tower, special tokens and patches together."""

    tokens: Tensor
    pooled: Tensor | None = None
    hidden: tuple[Tensor, ...] = ()
    attention: tuple[Tensor, ...] = ()

    @classmethod
    def of(cls, output: Any) -> TowerOutput:
        """From an output of transformers."""
        return cls(
            output.last_hidden_state,
            getattr(output, "image_embeds", getattr(output, "pooler_output", None)),
            tuple(getattr(output, "hidden_states", None) or ()),
            tuple(getattr(output, "attentions", None) or ()),
        )


class VisionEncoder(ImageEncoder):
    """A vision tower behind one interface; an adapter says how its family differs.

    An adapter says how many tokens stand before the patches (`special_tokens`) and whether the
    first of them is CLS (`has_cls`), loads its tower in `load_tower`, and overrides `run_tower` or
    `pool` where the family needs it. `encoders.check` finds errors in what it says.

    Args:
        tower: the network, in eval mode.
        preprocess: turns images into the pixels that the tower expects.
        checkpoint: where it came from.
        device: where it runs.
        dtype: the number format it runs in.
    """

    # Whether the first special token is CLS.
    has_cls: bool = True
    # Whether the family takes another resolution than it was trained at.
    any_resolution: ClassVar[bool] = True
    # The projector makes one token of a square of merge x merge patches.
    merge: int = 1
    # Whether layer 0 holds one token per patch that depends on this patch alone; not so in CNNs and
    # hierarchical towers, which give no layers.
    local_patches: ClassVar[bool] = True
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
        super().__init__(tower.eval().to(device, dtype), checkpoint, device, dtype, preprocess)
        self.config: Any = tower.config
        self.patch_size, self.width, self.n_layers = self._geometry()

    @property
    def tower(self) -> Any:
        """The network."""
        return self.model

    @property
    def grid(self) -> tuple[int, int]:
        """(h, w) of all images.

        Raises:
            UsageError: at native resolution, where each has its own.
        """
        height, width = self.preprocess.shape
        # Rounded down: SigLIP so400m cuts 384 pixels into 27 patches of 14 and leaves the rest.
        return height // self.patch_size, width // self.patch_size

    # -- what an adapter may override -----------------------------------------------------------

    @classmethod
    def load_tower(cls, folder: Path, config: Any, trust_remote_code: bool) -> nn.Module:
        """The network from the files of `folder`, in fp32."""
        raise NotImplementedError

    @classmethod
    def vision_config(cls, config: Any) -> Any:
        """The tower's part of the checkpoint's configuration."""
        return getattr(config, "vision_config", config)

    @classmethod
    def own_side(cls, config: Any) -> int | None:
        """The side of the images that the tower was made for, if its configuration says so."""
        size = getattr(cls.vision_config(config), "image_size", None)
        return (size[0] if isinstance(size, list | tuple) else size) or None

    @classmethod
    def cells(cls, config: Any) -> Cells | None:
        """What the sides of images are multiples of; None without a native resolution."""
        return None

    @property
    def special_tokens(self) -> int:
        """How many tokens stand before the patches."""
        return 1 if self.has_cls else 0

    @property
    def pooled_width(self) -> int:
        """Width of the pooled vector."""
        return self.width

    def run_tower(self, pixels: Float[Tensor, "b 3 height width"], **outputs: bool) -> TowerOutput:
        """Runs the tower; `outputs` are transformers' output_hidden_states, output_attentions."""
        return TowerOutput.of(self.tower(pixel_values=pixels, **self._resizing(), **outputs))

    def pool(self, output: TowerOutput, patches: Tensor) -> Tensor:
        """The one vector per image: the tower's own; the mean patch where it gives none."""
        return self.mean_of(patches) if output.pooled is None else output.pooled

    @staticmethod
    def mean_of(patches: Float[Tensor, "b n d"]) -> Float[Tensor, "b d"]:
        """The mean patch, summed in fp32: 16 bits cannot hold the sum of many tokens."""
        return patches.mean(dim=1, dtype=torch.float32).to(patches.dtype)

    def project(
        self, patches: Float[Tensor, "b n d"], grids: Sequence[tuple[int, int]]
    ) -> Float[Tensor, "b m d_llm"] | None:
        """The patches as the language model gets them, where the checkpoint has a projector."""
        return None

    def grids_of(self, pixels: Tensor | Sequence[Tensor]) -> tuple[tuple[int, int], ...]:
        """(h, w) of each of these images: a batch of one size, or images of their own sizes."""
        if isinstance(pixels, Tensor):
            return (self.grid,) * len(pixels)
        p = self.patch_size
        return tuple((image.shape[-2] // p, image.shape[-1] // p) for image in pixels)

    def new_tower(self) -> nn.Module:
        """A network of the same architecture with random weights."""
        return type(self.tower)(self.config)

    def embed_patches(self, patches: Tensor) -> Tensor | None:
        """Each patch (b, n, d) alone in the space of the text tower, (b, n, p), if there is one."""
        return None

    def final_norm(self, tokens: Tensor) -> Tensor | None:
        """The norm that the tower applies to the last block's output; None where it has none."""
        norm = getattr(self.tower, "layernorm", None) or getattr(self.tower, "norm", None)
        return None if norm is None else norm(tokens)

    def last_block(self) -> nn.Module | None:
        """The last block of a tower with a text tower, as CLIP and SigLIP build it; else None."""
        return None

    def blocks(self) -> Sequence[nn.Module] | None:
        """The transformer blocks in order; None where a block cannot be run by itself."""
        return None

    def attention_module(self, layer: int) -> Any | None:
        """The attention layer of the block that gives a hidden state.

        Args:
            layer: number of the hidden state, from 0.

        Returns:
            The layer, with `q_proj`, `k_proj` and `head_dim`; None where a family does not give its
            blocks, and for layer 0, which no block gives.
        """
        blocks = self.blocks()
        if blocks is None or layer < 1:
            return None
        names = ("q_proj", "k_proj", "head_dim")
        parts = blocks[layer - 1].modules()
        return next((part for part in parts if all(hasattr(part, n) for n in names)), None)

    def pool_tokens(self, tokens: Tensor) -> Tensor:
        """The pooled vector of the last block's output, special tokens included."""
        raise NotImplementedError

    # -- what all adapters share ------------------------------------------------------------------

    @torch.inference_mode()
    def encode_pixels(
        self,
        pixels: UInt8[Tensor, "b 3 height width"] | Sequence[UInt8[Tensor, "3 _ _"]],
        *,
        layers: Sequence[int] = (),
        attention: Sequence[int] = (),
    ) -> VisionFeatures:
        """Features as inference-mode tensors; `encode` gives ordinary ones, and is slower.

        Args:
            pixels: bytes of images, as `preprocess.to_bytes` gives them; a list of images at native
                resolution.
            layers: as of `encode`.
            attention: as of `encode`.

        Returns:
            Features in `dtype` on `device`.

        Raises:
            UsageError: a layer that the tower does not have.
        """
        ready = self._standardised(pixels)
        with evaluating(self.tower), self._first_run:
            return self._features(ready, layers, attention, self.backend)

    def forward(
        self,
        pixel_values: Float[Tensor, "b 3 height width"] | Sequence[Float[Tensor, "3 _ _"]],
        *,
        layers: Sequence[int] = (),
        attention: Sequence[int] = (),
    ) -> VisionFeatures:
        """Features through which gradients flow into the parameters of `module`.

        Args:
            pixel_values: standardised pixels, as `pixel_values` gives them.
            layers: as of `encode`.
            attention: as of `encode`.

        Returns:
            Features in fp32, where the weights are; in the mode, training or eval, of `module`.

        Raises:
            UsageError: a layer or a block that the tower does not have.
        """
        weight = next(self.module.parameters())
        ready = each(lambda pixels: pixels.to(weight.device, weight.dtype), pixel_values)
        with self._first_run:
            return self._features(ready, layers, attention, None).to(weight.device)

    def _features(
        self,
        ready: Any,
        layers: Sequence[int],
        attention: Sequence[int],
        backend: CompiledImageSide | None,
    ) -> VisionFeatures:
        chosen = layer_numbers(layers, self.n_layers)
        blocks = layer_numbers(attention, self.n_layers, first=1)
        outputs = {}
        if chosen:
            outputs["output_hidden_states"] = True
        if blocks:
            outputs["output_attentions"] = True
        pooled = None
        if backend is not None and not outputs:
            tokens, pooled = backend(ready)
            output = TowerOutput(tokens)
        else:
            eager = self.eager_attention() if blocks else contextlib.nullcontext()
            with eager, final_norms(self.tower, bool(chosen)) as norms:
                dtype = next(self.tower.parameters()).dtype
                output = self.run_tower(each(lambda pixels: pixels.to(dtype), ready), **outputs)
            output = replace(output, hidden=norms.undone(output.hidden))
        special, hidden = self.special_tokens, output.hidden
        grids = self.grids_of(ready)
        self.require_grid(output.tokens, special, max(grids, key=math.prod))
        has_hidden = len(hidden) == self.n_layers + 1 and all(h.ndim == 3 for h in hidden)
        for requested, is_given, what in (
            (chosen, has_hidden, "hidden states"),
            (blocks, bool(output.attention), "attention maps"),
        ):
            if requested and not is_given:
                raise UsageError(
                    f"this family does not give its {what} per block",
                    got=f"{self.name} ({self.family})",
                    want="a family that does, such as a ViT (CLIP, SigLIP, DINOv2)",
                )
        patches = output.tokens[:, special:]
        return VisionFeatures(
            patches,
            grids,
            output.tokens[:, 0] if self.has_cls else None,
            self.pool(output, patches) if pooled is None else pooled,
            self.project(patches, grids),
            {k: hidden[k][:, special:] for k in chosen},
            {k: hidden[k][:, :special] for k in chosen},
            {k: output.attention[k - 1] for k in blocks},
            self.merge,
        )

    def finish(self, tokens: Tensor, layer: int) -> Tensor:
        """The pooled vectors of hidden states: runs the blocks behind their layer.

        Args:
            tokens: (b, t, d), special tokens first, in the form of hidden state `layer`.
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
            UsageError: no image, something that is no image, or an unknown layer.
            ImageError: a file that cannot be read.
        """
        pixels = self._bytes_of(images)
        return self.encode_pixels(pixels, layers=layers, attention=attention).to(self.device)

    def image_side(self) -> ImageSide:
        """The plain forward as one module: all tokens, and the pooled vector."""
        return ImageSide(self.tower, self._tokens_and_pooled)

    def _tokens_and_pooled(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        output = self.run_tower(pixels)
        return output.tokens, self.pool(output, output.tokens[:, self.special_tokens :])

    def require_grid(
        self,
        tokens: Float[Tensor, "b t d"],
        special: int,
        grid: tuple[int, int] | None = None,
    ) -> None:
        """Refuses tokens that are not the special tokens and one per patch of `grid`; None: of the
        encoder's own.

        Raises:
            UsageError: naming both numbers.
        """
        h, w = grid or self.grid
        if tokens.ndim != 3 or tokens.shape[1] - special != h * w:
            count = tokens.shape[1] if tokens.ndim == 3 else tuple(tokens.shape)
            raise UsageError(
                "the tower's tokens do not make its grid",
                got=f"{count} tokens, {special} of them special",
                want=f"{h} x {w} patches",
                hint=f"checkpoint: {self.name} ({self.family})",
            )

    def _geometry(self) -> tuple[int, int, int]:
        """Side of a patch in pixels, width d and number of layers."""
        layers = getattr(self.config, "num_hidden_layers", None) or len(self.config.depths)
        return self._patch_size(), int(self.config.hidden_size), int(layers)

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
        """The tower's argument for interpolated positions, if the resolution is not its own."""
        return {}

    def eager_attention(self) -> contextlib.AbstractContextManager[None]:
        """Plain attention in the block of this context manager: fused kernels keep no maps."""
        return eager_attention(self.tower, self.config)


@reloadable
@shareable
def load_vision(
    name: str | Path,
    device: str | int | None = "auto",
    dtype: str = "auto",
    *,
    resolution: tuple[int, int] | int | str | None = None,
    trust_remote_code: bool = False,
    backend: str = TORCH,
    batch_size: int = BATCH,
) -> VisionEncoder:
    """The vision encoder called `name`.

    Args:
        name: bundled model, alias, training run, folder or hub id. `untrained:NAME` is the same
            architecture with random weights, the same each time.
        device: auto, cpu, cuda or cuda:N.
        dtype: auto, float32, bfloat16 or float16.
        resolution: (height, width) or one side in pixels, instead of the checkpoint's own; images
            are squashed to it and positions interpolated. "native" keeps the aspect ratio of each
            image by the rule of the family's image processor; features are padded to the largest.
        trust_remote_code: whether Python that comes with the checkpoint may run.
        backend: what runs the plain forward: torch, compile, or auto: compile where it gives the
            same and is faster here. Layers and attention always go through torch.
        batch_size: images at once, for which the forward is compiled.

    Returns:
        The encoder, in eval mode.

    Raises:
        MissingError: nothing has that name, the hub cannot be reached, or the GPU or the compiler
            is missing.
        UsageError: no vision encoder, a damaged checkpoint, a resolution that the family does not
            take, or remote code that was not allowed.
        WorkError: the compiled forward differs from torch.
    """
    if resolution == NATIVE and backend != TORCH:
        raise UsageError(
            "a compiled forward takes images of one grid",
            got=f"backend={backend!r} with resolution={NATIVE!r}",
            want=f"backend={TORCH!r}",
        )
    return select(
        lambda device, dtype: _load(name, device, dtype, resolution, trust_remote_code),
        backend,
        device,
        dtype,
        batch_size,
    )


def _load(
    name: str | Path,
    device: str | int | None,
    dtype: str,
    resolution: tuple[int, int] | int | str | None,
    trust_remote_code: bool,
) -> VisionEncoder:
    if str(name).startswith(UNTRAINED):
        trained = str(name).removeprefix(UNTRAINED)
        return untrained(_load(trained, device, dtype, resolution, trust_remote_code))
    where = choose_device(device)
    checkpoint = resolve(name, code=trust_remote_code)
    size = (resolution, resolution) if isinstance(resolution, int) else resolution
    if isinstance(size, str) and size != NATIVE:
        raise UsageError("unknown resolution", got=size, want=f"{NATIVE}, or (height, width)")
    if checkpoint.family == TRAINING:
        if size is not None:
            raise UsageError(
                "a training run takes the resolution that it was trained at",
                got=f"resolution={resolution} for {name}",
                want="its export folder, as a Hugging Face checkpoint",
            )
        return _of_training_run(checkpoint, where, choose_dtype(dtype, where))
    adapter = _adapter(checkpoint.family)
    config = read_config(checkpoint, trust_remote_code)
    if getattr(config, "vision_config", config) is None:
        raise UsageError(
            "the checkpoint has no vision tower",
            got=f"{name} ({checkpoint.family})",
            want="a configuration with vision_config",
            hint="its language side is read by load_text",
        )
    own = adapter.own_side(config)
    processor = _image_processor(checkpoint.family)
    preprocess = read_preprocess(checkpoint.path, processor, own, size, adapter.cells(config))
    if size not in (None, (own, own)) and not adapter.any_resolution:
        raise UsageError(
            "this family takes only the resolution it was trained at",
            got=f"resolution={resolution} for {name} ({checkpoint.family})",
            want=f"{own}",
        )
    kind = choose_dtype(dtype, where)
    with quiet_loading(name):
        tower = adapter.load_tower(checkpoint.path, config, trust_remote_code)
        encoder = adapter(tower, preprocess, checkpoint, where, kind)
    require_finite(encoder.tower, checkpoint)
    if size is None and any(encoder._resizing().values()):
        raise UsageError(
            "the checkpoint's preprocessing does not give the size that its tower takes",
            got=f"{preprocess.shape[0]} x {preprocess.shape[1]} for {name}",
            want=f"{own} x {own}",
            hint="resolution=(height, width) interpolates the tower's positions",
        )
    cell = encoder.patch_size * encoder.merge
    if isinstance(size, tuple) and (size[0] % cell or size[1] % cell or min(size) < cell):
        near = [max(1, round(side / cell)) * cell for side in size]
        raise UsageError(
            "the resolution is no multiple of the patch size"
            + (f" times {encoder.merge}, which are merged" if encoder.merge > 1 else ""),
            got=f"{size[0]} x {size[1]} with patches of {encoder.patch_size}",
            want=f"for example {near[0]} x {near[1]}",
        )
    # Some families run once to find them: a network without such tokens is refused here.
    _ = encoder.special_tokens
    return encoder


def untrained(encoder: VisionEncoder, seed: int = 0) -> VisionEncoder:
    """The same architecture and preprocessing with random weights.

    Args:
        encoder: gives the architecture; it is not changed.
        seed: of the weights.

    Returns:
        A new encoder, called `untrained:NAME`.

    Raises:
        UsageError: a tower that is more than its configuration says, such as one with a projection.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            tower = encoder.new_tower()
        except TypeError as error:
            raise UsageError(
                "this family has no untrained copy",
                got=f"{encoder.name} ({encoder.family})",
                want="a tower that is built from its configuration alone",
            ) from error
    before = encoder.checkpoint
    name = f"{UNTRAINED}{before.name}"
    copy = type(encoder)(
        tower, encoder.preprocess, replace(before, name=name), encoder.device, encoder.dtype
    )
    copy.fingerprint = f"untrained-{seed}-{before.fingerprint}"
    return copy


def names_class_token(tower: nn.Module) -> bool:
    """Whether a weight of the tower is named a class token, as in every family that has one."""
    return any(CLASS_TOKEN.search(name) for name, _ in tower.named_parameters())


def _image_processor(family: str) -> str:
    """transformers' image processor for a `model_type` whose files name none."""
    from transformers.models.auto.image_processing_auto import IMAGE_PROCESSOR_MAPPING_NAMES

    # A tower alone takes that of its family; an unknown family takes ViT's.
    names = IMAGE_PROCESSOR_MAPPING_NAMES.get(family.removesuffix("_vision_model"), {})
    return names.get("torchvision") or names.get("pil") or "ViTImageProcessor"


def _adapter(family: str) -> type[VisionEncoder]:
    return load(adapter_of(family))


def _of_training_run(
    checkpoint: Checkpoint, device: torch.device, dtype: torch.dtype
) -> VisionEncoder:
    """A training checkpoint of our own, through a temporary Hugging Face folder."""
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
