"""Trains the bundled language models: next-token loss on captions, questions and answers.

The texts are those of the synthetic world, in English and Korean, and of the real sets where they
are given. Reads no image.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Regex, decoders, models, normalizers, pre_tokenizers, processors, trainers
from tokenizers import Tokenizer as Pipeline
from torch.nn.utils.rnn import pad_sequence

from encoderlab.core.atomic_io import write_text_atomic
from encoderlab.core.progress import note, progress
from encoderlab.data.synthetic import generate
from encoderlab.encoders.hardware import choose_device, choose_dtype
from encoderlab.training.optimiser import adamw, learning_rate
from recipes.real_data import SETS, read_set
from recipes.settings import LanguageRecipe

LLAMA_MARKS = {"bos_token": "<s>", "eos_token": "</s>"}  # no padding token, like the real ones
QWEN_MARKS = {"eos_token": "<|endoftext|>", "pad_token": "<|endoftext|>"}


@dataclass(frozen=True)
class Perplexity:
    """exp of the mean negative log-likelihood per token, of a model and of a unigram model that
    knows only token frequencies, over the same tokens."""

    model: float
    unigram: float
    tokens: int
    texts: int


def synthetic_texts(first: int, count: int, split: str = "train") -> Iterator[tuple[str, str]]:
    """(language, text) of `count` images: captions, and question with answer."""
    for index in range(first, first + count):
        item = generate(index, split=split, size=8)  # words do not depend on the size
        for caption in item.captions:
            yield "en", caption
        for caption in item.captions_ko:
            yield "ko", caption
        yield "en", f"{item.question} {item.answer}"
        yield "ko", f"{item.question_ko} {item.answer_ko}"


def real_texts(root: Path, split: str) -> Iterator[str]:
    """Captions of the real sets, and questions with their answers where a set has them."""
    for real_set in SETS:
        for sample in read_set(real_set, root, split, ("en", "ko")):
            yield from sample.texts
        questions = root / real_set.name / "qa.jsonl"
        lines = questions.read_text(encoding="utf-8").splitlines() if questions.is_file() else []
        for record in map(json.loads, lines):
            if record["split"] == split:
                parts = [part for message in record["messages"] for part in message["content"]]
                yield " ".join(part["text"] for part in parts if part["type"] == "text")


def train_language_model(
    name: str, recipe: LanguageRecipe, root: Path | None, folder: Path
) -> Path:
    """Trains and exports; returns the exported folder."""
    texts = [text for _, text in synthetic_texts(0, recipe.synthetic_images)]
    if root is not None:
        texts += list(real_texts(root, "train")) * recipe.real_copies
    marks = LLAMA_MARKS if recipe.architecture == "llama" else QWEN_MARKS
    pipeline = train_vocabulary(texts, recipe.vocab_size, marks)
    stream = packed(pipeline, texts, marks, recipe.seed)
    rows = stream[: len(stream) // recipe.context * recipe.context].reshape(-1, recipe.context)
    torch.manual_seed(recipe.seed)
    model = build(recipe, pipeline, marks)
    device = choose_device()
    dtype = choose_dtype("auto", device)
    model.to(device).train()
    steps = recipe.epochs * (len(rows) // recipe.batch_size)
    note(
        f"{name}: {sum(p.numel() for p in model.parameters()) / 1e6:.2f} M parameters, "
        f"{len(texts):,} texts, {len(stream):,} tokens, {steps:,} steps"
    )
    optimiser = adamw(model, recipe.lr, recipe.wd)
    started = time.perf_counter()
    rng = np.random.default_rng(recipe.seed)
    step = 0
    with progress("training", total=steps * recipe.batch_size, unit="row") as bar:
        for _ in range(recipe.epochs):
            order = rng.permutation(len(rows))
            for start in range(0, len(rows) - recipe.batch_size + 1, recipe.batch_size):
                batch = rows[np.sort(order[start : start + recipe.batch_size])].astype(np.int64)
                for group in optimiser.param_groups:
                    group["lr"] = learning_rate(step, recipe.lr, recipe.warmup_steps, steps)
                ids = torch.from_numpy(batch).to(device)
                with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
                    loss = model(input_ids=ids, labels=ids).loss
                optimiser.zero_grad()
                loss.backward()
                torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                optimiser.step()
                step += 1
                bar.advance(recipe.batch_size, f"loss {float(loss.detach()):.3f}")
    seconds = time.perf_counter() - started
    note(f"{name}: {seconds:.0f} s, {step * recipe.batch_size * recipe.context / seconds:,.0f} t/s")
    out = folder / name
    counts = np.bincount(stream, minlength=pipeline.get_vocab_size())
    save(model, pipeline, marks, counts, step, out)
    return out


def train_vocabulary(texts: Sequence[str], size: int, marks: dict[str, str]) -> Pipeline:
    """Byte-level BPE that keeps case, with the special tokens of its family and Qwen's splitting
    rules, which transformers puts into every tokenizer of a qwen2 checkpoint."""
    from transformers.models.qwen2.tokenization_qwen2 import PRETOKENIZE_REGEX

    pipeline = Pipeline(models.BPE())
    pipeline.normalizer = normalizers.NFC()
    pipeline.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PRETOKENIZE_REGEX), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    pipeline.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=list(dict.fromkeys(marks.values())),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    pipeline.train_from_iterator(texts, trainer)
    if "bos_token" in marks:
        start = marks["bos_token"]
        pipeline.post_processor = processors.TemplateProcessing(
            single=f"{start} $A", special_tokens=[(start, pipeline.token_to_id(start))]
        )
    return pipeline


def packed(
    pipeline: Pipeline, texts: Sequence[str], marks: dict[str, str], seed: int
) -> np.ndarray:
    """All texts in random order as one stream of ids, each between its start and end token."""
    end = pipeline.token_to_id(marks["eos_token"])
    assert end is not None
    order = np.random.default_rng(seed).permutation(len(texts))
    parts: list[int] = []
    for block in range(0, len(order), 20_000):
        chosen = [texts[i] for i in order[block : block + 20_000]]
        for encoding in pipeline.encode_batch(chosen):
            parts += [*encoding.ids, end]
    return np.array(parts, dtype=np.int32)


def build(recipe: LanguageRecipe, pipeline: Pipeline, marks: dict[str, str]) -> Any:
    """The untrained Hugging Face model of a recipe."""
    from transformers import LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM

    ids = {f"{mark}_id": pipeline.token_to_id(token) for mark, token in marks.items()}
    shape: dict[str, Any] = {
        "vocab_size": pipeline.get_vocab_size(),
        "hidden_size": recipe.width,
        "num_hidden_layers": recipe.layers,
        "num_attention_heads": recipe.heads,
        "num_key_value_heads": recipe.key_value_heads,
        "intermediate_size": recipe.mlp_width,
        "max_position_embeddings": 2 * recipe.context,
        "tie_word_embeddings": True,
        "bos_token_id": None,
        **ids,
    }
    model: Any
    if recipe.architecture == "llama":
        model = LlamaForCausalLM(LlamaConfig(**shape))
    else:
        model = Qwen2ForCausalLM(Qwen2Config(**shape))
    # In the backward pass in bf16 on a CPU, eager attention is faster than the fused kernel.
    model.set_attn_implementation("eager")
    return model


def save(
    model: Any, pipeline: Pipeline, marks: dict[str, str], counts: np.ndarray, steps: int, out: Path
) -> None:
    """Writes a Hugging Face folder in fp16, and the count of every token in training."""
    model.config.encoderlab = {"trained_steps": steps}
    model.half().save_pretrained(out)
    write_text_atomic(out / "tokenizer.json", pipeline.to_str())
    record = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": model.config.max_position_embeddings,
        "clean_up_tokenization_spaces": False,
        **marks,
    }
    write_text_atomic(out / "tokenizer_config.json", json.dumps(record, indent=2) + "\n")
    # The unigram model of `perplexity`.
    write_text_atomic(out / "token_counts.json", json.dumps(counts.tolist()) + "\n")


@torch.inference_mode()
def perplexity(folder: Path, texts: Sequence[str]) -> Perplexity:
    """Perplexity of the model in `folder` over the tokens of each text and its end token, in fp32.

    Every text is evaluated alone, after the token that starts a text in training.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    counts = np.array(json.loads((folder / "token_counts.json").read_text(encoding="utf-8")))
    unigram = np.log(counts + 1) - math.log(counts.sum() + len(counts))
    end = tokenizer.eos_token_id
    start = end if tokenizer.bos_token_id is None else tokenizer.bos_token_id
    model_loss = unigram_loss = 0.0
    total = 0
    for block in range(0, len(texts), 64):
        rows = [
            [start, *tokenizer(text, add_special_tokens=False).input_ids, end]
            for text in texts[block : block + 64]
        ]
        ids = pad_sequence([torch.tensor(row) for row in rows], batch_first=True, padding_value=end)
        lengths = torch.tensor([len(row) for row in rows])
        mask = (torch.arange(ids.shape[1]) < lengths[:, None]).long()
        log_p = model(input_ids=ids, attention_mask=mask).logits[:, :-1].log_softmax(dim=-1)
        log_p = log_p.gather(-1, ids[:, 1:, None]).squeeze(-1) * mask[:, 1:]
        model_loss -= float(log_p.double().sum())
        unigram_loss -= float(sum(unigram[row[1:]].sum() for row in rows))
        total += int(mask[:, 1:].sum())
    return Perplexity(
        math.exp(model_loss / total), math.exp(unigram_loss / total), total, len(texts)
    )
