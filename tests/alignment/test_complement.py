"""`complement`: ordered pairs of encoders, the models they share, and the answer in words."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
from tests.plots.test_figures import features

import encoderlab
from encoderlab.alignment.complement import analyse
from encoderlab.alignment.pair_scores import unit
from encoderlab.core.results import Table
from encoderlab.errors import MissingError, UsageError
from encoderlab.metrics.complement import complement


@pytest.fixture(scope="module")
def aligned():
    """Two encoders that see a half of the LLM's features each, and a rotation of the first one."""
    rng = np.random.default_rng(0)
    data = features(120, ["left", "right", "turned"], ["llm"], ["all"])
    z = rng.standard_normal((120, 16))
    rotation = np.linalg.qr(rng.standard_normal((8, 8)))[0]
    pooled = {"left": z[:, :8], "right": z[:, 8:], "turned": z[:, :8] @ rotation}
    vision = {name: replace(x, pooled=pooled[name]) for name, x in data.vision.items()}
    noisy = z + 0.5 * rng.standard_normal(z.shape)
    return replace(data, vision=vision, text={"llm": replace(data.text["llm"], pooled=noisy)},
                   texts=tuple(f"text {i}" for i in range(120)))  # fmt: skip


def test_who_adds_to_whom(aligned):
    result = analyse(aligned)
    adds = {(row.added, row.base) for row in result.rows if row.adds}
    assert len(result.rows) == 6
    assert adds == {("right", "left"), ("left", "right"), ("right", "turned"), ("turned", "right")}
    assert "right adds to left for llm" in result.answer
    assert "no gain can be shown of turned to left" in result.to_text()


def test_shared_models_give_what_every_pair_gives_by_itself(aligned):
    rows = analyse(aligned).rows
    target = unit(aligned.text["llm"].pooled)
    for row, (base, added) in zip(rows, itertools.permutations(aligned.vision, 2), strict=True):
        alone = complement(
            unit(aligned.vision[base].pooled), unit(aligned.vision[added].pooled), target,
            texts=aligned.texts, comparisons=6, seed=aligned.seed,
        )  # fmt: skip
        assert (row.base, row.added) == (base, added)
        for own, other in ((row.gain, alone.gain), (row.over_copy, alone.over_control),
                           (row.recall_gain, alone.recall_gain)):  # fmt: skip
            values = [(c.difference, c.ci_low, c.ci_high) for c in (own, other)]
            np.testing.assert_allclose(*values, atol=1e-9)
            assert own.level == pytest.approx(1 - 0.05 / 6)
        assert row.copy_r2.value == pytest.approx(alone.control.value)
        assert row.added_r2.value == pytest.approx(alone.added.r2.value)


def test_a_constant_encoder_is_undefined(tmp_path):
    result = analyse(features(12, ["one", "constant"], ["llm"], ["all"]), tmp_path)
    assert not any(row.adds for row in result.rows)
    by_base = {row.base: row for row in result.rows}
    assert by_base["constant"].gain.difference is None
    assert "the same for every sample" in by_base["constant"].to_text()
    assert (tmp_path / "complement.png").is_file()


def test_too_few_images_are_undefined_in_every_cell():
    result = analyse(features(2, ["one", "two"], ["llm"], ["all"]))
    table = next(block for block in result.blocks() if isinstance(block, Table))
    assert [line[-1] for line in table.rows] == ["undefined", "undefined"]
    assert "of differences 97.5 %" in table.said[0]
    assert {row.gain.level for row in result.rows} == {1 - 0.05 / 2}


def test_a_gain_that_the_copies_hide_is_said(aligned):
    row = next(row for row in analyse(aligned).rows if not row.adds)
    hidden = replace(row, hidden_by_copies=True, samples_needed=None).to_text()
    assert "hides" in hidden and "hides" not in replace(row, hidden_by_copies=False).to_text()


def test_one_encoder_is_refused_before_any_work():
    with pytest.raises(UsageError):
        encoderlab.complement(encoders=["no such model"])


@pytest.mark.parametrize(
    "named",
    [
        {"encoders": ["tiny-clip", "nonsens"]},
        {"encoders": ["tiny-clip", "tiny-dinov2"], "llms": ["nonsens"]},
    ],
)
def test_an_unknown_name_is_refused_before_any_features_are_extracted(named, tmp_path):
    with pytest.raises(MissingError) as refused:
        encoderlab.complement(**named, n_samples=2, features_dir=str(tmp_path / "store"))
    assert "nonsens" in str(refused.value)
    assert not (tmp_path / "store").exists()
