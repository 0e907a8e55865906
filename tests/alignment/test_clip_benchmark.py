"""Result files of CLIP_benchmark as scores to predict."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest

import encoderlab
from encoderlab.data.reference_scores import read_table
from encoderlab.errors import UsageError

MODELS = {
    "ViT-B-32 openai": ("ViT-B-32", "openai", "openai/clip-vit-base-patch32"),
    "ViT-B-32-quickgelu openai": ("ViT-B-32-quickgelu", "openai", "openai/clip-vit-base-patch32"),
    "ViT-L-14 laion2b_s32b_b82k": (
        "ViT-L-14", "laion2b_s32b_b82k", "laion/CLIP-ViT-L-14-laion2B-s32B-b82K",
    ),
    "google siglip2-base-patch16-224": (
        "google", "siglip2-base-patch16-224", "google/siglip2-base-patch16-224",
    ),
    "hf-hub:org/name": ("hf-hub:org/name", "", "org/name"),
    "ViT-B-16 /runs/mine-1.pt": ("ViT-B-16", "/runs/mine-1.pt", None),
    "my-clip v1": ("my-clip", "v1", "tiny-clip"),
}  # fmt: skip


def records() -> list[dict[str, Any]]:
    """Two classifications, one of several labels, one retrieval and a probe, as `eval` writes."""
    rows = []
    for i, (model, pretrained, _) in enumerate(MODELS.values()):
        share = 0.5 + i / 20
        base = {"model": model, "pretrained": pretrained, "language": "en"}
        top = {"acc1": share, "acc5": float("nan"), "mean_per_class_recall": share / 2}
        rows += [
            base | {"dataset": "wds/vtab/cifar10", "task": "zeroshot_classification",
                    "metrics": top},
            base | {"dataset": "imagenet1k", "task": "zeroshot_classification",
                    "metrics": top | {"acc1": 1 - share}},
            base | {"dataset": "voc2007_multilabel", "task": "zeroshot_classification",
                    "metrics": {"mean_average_precision": share}},
            base | {"dataset": "flickr30k", "task": "zeroshot_retrieval",
                    "metrics": {"image_retrieval_recall@5": share,
                                "text_retrieval_recall@5": 0.9}},
            base | {"dataset": "imagenet1k", "task": "linear_probe",
                    "metrics": {"acc1": share / 3, "lr": 0.1, "epochs": 10}},
        ]  # fmt: skip
    return rows


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "aliases.yaml").write_text("encoders: {my-clip v1: tiny-clip}")
    monkeypatch.setenv("ENCODERLAB_ALIASES", str(tmp_path / "aliases.yaml"))
    made = tmp_path / "results"
    made.mkdir()
    for number, record in enumerate(records()):
        (made / f"{number:03}.json").write_text(json.dumps(record))
    return made


def build(rows: list[dict[str, Any]], path: Path) -> Path:
    """The CSV of `clip_benchmark build`: the metrics as columns, in any order."""
    flat = []
    for row in rows:
        rest = {name: value for name, value in row.items() if name != "metrics"}
        full = {"model_fullname": f"{row['model']} {row['pretrained']}"}
        flat.append({**row["metrics"], **rest, **full})
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, sorted({name for row in flat for name in row}))
        writer.writeheader()
        writer.writerows(flat)
    return path


@pytest.mark.parametrize("kind", ["folder", "csv"])
def test_the_main_metric_of_each_data_set_is_its_score(
    kind: str, folder: Path, tmp_path: Path
) -> None:
    source = folder if kind == "folder" else build(records(), tmp_path / "benchmark.csv")
    table = read_table(str(source))
    first = "ViT-B-32 openai"
    assert list(table.scores) == ["zeroshot", "linear_probe"]
    assert {name: own[first] for name, own in table.scores["zeroshot"].items()} == pytest.approx(
        {"vtab/cifar10": 0.5, "imagenet1k": 0.5, "voc2007_multilabel": 0.5, "flickr30k": 0.5}
    )
    last = table.scores["zeroshot"]["imagenet1k"]["my-clip v1"]
    assert last == pytest.approx(0.2) and len(table.encoders) == len(MODELS)
    assert table.scores["linear_probe"]["imagenet1k"][first] == pytest.approx(0.5 / 3)
    assert table.groups == {
        "classification": ["vtab/cifar10", "imagenet1k", "voc2007_multilabel"],
        "retrieval": ["flickr30k"],
    }
    for metric in ("acc1 (2)", "mean_average_precision (1)", "image_retrieval_recall@5 (1)"):
        assert metric in table.about
    assert {name: row.model for name, row in table.encoders.items()} == {
        name: model for name, (_, _, model) in MODELS.items()
    }
    assert table.row_of("laion/CLIP-ViT-L-14-laion2B-s32B-b82K") == "ViT-L-14 laion2b_s32b_b82k"
    assert table.row_of("tiny-clip") == "my-clip v1"


def test_validate_names_the_metrics_and_has_the_probe_as_ceiling(folder: Path) -> None:
    result = encoderlab.validate(scores=str(folder))
    assert "acc1 (2)" in result.to_json()["source"] and result.setting == "zeroshot"
    assert result.members == result.encoders == tuple(MODELS)
    targets = {target.name: target for target in result.targets}
    assert set(targets) >= {"average", "classification", "imagenet1k", "flickr30k"}
    (ceiling,) = targets["imagenet1k"].ceilings  # the probe ranks the other way round
    assert ceiling.setting == "linear_probe" and ceiling.within.rho == pytest.approx(-1)


def test_other_languages_are_other_settings(folder: Path) -> None:
    record = json.loads((folder / "001.json").read_text()) | {"language": "ko"}
    (folder / "ko.json").write_text(json.dumps(record))
    assert set(read_table(str(folder)).scores) == {"zeroshot", "zeroshot ko", "linear_probe"}


def change(folder: Path, number: int, **values: Any) -> None:
    path = folder / f"{number:03}.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


@pytest.mark.parametrize(
    ("number", "values", "told"),
    [
        (0, {"metrics": {"acc5": 0.5}}, "vtab/cifar10 share no metric"),
        (0, {"metrics": None}, r"000.json has no metrics"),
        (0, {"model": None}, r"000.json has no model"),
        (0, {"task": ""}, r"000.json has no task"),
        (5, {"dataset": "imagenet1k"}, r"006.json gives a second score"),
    ],
)
def test_a_file_that_cannot_be_used_is_named(
    number: int, values: dict[str, Any], told: str, folder: Path
) -> None:
    change(folder, number, **values)
    with pytest.raises(UsageError, match=told):
        read_table(str(folder))


def test_a_broken_file_is_named(folder: Path) -> None:
    (folder / "zzz.json").write_text("[1")
    with pytest.raises(UsageError, match=r"zzz.json is broken"):
        read_table(str(folder))
    with pytest.raises(UsageError, match=r"zzz.json is broken"):
        read_table(str(folder / "zzz.json"))


def test_a_data_set_with_two_tasks_is_a_benchmark_for_each(tmp_path):
    for i in range(3):
        base = {"model": f"m{i}", "pretrained": "p", "language": "en", "dataset": "flickr8k"}
        for task, metrics in (
            ("zeroshot_retrieval", {"image_retrieval_recall@5": 0.1 * i}),
            ("captioning", {"CIDEr": 0.2 * i}),
        ):
            record = base | {"task": task, "metrics": metrics}
            (tmp_path / f"{i}_{task}.json").write_text(json.dumps(record), encoding="utf-8")
    table = read_table(str(tmp_path))
    (scores,) = table.scores.values()
    assert {name: own["m2 p"] for name, own in scores.items()} == {
        "flickr8k (captioning)": pytest.approx(0.4),
        "flickr8k (retrieval)": pytest.approx(0.2),
    }


def test_without_resolutions_it_says_that_nothing_can_be_called_predictive(folder):
    result = encoderlab.validate(scores=str(folder))
    assert any("resolution" in remark for remark in result.remarks)
