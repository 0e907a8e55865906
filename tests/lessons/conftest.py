"""What tests of lessons share: a cache of their own, and the grader within reach."""

import contextlib
import functools
import io
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from tests.lessons.notebooks import FOLDER, MINUTES, SHORTER, filled, run


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the lessons write their pictures: not the user's folder."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session", autouse=True)
def _within_reach(cache: Path) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(cache))
        patch.syspath_prepend(FOLDER)
        yield


class Ran(NamedTuple):
    """A notebook that has run: its names, what it printed, and how it has asked the grader."""

    defs: Mapping[str, Any]
    printed: str
    checks: list[tuple[int, int, dict[str, Any]]]  # exercise, number of answers, what is given


@pytest.fixture(scope="session")
def unanswered(cache: Path) -> Callable[[str, str], Ran]:
    """(language, name) -> the lesson as it is, run once."""

    @functools.cache
    def ran(language: str, name: str) -> Ran:
        from grader import Grader

        plain, checks, printed = Grader.check, [], io.StringIO()

        def check(self: Any, number: int, *answers: Any, **given: Any) -> Any:
            checks.append((number, len(answers), given))
            return plain(self, number, *answers, **given)

        with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(printed):
            patch.setattr(Grader, "check", check)
            defs = run(FOLDER / name, SHORTER.get(name), language)
        return Ran(defs, printed.getvalue(), checks)

    return ran


@pytest.fixture(scope="session")
def solved(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Ran]:
    """name -> the lesson with the solutions filled in, run once, in English; at full length where
    that is no matter of minutes."""

    @functools.cache
    def ran(name: str) -> Ran:
        path = tmp_path_factory.mktemp("solved") / name
        path.write_text(filled(name), encoding="utf-8")
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            defs = run(path, MINUTES.get(name))
        return Ran(defs, printed.getvalue(), [])

    return ran
