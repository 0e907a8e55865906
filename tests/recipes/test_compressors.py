"""The bundled compressors: they load, are small, and beat the linear bound on held-out images."""

import pytest

from encoderlab import Compressor
from encoderlab.compression.compressor import WEIGHTS, shipped
from encoderlab.compression.token_set import TokenSet
from encoderlab.data.synthetic import generate
from encoderlab.encoders.vision import load_vision
from encoderlab.patch_tokens.linear import BlockPCA
from encoderlab.patch_tokens.pooling import AveragePooling
from encoderlab.patch_tokens.reducer import normalised_error
from encoderlab.zoo import ZOO

GRID, SIDES = (12, 12), (6, 4, 3)
BY_RECONSTRUCTION = {
    f"{encoder}-12to{side}" for encoder in ("tiny-clip", "tiny-siglip") for side in SIDES
}
BY_ANSWERS = {f"tiny-siglip-12to{side}-answers" for side in (4, 3)}


@pytest.fixture(scope="module", params=["tiny-clip", "tiny-siglip"])
def sets(request):
    encoder = load_vision(request.param, "cpu", "float32")
    test = [generate(i, split="test").image for i in range(60)]
    fit = [generate(i).image for i in range(400)]
    return encoder, TokenSet.of(encoder, fit, 3).tokens, TokenSet.of(encoder, test, 3).tokens


def test_all_are_there_and_small():
    assert set(shipped()) == BY_RECONSTRUCTION | BY_ANSWERS
    sizes = {name: (path / WEIGHTS).stat().st_size for name, path in shipped().items()}
    for encoder, most in (("tiny-clip", 12e6), ("tiny-siglip", 11e6)):
        assert sum(size for name, size in sizes.items() if name.startswith(encoder)) < most


@pytest.mark.parametrize("side", SIDES)
def test_it_is_of_the_bundled_encoder_and_below_the_bounds(side, sets):
    encoder, fit, test = sets
    compressor, budget = Compressor.from_pretrained(f"{encoder.name}-12to{side}"), (side, side)
    assert compressor.budgets == (budget,) and compressor.label == "trained"
    assert compressor.about["fingerprint"] == encoder.fingerprint
    mean = fit.mean(dim=(0, 1))

    def error(method):
        decoded = method.decode(method.compress(test, GRID, budget), GRID)
        return normalised_error(test, decoded, mean)

    own = error(compressor)
    assert own < error(BlockPCA().fit(fit, GRID, budget))
    assert own < 0.3 * error(AveragePooling())


@pytest.mark.parametrize("name", sorted(BY_ANSWERS))
def test_those_of_answers_go_on_from_those_of_reconstruction(name):
    compressor = Compressor.from_pretrained(name)
    before = Compressor.from_pretrained(name.removesuffix("-answers"))
    assert compressor.label == "trained_answers" and compressor.about["answers"] == "tiny-vlm"
    assert compressor.about["init"] == name.removesuffix("-answers")
    assert compressor.model.shape == before.model.shape
    # The standardisation is that of the start.
    assert compressor.model.scale.mean.allclose(before.model.scale.mean)
    validation = compressor.about["validation"]
    assert validation["val/answers"] >= 0.95 * validation["val/answers_of_all_tokens"]


def test_the_card_names_every_one():
    card = (ZOO / "compressors" / "README.md").read_text(encoding="utf-8")
    assert all(f"`{name}`" in card for name in shipped())
