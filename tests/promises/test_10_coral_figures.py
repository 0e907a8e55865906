"""CORAL carries its covariances, and its figures, table and report show the result's numbers."""

import numpy as np
import pytest

from encoderlab.alignment import coral as experiment
from encoderlab.alignment import report_page
from encoderlab.alignment.data import extract_features
from encoderlab.alignment.plots import coral as plots
from encoderlab.alignment.settings import Coral
from encoderlab.errors import UsageError
from encoderlab.metrics.coral import coral


def cloud(n, d, seed, scale=1.0):
    return scale * np.random.default_rng(seed).standard_normal((n, d))


@pytest.mark.parametrize("widths", [(6, 6), (6, 4)])
def test_covariances_and_eigenvalues_are_those_that_the_distance_compares(widths):
    x, y = cloud(50, widths[0], 0), cloud(50, widths[1], 1, 2.0)
    found = coral(x, y)
    np.testing.assert_allclose(found.source_covariance, np.cov(x.T), atol=1e-12)
    np.testing.assert_allclose(found.target_covariance, np.cov(y.T), atol=1e-12)
    for values, features in ((found.source_eigenvalues, x), (found.target_eigenvalues, y)):
        np.testing.assert_allclose(values, np.linalg.eigvalsh(np.cov(features.T))[::-1], atol=1e-10)
    left, right = found.compared
    assert left.shape == right.shape == (min(widths),) * 2
    distance = float((left - right).square().sum()) / (4 * min(widths) ** 2)
    assert found.distance == pytest.approx(distance)
    assert "clouds" not in found.to_json()


def test_an_undefined_comparison_has_no_covariances():
    with pytest.raises(UsageError, match="no covariances: got 'the features are the same"):
        _ = coral(np.ones((5, 3)), cloud(5, 3, 0)).source_covariance


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """A result, and the figures by name before they are written."""
    settings = Coral(encoders=["tiny-clip", "tiny-dinov2"], n_samples=4, dtype="float32")
    aligned = extract_features(settings)
    given = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plots, "coral", lambda result, arrays, _: given.update(arrays) or [])
        result = experiment.analyse(aligned, tmp_path_factory.mktemp("out"))
    figures = {one.name: one for one in plots.coral(result.to_json(), given)}
    return result, figures


def _points(ax):
    """(x, y) of every marker; the diagonal and the intervals are lines."""
    return [
        (float(line.get_xdata()[0]), float(line.get_ydata()[0]))
        for line in ax.lines
        if len(line.get_xdata()) == 1
    ]


def _has_diagonal(ax):
    return any(
        np.array_equal(line.get_xdata(), [0, 1]) and np.array_equal(line.get_ydata(), [0, 1])
        for line in ax.lines
    )


def test_cka_lies_across_and_coral_in_height_with_the_diagonal(drawn):
    result, figures = drawn
    pairs = result.whole.cross_modal
    published, calibrated = figures["cka_vs_coral"].figure.axes
    for ax, name in ((published, "similarity"), (calibrated, "spectral_similarity")):
        expected = [(one.cka.value, getattr(one.coral, name)) for one in pairs]
        np.testing.assert_allclose(_points(ax), expected)
        assert _has_diagonal(ax) and "CKA" in ax.get_xlabel() and "CORAL" in ax.get_ylabel()


def test_the_legend_names_each_encoder_llm_and_kind_of_control_once(drawn):
    result = drawn[0].to_json()
    own = result["cross_modal"]
    kinds = {"untrained:": "untrained encoders", "shuffled:": "shuffled pairs"}
    rows = [pair | {"encoder": kind + pair["encoder"]} for kind in kinds for pair in own]
    figure = plots.against_cka(result | {"cross_modal": [*own, *rows]}).figure
    named = [text.get_text() for text in figure.axes[1].get_legend().get_texts()]
    encoders, llms = (dict.fromkeys(pair[key] for pair in own) for key in ("encoder", "llm"))
    assert len(encoders) == 2
    assert named == [*encoders, *kinds.values(), *llms]


def test_where_no_cka_is_defined_there_is_no_legend_of_points(drawn):
    result = drawn[0].to_json()
    pairs = [pair | {"cka": {"value": None}} for pair in result["cross_modal"]]
    axes = plots.against_cka(result | {"cross_modal": pairs}).figure.axes
    assert [ax.get_legend() for ax in axes] == [None, None]
    assert [_points(ax) for ax in axes] == [[], []]
    assert [[text.get_text() for text in ax.texts] for ax in axes] == [["undefined"]] * 2


def test_the_dashboard_of_eas_has_parts_scatter_ranking_and_formula(drawn):
    result, figures = drawn
    scores = result.whole.eas
    figure = figures["eas_dashboard"].figure
    ranking, parts, *others = figure.axes
    scatter = next(ax for ax in others if _has_diagonal(ax))
    expected = [(one.published, i) for i, one in enumerate(scores)]
    assert set(expected) <= set(_points(ranking))
    assert {(one.calibrated, i) for i, one in enumerate(scores)} <= set(_points(ranking))
    shown = np.asarray(parts.images[0].get_array())
    np.testing.assert_allclose(shown @ [0.3, 0.3, 0.4], [one.calibrated for one in scores])
    cka = {(one.encoder, one.llm): one.cka.value for one in result.whole.cross_modal}
    expected = [(cka[one.encoder, one.llm], one.calibrated) for one in scores]
    np.testing.assert_allclose(_points(scatter), expected)
    texts = " ".join(one.get_text() for panel in _panels(figure) for one in panel.texts)
    for term in ("0.3 CKA", "0.3 CORAL similarity", "0.4 discriminability", "EAS as published ="):
        assert term in texts


def _panels(figure):
    return [figure] + [inner for one in figure.subfigs for inner in _panels(one)]


def test_covariances_of_vision_and_text_and_their_difference_per_encoder(drawn):
    result, figures = drawn
    figure = figures["covariance_heatmaps"].figure
    images = [np.asarray(ax.images[0].get_array()) for ax in figure.axes if ax.images]
    best = list(dict.fromkeys(one.encoder for one in result.whole.cross_modal))
    assert len(images) == 3 * len(best) == 6
    for row, encoder in enumerate(best):
        pair = next(one for one in result.whole.cross_modal if one.encoder == encoder)
        vision, text, difference = images[3 * row : 3 * row + 3]
        np.testing.assert_array_equal(difference, vision - text)
        left, right = (one.numpy() for one in pair.coral.compared)
        order = np.argsort(-(left.diagonal() + right.diagonal()), kind="stable")[: len(vision)]
        np.testing.assert_allclose(vision, left[np.ix_(order, order)])
        np.testing.assert_allclose(text, right[np.ix_(order, order)])


def test_the_spectral_divergence_stands_in_figure_table_and_report(drawn):
    result, figures = drawn
    pairs = result.whole.cross_modal
    values = [one.coral.spectral_divergence for one in pairs]
    for ax, name in zip(figures["coral_comparison"].figure.axes, plots.COMPARISONS, strict=True):
        widths = [bar.get_width() for bar in ax.patches]
        np.testing.assert_allclose(widths, [getattr(one.coral, name) for one in pairs])
    table = result.blocks()[1]
    column = table.columns.index("spectral divergence")
    np.testing.assert_allclose([float(row[column]) for row in table.rows], values, rtol=5e-3)
    words = report_page.words_of("en")
    said = " ".join(report_page.section_lines("coral", result.to_json(), words))
    for one, value in zip(pairs, values, strict=True):
        assert f"{one.encoder} × {one.llm} {value:.3g}" in said
