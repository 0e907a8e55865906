"""Measures every method of token compression at every budget. Orchestration only."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from PIL.Image import Image

from encoderlab.compression import adaptive, answers, catalogue, inside_llm, plots
from encoderlab.compression.answers import ANSWERS, HARD, AnswerTask
from encoderlab.compression.bench import Bench, Measurement, ReadingTask
from encoderlab.compression.compressor import Compressor, shipped
from encoderlab.compression.cost import (
    LLMShape,
    cost,
    local_llm,
    measured_record,
    shape_of,
)
from encoderlab.compression.images import images_of
from encoderlab.compression.inside_llm import FASTV
from encoderlab.compression.recommendation import LOSSLESS, MAIN, what_to_use
from encoderlab.compression.reinjection import Question, Reinjection
from encoderlab.compression.retention import mcnemar
from encoderlab.compression.settings import Compress, CompressData, CompressEvaluation
from encoderlab.compression.token_set import TokenSet
from encoderlab.core.atomic_io import write_text_atomic
from encoderlab.core.progress import note, progress
from encoderlab.core.results import Block, Result, Table, score_text
from encoderlab.core.skipped import (
    SkippedImages,
    as_records,
    as_text_lines,
    as_warnings,
    skipped_images,
)
from encoderlab.data.decode import ImageError
from encoderlab.data.sample import Sample, content_digests, merge_duplicates
from encoderlab.data.synthetic import KINDS, generate
from encoderlab.data.synthetic.labelled import LABELLED_START, glyphs, main_colours
from encoderlab.data.zero_shot_templates import TEMPLATES
from encoderlab.encoders.dual import FAMILIES, load_dual
from encoderlab.encoders.layers import layer_numbers
from encoderlab.encoders.load_spec import options_of
from encoderlab.encoders.vision import VisionEncoder, load_vision
from encoderlab.errors import MissingError, UsageError
from encoderlab.metrics.classification import class_vector
from encoderlab.metrics.uncertainty import compare_paired
from encoderlab.models.token_grid import Grid, check_grids
from encoderlab.patch_tokens.methods import METHODS, meaning_of
from encoderlab.plots.style import save
from encoderlab.vlm.model import VLM

TITLES = {
    "embedding": "embedding",
    "embedding_hard": "embedding, no CLS",
    "retrieval": "retrieval",
    "retrieval_hard": "retrieval, no CLS",
    "zero_shot": "zero-shot",
    "zero_shot_hard": "zero-shot, no CLS",
    ANSWERS: "answers, all questions",
    HARD: "answers, VTC split",
}
ANSWERS_FILE = "answers.jsonl"
GLYPH_HEIGHTS = (1, 2, 3, 4)  # in patches
GLYPHS_TRAINED, GLYPHS_TESTED = 200, 60  # of each height
SCENES_TRAINED, SCENES_TESTED = 600, 400
LOSS_SHOWN = ("average", "block_pca")
MOST_CLASSES, FEWEST_PER_CLASS = 100, 4


@dataclass(frozen=True)
class CompressEvaluationResult(Result):
    """Every method at every budget.

    Args:
        scales: task -> score of all tokens ("full") and of the mean token everywhere ("floor").
        rows: one per method and budget, with all measurements.
        verdicts: paired comparisons of each trained compressor, and of the method that keeps most
            of the embedding, with every other method; and of the answers of each method with all
            tokens and with every other method.
        answers: what to use at each budget, and the score that predicts the answers best.
        costs: cost to the LLM of each number of visual tokens, computed; and "measured" on an LLM
            that is on this machine.
        refused: method and budget -> why it was left out.
        vlm: the questions asked, the score of all tokens and the floor on them and on each VTC
            split, and how well each other score predicts the answers; None without a VLM.
        adaptive: the methods with more tokens for images that need more, against a fixed number.
    """

    records: ClassVar = "rows"

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
    vlm: dict[str, Any] | None = None
    adaptive: dict[str, Any] | None = None

    def to_json(self) -> dict[str, Any]:
        """The result for run.json."""
        return {**super().to_json(), "skipped": as_records(self.skipped)}

    def blocks(self) -> list[Block]:
        """The result as paragraphs and tables, in reading order."""
        about = (
            f"{self.model}, layer {self.layer}: {self.grid[0]} x {self.grid[1]} tokens, "
            f"{self.images:,} images ({self.data})"
        )
        blocks: list[Block] = ["\n".join([about, *self._legend()])]
        budgets = dict.fromkeys(tuple(row["budget"]) for row in self.rows)
        blocks += [self._measured(budget) for budget in budgets]
        if self.answers:
            blocks.append("\n".join(self.answers))
        if self.adaptive:
            blocks += adaptive.blocks(self.adaptive)
        blocks += self._costs()
        remarks = [f"left out: {name}: {why}" for name, why in self.refused.items()]
        remarks += [f"! {warning}" for warning in self.warnings]
        remarks += as_text_lines(self.skipped)
        if remarks:
            blocks.append("\n".join(remarks))
        return blocks

    def _legend(self) -> list[str]:
        """What "kept" means, and the scores at both of its ends."""
        legend = "kept: (score - floor) / (full - floor); floor: every patch is the mean token"
        titles = {MAIN: TITLES[MAIN]}
        if self.vlm:
            legend += f", of answers {self.vlm['floor_is']}"
            titles[ANSWERS] = f"answers of {self.vlm['model']} to {_asked(self.vlm)}"
        ends = [
            f"{title}: full {self.scales[task]['full']:.3f}, floor {self.scales[task]['floor']:.3f}"
            for task, title in titles.items()
            if task in self.scales
        ]
        return [*ends, legend] if ends else []

    def _measured(self, budget: tuple[int, ...]) -> Table:
        rows = [row for row in self.rows if tuple(row["budget"]) == budget]
        columns: dict[str, list[str]] = {
            "method": [row["method"] for row in rows],
            "error": [_text(row["nmse"]) for row in rows],
            "distance": [_text(row["distance"]) for row in rows],
        }
        if MAIN in self.scales:
            scores = [row["kept"].get(MAIN) for row in rows]
            columns["embedding kept"] = [_text(score, interval=True) for score in scores]
        if self.vlm:
            scores = [row["answers"].get(ANSWERS) for row in rows]
            columns["right answers"] = [_text(score, interval=True) for score in scores]
            columns["answers kept"] = [_text(row["kept"].get(ANSWERS)) for row in rows]
        columns["ms"] = [_milliseconds(row) for row in rows]
        title = (
            f"{budget[0] * budget[1]} of {self.grid[0] * self.grid[1]} tokens "
            f"({budget[0]} x {budget[1]}); two draws of real tokens are "
            f"{rows[0]['distance_floor']:.3f} apart"
        )
        return Table(tuple(columns), tuple(zip(*columns.values(), strict=True)), title)

    def _costs(self) -> list[Block]:
        measured = self.costs.get("measured")
        tables: list[Block] = [] if measured is None else [self._cost_table(measured, True)]
        if measured is None or measured["llm"] != self.costs["llm"]:
            tables.append(self._cost_table(self.costs, False))
        return tables

    def _cost_table(self, costs: Mapping[str, Any], measured: bool) -> Table:
        rows = costs["budgets"]
        columns = {
            "visual tokens": [str(row["visual_tokens"]) for row in rows],
            "prefill, computed": [_operations(row["prefill"]) for row in rows],
        }
        cache = "cache"
        if measured:
            columns["prefill, measured (ms)"] = [_times(row["prefill_ms"]) for row in rows]
            columns["ms per new token"] = [_times(row["ms_per_token"]) for row in rows]
            cache = "cache_measured"
        columns["KV cache"] = [_bytes(row[cache]) for row in rows]
        columns["tokens"] = [_bytes(row["tokens"]) for row in rows]
        how = "computed, 16 bits"
        if measured:
            how = f"measured on {costs['device']} in {costs['dtype']}, quartiles in brackets"
        title = (
            f"cost of one image in {costs['llm']}, {self.costs['text_tokens']} text tokens "
            f"with it: {how}"
        )
        return Table(tuple(columns), tuple(zip(*columns.values(), strict=True)), title)


def evaluate(settings: Compress, out: Path | None) -> CompressEvaluationResult:
    """Measures every method at every budget; draws figures in `out`, unless it is None."""
    chosen = settings.evaluation
    catalogue.check(chosen.methods, answered=bool(chosen.answers))
    adaptable = adaptive.able(chosen.methods or [*METHODS]) if chosen.adaptive else []
    llm = shape_of(chosen.llm, settings.trust_remote_code)
    encoder, layer, budgets, compressors = prepare(settings)
    task, unread = AnswerTask.of(encoder, layer, settings) if chosen.answers else (None, [])
    with progress("reading images", chosen.n_samples + chosen.n_fit, "image") as bar:
        samples, pictures, fit_pictures, skipped, source = _pictures(settings.data, chosen)
        bar.total = len(pictures) + len(fit_pictures)
        bar.advance(bar.total)
    skipped += skipped_images(unread)
    measured = _tokens(encoder, pictures, layer, "images to measure")
    fit = _tokens(encoder, fit_pictures, layer, "images to fit on")
    bench = _bench(encoder, layer, samples, measured, fit, chosen, task)
    rows, refused = _measured(bench, encoder, layer, fit, budgets, compressors, chosen)
    verdicts = _verdicts(rows, bench, list(compressors))
    records = tuple(_record(row, bench) for row in rows)
    vlm = None
    ends = {
        task: (float(s.full.mean()), float(s.floor.mean()))
        for task, s in {**bench.scales, **bench.reading_scales}.items()
    }
    if task is not None:
        right = [task.right(row.texts) if all(row.texts) else None for row in rows]
        vlm, compared = answers.judge(task, records, right)
        ends[ANSWERS] = vlm["full"]["value"], vlm["floor"]["value"]
        verdicts += compared
    lines = (*what_to_use(records, verdicts, vlm), *_best_predictors(vlm))
    methods = {
        name: catalogue.instances(name, encoder, layer, fit.tokens, encoder.grid, budgets)
        for name in adaptable
    }
    result = CompressEvaluationResult(
        encoder.name, encoder.fingerprint, *encoder.where, layer, encoder.grid, len(measured),
        len(fit), source,
        {task: {"full": full, "floor": floor} for task, (full, floor) in ends.items()},
        records,
        tuple(verdicts), lines,
        _costs_of(settings, llm, None if task is None else task.vlm, encoder, budgets),
        refused, skipped, warnings=as_warnings(skipped), vlm=vlm,
        adaptive=adaptive.compare_budgets(bench, methods, rows) if methods else None,
    )  # fmt: skip
    if out is None:
        return result
    if task is not None:
        texts = {f"{row.method}/{row.tokens}": row.texts for row in rows}
        write_text_atomic(out / ANSWERS_FILE, task.lines(texts))
    return replace(result, figures=_draw(out, bench, rows, records, list(compressors), encoder))


def _costs_of(
    settings: Compress,
    llm: LLMShape,
    vlm: VLM | None,
    encoder: VisionEncoder,
    budgets: Sequence[Grid],
) -> dict[str, Any]:
    """The cost of each number of tokens, computed for `llm` and measured on the LLM at hand."""
    counts = [encoder.grid[0] * encoder.grid[1], *[h * w for h, w in budgets]]
    text, hardware = settings.evaluation.text_tokens, settings.hardware
    if vlm is None:
        name, code = llm.name, settings.trust_remote_code
        network = local_llm(name, hardware.device_name, hardware.dtype, code)
    else:
        name, network = vlm.design.llm, vlm.llm
    measured = None
    if network is not None:
        measured = measured_record(name, network, counts, text, encoder.width)
    return {
        "llm": llm.name,
        "text_tokens": text,
        "budgets": [asdict(cost(llm, n, text, encoder.width)) for n in counts],
        "measured": measured,
    }


def prepare(
    settings: Compress,
) -> tuple[VisionEncoder, int, list[Grid], dict[str, list[Compressor]]]:
    """The encoder, its layer, the budgets and the trained compressors of the settings."""
    model, hardware, chosen = settings.model, settings.hardware, settings.evaluation
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
    return encoder, layer, budgets, _compressors(chosen.compressors, encoder, layer, budgets)


# -- images and tasks ----------------------------------------------------------------------------


def _pictures(
    data: CompressData, settings: CompressEvaluation
) -> tuple[list[Sample], list[Image], list[Image], SkippedImages, str]:
    """The measured samples, their pictures, pictures to fit on, skipped images, and the source."""
    (fit, samples), not_images, text = images_of(
        data,
        settings.fit_images,
        0.5,
        lambda: (
            [generate(i).to_sample() for i in range(settings.n_fit)],
            [generate(i, split="test").to_sample() for i in range(settings.n_samples)],
        ),
    )
    skipped = list(skipped_images(not_images))
    chosen = _spread(samples, settings.n_samples)
    images = merge_duplicates(chosen, content_digests(chosen))
    if len(images) < len(chosen):
        text += f", {len(chosen):,} samples of {len(images):,} images"

    def read(samples: Sequence[Sample]) -> tuple[list[Sample], list[Image]]:
        readable, pictures = [], []
        for sample in samples:
            try:
                pictures.append(sample.load())
                readable.append(sample)
            except ImageError as error:
                skipped.append((sample.id, error.reason))
        return readable, pictures

    measured, pictures = read(images)
    _, fit_pictures = read(_spread(fit, settings.n_fit))
    if len(pictures) < 20 or len(fit_pictures) < 20:
        raise UsageError(
            "too few readable images to measure compression on",
            got=f"{len(pictures)} to measure, {len(fit_pictures)} to fit",
            want="at least 20 of each",
        )
    return measured, pictures, fit_pictures, tuple(skipped), text


def _tokens(encoder: VisionEncoder, pictures: Sequence[Image], layer: int, what: str) -> TokenSet:
    with progress(f"encoding {what}", len(pictures), "image") as bar:
        return TokenSet.of(encoder, pictures, layer, bar.advance)


def _spread(samples: Sequence[Sample], most: int) -> list[Sample]:
    """At most `most` samples, evenly spaced: a folder lists its classes one after another."""
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
    task: AnswerTask | None,
) -> Bench:
    reinjection: Reinjection | None = None
    if "reinjection" in settings.parts:
        if encoder.blocks() is None:
            note(f"no re-injection: the blocks of {encoder.family} cannot be run one by one")
        else:
            reinjection = Reinjection(
                encoder, layer, measured.special, fit.special.mean(dim=0), measured.tokens,
                _questions(encoder, samples),
            )  # fmt: skip
    reading = []
    if "readout" in settings.parts:
        reading.append(_colours(encoder, layer))
    if "glyphs" in settings.parts:
        reading.append(_glyphs(encoder, layer))
    with progress("measuring all tokens and the mean token", 1, "set") as bar:
        loyalty = "loyalty" in settings.parts
        bench = Bench(measured, fit, encoder.grid, reinjection, reading, loyalty, task)
        bar.advance()
    return bench


def _questions(encoder: VisionEncoder, samples: Sequence[Sample]) -> dict[str, Question]:
    """Retrieval where images have captions, zero-shot where they have labels."""
    # Neither without a text tower.
    if encoder.family not in FAMILIES or encoder.last_block() is None:
        return {}
    dual = load_dual(encoder.checkpoint.name, *encoder.where, **options_of(encoder).vision)
    questions = {}
    captions = [sample.texts[0] if sample.texts else "" for sample in samples]
    if all(captions):
        distinct = list(dict.fromkeys(captions))
        texts = torch.from_numpy(dual.embed_texts(distinct))
        questions["retrieval"] = Question(texts, np.array([distinct.index(c) for c in captions]))
    labels = [sample.label or "" for sample in samples]
    names = sorted(set(labels))
    if all(labels) and 2 <= len(names) <= min(MOST_CLASSES, len(labels) // FEWEST_PER_CLASS):
        prompts = [t.format(name.replace("_", " ")) for name in names for t in TEMPLATES]
        vectors = [class_vector(x) for x in np.split(dual.embed_texts(prompts), len(names))]
        questions["zero_shot"] = Question(
            torch.from_numpy(np.stack(vectors)).float(),
            np.array([names.index(label) for label in labels]),
        )
    return questions


def _colours(encoder: VisionEncoder, layer: int) -> ReadingTask:
    """The colour of the largest object of a scene."""
    step = len(KINDS)
    first = LABELLED_START + step  # a multiple of the number of kinds is a scene
    train = main_colours("train", range(first, first + step * SCENES_TRAINED, step))
    test = main_colours("test", range(0, step * SCENES_TESTED, step))
    return _reading(encoder, layer, "main colour", train, test, {"main colour": slice(None)})


def _glyphs(encoder: VisionEncoder, layer: int) -> ReadingTask:
    """Which digit a line on a textured background repeats, at several heights of the text."""
    heights = [height * encoder.patch_size for height in GLYPH_HEIGHTS]

    def every(count: int, seed: int) -> tuple[list[Image], list[Any]]:
        drawn = [glyphs(count, h, size=encoder.image_size, seed=seed) for h in heights]
        pictures, labels = zip(*drawn, strict=True)
        return [p for part in pictures for p in part], [n for part in labels for n in part]

    parts = {
        f"digit {height} px": slice(i * GLYPHS_TESTED, (i + 1) * GLYPHS_TESTED)
        for i, height in enumerate(heights)
    }
    return _reading(
        encoder, layer, "digit", every(GLYPHS_TRAINED, 0), every(GLYPHS_TESTED, 1), parts
    )


def _reading(
    encoder: VisionEncoder,
    layer: int,
    name: str,
    train: tuple[Sequence[Any], Any],
    test: tuple[Sequence[Any], Any],
    parts: Mapping[str, slice],
) -> ReadingTask:
    classes = sorted({*train[1], *test[1]})

    def numbers(labels: Any) -> Any:
        return torch.tensor([classes.index(label) for label in labels])

    return ReadingTask(
        name, _tokens(encoder, train[0], layer, f"images to learn the {name} from"),
        numbers(train[1]), _tokens(encoder, test[0], layer, f"images to read the {name} from"),
        numbers(test[1]), len(classes), parts,
    )  # fmt: skip


# -- the methods ---------------------------------------------------------------------------------


def _compressors(
    named: Sequence[str], encoder: VisionEncoder, layer: int, budgets: Sequence[Grid]
) -> dict[str, list[Compressor]]:
    """Name in the tables -> the named compressors, or the shipped ones of the encoder's tokens."""
    compressors: dict[str, list[Compressor]] = {}
    for name in named or shipped():
        label, _, folder = name.rpartition(":")
        compressor = Compressor.from_pretrained(folder)
        about = compressor.about
        if (about.get("fingerprint"), about.get("layer")) == (encoder.fingerprint, layer):
            if named or set(compressor.budgets) & set(budgets):
                compressors.setdefault(label or compressor.label, []).append(compressor)
        elif named:
            compressor.check_tokens(folder, encoder.name, encoder.fingerprint, layer)
    if not compressors:
        note(f"no trained compressor for {encoder.name}, layer {layer}: baselines alone")
    return compressors


def _measured(
    bench: Bench,
    encoder: VisionEncoder,
    layer: int,
    fit: TokenSet,
    budgets: Sequence[tuple[int, int]],
    compressors: Mapping[str, Sequence[Compressor]],
    settings: CompressEvaluation,
) -> tuple[list[Measurement], dict[str, str]]:
    names = catalogue.with_references(settings.methods, encoder.grid, budgets)
    if bench.answers is None:
        names = [name for name in names if not catalogue.needs_answers(name)]
    rows: list[Measurement] = []
    refused: dict[str, str] = {}
    total = (len(names) + len(compressors)) * len(budgets)
    with progress("measuring methods", total=total, unit="method") as bar:
        for name in [*compressors, *names]:
            methods: Sequence[Any] = compressors.get(name, ())
            if name not in (*compressors, FASTV):
                methods = catalogue.instances(
                    name, encoder, layer, fit.tokens, encoder.grid, budgets
                )
            for budget in budgets:
                able = methods
                if name in compressors:
                    able = [method for method in methods if budget in method.budgets]
                try:
                    if name == FASTV and bench.answers is not None:
                        rows.append(inside_llm.measure(bench.answers, budget))
                    elif able:
                        rows.append(bench.measure(name, able, budget))
                except UsageError as error:
                    refused[f"{name}, {budget[0]} x {budget[1]}"] = str(error)
                bar.advance()
    if not rows:
        raise MissingError(
            "no method can give these budgets",
            got=", ".join(f"{h} x {w}" for h, w in budgets),
            want=f"grids up to {encoder.grid[0]} x {encoder.grid[1]}",
            hint="; ".join(refused.values())[:200] or None,
        )
    order = {budget: i for i, budget in enumerate(budgets)}
    return sorted(rows, key=lambda row: order[row.budget]), refused


# -- comparison ----------------------------------------------------------------------------------


def _verdicts(
    rows: Sequence[Measurement], bench: Bench, trained: Sequence[str]
) -> list[dict[str, Any]]:
    """Every trained compressor, and what keeps most of the embedding, against all at its budget."""
    verdicts = []
    for budget in dict.fromkeys(row.budget for row in rows):
        here = [row for row in rows if row.budget == budget and MAIN in row.kept]
        here = [row for row in here if row.method != LOSSLESS]
        best = max(
            here, key=lambda row: bench.scales[MAIN].value(row.per_image[MAIN]), default=None
        )
        if best is not None and best.method not in trained:
            verdicts += _compared(best, [row for row in here if row is not best], bench, (MAIN,))
    for ours in (row for row in rows if row.method in trained):
        others = [r for r in rows if r.budget == ours.budget and r is not ours]
        made = {(v["a"], v["b"], tuple(v["budget"])) for v in verdicts if v["task"] == MAIN}
        rest = [r for r in others if (r.method, ours.method, ours.budget) not in made]
        tasks = [task for task in bench.scales if task != MAIN]
        verdicts += _compared(ours, others, bench, ("error", "distance", *tasks))
        verdicts += _compared(ours, rest, bench, (MAIN,)) if MAIN in bench.scales else []
    return verdicts


def _compared(
    ours: Measurement, others: Sequence[Measurement], bench: Bench, tasks: Sequence[str]
) -> list[dict[str, Any]]:
    """One method against others at its budget, on the tasks that both were measured on."""
    verdicts: list[dict[str, Any]] = []

    def has(row: Measurement, task: str) -> bool:
        own = {**row.kept, "error": row.nmse, "distance": row.distance}
        return own.get(task) is not None

    pairs = [
        (other, task, sum(has(row, task) for row in others))
        for other, task in itertools.product(others, tasks)
        if has(ours, task) and has(other, task)
    ]
    for other, task, count in pairs:
        if task in bench.scales:
            scores = (ours.per_image[task], other.per_image[task])
            compared = bench.scales[task].compare(ours.method, other.method, scores, count)
        else:
            left, right = (row.nmse if task == "error" else row.distance for row in (ours, other))
            assert left is not None and right is not None
            # Less is better, so the signs are changed.
            compared = compare_paired(
                ours.method, other.method, (-float(left), -float(right)),
                (-ours.without_parts[task], -other.without_parts[task]), left.n,
                comparisons=count,
            )  # fmt: skip
        if compared is None:
            continue
        record = {"task": task, "budget": list(ours.budget), **compared.to_json()}
        if task in bench.scales and not task.startswith("embedding"):
            record["mcnemar_p"] = mcnemar(*scores)
        verdicts.append(record)
    return verdicts


def _best_predictors(vlm: Mapping[str, Any] | None) -> list[str]:
    """Which score predicts the answers best, and those that cannot be told apart from it."""
    rows = vlm["predictors"] if vlm else []
    if not rows:
        return []
    if rows[0]["rho"]["value"] is None:
        return [f"no score is ranked by how well it predicts the answers: {_unranked(rows)}"]
    best, *others = [_name_of(row["score"]) for row in rows if row["is_best"]]
    return [
        f"of the scores without a VLM, {best} predicts the right answers best, rho "
        f"{_text(rows[0]['rho'], interval=True)}"
        + (f"; cannot be told apart from {', '.join(others)}" if others else "")
    ]


def _record(row: Measurement, bench: Bench) -> dict[str, Any]:
    scores = {
        name: getattr(row, name)
        for name in ("nmse", "nmse_without_outliers", "cosine", "distance", "neighbours", "cka")
    }
    return {
        "method": row.method,
        "words": meaning_of(row.method),
        "training_free": catalogue.is_training_free(row.method),
        "budget": list(row.budget),
        "tokens": row.tokens,
        **{name: None if score is None else score.to_json() for name, score in scores.items()},
        "distance_floor": bench.floor_of_distribution(row.budget),
        "norm_ratio": row.norm_ratio,
        "milliseconds": row.milliseconds,
        "operations": row.operations,
        "scores": {
            task: float(row.per_image[task].mean())
            for task in bench.scales
            if task in row.per_image
        },
        "kept": {task: score.to_json() for task, score in row.kept.items()},
        "reading": {task: score.to_json() for task, score in row.reading.items()},
    }


def _draw(
    out: Path,
    bench: Bench,
    rows: Sequence[Measurement],
    records: Sequence[dict[str, Any]],
    trained: Sequence[str],
    encoder: VisionEncoder,
) -> tuple[dict[str, str], ...]:
    whole = encoder.grid[0] * encoder.grid[1]
    drawn = [*plots.kept(records, trained, whole, TITLES), *plots.two_axes(records, trained)]
    read = any(all(record["reading"].values()) for record in records)
    if read and any(name.startswith("digit") for name in bench.reading_scales):
        ends = {
            name: (float(s.full.mean()), float(s.floor.mean()))
            for name, s in bench.reading_scales.items()
        }
        drawn.append(plots.glyph_curve(records, trained, ends))
    budgets = sorted({row.budget for row in rows})
    middle = budgets[len(budgets) // 2]
    decoded = {
        row.method: row.decoded.numpy()
        for row in rows
        if row.budget == middle and row.decoded is not None
    }
    rebuilt = {name: decoded[name] for name in plots.few(records, trained, list(decoded))}
    pixels = bench.measured.side.pixels
    assert pixels is not None
    images = pixels.permute(0, 2, 3, 1).numpy()
    full = bench.measured.tokens[: len(next(iter(rebuilt.values())))].numpy()
    drawn.append(plots.token_pictures(images, full, rebuilt, encoder.grid, middle))
    maps = {
        (row.method, row.budget): row.error_map.numpy() for row in rows if row.error_map is not None
    }
    shown = [*trained, *LOSS_SHOWN]
    drawn.append(plots.loss_map(images, maps, bench.variance, shown, encoder.grid))
    return save(drawn, out)


def _asked(about: Mapping[str, Any]) -> str:
    return f"{about['questions']:,} questions about {about['images']:,} images"


def _name_of(score: str) -> str:
    name = f"{TITLES[score]} kept" if score in TITLES else score.replace("nmse", "error")
    return name.replace(",", "").replace("_", " ")


def _unranked(rows: Sequence[Mapping[str, Any]]) -> str:
    return ", or ".join(
        dict.fromkeys(r["rho"]["undefined"] for r in rows if "undefined" in r["rho"])
    )


def _text(score: Mapping[str, Any] | None, interval: bool = False) -> str:
    if score is not None and not interval:
        score = {**score, "ci_low": None}
    return score_text(score)


def _milliseconds(row: Mapping[str, Any]) -> str:
    """Of compressing an image; a method inside the LLM, or of the question, is not timed."""
    return "-" if row["milliseconds"] is None else f"{row['milliseconds']:.2f}"


def _operations(number: float) -> str:
    giga = number / 1e9
    return f"{giga / 1000:.2f} TFLOP" if giga >= 10 else f"{giga:.3f} GFLOP"


def _times(times: Mapping[str, float] | None) -> str:
    if times is None:
        return "-"
    return f"{times['median']:.2f} [{times['low']:.2f}, {times['high']:.2f}]"


def _bytes(number: float | None) -> str:
    if number is None:
        return "-"
    for unit in ("B", "KiB", "MiB", "GiB"):
        if number < 1024 or unit == "GiB":
            return f"{number:.0f} {unit}" if unit == "B" else f"{number:.1f} {unit}"
        number /= 1024
    return ""
