"""What the documentation takes from the code is what the code says now. `make check` runs
`scripts/reference --check`; here it is shown to notice what differs."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from encoderlab import errors
from encoderlab.core.commands import COMMANDS
from encoderlab.core.settings import iter_settings

ROOT = Path(__file__).parents[2]
LANGUAGES = pytest.mark.parametrize("language", ["en", "ko"])


def _check(root: Path) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, str(root / "scripts" / "reference"), "--check"]
    return subprocess.run(words, capture_output=True, text=True)


def _page(language: str) -> str:
    return (ROOT / "docs" / language / "configuration.md").read_text(encoding="utf-8")


@pytest.fixture
def copied(tmp_path):
    """What the pages are made of, to be changed."""
    for folder in ("scripts/reference", "benchmarks"):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    for language in ("en", "ko"):
        (tmp_path / "docs" / language).mkdir(parents=True)
        for name in ("configuration.md", "benchmarks.md"):
            shutil.copy(ROOT / "docs" / language / name, tmp_path / "docs" / language)
    return tmp_path


def test_a_default_that_differs_is_noticed(copied):
    page = copied / "docs" / "en" / "configuration.md"
    text = page.read_text(encoding="utf-8")
    assert "| `--n-samples` | `30` |" in text
    page.write_text(text.replace("| `--n-samples` | `30` |", "| `--n-samples` | `31` |"))
    done = _check(copied)
    assert done.returncode == 1
    assert "docs/en/configuration.md is out of date; run: python scripts/reference" in done.stderr


def test_a_benchmark_figure_that_differs_is_noticed(copied):
    rows = copied / "benchmarks" / "rows.json"
    table = json.loads(rows.read_text(encoding="utf-8"))
    table["bench_all_command.py"][0]["ours"] = "another"
    rows.write_text(json.dumps(table), encoding="utf-8")
    assert "docs/ko/benchmarks.md is out of date" in _check(copied).stderr


def test_words_that_are_missing_or_gone_are_named(copied):
    words = copied / "scripts" / "reference" / "ko.yaml"
    text = words.read_text(encoding="utf-8")
    words.write_text(text.replace("seed of all random numbers:", "the seed of old:"))
    said = _check(copied).stderr
    assert "ko.yaml lacks: 'seed of all random numbers'" in said
    assert "ko.yaml translates what is gone: 'the seed of old'" in said


@LANGUAGES
def test_every_setting_of_every_command_is_on_the_page(language):
    page = _page(language)
    for command in COMMANDS.values():
        assert f"### {command.name} {{#command-{command.file_name}}}" in page
        for one in iter_settings(command.settings):
            assert f"`{one.flags[0] if one.flags else one.key}`" in page


@LANGUAGES
def test_every_environment_variable_of_ours_is_on_the_page(language):
    source = "".join(p.read_text(encoding="utf-8") for p in (ROOT / "src").rglob("*.py"))
    ours = set(re.findall(r'"((?:ENCODERLAB|VLM)_[A-Z_]+)"', source))
    assert len(ours) > 4
    assert not {name for name in ours if f"`{name}`" not in _page(language)}


@LANGUAGES
def test_exit_codes_are_those_of_the_errors(language):
    kinds = (errors.WorkError, errors.UsageError, errors.MissingError)
    for kind in kinds:
        assert f"| {kind.exit_code} |" in _page(language)
