"""Trains a bundled checkpoint: `python -m recipes.train tiny-clip --real FOLDER`.

Renders the synthetic world, reads the real pairs where they are given, trains and exports in fp16.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import sys
from pathlib import Path

import numpy as np
import torch

from encoderlab.contrastive.augment import STRENGTHS, augment
from encoderlab.contrastive.dataset import ImageTextDataset
from encoderlab.contrastive.images import DecodedImages, decode_all
from encoderlab.contrastive.loop import ContrastiveTrainer
from encoderlab.contrastive.validation import RetrievalValidation
from encoderlab.core.progress import note
from encoderlab.data.sample import Sample
from encoderlab.data.synthetic import KINDS, render_arrays
from encoderlab.data.synthetic.words import KIND_NAMES
from encoderlab.errors import EncoderLabError, UsageError
from encoderlab.models import checkpoint
from encoderlab.models.clip import CLIP, Preprocess, Tokenizer, TwoTowers
from encoderlab.training.devices import make_fabric
from encoderlab.training.loggers import make_logger
from recipes.language import train_language_model
from recipes.real_data import SETS, read_set
from recipes.self_supervised import train_self_supervised
from recipes.settings import RECIPES, CLIPRecipe, LanguageRecipe, VLMRecipe, recipe_of, scaled
from recipes.siglip import SigLIP
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


def train_clip(
    name: str, recipe: CLIPRecipe, root: Path | None, folder: Path, resume: bool
) -> Path:
    """Trains and exports; returns the exported folder."""
    size = recipe.shape.vision.image_size
    preprocess = Preprocess(size, "squash", *((HALF, HALF) if recipe.siglip else ()))
    pixels, samples = synthetic_part(0, recipe.synthetic_images, size, recipe.captions_per_image)
    val_pixels, val_samples = synthetic_part(VALIDATION_START, VALIDATION_IMAGES, size, 1)
    if root is not None:
        more, real = real_part(root, "train", preprocess, recipe.real_copies)
        pixels, samples = np.concatenate([pixels, more]), samples + real
        emoji = [
            dataclasses.replace(s, texts=s.texts[:1])
            for s in read_set(SETS[0], root, "val", ("en",))
        ]
        checked = decode_all(emoji, preprocess, "real validation images")
        assert checked.pixels is not None
        val_pixels = np.concatenate([val_pixels, checked.pixels])
        val_samples += checked.samples
    texts = itertools.chain.from_iterable(sample.texts for sample in samples)
    text = recipe.shape.text
    tokenizer = Tokenizer.train_bpe(texts, text.vocab_size, text.context_length)
    shape = dataclasses.replace(
        recipe.shape,
        text=dataclasses.replace(
            text, vocab_size=tokenizer.vocab_size, end_token_id=tokenizer.end_id
        ),
    )
    torch.manual_seed(recipe.training.seed)
    model_class = SigLIP if recipe.siglip else CLIP
    model: TwoTowers = model_class(
        shape, tokenizer, preprocess, patch_dropout=recipe.training.patch_dropout
    )
    fabric = make_fabric()
    val = DecodedImages(val_samples, val_pixels, [])
    padding = model.reads_padding
    validate = RetrievalValidation(val, tokenizer, preprocess, fabric.device, keep_padding=padding)
    trainer = ContrastiveTrainer(
        model,
        ImageTextDataset(samples, tokenizer, preprocess, pixels, padding),
        recipe.training,
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
        f"{len(trainer.pairs):,} pairs, {trainer.schedule.total_steps:,} steps, kinds {KINDS}"
    )
    done = trainer.run()
    note(f"{name}: {done.seconds:.0f} s, {done.rows_per_second:.0f} pairs/s")
    best = checkpoint.read(folder / "checkpoints" / "best.ckpt")
    model.load_state_dict(best["average"] or best["weights"])
    model.trained_steps = best["step"]
    return model.save_pretrained(folder / name, half=True)


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
    args = parser.parse_args(argv)
    try:
        name, recipe = args.name, scaled(recipe_of(args.name), args.scale)
        if isinstance(recipe, CLIPRecipe):
            exported = train_clip(name, recipe, args.real, args.out, args.resume)
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
