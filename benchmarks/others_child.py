"""The other libraries at work, in an environment of their own (they need torchvision): one order a
line on standard input, one answer a line on standard output. Started by bench_libraries.py.
"""

from __future__ import annotations

import importlib
import json
import re
import sys
import time
from pathlib import Path

import torch
from PIL import Image

_stand_ins = torch.library.Library("torchvision", "DEF")


def import_without_operators(name: str):
    """Imports what imports torchvision, whose compiled operators are not there for a CPU torch:
    nothing here calls one of them, so a declaration in their place is enough."""
    while True:
        try:
            return importlib.import_module(name)
        except RuntimeError as error:
            lacking = re.search(r"operator torchvision::(\w+) does not exist", str(error))
            if lacking is None:
                raise
            _stand_ins.define(f"{lacking[1]}(Tensor x) -> Tensor")
            for module in [one for one in sys.modules if one.startswith("torchvision")]:
                del sys.modules[module]


import_without_operators("torchvision")


class SentenceTransformers:
    """`SentenceTransformer.encode` on images, as its documentation shows."""

    def __init__(self, checkpoint: str) -> None:
        from sentence_transformers import SentenceTransformer, models

        self.model = SentenceTransformer(modules=[models.CLIPModel(checkpoint)], device="cpu")

    def embed(self, files: list[str], batch_size: int) -> torch.Tensor:
        images = [Image.open(file) for file in files]
        found = self.model.encode(images, batch_size=batch_size, convert_to_tensor=True)
        return torch.nn.functional.normalize(found.float(), dim=-1)


class OpenCLIP:
    """A loop over open_clip's transform and `encode_image`, in fp32 or under bf16 autocast."""

    def __init__(self, checkpoint: str, bf16: bool) -> None:
        import open_clip
        from safetensors.torch import load_file

        self.model, _, self.transform = open_clip.create_model_and_transforms(
            "ViT-B-32-quickgelu", pretrained=None
        )
        tower = load_file(Path(checkpoint) / "model.safetensors")
        self.model.visual.load_state_dict(as_open_clip(tower))
        self.model.eval()
        self.bf16 = bf16

    @torch.inference_mode()
    def embed(self, files: list[str], batch_size: int) -> torch.Tensor:
        parts = []
        for start in range(0, len(files), batch_size):
            batch = [self.transform(Image.open(f)) for f in files[start : start + batch_size]]
            with torch.autocast("cpu", torch.bfloat16, enabled=self.bf16):
                parts.append(self.model.encode_image(torch.stack(batch)).float())
        return torch.nn.functional.normalize(torch.cat(parts), dim=-1)


def as_open_clip(tower: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """transformers' CLIP vision tower under open_clip's names."""
    out, v = {}, "vision_model."
    for ours, theirs in (
        ("embeddings.patch_embedding.weight", "conv1.weight"),
        ("embeddings.class_embedding", "class_embedding"),
        ("embeddings.position_embedding.weight", "positional_embedding"),
        ("pre_layrnorm.weight", "ln_pre.weight"),
        ("pre_layrnorm.bias", "ln_pre.bias"),
        ("post_layernorm.weight", "ln_post.weight"),
        ("post_layernorm.bias", "ln_post.bias"),
    ):
        out[theirs] = tower[v + ours]
    out["proj"] = tower["visual_projection.weight"].T.contiguous()
    number = 0
    while f"{v}encoder.layers.{number}.layer_norm1.weight" in tower:
        a, b = f"{v}encoder.layers.{number}.", f"transformer.resblocks.{number}."
        for kind in ("weight", "bias"):
            parts = [tower[f"{a}self_attn.{part}_proj.{kind}"] for part in "qkv"]
            out[f"{b}attn.in_proj_{kind}"] = torch.cat(parts)
            for ours, theirs in (
                ("self_attn.out_proj", "attn.out_proj"), ("layer_norm1", "ln_1"),
                ("layer_norm2", "ln_2"), ("mlp.fc1", "mlp.c_fc"), ("mlp.fc2", "mlp.c_proj"),
            ):  # fmt: skip
                out[f"{b}{theirs}.{kind}"] = tower[f"{a}{ours}.{kind}"]
        number += 1
    return out


class Training:
    """open_clip's model and loss in a plain loop, bf16 autocast where it helps."""

    def __init__(self, vision: dict, text: dict, embed_dim: int, batch: int, bf16: bool) -> None:
        import open_clip
        from open_clip.loss import ClipLoss

        self.model = open_clip.model.CLIP(embed_dim, vision, text, output_dict=True).train()
        self.loss, self.bf16 = ClipLoss(), bf16
        self.optimiser = torch.optim.AdamW(self.model.parameters(), lr=1e-4, weight_decay=0.1)
        size = vision["image_size"]
        self.pixels = torch.randn(batch, 3, size, size)
        self.tokens = torch.randint(1, text["vocab_size"] - 1, (batch, text["context_length"]))
        self.tokens[:, -1] = text["vocab_size"] - 1

    def steps(self, count: int) -> None:
        for _ in range(count):
            self.optimiser.zero_grad()
            with torch.autocast("cpu", torch.bfloat16, enabled=self.bf16):
                out = self.model(self.pixels, self.tokens)
            loss = self.loss(
                out["image_features"].float(), out["text_features"].float(), out["logit_scale"]
            )
            loss.backward()
            self.optimiser.step()


def main() -> None:
    """Answers orders until there are no more."""
    answers = sys.stdout
    sys.stdout = sys.stderr  # what the libraries print is no answer
    workers: dict = {}
    for line in sys.stdin:
        order = json.loads(line)
        name, do = order["name"], order["do"]
        answer: dict = {}
        if do == "sentence-transformers":
            workers[name] = SentenceTransformers(order["checkpoint"])
        elif do == "open_clip":
            workers[name] = OpenCLIP(order["checkpoint"], order["bf16"])
        elif do == "training":
            workers[name] = Training(**order["shape"])
        else:
            started = time.perf_counter()
            if do == "embed":
                found = workers[name].embed(order["files"], order["batch_size"])
                answer["vectors"] = found[: order["keep"]].tolist()
            else:
                workers[name].steps(order["count"])
            answer["seconds"] = time.perf_counter() - started
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
