"""The first two jobs as a user types them, from a CSV to a gallery, in the folder they work in."""

import json


def test_train_evaluate_classify_index_search_and_rerun(lab, world, tmp_path):
    data = ["--train-csv", str(world / "captions.csv"), "--val-csv", str(world / "captions.csv")]
    shape = ["--image-size", "32", "--vision-layers", "1", "--text-layers", "1"]
    run = ["--epochs", "2", "--batch-size", "8", "--vocab-size", "300", "--device", "cpu"]
    said = lab("train", *data, *shape, *run)
    assert said.code == 0, said.err
    assert "20 validation images" in said.err  # the leak of this very test is noticed
    assert "next: encoderlab evaluate" in said.out
    record = json.loads((tmp_path / "outputs/train/run.json").read_text())
    assert record["result"]["steps"] == 4
    assert any("validation images" in warning for warning in record["warnings"])
    for model in ("outputs/train", "outputs/train/export", "outputs/train/checkpoints/latest.ckpt"):
        said = lab("evaluate", "--csv", str(world / "captions.csv"), "--model", model)
        assert said.code == 0, said.err
    said = lab("classify", "--image-dir", str(world / "images"), "--model", "outputs/train",
               "--json")  # fmt: skip
    assert said.code == 0, said.err
    assert len(said.json["predictions"]) == 20
    said = lab("index", str(world / "images"), "--model", "outputs/train", "--db", "db")
    assert said.code == 0, said.err
    said = lab("search", "a red circle", "-k", "3", "--db", "db", "--html", "g.html")
    assert said.code == 0, said.err
    assert (tmp_path / "g.html").stat().st_size > 1000
    said = lab("search", "a red circle", "--db", "db", "-k", "21")
    assert said.code == 0 and "21 asked, 20 in the index" in said.out
    said = lab("rerun", "outputs/evaluate")
    assert said.code == 0, said.err
    assert "the same" in said.out


def test_a_resumed_run_needs_only_the_resume(lab, world):
    words = ["train", "--train-csv", str(world / "captions.csv"), "--epochs", "1",
             "--batch-size", "8", "--image-size", "32", "--vision-layers", "1", "--text-layers",
             "1", "--vocab-size", "300", "--device", "cpu"]  # fmt: skip
    assert lab(*words).code == 0
    said = lab(*words, "--resume", "outputs/train")
    assert said.code == 0, said.err
    assert "going on from step 2 of 2" in said.err
    said = lab(*words, "--resume", "outputs/train", "--lr", "1e-3")
    assert said.code == 2
    assert "other settings" in said.err
