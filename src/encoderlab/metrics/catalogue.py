"""The metrics of a pair of encoder and LLM, with the texts that tables, figures and docs use."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from encoderlab.core import extensions
from encoderlab.core.commands import load
from encoderlab.errors import UsageError

if TYPE_CHECKING:
    import numpy as np

    from encoderlab.core.score import Score


@dataclass(frozen=True)
class Metric:
    """The description of a metric.

    Args:
        title: its column head in a table.
        meaning: what it measures, in one sentence.
        blind: what it does not measure.
        lower_is_better: whether it is an error.
        published: whether it is the number as published, shown for comparison and not ranked by.
        computed_by: "module:function" from two arrays (n, d_v) and (n, d_t), rows i of the same
            sample, to a Score; empty for those that share work with others, which
            `alignment.pair_scores` computes.
    """

    title: str
    meaning: str
    blind: str
    lower_is_better: bool = False
    published: bool = False
    computed_by: str = ""


METRICS = {
    "cka_linear": Metric(
        "CKA, debiased",
        "how similar the two similarity structures are: whether the same samples are near one "
        "another in both spaces; 0 for unrelated features, 1 for equal ones",
        "dominated by a few outliers, where there are some",
    ),
    "cka_linear_biased": Metric(
        "CKA, as published",
        "the same by the biased estimator; its floor for unrelated features is beside it",
        "near 1 for anything when samples are fewer than dimensions",
        published=True,
    ),
    "cka_within": Metric(
        "CKA within types",
        "debiased CKA among samples of one data type, all types together: telling "
        "a chart from a table does not count",
        "what tells the types apart, which the number over all samples mostly shows",
    ),
    "cka_rbf": Metric(
        "CKA (RBF), debiased",
        "the same with a Gaussian kernel of the median distance",
        "depends on the width of the kernel",
    ),
    "cka_rbf_biased": Metric(
        "CKA (RBF), as published",
        "the same by the biased estimator",
        "near 1 for anything when samples are few",
        published=True,
    ),
    "mutual_knn": Metric(
        "mutual 10-NN",
        "the share of ten nearest neighbours that are the same in both spaces",
        "the order beyond the tenth",
    ),
    "ridge_r2": Metric(
        "ridge R²",
        "the share of the LLM's variance that a linear map predicts on samples it has not seen",
        "what only a nonlinear map can predict",
    ),
    "ridge_recall1": Metric(
        "ridge Recall@1",
        "how often that prediction is nearest to its own text among those held out, mean of both "
        "directions",
        "how near the wrong ones were",
    ),
    "gw_pairing": Metric(
        "GW at the pairing, z",
        "by how many standard deviations the pairing keeps distances among samples better than "
        "random pairings do",
        "how large the effect is: z grows with the number of samples",
    ),
    "gw_distance": Metric(
        "GW distance, as published",
        "the Gromov-Wasserstein distance: how far the distances among samples differ, at the "
        "coupling that suits them best",
        "the pairing; small for wide features, whatever they are of",
        lower_is_better=True,
        published=True,
    ),
    "coral_similarity": Metric(
        "CORAL, as published",
        "1 / (1 + distance of the covariances)",
        "the pairing; for features of length one it is 1 whatever the data",
        published=True,
    ),
    "spectral_similarity": Metric(
        "spectral similarity",
        "how similar the eigenvalue spectra of both sets are, scaled to the same total",
        "the pairing: shuffling the captions changes nothing",
    ),
    "eas": Metric(
        "EAS, calibrated",
        "0.3 debiased CKA + 0.3 spectral similarity + 0.4 discriminability above chance",
        "which of the three it comes from; most of it does not use the pairing",
    ),
    "eas_published": Metric(
        "EAS, as published",
        "0.3 biased CKA + 0.3 CORAL similarity + 0.4 discriminability",
        "reaches 0.99 for a handful of unrelated samples",
        published=True,
    ),
}
PROJECTORS = {
    "linear": "linear projector",
    "mlp": "MLP projector",
    "mlp_norm": "MLP with norm",
    "cross_attention": "cross-attention",
}
for _kind, _title in PROJECTORS.items():
    METRICS[f"{_kind}_r2"] = Metric(
        f"{_title}, R²",
        "the share of the LLM's variance that it predicts on held-out pairs",
        "whether an LLM could use it",
    )
    METRICS[f"{_kind}_mse"] = Metric(
        f"{_title}, MSE",
        "its squared error on held-out pairs; chance is a projector that ignores the image",
        "its scale: unit vectors are near one another anyway",
        lower_is_better=True,
    )
    METRICS[f"{_kind}_cosine"] = Metric(
        f"{_title}, cosine",
        "its cosine to the text on held-out pairs; chance is a projector that ignores the image",
        "high for anything where the texts are anisotropic",
    )
HEADLINE = "cka_linear"


def register(name: str, metric: Metric) -> None:
    """Adds a metric of a pair, for `compare` and the commands that share its rows.

    Args:
        name: its key in `METRICS` and in run.json.
        metric: its description, with `computed_by`.

    Raises:
        UsageError: the name is taken, or nothing computes it.
    """
    if not metric.computed_by:
        raise UsageError(
            "a metric needs a function", got=name, want='computed_by="module:function"'
        )
    extensions.add(METRICS, "a metric", name, metric)


def computed_alone() -> Iterator[tuple[str, Callable[[np.ndarray, np.ndarray], Score]]]:
    """Name and function of every metric with `computed_by`."""
    extensions.load()
    for name, metric in METRICS.items():
        if metric.computed_by:
            yield name, load(metric.computed_by)
