"""What all families of VLMs share: the checks, and the inputs with fewer image placeholders.

b rows of text, t their length, n tokens of an image, k kept ones, d width of the language model.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from encoderlab.errors import UsageError
from encoderlab.models.token_grid import Grid
from encoderlab.patch_tokens.reducer import CompressedTokens, SideInputs, TokenReducer

IGNORED = -100  # label that the loss ignores


@dataclass(frozen=True)
class Piece:
    """The placeholders of an image, or of a part of it that is compressed alone.

    Args:
        grid: (rows, columns) of its tokens.
        budget: (rows, columns) of the kept ones, as `TokenReducer.exact` gives them; None where all
            are kept.
        whole: how many placeholders it has.
        kept: how many remain.
    """

    grid: Grid
    budget: Grid | None
    whole: int
    kept: int


class CompressedVision(ABC):
    """A VLM whose image tokens are compressed: the base of all families.

    Args:
        model: the VLM.
        method: the token reduction method.
        budget: tokens per image or tile, or their (rows, columns).

    Attributes:
        last: the kept tokens of the latest images, one item per image or tile, each a batch of one.

    Raises:
        UsageError: a method or budget that the model does not support.
    """

    # The side inputs that the family computes.
    gives: ClassVar[tuple[str, ...]] = ("attention", "keys", "text")

    def __init__(self, model: Any, method: TokenReducer, budget: int | Grid) -> None:
        if "pixels" in method.needs:
            raise UsageError(
                f"{method.name} runs the encoder again, so it cannot stand behind it",
                want="a smaller image for the processor instead",
            )
        if missing := set(method.needs) - set(self.gives):
            raise UsageError(
                f"{method.name} needs what this model does not give",
                got=f"{', '.join(sorted(missing))} of a {type(model).__name__}",
                want="a method of tokens alone, such as average, kmeans or tome",
            )
        if method.width(1, (2, 2), (1, 1)) != 1:
            raise UsageError(
                f"{method.name} gives tokens of more channels than the model takes",
                want="a method that keeps the channels, such as average or tome",
            )
        if (count := budget if isinstance(budget, int) else budget[0] * budget[1]) < 1:
            raise UsageError("the budget is no number of tokens", got=count, want="1 or more")
        self.model, self.method, self.budget = model, method, budget
        self.last: tuple[CompressedTokens, ...] = ()

    @abstractmethod
    def attach(self) -> list[Any]:
        """Registers the hooks.

        Returns:
            Their handles, each with `remove()`.
        """

    @abstractmethod
    def fit(self, inputs: Any) -> Any:
        """Removes surplus image placeholders.

        Args:
            inputs: of the uncompressed model.

        Returns:
            The inputs with as many placeholders per image as tokens are kept.

        Raises:
            UsageError: the placeholders are not those of whole images; the method does not give
                the budget for an image; a method that needs a question has none.
        """

    def piece(self, grid: Grid, budget: int | Grid) -> Piece:
        """The placeholders of an image, which is kept whole where it has fewer than `budget`.

        Args:
            grid: (rows, columns) of its tokens.
            budget: kept tokens, or their (rows, columns).

        Returns:
            The piece, without further placeholders such as ends of lines.

        Raises:
            UsageError: the method does not give the budget.
        """
        n = grid[0] * grid[1]
        if (budget if isinstance(budget, int) else budget[0] * budget[1]) > n:
            return Piece(grid, None, n, n)
        shape = self.method.exact(grid, budget)
        return Piece(grid, shape, n, shape[0] * shape[1])

    def reduced(
        self, tokens: Float[Tensor, "b n c"], piece: Piece, side: SideInputs
    ) -> list[CompressedTokens]:
        """The kept tokens of images with the same grid.

        Args:
            tokens: of all images.
            piece: grid and budget.
            side: what the method needs.

        Returns:
            One batch of one per image; images that are kept whole keep their order.

        Raises:
            UsageError: the method gives tokens of another width.
        """
        if piece.budget is None:
            return [_unchanged(image, piece.grid) for image in tokens.split(1)]
        kept = self.method.compress(tokens, piece.grid, piece.budget, side)
        if kept.tokens.shape[-1] != tokens.shape[-1]:
            raise UsageError(
                f"{self.method.name} gives tokens of another width than the model reads",
                got=f"{kept.tokens.shape[-1]} channels of {tokens.shape[-1]}",
                want="a method that keeps the channels, such as average or tome",
            )
        parts = (kept.tokens, kept.positions, kept.sizes, kept.assignment)
        return [
            CompressedTokens(tokens, positions, sizes, assignment, kept.grid)
            for tokens, positions, sizes, assignment in zip(
                *(part.split(1) for part in parts), strict=True
            )
        ]


class HookedModel(CompressedVision):
    """A model of transformers, whose processor gives `input_ids` with image placeholders.

    Args:
        model: the VLM.
        method: the token reduction method.
        budget: tokens per image or tile, or their (rows, columns).

    Raises:
        UsageError: a method or budget that the model does not support.
    """

    def __init__(self, model: Any, method: TokenReducer, budget: int | Grid) -> None:
        super().__init__(model, method, budget)
        self.config, self.inner = model.config, getattr(model, "model", model)
        # Of the running forward pass; None outside of one, where `generate` encodes images.
        self.ids: Tensor | None = None
        self.mask: Tensor | None = None
        self.labels: Tensor | None = None
        self.counts: list[int] = []  # kept placeholders of each piece of the latest images
        self._fitted: list[Tensor] = []  # words beside each piece of the latest `fit`
        self._asked: list[Tensor] = []  # words that were read outside of a forward pass

    def attach(self) -> list[Any]:
        """Registers the hooks.

        Returns:
            Their handles, each with `remove()`.

        Raises:
            UsageError: the method needs attention, and no block is before the layer.
        """
        return [
            # The loss is computed outside of `inner`, which does not get the labels.
            self.model.register_forward_pre_hook(self._label, with_kwargs=True),
            self.inner.register_forward_pre_hook(self._begin, with_kwargs=True),
            self.inner.register_forward_hook(self._end, always_call=True),
        ]

    @abstractmethod
    def pieces(self, inputs: Mapping[str, Any]) -> list[Piece]:
        """The pieces of all images of the inputs, in the order of their placeholders."""

    def positions(self, inputs: Mapping[str, Any]) -> Tensor | None:
        """The `position_ids` of the inputs before placeholders are removed.

        Args:
            inputs: of the processor, with `attention_mask`.

        Returns:
            (b, t) or (3, b, t), or None where the model numbers the remaining tokens itself.
        """
        return None

    def fit(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """Removes surplus image placeholders from the inputs of a processor.

        Every (b, t) tensor loses the same columns; shorter rows are padded on the left. Padding is
        the padding token in `input_ids`, -100 in `labels` (ignored by the loss), 0 elsewhere.
        `position_ids`, where given, are renumbered; with M-RoPE they are those of the uncompressed
        inputs, and the forward pass sets those of the image tokens once it knows which are kept.

        Args:
            inputs: as the processor returns them.

        Returns:
            The inputs with as many placeholders per image as tokens are kept.

        Raises:
            UsageError: the placeholders are not those of whole images; the method does not give
                the budget for an image; a method that needs a question has none.
        """
        ids: Tensor = inputs["input_ids"]
        pieces = self.pieces(inputs)
        places = self.located(ids, [piece.whole for piece in pieces])
        kept = torch.ones_like(ids, dtype=torch.bool)
        for piece, place in zip(pieces, places, strict=True):
            kept[tuple(place[piece.kept :].T)] = False
        attended = inputs.get("attention_mask")
        attended = torch.ones_like(ids) if attended is None else attended
        fitted = dict(inputs, attention_mask=attended)
        if "text" in self.method.needs:
            labels = inputs.get("labels")
            self._fitted = [self._words(ids, attended, labels, int(p[0, 0])) for p in places]
        positions = self.positions(fitted)
        if positions is not None:
            fitted["position_ids"] = positions
        fillers = {"input_ids": self._padding, "labels": IGNORED}
        fitted = {
            name: without(value, kept, fillers.get(name, 0))
            if isinstance(value, Tensor) and value.shape[-2:] == ids.shape
            else value
            for name, value in fitted.items()
        }
        if positions is None and fitted.get("position_ids") is not None:
            fitted["position_ids"] = (fitted["attention_mask"].cumsum(dim=1) - 1).clamp_min(0)
        return fitted

    def located(self, ids: Int[Tensor, "b t"], counts: Sequence[int]) -> tuple[Tensor, ...]:
        """The placeholders of each piece.

        Args:
            ids: tokens of all rows.
            counts: placeholders of each piece.

        Returns:
            (row, column) of each placeholder, one (count, 2) tensor per piece.

        Raises:
            UsageError: there is another number of placeholders, or a piece in two rows.
        """
        places = (ids == self.config.image_token_id).nonzero()
        parts = places.split(list(counts)) if len(places) == sum(counts) else ()
        if len(parts) != len(counts) or any(part[0, 0] != part[-1, 0] for part in parts):
            raise UsageError(
                "the placeholders are not those of whole images",
                got=f"{len(places)} for {sum(counts)} image tokens",
                want="inputs of the processor for fit, and those of fit for the model",
            )
        return parts

    def words(self) -> list[Int[Tensor, " w"]]:
        """The words beside each piece of the running images.

        Returns:
            Their ids.

        Raises:
            UsageError: no forward pass runs, and `fit` had other images; a row has no words.
        """
        if self.ids is not None:
            places = self.located(self.ids, self.counts)
            running = self.ids, self.mask, self.labels
            return [self._words(*running, int(place[0, 0])) for place in places]
        if len(self._fitted) != len(self.counts):
            raise UsageError(
                f"{self.method.name} reads the question, and fit had other images",
                got=f"{len(self.counts)} images or tiles, and {len(self._fitted)} in fit",
                want="fit in front of each generate",
            )
        self._asked = self._fitted
        return self._fitted

    def text(self, projected: Sequence[Float[Tensor, "n d"]]) -> list[Float[Tensor, " n"]]:
        """How well the image tokens match the words beside them.

        Args:
            projected: tokens of each piece in the input space of the language model.

        Returns:
            Mean cosine of each token with the words, -1 to 1, per piece.

        Raises:
            UsageError: as of `words`.
        """
        embed = self.inner.get_input_embeddings()
        pairs = zip(projected, self.words(), strict=True)
        return [match(tokens, embed(words.to(tokens.device))) for tokens, words in pairs]

    def _words(
        self, ids: Tensor, mask: Tensor | None, labels: Tensor | None, row: int
    ) -> Int[Tensor, " w"]:
        """The tokens of a row but placeholders, padding, special tokens and the labelled answer."""
        known = torch.ones_like(ids[row], dtype=torch.bool) if mask is None else mask[row].bool()
        own = ids[row][known if labels is None else known & (labels[row] == IGNORED)]
        return require_words(own[~torch.isin(own, self._special.to(own.device))], self.method)

    def _label(self, module: Any, arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
        self.labels = named.get("labels")

    def _begin(self, module: Any, arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
        """Keeps tokens and mask, which hooks further down do not get.

        Raises:
            UsageError: `generate` has encoded the images of other inputs.
        """
        self.ids = named.get("input_ids", arguments[0] if arguments else None)
        if self.ids is None:
            return
        mask = named.get("attention_mask")
        # With a cache of fixed size `generate` gives masks of four axes, or one for each kind of
        # layer, and without padding none.
        mask = torch.ones_like(self.ids) if mask is None else mask
        self.mask = mask if isinstance(mask, Tensor) and mask.ndim == 2 else None
        is_image = self.ids == self.config.image_token_id
        encoded = (named.get("mm_encoder_outputs") or {}).get("image")
        # Both are repeated for beams.
        if encoded is not None and is_image.sum() != sum(map(len, encoded.pooler_output)):
            self.located(self.ids, self.counts)
        asked, self._asked = self._asked, []
        rows = is_image.any(dim=1).nonzero().flatten().tolist() if asked else []
        known = [self._words(self.ids, self.mask, self.labels, row) for row in rows]
        if not all(any(torch.equal(words, row) for row in known) for words in asked):
            raise UsageError(
                f"{self.method.name} has read the question of other inputs",
                want="fit in front of each generate",
            )

    def _end(self, *_: Any) -> None:
        self.ids = self.mask = self.labels = None

    @property
    def _special(self) -> Int[Tensor, " s"]:
        """Ids of all special tokens that the configuration names."""
        named = self.config.get_text_config().to_dict() | self.config.to_dict()
        ids: set[int] = set()
        for name, value in named.items():
            if name.endswith(("_token_id", "_token_index")) and value is not None:
                ids.update(value if isinstance(value, list) else [value])
        return torch.tensor(sorted(ids))

    @property
    def _padding(self) -> int:
        """The padding token of the language model, else of the whole model, else 0."""
        tokens = (
            self.config.get_text_config().pad_token_id,
            getattr(self.config, "pad_token_id", None),
        )
        return next((token for token in tokens if token is not None), 0)


def require_words(words: Int[Tensor, " w"], method: TokenReducer) -> Int[Tensor, " w"]:
    """Checks that a question has words.

    Args:
        words: their ids.
        method: that reads them.

    Returns:
        The words.

    Raises:
        UsageError: there are none.
    """
    if len(words) == 0:
        raise UsageError(
            f"{method.name} keeps the tokens that match a question",
            got="an image without words",
            want="a question beside each image, or a method of tokens alone, such as kmeans",
        )
    return words


def without(values: Tensor, kept: Bool[Tensor, "b t"], filler: int) -> Tensor:
    """Removes columns, others in each row, and pads shorter rows on the left.

    Args:
        values: (b, t) or (3, b, t).
        kept: columns that remain.
        filler: value of the padding.

    Returns:
        (b, most) or (3, b, most), where most is the length of the longest row.
    """
    length = int(kept.sum(dim=1).max())
    rows = [row[..., k] for row, k in zip(values.unbind(-2), kept, strict=True)]
    padded = [F.pad(row, (length - row.shape[-1], 0), value=filler) for row in rows]
    return torch.stack(padded, dim=-2)


@torch.no_grad()
def match(projected: Float[Tensor, "n d"], words: Float[Tensor, "w d"]) -> Float[Tensor, " n"]:
    """The mean cosine of each image token with the words, -1 to 1."""
    unit = F.normalize(projected.float(), dim=-1)
    return unit @ F.normalize(words.float(), dim=-1).mean(dim=0)


def _unchanged(tokens: Float[Tensor, "1 n c"], grid: Grid) -> CompressedTokens:
    """All tokens in their order."""
    n = tokens.shape[1]
    index = torch.arange(n, device=tokens.device)[None]
    places = torch.stack([index // grid[1], index % grid[1]], dim=-1).float()
    return CompressedTokens(tokens, places, torch.ones_like(index).float(), index, grid)


class Replaced:
    """An attribute of an object that has another value until `remove()`.

    Args:
        owner: the object.
        name: of the attribute.
        value: the other value.
    """

    def __init__(self, owner: Any, name: str, value: Any) -> None:
        self.owner, self.name = owner, name
        self.own = {name: vars(owner)[name]} if name in vars(owner) else {}
        setattr(owner, name, value)

    def remove(self) -> None:
        """Restores the attribute."""
        delattr(self.owner, self.name)
        vars(self.owner).update(self.own)
