"""The card of a VLM: right answers on held-out questions, beside the controls."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from encoderlab.core.results import Json
from encoderlab.core.results import score_text as shown
from encoderlab.vlm.evaluate import run as evaluate
from recipes.cards.facts import Facts
from recipes.settings import VLMS
from recipes.vlm import LANGUAGES, QUESTIONED

IMAGES = 1000
NAMES = {"en": "English", "ko": "Korean"}
COLUMNS = ("accuracy", "blind", "shuffled", "untrained", "common")

ABOUT = """
A small vision-language model: the patch tokens of `{encoder}` (the input of its last block, as in
LLaVA), 2 x 2 of them concatenated into one of 36 tokens, LayerNorm, a two-layer MLP, and a
`{llm}` that was trained with the projector ({megabytes:.1f} MB; the encoder is the bundled one). It
answers one question about a small image, in English or Korean, with the vocabulary of its training
questions.
"""

MEASURED = """
Exact match on images that were not in the training data, 95 % intervals over images. The controls
are a blind twin (the same language model, trained without images), the model with the image of
another question (shuffled), a twin with an untrained encoder, and the most common training answer
to the same question.

| questions | kind | n | right | blind twin | shuffled | untrained twin | most common |
|---|---|---|---|---|---|---|---|
{rows}

{verdicts}

The questions about sums (math) contain the numbers; answering them needs arithmetic that a model of
this size does not learn. At 96 x 96 pixels, most of the text of real charts, tables and mathematics
is unreadable.
"""


def about(config: dict[str, Any], facts: Facts) -> str:
    """The description of the model."""
    design = config["design"]
    (encoder,) = design["encoders"]
    return ABOUT.format(encoder=encoder, llm=design["llm"], megabytes=facts.megabytes)


def measured(folder: Path, real: Path | None) -> str:
    """Measures the model and its twins, in the work folder beside it; returns the tables."""
    recipe_run = folder.parent / f"{folder.name}-run"
    assert folder.name in VLMS and recipe_run.is_dir(), f"no {recipe_run}"
    sources: dict[str, dict[str, Any]] = {
        f"synthetic world, {NAMES[language]}": {"n": IMAGES, "languages": [language]}
        for language in LANGUAGES
    }
    if real is not None:
        for name in QUESTIONED:
            data = str(real / name / "qa.jsonl")
            sources[f"{name}, test split"] = {"n": 0, "data": data, "split": "test"}
    rows, verdicts = [], []
    with tempfile.TemporaryDirectory() as store:
        for title, options in sources.items():
            result = evaluate(model=[str(recipe_run)], features_dir=store, **options).to_json()
            (model,) = result["models"]
            rows += [_row(title, kind, model) for kind in model["accuracy"]]
            verdicts += [f"- {title}: {c['text']}" for c in result["comparisons"]]
    named = "\n".join(verdicts).replace(str(recipe_run), folder.name)
    return MEASURED.format(rows="\n".join(rows), verdicts=named)


def _row(title: str, kind: str, model: Json) -> str:
    scores = [_percent(model[column].get(kind)) for column in COLUMNS]
    return f"| {title} | {kind} | {model['accuracy'][kind]['n']:,} | {' | '.join(scores)} |"


def _percent(score: Json | None) -> str:
    if score is None or score["value"] is None:
        return shown(score)
    text = f"{100 * score['value']:.1f} %"
    if score.get("ci_low") is not None:
        text += f" [{100 * score['ci_low']:.1f}, {100 * score['ci_high']:.1f}]"
    return text
