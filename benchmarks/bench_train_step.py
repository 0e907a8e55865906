"""Training steps of our CLIP against transformers' CLIPModel of the same size, in the same loop.

Same shape, same batch, same loss, same optimiser, bf16 autocast where the machine has it; turns
alternate in one process, so that a noisy machine is as noisy for both. Prints the ratio of steps/s.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import torch
import torch.nn.functional as F
from table import Row, report
from torch import Tensor, nn
from transformers import CLIPConfig as TheirConfig
from transformers import CLIPModel

from encoderlab.encoders.hardware import cpu_has_bf16
from encoderlab.losses.contrastive import contrastive_loss
from encoderlab.models.clip import CLIP, CLIPConfig, TextConfig, ViTConfig
from encoderlab.training.optimiser import adamw

SHAPES = {
    "tiny": CLIPConfig(
        ViTConfig(96, 8, 192, 4, 3, 768),
        TextConfig(3000, 48, 128, 2, 2, 512, end_token_id=2999),
        128,
    ),
    "ViT-B/32": CLIPConfig(
        ViTConfig(224, 32, 768, 12, 12, 3072),
        TextConfig(8000, 77, 512, 12, 8, 2048, end_token_id=7999),
        512,
    ),
}


def theirs(shape: CLIPConfig) -> CLIPModel:
    """transformers' model of the same shape."""
    vision, text = shape.vision, shape.text
    assert isinstance(vision, ViTConfig)
    return CLIPModel(
        TheirConfig(
            vision_config={
                "image_size": vision.image_size,
                "patch_size": vision.patch_size,
                "hidden_size": vision.width,
                "num_hidden_layers": vision.layers,
                "num_attention_heads": vision.heads,
                "intermediate_size": vision.mlp_width,
                "hidden_act": "gelu",
            },
            text_config={
                "vocab_size": text.vocab_size,
                "max_position_embeddings": text.context_length,
                "hidden_size": text.width,
                "num_hidden_layers": text.layers,
                "num_attention_heads": text.heads,
                "intermediate_size": text.mlp_width,
                "hidden_act": "gelu",
                "eos_token_id": text.end_token_id,
                "bos_token_id": 0,
                "pad_token_id": text.end_token_id,
            },
            projection_dim=shape.embed_dim,
        )
    )


def step(
    model: nn.Module, optimiser: torch.optim.Optimizer, pixels: Tensor, tokens: Tensor, bf16: bool
) -> None:
    """One training step of either model."""
    optimiser.zero_grad()
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        if isinstance(model, CLIP):
            image, text = model(pixels, tokens)
        else:
            image = model.get_image_features(pixel_values=pixels).pooler_output
            text = model.get_text_features(input_ids=tokens).pooler_output
    loss = contrastive_loss(
        F.normalize(image.float(), dim=-1),
        F.normalize(text.float(), dim=-1),
        model.logit_scale.exp(),
    )
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimiser.step()


def main() -> None:
    """Prints the comparison."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shape", default="tiny", choices=SHAPES)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--steps", type=int, default=6, help="steps a turn")
    parser.add_argument("--repeat", type=int, default=5, help="turns; the median ratio counts")
    given = parser.parse_args()
    shape, bf16 = SHAPES[given.shape], cpu_has_bf16()
    torch.manual_seed(0)
    assert isinstance(shape.vision, ViTConfig)
    size, text = shape.vision.image_size, shape.text
    pixels = torch.randn(given.batch_size, 3, size, size)
    tokens = torch.randint(1, text.vocab_size - 1, (given.batch_size, text.context_length))
    tokens[:, -1] = text.vocab_size - 1
    models = {"transformers": theirs(shape).train(), "encoderlab": CLIP(shape).train()}
    optimisers = {name: adamw(model, 1e-4, 0.1) for name, model in models.items()}
    rates: dict[str, list[float]] = {name: [] for name in models}
    for turn in range(given.repeat + 1):
        for name, model in models.items():
            started = time.perf_counter()
            for _ in range(given.steps):
                step(model, optimisers[name], pixels, tokens, bf16)
            if turn:  # the first turn warms up
                rates[name].append(given.steps / (time.perf_counter() - started))
    pairs = {n: f"{given.batch_size * np.median(r):.0f} pairs/s" for n, r in rates.items()}
    ratios = np.array(rates["encoderlab"]) / np.array(rates["transformers"])
    report(
        Row(
            f"CLIP training step, {given.shape}, batch {given.batch_size}",
            pairs["encoderlab"],
            pairs["transformers"],
            "transformers' CLIPModel in the same loop",
            tuple(ratios.tolist()),
            "1.0",
            bool(np.median(ratios) >= 1),
            "bf16" if bf16 else "fp32",
        )
    )


if __name__ == "__main__":
    main()
