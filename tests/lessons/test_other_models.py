"""The one line that names the model takes any CLIP checkpoint."""

import pytest
from tests.lessons.notebooks import FOLDER, filled, run, source_of, states

NAME = "1_multimodal_embeddings.py"
LINE = 'MODEL = "tiny-clip"'


@pytest.mark.slow
def test_lesson_1_runs_with_a_hub_checkpoint(tmp_path, clip_folder, capsys):
    source = filled(NAME)
    assert source.count(LINE) == 1
    path = tmp_path / NAME
    path.write_text(source.replace(LINE, f"MODEL = {str(clip_folder)!r}"), encoding="utf-8")
    defs = run(path)
    printed = capsys.readouterr().out
    assert "D = 16" in printed and "Image Embedding's shape: (200, 16)" in printed
    # Random weights know no words, so nobody could find five pictures; all else is mathematics.
    assert states(defs)[:6] == ["right"] * 6
    assert defs["check_7"].state == "wrong" and "are found" in str(defs["check_7"])
    assert defs["check_8"].state == "wrong" and "of the 3 wanted" in str(defs["check_8"])


def test_the_line_is_where_the_readme_says():
    assert source_of(NAME).count(LINE) == 1
    assert LINE in (FOLDER / "README.md").read_text(encoding="utf-8")
