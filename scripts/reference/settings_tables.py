"""The settings of every command as Markdown: what all share once, then what each has of its own.

Reads the table of commands and the settings' metadata, like `encoderlab COMMAND --help`; imports no
experiment.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import contextmanager

import yaml
from words import say

from encoderlab.alignment.settings import Alignment
from encoderlab.cli.help import default_text
from encoderlab.cli.parser import groups as ready_made
from encoderlab.core.aliases import KINDS, SHIPPED
from encoderlab.core.commands import COMMANDS, JOBS, Command
from encoderlab.core.common_settings import COMMON, Common, place_of
from encoderlab.core.settings import TYPE_NAMES, Setting, iter_settings

HEADS = ("setting", "default", "what it is")
# The tables' own words, with the help's of what Hydra and the command line add.
ALIGNMENT = "What the alignment commands share"
FOLDER = "folder for results"
ONE_OF = "one of {}"
LEAST = "at least {}"
MANY = "several"
BARE = "also as a bare word"
OFF = "off"
READY = "ready-made values: one of {}"
EMPTY = "empty"
ALIAS_HEADS = ("alias", "table", "Hugging Face id")
OWN_FOLDER = "what is written"  # its heading, where the output folder has a default of its own
ALSO_ALIGNMENT = "It has [what the alignment commands share](#alignment), and:"
ONLY_ALIGNMENT = "Its settings are [what the alignment commands share](#alignment)."
NO_OWN = "It has no settings of its own."
SHARES = "torchrun and srun start several processes of it that work together."
NO_FOLDER = "It leaves no run folder."
HYDRA = {
    "`-m`, `--multirun`": "one run per combination of comma-separated key=a,b values",
    "`--show-config`": "print the configuration and stop",
    "`--config-name NAME`": "a YAML of your own, in configs/ or --config-dir",
    "`--config-dir DIR`": "folder with YAML of your own",
    "`--cfg WHAT`": "print Hydra's view: job, hydra or all, and stop",
    "`-h`, `--help`": "show this and stop",
}
WORDS = (
    ALIGNMENT,
    ONE_OF,
    LEAST,
    MANY,
    BARE,
    OFF,
    READY,
    EMPTY,
    ALSO_ALIGNMENT,
    ONLY_ALIGNMENT,
    NO_OWN,
    SHARES,
    NO_FOLDER,
    *ALIAS_HEADS,
    OWN_FOLDER,
    *TYPE_NAMES.values(),
    *HYDRA.values(),
)


def of_all(language: str) -> str:
    """The settings that every command has."""
    rows = [_row(one, language) for one in iter_settings(Common)]
    folder = ("`--output-dir`", "`outputs/COMMAND`", say(FOLDER, language))
    hydra = [(flag, "", say(about, language)) for flag, about in HYDRA.items()]
    return _table([*rows, folder, *hydra], language)


def by_command(language: str) -> str:
    """Every command under the heading of its job."""
    blocks = []
    with _own_environment_only():
        for job, title in JOBS.items():
            blocks.append(f"## {say(title, language)} {{#job-{job.replace(' ', '-')}}}")
            if job == "align":
                blocks.append(f"### {say(ALIGNMENT, language)} {{#alignment}}")
                blocks.append(
                    _by_group(_without(iter_settings(Alignment), iter_settings(Common)), language)
                )
            blocks += [_command(one, language) for one in COMMANDS.values() if one.job == job]
    return "\n\n".join(blocks)


def aliases(language: str) -> str:
    """The short names that ship with the package."""
    tables = yaml.safe_load(SHIPPED.read_text(encoding="utf-8"))
    rows = [
        (f"`{name}`", f"`{kind}`", f"`{where}`")
        for kind in KINDS
        for name, where in tables[kind].items()
    ]
    return _table(rows, language, ALIAS_HEADS)


def _command(command: Command, language: str) -> str:
    aligned = issubclass(command.settings, Alignment)
    inherited = list(iter_settings(Alignment if aligned else Common))
    own = [
        one
        for one in _without(iter_settings(command.settings), inherited)
        if (one.key, one.help) != ("output_dir", FOLDER)
    ]
    remarks = [say(command.summary, language)]
    if command.shares_work:
        remarks.append(say(SHARES, language))
    if not command.leaves_folder:
        remarks.append(say(NO_FOLDER, language))
    if aligned:
        remarks.append(say(ALSO_ALIGNMENT if own else ONLY_ALIGNMENT, language))
    elif not own:
        remarks.append(say(NO_OWN, language))
    example = f"```\nencoderlab {command.name} {command.example}".rstrip() + "\n```"
    parts = [f"### {command.name} {{#command-{command.file_name}}}", example, " ".join(remarks)]
    if own:
        parts.append(_by_group(own, language, command))
    return "\n\n".join(parts)


def _by_group(settings: Iterable[Setting], language: str, command: Command | None = None) -> str:
    """A table per heading under which `--help` lists them, in the order of the help."""
    of_group: dict[str, list[tuple[str, str, str]]] = {}
    if command:
        for group, choices in ready_made(command).items():
            names = ", ".join(f"`{name}`" for name in choices)
            about = say(READY, language).format(names)
            of_group.setdefault("", []).append((f"`{group}=`", "", about))
    for one in settings:
        group = OWN_FOLDER if one.group == COMMON else one.group
        of_group.setdefault(group, []).append(_row(one, language))
    blocks = []
    for group, rows in sorted(of_group.items(), key=lambda i: (i[0] != "", place_of(i[0]))):
        if group:
            blocks.append(f"**{say(group, language)}**")
        blocks.append(_table(rows, language))
    return "\n\n".join(blocks)


def _row(one: Setting, language: str) -> tuple[str, str, str]:
    names = [f"`{flag}`" for flag in one.flags]
    if one.flags != ("--" + one.key.replace("_", "-"),):
        names.append(f"`{one.key}`")
    default = default_text(one.default)
    shown = say(EMPTY, language) if default == EMPTY else f"`{default}`"
    kind = [say(TYPE_NAMES[one.item], language)] if one.item in (int, float) else []
    if one.many:
        kind.append(say(MANY, language))
    if one.least is not None:
        kind.append(say(LEAST, language).format(f"{one.least:g}"))
    about = [say(one.help, language)]
    if one.choices:
        names_of_choices = ", ".join(f"`{name}`" for name in one.choices)
        about.append(say(ONE_OF, language).format(names_of_choices))
    if one.item is bool and one.default is True and one.flags:
        about.append(f"{say(OFF, language)}: `--no-{one.flags[0][2:]}`")
    if one.positional:
        about.append(say(BARE, language))
    if kind:
        about.append(", ".join(kind))
    return "<br>".join(names), shown, "; ".join(about).replace("|", "\\|")


def _table(
    rows: Iterable[tuple[str, str, str]], language: str, heads: tuple[str, ...] = HEADS
) -> str:
    lines = [f"| {' | '.join(say(head, language) for head in heads)} |", "|---|---|---|"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)])


def _without(settings: Iterable[Setting], known: Iterable[Setting]) -> list[Setting]:
    """Those that differ from the known ones in anything, such as the default."""
    taken = list(known)
    return [one for one in settings if one not in taken]


@contextmanager
def _own_environment_only():
    """Defaults as they are where nobody has set a folder."""
    before = os.environ.pop("VLM_OUTPUT_DIR", None)
    try:
        yield
    finally:
        if before is not None:
            os.environ["VLM_OUTPUT_DIR"] = before
