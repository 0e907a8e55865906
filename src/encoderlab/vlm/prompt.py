"""The text around the image: a question as token ids, with the place where the image tokens go.

Question and answer are tokenised apart, in training as in scoring, so that no token spans both.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from jaxtyping import Int
from torch import Tensor

from encoderlab.errors import UsageError

IMAGE = -1  # stands for an image token among the ids of a row
IGNORED = -100  # the label that counts for no loss
MARK = "<image>"


class Rows(NamedTuple):
    """A batch of prompts, each with an answer or without, padded on the left.

    Args:
        ids: (b, t) token ids; `IMAGE` where an image token goes, and the fill id for padding.
        mask: (b, t) 1 for every token but padding.
        labels: (b, a) the ids of the answers, at the end of `ids`; `IGNORED` before shorter ones.
    """

    ids: Int[Tensor, "b t"]
    mask: Int[Tensor, "b t"]
    labels: Int[Tensor, "b a"]

    @property
    def positions(self) -> Int[Tensor, "b t"]:
        """Positions that do not count padding."""
        return (self.mask.cumsum(dim=1) - 1).clamp_min(0)

    def to(self, device: torch.device) -> Rows:
        """The same rows on a device."""
        return Rows(self.ids.to(device), self.mask.to(device), self.labels.to(device))


class Prompter:
    """Makes the token ids of questions and answers.

    Args:
        tokenizer: of the LLM; its chat template is used where it has one.
        fill: id of padding, masked everywhere.
        context: how many positions the LLM has; None for no limit.
        name: of the LLM, for messages.
    """

    def __init__(self, tokenizer: Any, fill: int, context: int | None, name: str) -> None:
        self.tokenizer, self.fill, self.context, self.name = tokenizer, fill, context, name
        self._ending = self.text("?")
        self.end = tokenizer.eos_token_id
        if self.end is None:
            raise UsageError(
                "the tokenizer has no end-of-text token", got=name, want="eos_token: answers end"
            )

    def question_ids(self, question: str) -> tuple[list[int], list[int]]:
        """The ids before and after the image.

        Args:
            question: its text.

        Returns:
            (before, after); the template's beginning and end of the assistant's turn included.

        Raises:
            UsageError: a question without text.
        """
        if not question.strip():
            raise UsageError("the question is empty", got=question, want="a text")
        before, _, after = self.text(question.replace(MARK, " ")).partition(MARK)
        return self._ids(before), self._ids(after)

    def text(self, question: str) -> str:
        """The prompt of a question as text, with `MARK` for the image."""
        if not self.tokenizer.chat_template:
            return (self.tokenizer.bos_token or "") + MARK + question
        message = [{"role": "user", "content": f"{MARK}\n{question}"}]
        return self.tokenizer.apply_chat_template(
            message, tokenize=False, add_generation_prompt=True
        )

    def answer_ids(self, answer: str) -> list[int]:
        """The ids of an answer, with the end of text.

        Args:
            answer: its text.

        Returns:
            At least two ids.

        Raises:
            UsageError: an answer without text.
        """
        if not answer.strip():
            raise UsageError("the answer is empty", got=answer, want="a text")
        return [*self._ids(answer_text(self._ending, answer)), self.end]

    def rows(
        self, questions: list[str], answers: list[str] | None = None, image_tokens: int = 0
    ) -> Rows:
        """A batch of prompts.

        Args:
            questions: their texts.
            answers: one per question; None for prompts to answer.
            image_tokens: how many tokens the image takes; 0: no image.

        Returns:
            The rows, on the CPU.

        Raises:
            UsageError: an empty question or answer, or a row longer than the LLM's context.
        """
        rows, labels = [], []
        for number, question in enumerate(questions):
            before, after = self.question_ids(question)
            answer = [] if answers is None else self.answer_ids(answers[number])
            rows.append([*before, *[IMAGE] * image_tokens, *after, *answer])
            labels.append(answer)
            if self.context is not None and len(rows[-1]) > self.context:
                raise UsageError(
                    f"the prompt does not fit into the context of {self.name}",
                    got=f"{image_tokens} image tokens and {len(rows[-1]) - image_tokens} of text",
                    want=f"at most {self.context} together",
                    hint="keep fewer image tokens: --reduce average:16; or shorten the question",
                )
        return Rows(
            self._padded(rows, self.fill),
            self._padded([[1] * len(row) for row in rows], 0),
            self._padded(labels, IGNORED),
        )

    def decode(self, ids: list[int]) -> str:
        """The text of generated ids, without special tokens and outer white space."""
        return self.tokenizer.decode(ids, skip_special_tokens=True).strip()

    def _ids(self, text: str) -> list[int]:
        return self.tokenizer(text, add_special_tokens=False).input_ids if text else []

    @staticmethod
    def _padded(rows: list[list[int]], fill: int) -> Int[Tensor, "b t"]:
        longest = max(map(len, rows))
        return torch.tensor([[fill] * (longest - len(row)) + row for row in rows]).long()


def answer_text(prompt: str, answer: str) -> str:
    """The text of an answer, as it follows a prompt.

    Args:
        prompt: its text.
        answer: with or without white space around it.

    Returns:
        The answer after a space; without one where the prompt ends with white space, as chat
        templates do that end with a line break.
    """
    return answer.strip() if prompt[-1:].isspace() else f" {answer.strip()}"
