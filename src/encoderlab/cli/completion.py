"""Completion scripts for shells, made from the settings: commands, flags, what may follow.

The parser built here only describes; it never parses. Loads no model and imports no torch.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from encoderlab.core.commands import COMMANDS, Command
from encoderlab.core.settings import Setting, iter_settings
from encoderlab.errors import unknown

SHELLS = ("bash", "zsh", "fish", "tcsh")
NO_FILE = ("device", "dtype")
USAGE = f"""usage: encoderlab completion {"|".join(SHELLS)}

Prints a script that completes commands, flags, and names of encoders, LLMs and choices.
For every new shell, the embedded models and your aliases with it:

  bash   echo 'eval "$(encoderlab completion bash)"' >> ~/.bashrc
  zsh    echo 'eval "$(encoderlab completion zsh)"' >> ~/.zshrc    (below compinit)
  fish   encoderlab completion fish > ~/.config/fish/completions/encoderlab.fish
  tcsh   encoderlab completion tcsh > ~/.encoderlab.tcsh           (then source it in ~/.tcshrc)"""


def script(shell: str) -> str:
    """The completion script of one shell.

    Raises:
        UsageError: no such shell, or the user's own table of aliases is broken.
    """
    if shell not in SHELLS:
        raise unknown("shell", shell, SHELLS, "encoderlab completion --help")
    import shtab

    return shtab.complete(_parser(), shell=shell)


def _parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog="encoderlab", add_help=False)
    top.add_argument("-h", "--help", action="store_true", help="show what there is")
    top.add_argument("--version", action="store_true", help="show the version")
    commands = top.add_subparsers()
    for command in COMMANDS.values():
        sub = commands.add_parser(command.name, help=_plain(command.summary), add_help=False)
        _fill(sub, command)
    shells = commands.add_parser("completion", help="Print the completion script of a shell.")
    shells.add_argument("shell", choices=SHELLS)
    return top


def _fill(parser: argparse.ArgumentParser, command: Command) -> None:
    settings = list(iter_settings(command.settings))
    for place in settings:
        if place.positional:
            _may_follow(parser.add_argument(f"{place.key}_", nargs="?", help=_help(place)), place)
    for one in settings:
        if not one.flags:
            continue
        if one.item is bool:
            off = ["--no-" + one.flags[0].removeprefix("--")] if one.default is True else []
            parser.add_argument(*one.flags, *off, action="store_true", help=_help(one))
            continue
        action = parser.add_argument(
            *one.flags, nargs="+" if one.many else None, help=_help(one), dest=one.key
        )
        _may_follow(action, one)
    for flags, about in (
        (("-m", "--multirun"), "one run per combination of values"),
        (("--show-config",), "print the configuration and stop"),
        (("-h", "--help"), "show help and stop"),
    ):
        parser.add_argument(*flags, action="store_true", help=about)
    parser.add_argument("--config-name", help="a YAML of your own")
    parser.add_argument("--cfg", choices=("job", "hydra", "all"), help="print Hydra's view")
    _files(parser.add_argument("--config-dir", help="folder with YAML of your own"), folder=True)


def _may_follow(action: argparse.Action, setting: Setting) -> None:
    """What completion offers behind a flag: choices, names, else files."""
    if setting.choices or setting.names:
        action.choices = setting.choices or _known(setting.names)
    elif setting.item is str and setting.key not in NO_FILE:
        _files(action, folder=setting.key.endswith(("_dir", ".dir", "_folder")))


def _known(kind: str) -> Sequence[str]:
    """The names that `encoderlab ls KIND` lists."""
    from encoderlab.workbench import ls

    return [name for name, _ in ls.run(what=kind).kinds[kind]]


def _files(action: argparse.Action, *, folder: bool) -> None:
    import shtab

    action.complete = shtab.DIRECTORY if folder else shtab.FILE  # type: ignore[attr-defined]


def _help(setting: Setting) -> str:
    return _plain(setting.help)


def _plain(text: str) -> str:
    """Words that no shell takes for its own: a script quotes some of them, each shell others."""
    for character in '`$\\"!':
        text = text.replace(character, "")
    return text.replace("[", "(").replace("]", ")").replace("%", "%%")
