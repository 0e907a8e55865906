"""The names of classes as a user lists them. Knows words only."""

from __future__ import annotations

from collections.abc import Sequence

from encoderlab.errors import UsageError


def class_names(given: str | Sequence[str]) -> list[str]:
    """The names in "cat,dog,car" or in a sequence, stripped.

    Raises:
        UsageError: a name is blank or stands twice, or there are fewer than two.
    """
    parts = given.split(",") if isinstance(given, str) else given
    names = [name.strip() for name in parts]
    if any(not name for name in names):
        raise UsageError(
            "a class name is blank",
            got=given if isinstance(given, str) else ",".join(given),
            want="names with commas between them, none empty",
        )
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise UsageError(
            "a class stands twice in the list", got=", ".join(twice), want="each class once"
        )
    if len(names) < 2:
        raise UsageError(
            "one class leaves nothing to choose", got=",".join(names), want="at least two classes"
        )
    return names
