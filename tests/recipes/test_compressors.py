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

GRID = (12, 12)
BUDGETS = {f"tiny-clip-12to{side}": (side, side) for side in (6, 4, 3)}


@pytest.fixture(scope="module")
def sets():
    encoder = load_vision("tiny-clip", "cpu", "float32")
    test = [generate(i, split="test").image for i in range(60)]
    fit = [generate(i).image for i in range(400)]
    return encoder, TokenSet.of(encoder, fit, 3).tokens, TokenSet.of(encoder, test, 3).tokens


def test_all_three_are_there_and_small():
    assert set(shipped()) == set(BUDGETS)
    assert sum((path / WEIGHTS).stat().st_size for path in shipped().values()) < 12e6


@pytest.mark.parametrize("name", BUDGETS)
def test_it_is_of_the_bundled_encoder_and_below_the_bounds(name, sets):
    encoder, fit, test = sets
    compressor = Compressor.from_pretrained(name)
    budget = BUDGETS[name]
    assert compressor.budgets == (budget,)
    assert compressor.about["fingerprint"] == encoder.fingerprint
    mean = fit.mean(dim=(0, 1))

    def error(method):
        decoded = method.decode(method.compress(test, GRID, budget), GRID)
        return normalised_error(test, decoded, mean)

    own = error(compressor)
    assert own < error(BlockPCA().fit(fit, GRID, budget))
    assert own < 0.3 * error(AveragePooling())
    side = f"{budget[0]} x {budget[1]}"
    card = next(iter(shipped().values())).parent / "README.md"
    assert side in card.read_text(encoding="utf-8")
