"""A newcomer's way through README.md: its jobs, line by line, in a new folder."""

import re
import shlex
from pathlib import Path

import pytest

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
JOBS = README[README.index("## Six jobs") : README.index("## In Python")]
LINES = [
    line.removeprefix("encoderlab ")
    for block in re.findall(r"^```\n(.*?)^```", JOBS, re.MULTILINE | re.DOTALL)
    for line in block.replace("\\\n", " ").splitlines()
    if line.startswith("encoderlab ")
]
# `all` takes a minute and is what `make demo` begins with; `compress evaluate` with its 42 rows is
# in test_compress.py on fewer; `app` serves until it is stopped.
ELSEWHERE = ("all", "compress evaluate", "app")


@pytest.mark.slow
def test_every_line_of_the_jobs_runs_as_it_stands(lab, tmp_path):
    assert LINES[0] == "draw" and len(LINES) >= 12
    commands = {line.split()[0] for line in LINES}
    assert {
        "train",
        "evaluate",
        "classify",
        "index",
        "search",
        "tokens",
        "compress",
        "vlm",
    } < commands
    for line in LINES:
        if line in ELSEWHERE:
            continue
        words = shlex.split(line)
        if line == "draw":
            words += ["--photos", "80", "--pairs", "64"]
        if "image.path=photos/ " in line:
            words += ["visualization.save_individual=false"]
        answer = lab(*words)
        assert answer.code == 0, f"{line}\n{answer.err}"
        assert answer.out.strip(), line
    for left in ("gallery.html", "outputs/tokens/run.json", "outputs/train/export/config.json"):
        assert (tmp_path / left).exists(), left
