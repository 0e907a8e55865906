"""The recipe behind the zoo runs from end to end on a thousandth of its data."""

import dataclasses

import pytest

from encoderlab.data.synthetic import KINDS
from encoderlab.encoders.dual import load_dual
from recipes import card, settings, train
from recipes.cards import pairs, short_queries
from recipes.settings import CLIPS, RECIPES, scaled


@pytest.mark.slow
@pytest.mark.parametrize("name", CLIPS)
def test_a_small_run_trains_exports_and_writes_its_card(name, tmp_path, monkeypatch):
    recipe = CLIPS[name]
    small = dataclasses.replace(
        recipe,
        synthetic_images=200,
        training=dataclasses.replace(recipe.training, epochs=1, batch_size=128),
        short=tuple(
            dataclasses.replace(
                stage,
                training=dataclasses.replace(stage.training, epochs=1, batch_size=128),
                scenes=60,
                others=60,
            )
            for stage in recipe.short
        ),
    )
    monkeypatch.setattr(train, "VALIDATION_IMAGES", 30)
    monkeypatch.setattr(short_queries, "PICTURES", 300)
    monkeypatch.setattr(pairs, "SYNTHETIC_IMAGES", 25)
    monkeypatch.setitem(settings.CLIPS, name, small)
    folder = train.train_clip(name, small, None, tmp_path, resume=False)
    encoder = load_dual(str(folder))
    assert encoder.dim == recipe.shape.embed_dim
    text = card.write_card(folder, None, None).read_text(encoding="utf-8")
    assert "| synthetic world, Korean (25 images" in text
    assert "The synthetic world alone." in text


@pytest.mark.parametrize("share", [0.01, 0.29, 0.57])
@pytest.mark.parametrize("name", RECIPES)
def test_a_trial_scales_every_stage(name, share):
    whole, part = RECIPES[name], scaled(RECIPES[name], share)
    assert part.synthetic_images == pytest.approx(max(1000, whole.synthetic_images * share), abs=5)
    for stage, of in zip(getattr(part, "short", ()), getattr(whole, "short", ()), strict=True):
        for count, full in ((stage.scenes, of.scenes), (stage.others, of.others)):
            assert count == pytest.approx(max(500, full * share), abs=1)
    if isinstance(part, settings.SelfSupervisedRecipe):
        assert part.synthetic_images % len(KINDS) == 0


def test_a_start_is_refused_where_there_is_one_stage(capsys):
    assert train.main(["tiny-llama", "--start", "folder"]) == 2
    assert "tiny-clip" in capsys.readouterr().err


def test_an_unknown_name_is_answered_in_words(capsys):
    assert train.main(["tiny-clp"]) == 2
    assert "'tiny-clip'" in capsys.readouterr().err
