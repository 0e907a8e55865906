"""How much memory a command takes for many images beyond what it takes for few: a process of its
own, `python -m tests.faults.measure_memory index FEW MANY`, that prints megabytes.

The commands are the real ones. An index is stopped, as by Ctrl-C, after some batches: by then all
images are listed, hashed and compared, and decoding is as far ahead as it ever is.
"""

import contextlib
import io
import resource
import sys
from typing import Any

BATCHES = 12


def peak() -> float:
    """Megabytes that this process has held at most so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(command: str, few: str, many: str) -> float:
    """What the command takes at most for `many` beyond what it took for `few`."""
    from encoderlab.cli.main import main
    from encoderlab.encoders.dual import DualEncoder

    encode, seen = DualEncoder.encode_pixels, []

    def stopping(self: DualEncoder, pixels: Any) -> Any:
        seen.append(len(pixels))
        if len(seen) > BATCHES:
            raise KeyboardInterrupt
        return encode(self, pixels)

    DualEncoder.encode_pixels = stopping  # type: ignore[method-assign]
    held = []
    for source in (few, many):
        seen.clear()
        words = {
            "index": ["index", source, "--db", f"index-{len(held)}"],
            "features": ["features", "extract", source, "--output-dir", f"store-{len(held)}"],
        }[command]
        with contextlib.redirect_stdout(io.StringIO()):
            code = main([*words, "--quiet"])
        assert code == (130 if command == "index" else 0), code
        held.append(peak())
    return held[1] - held[0]


if __name__ == "__main__":
    print(measure(*sys.argv[1:]))
