"""The commands of README.md's jobs whose output it does not show, as a newcomer types them.

`tests/docs/test_examples.py` runs the others and compares what they print.
"""

import shlex

import pytest
from tests.docs import pages

README = (pages.ROOT / "README.md").read_text(encoding="utf-8")
JOBS = README[README.index("## Six jobs") : README.index("## On real")]
LINES = [
    line.removeprefix("encoderlab ")
    for block in pages.blocks(JOBS)
    if not block.language
    for line in block.body.splitlines()
]


def test_it_is_short():
    assert len(README.splitlines()) <= 180


@pytest.mark.slow
def test_every_line_without_an_output_runs_as_it_stands(lab, tmp_path):
    assert [line.split()[0] for line in LINES] == ["train", "evaluate"]
    assert lab("draw", "--photos", "5", "--pairs", "64").code == 0
    for line in LINES:
        answer = lab(*shlex.split(line))
        assert answer.code == 0, f"{line}\n{answer.err}"
        assert answer.out.strip(), line
    assert (tmp_path / "outputs/train/export/config.json").exists()
