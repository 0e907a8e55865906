"""Settings back into the command line that gives them: what differs from the defaults, in words."""

from __future__ import annotations

import shlex
from collections.abc import Collection
from typing import Any

from encoderlab.core.commands import Command
from encoderlab.core.common_settings import TALK
from encoderlab.core.settings import Setting, iter_settings, value_at


def command_line(command: Command, settings: Any, leave_out: Collection[str] = ()) -> str:
    """`encoderlab COMMAND ...`, quoted for a shell.

    Args:
        settings: an instance of the command's settings dataclass.
        leave_out: keys that are not said.
    """
    words: list[str] = []
    for one in iter_settings(command.settings):
        value = value_at(settings, one.key)
        if value != one.default and one.key not in (*TALK, *leave_out):
            words += _words(one, value)
    return shlex.join(["encoderlab", command.name, *words])


def _words(one: Setting, value: Any) -> list[str]:
    if value is None or value == []:
        return [f"{one.key}={'[]' if one.many else 'null'}"]
    if not one.flags:
        inner = "[" + ",".join(map(str, value)) + "]" if one.many else str(value)
        return [f"{one.key}={inner}"]
    flag = one.flags[0]
    if one.item is bool:
        return [flag] if value else ["--no-" + flag.removeprefix("--")]
    if one.many:
        return [flag, *map(str, value)]
    if one.positional and _is_plain(str(value)):
        return [str(value)]
    # What begins like a flag would be taken for one.
    return [f"{flag}={value}"] if str(value).startswith("-") else [flag, str(value)]


def _is_plain(text: str) -> bool:
    """Whether a bare word is read as it stands: it looks like no flag and like no override."""
    return bool(text) and not text.startswith("-") and "=" not in text
