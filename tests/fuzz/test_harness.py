"""The fuzz suite can fail: commands and loaders that are bad on purpose are caught, by name."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from random import Random

import pytest
from tests.fuzz import cases, guard, kinds_files, kinds_made, kinds_words, mutate
from tests.fuzz.cases import Case, Trial

from encoderlab.errors import UsageError
from encoderlab.workbench import ls

assert kinds_files and kinds_made and kinds_words


@pytest.fixture
def found(seeds, tmp_path):
    """What is found wrong with a trial."""

    def judged(trial: Trial, seconds: float = cases.SECONDS) -> list[str]:
        shutil.rmtree(tmp_path / "case", ignore_errors=True)
        case = Case("bad", 0, 1, tmp_path / "case", seeds)
        (case.given / "input").write_text("as it was")
        (case.out / "earlier").write_text("as it was")
        return cases.run(case, lambda _: trial, seconds)

    return judged


@pytest.fixture
def ls_does(monkeypatch):
    """Puts something in place of what `encoderlab ls` does."""
    return lambda run: monkeypatch.setattr(ls.run, "with_settings", lambda *_: run())


LS = Trial(words=["ls"])


def test_what_does_its_work_is_not_found_wanting(found):
    assert found(LS) == []
    assert found(Trial(words=["ls", "nothing"])) == []


def _raise(error):
    def run(**_):
        raise error

    return run


def test_an_error_that_is_not_ours_is_found(found, ls_does):
    assert "KeyError: 'x' at" in found(Trial(act=_raise(KeyError("x"))))[0]
    ls_does(_raise(KeyError("x")))
    assert "unexpected error: KeyError" in found(LS)[0]


def test_memory_is_no_answer_to_what_a_file_claims(found, ls_does):
    ls_does(_raise(MemoryError()))
    assert "out of memory" in found(LS)[0]


def test_a_sentence_of_several_lines_or_none_is_found(found, ls_does):
    assert "no one-line sentence" in found(Trial(act=_raise(UsageError("a\nb"))))[0]
    ls_does(_raise(UsageError("wrong", hint="a\nTraceback (most recent call last):\nb")))
    assert any("a traceback" in one for one in found(LS))


def test_a_traceback_an_exit_and_an_answer_beside_an_error_are_found(found, ls_does):
    ls_does(_raise(SystemExit(2)))
    assert "exit code 99" in found(LS)[0]
    assert cases.judge_words(2, "an answer", "encoderlab: error: x\n") == [
        "an answer on stdout although it failed: 'an answer'"
    ]
    assert cases.judge_words(2, "", "usage: ...\n")[0].startswith("no sentence of ours")
    assert cases.judge_words(0, "fine", "data: built-in samples\n") == []


@pytest.mark.parametrize(
    "write",
    [
        lambda path: path.write_text("x"),
        lambda path: os.close(os.open(path, os.O_CREAT | os.O_WRONLY)),
        lambda path: path.mkdir(),
        lambda path: path.symlink_to("nowhere"),
        lambda path: os.rename(path.parent / "victim", path),
        lambda path: (path.parent / "victim").unlink(),
        lambda path: (path.parent / "victim").chmod(0o777),
        lambda path: os.truncate(path.parent / "victim", 0),
    ],
)
def test_a_write_outside_the_output_folder_is_found(found, tmp_path, write):
    (tmp_path / "victim").write_text("x")
    assert "wrote outside its folder" in found(Trial(act=lambda: write(tmp_path / "stray")))[0]


def test_a_write_through_a_link_out_of_the_folder_is_found(found, tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "stray")
    inside = Trial(act=lambda: (tmp_path / "link").write_text("x"), writes=(tmp_path / "link",))
    assert found(inside) == [], "what is allowed is resolved, too"
    out = tmp_path / "case/out"
    case = Trial(act=lambda: ((out / "x").symlink_to("/tmp/stray"), (out / "x").open("r+")))
    assert any("open /tmp/stray" in one for one in found(case))


def test_programs_and_the_network_are_found(found):
    import socket

    run = Trial(act=lambda: subprocess.run([sys.executable, "-c", ""], check=False))
    assert "started a program" in found(run)[0]

    def reach():
        with socket.socket() as one:
            one.settimeout(0.01)
            one.connect_ex(("127.0.0.1", 9))

    assert "reached for the network" in found(Trial(act=reach))[0]


def test_earlier_results_that_a_failure_spoils_are_found(found, tmp_path):
    def spoil():
        (tmp_path / "case/out/earlier").write_text("other")
        raise UsageError("wrong")

    assert found(Trial(act=spoil)) == ["changed what was in out: earlier"]


def test_an_input_that_changes_is_found_even_where_all_went_well(found, tmp_path):
    given = tmp_path / "case/given"
    spoil = Trial(act=lambda: (given / "input").write_text("other"), writes=(given,))
    assert found(spoil) == ["changed what was in given: input"]


def test_a_failed_run_with_a_result_is_found(found, tmp_path):
    def leave():
        (tmp_path / "case/out/run.json").write_text("{}")
        raise UsageError("wrong")

    assert found(Trial(act=leave)) == ["a failed run left a run.json"]


def test_a_loop_is_ended_and_named_with_its_place(found):
    def loops():
        while True:
            pass

    started = time.perf_counter()
    (said,) = found(Trial(act=loops), seconds=0.2)
    assert said.startswith("hangs: more than 0.2 s in ") and __file__ in said
    assert time.perf_counter() - started < 10


def test_waiting_for_ever_is_ended_too(found):
    assert "hangs" in found(Trial(act=lambda: time.sleep(60)), seconds=0.1)[0]


def test_memory_that_is_taken_is_found_and_too_much_is_not_given(found, monkeypatch):
    monkeypatch.setattr(guard, "MOST_RSS", 32 << 20)
    more = (guard.peak_memory() - _memory_now()) + (64 << 20)
    assert "MB of memory" in found(Trial(act=lambda: bytearray(b"x") * more and None))[0]
    assert "MemoryError" in found(Trial(act=lambda: bytes(guard.ROOM * 2)))[0]


def _memory_now() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096


def test_a_failure_is_reported_with_its_input_and_what_repeats_it(seeds, tmp_path):
    case = Case("csv", 5, 17, tmp_path / "case", seeds, ["ls"])
    told = cases.report(case, ["hangs"])
    assert f"csv:17 (seed 5): input in {case.folder}, ['ls']\n    hangs" in told
    assert "ENCODERLAB_FUZZ_SEED=5 ENCODERLAB_FUZZ_ONLY=csv:17 python -m pytest" in told
    assert cases.sign(["byte 3 of /a/b"]) == cases.sign(["byte 4 of /c"]) != cases.sign(["byte"])


@pytest.mark.parametrize("name", sorted(cases.KINDS))
def test_a_seed_gives_the_same_case_again(name, seeds, tmp_path):
    make, _ = cases.KINDS[name]

    def once(number: int):
        case = Case(name, 7, 3, tmp_path / "again", seeds)
        trial = make(case)
        state = guard.state_of(case.given)
        shutil.rmtree(case.folder)
        return trial.words, state

    assert once(0) == once(1)


def test_mutations_change_what_they_are_given():
    data = bytes(range(256)) * 4
    changed = [mutate.spoil_bytes(Random(i), data) != data for i in range(200)]
    assert sum(changed) > 190
    record = {"a": [1, {"b": "c"}], "d": None}
    assert sum(mutate.spoil_value(Random(i), record) != record for i in range(200)) > 150
    assert record == {"a": [1, {"b": "c"}], "d": None}, "a copy is changed"
