"""`validate`: the published tables, what is known of them, and metrics against them."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import spearmanr

import encoderlab
from encoderlab.alignment import validate
from encoderlab.alignment.metric_values import MetricValues, metric_values
from encoderlab.alignment.settings import Validate
from encoderlab.data.reference_scores import (
    CLASSES,
    ScoredEncoder,
    ScoreTable,
    bundled_tables,
    read_table,
)
from encoderlab.errors import MissingError, UsageError
from encoderlab.feature_store.store import TableKey
from encoderlab.metrics.prediction import Answer

FROZEN = "1.2M-frozen"
QUICK = {"llms": ["tiny-llama"], "n_samples": 4, "device": "cpu", "dtype": "float32"}
NAMES = ("tiny-clip", "tiny-siglip", "tiny-dinov2")


# -- the bundled tables ----------------------------------------------------------------------------


def test_tables_are_whole():
    assert set(bundled_tables()) == {"cambrian1", "law-of-vision"}
    cambrian, law = (read_table(name) for name in bundled_tables())
    assert [len(cambrian.averages[s]) for s in cambrian.scores] == [18, 17, 13]
    assert [len(own) for own in law.scores["all"].values()] == [13] * 8
    for table in (cambrian, law):
        benchmarks = [name for group in table.groups.values() for name in group]
        rows = {row for of in table.scores.values() for own in of.values() for row in own}
        assert rows == set(table.encoders)
        assert {row.kind for row in table.encoders.values()} == set(CLASSES)
        assert all(sorted(of) == sorted(benchmarks) for of in table.scores.values())
    # The resolution stands in the name of every encoder of Cambrian-1.
    assert all(int(n.rpartition("@")[2]) == r.resolution for n, r in cambrian.encoders.items())
    # A transcription error in a cell would show in the printed average (MME counts from 0 to 2000).
    for setting, scores in cambrian.scores.items():
        for name, average in cambrian.averages[setting].items():
            own = [of[name] / (20 if b == "mme_p" else 1) for b, of in scores.items()]
            assert np.mean(own) == pytest.approx(average, abs=0.081)


def test_what_is_known_of_cambrian_before_any_metric():
    """All over the rows of 1.2M-frozen: one bit over its 18 encoders, the rest within its nine
    language-supervised ones."""
    result = encoderlab.validate()
    assert (len(result.encoders), len(result.members), result.setting) == (18, 9, FROZEN)
    targets = {target.name: target for target in result.targets}
    average = targets["average"]
    assert average.one_bit == pytest.approx(0.8676, abs=5e-5)
    ceilings = {c.setting: (round(c.within.rho, 2), c.within.n) for c in average.ceilings}
    assert ceilings == {"0.5M-frozen": (0.65, 9), "1.2M-unfrozen": (0.71, 6)}
    resolution = {name: round(target.resolution.rho, 2) for name, target in targets.items()}
    expected = {"textvqa": 0.91, "chartqa": 0.78, "docvqa": 0.78, "gqa": 0.06, "mmb": -0.23}
    assert {name: resolution[name] for name in expected} == expected
    assert not result.predictions and "No metric was given" in result.answer


def test_a_group_is_the_mean_of_standardised_benchmarks():
    table = read_table("cambrian1")
    group = validate.targets_of(table, FROZEN)["general"]
    z = []
    for name in ("mme_p", "mmb", "seed_i", "gqa"):
        own = np.array([table.scores[FROZEN][name][row] for row in group])
        z.append((own - own.mean()) / own.std())
    assert list(group.values()) == pytest.approx(np.mean(z, axis=0))


def test_a_checkpoint_of_another_resolution_than_the_row_is_named():
    table, row = read_table("cambrian1"), "DINOv2 ViT-L/14@336"
    measured = MetricValues({"eas": {row: 0.5}}, {row: "facebook/dinov2-large"})
    (remark,) = validate.analyse(table, measured, setting=FROZEN).remarks
    assert row in remark and "224" in remark.removeprefix(row)


def test_the_correspondence_score_is_a_metric_of_its_own_table():
    (row,) = (
        p for p in encoderlab.validate(scores="law-of-vision").predictions if p.target == "average"
    )
    table = read_table("law-of-vision")
    own = validate.targets_of(table, "all")["average"]
    lang = [name for name, row in table.encoders.items() if row.kind == "lang"]
    expected = spearmanr([table.metrics["corres"][n] for n in lang], [own[n] for n in lang])[0]
    assert (row.within.n, row.within.rho) == (6, pytest.approx(expected))
    assert row.answer is Answer.NO_EVIDENCE


@pytest.mark.parametrize(
    "name",
    [
        "OpenAI CLIP ViT-L/14@336",
        "clip-vit-large-patch14-336",
        "openai/clip-vit-large-patch14-336",
        "openai/clip-vit-large-patch14-336@main",
        "/models/openai/clip-vit-large-patch14-336",
    ],
)
def test_a_row_is_known_by_its_name_an_alias_a_hub_id_and_a_folder(name):
    table = read_table("cambrian1")
    assert table.row_of(name) == "OpenAI CLIP ViT-L/14@336"
    assert table.row_of("tiny-clip") is None


# -- planted tables --------------------------------------------------------------------------------


def planted(n: int = 14, others: int = 6, setting: str = "all") -> tuple[ScoreTable, MetricValues]:
    """Scores of `n` language-supervised encoders and others far below them, and metrics: the truth
    with a little noise, its opposite, one bit, noise, and the resolution."""
    rng = np.random.default_rng(0)
    names = [f"encoder{i}" for i in range(n + others)]
    truth = dict(zip(names, rng.permutation(n + others) / 10, strict=True))
    lang = names[:n]
    encoders = {
        name: ScoredEncoder(name, "lang" if name in lang else "ssl", int(rng.choice([224, 336])))
        for name in names
    }
    shift = {name: truth[name] + (10 if name in lang else 0) for name in names}
    scores = {"VQA": shift, "OCR": {n: x + rng.normal(0, 0.02) for n, x in shift.items()}}
    noisy = {name: x + rng.normal(0, 0.03) for name, x in shift.items()}
    values = {
        "noisy": noisy,
        "opposite": {name: -x for name, x in noisy.items()},
        "one bit": {name: float(name in lang) for name in names},
        "noise": {name: float(rng.normal()) for name in names},
        "size": {name: float(encoders[name].resolution or 0) for name in names},
    }
    named = {name: name for name in names}
    return ScoreTable("planted", "a test", encoders, {setting: scores}), MetricValues(values, named)


def test_truth_with_noise_is_predictive_and_one_bit_is_not():
    table, measured = planted()
    result = validate.analyse(table, measured, setting="all")
    answers = {(p.metric, p.target): p.answer for p in result.predictions}
    for target in ("average", "VQA", "OCR"):
        assert answers["noisy", target] is Answer.PREDICTIVE
        assert answers["opposite", target] is Answer.PREDICTIVE
        assert answers["one bit", target] is Answer.UNDEFINED
        assert answers["noise", target] is Answer.NO_EVIDENCE
        assert answers["size", target] is Answer.NO_EVIDENCE
    assert "noisy predicts average" in result.answer
    # Over all encoders one bit looks excellent.
    bit = next(p for p in result.predictions if p.metric == "one bit" and p.target == "VQA")
    assert bit.overall.rho > 0.75 and bit.overall.p < 0.001
    assert next(t for t in result.targets if t.name == "VQA").one_bit > 0.9


def test_a_metric_that_is_the_resolution_is_not_ahead_of_it():
    table, measured = planted()
    size = measured.values["size"]
    scores = {name: x + 1e-3 * i for i, (name, x) in enumerate(size.items())}
    table = ScoreTable("planted", "a test", table.encoders, {"all": {"OCR": scores}})
    values = {"size": {name: 2 * x for name, x in size.items()}}
    (found,) = validate.analyse(
        table, MetricValues(values, measured.named), setting="all"
    ).predictions
    assert found.within.rho > 0.7 and found.p_corrected < 0.01
    assert found.answer is Answer.NO_EVIDENCE and found.reason == "not ahead of input resolution"
    assert found.against["input resolution"].difference == 0


def test_fewer_than_six_of_the_class_are_too_few():
    table, measured = planted(n=5, others=9)
    result = validate.analyse(table, measured, setting="all")
    assert {p.answer for p in result.predictions} == {Answer.TOO_FEW}
    assert result.answer.startswith("Too few to say: 5 of 14 encoders")


def test_few_encoders_and_many_tests_say_that_nothing_could_be_shown():
    table, measured = planted(n=6)
    result = validate.analyse(table, measured, setting="all", metrics=["noisy"])
    assert "None could be" not in result.answer
    many = MetricValues({f"m{i}": measured.values["noise"] for i in range(6)}, measured.named)
    assert "None could be" in validate.analyse(table, many, setting="all").answer


def test_only_encoders_with_features_count():
    table, measured = planted()
    seen = [f"encoder{i}" for i in range(8)]
    few = MetricValues(measured.values, {name: name for name in seen})
    result = validate.analyse(table, few, setting="all")
    assert result.encoders == tuple(seen)
    own = table.scores["all"]["VQA"]
    expected = spearmanr([table.encoders[n].resolution for n in seen], [own[n] for n in seen])[0]
    found = next(t for t in result.targets if t.name == "VQA").resolution
    assert (found.n, found.rho) == (8, pytest.approx(expected))


# -- features --------------------------------------------------------------------------------------

TABLE = ["encoder,benchmark,score,class,resolution", "tiny-clip,VQA,61,lang,32",
         "tiny-siglip,VQA,60,lang,32", "tiny-dinov2,VQA,40,ssl,32"]  # fmt: skip


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of `compare` on the bundled encoders, its feature store, and scores of them."""
    from encoderlab.cli.main import main

    folder = tmp_path_factory.mktemp("compared")
    (folder / "scores.csv").write_text("\n".join(TABLE))
    words = ["compare", "--encoders", *NAMES, "untrained:tiny-clip", "--llms", "tiny-llama",
             "--n-samples", "4", "--device", "cpu", "--dtype", "float32", "--features-dir",
             str(folder / "store"), "--output-dir", str(folder / "run")]  # fmt: skip
    assert main(words) == 0
    return folder


def test_a_run_a_store_and_the_encoders_themselves_give_the_same_metrics(compared, monkeypatch):
    scores = str(compared / "scores.csv")
    run = encoderlab.validate(scores=scores, features=str(compared / "run"))
    computed = encoderlab.validate(
        scores=scores, compute=True, features_dir=str(compared / "other"), **QUICK
    )
    with monkeypatch.context() as patch:  # no encoder is loaded
        patch.setattr("encoderlab.encoders.vision.load_vision", None)
        stored = encoderlab.validate(scores=scores, features=str(compared / "store"), **QUICK)
    record = json.loads((compared / "run/run.json").read_text())
    ridge = {r["encoder"]: r["scores"]["ridge_r2"]["value"] for r in record["result"]["rows"]}
    assert run.facts["llms"] == stored.facts["llms"] == computed.facts["llms"] == ("tiny-llama",)
    for result in (run, stored, computed):
        assert set(result.named) == set(NAMES) and result.facts["left_out"] == ()
        assert {p.answer for p in result.predictions} == {Answer.TOO_FEW}
        assert {"cka_linear", "ridge_r2"} <= {p.metric for p in result.predictions}
    table = read_table(scores)
    of_store = metric_values(
        Validate(scores=scores, features=str(compared / "store"), **QUICK), table
    )
    for name in NAMES:
        assert of_store.values["ridge_r2"][name] == pytest.approx(ridge[name], abs=1e-5)


def test_gromov_wasserstein_is_computed_where_it_is_named(compared):
    given = {"scores": str(compared / "scores.csv"), "features": str(compared / "store"), **QUICK}
    named = encoderlab.validate(metrics=["gw_pairing"], **given)
    assert {p.metric for p in named.predictions} == {"gw_pairing"}
    metrics = {p.metric for p in encoderlab.validate(**given).predictions}
    assert "cka_linear" in metrics and not {"gw_pairing", "gw_distance"} & metrics


def test_right_answers_of_e2e_are_a_table(tmp_path):
    pair = {"llm": "tiny-llama", "control_of": None, "image_size": 32,
            "accuracy": {"all": {"value": 0.5}, "count": {"value": 0.25}}}  # fmt: skip
    pairs = [pair | {"encoder": name} for name in NAMES]
    pairs += [pair | {"encoder": "tiny-clip", "llm": "tiny-qwen"}]  # not of all: does not count
    pairs += [pair | {"encoder": "untrained:tiny-clip", "control_of": "tiny-clip"}]
    pairs[0] = pairs[0] | {"accuracy": {"all": {"value": 0.75}, "count": {"value": 0.5}}}
    point = {"llm": "tiny-llama", "control_of": None, "layer": "pooled"}
    points = [point | {"encoder": name, "metrics": {"eas": i / 4, "cka_linear": None}}
              for i, name in enumerate(NAMES)]  # fmt: skip
    points += [points[0] | {"layer": "layer 2", "metrics": {"eas": 9.0}}]
    write_record(tmp_path, "e2e", {"answers": {"pairs": pairs}, "points": points})
    table = read_table(str(tmp_path))
    assert set(table.encoders) == set(NAMES)
    assert table.scores["all"]["all"] == {"tiny-clip": 0.75, "tiny-siglip": 0.5, "tiny-dinov2": 0.5}
    assert {(row.kind, row.resolution) for row in table.encoders.values()} == {(None, 32)}
    result = encoderlab.validate(scores=str(tmp_path))
    assert result.members == result.encoders and "name no class" in result.class_name
    assert result.remarks and set(result.remarks) <= set(result.warnings)
    own = metric_values(Validate(features=str(tmp_path)), table)  # metrics of the same run
    assert own.values == {"eas": {"tiny-clip": 0.0, "tiny-siglip": 0.25, "tiny-dinov2": 0.5}}


def write_record(folder: Path, command: str, result: dict) -> None:
    from datetime import UTC, datetime

    from encoderlab.core import run_folder

    run_folder.write(
        folder, run_folder.record(command, (), {}, result, seconds=0.0, started=datetime.now(UTC))
    )


# -- mistakes --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "error", "told"),
    [
        ({"scores": "cambrain1"}, UsageError, "Did you mean 'cambrian1'"),
        ({"scores": "none.csv"}, UsageError, "no such file"),
        ({"scores_setting": "1.2M"}, UsageError, "1.2M-frozen"),
        ({"targets": ["gqaa"]}, UsageError, "'gqa'"),
        ({"scores": "law-of-vision", "metrics": ["cores"]}, UsageError, "'corres'"),
        ({"features": "nowhere"}, MissingError, "no such folder"),
        ({"features": "."}, MissingError, "no run in this folder"),
        ({"n_samples": 3}, UsageError, "--n-samples has no effect"),
        ({"encoders": ["tiny-clip"]}, UsageError, "--encoders has no effect"),
        ({"compute": True, "features": "."}, UsageError, "--features has no effect"),
        ({"compute": True, "encoders": ["openai/clip-vit-large-patch14-33"]}, UsageError,
         "'openai/clip-vit-large-patch14-336'"),
        ({"compute": True, "encoders": ["MoCo v3 ViT-B/16@224"]}, UsageError, "no hub id"),
        ({"scores": "."}, MissingError, "no run in this folder"),
    ],
)  # fmt: skip
def test_a_mistake_is_one_sentence(given, error, told, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error, match=told):
        encoderlab.validate(**given)


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        (["encoder,score", "a,1"], "has no column benchmark"),
        (["encoder,benchmark,score", "a,VQA,good"], "line 2 of .* no number"),
        (["encoder,benchmark,score", "a,VQA,1", "a,VQA,2"], "line 3 of .* second score"),
        (["encoder,benchmark,score", ",VQA,1"], "line 2 of .* has no encoder"),
        (["encoder,benchmark,score,class", "a,VQA,1,langs"], "Did you mean 'lang'"),
        (["encoder,benchmark,score,class", "a,VQA,1,"], "line 2 of .* has no class"),
        (["encoder,benchmark,score,resolution", "a,VQA,1,big"], "no number of pixels"),
        (["encoder,benchmark,score,class", "a,VQA,1,lang", "a,OCR,1,ssl"], "another class"),
        (["encoder,benchmark,score,llm", "a,VQA,1,x", "b,VQA,1,y"], "share no LLM"),
        (["encoder,benchmark,score"], "no rows"),
    ],
)
def test_a_csv_that_cannot_be_used_is_refused(lines, told, tmp_path):
    table = tmp_path / "scores.csv"
    table.write_text("\n".join(lines))
    with pytest.raises(UsageError, match=told):
        read_table(str(table))


def test_encoders_that_are_no_row_are_left_out_and_named(compared, tmp_path):
    table = tmp_path / "scores.csv"
    table.write_text("\n".join(TABLE[:-1]))
    for given in ({"features": str(compared / "run")},
                  {"features": str(compared / "store"), **QUICK}):  # fmt: skip
        result = encoderlab.validate(scores=str(table), **given)
        assert result.encoders == ("tiny-clip", "tiny-siglip")
        assert result.facts["left_out"] == ("tiny-dinov2",)
        assert any("tiny-dinov2" in remark for remark in result.remarks)


def test_two_names_of_one_row_are_one_encoder_of_a_store_and_a_mistake_in_a_run(
    compared, tmp_path, monkeypatch
):
    (tmp_path / "aliases.yaml").write_text("encoders: {clip-of-mine: tiny-clip}")
    monkeypatch.setenv("ENCODERLAB_ALIASES", str(tmp_path / "aliases.yaml"))
    store, scores = tmp_path / "store", str(compared / "scores.csv")
    shutil.copytree(compared / "store", store)
    (key,) = (k for k in store.glob("*/key.json")
              if {"tiny-clip", "pooled"} <= set(json.loads(k.read_text()).values()))  # fmt: skip
    renamed = json.loads(key.read_text()) | {"encoder": "clip-of-mine", "fingerprint": "f00"}
    again = store / TableKey(**renamed).name
    shutil.copytree(key.parent, again)
    (again / "key.json").write_text(json.dumps(renamed))
    result = encoderlab.validate(scores=scores, features=str(store), **QUICK)
    assert set(result.named) == set(NAMES)
    rows = [{"encoder": name, "llm": "tiny-llama", "scores": {"eas": {"value": 0.5}}}
            for name in ("tiny-clip", "clip-of-mine")]  # fmt: skip
    write_record(tmp_path, "all", {"sections": {"compare": {"rows": rows[:1]}}})
    assert set(encoderlab.validate(scores=scores, features=str(tmp_path)).named) == {"tiny-clip"}
    write_record(tmp_path, "compare", {"rows": rows})
    with pytest.raises(UsageError, match="the same row"):
        encoderlab.validate(scores=scores, features=str(tmp_path))


def test_features_of_no_row_are_refused_with_the_nearest_name(compared, tmp_path):
    table = tmp_path / "scores.csv"
    table.write_text("\n".join(line.replace("tiny-", "tini-") for line in TABLE))
    for features in ("run", "store"):
        with pytest.raises(UsageError, match="Did you mean 'tini-"):
            encoderlab.validate(scores=str(table), features=str(compared / features))


def test_a_run_without_metrics_or_answers_is_refused(tmp_path):
    write_record(tmp_path, "speed", {"rows": [{"encoder": "clip"}]})
    with pytest.raises(UsageError, match="no metrics of encoders"):
        encoderlab.validate(features=str(tmp_path))
    with pytest.raises(UsageError, match="no right answers"):
        encoderlab.validate(scores=str(tmp_path))
    row = {"encoder": "clip", "llm": "llama"}
    for scores in ([1], {"eas": 1}, {"eas": {"value": "high"}}):
        write_record(tmp_path, "compare", {"rows": [row | {"scores": scores}]})
        with pytest.raises(UsageError, match="broken"):
            encoderlab.validate(features=str(tmp_path))
    write_record(tmp_path, "e2e", {"answers": {"pairs": [row]}})
    with pytest.raises(UsageError, match="broken"):
        encoderlab.validate(scores=str(tmp_path))


def test_a_store_without_these_samples_is_refused(compared, world):
    with pytest.raises(UsageError, match="no features of these samples"):
        encoderlab.validate(
            scores=str(compared / "scores.csv"), features=str(compared / "store"),
            **QUICK | {"data_root": str(world / "captions.csv")},
        )  # fmt: skip
