"""What fine-tuning needs of an encoder: its module, tensors that autograd takes, and a fingerprint
that follows the weights."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn


def ordinary(value: Any, device: str | torch.device | None = None) -> Any:
    """A tensor that a layer of one's own can train on: floats in fp32, no inference tensor.

    Args:
        value: a tensor, a mapping of tensors, or anything else, which is returned as it is.
        device: where tensors go; None leaves them where they are.
    """
    if isinstance(value, Mapping):
        return {key: ordinary(one, device) for key, one in value.items()}
    if not isinstance(value, Tensor):
        return value
    moved = value.to(device, torch.float32 if value.is_floating_point() else value.dtype)
    return moved.clone() if moved.is_inference() else moved


@contextlib.contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """Eval mode in this block for the parts of a network that are in training mode."""
    training = [part for part in network.modules() if part.training]
    for part in training:
        part.training = False
    try:
        yield
    finally:
        for part in training:
            part.training = True


class FineTunable:
    """An encoder whose weights may be trained; a subclass says which network holds them."""

    _checkpoint_fingerprint = ""
    # Whether somebody outside holds the weights, so that they may have changed.
    handed_out = False

    @property
    def _network(self) -> nn.Module:
        raise NotImplementedError

    @property
    def module(self) -> nn.Module:
        """The network, to train its parameters. From the first use on, `fingerprint` is a digest of
        the weights as they are, so that no stored feature of others is taken for theirs."""
        self.handed_out = True
        return self._network

    @property
    def fingerprint(self) -> str:
        """The checkpoint's fingerprint; a digest of the weights once `module` was used."""
        if not self.handed_out:
            return self._checkpoint_fingerprint
        digest = hashlib.blake2b(self._checkpoint_fingerprint.encode(), digest_size=12)
        for name, tensor in self._network.state_dict().items():
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
        """What the network makes of its input, for autograd."""
        raise NotImplementedError
