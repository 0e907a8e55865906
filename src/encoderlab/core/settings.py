"""What one setting is: a dataclass field with its default, its help and its limits as metadata.

Knows nothing about any command, and nothing about how words on a command line become values.
"""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from encoderlab.core.project import get_output_dir
from encoderlab.errors import UsageError, as_sentence, did_you_mean, unknown

# What a setting needs to have an effect: dotted key of another setting -> the values with which it
# has one; no values: any but zero, empty and false. Of a list, one entry is enough.
Needs = Mapping[str, Sequence[Any]]
TYPE_NAMES = {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}


def setting(
    default: Any,
    help: str,
    *,
    flag: str | Sequence[str] | None = None,
    positional: bool = False,
    choices: Collection[str] = (),
    least: float | None = None,
    group: str = "",
    also: Sequence[str] = (),
    names: str = "",
    needs: Needs | None = None,
) -> Any:
    """A dataclass field that is a setting.

    Args:
        default: the value, or a function without arguments that makes it.
        help: what it is, in one line.
        flag: its flag or flags; made from the name of the field where None (nested fields: none).
        positional: whether it may also be given as a bare word.
        choices: the only texts that are right.
        least: the smallest number that is right.
        group: the heading under which `--help` lists it.
        also: other names by which people know it.
        names: the kind of thing it names, as `encoderlab ls` calls it: completion offers those.
        needs: where it has an effect; see `Needs`. Given elsewhere, it is an error.

    Returns:
        A field whose metadata holds the arguments.

    >>> n_critic: int = setting(5, "steps of the critic", needs={"loss.distribution": ["wgan"]})
    """
    flags = (flag,) if isinstance(flag, str) else tuple(flag or ())
    metadata = {
        "help": help, "flags": flags, "positional": positional, "choices": choices,
        "least": least, "group": group, "also": tuple(also), "names": names,
        "needs": needs or {},
    }  # fmt: skip
    if callable(default):
        return field(default_factory=default, metadata=metadata)
    if isinstance(default, list):
        return field(default_factory=lambda: list(default), metadata=metadata)
    return field(default=default, metadata=metadata)


def group(settings: type, needs: Needs | None = None) -> Any:
    """A dataclass field that is a group of settings, with what it `needs` to have an effect."""
    return field(default_factory=settings, metadata={"needs": needs or {}})


def output_folder(command: str) -> Callable[[], str]:
    """Makes the default of an output folder: COMMAND below the folder of all results."""
    return lambda: str(Path(get_output_dir()) / command)


@dataclass(frozen=True)
class Setting:
    """One leaf setting of a command, as the command line sees it.

    Args:
        key: its dotted name in the configuration, such as `similarity.metric`.
        flags: its flags, the first one long.
        item: the type of one value: str, int, float, bool or `typing.Any`.
        many: whether the value is a list.
        optional: whether it may be None.
        default: its default value.
    """

    key: str
    flags: tuple[str, ...]
    item: Any
    many: bool
    optional: bool
    default: Any
    help: str = ""
    positional: bool = False
    choices: Collection[str] = ()
    least: float | None = None
    group: str = ""
    also: tuple[str, ...] = ()
    names: str = ""
    needs: Needs = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Its first flag, or its key where it has none."""
        return self.flags[0] if self.flags else self.key

    @property
    def kind(self) -> str:
        """What its value is, in words."""
        kind = TYPE_NAMES.get(self.item, "a plain value")
        return f"a list, [a,b,...], each {kind}" if self.many else kind

    def check_limits(self, value: Any, see: str = "encoderlab COMMAND --help") -> None:
        """Refuses a value that is none of the choices, too small or NaN; of a list, each entry."""
        for entry in value if isinstance(value, list) else [value]:
            if self.choices and entry is not None and entry not in self.choices:
                raise unknown(f"value for {self.name}", str(entry), self.choices, see)
            if isinstance(entry, float) and math.isnan(entry):
                raise UsageError(f"{self.name} is no number", got=entry, want="a number")
            if self.least is not None and entry is not None and entry < self.least:
                least = f"at least {self.least:g}"
                raise UsageError(f"{self.name} is too small", got=entry, want=least)


def iter_settings(
    settings: type, prefix: str = "", needs: Needs | None = None
) -> Iterator[Setting]:
    """Every leaf setting of a settings dataclass, in the order in which it is declared."""
    hints = typing.get_type_hints(settings)
    for declared in dataclasses.fields(settings):
        kind, key = hints[declared.name], prefix + declared.name
        about = dict(declared.metadata)
        about["needs"] = {**(needs or {}), **about.get("needs", {})}
        if dataclasses.is_dataclass(kind):
            assert isinstance(kind, type)
            yield from iter_settings(kind, f"{key}.", about["needs"])
            continue
        flags = about.pop("flags", ())
        if not flags and not prefix:
            flags = ("--" + declared.name.replace("_", "-"),)
        flags += tuple("--" + name.replace("_", "-") for name in about.get("also", ()))
        default = declared.default
        if declared.default_factory is not dataclasses.MISSING:
            default = declared.default_factory()
        yield Setting(key, flags, *_kind(kind), default, **about)


def _kind(kind: Any) -> tuple[Any, bool, bool]:
    """(type of one value, whether a list, whether None is right)."""
    optional = False
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        members = [member for member in typing.get_args(kind) if member is not types.NoneType]
        optional = len(members) < len(typing.get_args(kind))
        kind = members[0] if len(members) == 1 else Any
    many = typing.get_origin(kind) is list
    return typing.get_args(kind)[0] if many else kind, many, optional


def from_dict(settings: type, values: dict[str, Any], where: str = "") -> Any:
    """A settings dataclass from nested plain values; missing settings keep their defaults."""
    if not isinstance(values, dict):
        what = f"the settings of {where[:-1]} are" if where else "the settings are"
        raise UsageError(f"{what} no table", got=values, want="a value by each name")
    hints = typing.get_type_hints(settings)
    leaves = {leaf.key: leaf for leaf in iter_settings(settings, where)}
    given: dict[str, Any] = {}
    for name, value in values.items():
        key = f"{where}{name}"
        if name not in hints:
            raise unknown_setting(key, leaves)
        if key not in leaves:
            value = from_dict(hints[name], value, f"{key}.")
        elif not _fits(leaves[key], value):
            got = "nothing" if value is None else value
            raise UsageError(f"{key} is of the wrong kind", got=got, want=leaves[key].kind)
        else:
            leaves[key].check_limits(value)
        given[name] = value
    return settings(**given)


def unknown_setting(
    key: str, known: Iterable[str], command: str = "COMMAND", more: str = ""
) -> UsageError:
    """The error for a key that is none of the known ones; `more` is what else may be meant."""
    near = did_you_mean(key, sorted(known))
    see = f"see all settings: encoderlab {command} --help{more}"
    hint = f"Did you mean `{near}`? {as_sentence(see)}" if near else see
    return UsageError("unknown setting", got=key, hint=hint)


def value_at(settings: Any, key: str) -> Any:
    """The value of a dotted key in an instance of a settings dataclass."""
    for name in key.split("."):
        settings = getattr(settings, name)
    return settings


def as_typed(value: Any) -> str:
    """A value as one would type it after `key=`."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return f"[{','.join(map(str, value))}]" if isinstance(value, list) else str(value)


def without_effect(settings: Any, typed: Collection[str] = ()) -> Iterator[tuple[Setting, str]]:
    """(setting, key of the setting that disables it), of settings that were given."""
    # Keys in `typed` count as given even with their default value.
    for leaf in iter_settings(type(settings)):
        if leaf.key not in typed and value_at(settings, leaf.key) == leaf.default:
            continue
        for key, values in leaf.needs.items():
            other = value_at(settings, key)
            entries = other if isinstance(other, list) and other else [other]
            if not (any(entry in values for entry in entries) if values else other):
                yield leaf, key
                break


def check_effect(settings: Any, typed: Collection[str] = ()) -> None:
    """Refuses a setting that was given and has no effect with the others; see `without_effect`.

    Raises:
        UsageError: naming both settings.
    """
    for leaf, key in without_effect(settings, typed):
        values = " or ".join(f"{key}={as_typed(value)}" for value in leaf.needs[key])
        raise UsageError(
            f"{leaf.name} has no effect",
            got=f"{leaf.key}={as_typed(value_at(settings, leaf.key))} with "
            f"{key}={as_typed(value_at(settings, key))}",
            want=values or f"another {key}",
            hint=f"leave {leaf.key} out",
        )


def _fits(setting: Setting, value: Any) -> bool:
    """Whether a plain value is of the setting's type; an int is a float, a bool is no int."""
    if value is None and setting.optional:
        return True
    if setting.many and not isinstance(value, list):
        return False
    item = {float: int | float, Any: bool | int | float | str | None}.get(
        setting.item, setting.item
    )
    return all(
        isinstance(entry, item) and (isinstance(entry, bool) <= (setting.item in (bool, Any)))
        for entry in (value if setting.many else [value])
    )
