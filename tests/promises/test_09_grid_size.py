"""The example that prints a grid prints what it is meant to."""

from encoderlab import TokenSimilarityAnalyzer
from encoderlab.data.synthetic import generate


def test_a_square_grid_prints_as_one_number():
    result = TokenSimilarityAnalyzer("tiny-clip", "cpu").analyze(generate(3, split="test").image)
    assert f"Grid size: {result.grid_size}x{result.grid_size}" == "Grid size: 12x12"
    assert result.grid == (12, 12) and type(result.grid_size) is int
