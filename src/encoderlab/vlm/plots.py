"""The figure of a VLM's answer: attention over the image beside its check by ablation."""

from __future__ import annotations

from textwrap import shorten

import numpy as np
from PIL import Image

from encoderlab.plots.overlay import overlaid
from encoderlab.plots.style import CHANCE, ORANGE, FigureRecord, figure, rules
from encoderlab.vlm.explain import Explanation

LONGEST = 60  # letters of a title


def explained(
    explanation: Explanation, view: Image.Image, question: str, answer: str
) -> FigureRecord:
    """The image, the attention over it, and the fall of the likelihood without the attended tokens.

    Args:
        explanation: the map and its ablation.
        view: the image as the encoder saw it.
        question: its text.
        answer: its text.

    Returns:
        The figure "explanation".
    """
    falls = np.array(explanation.random_falls)
    with rules():
        fig = figure(9.4, 3.9)
        seen, mapped, ablation = fig.subplots(1, 3)
        seen.imshow(view)
        seen.set_title("what the encoder sees", fontsize=9)
        mapped.imshow(overlaid(view, explanation.attention), interpolation="nearest")
        mapped.set_title(
            f"attention of the answer\n{explanation.attention_to_image:.0%} goes to the image",
            fontsize=9,
        )
        for ax in (seen, mapped):
            ax.axis("off")
        beside = np.linspace(0.85, 1.15, len(falls))  # points of one value stay apart
        ablation.plot(beside, falls, "o", color=CHANCE["color"], markersize=4, alpha=0.6)
        ablation.plot([0], [explanation.attended_fall], "D", color=ORANGE, markersize=9)
        ablation.axhline(0, **CHANCE)
        ablation.set_xlim(-0.6, 1.6)
        names = ("most attended", f"random,\n{len(falls)} draws")
        ablation.set_xticks((0, 1), names, fontsize=9)
        ablation.set_ylabel("fall of log-likelihood (nats)", fontsize=9)
        ablation.set_title(
            f"without {explanation.ablated} of {explanation.image_tokens} image tokens", fontsize=9
        )
        about = f"“{shorten(question, LONGEST)}”  {shorten(answer, LONGEST)}"
        fig.suptitle(about, fontsize=11)
    return FigureRecord(
        "explanation",
        fig,
        "Bright places get more of the attention of the answer's tokens (mean over heads and "
        "layers). Right: how much the log-likelihood of the answer falls without them, and without "
        f"as many random ones. {explanation.to_text().splitlines()[0].capitalize()}.",
        {
            "attention": explanation.attention,
            "attended_fall": np.array(explanation.attended_fall),
            "random_falls": falls,
        },
    )
