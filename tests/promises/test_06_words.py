"""Words that are code stay as they are, tables are sorted as they say, names are explained.

That the report prints its command once: `test_report_is_made_of_the_record_alone` in
tests/experiments/test_alignment.py.
"""

import numpy as np
import pytest

from encoderlab.alignment.plots import coral as plots
from encoderlab.core.commands import COMMANDS
from encoderlab.errors import PROGRAMS, UsageError
from encoderlab.metrics.coral import CORALAnalyzer


@pytest.mark.parametrize(
    ("hint", "shown"),
    [
        ("check the path", "Check the path"),
        ("encoderlab index photos", "encoderlab index photos"),
        ("pip install x", "pip install x"),
        ("trust_remote_code=True runs code", "trust_remote_code=True runs code"),
        ("model.safetensors is cut", "model.safetensors is cut"),
        ("--lr 1e-3 may help", "--lr 1e-3 may help"),
        ("`a` or `b`", "`a` or `b`"),
        ("경로를 확인하십시오", "경로를 확인하십시오"),
    ],
)
def test_a_hint_begins_with_a_capital_letter_unless_it_is_code(hint, shown):
    assert str(UsageError("wrong", hint=hint)) == f"wrong. {shown}"


@pytest.mark.parametrize("code", [*PROGRAMS, *COMMANDS, "model=tiny-clip", "--모델"])
def test_no_code_is_capitalised_at_the_start_of_a_hint(code):
    words = f"encoderlab {code}" if code in COMMANDS else code
    assert str(UsageError("틀렸습니다", hint=f"{words} 이름")).endswith(f". {words} 이름")


def test_pairs_are_ranked_by_the_calibrated_eas():
    rng = np.random.default_rng(0)
    text = rng.standard_normal((40, 8))
    noise, other = rng.standard_normal((2, 40, 8))
    vision = {"noise": noise, "near": text + 0.1 * other, "same": np.ones((40, 8))}
    found = CORALAnalyzer().full_analysis(vision, {"t": text})
    assert [one.encoder for one in found.eas] == ["near", "noise", "same"]
    assert [one.encoder for one in found.cross_modal] == ["near", "noise", "same"]


def test_the_table_of_coral_is_sorted_by_the_score_that_it_names(lab, monkeypatch):
    monkeypatch.setattr(plots, "coral", lambda *_: [])
    answer = lab("coral", "--n-samples", "4", "--llms", "tiny-llama")
    assert answer.code == 0, answer.err
    head, _, *rows = answer.out[answer.out.index("encoder ") :].splitlines()
    column = head.split().index("EAS")
    scores = [float(row.split()[column]) for row in rows[:3]]
    assert scores == sorted(scores, reverse=True) and len(set(scores)) == 3
    assert "Ranked by EAS (Enhanced Alignment Score), calibrated" in answer.out


@pytest.mark.parametrize(
    ("command", "name"),
    [("coral", "EAS (Enhanced Alignment Score)"), ("elas", "ELAS (Encoder-LLM Alignment Score)")],
)
def test_the_help_says_what_the_letters_stand_for(command, name, lab):
    assert name in lab(command, "--help").out and name in lab("--help").out
