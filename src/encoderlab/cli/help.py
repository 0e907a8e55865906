"""The help of every command, made from the settings alone.

The parsers built here draw; they never parse. Imports no Hydra and no experiment.
"""

from __future__ import annotations

import argparse

from encoderlab import __version__
from encoderlab.cli.parser import default_text
from encoderlab.cli.parser import groups as ready_made
from encoderlab.core.commands import COMMANDS, JOBS, Command
from encoderlab.core.common_settings import COMMON, place_of
from encoderlab.core.settings import Setting, iter_settings

FIRST_GROUP = "settings"
RULE = (
    "Every flag is a configuration key and every key can be set as key=value: "
    "--n-samples 30 is n_samples=30."
)


def overview() -> str:
    """What `encoderlab --help` shows."""
    width = max(map(len, COMMANDS)) + 2
    lines = [
        "encoderlab: a workbench for the vision encoder of a vision-language model",
        "",
        "usage: encoderlab COMMAND [--flag value ...] [group.key=value ...]",
        "",
    ]
    for job, title in JOBS.items():
        lines.append(f"{title}:")
        for command in COMMANDS.values():
            if command.job == job:
                lines.append(f"  {command.name:<{width}}{command.summary}")
        if job == "workbench":
            lines.append(f"  {'completion':<{width}}Print the completion script of a shell.")
        lines.append("")
    lines += [
        RULE,
        "On every command: --help, --show-config, --multirun, --json, --quiet, --verbose,",
        "--offline, --seed, --output-dir. VLM_DATA_ROOT and VLM_OUTPUT_DIR set the folders.",
        "",
        "Start here:",
        "  encoderlab doctor",
        "  encoderlab index photos/",
        '  encoderlab search "a red circle" -k 3',
    ]
    return "\n".join(lines)


def of_command(command: Command) -> str:
    """What `encoderlab COMMAND --help` shows; in colour on a terminal."""
    return _parser(command).format_help().rstrip()


def _parser(command: Command) -> argparse.ArgumentParser:
    from rich_argparse import RawDescriptionRichHelpFormatter

    class Wide(RawDescriptionRichHelpFormatter):
        def __init__(self, prog: str) -> None:
            super().__init__(prog, max_help_position=34)

    Wide.group_name_formatter = str
    Wide.help_markup = Wide.text_markup = False
    places = [setting for setting in iter_settings(command.settings) if setting.positional]
    usage = " ".join(
        [
            "encoderlab",
            command.name,
            *(f"[{place.key.upper()}]" for place in places),
            "[--flag value ...] [key=value ...]",
        ]
    )
    parser = argparse.ArgumentParser(
        prog=f"encoderlab {command.name}",
        usage=usage,
        description=command.summary,
        epilog=f"example:\n  encoderlab {command.name} {command.example}\n\n{RULE}",
        formatter_class=Wide,
        add_help=False,
    )
    _fill(parser, command)
    return parser


def _fill(parser: argparse.ArgumentParser, command: Command) -> None:
    settings = list(iter_settings(command.settings))
    titles = dict.fromkeys(setting.group or FIRST_GROUP for setting in settings)
    groups = {title: parser.add_argument_group(title) for title in sorted(titles, key=place_of)}
    keys_only = parser.add_argument_group("keys without a flag")
    for group, choices in ready_made(command).items():
        about = f"ready-made values: one of {', '.join(choices)}"
        keys_only.add_argument(group, nargs="?", metavar=f"{group}=...", help=about)
    for setting in settings:
        if setting.flags:
            _add(groups[setting.group or FIRST_GROUP], setting)
        else:
            # Drawn as key=value: argparse shows a positional by its metavar alone.
            keys_only.add_argument(
                setting.key, nargs="?", metavar=f"{setting.key}=...", help=_help(setting)
            )
    common = groups[COMMON]
    common.add_argument(
        "-m",
        "--multirun",
        action="store_true",
        help="one run per combination of comma-separated key=a,b values",
    )
    common.add_argument(
        "--show-config", action="store_true", help="print the configuration and stop"
    )
    common.add_argument(
        "--config-name", metavar="NAME", help="a YAML of your own, in configs/ or --config-dir"
    )
    common.add_argument("--config-dir", metavar="DIR", help="folder with YAML of your own")
    common.add_argument(
        "--cfg", metavar="WHAT", help="print Hydra's view: job, hydra or all, and stop"
    )
    common.add_argument("-h", "--help", action="store_true", help="show this and stop")


def _add(group: argparse._ArgumentGroup, setting: Setting) -> None:
    about = _help(setting)
    # The bare word is in the usage line; the flag is the same setting.
    if setting.item is bool:
        group.add_argument(*setting.flags, dest=setting.key, action="store_true", help=about)
        return
    group.add_argument(
        *setting.flags, dest=setting.key, help=about, nargs="+" if setting.many else None,
        choices=setting.choices or None,
        metavar=setting.key.split(".")[-1].upper(),
    )  # fmt: skip


def _help(setting: Setting) -> str:
    parts = [setting.help]
    if setting.choices:
        parts.append("one of " + ", ".join(setting.choices))
    text = "; ".join(part for part in parts if part)
    text += f" ({setting.key}={default_text(setting.default)})"
    if setting.item is bool and setting.default is True:
        text += f"; off: --no-{setting.flags[0][2:]}" if setting.flags else ""
    return text.replace("%", "%%")


def version() -> str:
    """What `encoderlab --version` shows."""
    return f"encoderlab {__version__}"
