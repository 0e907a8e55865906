"""Does a metric predict published benchmark scores, among encoders of one class? Computes no metric
itself."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from encoderlab.alignment.metric_values import MetricValues, metric_values
from encoderlab.alignment.settings import Validate
from encoderlab.alignment.tables import AlignmentResult, notes
from encoderlab.core.progress import counted
from encoderlab.core.results import Block, Table
from encoderlab.core.spec import takes
from encoderlab.data.reference_scores import ScoreTable, read_table
from encoderlab.errors import UsageError, unknown
from encoderlab.metrics.catalogue import METRICS

if TYPE_CHECKING:
    from encoderlab.metrics.prediction import Prediction, RankCorrelation

AVERAGE = "average"
BENCHMARK, GROUP = "benchmark", "group"


@dataclass(frozen=True)
class Ceiling:
    """How well another setting's scores of the same encoders of the class rank a target."""

    setting: str
    within: RankCorrelation


@dataclass(frozen=True)
class Target:
    """What is predicted: a benchmark, a group of them, or the average.

    Args:
        kind: "benchmark", "group" or "average".
        group: of a benchmark.
        scores: row -> score.
        one_bit: share of the variance over all encoders that membership in the class explains.
        resolution: rank correlation of the input resolution within the class.
        resolution_overall: the same over all encoders.
        ceilings: one for each other setting of the table. No metric can be expected to exceed them.
    """

    name: str
    kind: str
    group: str | None
    scores: Mapping[str, float]
    one_bit: float | None
    resolution: RankCorrelation
    resolution_overall: RankCorrelation
    ceilings: tuple[Ceiling, ...]


@dataclass(frozen=True)
class ValidateResult(AlignmentResult):
    """Every metric against every target, beside two baselines and the ceilings.

    Args:
        answer: in words.
        source: where the scores are from.
        setting: of the scores that are predicted.
        encoders: rows of the table that are used.
        members: those of the class that correlations are within.
        class_name: of that class in words.
        named: row -> the encoder's name in the features.
        titles: of the metrics.
        targets: what is predicted.
        predictions: of every metric and target.
        remarks: what to know of the encoders.
    """

    draw: ClassVar = "encoderlab.alignment.plots.validate:validate"
    records: ClassVar = "predictions"

    answer: str
    source: str
    setting: str
    encoders: tuple[str, ...]
    members: tuple[str, ...]
    class_name: str
    named: dict[str, str]
    titles: dict[str, str]
    targets: tuple[Target, ...]
    predictions: tuple[Prediction, ...]
    remarks: tuple[str, ...] = ()

    def blocks(self) -> list[Block]:
        """The answer; what needs no metric; the metrics on the average and the groups; the rest."""
        lines = [f"scores: {self.source}; setting {self.setting}"]
        if self.facts["llms"]:
            llms = ", ".join(self.facts["llms"])
            lines.append(f"features: {counted(len(self.named), 'encoder')}; metrics with {llms}")
        lines += [f"! {remark}" for remark in self.remarks]
        blocks: list[Block] = [self.answer, "\n".join(lines)]
        if "preflight" in self.facts:
            blocks.append(notes(self.facts))
        ceilings = list(dict.fromkeys(c.setting for t in self.targets for c in t.ceilings))
        rows = []
        for target in self.targets:
            again = {c.setting: _rho(c.within) for c in target.ceilings}
            one_bit = "-" if target.one_bit is None else f"{100 * target.one_bit:.0f} %"
            rows.append((
                target.name, target.group or target.kind, one_bit, _rho(target.resolution),
                *(again.get(setting, "-") for setting in ceilings),
            ))  # fmt: skip
        heads = ("target", "group", "one bit, R²", "input resolution, ρ",
                 *(f"ceiling: ρ of {setting}" for setting in ceilings))  # fmt: skip
        over = counted(len(self.encoders), "encoder")
        said = f"R² over all {over}; ρ within the class, where it has six or more"
        title = "what needs no metric: two baselines, and how well the scores repeat"
        blocks.append(Table(heads, tuple(rows), title, (said,)))
        means = {target.name for target in self.targets if target.kind != BENCHMARK}
        if self.predictions:
            shown = [p for p in self.predictions if p.target in means or len(self.targets) == 1]
            cells = tuple(
                (self.titles[p.metric], p.target, _rho(p.within), _number(p.within.p),
                 _number(p.p_corrected), _rho(p.overall), _loo(p.within), _answer(p))
                for p in shown
            )  # fmt: skip
            heads = ("metric", "target", "ρ", "p", f"p, {self.predictions[0].tests} tests",
                     "ρ over all", "leave-one-out error", "answer")  # fmt: skip
            if cells:
                blocks.append(Table(heads, cells, f"metrics, within {self.class_name}"))
            blocks += self._benchmarks()
        return blocks

    def _benchmarks(self) -> list[Block]:
        names = [target.name for target in self.targets if target.kind == BENCHMARK]
        if len(self.targets) == 1 or not names:
            return []
        from encoderlab.metrics.prediction import Answer

        cells: dict[str, dict[str, str]] = {}
        for p in self.predictions:
            star = "*" if p.answer is Answer.PREDICTIVE else ""
            cells.setdefault(p.metric, {})[p.target] = _rho(p.within) + star
        lines = tuple(
            (self.titles[metric], *(of[name] for name in names)) for metric, of in cells.items()
        )
        title = f"ρ with each benchmark, within {self.class_name}"
        return [Table(("metric", *names), lines, title, ("* predictive",))]


@takes(Validate)
def run(settings: Validate, out: Path | None = None) -> ValidateResult:
    """Metrics of encoders against published scores; writes a figure to `out` if it is given.

    Returns:
        The rank correlation of each metric with each target within the class and over all encoders,
        with baselines, ceilings and the answer.

    Raises:
        MissingError: the scores, the features or a model are not there.
        UsageError: scores that cannot be read, no encoder of the features among them, an unknown
            setting, metric or target, or a setting that has no effect.
    """  # noqa: DOC501
    table = read_table(settings.scores)
    names = list(table.scores)
    if settings.scores_setting not in (None, *names):
        raise unknown(
            f"setting of {table.name}", str(settings.scores_setting), names, "its column `setting`"
        )
    return analyse(
        table, metric_values(settings, table), out, setting=settings.scores_setting or names[0],
        metrics=settings.metrics, targets=settings.targets, seed=settings.seed, svg=settings.svg,
    )  # fmt: skip


def analyse(
    table: ScoreTable,
    measured: MetricValues,
    out: Path | None = None,
    *,
    setting: str,
    metrics: Sequence[str] = (),
    targets: Sequence[str] = (),
    seed: int = 0,
    svg: bool = False,
) -> ValidateResult:
    """The validation of metrics that are computed already.

    Args:
        table: the scores.
        measured: the metrics of its encoders; without any, those that the table itself gives.
        out: folder for the figure.
        setting: of the scores to predict.
        metrics: which; all if empty.
        targets: which; all if empty.
        seed: of the random permutations.
        svg: write the figure as SVG too.

    Returns:
        The result.

    Raises:
        UsageError: an unknown metric or target.
    """
    from encoderlab.metrics.prediction import predictions

    given = {**measured.values, **table.metrics}
    chosen = _chosen("metric", metrics, given, "the column `metric`") if metrics else list(given)
    values = {name: given[name] for name in chosen}
    scored = targets_of(table, setting)
    known = list(scored)
    wanted = _chosen("target", targets, known, "encoderlab validate") if targets else known
    # Only encoders with features count, so that baselines and metrics are on the same ones.
    used = measured.named or table.encoders
    kinds = {name: row.kind for name, row in table.encoders.items()}
    class_name = "language-supervised encoders"
    if not any(kinds.values()):
        kinds, class_name = dict.fromkeys(kinds, "lang"), "all encoders (the scores name no class)"
    members = [name for name in used if kinds[name] == "lang"]
    resolution = {
        name: float(row.resolution)
        for name, row in table.encoders.items()
        if row.resolution and name in used
    }
    again = {other: targets_of(table, other) for other in table.scores if other != setting}
    built = tuple(
        _target(table, name, {e: s for e, s in scored[name].items() if e in used}, members,
                resolution, {other: own.get(name, {}) for other, own in again.items()}, seed)
        for name in wanted
    )  # fmt: skip
    scores = {target.name: target.scores for target in built}
    found = predictions(values, scores, members, resolution, seed)
    encoders = tuple(name for name in used if any(name in own for own in scores.values()))
    titles = {
        name: METRICS[name].title if name in METRICS else table.metric_titles.get(name, name)
        for name in values
    }
    remarks = tuple(_remarks(table, measured))
    return ValidateResult(
        _in_words(found, titles, members, encoders, class_name),
        table.about, setting, encoders, tuple(members), class_name, dict(measured.named), titles,
        built, tuple(found), remarks,
        facts=measured.facts | {"llms": measured.llms, "left_out": measured.left_out},
        warnings=(*measured.warnings, *remarks),
    ).with_figures(out, svg)  # fmt: skip


def targets_of(table: ScoreTable, setting: str) -> dict[str, dict[str, float]]:
    """The scores to predict in one setting of a table.

    Args:
        table: the scores.
        setting: one of its settings.

    Returns:
        Target -> encoder -> score: the average that the table prints, or else the mean over all
        benchmarks of scores standardised over its encoders; such a mean for each group of two or
        more; every benchmark.
    """
    from encoderlab.metrics.prediction import mean_of_standardised

    scores = table.scores[setting]
    targets: dict[str, dict[str, float]] = {}
    if setting in table.averages:
        targets[AVERAGE] = dict(table.averages[setting])
    elif len(scores) > 1:
        targets[AVERAGE] = mean_of_standardised(list(scores.values()))
    for group, benchmarks in table.groups.items():
        own = [scores[name] for name in benchmarks if name in scores]
        if len(own) > 1:
            targets[group] = mean_of_standardised(own)
    return targets | {name: dict(own) for name, own in scores.items()}


def _target(
    table: ScoreTable,
    name: str,
    scores: dict[str, float],
    members: Collection[str],
    resolution: Mapping[str, float],
    again: Mapping[str, Mapping[str, float]],
    seed: int,
) -> Target:
    from encoderlab.metrics.prediction import group_variance, rank_correlation

    own = {encoder: score for encoder, score in scores.items() if encoder in members}
    kind = AVERAGE if name == AVERAGE else GROUP if name in table.groups else BENCHMARK
    group = next((g for g, benchmarks in table.groups.items() if name in benchmarks), None)
    ceilings = (
        Ceiling(other, rank_correlation(values, own, seed)) for other, values in again.items()
    )
    return Target(
        name, kind, group, scores, group_variance(scores, members),
        rank_correlation(resolution, own, seed), rank_correlation(resolution, scores, seed),
        tuple(ceilings),
    )  # fmt: skip


def _chosen(kind: str, asked: Sequence[str], known: Collection[str], see: str) -> list[str]:
    for i, name in enumerate(asked):
        if name not in known:
            raise unknown(kind, name, known, see)
        if name in asked[:i]:
            raise UsageError(f"a {kind} is listed twice", got=name, want="each once")
    return list(asked)


def _in_words(
    found: Sequence[Prediction],
    titles: Mapping[str, str],
    members: Sequence[str],
    encoders: Sequence[str],
    class_name: str,
) -> str:
    from encoderlab.metrics.correlation import FEWEST, LEVEL
    from encoderlab.metrics.prediction import Answer, smallest_p

    over = f"{len(members)} {class_name}" if len(members) < len(encoders) else class_name
    if not found:
        return (
            f"No metric was given: baselines and ceilings over {len(encoders)} encoders, "
            f"{len(members)} of them {class_name}."
        )
    if len(members) < FEWEST:
        return (
            f"Too few to say: {len(members)} of {counted(len(encoders), 'encoder')} with features "
            f"are in the class ({class_name}), and {FEWEST} are needed."
        )
    predictive = [p for p in found if p.answer is Answer.PREDICTIVE]
    if predictive:
        said = [
            f"{titles[p.metric]} predicts {p.target} (ρ {p.within.rho:+.2f}, {p.reason})"
            for p in predictive
        ]
        return f"Within {over}: {'; '.join(said)}."
    text = f"No metric is shown to predict a score within {over}."
    tests = found[0].tests
    if smallest_p(len(members)) * tests >= LEVEL:
        text += (
            f" None could be: with {len(members)} encoders and {tests} tests no corrected p is "
            f"below {LEVEL}. Name fewer --metrics and --targets, chosen before you look."
        )
    return text


def _remarks(table: ScoreTable, measured: MetricValues) -> list[str]:
    remarks = []
    if measured.left_out:
        remarks.append(f"not in {table.name}, and left out: {', '.join(measured.left_out)}")
    if not any(row.kind for row in table.encoders.values()):
        remarks.append(
            "the scores name no classes: a metric that only tells language-supervised encoders "
            "from others may seem to predict"
        )
    if not any(row.resolution for row in table.encoders.values()):
        remarks.append(
            "the scores name no input resolutions: that baseline is missing, so no metric can be "
            "called predictive"
        )
    for row in measured.named:
        encoder = table.encoders[row]
        if encoder.model_resolution:
            remarks.append(
                f"{row} was measured at {encoder.resolution} pixels; its checkpoint takes "
                f"{encoder.model_resolution}"
            )
    return remarks


def _rho(correlation: RankCorrelation) -> str:
    return "-" if correlation.rho is None else f"{correlation.rho:+.2f}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2g}"


def _loo(correlation: RankCorrelation) -> str:
    if correlation.loo_error is None:
        return "-"
    return f"{correlation.loo_error:.3g} (mean: {correlation.loo_baseline:.3g})"


def _answer(prediction: Prediction) -> str:
    reason = prediction.reason
    return reason if reason.startswith(prediction.answer) else f"{prediction.answer}: {reason}"
