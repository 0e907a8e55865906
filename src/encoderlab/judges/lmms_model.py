"""A VLM as a model of lmms-eval: our own, or a LLaVA, with all image tokens or compressed.

lmms-eval imports this module when it is run with `--model encoderlab`; nothing else does.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from lmms_eval.api.model import lmms
from PIL import Image

from encoderlab.compression.compressor import Compressor, shipped
from encoderlab.compression.hooks import compressed_vision
from encoderlab.core.progress import progress, warn
from encoderlab.data.decode import open_images
from encoderlab.encoders.checkpoint import resolve
from encoderlab.errors import UsageError, unknown
from encoderlab.feature_store.pipeline import batches_of
from encoderlab.patch_tokens.methods import METHODS, is_fitted, reducers
from encoderlab.patch_tokens.reducer import TokenReducer
from encoderlab.vlm.llava import LlavaVLM, is_llava
from encoderlab.vlm.model import ANSWER_TOKENS, VLM, Answer, saved_in

MARK = "<image>"  # some tasks write it into their questions; the model places the image itself


class LmmsModel(lmms):
    """A VLM that lmms-eval can judge: one image or none per question, greedy answers.

    Args:
        model: a bundled VLM, the folder of a run of `vlm train`, or a LLaVA folder or hub id.
        compress: METHOD:TOKENS for fewer image tokens, through `compressed_vision`; a method of
            `encoderlab ls methods` that needs no fitting, a bundled compressor or the folder of
            one. None: all tokens.
        device: auto, cpu, cuda or cuda:N.
        dtype: auto, float32, bfloat16 or float16.
        batch_size: questions at once.
        trust_remote_code: whether Python that comes with a checkpoint may run.

    Raises:
        MissingError: the VLM, the compressor or the GPU is not there.
        UsageError: no VLM, or a method or number of tokens that it does not take.
    """

    def __init__(
        self,
        model: str = "tiny-vlm",
        compress: str | None = None,
        device: str = "auto",
        dtype: str = "auto",
        batch_size: int | str = 1,
        trust_remote_code: bool = False,
    ) -> None:
        super().__init__()
        self.batch_size = int(batch_size)
        self._compression = ExitStack()
        method = None if compress is None else _method(compress)  # before anything is loaded
        checkpoint = resolve(saved_in(model), code=trust_remote_code)
        self.vlm: VLM | LlavaVLM
        if is_llava(checkpoint):
            self.vlm = LlavaVLM(checkpoint, device, dtype, trust_remote_code)
        else:
            self.vlm = VLM.load(model, device, dtype, trust_remote_code=trust_remote_code)
        if method is not None:
            self._compress(*method)

    def _compress(self, method: TokenReducer, budget: int) -> None:
        if isinstance(method, Compressor):
            method.model.to(self.device)
        network = self.vlm.model if isinstance(self.vlm, LlavaVLM) else self.vlm
        vision = self._compression.enter_context(compressed_vision(network, method, budget))
        if isinstance(self.vlm, LlavaVLM):
            self.vlm.fit = vision.fit

    @property
    def device(self) -> torch.device:
        """Where the model runs."""
        return self.vlm.device

    def clean(self) -> None:
        """Removes the hooks of the compression, and frees the model."""
        self._compression.close()
        super().clean()

    def generate_until(self, requests: list[Any]) -> list[str]:
        """Greedy answers.

        Args:
            requests: of lmms-eval; their arguments are the question, the options of generation, and
                what finds the image.

        Returns:
            One text per request, up to the first of its stop strings.

        Raises:
            UsageError: a question with several images or a video, or a prompt that is too long.
        """
        options = [dict(request.args[1]) for request in requests]
        if any(o.get("temperature") or o.get("num_beams", 1) > 1 for o in options):
            warn("the task asks for sampling or beams; encoderlab answers greedily")
        most = [int(o.get("max_new_tokens", ANSWER_TOKENS)) for o in options]
        texts = [""] * len(requests)
        for part, images, questions in self._batches(requests, most):
            answers = self._answers(images, questions, most[part[0]])
            for number, answer in zip(part, answers, strict=True):
                texts[number] = _until(answer.text, options[number].get("until") or [])
        return texts

    def loglikelihood(self, requests: list[Any]) -> list[tuple[float, bool]]:
        """How likely given answers are.

        Args:
            requests: of lmms-eval; their arguments are the question, the answer or what finds it,
                and what finds the image.

        Returns:
            For each (the negative log-likelihood of the answer and its end, in nats; whether it is
            the greedy answer). lmms-eval takes the smallest as the chosen option. Its own models
            return the mean over the tokens, which prefers longer options.

        Raises:
            UsageError: a question with several images or a video, or a prompt that is too long.
        """
        answers = [self._target(request) for request in requests]
        # An upper bound of their tokens, so that the greedy answer is not cut before it differs.
        most = [len(answer.encode()) + 2 for answer in answers]
        values: list[tuple[float, bool]] = [(0.0, False)] * len(requests)
        for part, images, questions in self._batches(requests, [0] * len(requests)):
            own = [answers[number] for number in part]
            losses = (-self._log_likelihood(images, questions, own)).tolist()
            greedy = self._answers(images, questions, max(most[number] for number in part))
            for number, loss, answer, text in zip(part, losses, greedy, own, strict=True):
                values[number] = loss, answer.text == text
        return values

    def generate_until_multi_round(self, requests: list[Any]) -> list[str]:
        """Refuses conversations of several rounds.

        Raises:
            UsageError: always.
        """
        raise UsageError(
            "encoderlab answers single questions", got="a task of several rounds",
            want="a task with output_type generate_until, loglikelihood or multiple_choice",
        )  # fmt: skip

    def _answers(
        self, images: list[Image.Image] | None, questions: list[str], most: int
    ) -> list[Answer]:
        return self.vlm.answers(self._shown(images), questions, most)

    def _log_likelihood(
        self, images: list[Image.Image] | None, questions: list[str], answers: list[str]
    ) -> torch.Tensor:
        return self.vlm.log_likelihood(self._shown(images), questions, answers)

    def _shown(self, images: list[Image.Image] | None) -> Any:
        """The images as the VLM takes them."""
        return self.vlm.vision_tokens(images) if images and isinstance(self.vlm, VLM) else images

    def _doc(self, request: Any) -> Any:
        number, task, split = request.args[3:6]
        return self.task_dict[task][split][number]

    def _target(self, request: Any) -> str:
        target = request.args[1]
        return str(target if isinstance(target, str) else target(self._doc(request))).strip()

    def _image(self, request: Any) -> Image.Image | None:
        visuals = list(request.args[2](self._doc(request)) or [])
        if len(visuals) > 1 or any(not isinstance(visual, Image.Image) for visual in visuals):
            raise UsageError(
                "one question is about one image",
                got=f"{len(visuals)} of {', '.join({type(v).__name__ for v in visuals})}",
                want="a task with one image, or none, per question",
            )
        return open_images(visuals)[0] if visuals else None

    def _batches(
        self, requests: list[Any], most: Sequence[int]
    ) -> Iterator[tuple[list[int], list[Image.Image] | None, list[str]]]:
        """Numbers, images and questions of requests that can be asked together."""
        questions = [request.args[0].replace(MARK, " ").strip() for request in requests]
        order = sorted(range(len(requests)), key=lambda i: (most[i], len(questions[i])))
        with progress("asking", total=len(requests), unit="question") as bar:
            for together in batches_of(order, self.batch_size):
                images = {number: self._image(requests[number]) for number in together}
                groups: dict[tuple[int, bool], list[int]] = {}
                for number in together:
                    groups.setdefault((most[number], images[number] is None), []).append(number)
                for part in groups.values():
                    shown = [image for n in part if (image := images[n]) is not None]
                    yield part, shown or None, [questions[number] for number in part]
                bar.advance(len(together))


def _method(spec: Any) -> tuple[TokenReducer, int]:
    """The method and the number of tokens of METHOD:TOKENS."""
    name, _, number = str(spec).rpartition(":")
    if not name or not number.isdigit() or int(number) < 1:
        raise UsageError(
            "the compression has no number of tokens",
            got=spec,
            want="METHOD:TOKENS such as average:36",
        )
    if name in shipped() or Path(name).is_dir():
        return Compressor.from_pretrained(name), int(number)
    if name not in METHODS:
        known = [*METHODS, *shipped()]
        raise unknown("method, and no compressor or folder", name, known, "encoderlab ls methods")
    if not METHODS[name].made_by or is_fitted(name):
        raise UsageError(
            "the method cannot stand between an image encoder and a language model by its name",
            got=name,
            want="a method that needs no fitting, such as average, tome or visionzip",
        )
    return reducers(name)[0], int(number)


def _until(text: str, stops: str | Sequence[str]) -> str:
    """The text before the first of some stop strings."""
    for stop in [stops] if isinstance(stops, str) else stops:
        text = text.partition(stop)[0] if stop else text
    return text
