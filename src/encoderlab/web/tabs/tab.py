"""Parts that all tabs share: the frame, fields, buttons, the answer, and how they connect."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import gradio as gr
from gradio.components import Component

from encoderlab.alignment.settings import BUNDLED_ENCODERS, BUNDLED_LLMS
from encoderlab.errors import UsageError
from encoderlab.web import render
from encoderlab.web.choices import ModelChoices
from encoderlab.web.i18n import inside, translate
from encoderlab.web.jobs import EXPERIMENTS, Example, JobRunner, Outcome
from encoderlab.web.user_sessions import UserSession

SAMPLES, EPOCHS = (3, 200), (1, 1000)
# For the answer to an example, on a page that was opened right after the start.
MOST_WAIT_SECONDS, LOOK_EVERY_SECONDS = 300.0, 0.5
STOP_WAIT_SECONDS, STOP_EVERY_SECONDS = 3.0, 0.1
Values = dict[str, Any]
Records = Callable[[dict[str, Any]], Sequence[dict[str, Any]]]


@dataclass
class Panel:
    """The components that show a job: its progress, the answer, and the rest behind a click."""

    progress: gr.HTML
    answer: gr.HTML
    rest: gr.HTML
    files: gr.HTML

    @property
    def parts(self) -> list[Component]:
        """As outputs of an event."""
        return [self.answer, self.rest, self.files]


@dataclass(frozen=True)
class Job:
    """What the run button of a tab starts.

    Args:
        name: identifies the visitor's run, also to stop it.
        command: name in the table of commands.
        settings: makes the command's settings from the values of the fields.
        records: the part of the result's JSON that the CSV holds.
        lane: which queue the job waits in.
        front: what of the answer is seen at once; see `render.answer`.
        names: from the values, server path -> the name that the visitor sees.
    """

    name: str
    command: str
    settings: Callable[[Values, UserSession], Any]
    records: Records
    lane: str = EXPERIMENTS
    front: tuple[str, ...] = ("table",)
    names: Callable[[Values], Mapping[str, str]] = lambda values: {}


@contextmanager
def frame(name: str) -> Iterator[None]:
    """A tab with its introduction."""
    with gr.Tab(translate(f"{name}_tab"), id=name, elem_id=f"tab-{name}"):
        gr.Markdown(translate(f"{name}_about"), elem_classes=["about"])
        yield


@contextmanager
def fields() -> Iterator[None]:
    """The column of a tab's fields."""
    with gr.Column(scale=1, min_width=280):
        yield


@contextmanager
def results() -> Iterator[None]:
    """The column of a tab's answers."""
    with gr.Column(scale=2, min_width=320):
        yield


def buttons(name: str, label: str = "run") -> tuple[gr.Button, gr.Button]:
    """Run and stop."""
    with gr.Row():
        run = gr.Button(translate(label), variant="primary", elem_id=f"{name}-run", min_width=120)
        stop = gr.Button(translate("stop"), elem_id=f"{name}-stop", min_width=80)
    return run, stop


def panel(name: str) -> Panel:
    """The components for an answer; they show a notice until there is one."""
    progress, answer = progress_field(name), answer_field(name)
    return Panel(progress, answer, *details(name))


def progress_field(name: str) -> gr.HTML:
    """The component for the progress of a run; it takes no room while nothing runs."""
    return gr.HTML(elem_id=f"{name}-progress", elem_classes=["progress"], js_on_load=None)


def answer_field(name: str) -> gr.HTML:
    """The component for the answer itself."""
    return gr.HTML(
        render.notice(inside("nothing_yet")),
        elem_id=f"{name}-answer", elem_classes=["result"], js_on_load=None,
    )  # fmt: skip


def details(name: str) -> tuple[gr.HTML, gr.HTML]:
    """The folded components for further tables and figures, and for the files above them."""
    with gr.Accordion(translate("more"), open=False, elem_id=f"{name}-more"):
        files = gr.HTML(elem_id=f"{name}-files", js_on_load=None)
        rest = gr.HTML(elem_id=f"{name}-rest", elem_classes=["result"], js_on_load=None)
    return rest, files


def connect(
    runner: JobRunner,
    job: Job,
    run_stop: tuple[gr.Button, gr.Button],
    panel: Panel,
    inputs: Mapping[str, Component],
    *,
    show: Callable[[Outcome], tuple[str, str]] | None = None,
    more: Sequence[Component] = (),
    show_more: Callable[[Outcome, UserSession], Sequence[Any]] = lambda outcome, visitor: (),
    also: Sequence[Any] = (),
    example: bool = True,
) -> None:
    """Connects the buttons of a tab to its job, and the tab to the answer of its example.

    Args:
        runner: runs the job.
        job: what the run button starts.
        run_stop: the two buttons.
        panel: shows the answer.
        inputs: the fields, by the names that `job.settings` knows them by.
        show: gives the HTML of the first screen and of the rest; by default `render.answer`.
        more: further outputs, which `show_more` fills.
        show_more: their values.
        also: further events that start the job.
        example: whether the values of the fields at the start are an example.
    """
    run, stop = run_stop
    outputs = [*panel.parts, *more]

    def shown(outcome: Outcome, visitor: UserSession) -> list[Any]:
        rows = [] if outcome.done is None else job.records(outcome.done.result.to_json())
        first, rest = show(outcome) if show else render.answer(outcome, job.front)
        return [first, rest, render.files(outcome, rows), *show_more(outcome, visitor)]

    def handle(
        chosen: dict[Component, Any],
        request: gr.Request,
        progress: gr.Progress = gr.Progress(),  # noqa: B008
    ) -> None:
        visitor = runner.visitors.of(str(request.session_hash))
        visitor.answered.add(job.name)
        values = {name: chosen[field] for name, field in inputs.items()}

        def tell(what: str, done: int, total: int | None) -> None:
            progress((done, total), desc=what, unit="")

        outcome = runner.run(
            visitor, job.name, job.command, lambda: job.settings(values, visitor), tell,
            names=job.names(values), lane=job.lane,
        )  # fmt: skip
        visitor.outputs[job.name] = shown(outcome, visitor)

    def deliver(request: gr.Request) -> list[Any]:
        visitor = runner.visitors.of(str(request.session_hash))
        return visitor.outputs.pop(job.name, [gr.skip()] * len(outputs))

    async def halt(request: gr.Request) -> str:
        visitor = runner.visitors.of(str(request.session_hash))
        # The click may be handled before the run that it stops has begun.
        for _ in range(int(STOP_WAIT_SECONDS / STOP_EVERY_SECONDS)):
            if visitor.stop(job.name):
                break
            await asyncio.sleep(STOP_EVERY_SECONDS)
        return render.notice(inside("stopped"))

    # The run itself has no outputs: Gradio ends a cancelled event by an answer without values, and
    # shows "Error" for good if it reads the values after it has marked the event as complete.
    started = gr.on(
        [run.click, *also], handle, inputs=set(inputs.values()),
        concurrency_id=job.lane, concurrency_limit=1, trigger_mode="once",
        show_progress_on=panel.progress, api_visibility="private",
    )  # fmt: skip
    quiet: dict[str, Any] = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}
    started.then(deliver, outputs=outputs, **quiet)
    stop.click(halt, outputs=panel.answer, cancels=[started], **quiet)
    if not example:
        return

    def run_example() -> list[Any] | None:
        visitor, values = runner.visitors.examples, {k: _initial(f) for k, f in inputs.items()}
        outcome = runner.run(
            visitor, job.name, job.command, lambda: job.settings(values, visitor),
            lambda what, done, total: None, names=job.names(values), lane=job.lane,
        )  # fmt: skip
        return None if outcome.stopped else shown(outcome, visitor)

    example_run = runner.examples[job.name] = Example(run_example, job.lane)

    # It waits without a thread, so that any number of visitors can.
    async def show_example(request: gr.Request) -> list[Any]:
        visitor = runner.visitors.of(str(request.session_hash))
        # Also once where the answer is there: a tab that has just opened loses what comes at once.
        for _ in range(int(MOST_WAIT_SECONDS / LOOK_EVERY_SECONDS)):
            await asyncio.sleep(LOOK_EVERY_SECONDS)
            if example_run.outputs is not None:
                break
        if example_run.outputs is None or job.name in visitor.answered:
            return [gr.skip()] * len(outputs)
        visitor.answered.add(job.name)
        # Copies, as Gradio takes the value out of an update that it sends.
        return [copy.copy(output) for output in example_run.outputs]

    # The first tab of a row is selected when the row appears.
    _tab_of(panel.answer).select(
        show_example, outputs=outputs, concurrency_limit=None, show_progress="hidden",
        api_visibility="private",
    )  # fmt: skip


def _initial(field: Component) -> Any:
    """The value of a field at the start, as an event would give it."""
    value, model = field.value, getattr(field, "data_model", None)
    return field.preprocess(model(**value) if model and isinstance(value, dict) else value)


def _tab_of(block: Any) -> gr.Tab:
    """The tab that contains a component."""
    while not isinstance(block, gr.Tab):
        block = block.parent
    return block


def encoders_field(offer: ModelChoices) -> gr.Dropdown:
    """Which encoders."""
    return gr.Dropdown(
        list(offer.encoders), value=_first(offer.encoders, BUNDLED_ENCODERS), multiselect=True,
        label=translate("encoders"), allow_custom_value=offer.any_model,
    )  # fmt: skip


def llms_field(offer: ModelChoices) -> gr.Dropdown:
    """Which language models."""
    return gr.Dropdown(
        list(offer.llms), value=_first(offer.llms, BUNDLED_LLMS), multiselect=True,
        label=translate("llms"), allow_custom_value=offer.any_model,
    )  # fmt: skip


def model_field(offer: ModelChoices, names: Sequence[str]) -> gr.Dropdown:
    """Which one model, of some that are offered."""
    return gr.Dropdown(
        list(names), value=names[0], label=translate("model"), allow_custom_value=offer.any_model
    )


def alignment_fields(offer: ModelChoices) -> dict[str, Component]:
    """Fields of the tabs that compare encoders with language models on data."""
    data: list[tuple[str, str]] = [
        (translate("data_built_in"), ""),
        (translate("data_synthetic"), "synthetic"),
    ]
    if offer.data_root:
        data.append((offer.data_root, offer.data_root))
    return {
        "encoders": encoders_field(offer),
        "llms": llms_field(offer),
        "data": gr.Radio(data, value=offer.data_root or "", label=translate("data")),
        "n_samples": gr.Slider(
            *SAMPLES,
            value=30,
            step=1,
            label=translate("n_samples"),
            info=translate("n_samples_about"),
        ),
        "controls": gr.Checkbox(
            False, label=translate("controls"), info=translate("controls_about")
        ),
    }


def alignment_settings(offer: ModelChoices, values: Values) -> dict[str, Any]:
    """The settings from the values of `alignment_fields`."""
    return {
        "encoders": offer.check("encoder", values["encoders"] or []),
        "llms": offer.check("LLM", values["llms"] or []),
        "data_root": values["data"] or None,
        "n_samples": whole(values["n_samples"], *SAMPLES),
        "controls": bool(values["controls"]),
        "seed": offer.seed,
    }


def whole(value: Any, least: int, most: int) -> int:
    """A number as an int; a UsageError outside `least` to `most`, which the page never sends."""
    try:
        number = int(value)
    except (TypeError, ValueError, OverflowError):
        number = least - 1
    if not least <= number <= most:
        raise UsageError("a number is out of range", got=value, want=f"{least} to {most}")
    return number


def alignment_tab(
    runner: JobRunner,
    name: str,
    command: str,
    settings: type,
    records: Records,
    *,
    trains: bool = False,
    front: tuple[str, ...] = ("figure",),
) -> None:
    """A tab with `alignment_fields`, epochs if projectors are trained, and an answer."""
    with frame(name), gr.Row():
        with fields():
            inputs = alignment_fields(runner.offer)
            if trains:
                inputs["epochs"] = gr.Slider(
                    *EPOCHS, value=300, step=1, label=translate("epochs"),
                    info=translate("epochs_about"),
                )  # fmt: skip
            run_stop = buttons(name)
        with results():
            answer = panel(name)

    def make_settings(values: Values, visitor: UserSession) -> Any:
        epochs = {"epochs": whole(values["epochs"], *EPOCHS)} if trains else {}
        return settings(**alignment_settings(runner.offer, values), **epochs)

    job = Job(name, command, make_settings, records, front=front)
    connect(runner, job, run_stop, answer, inputs)


def _first(names: Sequence[str], usual: Sequence[str]) -> list[str]:
    """The command line's default models among `names`, else the first two."""
    return [name for name in usual if name in names] or list(names[:2])
