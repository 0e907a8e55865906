"""`python -m encoderlab.selftest` and `doctor --deep` check what is ours, and can fail."""

import runpy
import sys

import pytest

import encoderlab
from encoderlab import selftest
from encoderlab.models.clip import clip as network


def test_every_part_passes_and_covers_what_is_ours(capsys):
    assert selftest.main([]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert {line.split()[0] for line in lines} == {"ok"}
    assert {line.split()[1].rstrip(":") for line in lines} == set(selftest.PARTS)
    for line in ("clip: parameters of ViT-B/32: 151,277,313", "clip: temperature: 14.2857",
                 "losses: contrastive, equal: ln n: 3.46574",
                 "losses: gradient penalty of a linear critic: 16"):  # fmt: skip
        assert f"ok {line}" in lines


@pytest.mark.parametrize("part", ["projectors", "critic", "losses"])
def test_each_part_can_be_called_alone(part, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["selftest", part])
    with pytest.raises(SystemExit) as ended, pytest.warns(RuntimeWarning, match="sys.modules"):
        runpy.run_module("encoderlab.selftest", run_name="__main__")
    assert ended.value.code == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines and all(line.startswith(f"ok {part}: ") for line in lines)
    assert all(check.ok for check in getattr(encoderlab.selftest, part)())


def test_a_wrong_temperature_fails_with_exit_1(monkeypatch, capsys, lab):
    monkeypatch.setattr(network, "INITIAL_LOGIT_SCALE", 0.0)
    assert selftest.main(["clip"]) == 1
    told = [line for line in capsys.readouterr().out.splitlines() if not line.startswith("ok ")]
    assert told == ["FAILED clip: temperature: expected 14.2857, got 1"]
    for name in set(selftest.PARTS) - {"clip"}:
        monkeypatch.delitem(selftest.PARTS, name)
    answer = lab("doctor", "--deep", "--json", "--quiet")
    assert answer.code == 1 and answer.json["healthy"] is False
    found = answer.json["networks and losses"]
    assert found["clip: temperature"] == {"state": "wrong", "said": "expected 14.2857, got 1"}
    assert found["clip: parameters of ViT-L/14"]["state"] == "ok"


def test_a_part_that_breaks_is_a_failed_check(monkeypatch, capsys):
    monkeypatch.setattr(selftest, "create_projector", lambda *given: 1 / 0)
    assert selftest.main(["projectors", "critic"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("FAILED projectors: expected no error, got ZeroDivisionError")
    assert lines[1:] and all(line.startswith("ok critic") for line in lines[1:])


def test_an_unknown_part_is_one_sentence(capsys):
    assert selftest.main(["clpi"]) == 2
    assert "Did you mean 'clip'?" in capsys.readouterr().err


@pytest.mark.parametrize("expected", [1, 1.0, (2, 3), True])
def test_a_check_can_fail(expected):
    wrong = [2, float("nan"), 1.0002, (2,), False]
    assert selftest.Check("x", expected, expected).ok
    assert not any(selftest.Check("x", expected, got).ok for got in wrong)
