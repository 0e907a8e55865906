"""The licences of what we stand on: THIRD_PARTY.md, made from what the packages say of themselves.

    python scripts/licences.py           # is the list up to date, and every licence allowed?
    python scripts/licences.py --write   # make it again

Looks at every package that constraints.txt pins. What is installed is asked; of what is not (an
extra for other machines) the line in the list holds, so long as its version is the pinned one. Exit
code 0: all is well; 1: a licence that is not allowed or not known, or a list that is out of date.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import re
import sys
import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
LIST = ROOT / "THIRD_PARTY.md"
OURS = "encoderlab"
TOOLS = ("bench", "dev", "docs", "lessons", "release")  # extras of those who work on the project
# Licences that ask for no more than to be named.
ALLOWED = {
    "0BSD", "Apache-2.0", "BSD License", "BSD-2-Clause", "BSD-3-Clause", "BSL-1.0", "CC0-1.0",
    "CNRI-Python", "HPND", "ISC", "MIT", "MIT-0", "MIT-CMU", "PSF-2.0", "Python-2.0", "Unlicense",
    "Zlib",
}  # fmt: skip
# Those that ask for more, package by package, each with the reason why it may be here.
EXCEPTIONS = {
    "MPL-2.0": {
        "certifi": "a list of certificates, used as it is; MPL asks for changed files only",
        "hypothesis": "only for tests",
        "orjson": "used as it is; MPL asks for changed files only",
        "pathspec": "only for tools",
        "shtab": "used as it is; MPL asks for changed files only",
        "tqdm": "used as it is; MPL asks for changed files only",
    },
}
# What a package's own words mean, where they are no SPDX expression.
IN_SPDX = {
    "mit license": "MIT",
    "apache": "Apache-2.0",
    "apache 2": "Apache-2.0",
    "apache 2.0": "Apache-2.0",
    "apache 2.0 license": "Apache-2.0",
    "apache license": "Apache-2.0",
    "apache license, version 2.0": "Apache-2.0",
    "apache software license": "Apache-2.0",
    "bsd": "BSD License",
    "bsd license": "BSD License",
    "bsd 2-clause license": "BSD-2-Clause",
    "bsd 3-clause license": "BSD-3-Clause",
    "3-clause bsd license": "BSD-3-Clause",
    "isc license (iscl)": "ISC",
    "mozilla public license 2.0 (mpl 2.0)": "MPL-2.0",
    "python software foundation license": "PSF-2.0",
}
ROW = re.compile(
    r"^\| (?P<name>\S+) \| (?P<version>\S+) \| (?P<licence>[^|]+) \| (?P<use>[^|]+) \|$"
)
Row = tuple[str, str, str, str]


def main() -> int:
    """Checks the list, or writes it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--write", action="store_true", help="make THIRD_PARTY.md again")
    write = parser.parse_args().write
    before = LIST.read_text(encoding="utf-8") if LIST.is_file() else ""
    made, wrong = rows(listed(before))
    wrong += [problem for row in made if (problem := not_allowed(row))]
    if write:
        LIST.write_text(page(made), encoding="utf-8")
        print(f"wrote {LIST.name}: {len(made)} packages")
    else:
        wrong += out_of_date(listed(before), made)
    for one in wrong:
        print(one)
    if not wrong and not write:
        print(f"{LIST.name}: {len(made)} packages, every licence allowed, up to date")
    return 1 if wrong else 0


def rows(before: dict[str, Row]) -> tuple[list[Row], list[str]]:
    """A row for every pinned package, and what is wrong with those that have none."""
    uses = used_for()
    found, wrong = [], []
    for name, version in sorted(pins().items(), key=lambda pin: pin[0].lower()):
        key = canonicalize_name(name)
        known = before.get(key)
        try:
            about = importlib.metadata.metadata(name)
        except importlib.metadata.PackageNotFoundError:
            about = None
        if about is not None and about["Version"].partition("+")[0] == version:
            found.append((name, version, licence(about), uses.get(key, "")))
        elif known is not None and known[1] == version:
            found.append((name, version, known[2], known[3]))
        else:
            wrong.append(f"{name} {version}: install this version, then make the list again")
    # Of what is not installed nobody can say for what: the line that stands there says it.
    return [
        (*r[:3], r[3] or before.get(canonicalize_name(r[0]), r)[3] or "tools") for r in found
    ], wrong


def pins() -> dict[str, str]:
    """Name -> version of constraints.txt."""
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    return dict(line.split("==", 1) for line in lines if "==" in line and not line.startswith("#"))


def licence(about: importlib.metadata.PackageMetadata) -> str:
    """An SPDX expression, or the package's own words; empty where it says nothing."""
    said = [about.get("License-Expression"), about.get("License")]
    said += [
        one.rpartition(" :: ")[2]
        for one in about.get_all("Classifier") or []
        if one.startswith("License :: ")
    ]
    understood = [spdx for words in said if words and (spdx := in_spdx(words))]
    # "BSD License" leaves open which: anything that says more goes before it.
    exact = [one for one in understood if one != "BSD License"]
    return (exact or understood or [""])[0]


def in_spdx(words: str) -> str:
    """What a field says, as SPDX; empty where that is not known."""
    first = words.strip().splitlines()[0].strip() if words.strip() else ""
    known = IN_SPDX.get(first.lower(), first)
    parts = simple(known)
    every = ALLOWED | set(EXCEPTIONS)
    is_expression = bool(re.fullmatch(r"[\w.+()-]+(?: (?:AND|OR|WITH) [\w.+()-]+)*", known))
    return known if known in every or (is_expression and set(parts) & every) else ""


def simple(expression: str) -> list[str]:
    """The licences that an expression names; what stands behind WITH only gives more."""
    if expression in ALLOWED:
        return [expression]
    bare = re.sub(r"\bWITH [\w.-]+", "", expression)
    return [one for one in re.findall(r"[\w.+-]+", bare) if one not in ("AND", "OR")]


def is_allowed(expression: str, package: str) -> bool:
    """Whether every licence that an expression asks for is one that may be here."""
    fine = {
        one: one in ALLOWED or canonicalize_name(package) in EXCEPTIONS.get(one, {})
        for one in simple(expression)
    }
    if expression in fine:
        return fine[expression]
    bare = re.sub(r"\bWITH [\w.-]+", "", expression)
    choices = re.split(r"\bOR\b", bare.replace("(", " ").replace(")", " "))
    if "(" in bare:  # rare enough: then every licence named must be fine
        return bool(fine) and all(fine.values())
    return any(simple(c) and all(fine[one] for one in simple(c)) for c in choices)


def not_allowed(row: Row) -> str | None:
    """Why a package may not be here, if it may not."""
    name, version, said, _ = row
    if not said:
        return f"{name} {version}: it does not say its licence in words that we know"
    if not is_allowed(said, name):
        return (
            f"{name} {version}: {said} is not on the list of what is allowed (scripts/licences.py)"
        )
    return None


def used_for() -> dict[str, str]:
    """Package -> always, the extras that bring it, or tools."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    always = closure(project["dependencies"], {})
    uses = dict.fromkeys(always, "always")
    extras = project["optional-dependencies"]
    for extra, wanted in extras.items():
        for name in sorted(closure(wanted, extras) - always):
            kind = "tools" if extra in TOOLS else extra
            known = uses.get(name)
            if known in (None, "tools"):
                uses[name] = kind
            elif kind != "tools" and kind not in str(known).split(", "):
                uses[name] = f"{known}, {kind}"
    return uses


def closure(wanted: list[str], extras: dict[str, list[str]]) -> set[str]:
    """Names of all packages that some requirements bring, as far as they are installed."""
    found: set[str] = set()
    seen: set[tuple[str, frozenset[str]]] = set()
    waiting = [Requirement(one) for one in wanted]
    while waiting:
        one = waiting.pop()
        name = canonicalize_name(one.name)
        if (name, frozenset(one.extras)) in seen:
            continue
        seen.add((name, frozenset(one.extras)))
        if name == OURS:
            waiting += [Requirement(r) for extra in one.extras for r in extras.get(extra, [])]
            continue
        found.add(name)
        try:
            needs = importlib.metadata.requires(name) or []
        except importlib.metadata.PackageNotFoundError:
            continue
        for need in map(Requirement, needs):
            asked = [{"extra": extra} for extra in ("", *one.extras)]
            if need.marker is None or any(need.marker.evaluate(e) for e in asked):
                waiting.append(need)
    return found


def listed(text: str) -> dict[str, Row]:
    """The rows of a list, by name."""
    found = {}
    for line in text.splitlines():
        match = ROW.match(line)
        if match and match["name"] != "package":
            row = (match["name"], match["version"], match["licence"].strip(), match["use"].strip())
            found[canonicalize_name(match["name"])] = row
    return found


def out_of_date(before: dict[str, Row], made: list[Row]) -> list[str]:
    """What stands otherwise in the list than it is."""
    now = {canonicalize_name(row[0]): row for row in made}
    said = [f"{LIST.name} lacks {now[n][0]} {now[n][1]}" for n in now if n not in before]
    said += [f"{LIST.name} has {before[n][0]}, which is not pinned" for n in before if n not in now]
    said += [
        f"{LIST.name} says {' '.join(before[n][1:3])} of {n}, and it is {' '.join(now[n][1:3])}"
        for n in now
        if n in before and before[n][1:3] != now[n][1:3]
    ]
    return [f"{one}: make it again with scripts/licences.py --write" for one in said]


def page(made: list[Row]) -> str:
    """The whole of THIRD_PARTY.md."""
    lines = [
        "# What EncoderLab stands on",
        "",
        "Every package that `constraints.txt` pins, with its licence as the package itself says",
        "it (SPDX where it does) and what brings it: *always*, an extra (`pip install",
        '"encoderlab[NAME]"`), or *tools* of those who work on the project. None of them is part',
        "of our files. Made by `python scripts/licences.py --write`; continuous integration fails",
        "when it is out of date or a licence is not allowed.",
        "",
        "Licences that ask for more than to be named, and why they may be here:",
        "",
    ]
    present = {canonicalize_name(row[0]) for row in made}
    for name, packages in EXCEPTIONS.items():
        lines += [f"- {name}: {one} ({why})" for one, why in packages.items() if one in present]
    lines += ["", "| package | version | licence | brought by |", "|---|---|---|---|"]
    lines += [f"| {' | '.join(row)} |" for row in made]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
