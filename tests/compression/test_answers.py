"""Right answers of a VLM on rebuilt tokens: those of the plain VLM, recounted, in closed form."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy import stats

from encoderlab.cli.main import main
from encoderlab.compression.answers import (
    ALL_TOKENS,
    ANSWERS,
    HARD,
    OTHER_IMAGE,
    RANDOM,
    SMALLER,
    AnswerTask,
    judge,
    predictors,
    shuffling_vlms,
)
from encoderlab.compression.bench import Bench
from encoderlab.compression.evaluate import _best_predictors, _record
from encoderlab.compression.recommendation import what_to_use
from encoderlab.compression.token_set import TokenSet
from encoderlab.data.sample import Sample
from encoderlab.encoders.vision import load_vision
from encoderlab.errors import UsageError
from encoderlab.patch_tokens.pooling import AveragePooling, Random, Strided
from encoderlab.patch_tokens.pruning import CDPruner
from encoderlab.patch_tokens.reducer import SideInputs
from encoderlab.vlm.model import VLM
from encoderlab.vlm.questions import Question, synthetic_questions

LAYER, GRID = 3, (12, 12)


# -- from tokens to answers ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def task():
    """Two questions about each of eight images."""
    questions = synthetic_questions("test", range(8), ["en", "ko"])
    encoder = load_vision("tiny-siglip", "cpu", "float32")
    tokens = TokenSet.of(encoder, [q.image.load() for q in questions[::2]], LAYER)
    vlm = VLM.load("tiny-vlm", "cpu", "float32")
    return AnswerTask("tiny-vlm", vlm, "a test", questions, tokens, np.repeat(np.arange(8), 2))


@pytest.fixture(scope="module")
def bench(task):
    return Bench(task.pictures, task.pictures, GRID, loyalty=False, answers=task)


def test_a_method_that_keeps_every_token_gets_the_answers_of_the_plain_vlm(task, bench):
    plain = [
        task.vlm.answer(q.image.image, q.text, candidates=0).text for q in task.questions
    ]  # fmt: skip
    assert bench.measure("strided", [Strided()], GRID).texts == [plain]
    assert task.texts[ALL_TOKENS] == [plain]


def test_the_answers_are_those_of_the_decoded_tokens(task, bench):
    decoded = AveragePooling().decode(
        AveragePooling().compress(task.pictures.tokens, GRID, (3, 3)), GRID
    )
    tokens = decoded[np.repeat(np.arange(8), 2)]
    plain = [a.text for a in task.vlm.answers(tokens, [q.text for q in task.questions])]
    found = bench.measure("average", [AveragePooling()], (3, 3)).texts
    assert found == [plain] != task.texts[ALL_TOKENS]


def test_the_floor_is_another_image(task):
    tokens = task.vlm.vision_tokens([q.image.image for q in task.questions[::2]])
    texts = [q.text for q in task.questions]
    shown = [tokens[np.repeat(np.roll(np.arange(8), shift), 2)] for shift in range(1, 8)]
    others = np.array([[a.text for a in task.vlm.answers(one, texts)] for one in shown])
    (floor,) = task.texts[OTHER_IMAGE]
    # Both questions of an image are answered from one other image.
    same = (others == np.array(floor)).reshape(7, 8, 2).all(axis=2)
    assert same.any(axis=0).all()


def test_a_random_method_counts_the_mean_of_its_draws(task, bench):
    row = bench.measure(RANDOM, [Random(seed) for seed in range(3)], (4, 4))
    assert [len(draw) for draw in row.texts] == [16] * 3
    alone = [task.right([draw]) for draw in row.texts]
    np.testing.assert_allclose(task.right(row.texts), np.mean(alone, axis=0))


def test_relevance_is_the_mean_cosine_with_the_words_of_the_question(task):
    """Patch by patch and word by word; tiny-vlm shuffles windows of 2 x 2."""
    rows = [3, 8, 9]
    found = task.relevance(rows)
    vlm = task.vlm
    table = vlm.llm.get_input_embeddings().weight.detach()
    for row, values in zip(rows, found, strict=True):
        ids = vlm.prompter.tokenizer(task.questions[row].text, add_special_tokens=False).input_ids
        patches = task.pictures.tokens[task.image[row]].reshape(12, 12, -1)
        for place in (0, 17, 143):
            y, x = (side // 2 * 2 for side in divmod(place, 12))
            window = [patches[y + i, x + j] for i in (0, 1) for j in (0, 1)]
            token = vlm.projector(torch.cat(window)[None])[0].detach()
            cosines = [float(torch.cosine_similarity(token, table[i], dim=0)) for i in ids]
            assert float(values[place]) == pytest.approx(np.mean(cosines), abs=1e-5)


def test_a_method_of_the_question_keeps_other_tokens_for_each_question(task, bench):
    row = bench.measure("cdpruner", [CDPruner()], (3, 3))
    expected = []
    for number, question in enumerate(task.questions):
        tokens = task.pictures.tokens[task.image[number]][None]
        side = SideInputs(text=task.relevance([number]))
        kept = CDPruner().compress(tokens, GRID, 9, side)
        (answer,) = task.vlm.answers(CDPruner().decode(kept, GRID), [question.text])
        expected.append(answer.text)
    assert row.texts == [expected]
    assert row.tokens == 9 and row.nmse is None and row.error_map is None
    record = _record(row, bench)
    assert record["nmse"] is None and record["kept"] == {} and record["training_free"]


def test_pixel_shuffle_is_answered_by_the_vlm_of_its_number_of_tokens(task, tmp_path):
    encoder, (whole,) = task.vlm.encoders[0], [task.vlm]
    made = VLM.build(
        "tiny-siglip", "tiny-vlm", reduce="pixel_shuffle:4", device="cpu", dtype="float32"
    )
    folder = str(made.save(tmp_path / "shuffle4"))
    found = shuffling_vlms(whole, [folder], encoder, LAYER)
    assert {*found} == {(6, 6), (3, 3)} and found[6, 6] is whole
    asked = replace(task, shuffled=found)
    tokens = task.pictures.tokens
    expected = found[3, 3].answers(tokens[task.image], [q.text for q in task.questions])
    assert asked.ask_method("pixel_shuffle", tokens, (3, 3)) == [a.text for a in expected]
    assert asked.ask_method("pixel_shuffle", tokens, (6, 6)) == task.texts[ALL_TOKENS][0]
    assert asked.ask_method("pixel_shuffle", tokens, (4, 4)) == []
    assert asked.ask_method("strided", tokens, (3, 3)) == task.texts[ALL_TOKENS][0]


@pytest.mark.parametrize(
    "other",
    [
        {"llm": "tiny-llama", "reduce": "pixel_shuffle:4"},
        {"llm": "tiny-vlm", "reduce": "average:9"},
        {"llm": "tiny-vlm", "reduce": "pixel_shuffle:4", "layer": 1},
        {"llm": "tiny-vlm", "reduce": "pixel_shuffle:4", "encoder": "tiny-clip"},
    ],
)
def test_a_vlm_that_differs_in_more_than_the_projector_cannot_answer_for_it(task, other, tmp_path):
    made = {"encoder": "tiny-siglip", **other}
    folder = VLM.build(**made, device="cpu", dtype="float32").save(tmp_path / "vlm")
    with pytest.raises(UsageError, match="cannot answer for pixel shuffle"):
        shuffling_vlms(task.vlm, [str(folder)], task.vlm.encoders[0], LAYER)


# -- counting and comparing ----------------------------------------------------------------------


def asked(full: Sequence[int], floor: Sequence[int], image: Sequence[int]) -> AnswerTask:
    """A task whose VLM has answered: 1 is a right answer."""
    questions = [
        Question(f"q{n}", Sample(f"i{i}", ""), "?", ("yes",)) for n, i in enumerate(image)
    ]  # fmt: skip
    vlm = SimpleNamespace(fingerprint="f")
    made = AnswerTask("a test", vlm, "a test", questions, None, np.array(image))
    made.__dict__["texts"] = {ALL_TOKENS: [said(full)], OTHER_IMAGE: [said(floor)]}
    return made


def said(right: Sequence[float]) -> list[str]:
    return ["Yes." if one else "no" for one in right]


def record(method: str, side: int = 3, **scores: float) -> dict:
    known = dict.fromkeys(
        ("nmse", "nmse_without_outliers", "cosine", "distance", "neighbours", "cka")
    )
    known |= {name: {"value": score} for name, score in scores.items()}
    times = {"fair": 0.1, "close": 1.0}
    return {"method": method, "budget": [side, side], "tokens": side * side, "kept": {},
            "reading": {}, "training_free": True, "milliseconds": times.get(method, 2.0),
            **known}  # fmt: skip


@pytest.fixture(scope="module")
def judged():
    """Six methods at one budget, on three questions about each of 80 images."""
    rng = np.random.default_rng(0)
    image = np.repeat(np.arange(80), 3)
    seen = rng.random(80).repeat(3)  # an image that is easy for one method is easy for all
    full = seen + 0.3 * rng.random(240) > 0.3
    lost = {"good": 0.0, "as_good": 0.0, "fair": 0.1, RANDOM: 0.3, SMALLER: 0.6}
    right = {
        name: (full & (rng.random(240) >= share)).astype(float) for name, share in lost.items()
    }
    right["as_good"][:3] = 0  # of one image
    right["close"] = right["good"].copy()
    right["close"].reshape(80, 3)[full.reshape(80, 3).all(axis=1).nonzero()[0][:5]] = 0
    task = asked(full, rng.random(240) < 0.2, image)
    records = [record(name) for name in right]
    about, verdicts = judge(task, records, list(right.values()))
    return task, right, records, about, verdicts


def test_the_split_is_what_the_smaller_image_gets_wrong(judged):
    task, right, records, about, _ = judged
    wrong = [q for q, value in enumerate(right[SMALLER]) if value == 0]
    (split,) = about["vtc"]
    assert split["questions"] == len(wrong) and about["questions"] == 240
    assert split["full"]["value"] == pytest.approx(sum(task.full[q] for q in wrong) / len(wrong))
    for row in records:
        if row["method"] == SMALLER:
            assert HARD not in row["answers"] and HARD not in row["kept"]
            continue
        share = sum(right[row["method"]][q] for q in wrong) / len(wrong)
        assert row["answers"][HARD]["value"] == pytest.approx(share)
        assert row["answers"][HARD]["n"] == len(wrong)


def test_the_share_kept_lies_between_another_image_and_all_tokens(judged):
    task, right, records, _, _ = judged
    full, floor = task.full.mean(), task.floor.mean()
    for row in records:
        expected = (right[row["method"]].mean() - floor) / (full - floor)
        assert row["kept"][ANSWERS]["value"] == pytest.approx(expected)


def test_every_method_is_compared_with_all_tokens_and_every_other_one(judged):
    _, right, _, _, verdicts = judged
    for split, methods in ((ANSWERS, {*right}), (HARD, {*right} - {SMALLER})):
        pairs = [frozenset((v["a"], v["b"])) for v in verdicts if v["task"] == split]
        expected = [*itertools.combinations(methods, 2), *((m, ALL_TOKENS) for m in methods)]
        assert len(pairs) == len(expected) and {*pairs} == {frozenset(p) for p in expected}
    assert RANDOM not in {v["a"] for v in verdicts if v["b"] != ALL_TOKENS}


def test_p_is_corrected_by_holm_in_each_family_and_the_verdict_is_its(judged):
    _, right, _, _, verdicts = judged
    columns, uncorrected = {**right, ALL_TOKENS: judged[0].full}, set()
    for family in (
        [v for v in verdicts if v["task"] == ANSWERS and v["b"] == ALL_TOKENS],
        [v for v in verdicts if v["task"] == ANSWERS and v["b"] != ALL_TOKENS],
    ):
        p = []
        for v in family:  # the t test of the images' sums, since all have three questions
            sums = (columns[v["a"]] - columns[v["b"]]).reshape(80, 3).sum(axis=1)
            p.append(stats.ttest_1samp(sums, 0).pvalue if sums.any() else 1.0)
        rejected, largest = sum(v["p_corrected"] < 0.05 for v in family), 0.0
        for rank, i in enumerate(np.argsort(p)):
            largest = max(largest, min(1.0, p[i] * (len(p) - rank)))
            assert family[i]["p_corrected"] == pytest.approx(largest)
            assert (family[i]["verdict"] != "cannot distinguish") == (largest < 0.05)
            tests_left = len(p) - min(rank, rejected)
            assert family[i]["level"] == pytest.approx(1 - 0.05 / tests_left)
            if p[i] < 0.05 <= largest:
                uncorrected.add((family[i]["a"], family[i]["b"]))
    assert ("close", ALL_TOKENS) in uncorrected
    assert {v["verdict"] for v in verdicts} == {"ahead", "behind", "cannot distinguish"}


def test_methods_that_agree_on_every_answer_have_no_certain_difference(judged):
    _, _, records, _, verdicts = judged
    (same,) = [v for v in verdicts if (v["task"], v["a"], v["b"]) == (ANSWERS, "good", ALL_TOKENS)]
    # Tests left at the step where Holm's procedure stops.
    left = round(0.05 / (1 - same["level"]))
    exact = stats.binomtest(0, 80, alternative="less").proportion_ci(1 - 0.05 / left).high
    assert (same["ci_low"], same["ci_high"]) == pytest.approx((-exact, exact))
    assert same["p"] == 1 and same["verdict"] == "cannot distinguish"
    kept = records[0]["kept"][ANSWERS]
    assert kept["value"] == 1 and kept["ci_low"] < 0.97 and kept["ci_high"] > 1.03


def test_the_sentence_names_all_that_tie_and_all_that_cannot_be_told_apart(judged):
    _, _, records, about, verdicts = judged
    (line,) = what_to_use(records, verdicts, about)
    assert line.startswith("9 tokens: good: ") and "% right answers" in line
    assert "cannot be told apart from as_good, close;" in line
    assert "the fastest of these is close (1.00 ms)" in line  # fair is faster, and behind
    assert line.endswith("ahead of random, smaller_image")
    task, same = judged[0], [record("one"), record(RANDOM), record("three")]
    full = task.full.astype(float)
    about, verdicts = judge(task, same, [full, full, 1 - full])
    (line,) = what_to_use(same, verdicts, about)
    assert line.startswith("9 tokens: one: ")
    assert "cannot be told apart from random;" in line and line.endswith("; not ahead of random")


def test_without_a_vlm_the_embedding_ranks_the_methods():
    rows = [record(name) | {"kept": {"embedding": {"value": value}}}
            for name, value in (("kmeans", 0.9), ("average", 0.5), (RANDOM, 0.88))]  # fmt: skip
    verdicts = [
        {"task": "embedding", "budget": [3, 3], "a": "kmeans", "b": name, "verdict": verdict}
        for name, verdict in (("average", "ahead"), (RANDOM, "cannot distinguish"))
    ]
    (line,) = what_to_use(rows, verdicts, None)
    assert line.startswith("9 tokens: kmeans keeps 90.0 % of the embedding;")
    assert line.endswith("ahead of average; not ahead of random")
    rows[0]["kept"]["embedding"] = {"value": None, "undefined": "nothing to keep"}
    (line,) = what_to_use(rows, verdicts, None)
    assert line.startswith("9 tokens: random keeps 88.0 % ")


def test_without_a_wrong_answer_of_the_smaller_image_there_is_no_split():
    task = asked([1] * 9, [0] * 9, list(range(9)))
    rows = [record(SMALLER)]
    about, verdicts = judge(task, rows, [np.ones(9)])
    assert about["vtc"] == [] and {v["task"] for v in verdicts} == {ANSWERS}


def test_a_method_without_answers_is_left_out_of_them():
    task, rows = asked([1] * 9, [0] * 9, list(range(9))), [record("one"), record("pixel_shuffle")]
    about, verdicts = judge(task, rows, [np.ones(9), None])
    assert rows[1]["answers"] == {} == rows[1]["kept"]
    assert [(v["a"], v["b"]) for v in verdicts] == [("one", ALL_TOKENS)]
    assert "pixel_shuffle" not in task.lines({"pixel_shuffle/9": [[]]})
    (line,) = what_to_use(rows, verdicts, about)
    assert line.startswith("9 tokens: one: ")


def test_answers_of_other_vlms_rank_no_score():
    rows = measured(10, 2)
    found = predictors([*rows, {**rows[0], "method": "pixel_shuffle"}])
    assert found == predictors(rows)


# -- which score predicts the answers ------------------------------------------------------------


def measured(methods: int, budgets: int, seed: int = 0) -> list[dict]:
    """`distance` ranks as the answers do, `nmse` nearly in reverse, `cosine` at random."""
    rng = np.random.default_rng(seed)
    rows = []
    for m in range(methods):
        good = rng.random()
        noise = 0.3 * rng.standard_normal()
        luck = rng.random()
        for side in range(budgets):
            row = record(f"m{m}", side, distance=good, nmse=noise - good, cosine=luck)
            rows.append({**row, "answers": {ANSWERS: {"value": good}}})
    return rows


def test_the_rank_correlation_is_spearman_s_and_its_interval_leaves_methods_out():
    rows = measured(10, 2)
    found = {row["score"]: row for row in predictors(rows)}
    x, y = (np.array([f(r) for r in rows]) for f in (
        lambda r: r["nmse"]["value"], lambda r: r["answers"][ANSWERS]["value"]))  # fmt: skip
    rho = stats.spearmanr(x, y).statistic
    assert found["nmse"]["rho"]["value"] == pytest.approx(rho)
    z = []
    for m in range(10):
        rest = np.arange(20) // 2 != m
        z.append(np.arctanh(stats.spearmanr(x[rest], y[rest]).statistic))
    half = stats.t.ppf(0.975, 9) * np.sqrt(9 * np.var(z))
    ends = np.tanh(np.arctanh(rho) + np.array([-half, half]))
    assert (found["nmse"]["rho"]["ci_low"], found["nmse"]["rho"]["ci_high"]) == pytest.approx(ends)


def test_more_budgets_of_the_same_methods_are_no_more_methods():
    widths = []
    for budgets in (1, 8):
        rhos = {row["score"]: row["rho"] for row in predictors(measured(10, budgets))}
        widths.append([rhos[name]["ci_high"] - rhos[name]["ci_low"] for name in ("nmse", "cosine")])
    assert widths[1] == pytest.approx(widths[0], rel=0.15)


def test_the_best_predictor_is_named_with_those_that_cannot_be_told_apart():
    rows = predictors(measured(14, 3))
    assert [row["score"] for row in rows][:3] == ["distance", "nmse", "cosine"]
    assert [row["is_best"] for row in rows][:3] == [True, False, False]
    assert rows[0]["p_corrected"] < 0.01 < 0.05 < rows[2]["p_corrected"]
    (line,) = _best_predictors({"predictors": rows})
    # Equal orders are no proof: there is no interval of zero width.
    assert "distance predicts the right answers best, rho 1.000" in line and "[" not in line
    assert "told apart" not in line


def test_fewer_than_six_methods_rank_nothing():
    rows = predictors(measured(5, 3))
    assert all(row["rho"]["value"] is None and row["p"] is None for row in rows)
    (line,) = _best_predictors({"predictors": rows})
    assert "measured on 5 methods, and 6 are needed" in line


# -- as it is typed ------------------------------------------------------------------------------


def test_the_saved_answers_recount_to_what_is_reported(tmp_path):
    words = ["compress", "evaluate", "--model", "tiny-siglip", "--answers", "tiny-vlm",
             "--grids", "3",
             "--n-samples", "20", "--dtype", "float32", "--methods", "kmeans",
             "evaluation.parts=[]", "evaluation.n_fit=20", "evaluation.n_questions=20"]  # fmt: skip
    assert main([*words, "--output-dir", str(tmp_path)]) == 0
    result = json.loads((tmp_path / "run.json").read_text())["result"]
    lines = [json.loads(line) for line in (tmp_path / "answers.jsonl").read_text().splitlines()]
    assert len(lines) == result["vlm"]["questions"] == 20

    def hits(name: str) -> np.ndarray:
        """By plain comparison: the synthetic world's answers need no normalisation."""
        return np.array([
            np.mean([text.lower() == line["answers"][0].lower() for text in draws])
            for line in lines for draws in [line["generated"][name]]
        ])  # fmt: skip

    rows = {row["method"]: row for row in result["rows"]}
    assert {
        "trained",
        "trained_answers",
        "kmeans",
        "average",
        RANDOM,
        SMALLER,
        "pixel_shuffle",
    } == {*rows}
    wrong = hits(f"{SMALLER}/9") == 0
    full, other = hits(ALL_TOKENS), hits(OTHER_IMAGE)
    assert result["scales"][ANSWERS] == pytest.approx({"full": full.mean(), "floor": other.mean()})
    (split,) = result["vlm"]["vtc"]
    assert split["questions"] == wrong.sum()
    paired = {
        (v["task"], v["a"]): v for v in result["verdicts"] if v["b"] == ALL_TOKENS
    }  # fmt: skip
    for name, row in rows.items():
        right = hits(f"{name}/9")
        assert row["answers"][ANSWERS]["value"] == pytest.approx(right.mean())
        difference = right - full
        found = paired[ANSWERS, name]
        assert found["difference"] == pytest.approx(difference.mean())
        # One question per image: the interval is that of the paired t test.
        half = stats.t.ppf((1 + found["level"]) / 2, 19) * difference.std(ddof=1) / np.sqrt(20)
        assert found["ci_high"] - found["difference"] >= half - 1e-9
        if name != SMALLER:
            assert row["answers"][HARD]["value"] == pytest.approx(right[wrong].mean())
            assert paired[HARD, name]["difference"] == pytest.approx(difference[wrong].mean())
    assert {"answers_kept.png", "two_axes.png"} <= {one["file"] for one in result["figures"]}
    assert not (tmp_path / "pareto.png").exists()


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--layer", "2"], "'tiny-vlm: tiny-siglip, layer 3'"),
        (["--model", "tiny-clip"], "'tiny-vlm: tiny-siglip, layer 3'"),
        (["--grids", "13"], "13 x 13"),
    ],
)  # fmt: skip
def test_a_mistake_is_one_sentence(words, sentence, tmp_path, capsys):
    out = str(tmp_path / "out")
    start = [
        "compress",
        "evaluate",
        "--model",
        "tiny-siglip",
        "--answers",
        "tiny-vlm",
        "--output-dir",
        out,
    ]
    assert main([*start, *words]) in (2, 3)
    said = capsys.readouterr().err
    assert sentence in said and "Traceback" not in said and "measuring" not in said
    assert not (tmp_path / "out" / "run.json").exists()


def test_a_vlm_that_reduces_tokens_itself_is_refused(tmp_path, capsys):
    VLM.build(reduce="average:36", device="cpu").save(tmp_path / "vlm")
    start = ["compress", "evaluate", "--answers", str(tmp_path / "vlm")]
    assert main([*start, "--output-dir", str(tmp_path / "out")]) == 2
    assert "--reduce average:36'" in capsys.readouterr().err
