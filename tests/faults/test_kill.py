"""kill -9 at any moment: what was there stays readable, and the same command typed again ends where
an undisturbed run ends, with nothing lost, doubled or left lying about.

Every round is drawn from its number. ENCODERLAB_KILL_ROUNDS says how many there are of all five
commands together (`make faults`: 100), ENCODERLAB_KILL_SEED draws others. A round that fails names
its folder, which is kept.
"""

import os
import random
import shutil
import time
from pathlib import Path

import pytest
from tests.faults.jobs import CHUNK, Job, TrainJob
from tests.faults.runs import (
    KILLED,
    Server,
    fresh,
    kill_after,
    leftovers,
    run_record_is_whole_or_absent,
)

ROUNDS = int(os.environ.get("ENCODERLAB_KILL_ROUNDS", "8"))
SEED = int(os.environ.get("ENCODERLAB_KILL_SEED", "0"))
COMMANDS = ("index", "features", "train", "compress", "vlm")
# All of them where all rounds are asked for: a fresh process takes seconds to import.
FRESH = COMMANDS if ROUNDS >= 100 else COMMANDS[:1]


@pytest.mark.slow
@pytest.mark.parametrize("number", range(ROUNDS))
def test_a_killed_run_goes_on_to_the_same_end(number, job, server, tmp_path):
    name = COMMANDS[number % len(COMMANDS)]
    chance = random.Random(f"{SEED} {number}")
    killed = job(name)
    earlier = killed.base / "earlier" / "out"
    onto = killed.has_earlier and chance.random() < 0.5
    if onto:
        shutil.copytree(earlier, tmp_path / "out")
    done = []
    try:
        for _ in range(chance.choice((1, 1, 2, 3))):
            done.append(_kill(killed, server, tmp_path, chance))
            assert run_record_is_whole_or_absent(tmp_path / "out")
            killed.looks(tmp_path / "out", earlier if onto else None)
        _heal(killed, server, tmp_path, onto)
    except BaseException:
        print(f"round {number} of seed {SEED}: {name}, {'onto an earlier result, ' * onto}killed "
              f"{'; '.join(done)}; its folder is {tmp_path}")  # fmt: skip
        raise
    shutil.rmtree(tmp_path)


def _kill(killed: Job, server: Server, place: Path, chance: random.Random) -> str:
    """One killed run; gives in words when it was killed."""
    argv = killed.again(place / "out")
    options = {"watched": place / "out", "chunk": CHUNK}
    way = chance.choice(("at a moment", "at a change", "at a file"))
    if way == "at a moment":
        moment = chance.uniform(*killed.trace.working)
        code = kill_after(server.start(argv, place, **options), moment)
        said = f"after {moment:.3f} s"
    elif way == "at a change":
        count = chance.randint(1, len(killed.trace.seen))
        code = server.start(argv, place, kill_at=count, **options).wait()
        said = f"before change {count} ({killed.trace.seen[count - 1][1]})"
    else:
        count = chance.randint(1, killed.files)
        code = server.start(argv, place, kill_at_file=count, **options).wait()
        said = f"when {count} files had come"
    assert code in (KILLED, 0), f"exit code {code}"
    return f"{said} (exit {code})"


def _heal(killed: Job, server: Server, place: Path, onto: bool) -> None:
    """The same command again, to its end."""
    whole = killed.base / ("onto" if onto else "whole") / "out"
    run = server.start(killed.again(place / "out"), place, chunk=CHUNK)
    assert run.wait() == 0, run.said
    killed.same(place / "out", whole)
    assert leftovers(place / "out") == leftovers(whole)
    assert run_record_is_whole_or_absent(place / "out")


@pytest.mark.slow
@pytest.mark.parametrize("name", FRESH)
def test_a_fresh_process_too(name, job, server, tmp_path):
    killed, chance = job(name), random.Random(f"{SEED} {name}")
    run = fresh(killed.argv, tmp_path, tmp_path)
    limit = time.monotonic() + 60
    while not (tmp_path / "out").exists() and time.monotonic() < limit:
        time.sleep(0.005)
    first, last = killed.trace.working
    assert kill_after(run, chance.uniform(0, last - first)) in (KILLED, 0), run.said
    killed.looks(tmp_path / "out", None)
    again = fresh(killed.again(tmp_path / "out"), tmp_path, tmp_path, "again")
    assert again.wait() == 0, again.said
    if isinstance(killed, TrainJob):  # fresh processes cut what they store into larger pieces
        killed.same_training(tmp_path / "out", killed.base / "whole" / "out")
    else:
        killed.looks(tmp_path / "out", None)
    assert leftovers(tmp_path / "out") == leftovers(killed.base / "whole" / "out")
