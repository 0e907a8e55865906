"""The alignment commands as they are typed: folders, JSON, errors."""

import pytest
from tests.pack import shards_of

from encoderlab.data import read_samples

QUICK = ("--encoders", "tiny-clip", "untrained:tiny-clip", "--llms", "tiny-llama",
         "--device", "cpu")  # fmt: skip


@pytest.mark.parametrize(
    ("words", "files"),
    [
        (("compare", "--n-samples", "3"), ["compare_cka.png", "compare_cka.npz"]),
        (("multi-llm", "--n-samples", "3", "--svg"), ["multi_llm.png", "multi_llm.svg"]),
        (("coral", "--n-samples", "3"), ["coral_dashboard.png", "eas_dashboard.npz"]),
        (("elas", "--n-samples", "3", "--epochs", "2"), ["elas.png"]),
        (("e2e", "--n-samples", "3", "--epochs", "2"), ["e2e_retrieval.png"]),
        (("complement", "--n-samples", "4"), ["complement.png", "complement.npz"]),
        (("layers", "--n-samples", "3"), ["layers.png"]),
        (("embedding", "--n-samples", "3", "--method", "pca"), ["embedding.html"]),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else None,
)
def test_a_command_leaves_its_record_and_its_figures(words, files, lab, tmp_path, monkeypatch):
    answer = lab(*words, *QUICK, "--json")
    assert answer.code == 0, answer.err
    assert answer.json["data"]["samples"] == 3 * int(words[2])
    folder = tmp_path / "outputs" / words[0]
    for name in ("run.json", "config.yaml", *files):
        assert (folder / name).is_file(), name
    # Once is enough to draw the same figures.
    monkeypatch.setattr("encoderlab.plots.style.save", lambda *figures, **how: ())
    again = lab("rerun", str(folder), "--json")
    assert again.code == 0, again.err


def test_features_are_computed_once(lab):
    words = ("coral", "--n-samples", "3", *QUICK)
    assert "extracting features with tiny-clip" in lab(*words).err
    assert "extracting" not in lab("multi-llm", "--n-samples", "3", *QUICK).err


def test_stream_takes_shards_in_one_word(lab, world, tmp_path):
    shards = shards_of(read_samples(world / "captions.csv"), tmp_path, 2)
    answer = lab("stream", shards, *QUICK)
    assert answer.code == 0, answer.err
    assert "data: 20 samples from" in answer.out and "CORAL compares two clouds" in answer.out
    assert (tmp_path / "outputs/stream/moments.npz").is_file()
    again = lab("features", "extract", shards, "--output-dir", "outputs/features")
    assert "tiny-clip: 20 samples" in again.out, again.err


def test_a_sweep_keeps_every_run_in_a_folder_of_its_own(lab, tmp_path):
    answer = lab("layers", "-m", "n_samples=2,3", *QUICK)
    assert answer.code == 0, answer.err
    assert len(list((tmp_path / "outputs/layers").rglob("run.json"))) == 2


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (("compare", "--encoders", "tiny-clip", "tiny-clip"), 2, "an encoder is listed twice"),
        (("coral", "--encoders", "tiny-clop"), 3, "'tiny-clip'?"),
        (("elas", "--llms", "tiny-lama"), 3, "'tiny-llama'?"),
        (("complement", "--encoders", "tiny-clip"), 2, "needs several encoders"),
        (("complement", "--encoders", "tiny-clip", "tiny-clip"), 2, "is listed twice"),
        (("layers", "--data-types", "chrt"), 2, "Did you mean 'chart'"),
        (("e2e", "--data-root", "nowhere"), 3, "the data root is not there"),
        (("e2e", "--scores", "none.csv"), 3, "no such CSV"),
        (("validate", "--scores", "cambrain1"), 2, "Did you mean 'cambrian1'"),
        (("embedding", "--n-samples", "1", "--method", "pca"), 2, "too few samples for a map"),
        (("embedding", "--method", "tnse"), 2, "tsne"),
        (("attention", "--image", "none.png", "--text", "x"), 3, "no such image"),
        (("speed", "--batch-sizes", "0"), 2, "at least 1"),
        (("multi-llm", "--n-samples", "0"), 2, "at least 1"),
        (("stream",), 2, "stream needs pairs"),
        (("stream", "none-{0..3}.tar"), 3, "no such shard"),
        (("stream", "a.tar", "--engine", "spark"), 2, "local, ray"),
        (("stream", "a.tar", "--encoders", "tiny-clip", "tiny-clip"), 2, "is listed twice"),
    ],
)  # fmt: skip
def test_a_mistake_is_answered_in_words_and_leaves_nothing(words, code, told, lab, tmp_path):
    answer = lab(*words)
    assert answer.code == code, answer.err
    assert told in answer.err and "Traceback" not in answer.err
    assert not list(tmp_path.glob("outputs/*/run.json"))
