"""`encoderlab judge mteb`: scores of an encoder by tasks of mteb, with mteb's own result files.

Loads the data of each task and leaves the rest to `mteb.evaluate`.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from encoderlab.core.progress import progress
from encoderlab.core.results import Block, Result, Table
from encoderlab.core.spec import takes
from encoderlab.errors import MissingError, UsageError, did_you_mean
from encoderlab.judges.settings import MOCK, JudgeMteb

FOLDER = "mteb"  # of mteb's own results, in the run folder
LIST_TASKS = "list them: mteb available-tasks"


@dataclass(frozen=True)
class TaskScore:
    """The score of one task.

    Args:
        task: its name.
        type: its kind, as mteb names it.
        metric: mteb's main score of the task.
        score: its mean over splits and subsets; None where it is undefined.
        splits: that were scored.
        subsets: that were scored, such as languages.
        modalities: that the task has.
        dataset: on the hub, with its revision.
        seconds: that mteb took, without loading the encoder.
    """

    task: str
    type: str
    metric: str
    score: float | None
    splits: tuple[str, ...]
    subsets: tuple[str, ...]
    modalities: tuple[str, ...]
    dataset: str
    seconds: float | None


@dataclass(frozen=True)
class JudgeMtebResult(Result):
    """The scores of an encoder by mteb.

    Args:
        model: as it was named.
        fingerprint: of its weights.
        modalities: what it takes: image, text or both.
        device: where it ran.
        dtype: the number format it ran in.
        mteb: the version of mteb.
        scores: of each task, in the order asked for.
        results: folder of mteb's own result files; None where none was written.
    """

    model: str
    fingerprint: str
    modalities: tuple[str, ...]
    device: str
    dtype: str
    mteb: str
    scores: tuple[TaskScore, ...]
    results: str | None

    def blocks(self) -> list[Block]:
        """The encoder, a row per task, and the location of mteb's own files."""
        head = f"{self.model} ({' and '.join(self.modalities)}), judged by mteb {self.mteb}"
        rows = tuple(
            (
                score.task, score.type, score.metric,
                "undefined" if score.score is None else f"{score.score:.4f}",
            )
            for score in self.scores
        )  # fmt: skip
        blocks: list[Block] = [head, Table(("task", "type", "main score", "value"), rows)]
        if any(score.dataset == MOCK for score in self.scores):
            blocks.append("! mock tasks check that an encoder works; their values say nothing else")
        if self.results is not None:
            blocks.append(f"mteb's own result files: {self.results}")
        return blocks


@takes(JudgeMteb)
def run(settings: JudgeMteb, out: Path | None = None) -> JudgeMtebResult:
    """Scores an encoder by tasks of mteb; keeps mteb's own result files in `out`.

    Tasks that are scored already in the same folder, with the same weights, are read from there.

    Returns:
        The main score of each task.

    Raises:
        MissingError: mteb, the encoder, the GPU or the data of a task is not there.
        UsageError: no task, an unknown one, or one that needs what the encoder does not take.
    """
    from importlib.metadata import version

    from encoderlab.judges.mteb_model import MtebModel, require_mteb

    require_mteb()
    import mteb

    if not settings.tasks:
        raise UsageError(
            "there is no task", want="--tasks CIFAR10 ..., or --tasks mock", hint=LIST_TASKS
        )
    names = [name for name in settings.tasks if name != MOCK]
    tasks = [_task(name) for name in names]
    model = MtebModel.load(
        settings.model, settings.device, settings.dtype,
        trust_remote_code=settings.trust_remote_code,
    )  # fmt: skip
    for task in tasks:
        _require_modalities(task, model)
    if MOCK in settings.tasks:
        from mteb.mocks.mock_run import get_compatible_mock_tasks

        tasks += get_compatible_mock_tasks(model)
    folder = None if out is None else out / FOLDER
    cache = None if folder is None else mteb.ResultCache(folder)
    scores = []
    with progress("judging", total=len(tasks), unit="task") as bar, _quiet():
        for task in tasks:
            with _loaded(task, cache, model):
                (result,) = mteb.evaluate(
                    model, task, cache=cache, co2_tracker=False, show_progress_bar=False,
                    encode_kwargs={"batch_size": settings.batch_size, "show_progress_bar": False},
                ).task_results  # fmt: skip
            scores.append(_score(task, result))
            bar.advance(1)
    return JudgeMtebResult(
        settings.model, model.fingerprint, model.modalities, *model.where, version("mteb"),
        tuple(scores), None if folder is None else str(folder),
    )  # fmt: skip


def _task(name: str) -> Any:
    import mteb

    try:
        return mteb.get_task(name)
    except KeyError:
        from mteb.get_tasks import TASK_LIST

        near = did_you_mean(name, [*(task.metadata.name for task in TASK_LIST), MOCK])
        hint = f"Did you mean {near!r}? {LIST_TASKS}" if near else LIST_TASKS
        raise UsageError(
            "unknown task of mteb", got=name, want="the name of a task", hint=hint
        ) from None


def _require_modalities(task: Any, model: Any) -> None:
    missing = sorted(set(task.metadata.modalities) - set(model.modalities))
    if missing:
        raise UsageError(
            f"the task {task.metadata.name} needs {' and '.join(missing)}, which the encoder does "
            "not take",
            got=f"{model.name}: {' and '.join(model.modalities)}",
            want=f"a task with {' and '.join(model.modalities)} only, or another encoder",
        )


@contextmanager
def _loaded(task: Any, cache: Any, model: Any) -> Iterator[None]:
    """Loads the data of a task, or of the tasks that it is the mean of, where mteb will need them.

    Raises:
        MissingError: they are neither in the cache nor can be downloaded.
    """  # noqa: DOC501
    needed = [part for part in getattr(task, "tasks", [task]) if not _is_scored(part, cache, model)]
    try:
        for part in needed:
            part.load_data()
    except (OSError, ValueError, RuntimeError) as error:
        if getattr(error, "errno", None) is not None:  # the system's: a full disk, no permission
            raise
        raise MissingError(
            f"the data of the task {part.metadata.name} cannot be loaded",
            got=(str(error).strip().splitlines() or [type(error).__name__])[0][:200],
            want="a network connection, or the data set in the cache of Hugging Face",
            hint="run it once with a network, or check encoderlab with --tasks mock",
        ) from error
    try:
        yield
    finally:
        for part in needed:
            part.unload_data()


def _is_scored(task: Any, cache: Any, model: Any) -> bool:
    """Whether all scores of a task are in the folder of results."""
    if cache is None:
        return False
    result = cache.load_task_result(task.metadata.name, model.mteb_model_meta)
    return result is not None and not result.get_missing_evaluations(task)


@contextmanager
def _quiet() -> Iterator[None]:
    """Hides the progress bars of datasets, and what mteb and scikit-learn warn of each score."""
    import datasets

    were_hidden = datasets.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"(mteb|sklearn)\.")
            yield
    finally:
        if not were_hidden:
            datasets.enable_progress_bars()


def _score(task: Any, result: Any) -> TaskScore:
    metadata, value = task.metadata, float(result.get_score())
    dataset = metadata.dataset or {}
    path, revision = dataset.get("path", ""), dataset.get("revision", "")
    is_mock = type(task).__module__.startswith("mteb.mocks")
    return TaskScore(
        metadata.name, metadata.type, metadata.main_score, value if math.isfinite(value) else None,
        tuple(result.eval_splits), tuple(sorted(result.hf_subsets)),
        tuple(sorted(metadata.modalities)), MOCK if is_mock else f"{path}@{revision}",
        result.evaluation_time,
    )  # fmt: skip
