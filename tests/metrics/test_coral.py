"""CORAL, EAS and ELAS against numpy, scipy and sums by hand."""

import numpy as np
import pytest
from scipy.stats import entropy

from encoderlab.errors import UsageError
from encoderlab.metrics.alignment_scores import AlignmentMetrics, ProjectorOutcome
from encoderlab.metrics.cka import cka
from encoderlab.metrics.coral import (
    CORALAnalyzer,
    coral,
    coral_of_moments,
    effective_rank,
    spectrum,
)
from encoderlab.metrics.moments import Moments
from encoderlab.metrics.preflight import preflight


def cloud(n, d, seed, scale=1.0):
    return scale * np.random.default_rng(seed).standard_normal((n, d))


def test_distance_is_numpys_covariances_and_similarity_its_inverse():
    x, y = cloud(50, 6, 0), cloud(50, 6, 1, 2.0)
    found = coral(x, y)
    expected = np.square(np.cov(x.T) - np.cov(y.T)).sum() / (4 * 36)
    assert found.distance == pytest.approx(expected)
    assert found.similarity == pytest.approx(1 / (1 + expected))
    assert found.mean_distance == pytest.approx(np.linalg.norm(x.mean(0) - y.mean(0)))


def test_other_widths_compare_sorted_spectra():
    x, y = cloud(50, 6, 0), cloud(50, 4, 1)
    found = coral(x, y)
    spectra = [np.linalg.eigvalsh(np.cov(one.T))[::-1][:4] for one in (x, y)]
    assert found.distance == pytest.approx(np.square(spectra[0] - spectra[1]).sum() / (4 * 16))
    assert found.mean_distance is None
    p, q = (one / one.sum() for one in spectra)
    assert found.spectral_divergence == pytest.approx((entropy(p, q) + entropy(q, p)) / 2)
    hellinger = np.linalg.norm(np.sqrt(p) - np.sqrt(q)) / np.sqrt(2)
    assert found.spectral_similarity == pytest.approx(1 - hellinger)
    assert found.width == 4


def test_fewer_samples_than_dimensions_compare_what_there_is():
    assert coral(cloud(9, 30, 0), cloud(9, 20, 1)).width == 8
    assert len(spectrum(cloud(9, 30, 0))) == 8


def test_equal_clouds_are_alike_and_shuffling_changes_nothing():
    x = cloud(40, 5, 0)
    y = np.random.default_rng(1).permutation(x)
    found = coral(x, y)
    assert found.similarity == pytest.approx(1)
    assert found.spectral_similarity == pytest.approx(1)
    assert found.spectral_divergence == pytest.approx(0, abs=1e-12)


def test_published_similarity_of_unit_rows_is_pinned_at_one():
    x, y = (
        one / np.linalg.norm(one, axis=1, keepdims=True)
        for one in (cloud(90, 768, 0), cloud(90, 768, 1))
    )
    found = coral(x, y)
    assert found.pinned and found.similarity > 1 - 1e-6
    bound = 2 * (90 / 89) ** 2 / (4 * 768**2)
    assert found.distance < bound


def test_constant_features_and_single_samples_are_undefined():
    assert "same for every" in coral(np.ones((5, 3)), cloud(5, 3, 0)).undefined
    assert "at least 2" in coral(cloud(1, 3, 0), cloud(1, 3, 0)).undefined


@pytest.mark.parametrize(("n", "widths"), [(60, (8, 8)), (60, (9, 5)), (6, (12, 8)), (1, (3, 3))])
def test_coral_of_moments_is_that_of_the_features(n, widths):
    rng = np.random.default_rng(n)
    x, y = (rng.standard_normal((n, width)) * 3 + 5 for width in widths)
    state = Moments.of({"x": x, "y": y})
    found, expected = coral_of_moments(state, "x", state, "y"), coral(x, y)
    for name, value in expected.to_json().items():
        near = pytest.approx(value, rel=1e-7) if isinstance(value, float) else value
        assert found.to_json()[name] == near, name
    constant = Moments.of({"x": np.ones((9, 4)), "y": rng.standard_normal((9, 4))})
    said = coral_of_moments(constant, "x", constant, "y").undefined
    assert said == "the features are the same for every sample"


def test_effective_rank_of_equal_directions_is_their_number():
    x = np.concatenate([np.eye(4), -np.eye(4)])
    assert effective_rank(x) == pytest.approx(4)


def test_eas_is_the_weighted_sum():
    x, y, labels = cloud(40, 5, 0), cloud(40, 5, 1), ["a", "b"] * 20
    found = CORALAnalyzer().compute_eas("clip", x, "llama", y, labels)
    parts = found.parts
    assert parts["cka"] == (cka(x, y, estimator="biased").value, cka(x, y).value)
    assert parts["coral"][0] == coral(x, y).similarity
    expected = 0.3 * parts["cka"][0] + 0.3 * parts["coral"][0] + 0.4 * parts["discriminability"][0]
    assert found.published == pytest.approx(expected)


def test_published_eas_of_few_images_and_unrelated_text_is_high_and_calibrated_is_not():
    unit = lambda one: one / np.linalg.norm(one, axis=1, keepdims=True)  # noqa: E731
    templates = np.repeat(cloud(3, 768, 0), 3, axis=0)
    x, y = unit(templates + 0.05 * cloud(9, 768, 1)), unit(cloud(9, 768, 2))
    found = CORALAnalyzer().compute_eas("clip", x, "llama", y, list("aaabbbccc"))
    assert found.published > 0.8
    assert found.parts["cka"][1] < 0.3


def test_elas_of_a_projector_that_ignores_the_image_is_its_cka_alone():
    x, y = cloud(40, 5, 0), cloud(40, 5, 1)
    ignoring = ProjectorOutcome(1e-5, 1e-5, 1e-5, 1e-5, 0.9, 0.9)
    biased, debiased = cka(x, y, estimator="biased"), cka(x, y)
    found = AlignmentMetrics.elas("clip", "llama", biased, debiased, ignoring)
    assert found.calibrated == pytest.approx(0.3 * debiased.value)
    assert found.published == pytest.approx(0.3 * biased.value + 0.3 + 0.2 + 0.2 * 0.9, abs=1e-4)


@pytest.mark.parametrize("seed", range(5))
def test_calibrated_elas_stays_in_its_range_whatever_the_projector(seed):
    rng = np.random.default_rng(seed)
    x, y = cloud(12, 5, seed), cloud(12, 5, seed + 9)
    for _ in range(50):
        train, held_out, *variance = rng.lognormal(0, 3, 4)
        outcome = ProjectorOutcome(train, held_out, *variance, *rng.uniform(-1, 1, 2))
        found = AlignmentMetrics.elas("a", "b", cka(x, y, estimator="biased"), cka(x, y), outcome)
        assert -0.3 <= found.calibrated <= 1
        assert found.parts["mse"][1] == pytest.approx(np.clip(outcome.held_out_r2, 0, 1))
        assert all(0 <= found.parts[part][1] <= 1 for part in ("mse", "gap", "cosine"))


def test_calibrated_eas_is_bounded_where_classes_are_nearly_samples():
    x, y = cloud(11, 40, 0), cloud(11, 40, 1)
    labels = [*range(10), 0]
    found = CORALAnalyzer().compute_eas("a", x, "b", y, labels)
    assert 0 <= found.parts["discriminability"][1] <= 1 and -0.3 <= found.calibrated <= 1


def test_elas_of_a_perfect_projector_is_one():
    x = cloud(40, 5, 0)
    perfect = ProjectorOutcome(0.0, 0.0, 1.0, 1.0, 1.0, 0.3)
    same = cka(x, x)
    assert AlignmentMetrics.elas("a", "b", same, same, perfect).calibrated == pytest.approx(1)


def test_full_analysis_covers_every_pair():
    vision = {"clip": cloud(20, 5, 0), "dino": cloud(20, 6, 1)}
    text = {"llama": cloud(20, 7, 2)}
    found = CORALAnalyzer().full_analysis(vision, text, ["a", "b"] * 10)
    assert {(one.encoder, one.llm) for one in found.cross_modal} == {
        ("clip", "llama"), ("dino", "llama"),
    }  # fmt: skip
    assert (
        found.vision.cka[0, 1]
        == found.vision.cka[1, 0]
        == pytest.approx(cka(vision["clip"], vision["dino"]).value)
    )
    assert found.text.names == ("llama",)
    assert set(found.to_json()) == {"cross_modal", "vision", "text", "eas"}


def test_preflight_finds_what_spoils_a_number():
    x = cloud(40, 60, 0)
    x[7] = x[3]
    flat = np.full((40, 3), 0.2)
    cone = cloud(40, 3, 1, 0.01) + 5
    said = {
        one.what: one.serious
        for one in preflight(
            {"clip": x, "flat": flat, "cone": cone},
            texts=["same"] * 2 + [f"t{i}" for i in range(38)],
            groups=[0, 0, *range(40)],
        )
    }
    text = "\n".join(said)
    assert "40 samples: intervals are wide" in text
    assert "1 of 40 texts repeat" in text
    assert "42 samples of 40 images" in text
    assert "fewer samples (40) than dimensions (clip 60)" in text
    assert "1 sample looks like another one to clip" in text
    assert said["the features of flat are the same for every sample: no metric is defined"]
    assert "features of cone are anisotropic" in text


def test_preflight_refuses_what_is_not_finite():
    x = cloud(5, 2, 0)
    x[2, 1] = np.inf
    with pytest.raises(
        UsageError, match="features of clip are not finite: got 'the first is row 2'"
    ):
        preflight({"clip": x})
