"""Progress: plain lines in a log, nothing when quiet, all on stderr."""

import threading

import pytest

from encoderlab.core import progress


@pytest.fixture(autouse=True)
def _usual_loudness():
    yield
    progress.configure()


def test_a_log_gets_a_line_at_the_end(capsys):
    with progress.progress("embedding images", total=3, unit="image") as bar:
        bar.advance(3)
    printed = capsys.readouterr()
    assert printed.out == "" and printed.err.startswith("embedding images: 3/3, ")
    assert len(printed.err.splitlines()) == 1


def test_a_log_gets_a_line_every_ten_seconds(capsys, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    with progress.progress("work", total=100) as bar:
        for _ in range(100):
            now[0] += 0.3
            bar.advance()
    assert len(capsys.readouterr().err.splitlines()) == 3  # after 10 s, after 20 s, at the end


@pytest.mark.parametrize(("total", "lines"), [(400, 1), (100, 0)])
def test_a_wait_of_more_than_a_minute_is_estimated_early(capsys, monkeypatch, total, lines):
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    with progress.progress("work", total=total) as bar:
        for _ in range(10):
            now[0] += 0.3
            bar.advance()
        printed = capsys.readouterr().err.splitlines()
    assert len(printed) == lines
    if lines:  # 7 steps took 2.1 s
        assert f"{2.1 / 7 * (total - 7):.0f} s left" in printed[0]


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


def test_what_holds_for_every_model_is_said_once_in_a_command(capsys):
    for _ in range(2):
        progress.note_once("device: cpu")
    progress.configure()
    progress.note_once("device: cpu")
    assert capsys.readouterr().err == "device: cpu\n" * 2


def test_a_watcher_gets_every_step_and_stderr_nothing(capsys):
    steps = []
    with (
        progress.watch_progress(lambda what, bar: steps.append((what, bar.done, bar.total))),
        progress.progress("counting", total=2) as bar,
    ):
        bar.advance()
        bar.advance()
    assert steps == [("counting", 0, 2), ("counting", 1, 2), ("counting", 2, 2)]
    assert capsys.readouterr().err == ""


def test_what_the_watcher_raises_stops_the_work():
    def stop(what, bar):
        if bar.done == 3:
            raise InterruptedError

    done = []
    with (
        pytest.raises(InterruptedError),
        progress.watch_progress(stop),
        progress.progress("counting", total=9) as bar,
    ):
        for i in range(9):
            bar.advance()
            done.append(i)
    assert done == [0, 1]


def test_watching_holds_for_its_own_thread_only(capsys):
    heard = []

    def other():
        with progress.progress("elsewhere", total=1) as bar:
            bar.advance()

    with progress.watch_progress(lambda what, bar: heard.append(what)):
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
    assert heard == [] and "elsewhere" in capsys.readouterr().err


def test_a_warning_is_kept_and_said_once(capsys):
    with progress.collect_warnings() as outer:
        progress.warn("first")
        with progress.collect_warnings() as inner:
            progress.warn("second")
            progress.warn("second")
        progress.warn("first")
    assert (inner, outer) == (["second"], ["first", "second"])
    assert capsys.readouterr().err == "warning: first\nwarning: second\n"
    progress.warn("nobody keeps it")
    assert capsys.readouterr().err == "warning: nobody keeps it\n" and len(outer) == 2
