"""Files that nobody wants in a commit: large ones, and texts that do not end with one newline.

    python scripts/tidy.py FILE ...

Mends the ends of texts, names what is large, and exits with 1 where it found anything.
"""

from __future__ import annotations

import sys
from pathlib import Path

LARGEST = 2_000_000  # bytes; figures of the docs are smaller, the zoo is not looked at


def main(files: list[str]) -> int:
    """Looks at each file."""
    found = 0
    for name in files:
        file = Path(name)
        content = file.read_bytes()
        if len(content) > LARGEST:
            print(f"{name}: {len(content) / 1e6:.1f} MB, and {LARGEST / 1e6:.0f} are the most")
            found += 1
        if content and b"\0" not in content and content != (ended := content.rstrip(b"\n") + b"\n"):
            file.write_bytes(ended)
            print(f"{name}: now ends with one newline")
            found += 1
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
