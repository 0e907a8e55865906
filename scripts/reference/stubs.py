"""src/encoderlab/__init__.pyi: what an editor and a type checker see of `import encoderlab`.

The functions of commands are made from settings, so that their signatures are not in the source.
"""

from __future__ import annotations

import dataclasses
import inspect
import re
import subprocess
import sys
import typing
from pathlib import Path
from typing import Any

import encoderlab
from encoderlab.core.spec import parameters

STUB = Path(encoderlab.__file__).with_suffix(".pyi")
HEAD = '''"""The public names of EncoderLab. Written by `python scripts/reference`."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
'''


def text() -> str:
    """The stub file."""
    imports, functions = [], []
    for name, where in sorted(encoderlab._WHERE.items()):
        module, _, attribute = where.partition(":")
        value = getattr(encoderlab, name)
        if hasattr(value, "settings"):
            functions.append(_function(name, value, imports))
        else:
            imports.append(f"from {module} import {attribute} as {name}")
    names = ", ".join(f'"{name}"' for name in encoderlab.__all__)
    lines = [HEAD, *sorted(set(imports)), "", "__version__: str", f"__all__ = [{names}]", ""]
    return _formatted("\n".join([*lines, *functions]))


def _function(name: str, value: Any, imports: list[str]) -> str:
    rows = ["out: str | Path | None = None"]
    for field, kind in parameters(value.settings):
        default = field.default
        if field.default_factory is not dataclasses.MISSING:
            default = field.default_factory()
        if dataclasses.is_dataclass(kind):
            imports.append(f"from {kind.__module__} import {kind.__name__} as {kind.__name__}")
            main = _annotation(next(iter(typing.get_type_hints(kind).values())))
            rows.append(f"{field.name}: {kind.__name__} | Mapping[str, Any] | {main} = ...")
        else:
            rows.append(f"{field.name}: {_annotation(kind)} = {default!r}")
    result = str(inspect.signature(value).return_annotation)
    source = inspect.getsource(sys.modules[value.__module__])
    for part in re.findall(r"\w+", result):
        found = re.search(rf"from (encoderlab[\w.]+) import [^\n]*\b{part}\b", source)
        module = found[1] if found else value.__module__
        imports.append(f"from {module} import {part} as {part}")
    doc = inspect.getdoc(value) or ""
    body = "\n".join(f"    {line}".rstrip() for line in f'"""{doc}\n"""'.splitlines())
    return f"def {name}(*, {', '.join(rows)}) -> {result}:\n{body}\n"


def _annotation(kind: Any) -> str:
    plain = kind.__name__ if isinstance(kind, type) and not typing.get_args(kind) else str(kind)
    return plain.replace("typing.", "").replace("list[", "Sequence[")


def _formatted(source: str) -> str:
    for words in (["check", "--quiet", "--select", "I,RUF022", "--fix"], ["format"]):
        command = [sys.executable, "-m", "ruff", *words, "--stdin-filename", str(STUB), "-"]
        done = subprocess.run(command, input=source, capture_output=True, text=True, check=True)
        source = done.stdout
    return source
