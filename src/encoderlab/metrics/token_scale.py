"""The scale of an encoder's features, and the normalisation that a projector needs for it.

Pure functions of features. Loads no model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from encoderlab.core.results import Result
from encoderlab.errors import UsageError
from encoderlab.metrics.coral import effective_rank
from encoderlab.metrics.matrix import median
from encoderlab.patch_tokens.statistics import norms, outliers

# The final norm of an encoder gives values with a standard deviation of about one. A LLaVA with
# RADIO v1, whose tokens have "standard deviations in the many tens", trailed one with CLIP
# (github.com/NVlabs/RADIO/issues/15). A factor of ten to either side is our choice.
LARGE_SD, SMALL_SD = 10.0, 0.1
# Our choice: of 768 channels, one that is ten times the median has an eighth of the squared norm.
# Sun et al. 2024 (Massive Activations in Large Language Models) take 1,000 times the median for a
# single activation; the root mean square of a channel has the tokens without it as well.
MASSIVE_TIMES = 10.0
FP16_MAX = torch.finfo(torch.float16).max
BF16_EPS = torch.finfo(torch.bfloat16).eps


@dataclass(frozen=True)
class TokenScale(Result):
    """The scale of features over images, patches and channels.

    Args:
        tokens: how many were measured.
        width: the number of channels.
        norm_mean: the mean L2 norm of a token.
        norm_sd: the standard deviation of the norm over images and patches.
        sd: the standard deviation of all values.
        outlier_share: the share of tokens that are outliers of their image, 0 to 1.
        massive_channels: channels whose root mean square is over 10 times the median channel's.
        effective_rank: directions in which the tokens vary, 1 to min(tokens - 1, width).
        largest: the largest magnitude of a value; fp16 ends at 65,504.
        below_bf16: channels whose standard deviation is less than the resolution of bf16 at their
            mean (2^-7 of it).
    """

    tokens: int
    width: int
    norm_mean: float
    norm_sd: float
    sd: float
    outlier_share: float
    massive_channels: tuple[int, ...]
    effective_rank: float
    largest: float
    below_bf16: int

    def problems(self, kind: str = "token") -> tuple[str, ...]:
        """What a projector or a number format cannot take as it is.

        Args:
            kind: what was measured, for the sentences.

        Returns:
            One sentence for each problem, with what to do; none where the features can be used
            without normalisation.
        """
        found = []
        if not SMALL_SD <= self.sd <= LARGE_SD:
            found.append(
                f"{kind} standard deviation is {self.sd:.3g}: standardise or LayerNorm in front of "
                "the projector"
            )
        if self.massive_channels:
            found.append(
                f"massive {kind} channels (over {MASSIVE_TIMES:g} times the median channel): "
                f"{_listed(self.massive_channels)}; standardise each channel in front of the "
                "projector, since LayerNorm keeps their ratio"
            )
        if self.largest > FP16_MAX:
            found.append(
                f"{kind} values reach {self.largest:.3g}, and fp16 ends at {FP16_MAX:,.0f}: use "
                "bf16 or fp32"
            )
        if self.below_bf16:
            found.append(
                f"{self.below_bf16} of {self.width} {kind} channels vary by less than the "
                "resolution of bf16 at their mean: subtract the mean in fp32"
            )
        return tuple(found)


def token_scale(images: Sequence[Float[Tensor, "n d"]]) -> TokenScale:
    """Measures the scale of the tokens of images.

    Args:
        images: the tokens of each image. Pooled features are the tokens of one image.

    Returns:
        Norms, spread, outliers, massive channels, rank and range, computed in fp64.

    Raises:
        UsageError: no token, or a value that is not finite.
    """
    if not sum(map(len, images)):
        raise UsageError("no token to measure", got=f"{len(images)} images", want="one or more")
    x = torch.cat(list(images)).double()
    if not x.isfinite().all():
        raise UsageError(
            "the tokens are not finite",
            got=f"{int((~x.isfinite()).sum())} of {x.numel()} values are NaN or infinite",
            want="numbers",
        )
    length = torch.linalg.vector_norm(x, dim=1)
    sd, mean = torch.std_mean(x, dim=0, correction=0)
    magnitude = x.square().mean(dim=0).sqrt()
    massive = magnitude > MASSIVE_TIMES * median(magnitude)
    # A row of tokens is a grid of one row to `outliers`.
    outlying = sum(int(outliers(norms(tokens)[None]).sum()) for tokens in images if len(tokens))
    return TokenScale(
        len(x),
        x.shape[1],
        float(length.mean()),
        float(length.std(correction=0)),
        float(x.std(correction=0)),
        outlying / len(x),
        tuple(massive.nonzero().flatten().tolist()),
        effective_rank(x) if len(x) > 1 else 0.0,
        float(x.abs().max()),
        int((BF16_EPS * mean.abs() > sd).sum()),
    )


def _listed(channels: Sequence[int], most: int = 5) -> str:
    rest = len(channels) - most
    named = ", ".join(map(str, channels[:most]))
    return named if rest <= 0 else f"{named} and {rest} more"
