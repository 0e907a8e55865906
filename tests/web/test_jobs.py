"""How a visitor's job runs: it can be stopped, waits in its lane, and tells no path of ours."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from encoderlab.alignment.settings import Coral
from encoderlab.core.progress import progress
from encoderlab.core.runner import CompletedRun
from encoderlab.retrieval.settings import Search
from encoderlab.web.choices import model_choices
from encoderlab.web.jobs import (
    EXPERIMENTS,
    SHORT,
    JobRunner,
    Outcome,
)
from encoderlab.web.render import answer
from encoderlab.web.user_sessions import UserSessions


@pytest.fixture
def place(tmp_path: Path) -> JobRunner:
    offer = model_choices(host="127.0.0.1", share=False, encoders=(), llms=())
    return JobRunner(offer, UserSessions(tmp_path / "visitors", most_mb=100), tmp_path)


def no_ear(what: str, done: int, total: int | None) -> None:
    """Hears nothing."""


def test_stop_ends_the_work_at_its_next_step(place, monkeypatch):
    visitor = place.visitors.of("a")
    steps = []

    def work(self, command, settings, folder):
        with progress("working", total=10) as bar:
            for i in range(10):
                steps.append(i)
                if i == 3:
                    visitor.stop("coral")
                bar.advance()

    monkeypatch.setattr(JobRunner, "_perform", work)
    outcome = place.run(visitor, "coral", "coral", Coral, no_ear)
    assert outcome.stopped and steps == [0, 1, 2, 3]
    assert not visitor.running


def test_stop_of_one_job_or_visitor_leaves_the_others(place, monkeypatch):
    one, other = place.visitors.of("a"), place.visitors.of("b")

    def work(self, command, settings, folder):
        other.stop("coral")
        one.stop("search")
        with progress("working", total=1) as bar:
            bar.advance()
        return CompletedRun(None, None, 0.0)

    monkeypatch.setattr(JobRunner, "_perform", work)
    outcome = place.run(one, "coral", "coral", Coral, no_ear)
    assert outcome.done is not None and not outcome.stopped


def test_jobs_of_one_lane_follow_one_another_and_lanes_do_not_wait(place, monkeypatch):
    inside, most, together = {"coral": 0, "search": 0}, {"coral": 0, "search": 0}, threading.Event()
    lock = threading.Lock()

    def work(self, command, settings, folder):
        with lock:
            inside[command] += 1
            most[command] = max(most[command], inside[command])
            if all(inside.values()):
                together.set()
        together.wait(5)
        with lock:
            inside[command] -= 1
        return CompletedRun(None, None, 0.0)

    monkeypatch.setattr(JobRunner, "_perform", work)
    jobs = [("coral", Coral, EXPERIMENTS)] * 3 + [("search", Search, SHORT)] * 3
    threads = [
        threading.Thread(
            target=lambda i=i, command=command, make=make, lane=lane: place.run(
                place.visitors.of(str(i)), command, command, make, no_ear, lane=lane
            )
        )
        for i, (command, make, lane) in enumerate(jobs)
    ]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert most == {"coral": 1, "search": 1} and together.is_set()


def test_visitor_sees_their_own_names_the_longest_path_first():
    outcome = Outcome(names={"/x/visitor-1": "outputs", "/x/visitor-1/photos-ab": "photos"})
    assert outcome.plain("/x/visitor-1/photos-ab/cat.png and /x/visitor-1") == (
        "photos/cat.png and outputs"
    )


def test_command_line_is_that_of_the_settings(place, monkeypatch):
    monkeypatch.setattr(JobRunner, "_perform", lambda *given: CompletedRun(None, None, 0.0))
    outcome = place.run(
        place.visitors.of("a"), "coral", "coral", lambda: Coral(n_samples=5), no_ear
    )
    assert outcome.command == "encoderlab coral --n-samples 5"


def test_a_warning_of_the_run_is_shown():
    class Result:
        def blocks(self):
            return ["the answer"]

    done = CompletedRun(Result(), None, 0.0, ("3 of 4 <b>texts</b> are cut",))
    page = answer(Outcome(done))
    assert "<p class=warning>3 of 4 &lt;b&gt;texts&lt;/b&gt; are cut</p>" in page
    assert "the answer" in page
