"""What tests of lessons share: a cache of their own, and the grader within reach."""

import contextlib
import io
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from tests.lessons.notebooks import FOLDER, SHORTER, filled, run


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
    kept: dict[tuple[str, str], Ran] = {}

    def ran(language: str, name: str) -> Ran:
        if (language, name) not in kept:
            from grader import Grader

            plain, checks, heard = Grader.check, [], io.StringIO()

            def check(self: Any, number: int, *answers: Any, **given: Any) -> Any:
                checks.append((number, len(answers), given))
                return plain(self, number, *answers, **given)

            with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(heard):
                patch.setattr(Grader, "check", check)
                defs = run(FOLDER / name, SHORTER.get(name), language)
            kept[language, name] = Ran(defs, heard.getvalue(), checks)
        return kept[language, name]

    return ran


@pytest.fixture(scope="session")
def solved(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], Ran]:
    """(language, name) -> the lesson with the solutions filled in, run once; in English at full
    length."""
    kept: dict[tuple[str, str], Ran] = {}

    def ran(language: str, name: str) -> Ran:
        if (language, name) not in kept:
            path = tmp_path_factory.mktemp("solved") / name
            path.write_text(filled(name), encoding="utf-8")
            heard = io.StringIO()
            with contextlib.redirect_stdout(heard):
                defs = run(path, SHORTER.get(name) if language == "ko" else None, language)
            kept[language, name] = Ran(defs, heard.getvalue(), [])
        return kept[language, name]

    return ran
