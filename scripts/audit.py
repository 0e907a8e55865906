"""Is a known weakness in what we pin? Asks pip-audit about every version in constraints.txt.

    python scripts/audit.py

Exit code 0: looked up, and nothing is known; 1: a known weakness that is not on the list of ignored
ones, or an entry of that list that is over; 2: the list itself is wrong; 3: not audited, since no
service of vulnerabilities could be asked. 3 is no success: it says that nobody knows.
"""

from __future__ import annotations

import argparse
import datetime
import json
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
IGNORED = ROOT / "scripts" / "audit_ignored.toml"
FINE, WEAK, WRONG, NOT_AUDITED = 0, 1, 2, 3
SERVICES = ("osv", "pypi")
SECONDS = 300


@dataclass(frozen=True)
class Ignored:
    """A known weakness that is let be for a while, and why."""

    id: str
    reason: str
    until: datetime.date


class WrongList(Exception):
    """The list of ignored weaknesses is not as it must be."""


def main(words: list[str] | None = None) -> int:
    """Looks everything up, and says in one line per finding what is known."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--osv-url", help="another address of the OSV service, such as a mirror")
    parser.add_argument("--constraints", type=Path, default=ROOT / "constraints.txt")
    parser.add_argument("--ignored", type=Path, default=IGNORED)
    asked = parser.parse_args(words)
    today = datetime.date.today()
    try:
        ignored = read_ignored(asked.ignored)
    except WrongList as wrong:
        print(f"{asked.ignored.name}: {wrong}")
        return WRONG
    over = [one for one in ignored if one.until < today]
    for one in over:
        print(f"{one.id} was ignored until {one.until}: look again ({one.reason})")
    reasons = []
    for service in ("osv",) if asked.osv_url else SERVICES:
        found, reason = look_up(asked.constraints, service, asked.osv_url)
        if found is not None:
            return max(report(found, ignored, service, today), WEAK if over else FINE)
        reasons.append(f"{service}: {reason}")
    print(f"not audited: no service of vulnerabilities could be asked ({'; '.join(reasons)})")
    return WEAK if over else NOT_AUDITED


def look_up(
    constraints: Path, service: str, osv_url: str | None
) -> tuple[list[dict[str, Any]] | None, str]:
    """What a service knows of each package, or None and the reason."""
    if find_spec("pip_audit") is None:
        return None, 'pip-audit is not installed: pip install -c constraints.txt -e ".[release]"'
    command = [sys.executable, "-m", "pip_audit", "--no-deps", "--disable-pip", "-f", "json"]
    command += ["-s", service, "-r", str(constraints), "--progress-spinner", "off"]
    if osv_url:
        command += ["--osv-url", osv_url]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
        found = json.loads(done.stdout)["dependencies"]
    except subprocess.TimeoutExpired:
        return None, f"no answer in {SECONDS} s"
    except (ValueError, KeyError):
        last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        return None, last[:160]
    # A mirror of an index that knows no vulnerabilities answers "not found" to everything, and
    # pip-audit calls that a success.
    if not any("vulns" in one for one in found):
        return None, f"it knows none of {len(found)} packages"
    return found, ""


def report(
    found: list[dict[str, Any]], ignored: list[Ignored], service: str, today: datetime.date
) -> int:
    """Says what is known; gives the exit code."""
    let_be = {one.id: one for one in ignored if one.until >= today}
    weak = 0
    for package in found:
        for known in package.get("vulns", []):
            names = {known["id"], *known.get("aliases", [])}
            excuse = next((let_be[name] for name in names if name in let_be), None)
            where = f"{package['name']} {package['version']}: {known['id']}"
            if excuse is not None:
                print(f"{where}, ignored until {excuse.until}: {excuse.reason}")
                continue
            weak += 1
            mended = ", ".join(known.get("fix_versions", [])) or "no version yet"
            print(f"{where}, mended in {mended}")
    unknown = [one["name"] for one in found if "vulns" not in one]
    if unknown:
        print(f"{service} does not know {len(unknown)}: {', '.join(unknown)}")
    print(f"audited by {service}: {len(found) - len(unknown)} packages, {weak} known weaknesses")
    return WEAK if weak else FINE


def read_ignored(file: Path) -> list[Ignored]:
    """The weaknesses that are let be.

    Raises:
        WrongList: an entry without id, reason or date.
    """
    try:
        entries = tomllib.loads(file.read_text(encoding="utf-8")).get("ignored", [])
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise WrongList(str(error)) from error
    found = []
    for entry in entries:
        name, reason, until = (entry.get(key) for key in ("id", "reason", "until"))
        if not (isinstance(name, str) and isinstance(reason, str) and reason.strip()):
            raise WrongList(f"an entry needs an id and a reason: {entry}")
        if type(until) is not datetime.date:
            raise WrongList(
                f"{name} needs a day on which it is looked at again: until = 2027-01-31"
            )
        found.append(Ignored(name, reason, until))
    return found


if __name__ == "__main__":
    sys.exit(main())
