"""The alignment commands: their numbers and answers on constructed and on bundled data."""

import dataclasses
import io
import json
import re
import shlex
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

import encoderlab
from encoderlab.alignment import (
    compare,
    coral,
    e2e,
    elas,
    embedding,
    figures,
    layers,
    multi_llm,
    pair_scores,
    report_page,
    tables,
)
from encoderlab.alignment.data import AlignmentData, Features, extract_features
from encoderlab.alignment.settings import Alignment
from encoderlab.cli.main import main
from encoderlab.core import run_folder
from encoderlab.core.results import to_plain
from encoderlab.core.score import Score
from encoderlab.data import read_samples
from encoderlab.data.decode import open_image
from encoderlab.errors import MissingError, UsageError
from encoderlab.metrics.catalogue import METRICS
from encoderlab.metrics.preflight import preflight

SETTINGS = {"n_samples": 12, "dtype": "float32", "device": "cpu"}


def made(vision, text, labels=None, **more) -> AlignmentData:
    """Alignment data of given features, without a model."""
    n = len(next(iter(vision.values())))
    sides = (
        {name: Features(name, "clip", name, np.asarray(x, np.float32)) for name, x in side.items()}
        for side in (vision, text)
    )
    ids = tuple(f"s{i}" for i in range(n))
    return AlignmentData(
        ids, tuple(labels or ["all"] * n), ids, tuple(range(n)), tuple([None] * n), *sides,
        "a test", "cpu", "float32", 0, tuple(preflight({**vision, **text})), **more,
    )  # fmt: skip


def gaussians(n, d=768, names=("clip", "dinov2"), seed=0, shared=0.0):
    rng = np.random.default_rng(seed)
    text = rng.standard_normal((n, d))
    vision = {name: shared * text + rng.standard_normal((n, d)) for name in names}
    return made(vision, {"llama": text})


def _untrained(aligned, name, features):
    """The same with an untrained control of encoder `name` that has these features."""
    control = dataclasses.replace(
        aligned.vision[name], name=f"untrained:{name}", of=name,
        pooled=np.asarray(features, dtype=np.float32),
    )  # fmt: skip
    return dataclasses.replace(aligned, vision={**aligned.vision, f"untrained:{name}": control})


def _of(aligned):
    return pair_scores.rows_of(aligned), pair_scores.verdicts(aligned)


def _extract(encoders, llms, *, layers=False, store=None, **given) -> AlignmentData:
    given |= {"encoders": encoders, "llms": llms, "features_dir": store}
    return extract_features(Alignment(**given), layers=layers)


@pytest.fixture(scope="module")
def zoo(tmp_path_factory) -> AlignmentData:
    """Two bundled encoders and an LLM on 36 samples, with controls and layers."""
    return _extract(
        ["tiny-clip", "tiny-dinov2"], ["tiny-llama"], controls=True, layers=True,
        store=tmp_path_factory.mktemp("features"), **SETTINGS,
    )  # fmt: skip


# -- what the answer says ------------------------------------------------------------------------


@pytest.mark.parametrize("n", [9, 30, 90])
def test_of_unrelated_features_the_answer_is_that_the_data_cannot_tell(n):
    aligned = gaussians(n)
    result = compare.analyse(aligned, epochs=2)
    assert result.answer.startswith("The data cannot tell which encoder fits")
    biased = result.rows[0].scores["cka_linear_biased"]
    assert biased.value == pytest.approx(biased.chance, abs=0.02)
    assert biased.value > 0.85


def test_of_one_related_encoder_the_answer_names_it_and_by_how_much():
    rng = np.random.default_rng(0)
    text, noise, unrelated = rng.standard_normal((3, 60, 20))
    aligned = made({"clip": text + 0.5 * noise, "dinov2": unrelated}, {"llama": text})
    rows, judged = pair_scores.rows_of(aligned), pair_scores.verdicts(aligned)
    answer = pair_scores.answer(rows, judged, 60).text
    score = rows[0].scores["cka_linear"]
    assert answer.startswith(f"clip aligns best with llama (debiased CKA {score.as_number()}")
    assert re.search(r"ahead of dinov2 by 0\.\d+ \[0\.\d+, 0\.\d+\]", answer)
    assert score.p == pytest.approx(0.001)


def test_encoders_that_are_alike_are_not_separated_and_it_says_how_many_samples_would():
    answer = pair_scores.answer(*_of(gaussians(60, d=20, shared=1.5)), 60).text
    assert "the data cannot separate" in answer
    assert re.search(r"about [\d,]+ samples would|no reasonable number", answer)


def test_encoders_that_only_tell_types_apart_are_found_out():
    rng = np.random.default_rng(0)
    labels = ["chart"] * 30 + ["table"] * 30
    apart = np.repeat([0.0, 4.0], 30)[:, None]
    features = {name: rng.standard_normal((60, 12)) + apart for name in ("clip", "llama")}
    aligned = made({"clip": features["clip"]}, {"llama": features["llama"]}, labels)
    said = pair_scores.answer(*_of(aligned), 60).text
    assert said.startswith("clip aligns with llama above chance")
    assert "Within single data types nothing of that is left" in said


def test_few_samples_of_a_type_do_not_show_that_nothing_is_left():
    rng = np.random.default_rng(1)
    labels = ["chart"] * 5 + ["table"] * 5
    apart = np.repeat([0.0, 4.0], 5)[:, None]
    text = rng.standard_normal((10, 12))
    clip = text + 2 * rng.standard_normal((10, 12))
    rows, judged = _of(made({"clip": clip + apart}, {"llama": text + apart}, labels))
    within = rows[0].scores["cka_within"]
    assert within.ci_low < 0 < 0.5 < within.ci_high
    said = pair_scores.answer(rows, judged, 10).text
    assert "too few samples to say" in said and "nothing of that" not in said


def test_intervals_of_encoders_hold_for_all_pairs_and_llms():
    rng = np.random.default_rng(0)
    vision = {name: rng.standard_normal((40, 8)) for name in ("a", "b", "c")}
    text = {name: rng.standard_normal((40, 8)) for name in ("x", "y")}
    levels = {one.comparison.level for one in pair_scores.verdicts(made(vision, text))}
    assert len(levels) == 1 and levels.pop() == pytest.approx(1 - 0.05 / (3 * 2))


def test_of_a_highest_at_chance_and_another_above_it_neither_is_hidden():
    def row(name, *numbers):
        score = Score(*numbers, 0.0, 50, "debiased", p=0.01)
        return pair_scores.PairScores(name, "t", {"cka_linear": score})

    rows = [row("a", 0.30, -0.05, 0.60), row("b", 0.25, 0.10, 0.39)]
    said = pair_scores.answer(rows, [], 50).text
    assert "a with t" in said and "is not above chance; above chance: b with t." in said
    record = {"rows": [one.to_json() for one in rows], "verdicts": []}
    words = report_page.words_of("en")
    assert report_page.answer_sentences(record, words) == [
        words["answer_unclear"].format(llms="t", encoder="a", others="b")
    ]


def test_a_control_that_does_as_well_is_said():
    like = gaussians(60, d=20, names=("clip", "control"), shared=1.5)
    control = like.vision.pop("control").pooled
    answer = str(pair_scores.answer(*_of(_untrained(like, "clip", control)), 60))
    assert "Read the controls first: clip is not ahead of untrained:clip with llama" in answer


def test_an_untrained_control_that_is_ahead_is_said():
    rng = np.random.default_rng(0)
    text = rng.standard_normal((80, 12))
    vision = {"clip": text + 2 * rng.standard_normal((80, 12))}
    aligned = _untrained(made(vision, {"llama": text}), "clip", text)
    said = pair_scores.answer(*_of(aligned), 80)
    assert "untrained:clip is ahead of clip with llama" in str(said)
    assert "untrained:clip is ahead of clip" in multi_llm.analyse(aligned).answers["llama"]


def test_an_untrained_encoder_above_another_trained_one_is_said():
    rng = np.random.default_rng(0)
    text = rng.standard_normal((80, 12))
    noise = rng.standard_normal((2, 80, 12))
    vision = {"clip": text, "dinov2": text + 3 * noise[0]}
    aligned = _untrained(made(vision, {"llama": text}), "clip", text + 0.5 * noise[1])
    said = str(pair_scores.answer(*_of(aligned), 80))
    assert "untrained:clip has a higher CKA with llama" in said and "than dinov2" in said


def test_the_headline_gives_the_value_of_each_type():
    rng = np.random.default_rng(0)
    text = rng.standard_normal((90, 8))
    labels = ["chart"] * 40 + ["table"] * 40 + ["document"] * 3 + ["math"] * 7
    aligned_in = np.repeat([1.0, 0.0, 0.0, 0.0], [40, 40, 3, 7])[:, None]
    vision = {"clip": aligned_in * text + (1 - aligned_in) * rng.standard_normal((90, 8))}
    aligned = made(vision, {"llama": text}, labels)
    rows, judged = _of(aligned)
    said = pair_scores.answer(rows, judged, 90).text
    for kind in ("chart", "table", "math"):
        score = rows[0].by_type[kind]["cka_linear"]
        chosen = np.flatnonzero(np.array(labels) == kind)
        alone = encoderlab.cka(vision["clip"][chosen], text[chosen])
        assert score.value == pytest.approx(alone.value, abs=1e-5)
        assert f"{score.as_number()} for {kind}" in said
    assert "(undefined for document: too few samples)" in said
    assert f"over all types together {rows[0].scores['cka_within'].as_number()}" in said


def test_constant_features_are_undefined_in_the_table_and_noted_at_the_top():
    rng = np.random.default_rng(0)
    aligned = made({"clip": np.full((40, 5), 0.3)}, {"llama": rng.standard_normal((40, 5))})
    result = compare.analyse(aligned, epochs=2)
    assert "undefined" in result.to_text()
    assert "the features are the same for every sample" in result.answer
    assert any("clip are the same for every sample" in one for one in result.warnings)
    coral.analyse(aligned), multi_llm.analyse(aligned), elas.analyse(aligned, epochs=2)


# -- the bundled models --------------------------------------------------------------------------


@pytest.mark.slow
def test_trained_encoders_are_ahead_of_controls_and_shuffled_pairs_are_at_chance(tmp_path):
    aligned = _extract(
        ["tiny-clip", "tiny-siglip", "tiny-dinov2"], ["tiny-llama", "tiny-qwen"],
        n_samples=60, data_root="synthetic", controls=True, store=tmp_path,
    )  # fmt: skip
    assert aligned.n == 300
    judged = pair_scores.verdicts(aligned)
    controls = [one for one in judged if one.comparison.b.startswith(("untrained:", "shuffled:"))]
    assert len(controls) == 2 * 3 * 2 * 3
    assert {one.comparison.verdict for one in controls if one.metric != "cka_within"} == {"ahead"}
    for row in pair_scores.rows_of(aligned, by_type=False):
        if row.encoder.startswith("shuffled:"):
            for name in ("cka_linear", "cka_rbf"):
                assert row.scores[name].value < 0.03
            assert row.scores["ridge_r2"].value < 0.03
            knn = row.scores["mutual_knn"]
            assert knn.ci_low < knn.chance < knn.ci_high


def test_gathered_samples_are_the_same_for_all_and_controls_are_marked(zoo):
    assert zoo.n == 36 and zoo.types == ("chart", "table", "document")
    assert list(zoo.vision) == [
        "tiny-clip", "tiny-dinov2", "untrained:tiny-clip", "untrained:tiny-dinov2",
        "shuffled:tiny-clip", "shuffled:tiny-dinov2",
    ]  # fmt: skip
    assert list(zoo.encoders) == ["tiny-clip", "tiny-dinov2"]
    assert all(one.pooled.shape[0] == 36 for one in [*zoo.vision.values(), *zoo.text.values()])
    own, shuffled = zoo.vision["tiny-clip"].pooled, zoo.vision["shuffled:tiny-clip"].pooled
    assert sorted(map(tuple, own)) == sorted(map(tuple, shuffled))
    assert not (own == shuffled).all(axis=1).any()
    assert zoo.vision["untrained:tiny-clip"].fingerprint.startswith("untrained-0-")


def test_an_image_counts_once_whatever_its_names_and_rows(world, tmp_path):
    source = [*read_samples(world / "captions.csv")][:14]
    lines, plain = ["image_path,caption,label"], ["image_path,caption,label"]
    for number, sample in enumerate(source):
        kind = "even" if number % 2 == 0 else "odd"
        content = Path(str(sample.image)).read_bytes()
        for copy, text in (("a", "a picture"), ("b", "of something"), ("c", "a picture")):
            (tmp_path / f"{number}{copy}.png").write_bytes(content)
            caption = f"{sample.texts[0]} {text}"
            lines.append(f'{number}{copy}.png,"{caption}",{kind}')
            plain.append(f'{number}a.png,"{caption}",{kind}')
    (tmp_path / "copies.csv").write_text("\n".join(lines), encoding="utf-8")
    (tmp_path / "plain.csv").write_text("\n".join(plain), encoding="utf-8")
    copies, once = (
        _extract(
            ["tiny-clip"], ["tiny-llama"], controls=True, data_root=tmp_path / name,
            store=tmp_path / "features", device="cpu", dtype="float32",
        )
        for name in ("copies.csv", "plain.csv")
    )  # fmt: skip
    assert (copies.n, copies.copies, once.n, once.copies) == (14, 28, 14, 0)
    assert copies.texts == once.texts and copies.labels == once.labels
    data = copies.facts()["data"]
    assert (data["samples"], data["images"], data["types"]) == (42, 14, {"even": 7, "odd": 7})
    assert any("42 samples of 14 images" in one.what for one in copies.findings)
    assert "42 samples of 14 images" in tables.notes(copies.facts())
    for results in (pair_scores.rows_of, pair_scores.verdicts):
        found, expected = ([one.to_json() for one in results(side)] for side in (copies, once))
        assert found == expected
    # A shuffled pairing never gives an image the text of a copy of itself.
    own, shuffled = (copies.vision[name].pooled for name in ("tiny-clip", "shuffled:tiny-clip"))
    assert not (own == shuffled).all(axis=1).any()


def test_features_are_those_of_the_encoder_and_the_llm(zoo):
    encoder = encoderlab.load_vision("tiny-dinov2", "cpu", "float32")
    llm = encoderlab.load_text("tiny-llama", "cpu", "float32")
    image = Image.open(zoo.images[0]).convert("RGB")
    seen = encoder.encode([image], layers=(2,))
    assert np.allclose(zoo.vision["tiny-dinov2"].pooled[0], seen.pooled[0], atol=1e-4)
    assert np.allclose(zoo.vision["tiny-dinov2"].layers[2][0], seen.layers[2][0].mean(0), atol=1e-4)
    said = llm.encode([zoo.texts[0]]).pooled[0]
    assert np.allclose(zoo.text["tiny-llama"].pooled[0], said, atol=1e-4)


def test_compare_has_every_metric_every_type_and_every_figure(zoo, tmp_path):
    result = compare.analyse(zoo, tmp_path, epochs=5)
    row = result.rows[0]
    for name in ("cka_linear", "cka_rbf_biased", "mutual_knn", "ridge_r2", "cka_within",
                 "linear_r2", "cross_attention_cosine", "mlp_norm_mse"):  # fmt: skip
        assert row.scores[name].value is not None, name
    assert set(row.by_type) == {"chart", "table", "document"}
    assert row.by_type["chart"]["mlp_r2"].n > 0
    assert "linear_r2" not in result.rows[-1].scores  # no projector is trained on shuffled pairs
    assert {one["file"] for one in result.figures} == {
        "compare_cka.png", "compare_metrics.png", "compare_projectors.png", "compare_by_type.png",
        "compare_verdicts.png",
    }  # fmt: skip
    with np.load(tmp_path / "compare_cka.npz") as arrays:
        assert arrays["cka_linear|tiny-llama"][0, 0] == row.scores["cka_linear"].value
    json.dumps(to_plain(result), allow_nan=False)


def test_projectors_are_judged_on_images_that_they_have_not_seen(zoo):
    trained = pair_scores.projectors(zoo, [("tiny-clip", "tiny-llama")], ("linear",), 5)
    one = trained["tiny-clip", "tiny-llama", "linear", 0]
    assert not set(one.train_rows) & set(one.held_out_rows)
    scores, by_type = pair_scores.projector_scores(zoo, "tiny-clip", "tiny-llama", [one], "linear")
    y = pair_scores.unit(zoo.text["tiny-llama"].pooled)
    target, mean = y[one.held_out_rows], y[one.train_rows].mean(axis=0)
    assert scores["linear_mse"].value == pytest.approx(one.held_out_mse, rel=1e-5)
    assert scores["linear_mse"].chance == pytest.approx(np.square(target - mean).mean(), rel=1e-5)
    assert scores["linear_r2"].value == pytest.approx(
        1 - one.held_out_mse / np.square(target - mean).mean(), rel=1e-4
    )
    assert sum(found["linear_mse"].n for found in by_type.values()) == len(one.held_out_rows)


def test_coral_says_what_it_does_not_look_at(zoo, tmp_path):
    result = coral.analyse(zoo, tmp_path, svg=True)
    found = {(one.encoder, one.llm): one for one in result.whole.cross_modal}
    own, shuffled = (found[n, "tiny-llama"] for n in ("tiny-clip", "shuffled:tiny-clip"))
    assert own.coral.distance == pytest.approx(shuffled.coral.distance)
    assert own.cka.value > shuffled.cka.value + 0.2
    assert any("shuffling the captions changes nothing" in one for one in result.warnings)
    names = {"coral_comparison", "cka_vs_coral", "covariance_heatmaps", "eigenvalue_spectrum",
             "intra_modal_similarity", "eas_dashboard", "coral_dashboard"}  # fmt: skip
    assert {Path(one["file"]).stem for one in result.figures} == names
    assert all((tmp_path / f"{name}.svg").is_file() for name in names)
    assert set(result.by_type) == {"chart", "table", "document"}
    ranks = [one.calibrated for one in result.whole.eas]
    assert ranks == sorted(ranks, reverse=True)
    rows = result.blocks()[1].rows
    assert [row[:2] for row in rows] == [(one.encoder, one.llm) for one in result.whole.eas]
    assert [float(row[2]) for row in rows] == pytest.approx(ranks, abs=5e-4)


def test_elas_of_an_untrained_encoder_is_lower_and_ranks_by_the_calibrated(zoo, tmp_path):
    result = elas.analyse(zoo, tmp_path, epochs=300)
    found = {row.encoder: row for row in result.rows}
    assert "shuffled:tiny-clip" not in found
    trained, untrained = found["tiny-dinov2"], found["untrained:tiny-dinov2"]
    assert trained.calibrated.ci_low > untrained.calibrated.value
    for row in found.values():
        weights = {"cka": 0.3, "mse": 0.3, "gap": 0.2, "cosine": 0.2}
        assert row.published.value == pytest.approx(
            sum(w * row.parts[part]["published"] for part, w in weights.items())
        )
        assert row.calibrated.ci_low < row.calibrated.value < row.calibrated.ci_high
        assert row.calibrated.value == pytest.approx(
            sum(w * row.parts[part]["calibrated"] for part, w in weights.items())
        )


def test_elas_of_few_unrelated_samples_is_bounded_and_says_that_it_overfits(tmp_path):
    aligned = gaussians(24, d=192, names=("clip",))
    result = elas.analyse(aligned, tmp_path, epochs=100)
    (row,) = result.rows
    assert row.held_out_r2 < 0
    # No other part varies over the splits: what is left is the interval of CKA.
    cka = pair_scores.rows_of(aligned)[0].scores["cka_linear"]
    for end in ("ci_low", "ci_high"):
        width = getattr(row.calibrated, end) - row.calibrated.value
        assert width == pytest.approx(0.3 * (getattr(cka, end) - cka.value), abs=0.02)
    assert all(0 <= row.parts[part]["calibrated"] <= 1 for part in ("mse", "gap", "cosine"))
    assert row.parts["mse"]["calibrated"] == 0
    assert -0.3 <= row.calibrated.ci_low <= row.calibrated.value <= row.calibrated.ci_high <= 1
    assert row.calibrated.value == pytest.approx(0.3 * row.parts["cka"]["calibrated"], abs=0.05)
    assert any(f"R² {row.held_out_r2:.2f}" in one for one in result.warnings)
    assert f"R² {row.held_out_r2:.2f}" in result.to_text()


def test_projectors_that_were_stopped_too_early_are_said():
    aligned = gaussians(60, d=16, names=("clip",), shared=2.0)
    for job in (elas, e2e, compare):
        early = job.analyse(dataclasses.replace(aligned, cache={}), epochs=1)
        said = [one for one in early.warnings if "had not converged after 1 epochs" in one]
        assert len(said) == 1 and said[0] in early.to_text()
    late = elas.analyse(dataclasses.replace(aligned, cache={}), epochs=1500)
    assert not any("converged" in one for one in late.warnings)


def test_layers_find_a_layer_that_was_hidden(tmp_path):
    rng = np.random.default_rng(0)
    text = rng.standard_normal((60, 10))
    aligned = made({"clip": text}, {"llama": text})
    noise = {k: rng.standard_normal((60, 12)).astype(np.float32) for k in range(5)}
    noise[2] = (text + 0.3 * rng.standard_normal(text.shape)).astype(np.float32)
    llm = {0: rng.standard_normal((60, 10)).astype(np.float32), 1: text.astype(np.float32)}
    aligned.vision["clip"] = dataclasses.replace(aligned.vision["clip"], layers=noise)
    aligned.text["llama"] = dataclasses.replace(aligned.text["llama"], layers=llm)
    result = layers.analyse(aligned, tmp_path)
    one = result.pairs[0]
    assert (one.best["vision"], one.best["text"]) == (2, 1)
    assert one.best["p"] == pytest.approx(0.001)
    assert one.choice.verdict == "ahead" and one.choice.a == "layer 2"
    rest = np.delete(one.p.ravel(), 2 * 2 + 1)
    assert rest.min() > 0.001
    assert result.figures[0]["file"] == "layers.png"


def test_best_of_unrelated_layers_is_no_evidence():
    rng = np.random.default_rng(3)
    aligned = made({"clip": np.eye(50)}, {"llama": np.eye(50)})
    for side, name in ((aligned.vision, "clip"), (aligned.text, "llama")):
        noise = {k: rng.standard_normal((50, 8)).astype(np.float32) for k in range(6)}
        side[name] = dataclasses.replace(side[name], layers=noise)
    assert layers.analyse(aligned).pairs[0].best["p"] > 0.05


def test_an_encoder_without_layers_is_left_out_of_their_comparison(vision_folder, tmp_path):
    cnn = str(vision_folder("convnext"))
    aligned = _extract(
        [cnn, "tiny-dinov2"], ["tiny-llama"], layers=True, store=tmp_path, **SETTINGS
    )
    assert list(aligned.vision[cnn].layers) == []
    result = layers.analyse(aligned)
    assert [pair.encoder for pair in result.pairs] == ["tiny-dinov2"]
    assert result.warnings[-1] == f"layers: {cnn} gives none, and is left out"
    aligned.vision.pop("tiny-dinov2")
    with pytest.raises(UsageError, match="no encoder gives its layers"):
        layers.analyse(aligned)


def test_e2e_retrieves_through_projectors_and_says_when_encoders_are_too_few(zoo, tmp_path):
    result = e2e.analyse(zoo, tmp_path, epochs=60)
    places = {(p.encoder, p.layer) for p in result.points}
    assert ("tiny-clip", "pooled") in places and ("tiny-clip", "layer 4") in places
    assert not any(p.encoder.startswith("shuffled:") for p in result.points)
    pooled = next(p for p in result.points if p.encoder == "tiny-clip" and p.layer == "pooled")
    assert pooled.outcome > 2 * pooled.retrieval.image_to_text.mrr.chance
    verdict = result.benchmarks[e2e.RETRIEVAL]["cka_linear"]
    # Untrained encoders are shown, and no claim rests on them.
    trained = [p for p in result.points if not p.encoder.startswith("untrained:")]
    assert verdict.n == len(trained) < len(result.points) and verdict.families == 2
    assert verdict.undefined == "too few encoders to say: 2, and 6 are needed"
    assert "2 trained encoders" in result.to_text()
    assert not any(one.predicts for one in result.benchmarks[e2e.RETRIEVAL].values())


def _planted(names, quality, control=()):
    """Points of encoders whose metrics are: the truth, noise and noise."""
    rng = np.random.default_rng(0)
    return [
        e2e.Point(name, llm, f"layer {k}", {"cka_linear": q + 0.01 * k, "ridge_r2": noise[0],
                  "mutual_knn": noise[1]}, q, control_of=name if name in control else None, depth=k)
        for name, q, noise in zip(names, quality, rng.standard_normal((len(names), 2)), strict=True)
        for llm in ("a", "b") for k in range(3)
    ]  # fmt: skip


def test_e2e_claims_over_trained_encoders_corrected_for_all_metrics(monkeypatch, zoo):
    names, quality = [f"encoder{i}" for i in range(7)], np.linspace(0, 1, 7)
    controls = ["untrained:encoder0", "untrained:encoder1"]
    points = _planted([*names, *controls], [*quality, -9, -9], control=controls)
    monkeypatch.setattr(e2e, "_retrieved", lambda aligned, epochs, layers: (points, ()))
    result = e2e.analyse(zoo, epochs=300)
    found = result.benchmarks[e2e.RETRIEVAL]
    assert {one.tests for one in found.values()} == {3}
    assert {(one.families, one.n) for one in found.values()} == {(7, 42)}
    truth = found["cka_linear"]
    assert truth.predicts and truth.p_corrected == pytest.approx(3 * truth.pearson_p)
    assert not found["ridge_r2"].predicts and not found["mutual_knn"].predicts
    table = result.blocks()[-1]
    assert [row[1] for row in table.rows] == [f"{one.pearson:+.2f}" for one in found.values()]
    assert "p, 3 tests" in table.columns


def test_several_benchmarks_are_corrected_together(zoo, monkeypatch):
    names = [f"encoder{i}" for i in range(6)]
    scores = {b: {(name, "a"): float(i) for i, name in enumerate(names)} for b in ("VQA", "OCR")}
    monkeypatch.setattr(e2e, "metrics_on", lambda aligned, encoder, llm, rows: {
        "cka_linear": float(encoder[-1]), "mutual_knn": float(int(encoder[-1]) % 2)})  # fmt: skip
    aligned = dataclasses.replace(zoo, vision=dict.fromkeys(names, next(iter(zoo.vision.values()))))
    result = e2e.analyse(aligned, epochs=300, scores=scores)
    assert {one.tests for found in result.benchmarks.values() for one in found.values()} == {4}


def test_undefined_metric_does_not_hide_the_others(zoo, monkeypatch):
    points = _planted([f"encoder{i}" for i in range(6)], np.linspace(0, 1, 6))
    for point in points:
        point.metrics["eas"] = None
    monkeypatch.setattr(e2e, "_retrieved", lambda aligned, epochs, layers: (points, ()))
    found = e2e.analyse(zoo, epochs=300).benchmarks[e2e.RETRIEVAL]
    assert found["eas"].undefined and found["cka_linear"].undefined is None
    assert found["cka_linear"].tests == 3


def test_e2e_against_scores_of_ones_own(zoo, tmp_path):
    table = tmp_path / "scores.csv"
    lines = ["encoder,llm,benchmark,score", "tiny-clip,tiny-llama,VQA,61.2",
             "tiny-dinov2,tiny-llama,VQA,48.9", "other,tiny-llama,VQA,50"]  # fmt: skip
    table.write_text("\n".join(lines), encoding="utf-8")
    scores = e2e.read_scores(str(table), ["tiny-clip", "tiny-dinov2"], ["tiny-llama"])
    assert scores == {
        "VQA": {("tiny-clip", "tiny-llama"): 61.2, ("tiny-dinov2", "tiny-llama"): 48.9}
    }
    result = e2e.analyse(zoo, tmp_path / "out", epochs=300, scores=scores)
    found = result.benchmarks["VQA"]["ridge_r2"]
    assert found.undefined == "too few encoders to say: 2, and 6 are needed"
    assert (tmp_path / "out/e2e_VQA.png").is_file()


HEAD = "encoder,llm,benchmark,score"
PAIR = "tiny-clip,tiny-llama,VQA"


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["encoder,llm,score", "a,b,1"], "no column benchmark"),
        ([HEAD, f"{PAIR},good"], "line 2 of .* no number"),
        ([HEAD, f"{PAIR},nan"], "line 2 of"),
        ([HEAD, f"{PAIR},inf"], "line 2 of"),
        ([HEAD, "clip,llama,VQA,1"], "no row for the encoders and LLMs of this run"),
        ([HEAD, f"{PAIR},1", f"{PAIR},2"], "line 3 of .* second score .* got '2 after 1'"),
    ],
)
def test_scores_that_cannot_be_used_are_refused(lines, message, tmp_path):
    table = tmp_path / "scores.csv"
    table.write_text("\n".join(lines))
    with pytest.raises(UsageError, match=message):
        e2e.read_scores(str(table), ["tiny-clip"], ["tiny-llama"])


def test_scores_of_no_file_are_missing():
    with pytest.raises(MissingError):
        e2e.read_scores("none.csv", ["tiny-clip"], ["tiny-llama"])


@pytest.mark.parametrize("method", ["tsne", "pca", pytest.param("umap", marks=pytest.mark.slow)])
def test_maps_have_a_place_for_every_sample_and_a_page_to_hover_over(zoo, tmp_path, method):
    result = embedding.analyse(zoo, tmp_path, method=method)
    assert result.places["tiny-clip"].shape == (36, 2)
    assert "shuffled:tiny-clip" not in result.places
    page = (tmp_path / "embedding.html").read_text(encoding="utf-8")
    assert page.count("</script>") == 1 and "src=" not in page.split("<script>")[0]
    data = json.loads(re.search(r"const data = (.*);\n", page)[1].replace("<\\/", "</"))
    assert len(data["images"]) == len(data["texts"]) == 36
    assert set(data["spaces"]) == set(result.places)


def test_embedding_atlas_reads_the_maps_from_one_file(zoo, tmp_path):
    result = embedding.analyse(zoo, tmp_path, method="pca")
    table = pq.read_table(tmp_path / "embedding.parquet")
    assert table.column("id").to_pylist() == list(zoo.ids)
    assert table.column("caption").to_pylist() == list(zoo.texts)
    assert table.column("label").to_pylist() == list(zoo.labels)
    thumbnails = [Image.open(io.BytesIO(row["bytes"])) for row in table.column("image").to_pylist()]
    for small, original in zip(thumbnails, zoo.images, strict=True):
        expected = open_image(original).convert("RGB")
        expected.thumbnail((112, 112))
        assert small.format == "JPEG" and small.size == expected.size
        assert np.abs(np.subtract(small, expected, dtype=float)).mean() < 12
    for name, xy in result.places.items():
        own = [table.column(f"{axis}_{name}").to_numpy() for axis in "xy"]
        assert np.allclose(np.transpose(own), xy, atol=1e-6)
        features = {**zoo.vision, **zoo.text}[name].pooled.astype(float)
        unit = features / np.linalg.norm(features, axis=1, keepdims=True)
        assert np.allclose(table.column(f"vector_{name}").to_pylist(), unit, atol=1e-6)
        for row, found in enumerate(table.column(f"neighbors_{name}").to_pylist()):
            distance = {i: 1 - float(unit[row] @ unit[i]) for i in range(len(unit)) if i != row}
            nearest = sorted(distance.values())[:15]
            assert len(set(found["ids"])) == 15 and row not in found["ids"]
            assert np.allclose(found["distances"], nearest, atol=1e-5)
            assert np.allclose([distance[i] for i in found["ids"]], nearest, atol=1e-5)
    words = shlex.split(result.explorer)
    assert words[:2] == ["embedding-atlas", str(tmp_path / "embedding.parquet")]
    assert set(words[3::2]) <= set(table.column_names)


def test_pca_map_is_scikit_learns(zoo):
    from sklearn.decomposition import PCA

    found = embedding.analyse(zoo, method="pca")
    expected = PCA(2).fit_transform(pair_scores.unit(zoo.vision["tiny-clip"].pooled))
    assert np.allclose(np.abs(found.places["tiny-clip"]), np.abs(expected), atol=1e-4)
    assert 0 < found.variance_shown["tiny-clip"] < 1


def test_umap_that_is_not_installed_is_said_before_any_work(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingError, match=r'pip install "encoderlab\[umap\]"'):
        embedding.run(encoders=["no such model"], method="umap")


# -- the data ------------------------------------------------------------------------------------


def test_an_encoder_listed_twice_and_too_few_readable_images_are_refused(tmp_path):
    with pytest.raises(UsageError, match="an encoder is listed twice: got 'tiny-clip'"):
        _extract(["tiny-clip", "tiny-clip"], ["tiny-llama"])
    with pytest.raises(UsageError, match="an LLM is listed twice"):
        _extract(["tiny-clip"], ["tiny-llama", "tiny-llama"])
    with pytest.raises(UsageError, match="no LLM was named"):
        _extract(["tiny-clip"], [])
    for name in ("tiny-clip", "untrained:tiny-clip"):
        with pytest.raises(UsageError, match=f"an encoder and of an LLM: got '{name}'"):
            _extract(["tiny-clip"], ["tiny-llama", name])
    (tmp_path / "a.png").write_bytes(b"no image")
    Image.new("RGB", (8, 8)).save(tmp_path / "b.png")
    (tmp_path / "pairs.csv").write_text("image_path,caption\na.png,x\nb.png,y\n")
    with pytest.raises(UsageError, match="too few readable samples"):
        _extract(["tiny-clip"], ["tiny-llama"], data_root=tmp_path / "pairs.csv",
               store=tmp_path / "f", **SETTINGS)  # fmt: skip


def test_a_broken_image_is_left_out_of_every_encoder_and_listed(tmp_path):
    lines = ["image_path,caption"]
    for i in range(6):
        Image.new("RGB", (16, 16), (40 * i, 0, 0)).save(tmp_path / f"{i}.png")
        lines += [f"{i}.png,picture number {i}", f"{i}.png,빨간 그림 {i}"]
    (tmp_path / "3.png").write_bytes(b"broken")
    (tmp_path / "pairs.csv").write_text("\n".join(lines), encoding="utf-8")
    found = _extract(["tiny-clip", "tiny-siglip"], ["tiny-llama"], store=tmp_path / "f",
                     data_root=tmp_path / "pairs.csv", **SETTINGS)  # fmt: skip
    assert found.n == 5 and len(found.skipped) == 1
    assert found.texts[0] == "picture number 0 빨간 그림 0"
    assert all(len(one.pooled) == 5 for one in found.vision.values())
    assert "1 image " in " ".join(found.warnings())


# -- real data -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def real_root(real_data, tmp_path_factory) -> Path:
    """Real charts, tables and mathematics in the layout of typed chat sets."""
    from encoderlab.data.vlm_dataset import TYPED_SETS

    root = tmp_path_factory.mktemp("typed")
    for name, source in (("chart", "vega-charts"), ("table", "wikitables-mini"),
                         ("math", "math-ko-en")):  # fmt: skip
        labels, images = (root / part for part in dataclasses.astuple(TYPED_SETS[name]))
        for path in (labels, images):
            path.parent.mkdir(parents=True, exist_ok=True)
        labels.write_bytes((real_data / source / "qa.jsonl").read_bytes())
        images.symlink_to(real_data / source)
    return root


def test_real_charts_tables_and_mathematics_by_type(real_root, tmp_path):
    aligned = _extract(["tiny-clip", "tiny-siglip"], ["tiny-llama"], n_samples=25,
                     data_root=real_root, store=tmp_path, controls=True, device="cpu")  # fmt: skip
    assert aligned.types == ("chart", "table", "math") and aligned.n == 75
    found = compare.analyse(aligned, tmp_path, epochs=20)
    shuffled = next(r for r in found.rows if r.encoder == "shuffled:tiny-clip")
    own = found.rows[0]
    assert own.scores["cka_linear"].ci_low > 0.2
    assert not shuffled.scores["cka_linear"].above_chance
    assert own.scores["cka_within"].value < own.scores["cka_linear"].value
    assert set(coral.analyse(aligned, tmp_path).by_type) == {"chart", "table", "math"}
    assert e2e.analyse(aligned, tmp_path, epochs=20).points


# -- the report ----------------------------------------------------------------------------------


@pytest.mark.slow
def test_report_is_one_file_that_needs_no_network_and_opens_with_the_answer(tmp_path, capsys):
    words = "all --encoders tiny-clip tiny-dinov2 --llms tiny-llama --n-samples 8 --epochs 3 "
    words += f"--method pca --batch-sizes 1 --device cpu --features-dir {tmp_path}/f"
    assert main([*words.split(), "--output-dir", str(tmp_path)]) == 0
    result = json.loads((tmp_path / "run.json").read_text(encoding="utf-8"))["result"]
    printed = capsys.readouterr().out
    assert result["answer"] in printed and f"report: {tmp_path}/report.html" in printed
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert not re.search(r"""(src|href)=["']?(https?:)?//""", page)
    assert set(re.findall(r'<img src="([^:]*):', page)) == {"data"}
    words = report_page.words_of("en")
    answer = " ".join(report_page.answer_sentences(result["sections"]["compare"], words))
    body = page[page.index("<h1>") :]
    assert body.index(answer) < body.index('id="matrix"') < 800
    for title in ("What limits it", "Within each data type", "Every two encoders", "Which layers",
                  "Method", "This run", "untrained:tiny-clip", "shuffled:tiny-dinov2"):  # fmt: skip
        assert title in page
    assert page.count("<figure>") >= 15
    assert set(result["sections"]) == {"compare", "multi-llm", "coral", "elas", "e2e", "layers",
                                       "embedding", "attention", "speed"}  # fmt: skip
    drawn = {figure["file"] for figure in result["sections"]["coral"]["figures"]}
    assert "eas_dashboard.png" in drawn and "coral_dashboard.png" not in drawn


@pytest.mark.slow
def test_paper_figures_of_a_run_draw_what_the_run_drew(zoo, tmp_path):
    for name, job in (("coral", coral), ("layers", layers), ("multi-llm", multi_llm)):
        folder = tmp_path / name
        result = job.analyse(zoo, folder)
        _keep(folder, name, result.to_json())
        again = figures.run(run=str(folder))
        assert again.figures == result.figures
        for png in (Path(figure["file"]) for figure in result.figures):
            assert (folder / "figures" / png.with_suffix(".pdf")).is_file()
        for arrays in folder.glob("*.npz"):
            old, new = np.load(arrays), np.load(folder / "figures" / arrays.name)
            assert old.files == new.files
            for key in old.files:
                np.testing.assert_array_equal(old[key], new[key])


def test_figures_of_a_command_that_draws_from_images_are_refused(tmp_path):
    _keep(tmp_path, "tokens", {})
    with pytest.raises(UsageError, match="cannot be drawn from its record: got 'tokens'"):
        figures.run(run=str(tmp_path))
    with pytest.raises(MissingError, match="no such folder"):
        figures.run(run=str(tmp_path / "none"))


def _keep(folder, command, result):
    about = {"seconds": 1, "started": datetime.now(UTC)}
    run_folder.write(folder, run_folder.record(command, (), {}, result, **about))


def test_every_text_of_the_report_is_there_in_korean():
    english, korean = (report_page.words_of(language) for language in ("en", "ko"))
    assert set(english) == set(korean) - {"captions"}
    fields = {key: re.findall(r"{(\w+)}", str(text)) for key, text in english.items()}
    for key in set(english) - {"metrics"}:
        assert set(re.findall(r"{(\w+)}", str(korean[key]))) == set(fields[key]), key
    assert set(korean["metrics"]) == set(METRICS)
    for name in METRICS:
        if not name.endswith(("_mse", "_cosine")):
            assert len(korean["metrics"][name]) == 3
            assert korean["metrics"][name] != english["metrics"][name]


def _record(cka, verdicts, within=0.5):
    """The record of a comparison: encoder -> its CKA with "t", and (a, b) -> the verdict."""

    def score(value, chance=0.0):
        ends = {"ci_low": value - 0.05, "ci_high": value + 0.05}
        return {"value": value, **ends, "chance": chance, "n": 50, "estimator": "debiased"}

    def row(name, value):
        scores = {"cka_linear": score(value), "cka_within": score(within),
                  "ridge_recall1": score(value / 2, 0.1)}  # fmt: skip
        of = name.partition(":")[2] or None
        by_type = {"chart": {"cka_linear": score(0.6)}, "table": {"cka_linear": score(0.2)}}
        return {"encoder": name, "llm": "t", "scores": scores, "by_type": by_type, "control_of": of}

    return {
        "rows": [row(name, value) for name, value in cka.items()],
        "verdicts": [
            {"metric": "cka_linear", "llm": "t", "a": a, "b": b, "verdict": verdict,
             "difference": 0.1, "ci_low": 0.0, "ci_high": 0.2, "samples_needed": 321}
            for (a, b), verdict in verdicts.items()
        ],
    }  # fmt: skip


CKA = {"a": 0.3, "b": 0.7, "c": 0.5, "untrained:a": 0.1, "untrained:b": 0.2, "shuffled:a": 0.02}


def test_report_marks_an_encoder_only_where_the_verdicts_put_it_ahead_of_all():
    words = report_page.words_of("en")
    ahead = _record(CKA, {("a", "b"): "behind", ("b", "c"): "ahead"})
    grid = report_page.headline_grid(ahead, words)
    assert grid.ahead == {("b", 0)} and grid.columns == ("t",)
    assert [(name, scores[0]["value"]) for name, scores in grid.lines] == [
        ("a", 0.3), ("b", 0.7), ("c", 0.5)
    ]  # fmt: skip
    assert [ranges for _, ranges in grid.controls] == [((0.1, 0.2),), ((0.02, 0.02),)]
    assert report_page.answer_sentences(ahead, words) == [
        words["answer_ahead"].format(llms="t", encoder="b")
    ]
    level = _record(CKA, {("a", "b"): "behind", ("b", "c"): "cannot distinguish"})
    assert report_page.headline_grid(level, words).ahead == set()
    needed = words["answer_needed"].format(n=321)
    assert report_page.answer_sentences(level, words) == [
        words["answer_level"].format(llms="t", encoder="b", others="c", needed=needed)
    ]
    # Not compared with "a" at all: nothing says that it is ahead.
    assert report_page.headline_grid(_record(CKA, {("b", "c"): "ahead"}), words).ahead == set()


@pytest.mark.parametrize(
    ("to_a", "to_c", "key", "names"),
    [
        ("ahead", "ahead", "ridge_ahead", {}),
        ("behind", "behind", "ridge_behind", {"others": "a and c"}),
        ("cannot distinguish", "ahead", "ridge_level", {"others": "a"}),
        ("cannot distinguish", "behind", "ridge_behind_some", {"others": "c", "level": "a"}),
    ],
)
def test_report_has_one_sentence_about_the_linear_map(to_a, to_c, key, names):
    words = report_page.words_of("en")
    record = _record({"a": 0.3, "b": 0.7, "c": 0.5}, {("b", "a"): to_a, ("b", "c"): to_c})
    verdicts = [one | {"metric": "ridge_r2"} for one in record["verdicts"]]
    sentences = report_page.answer_sentences(record | {"verdicts": verdicts}, words)
    expected = words[key].format(encoder="b", llm="t", **names)
    assert [one for one in sentences if "held-out R²" in one] == [expected]


def test_report_says_nothing_is_ahead_where_nothing_is_above_chance():
    words = report_page.words_of("en")
    low = _record({"a": 0.01, "b": 0.03}, {("b", "a"): "ahead"})
    assert report_page.answer_sentences(low, words) == [
        words["answer_none"].format(llms="t", encoder="b")
    ]


@pytest.mark.parametrize(
    ("within", "key"),
    [(0.2, "reading_types"), (0.6, "reading_within"), (0.32, "reading_within")],
)
def test_report_says_how_much_of_cka_is_telling_types_apart(within, key):
    words = {name: f"{name} {{within}}" for name in ("reading_types", "reading_within")}
    words = {**report_page.words_of("en"), **words}
    sentences = report_page.reading_sentences(_record(CKA, {}, within), words)
    low, high = within - 0.05, within + 0.05
    assert f"{key} {within:.2f} [{low:.2f}, {high:.2f}]" in sentences
    assert "35 %" in sentences[-1] and "25 %" in sentences[-1] and "10 %" in sentences[-1]


def test_report_counts_images_and_no_copies():
    data = {"samples": 120, "images": 60, "types": {"chart": 30, "table": 30}, "source": "x.csv"}
    compared = _record(CKA, {})
    result = {"data": data, "sections": {"compare": compared}, "preflight": [], "skipped": [],
              "not_done": {}}  # fmt: skip
    first = report_page._limits(result, report_page.words_of("en"))[0]
    assert first.startswith("60 samples (30 chart, 30 table)") and "fewer than 100" in first


def test_report_is_made_of_the_record_alone(tmp_path, zoo):
    from encoderlab.alignment.all import AllResult

    sections = {"compare": compare.analyse(zoo, tmp_path, epochs=2)}
    result = AllResult("Odd <b>names</b> are text.", sections, zoo.facts(), {"speed": "no time"})
    typed = ("encoderlab", "all", "--data-root", "my data")
    run = run_folder.record("all", typed, {"seed": 0}, result.to_json(), seconds=1,
                            started=datetime.now(UTC))  # fmt: skip
    page = report_page.page(tmp_path, run)
    assert "<code>encoderlab all --data-root &#39;my data&#39;</code>" in page
    assert "Odd &lt;b&gt;names&lt;/b&gt; are text." in page
    assert "speed was not done: no time" in page
    words = report_page.words_of("en")
    marked = bool(report_page.headline_grid(sections["compare"].to_json(), words).ahead)
    assert (words["matrix_ahead"] in page) == marked
    korean = report_page.page(tmp_path, dataclasses.replace(run, settings={"language": "ko"}))
    assert '<html lang="ko">' in korean and report_page.words_of("ko")["limits"] in korean
    assert report_page.words_of("en")["limits"] not in korean
