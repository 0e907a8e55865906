"""Settings back into the command line that gives them: what differs from the defaults, in words."""

from __future__ import annotations

import shlex
from collections.abc import Collection
from typing import Any

from encoderlab.core.commands import Command
from encoderlab.core.common_settings import TALK
from encoderlab.core.settings import Setting, as_typed, iter_settings, value_at


def command_line(command: Command, settings: Any, leave_out: Collection[str] = ()) -> str:
    """`encoderlab COMMAND ...`, quoted for a shell, without the keys in `leave_out`."""
    words: list[str] = []
    for setting in iter_settings(command.settings):
        value = value_at(settings, setting.key)
        if value != setting.default and setting.key not in (*TALK, *leave_out):
            words += _words(setting, value)
    return shlex.join(["encoderlab", *command.name.split(), *words])


def _words(setting: Setting, value: Any) -> list[str]:
    if value is None or value == [] or not setting.flags:
        return [f"{setting.key}={as_typed(value)}"]
    flag, text = setting.flags[0], str(value)
    if setting.item is bool:
        return [flag] if value else ["--no-" + flag.removeprefix("--")]
    if setting.many:
        return [flag, *map(str, value)]
    # A bare word that looks like a flag or an override would be taken for one.
    if setting.positional and text and not text.startswith("-") and "=" not in text:
        return [text]
    return [f"{flag}={text}"] if text.startswith("-") else [flag, text]
