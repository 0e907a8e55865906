"""VLMs whose images have grids of their own: compressed where they enter the language model.

`get_image_features` of the model, which its forward pass and `generate` call, gives the kept
tokens: no module of these models gets the tokens of an image alone, so a hook cannot change them.
"""

from __future__ import annotations

import functools
import inspect
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

from jaxtyping import Float
from torch import Tensor

from encoderlab.compression.hooks.base import HookedModel, Piece, Replaced
from encoderlab.patch_tokens.reducer import SideInputs


class EncodedVision(HookedModel):
    """A VLM with another grid for each image.

    Args:
        model: the VLM.
        method: the token reduction method.
        budget: tokens per image or tile, or their (rows, columns).

    Raises:
        UsageError: a method that the model does not support.
    """

    def attach(self) -> list[Any]:
        """Registers the hooks.

        Returns:
            Their handles, each with `remove()`.

        Raises:
            UsageError: the method needs attention, and no block is before the layer.
        """
        hooks = super().attach()
        plain = self.inner.get_image_features

        @functools.wraps(plain)
        def get_image_features(*arguments: Any, **named: Any) -> Any:
            named["return_dict"] = True
            given = inspect.signature(plain).bind(*arguments, **named).arguments
            pieces = self.pieces(given)
            self.counts = [piece.kept for piece in pieces]
            if self.ids is not None:
                self.located(self.ids, self.counts)
            return self.compressed(plain(*arguments, **named), pieces, given)

        hooks.append(Replaced(self.inner, "get_image_features", get_image_features))
        if {"attention", "keys"} & set(self.method.needs):
            hooks.append(
                self.attention_layer().register_forward_pre_hook(self.attend, with_kwargs=True)
            )
        return hooks

    @abstractmethod
    def attention_layer(self) -> Any:
        """The attention of the block that gives the tokens."""

    @abstractmethod
    def attend(self, module: Any, arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
        """Keeps queries and keys of the running images."""

    @abstractmethod
    def compressed(self, features: Any, pieces: Sequence[Piece], given: Mapping[str, Any]) -> Any:
        """The features with the kept tokens alone.

        Args:
            features: of `get_image_features`.
            pieces: of all images.
            given: arguments of `get_image_features`.

        Returns:
            The features, changed.
        """

    def reduce(
        self,
        tokens: Sequence[Float[Tensor, "n d"]],
        pieces: Sequence[Piece],
        sides: Sequence[Mapping[str, Tensor]],
    ) -> None:
        """Compresses each piece alone; the kept tokens are in `last`.

        Args:
            tokens: of each piece.
            pieces: their grids and budgets.
            sides: attention and keys of each piece, as far as the method needs them.
        """
        reads = "text" in self.method.needs
        texts = [text[None] for text in self.text(tokens)] if reads else [None] * len(tokens)
        self.last = tuple(
            self.reduced(image[None], piece, SideInputs(text=text, **side))[0]
            for image, piece, text, side in zip(tokens, pieces, texts, sides, strict=True)
        )
