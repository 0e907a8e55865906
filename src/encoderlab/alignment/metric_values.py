"""The metrics of encoders for `validate`: of a recorded run, of a feature store, or computed.

Encoders are those of a table of scores, known by its names, by aliases or by hub ids.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from encoderlab.alignment.data import AlignmentData, extract_features
from encoderlab.alignment.settings import Validate
from encoderlab.core import run_folder
from encoderlab.core.aliases import SHUFFLED, UNTRAINED
from encoderlab.core.common_settings import WHERE
from encoderlab.core.progress import progress
from encoderlab.core.settings import as_typed, iter_settings
from encoderlab.data.reference_scores import ScoreTable
from encoderlab.errors import MissingError, UsageError, did_you_mean, unknown
from encoderlab.metrics.correlation import means_over_shared
from encoderlab.metrics.gromov_wasserstein import require_pot

if TYPE_CHECKING:
    from encoderlab.data.sample import Sample
    from encoderlab.feature_store.extract import StoredFeatures

DATA_SETTINGS = ("llms", "n_samples", "data_types", "data_root", "features_dir", "batch_size")
GW = frozenset({"gw_pairing", "gw_distance"})  # computed where they are asked for
COMMANDS = ("compare", "multi-llm", "stream", "e2e", "all")


@dataclass(frozen=True)
class MetricValues:
    """Metrics of the rows of a table of scores.

    Args:
        values: metric -> row -> its mean over the LLMs that all rows share.
        named: row -> the encoder's name in the features.
        llms: over which is averaged.
        left_out: encoders of the features that are no row.
        facts: what the record keeps of the data.
    """

    values: dict[str, dict[str, float]] = field(default_factory=dict)
    named: dict[str, str] = field(default_factory=dict)
    llms: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    facts: dict[str, Any] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()


def metric_values(settings: Validate, table: ScoreTable) -> MetricValues:
    """The metrics of the encoders of a table.

    Args:
        settings: name the features, or that they are to be computed.
        table: the scores.

    Returns:
        The metrics; none where no features are named.

    Raises:
        MissingError: no such folder, or a model is not there.
        UsageError: no encoder of the features is a row, two are the same row, or a setting that has
            no effect.
    """
    gw = not GW.isdisjoint(settings.metrics)
    if settings.compute:
        if gw:
            require_pot()
        aligned = extract_features(replace(settings, encoders=_to_load(settings, table)))
        return _of_data(aligned, table, gw=gw)
    folder = None if settings.features is None else Path(settings.features)
    if folder is not None and not folder.is_dir():
        raise MissingError("no such folder of features", got=settings.features,
                           want="a run's folder or a feature store")  # fmt: skip
    if folder is not None and any(folder.glob("*/key.json")):
        if gw:
            require_pot()
        if settings.features_dir is None:
            settings = replace(settings, features_dir=str(folder))
        source = _StoreSource(folder, table)
        aligned = extract_features(settings, from_store=source.features)
        return _of_data(aligned, table, tuple(source.left_out), gw=gw)
    _check_unused(settings)
    if folder is None:
        return MetricValues()
    measured = _of_run(folder, table)
    if gw and GW.isdisjoint(measured.values):
        raise UsageError(
            "the run has no Gromov-Wasserstein distances", got=str(folder),
            want="a run of compare --gw, or a feature store, from which they are computed",
        )  # fmt: skip
    return measured


def _check_unused(settings: Validate) -> None:
    """Refuses settings of the features' computation where none are computed."""
    for leaf in iter_settings(Validate):
        value = getattr(settings, leaf.key)
        if (leaf.group == WHERE or leaf.key in DATA_SETTINGS) and value != leaf.default:
            raise UsageError(
                f"{leaf.name} has no effect",
                got=f"{leaf.key}={as_typed(value)}",
                want="--compute, or a feature store as --features",
                hint=f"leave {leaf.key} out",
            )


def _to_load(settings: Validate, table: ScoreTable) -> list[str]:
    """The models of the encoders to compute."""
    rows = []
    for name in settings.encoders:
        row = table.row_of(name)
        if row is None:
            raise unknown(f"encoder of {table.name}", name, table.names, "encoderlab ls references")
        if table.encoders[row].model is None:
            raise UsageError(
                "no hub id is known of this encoder", got=name,
                want=", ".join(r.name for r in table.encoders.values() if r.model),
            )  # fmt: skip
        rows.append(row)
    models = (table.encoders[row].model for row in rows or table.encoders)
    return [model for model in models if model]


def _matched(names: Sequence[str], table: ScoreTable, where: str) -> dict[str, str]:
    """Encoder of the features -> row of the table."""
    rows: dict[str, str] = {}
    for name in names:
        row = table.row_of(name)
        if row is None:
            continue
        same = next((other for other, known in rows.items() if known == row), None)
        if same is not None:
            raise UsageError(
                f"two encoders of {where} are the same row of {table.name}",
                got=f"{same} and {name}",
                want=f"one that is {row}",
            )
        rows[name] = row
    _check_any(rows, names, table, where)
    return rows


def _check_any(
    matched: Collection[str], names: Sequence[str], table: ScoreTable, where: str
) -> None:
    """Refuses features of which no encoder is a row of the table."""
    if matched:
        return
    near = did_you_mean(names[0], table.names) if names else None
    raise UsageError(
        f"no encoder of {where} is in {table.name}",
        got=", ".join(names) or "no encoder",
        want=f"one of {', '.join(table.names)}",
        hint=f"did you mean {near!r} for {names[0]!r}?"
        if near
        else "name them as the table does, or by hub id",
    )


def _means(
    cells: Mapping[str, Mapping[tuple[str, str], float]],
) -> tuple[dict[str, dict[str, float]], tuple[str, ...]]:
    """metric -> row -> mean; the LLMs that all rows of all metrics share."""
    llms = dict.fromkeys(llm for pairs in cells.values() for _, llm in pairs)
    shared = tuple(
        llm for llm in llms
        if all((row, llm) in pairs for pairs in cells.values() for row in {row for row, _ in pairs})
    )  # fmt: skip
    values = {
        metric: means_over_shared({pair: x for pair, x in pairs.items() if pair[1] in shared})
        for metric, pairs in cells.items()
    }
    return {metric: own for metric, own in values.items() if own}, shared


def _of_data(
    aligned: AlignmentData, table: ScoreTable, left_out: Sequence[str] = (), *, gw: bool
) -> MetricValues:
    from encoderlab.alignment.pair_scores import closed_form_scores, gromov_wasserstein_scores

    rows = _matched(list(aligned.encoders), table, "the features")
    cells: dict[str, dict[tuple[str, str], float]] = {}
    total = len(rows) * len(aligned.text)
    with progress("metrics of encoders", total=total, unit="pair") as bar:
        for encoder, row in rows.items():
            for llm in aligned.text:
                scores = closed_form_scores(aligned, encoder, llm)
                if gw:
                    scores |= gromov_wasserstein_scores(aligned, encoder, llm)
                for metric, score in scores.items():
                    if score.value is not None:
                        cells.setdefault(metric, {})[row, llm] = score.value
                bar.advance()
    values, llms = _means(cells)
    named = {row: encoder for encoder, row in rows.items()}
    return MetricValues(values, named, llms, tuple(left_out), aligned.facts(), aligned.warnings())


class _StoreSource:
    """Pooled features in a store of encoders that are rows of a table of scores."""

    def __init__(self, folder: Path, table: ScoreTable) -> None:
        from encoderlab.feature_store.store import FeatureStore

        self.folder, self.table = folder, table
        self.pooled = [t for t in FeatureStore(folder).tables() if t.key.what == "pooled"]
        self.left_out: dict[str, None] = {}
        names = list(dict.fromkeys(t.key.encoder for t in self.pooled))
        matched = [name for name in names if table.row_of(name)]
        _check_any(matched, names, table, "the feature store")

    def features(self, samples: Sequence[Sample]) -> dict[str, StoredFeatures]:
        """Encoder -> its features; of several tables of one row those with the most samples."""
        from encoderlab.feature_store.extract import stored_images

        best: dict[str, tuple[str, StoredFeatures]] = {}
        for pooled, features in zip(self.pooled, stored_images(self.pooled, samples), strict=True):
            name = pooled.key.encoder
            if not len(features) or name.startswith(UNTRAINED):
                continue  # tables of texts hold no image
            row = self.table.row_of(name)
            if row is None:
                self.left_out[name] = None
            elif row not in best or len(features) > len(best[row][1]):
                best[row] = name, features
        if not best:
            raise UsageError(
                "the feature store has no features of these samples",
                got=f"{self.folder}, {len(samples)} samples",
                want="--data-root, --n-samples, --data-types and --seed of the run that made it",
            )
        return dict(best.values())


def _of_run(folder: Path, table: ScoreTable) -> MetricValues:
    record = run_folder.read(folder)
    result = record.result
    if record.command == "all":
        result = result.get("sections", {}).get("compare", {})
    try:
        pairs = [*_pairs_of(result)]
    except (KeyError, TypeError, ValueError, AttributeError) as broken:
        raise UsageError(f"{folder}/run.json is broken", got=repr(broken)) from broken
    if not pairs:
        raise UsageError(
            "the run has no metrics of encoders with language models",
            got=f"{folder}: a run of {record.command}",
            want="a run of " + ", ".join(COMMANDS),
        )
    names = list(dict.fromkeys(encoder for encoder, *_ in pairs))
    rows = _matched(names, table, str(folder))
    cells: dict[str, dict[tuple[str, str], float]] = {}
    for encoder, llm, metrics in pairs:
        for metric, value in metrics.items():
            if encoder in rows:
                cells.setdefault(metric, {}).setdefault((rows[encoder], llm), value)
    values, llms = _means(cells)
    left_out = tuple(name for name in names if name not in rows)
    facts = {key: result[key] for key in result if key in ("data", "fingerprints")}
    named = {row: encoder for encoder, row in rows.items()}
    return MetricValues(values, named, llms, left_out, facts)


def _pairs_of(result: Mapping[str, Any]) -> Iterable[tuple[str, str, dict[str, float]]]:
    """(encoder, LLM, metric -> value where it is defined) of a record's encoders but controls."""
    for row in [*result.get("rows", ()), *result.get("points", ())]:
        if row.get("control_of") or row["encoder"].startswith((UNTRAINED, SHUFFLED)):
            continue
        if "metrics" in row and row["layer"] == "pooled":  # of e2e
            values = row["metrics"]
        elif "scores" in row:
            values = {name: score["value"] for name, score in row["scores"].items()}
        else:
            continue
        defined = {name: float(value) for name, value in values.items() if value is not None}
        yield row["encoder"], row["llm"], defined
