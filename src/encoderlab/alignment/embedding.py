"""Map the embedding spaces in two dimensions, and rotate them onto one another. Orchestration
only."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from encoderlab.alignment.data import SHUFFLED, AlignmentData, extract_features
from encoderlab.alignment.settings import Embedding
from encoderlab.alignment.tables import notes
from encoderlab.core.results import (
    Block,
    Table,
    as_text,
    score_text,
)
from encoderlab.core.spec import takes
from encoderlab.errors import MissingError, UsageError

if TYPE_CHECKING:
    import numpy as np

    from encoderlab.core.score import Score

PAGE = "embedding.html"
CAPTIONS = {
    "tsne": "t-SNE: neighbours stay neighbours; distances between far groups and their sizes mean "
    "nothing.",
    "umap": "UMAP: neighbours stay neighbours; distances between far groups mean little.",
    "pca": "The two directions with the most variance.",
}


@dataclass(frozen=True)
class EmbeddingResult:
    """Places of the samples in each space, Procrustes similarity between every two spaces."""

    method: str
    places: dict[str, np.ndarray]
    variance_shown: dict[str, float]
    procrustes: dict[tuple[str, str], Score]
    labels: tuple[str, ...]
    facts: dict[str, Any]
    figures: tuple[dict[str, str], ...] = ()
    page: str | None = None
    warnings: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Plain values for run.json."""
        return {
            "method": self.method,
            "places": {name: xy.round(5).tolist() for name, xy in self.places.items()},
            "variance_shown": self.variance_shown,
            "labels": list(self.labels),
            "procrustes": [
                {"a": a, "b": b, **score.to_json()} for (a, b), score in self.procrustes.items()
            ],
            "figures": list(self.figures),
            "page": self.page,
            **self.facts,
        }

    def blocks(self) -> list[Block]:
        """The answer as paragraphs and tables, in reading order."""
        rows = []
        for (a, b), score in self.procrustes.items():
            chance = "-" if score.chance is None else f"{score.chance:.3f}"
            rows.append((a, b, score_text(score.to_json()), chance))
        columns = ("space", "rotated onto", "similarity", "with shuffled pairs")
        return [notes(self.facts), Table(columns, tuple(rows))]

    def to_text(self) -> str:
        """What the terminal shows: the answer, and where the page is."""
        page = [f"hover over points: {self.page}"] if self.page else []
        return as_text([*self.blocks(), *page])


@takes(Embedding)
def run(settings: Embedding, out: Path | None = None) -> EmbeddingResult:
    """Maps by t-SNE, UMAP or PCA; writes figures and an interactive page to `out` if given.

    Raises:
        MissingError: data or a model is not there, or UMAP is asked for and not installed.
        UsageError: an unknown method, too few samples, a model twice, or features that are not
            finite.
    """
    _check(settings.method)
    aligned = extract_features(settings)
    return analyse(aligned, out, method=settings.method, svg=settings.svg)


def analyse(
    aligned: AlignmentData, out: Path | None = None, *, method: str = "tsne", svg: bool = False
) -> EmbeddingResult:
    """The maps of features that are at hand."""
    import numpy as np

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
        name: unit(one.pooled)
        for name, one in {**aligned.vision, **aligned.text}.items()
        if not name.startswith(SHUFFLED)
    }
    places, shown = {}, {}
    with progress("mapping spaces", total=len(models), unit="space") as bar:
        for name, x in models.items():
            places[name], share = _places(x, method, aligned.seed)
            if share is not None:
                shown[name] = share
            bar.advance()
    vision = [name for name in models if name in aligned.vision]
    scores = {
        (a, b): procrustes_similarity(models[a], models[b], aligned.seed)
        for i, a in enumerate(models)
        for b in list(models)[i + 1 :]
    }
    result = EmbeddingResult(
        method, places, shown, scores, aligned.labels, aligned.facts(), warnings=aligned.warnings()
    )
    if out is None:
        return result
    rotated = {}
    for a in vision:
        for b in aligned.text if not aligned.vision[a].is_control else ():
            if scores[a, b].value is not None:
                image, text = rotate_onto(models[a], models[b])
                axes = np.linalg.svd(text, full_matrices=False)[2][:2].T
                rotated[a, b] = (image @ axes, text @ axes)
    order = np.argsort([aligned.types.index(label) for label in aligned.labels], kind="stable")
    tables = {name: (x @ x.T)[np.ix_(order, order)] for name, x in models.items()}
    names = list(models)
    grid = np.eye(len(names))
    for (a, b), score in scores.items():
        i, j = names.index(a), names.index(b)
        grid[i, j] = grid[j, i] = float(score)
    drawn = [plots.maps(places, aligned.labels, method, CAPTIONS[method])]
    if rotated:
        of = {pair: scores[pair].to_json() for pair in rotated}
        drawn.append(plots.procrustes(rotated, aligned.labels, of))
    drawn += [plots.spaces(grid, names), plots.cosines(tables, [aligned.labels[i] for i in order])]
    images = [open_image(image, min_side=plots.THUMBNAIL) for image in aligned.images]
    page = plots.page(places, aligned.labels, aligned.texts, images, method)
    figures = save(drawn, out, svg=svg)
    write_text_atomic(out / PAGE, page)
    return replace(result, figures=figures, page=str(out / PAGE))


def _places(x: np.ndarray, method: str, seed: int) -> tuple[np.ndarray, float | None]:
    """(n, 2), and for PCA the share of the variance that is shown."""
    import numpy as np

    if np.ptp(x, axis=0).max() < 1e-9:
        return np.zeros((len(x), 2)), None
    if method == "pca":
        from sklearn.decomposition import PCA

        model = PCA(2, random_state=seed)
        return model.fit_transform(x), float(model.explained_variance_ratio_.sum())
    if method == "umap":
        from umap import UMAP

        near = min(15, len(x) - 1)
        return UMAP(n_neighbors=near, random_state=seed, n_jobs=1).fit_transform(x), None
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
