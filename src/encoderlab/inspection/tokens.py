"""Statistics and maps of the patch tokens of one image or of a folder. Orchestration only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from encoderlab.core.results import Block, Result, Table
from encoderlab.core.skipped import (
    SkippedImages,
    as_records,
    as_text_lines,
    as_warnings,
    skipped_images,
)
from encoderlab.core.spec import takes
from encoderlab.errors import UsageError
from encoderlab.inspection.settings import Tokens

if TYPE_CHECKING:
    import numpy as np

    from encoderlab.core.score import Score
    from encoderlab.inspection.analyzer import SimilarityResult, TokenSimilarityAnalyzer
    from encoderlab.inspection.plots import SimilarityVisualizer

BATCH = 32
ENDS = 3  # images at either end of a statistic
LOSSES = (0.1, 0.25, 0.5)
WORDS = {
    "neighbour_similarity": "similarity to right and lower neighbours",
    "cls_similarity": "similarity to the anchor",
    "morans_i": "Moran's I",
    "effective_rank": "effective rank",
    "loss_at_half": "loss of pooling to half the grid",
    "outliers": "outlier tokens",
}


@dataclass(frozen=True)
class TokensResult(Result):
    """Statistics of every image; their means and intervals, and the extreme images.

    Args:
        statistics: name -> mean over images.
        per_image: image -> "all" or "without_outliers" -> its statistics.
        ends: name of a statistic -> "lowest" or "highest" -> the images there.
        layers: the statistics of every layer of the first image.
        budgets: loss -> the smallest grid that loses no more, for the first image.
        null: mean and sd of the similarity between patches of other images.
        patch_text: method -> smallest and largest cosine of a patch with the text.
        first: the maps of the first image.
    """

    model: str
    fingerprint: str
    device: str
    dtype: str
    metric: str
    stage: str
    anchor: str
    grid: tuple[int, int]
    statistics: dict[str, Score]
    per_image: dict[str, dict[str, dict[str, float]]]
    ends: dict[str, dict[str, list[str]]]
    layers: list[dict[str, float]]
    budgets: dict[str, str]
    null: dict[str, float]
    patch_text: dict[str, list[float]] = field(default_factory=dict)
    skipped: SkippedImages = ()
    figures: tuple[dict[str, str], ...] = ()
    warnings: tuple[str, ...] = ()
    first: SimilarityResult | None = field(
        default=None, repr=False, compare=False, metadata={"json": False}
    )

    def to_json(self) -> dict[str, Any]:
        """Plain values for run.json."""
        return super().to_json() | {"skipped": as_records(self.skipped)}

    def blocks(self) -> list[Block]:
        """The answer as paragraphs and tables, in reading order."""
        about = (
            f"{self.model}, {self.stage}: {self.grid[0]} x {self.grid[1]} patches, "
            f"{self.metric.replace('_', ' ')}, anchor: {self.anchor}\n"
            f"patches of other images: {self.null['mean']:.3f} ± {self.null['sd']:.3f}"
        )
        body = self._of_one() if len(self.per_image) == 1 else self._of_several()
        remarks = [*(f"! {warning}" for warning in self.warnings), *as_text_lines(self.skipped)]
        return [about, *body, *(["\n".join(remarks)] if remarks else [])]

    def _of_one(self) -> list[Block]:
        blocks: list[Block] = [self._table()]
        first = next(iter(self.per_image.values()))
        if first["all"]["outliers"]:
            rows = tuple(
                (WORDS[name], f"{value:.3f}")
                for name, value in first["without_outliers"].items()
                if name not in ("outliers", "loss_at_half")
            )
            blocks.append(Table(("statistic", "value"), rows, "without outlier tokens"))
        budgets = ", ".join(f"{grid} to lose {loss}" for loss, grid in self.budgets.items())
        return [*blocks, f"token budget by average pooling: {budgets} of the variance at most"]

    def at_the_ends(self) -> list[tuple[str, str, list[str]]]:
        """(statistic, end, images there) for the two statistics by which images differ most."""
        return [
            (name, end, self.ends[name][end])
            for name in ("neighbour_similarity", "loss_at_half")
            for end in ("lowest", "highest")
        ]

    def _of_several(self) -> list[Block]:
        images = max(score.n for score in self.statistics.values())
        rows = tuple(
            (WORDS[name], end, ", ".join(Path(path).name for path in paths))
            for name, end, paths in self.at_the_ends()
        )
        return [
            self._table(f"means over {images} images with 95 % intervals"),
            Table(("statistic", "end", "images"), rows, "images at the ends"),
        ]

    def _table(self, *remarks: str) -> Table:
        rows = tuple((WORDS[name], score.as_number()) for name, score in self.statistics.items())
        return Table(("statistic", "value"), rows, said=remarks)


@takes(Tokens)
def run(settings: Tokens, out: Path | None = None) -> TokensResult:
    """Analyses one image, a folder or a glob; writes arrays and figures to `out` if given.

    Returns:
        The maps and numbers of each image, and means over images with intervals.

    Raises:
        MissingError: the image, the model or the GPU is not there.
        UsageError: an unknown metric, layer, stage, colour map or format, a setting that has no
            effect, or no readable image.
    """
    import numpy as np

    from encoderlab.data.folder import image_files
    from encoderlab.data.sample import Sample, content_digests, first_of_each
    from encoderlab.inspection.analyzer import TokenSimilarityAnalyzer
    from encoderlab.inspection.plots import FORMATS, SimilarityVisualizer

    output, name, path = settings.output, settings.model.name, settings.image.path
    if output.format not in FORMATS:
        raise UsageError("unknown format of figures", got=output.format, want=", ".join(FORMATS))
    visualizer = SimilarityVisualizer(settings.visualization.figsize, settings.visualization.cmap)
    files, not_images = image_files(path)
    analyzer = TokenSimilarityAnalyzer(
        name,
        settings.device,
        settings.similarity.metric,
        layer=settings.similarity.layer,
        stage=settings.similarity.stage,
        dtype=settings.dtype,
        trust_remote_code=settings.trust_remote_code,
    )
    results, unreadable = _analysed(analyzer, files)
    skipped = (*skipped_images(not_images), *unreadable)
    if not results:
        raise UsageError(
            "no image can be read",
            got=f"{len(files)} at {path}",
            want=f"readable images; the first says: {unreadable[0][1]}",
        )
    first = results[0]
    per_image = {
        maps.source: {
            "all": maps.statistics(),
            "without_outliers": maps.statistics(without_outliers=True),
        }
        for maps in results
    }
    # Copies of an image count once in the means, their intervals and the ends.
    rows = first_of_each(content_digests([Sample(name, Path(name)) for name in per_image]))
    names = [list(per_image)[row] for row in rows]
    columns = {key: np.array([per_image[name]["all"][key] for name in names]) for key in WORDS}
    warnings = [*first.warnings, *as_warnings(skipped)]
    if len(names) < len(per_image):
        warnings.append(
            f"{len(per_image):,} files show {len(names):,} images: copies count once in the means"
        )
    text_maps = _patch_text(analyzer, first, settings.similarity.text)
    device, dtype = analyzer.encoder.where
    result = TokensResult(
        model=name,
        fingerprint=analyzer.encoder.fingerprint,
        device=device,
        dtype=dtype,
        metric=first.metric,
        stage=first.stage,
        anchor=first.anchor,
        grid=first.grid,
        statistics={key: _mean(values) for key, values in columns.items()},
        per_image=per_image,
        ends={key: _ends(values, names) for key, values in columns.items()},
        layers=analyzer.layer_by_layer(first.image),
        budgets={f"{loss:.0%}": "{} x {}".format(*first.budget_for(loss)) for loss in LOSSES},
        null={"mean": analyzer.null.mean, "sd": analyzer.null.sd},
        patch_text={way: [float(m.min()), float(m.max())] for way, m in text_maps.items()},
        skipped=skipped,
        warnings=tuple(warnings),
        first=first,
    )
    if out is None:
        return result
    if output.save_similarities:
        _write_arrays(out, results)
    if not output.save_visualizations:
        return result
    figures = _draw(out, settings, visualizer, result, results, text_maps, columns)
    return replace(result, figures=figures)


def _analysed(
    analyzer: TokenSimilarityAnalyzer, files: Sequence[Path]
) -> tuple[list[SimilarityResult], list[tuple[str, str]]]:
    from encoderlab.core.progress import progress
    from encoderlab.data.decode import ImageError, open_image

    results, skipped = [], []
    with progress("analysing images", total=len(files), unit="image") as bar:
        for start in range(0, len(files), BATCH):
            batch = files[start : start + BATCH]
            images, names = [], []
            for file in batch:
                try:
                    images.append(open_image(file))
                    names.append(str(file))
                except ImageError as error:
                    skipped.append((str(file), error.reason))
            if images:
                results += analyzer.analyze_batch(images, names)
            bar.advance(len(batch))
    return results, skipped


def _patch_text(
    analyzer: TokenSimilarityAnalyzer, first: SimilarityResult, text: str
) -> dict[str, np.ndarray]:
    import torch
    import torch.nn.functional as F

    from encoderlab.encoders.dual import load_dual
    from encoderlab.encoders.load_spec import options_of
    from encoderlab.encoders.patch_text import WAYS, patches_for_text

    if not text:
        return {}
    encoder = analyzer.encoder
    assert first.image is not None
    # Before the text tower is loaded: this raises where the encoder has none.
    patches = {way: patches_for_text(encoder, [first.image], way)[0].cpu() for way in WAYS}
    dual = load_dual(
        encoder.name, *encoder.where, allow_untrained=True, **options_of(encoder).vision
    )
    vector = torch.from_numpy(dual.embed_texts([text])[0])
    return {
        way: (F.normalize(tokens, dim=-1) @ vector).reshape(encoder.grid).numpy()
        for way, tokens in patches.items()
    }


def _mean(values: np.ndarray) -> Score:
    """The mean over images, with a t interval where there are several."""
    import math

    import numpy as np
    from scipy import stats

    from encoderlab.core.score import Score, undefined

    known = values[np.isfinite(values)]
    n = len(known)
    if not n:
        return undefined("no image has it: its tokens are all the same", 0, "mean over images")
    mean = float(known.mean())
    if n < 2:
        return Score(mean, None, None, None, n, "of one image")
    half = float(stats.t.ppf(0.975, n - 1)) * float(known.std(ddof=1)) / math.sqrt(n)
    return Score(mean, mean - half, mean + half, None, n, "mean over images; t interval")


def _ends(values: np.ndarray, names: list[str]) -> dict[str, list[str]]:
    import numpy as np

    order = [int(i) for i in np.argsort(values, kind="stable") if np.isfinite(values[i])]
    return {
        "lowest": [names[i] for i in order[:ENDS]],
        "highest": [names[i] for i in order[::-1][:ENDS]],
    }


def _write_arrays(out: Path, results: Sequence[SimilarityResult]) -> None:
    import numpy as np

    from encoderlab.core.atomic_io import atomic_write

    arrays = results[0].arrays()
    if len(results) > 1:
        all_arrays = [maps.arrays() for maps in results]
        arrays = {key: np.stack([entry[key] for entry in all_arrays]) for key in arrays}
        arrays["images"] = np.array([maps.source for maps in results])
        arrays["grid_size"] = arrays["grid_size"][0]
    with atomic_write(out / "similarities.npz") as unfinished, unfinished.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **arrays)


def _draw(
    out: Path,
    settings: Tokens,
    visualizer: SimilarityVisualizer,
    result: TokensResult,
    results: Sequence[SimilarityResult],
    text_maps: dict[str, np.ndarray],
    columns: dict[str, np.ndarray],
) -> tuple[dict[str, str], ...]:
    from encoderlab.core.progress import note, progress
    from encoderlab.inspection import plots
    from encoderlab.plots.style import save

    visualization, output = settings.visualization, settings.output
    chosen = list(enumerate(results))
    if len(results) > 1 and visualization.images == "ends":
        ends = {path for _, _, paths in result.at_the_ends() for path in paths}
        chosen = [(number, maps) for number, maps in chosen if maps.source in ends]
        if len(chosen) < len(results):
            note(f"maps of the {len(chosen)} images at the ends of the statistics; "
                 f"visualization.images=all draws those of all {len(results)}")  # fmt: skip
    figures: list[dict[str, str]] = []
    with progress("drawing maps", len(chosen), "image") as bar:
        for number, maps in chosen:
            folder = out if len(results) == 1 else out / f"{number:04}-{Path(maps.source).stem}"
            if visualization.save_combined:
                path = folder / f"{plots.COMBINED}.{output.format}"
                visualizer.visualize_all(maps, path, output.dpi)
                name = str(path.relative_to(out))
                figures.append({"file": name, "caption": f"maps of {maps.source}"})
            if visualization.save_individual:
                individual = folder / "individual"
                visualizer.visualize_individual(maps, individual, output.dpi, output.format)
            bar.advance()
    drawn = [plots.profile(result.layers, results[0].by_distance(), result.model)]
    if text_maps:
        drawn.append(plots.patch_text(results[0], settings.similarity.text, text_maps))
    if len(results) > 1:
        means = {name: score.to_json() for name, score in result.statistics.items()}
        drawn.append(plots.folder(columns, means))
    return (*figures, *save(drawn, out))
