"""A VLM's training step from stored image tokens against the same step written plainly with
transformers' LlavaForConditionalGeneration, and batched answers against one by one.

Same encoder, language model, projector, questions and optimiser, bf16 autocast where the machine
has it; turns alternate in one process. Prints the ratio of questions/s.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from table import Row, report

from encoderlab.encoders.hardware import cpu_has_bf16
from encoderlab.training.devices import make_fabric
from encoderlab.training.optimiser import adamw
from encoderlab.vlm.export import to_llava
from encoderlab.vlm.model import VLM
from encoderlab.vlm.prompt import IGNORED, answer_text
from encoderlab.vlm.questions import Question, synthetic_questions
from encoderlab.vlm.trainer import Recipe, VisionTokens, VLMTrainer


def plain_step(folder: Path, questions: list[Question], bf16: bool) -> Callable[[list[int]], None]:
    """One step of LLaVA as its documentation writes it: processor, labels, loss, optimiser."""
    from transformers import AutoProcessor, LlavaForConditionalGeneration

    model = LlavaForConditionalGeneration.from_pretrained(folder).train()
    processor: Any = AutoProcessor.from_pretrained(folder, use_fast=False)
    tokenizer = processor.tokenizer
    tokenizer.pad_token, tokenizer.padding_side = tokenizer.eos_token, "left"
    model.model.vision_tower.requires_grad_(False)
    optimiser = adamw(model, 1e-3, 0.05)

    def step(rows: list[int]) -> None:
        prompts, texts = [], []
        for row in rows:
            content = [{"type": "image"}, {"type": "text", "text": questions[row].text}]
            message = [{"role": "user", "content": content}]
            prompt = processor.apply_chat_template(message, add_generation_prompt=True)
            prompts.append(prompt)
            answer = answer_text(prompt, questions[row].answers[0])
            texts.append(prompt + answer + tokenizer.eos_token)
        images = [questions[row].image.load() for row in rows]
        inputs = processor(images=images, text=texts, padding=True, return_tensors="pt")
        labels = torch.full_like(inputs["input_ids"], IGNORED)
        for i, (prompt, text) in enumerate(zip(prompts, texts, strict=True)):
            count = len(tokenizer(text).input_ids) - len(tokenizer(prompt).input_ids)
            labels[i, -count:] = inputs["input_ids"][i, -count:]
        optimiser.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            loss = model(**inputs, labels=labels).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()

    return step


def rates(
    steps: dict[str, Callable[[int], None]], turns: int, per_turn: int
) -> dict[str, list[float]]:
    """Calls per second of each function, turn by turn; the first turn warms up."""
    found: dict[str, list[float]] = {name: [] for name in steps}
    for turn in range(turns + 1):
        for name, step in steps.items():
            started = time.perf_counter()
            for number in range(per_turn):
                step(turn * per_turn + number)
            if turn:
                found[name].append(per_turn / (time.perf_counter() - started))
    return found


def main() -> None:
    """Prints both comparisons."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--steps", type=int, default=4, help="steps a turn")
    parser.add_argument("--repeat", type=int, default=5, help="turns; the median ratio counts")
    given = parser.parse_args()
    size, bf16 = given.batch_size, cpu_has_bf16()
    questions = synthetic_questions("train", range(size * 8), ["en"])
    batches = [list(range(i, i + size)) for i in range(0, len(questions), size)]
    work = Path(tempfile.mkdtemp())
    model = VLM.build(norm=False, dtype="float32", device="cpu")
    llava = to_llava(model, work / "llava")
    data = VisionTokens(model, questions, work / "store")
    recipe = Recipe("all", 1, size, 1e-3, 1e-3, 0.05, None, 1.0, 8, blind=False, seed=0)
    trainer = VLMTrainer(model, data, data, recipe, make_fabric("cpu"), work / "run")
    plain = plain_step(llava, questions, bf16)
    found = rates(
        {
            "ours": lambda i: trainer.train_step(batches[i % len(batches)]) and None,
            "plain": lambda i: plain(batches[i % len(batches)]),
        },
        given.repeat,
        given.steps,
    )
    _report(f"VLM training step, all 144 image tokens, batch {size}", found, size,
            "LlavaForConditionalGeneration, written plainly", 1.5, bf16)  # fmt: skip
    asked = VLM.load("tiny-vlm", "cpu")
    tokens, texts = data.of(batches[0]), [questions[i].text for i in batches[0]]

    def one_by_one(_: int) -> None:
        for i, text in enumerate(texts):
            asked.answers(tokens[i : i + 1], [text])

    found = rates(
        {"ours": lambda i: asked.answers(tokens, texts) and None, "plain": one_by_one},
        given.repeat,
        1,
    )
    _report(f"answers of tiny-vlm in one batch of {size}", found, size, "one by one", 5, bf16)


def _report(
    name: str, found: dict[str, list[float]], size: int, against: str, target: float, bf16: bool
) -> None:
    ratios = np.array(found["ours"]) / np.array(found["plain"])
    ours, plain = (f"{size * np.median(found[key]):.0f} questions/s" for key in ("ours", "plain"))
    report(
        Row(name, ours, plain, against, tuple(ratios.tolist()), str(target),
            bool(np.median(ratios) >= target), "bf16" if bf16 else "fp32")
    )  # fmt: skip


if __name__ == "__main__":
    main()
