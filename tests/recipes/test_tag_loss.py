"""Training on every short caption: its loss, its wordings, which pictures are wrong for a tag."""

from pathlib import Path

import numpy as np
import pytest
import torch

from encoderlab.contrastive.dataset import ImageTextDataset
from encoderlab.contrastive.loop import ContrastiveTrainer, Recipe
from encoderlab.data.sample import Sample
from encoderlab.models.clip import CLIP, Preprocess, Tokenizer
from encoderlab.models.clip.config import CLIPConfig, TextConfig, ViTConfig
from encoderlab.training.devices import make_fabric
from recipes.short_captions import ENGLISH, KOREAN, NUMBER, TAGS
from recipes.tag_loss import TagTrainer, ranking_loss, wordings

NAMES = ("red star", "blue star", "red circle")


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.train_bpe([*TAGS, *TAGS.values()], 500, 24)


def trainer(tokenizer: Tokenizer, folder: Path, tags: list[list[str]] | None) -> ContrastiveTrainer:
    """Of a small fresh model and three pictures of noise, whose captions say nothing."""
    torch.manual_seed(0)
    text = TextConfig(tokenizer.vocab_size, 24, 32, 2, 2, 48, end_token_id=tokenizer.end_id)
    model = CLIP(CLIPConfig(ViTConfig(32, 8, 48, 2, 3, 64), text, 32), tokenizer=tokenizer)
    model.preprocess = Preprocess(32, "squash")
    pixels = np.random.default_rng(0).integers(0, 256, (3, 3, 32, 32), dtype=np.uint8)
    samples = [Sample(str(i), folder / f"{i}.png", ("it",)) for i in range(3)]
    pairs = ImageTextDataset(samples, tokenizer, model.preprocess, pixels)
    recipe = Recipe.of(epochs=40, batch_size=3, lr=2e-3, warmup_steps=2)
    fabric = make_fabric("cpu", 1, "auto", "fp32")
    if tags is None:
        return ContrastiveTrainer(model, pairs, recipe, fabric, folder, workers=0)
    return TagTrainer(tags, model, pairs, recipe, fabric, folder, workers=0)


def test_every_right_column_is_ranked_against_the_wrong_ones_alone():
    torch.manual_seed(0)
    logits = torch.randn(4, 5, dtype=torch.float64, requires_grad=True)
    right = torch.tensor([[1, 1, 0, 0, 0], [0, 0, 0, 0, 0], [1, 1, 1, 1, 1], [0, 0, 1, 0, 0]]) > 0
    wrong = ~right
    wrong[3, 4] = False  # neither right nor wrong
    loss = ranking_loss(logits, right, wrong)
    rows = []
    for row in (0, 2, 3):
        power = np.exp(logits.detach().numpy()[row])
        shares = [
            power[c] / (power[c] + power[wrong[row]].sum()) for c in np.flatnonzero(right[row])
        ]
        rows.append(-np.log(shares).mean())
    assert loss.item() == pytest.approx(np.mean(rows))
    loss.backward()
    assert logits.grad.isfinite().all() and not logits.grad[1:3].any()


def test_no_right_column_at_all_costs_nothing():
    logits, right = torch.zeros(2, 3), torch.zeros(2, 3, dtype=torch.bool)
    assert float(ranking_loss(logits, right, ~right)) == 0.0


def test_names_find_their_pictures_after_training(tokenizer, tmp_path):
    run = trainer(tokenizer, tmp_path, [[name, name.split()[1]] for name in NAMES])
    pixels = run.module.preprocess.standardise(run.pairs.__getitems__([0, 1, 2]).pixels.float())
    run.run()
    korean = [TAGS[name] for name in NAMES]
    with torch.no_grad():
        images = torch.nn.functional.normalize(run.module.eval().encode_image(pixels), dim=-1)
        for texts in (list(NAMES), korean):
            names = torch.nn.functional.normalize(run.module.encode_text(tokenizer(texts)), dim=-1)
            assert (names @ images.T).argmax(dim=1).tolist() == [0, 1, 2]
        stars = tokenizer(["star"])
        assert (run.module.encode_text(stars) @ images.T).argmin() == 2


def test_a_picture_without_tags_is_neither_right_nor_wrong(tokenizer, tmp_path):
    plain = trainer(tokenizer, tmp_path / "plain", None)
    tagged = trainer(tokenizer, tmp_path / "tagged", [["star"]])

    def added(pictures: list[int]) -> float:
        losses = []
        for run in (tagged, plain):
            torch.manual_seed(0)
            losses.append(float(run.backward(run.pairs.__getitems__(pictures))))
        return losses[0] - losses[1]

    assert added([1, 2]) == 0
    assert added([0]) > 0.1
    assert added([0, 1]) == pytest.approx(added([0]), abs=1e-5)


@pytest.mark.parametrize("keep_padding", [False, True])
def test_a_tag_has_every_wording_of_both_languages(tokenizer, keep_padding):
    tokens = wordings(tokenizer, keep_padding)
    assert tokens.shape[:2] == (len(ENGLISH) + len(KOREAN), len(TAGS))
    assert (tokens == tokenizer.end_id).any(dim=-1).all()
    first, last = tokens[0, NUMBER["red star"]], tokens[-1, NUMBER["red star"]]
    for row, text in ((first, "red star"), (last, KOREAN[-1].format(TAGS["red star"]))):
        expected = tokenizer([text])[0]
        assert torch.equal(row, expected[: len(row)])
        assert keep_padding or tokens.shape[-1] < len(expected)
