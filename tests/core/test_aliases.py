"""Aliases: the shipped ones, and a user's own that add or replace."""

import pytest

from encoderlab.core.aliases import encoder_aliases, llm_aliases
from encoderlab.errors import MissingError, UsageError


@pytest.fixture(autouse=True)
def _empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_shipped_aliases_stand_for_hub_ids():
    assert encoder_aliases()["siglip"] == "google/siglip-base-patch16-224"
    assert llm_aliases()["qwen"] == "Qwen/Qwen2.5-7B"
    assert all(
        name.count("/") == 1 for name in [*encoder_aliases().values(), *llm_aliases().values()]
    )


def test_own_file_adds_and_replaces(tmp_path):
    (tmp_path / "encoderlab-aliases.yaml").write_text(
        "encoders:\n  clip: mine/clip\n  other: mine/other\n"
    )
    assert encoder_aliases()["clip"] == "mine/clip" and encoder_aliases()["other"] == "mine/other"
    assert "siglip" in encoder_aliases() and llm_aliases()["llama"] == "huggyllama/llama-7b"


def test_file_named_by_the_environment_comes_first(tmp_path, monkeypatch):
    (tmp_path / "own.yaml").write_text("llms: {llama: mine/llama}\n")
    monkeypatch.setenv("ENCODERLAB_ALIASES", str(tmp_path / "own.yaml"))
    assert llm_aliases()["llama"] == "mine/llama"
    monkeypatch.setenv("ENCODERLAB_ALIASES", "nowhere.yaml")
    with pytest.raises(MissingError, match=r"nowhere\.yaml"):
        llm_aliases()


@pytest.mark.parametrize(
    "text",
    ["encoders: [a]", "encodrs: {a: b}", "- a", "a: {", "llms: {a: 1}", "\tencoders: x", "[" * 5000,
     "encoders: {a: " + "9" * 5000 + "}"],
)  # fmt: skip
def test_a_file_of_another_shape_is_refused(text, tmp_path):
    (tmp_path / "encoderlab-aliases.yaml").write_text(text)
    with pytest.raises(UsageError, match=r"encoderlab-aliases\.yaml"):
        encoder_aliases()
