"""The method page has every metric, with all that it owes to each, in both languages."""

import re
from pathlib import Path

import pytest
from scipy import stats

from encoderlab.alignment import pair_scores
from encoderlab.alignment.projectors import ProjectorRecipe
from encoderlab.compression import bench, readout, retention
from encoderlab.losses import distribution
from encoderlab.metrics import (
    cka,
    classification,
    correlation,
    discriminability,
    neighbours,
    preflight,
    procrustes,
    retrieval,
    ridge,
    strata,
    token_scale,
)
from encoderlab.metrics.alignment_scores import EAS_WEIGHTS, ELAS_WEIGHTS
from encoderlab.metrics.catalogue import METRICS
from encoderlab.workbench import doctor

DOCS = Path(__file__).parents[2] / "docs"
PARTS = {
    "en": ("Formula", "Cannot see", "Samples", "In results", "Reference"),
    "ko": ("식", "보지 못하는 것", "샘플 수", "결과에서의 이름", "참고 문헌"),
}
# Sections about all numbers, not about one.
ABOUT_ALL = {
    "score", "intervals", "comparison", "index", "alignment", "clouds", "over",
    "retrieval-and-classification", "tokens", "compression", "preflight",
    "token-scale",
}  # fmt: skip
LANGUAGES = pytest.mark.parametrize("language", ["en", "ko"])


def _page(language: str) -> str:
    return (DOCS / language / "method.md").read_text(encoding="utf-8")


def _sections(language: str) -> dict[str, str]:
    """id -> what stands under the heading."""
    pieces = re.split(r"^##+ .*\{#([\w-]+)\}$", _page(language), flags=re.M)
    return dict(zip(pieces[1::2], pieces[2::2], strict=True))


def _rows(language: str) -> list[tuple[set[str], str, str]]:
    """(names in results, name in tables, id) of each row of the index."""
    found = re.findall(r"^\| (`.*?`) \| (.*?) \| \[.*?\]\(#([\w-]+)\) \|$", _page(language), re.M)
    return [(set(re.findall(r"`(\w+)`", names)), title, to) for names, title, to in found]


@LANGUAGES
def test_every_metric_of_the_catalogue_has_an_entry(language):
    there = {name: (title, to) for names, title, to in _rows(language) for name in names}
    assert set(there) == set(METRICS)
    sections = _sections(language)
    for name, (title, to) in there.items():
        assert METRICS[name].title.startswith(title)
        assert to in sections


@LANGUAGES
def test_every_entry_has_its_formula_limits_samples_and_reference(language):
    entries = {name: text for name, text in _sections(language).items() if name not in ABOUT_ALL}
    assert len(entries) > 25
    for name, text in entries.items():
        lacking = [part for part in PARTS[language] if f"**{part}.**" not in text]
        assert not lacking, f"{name} lacks {lacking}"


@LANGUAGES
@pytest.mark.parametrize(
    ("section", "estimator"),
    [
        ("cka-within", strata.NAME),
        ("discriminability", discriminability.NAME),
        ("retrieval", retrieval.RECALL),
        ("retrieval", retrieval.MRR),
        ("retrieval", retrieval.MEDIAN),
        ("zero-shot", classification.ACCURACY),
        ("zero-shot", classification.BALANCED),
        ("nmse", bench.NMSE),
        ("sliced-wasserstein", bench.DISTANCE),
        ("readout", bench.MEAN),
        ("kept", retention.ESTIMATOR),
    ],
)
def test_the_estimator_is_named_as_results_name_it(language, section, estimator):
    assert f"`{estimator}" in _sections(language)[section].replace("\n", " ")


def _critical(n: int) -> float:
    t = stats.t.ppf(0.975, n - 2)
    return t / (n - 2 + t * t) ** 0.5


@LANGUAGES
@pytest.mark.parametrize(
    ("section", "said", "value"),
    [
        ("cka-biased", "14,592", 768 * (1 / 0.05 - 1)),
        ("coral", "8.5 × 10⁻⁷", 2 * (300 / 299) ** 2 / (4 * 768**2)),
        ("correlation", "0.707", _critical(8)),
        ("correlation", "0.811", _critical(6)),
        ("mutual-knn", "0.10", 10 / 100),
        ("discriminability", "0.07", 2 / 29),
    ],
)
def test_a_figure_in_the_text_is_what_its_formula_gives(language, section, said, value):
    assert said in _sections(language)[section]
    number = float(said.replace(",", "").replace(" × 10⁻⁷", "e-7"))
    assert value == pytest.approx(number, rel=0.02)


@LANGUAGES
@pytest.mark.parametrize(
    ("section", "constant"),
    [
        ("cka", cka.LEAST["debiased"]),
        ("cka", cka.LEAST["debiased"] + 1),
        ("cka", pair_scores.PERMUTATIONS),
        ("cka-within", strata.LEAST),
        ("mutual-knn", neighbours.NEIGHBOURS),
        ("mutual-knn", neighbours.least(neighbours.NEIGHBOURS)),
        ("ridge", ridge.LEAST),
        ("ridge", len(ridge.PENALTIES)),
        ("projectors", ProjectorRecipe().epochs),
        ("procrustes", procrustes.RELABELINGS),
        ("correlation", correlation.RELABELINGS),
        ("best-layer", pair_scores.PERMUTATIONS),
        ("sliced-wasserstein", distribution.PROJECTIONS),
        ("kept", retention.NO_SPAN),
        ("readout", readout.STEPS),
        ("loyalty", bench.LOYALTY_IMAGES),
        ("preflight", preflight.FEW_SAMPLES),
        ("preflight", preflight.HIGH_COSINE),
        ("token-scale", token_scale.LARGE_SD),
        ("token-scale", token_scale.SMALL_SD),
        ("token-scale", token_scale.MASSIVE_TIMES),
        ("token-scale", int(token_scale.FP16_MAX)),
        ("token-scale", doctor.MEASURED),
    ],
)
def test_a_limit_in_the_text_is_the_codes(language, section, constant):
    said = f"{constant:,}" if isinstance(constant, int) else f"{constant:g}"
    assert re.search(rf"(?<![\d.]){re.escape(said)}(?![\d])", _sections(language)[section])


@LANGUAGES
@pytest.mark.parametrize(("section", "weights"), [("eas", EAS_WEIGHTS), ("elas", ELAS_WEIGHTS)])
def test_the_weights_of_the_sums_are_the_codes(language, section, weights):
    calibrated = re.search(r"^calibrated = (.*)$", _sections(language)[section], re.M)
    assert calibrated
    assert [float(one) for one in re.findall(r"0\.\d", calibrated[1])] == list(weights.values())
