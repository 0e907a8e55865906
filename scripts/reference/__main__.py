"""Writes what is made from the code: settings, aliases, benchmark figures, the type stub.

    python scripts/reference [--check]

The words around it are written by hand: only what stands between two markers of a page is replaced.
`--check` writes nothing, and says what is out of date.
"""

from __future__ import annotations

import argparse
import sys

import pages
import stubs
import words


def main() -> int:
    """Writes, or checks."""
    parser = argparse.ArgumentParser(prog="python scripts/reference", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing, fail if out of date")
    given = parser.parse_args()
    problems = words.problems("ko")
    if problems:
        print("\n".join(problems), file=sys.stderr)
        return 1
    stale = pages.stale()
    stub = stubs.text()
    if not stubs.STUB.is_file() or stubs.STUB.read_text(encoding="utf-8") != stub:
        stale[stubs.STUB] = stub
    for page, text in stale.items():
        name = page.relative_to(pages.ROOT)
        if given.check:
            print(f"{name} is out of date; run: python scripts/reference", file=sys.stderr)
        else:
            page.write_text(text, encoding="utf-8")
            print(f"written: {name}")
    return 1 if given.check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
