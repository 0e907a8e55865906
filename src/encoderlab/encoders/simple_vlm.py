"""A minimal vision-language model: the patches of a vision encoder, projected to the width of a
language model, are put before the text (LLaVA, Liu et al. 2023).

Shapes: b images, n patches, t tokens of text, d width of the language model.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from encoderlab.encoders.checkpoint import resolve
from encoderlab.encoders.encoder import evaluating
from encoderlab.encoders.hardware import choose_device, choose_dtype
from encoderlab.encoders.loading import pretrained, quiet_loading, read_config, require_finite
from encoderlab.encoders.text import MAX_LENGTH, TextEncoder, as_texts, positions_of, read_tokenizer
from encoderlab.encoders.vision import load_vision
from encoderlab.errors import UsageError
from encoderlab.models.projectors import create_projector

IGNORED = -100  # label that transformers' loss ignores


class SimpleVLM(nn.Module):
    """A vision encoder, a projector and a causal language model. Only the projector is trained: the
    parameters of the other two have `requires_grad` False until you set it.

    Args:
        vision_encoder: bundled, alias, training run, folder or hub id.
        llm: a causal language model, by the same kinds of names.
        projector: "linear", "mlp", "mlp_norm", "cross_attention" (one token per image), or a module
            from (b, n, width of the encoder) to (b, any number, d).
        device: auto, cpu, cuda or cuda:N.
        dtype: auto, float32, bfloat16 or float16; the projector is always in fp32.
        max_length: texts are cut after that many tokens.
        trust_remote_code: whether Python that comes with a checkpoint may run.

    Raises:
        MissingError, UsageError: as `load_vision` and `load_text`; an unknown projector; a language
            model without positions left after the patches.
    """

    def __init__(
        self,
        vision_encoder: str | Path = "clip",
        llm: str | Path = "llama",
        projector: str | nn.Module = "mlp",
        *,
        device: str | int | None = "auto",
        dtype: str = "auto",
        max_length: int = MAX_LENGTH,
        trust_remote_code: bool = False,
    ) -> None:
        from transformers import AutoModelForCausalLM

        super().__init__()
        self.encoder = load_vision(
            vision_encoder, device, dtype, trust_remote_code=trust_remote_code
        )
        where = choose_device(device)
        kind = choose_dtype(dtype, where)
        checkpoint = resolve(llm, language=True, code=trust_remote_code)
        read_config(checkpoint, trust_remote_code)
        load: dict[str, Any] = {"dtype": kind, "trust_remote_code": trust_remote_code}
        with quiet_loading(llm):
            self.llm = pretrained(AutoModelForCausalLM, checkpoint.path, **load).eval().to(where)
            tokenizer = read_tokenizer(checkpoint, trust_remote_code)
        require_finite(self.llm, checkpoint)
        patches = self.encoder.grid[0] * self.encoder.grid[1]
        room = (positions_of(self.llm.base_model) or patches + max_length) - patches
        self.text = TextEncoder(
            self.llm.base_model, tokenizer, checkpoint, where, kind, min(max_length, room)
        )
        self.vision = self.encoder.module
        if isinstance(projector, str):
            projector = create_projector(projector, self.encoder.width, self.text.width)
        self.vision.requires_grad_(False)
        self.llm.requires_grad_(False)
        self.projector = projector.to(where)

    def encode_image(self, images: Any) -> Float[Tensor, "b n d"]:
        """The projected patches of images.

        Args:
            images: one image (path, PIL image, array or tensor) or a list of them.

        Returns:
            One row of tokens per image, in fp32.

        Raises:
            UsageError: no image, or something that is no image.
        """
        patches = self.encoder(self.encoder.pixel_values(images)).patches
        tokens = self.projector(patches)
        return tokens if tokens.ndim == 3 else tokens.unsqueeze(1)

    def forward(self, images: Any, texts: str | Sequence[str]) -> Any:
        """The language model's output for images and their texts.

        Args:
            images: as of `encode_image`.
            texts: one text per image; the end-of-text token is added.

        Returns:
            transformers' output: `loss`, the mean cross-entropy of the texts' tokens in nats, and
            `logits` (b, n + t, vocabulary).

        Raises:
            UsageError: no image or no text, or not one text per image.
        """
        end = self.text.tokenizer.eos_token or ""
        ended = [text + end for text in as_texts(texts)]
        self.text.count_cut(ended).warn()
        ids, mask = self.text.padded(ended)
        embeddings, whole, n = self._joined(images, ids, mask)
        labels = nn.functional.pad(ids.masked_fill(mask == 0, IGNORED), (n, 0), value=IGNORED)
        return self.llm(inputs_embeds=embeddings, attention_mask=whole, labels=labels)

    @torch.no_grad()
    def generate(self, image: Any, prompt: str = "", max_new_tokens: int = 32) -> str:
        """Greedy decoding after an image and a prompt.

        Args:
            image: one image: path, PIL image, array or tensor.
            prompt: the beginning of the text.
            max_new_tokens: the largest number of new tokens.

        Returns:
            The text after the prompt.

        Raises:
            UsageError: several images, or something that is no image.
        """
        ids, mask = self.text.padded([prompt])
        with evaluating(self):
            embeddings, whole, _ = self._joined(image, ids, mask)
            tokens = self.llm.generate(
                inputs_embeds=embeddings, attention_mask=whole, do_sample=False,
                max_new_tokens=max_new_tokens, pad_token_id=self.text.fill,
            )  # fmt: skip
        return self.text.tokenizer.decode(tokens[0], skip_special_tokens=True)

    def _joined(self, images: Any, ids: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, int]:
        """(embeddings of patches and text, their attention mask, tokens per image)."""
        patches = self.encode_image(images)
        if len(patches) != len(ids):
            raise UsageError(
                "not one text per image", got=f"{len(patches)} images, {len(ids)} texts"
            )
        words = self.llm.get_input_embeddings()(ids)
        n = patches.shape[1]
        whole = nn.functional.pad(mask, (n, 0), value=1)
        return torch.cat([patches.to(words), words], dim=1), whole, n
