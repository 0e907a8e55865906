"""Tables of benchmark scores by vision encoder: the bundled ones, a CSV, a run of `e2e`, the result
files of CLIP_benchmark.

The bundled tables are transcribed from papers, which `reference/tables.yaml` names. Computes no
metric and loads no encoder.
"""

from __future__ import annotations

import csv
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from encoderlab.core.aliases import UNTRAINED, get_model_id
from encoderlab.data.clip_benchmark import (
    PROBE,
    ModelResult,
    is_clip_benchmark,
    main_metric,
    read_results,
)
from encoderlab.data.csv_table import rows_of
from encoderlab.errors import UsageError, unknown

FOLDER = Path(__file__).parent / "reference"
CLASSES = ("lang", "ssl", "other")
COLUMNS = ("encoder", "benchmark", "score")
ONLY_SETTING = "all"  # of a table without a column of settings
Scores = Mapping[str, Mapping[str, float]]


@dataclass(frozen=True)
class ScoredEncoder:
    """A row of a table of scores.

    Args:
        name: as the table has it.
        kind: its class: "lang" (language-supervised), "ssl" (images alone) or "other"; None where
            the table has no classes.
        resolution: side of its input in pixels, as the scores were measured.
        model: hub id or name of the same weights, by which it can be loaded; None if not known.
        model_resolution: of that checkpoint, where it is another.
    """

    name: str
    kind: str | None = None
    resolution: int | None = None
    model: str | None = None
    model_resolution: int | None = None


@dataclass(frozen=True)
class ScoreTable:
    """Scores of benchmarks by encoder, in one or more settings.

    Args:
        about: where it is from, in one line.
        scores: setting -> benchmark -> encoder -> score.
        groups: group of benchmarks -> its benchmarks.
        averages: setting -> encoder -> the average that the table prints.
        metrics: metric that the table itself gives -> encoder -> value.
        metric_titles: their names for people.
    """

    name: str
    about: str
    encoders: Mapping[str, ScoredEncoder]
    scores: Mapping[str, Scores]
    groups: Mapping[str, Sequence[str]] = field(default_factory=dict)
    averages: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    metrics: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    metric_titles: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def _rows(self) -> dict[str, str]:
        """Every name of an encoder -> its row."""
        rows: dict[str, str] = {}
        for row in self.encoders.values():
            for name in (row.name, get_model_id(row.name, "vision"), row.model):
                rows.setdefault(name or row.name, row.name)
        return rows

    def row_of(self, name: str) -> str | None:
        """The row of an encoder.

        Args:
            name: a row's name, an alias, a hub id with or without @revision, or a folder that ends
                in a hub id.

        Returns:
            The name of the row, None where there is none.
        """
        model = get_model_id(name, "vision").partition("@")[0] if name not in self._rows else name
        last = "/".join(Path(model).parts[-2:])
        return next((self._rows[key] for key in (name, model, last) if key in self._rows), None)

    @property
    def names(self) -> list[str]:
        """All names by which `row_of` knows an encoder, without aliases."""
        return list(self._rows)


def bundled_tables() -> dict[str, str]:
    """The tables that are bundled.

    Returns:
        Name -> where it is from, in one line.
    """
    return {name: entry["about"] for name, entry in _descriptions().items()}


def read_table(source: str) -> ScoreTable:
    """A table of scores.

    Args:
        source: a bundled table's name, a CSV, the folder of a run of `e2e` with answers, or result
            files of CLIP_benchmark: a folder of its JSON files, one of them, or its CSV.

    Returns:
        The table.

    Raises:
        MissingError: there is no run in the folder.
        UsageError: an unknown name, a run without answers, or a file that cannot be used.
    """  # noqa: DOC501
    if source in _descriptions():
        return _bundled(source)
    path = Path(source)
    if path.exists() and is_clip_benchmark(path):
        return _of_clip_benchmark(path)
    if path.is_dir():
        return _of_run(path)
    if path.is_file():
        return _of_csv(path)
    raise unknown(
        "table of scores, and no such file", source, bundled_tables(), "encoderlab ls references"
    )


def score_rows(
    path: Path, columns: Sequence[str] = COLUMNS
) -> Iterator[tuple[int, dict[str, str], float]]:
    """The rows of a CSV of scores.

    Args:
        path: the CSV.
        columns: that it must have; one is `score`.

    Yields:
        (line, column -> text, score).

    Raises:
        MissingError: no such file.
        UsageError: it cannot be read, lacks a column or a cell, or a score is no finite number.
    """
    for line, row in rows_of(path, columns):
        for column in columns:
            if not row[column]:
                raise UsageError(f"line {line} of {path} has no {column}", want="one in every row")
        try:
            score = float(row["score"])
        except ValueError:
            score = math.nan
        if not math.isfinite(score):
            raise UsageError(
                f"line {line} of {path} has a score that is no number", got=row["score"],
                want="a finite number",
            )  # fmt: skip
        yield line, row, score


def put_score(scores: dict[Any, float], key: Any, score: float, where: str, what: str) -> None:
    """Adds a score of a file.

    Args:
        scores: to add to.
        key: what the score is of.
        score: its value.
        where: file and line.
        what: the key in words.

    Raises:
        UsageError: there is another score of the same.
    """
    first = scores.setdefault(key, score)
    if first != score:
        raise UsageError(
            f"{where} gives a second score of the same {what}",
            got=f"{score:g} after {first:g}",
            want="one score of each: average repeated runs first",
        )


def _descriptions() -> dict[str, dict[str, Any]]:
    import yaml

    entries: dict[str, dict[str, Any]] = yaml.safe_load(
        (FOLDER / "tables.yaml").read_text(encoding="utf-8")
    )
    return entries


def _bundled(name: str) -> ScoreTable:
    entry = _descriptions()[name]
    titles = entry.get("metrics", {})
    encoders = {
        row: ScoredEncoder(row, *values[:2], *(values[2:] if values[2] else ()))
        for row, values in entry["encoders"].items()
    }
    benchmarks = [benchmark for group in entry["groups"].values() for benchmark in group]
    scores: dict[str, dict[str, dict[str, float]]] = {}
    averages: dict[str, dict[str, float]] = {}
    metrics: dict[str, dict[str, float]] = {}
    with (FOLDER / f"{name}.csv").open(encoding="utf-8", newline="") as file:
        for line in csv.DictReader(row for row in file if not row.startswith("#")):
            setting = line.get("setting", ONLY_SETTING)
            encoder = " ".join(filter(None, (line["model"], line.get("architecture"))))
            for benchmark in benchmarks:
                cells = scores.setdefault(setting, {}).setdefault(benchmark, {})
                cells[encoder] = float(line[benchmark])
            if "average" in line:
                averages.setdefault(setting, {})[encoder] = float(line["average"])
            for metric in titles:
                metrics.setdefault(metric, {})[encoder] = float(line[metric])
    return ScoreTable(
        name, entry["about"], encoders, scores, entry["groups"], averages, metrics, titles
    )


def _of_csv(path: Path) -> ScoreTable:
    cells: dict[tuple[str, str, str, str], float] = {}
    encoders: dict[str, ScoredEncoder] = {}
    for line, row, score in score_rows(path):
        setting, llm = row.get("setting") or ONLY_SETTING, row.get("llm", "")
        name = row["encoder"]
        key = (setting, row["benchmark"], name, llm)
        put_score(cells, key, score, f"line {line} of {path}", "encoder, benchmark and setting")
        kind, resolution = _class(row, line, path), _resolution(row, line, path)
        encoder = ScoredEncoder(name, kind, resolution, get_model_id(name, "vision"))
        if encoders.setdefault(name, encoder) != encoder:
            raise UsageError(
                f"line {line} of {path} gives an encoder another class or resolution",
                got=name,
                want="the same in each of its rows",
            )
    scores: dict[str, dict[str, dict[str, float]]] = {}
    for setting, benchmark in dict.fromkeys(key[:2] for key in cells):
        own = {key[2:]: value for key, value in cells.items() if key[:2] == (setting, benchmark)}
        scores.setdefault(setting, {})[benchmark] = _over_llms(own, f"{benchmark} in {path}")
    return ScoreTable(path.name, f"{path}", _all_or_no_classes(encoders.values()), scores)


def _of_clip_benchmark(path: Path) -> ScoreTable:
    """The main metric of each data set and task; grouped by the kind of task."""
    cells: dict[str, dict[str, list[ModelResult]]] = {}
    groups: dict[str, list[str]] = {}
    encoders: dict[str, ScoredEncoder] = {}
    results = list(read_results(path))
    tasks = Counter(name for name, _ in {(result.benchmark, result.group) for result in results})
    for result in results:
        if tasks[result.benchmark] > 1:
            result = replace(result, benchmark=f"{result.benchmark} ({result.group})")
        cells.setdefault(result.setting, {}).setdefault(result.benchmark, []).append(result)
        # Models with a text tower, by what CLIP_benchmark measures.
        encoders[result.encoder] = ScoredEncoder(result.encoder, "lang", None, result.model)
        if result.benchmark not in groups.setdefault(result.group, []):
            groups[result.group].append(result.benchmark)
    scores: dict[str, dict[str, dict[str, float]]] = {}
    used: dict[str, set[str]] = {}
    # Without a choice the first setting is predicted: the zero-shot tasks.
    for setting in sorted(cells, key=lambda name: name.startswith(PROBE)):
        for benchmark, of_models in cells[setting].items():
            metric = main_metric(of_models)
            used.setdefault(metric, set()).add(benchmark)
            own = scores.setdefault(setting, {}).setdefault(benchmark, {})
            for result in of_models:
                what = "encoder, data set and setting"
                put_score(own, result.encoder, result.metrics[metric], result.where, what)
    said = ", ".join(f"{metric} ({len(names)})" for metric, names in used.items())
    about = f"CLIP_benchmark, {path}; the score of its data sets: {said}"
    return ScoreTable(path.name, about, encoders, scores, groups)


def _class(row: Mapping[str, str], line: int, path: Path) -> str | None:
    kind = row.get("class") or None
    if kind is not None and kind not in CLASSES:
        where = f"class in line {line} of {path}"
        raise unknown(where, kind, CLASSES, "encoderlab validate --help")
    if kind is None and "class" in row:
        raise UsageError(f"line {line} of {path} has no class", want=", ".join(CLASSES))
    return kind


def _resolution(row: Mapping[str, str], line: int, path: Path) -> int | None:
    text = row.get("resolution")
    if not text:
        return None
    if not text.isdecimal() or not 0 < int(text) < 100_000:
        raise UsageError(
            f"line {line} of {path} has a resolution that is no number of pixels", got=text,
            want="a whole number, such as 336",
        )  # fmt: skip
    return int(text)


def _of_run(folder: Path) -> ScoreTable:
    """The right answers of a run of `e2e`, of all questions and of each kind."""
    from encoderlab.core import run_folder

    record = run_folder.read(folder)
    answers = record.result.get("answers")
    if record.command != "e2e" or not answers:
        raise UsageError(
            "the run has no right answers of VLMs",
            got=f"{folder}: a run of {record.command}",
            want="a run of encoderlab e2e --answers",
        )
    classes = {row.model: row.kind for name in bundled_tables() for row in
               _bundled(name).encoders.values() if row.model}  # fmt: skip
    encoders: dict[str, ScoredEncoder] = {}
    cells: dict[str, dict[tuple[str, str], float]] = {}
    try:
        for pair in answers["pairs"]:
            name, llm = pair["encoder"], pair["llm"]
            if pair["control_of"] is not None or name.startswith(UNTRAINED):
                continue
            model = get_model_id(name, "vision")
            encoders[name] = ScoredEncoder(name, classes.get(model), pair["image_size"], model)
            for benchmark, score in pair["accuracy"].items():
                if score["value"] is not None:
                    cells.setdefault(benchmark, {})[name, llm] = float(score["value"])
    except (KeyError, TypeError, ValueError, AttributeError) as broken:
        raise UsageError(f"{folder}/run.json is broken", got=repr(broken)) from broken
    scores = {name: _over_llms(own, f"{name} in {folder}") for name, own in cells.items()}
    about = f"right answers of VLMs, {folder}"
    return ScoreTable(folder.name, about, _all_or_no_classes(encoders.values()),
                      {ONLY_SETTING: scores})  # fmt: skip


def _over_llms(cells: Mapping[tuple[str, str], float], where: str) -> dict[str, float]:
    from encoderlab.metrics.correlation import means_over_shared

    means = means_over_shared(cells)
    if not means:
        raise UsageError(
            "the encoders share no LLM with which all were measured",
            got=where,
            want="scores of every encoder with the same LLMs",
        )
    return means


def _all_or_no_classes(encoders: Iterable[ScoredEncoder]) -> dict[str, ScoredEncoder]:
    """Rows by name; without classes unless every row has one."""
    rows = list(encoders)
    if all(row.kind for row in rows):
        return {row.name: row for row in rows}
    return {row.name: ScoredEncoder(row.name, None, row.resolution, row.model) for row in rows}
