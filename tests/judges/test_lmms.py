"""lmms-eval judges our VLM and a compressed LLaVA, on questions of our own.

lmms-eval requires torchvision, so the tests of the project run without it and skip this file; the
page on judges says how it is installed without.
"""

import csv
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

pytest.importorskip("lmms_eval", reason="lmms-eval is not installed: docs/en/judges.md says how")

from lmms_eval.api.instance import Instance
from lmms_eval.evaluator import simple_evaluate
from lmms_eval.models import get_model
from lmms_eval.tasks import TaskManager

import encoderlab
from encoderlab.compression.compressor import Compressor
from encoderlab.compression.hooks import compressed_vision
from encoderlab.encoders.checkpoint import resolve
from encoderlab.errors import UsageError
from encoderlab.judges.lmms_model import LmmsModel
from encoderlab.patch_tokens.methods import METHODS, reducers
from encoderlab.vlm.export import to_llava
from encoderlab.vlm.llava import LlavaVLM
from encoderlab.vlm.model import VLM

PAGE = Path(__file__).parents[2] / "docs/en/judges.md"
CPU = {"device": "cpu", "dtype": "float32"}


@pytest.fixture(scope="module")
def questions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CSV of questions about pictures of the synthetic world."""
    folder = tmp_path_factory.mktemp("questions")
    from encoderlab.vlm.questions import read_questions

    rows = read_questions("synthetic", split="test", n=24).rows
    with (folder / "questions.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["image_path", "question", "answer"])
        for number, row in enumerate(rows):
            row.image.load().save(folder / f"{number}.png")
            writer.writerow([folder / f"{number}.png", row.text, row.answers[0]])
    return folder / "questions.csv"


@pytest.fixture(scope="module")
def tasks(questions: Path, tmp_path_factory: pytest.TempPathFactory) -> TaskManager:
    """The task of the page, on these questions."""
    folder = tmp_path_factory.mktemp("tasks")
    text = PAGE.read_text(encoding="utf-8")
    for name in ("own_questions.yaml", "utils.py"):
        (code,) = re.findall(rf"^`{name}`:\n\n```\w+\n(.*?)^```", text, re.M | re.S)
        (folder / name).write_text(code.replace("questions.csv", str(questions)))
    return TaskManager(include_path=str(folder), include_defaults=False)


@pytest.fixture(scope="module")
def llava(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The parts of tiny-vlm as a LLaVA of transformers, with random weights in its projector."""
    model = VLM.build(norm=False, seed=1, **CPU)
    return to_llava(model, tmp_path_factory.mktemp("models") / "llava")


def requests(texts: list[Any], images: list[Image.Image | None], *second: Any) -> list[Instance]:
    made = []
    for number, text in enumerate(texts):
        arguments = (text, second[number % len(second)], lambda doc: doc["image"], number, "t", "s")
        meta = {"task": "t", "doc_id": number, "repeats": 1}
        made.append(Instance("generate_until", arguments, number, meta))
    return made


def with_docs(model: LmmsModel, images: list[Image.Image | None]) -> LmmsModel:
    model.task_dict = {"t": {"s": [{"image": [i] if i is not None else []} for i in images]}}
    return model


@pytest.fixture(scope="module")
def images() -> list[Image.Image]:
    rng = np.random.default_rng(0)
    return [Image.fromarray(rng.integers(0, 256, (96, 96, 3), dtype=np.uint8)) for _ in range(3)]


TEXTS = ["How many bars are there?", "What colour is the large circle?", "What is left?"]


def test_the_entry_point_gives_our_model() -> None:
    assert get_model("encoderlab") is LmmsModel


def test_a_run_of_lmms_eval_counts_what_vlm_evaluate_counts(
    questions: Path, tasks: TaskManager
) -> None:
    got = simple_evaluate(
        model="encoderlab", model_args="model=tiny-vlm,dtype=float32", device="cpu",
        tasks=["own_questions"], task_manager=tasks, batch_size=8,
    )  # fmt: skip
    ours = encoderlab.vlm_evaluate(
        model=["tiny-vlm"], data=str(questions), n=0, controls=False, **CPU
    )
    accuracy = float(ours.models[0].accuracy["all"])
    assert 0 < accuracy < 1
    assert got["results"]["own_questions"]["right,none"] == pytest.approx(accuracy)


@pytest.mark.parametrize("compress", ["average", "visionzip", "cdpruner", "tiny-clip-12to4"])
def test_a_compressed_llava_answers_as_the_plain_call_with_hooks(
    compress: str, llava: Path, images: list[Image.Image]
) -> None:
    trained = compress not in METHODS
    method = Compressor.from_pretrained(compress) if trained else reducers(compress)[0]
    given = requests(TEXTS, list(images), {"max_new_tokens": 8})
    model = with_docs(LmmsModel(str(llava), f"{compress}:16", batch_size=3, **CPU), list(images))
    texts = model.generate_until(given)
    plain = LlavaVLM(resolve(llava), "cpu", "float32", False)
    whole = [answer.text for answer in plain.answers(images, TEXTS, 8)]
    with compressed_vision(plain.model, method, 16) as vision:
        for text, image, question in zip(texts, images, TEXTS, strict=True):
            inputs = plain.processor(
                images=[image], text=[plain.prompt(question)], return_tensors="pt"
            )
            fitted = vision.fit(inputs)
            out = plain.model.generate(**fitted, do_sample=False, max_new_tokens=8)
            new = out[0, fitted["input_ids"].shape[1] :]
            assert plain.tokenizer.decode(new, skip_special_tokens=True).strip() == text
    assert texts != whole


def test_an_own_vlm_is_compressed_too(images: list[Image.Image], tmp_path: Path) -> None:
    own = VLM.build(seed=1, **CPU)
    folder = own.save(tmp_path / "vlm")
    given = requests(TEXTS, list(images), {"max_new_tokens": 8})
    model = with_docs(LmmsModel(str(folder), "average:16", batch_size=2, **CPU), list(images))
    texts = model.generate_until(given)
    own = VLM.load(folder, **CPU)
    with compressed_vision(own, reducers("average")[0], 16):
        want = [
            own.answer(image, text, candidates=0, max_new_tokens=8).text
            for image, text in zip(images, TEXTS, strict=True)
        ]
    assert texts == want
    judged = model.vlm
    assert judged.image_tokens == 16
    model.clean()
    assert judged.image_tokens == 144


def test_options_of_a_question_are_scored_by_their_likelihood(images: list[Image.Image]) -> None:
    model = with_docs(LmmsModel("tiny-vlm", batch_size=2, **CPU), [images[0]] * 3)
    own = VLM.load("tiny-vlm", **CPU)
    greedy = own.answer(images[0], TEXTS[0], candidates=0).text
    answers = [f" {greedy}", " seven", " red"]
    got = model.loglikelihood(requests([TEXTS[0]] * 3, [images[0]] * 3, *answers))
    tokens = own.vision_tokens([images[0]] * 3)
    want = -own.log_likelihood(tokens, [TEXTS[0]] * 3, [a.strip() for a in answers])
    assert torch.allclose(torch.tensor([loss for loss, _ in got]), want, atol=1e-3)
    assert [is_greedy for _, is_greedy in got] == [True, False, False]


def test_stops_cut_and_questions_without_an_image_are_asked_blind(
    images: list[Image.Image],
) -> None:
    own = VLM.load("tiny-vlm", **CPU)
    given = requests(TEXTS, [], {"until": ["e"]}, {})
    model = with_docs(LmmsModel("tiny-vlm", batch_size=3, **CPU), [images[0], None, images[2]])
    texts = model.generate_until(given)
    full = own.answer(images[0], TEXTS[0], candidates=0).text
    assert texts[0] == full.partition("e")[0]
    assert texts[1] == own.answers(None, [TEXTS[1]])[0].text
    assert texts[2] == own.answer(images[2], TEXTS[2], candidates=0).text.partition("e")[0]


@pytest.mark.parametrize(
    "compress", ["average", "average:0", "block_pca:16", "fastv:16", "averge:16"]
)
def test_a_compression_that_cannot_be_is_refused(compress: str) -> None:
    with pytest.raises(UsageError):
        LmmsModel("tiny-vlm", compress, **CPU)


def test_several_images_are_refused(images: list[Image.Image]) -> None:
    model = LmmsModel("tiny-vlm", **CPU)
    model.task_dict = {"t": {"s": [{"image": images}]}}
    with pytest.raises(UsageError):
        model.generate_until(requests(TEXTS[:1], [], {}))
