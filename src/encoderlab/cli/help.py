"""The help of every command, made from the settings alone.

The parsers built here draw; they never parse. Imports no Hydra and no experiment.
"""

from __future__ import annotations

import argparse
from typing import Any

from encoderlab.cli.parser import OWN_FLAGS
from encoderlab.cli.parser import groups as ready_made
from encoderlab.core.commands import COMMANDS, JOBS, Command
from encoderlab.core.common_settings import COMMON, place_of
from encoderlab.core.settings import Setting, as_typed, iter_settings

FIRST_GROUP = "settings"
RULE = (
    "Every flag is a configuration key and every key can be set as key=value: "
    "--n-samples 30 is n_samples=30."
)
START = f"""{RULE}
On every command: --help, --show-config, --multirun, --json, --quiet, --verbose,
--offline, --seed, --output-dir. VLM_DATA_ROOT and VLM_OUTPUT_DIR set the folders.

Start here:
  encoderlab doctor
  encoderlab index photos/
  encoderlab search "a red circle" -k 3"""


def overview() -> str:
    """What `encoderlab --help` shows."""
    rows = [(command.job, command.name, command.summary) for command in COMMANDS.values()]
    rows.append(("workbench", "completion", "Print the completion script of a shell."))
    width = max(map(len, COMMANDS)) + 2
    lines = [
        "encoderlab: a workbench for the vision encoder of a vision-language model\n",
        "usage: encoderlab COMMAND [--flag value ...] [group.key=value ...]\n",
    ]
    for job, title in JOBS.items():
        of_job = [f"  {name:<{width}}{about}" for where, name, about in rows if where == job]
        lines += [f"{title}:", *of_job, ""]
    return "\n".join([*lines, START])


def of_command(command: Command) -> str:
    """What `encoderlab COMMAND --help` shows; in colour on a terminal."""
    from rich_argparse import RawDescriptionRichHelpFormatter

    class Wide(RawDescriptionRichHelpFormatter):
        def __init__(self, prog: str) -> None:
            super().__init__(prog, max_help_position=34)

    Wide.group_name_formatter = str
    Wide.help_markup = Wide.text_markup = False
    settings = list(iter_settings(command.settings))
    places = [f"[{setting.key.upper()}]" for setting in settings if setting.positional]
    parser = argparse.ArgumentParser(
        usage=" ".join(["encoderlab", command.name, *places, "[--flag value ...] [key=value ...]"]),
        description=command.summary,
        epilog=f"example:\n  encoderlab {command.name} {command.example}\n\n{RULE}",
        formatter_class=Wide,
        add_help=False,
    )
    add_flags(parser, command)
    keys = parser.add_argument_group("keys without a flag")
    about = {
        group: f"ready-made values: one of {', '.join(names)}"
        for group, names in ready_made(command).items()
    } | {setting.key: _help(setting) for setting in settings if not setting.flags}
    for key, text in about.items():
        # Drawn as key=value: argparse shows a positional by its metavar alone.
        keys.add_argument(key, nargs="?", metavar=f"{key}=...", help=text)
    return parser.format_help().rstrip()


def default_text(default: Any) -> str:
    """A default as one would type it after a flag."""
    if default is None or default == "" or default == []:
        return "empty"
    if isinstance(default, list):
        return " ".join(map(str, default))
    return as_typed(default)


def add_flags(
    parser: argparse.ArgumentParser, command: Command
) -> list[tuple[argparse.Action, Setting | None]]:
    """Adds every flag of a command under its heading; returns each with its setting, if it has."""
    settings = [setting for setting in iter_settings(command.settings) if setting.flags]
    titles = dict.fromkeys(setting.group or FIRST_GROUP for setting in settings)
    groups = {title: parser.add_argument_group(title) for title in sorted(titles, key=place_of)}
    added: list[tuple[argparse.Action, Setting | None]] = []
    for setting in settings:
        add = groups[setting.group or FIRST_GROUP].add_argument
        if setting.item is bool:
            off = [f"--no-{setting.flags[0][2:]}"] if setting.default is True else []
            action = add(*setting.flags, *off, action="store_true", help=_help(setting))
        else:
            action = add(
                *setting.flags,
                nargs="+" if setting.many else None,
                metavar=setting.key.split(".")[-1].upper(),
                help=_help(setting),
            )
        added.append((action, setting))
    for flags, _, metavar, about in OWN_FLAGS:
        more: dict[str, Any] = {"metavar": metavar} if metavar else {"action": "store_true"}
        added.append((groups[COMMON].add_argument(*flags, help=about, **more), None))
    return added


def _help(setting: Setting) -> str:
    choices = f"; one of {', '.join(setting.choices)}" if setting.choices else ""
    text = f"{setting.help}{choices} ({setting.key}={default_text(setting.default)})"
    return text.replace("%", "%%")
