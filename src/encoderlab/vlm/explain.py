"""The attention of an answer over the image, and a check by ablation that the answer depends on it.

Attention alone is no evidence of use, so the map always comes with its check by ablation. Draws
nothing.

k image tokens of the LLM, a tokens of an answer, t positions, h w the grid of patches.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor

from encoderlab.encoders.encoder import evaluating
from encoderlab.encoders.layers import eager_attention
from encoderlab.errors import UsageError
from encoderlab.vlm.model import VLM
from encoderlab.vlm.prompt import IMAGE

# Enough to cover an object of several tokens; most of the image stays, so that the input remains
# like those of training.
ABLATED_SHARE = 0.25
DRAWS = 20  # their standard deviation is known to about a sixth
# More than the largest draw would ask too much: one in sixteen draws of a quarter holds both of two
# given tokens.
SUPPORTED_AT = 2.0  # standard deviations of the draws above their mean


@dataclass(frozen=True)
class Explanation:
    """A map of attention over the image, and its check by ablation.

    Args:
        attention: (rows, columns), the attention of the answer's tokens to each place of the image,
            mean over heads and all layers. On the grid of the image tokens; of tokens without a
            grid, on that of the patches, each token's attention divided among its patches.
        attention_to_image: its sum; the rest goes to the text.
        layers: of the LLM, all of them.
        image_tokens: how many the LLM gets.
        ablated: how many of them were replaced by the mean image token.
        log_likelihood: of the answer with all image tokens, in nats.
        attended_fall: by how much it falls without the most attended tokens.
        random_falls: the same without random tokens, one per draw.
        random_fall_mean: of the draws.
        random_fall_sd: standard deviation of the draws.
        supported: whether the attended tokens hurt more than random ones, by `SUPPORTED_AT`.
    """

    attention: Float[np.ndarray, "rows columns"]
    attention_to_image: float
    layers: int
    image_tokens: int
    ablated: int
    log_likelihood: float
    attended_fall: float
    random_falls: tuple[float, ...]
    random_fall_mean: float = field(init=False)
    random_fall_sd: float = field(init=False)
    supported: bool = field(init=False)

    def __post_init__(self) -> None:
        mean, sd = float(np.mean(self.random_falls)), float(np.std(self.random_falls, ddof=1))
        supported = self.attended_fall > mean + SUPPORTED_AT * sd
        vars(self).update(random_fall_mean=mean, random_fall_sd=sd, supported=supported)

    def to_text(self) -> str:
        """The numbers and the verdict, as lines."""
        verdict = (
            "the answer depends on what the map points at, more than on random places"
            if self.supported
            else "the map does not point at what the answer depends on"
        )
        return (
            f"{verdict}\n"
            f"log-likelihood of the answer: {self.log_likelihood:.2f} nats; it falls by "
            f"{self.attended_fall:.2f} without the {self.ablated} most attended of "
            f"{self.image_tokens} image tokens, by {self.random_fall_mean:.2f} ± "
            f"{self.random_fall_sd:.2f} without {self.ablated} random ones (mean and standard "
            f"deviation of {len(self.random_falls)} draws)\n"
            f"attention: mean over the heads of all {self.layers} layers; "
            f"{self.attention_to_image:.0%} of it goes to the image"
        )


@torch.no_grad()
def explain(vlm: VLM, image: Any, question: str, answer: str, seed: int = 0) -> Explanation:
    """Maps the attention of an answer over the image, and checks the map by ablation.

    Args:
        vlm: the model that answered.
        image: a path, PIL image, array or tensor.
        question: its text.
        answer: its text.
        seed: of the random draws.

    Returns:
        The map, and how much the log-likelihood of the answer falls without what it points at.

    Raises:
        UsageError: an empty answer, image tokens without a place in the image, or an LLM without
            attention maps.
    """
    if vlm.design.projector == "cross_attention":
        raise UsageError("the image tokens of cross_attention have no place in the image")
    if not answer:
        raise UsageError("the answer is empty: there is nothing to explain")
    tokens = vlm.vision_tokens(image)
    rows = vlm.prompter.rows([question], [answer], vlm.image_tokens).to(vlm.device)
    with evaluating(vlm):
        inputs = vlm._embeddings(tokens, rows)
        places = (rows.ids[0] == IMAGE).nonzero()[:, 0]
        mean_token = inputs[0, places].float().mean(dim=0).to(inputs.dtype)
        same: dict[str, Any] = {
            "attention_mask": rows.mask, "position_ids": rows.positions, "use_cache": False,
        }  # fmt: skip
        with eager_attention(vlm.llm, vlm.llm.config):
            maps = vlm.llm(inputs_embeds=inputs, output_attentions=True, **same).attentions
        if not maps or any(layer is None for layer in maps):
            raise UsageError("the language model gives no attention maps", got=vlm.design.llm)

        def log_likelihood(replaced: Int[Tensor, " k"]) -> float:
            ablated = inputs.clone()
            ablated[0, places[replaced]] = mean_token
            labels = rows.labels[0]
            output = vlm.llm(inputs_embeds=ablated, logits_to_keep=len(labels) + 1, **same)
            logs = output.logits[0, :-1].float().log_softmax(dim=-1)
            return float(logs.gather(1, labels[:, None]).sum())

        # The tokens of the answer are predicted from the positions before them.
        asking = slice(-rows.labels.shape[1] - 1, -1)
        attention = torch.stack([layer[0, :, asking].float() for layer in maps])
        to_image = attention.mean(dim=(0, 1, 2))[places].cpu()
        ablated = max(1, round(ABLATED_SHARE * len(places)))
        generator = torch.Generator().manual_seed(seed)
        draws = [torch.randperm(len(places), generator=generator)[:ablated] for _ in range(DRAWS)]
        whole = log_likelihood(torch.tensor([], dtype=torch.long))
        attended, *random = (
            whole - log_likelihood(chosen) for chosen in (to_image.topk(ablated).indices, *draws)
        )
    return Explanation(
        _on_grid(vlm, tokens, to_image).numpy(), float(to_image.sum()), len(maps), len(places),
        ablated, whole, attended, tuple(random),
    )  # fmt: skip


def _on_grid(vlm: VLM, tokens: Tensor, values: Float[Tensor, " k"]) -> Float[Tensor, "h w"]:
    """One value per image token, laid where the tokens stand in the image."""
    method, grid = vlm.reduction.method, vlm.grid
    if method is None or method.keeps_grid:
        return rearrange(values, "(h w) -> h w", h=vlm.reduction.windows[0])
    assignment = method.compress(tokens.float(), grid, len(values)).assignment[0].cpu()
    sizes = assignment.bincount(minlength=len(values))
    return rearrange((values / sizes.clamp_min(1))[assignment], "(h w) -> h w", h=grid[0])
