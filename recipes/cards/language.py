"""The card of a language model: perplexity on held-out texts, beside a unigram model's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from recipes.cards.facts import Facts
from recipes.language import perplexity, real_texts, synthetic_texts
from recipes.real_data import SETS, read_set
from recipes.settings import LANGUAGE_MODELS

PICTURES = 500
LANGUAGES = {"en": "English", "ko": "Korean"}

ABOUT = """
A small language model that replaces an LLM where none can be downloaded: {millions:.2f} M
parameters (fp16, {megabytes:.1f} MB), `{architecture}`, width {width}, {layers} layers, a
vocabulary of {vocabulary:,}. It was trained with the next-token loss on the captions, questions and
answers of the synthetic world and of the real sets, in English and Korean, and models no other
text.
"""

MEASURED = """
Perplexity per token (exp of the mean negative log-likelihood) of the model and of a unigram model
(token frequencies of the training texts), over the same tokens. Lower is better; ratio is the
perplexity of the unigram model divided by that of the model.

| texts | tokens | perplexity | unigram | ratio |
|---|---|---|---|---|
{rows}
"""


def about(config: dict[str, Any], facts: Facts) -> str:
    """The description of the model."""
    return ABOUT.format(
        architecture=config["architectures"][0],
        width=config["hidden_size"],
        layers=config["num_hidden_layers"],
        vocabulary=config["vocab_size"],
        **vars(facts),
    )


def held_out_captions(language: str, trained_on: int, pictures: int | None = None) -> list[str]:
    """Distinct captions of test images that are not among the training texts."""
    trained = {text for code, text in synthetic_texts(0, trained_on) if code == language}
    test = synthetic_texts(0, pictures or PICTURES, split="test")
    new = (text for code, text in test if code == language and text not in trained)
    return list(dict.fromkeys(new))


def measured(folder: Path, real: Path | None) -> str:
    """Measures the model; returns the table."""
    trained_on = LANGUAGE_MODELS[folder.name].synthetic_images
    sets = {
        f"synthetic world, {name}, none of them in training": held_out_captions(code, trained_on)
        for code, name in LANGUAGES.items()
    }
    if real is not None:
        trained = set(real_texts(real, "train"))
        for code, name in LANGUAGES.items():
            samples = (s for data in SETS for s in read_set(data, real, "test", (code,)))
            texts = (text for sample in samples for text in sample.texts if text not in trained)
            title = f"real sets' test captions, {name}, none of them in training"
            sets[title] = list(dict.fromkeys(texts))
    rows = []
    for name, captions in sets.items():
        result = perplexity(folder, captions)
        rows.append(
            f"| {name} ({result.texts:,}) | {result.tokens:,} | {result.model:.1f} | "
            f"{result.unigram:.1f} | {result.unigram / result.model:.1f} x |"
        )
    return MEASURED.format(rows="\n".join(rows))
