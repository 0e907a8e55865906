"""Completion scripts for shells, made from the settings: commands, flags, what may follow.

The parser built here only describes; it never parses. Loads no model and imports no torch.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from encoderlab.cli.help import add_flags
from encoderlab.core.commands import COMMANDS
from encoderlab.core.settings import Setting, iter_settings
from encoderlab.errors import unknown

SHELLS = ("bash", "zsh", "fish", "tcsh")
NO_FILE = ("device", "dtype")
PLAIN = str.maketrans("[]", "()", '`$\\"!')
USAGE = f"""usage: encoderlab completion {"|".join(SHELLS)}

Prints a script that completes commands, flags, and names of encoders, LLMs and choices.
For every new shell, the bundled models and your aliases with it:

  bash   echo 'eval "$(encoderlab completion bash)"' >> ~/.bashrc
  zsh    echo 'eval "$(encoderlab completion zsh)"' >> ~/.zshrc    (below compinit)
  fish   encoderlab completion fish > ~/.config/fish/completions/encoderlab.fish
  tcsh   encoderlab completion tcsh > ~/.encoderlab.tcsh           (then source it in ~/.tcshrc)"""


def script(shell: str) -> str:
    """The completion script of one shell."""
    if shell not in SHELLS:
        raise unknown("shell", shell, SHELLS, "encoderlab completion --help")
    import shtab

    return shtab.complete(_parser(), shell=shell)


def _parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog="encoderlab", add_help=False)
    top.add_argument("-h", "--help", action="store_true", help="show what there is")
    top.add_argument("--version", action="store_true", help="show the version")
    commands = top.add_subparsers()
    inner: dict[str, Any] = {"": commands}
    for command in COMMANDS.values():
        first, _, last = command.name.rpartition(" ")
        if first not in inner:
            about = ", ".join(name for name in COMMANDS if name.startswith(f"{first} "))
            inner[first] = commands.add_parser(first, help=about, add_help=False).add_subparsers()
        sub = inner[first].add_parser(last, help=_plain(command.summary), add_help=False)
        added = add_flags(sub, command)
        for setting in iter_settings(command.settings):
            if setting.positional:
                added.append((sub.add_argument(f"{setting.key}_", nargs="?"), setting))
        for action, of in added:
            _complete(action, of)
    shells = commands.add_parser("completion", help="Print the completion script of a shell.")
    shells.add_argument("shell", choices=SHELLS)
    return top


def _complete(action: argparse.Action, setting: Setting | None) -> None:
    """What completion offers behind a flag: choices, names, else files or folders."""
    import shtab

    if setting is None:
        if action.dest == "cfg":
            action.choices = ("job", "hydra", "all")
        if action.dest == "config_dir":
            action.complete = shtab.DIRECTORY  # type: ignore[attr-defined]
        return
    action.help = _plain(setting.help)
    if setting.choices or setting.names:
        action.choices = setting.choices or _known(setting.names)
    elif setting.item is str and setting.key not in NO_FILE:
        is_folder = setting.key.endswith(("_dir", ".dir", "_folder"))
        action.complete = shtab.DIRECTORY if is_folder else shtab.FILE  # type: ignore[attr-defined]


def _known(kind: str) -> Sequence[str]:
    """The names that `encoderlab ls KIND` lists."""
    from encoderlab.workbench import ls

    return [name for name, _ in ls.run(what=kind).kinds[kind]]


def _plain(text: str) -> str:
    """Words that no shell takes for its own: a script quotes some of them, each shell others."""
    return text.translate(PLAIN).replace("%", "%%")
