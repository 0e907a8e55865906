"""The words nearest to each image token inside the language model of a VLM.

By the logit lens (nostalgebraist 2020): a hidden state through the final norm and the output layer.
By its contextual form (LatentLens, Krojer et al. 2026): the cosine with the hidden states of words
in captions, at the same layer. Draws nothing.

b images, k image tokens of each, l + 1 hidden states, d width, v words or vocabulary, m occurrences
of words.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from encoderlab.encoders.encoder import evaluating
from encoderlab.encoders.layers import final_norms, last_norm
from encoderlab.errors import UsageError
from encoderlab.models.token_grid import Grid
from encoderlab.vlm.llava import LlavaVLM
from encoderlab.vlm.model import VLM
from encoderlab.vlm.prompt import IMAGE

WORD = re.compile(r"[^\W\d_]+|\d+")
CAPTIONS_AT_ONCE = 32
# Shorter beginnings of a word, as a small vocabulary has them, say little about it.
SHORTEST = 3


@dataclass(frozen=True)
class ImageStates:
    """Hidden states of the language model at the image tokens.

    Args:
        hidden: (l + 1, b, k, d) in fp32: 0 enters the first block, the last one is before the final
            norm.
        grid: (rows, columns) of the image tokens.
    """

    hidden: Float[Tensor, "layers b k d"]
    grid: Grid


@dataclass(frozen=True)
class NearWords:
    """The words nearest to the image tokens of one image.

    Args:
        layer: the hidden state, 0 what enters the first block.
        grid: (rows, columns) of the image tokens.
        words: of each token in reading order, the nearest first.
    """

    layer: int
    grid: Grid
    words: tuple[tuple[str, ...], ...]


class Reader(Protocol):
    """A VLM that shows its hidden states."""

    llm: Any
    tokenizer: Any

    def states(self, images: Sequence[Any], question: str) -> ImageStates:
        """The hidden states at the image tokens of a prompt.

        Args:
            images: decoded images.
            question: the text beside each.

        Returns:
            The states and their grid.

        Raises:
            UsageError: image tokens without a place on a grid.
        """


def reader_of(model: VLM | LlavaVLM) -> Reader:
    """The reader of a VLM.

    Args:
        model: our own VLM, or a LLaVA of transformers.

    Returns:
        Its hidden states at the image tokens, its language model and its tokenizer.

    Raises:
        UsageError: image tokens without a place on a grid.
    """
    return OwnReader(model) if isinstance(model, VLM) else LlavaReader(model)


class OwnReader:
    """Our own VLM.

    Args:
        vlm: one whose image tokens keep a grid.

    Raises:
        UsageError: image tokens without a place on a grid.
    """

    def __init__(self, vlm: VLM) -> None:
        method = vlm.reduction.method
        placed = method is None or method.keeps_grid
        if vlm.design.projector == "cross_attention" or not placed:
            raise UsageError(
                "the image tokens of this VLM have no place on a grid",
                got=f"projector={vlm.design.projector}, reduce={vlm.design.reduce}",
                want="a linear or mlp projector, and a reduction that keeps the grid",
            )
        self.vlm, self.llm, self.tokenizer = vlm, vlm.llm, vlm.prompter.tokenizer

    @torch.no_grad()
    def states(self, images: Sequence[Any], question: str) -> ImageStates:
        """As of `Reader`."""
        vlm = self.vlm
        tokens = vlm.vision_tokens(list(images))
        rows = vlm.prompter.rows([question] * len(tokens), None, vlm.image_tokens).to(vlm.device)
        with evaluating(vlm):
            hidden = hidden_states(
                vlm.llm, inputs_embeds=vlm._embeddings(tokens, rows),
                attention_mask=rows.mask, position_ids=rows.positions,
            )  # fmt: skip
        return ImageStates(_at(hidden, rows.ids == IMAGE), vlm.reduction.windows)


class LlavaReader:
    """A LLaVA of transformers, or another VLM with one square grid of image tokens per image.

    Args:
        vlm: the loaded model.
    """

    def __init__(self, vlm: LlavaVLM) -> None:
        self.vlm, self.llm, self.tokenizer = vlm, vlm.model, vlm.tokenizer

    @torch.no_grad()
    def states(self, images: Sequence[Any], question: str) -> ImageStates:
        """As of `Reader`."""
        inputs = self.vlm.inputs(images, [self.vlm.prompt(question)] * len(images))
        place = inputs["input_ids"] == self.llm.config.image_token_id
        counts = set(place.sum(dim=1).tolist())
        side = math.isqrt(max(counts))
        if counts != {side * side} or side == 0:
            raise UsageError(
                "the image tokens are not one square grid per image",
                got=f"{', '.join(map(str, sorted(counts)))} tokens of {self.vlm.name}",
                want="a LLaVA without tiles",
            )
        return ImageStates(_at(hidden_states(self.llm, **inputs), place), (side, side))


def hidden_states(llm: Any, **inputs: Any) -> tuple[Float[Tensor, "b t d"], ...]:
    """All hidden states of a language model, the last one before the final norm.

    Args:
        llm: a causal language model of transformers, alone or in a VLM.
        inputs: of its forward pass.

    Returns:
        What enters the first block, and what leaves each.
    """
    with final_norms(decoder_of(llm)) as norms:
        output = llm(**inputs, output_hidden_states=True, use_cache=False, logits_to_keep=1)
    return norms.undone(output.hidden_states)


def decoder_of(llm: Any) -> nn.Module:
    """The part of a language model or VLM that has its blocks and its final norm."""
    return getattr(llm.base_model, "language_model", llm.base_model)


def logit_lens(llm: Any, hidden: Float[Tensor, "*b d"]) -> Float[Tensor, "*b v"]:
    """The logits that the language model would give if a hidden state were its last one.

    Args:
        llm: a causal language model of transformers, alone or in a VLM.
        hidden: of any layer, before the final norm.

    Returns:
        Logits over the vocabulary.

    Raises:
        UsageError: a model without a final norm.
    """
    norm = last_norm(decoder_of(llm))
    if norm is None:
        raise UsageError(
            "the logit lens needs the final norm of the language model", got=type(llm).__name__
        )
    weight = next(norm.parameters())
    with torch.no_grad():
        return llm.get_output_embeddings()(norm(hidden.to(weight.device, weight.dtype))).float()


@dataclass(frozen=True)
class WordBank:
    """Words of captions in their contexts.

    Args:
        words: v different words, in lower case.
        which: (m,) the word of each occurrence.
        vectors: (l + 1, m, d) unit vectors: the hidden states of the last token of each.
    """

    words: tuple[str, ...]
    which: Int[Tensor, " m"]
    vectors: Float[Tensor, "layers m d"]

    def cosines(self, hidden: Float[Tensor, "*b d"], layer: int) -> Float[Tensor, "*b v"]:
        """The largest cosine with an occurrence of each word at a layer.

        Args:
            hidden: states of that layer.
            layer: from 0.

        Returns:
            -1 to 1.
        """
        flat = F.normalize(hidden.flatten(0, -2).float(), dim=-1)
        found = flat @ self.vectors[layer].float().T
        best = torch.full((len(flat), len(self.words)), -1.0)
        best.scatter_reduce_(1, self.which.expand(len(flat), -1), found, "amax")
        return best.view(*hidden.shape[:-1], -1)


@torch.no_grad()
def word_bank(reader: Reader, captions: Sequence[str]) -> WordBank:
    """Reads captions with the language model alone, and keeps the state of every word.

    Args:
        reader: has the language model.
        captions: their texts.

    Returns:
        The words and their states, which take 2 bytes a number.

    Raises:
        UsageError: no caption has a word, or a tokenizer that does not say where its tokens are.
    """
    llm, tokenizer = reader.llm, reader.tokenizer
    device = next(llm.parameters()).device
    names: dict[str, int] = {}
    which: list[int] = []
    parts = []
    with evaluating(llm):
        for start in range(0, len(captions), CAPTIONS_AT_ONCE):
            texts = list(captions[start : start + CAPTIONS_AT_ONCE])
            read = [_tokens(tokenizer, text) for text in texts]
            longest = max(len(ids) for ids, _ in read)
            # Padded on the right: a causal model does not see it.
            ids = torch.tensor([[*ids, *[ids[-1]] * (longest - len(ids))] for ids, _ in read])
            hidden = torch.stack(hidden_states(llm, input_ids=ids.to(device)))
            for row, (text, (_, spans)) in enumerate(zip(texts, read, strict=True)):
                for word in WORD.finditer(text):
                    # The last token that has a letter of the word.
                    inside = [i for i, (low, high) in enumerate(spans)
                              if low < word.end() and high > word.start()]  # fmt: skip
                    if inside:
                        which.append(names.setdefault(word[0].lower(), len(names)))
                        state = hidden[:, row, inside[-1]].float()
                        parts.append(F.normalize(state, dim=-1).half().cpu())
    if not parts:
        raise UsageError("no caption has a word", got=f"{len(captions)} captions")
    return WordBank(tuple(names), torch.tensor(which), torch.stack(parts, dim=1))


def first_tokens(tokenizer: Any, word: str) -> list[int]:
    """The tokens by which the vocabulary begins a word, with a space before it and without.

    Args:
        tokenizer: of the language model.
        word: one word.

    Returns:
        Ids of tokens that are the word, or at least its first three letters.
    """
    found = []
    for text in (f" {word}", word):
        for token in tokenizer(text, add_special_tokens=False).input_ids:
            piece = tokenizer.decode([token]).strip().lower()
            if piece:
                long = len(piece) >= min(SHORTEST, len(word))
                found += [token] if word.lower().startswith(piece) and long else []
                break
    return sorted(set(found))


def covering(x: float, y: float, radius: float, grid: Grid) -> Bool[Tensor, " k"]:
    """The tokens whose cell has its centre within a radius; the cell around (x, y) always.

    Args:
        x: of the place, as a share of the width from the left.
        y: of the place, as a share of the height from the top.
        radius: as a share of the side.
        grid: (rows, columns) of the tokens.

    Returns:
        True at these tokens, in reading order.
    """
    rows, columns = grid
    down, across = torch.meshgrid(
        (torch.arange(rows) + 0.5) / rows, (torch.arange(columns) + 0.5) / columns, indexing="ij"
    )
    inside = (across - x).square() + (down - y).square() <= radius**2
    inside[min(int(y * rows), rows - 1), min(int(x * columns), columns - 1)] = True
    return inside.flatten()


def _at(hidden: Sequence[Tensor], place: Bool[Tensor, "b t"]) -> Float[Tensor, "layers b k d"]:
    return torch.stack(
        [state[place].float().cpu().unflatten(0, (len(place), -1)) for state in hidden]
    )


def _tokens(tokenizer: Any, text: str) -> tuple[list[int], list[tuple[int, int]]]:
    try:
        read = tokenizer(text, return_offsets_mapping=True)
    except NotImplementedError as error:
        raise UsageError(
            "the tokenizer does not say where its tokens are in a text",
            got=type(tokenizer).__name__,
            want="a fast tokenizer",
        ) from error
    return read["input_ids"], read["offset_mapping"]
