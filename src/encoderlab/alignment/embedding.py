"""Map the embedding spaces in two dimensions, and align them by rotation (Procrustes)."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from encoderlab.alignment.data import SHUFFLED, AlignmentData, extract_features
from encoderlab.alignment.settings import Embedding
from encoderlab.alignment.tables import AlignmentResult, notes
from encoderlab.core.results import Block, Table, as_text, score_text, short_names, shown
from encoderlab.core.spec import takes
from encoderlab.errors import MissingError, UsageError

if TYPE_CHECKING:
    from encoderlab.core.score import Score

PAGE = "embedding.html"
CAPTIONS = {
    "tsne": "t-SNE: neighbours are preserved; distances between groups and sizes of groups have no "
    "meaning.",
    "umap": "UMAP: neighbours are preserved; distances between groups have little meaning.",
    "pca": "The two directions with the most variance.",
}


@dataclass(frozen=True)
class EmbeddingResult(AlignmentResult):
    """Places of the samples in each space, Procrustes similarity between every two spaces.

    Args:
        page: the interactive page.
        explorer: the command line that opens the first map in Embedding Atlas.
    """

    method: str
    places: dict[str, np.ndarray]
    variance_shown: dict[str, float]
    procrustes: dict[tuple[str, str], Score]
    labels: tuple[str, ...]
    page: str | None = None
    explorer: str | None = None

    def to_json(self) -> dict[str, Any]:
        """The fields, with maps as lists of points."""
        return super().to_json() | {
            "places": {name: xy.round(5).tolist() for name, xy in self.places.items()},
            "procrustes": [
                {"a": a, "b": b, **score.to_json()} for (a, b), score in self.procrustes.items()
            ],
        }

    def blocks(self) -> list[Block]:
        """The Procrustes similarity of each pair of spaces."""
        rows = []
        for (a, b), score in self.procrustes.items():
            chance = "-" if score.chance is None else f"{score.chance:.3f}"
            rows.append((a, b, score_text(score.to_json()), chance))
        columns = ("space", "rotated onto", "similarity", "with shuffled pairs")
        return [notes(self.facts), Table(columns, tuple(rows))]

    def to_text(self) -> str:
        """The blocks, with the interactive page and the command for Embedding Atlas."""
        page = [f"hover over points: {self.page}"] if self.page else []
        atlas = [f"in Embedding Atlas: {self.explorer}"] if self.explorer else []
        return as_text([*shown(self), "\n".join([*page, *atlas])])


@takes(Embedding)
def run(settings: Embedding, out: Path | None = None) -> EmbeddingResult:
    """Maps by t-SNE, UMAP or PCA; writes figures and an interactive page to `out` if given.

    Returns:
        The places (n, 2) of each space, and the Procrustes similarity of each pair, in [0, 1].

    Raises:
        MissingError: data or a model is not there, or UMAP is asked for and not installed.
        UsageError: an unknown method, too few samples, a model twice, or features that are not
            finite.
    """
    _check(settings.method)
    aligned = extract_features(settings)
    return analyse(aligned, out, method=settings.method, svg=settings.svg)


def analyse(
    aligned: AlignmentData, out: Path | None = None, *, method: str, svg: bool = False
) -> EmbeddingResult:
    """The maps of features that are extracted already."""
    from encoderlab.alignment import explorer
    from encoderlab.alignment.pair_scores import unit
    from encoderlab.alignment.plots import embedding as plots
    from encoderlab.core.atomic_io import write_text_atomic
    from encoderlab.core.progress import progress
    from encoderlab.data.decode import open_image
    from encoderlab.metrics.procrustes import procrustes_similarity, rotate_onto
    from encoderlab.plots.style import save

    _check(method)
    if aligned.n < 4:
        raise UsageError("too few samples for a map", got=aligned.n, want="at least 4")
    models = {
        name: unit(features.pooled)
        for name, features in {**aligned.vision, **aligned.text}.items()
        if not name.startswith(SHUFFLED)
    }
    places, variance_shown = {}, {}
    with progress("mapping spaces", total=len(models), unit="space") as bar:
        for name, x in models.items():
            places[name], share = _map(x, method, aligned.seed)
            if share is not None:
                variance_shown[name] = share
            bar.advance()
    scores = {
        (a, b): procrustes_similarity(models[a], models[b], aligned.seed)
        for a, b in itertools.combinations(models, 2)
    }
    result = EmbeddingResult(
        method, places, variance_shown, scores, aligned.labels,
        facts=aligned.facts(), warnings=aligned.warnings(),
    )  # fmt: skip
    if out is None:
        return result
    rotated = {}
    for a, b in itertools.product(aligned.encoders, aligned.text):
        if scores[a, b].value is not None:
            image, text = rotate_onto(models[a], models[b])
            axes = np.linalg.svd(text, full_matrices=False)[2][:2].T
            rotated[a, b] = (image @ axes, text @ axes)
    order = np.argsort([aligned.types.index(label) for label in aligned.labels], kind="stable")
    cosines = {name: (x @ x.T)[np.ix_(order, order)] for name, x in models.items()}
    names = list(models)
    grid = np.eye(len(names))
    for (a, b), score in scores.items():
        i, j = names.index(a), names.index(b)
        grid[i, j] = grid[j, i] = float(score)
    drawn = [plots.maps(places, aligned.labels, method, CAPTIONS[method])]
    if rotated:
        of_pair = {pair: scores[pair].to_json() for pair in rotated}
        drawn.append(plots.procrustes(rotated, aligned.labels, of_pair))
    drawn += [plots.spaces(grid, names), plots.cosines(cosines, [aligned.labels[i] for i in order])]
    images = [open_image(image, min_side=plots.THUMBNAIL) for image in aligned.images]
    thumbnails = [plots.thumbnail(image) for image in images]
    page = plots.page(places, aligned.labels, aligned.texts, thumbnails, method)
    figures = save(drawn, out, svg=svg)
    write_text_atomic(out / PAGE, page)
    brief = short_names(result.facts["fingerprints"])
    named = {name: brief.get(name, name) for name in models}
    texts = {"id": aligned.ids, "caption": aligned.texts, "label": aligned.labels}
    explorer.write(
        out / explorer.FILE, texts, thumbnails, {named[name]: x for name, x in models.items()},
        {named[name]: xy for name, xy in places.items()},
    )  # fmt: skip
    opened = explorer.command(out / explorer.FILE, named[names[0]])
    return replace(result, figures=figures, page=str(out / PAGE), explorer=opened)


def _map(x: np.ndarray, method: str, seed: int) -> tuple[np.ndarray, float | None]:
    """(n, 2), and for PCA the share of the variance that is shown."""
    if np.ptp(x, axis=0).max() < 1e-9:
        return np.zeros((len(x), 2)), None
    if method == "pca":
        from sklearn.decomposition import PCA

        model = PCA(2, random_state=seed)
        return model.fit_transform(x), float(model.explained_variance_ratio_.sum())
    if method == "umap":
        from umap import UMAP

        model = UMAP(n_neighbors=min(15, len(x) - 1), random_state=seed, n_jobs=1)
    else:
        from sklearn.manifold import TSNE

        model = TSNE(perplexity=min(30.0, (len(x) - 1) / 3), init="pca", random_state=seed)
    return model.fit_transform(x), None


def _check(method: str) -> None:
    from importlib.util import find_spec

    if method not in CAPTIONS:
        raise UsageError("unknown method", got=method, want=", ".join(CAPTIONS))
    if method == "umap" and find_spec("umap") is None:
        raise MissingError(
            "UMAP is not installed",
            got="--method umap",
            want="--method tsne or pca, which need nothing more",
            hint='install it: pip install "encoderlab[umap]"',
        )
