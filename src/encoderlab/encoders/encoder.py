"""The base of all encoders: name, device, number format, fingerprint and fine-tuning; the pixels of
an encoder with an image side. Knows no family and loads no model.
"""

from __future__ import annotations

import contextlib
import hashlib
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from encoderlab.data.decode import open_images
from encoderlab.encoders.checkpoint import Checkpoint
from encoderlab.encoders.hardware import to_device
from encoderlab.encoders.loading import FirstRun
from encoderlab.errors import UsageError
from encoderlab.models.clip import Preprocess
from encoderlab.models.native_resolution import NativePreprocess

Run = Callable[[Tensor], tuple[Tensor, ...]]


def ordinary(value: Any, device: str | torch.device | None = None) -> Any:
    """A tensor that other layers can train on: floats in fp32, no inference tensor.

    Args:
        value: a tensor, a mapping of tensors, or anything else.
        device: where tensors go; None leaves them where they are.

    Returns:
        The same value or mapping; what is no tensor is unchanged.
    """
    if isinstance(value, Mapping):
        return {key: ordinary(entry, device) for key, entry in value.items()}
    if not isinstance(value, Tensor):
        return value
    moved = value.to(device, torch.float32 if value.is_floating_point() else value.dtype)
    return moved.clone() if moved.is_inference() else moved


def each(change: Callable[[Tensor], Tensor], pixels: Any) -> Any:
    """`change` of a batch of images; of each image, where they have sizes of their own."""
    return change(pixels) if isinstance(pixels, Tensor) else [change(image) for image in pixels]


@contextlib.contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """Puts the parts of a network that are in training mode into eval mode for this block."""
    training = [part for part in network.modules() if part.training]
    for part in training:
        part.training = False
    try:
        yield
    finally:
        for part in training:
            part.training = True


def stack(
    images: Sequence[UInt8[np.ndarray, "h w 3"]], device: torch.device | None = None
) -> UInt8[Tensor, "b 3 h w"]:
    """Single images as one batch, channels first.

    Args:
        images: bytes of images of one size.
        device: where the batch goes next.

    Returns:
        Bytes (b, 3, h, w), in pinned memory if they go to a GPU.
    """
    if device is None or device.type != "cuda":
        return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)
    pinned = torch.empty((len(images), *images[0].shape), dtype=torch.uint8, pin_memory=True)
    np.stack(images, out=pinned.numpy())
    return pinned.permute(0, 3, 1, 2)


class Encoder:
    """A loaded network with an image side, a text side or both. Its weights may be trained.

    Args:
        network: holds the weights, in eval mode.
        checkpoint: where it came from.
        device: where it runs.
        dtype: the number format it runs in.
    """

    # Whether the caller has the weights, so that they may have changed.
    handed_out = False

    def __init__(
        self, network: Any, checkpoint: Checkpoint, device: torch.device, dtype: torch.dtype
    ) -> None:
        self.model, self.checkpoint = network, checkpoint
        self.name, self.family = checkpoint.name, checkpoint.family
        self.fingerprint = checkpoint.fingerprint
        self.device, self.dtype = device, dtype
        self._first_run = FirstRun(self.name)

    @property
    def where(self) -> tuple[str, str]:
        """Device and number format, as a run's record names them."""
        return str(self.device), str(self.dtype).removeprefix("torch.")

    @property
    def ran_in(self) -> str:
        """The part of a stored feature's key that names the number format: `bfloat16`."""
        return self.where[1]

    @property
    def module(self) -> nn.Module:
        """The network, to train its parameters. From the first use on, `fingerprint` is a digest of
        the current weights, so that no feature stored before is taken for theirs."""
        self.handed_out = True
        return self.model

    @property
    def fingerprint(self) -> str:
        """The checkpoint's fingerprint; a digest of the weights once `module` was used."""
        if not self.handed_out:
            return self._checkpoint_fingerprint
        digest = hashlib.blake2b(self._checkpoint_fingerprint.encode(), digest_size=12)
        for name, tensor in self.model.state_dict().items():
            digest.update(name.encode())
            content = tensor.detach().cpu().contiguous().flatten()
            digest.update(content.view(torch.uint8).numpy().data)
        return digest.hexdigest()

    @fingerprint.setter
    def fingerprint(self, value: str) -> None:
        self._checkpoint_fingerprint = value

    def __call__(self, *args: Any, **options: Any) -> Any:
        """`forward`."""
        return self.forward(*args, **options)

    def forward(self, *args: Any, **options: Any) -> Any:
        """The output of the network, for autograd."""
        raise NotImplementedError


class ImageSide(nn.Module):
    """The plain forward of an encoder as one module: standardised pixels in, tensors out.

    The last output is the vector of each image (b, p); before it, where the encoder has them, all
    tokens (b, n, d).

    Args:
        network: holds the weights.
        run: pixels to outputs, through `network`.
    """

    def __init__(self, network: nn.Module, run: Run) -> None:
        super().__init__()
        self.network, self.run = network, run

    def forward(self, pixels: Float[Tensor, "b 3 h w"]) -> tuple[Tensor, ...]:
        """The outputs of `run`."""
        return self.run(pixels)


class CompiledImageSide:
    """An image side compiled for one batch size. It takes any number of images: more are split, and
    a short last part is padded with black images, whose rows are dropped.

    Out of memory halves the batch size, as a caller that retries with half a batch expects.

    Args:
        run: takes `batch` images in `dtype`.
        dtype: the number format of pixels and outputs.
        batch: images at once.
    """

    name = "compile"

    def __init__(self, run: Run, dtype: torch.dtype, batch: int) -> None:
        self.run, self.dtype, self.batch = run, dtype, batch
        # Encoders serve several threads; a CUDA graph serves one.
        self._lock = threading.Lock()

    def __call__(self, pixels: Float[Tensor, "b 3 h w"]) -> tuple[Tensor, ...]:
        """The outputs for any number of images, computed in batches of the compiled size."""
        with self._lock:
            parts = [self._run_padded(part) for part in pixels.to(self.dtype).split(self.batch)]
        return tuple(torch.cat(output) for output in zip(*parts, strict=True))

    def _run_padded(self, pixels: Tensor) -> tuple[Tensor, ...]:
        count = len(pixels)
        if count < self.batch:
            black = pixels.new_zeros((self.batch - count, *pixels.shape[1:]))
            pixels = torch.cat([pixels, black])
        try:
            outputs = self.run(pixels.contiguous())
        except (torch.OutOfMemoryError, MemoryError):
            self.batch = max(1, self.batch // 2)
            raise
        return tuple(output[:count].to(self.dtype) for output in outputs)


class ImageEncoder(Encoder):
    """An encoder with an image side.

    Args:
        network, checkpoint, device, dtype: as of `Encoder`.
        preprocess: turns images into the pixels that the network expects.
    """

    def __init__(
        self,
        network: Any,
        checkpoint: Checkpoint,
        device: torch.device,
        dtype: torch.dtype,
        preprocess: Preprocess,
    ) -> None:
        super().__init__(network, checkpoint, device, dtype)
        self.preprocess = preprocess
        # The compiled plain forward, if it is used, and the `BackendTrial` that chose it.
        self.backend: CompiledImageSide | None = None
        self.trial: Any = None

    @property
    def ran_in(self) -> str:
        """The part of a stored feature's key that names the number format and the backend, where it
        is not torch: `bfloat16+compile`."""
        return self.where[1] + (f"+{self.backend.name}" if self.backend else "")

    @property
    def image_size(self) -> int:
        """The shorter side of the pixels that the network takes."""
        return min(self.preprocess.shape)

    def image_side(self) -> ImageSide:
        """The plain forward as one module, in the encoder's number format."""
        raise NotImplementedError

    def to(self, *, device: torch.device | None = None, dtype: torch.dtype | None = None) -> None:
        """Moves the network. The compiled forward, made for the old device and format, is dropped.

        Args:
            device: None keeps it.
            dtype: None keeps it.
        """
        self.backend = None
        self.device, self.dtype = device or self.device, dtype or self.dtype
        self.model.to(self.device, self.dtype)

    def pixel_values(
        self, images: Any
    ) -> Float[Tensor, "b 3 height width"] | list[Float[Tensor, "3 _ _"]]:
        """The standardised pixels of images, on the encoder's device: what `forward` takes.

        Args:
            images: one image (path, PIL image, array or tensor) or a list of them.

        Returns:
            (b, 3, height, width) in fp32; one (3, height, width) per image at native resolution.

        Raises:
            UsageError: no image, or something that is no image.
            ImageError: a file that cannot be read.
        """
        return self._standardised(self._bytes_of(images))

    def _bytes_of(self, images: Any) -> Any:
        pictures = open_images(images)
        if not pictures:
            raise UsageError("no image to encode", got="an empty list", want="at least one")
        arrays = [self.preprocess.to_bytes(picture) for picture in pictures]
        if isinstance(self.preprocess, NativePreprocess):
            return [stack([array])[0] for array in arrays]
        return stack(arrays)

    def _standardised(self, pixels: Any) -> Any:
        return each(lambda part: self.preprocess.standardise(to_device(part, self.device)), pixels)
