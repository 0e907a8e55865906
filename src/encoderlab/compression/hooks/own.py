"""Our own VLM: compressed in front of the projector, as with `--reduce`.

b images, one for each row of text, t length of the rows, n tokens, c channels, k kept ones.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from encoderlab.compression.hooks.base import (
    CompressedVision,
    Piece,
    Replaced,
    match,
    require_words,
    without,
)
from encoderlab.errors import UsageError
from encoderlab.models.token_grid import Grid
from encoderlab.patch_tokens.reducer import SideInputs, TokenReducer
from encoderlab.vlm.model import VLM
from encoderlab.vlm.prompt import IGNORED, IMAGE, Rows
from encoderlab.vlm.reduction import Reduction


class OwnVision(CompressedVision):
    """An `encoderlab.vlm.model.VLM` without a reduction of its own.

    Args:
        model: the VLM.
        method: the token reduction method.
        budget: tokens per image, or their (rows, columns).

    Raises:
        UsageError: a VLM with a reduction or with queries of its own; a method that needs what the
            VLM does not give; a budget that the grid does not give.
    """

    gives: ClassVar[tuple[str, ...]] = ("attention", "text")

    def __init__(self, model: VLM, method: TokenReducer, budget: int | Grid) -> None:
        super().__init__(model, method, budget)
        if model.design.reduce or model.design.projector == "cross_attention":
            raise UsageError(
                "the VLM reduces the image tokens itself",
                got=f"reduce={model.design.reduce}, projector={model.design.projector}",
                want="a VLM with all tokens and a linear or mlp projector",
            )
        shape, n = method.exact(model.grid, budget), model.grid[0] * model.grid[1]
        # The latest result of `vision_tokens`, and its attention.
        self._encoded = (torch.empty(0), torch.empty(0))
        self.one = Piece(model.grid, shape, n, shape[0] * shape[1])

    def attach(self) -> list[Any]:
        """Puts the method in place of the VLM's reduction.

        Returns:
            Handles, whose `remove()` restores the VLM.
        """
        hooks = [Replaced(self.model, "reduction", _MethodReduction(self))]
        if "attention" in self.method.needs:
            hooks.append(Replaced(self.model, "vision_tokens", self._vision_tokens))
        return hooks

    def fit(self, inputs: Rows) -> Rows:
        """Removes surplus image tokens from rows that were made for all tokens.

        The VLM makes rows of the right length by itself.

        Args:
            inputs: rows of the VLM's prompter.

        Returns:
            Rows with as many image tokens as are kept.

        Raises:
            UsageError: the rows hold another number of image tokens.
        """
        is_image = inputs.ids == IMAGE
        counts = is_image.sum(dim=1)
        whole, kept = self.one.whole, self.one.kept
        if not bool(((counts == whole) | (counts == 0)).all()):
            raise UsageError(
                "the image tokens are not those of whole images",
                got=str(counts.tolist()),
                want=f"{whole} in each row",
            )
        remain = ~is_image | (is_image.cumsum(dim=1) <= kept)
        ids = without(inputs.ids, remain, self.model.prompter.fill)
        return Rows(ids, without(inputs.mask, remain, 0), inputs.labels)

    def reduce(self, tokens: Float[Tensor, "b n c"], rows: Rows | None) -> Float[Tensor, "b k c"]:
        """The kept tokens, for the projector.

        Args:
            tokens: all tokens.
            rows: the text beside each image.

        Returns:
            As many as the budget.
        """
        needs = self.method.needs
        side = SideInputs(
            attention=self._attention(tokens) if "attention" in needs else None,
            text=self._text(tokens, rows) if "text" in needs else None,
        )
        self.last = tuple(self.reduced(tokens, self.one, side))
        return torch.cat([kept.tokens for kept in self.last])

    @torch.no_grad()
    def _vision_tokens(self, images: Any) -> Float[Tensor, "b n c"]:
        """`VLM.vision_tokens`, which keeps the attention of the first encoder."""
        # Attention maps take a pass of their own: the kernel that keeps them rounds otherwise.
        tokens = VLM.vision_tokens(self.model, images)
        encoder, layer = self.model.encoders[0], self.model.layers()[0]
        maps = encoder.encode(images, attention=[layer]).attention[layer].float().mean(dim=1)
        weights = maps[:, 0] if encoder.has_cls else maps.mean(dim=1)
        self._encoded = tokens, weights[:, encoder.special_tokens :].to(tokens)
        return tokens

    def _attention(self, tokens: Float[Tensor, "b n c"]) -> Float[Tensor, "b n"]:
        """Attention of the images that have these tokens."""
        known, weights = self._encoded
        rows = []
        for image in tokens:
            same = [row for row, other in enumerate(known.to(tokens)) if torch.equal(image, other)]
            if not same:
                raise UsageError(
                    f"{self.method.name} needs the attention of the encoder",
                    got="tokens that are not of the latest vision_tokens of the block",
                    want="vision_tokens or answer of the VLM inside the block",
                )
            rows.append(same[0])
        return weights[rows].to(tokens)

    @torch.no_grad()
    def _text(self, tokens: Float[Tensor, "b n c"], rows: Rows | None) -> Float[Tensor, "b n"]:
        """How well each projected token matches the words of its row before the answer."""
        if rows is None:
            raise UsageError(
                f"{self.method.name} reads the question", got="image tokens without rows of text"
            )
        special = torch.tensor(self.model.prompter.tokenizer.all_special_ids)
        embed = self.model.llm.get_input_embeddings()
        matches = []
        ends = rows.ids.shape[1] - (rows.labels != IGNORED).sum(dim=1)
        projected = self.model.projector(tokens)
        for image, ids, mask, end in zip(projected, rows.ids, rows.mask, ends, strict=True):
            own = ids[:end][(mask.bool() & (ids != IMAGE))[:end]]
            own = require_words(own[~torch.isin(own, special.to(own.device))], self.method)
            matches.append(match(image, embed(own)))
        return torch.stack(matches)


class _MethodReduction(Reduction):
    """A reduction by the method of a `with` block."""

    def __init__(self, vision: OwnVision) -> None:
        super().__init__(None, vision.model.grid)
        self.vision, self.method = vision, vision.method
        self.windows, self.tokens = vision.one.budget or vision.one.grid, vision.one.kept

    def __call__(
        self, tokens: Float[Tensor, "b n c"], rows: Rows | None = None
    ) -> Float[Tensor, "b k d"]:
        return self.vision.reduce(tokens, rows)
