"""What has another name now: the old one works for two minor versions, and says so once.

A setting says its old name in `setting(..., formerly=...)`, a public name in
`encoderlab._FORMERLY`, a parameter of a function in `@formerly`. The policy is in CONTRIBUTING.md.
Standard library only.
"""

from __future__ import annotations

import functools
import inspect
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from encoderlab.errors import UsageError

KEPT_FOR = 2  # minor versions
Function = TypeVar("Function", bound=Callable[..., Any])
_said: set[tuple[str, str]] = set()


class RenamedWarning(FutureWarning):
    """An old name was used. A FutureWarning, which Python shows to users and not only to tests."""


@dataclass(frozen=True)
class Former:
    """An old name.

    Args:
        name: the old name.
        since: the version that brought the new one, `MAJOR.MINOR`.
    """

    name: str
    since: str

    @property
    def goes(self) -> str:
        """The version in which the old name is no longer understood.

        >>> Former("n_epochs", since="0.3").goes
        '0.5'
        """
        major, minor = self.since.split(".")[:2]
        return f"{major}.{int(minor) + KEPT_FOR}"

    def is_due(self, version: str) -> bool:
        """Whether a version must not understand it any more."""
        return _numbers(version) >= _numbers(self.goes)

    def sentence(self, now: str, before: str | None = None) -> str:
        """What whoever used the old name is told; `before` is how they wrote it.

        >>> Former("n_epochs", since="0.3").sentence("--epochs", "--n-epochs")
        '--n-epochs is called --epochs since 0.3; the old name goes in 0.5'
        """
        return (
            f"{before or self.name} is called {now} since {self.since}; "
            f"the old name goes in {self.goes}"
        )


def say_once(
    former: Former,
    now: str,
    say: Callable[[str], None] | None = None,
    *,
    before: str | None = None,
) -> None:
    """Tells of a new name, once in a process.

    Args:
        say: gets the sentence; a Python warning where None.
        before: how the old name was written.
    """
    before = before or former.name
    if (before, now) in _said:
        return
    _said.add((before, now))
    sentence = former.sentence(now, before)
    if say is not None:
        say(sentence)
    else:
        warnings.warn(sentence, RenamedWarning, stacklevel=3)


def formerly(**old: tuple[str, str]) -> Callable[[Function], Function]:
    """Lets a function take parameters by their old names: `@formerly(n_epochs=("epochs", "0.3"))`.

    Raises:
        UsageError: at the call, where the old and the new name are both given.
    """

    def decorate(function: Function) -> Function:
        known = inspect.signature(function).parameters
        lacking = [new for new, _ in old.values() if new not in known]
        assert not lacking, f"{function.__name__} has no parameter {lacking[0]}"

        @functools.wraps(function)
        def called(*args: Any, **given: Any) -> Any:
            for name in [name for name in old if name in given]:
                new, since = old[name]
                if new in given:
                    raise UsageError("the same parameter by two names", got=f"{name} and {new}")
                say_once(Former(name, since), new)
                given[new] = given.pop(name)
            return function(*args, **given)

        called.__formerly__ = [Former(name, since) for name, (_, since) in old.items()]  # type: ignore[attr-defined]
        return called  # type: ignore[return-value]

    return decorate


def _numbers(version: str) -> tuple[int, int]:
    major, minor = version.split(".")[:2]
    return int(major), int(minor)
