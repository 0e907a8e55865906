"""`encoderlab vlm answer`: one question about one image."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from encoderlab.core.results import Block, Result, Table
from encoderlab.core.spec import takes
from encoderlab.errors import UsageError
from encoderlab.vlm.settings import VlmAnswer

if TYPE_CHECKING:
    from encoderlab.vlm.explain import Explanation

NOTHING = "(nothing)"  # an answer without a word


@dataclass(frozen=True)
class VlmAnswerResult(Result):
    """The answer to a question.

    Args:
        answer: by greedy decoding.
        probability: of the whole answer.
        candidates: each with its `answer` and `probability`, the most probable first.
        explanation: where the answer's attention to the image goes, with its check by ablation;
            None where it was not asked for, or cannot be.
    """

    model: str
    image: str
    question: str
    answer: str
    probability: float
    candidates: tuple[dict[str, Any], ...]
    explanation: Explanation | None = None
    figures: tuple[dict[str, str], ...] = ()
    warnings: tuple[str, ...] = field(default=(), metadata={"json": False})

    def blocks(self) -> list[Block]:
        """The answer, a table of candidates, and the verdict of the ablation."""
        rows = tuple((c["answer"] or NOTHING, _percent(c["probability"])) for c in self.candidates)
        table: list[Block] = [Table(("candidate", "probability"), rows)] if rows else []
        explained: list[Block] = [self.explanation.to_text()] if self.explanation else []
        return [f"{self.answer or NOTHING}   ({_percent(self.probability)})", *table, *explained]


def _percent(share: float) -> str:
    return f"{share:.1%}" if share >= 0.001 else "< 0.1%"


@takes(VlmAnswer)
def run(settings: VlmAnswer, out: Path | None = None) -> VlmAnswerResult:
    """Answers a question about an image; see `encoderlab vlm answer --help`.

    Returns:
        The answer with its probability, other candidates, and the explanation if it is asked for.

    Raises:
        UsageError: no image or no question, or a prompt that is too long.
        MissingError: a file, a checkpoint or a GPU is not there.
    """
    from encoderlab.encoders.model_cache import without_cache
    from encoderlab.vlm.model import VLM

    if settings.image is None or not (settings.text or "").strip():
        missing = "image" if settings.image is None else "question"
        raise UsageError(
            f"there is no {missing}",
            got=None if settings.image is None else settings.text,
            want='encoderlab vlm answer IMAGE --text "How many bars are there?"',
        )
    # Reading hidden states sets hooks, so no other thread of the web page may have this encoder.
    with without_cache():
        model = VLM.load(
            settings.model, settings.device, settings.dtype,
            trust_remote_code=settings.trust_remote_code,
        )  # fmt: skip
    image, question = Path(settings.image), str(settings.text)
    answer = model.answer(image, question, candidates=settings.candidates)
    result = VlmAnswerResult(
        settings.model, settings.image, question, answer.text, answer.probability,
        tuple({"answer": text, "probability": value} for text, value in answer.candidates),
    )  # fmt: skip
    if not settings.explain:
        return result
    from encoderlab.core.progress import warn
    from encoderlab.data.decode import open_image
    from encoderlab.plots.style import save
    from encoderlab.vlm.explain import explain
    from encoderlab.vlm.plots import explained

    try:
        explanation = explain(model, image, question, answer.text, settings.seed)
    except UsageError as error:  # the answer stands
        warn(f"no explanation: {error}")
        return result
    result = replace(result, explanation=explanation)
    if out is None:
        return result
    view = model.encoders[0].preprocess.view(open_image(image))
    drawn = explained(explanation, view, question, answer.text)
    return replace(result, figures=save([drawn], out, svg=settings.svg))
