"""Thousands of spoiled inputs, and not one traceback, hang, or write outside the output folder.

A few hundred cases run with `pytest tests/fuzz`. All of them: `make fuzz`.

Another round: ENCODERLAB_FUZZ_SEED=1. One case again, as a failure names it:
ENCODERLAB_FUZZ_ONLY=csv:17, with the seed of that failure.
"""

import os
import shutil
import time

import pytest
from tests.fuzz import cases, kinds_files, kinds_made, kinds_words

A_FEW = 400
SEED = int(os.environ.get(cases.SEED_VARIABLE, "0"))
TOTAL = int(os.environ.get(cases.CASES_VARIABLE, A_FEW))
ONLY = os.environ.get(cases.ONLY_VARIABLE)
MOST_SHOWN = 12
assert kinds_files and kinds_made and kinds_words  # their kinds are registered


@pytest.mark.fuzz
@pytest.mark.parametrize("name", sorted(cases.KINDS))
def test_no_input_does_more_than_fail_in_a_sentence(name, seeds, tmp_path, record_property):
    make, _ = cases.KINDS[name]
    numbers = range(cases.count_of(name, TOTAL))
    if ONLY is not None:
        wanted, _, number = ONLY.rpartition(":")
        if wanted != name:
            pytest.skip(f"only {ONLY}")
        numbers = range(int(number), int(number) + 1)
    failed: dict[str, tuple[str, int]] = {}
    started = time.process_time()
    for number in numbers:
        case = cases.Case(name, SEED, number, tmp_path / str(number), seeds)
        wrong = cases.run(case, make)
        if wrong:
            sign = cases.sign(wrong)
            first, times = failed.get(sign, ("", 0))
            failed[sign] = first or cases.report(case, wrong), times + 1
            if not times:
                print(failed[sign][0], flush=True)  # with -s, as it is found
                continue  # its input stays
        shutil.rmtree(case.folder, ignore_errors=True)
    record_property("cases", len(numbers))
    print(f"{name}: {len(numbers)} cases in {time.process_time() - started:.1f} s of the processor")
    if failed:
        shown = [f"{first}\n    ({times} like it)" for first, times in failed.values()][:MOST_SHOWN]
        pytest.fail(
            f"{sum(times for _, times in failed.values())} of {len(numbers)} cases of {name}, "
            f"{len(failed)} kinds of mistake:\n" + "\n".join(shown),
            pytrace=False,
        )
