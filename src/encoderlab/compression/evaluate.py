"""What every method of token compression keeps, side by side. Orchestration only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from encoderlab.compression.settings import (
    Compress,
    CompressData,
    CompressEvaluation,
)
from encoderlab.core.progress import note, progress
from encoderlab.core.results import (
    Block,
    Table,
    as_text,
    score_text,
)
from encoderlab.core.skipped import (
    SkippedImages,
    as_records,
    as_text_lines,
    as_warnings,
    skipped_images,
)
from encoderlab.errors import MissingError, UsageError
from encoderlab.patch_tokens.methods import METHODS

if TYPE_CHECKING:
    from encoderlab.compression.bench import Bench, Measurement, ReadingTask
    from encoderlab.compression.compressor import Compressor
    from encoderlab.compression.reinjection import Question, Reinjection
    from encoderlab.compression.token_set import TokenSet
    from encoderlab.core.score import Score
    from encoderlab.data.sample import Sample
    from encoderlab.encoders.vision import VisionEncoder

SYNTHETIC = "synthetic"
MAIN = "embedding"
TITLES = {
    "embedding": "embedding",
    "embedding_hard": "embedding, no CLS",
    "retrieval": "retrieval",
    "retrieval_hard": "retrieval, no CLS",
    "zero_shot": "zero-shot",
    "zero_shot_hard": "zero-shot, no CLS",
}
GLYPH_HEIGHTS = (1, 2, 3, 4)  # in patches
GLYPHS_TRAINED, GLYPHS_TESTED = 200, 60  # of each height
SCENES_TRAINED, SCENES_TESTED = 600, 400
LOSS_SHOWN = ("average", "block_pca")
MOST_CLASSES, FEWEST_PER_CLASS = 100, 4


@dataclass(frozen=True)
class CompressEvaluationResult:
    """Every method at every budget.

    Args:
        scales: task -> what all tokens score, and the floor: every patch the mean token.
        rows: one per method and budget, with everything that was measured.
        verdicts: trained compressors against every training-free method, paired.
        costs: visual tokens -> what they cost the LLM.
        refused: method and budget -> why it was left out.
    """

    model: str
    fingerprint: str
    device: str
    dtype: str
    layer: int
    grid: tuple[int, int]
    images: int
    fit_images: int
    data: str
    scales: dict[str, dict[str, float]]
    rows: tuple[dict[str, Any], ...]
    verdicts: tuple[dict[str, Any], ...]
    answers: tuple[str, ...]
    costs: dict[str, Any]
    refused: dict[str, str]
    skipped: SkippedImages = ()
    figures: tuple[dict[str, str], ...] = ()
    warnings: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Plain values for run.json."""
        return {**vars(self), "skipped": as_records(self.skipped)}

    def blocks(self) -> list[Block]:
        """The answer as paragraphs and tables, in reading order."""
        about = (
            f"{self.model}, layer {self.layer}: {self.grid[0]} x {self.grid[1]} tokens, "
            f"{self.images:,} images ({self.data})"
        )
        blocks: list[Block] = [about, self._scales()]
        for budget in dict.fromkeys(tuple(row["budget"]) for row in self.rows):
            blocks += self._measured(budget)
        if self.answers:
            blocks.append("\n".join(self.answers))
        blocks.append(self._costs())
        remarks = [f"left out: {name}: {why}" for name, why in self.refused.items()]
        remarks += [f"! {one}" for one in self.warnings]
        remarks += as_text_lines(self.skipped)
        if remarks:
            blocks.append("\n".join(remarks))
        return blocks

    def to_text(self) -> str:
        """What the terminal shows."""
        return as_text(self.blocks())

    def _scales(self) -> Table:
        rows = tuple(
            (TITLES.get(task, task), f"{ends['full']:.3f}", f"{ends['floor']:.3f}")
            for task, ends in self.scales.items()
        )
        said = "kept = (score - floor) / (full - floor); floor: every patch is the mean token"
        return Table(("task", "full", "floor"), rows, said=(said,))

    def _measured(self, budget: tuple[int, ...]) -> list[Block]:
        rows = [row for row in self.rows if tuple(row["budget"]) == budget]
        count, whole = budget[0] * budget[1], self.grid[0] * self.grid[1]
        tasks = [one for one in TITLES if not one.endswith("_hard") and one in rows[0]["kept"]]
        head = ["method", "error", "distance"]
        cells = [[r["method"], _text(r["nmse"]), _text(r["distance"])] for r in rows]
        for task in tasks:
            head += [TITLES[task] + " kept", *(["no CLS"] if f"{task}_hard" in self.scales else [])]
            for row, cell in zip(rows, cells, strict=True):
                cell.append(_text(row["kept"][task], task == MAIN))
                if f"{task}_hard" in row["kept"]:
                    cell.append(_text(row["kept"][f"{task}_hard"]))
        title = (
            f"{count} of {whole} tokens ({budget[0]} x {budget[1]}); two draws of real tokens are "
            f"{rows[0]['distance_floor']:.3f} apart"
        )
        readings = list(rows[0]["reading"])
        near = ["neighbours"] if rows[0]["neighbours"] else []
        more = tuple(
            (
                row["method"], *[_text(row["reading"][one]) for one in readings],
                *[_text(row[one]) for one in near], f"{row['milliseconds']:.2f}",
            )
            for row in rows
        )  # fmt: skip
        return [
            Table(tuple(head), tuple(map(tuple, cells)), title),
            Table(("method", *readings, *near, "ms an image"), more),
        ]

    def _costs(self) -> Table:
        rows = tuple(
            (
                str(one["visual_tokens"]), f"{one['prefill'] / 1e12:.2f} TFLOP",
                _bytes(one["cache"]), _bytes(one["tokens"]),
            )
            for one in self.costs["budgets"]
        )  # fmt: skip
        title = (
            f"cost of one image in {self.costs['llm']}, {self.costs['text_tokens']} text tokens "
            "with it, 16 bits"
        )
        return Table(("visual tokens", "prefill", "KV cache", "tokens"), rows, title)


def evaluate(settings: Compress, out: Path | None) -> CompressEvaluationResult:
    """Measures every method at every budget; writes figures to `out` if given.

    Raises:
        UsageError: a wrong method, grid or data.
        MissingError: images, a model, a compressor or a GPU are not there.
    """
    from encoderlab.compression import catalogue
    from encoderlab.compression.cost import cost, shape_of
    from encoderlab.compression.token_set import TokenSet
    from encoderlab.encoders.layers import layer_numbers
    from encoderlab.encoders.vision import load_vision
    from encoderlab.models.token_grid import check_grids

    model, hardware, chosen = settings.model, settings.hardware, settings.evaluation
    catalogue.check(chosen.methods)
    llm = shape_of(chosen.llm, settings.trust_remote_code)
    encoder = load_vision(
        model.name,
        hardware.device_name,
        hardware.dtype,
        trust_remote_code=settings.trust_remote_code,
    )
    (layer,) = layer_numbers([model.layer], encoder.n_layers)
    budgets = [(side, side) for side in dict.fromkeys(chosen.grids)]
    for budget in budgets:
        check_grids(encoder.grid, budget)
    compressors = compressors_for(chosen.compressors, encoder, layer, budgets)
    samples, pictures, fit_pictures, skipped, said = _pictures(settings.data, chosen)
    measured = TokenSet.of(encoder, pictures, layer)
    fit = TokenSet.of(encoder, fit_pictures, layer)
    bench = _bench(encoder, layer, samples, measured, fit, chosen)
    rows, refused = _measured(bench, encoder, layer, fit, budgets, compressors, chosen)
    verdicts = _verdicts(rows, bench, list(compressors))
    records = tuple(_record(row, bench) for row in rows)
    counts = [encoder.grid[0] * encoder.grid[1], *[h * w for h, w in budgets]]
    result = CompressEvaluationResult(
        encoder.name, encoder.fingerprint, *encoder.where, layer, encoder.grid, len(measured),
        len(fit), said,
        {task: {"full": float(s.full.mean()), "floor": float(s.floor.mean())}
         for task, s in {**bench.scales, **bench.reading_scales}.items()},
        records,
        tuple(verdicts), _answers(rows, verdicts, list(compressors)),
        {"llm": llm.name, "text_tokens": chosen.text_tokens,
         "budgets": [cost(llm, n, chosen.text_tokens, encoder.width).to_json() for n in counts]},
        refused, skipped, warnings=as_warnings(skipped),
    )  # fmt: skip
    if out is None:
        return result
    from dataclasses import replace

    return replace(result, figures=_draw(out, bench, rows, records, list(compressors), encoder))


# -- what is measured ----------------------------------------------------------------------------


def _pictures(
    data: CompressData, settings: CompressEvaluation
) -> tuple[list[Sample], list[Any], list[Any], SkippedImages, str]:
    """The measured samples with their pictures, and pictures to fit on."""
    from encoderlab.data.decode import ImageError
    from encoderlab.data.read import read_samples, split_by_image
    from encoderlab.data.sample import content_digests, merge_duplicates
    from encoderlab.data.synthetic import generate

    left: list[tuple[str, str]] = []

    def of(sources: Sequence[str], split: str, count: int) -> list[Sample]:
        found: list[Sample] = []
        for source in sources:
            if source == SYNTHETIC:
                found += [generate(i, split=split).to_sample() for i in range(count)]
            else:
                read = read_samples(source, data.img_root)
                left.extend(skipped_images(read.skipped))
                found += read
        return found

    named = list(data.images)
    fitted = list(settings.fit_images)
    if data.imagenet_root:
        root = Path(data.imagenet_root).expanduser()
        whole = (root / "train").is_dir() and (root / "val").is_dir()
        named.append(str(root / "val") if whole else str(root))
        fitted += [str(root / "train")] if whole else []
    if not named or named == [SYNTHETIC]:
        named, fitted = [SYNTHETIC], fitted or [SYNTHETIC]
    samples = of(named, "test", settings.n_samples)
    said = ", ".join(Path(one).name for one in named)
    if fitted:
        fit = of(fitted, "train", settings.n_fit)
    else:
        fit, samples = split_by_image(samples, 0.5)
        said += ", half of it; the other half fits"
    chosen = _spread(samples, settings.n_samples)
    images = merge_duplicates(chosen, content_digests(chosen))
    if len(images) < len(chosen):
        said += f", {len(chosen):,} samples of {len(images):,} images"

    def read(samples: Sequence[Sample]) -> tuple[list[Sample], list[Any]]:
        kept, found = [], []
        for sample in samples:
            try:
                found.append(sample.load())
                kept.append(sample)
            except ImageError as error:
                left.append((sample.id, error.reason))
        return kept, found

    measured, pictures = read(images)
    _, fit_pictures = read(_spread(fit, settings.n_fit))
    if len(pictures) < 20 or len(fit_pictures) < 20:
        raise UsageError(
            "too few readable images to measure compression on",
            got=f"{len(pictures)} to measure, {len(fit_pictures)} to fit",
            want="at least 20 of each",
        )
    return measured, pictures, fit_pictures, tuple(left), said


def _spread(samples: Sequence[Sample], most: int) -> list[Sample]:
    """At most so many, evenly from all: a folder lists its classes one after another."""
    if len(samples) <= most:
        return list(samples)
    return [samples[i * len(samples) // most] for i in range(most)]


def _bench(
    encoder: VisionEncoder,
    layer: int,
    samples: Sequence[Sample],
    measured: TokenSet,
    fit: TokenSet,
    settings: CompressEvaluation,
) -> Bench:
    from encoderlab.compression.bench import Bench

    reinjection: Reinjection | None = None
    if "reinjection" in settings.parts:
        if encoder.blocks() is None:
            note(f"no re-injection: the blocks of {encoder.family} cannot be run one by one")
        else:
            from encoderlab.compression.reinjection import Reinjection

            reinjection = Reinjection(
                encoder, layer, measured.special, fit.special.mean(dim=0), measured.tokens,
                _questions(encoder, samples),
            )  # fmt: skip
    reading = []
    if "readout" in settings.parts:
        reading.append(_colours(encoder, layer))
    if "glyphs" in settings.parts:
        reading.append(_glyphs(encoder, layer))
    return Bench(
        measured, fit, encoder.grid, reinjection, reading, loyalty="loyalty" in settings.parts
    )


def _questions(encoder: VisionEncoder, samples: Sequence[Sample]) -> dict[str, Question]:
    """Retrieval where images have captions, zero-shot where they have labels; neither for an
    encoder without a text tower."""
    import numpy as np
    import torch

    from encoderlab.compression.reinjection import Question
    from encoderlab.data.zero_shot_templates import TEMPLATES
    from encoderlab.encoders.dual import FAMILIES, load_dual
    from encoderlab.encoders.load_spec import options_of
    from encoderlab.metrics.classification import class_vector

    if encoder.family not in FAMILIES or encoder.last_block() is None:
        return {}
    dual = load_dual(encoder.checkpoint.name, *encoder.where, **options_of(encoder).vision)
    found = {}
    captions = [sample.texts[0] if sample.texts else "" for sample in samples]
    if all(captions):
        distinct = list(dict.fromkeys(captions))
        texts = torch.from_numpy(dual.embed_texts(distinct))
        found["retrieval"] = Question(texts, np.array([distinct.index(one) for one in captions]))
    labels = [sample.label or "" for sample in samples]
    names = sorted(set(labels))
    if all(labels) and 2 <= len(names) <= min(MOST_CLASSES, len(labels) // FEWEST_PER_CLASS):
        said = [t.format(name.replace("_", " ")) for name in names for t in TEMPLATES]
        vectors = [class_vector(x) for x in np.split(dual.embed_texts(said), len(names))]
        found["zero_shot"] = Question(
            torch.from_numpy(np.stack(vectors)).float(),
            np.array([names.index(one) for one in labels]),
        )
    return found


def _colours(encoder: VisionEncoder, layer: int) -> ReadingTask:
    """Which colour the main thing of a scene has."""
    from encoderlab.data.synthetic import KINDS
    from encoderlab.data.synthetic.labelled import LABELLED_START, main_colours

    step = len(KINDS)
    first = LABELLED_START + step  # a multiple of the number of kinds is a scene
    train = main_colours("train", range(first, first + step * SCENES_TRAINED, step))
    test = main_colours("test", range(0, step * SCENES_TESTED, step))
    return _reading(encoder, layer, "main colour", train, test, {"main colour": slice(None)})


def _glyphs(encoder: VisionEncoder, layer: int) -> ReadingTask:
    """Of which digit a line somewhere on a textured ground is, at several heights."""
    import numpy as np

    from encoderlab.data.synthetic.labelled import glyphs

    def every(count: int, seed: int) -> tuple[list[Any], Any]:
        drawn = [glyphs(count, h, size=encoder.image_size, seed=seed) for h in _heights(encoder)]
        return [one for pictures, _ in drawn for one in pictures], np.concatenate(
            [labels for _, labels in drawn]
        )

    parts = {
        f"digit {height} px": slice(i * GLYPHS_TESTED, (i + 1) * GLYPHS_TESTED)
        for i, height in enumerate(_heights(encoder))
    }
    return _reading(
        encoder, layer, "digit", every(GLYPHS_TRAINED, 0), every(GLYPHS_TESTED, 1), parts
    )


def _heights(encoder: VisionEncoder) -> list[int]:
    """Heights in pixels, the same in patches for every encoder."""
    return [height * encoder.patch_size for height in GLYPH_HEIGHTS]


def _reading(
    encoder: VisionEncoder,
    layer: int,
    name: str,
    train: tuple[Sequence[Any], Any],
    test: tuple[Sequence[Any], Any],
    parts: Mapping[str, slice],
) -> ReadingTask:
    import torch

    from encoderlab.compression.bench import ReadingTask
    from encoderlab.compression.token_set import TokenSet

    classes = sorted({*train[1], *test[1]})

    def numbers(labels: Any) -> Any:
        return torch.tensor([classes.index(one) for one in labels])

    return ReadingTask(
        name, TokenSet.of(encoder, train[0], layer), numbers(train[1]),
        TokenSet.of(encoder, test[0], layer), numbers(test[1]), len(classes), parts,
    )  # fmt: skip


# -- the methods ---------------------------------------------------------------------------------


def compressors_for(
    named: Sequence[str],
    encoder: VisionEncoder,
    layer: int,
    budgets: Sequence[tuple[int, int]],
) -> dict[str, list[Compressor]]:
    """Trained compressors for this encoder and layer, by what they are called in the tables
    ("NAME:FOLDER"): several with one name, of several budgets, are one line."""
    from encoderlab.compression.compressor import Compressor, shipped

    found: dict[str, list[Compressor]] = {}
    for name in named or shipped():
        label, _, folder = name.rpartition(":")
        one = Compressor.from_pretrained(folder)
        right = one.about.get("fingerprint") == encoder.fingerprint
        if right and one.about.get("layer") == layer:
            if named or set(one.budgets) & set(budgets):
                found.setdefault(label or "trained", []).append(one)
        elif named:
            raise UsageError(
                "the compressor was trained on other tokens",
                got=f"{folder}: {one.about.get('encoder')}, layer {one.about.get('layer')}",
                want=f"{encoder.name}, layer {layer}",
                hint="choose them with --model and --layer",
            )
    if not found:
        note(f"no trained compressor for {encoder.name}, layer {layer}: baselines alone")
    return found


def _measured(
    bench: Bench,
    encoder: VisionEncoder,
    layer: int,
    fit: TokenSet,
    budgets: Sequence[tuple[int, int]],
    compressors: Mapping[str, Sequence[Compressor]],
    settings: CompressEvaluation,
) -> tuple[list[Measurement], dict[str, str]]:
    from encoderlab.compression import catalogue

    names = list(settings.methods or METHODS)
    rows: list[Measurement] = []
    refused: dict[str, str] = {}
    total = (len(names) + len(compressors)) * len(budgets)
    with progress("measuring methods", total=total, unit="method") as bar:
        for name in [*compressors, *names]:
            methods: Sequence[Any] = compressors.get(name) or catalogue.instances(
                name, encoder, layer, fit.tokens, encoder.grid, budgets
            )
            for budget in budgets:
                able = methods
                if name in compressors:
                    able = [one for one in methods if budget in one.budgets]
                try:
                    if able:
                        rows.append(bench.measure(name, able, budget))
                except UsageError as error:
                    refused[f"{name}, {budget[0]} x {budget[1]}"] = str(error)
                bar.advance()
    if not rows:
        raise MissingError(
            "not one method can give these budgets",
            got=", ".join(f"{h} x {w}" for h, w in budgets),
            want=f"grids up to {encoder.grid[0]} x {encoder.grid[1]}",
            hint="; ".join(refused.values())[:200] or None,
        )
    order = {budget: i for i, budget in enumerate(budgets)}
    return sorted(rows, key=lambda row: order[row.budget]), refused


# -- what it means -------------------------------------------------------------------------------


def _verdicts(
    rows: Sequence[Measurement], bench: Bench, trained: Sequence[str]
) -> list[dict[str, Any]]:
    """Every trained compressor against every other method at its budget, task by task."""
    from encoderlab.compression.retention import mcnemar
    from encoderlab.metrics.uncertainty import compare_paired

    found = []
    for ours in (row for row in rows if row.method in trained):
        others = [r for r in rows if r.budget == ours.budget and r is not ours]
        for other in others:
            for task, values in (
                ("error", (-float(ours.nmse), -float(other.nmse))),
                ("distance", (-float(ours.distance), -float(other.distance))),
            ):
                # Less is better: ahead is who has less.
                parts = (-ours.without_parts[task], -other.without_parts[task])
                found.append(
                    {"task": task, "budget": list(ours.budget)}
                    | compare_paired(
                        ours.method, other.method, values, parts, len(ours.per_image["error"]),
                        comparisons=len(others),
                    ).to_json()
                )  # fmt: skip
            for task, scale in bench.scales.items():
                scores = (ours.per_image[task], other.per_image[task])
                compared = scale.compare(ours.method, other.method, scores, len(others))
                if compared is None:
                    continue
                record = {"task": task, "budget": list(ours.budget), **compared.to_json()}
                if not task.startswith("embedding"):
                    record["mcnemar_p"] = mcnemar(*scores)
                found.append(record)
    return found


def _answers(
    rows: Sequence[Measurement], verdicts: Sequence[Mapping[str, Any]], trained: Sequence[str]
) -> tuple[str, ...]:
    """For each budget: what keeps most, and whether training paid."""
    from encoderlab.compression.catalogue import is_training_free

    said = []
    for budget in dict.fromkeys(row.budget for row in rows):
        here = [row for row in rows if row.budget == budget]
        scored = [row for row in here if MAIN in row.kept and row.kept[MAIN].value is not None]
        if not scored:
            continue
        tokens = f"{budget[0] * budget[1]} tokens"
        best = max(scored, key=lambda row: float(row.kept[MAIN]))
        said.append(f"{tokens}: {best.method} keeps most of the embedding, "
                    f"{best.kept[MAIN].as_percent()}")  # fmt: skip
        for name in trained:
            mine = [
                one for one in verdicts
                if one["a"] == name and tuple(one["budget"]) == budget and one["task"] == MAIN
                and is_training_free(one["b"])
            ]  # fmt: skip
            if not mine:
                continue
            said.append(f"  {name} is {standing(mine)} training-free methods")
    return tuple(said)


def standing(verdicts: Sequence[Mapping[str, Any]], mark: str = "") -> str:
    """How one method stands against the others: "ahead of 9 of 11 ..., not to be told from ...".

    Args:
        mark: put around those that are ahead of it.
    """
    by = {
        verdict: [one["b"] for one in verdicts if one["verdict"] == verdict]
        for verdict in ("ahead", "cannot distinguish", "behind")
    }
    text = ""
    if by["behind"]:
        text += f"{mark}behind {', '.join(by['behind'])}{mark}, "
    if by["cannot distinguish"]:
        text += f"not to be told from {', '.join(by['cannot distinguish'])}, "
    return text + f"ahead of {len(by['ahead'])} of {len(verdicts)}"


def _record(row: Measurement, bench: Bench) -> dict[str, Any]:
    from encoderlab.compression.catalogue import is_training_free

    def scores(found: Mapping[str, Score]) -> dict[str, Any]:
        return {name: one.to_json() for name, one in found.items()}

    return {
        "method": row.method,
        "words": METHODS.get(row.method, "a trained compressor"),
        "training_free": is_training_free(row.method),
        "budget": list(row.budget),
        "tokens": row.tokens,
        "nmse": row.nmse.to_json(),
        "nmse_without_outliers": row.nmse_without_outliers.to_json(),
        "cosine": row.cosine.to_json(),
        "distance": row.distance.to_json(),
        "distance_floor": bench.floor_of_distribution(row.budget),
        "norm_ratio": row.norm_ratio,
        "milliseconds": row.milliseconds,
        "operations": row.operations,
        "scores": {task: float(row.per_image[task].mean()) for task in bench.scales},
        "kept": scores(row.kept),
        "reading": scores(row.reading),
        "neighbours": None if row.neighbours is None else row.neighbours.to_json(),
        "cka": None if row.cka is None else row.cka.to_json(),
    }


def _draw(
    out: Path,
    bench: Bench,
    rows: Sequence[Measurement],
    records: Sequence[dict[str, Any]],
    trained: Sequence[str],
    encoder: VisionEncoder,
) -> tuple[dict[str, str], ...]:
    from encoderlab.compression import plots as plots
    from encoderlab.plots.style import save

    whole = encoder.grid[0] * encoder.grid[1]
    drawn = [plots.two_axes(records, trained)]
    if bench.scales:
        drawn.insert(0, plots.pareto(records, trained, whole, TITLES))
    if any(name.startswith("digit") for name in bench.reading_scales):
        ends = {
            name: (float(s.full.mean()), float(s.floor.mean()))
            for name, s in bench.reading_scales.items()
        }
        drawn.append(plots.glyph_curve(records, trained, ends))
    middle = sorted({row.budget for row in rows})[len({row.budget for row in rows}) // 2]
    rebuilt = {row.method: row.decoded.numpy() for row in rows if row.budget == middle}
    pixels = bench.measured.side.pixels
    assert pixels is not None
    images = pixels.permute(0, 2, 3, 1).numpy()
    full = bench.measured.tokens[: len(next(iter(rebuilt.values())))].numpy()
    drawn.append(plots.token_pictures(images, full, rebuilt, encoder.grid, middle))
    maps = {(row.method, row.budget): row.error_map.numpy() for row in rows}
    drawn.append(plots.loss_map(images, maps, [*trained, *LOSS_SHOWN], encoder.grid))
    return save(drawn, out)


def _text(score: Mapping[str, Any] | None, interval: bool = False) -> str:
    if score is not None and not interval:
        score = {**score, "ci_low": None}
    return score_text(score)


def _bytes(number: float) -> str:
    for unit in ("B", "KiB", "MiB", "GiB"):
        if number < 1024 or unit == "GiB":
            return f"{number:.0f} {unit}" if unit == "B" else f"{number:.1f} {unit}"
        number /= 1024
    return ""
