"""One spec per command: a function of a settings dataclass becomes a function of keyword arguments.

The fields give the signature, the defaults and the `Args` of the docstring, so that the command
line, `help()`, an editor and the API page show the same settings. Knows no command.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import re
import textwrap
import typing
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from encoderlab.core.common_settings import TALK, place_of
from encoderlab.core.settings import check_effect, from_dict

SettingsT = TypeVar("SettingsT")
ResultT = TypeVar("ResultT")
OUT_HELP = "folder that the figures and arrays are written to; nothing is written where None"


def takes(
    settings: type[SettingsT],
) -> Callable[[Callable[[SettingsT, Path | None], ResultT]], Callable[..., ResultT]]:
    """Decorates `run(settings, out)`: it is called with one keyword argument per setting.

    Args:
        settings: the dataclass of the command's settings.

    Returns:
        A decorator. The decorated function takes `out` and the fields as keyword arguments;
        its attribute `with_settings` is the function of a settings instance.
    """

    def decorate(run: Callable[[SettingsT, Path | None], ResultT]) -> Callable[..., ResultT]:
        @functools.wraps(run)
        def with_keywords(**given: Any) -> ResultT:
            bound = signature.bind(**given).arguments
            out = bound.pop("out", None)
            values = from_arguments(settings, bound)
            check_effect(values)
            return run(values, None if out is None else Path(out))

        signature = _signature(settings, run)
        with_keywords.__signature__ = signature  # type: ignore[attr-defined]
        with_keywords.__doc__ = _docstring(settings, run.__doc__ or "")
        with_keywords.settings = settings  # type: ignore[attr-defined]
        with_keywords.with_settings = run  # type: ignore[attr-defined]
        return with_keywords

    return decorate


def parameters(settings: type) -> Iterator[tuple[dataclasses.Field[Any], Any]]:
    """(field, type) of every setting that is a parameter of the Python function."""
    # All but those that say how the command line talks, and the output folder, which is `out`.
    hints = typing.get_type_hints(settings)
    fields = [f for f in dataclasses.fields(settings) if f.name not in (*TALK, "output_dir")]
    for field in sorted(fields, key=lambda field: place_of(field.metadata.get("group", ""))):
        yield field, hints[field.name]


def from_arguments(settings: type[SettingsT], given: Mapping[str, Any]) -> SettingsT:
    """A settings instance from keyword arguments.

    Args:
        settings: the dataclass of the command's settings.
        given: values by field name. A group may be its dataclass, a mapping of its fields, or one
            value for its main field; a list any sequence; a text a path, or names to be separated
            by commas.

    Returns:
        An instance.

    Raises:
        UsageError: a value that the setting cannot have.
    """
    hints = typing.get_type_hints(settings)
    return from_dict(settings, {name: _plain(hints[name], value) for name, value in given.items()})


def _plain(kind: Any, value: Any) -> Any:
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        if isinstance(value, kind):
            return dataclasses.asdict(value)
        if isinstance(value, Mapping):
            return dict(value)
        main = next(iter(dataclasses.fields(kind)))  # `model="tiny-clip"` is `model.name`
        return {main.name: _plain(typing.get_type_hints(kind)[main.name], value)}
    if isinstance(value, Path):
        return str(value)
    if kind is str and isinstance(value, list | tuple):  # as typed: a,b,"c, with a comma"
        return ",".join(f'"{entry}"' if "," in entry else entry for entry in value)
    if isinstance(value, tuple | range | set | frozenset):
        return [_plain(None, entry) for entry in value]
    return value


def _signature(settings: type, run: Callable[..., Any]) -> inspect.Signature:
    keyword = inspect.Parameter.KEYWORD_ONLY
    rows = [inspect.Parameter("out", keyword, default=None, annotation="str | Path | None")]
    for field, kind in parameters(settings):
        default = field.default
        if field.default_factory is not dataclasses.MISSING:
            default = field.default_factory()
        rows.append(inspect.Parameter(field.name, keyword, default=default, annotation=kind))
    result = inspect.signature(run).return_annotation
    return inspect.Signature(rows, return_annotation=result)


def _docstring(settings: type, doc: str) -> str:
    """The docstring with an `Args` section made of the settings' help texts."""
    head, *rest = re.split(r"\n(?=Returns:|Raises:)", inspect.cleandoc(doc), maxsplit=1)
    texts = {"out": OUT_HELP}
    for field, kind in parameters(settings):
        texts[field.name] = field.metadata.get("help") or (kind.__doc__ or "").strip().rstrip(".")
    args = [
        textwrap.fill(f"{name}: {text}.", 96, initial_indent=" " * 4, subsequent_indent=" " * 8)
        for name, text in texts.items()
    ]
    return "\n\n".join([head.rstrip(), "\n".join(["Args:", *args]), *rest])
