"""The first two jobs as a user types them, from a CSV to a gallery, in the folder they work in."""

import json


def test_train_evaluate_classify_index_search_and_rerun(lab, world, tmp_path):
    data = ["--train-csv", str(world / "captions.csv"), "--val-csv", str(world / "captions.csv")]
    shape = ["--image-size", "32", "--vision-layers", "1", "--text-layers", "1"]
    run = ["--epochs", "2", "--batch-size", "8", "--vocab-size", "300", "--device", "cpu"]
    answer = lab("train", *data, *shape, *run)
    assert answer.code == 0, answer.err
    assert "20 validation images" in answer.err  # the leak of this very test is noticed
    assert "next: encoderlab evaluate" in answer.out
    record = json.loads((tmp_path / "outputs/train/run.json").read_text())
    assert record["result"]["steps"] == 4
    assert any("validation images" in warning for warning in record["warnings"])
    for model in ("outputs/train", "outputs/train/export", "outputs/train/checkpoints/latest.ckpt"):
        answer = lab("evaluate", "--csv", str(world / "captions.csv"), "--model", model)
        assert answer.code == 0, answer.err
    answer = lab("classify", "--image-dir", str(world / "images"), "--model", "outputs/train",
                 "--json")  # fmt: skip
    assert answer.code == 0, answer.err
    assert len(answer.json["predictions"]) == 20
    answer = lab("index", str(world / "images"), "--model", "outputs/train", "--db", "db")
    assert answer.code == 0, answer.err
    answer = lab("search", "a red circle", "-k", "3", "--db", "db", "--html", "g.html")
    assert answer.code == 0, answer.err
    assert (tmp_path / "g.html").stat().st_size > 1000
    answer = lab("search", "a red circle", "--db", "db", "-k", "21")
    assert answer.code == 0 and "21 asked, 20 in the index" in answer.out
    answer = lab("rerun", "outputs/evaluate")
    assert answer.code == 0, answer.err
    assert "the same" in answer.out


def test_a_resumed_run_needs_only_the_resume(lab, world):
    words = ["train", "--train-csv", str(world / "captions.csv"), "--epochs", "1",
             "--batch-size", "8", "--image-size", "32", "--vision-layers", "1", "--text-layers",
             "1", "--vocab-size", "300", "--device", "cpu"]  # fmt: skip
    assert lab(*words).code == 0
    answer = lab(*words, "--resume", "outputs/train")
    assert answer.code == 0, answer.err
    assert "going on from step 2 of 2" in answer.err
    answer = lab(*words, "--resume", "outputs/train", "--lr", "1e-3")
    assert answer.code == 2
    assert "other settings" in answer.err
