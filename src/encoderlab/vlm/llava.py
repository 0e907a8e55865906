"""A LLaVA-family checkpoint of transformers, asked the same way as our own VLM."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from encoderlab.core.skipped import Skipped
from encoderlab.data.decode import ImageError
from encoderlab.encoders.checkpoint import Checkpoint
from encoderlab.encoders.hardware import choose_device, choose_dtype
from encoderlab.encoders.loading import pretrained, quiet_loading, require_finite
from encoderlab.errors import UsageError
from encoderlab.vlm.model import ANSWER_TOKENS, Answer
from encoderlab.vlm.prompt import answer_text
from encoderlab.vlm.questions import Question

FAMILIES = ("llava", "llava_next", "llava_onevision")
PLAIN = "USER: {image}\n{question} ASSISTANT:"  # of LLaVA-1.5, where there is no chat template


class LlavaVLM:
    """A LLaVA-family VLM of transformers.

    Args:
        checkpoint: its folder.
        device: auto, cpu, cuda or cuda:N.
        dtype: auto, float32, bfloat16 or float16.
        trust_remote_code: whether Python that comes with the checkpoint may run.

    Raises:
        UsageError: a damaged checkpoint.
    """

    def __init__(
        self, checkpoint: Checkpoint, device: str | int | None, dtype: str, trust_remote_code: bool
    ) -> None:
        from transformers import AutoModelForImageTextToText, AutoProcessor

        where = choose_device(device)
        options: dict[str, Any] = {
            "dtype": choose_dtype(dtype, where), "trust_remote_code": trust_remote_code
        }  # fmt: skip
        with quiet_loading(checkpoint.name):
            model = pretrained(AutoModelForImageTextToText, checkpoint.path, **options)
            self.processor = AutoProcessor.from_pretrained(checkpoint.path, use_fast=False)
        self.model = model.eval().to(where)
        require_finite(self.model, checkpoint)
        self.tokenizer = self.processor.tokenizer
        self.tokenizer.padding_side = "left"
        if self.tokenizer.pad_token is None:
            self.tokenizer.pad_token = self.tokenizer.eos_token
        self.name, self.common_answers = checkpoint.name, dict[str, str]()
        self.fingerprint = checkpoint.fingerprint
        # `fit` of `compressed_vision` while the model is compressed, for inputs with images.
        self.fit: Callable[[Any], Any] | None = None

    @property
    def device(self) -> torch.device:
        """Where the model runs."""
        return self.model.device

    def prompt(self, question: str, with_image: bool = True) -> str:
        """The text of a prompt.

        Args:
            question: its text.
            with_image: whether the image stands in it.

        Returns:
            The text, with the beginning of the assistant's turn.

        Raises:
            UsageError: a question without text.
        """
        if not question.strip():
            raise UsageError("the question is empty", got=question, want="a text")
        if getattr(self.processor, "chat_template", None):
            parts: list[dict[str, str]] = [{"type": "text", "text": question}]
            parts = [{"type": "image"}, *parts] if with_image else parts
            return self.processor.apply_chat_template(
                [{"role": "user", "content": parts}], add_generation_prompt=True
            )
        image = self.processor.image_token if with_image else ""
        return PLAIN.format(image=image, question=question).replace("USER: \n", "USER: ")

    def inputs(self, images: Sequence[Image.Image] | None, texts: list[str]) -> Any:
        """The inputs of the model, on its device.

        Args:
            images: one per text; None for texts without an image.
            texts: prompts, padded on the left.

        Returns:
            As the processor gives them.
        """
        inputs = self.processor(
            images=None if images is None else list(images), text=texts,
            padding=True, return_tensors="pt",
        )  # fmt: skip
        inputs = inputs.to(self.model.device)
        if "pixel_values" in inputs:
            inputs["pixel_values"] = inputs["pixel_values"].to(self.model.dtype)
        return inputs if images is None or self.fit is None else self.fit(inputs)

    @torch.no_grad()
    def answers(
        self,
        images: Sequence[Image.Image] | None,
        questions: list[str],
        max_new_tokens: int = ANSWER_TOKENS,
    ) -> list[Answer]:
        """Greedy answers to a batch of questions.

        Args:
            images: one per question; None to ask without an image.
            questions: their texts.
            max_new_tokens: an answer is cut after that many tokens.

        Returns:
            One answer per question, with its probability.

        Raises:
            UsageError: an empty question.
        """
        prompts = [self.prompt(question, images is not None) for question in questions]
        inputs = self.inputs(images, prompts)
        out = self.model.generate(
            **inputs, do_sample=False, num_beams=1, max_new_tokens=max_new_tokens,
            pad_token_id=self.tokenizer.pad_token_id,
            return_dict_in_generate=True, output_logits=True,
        )  # fmt: skip
        new = out.sequences[:, -len(out.logits) :]
        logs = torch.stack([step.float().log_softmax(dim=-1) for step in out.logits], dim=1)
        chosen = logs.gather(2, new[:, :, None])[:, :, 0]
        # Behind the first end of text there is padding only.
        ended = (new == self.tokenizer.eos_token_id).cumsum(dim=1)
        counted = (ended - (new == self.tokenizer.eos_token_id).long()) == 0
        texts = self.tokenizer.batch_decode(new, skip_special_tokens=True)
        sums = (chosen * counted).sum(dim=1).exp().tolist()
        return [Answer(text.strip(), value) for text, value in zip(texts, sums, strict=True)]

    @torch.no_grad()
    def log_likelihood(
        self, images: Sequence[Image.Image] | None, questions: list[str], answers: list[str]
    ) -> Float[Tensor, " b"]:
        """The log-likelihood of an answer to each question, its end included.

        Args:
            images: one per question; None to ask without an image.
            questions: one per image.
            answers: one per image.

        Returns:
            In nats, at most 0.

        Raises:
            UsageError: an empty question or answer.
        """
        if not all(answer.strip() for answer in answers):
            raise UsageError("an answer is empty", want="a text in every answer")
        prompts = [self.prompt(question, images is not None) for question in questions]
        ids = [
            [*self.tokenizer(answer_text(prompt, answer), add_special_tokens=False).input_ids,
             self.tokenizer.eos_token_id]
            for prompt, answer in zip(prompts, answers, strict=True)
        ]  # fmt: skip
        values = []
        for number, answer in enumerate(ids):  # one by one: answers follow unpadded prompts
            image = None if images is None else [images[number]]
            inputs = self.inputs(image, [prompts[number]])
            label = torch.tensor([answer], device=self.model.device)
            inputs["input_ids"] = torch.cat([inputs["input_ids"], label], dim=1)
            inputs["attention_mask"] = F.pad(inputs["attention_mask"], (0, len(answer)), value=1)
            if "mm_token_type_ids" in inputs:
                inputs["mm_token_type_ids"] = F.pad(inputs["mm_token_type_ids"], (0, len(answer)))
            logits = self.model(**inputs).logits[0, -len(answer) - 1 : -1].float()
            values.append(-F.cross_entropy(logits, label[0], reduction="sum"))
        return torch.stack(values)


class Pictures:
    """The images of questions, decoded when they are asked for.

    Args:
        questions: those whose image cannot be read are left out.

    Attributes:
        questions: those with an image.
        skipped: the images that cannot be read, and why.
    """

    def __init__(self, questions: Sequence[Question]) -> None:
        self.skipped: list[Skipped] = []
        images = {question.image.id: question.image for question in questions}
        readable: dict[str, int] = {}
        for number, (name, sample) in enumerate(images.items()):
            try:
                sample.load()
                readable[name] = number
            except ImageError as error:
                self.skipped.append(Skipped(name, error.reason))
        self.questions = [q for q in questions if q.image.id in readable]
        self.image = [readable[q.image.id] for q in self.questions]

    def of(self, rows: Sequence[int]) -> list[Image.Image]:
        """The images of some questions, by number."""
        return [self.questions[row].image.load() for row in rows]


def is_llava(checkpoint: Checkpoint) -> bool:
    """Whether a checkpoint is of the LLaVA family."""
    return checkpoint.family in FAMILIES
