"""What one setting is: a dataclass field with its default, its help and its limits as metadata.

Knows nothing about any command, and nothing about how words on a command line become values.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from encoderlab.core.project import get_output_dir
from encoderlab.errors import UsageError

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
    choices: Sequence[str] = (),
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

    >>> n_critic: int = setting(5, "steps of the critic", needs={"loss.distribution": ["wgan"]})
    """
    flags = (flag,) if isinstance(flag, str) else tuple(flag or ())
    metadata = {
        "help": help, "flags": flags, "positional": positional, "choices": tuple(choices),
        "least": least, "group": group, "also": tuple(also), "names": names,
        "needs": needs or {},
    }  # fmt: skip
    if callable(default):
        return field(default_factory=default, metadata=metadata)
    if isinstance(default, list):
        return field(default_factory=lambda: list(default), metadata=metadata)
    return field(default=default, metadata=metadata)


def group(settings: type, needs: Needs | None = None) -> Any:
    """A dataclass field that is a group of settings.

    Args:
        settings: the group's dataclass.
        needs: where its settings have an effect, each beside its own `needs`.
    """
    return field(default_factory=settings, metadata={"needs": needs or {}})


def output_folder(command: str) -> Callable[[], str]:
    """Makes the default of an output folder: `outputs/COMMAND`, or below the folder that
    `VLM_OUTPUT_DIR` or the project's configuration names."""
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
    choices: tuple[str, ...] = ()
    least: float | None = None
    group: str = ""
    also: tuple[str, ...] = ()
    names: str = ""
    needs: Needs = field(default_factory=dict)


def iter_settings(
    settings: type, prefix: str = "", needs: Needs | None = None
) -> Iterator[Setting]:
    """Every leaf setting of a settings dataclass, in the order in which it is declared.

    Args:
        needs: what the whole dataclass needs; see `group`.
    """
    hints = typing.get_type_hints(settings)
    for declared in dataclasses.fields(settings):
        kind = hints[declared.name]
        key = prefix + declared.name
        about = dict(declared.metadata)
        about["needs"] = {**(needs or {}), **about.get("needs", {})}
        if dataclasses.is_dataclass(kind):
            assert isinstance(kind, type)
            yield from iter_settings(kind, f"{key}.", about["needs"])
            continue
        also = about.get("also", ())
        flags = about.pop("flags", ())
        if not flags and not prefix:
            flags = ("--" + declared.name.replace("_", "-"),)
        flags += tuple("--" + name.replace("_", "-") for name in also)
        item, many, optional = _kind(kind)
        yield Setting(key, flags, item, many, optional, _default(declared), **about)


def _default(declared: dataclasses.Field[Any]) -> Any:
    if declared.default_factory is not dataclasses.MISSING:
        return declared.default_factory()
    return declared.default


def _kind(kind: Any) -> tuple[Any, bool, bool]:
    """(type of one value, whether a list, whether None is right)."""
    optional = False
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        members = [member for member in typing.get_args(kind) if member is not types.NoneType]
        optional = len(members) < len(typing.get_args(kind))
        kind = members[0] if len(members) == 1 else Any
    if typing.get_origin(kind) is list:
        return typing.get_args(kind)[0], True, optional
    return kind, False, optional


def from_dict(settings: type, values: dict[str, Any], where: str = "") -> Any:
    """A settings dataclass from nested plain values; what is not named keeps its default.

    Raises:
        UsageError: a key that the settings do not have, or a value that is none of its kind.
    """
    if not isinstance(values, dict):
        raise UsageError(
            f"the settings of {where[:-1]} are no table" if where else "the settings are no table",
            got=values,
            want="a value by each name",
        )
    hints = typing.get_type_hints(settings)
    declared = {one.name: one.metadata for one in dataclasses.fields(settings)}
    given: dict[str, Any] = {}
    for name, value in values.items():
        if name not in hints:
            raise UsageError(
                "the settings have no such key",
                got=f"{where}{name}",
                want="one of " + ", ".join(hints),
            )
        inner = hints[name]
        is_node = isinstance(inner, type) and dataclasses.is_dataclass(inner)
        if is_node:
            given[name] = from_dict(inner, value, f"{where}{name}.")
            continue
        _check(where + name, value, inner, declared[name])
        given[name] = value
    return settings(**given)


def value_at(settings: Any, key: str) -> Any:
    """The value of a dotted key in an instance of a settings dataclass."""
    for name in key.split("."):
        settings = getattr(settings, name)
    return settings


def without_effect(settings: Any, typed: Collection[str] = ()) -> Iterator[tuple[Setting, str]]:
    """(setting, key of the setting that leaves it without effect) of every setting that was given
    for nothing.

    Args:
        settings: an instance of a command's settings dataclass.
        typed: keys that count as given even with their default value.
    """
    for one in iter_settings(type(settings)):
        if one.key not in typed and value_at(settings, one.key) == one.default:
            continue
        for key, values in one.needs.items():
            other = value_at(settings, key)
            entries = other if isinstance(other, list) and other else [other]
            if not (any(entry in values for entry in entries) if values else other):
                yield one, key
                break


def check_effect(settings: Any, typed: Collection[str] = ()) -> None:
    """Refuses a setting that was given and has no effect with the others; see `without_effect`.

    Raises:
        UsageError: naming both settings.
    """
    for one, key in without_effect(settings, typed):
        values = " or ".join(f"{key}={_as_typed(value)}" for value in one.needs[key])
        raise UsageError(
            f"{one.flags[0] if one.flags else one.key} has no effect",
            got=f"{one.key}={_as_typed(value_at(settings, one.key))} with "
            f"{key}={_as_typed(value_at(settings, key))}",
            want=values or f"another {key}",
            hint=f"leave {one.key} out",
        )


def _as_typed(value: Any) -> str:
    """A value as one would type it after `key=`."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return f"[{','.join(map(str, value))}]" if isinstance(value, list) else str(value)


def _check(key: str, value: Any, kind: Any, about: Any) -> None:
    """Whether a plain value is one that the setting may have."""
    item, many, optional = _kind(kind)
    if value is None and optional:
        return
    choices, least = about.get("choices", ()), about.get("least")
    values = value if many and isinstance(value, list) else [value]
    right = (isinstance(value, list) or not many) and all(_is(item, one) for one in values)
    if right and choices:
        right = all(one in choices for one in values)
    if right and least is not None:
        right = all(one >= least for one in values)
    if right:
        return
    want = TYPE_NAMES.get(item, "a plain value")
    if choices:
        want = "one of " + ", ".join(choices)
    elif least is not None:
        want += f" of at least {least:g}"
    raise UsageError(
        f"the settings have no such value for {key}",
        got="nothing" if value is None else value,
        want=f"a list, each {want}" if many else want,
    )


def _is(item: Any, value: Any) -> bool:
    if item is Any:
        return value is None or isinstance(value, bool | int | float | str)
    if isinstance(value, bool) or item is bool:
        return item is bool and isinstance(value, bool)
    return isinstance(value, int | float if item is float else item)
