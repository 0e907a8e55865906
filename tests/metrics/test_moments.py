"""Streaming CKA equals the n x n one, merged in any order, whatever the offset."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from encoderlab.errors import UsageError
from encoderlab.metrics.cka import cka
from encoderlab.metrics.moments import Moments, cka_of_shards, merge


def features(n, seed, offset=0.0, widths=(5, 3)):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, widths[0]))
    y = x[:, : widths[1]] + 0.5 * rng.standard_normal((n, widths[1]))
    return x + offset, y - 2 * offset


@given(
    st.integers(6, 60),
    st.lists(st.integers(0, 60), max_size=5),
    st.sampled_from([0.0, 1e3, 1e5]),
    st.integers(0, 10**6),
)
def test_any_split_in_any_order_equals_the_gram_form(n, cuts, offset, seed):
    x, y = features(n, seed, offset)
    places = np.split(np.arange(n), sorted(min(cut, n) for cut in cuts))
    np.random.default_rng(seed).shuffle(places)
    state = merge(Moments.of({"x": x[rows], "y": y[rows]}) for rows in places)
    assert state.n == n
    for estimator in ("biased", "debiased"):
        assert state.cka("x", "y", estimator) == pytest.approx(
            float(cka(x, y, estimator=estimator)), abs=1e-10
        )
        assert state.cka("y", "x", estimator) == pytest.approx(state.cka("x", "y", estimator))


def test_updating_is_merging():
    x, y = features(50, 0)
    state = Moments.of({"x": x[:20], "y": y[:20]})
    state.update({"x": x[20:], "y": y[20:]})
    assert state.cka("x", "y") == pytest.approx(float(cka(x, y)), abs=1e-12)


def test_state_does_not_grow_with_the_samples():
    def numbers(n):
        x, y = features(n, 0)
        state = Moments.of({"x": x, "y": y})
        return sum(c.numel() for c in state.comoments.values())

    assert numbers(10) == numbers(500) == 25 + 15 + 9


def test_saved_and_loaded_it_goes_on(tmp_path):
    x, y = features(40, 1)
    Moments.of({"x": x[:25], "y": y[:25]}).save(tmp_path / "state.npz")
    state = Moments.load(tmp_path / "state.npz")
    state.update({"x": x[25:], "y": y[25:]})
    assert state.cka("x", "y") == pytest.approx(float(cka(x, y)), abs=1e-12)


def test_shards_give_the_interval_of_the_jackknife():
    x, y = features(2000, 2)
    shards = [Moments.of({"x": x[i::40], "y": y[i::40]}) for i in range(40)]
    by_shards, by_samples = cka_of_shards(shards, "x", "y"), cka(x, y)
    assert by_shards.value == pytest.approx(by_samples.value, abs=1e-12)
    width = by_samples.ci_high - by_samples.ci_low
    assert by_shards.ci_high - by_shards.ci_low == pytest.approx(width, rel=0.35)
    assert by_shards.z == pytest.approx(by_samples.z)
    assert cka_of_shards(shards, "x", "y", "biased").chance == pytest.approx(
        cka(x, y, estimator="biased").chance
    )


@given(st.integers(8, 60), st.sampled_from([0.0, 1e3, 1e5]), st.integers(0, 10**6))
def test_taking_a_part_out_undoes_its_merge(n, offset, seed):
    x, y = features(n, seed, offset)
    cut = n // 3
    part, rest = (Moments.of({"x": x[r], "y": y[r]}) for r in (slice(cut), slice(cut, None)))
    found = part.merged(rest).without(part)
    assert found.n == rest.n
    for estimator in ("biased", "debiased"):
        expected = float(cka(x[cut:], y[cut:], estimator=estimator))
        assert found.cka("x", "y", estimator) == pytest.approx(expected, abs=1e-9)


def test_a_part_that_is_none_is_refused():
    small, large = (Moments.of({"x": features(n, 0)[0]}) for n in (5, 9))
    with pytest.raises(UsageError, match="the state is no part of this one"):
        small.without(large)
    assert large.without(large).n == 0 and large.without(Moments()) is large


def test_undefined_and_wrong_states_say_why():
    assert "at least 4" in Moments.of({"x": np.eye(3), "y": np.eye(3)}).why_undefined(
        "x", "y", "debiased"
    )
    flat = Moments.of({"x": np.full((9, 2), 0.1), "y": np.random.default_rng(0).random((9, 2))})
    assert "same for every sample" in flat.why_undefined("x", "y", "debiased")
    with pytest.raises(UsageError, match="no such model"):
        flat.cka("x", "z")
    with pytest.raises(UsageError, match="other models"):
        flat.merged(Moments.of({"x": np.eye(4)}))


@pytest.mark.parametrize(
    "spoil",
    [
        lambda arrays: {k: v for k, v in arrays.items() if k != "comoments|a|b"},
        lambda arrays: {k: v for k, v in arrays.items() if k != "norms|a|a"},
        lambda arrays: arrays | {"mean|a": np.array("text")},
        lambda arrays: arrays | {"mean|b": np.array([])},
        lambda arrays: arrays | {"comoments|a|a": np.zeros(3)},
        lambda arrays: arrays | {"norms|a|b": np.array([1.0, 2.0])},
    ],
)
def test_a_spoiled_state_is_none(tmp_path, spoil):
    file = tmp_path / "state.npz"
    rng = np.random.default_rng(0)
    Moments.of({"a": rng.normal(size=(6, 3)), "b": rng.normal(size=(6, 2))}).save(file)
    np.savez(file, **spoil(dict(np.load(file))))
    with pytest.raises(UsageError, match="this is no saved state of moments"):
        Moments.load(file)


def test_a_damaged_file_is_refused(tmp_path):
    file = tmp_path / "state.npz"
    Moments.of({"a": np.eye(6), "b": np.eye(6)}).save(file)
    flipped, newer = bytearray(file.read_bytes()), bytearray(file.read_bytes())
    flipped[200] ^= 1
    newer[newer.rfind(b"PK\x01\x02") + 6] = 255  # the zip version that is needed to read it
    for content in (b"", b"nothing", flipped, newer):
        file.write_bytes(content)
        with pytest.raises(UsageError):
            Moments.load(file)
