"""The words after `encoderlab COMMAND` become Hydra overrides, in the order in which they stand.

Every flag is a configuration key: `--n-samples 30` is `n_samples=30`. What follows a flag is taken
literally, whatever it looks like. Knows the settings; composes nothing and runs nothing.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from encoderlab.core.commands import Command
from encoderlab.core.settings import Setting, iter_settings
from encoderlab.errors import UsageError, as_sentence, did_you_mean

# Hydra's own flags, with whether a value follows.
HYDRA_FLAGS = {
    "--config-name": True, "-cn": True, "--config-dir": True, "-cd": True,
    "--config-path": True, "-cp": True, "--cfg": True, "-c": True, "--package": True, "-p": True,
    "--info": True, "-i": True, "--resolve": False,
}  # fmt: skip
# Those of which only some values are right.
HYDRA_CHOICES = {
    "--cfg": ("job", "hydra", "all"), "-c": ("job", "hydra", "all"),
    **dict.fromkeys(
        ("--info", "-i"),
        ("all", "config", "defaults", "defaults-tree", "plugins", "searchpath"),
    ),
}  # fmt: skip
OUR_FLAGS = ("--multirun", "-m", "--show-config", "--help", "-h")
GROUPS = Path(__file__).parent / "groups"
OVERRIDE = re.compile(r"^(\+\+|\+|~)?([\w./@:-]+)=(.*)$", re.DOTALL)
TYPE_NAMES_IN_HELP = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "a text",
}


@dataclass
class ParsedArgs:
    """What was typed, understood.

    Args:
        overrides: `key=value` in Hydra's grammar, in the order typed.
        hydra_flags: Hydra's own flags, as Hydra wants them.
        multirun: whether a sweep was asked for.
        show_config: whether only the configuration is to be shown.
        help: whether only the help is to be shown.
    """

    overrides: list[str] = field(default_factory=list)
    hydra_flags: list[str] = field(default_factory=list)
    multirun: bool = False
    show_config: bool = False
    help: bool = False

    def is_set(self, key: str) -> bool:
        """Whether the switch `key` is on, as far as the words alone tell."""
        said = [word.partition("=")[2] for word in self.overrides if word.startswith(f"{key}=")]
        return bool(said) and said[-1].lower() == "true"


def parse(command: Command, typed: Sequence[str]) -> ParsedArgs:
    """Reads the words after a command's name.

    Raises:
        UsageError: a flag, a setting or a word that is not known, or a value of the wrong kind.
    """
    return _Reader(command).read(list(typed))


def quoted(text: str) -> str:
    """Any text as one value of Hydra's grammar: spaces, commas, quotes and `${` survive."""
    # Hydra halves backslashes before a quote, OmegaConf those before `${`.
    text = re.sub(r"(\\*)\$\{", r"\1\1\\${", text)
    text = re.sub(r"(\\*)'", r"\1\1\\'", text)
    text = re.sub(r"(\\+)$", r"\1\1", text)
    return f"'{text}'"


def to_override(setting: Setting, text: str, flag: str) -> str:
    """One value of a flag in Hydra's grammar.

    Raises:
        UsageError: the text is no value of the setting's type.
    """
    if setting.optional and setting.item is not str and text.lower() in ("null", "none"):
        return "null"
    try:
        if setting.item is bool:
            return {"true": "true", "false": "false"}[text.lower()]
        if setting.item is int:
            return str(int(text))
        if setting.item is float:
            return repr(float(text)) if math.isfinite(float(text)) else text
    except (ValueError, KeyError):
        raise UsageError(
            f"{flag} has the wrong kind of value",
            got=text,
            want=TYPE_NAMES_IN_HELP[setting.item],
            hint=f"its default is {default_text(setting.default)}",
        ) from None
    return quoted(text)


def default_text(default: Any) -> str:
    """A default as one would type it."""
    if default is None or default == "" or default == []:
        return "empty"
    if isinstance(default, list):
        return " ".join(map(str, default))
    return str(default).lower() if isinstance(default, bool) else str(default)


def all_keys(command: Command) -> set[str]:
    """Every key of a command's configuration, inner nodes and groups included."""
    keys = {setting.key for setting in iter_settings(command.settings)}
    inner = {key.rsplit(".", cut)[0] for key in keys for cut in range(1, key.count(".") + 1)}
    return keys | inner | set(groups(command))


def groups(command: Command) -> dict[str, list[str]]:
    """Each group of ready-made values that a command has, with the names of its YAML files."""
    folder = GROUPS / command.name
    return {
        group.name: sorted(file.stem for file in group.glob("*.yaml"))
        for group in sorted(folder.glob("*"))
        if group.is_dir()
    }


def unknown_setting(key: str, command: Command, more: str = "") -> UsageError:
    """The error for a key that the command's settings do not have."""
    near = did_you_mean(key, sorted(all_keys(command)))
    see = f"see all settings: encoderlab {command.name} --help{more}"
    return UsageError(
        f"unknown setting for `encoderlab {command.name}`",
        got=key,
        hint=f"Did you mean `{near}`? {as_sentence(see)}" if near else see,
    )


class _Reader:
    def __init__(self, command: Command) -> None:
        self.command = command
        settings = list(iter_settings(command.settings))
        self.by_flag = {flag: one for one in settings for flag in one.flags}
        self.by_key = {one.key: one for one in settings}
        self.renamed = {other: one.key for one in settings for other in one.also}
        self.open_places = [one for one in settings if one.positional]
        self.keys = all_keys(command)
        self.groups = groups(command)
        self.words = ParsedArgs()

    def read(self, typed: list[str]) -> ParsedArgs:
        # Known before the loop: outside a sweep, a comma in a text is only a comma.
        self.words.multirun = any(word in ("--multirun", "-m") for word in typed)
        rest = _Rewindable(typed)
        for word in rest:
            name, equals, inline = word.partition("=")
            if word == "--":
                for literal in rest:
                    self._place(literal)
            elif word in ("-h", "--help"):
                self.words.help = True
            elif word in ("-m", "--multirun"):
                pass
            elif word == "--show-config":
                self.words.show_config = True
            elif name in HYDRA_FLAGS:
                self._hydra(name, inline if equals else None, rest)
            elif name in self.by_flag:
                self._flag(name, inline if equals else None, rest)
            elif name.startswith("--no-") and self._is_switch("--" + name[5:]) and not equals:
                self.words.overrides.append(f"{self.by_flag['--' + name[5:]].key}=false")
            elif word.startswith("-") and len(word) > 1:
                raise self._unknown_flag(name)
            elif OVERRIDE.match(word):
                self._override(word)
            else:
                self._place(word)
        return self.words

    def _is_switch(self, flag: str) -> bool:
        return flag in self.by_flag and self.by_flag[flag].item is bool

    def _hydra(self, flag: str, inline: str | None, rest: _Rewindable) -> None:
        self.words.hydra_flags.append(flag)
        if HYDRA_FLAGS[flag]:
            value = inline if inline is not None else next(rest, None)
            choices = HYDRA_CHOICES.get(flag, ())
            want = "one of " + ", ".join(choices) if choices else None
            if value is None or value.startswith("-"):
                raise UsageError(f"{flag} needs a value", got=value, want=want)
            if choices and value not in choices:
                raise UsageError(f"unknown value for {flag}", got=value, want=want)
            self.words.hydra_flags.append(value)

    def _flag(self, flag: str, inline: str | None, rest: _Rewindable) -> None:
        setting = self.by_flag[flag]
        if setting.item is bool and inline is None:
            following = next(rest, None)
            if following is not None and following.lower() in ("true", "false"):
                inline = following
            else:
                inline = "true"
                rest.back(following)
        values = [inline] if inline is not None else self._values(setting, flag, rest)
        if setting.many:
            listed = ",".join(to_override(setting, value, flag) for value in values)
            self.words.overrides.append(f"{setting.key}=[{listed}]")
            return
        group = setting.key.removesuffix(".name")
        if setting.key != group and values[0] in self.groups.get(group, ()):
            self.words.overrides.append(f"{group}={values[0]}")  # `--model clip` is `model=clip`
        else:
            self.words.overrides.append(f"{setting.key}={to_override(setting, values[0], flag)}")

    def _values(self, setting: Setting, flag: str, rest: _Rewindable) -> list[str]:
        values: list[str] = []
        for word in rest:
            ends = self._is_flag(word) or (setting.many and self._is_override(word))
            if ends or (values and not setting.many):
                rest.back(word)
                break
            values.append(word)
            if not setting.many:
                break
        if not values:
            kind = TYPE_NAMES_IN_HELP.get(setting.item, "a value")
            raise UsageError(
                f"{flag} needs a value",
                want=kind + (" or several" * setting.many),
                hint=f"its default is {default_text(setting.default)}",
            )
        return values

    def _is_flag(self, word: str) -> bool:
        name = word.partition("=")[0]
        known = name in self.by_flag or name in HYDRA_FLAGS or name in OUR_FLAGS
        return known or (name.startswith("--") and len(name) > 2)

    def _is_override(self, word: str) -> bool:
        return OVERRIDE.match(word) is not None

    def _override(self, word: str) -> None:
        match = OVERRIDE.match(word)
        assert match
        sign, key, value = match[1] or "", match[2], match[3]
        key = self.renamed.get(key, key)
        if key.startswith(("hydra.", "hydra/")) or sign in ("+", "++"):
            self.words.overrides.append(f"{sign}{key}={value}")
            return
        if key not in self.keys:
            more = ""
            if self.open_places:
                place = self.open_places[0].flags[0]
                more = f"; if {word!r} is meant as it stands, write {place} {word!r}"
            raise unknown_setting(key, self.command, more)
        if not sign and self._names_no_file(key, value):
            # `model=NAME` of any model, with or without a file in a group.
            key = f"{key}.name"
        setting = self.by_key.get(key)
        if setting and setting.item is str and not setting.many and not self.words.multirun:
            value = _as_text(value)
        self.words.overrides.append(f"{sign}{key}={value}")

    def _names_no_file(self, group: str, value: str) -> bool:
        """Whether the value of a table that has a name of its own is none of its ready-made ones:
        it is the name then."""
        if f"{group}.name" not in self.by_key or value.startswith("{"):
            return False
        values = value.split(",") if self.words.multirun else [value]
        return not all(one.strip() in self.groups.get(group, ()) for one in values)

    def _place(self, word: str) -> None:
        """Puts a bare word where the next positional setting is."""
        if not self.open_places:
            raise UsageError(
                f"`encoderlab {self.command.name}` does not know what this word is for",
                got=word,
                want="--flag value, or key=value",
                hint="put a text of several words in quotes; see encoderlab "
                f"{self.command.name} --help",
            )
        setting = self.open_places.pop(0)
        self.words.overrides.append(f"{setting.key}={to_override(setting, word, setting.flags[0])}")

    def _unknown_flag(self, flag: str) -> UsageError:
        known = [*self.by_flag, *HYDRA_FLAGS, *OUR_FLAGS]
        near = did_you_mean(flag.replace("_", "-"), known)
        hint = f"See encoderlab {self.command.name} --help"
        return UsageError(
            f"unknown flag for `encoderlab {self.command.name}`",
            got=flag,
            hint=f"Did you mean `{near}`? {hint}" if near else hint,
        )


def _as_text(value: str) -> str:
    """The value of a text setting, where no sweep is asked for: a comma is only a comma."""
    starts_plain = value[:1] not in ("'", '"', "[", "{", "")
    return quoted(value) if "," in value and starts_plain and "${" not in value else value


class _Rewindable(Iterator[str]):
    """Words one after another, with one step back."""

    def __init__(self, words: Iterable[str]) -> None:
        self._waiting = list(reversed(list(words)))

    def __next__(self) -> str:
        if not self._waiting:
            raise StopIteration
        return self._waiting.pop()

    def back(self, word: str | None) -> None:
        if word is not None:
            self._waiting.append(word)
