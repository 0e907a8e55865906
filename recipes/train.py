"""Trains a bundled checkpoint: `python -m recipes.train tiny-clip --real FOLDER`.

Renders the synthetic world, reads the real pairs where they are given, trains and exports in fp16.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from transformers import SiglipModel

from encoderlab.contrastive.augment import STRENGTHS, augment
from encoderlab.contrastive.dataset import ImageTextDataset
from encoderlab.contrastive.images import DecodedImages, decode_all
from encoderlab.contrastive.loop import ContrastiveTrainer, Recipe
from encoderlab.contrastive.validation import RetrievalValidation
from encoderlab.core.progress import note
from encoderlab.data.sample import Sample
from encoderlab.data.synthetic import KINDS, render_arrays
from encoderlab.data.synthetic.words import KIND_NAMES
from encoderlab.errors import EncoderLabError, UsageError
from encoderlab.models import checkpoint
from encoderlab.models.clip import CLIP, Preprocess, Tokenizer
from encoderlab.models.clip.conversion import pad_id
from encoderlab.training.devices import make_fabric
from encoderlab.training.loggers import make_logger
from recipes.language import train_language_model
from recipes.real_data import SETS, read_set
from recipes.self_supervised import train_self_supervised
from recipes.settings import (
    CLIPS,
    RECIPES,
    CLIPRecipe,
    LanguageRecipe,
    ShortRecipe,
    VLMRecipe,
    recipe_of,
    scaled,
)
from recipes.short_captions import tags_of
from recipes.siglip import SigLIP
from recipes.sparse import SparseCLIP, SparseImages, SparseSigLIP
from recipes.tag_loss import TagTrainer
from recipes.vlm import train_vlm

LANGUAGES = ("en", "ko")
VALIDATION_IMAGES = 500
HALF = (0.5, 0.5, 0.5)
# Probability that one caption of a synthetic image is replaced by the name of its kind.
NAMED_SHARE = 0.4
PROMPTS = ("{}", "a {}", "a picture of a {}", "a photo of a {}", "an image of a {}")
# Validation images have numbers of the training split that training never reaches.
VALIDATION_START = 50_000_000


def synthetic_part(
    first: int, count: int, size: int, captions: int
) -> tuple[np.ndarray, list[Sample]]:
    """`count` rendered images of the training split, (count, 3, size, size), and their texts: the
    complete English caption and `captions - 1` others, of either language or the kind's name."""
    rendered = render_arrays(range(first, first + count), split="train", size=size, processes=2)
    rng = np.random.default_rng(first)
    samples = []
    for i, (complete, *others) in enumerate(rendered.texts):
        picked = rng.permutation(len(others))[: captions - 1]
        texts = (complete, *(others[p] for p in picked))
        if captions > 1 and rng.random() < NAMED_SHARE:
            texts = (*texts[:-1], _named(rendered.labels[i], rng))
        samples.append(Sample(f"synthetic/{first + i}", Path(f"synthetic/{first + i}"), texts))
    return rendered.pixels.transpose(0, 3, 1, 2), samples


def _named(kind: str, rng: np.random.Generator) -> str:
    """The name of the image's kind, so that the model learns zero-shot prompts."""
    english, korean = KIND_NAMES[kind]
    if rng.random() < 0.25:
        return korean[rng.integers(len(korean))]
    name = english[rng.integers(len(english))]
    return PROMPTS[rng.integers(len(PROMPTS))].format(name)


def real_part(
    root: Path, split: str, preprocess: Preprocess, copies: int
) -> tuple[np.ndarray, list[Sample]]:
    """Every real image of `split`, as it is and `copies - 1` times augmented, with its texts."""
    samples = [
        dataclasses.replace(s, texts=(*s.texts, data.kind[number % len(data.kind)]))
        for data in SETS
        for number, s in enumerate(read_set(data, root, split, LANGUAGES))
    ]
    checked = decode_all(samples, preprocess, f"real {split} images")
    assert checked.pixels is not None
    strong = STRENGTHS["strong"]
    assert strong is not None
    generator = torch.Generator().manual_seed(0)
    parts = [checked.pixels]
    for _ in range(copies - 1):
        altered = [
            augment(torch.from_numpy(block).float(), strong, generator).round().byte().numpy()
            for block in np.array_split(checked.pixels, max(1, len(checked.pixels) // 512))
        ]
        parts.append(np.concatenate(altered))
    return np.concatenate(parts), checked.samples * copies


def short_part(recipe: ShortRecipe, size: int) -> tuple[np.ndarray, list[Sample], list[list[str]]]:
    """Pictures of the training split with long captions.

    Args:
        recipe: which pictures.
        size: pixels a side.

    Returns:
        Pixels (n, 3, size, size), samples, and what short captions are right for each.
    """
    pixels: list[np.ndarray] = []
    samples: list[Sample] = []
    tags: list[list[str]] = []
    rng = np.random.default_rng(recipe.first)
    for kind, numbers in recipe.pictures():
        rendered = render_arrays(numbers, split="train", size=size, kind=kind, processes=2)
        pixels.append(rendered.pixels.transpose(0, 3, 1, 2))
        for number, (complete, *others) in enumerate(rendered.texts):
            tags.append(tags_of(rendered.labels[number], complete))
            # A scene has many tags; other kinds have one or two, and need both long captions.
            if rendered.labels[number] == "scene":
                long = [complete if rng.random() < 0.5 else others[rng.integers(len(others))]]
            else:
                long = [complete, others[rng.integers(len(others))]]
            id = f"synthetic/{kind}/{recipe.first + number}"
            samples.append(Sample(id, Path(id), tuple(dict.fromkeys(long))))
    return np.concatenate(pixels), samples, tags


def train_clip(
    name: str,
    recipe: CLIPRecipe,
    root: Path | None,
    folder: Path,
    resume: bool,
    start: Path | None = None,
) -> Path:
    """Trains with long captions, then with captions of every length, and exports.

    Args:
        name: of the checkpoint.
        recipe: its shape, data and schedules.
        root: folder of the real sets; None for the synthetic world alone.
        folder: of checkpoints and the exported model.
        resume: go on from the checkpoints in `folder`.
        start: an exported model that replaces the first stage.

    Returns:
        The exported folder.
    """
    size = recipe.shape.vision.image_size
    preprocess = Preprocess(size, "squash", *((HALF, HALF) if recipe.siglip else ()))
    val_pixels, val_samples = synthetic_part(VALIDATION_START, VALIDATION_IMAGES, size, 1)
    real: tuple[np.ndarray, list[Sample]] | None = None
    if root is not None:
        real = real_part(root, "train", preprocess, recipe.real_copies)
        emoji = [
            dataclasses.replace(s, texts=s.texts[:1])
            for s in read_set(SETS[0], root, "val", ("en",))
        ]
        checked = decode_all(emoji, preprocess, "real validation images")
        assert checked.pixels is not None
        val_pixels = np.concatenate([val_pixels, checked.pixels])
        val_samples += checked.samples
    val = DecodedImages(val_samples, val_pixels, [])
    if start is None:
        pixels, samples = synthetic_part(
            0, recipe.synthetic_images, size, recipe.captions_per_image
        )
        texts = (text for s in [*samples, *(real[1] if real else [])] for text in s.texts)
        text = recipe.shape.text
        tokenizer = Tokenizer.train_bpe(texts, text.vocab_size, text.context_length)
        model = _built(recipe, preprocess, tokenizer)
        model = _fit(name, model, pixels, samples, real, val, recipe.training, folder, resume)
    else:
        model = exported(recipe, preprocess, start)
    if real is not None:  # once: these stages alter every picture anew
        real = _thinned(real, len(real[1]) // recipe.real_copies)
    for stage, part in enumerate(recipe.short):
        pixels, samples, tags = short_part(part, size)
        model.kept, model.whole = part.kept, part.whole
        if part.scale is not None:
            assert isinstance(model, SigLIP)
            model.sharpen(part.scale)
        model = _fit(
            name, model, pixels, samples, real, val, part.training, folder / f"short-{stage}",
            resume, tags,
        )  # fmt: skip
    return model.save_pretrained(folder / name, half=True)


def _thinned(real: tuple[np.ndarray, list[Sample]], count: int) -> tuple[np.ndarray, list[Sample]]:
    """The first `count` real pictures, with at most two of the texts of each."""
    rng = np.random.default_rng(count)
    samples = [
        dataclasses.replace(s, texts=tuple(s.texts[i] for i in rng.permutation(len(s.texts))[:2]))
        for s in real[1][:count]
    ]
    return real[0][:count], samples


def _built(recipe: CLIPRecipe, preprocess: Preprocess, tokenizer: Tokenizer) -> SparseImages:
    """A model with fresh weights for the vocabulary of `tokenizer`."""
    text = dataclasses.replace(
        recipe.shape.text, vocab_size=tokenizer.vocab_size, end_token_id=tokenizer.end_id
    )
    torch.manual_seed(recipe.training.seed)
    return (SparseSigLIP if recipe.siglip else SparseCLIP)(
        dataclasses.replace(recipe.shape, text=text),
        tokenizer,
        preprocess,
        patch_dropout=recipe.training.patch_dropout,
    )


def exported(recipe: CLIPRecipe, preprocess: Preprocess, folder: Path) -> SparseImages:
    """The model that an earlier run of the recipe exported to `folder`, in fp32."""
    length = recipe.shape.text.context_length
    tokenizer = Tokenizer.from_folder(folder, length, pad_id(folder, recipe.shape.text.vocab_size))
    model = _built(recipe, preprocess, tokenizer)
    if isinstance(model, SigLIP):
        weights = SiglipModel.from_pretrained(folder, dtype=torch.float32).state_dict()
        model.network.load_state_dict(weights)
    else:
        model.load_state_dict(CLIP.from_pretrained(folder).state_dict())
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    model.trained_steps = config["encoderlab"]["trained_steps"]
    return model


def _fit(
    name: str,
    model: SparseImages,
    pixels: np.ndarray,
    samples: list[Sample],
    real: tuple[np.ndarray, list[Sample]] | None,
    val: DecodedImages,
    recipe: Recipe,
    folder: Path,
    resume: bool,
    tags: Sequence[Sequence[str]] | None = None,
) -> SparseImages:
    """The model after one stage of training; `tags` are those of `short_part`."""
    before = model.trained_steps or 0
    if real is not None:
        pixels, samples = np.concatenate([pixels, real[0]]), samples + real[1]
    tokenizer, padding = model.tokenizer, model.reads_padding
    assert tokenizer is not None
    fabric = make_fabric()
    preprocess = model.preprocess
    pairs = ImageTextDataset(samples, tokenizer, preprocess, pixels, padding)
    make_trainer: Callable[..., ContrastiveTrainer] = ContrastiveTrainer
    if tags is not None:
        make_trainer = partial(TagTrainer, tags)
    validate = RetrievalValidation(val, tokenizer, preprocess, fabric.device, keep_padding=padding)
    trainer = make_trainer(
        model,
        pairs,
        recipe,
        fabric,
        folder,
        workers=0,
        validate=validate,
        val_pairs=validate.pairs,
        logger=make_logger("tensorboard", folder),
    )
    latest = folder / "checkpoints" / "latest.ckpt"
    if resume and latest.is_file():
        trainer.resume(latest)
    note(
        f"{name}: {sum(p.numel() for p in model.parameters()) / 1e6:.2f} M parameters, "
        f"{len(pairs):,} pairs, {trainer.schedule.total_steps:,} steps, kinds {KINDS}"
    )
    done = trainer.run()
    note(f"{name}: {done.seconds:.0f} s, {done.rows_per_second:.0f} pairs/s")
    # Validation has long captions only: it does not say which epoch is best with short ones.
    file = "best.ckpt" if tags is None else "latest.ckpt"
    record = checkpoint.read(folder / "checkpoints" / file)
    model.load_state_dict(record["average"] or record["weights"])
    model.trained_steps = before + record["step"]
    return model


def main(argv: list[str] | None = None) -> int:
    """The command line of this module."""
    parser = argparse.ArgumentParser(prog="python -m recipes.train", description=__doc__)
    parser.add_argument("name", help=f"which checkpoint: {', '.join(RECIPES)}")
    parser.add_argument(
        "--real",
        type=Path,
        help="folder of the unpacked real sets; without it the synthetic world alone is learned",
    )
    parser.add_argument("--out", type=Path, default=Path("outputs/zoo"), help="work folder")
    parser.add_argument(
        "--scale", type=float, default=1.0, help="share of the synthetic pictures, for a trial"
    )
    parser.add_argument("--resume", action="store_true", help="go on from the work folder")
    parser.add_argument(
        "--start", type=Path, help="of a CLIP: an exported folder instead of the first stage"
    )
    args = parser.parse_args(argv)
    try:
        name, recipe = args.name, scaled(recipe_of(args.name), args.scale)
        if args.start is not None and not isinstance(recipe, CLIPRecipe):
            raise UsageError(
                "only a CLIP has stages after the first", got=f"--start for {name}",
                want=f"one of {', '.join(CLIPS)}",
            )  # fmt: skip
        if isinstance(recipe, CLIPRecipe):
            exported = train_clip(name, recipe, args.real, args.out, args.resume, args.start)
        elif isinstance(recipe, VLMRecipe):
            exported = train_vlm(name, recipe, args.real, args.out, args.resume)
        else:
            if args.resume:
                raise UsageError(
                    "this model trains in minutes, so it keeps no state to resume from",
                    got=f"--resume for {name}",
                    want="a fresh start",
                )
            if isinstance(recipe, LanguageRecipe):
                exported = train_language_model(name, recipe, args.real, args.out)
            else:
                exported = train_self_supervised(name, recipe, args.real, args.out)
    except EncoderLabError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    print(exported)
    return 0


if __name__ == "__main__":
    sys.exit(main())
