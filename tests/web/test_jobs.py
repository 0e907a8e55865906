"""How a visitor's job runs: it can be stopped, queues in its lane, and shows no server path."""

import re
import threading
import time

from encoderlab.alignment.settings import Coral
from encoderlab.core.progress import progress
from encoderlab.core.results import Table
from encoderlab.core.runner import CompletedRun
from encoderlab.retrieval.settings import Search
from encoderlab.web import jobs
from encoderlab.web.jobs import EXPERIMENTS, SHORT, Example, JobRunner, Outcome
from encoderlab.web.render import answer

DONE = CompletedRun(None, None, 0.0)


def ignore(what: str, done: int, total: int | None) -> None:
    """Takes progress and drops it."""


def test_stop_ends_the_work_at_its_next_step(runner, monkeypatch):
    visitor = runner.visitors.of("a")
    steps = []

    def work(self, command, settings, folder):
        with progress("working", total=10) as bar:
            for i in range(10):
                steps.append(i)
                if i == 3:
                    visitor.stop("coral")
                bar.advance()

    monkeypatch.setattr(JobRunner, "_perform", work)
    outcome = runner.run(visitor, "coral", "coral", Coral, ignore)
    assert outcome.stopped and steps == [0, 1, 2, 3]
    assert not visitor.running


def test_stop_of_one_job_or_visitor_leaves_the_others(runner, monkeypatch):
    one, other = runner.visitors.of("a"), runner.visitors.of("b")

    def work(self, command, settings, folder):
        other.stop("coral")
        one.stop("search")
        with progress("working", total=1) as bar:
            bar.advance()
        return DONE

    monkeypatch.setattr(JobRunner, "_perform", work)
    outcome = runner.run(one, "coral", "coral", Coral, ignore)
    assert outcome.done is not None and not outcome.stopped


def test_jobs_of_one_lane_follow_one_another_and_lanes_do_not_wait(runner, monkeypatch):
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
        return DONE

    monkeypatch.setattr(JobRunner, "_perform", work)
    jobs = [("coral", Coral, EXPERIMENTS)] * 3 + [("search", Search, SHORT)] * 3
    threads = [
        threading.Thread(
            target=lambda i=i, command=command, make=make, lane=lane: runner.run(
                runner.visitors.of(str(i)), command, command, make, ignore, lane=lane
            )
        )
        for i, (command, make, lane) in enumerate(jobs)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == {"coral": 1, "search": 1} and together.is_set()


def test_visitor_sees_their_own_names_the_longest_path_first():
    outcome = Outcome(names={"/x/visitor-1": "outputs", "/x/visitor-1/photos-ab": "photos"})
    assert outcome.plain("/x/visitor-1/photos-ab/cat.png and /x/visitor-1") == (
        "photos/cat.png and outputs"
    )


def test_command_line_is_that_of_the_settings(runner, monkeypatch):
    monkeypatch.setattr(JobRunner, "_perform", lambda *args: DONE)
    visitor = runner.visitors.of("a")
    outcome = runner.run(visitor, "coral", "coral", lambda: Coral(n_samples=5), ignore)
    assert outcome.command == "encoderlab coral --n-samples 5"


def test_a_warning_of_the_run_is_shown():
    class Result:
        def to_json(self):
            return {}

        def blocks(self):
            return ["the answer"]

    done = CompletedRun(Result(), None, 0.0, ("3 of 4 <b>texts</b> are cut",))
    page, rest = answer(Outcome(done))
    assert "<p class=warning>3 of 4 &lt;b&gt;texts&lt;/b&gt; are cut</p>" in page
    assert "the answer" in page and "the answer" not in rest


def test_a_first_screen_has_the_verdict_and_what_is_asked_for_and_the_rest_has_the_rest():
    class Result:
        def to_json(self):
            return {}

        def blocks(self):
            tables = [Table(("head",), ((f"cell {i}",),)) for i in (1, 2)]
            return ["verdict\n- remark\n! warning", tables[0], "after", tables[1]]

    outcome = Outcome(CompletedRun(Result(), None, 0.0))
    parts = ("verdict", "remark", "warning", "cell 1", "after", "cell 2")
    for front, first in (
        ((), "verdict warning"),
        (("table",), "verdict warning cell 1"),
        (("text",), "verdict warning after"),
        (("table", "text"), "verdict warning cell 1 after"),
    ):
        page, rest = answer(outcome, front)
        shown = [re.search(rf">{part}<", page) is not None for part in parts]
        assert shown == [part in first for part in parts]
        assert [re.search(rf">{part}<", rest) is None for part in parts] == shown


def test_examples_run_alone_give_way_to_visitors_and_are_run_again(runner, monkeypatch):
    started, log = threading.Event(), []

    def work(self, command, settings, folder):
        log.append(command)
        if command == "search":
            assert all(lock.locked() for lock in runner._lanes.values())
            with progress("working", total=1000) as bar:
                for _ in range(1000 if len(log) == 1 else 1):
                    started.set()
                    bar.advance()
                    time.sleep(0.01)
        return DONE

    def example():
        outcome = runner.run(runner.visitors.examples, "search", "search", Search, ignore)
        return None if outcome.stopped else ["shown"]

    monkeypatch.setattr(JobRunner, "_perform", work)
    monkeypatch.setattr(jobs, "IDLE_POLL_SECONDS", 0.01)
    runner.examples["search"] = Example(example, SHORT)
    thread = threading.Thread(target=runner.run_examples)
    thread.start()
    assert started.wait(10)
    outcome = runner.run(runner.visitors.of("a"), "coral", "coral", Coral, ignore)
    assert outcome.done is not None and outcome.beside == 0
    thread.join(10)
    assert log == ["search", "coral", "search"]
    assert runner.examples["search"].outputs == ["shown"]


def test_a_page_that_closes_runs_no_further_example(runner):
    runner.examples["search"] = Example(lambda: ["shown"], SHORT)
    runner.close()
    runner.run_examples()
    assert runner.examples["search"].outputs is None


def test_an_event_that_can_be_cancelled_has_no_outputs(runner):
    # Gradio's page may look for them in the empty answer to a cancelled event, and fail.
    from encoderlab.web import page

    events = {event["id"]: event for event in page.build(runner).get_config_file()["dependencies"]}
    cancelled = [number for event in events.values() for number in event["cancels"]]
    assert len(cancelled) >= 12
    assert [events[number]["outputs"] for number in cancelled] == [[]] * len(cancelled)
