"""The words after `encoderlab COMMAND` become Hydra overrides, in the order in which they stand.

Every flag is a configuration key: `--n-samples 30` is `n_samples=30`. What follows a flag is taken
literally, whatever it looks like. Knows the settings; composes nothing and runs nothing.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from encoderlab.core.commands import Command
from encoderlab.core.settings import Setting, iter_settings, unknown_setting
from encoderlab.errors import UsageError, did_you_mean

# Flags beside the settings: (flags, field of `ParsedArgs`, metavar or "" for a switch, help).
OWN_FLAGS = (
    (("-m", "--multirun"), "multirun", "",
     "one run per combination of comma-separated key=a,b values"),
    (("--show-config",), "show_config", "", "print the configuration and stop"),
    (("--config-name", "-cn"), "config_name", "NAME",
     "a YAML of your own, in configs/ or --config-dir"),
    (("--config-dir", "-cd"), "config_dir", "DIR", "folder with YAML of your own"),
    (("--cfg", "-c", "--info", "-i"), "view", "WHAT",
     "print Hydra's view: job, hydra or all, and stop"),
    (("-h", "--help"), "help", "", "show this and stop"),
)  # fmt: skip
SWITCHES = {flag: name for flags, name, metavar, _ in OWN_FLAGS if not metavar for flag in flags}
VALUES = {flag: name for flags, name, metavar, _ in OWN_FLAGS if metavar for flag in flags}
VIEWS = ("all", "config", "job", "hydra", "defaults", "plugins", "searchpath")
GROUPS = Path(__file__).parent / "groups"
OVERRIDE = re.compile(r"^\+{0,2}([\w./@:-]+)=(.*)$", re.DOTALL)


@dataclass
class ParsedArgs:
    """The parsed command line.

    Args:
        overrides: `key=value` in Hydra's grammar, in the order typed.
        multirun: whether a sweep was asked for.
        show_config: whether only the settings are to be shown.
        help: whether only the help is to be shown.
        config_name, config_dir: a YAML of the user's own, and its folder.
        view: which part of Hydra's view is to be shown, one of VIEWS.
    """

    overrides: list[str] = field(default_factory=list)
    multirun: bool = False
    show_config: bool = False
    help: bool = False
    config_name: str | None = None
    config_dir: str | None = None
    view: str | None = None


def parse(command: Command, typed: Sequence[str]) -> ParsedArgs:
    """Reads the words after a command's name."""
    return _Reader(command, typed).read()


def quoted(text: str) -> str:
    """Any text as one value of Hydra's grammar: spaces, commas, quotes and `${` survive."""
    # Hydra halves backslashes before a quote, OmegaConf those before `${`.
    text = re.sub(r"(\\*)\$\{", r"\1\1\\${", text)
    text = re.sub(r"(\\*)'", r"\1\1\\'", text)
    text = re.sub(r"(\\+)$", r"\1\1", text)
    return f"'{text}'"


def to_override(setting: Setting, text: str) -> str:
    """One value of a flag in Hydra's grammar; OmegaConf makes a number of it where one is due."""
    is_none = setting.optional and setting.item is not str and text.lower() in ("null", "none")
    return "null" if is_none else quoted(text)


def all_keys(command: Command) -> set[str]:
    """Every key of a command's configuration, inner nodes and groups included."""
    keys = {setting.key for setting in iter_settings(command.settings)}
    inner = {key.rsplit(".", cut)[0] for key in keys for cut in range(1, key.count(".") + 1)}
    return keys | inner | set(groups(command))


def groups(command: Command) -> dict[str, list[str]]:
    """Each group of ready-made values that a command has, with the names of its YAML files."""
    return {
        group.name: sorted(file.stem for file in group.glob("*.yaml"))
        for group in sorted((GROUPS / command.file_name).glob("*"))
        if group.is_dir()
    }


class _Reader:
    def __init__(self, command: Command, typed: Sequence[str]) -> None:
        settings = list(iter_settings(command.settings))
        self.command = command
        self.by_flag = {flag: setting for setting in settings for flag in setting.flags}
        self.by_key = {
            name: setting for setting in settings for name in (setting.key, *setting.also)
        }
        self.positionals = [setting for setting in settings if setting.positional]
        self.keys, self.groups = all_keys(command), groups(command)
        self.rest, self.args = deque(typed), ParsedArgs()
        # Known before the loop: outside a sweep, a comma in a text is only a comma.
        self.args.multirun = "--multirun" in typed or "-m" in typed

    def read(self) -> ParsedArgs:
        while self.rest:
            word = self.rest.popleft()
            flag, equals, value = word.partition("=")
            inline = value if equals else None
            off = self.by_flag.get("--" + flag.removeprefix("--no-"))
            if word == "--":
                while self.rest:
                    self._positional(self.rest.popleft())
            elif word in SWITCHES:
                setattr(self.args, SWITCHES[word], True)
            elif flag in VALUES:
                self._own_flag(flag, inline)
            elif flag in self.by_flag:
                self._flag(flag, self.by_flag[flag], inline)
            elif flag.startswith("--no-") and not equals and off and off.item is bool:
                self._add(off.key, "false")
            elif word.startswith("-") and len(word) > 1:
                raise self._unknown_flag(flag)
            elif match := OVERRIDE.match(word):
                self._override(word, match[1], match[2])
            else:
                self._positional(word)
        return self.args

    def _add(self, key: str, value: str) -> None:
        # `++`: a YAML of the user's own, which need not build on ours, may leave the key out.
        sign = "++" if key in self.by_key else ""
        self.args.overrides.append(f"{sign}{key}={value}")

    def _own_flag(self, flag: str, value: str | None) -> None:
        name = VALUES[flag]
        if value is None and self.rest and not self.rest[0].startswith("-"):
            value = self.rest.popleft()
        want = "one of " + ", ".join(VIEWS) if name == "view" else None
        if value is None or value.startswith("-"):
            raise UsageError(f"{flag} needs a value", got=value, want=want)
        if name == "view" and value not in VIEWS:
            raise UsageError(f"unknown value for {flag}", got=value, want=want)
        setattr(self.args, name, value)

    def _flag(self, flag: str, setting: Setting, inline: str | None) -> None:
        if setting.item is bool and inline is None:
            is_next = bool(self.rest) and self.rest[0].lower() in ("true", "false")
            inline = self.rest.popleft() if is_next else "true"
        values = [inline] if inline is not None else self._values(setting, flag)
        converted = [to_override(setting, value) for value in values]
        group = setting.key.removesuffix(".name")
        if setting.many:
            self._add(setting.key, f"[{','.join(converted)}]")
        elif setting.key != group and values[0] in self.groups.get(group, ()):
            self._add(group, values[0])  # `--model clip` is `model=clip`
        else:
            self._add(setting.key, converted[0])

    def _values(self, setting: Setting, flag: str) -> list[str]:
        values: list[str] = []
        while self.rest and (setting.many or not values):
            word = self.rest[0]
            if self._is_flag(word) or (setting.many and OVERRIDE.match(word)):
                break
            values.append(self.rest.popleft())
        if not values:
            raise UsageError(f"{flag} needs a value", want=setting.kind)
        return values

    def _is_flag(self, word: str) -> bool:
        name = word.partition("=")[0]
        known = name in self.by_flag or name in VALUES or name in SWITCHES
        return known or (name.startswith("--") and len(name) > 2)

    def _override(self, word: str, key: str, value: str) -> None:
        if key.startswith(("hydra.", "hydra/")):
            self.args.overrides.append(word)
            return
        key = self.by_key[key].key if key in self.by_key else key
        if key not in self.keys:
            more = ""
            if self.positionals:
                flag = self.positionals[0].flags[0]
                more = f"; if {word!r} is meant as it stands, write {flag} {word!r}"
            raise unknown_setting(key, self.keys, self.command.name, more)
        values = value.split(",") if self.args.multirun else [value]
        names_file = all(name.strip() in self.groups.get(key, ()) for name in values)
        if f"{key}.name" in self.by_key and not names_file and not value.startswith("{"):
            key = f"{key}.name"  # `model=NAME` of any model, with or without a file in a group
        starts_plain = value[:1] not in ("'", '"', "[", "{", "") and "${" not in value
        if "," in value and starts_plain and not self.args.multirun and key in self.by_key:
            if self.by_key[key].many or self.by_key[key].item is not str:
                what = "a list of values, and no sweep was asked for"
                want = "key=[a,b] for a list, or --multirun for one run per value"
                raise UsageError(what, got=word, want=want)
            value = quoted(value)
        self._add(key, value)

    def _positional(self, word: str) -> None:
        """Gives a bare word to the next positional setting."""
        if not self.positionals:
            what = f"`encoderlab {self.command.name}` does not know what this word is for"
            want = "--flag value, or key=value; a text of several words in quotes"
            see = f"see encoderlab {self.command.name} --help"
            raise UsageError(what, got=word, want=want, hint=see)
        setting = self.positionals.pop(0)
        self._add(setting.key, to_override(setting, word))

    def _unknown_flag(self, flag: str) -> UsageError:
        near = did_you_mean(flag.replace("_", "-"), [*self.by_flag, *VALUES, *SWITCHES])
        hint = (
            f"Did you mean `{near}`? " * bool(near) + f"See encoderlab {self.command.name} --help"
        )
        return UsageError(f"unknown flag for `encoderlab {self.command.name}`", got=flag, hint=hint)
