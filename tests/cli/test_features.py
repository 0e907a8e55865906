"""`encoderlab features` as a user types it: fill the store, look, verify, mend, delete."""

from pathlib import Path

import pytest


@pytest.fixture
def filled(lab, clip_folder, world):
    """A store with the pooled and the CLS vectors of twenty pictures."""
    answer = lab(
        "features", "extract", str(world / "images"), "--encoders", str(clip_folder),
        "--what", "pooled", "cls", "--device", "cpu", "--dtype", "float32",
    )  # fmt: skip
    assert answer.code == 0, answer.err
    assert "20 samples, 20 computed now" in answer.out
    return lab


def test_a_store_that_is_empty_says_so(lab):
    answer = lab("features")
    assert answer.code == 0 and answer.out.strip() == "the store outputs/features is empty"


def test_what_is_stored_is_listed(filled, clip_folder):
    shown = filled("features", "ls")
    assert shown.code == 0
    head, *rows = shown.out.splitlines()
    assert head.split() == [
        "table",
        "encoder",
        "what",
        "ran",
        "in",
        "samples",
        "left",
        "out",
        "size",
    ]
    assert [row.split()[2] for row in rows] == ["cls", "pooled"]
    record = filled("features", "ls", "--json").json
    assert [one["samples"] for one in record["tables"]] == [20, 20]


def test_extracting_again_computes_nothing(filled, clip_folder, world):
    answer = filled(
        "features", "extract", str(world / "images"), "--encoders", str(clip_folder),
        "--dtype", "float32", "--device", "cpu",
    )  # fmt: skip
    assert "20 samples, 0 computed now" in answer.out
    # Of the store it shows what was asked for.
    assert [row.split()[2] for row in answer.out.splitlines()[1:2]] == ["pooled"]
    assert "1 other table in the store: encoderlab features ls" in answer.out


def test_damage_is_found_named_and_mended(filled):
    assert "2 chunks read, all as they were written" in filled("features", "verify").out
    values = next(Path("outputs/features").glob("*/*/values.npy"))
    content = bytearray(values.read_bytes())
    content[-1] ^= 1
    values.write_bytes(content)
    answer = filled("features", "verify")
    assert answer.code == 1 and "Traceback" not in answer.err
    assert "1 of 2 stored chunks is damaged" in answer.err and values.parent.name in answer.err
    assert "encoderlab features prune" in answer.err
    assert "1 damaged chunk removed" in filled("features", "prune").out
    assert filled("features", "verify").code == 0


def test_deleting_takes_a_table_an_encoder_or_all(filled, clip_folder):
    table = filled("features", "ls", "--json").json["tables"][0]["table"]
    assert "1 table deleted" in filled("features", "delete", table).out
    assert "1 table deleted" in filled("features", "delete", str(clip_folder)).out
    assert filled("features", "ls").out.strip() == "the store outputs/features is empty"


@pytest.mark.parametrize(
    "words, code, said",
    [
        (("delete",), 2, "delete needs to know what"),
        (("delete", "nothing-like-it"), 2, "nothing in the store has that name"),
        (("extract",), 2, "extract needs images"),
        (("extract", "no/such/folder"), 3, "no such data"),
        (("verfy",), 2, "verify"),
    ],
)
def test_a_mistake_is_answered_in_one_sentence(lab, words, code, said):
    answer = lab("features", *words)
    assert answer.code == code and said in answer.err and "Traceback" not in answer.err


def test_an_unknown_kind_of_feature_is_refused_before_anything_is_written(lab, clip_folder, world):
    answer = lab(
        "features", "extract", str(world / "images"), "--encoders", str(clip_folder),
        "--what", "poled",
    )  # fmt: skip
    assert answer.code == 2 and "unknown kind of feature" in answer.err
    assert not list(Path("outputs").rglob("*.npy"))
