"""The figures of the benchmarks as Markdown, from rows.json and the head of RESULTS.md alone."""

from __future__ import annotations

import functools
import json
import re
import sys
from pathlib import Path

import yaml

BENCHMARKS = Path(__file__).parent.parent.parent / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))

from table import Row, as_row  # noqa: E402

HEADS = {
    "en": ("task", "ours", "theirs", "ratio of rates (spread)", "target"),
    "ko": ("작업", "EncoderLab", "비교 대상", "비율 (범위)", "목표"),
}
VERDICT = {"en": {True: "met", False: "missed"}, "ko": {True: "달성", False: "미달"}}
MEASURED_ON = {"en": "Measured on", "ko": "측정한 기계:"}
NONE = {"en": "None.", "ko": "없습니다."}


@functools.cache
def _phrases(language: str) -> list[tuple[str, str]]:
    """(English phrase, phrase), the longest first; none for English."""
    file = Path(__file__).parent / f"measured.{language}.yaml"
    if not file.is_file():
        return []
    found = yaml.safe_load(file.read_text(encoding="utf-8"))
    return sorted(found.items(), key=lambda item: -len(item[0]))


def _say(text: str, language: str) -> str:
    for phrase, said in _phrases(language):
        text = text.replace(phrase, said)
    return text.replace("|", "/")


def rows() -> list[Row]:
    """Every row that was measured last."""
    kept = json.loads((BENCHMARKS / "rows.json").read_text(encoding="utf-8"))
    return [as_row(one) for name in sorted(kept) for one in kept[name]]


def machine(language: str) -> str:
    """What the figures were measured on."""
    text = (BENCHMARKS / "RESULTS.md").read_text(encoding="utf-8")
    found = re.search(r"^Measured on (.*)$", text, re.MULTILINE)
    assert found, "RESULTS.md does not say what was measured on"
    return f"{MEASURED_ON[language]} {found[1]}"


def targets(language: str) -> str:
    """The rows that have a target."""
    return _table([row for row in rows() if row.met is not None], language)


def missed(language: str) -> str:
    """The rows whose target is missed, as a list."""
    lost = [row for row in rows() if row.met is False]
    lines = [_say(f"- {row.task}: {row.cells()[3]}", language) for row in lost]
    return "\n".join(lines) or NONE[language]


def figures(language: str) -> str:
    """The rows without a target: they say what a choice costs."""
    return _table([row for row in rows() if row.met is None], language)


def _table(chosen: list[Row], language: str) -> str:
    with_target = any(row.met is not None for row in chosen)
    heads = HEADS[language] if with_target else HEADS[language][:-1]
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    for row in chosen:
        cells = list(row.cells()[: len(heads)])
        if with_target:
            cells[-1] = f"{row.target}: {VERDICT[language][bool(row.met)]}"
        lines.append("| " + " | ".join(_say(cell, language) for cell in cells) + " |")
    return "\n".join(lines)
