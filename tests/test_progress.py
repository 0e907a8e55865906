"""Progress: plain lines in a log, nothing when quiet, all on stderr."""

from __future__ import annotations

import pytest

from encoderlab import progress


@pytest.fixture(autouse=True)
def _usual_loudness():
    yield
    progress.configure()


def test_a_log_gets_a_line_at_the_end(capsys):
    with progress.progress("embedding images", total=3, unit="image") as bar:
        bar.advance(3)
    told = capsys.readouterr()
    assert told.out == "" and told.err.startswith("embedding images: 3/3, ")
    assert len(told.err.splitlines()) == 1


def test_a_log_gets_a_line_every_ten_seconds(capsys, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    with progress.progress("work", total=100) as bar:
        for _ in range(100):
            now[0] += 0.3
            bar.advance()
    assert len(capsys.readouterr().err.splitlines()) == 3  # after 10 s, after 20 s, at the end


def test_quiet_says_nothing_and_verbose_says_more(capsys):
    progress.detail("hidden")
    progress.configure(quiet=True)
    progress.note("unheard")
    with progress.progress("unseen", total=1) as bar:
        bar.advance()
    assert capsys.readouterr().err == ""
    progress.configure(verbose=True)
    progress.detail("shown")
    assert capsys.readouterr().err == "shown\n"
