"""How few visual tokens are enough: one image's tokens before and after, one chart, one sentence.

Everything else is folded.
"""

from __future__ import annotations

import html
from typing import Any

import gradio as gr

from encoderlab.compression import stored_evaluation
from encoderlab.compression.catalogue import needs_answers
from encoderlab.compression.compressor import shipped_for
from encoderlab.compression.evaluate import MAIN, CompressEvaluationResult
from encoderlab.compression.recommendation import recommend
from encoderlab.compression.settings import (
    Compress,
    CompressEvaluation,
    CompressModel,
    CompressPicture,
    Hardware,
)
from encoderlab.compression.stored_evaluation import CHART, Stored
from encoderlab.core.runner import CompletedRun
from encoderlab.patch_tokens.methods import METHODS, is_fitted
from encoderlab.web import examples, render
from encoderlab.web.i18n import inside, translate
from encoderlab.web.jobs import JobRunner, Outcome
from encoderlab.web.tabs import tab
from encoderlab.web.tabs.tab import Job, Values
from encoderlab.web.uploads import picture
from encoderlab.web.user_sessions import UserSession

NAME = "compression"
SIDES, SIDE = (1, 24), 4
MOST_ALIKE = 3  # methods that the sentence names as equally good
FIELD_HEIGHT = 120  # pixels of the image: the whole tab is seen without scrolling


def build(runner: JobRunner) -> None:
    """Builds the components of the tab."""
    offer = runner.offer
    stored = [
        _drawn(runner, number, evaluation)
        for number, evaluation in enumerate(stored_evaluation.stored())
    ]

    def evaluation_of(encoder: str) -> Outcome:
        """The latest evaluation of an encoder, else the bundled one."""
        own = [outcome for outcome in stored if _result(outcome).model == encoder]
        return (own or stored[:1])[-1]

    # The encoder of the bundled evaluation is chosen first.
    encoders = sorted(offer.encoders, key=lambda name: name != _result(stored[0]).model)
    methods, first = _methods(encoders[0]), evaluation_of(encoders[0])
    with tab.frame(NAME):
        with gr.Row():
            with tab.fields():
                inputs = {
                    "image": examples.picture_field(NAME, FIELD_HEIGHT),
                    "model": tab.model_field(offer, encoders),
                    "method": gr.Dropdown(methods, value=methods[0], label=translate("reduction")),
                    "grid": gr.Slider(*SIDES, value=SIDE, step=1, label=translate("grid")),
                }
                run_stop = tab.buttons(NAME)
            with tab.results():
                advice = gr.HTML(
                    _advice(_result(first), SIDE), elem_id=f"{NAME}-advice", js_on_load=None
                )
                progress = tab.progress_field(NAME)
                answer = tab.answer_field(NAME)
                chart = gr.HTML(_chart(first), elem_id=f"{NAME}-chart", js_on_load=None)
        panel = tab.Panel(progress, answer, *tab.details(NAME))
        for number, outcome in enumerate(stored):
            _all_of(outcome, number)

    def settings(values: Values, visitor: UserSession) -> Compress:
        (name,) = offer.check("encoder", [values["model"]])
        compressors = shipped_for(name).get(values["method"], [])
        return Compress(
            action="show",
            model=CompressModel(name),
            evaluation=CompressEvaluation(
                grids=[tab.whole(values["grid"], *SIDES)],
                methods=[] if compressors else [values["method"]],
                compressors=compressors,
            ),
            picture=CompressPicture(str(picture(values["image"]))),
            hardware=Hardware(device=offer.device),
            seed=offer.seed,
        )

    def chart_of_run(outcome: Outcome, visitor: UserSession) -> list[Any]:
        """The chart with the name of the method that ran."""
        if outcome.done is None or outcome.done.folder is None or not outcome.done.result.rows:
            return [gr.skip()]
        run, evaluation = outcome.done.result, evaluation_of(outcome.done.result.model)
        figure = stored_evaluation.draw_chart(
            _result(evaluation), outcome.done.folder, run.rows[0]["method"]
        )
        return [_chart(evaluation) if figure is None else render.figure(outcome, figure)]

    job = Job(NAME, "compress", settings, lambda result: result["rows"], names=examples.upload_name)
    tab.connect(
        runner, job, run_stop, panel, inputs,
        show=_before_and_after, more=[chart], show_more=chart_of_run,
    )  # fmt: skip

    def at_model(model: str, side: int) -> list[Any]:
        methods, evaluation = _methods(model), evaluation_of(model)
        field = gr.update(choices=methods, value=methods[0])
        return [field, _advice(_result(evaluation), side), _chart(evaluation)]

    def at_grid(model: str, side: int) -> str:
        return _advice(_result(evaluation_of(model)), side)

    silent: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
    model, grid = inputs["model"], inputs["grid"]
    assert isinstance(model, gr.Dropdown) and isinstance(grid, gr.Slider)
    model.input(at_model, [model, grid], [inputs["method"], advice, chart], **silent)
    grid.change(at_grid, [model, grid], advice, **silent)


def _methods(encoder: str) -> list[str]:
    """What can be shown on one image: trained compressors, and methods that need no fit, no VLM."""
    free = [name for name in METHODS if not (is_fitted(name) or needs_answers(name))]
    return [*shipped_for(encoder), *free]


# -- a run ---------------------------------------------------------------------------------------


def _before_and_after(outcome: Outcome) -> tuple[str, str]:
    """The tokens before and after; and the table with further figures."""
    if outcome.done is None:
        return render.answer(outcome)
    result = outcome.done.result
    if not result.rows:
        return render.notice(html.escape("; ".join(result.refused.values())), "alert"), ""
    row, before_and_after = result.rows[0], result.figures[0]
    caption = inside(
        "rebuilt", method=row["method"], tokens=str(row["tokens"]),
        whole=str(result.grid[0] * result.grid[1]), error=f"{row['nmse']:.3f}",
    )  # fmt: skip
    first = render.answer_of(outcome, render.figure(outcome, before_and_after, caption))
    return first, render.whole(outcome, skipped=1)


# -- stored evaluations --------------------------------------------------------------------------


def _drawn(runner: JobRunner, number: int, evaluation: Stored) -> Outcome:
    """A stored evaluation with its figures; drawn once for all visitors."""
    folder = runner.visitors.root / f"{NAME}-{number}"
    drawn = stored_evaluation.draw(evaluation, folder)
    return Outcome(CompletedRun(drawn.result, folder, 0.0), drawn.command)


def _result(outcome: Outcome) -> CompressEvaluationResult:
    assert outcome.done is not None
    result: CompressEvaluationResult = outcome.done.result
    return result


def _chart(outcome: Outcome) -> str:
    """The chart of one score."""
    charts = [one for one in _result(outcome).figures if one["file"] == f"{CHART}.png"]
    return "".join(render.figure(outcome, chart) for chart in charts)


def _advice(result: CompressEvaluationResult, side: int) -> str:
    """The sentence that says what to use with side x side tokens."""
    best = recommend(result.rows, result.verdicts, side * side, result.vlm is not None)
    if best is None:
        return f"<p>{inside('advise_none', model=result.model)}</p>"
    whole, score = result.grid[0] * result.grid[1], _percent(best.score)
    key = "advise_embedding" if best.task == MAIN else "advise_answers"
    text = inside(
        key, tokens=str(best.tokens), whole=str(whole), method=best.method, score=score
    )  # fmt: skip
    if best.alike:
        more = [f"+{len(best.alike) - MOST_ALIKE}"] if len(best.alike) > MOST_ALIKE else []
        text += inside("advise_alike", methods=", ".join([*best.alike[:MOST_ALIKE], *more]))
    if best.training_free:
        method, of_method = best.training_free
        text += inside("advise_free", method=method, score=_percent(of_method))
    images = result.vlm["images"] if result.vlm else result.images
    text += inside("advise_source", model=result.model, images=f"{images:,}")
    return f"<p>{text}</p>"


def _percent(score: Any) -> str:
    text = f"{100 * score['value']:.1f} %"
    if score.get("ci_low") is None:
        return text
    return f"{text} [{100 * score['ci_low']:.1f}, {100 * score['ci_high']:.1f}]"


def _all_of(outcome: Outcome, number: int) -> None:
    """The figures, tables and files of a stored evaluation, folded."""
    rows: list[dict[str, Any]] = list(_result(outcome).rows)
    with gr.Accordion(translate("stored" if number == 0 else "stored_own"), open=False):
        gr.Markdown(translate("stored_about"))
        gr.HTML(
            render.whole(outcome), elem_id=f"{NAME}-stored-{number}", elem_classes=["result"],
            js_on_load=None,
        )  # fmt: skip
        gr.HTML(render.files(outcome, rows), js_on_load=None)
